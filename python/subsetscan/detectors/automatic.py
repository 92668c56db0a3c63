"""The default detector: nothing to choose, nothing to know about the anomaly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .._random import RandomState
from ..background import Background
from ..combination import combined_scores
from ..residuals import within_sample_ranks
from ..scanning import ScanResult
from .base import CalibratedDetector
from .neighbor import NearestNeighborDetector
from .residual_scan import ResidualScanDetector

__all__ = ["AutomaticDetector"]

_POINTING = 0.02  # alpha_max of the scan that points


class AutomaticDetector(CalibratedDetector):
    """Detect images by three parts that complement each other, with nothing to choose.

    1. A two-sided scan of the residuals of within-sample ranks: each node given all others (`ResidualScanDetector`).
    2. The same of the values.
    3. The distance to the nearest clean image (`NearestNeighborDetector`).

    Each part's score becomes a p-value among the scores of the clean images, each of which is left out in turn, with an
    exponential tail; Fisher's sum of the three is the score. It is calibrated as a score of its own.

    Where an anomaly lies is told by a scan of its own, which points at few nodes: of within-sample ranks, two-sided,
    against all nodes.

    Parameters
    ----------
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
        As for `SubsetScanDetector`.
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    parts_ : list of detectors
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> mix = rng.normal(size=(5, 40))
    >>> clean, changed = (rng.normal(size=(n, 5)) @ mix + rng.normal(size=(n, 40)) for n in (400, 3))
    >>> changed[:, :6] += 3
    >>> detector = AutomaticDetector().fit(clean)
    >>> detector.predict(changed)
    array([-1, -1, -1])
    """

    leaves_one_out = True

    def __init__(
        self,
        *,
        calibration: str | None = "leave-one-out",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X: np.ndarray) -> np.ndarray:  # noqa: D102 (the base says it, as for those below)
        self.parts_ = [ResidualScanDetector(of="ranks"), ResidualScanDetector(of="values"), NearestNeighborDetector()]
        for part in self.parts_:
            part._take_null_scores(part.take_background(X))
        # The smallest p-value of a two-sided scan is 2 / (n + 1).
        largest = min(max(_POINTING, 4 / (len(X) + 1)), 1.0)
        self.where_ = Background(within_sample_ranks(X).astype(np.float32), "two-sided", largest)
        return combined_scores(
            np.column_stack([part.null_p_values(extrapolate=True) for part in self.parts_]), "fisher"
        )

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        scores = [part.anomaly_score(X) for part in self.parts_]
        pairs = zip(self.parts_, scores, strict=True)
        return combined_scores(
            np.column_stack([part.p_values_of(own, extrapolate=True) for part, own in pairs]), "fisher"
        )

    def scan(self, X: Any, y: None = None, *, return_nodes: bool = False) -> ScanResult:
        """Score images, and point at the nodes that tell most of what is odd about each.

        Parameters
        ----------
        X : array-like of shape (N, J)
        y : None
            Ignored.
        return_nodes : bool

        Returns
        -------
        ScanResult
            With the scores of `anomaly_score`; thresholds, sizes and subsets are those of the scan that points.

        Raises
        ------
        ValueError
            As for `anomaly_score`.
        """
        del y
        X = self.check_values(X)
        ranks = within_sample_ranks(X).astype(np.float32)
        largest = self.where_.alpha_max
        found = self.where_.scan(ranks, tail="two-sided", alpha_max=largest, scope="all", return_nodes=return_nodes)
        return replace(found, scores=self.anomaly_score(X))

    def leading(self, X: Any, y: None = None) -> ScanResult:
        """Return what `scan` does, with the subsets: they are few nodes as they are."""
        return self.scan(X, y, return_nodes=True)
