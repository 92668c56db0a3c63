"""Inputs as arrays: numbers in any library's arrays and tables, lists of text and of bytes, files that are mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._validation import InvalidTypeError, column_names, refuse_masked
from ..input_checks import InputError, ShapeError
from .base import SizedInputs
from .mistakes import library_of, refuse_mistaken
from .pictures import PictureFolder

__all__ = ["ArrayInputs", "InputDict", "InputTuple", "as_rows_of", "by_place", "columns_of", "is_table", "text_rows"]

_WORTH_ONE_READ = 4  # times as many rows as are wanted: one read of them all is faster than many of a few


class ArrayInputs(SizedInputs):
    """One array, with a row for each input.

    Parameters
    ----------
    array : object
        Whatever `as_rows_of` takes.
    """

    def __init__(self, array: Any) -> None:
        self._array = as_rows_of(array, "inputs")
        self.columns = columns_of(array)

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
        self._arrays = {name: as_rows_of(array, name) for name, array in arrays.items()}
        self.columns = columns_of(arrays)
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
        super().__init__(by_place(arrays))

    def __getitem__(self, rows: Any) -> tuple[np.ndarray, ...]:
        return tuple(super().__getitem__(rows).values())


def by_place(arrays: Sequence[Any]) -> dict[str, Any]:
    """Name arrays that come in a tuple."""
    return {f"input {n}": array for n, array in enumerate(arrays)}


def columns_of(arrays: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of data frames among inputs, as in `Inputs`."""
    arrays = by_place(arrays) if isinstance(arrays, tuple) else arrays
    arrays = arrays if isinstance(arrays, Mapping) else {"": arrays}
    return {str(name): names for name, array in arrays.items() if is_table(array) and (names := column_names(array))}


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
        polars or pyarrow, or of Hugging Face; a list of numbers, of arrays of one shape, of text, or of bytes. Rows of
        a column may be arrays themselves, as embeddings are. Arrays of files stay there.
    what : str
        What to call it in messages.

    Raises
    ------
    TypeError
        If text, bytes and others are mixed, or `array` is of another kind: see `refuse_mistaken`.
    ValueError
        If there is no first axis that counts them, the arrays of a list have different shapes, or a value is masked or
        null.
    """
    refuse_mistaken(array, f"an array as {what}")
    refuse_masked(array, what)
    if isinstance(array, Mapping):
        names = ", ".join(map(str, array)) or "nothing"
        raise InvalidTypeError(
            f"expected an array as {what}, got a {type(array).__name__} of {names}: name one of them"
        )
    if isinstance(array, np.ndarray | PictureFolder):
        rows: Any = _of_column(array, what) if isinstance(array, np.ndarray) else array
    elif hasattr(array, "detach"):
        rows = _plain(array)
    elif is_table(array):
        rows = _of_table(array, what)
    elif hasattr(array, "to_numpy"):
        rows = _of_column(_converted(array, what), what)
    elif library_of(array) == "datasets":  # a column
        return as_rows_of(array[:], what)
    elif all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")) and array.shape:
        rows = _Stored(array)
    elif isinstance(array, list | tuple) and any(isinstance(one, str | bytes) for one in array):
        rows = text_rows(array, what)
    else:
        rows = _of_list(array, what)
    if isinstance(rows, np.ndarray) and not rows.ndim:
        raise ShapeError(f"{what} must have a first axis that counts them, got shape () ({type(array).__name__})")
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
    return library_of(value) in ("pandas", "polars", "pyarrow") and hasattr(value, "columns")


def _of_table(table: Any, what: str) -> np.ndarray:
    if hasattr(table, "column_names"):  # of pyarrow
        names, columns = table.column_names, table.columns
    elif (array := np.asarray(table)).dtype.kind in "biuf":
        return array
    elif hasattr(table, "get_columns"):  # of polars
        names, columns = table.columns, table.get_columns()
    else:
        names, columns = zip(*table.items(), strict=True) if len(table.columns) else ((), ())
    arrays = []
    for name, column in zip(names, columns, strict=True):
        arrays.append(_of_column(_converted(column, what), f"column {name!r} of {what}"))
        if arrays[-1].ndim > 1 and len(names) > 1:
            raise ValueError(
                f"column {name!r} of {what} holds arrays of shape {arrays[-1].shape[1:]}, beside other columns: give "
                f"it alone, as table[{name!r}]"
            )
    if not arrays:
        return np.empty((len(table), 0))
    if arrays[0].ndim > 1:
        return arrays[0]
    if any(array.dtype.kind not in "biuf" for array in arrays):  # as text, numbers would still be something
        arrays = [array.astype(object) for array in arrays]
    return np.column_stack(arrays)


def _converted(column: Any, what: str) -> np.ndarray:
    own = {"zero_copy_only": False} if library_of(column) == "pyarrow" else {}
    try:
        return np.asarray(column.to_numpy(**own))
    except ValueError as error:
        raise ValueError(f"{what} of {type(column).__name__} make no array of one shape: {error}") from error


def _of_column(column: np.ndarray, what: str) -> np.ndarray:
    """Take a column whose rows may be text, or arrays themselves, as embeddings are."""
    if column.dtype != object or column.ndim != 1 or not len(column):
        return column
    _refuse_null(column, what)
    if any(isinstance(one, str | bytes) for one in column):
        return text_rows(list(column), what)
    return np.asarray(_of_list(list(column), what))


def _refuse_null(values: Any, what: str) -> None:
    nulls = [n for n, one in enumerate(values) if _is_null(one)]
    if nulls:
        raise InputError(
            nulls[0], f"is null in {what}; it is the first of {len(nulls)} that are: fill them, or leave them out"
        )


def _is_null(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def _of_list(values: Any, what: str) -> np.ndarray:
    if isinstance(values, list | tuple):
        for n, one in enumerate(values):
            refuse_masked(one, f"number {n} of {what}")
        values = [_plain(one) for one in values]
    try:
        return np.asanyarray(values)
    except ValueError:
        values = values if isinstance(values, list | tuple) else []
        _refuse_null(values, what)
        told = list(dict.fromkeys(map(_told, values)))
        raise ValueError(
            f"{what} must have one shape, got {', '.join(told[:3])}{' ...' * (len(told) > 3)}: pad them to one, or "
            "leave out what has another; batches of several inputs come from an iterator, such as iter(batches)"
        ) from None


def _plain(value: Any) -> Any:
    """Take a tensor of PyTorch, wherever it is, as an array; leave all else."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return np.asarray(tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor)


def _told(value: Any) -> str:
    """Tell a value's shape, or what it is where there is none."""
    try:
        shape = np.shape(value)
    except ValueError:
        return f"{type(value).__name__} of different shapes"
    return str(shape) if shape else type(value).__name__
