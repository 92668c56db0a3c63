"""What befalls images besides attacks: noise, blur, light, geometry, parts that are missing.

Images have the shape (N, H, W, C) and values in [0, 1] throughout.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, rotate, shift

__all__ = ["CORRUPTIONS", "corrupted"]

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _noisy(images: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    return images + size * rng.standard_normal(images.shape, np.float32)


def _blurred(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sigma = max(images.shape[1] / 28, 1)
    return gaussian_filter(images, (0, sigma, sigma, 0))


def _salted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    chance = rng.random((*images.shape[:3], 1))
    return np.where(chance < 0.03, 0, np.where(chance > 0.97, 1, images))


def _shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = images.shape[1:3]
    return np.stack([
        shift(image, (*(rng.choice([-1, 1], 2) * (height // 6, width // 6)), 0), order=0) for image in images
    ])  # fmt: skip


def _patched(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    images, (height, width) = images.copy(), images.shape[1:3]
    for image in images:
        top, left = rng.integers(height - height // 3), rng.integers(width - width // 3)
        image[top : top + height // 3, left : left + width // 3] = 0
    return images


def _coarse(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = max(images.shape[1] // 14, 2)
    small = images[:, n // 2 :: n, n // 2 :: n]
    return small.repeat(n, axis=1).repeat(n, axis=2)[:, : images.shape[1], : images.shape[2]]


def _rotated(images: np.ndarray, rng: np.random.Generator, degrees: float) -> np.ndarray:
    return rotate(images, degrees, axes=(1, 2), reshape=False, order=1, mode="nearest")


def _scrambled(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut images into four parts, and exchange them across."""
    return np.roll(images, (images.shape[1] // 2, images.shape[2] // 2), axis=(1, 2))


# What is done to images, in words, and how.
CORRUPTIONS: dict[str, tuple[str, Corruption]] = {
    "faint noise": ("Gaussian noise of standard deviation 0.03", lambda x, rng: _noisy(x, rng, 0.03)),
    "noise": ("Gaussian noise of standard deviation 0.15", lambda x, rng: _noisy(x, rng, 0.15)),
    "salt and pepper": ("3 % of the pixels black and 3 % white", _salted),
    "blur": ("Gaussian blur, a 28th of the height", _blurred),
    "coarse": ("a 14th of the rows and columns, repeated", _coarse),
    "low contrast": ("values moved to within 0.3 of each other, around 0.5", lambda x, rng: 0.5 + 0.3 * (x - 0.5)),
    "dark": ("values halved", lambda x, rng: 0.5 * x),
    "bright": ("0.3 added to all values", lambda x, rng: x + 0.3),
    "inverted": ("light and dark exchanged", lambda x, rng: 1 - x),
    "turned a little": ("turned by 15 degrees", lambda x, rng: _rotated(x, rng, 15)),
    "upside down": ("turned by 180 degrees", lambda x, rng: x[:, ::-1, ::-1]),
    "mirrored": ("left and right exchanged", lambda x, rng: x[:, :, ::-1]),
    "shifted": ("shifted by a sixth of height and width", _shifted),
    "patch missing": ("a black patch of a third of height and width", _patched),
    "scrambled": ("cut into four parts that change places", _scrambled),
}


def corrupted(name: str, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images with one of `CORRUPTIONS`, clipped to [0, 1], float32."""
    return np.ascontiguousarray(np.clip(CORRUPTIONS[name][1](images, rng), 0, 1), np.float32)
