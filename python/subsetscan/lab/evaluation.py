"""Spaces x sets of images: scans, p-values, and how well attacked images are told from clean ones."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.stats import bootstrap

from .._files import whole
from ..calibration import combined_scores
from ..scanner import ModelScanner
from ..scanning import ScanResult

__all__ = [
    "Auroc",
    "Evaluation",
    "area",
    "auroc",
    "decision_columns",
    "evaluate",
    "json_text",
    "mean_auroc",
    "write_json",
]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Auroc:
    """Area under the ROC curve, with a 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def as_dict(self) -> dict[str, float]:
        """Return the three numbers under the names they have in ``summary.json``."""
        return {"auroc": self.value, "auroc_low": self.low, "auroc_high": self.high}


def auroc(clean: np.ndarray, anomalous: np.ndarray, *, n_resamples: int = 1000, seed: int = 0) -> Auroc:
    """Estimate the chance that an anomalous image scores higher than a clean one, ties counting half.

    Parameters
    ----------
    clean, anomalous : ndarray of shape (n,) and (m,)
        Scores, at least one each.
    n_resamples : int
        Bootstrap samples, drawn from the clean and the anomalous scores apart, for the percentile interval.
    seed : int

    Raises
    ------
    ValueError
        If one of them is empty.
    """
    return mean_auroc(clean, [anomalous], n_resamples=n_resamples, seed=seed)


def mean_auroc(clean: np.ndarray, anomalous: Sequence[np.ndarray], *, n_resamples: int = 1000, seed: int = 0) -> Auroc:
    """Estimate the mean of the areas of several anomalous sets beside the same clean one.

    Parameters
    ----------
    clean : ndarray of shape (n,)
    anomalous : sequence of ndarray of shape (m,)
    n_resamples, seed
        As for `auroc`.

    Raises
    ------
    ValueError
        If one of them is empty, or there is no anomalous set.
    """
    n_anomalous = [len(scores) for scores in anomalous]
    if not len(clean) or not n_anomalous or not all(n_anomalous):
        counts = ", ".join(map(str, n_anomalous)) or "0"
        raise ValueError(f"an AUROC needs scores of both kinds, got {len(clean)} clean and {counts} anomalous")
    value = float(np.mean([area(clean, scores) for scores in anomalous]))
    if min(len(clean), *n_anomalous) == 1:
        return Auroc(value, 0.0, 1.0)  # nothing to resample: such an estimate excludes nothing
    ranks = np.unique(np.concatenate([clean, *anomalous]), return_inverse=True)[1]
    interval = bootstrap(
        np.split(ranks, np.cumsum([len(clean), *n_anomalous])[:-1]),
        _mean_area_of_ranks,
        n_resamples=n_resamples,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Auroc(value, float(interval.low), float(interval.high))


def area(clean: np.ndarray, anomalous: np.ndarray) -> float:
    """Compute the area under the ROC curve alone, by sorting: the bootstrap asks for it a thousand times."""
    ordered = np.sort(clean)
    below = np.searchsorted(ordered, anomalous, side="left") + np.searchsorted(ordered, anomalous, side="right")
    return float(below.sum()) / (2 * len(clean) * len(anomalous))


def _mean_area_of_ranks(clean: np.ndarray, *anomalous: np.ndarray, axis: int) -> np.ndarray:
    return np.mean([_areas_of_ranks(clean, scores, axis) for scores in anomalous], axis=0)


def _areas_of_ranks(clean: np.ndarray, anomalous: np.ndarray, axis: int) -> np.ndarray:
    """Compute the area for many resamples at once, along the last axis: by counting, which is faster than sorting."""
    del axis
    n, m = clean.shape[-1], anomalous.shape[-1]
    rows = np.atleast_2d(clean)
    n_ranks = 1 + max(int(clean.max()), int(anomalous.max()))
    places = rows + n_ranks * np.arange(len(rows))[:, np.newaxis]
    counts = np.bincount(places.ravel(), minlength=n_ranks * len(rows)).reshape(len(rows), n_ranks)
    twice_below = 2 * counts.cumsum(axis=1) - counts
    found = np.take_along_axis(twice_below, np.atleast_2d(anomalous), axis=1).sum(axis=1) / (2 * n * m)
    return found.reshape(clean.shape[:-1])


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
        with whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["set", "index", "space", "score", "alpha", "size", "p_value", "flagged"])
            for kind, scans in self.scans.items():
                p_values = {} if self.p_values is None else self.p_values[kind]
                decisions = {space: decision_columns(own, false_positive_rate) for space, own in p_values.items()}
                for space, scan in scans.items():
                    columns = scan.scores.tolist(), scan.alphas.tolist(), scan.sizes.tolist()
                    rows = zip(*columns, *decisions.get(space, [[""] * len(scan)] * 2), strict=True)
                    writer.writerows([kind, index, space, *row] for index, row in enumerate(rows))
                combined = zip(*decisions.get("combined", [[], []]), strict=True)
                writer.writerows([kind, index, "combined", "", "", "", *row] for index, row in enumerate(combined))


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
        p_values = {
            kind: scanner.p_values_of({space: scan.scores for space, scan in found.items()})
            for kind, found in scans.items()
        }
    if combine is not None and p_values is not None:
        p_values = {kind: own | {"combined": scanner.combine(own, combine)} for kind, own in p_values.items()}
    n_nodes = {space: int(np.prod(shape)) for space, shape in scanner.node_shapes.items()}
    return Evaluation(n_nodes, scans, p_values)


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON file, as `json_text` lays it out, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(json_text(content) + "\n", encoding="utf-8")


def json_text(content: Mapping[str, Any]) -> str:
    """Lay out JSON that people can read. JSON has no NaN: null stands for it."""
    return json.dumps(_without_nan(content), indent=2, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
