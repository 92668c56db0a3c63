"""Inputs that come in batches: from a loader, a dataset or a generator, of a number that may not be known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .._several import arrays_of, n_samples, picked
from .._validation import check_columns
from ..input_checks import InputError, ShapeError
from .arrays import ArrayInputs, InputDict, InputTuple, as_rows_of, columns_of, text_rows
from .base import Batch, Inputs, SizedInputs

__all__ = ["BatchedInputs"]

_COLLECTED = 1024  # inputs that are joined at once
_BATCHES = (
    "each element of an iterable is a batch of inputs, not one of them: give batches, as of DataLoader(dataset, "
    "batch_size=64), or of a tf.data.Dataset with .batch(64)"
)


class BatchedInputs(Inputs):
    """Inputs from an iterable of batches: PyTorch's DataLoader, a `tf.data.Dataset`, a `PyDataset`, a generator.

    Batches are put together to those of the size that is asked for, so that it does not matter how they come.

    Parameters
    ----------
    batches : iterable
        Of arrays, of dicts or tuples of arrays for networks of several inputs, of lists of text; or of pairs of
        these and labels, (x, y), as they are used in training. Weights, in (x, y, w), are left out.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches
        self.columns: dict[str, tuple[str, ...]] = {}
        self._expected: Mapping[str, tuple[str, ...]] = {}

    def hold_to(self, columns: Mapping[str, tuple[str, ...]]) -> None:
        """Hold each batch, when it comes, to the columns of a fit."""
        self._expected = columns

    def collected(self) -> SizedInputs:
        """Put all batches together, in memory. Raises as `batches` does."""
        inputs, _ = _joined([(batch.inputs, batch.labels) for batch in self.batches(_COLLECTED)])
        kind = InputDict if isinstance(inputs, dict) else InputTuple if isinstance(inputs, tuple) else ArrayInputs
        found: SizedInputs = kind(inputs)
        found.columns, found.hint = self.columns, self.hint
        return found

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all inputs, in batches of that size.

        Raises
        ------
        ValueError
            If there is no input, a batch does not fit those before it, or the columns of its data frames are others
            than theirs or those of a fit.
        TypeError
            If a batch holds no inputs.
        """
        waiting: list[tuple[Any, Any]] = []
        form, n_seen, n_waiting = None, 0, 0
        for n, given in enumerate(_numbered(self._batches)):
            try:
                inputs, labels = _parts(given, n)
            except InputError as error:
                raise InputError(n_seen + n_waiting + error.number, error.why) from None
            except ShapeError as error:
                raise ShapeError(f"{error}; {_BATCHES}") from None
            self._hold(given, n)
            if form is None:
                form, self.hint = _form(inputs, labels), f"; the first is {_told(given, inputs)}; {_BATCHES}"
            elif (other := _form(inputs, labels)) != form:
                raise ValueError(f"batch {n} of the inputs has {other}, those before it have {form}")
            waiting.append((inputs, labels))
            n_waiting += n_samples(inputs)
            while n_waiting >= size:
                inputs, labels = _joined(waiting)
                first, rest = (
                    (picked(inputs, part), None if labels is None else labels[part])
                    for part in (slice(size), slice(size, None))
                )
                yield Batch(np.arange(n_seen, n_seen + size), *first)
                n_seen, n_waiting = n_seen + size, n_waiting - size
                waiting = [rest] if n_waiting else []
        if n_waiting:
            yield Batch(np.arange(n_seen, n_seen + n_waiting), *_joined(waiting))
        elif not n_seen:
            raise ValueError("there are no inputs: the iterable gave none; an iterator can be gone through only once")

    def _hold(self, batch: Any, n: int) -> None:
        """Hold a batch's data frames to the columns of the fit, and of those before it."""
        columns = columns_of(batch[0] if isinstance(batch, list | tuple) else batch)
        for name, own in columns.items():
            where = f" in {name}" if name else ""
            try:
                check_columns(own, self._expected.get(name), f"the fit{where}")
                check_columns(own, self.columns.get(name), f"the batches before{where}")
            except ValueError as error:
                raise ValueError(f"batch {n} of the inputs: {error}") from None
        self.columns = columns | self.columns


