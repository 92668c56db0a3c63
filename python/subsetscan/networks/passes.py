"""Passes through a network in batches of one size: the network stays as it was, and each sample gets values of its own.

No framework is named here. A variable is what `numpy.asarray` reads and its method ``assign`` sets.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Batched", "Comparison", "Forward", "Passes", "States", "compare"]

Forward = Callable[..., list[np.ndarray]]  # from arrays of B samples to arrays of B samples
States = Callable[[], tuple[list[Any], list[Any]]]

_TOLERANCES = {"float16": 1e-2, "bfloat16": 3e-2}  # GPUs round by the place in the batch; processors do not
_TOLERANCE = 1e-5


class Batched:
    """What has a number of samples in one pass."""

    _forward_batch = 64

    @property
    def forward_batch(self) -> int:
        """Samples in one pass."""
        return self._forward_batch

    @forward_batch.setter
    def forward_batch(self, size: int) -> None:
        if isinstance(size, bool | np.bool_) or not isinstance(size, numbers.Integral) or size < 1:
            raise ValueError(f"forward_batch must be a whole number, at least 1, got {size!r}")
        self._forward_batch = int(size)


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
    """Passes of one size through a network.

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
    """

    def __init__(
        self,
        forward: Forward,
        states: States,
        dtypes: Sequence[str],
        refusal: Callable[[Sequence[np.ndarray], Comparison, float], Exception],
    ) -> None:
        self.forward = forward
        self.states = states
        self.tolerance = max((_TOLERANCES.get(dtype, _TOLERANCE) for dtype in dtypes), default=_TOLERANCE)
        self._refusal = refusal
        self._changing: list[Any] = []
        self._compared = False

    def run(self, arrays: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
        """Compute the outputs for N >= 1 samples, `size` in each pass.

        Raises
        ------
        Exception
            What `refusal` made, if the values of a sample depend on its place or on the samples beside it.
        """
        parts = []
        for start in range(0, len(arrays[0]), size):
            batch = [array[start : start + size] for array in arrays]
            n_samples = len(batch[0])
            # Convolutions round differently in batches of another size, so that all passes are of one.
            parts.append([output[:n_samples] for output in self._pass([_padded(array, size) for array in batch])])
        return [outputs[0] if len(outputs) == 1 else np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        # A pickled network has other variables.
        return self.__dict__ | {"_changing": [], "_compared": False}

    def _pass(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._compared:
            with _unchanged(self._changing):
                return self.forward(*batch)
        comparison = compare(self.forward, batch, *self.states(), self.tolerance)
        if comparison.differing:
            raise self._refusal(batch, comparison, self.tolerance)
        self._changing = comparison.changed
        # Samples that are all alike show neither a wrong order nor what comes from the samples beside.
        self._compared = bool((batch[0] != batch[0][:1]).any())
        return comparison.outputs


def compare(
    forward: Forward, batch: Sequence[np.ndarray], variables: Sequence[Any], draws: Sequence[Any], tolerance: float
) -> Comparison:
    """Compare a pass with one over the first half of its samples, each twice, in reverse order."""
    size = len(batch[0])
    order = (size - 1 - np.arange(size)) // 2
    with _unchanged([*variables, *draws]) as changed:
        with _unchanged(variables) as changed_first:
            outputs = forward(*batch)
        # The states of random numbers stay as the first pass left them: values must not depend on what is drawn.
        again = forward(*(array[order] for array in batch))
    differing = [n for n, (a, b) in enumerate(zip(outputs, again, strict=True)) if not _alike(a[order], b, tolerance)]
    return Comparison(outputs, differing, list({id(one): one for one in [*changed_first, *changed]}.values()))


@contextmanager
def _unchanged(variables: Sequence[Any]) -> Iterator[list[Any]]:
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


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(array)
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array


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
