"""What feature responses need of a framework: passes back from what is deep in a network to its images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from .passes import Passes

__all__ = ["BackwardPass", "not_plain"]


class BackwardPass(ABC):
    """A backward pass through a network, by one of `subsetscan.spaces.responses.METHODS`, from one of its TARGETS.

    Or from "log-probability": the logarithm of the largest probability.

    Attributes
    ----------
    image_shape : tuple of int or None
        Of one image; None where only images show it.
    dtype : numpy.dtype
        Which images must have.
    batch_size : int or None
        As of `Network`.
    channels_first : bool
        Whether the channels of an image are before its positions.
    temperature : float
        What logits are divided by, for "log-probability".
    """

    image_shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any]
    batch_size: int | None = None
    channels_first: bool = False
    temperature: float = 1.0

    @abstractmethod
    def n_classes(self, images: np.ndarray) -> int:
        """Tell how many logits the network has, of which images may show it."""

    @abstractmethod
    def passes(self) -> Passes:
        """Return passes with the weights of now, from images (N, ...) and N labels to responses (N, ...), float32."""

    @abstractmethod
    def told(self) -> list[str]:
        """Describe what computes the responses, weights and settings among it: a part of a fingerprint."""


def not_plain(name: str, what: str, method: str) -> ValueError:
    """Make the error for what the backward pass of a method is not defined for."""
    return ValueError(
        f'{name} {what}: "{method}" is defined for plain ReLUs between linear layers only; '
        'take method "gradient", or a target before it'
    )
