"""The mean of an image's node values as a detector: of a space with one node, that node."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._random import RandomState
from ...calibration import Plan
from ...detectors import CalibratedDetector
from ...detectors.batches import Fit

__all__ = ["MeanValue"]


class MeanValue(CalibratedDetector):
    """Detect images whose node values are high on average. Nothing is fitted, so that every clean image calibrates.

    Parameters
    ----------
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    Examples
    --------
    >>> MeanValue().fit(np.arange(40).reshape(20, 2)).predict([[100, 0], [20, 18]])
    array([-1,  1])
    """

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

    def start_fit(self, shares: Plan, y: Any = None) -> Fit:  # noqa: D102 (the base says it, as for the other)
        del shares, y
        return _MeanFit(self)

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        return _means(self.check_values(X))


class _MeanFit:
    """A fit of `MeanValue`, batch by batch; see `subsetscan.detectors.base.Fit`."""

    def __init__(self, detector: MeanValue) -> None:
        self._detector = detector
        self._n_features = 0
        self._null_scores: list[np.ndarray] = []

    def add_background(self, X: np.ndarray, y: Any = None) -> None:
        del y
        self._n_features = X.shape[1]

    def add_calibration(self, X: np.ndarray, y: Any = None) -> None:
        del y
        self._null_scores.append(_means(X))

    def finish(self) -> MeanValue:
        self._detector.n_features_in_ = self._n_features
        self._detector._take_null_scores(np.concatenate([*self._null_scores, np.empty(0)]))
        return self._detector


def _means(X: np.ndarray) -> np.ndarray:
    return X.mean(axis=1, dtype=np.float64)
