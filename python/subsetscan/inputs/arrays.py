"""Inputs as arrays: numbers in any library's arrays and tables, lists of text and of bytes, files that are mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._validation import InvalidTypeError, column_names, refuse_masked
from .base import SizedInputs
from .pictures import PictureFolder

__all__ = ["ArrayInputs", "InputDict", "InputTuple", "as_rows_of", "is_table", "text_rows"]

_WORTH_ONE_READ = 4  # times as many rows as are wanted: one read of them all is faster than many of a few


class ArrayInputs(SizedInputs):
    """One array, with a row for each input.

    Parameters
    ----------
    array : object
        Whatever `as_rows_of` takes.
    """

    def __init__(self, array: Any) -> None:
        self.columns = {"": names} if (names := column_names(array)) else {}
        self._array = as_rows_of(array, "inputs")

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._array[rows])


class InputDict(SizedInputs):
    """Several arrays with one row for each input, by their names.

    Raises
    ------
    ValueError
        If there is no array, or they differ in their number of rows.
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.columns = {name: names for name, array in arrays.items() if (names := column_names(array))}
        self._arrays = {name: as_rows_of(array, name) for name, array in arrays.items()}
        counts = {name: len(array) for name, array in self._arrays.items()}
        if len(set(counts.values())) != 1:
            given = ", ".join(f"{name} {count}" for name, count in counts.items()) or "no array"
            raise ValueError(f"all arrays must have one row for each input, but they differ in their number: {given}")

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, rows: Any) -> Any:
        return {name: np.asarray(array[rows]) for name, array in self._arrays.items()}


class InputTuple(InputDict):
    """Several arrays with one row for each input, in their order."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        super().__init__({f"input {n}": array for n, array in enumerate(arrays)})

    def __getitem__(self, rows: Any) -> tuple[np.ndarray, ...]:
        return tuple(super().__getitem__(rows).values())


class _Stored:
    """An array that lies elsewhere, in a file or on another device: read by slices alone, which all kinds have."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            return np.asarray(self._array[rows])
        if not len(rows):
            return np.asarray(self._array[:0])
        first, end = int(rows[0]), int(rows[-1]) + 1
        if end - first <= _WORTH_ONE_READ * len(rows):
            return np.asarray(self._array[first:end])[rows - first]
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        return np.concatenate([np.asarray(self._array[int(run[0]) : int(run[-1]) + 1]) for run in runs])


def as_rows_of(array: Any, what: str) -> Any:
    """Take an array whose first axis counts the inputs, as what has a length and picks rows.

    Parameters
    ----------
    array : array-like
        Of numpy, PyTorch, TensorFlow or JAX; of a file, as those of h5py and zarr are; a column or a table of pandas,
        polars or pyarrow; a list of numbers, of arrays of one shape, of text, or of bytes. Arrays of files stay there.
    what : str
        What to call it in messages.

    Raises
    ------
    TypeError
        If text, bytes and others are mixed.
    ValueError
        If there is no first axis that counts them, or the arrays of a list have different shapes.
    """
    refuse_masked(array, what)
    if isinstance(array, np.ndarray | PictureFolder):
        rows: Any = array
    elif callable(detach := getattr(array, "detach", None)):
        tensor = detach().cpu()
        rows = np.asarray(tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor)
    elif is_table(array):
        rows = _of_table(array)
    elif callable(convert := getattr(array, "to_numpy", None)):  # a column
        own = {"zero_copy_only": False} if type(array).__module__.startswith("pyarrow") else {}
        rows = _of_column(np.asarray(convert(**own)), what)
    elif all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")) and array.shape:
        rows = _Stored(array)
    elif isinstance(array, list | tuple) and any(isinstance(one, str | bytes) for one in array):
        rows = text_rows(array, what)
    else:
        rows = _of_list(array, what)
    if isinstance(rows, np.ndarray) and not rows.ndim:
        raise ValueError(f"{what} must have a first axis that counts them, got shape {rows.shape}")
    return rows


def text_rows(texts: Sequence[Any], what: str) -> np.ndarray:
    """Put text, or bytes, in an array of objects: numpy's own types would cut what ends in a zero byte."""
    kind = next(type(one) for one in texts if isinstance(one, str | bytes))
    for n, one in enumerate(texts):
        if not isinstance(one, kind):
            raise InvalidTypeError(
                f"{what} must be all text, or all bytes, but the first are {kind.__name__} and number {n} is "
                f"{type(one).__name__}"
            )
    rows = np.empty(len(texts), object)
    rows[:] = list(texts)
    return rows


def is_table(value: Any) -> bool:
    """Tell whether this is a table of pandas, polars or pyarrow, without importing any."""
    return type(value).__module__.partition(".")[0] in ("pandas", "polars", "pyarrow") and hasattr(value, "columns")


def _of_table(table: Any) -> np.ndarray:
    if hasattr(table, "column_names"):  # of pyarrow
        columns = [np.asarray(column.to_numpy(zero_copy_only=False)) for column in table.columns]
        return np.column_stack(columns) if columns else np.empty((table.num_rows, 0))
    return np.asarray(table)


def _of_column(column: np.ndarray, what: str) -> np.ndarray:
    """Take a column whose rows may be arrays themselves, as embeddings are."""
    if column.dtype != object or not len(column) or isinstance(column[0], str | bytes):
        return column
    return np.asarray(_of_list(list(column), what))


def _of_list(values: Any, what: str) -> np.ndarray:
    try:
        return np.asanyarray(values)
    except ValueError:
        shapes = list(dict.fromkeys(str(np.shape(one)) for one in values)) if isinstance(values, list | tuple) else []
        raise ValueError(
            f"{what} must have one shape, got {', '.join(shapes[:3])}{' ...' * (len(shapes) > 3)}; batches of several "
            "inputs come from an iterator, such as iter(batches)"
        ) from None
