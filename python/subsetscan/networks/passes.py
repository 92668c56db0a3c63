"""Passes through a network: it stays as it was, and each sample gets values of its own.

No framework is named here. A variable is what `numpy.asarray` reads and its method ``assign`` sets.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._several import each, n_samples

__all__ = [
    "Batched",
    "Comparison",
    "Forward",
    "Passes",
    "States",
    "compare",
    "filled",
    "parts",
    "unchanged",
]

Forward = Callable[..., list[np.ndarray]]  # from arrays of B samples to arrays of B samples
States = Callable[[], tuple[list[Any], list[Any]]]

_TOLERANCES = {"float16": 1e-2, "bfloat16": 3e-2}  # GPUs round by the place in the batch; processors do not
_TOLERANCE = 1e-5


_LARGEST = 64  # samples in a pass: wide layers of as many fit into memory


class Batched:
    """What has a number of samples in one pass.

    Attributes
    ----------
    forward_batch : int or None
        Samples in each pass; zeros fill up the last one, so that all are of one size. Networks round differently in
        passes of another size: with a number, the values of a sample have the same bits whatever it is handed in with.
        None, the default, adds nothing: a pass has as many samples as there are, at most 64, and the same samples
        handed in together have the same bits.
    """

    _forward_batch: int | None = None

    @property
    def forward_batch(self) -> int | None:  # noqa: D102 (the class says it)
        return self._forward_batch

    @forward_batch.setter
    def forward_batch(self, size: int | None) -> None:
        if size is not None and (isinstance(size, bool | np.bool_) or not isinstance(size, numbers.Integral)):
            raise ValueError(f"forward_batch must be a whole number, at least 1, or None, got {size!r}")
        if size is not None and size < 1:
            raise ValueError(f"forward_batch must be a whole number, at least 1, or None, got {size!r}")
        self._forward_batch = None if size is None else int(size)


def parts(inputs: Any, size: int | None) -> Iterator[tuple[Any, int]]:
    """Cut samples into passes, and tell how many of each are samples: the rest of it is zeros.

    Parameters
    ----------
    inputs : ndarray of shape (N, ...), or mapping or tuple of such arrays
    size : int or None
        As in `Batched`.
    """
    n, step = n_samples(inputs), size or _LARGEST
    for start in range(0, n, step):
        n_own = min(step, n - start)
        fill = size - n_own if size else 0

        def part(array: np.ndarray, at: slice = slice(start, start + n_own), fill: int = fill) -> np.ndarray:
            return filled(array[at], fill)

        yield each(inputs, part), n_own


def filled(array: np.ndarray, n_zeros: int) -> np.ndarray:
    """Append rows of zeros; of the last one to text, which has no zero."""
    if not n_zeros:
        return array
    if array.dtype == object:
        return np.concatenate([array, array[-1:].repeat(n_zeros)])
    return np.concatenate([array, np.zeros((n_zeros, *array.shape[1:]), array.dtype)])


@dataclass(frozen=True)
class Comparison:
    """What two passes over the same samples, in another order and beside others, gave.

    Attributes
    ----------
    outputs : list of ndarray
        Of the first pass.
    differing : list of int
        The positions of the outputs that differ for the same sample.
    changed : list of variables
        What the passes changed; it is as it was.
    """

    outputs: list[np.ndarray]
    differing: list[int]
    changed: list[Any]


class Passes:
    """Passes through a network.

    What a pass changes, such as the state of a recurrent layer, is put back after it. Beside the first pass goes a
    second one, in which the same samples stand elsewhere, beside others: the values must be the same.

    Parameters
    ----------
    forward : callable
        The pass. Each output has a row for each sample.
    states : callable
        Lists the network's variables, and apart from them the states of its random number generators.
    dtypes : sequence of str
        In which the network computes: the tolerance is that of the coarsest.
    refusal : callable
        Makes the error for outputs that differ, from the batch, the comparison and the tolerance.
    takes_any_number : bool, default True
        Whether a pass may have any number of samples.
    guard : callable, optional
        Makes a context in which a pass is alone with the network, where threads must not share it.
    """

    def __init__(
        self,
        forward: Forward,
        states: States,
        dtypes: Sequence[str],
        refusal: Callable[[Sequence[np.ndarray], Comparison, float], Exception],
        takes_any_number: bool = True,
        guard: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._guard = guard
        self.forward = forward
        self.states = states
        self.tolerance = max((_TOLERANCES.get(dtype, _TOLERANCE) for dtype in dtypes), default=_TOLERANCE)
        self.takes_any_number = takes_any_number
        self._refusal = refusal
        self._changing: list[Any] = []
        self._compared = False

    def run(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute the outputs for N >= 1 samples in one pass.

        Raises
        ------
        Exception
            What `refusal` made, if the values of a sample depend on its place or on the samples beside it.
        """
        with self._guard():
            return self._run(batch)

    def _run(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._compared:
            with unchanged(self._changing):
                return self.forward(*batch)
        probe = batch
        # Samples that are all alike show neither a wrong order nor what comes from the samples beside.
        if (alike := _all_alike(batch)) and self.takes_any_number:
            probe = [filled(array, 1) for array in batch]
        comparison = compare(self.forward, probe, *self.states(), self.tolerance)
        if comparison.differing:
            raise self._refusal(probe, comparison, self.tolerance)
        self._changing = comparison.changed
        self._compared = not _all_alike(probe)
        if not alike or probe is batch:
            return comparison.outputs
        with unchanged(self._changing):
            return self.forward(*batch)

    def __getstate__(self) -> dict[str, Any]:
        # A pickled network has other variables.
        return self.__dict__ | {"_changing": [], "_compared": False}


def _all_alike(batch: Sequence[np.ndarray]) -> bool:
    return not any(bool((array != array[:1]).any()) for array in batch)


def compare(
    forward: Forward, batch: Sequence[np.ndarray], variables: Sequence[Any], draws: Sequence[Any], tolerance: float
) -> Comparison:
    """Compare a pass with one over the first half of its samples, each twice, in reverse order."""
    size = len(batch[0])
    order = (size - 1 - np.arange(size)) // 2
    with unchanged([*variables, *draws]) as changed:
        with unchanged(variables) as changed_first:
            outputs = forward(*batch)
        # The states of random numbers stay as the first pass left them: values must not depend on what is drawn.
        again = forward(*(array[order] for array in batch))
    differing = [n for n, (a, b) in enumerate(zip(outputs, again, strict=True)) if not _alike(a[order], b, tolerance)]
    return Comparison(outputs, differing, list({id(one): one for one in [*changed_first, *changed]}.values()))


@contextmanager
def unchanged(variables: Sequence[Any]) -> Iterator[list[Any]]:
    """Put variables back at the end; the list that is handed out then holds those that had changed."""
    before = [np.asarray(variable).copy() for variable in variables]
    changed: list[Any] = []
    try:
        yield changed
    finally:
        for variable, value in zip(variables, before, strict=True):
            if np.asarray(variable).tobytes() != value.tobytes():  # bytes: NaN equals itself, -0 is not +0
                variable.assign(value)
                changed.append(variable)


def _alike(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    if np.array_equal(a, b):
        return True
    a, b = a.astype(np.float64), b.astype(np.float64)
    # What is small beside its own node's values is rounding; a little of the largest value may be, where sums meet.
    sizes = np.where(np.isfinite(a), np.abs(a), 0)
    atol = tolerance * np.maximum(sizes.max(axis=0, initial=0), 0.1 * sizes.max(initial=0))
    return bool(np.isclose(a, b, rtol=tolerance, atol=atol, equal_nan=True).all())
