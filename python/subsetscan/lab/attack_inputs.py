"""Images and labels as attacks take them; what does not fit is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._validation import InvalidTypeError
from ..input_checks import check_inputs

__all__ = ["class_labels", "unit_images"]


def unit_images(images: Any, shape: Sequence[int | None], what: str = "images") -> np.ndarray:
    """Take images with pixels in [0, 1], as float32 of shape (N, *shape).

    Raises
    ------
    TypeError
        If the pixels are not numbers.
    ValueError
        If the shape is another one, or the pixels are integers, NaN, or outside [0, 1].
    """
    array = np.asarray(images)
    if array.dtype.kind in "biu":
        raise ValueError(f"{what}: pixels must be floats in [0, 1], got {array.dtype}{_reach(array)}")
    try:
        check_inputs(array, shape)
    except (TypeError, ValueError) as error:
        kind = InvalidTypeError if isinstance(error, TypeError) else ValueError  # one of them tells a number besides
        raise kind(f"{what}: {error}") from None
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"{what}: pixels must be in [0, 1], got{_reach(array)}")
    return array.astype(np.float32, copy=False)


def _reach(pixels: np.ndarray) -> str:
    if not pixels.size:
        return ""
    low, high = pixels.min(), pixels.max()
    hint = ""
    if low >= 0 and 2 < high <= 255:
        hint = ": divide by 255"
    elif low >= -0.01 and high <= 1.01:
        hint = ": clip them"
    return f" {float(low):.8g} to {float(high):.8g}{hint}"


def class_labels(labels: Any, n_images: int, n_classes: int, what: str = "labels") -> np.ndarray:
    """Take true labels, int64 of shape (N,).

    Parameters
    ----------
    labels : array-like of shape (N,), (N, 1) or (N, K)
        Whole numbers from 0 to K - 1; rows of K that are one-hot are converted; booleans where there are two classes.

    Raises
    ------
    ValueError
        If they are anything else, or not as many as the images.
    """
    array = np.asarray(labels)
    if array.ndim == 0 or len(array) != n_images:
        raise ValueError(f"{n_images} images but {array.size if array.ndim < 2 else len(array)} {what}")
    if array.ndim == 2 and array.shape[1] > 1:
        array = _from_one_hot(array, n_classes, what)
    elif array.ndim > 2 or array.shape[1:] not in ((), (1,)):
        raise ValueError(f"{what} must have shape ({n_images},), got {array.shape}")
    array = array.ravel()
    expected = f"{what} must be whole numbers from 0 to {n_classes - 1}"
    if array.dtype.kind not in "iufb" or (array.dtype.kind == "b" and n_classes != 2):
        received = f", such as {array.tolist()[0]!r}" if len(array) else ""
        raise ValueError(f"{expected}, got {array.dtype}{received}")
    strangers = ~((array >= 0) & (array < n_classes) & (array == np.floor(array.astype(np.float64))))  # NaN included
    if strangers.any():
        first = int(strangers.argmax())
        raise ValueError(f"{expected}, got {array[first]} for image {first}")
    return array.astype(np.int64)


def _from_one_hot(rows: np.ndarray, n_classes: int, what: str) -> np.ndarray:
    is_one_hot = rows.dtype.kind in "biuf" and (((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all())
    if rows.shape[1] != n_classes or not is_one_hot:
        raise ValueError(
            f"{what} must be whole numbers of shape ({len(rows)},), or one-hot rows for {n_classes} classes, got "
            f"{rows.dtype} of shape {rows.shape}"
        )
    return rows.argmax(axis=1)
