"""Whether inputs fit what takes them: shapes, types, finite values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._validation import InvalidTypeError, refuse_masked, refuse_no_numbers

__all__ = [
    "InputError",
    "ShapeError",
    "as_rows",
    "check_arrays",
    "check_counts",
    "check_finite",
    "check_inputs",
    "one_array",
    "row_number",
]


class ShapeError(ValueError):
    """Inputs have another shape than what takes them: it may be that they are not what they were taken for."""


class InputError(ValueError):
    """What is wrong with one input, told by its number."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(number, why)  # what it is made of again in another process
        self.number = number
        self.why = why

    def __str__(self) -> str:
        return f"input {self.number} {self.why}"


def check_inputs(
    inputs: Any, shape: Sequence[int | None], dtype: np.dtype[Any] | type[np.generic] = np.float32
) -> np.ndarray:
    """Take inputs as numbers of a type, refusing another shape (None fits any size) and what is not finite.

    Values that the type cannot hold are refused too: what would become infinite, or another whole number.
    """
    inputs = one_array(inputs)
    refuse_no_numbers(inputs, "inputs")
    received = inputs.shape[1:]
    fits = inputs.ndim == 1 + len(shape) and all(
        expected in (None, size) for expected, size in zip(shape, received, strict=True)
    )
    if not fits:
        hint = "; for one input use x[np.newaxis]" if inputs.ndim == len(shape) else ""
        raise ShapeError(f"each input must have shape {tuple(shape)}, got {received} ({inputs.shape} in all){hint}")
    check_finite(inputs)
    return _cast(inputs, np.dtype(dtype))


def one_array(inputs: Any) -> np.ndarray:
    """Take inputs that are one array. Raises TypeError for several, by name or in a tuple."""
    if isinstance(inputs, Mapping) or (
        isinstance(inputs, tuple) and any(isinstance(one, np.ndarray) for one in inputs)
    ):
        several = f"{type(inputs).__name__} of {len(inputs)} arrays"
        hint = "give the one that is meant"
        if isinstance(inputs, Mapping):
            several += f", {', '.join(map(str, inputs))}"
        else:
            hint += "; rows of one go in a list, as a tuple holds the inputs of a network that takes several"
        raise InvalidTypeError(f"inputs must be one array, got a {several}: {hint}")
    refuse_masked(inputs, "inputs")
    return np.asarray(inputs)


def _cast(inputs: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    # NumPy counts int64 to float64 as safe.
    exact = inputs.dtype.kind == "f" or inputs.dtype.itemsize < 8 or dtype.kind in "iu"
    if exact and np.can_cast(inputs.dtype, dtype):
        return inputs.astype(dtype, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = inputs.astype(dtype)
    if dtype.kind in "biu":
        lost = cast != inputs
    elif inputs.dtype.kind == "f":
        lost = ~np.isfinite(cast)
    else:
        lost = cast.astype(np.float64) != inputs.astype(np.float64)
        # Beyond this float64 too takes one whole number for another.
        large = ~lost & (np.abs(inputs.astype(np.float64)) >= 2**53)
        lost[large] = [int(a) != int(b) for a, b in zip(cast[large], inputs[large], strict=True)]
    if lost.any():
        at = np.unravel_index(lost.argmax(), lost.shape)
        raise InputError(
            int(at[0]), f"has the value {inputs[at]}, which {dtype.name} cannot hold: it would become {cast[at]}"
        )
    return cast


def check_finite(inputs: np.ndarray, rows: np.ndarray | int = 0) -> None:
    """Refuse NaN and infinite values; `rows` are the numbers of these inputs among all, or that of the first."""
    finite = np.isfinite(as_rows(inputs)).all(axis=1)
    if not finite.all():
        raise InputError(
            row_number(rows, finite.argmin()),
            f"has NaN or infinite values; it is the first of {(~finite).sum()} that have",
        )


def check_arrays(
    inputs: Any, expected: Mapping[str, tuple[Sequence[int | None], np.dtype[Any]]]
) -> np.ndarray | dict[str, np.ndarray]:
    """Take what a network is given as numbers of its types, one array for each of its inputs.

    Parameters
    ----------
    inputs : array-like, mapping of str to array-like, or tuple of array-like
        With one expected input an array does; several come by name, or in their order in a tuple.
    expected : mapping of str to (tuple of int or None, dtype)
        The shape of one sample, None for any size, and the type.

    Returns
    -------
    ndarray, or dict of str to ndarray where several are expected

    Raises
    ------
    ValueError
        If an input is missing or unknown, has another shape, a value that is not finite, or one that its type cannot
        hold, or numbers of samples differ.
    TypeError
        If an input holds no numbers.
    """
    if isinstance(inputs, tuple) and len(inputs) == len(expected):
        inputs = dict(zip(expected, inputs, strict=True))
    if not isinstance(inputs, Mapping):
        if len(expected) > 1:
            raise ValueError(
                f"expected {len(expected)} inputs, {', '.join(expected)}, by name or as a tuple, got {_kind(inputs)}"
            )
        inputs = dict.fromkeys(expected, inputs)
    if set(inputs) != set(expected):
        raise ValueError(f"expected the inputs {', '.join(expected)}, got {', '.join(map(str, inputs)) or 'none'}")
    arrays = {name: check_inputs(inputs[name], shape, dtype) for name, (shape, dtype) in expected.items()}
    check_counts(arrays)
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def check_counts(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError if arrays differ in their number of rows, or there is none."""
    if len({len(array) for array in arrays.values()}) != 1:
        told = ", ".join(f"{name} {len(array)}" for name, array in arrays.items()) or "none"
        raise ValueError(f"all inputs must have one row for each sample, but their numbers of rows differ: {told}")


def _kind(inputs: Any) -> str:
    shape = getattr(inputs, "shape", None)
    return type(inputs).__name__ if shape is None else f"one of shape {tuple(shape)}"


def row_number(rows: np.ndarray | int, n: int) -> int:
    """Return the number of a row among all, where `rows` are the numbers of these, or that of the first."""
    return int(rows + n if isinstance(rows, int) else rows[n])


def as_rows(array: np.ndarray) -> np.ndarray:
    """Flatten what belongs to each input: (N, ...) to (N, J)."""
    return array.reshape(len(array), math.prod(array.shape[1:]))
