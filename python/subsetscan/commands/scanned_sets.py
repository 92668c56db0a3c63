"""What a fitted scanner finds in sets of inputs, and the lines of ``scores.csv``. Experiments: see `lab.experiment`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..detectors import CalibratedDetector
from ..lab.experiment.files import write_rows
from ..measures import Auroc, auroc
from ..scanner import ModelScanner
from ..scanning import ScanResult

__all__ = ["COMBINED", "ScannedSets", "decision_columns", "image_rows", "scan_sets"]

COMBINED = "combined"

_T = TypeVar("_T")


@dataclass(frozen=True)
class ScannedSets:
    """Scans of several sets of inputs in several spaces, and their p-values.

    Attributes
    ----------
    n_nodes : dict of str to int
        For each space.
    scans : dict of str to dict of str to ScanResult
        For each set and space.
    p_values : dict of str to dict of str to ndarray, or None
        Calibrated p-values, for each set and space, and "combined"; None without calibration.
    combined : dict of str to ndarray of shape (n,)
        For each set the scores of all spaces together; empty where they are not combined.
    null_scores : dict of str to ndarray of shape (n,)
        For each space, and "combined", the scores of the clean inputs that calibrate; empty without calibration.
    """

    n_nodes: dict[str, int]
    scans: dict[str, dict[str, ScanResult]]
    p_values: dict[str, dict[str, np.ndarray]] | None
    combined: dict[str, np.ndarray] = field(default_factory=dict)
    null_scores: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def join(cls, parts: Sequence[ScannedSets]) -> ScannedSets:
        """Put scans of the same sets in different spaces together."""
        calibrated = [part.p_values for part in parts if part.p_values is not None]
        return cls(
            {space: n for part in parts for space, n in part.n_nodes.items()},
            _join([part.scans for part in parts]),
            _join(calibrated) if len(calibrated) == len(parts) else None,
            null_scores={space: scores for part in parts for space, scores in part.null_scores.items()},
        )

    def scores(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the scores of each space and set, as `plot.densities` draws them."""
        scores = {space: {kind: scans[space].scores for kind, scans in self.scans.items()} for space in self.n_nodes}
        return scores | ({COMBINED: self.combined} if self.combined else {})

    def auroc(self, space: str, anomalous: str, clean: str = "clean") -> Auroc:
        """Return how well the scores of one set are told from those of another."""
        scores = self.scores()[space]
        return auroc(scores[clean], scores[anomalous])

    def write_scores(self, path: Path | str, false_positive_rate: float = 0.05) -> None:
        """Write one line for each input and space: set, index, space, score, alpha, size, p_value, flagged.

        Flagged is 1 where the p-value is at most the false positive rate, and 0 elsewhere; without calibration both
        columns are empty. All spaces combined come last, with neither alpha nor size.
        """
        header = ["set", "index", "space", "score", "alpha", "size", "p_value", "flagged"]
        write_rows(path, header, self._rows(false_positive_rate))

    def write_null_scores(self, path: Path | str) -> None:
        """Write the scores of the clean inputs that calibrate: space, score."""
        rows = ({"space": space, "score": score} for space, own in self.null_scores.items() for score in own.tolist())
        write_rows(path, ["space", "score"], rows)

    def _rows(self, false_positive_rate: float) -> Iterator[dict[str, Any]]:
        for kind, scans in self.scans.items():
            p_values = {} if self.p_values is None else self.p_values[kind]
            decisions = {space: decision_columns(own, false_positive_rate) for space, own in p_values.items()}
            for space, scan in scans.items():
                columns = {"score": scan.scores.tolist(), "alpha": scan.alphas.tolist(), "size": scan.sizes.tolist()}
                yield from image_rows(columns | decisions.get(space, {}), set=kind, space=space)
            if combined := decisions.get(COMBINED):
                scores = {"score": self.combined[kind].tolist()}
                yield from image_rows(scores | combined, set=kind, space=COMBINED)


def image_rows(columns: Mapping[str, Sequence[Any]], **names: str) -> Iterator[dict[str, Any]]:
    """Yield a row of a table for each input: the given names, its index, and its value in each column."""
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        yield {**names, "index": index, **dict(zip(columns, values, strict=True))}


def decision_columns(p_values: np.ndarray, false_positive_rate: float) -> dict[str, list[float]]:
    """Return the columns p_value and flagged: 1 where the p-value is at most the false positive rate, 0 elsewhere."""
    return {"p_value": p_values.tolist(), "flagged": (p_values <= false_positive_rate).astype(int).tolist()}


def _join(found: Sequence[dict[str, dict[str, _T]]]) -> dict[str, dict[str, _T]]:
    return {kind: {space: value for part in found for space, value in part[kind].items()} for kind in found[0]}


def scan_sets(scanner: ModelScanner, sets: Mapping[str, Any]) -> ScannedSets:
    """Scan sets of inputs with a fitted scanner.

    Parameters
    ----------
    scanner : ModelScanner
    sets : mapping of str to array-like of shape (n, ...)
        Inputs, by the name of their set.

    Raises
    ------
    ValueError
        If p-values are to be combined, and the scanner is not calibrated or the combination is unknown, or a space has
        the name that the combination has in tables.
    """
    if scanner.combine is not None and COMBINED in scanner.names:
        raise ValueError(f'a layer is named "{COMBINED}", as all layers together are in tables: give it another name')
    if scanner.combine is not None and not scanner.is_calibrated:
        raise ValueError("combining needs p-values: choose a calibration")
    scans: dict[str, dict[str, ScanResult]] = {kind: scanner.scan(inputs) for kind, inputs in sets.items()}
    p_values = None
    if scanner.is_calibrated:
        scores = {kind: {space: scan.scores for space, scan in found.items()} for kind, found in scans.items()}
        p_values = {kind: scanner.p_values_of(own) for kind, own in scores.items()}
    null_scores = {
        name: detector.null_scores_
        for name, detector in scanner.detectors_.items()
        if isinstance(detector, CalibratedDetector) and detector.is_calibrated
    }
    combined = {}
    if scanner.combine is not None and p_values is not None:
        for kind, own in scores.items():
            combined[kind], p_values[kind][COMBINED], null_scores[COMBINED] = scanner.combined_of(own)
    n_nodes = {space: int(np.prod(scanner.node_shapes[space])) for space in scanner.names}
    return ScannedSets(n_nodes, scans, p_values, combined, null_scores)
