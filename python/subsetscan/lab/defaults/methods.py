"""What is compared: the automatic detector, its parts, and the detectors that one would take otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...detectors import (
    AutomaticDetector,
    CalibratedDetector,
    MahalanobisDetector,
    NearestNeighborDetector,
    SubsetScanDetector,
)

__all__ = ["AUTOMATIC", "METHODS", "PAPER", "PART", "RIVAL", "RIVALS", "LayerScores", "Method", "score_layer"]

PART, RIVAL = "part", "rival"


@dataclass(frozen=True)
class Method:
    """A detector that is compared.

    Attributes
    ----------
    role : str
        Whether it is a part of the automatic detector, a rival of it, or neither.
    about : str
        What it does, and its options.
    """

    role: str
    about: str


def _neighbors(k: int, metric: str) -> Callable[[], CalibratedDetector]:
    return lambda: NearestNeighborDetector(n_neighbors=k, metric=metric, scale=False)


AUTOMATIC, PAPER = "automatic", "paper's scan"
_METRICS = {"cosine": "cosine", "Euclid": "euclidean"}

_RIVALS: Mapping[str, tuple[Callable[[], CalibratedDetector], str]] = {
    f"{counted}, {name}": (
        _neighbors(k, metric),
        f"`NearestNeighborDetector(n_neighbors={k}, metric={metric!r}, scale=False)`",
    )
    for name, metric in _METRICS.items()
    for k, counted in ((1, "1 neighbour"), (10, "10 neighbours"), (50, "50 neighbours"))
} | {
    "Mahalanobis": (MahalanobisDetector, "`MahalanobisDetector()`"),
    "Mahalanobis of ranks": (lambda: MahalanobisDetector(of="ranks"), "`MahalanobisDetector(of='ranks')`"),
}
RIVALS = tuple(_RIVALS)

# In the order of `AutomaticDetector.part_scores`.
_PARTS = {
    "scan of ranks": "the scan of the residuals of within-sample ranks, alone",
    "scan of values": "the scan of the residuals of values, alone",
    "distance of ranks": "the distance of within-sample ranks by the scan's covariance, alone",
    "distance of values": "the distance of values by the scan's covariance, alone; it counts a tenth of the others",
    "nearest, scaled": "the cosine distance to the nearest clean row in units of standard deviations, alone",
}

METHODS: Mapping[str, Method] = {
    AUTOMATIC: Method("", "`AutomaticDetector()`"),
    **{name: Method(PART, about) for name, about in _PARTS.items()},
    **{name: Method(RIVAL, about) for name, (_, about) in _RIVALS.items()},
    PAPER: Method("", "`SubsetScanDetector(calibration='leave-one-out')`: the paper's options"),
}


class LayerScores(NamedTuple):
    """The scores of one layer by every method, with a column for each of `METHODS`.

    Attributes
    ----------
    null : ndarray of shape (M, K), float64
        Of the background, each row left out in turn.
    own : ndarray of shape (N, K), float64
    """

    null: np.ndarray
    own: np.ndarray


def score_layer(background: np.ndarray, rows: np.ndarray) -> LayerScores:
    """Fit every method on the background, and score rows.

    Parameters
    ----------
    background : ndarray of shape (M, J)
    rows : ndarray of shape (N, J)
    """
    automatic = AutomaticDetector().fit(background)
    null = {AUTOMATIC: automatic.null_scores_} | dict(zip(_PARTS, automatic.part_null_scores_.T, strict=True))
    own = {AUTOMATIC: automatic.anomaly_score(rows)} | dict(zip(_PARTS, automatic.part_scores(rows).T, strict=True))
    for name, make in ({name: make for name, (make, _) in _RIVALS.items()} | {PAPER: _paper}).items():
        detector = make().fit(background)
        null[name], own[name] = detector.null_scores_, detector.anomaly_score(rows)
    return LayerScores(*(np.column_stack([found[name] for name in METHODS]) for found in (null, own)))


def _paper() -> CalibratedDetector:
    return SubsetScanDetector(calibration="leave-one-out")
