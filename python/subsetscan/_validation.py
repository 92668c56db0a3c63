"""What arrays are accepted: anything that reads as a table of numbers, brought to a form that the core borrows."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import _core

__all__ = [
    "InvalidTypeError",
    "check_columns",
    "column_names",
    "integer",
    "node_values",
    "probabilities",
    "refuse_masked",
    "refuse_no_numbers",
    "rounded",
]

_BORROWED = (np.float16, np.float32, np.float64)


class InvalidTypeError(TypeError):
    """A TypeError about what a caller handed in, not about a fault of ours."""


def node_values(values: Any, what: str = "node values", one_is_enough: bool = True) -> np.ndarray:
    """Take node values as a two-dimensional array of floats, without a copy where that is possible.

    Parameters
    ----------
    values : array-like of shape (N, J)
        float16, float32 and float64 are kept; booleans and integers become float64.
    what : str
        What to call them in messages.
    one_is_enough : bool
        Whether a single input will do: a message then tells how to make a row of it.

    Raises
    ------
    TypeError
        If the values are not real numbers, or are wider than float64.
    ValueError
        If there are not two dimensions.
    """
    refuse_masked(values, what)
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    if array.dtype.newbyteorder("=") not in _BORROWED:
        raise InvalidTypeError(f"{what} must be float16, float32, float64 or integers, got dtype {array.dtype}")
    if array.ndim != 2:
        hint = "; for one input use x.reshape(1, -1)" if array.ndim == 1 and one_is_enough else ""
        raise ValueError(f"{what} must have 2 dimensions (inputs, nodes), got shape {array.shape}{hint}")
    if not (array.dtype.isnative and array.flags.aligned):
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def refuse_masked(values: Any, what: str) -> None:
    """Raise ValueError for masked values: other libraries take what is behind the mask."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{what} must not have masked values, got {int(values.mask.sum())}: fill them first")


_NUMBERS_OF = {
    "c": "give real and imaginary parts as columns, or their size, np.abs(x)",
    "M": "give times as numbers, as (x - start) / np.timedelta64(1, 's')",
    "m": "give times as numbers, as x / np.timedelta64(1, 's')",
    "V": "give its fields as columns, as numpy.lib.recfunctions.structured_to_unstructured does",
    "S": "give numbers, not bytes",
    "U": "give numbers, not text",
    "T": "give numbers, not text",
}


def refuse_no_numbers(array: np.ndarray, what: str) -> None:
    """Raise TypeError for what is no array of real numbers, with what would be one."""
    if array.dtype.kind in "biuf":
        return
    hint = _NUMBERS_OF.get(array.dtype.kind, "give numbers, as x.astype(float)")
    if array.dtype == object:
        for place, one in np.ndenumerate(array):
            if not isinstance(one, int | float | np.number):
                where = f" at {list(map(int, place[1:]))} of an input" if place[1:] else ""
                hint = f"the first that is no number is {type(one).__name__} {one!r:.40}{where}"
                break
    raise InvalidTypeError(f"{what} must be real numbers, got dtype {array.dtype}: {hint}")


def integer(value: Any, what: str) -> int:
    """Take an integer of any kind. Raises TypeError."""
    try:
        return operator.index(value)
    except TypeError:
        raise InvalidTypeError(f"{what} must be an integer, got {value!r:.60}") from None


def column_names(values: Any) -> tuple[str, ...] | None:
    """Return the names of a data frame's columns; None where there are none, or not all are text."""
    names = getattr(values, "column_names", None) or getattr(values, "columns", None)  # pyarrow's; all others'
    return tuple(names) if names is not None and all(isinstance(name, str) for name in names) else None


def check_columns(names: tuple[str, ...] | None, expected: tuple[str, ...] | None, whose: str) -> None:
    """Refuse names of columns that are not the expected ones, in their order; where one side has none, all is well.

    Raises
    ------
    ValueError
        The message says what was expected of whom.
    """
    if not names or not expected or names == expected:
        return
    first = next((n for n, (a, b) in enumerate(zip(names, expected, strict=False)) if a != b), None)
    what = f"column {first} is {names[first]!r}" if first is not None else f"there are {len(names)} columns"
    raise ValueError(f"the columns must be those of {whose}, in the same order, but {what}")


def probabilities(values: Any, one_is_enough: bool = True) -> np.ndarray:
    """Take p-values as a two-dimensional array of float64."""
    return node_values(values, "p-values", one_is_enough).astype(np.float64, copy=False)


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round floats to a coarser type, which keeps their order: what is beyond its range becomes infinite."""
    if values.dtype == dtype:
        return values  # usual, and faster than the contexts
    with np.errstate(over="ignore", under="ignore"), _core.StandardFloats():
        return values.astype(dtype)
