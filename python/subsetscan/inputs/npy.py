"""Arrays in the format of ``.npy`` files, from anybody: nothing is executed, or allocated that is not there."""

from __future__ import annotations

import io
import math
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

__all__ = ["array_from_bytes", "read_npy_header"]


def array_from_bytes(content: bytes) -> np.ndarray:
    """Take the array of an ``.npy`` file's content, as a service receives it.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    ndarray
        It shares memory with the content, and cannot be written.

    Raises
    ------
    ValueError
        If it is not the content of a complete ``.npy`` file of numbers.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.arange(6).reshape(2, 3))
    >>> array_from_bytes(file.getvalue())
    array([[0, 1, 2],
           [3, 4, 5]])
    >>> array_from_bytes(file.getvalue()[:-1])
    Traceback (most recent call last):
    ValueError: expected 176 bytes of a .npy file of int64 of shape (2, 3), got 175
    """
    file = io.BytesIO(content)
    try:
        shape, is_fortran, dtype = read_npy_header(file)
        n_bytes = file.tell() + math.prod(shape) * dtype.itemsize
    except MemoryError:
        raise
    except Exception as error:  # of many kinds: whoever wrote the bytes chooses which; numpy's words help nobody here
        raise ValueError("expected a complete .npy file, whose header can be read") from error
    if dtype.kind not in "biuf" or min(shape, default=0) < 0:
        raise ValueError(f"expected a .npy file of numbers, got {dtype} of shape {shape}")
    if n_bytes != len(content):
        raise ValueError(f"expected {n_bytes} bytes of a .npy file of {dtype} of shape {shape}, got {len(content)}")
    flat = np.frombuffer(content, dtype, math.prod(shape), file.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C")


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, whether columns come first, and type from the beginning of an ``.npy`` file.

    Raises
    ------
    Exception
        Of any kind, if the file does not begin as one.
    """
    version = npy.read_magic(file)
    return npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
