"""Inputs through spaces, batch by batch: what is wrong with one is told by its number among all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from sklearn.utils import gen_batches
from tqdm.auto import tqdm

from .input_checks import InputError, ShapeError, check_finite
from .inputs import Batch, Inputs, InputSummary
from .inputs.base import SizedInputs
from .spaces.base import Space, check_node_values

__all__ = ["KeptValues", "Values", "stream"]

Values = dict[str, np.ndarray]  # the node values of a batch, (n, J) for each name of the spaces


def stream(
    spaces: Sequence[Space],
    inputs: Inputs,
    batch_size: int,
    *,
    see: Callable[[dict[str, InputSummary]], object],
    rows: np.ndarray | None = None,
    widths: Mapping[str, int] | None = None,
    progress: str | None = None,
) -> Iterator[tuple[Batch, Values]]:
    """Yield batches and their node values; one empty batch, which no space sees, if there are no inputs.

    Parameters
    ----------
    spaces : sequence of Space
        With different names.
    inputs : Inputs
    batch_size : int
    see : callable
        Takes the summaries of each batch.
    rows : ndarray of shape (n,), int, optional
        Which of `SizedInputs`, in this order; by default all.
    widths : mapping of str to int, optional
        Numbers of nodes, where they are known: spaces may not tell before a pass.
    progress : str, optional
        The label of the progress bar; none is shown without it.

    Raises
    ------
    ValueError, TypeError
        If an input is not finite or does not fit, or a space returns something else than its `node_shapes` say.
    """
    batches: Iterable[Batch]
    if not isinstance(inputs, SizedInputs):
        batches, total = inputs.batches(batch_size), None  # how many come is not known
    else:
        rows = np.arange(len(inputs)) if rows is None else rows
        batches, total = inputs.batches(batch_size, rows), -(-len(rows) // batch_size)
        if not len(rows):
            known = dict(widths or {})
            known |= {name: math.prod(shape) for space in spaces for name, shape in space.node_shapes.items()}
            names = [name for space in spaces for name in space.names]
            yield Batch(rows, inputs[:0]), {name: np.empty((0, known.get(name, 1)), np.float32) for name in names}
            return
    if progress is not None:
        batches = tqdm(batches, desc=progress, unit="batch", total=total, leave=False)
    for batch in batches:
        if isinstance(batch.inputs, np.ndarray) and batch.inputs.dtype.kind == "f":
            check_finite(batch.inputs, batch.rows)
        see(InputSummary.of_each(batch.inputs))
        values: Values = {}
        for space in spaces:
            try:
                values |= check_node_values(space, space.transform(batch.inputs), batch.rows)
            except InputError as error:
                raise InputError(int(batch.rows[error.number]), error.why) from None
            except ShapeError as error:
                raise ShapeError(f"{error}{inputs.hint}") from error.__cause__
        yield batch, values


class KeptValues:
    """Node values of inputs that come only once: in temporary files until they are shared out, not in memory.

    Parameters
    ----------
    batches : iterable of (ndarray of shape (n,) or None, dict of str to ndarray of shape (n, J))
        Labels and node values; all of them are taken now.
    files : ExitStack
        Closes the files, which are gone then.

    Attributes
    ----------
    n : int
        Number of inputs.
    labels : ndarray of shape (n,), or None
    """

    def __init__(self, batches: Iterable[tuple[np.ndarray | None, Values]], files: ExitStack) -> None:
        self.n = 0
        self._files: dict[str, IO[bytes]] = {}
        self._forms: dict[str, tuple[np.dtype[Any], int]] = {}
        labels: list[np.ndarray | None] = []
        for own, values in batches:
            labels.append(own)
            self.n += next(len(array) for array in values.values())
            for name, array in values.items():
                if name not in self._files:
                    self._files[name] = files.enter_context(TemporaryFile())  # noqa: SIM115  # it is one
                    self._forms[name] = array.dtype, array.shape[1]
                self._files[name].write(np.ascontiguousarray(array).data)
        self.labels = (
            None if any(own is None for own in labels) else np.concatenate([np.asarray(one) for one in labels])
        )

    def of(self, rows: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, Values]]:
        """Yield rows and their values, in batches; one empty batch if there are none."""
        arrays = {}
        for name, file in self._files.items():
            dtype, n_nodes = self._forms[name]
            file.flush()
            arrays[name] = np.memmap(file, dtype, mode="r", shape=(self.n, n_nodes))
        parts = gen_batches(len(rows), batch_size) if len(rows) else [slice(0)]
        for part in parts:
            yield rows[part], {name: np.asarray(array[rows[part]]) for name, array in arrays.items()}
