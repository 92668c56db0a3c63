"""Linear filters of the image itself. Nothing here needs a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from .._digest import digest
from ..input_checks import as_rows, check_inputs
from .base import Space

__all__ = ["Laplacian"]

_SECOND_DIFFERENCE = (1, -2, 1)


class Laplacian(Space):
    """The discrete Laplacian of an image, channel by channel: each pixel is a node.

    A node's value is the sum of a pixel's four neighbours minus four times the pixel, in units of the pixels. It is
    small where the image is smooth, so that noise which is small beside the image stands out. Noise makes pixels both
    brighter and darker: scan with ``tail="two-sided"``.

    Each border pixel is repeated once beyond the border, so that a constant image gives zeros everywhere. In
    `scipy.ndimage` this is the mode "nearest"; for a filter that reaches one pixel far its "reflect" is the same.

    Parameters
    ----------
    image_shape : tuple of int
        Shape of one image: (H, W) or (H, W, C).
    name : str, default "laplacian"
        Its name in results. Spaces that are scanned together need different ones.

    Raises
    ------
    ValueError
        If the shape is neither (H, W) nor (H, W, C).

    References
    ----------
    J. Immerkær, Fast Noise Variance Estimation, Computer Vision and Image Understanding 64(2), 1996, where noise is
    told from the image by a difference of two Laplacians. DOI 10.1006/cviu.1996.0060

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((3, 3))
    >>> image[0, 1] = 1
    >>> Laplacian((3, 3)).transform([image])["laplacian"].reshape(3, 3)
    array([[ 1., -3.,  1.],
           [ 0.,  1.,  0.],
           [ 0.,  0.,  0.]], dtype=float32)
    """

    def __init__(self, image_shape: Sequence[int], name: str = "laplacian") -> None:
        if len(image_shape) not in (2, 3):
            raise ValueError(f"image_shape must be (H, W) or (H, W, C), got {tuple(image_shape)}")
        self.node_shapes = {name: tuple(image_shape)}

    def transform(self, images: Any) -> dict[str, np.ndarray]:  # noqa: D102 (the base says it)
        ((name, shape),) = self.node_shapes.items()
        images = check_inputs(images, shape)
        down, across = (ndimage.correlate1d(images, _SECOND_DIFFERENCE, axis, mode="nearest") for axis in (1, 2))
        return {name: as_rows(down + across)}

    def fingerprint(self) -> str | None:  # noqa: D102 (the base says it)
        return digest("Laplacian", *map(str, self.node_shapes.values()))
