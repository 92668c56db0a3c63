"""Any outlier detector of scikit-learn or PyOD, calibrated and used as the others are."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from .._random import RandomState
from .._validation import InvalidTypeError
from .base import CalibratedDetector

__all__ = ["OutlierDetector"]

_FEW = 8  # rows by which to see whether an estimator scores each alone


class OutlierDetector(CalibratedDetector):
    """Detect inputs by an estimator of scikit-learn or PyOD, with calibrated p-values.

    The estimator sees the background's node values, all in memory. It cannot be saved, for that takes a pickle. Values
    are compared in the type of the fit, so inputs of a coarser type are refused. An estimator whose scores depend on
    the rows beside, as PyOD's ECOD and COPOD, is asked for one row at a time, which takes longer.

    Parameters
    ----------
    estimator : object
        Fitted by ``fit(X)``; scored by ``score_samples`` or ``decision_function``, where lower is more anomalous, as in
        scikit-learn, or by the ``decision_function`` of PyOD, where higher is. A clone is fitted.
    calibration : {"holdout", None}, default "holdout"
        Leaving one input out would take as many fits as there are inputs.
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`. An estimator that draws has a ``random_state`` of its own.

    Attributes
    ----------
    estimator_ : object
        The fitted estimator.
    scores_alone_ : bool
        Whether it is asked for one row at a time.
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    Raises
    ------
    TypeError
        In `fit`, if the estimator neither has ``score_samples`` nor ``decision_function``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> rng = np.random.default_rng(0)
    >>> clean, attacked = rng.normal(size=(400, 50)), rng.normal(2, size=(3, 50))
    >>> OutlierDetector(IsolationForest(random_state=0), random_state=0).fit(clean).predict(attacked)
    array([-1, -1, -1])
    """

    def __init__(
        self,
        estimator: Any,
        *,
        calibration: str | None = "holdout",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X: np.ndarray) -> None:  # noqa: D102 (the base says it, as for the other)
        if not any(hasattr(self.estimator, name) for name in ("score_samples", "decision_function")):
            raise InvalidTypeError(
                "expected an outlier detector with score_samples or decision_function, got "
                f"{type(self.estimator).__name__}"
            )
        self.estimator_ = clone(self.estimator).fit(_at_least_single(X))
        few = X[:_FEW]
        alone = np.concatenate([self._scores(few[n : n + 1]) for n in range(len(few))])
        self.scores_alone_ = not np.allclose(alone, self._scores(few))

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        size = 1 if self.scores_alone_ else max(len(X), 1)
        return np.concatenate([np.empty(0), *(self._scores(X[n : n + size]) for n in range(0, len(X), size))])

    def _scores(self, X: np.ndarray) -> np.ndarray:
        X = _at_least_single(X)
        if hasattr(self.estimator_, "decision_scores_"):  # of PyOD: the scores of the training data, higher is worse
            scores = self.estimator_.decision_function(X)
        elif hasattr(self.estimator_, "score_samples"):
            scores = -self.estimator_.score_samples(X)
        else:
            scores = -self.estimator_.decision_function(X)
        return np.asarray(scores, dtype=np.float64).reshape(len(X))


def _at_least_single(X: np.ndarray) -> np.ndarray:
    """Take half precision, which few estimators do, as single precision: the same values."""
    return X.astype(np.float32) if X.dtype == np.float16 else X
