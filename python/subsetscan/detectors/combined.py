"""Several detectors over the same nodes, whose p-values are combined and calibrated again: both tails, say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .._random import RandomState
from ..calibration import Plan
from ..combination import combined
from ..persistence import State, pack, unpack
from .base import CalibratedDetector, Detector
from .batches import Calibration, Fit

__all__ = ["CombinedDetector"]


class CombinedDetector(CalibratedDetector):
    """Detect inputs by the combined p-values of several detectors.

    Each is fitted and calibrated on the same clean inputs; the combination is a score of its own, with null scores of
    its own. Scans of the upper and of the lower tail combined by "min" leave to each input the tail that shows more.

    Parameters
    ----------
    detectors : sequence of detectors
        Such as `SubsetScanDetector`; clones are fitted. Their own calibration parameters are not looked at.
    combine : {"fisher+harmonic", "fisher", "harmonic", "cauchy", "min"}, default "min"
        See `subsetscan.combination.combined`.
    calibration : {"holdout", "leave-one-out"}, default "holdout"
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    detectors_ : list of detectors
    combine_ : str
        The combination, as it was when fitted.
    null_scores_ : ndarray of shape (n,), float64
        Combined scores of the clean inputs that calibrate.
    offset_ : float
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from subsetscan import SubsetScanDetector
    >>> rng = np.random.default_rng(0)
    >>> clean, low = rng.normal(size=(400, 50)), rng.normal(-1, size=(3, 50))
    >>> tails = [SubsetScanDetector(tail="upper"), SubsetScanDetector(tail="lower")]
    >>> CombinedDetector(tails, random_state=0).fit(clean).predict(low)
    array([-1, -1, -1])
    """

    def __init__(
        self,
        detectors: Sequence[CalibratedDetector],
        *,
        combine: str = "min",
        calibration: str | None = "holdout",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.detectors = detectors
        self.combine = combine
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def start_fit(self, shares: Plan, y: Any = None) -> Fit:  # noqa: D102 (the base says it)
        del y
        if not self.detectors:
            raise ValueError("at least one detector is needed, got none")
        if self.calibration is None:
            raise ValueError("p-values are what is combined: calibration must be 'holdout' or 'leave-one-out'")
        combined(np.ones((1, 1)), np.ones((1, 1)), self.combine)
        return _CombinedFit(self, shares)

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        scores = [detector.anomaly_score(X) for detector in self.detectors_]
        pairs = zip(self.detectors_, scores, strict=True)
        own = np.column_stack([part.p_values_of(scores, extrapolate=self._extrapolate()) for part, scores in pairs])
        return combined(own, self._null_p_values(), self.combine_)[0]

    def start_calibration(self) -> Calibration:  # noqa: D102
        return _CombinedCalibration(self)

    def with_parts(self) -> list[Detector]:  # noqa: D102
        return [self, *(one for part in self.detectors_ for one in part.with_parts())]

    def _take_combined(self) -> None:
        null = self._null_p_values()
        self._take_null_scores(combined(null, null, self.combine_)[1])

    def _null_p_values(self) -> np.ndarray:
        return np.column_stack([part.null_p_values(extrapolate=self._extrapolate()) for part in self.detectors_])

    def _extrapolate(self) -> bool | str:
        return "few" if self.combine_ == "min" else True

    def _state(self) -> State:
        description, tensors = self._common_state()
        del description["parameters"]["detectors"]
        parts, arrays = pack(self.detectors_)
        return description | parts | {"combine": self.combine_}, tensors | arrays

    @classmethod
    def _new(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CombinedDetector:
        parts = unpack(description, tensors)
        detector = cls([clone(part) for part in parts], **description["parameters"])
        detector._take_detectors(parts, description.get("combine", detector.combine))
        return detector

    def _take_detectors(self, detectors: list[CalibratedDetector], combine: str) -> None:
        self.detectors_ = detectors
        self.combine_ = combine
        self.n_features_in_ = detectors[0].n_features_in_


class _CombinedFit:
    """The fits of all detectors side by side."""

    def __init__(self, detector: CombinedDetector, shares: Plan) -> None:
        self._detector = detector
        self._combine = detector.combine
        shared = ("calibration", "calibration_fraction", "false_positive_rate", "random_state")
        parameters = {name: getattr(detector, name) for name in shared}
        self._fits = [clone(part).set_params(**parameters).start_fit(shares) for part in detector.detectors]

    def add_background(self, X: np.ndarray, y: Any = None) -> None:
        del y
        for fit in self._fits:
            fit.add_background(X)

    def add_calibration(self, X: np.ndarray, y: Any = None) -> None:
        del y
        for fit in self._fits:
            fit.add_calibration(X)

    def finish(self) -> CombinedDetector:
        self._detector._take_detectors([fit.finish() for fit in self._fits], self._combine)
        self._detector._take_combined()
        return self._detector


class _CombinedCalibration:
    """The calibrations of all detectors side by side, then that of their combination."""

    def __init__(self, detector: CombinedDetector) -> None:
        check_is_fitted(detector)
        self._detector = detector
        self._parts = [part.start_calibration() for part in detector.detectors_]

    def add(self, X: Any, y: Any = None) -> None:
        del y
        X = self._detector.check_values(X)
        for part in self._parts:
            part.add(X)

    def finish(self) -> None:
        for part in self._parts:
            part.finish()
        self._detector._take_combined()
