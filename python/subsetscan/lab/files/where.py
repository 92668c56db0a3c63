"""Where a file was changed: the scan within one file, type by type, beside what is known to be changed."""

from __future__ import annotations

import numpy as np

from ... import SequenceScanner
from ...sequence_result import SequenceScan, SequenceScans
from ...spaces import Layers
from ..subjects.magika_network import POSITIONS, Magika
from .sample import Sample

__all__ = ["BYTES", "Within", "measures", "over_changes"]

BYTES = 4  # of a file that one position stands for


class Within:
    """A scanner for each type, fitted to its background when it is first needed."""

    def __init__(self, network: Magika, sample: Sample, seed: int) -> None:
        self._space = Layers(network.network, POSITIONS)
        self._sample, self._seed = sample, seed
        self._scanners: dict[int, SequenceScanner] = {}

    def scan(self, tokens: np.ndarray, types: np.ndarray) -> SequenceScans:
        """Scan files, each beside the background of its type: a place in `Sample.types`."""
        found: dict[int, SequenceScan] = {}
        for kind in np.unique(types).tolist():
            rows = np.flatnonzero(types == kind)
            found |= dict(zip(rows.tolist(), self._of(kind).scan(tokens[rows]), strict=True))
        return SequenceScans(found[row] for row in range(len(tokens)))

    def _of(self, kind: int) -> SequenceScanner:
        if kind not in self._scanners:
            clean = self._sample.background[self._sample.background_types == kind]
            self._scanners[kind] = SequenceScanner(self._space, random_state=self._seed).fit(clean)
        return self._scanners[kind]


def measures(positions: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare what was found in files with what is changed.

    Parameters
    ----------
    positions : ndarray of shape (n, P), bool
    changed : ndarray of shape (n, 4 P), bool

    Returns
    -------
    precision : ndarray of shape (n,), float64
        The share of the positions found that lie over changed bytes; NaN where none is found.
    recall : ndarray of shape (n,), float64
        The share of the changed bytes that lie under positions found.
    chance : ndarray of shape (n,), float64
        The share of all positions that lie over changed bytes: the precision of positions drawn at random.
    """
    over = over_changes(changed)
    n_found = positions.sum(axis=1)
    with np.errstate(invalid="ignore"):
        precision = (positions & over).sum(axis=1) / n_found
    recall = (np.repeat(positions, BYTES, axis=1) & changed).sum(axis=1) / changed.sum(axis=1)
    return precision, recall, over.mean(axis=1)


def over_changes(changed: np.ndarray) -> np.ndarray:
    """Tell which positions lie over changed bytes: from (n, 4 P) to (n, P), bool."""
    return np.any(changed.reshape(len(changed), -1, BYTES), axis=2)
