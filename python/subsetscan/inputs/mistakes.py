"""What is nearly an array of inputs, but none: refused by name, with what would be right."""

from __future__ import annotations

import io
import os
from typing import Any

from .._validation import InvalidTypeError

__all__ = ["library_of", "refuse_mistaken"]

_PATH = (
    "map an .npy file with numpy.load(path, mmap_mode='r'); read a folder of pictures with "
    "subsetscan.inputs.PictureFolder(path, image_shape)"
)


def library_of(value: Any) -> str:
    """Name the package that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def refuse_mistaken(value: Any, expected: str) -> None:
    """Refuse what a library's conversion to an array would turn into an object, or into something else.

    Parameters
    ----------
    value : object
    expected : str
        What was, for messages.

    Raises
    ------
    TypeError
        If it is no array, but something that an array can be made of.
    ValueError
        If it lies in a file that is closed.
    """
    if _is_closed(value):
        raise ValueError(
            f"expected {expected}, got {type(value).__name__} of a file that is closed: use it while the file is open, "
            "within its with statement"
        )
    if why := _mistake(value):
        raise InvalidTypeError(f"expected {expected}, got {why}")


def _mistake(value: Any) -> str | None:
    kind, library = type(value).__name__, library_of(value)
    if isinstance(value, str | bytes):
        return f"one {kind}: put it in a list; if it names a file, read that first: {_PATH}"
    if isinstance(value, os.PathLike):
        return f"path {os.fspath(value)}: {_PATH}"
    if isinstance(value, io.IOBase):
        return f"an open file ({kind}): read it first, as with numpy.load"
    if isinstance(value, type):
        return f"the class {value.__name__}: create an instance"
    if value is None:
        return "None"
    if isinstance(value, set | frozenset):
        return f"a {kind}, which has no order: give a list"
    if library == "tensorflow" and kind in ("RaggedTensor", "SparseTensor"):
        dense = "x.to_tensor() with a mask" if kind == "RaggedTensor" else "tf.sparse.to_dense(x)"
        return f"a {kind}: give {dense}, or what else has one shape for all inputs"
    if library == "torch" and getattr(value, "is_nested", False):
        return "a nested tensor, whose inputs have different shapes: give x.to_padded_tensor(0.0) with a mask"
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        return f"a {kind} of shape {value.shape}, which is sparse: give x.toarray(), or an iterator of batches of it"
    if library == "torch" and str(getattr(value, "layout", "torch.strided")) != "torch.strided":
        return f"a sparse tensor ({value.layout}): give x.to_dense()"
    if kind == "LazyFrame":
        return "a LazyFrame: give x.collect()"
    if kind in ("DatasetDict", "IterableDatasetDict"):
        return f"a {kind} of {', '.join(map(str, value))}: give one of them, as x[{next(iter(value), '')!r}]"
    if kind == "IterableColumn":
        return "a column of a streamed dataset, one input at a time: give dataset.select_columns([name])"
    if callable(value) and not any(hasattr(value, name) for name in ("__array__", "shape", "__iter__", "__getitem__")):
        return f"{kind} {getattr(value, '__name__', '')}: call it, and give what it returns"
    return None


def _is_closed(value: Any) -> bool:
    """Tell whether this is in a file of h5py or numpy that was closed, without importing h5py."""
    if library_of(value) == "h5py" and hasattr(value, "id"):
        return not value
    return type(value).__name__ == "NpzFile" and getattr(value, "zip", value) is None
