"""Arrays in files, one or several by their names. Nothing in a file is executed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZipFile, ZipInfo, is_zipfile

import numpy as np
from numpy.lib import format as npy

from .._files import check_expansion, damage_as_value_error
from .._sealed import read_tensors
from ..inputs.npy import read_npy_header
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
        If it is damaged, or would decompress to far more than any of its size does.
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
    with damage_as_value_error(path, "is not a complete .npz file of numbers"), ZipFile(path) as archive:
        members = archive.infolist()
        check_expansion(path, sum(member.file_size for member in members))
        return {member.filename.removesuffix(".npy"): _member(archive, member) for member in members}


def _member(archive: ZipFile, member: ZipInfo) -> np.ndarray:
    """Read an array of an archive, once its header promises what is there. Raises ValueError, or what a reader does."""
    with archive.open(member) as file:
        shape, _, dtype = read_npy_header(file)
        promised = file.tell() + math.prod(shape) * dtype.itemsize
    if promised != member.file_size:
        raise ValueError(f"{member.filename} has {member.file_size} bytes where its header promises {promised}")
    with archive.open(member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))


def _safetensors(path: Path, alone: str) -> dict[str, np.ndarray]:
    del alone
    return read_tensors(path, "is damaged, or holds numbers that numpy has no type for")[1]


_READERS: Mapping[str, Callable[[Path, str], dict[str, np.ndarray]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
}
ARRAY_FILES = tuple(_READERS)
