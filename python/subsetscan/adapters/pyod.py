"""The scan in the place of a detector of PyOD: fitted on rows without labels, outliers among them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .._extras import import_extra
from .._validation import InvalidTypeError
from ..detectors import CalibratedDetector, SubsetScanDetector
from ..detectors.base import unchanged_on_error
from ..persistence import Persistent, State, check_plain, pack_attributes, unpack_attributes

__all__ = ["SubsetScan"]

BaseDetector: Any = import_extra("pyod.models.base", "pyod").BaseDetector


class SubsetScan(Persistent, BaseDetector):
    """Find outliers among rows without labels, as PyOD's detectors do: ``labels_`` and `predict` say 1 for outliers.

    Each row is scanned against all the others, so that it does not speak for itself. `predict`, `predict_proba`,
    `predict_confidence` and `predict_with_rejection` are PyOD's own.

    Parameters
    ----------
    contamination : float in (0, 0.5], default 0.1
        The share of outliers among the rows of the fit, from which the threshold follows; or a thresholder of
        ``pyod.models.thresholds``.
    n_jobs : int, default 1
        Not used, and here because other detectors have it: a scan uses all processors, or ``RAYON_NUM_THREADS`` of
        them.
    detector : CalibratedDetector, optional
        What scores the rows, such as ``AutomaticDetector()``: one that can leave out a row at a time, with
        ``calibration="leave-one-out"``. A clone is fitted. By default a two-sided `SubsetScanDetector`.

    Attributes
    ----------
    decision_scores_ : ndarray of shape (n,), float64
        The scores of the rows of the fit, in their order, each left out; higher is more anomalous.
    threshold_ : float
        A score that an outlier exceeds.
    labels_ : ndarray of shape (n,), int
        1 for the outliers among the rows of the fit, 0 for the others.
    detector_ : CalibratedDetector
        The fitted detector. Its `scan` tells which columns make a row an outlier, its `p_values` how rare that is;
        its own `predict` knows nothing of `contamination`.

    References
    ----------
    Y. Zhao, Z. Nasrullah, Z. Li, PyOD: A Python Toolbox for Scalable Outlier Detection, JMLR 20, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(200, 10))
    >>> rows[:20] += 4
    >>> detector = SubsetScan(contamination=0.1).fit(rows)
    >>> int(detector.labels_[:20].sum()), int(detector.labels_[20:].sum())
    (20, 0)
    >>> detector.predict([[0] * 10, [4] * 10])
    array([0, 1])
    """

    def __init__(
        self, contamination: Any = 0.1, n_jobs: int | None = 1, *, detector: CalibratedDetector | None = None
    ) -> None:
        super().__init__(contamination=contamination)
        self.n_jobs = n_jobs
        self.detector = detector

    def fit(self, X: Any, y: Any = None) -> Self:
        """Score each row against all the others.

        Parameters
        ----------
        X : array-like of shape (n, J)
            Rows without labels.
        y : array-like of shape (n,), optional
            Not used; PyOD warns of it.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, there are fewer than 2 rows, `contamination` is outside (0, 0.5], or the
            detector leaves no row out.
        TypeError
            If `contamination` or `detector` is nothing of the kind.
        """
        self._check_contamination()
        fitted = self._new_detector()
        with warnings.catch_warnings():
            # That few rows cannot give a small p-value: the threshold here is another.
            warnings.filterwarnings("ignore", message=r"\d+ null scores cannot give a p-value")
            fitted.fit(X)
        with unchanged_on_error(self):
            self.detector_ = fitted
            self.decision_scores_ = fitted.null_scores_
            self._set_n_classes(y)
            self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the score of each row, float64 of shape (N,): higher is more anomalous.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, or the number or the names of the columns are not those of the fit.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "detector_")
        return self.detector_.anomaly_score(X)

    def _check_contamination(self) -> None:
        super().__init__(contamination=self.contamination)  # checks it: set_params has not
        if not isinstance(self.contamination, float | int) and not hasattr(self.contamination, "fit"):
            kind = type(self.contamination).__name__
            raise InvalidTypeError(f"contamination must be a float or a thresholder of PyOD, got a {kind}")

    def _new_detector(self) -> CalibratedDetector:
        """Make the detector to be fitted. Raises TypeError for no detector, ValueError if it leaves no row out."""
        if self.detector is None:
            return SubsetScanDetector(tail="two-sided", calibration="leave-one-out")
        if not isinstance(self.detector, CalibratedDetector):
            raise InvalidTypeError(
                f"detector must be one of subsetscan.detectors, as AutomaticDetector(), got {self.detector!r:.80}"
            )
        if self.detector.calibration != "leave-one-out":
            raise ValueError(
                "the scores of the rows of the fit are those of each row left out: the calibration of the detector "
                f"must be 'leave-one-out', got {self.detector.calibration!r}"
            )
        detector: CalibratedDetector = clone(self.detector)
        return detector

    def _state(self) -> State:
        check_is_fitted(self, "detector_")
        parameters = self.get_params(deep=False)
        attributes = {name: value for name, value in vars(self).items() if name not in parameters}
        is_default = parameters.pop("detector") is None
        try:
            check_plain(parameters)
            fitted, arrays = pack_attributes(attributes)
        except InvalidTypeError as error:
            raise InvalidTypeError(f"{type(self).__name__} cannot be saved: {error}") from None
        return {"kind": self.kind(), "parameters": parameters, "is_default": is_default} | fitted, arrays

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> SubsetScan:
        fitted = unpack_attributes(description, tensors)
        detector = None if description["is_default"] else clone(fitted["detector_"])
        loaded = cls(**description["parameters"], detector=detector)
        loaded._check_contamination()
        loaded._take_attributes(fitted)
        numbers = np.array([loaded.threshold_, *loaded.decision_scores_], np.float64)
        if (
            not isinstance(loaded.detector_, CalibratedDetector)
            or loaded.labels_.shape != loaded.decision_scores_.shape
        ):
            raise ValueError("it must hold a detector, and a label for each score")
        if not np.isfinite(numbers).all():
            raise ValueError("the threshold and the scores must be finite")
        return loaded
