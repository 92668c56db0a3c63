"""An input among every class: the class for which it is least anomalous counts, and clean inputs calibrate that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..calibration import has_tail
from .base import CalibratedDetector

__all__ = ["MinimumOverClasses", "pooled_null_p_values"]


class MinimumOverClasses(CalibratedDetector):
    """The part of a `ClassConditionalDetector` that scores inputs without labels.

    Parameters
    ----------
    detectors : mapping of label to CalibratedDetector
        Fitted and calibrated.
    false_positive_rate : float in (0, 1)
    """

    def __init__(self, detectors: Mapping[Any, CalibratedDetector], false_positive_rate: float) -> None:
        self.detectors = detectors
        self.false_positive_rate = false_positive_rate
        self.null_scores_ = np.empty(0)

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102 (the base says it)
        del y
        return _evidence(self._p_values(X))

    def nearest(self, X: Any) -> np.ndarray:
        """Tell the class for which each input is least anomalous, (N,)."""
        return np.asarray(list(self.detectors))[self._p_values(X).argmax(axis=1)]

    def take_clean(self, X: np.ndarray, y: np.ndarray) -> None:
        """Take as null scores those of the clean inputs that calibrated the classes, in their order, with labels."""
        p_values = self._p_values(X)
        for k, (label, detector) in enumerate(self.detectors.items()):
            p_values[y == label, k] = pooled_null_p_values(detector, "few")  # of its own null scores each is one
        self._take_null_scores(_evidence(p_values))

    def _p_values(self, X: Any) -> np.ndarray:
        """Compute the p-value of each input in each class, (N, K)."""
        return np.column_stack(
            [one.p_values_of(one.anomaly_score(X), extrapolate="few") for one in self.detectors.values()]
        )


def pooled_null_p_values(detector: CalibratedDetector, extrapolate: bool | str = True) -> np.ndarray:
    """Compute the p-value of each input that calibrates a class, to be pooled with those of other classes.

    Beside the others of its class it is one of n; a new input is one of n + 1, and its p-values are as coarse. Among
    the pooled ones, which are many, an input that is first in its class would come before all those that are first in
    theirs: with k classes of 25 an input that is second of 26 got 0.044. So these are counted in n + 1 too.
    """
    null_scores, n = detector.null_scores_, len(detector.null_scores_)
    p_values = detector.null_p_values(extrapolate=extrapolate)
    counted = extrapolate == "few" and not has_tail(null_scores, of_few=True)  # in n + 1 already
    return p_values if counted else p_values * (n / (n + 1))


def _evidence(p_values: np.ndarray) -> np.ndarray:
    return -np.log(p_values.max(axis=1))
