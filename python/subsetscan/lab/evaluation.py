"""Scans of several sets of images by a fitted scanner, and the files that they are written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..combination import combined_scores
from ..scanner import ModelScanner
from ..scanning import ScanResult
from .experiment.files import write_rows
from .experiment.measures import Auroc, auroc

__all__ = [
    "Evaluation",
    "decision_columns",
    "evaluate",
]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Evaluation:
    """Scans of several sets of images in several spaces.

    Attributes
    ----------
    n_nodes : dict of str to int
        For each space.
    scans : dict of str to dict of str to ScanResult
        For each set and space.
    p_values : dict of str to dict of str to ndarray, or None
        Calibrated p-values, for each set and space; None without calibration.
    """

    n_nodes: dict[str, int]
    scans: dict[str, dict[str, ScanResult]]
    p_values: dict[str, dict[str, np.ndarray]] | None

    @classmethod
    def join(cls, evaluations: Sequence[Evaluation]) -> Evaluation:
        """Put evaluations of the same sets in different spaces together."""
        calibrated = [evaluation.p_values for evaluation in evaluations if evaluation.p_values is not None]
        return cls(
            {space: n for evaluation in evaluations for space, n in evaluation.n_nodes.items()},
            _join([evaluation.scans for evaluation in evaluations]),
            _join(calibrated) if len(calibrated) == len(evaluations) else None,
        )

    def auroc(self, space: str, anomalous: str, clean: str = "clean") -> Auroc:
        """Return how well the scores of one set are told from those of another."""
        return auroc(self.scans[clean][space].scores, self.scans[anomalous][space].scores)

    def write_scores(self, path: Path | str, false_positive_rate: float = 0.05) -> None:
        """Write one line for each image and space: set, index, space, score, alpha, size, p_value, flagged.

        Flagged is 1 where the p-value is at most the false positive rate, and 0 elsewhere; without calibration both
        columns are empty. Combined p-values come last, with neither score, alpha nor size.
        """
        header = ["set", "index", "space", "score", "alpha", "size", "p_value", "flagged"]
        write_rows(path, header, self._rows(false_positive_rate))

    def _rows(self, false_positive_rate: float) -> Iterator[dict[str, Any]]:
        for kind, scans in self.scans.items():
            p_values = {} if self.p_values is None else self.p_values[kind]
            decisions = {
                space: dict(zip(("p_value", "flagged"), decision_columns(own, false_positive_rate), strict=True))
                for space, own in p_values.items()
            }
            for space, scan in scans.items():
                columns = {"score": scan.scores.tolist(), "alpha": scan.alphas.tolist(), "size": scan.sizes.tolist()}
                columns |= decisions.get(space, {})
                for index, row in enumerate(zip(*columns.values(), strict=True)):
                    yield {"set": kind, "index": index, "space": space, **dict(zip(columns, row, strict=True))}
            if combined := decisions.get("combined"):
                for index, row in enumerate(zip(*combined.values(), strict=True)):
                    yield {"set": kind, "index": index, "space": "combined", **dict(zip(combined, row, strict=True))}


def decision_columns(p_values: np.ndarray, false_positive_rate: float) -> list[list[float]]:
    """Return the p-values, and 1 where one is at most the false positive rate, 0 elsewhere: two columns of a table."""
    return [p_values.tolist(), (p_values <= false_positive_rate).astype(int).tolist()]


def _join(found: Sequence[dict[str, dict[str, _T]]]) -> dict[str, dict[str, _T]]:
    return {kind: {space: value for part in found for space, value in part[kind].items()} for kind in found[0]}


def evaluate(scanner: ModelScanner, sets: Mapping[str, Any], combine: str | None = None) -> Evaluation:
    """Scan sets of images with a fitted scanner.

    Parameters
    ----------
    scanner : ModelScanner
    sets : mapping of str to array-like of shape (n, ...)
        Images, by the name of their set.
    combine : {"min", "fisher", "cauchy"}, optional
        Adds the spaces' combined p-values under the name "combined".

    Raises
    ------
    ValueError
        If p-values are to be combined, and the scanner is not calibrated or there is no such combination.
    """
    if combine is not None:
        if not scanner.is_calibrated:
            raise ValueError("p-values are what is combined: choose a calibration")
        combined_scores(np.ones((1, 1)), combine)  # an unknown one is refused before the scan
    scans = {kind: scanner.scan(images) for kind, images in sets.items()}
    p_values = None
    if scanner.is_calibrated:
        scores = {kind: {space: scan.scores for space, scan in found.items()} for kind, found in scans.items()}
        p_values = {kind: scanner.p_values_of(own) for kind, own in scores.items()}
    if combine is not None and p_values is not None:
        p_values = {
            kind: own | {"combined": scanner.combined_p_values_of(scores[kind], None, combine)}
            for kind, own in p_values.items()
        }
    n_nodes = {space: int(np.prod(shape)) for space, shape in scanner.node_shapes.items()}
    return Evaluation(n_nodes, scans, p_values)