def _numbered(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches; an error of whatever makes them says how far it came."""
    n = 0
    try:
        for batch in _in_order(batches):
            yield batch
            n += 1
    except Exception as error:
        error.add_note(f"raised by the iterable of inputs, after {n} batches")
        raise


def _in_order(batches: Any) -> Iterator[Any]:
    if hasattr(batches, "num_batches") and hasattr(batches, "__getitem__"):  # of Keras: it does not say where it ends
        if (n := batches.num_batches) is None:
            raise ValueError("the dataset is endless: its num_batches is None")
        return (batches[k] for k in range(n))
    return iter(batches)


def _parts(batch: Any, n: int) -> tuple[Any, np.ndarray | None]:
    """Tell inputs and labels of a batch."""
    if not isinstance(batch, list | tuple) or (batch and all(isinstance(one, str | bytes) for one in batch)):
        return _inputs(batch, n), None
    if not 1 <= len(batch) <= 3:
        raise ValueError(
            f"batch {n} of the inputs is a {type(batch).__name__} of {len(batch)}: expected an array, a dict of "
            f"arrays, or a pair of these and labels; several inputs are one array, np.stack(them); {_BATCHES}"
        )
    inputs, labels = _inputs(batch[0], n), None if len(batch) == 1 or batch[1] is None else batch[1]
    if labels is None or isinstance(labels, Mapping):
        return inputs, None
    return inputs, _labels(labels, inputs, n)


def _inputs(inputs: Any, n: int) -> Any:
    what = f"batch {n} of the inputs"
    if isinstance(inputs, Mapping):
        arrays = {str(name): np.asarray(as_rows_of(array, f"{name} in {what}")[:]) for name, array in inputs.items()}
    elif isinstance(inputs, list | tuple) and inputs and all(isinstance(one, str | bytes) for one in inputs):
        return text_rows(inputs, what)
    elif isinstance(inputs, tuple):
        arrays = {str(k): np.asarray(as_rows_of(array, what)[:]) for k, array in enumerate(inputs)}
    else:
        return np.asarray(as_rows_of(inputs, what)[:])
    if len({len(array) for array in arrays.values()}) != 1:
        raise ValueError(f"the arrays of {what} must have one row for each input, got {_shapes(arrays)}")
    return arrays if isinstance(inputs, Mapping) else tuple(arrays.values())


def _labels(labels: Any, inputs: Any, n: int) -> np.ndarray | None:
    """Take what a batch has beside its inputs as labels; None where it is a target of another kind, as an input."""
    labels = np.asarray(as_rows_of(labels, f"the labels of batch {n}")[:])
    if len(labels) != n_samples(inputs):
        raise ValueError(f"batch {n} has {n_samples(inputs)} inputs and {len(labels)} labels")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1:
        return labels
    if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        return labels.argmax(axis=1)
    whole = labels.dtype.kind in "iub"
    if whole and isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iu" and labels.shape == inputs.shape:
        raise ValueError(
            f"batch {n} of the inputs is a pair of whole numbers, both of shape {inputs.shape}: the second are no "
            "labels; if both are inputs, as ids and their mask are, yield them by name, in a dict"
        )
    return None


def _joined(batches: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    if len(batches) == 1:
        return batches[0]
    inputs, labels = zip(*batches, strict=True)
    if isinstance(inputs[0], dict):
        joined: Any = {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}
    elif isinstance(inputs[0], tuple):
        joined = tuple(map(np.concatenate, zip(*inputs, strict=True)))
    else:
        joined = np.concatenate(inputs)
    return joined, None if labels[0] is None else np.concatenate(labels)


def _form(inputs: Any, labels: Any) -> str:
    """Describe what all batches must have in common."""
    if isinstance(inputs, dict | tuple):
        told = _shapes(inputs if isinstance(inputs, dict) else dict(enumerate(inputs)))
    else:
        told = f"inputs of shape {inputs.shape[1:]} ({inputs.dtype})"
    return told + (" without labels" if labels is None else " with labels")


def _told(batch: Any, inputs: Any) -> str:
    """Tell what a batch was taken for."""
    shapes = " and ".join(str(array.shape) for array in arrays_of(inputs))
    if isinstance(batch, list | tuple) and len(batch) > 1 and not isinstance(batch[0], str | bytes):
        return f"a {type(batch).__name__} of {len(batch)}, taken as (x, y): inputs {shapes} with labels or targets"
    return f"taken as inputs {shapes}"


def _shapes(arrays: Mapping[Any, np.ndarray]) -> str:
    return ", ".join(f"{name} of shape {array.shape[1:]} ({array.dtype})" for name, array in arrays.items())
