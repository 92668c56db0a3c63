"""Which kind of inputs a user has handed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._several import each
from .._validation import InvalidTypeError
from ..input_checks import InputError, ShapeError
from .arrays import ArrayInputs, InputDict, InputTuple, as_rows_of, is_table
from .base import Inputs, SizedInputs
from .batches import BatchedInputs
from .mistakes import library_of, refuse_mistaken
from .pictures import PictureFolder

__all__ = ["as_inputs", "one_input", "sequence_inputs"]


def as_inputs(inputs: Any) -> Inputs:
    """Take inputs in any form.

    Parameters
    ----------
    inputs : array-like, mapping, tuple, or iterable
        An array, a table, or a list of text or of bytes, with a row for each input: see `as_rows_of`. For networks of
        several inputs a mapping or a tuple of these. A Hugging Face dataset, whose columns are inputs by their names.
        Whatever gives batches one after the other: see `BatchedInputs`.

    Raises
    ------
    TypeError
        For anything else, such as one text, a path, a sparse matrix, or a dataset that gives one item at a time.
    ValueError
        If arrays do not have a row for each input, or a file is closed.
    """
    if isinstance(inputs, Inputs):
        return inputs
    refuse_mistaken(inputs, "several inputs")
    if isinstance(inputs, Mapping):
        return InputDict(inputs)
    if isinstance(inputs, tuple):
        is_text = inputs and all(isinstance(one, str | bytes) for one in inputs)
        return ArrayInputs(inputs) if is_text else InputTuple(inputs)
    if library_of(inputs) == "datasets":
        if not hasattr(inputs, "column_names"):  # a column
            return ArrayInputs(inputs)
        return _HuggingFaceInputs(inputs) if hasattr(inputs, "__len__") else BatchedInputs(inputs.iter(64))
    if isinstance(inputs, list | np.ndarray | PictureFolder) or hasattr(inputs, "__array__") or is_table(inputs):
        return ArrayInputs(inputs)
    if hasattr(inputs, "shape") and hasattr(inputs, "dtype"):
        return ArrayInputs(inputs)
    if hasattr(inputs, "__iter__") or hasattr(inputs, "num_batches"):
        return BatchedInputs(inputs)
    if hasattr(inputs, "__getitem__"):
        raise InvalidTypeError(
            f"{type(inputs).__name__} gives one item at a time: expected batches, such as those of "
            "torch.utils.data.DataLoader(dataset, batch_size=64)"
        )
    return ArrayInputs(inputs)


def one_input(value: Any) -> Inputs:
    """Take one input as a set of one; a table of one row, or a row of one, is one.

    Raises
    ------
    TypeError, ValueError
        For what cannot be one, such as a list of one text.
    """
    value = each(value, _row_as_table)
    if isinstance(value, Mapping):
        found: Inputs = InputDict({name: _alone(array) for name, array in value.items()})
    elif isinstance(value, tuple):
        found = InputTuple([_alone(array) for array in value])
    else:
        found = ArrayInputs(_alone(value))
    found.hint = "; what is explained is one input, without an axis that counts inputs"
    return found


def sequence_inputs(inputs: Any) -> list[np.ndarray]:
    """Take what a layer gave for several inputs, as an array of at least two axes for each.

    Parameters
    ----------
    inputs : array-like of shape (N, P, C) or (N, H, W, C), or iterable of array-like of shape (P, C) or (H, W, C)
        Numbers of positions may differ.

    Raises
    ------
    TypeError, ValueError
        If `inputs` are of another kind, such as the one array of one input.
    """
    expected = "an array (P, C) for each input, in a list"
    refuse_mistaken(inputs, expected)
    if isinstance(inputs, Mapping) or is_table(inputs) or not hasattr(inputs, "__iter__"):
        raise InvalidTypeError(f"expected {expected}, got a {type(inputs).__name__}")
    shape = getattr(inputs, "shape", None)
    if shape is not None and len(shape) > 2:
        return list(np.asarray(as_rows_of(inputs, "inputs")[:]))
    if shape is not None and not (isinstance(inputs, np.ndarray) and inputs.dtype.hasobject):
        hint = ": for one input give [x]" if len(shape) == 2 else ""
        raise ShapeError(f"expected {expected} or as (N, P, C), got one array of shape {tuple(shape)}{hint}")
    return [np.asarray(as_rows_of(one, f"input {n}")[:]) for n, one in enumerate(inputs)]


def _row_as_table(value: Any) -> Any:
    """Take a row of a pandas table as a table, whose columns have names."""
    is_row = library_of(value) == "pandas" and hasattr(value, "index") and not is_table(value)
    return value.to_frame().T if is_row and all(isinstance(name, str) for name in value.index) else value


def _alone(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return [value]
    if is_table(value) and len(value) == 1:
        return value
    array = np.asarray(value) if np.isscalar(value) else np.asarray(as_rows_of(value, "the input")[:])
    if array.size == 1 and array.ndim and isinstance(array.flat[0], str | bytes):
        raise InvalidTypeError(f"expected one input, got a {type(value).__name__} of one text: give the text itself")
    return array[np.newaxis]


class _HuggingFaceInputs(SizedInputs):
    """A dataset of Hugging Face, whose columns are inputs by their names."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, rows: Any) -> Any:
        columns = self._dataset[rows if isinstance(rows, slice) else [int(row) for row in rows]]
        try:
            return InputDict(columns)[:]
        except InputError as error:
            numbers = np.arange(len(self))[rows]
            raise InputError(int(numbers[error.number]), error.why) from None
