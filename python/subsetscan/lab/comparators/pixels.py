"""A number for each image, straight from its pixels, as a space of one node: what detectors that hardly look see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...input_checks import as_rows, check_inputs
from ...spaces import Space

__all__ = ["PixelStatistic"]


class PixelStatistic(Space):
    """A statistic of an image's pixels: one node for each image.

    Parameters
    ----------
    image_shape : tuple of int
        Shape of one image.
    statistic : callable
        From pixels of shape (N, J) to numbers of shape (N,): higher is more anomalous.
    name : str
        Its name in results.

    Examples
    --------
    >>> darkest = PixelStatistic((2, 2), lambda pixels: -pixels.min(axis=1), "darkest pixel")
    >>> darkest.transform([[[0.5, 0.25], [1.0, 0.75]]])["darkest pixel"]
    array([[-0.25]])
    """

    def __init__(self, image_shape: Sequence[int], statistic: Callable[[np.ndarray], np.ndarray], name: str) -> None:
        self.image_shape = tuple(image_shape)
        self.statistic = statistic
        self.node_shapes = {name: (1,)}

    def transform(self, images: Any) -> dict[str, np.ndarray]:  # noqa: D102 (the base says it)
        pixels = as_rows(check_inputs(images, self.image_shape))
        return {name: self.statistic(pixels).astype(np.float64)[:, np.newaxis] for name in self.names}
