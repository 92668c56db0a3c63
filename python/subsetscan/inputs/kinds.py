"""Which kind of inputs a user has handed in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._validation import InvalidTypeError
from .arrays import ArrayInputs, InputDict, InputTuple, is_table
from .base import Inputs, SizedInputs
from .batches import BatchedInputs
from .pictures import PictureFolder

__all__ = ["as_inputs", "one_input"]


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
        For anything else, such as one text, a path, or a dataset that gives one item at a time.
    ValueError
        If arrays do not have a row for each input.
    """
    if isinstance(inputs, Inputs):
        return inputs
    if isinstance(inputs, str | bytes):
        raise InvalidTypeError(f"expected several inputs, got one {type(inputs).__name__}: put it in a list")
    if isinstance(inputs, os.PathLike):
        raise InvalidTypeError(
            f"expected inputs, got path {os.fspath(inputs)}: map an .npy file with numpy.load(path, mmap_mode='r'); "
            "read a folder of pictures with subsetscan.inputs.PictureFolder(path, image_shape)"
        )
    if isinstance(inputs, Mapping):
        return InputDict(inputs)
    if isinstance(inputs, tuple):
        return InputTuple(inputs)
    if type(inputs).__module__.partition(".")[0] == "datasets" and hasattr(inputs, "column_names"):
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
    """Take one input as a set of one."""
    if isinstance(value, Mapping):
        return InputDict({name: _alone(array) for name, array in value.items()})
    if isinstance(value, tuple):
        return InputTuple([_alone(array) for array in value])
    return ArrayInputs(_alone(value))


def _alone(value: Any) -> Any:
    return [value] if isinstance(value, str | bytes) else np.asarray(value)[np.newaxis]


class _HuggingFaceInputs(SizedInputs):
    """A dataset of Hugging Face, whose columns are inputs by their names."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, rows: Any) -> Any:
        columns = self._dataset[rows if isinstance(rows, slice) else [int(row) for row in rows]]
        return InputDict(columns)[:]
