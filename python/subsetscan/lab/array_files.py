"""Arrays of images and of labels in ``.npy`` files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from .._files import atomic_write, damage_as_value_error
from .._tables import counted
from ..inputs.pictures import PictureFolder, is_pictures

__all__ = ["check_in_unit", "load_array", "load_images", "load_labels", "npy_of_rows", "open_images"]


def load_array(path: Path | str, what: str) -> np.ndarray:
    """Map the array of an ``.npy`` file. Nothing in the file is executed.

    Parameters
    ----------
    path : path-like
    what : str
        What the array should hold, for messages: "images".

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a complete ``.npy`` file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of {what} at {path}")
    with damage_as_value_error(path, "is not a complete .npy file of numbers"):
        with path.open("rb") as file:
            start = file.read(12)
        if start[6:7] > b"\1" and (length := int.from_bytes(start[8:], "little")) > path.stat().st_size:
            raise ValueError(f"its header is of {length} bytes")  # for which numpy makes room before it reads
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path} must hold one array of {what}, got an archive")
    return array


def load_images(path: Path | str) -> np.ndarray:
    """Map an array of images from an ``.npy`` file. Nothing in the file is executed.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a complete ``.npy`` file, or does not hold an array of images.
    """
    images = load_array(path, "images")
    if images.ndim < 2 or images.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} should hold one array of images, numbers of shape (n, ...), but holds {images.dtype} of shape "
            f"{images.shape}"
        )
    return images


def open_images(path: Path | str, image_shape: Sequence[int | None]) -> np.ndarray | PictureFolder:
    """Open images of an ``.npy`` file, which is mapped, or of a folder, which is read piece by piece.

    Raises
    ------
    OSError, ValueError, ModuleNotFoundError
        As for `load_images`, or `PictureFolder`; if the images have another shape.
    """
    if is_pictures(path):
        return PictureFolder(path, image_shape)
    images = load_images(path)
    if images.shape[1:] != tuple(image_shape):
        raise ValueError(f"each image of {path} must have shape {tuple(image_shape)}, got {images.shape[1:]}")
    return images


def check_in_unit(images: np.ndarray, path: Path | str) -> None:
    """Refuse the images of a file if a pixel is not in [0, 1]. Raises ValueError."""
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"pixels must be in [0, 1], {path} has {images.min():g} to {images.max():g}")


def load_labels(path: Path | str, n_images: int, n_classes: float = math.inf) -> np.ndarray:
    """Load the labels of images from an ``.npy`` file, int64 of shape (n_images,).

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a complete ``.npy`` file, does not hold a whole number for each image, or one of them is outside
        the classes, which are counted from 0.
    """
    labels = load_array(path, "labels")
    if labels.shape != (n_images,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path} must hold {counted(n_images, 'integer')}, got {labels.dtype} of shape {labels.shape}")
    strangers = (labels < 0) | (labels >= n_classes)
    if strangers.any():
        first = int(strangers.argmax())
        raise ValueError(
            f"{path}: label {labels[first]} of image {first} is not one of the classes 0 to {n_classes - 1:g}"
        )
    return np.asarray(labels, dtype=np.int64)


@contextmanager
def npy_of_rows(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], object]]:
    """Lend what appends rows to an ``.npy`` file, which appears with the last of them or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        header = {"descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        write_array_header_1_0(file, header)
        yield lambda rows: file.write(np.ascontiguousarray(rows, dtype).data)
