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

__all__ = [
    "AUTOMATIC", "METHODS", "PAPER", "PART", "RIVAL", "RIVALS", "LayerScores", "Method", "Scores", "score_layer",
]  # fmt: skip

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
    make : callable, optional
        Makes the detector; None for a part, which the automatic detector gives.
    """

    role: str
    about: str
    make: Callable[[], CalibratedDetector] | None = None


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
    AUTOMATIC: Method("", "`AutomaticDetector()`", AutomaticDetector),
    **{name: Method(PART, about) for name, about in _PARTS.items()},
    **{name: Method(RIVAL, about, make) for name, (make, about) in _RIVALS.items()},
    PAPER: Method(
        "",
        "`SubsetScanDetector(calibration='leave-one-out')`: the paper's options",
        lambda: SubsetScanDetector(calibration="leave-one-out"),
    ),
}


class Scores(NamedTuple):
    """The scores of one method.

    Attributes
    ----------
    null : ndarray of shape (m,), float64
        Of the background, each row left out in turn, or of the part of it that was held out.
    own : ndarray of shape (N,), float64
    """

    null: np.ndarray
    own: np.ndarray


LayerScores = dict[str, Scores]  # by method


def score_layer(background: np.ndarray, rows: np.ndarray, methods: Mapping[str, Method] = METHODS) -> LayerScores:
    """Fit every method on the background, and score rows.

    Parameters
    ----------
    background : ndarray of shape (M, J)
    rows : ndarray of shape (N, J)
    methods : mapping of str to Method
    """
    found = {}
    for name, method in methods.items():
        if method.make is None:
            continue
        detector = method.make().fit(background)
        found[name] = Scores(detector.null_scores_, detector.anomaly_score(rows))
        if isinstance(detector, AutomaticDetector) and any(one.role == PART for one in methods.values()):
            parts = zip(_PARTS, detector.part_null_scores_.T, detector.part_scores(rows).T, strict=True)
            found |= {part: Scores(null, own) for part, null, own in parts}
    return {name: found[name] for name in methods}
