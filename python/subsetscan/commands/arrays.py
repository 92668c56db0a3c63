"""Arrays in files, one or several by their names. Nothing in a file is executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..lab.array_files import load_array

__all__ = ["ARRAY_FILES", "check_rows", "read_arrays"]


def read_arrays(path: Path, alone: str) -> dict[str, np.ndarray]:
    """Read the arrays of a file.

    Parameters
    ----------
    path : Path
        One of `ARRAY_FILES`: ``.npy``, whose one array is mapped; ``.npz`` and ``.safetensors``, with arrays under
        their own names.
    alone : str
        The name of what has none in its file.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of {alone} at {path}")
    return _READERS[path.suffix.lower()](path, alone)


def check_rows(arrays: Mapping[str, np.ndarray], path: Path, form: str, fewest_axes: int) -> None:
    """Check for arrays of numbers with a row for each input.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    path : Path
        Where they are from.
    form : str
        What to call their shape in messages.
    fewest_axes : int

    Raises
    ------
    ValueError
        If there is no array, one holds something else, or their numbers of rows differ.
    """
    if not arrays:
        raise ValueError(f"{path} contains no arrays")
    for name, array in arrays.items():
        if array.ndim < fewest_axes or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} in {path} must hold numbers of shape {form}, got {array.dtype} of shape {array.shape}"
            )
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"the arrays of {path} must have one row per input, but their numbers of rows differ: {told}")


def _npy(path: Path, alone: str) -> dict[str, np.ndarray]:
    return {alone: load_array(path, alone)}


def _npz(path: Path, alone: str) -> dict[str, np.ndarray]:
    del alone
    if not is_zipfile(path):
        raise ValueError(f"{path} is not a complete .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is not a complete .npz file of numbers: {error}") from error


def _safetensors(path: Path, alone: str) -> dict[str, np.ndarray]:
    del alone
    try:
        return dict(sorted(load_file(path).items()))  # the file keeps no order
    except (SafetensorError, KeyError, TypeError) as error:  # numpy lacks some of its types, as bfloat16
        raise ValueError(f"{path} is damaged, or holds numbers that numpy has no type for: {error}") from error


_READERS: Mapping[str, Callable[[Path, str], dict[str, np.ndarray]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
}
ARRAY_FILES = tuple(_READERS)
