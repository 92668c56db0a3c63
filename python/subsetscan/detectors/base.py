"""What all detectors share: the fit on clean inputs, calibration, decisions. How to score is each one's own."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from .. import _core
from .._random import RandomState
from .._validation import InvalidTypeError, refuse_masked, rounded
from ..calibration import (
    CALIBRATIONS,
    Plan,
    check_scores,
    conformal_p_values,
    extrapolated_null_p_values,
    extrapolated_p_values,
    null_p_values,
    plan,
    score_threshold,
)
from ..persistence import Persistent, State, check_plain, pack_attributes, unpack_attributes
from ..scanning import ScanResult
from .batches import Calibration, CollectedFit, Fit, StreamedCalibration, one_each

__all__ = [
    "DTYPES",
    "CalibratedDetector",
    "Detector",
    "check_labels",
    "unchanged_on_error",
    "warn_of_few",
]

_KNOWN: Mapping[str, tuple[Any, ...]] = {
    "statistic": _core.STATISTICS,
    "tail": _core.TAILS,
    "scope": _core.SCOPES,
    "ties": _core.TIES,
    "calibration": CALIBRATIONS,
}
DTYPES = (np.float64, np.float32, np.float16)
_ROWS_AT_ONCE = 1024


class Detector(Persistent, OutlierMixin, BaseEstimator):
    """A detector that is fitted on clean inputs, in memory or in batches, and gives calibrated p-values.

    Attributes
    ----------
    needs_labels : bool
        Whether each input comes with a label, `y`. Other detectors ignore it.
    scores_by_label : bool
        Whether an input that is not one of the fit needs its label too, where the clean ones do.
    leaves_one_out : bool
        Whether the background alone tells the fit the scores of its inputs, each left out in turn.
    least_score : float
        No score is lower.
    """

    needs_labels: ClassVar[bool] = False
    scores_by_label: ClassVar[bool] = True
    leaves_one_out: ClassVar[bool] = False
    least_score: ClassVar[float] = -math.inf
    calibration: str | None
    calibration_fraction: float
    false_positive_rate: float

    @property
    def finds_subsets(self) -> bool:
        """Whether there is a method `scan`, as `SubsetScanDetector` has it."""
        return hasattr(self, "scan")

    @abstractmethod
    def plan(self, n_samples: int, y: Any = None) -> Plan:
        """Share out clean inputs between background and calibration; see `subsetscan.calibration.plan`."""

    @abstractmethod
    def start_fit(self, shares: Plan, y: Any = None) -> Fit:
        """Begin a fit whose inputs come in batches.

        Parameters
        ----------
        shares : Plan
            What `plan` returned.
        y : array-like of shape (n,), optional
            The labels of all clean inputs.
        """

    @abstractmethod
    def start_calibration(self) -> Calibration:
        """Begin to `calibrate` with inputs that come in batches."""

    @abstractmethod
    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:
        """Compute the score of each input, float64 of shape (N,): higher is more anomalous."""

    @abstractmethod
    def p_values_of(self, scores: np.ndarray, y: Any = None, *, extrapolate: bool | str = False) -> np.ndarray:
        """Compute the calibrated p-values of scores that this detector gave, float64 of shape (N,).

        Parameters
        ----------
        scores : ndarray of shape (N,)
        y : array-like of shape (N,), optional
            The labels, for a detector that needs labels.
        extrapolate : bool or "few", default False
            Whether p-values go on below 1 / (n + 1), to be combined; also where null scores are few, for a minimum:
            `of_few` of `calibration.extrapolated_p_values`.

        Raises
        ------
        ValueError
            If the detector was not calibrated.
        """

    @abstractmethod
    def null_p_values(self, *, extrapolate: bool | str = False) -> np.ndarray:
        """Compute the p-value of each input that calibrates, among themselves, float64 of shape (n,)."""

    @abstractmethod
    def decisions_of(self, scores: np.ndarray, y: Any = None) -> np.ndarray:
        """Compute the `decision_function` of scores that this detector gave, float64 of shape (N,)."""

    @property
    @abstractmethod
    def is_calibrated(self) -> bool:
        """Whether there are null scores, and so p-values."""

    @abstractmethod
    def warn_of_few_null_scores(self) -> None:
        """Warn if there are too few null scores for a p-value of at most the false positive rate."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Build the background from clean inputs, and calibrate.

        Parameters
        ----------
        X : array-like of shape (n, J)
            Node values of clean inputs: all of them, there is no share of outliers to be guessed.
        y : array-like of shape (n,), optional
            The label of each, for a detector that needs labels.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, there are too few inputs, or a parameter has an invalid value.
        """
        refuse_masked(X, "node values")
        with unchanged_on_error(self):
            X = validate_data(self, X, dtype=DTYPES)
            y = check_labels(y) if self.needs_labels else None
            check_consistent_length(X, y)
            shares = self.plan(len(X), y)
            fit = self.start_fit(shares, y)
            for rows in _some_at_once(shares.background):
                fit.add_background(X[rows], None if y is None else y[rows])
            for rows in _some_at_once(shares.calibration):
                fit.add_calibration(X[rows], None if y is None else y[rows])
            fit.finish()
            self.warn_of_few_null_scores()
        return self

    def calibrate(self, X: Any, y: Any = None) -> Self:
        """Take the scores of your own clean inputs, which must not be in the background, as null scores.

        Parameters
        ----------
        X : array-like of shape (n, J)
        y : array-like of shape (n,), optional
            As for `fit`.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, the number of nodes is not that of the background, or there is no input.
        sklearn.exceptions.NotFittedError
            Before `fit`; ``calibration=None`` leaves all clean inputs of the fit to the background.
        """
        with unchanged_on_error(*self.with_parts()):
            calibration = self.start_calibration()
            calibration.add(X, y)
            calibration.finish()
            self.warn_of_few_null_scores()
        return self

    def p_values(self, X: Any, y: Any = None) -> np.ndarray:
        """Compute the calibrated p-value of each input, float64 of shape (N,): the share of clean inputs like it.

        Raises
        ------
        ValueError
            As for `anomaly_score`, and if the detector was not calibrated.
        """
        return self.p_values_of(one_each(self.anomaly_score(X, y), X), y)

    def score_samples(self, X: Any, y: Any = None) -> np.ndarray:
        """Compute the opposite of the anomaly score, float64 of shape (N,): in scikit-learn lower is worse."""
        return -one_each(self.anomaly_score(X, y), X)

    def decision_function(self, X: Any, y: Any = None) -> np.ndarray:
        """Compute the threshold minus the score of each input, float64 of shape (N,): negative for what is flagged.

        In scikit-learn's words `score_samples` minus `offset_`. Raises and warns as `predict` does.
        """
        decisions = self.decisions_of(one_each(self.anomaly_score(X, y), X), y)
        self.warn_of_few_null_scores()
        return decisions

    def predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Flag inputs whose calibrated p-value is at most `false_positive_rate`.

        Returns
        -------
        ndarray of shape (N,), int
            -1 for those, 1 for the others.

        Raises
        ------
        ValueError
            As for `p_values`.

        Warns
        -----
        UserWarning
            If the rate is below 1 / (n + 1), the smallest p-value that n null scores can give: nothing is flagged.
        """
        return np.where(self.decision_function(X, y) >= 0, 1, -1)

    def with_parts(self) -> list[Detector]:
        """List the detector and the fitted detectors within it."""
        return [self]

    def check_values(self, X: Any) -> np.ndarray:
        """Take rows of nodes for a fitted detector: their number and their names are those of the fit.

        Where the detector has a ``dtype_``, that of its fit, finer values are rounded to it. Coarser ones are refused:
        they would not equal the values that they were rounded from.
        """
        check_is_fitted(self)
        refuse_masked(X, "node values")
        if not self._is_valid(X):
            X = validate_data(self, X, dtype=DTYPES, reset=False, ensure_min_samples=0)
        if (dtype := getattr(self, "dtype_", None)) is None:
            return X
        if len(X) and X.dtype.itemsize < np.dtype(dtype).itemsize:
            raise InvalidTypeError(
                f"{type(self).__name__} was fitted on {dtype} and cannot compare {X.dtype} with it: fit it on {X.dtype}"
            )
        return rounded(X, np.dtype(dtype))

    def _is_valid(self, X: Any) -> bool:
        """Tell whether `validate_data`, which takes longer than a scan of one input, would return `X` as it is."""
        return (
            type(X) is np.ndarray
            and X.dtype in DTYPES
            and X.dtype.isnative
            and X.ndim == 2
            and X.shape[1] == getattr(self, "n_features_in_", -1)
            and not hasattr(self, "feature_names_in_")
            and bool(np.isfinite(X).all())
        )

    def _take_feature_names(self, description: Mapping[str, Any]) -> None:
        if names := description.get("feature_names"):
            if len(names) != self.n_features_in_ or not all(isinstance(name, str) for name in names):
                raise ValueError(f"{self.n_features_in_} nodes must have as many names, got {names!r:.80}")
            self.feature_names_in_ = np.asarray(names, dtype=object)


class CalibratedDetector(Detector):
    """A detector whose decisions come from the scores of clean inputs.

    Attributes
    ----------
    null_scores_ : ndarray of shape (n,), float64
        Scores of the clean inputs that calibrate, in their order; empty without calibration.
    offset_ : float
        `decision_function` is `score_samples` minus this: it follows `false_positive_rate`.
    n_features_in_ : int
        Number of nodes.
    """

    null_scores_: np.ndarray
    dtype_: str
    random_state: RandomState

    def plan(self, n_samples: int, y: Any = None) -> Plan:  # noqa: D102 (the base says it, as for those below)
        del y
        return plan(n_samples, self.calibration, self.calibration_fraction, self.random_state)

    def start_calibration(self) -> Calibration:  # noqa: D102
        return StreamedCalibration(self)

    def p_values_of(self, scores: np.ndarray, y: Any = None, *, extrapolate: bool | str = False) -> np.ndarray:  # noqa: D102
        del y
        check_is_fitted(self)
        self._check_calibrated()
        if extrapolate:
            return extrapolated_p_values(scores, self.null_scores_, of_few=extrapolate == "few")
        return conformal_p_values(scores, self.null_scores_)

    def with_p_values(self, found: ScanResult) -> ScanResult:
        """Return what this detector's scan found, with p-values if it is calibrated."""
        return replace(found, p_values=self.p_values_of(found.scores)) if self.is_calibrated else found

    def null_p_values(self, *, extrapolate: bool | str = False) -> np.ndarray:  # noqa: D102
        check_is_fitted(self)
        self._check_calibrated()
        if extrapolate:
            return extrapolated_null_p_values(self.null_scores_, of_few=extrapolate == "few")
        return null_p_values(self.null_scores_)

    def decisions_of(self, scores: np.ndarray, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        check_is_fitted(self)
        self._check_calibrated()
        return -check_scores(scores) - self.offset_

    @property
    def offset_(self) -> float:  # noqa: D102 (the class says it)
        # The threshold is a score that a flagged input exceeds; scikit-learn's signs turn it round.
        return -score_threshold(self.null_scores_, self.false_positive_rate)

    @property
    def is_calibrated(self) -> bool:  # noqa: D102
        return len(self.null_scores_) > 0

    def warn_of_few_null_scores(self) -> None:  # noqa: D102
        warn_of_few(len(self.null_scores_), self.false_positive_rate)

    def start_fit(self, shares: Plan, y: Any = None) -> Fit:  # noqa: D102
        del y
        return CollectedFit(self, shares)

    def fit_background(self, X: np.ndarray) -> np.ndarray | None:
        """Set what `anomaly_score` needs, from the node values of the background: attributes that end in "_".

        What a detector of your own defines, beside `anomaly_score`, which begins with ``X = self.check_values(X)``.

        Returns
        -------
        ndarray of shape (n,), float64, or None
            With ``leaves_one_out = True`` the scores of these inputs, each as if it had been left out.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fit_background, or start_fit")

    def take_background(self, X: np.ndarray) -> np.ndarray:
        """Fit on the background alone, and return the scores of its inputs, each left out; none if it cannot."""
        self.n_features_in_, self.dtype_, self.null_scores_ = X.shape[1], X.dtype.name, np.empty(0)
        left_out = self.fit_background(X)
        return np.empty(0) if left_out is None else left_out

    def _state(self) -> State:
        description, tensors = self._common_state()
        common = (*description["parameters"], "null_scores_", "n_features_in_", "feature_names_in_")
        fitted = {name: value for name, value in vars(self).items() if name not in common}
        if lost := [name for name in fitted if not name.endswith("_")]:
            raise InvalidTypeError(
                f"{type(self).__name__} cannot be saved: its attribute {lost[0]} would be lost; what a fit finds must "
                'have a name that ends in "_"'
            )
        try:
            check_plain(description["parameters"])
            own, arrays = pack_attributes(fitted)
        except InvalidTypeError as error:
            raise InvalidTypeError(f"{type(self).__name__} cannot be saved: {error}") from None
        return description | own | {"n_features": self.n_features_in_}, tensors | arrays

    def _common_state(self) -> State:
        """Return the state that all these detectors have in common."""
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        if not isinstance(parameters["random_state"], int | np.integer):
            parameters["random_state"] = None
        description = {
            "kind": self.kind(),
            "parameters": parameters,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        return description, {"null_scores": self.null_scores_}

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CalibratedDetector:
        detector = cls._new(description, tensors)
        for name, known in _KNOWN.items():
            if (value := getattr(detector, name, known[0])) not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r:.80}")
        detector._take_saved_null_scores(tensors["null_scores"])
        if cls.is_own():
            detector._check_scoring(sum(array.size for array in tensors.values()))
        detector._take_feature_names(description)
        return detector

    def _check_scoring(self, n_values: int) -> None:
        """Refuse a state of so many values that cannot score an input: its parts do not fit each other.

        Raises
        ------
        Exception
            Of any kind: what scoring raises, or ValueError.
        """
        n = self.n_features_in_
        if type(n) is not int or not 0 < n <= n_values:
            raise ValueError(f"{n!r:.80} nodes need at least as many values, but the arrays have {n_values}")
        alike_and_not = np.outer([0.0, 1.0], np.linspace(0, 1, n))
        if np.isnan(self.anomaly_score(alike_and_not)).any():
            raise ValueError("it gives scores that are NaN")

    @classmethod
    def _new(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CalibratedDetector:
        """Make a detector of this kind from its state, but for the null scores."""
        detector = cls(**description["parameters"])
        detector._take_attributes(unpack_attributes(description, tensors))
        detector.n_features_in_ = description["n_features"]
        return detector

    def _take_null_scores(self, null_scores: np.ndarray) -> None:
        score_threshold(null_scores, self.false_positive_rate)  # NaN, or a rate that is out of range, is refused now
        self.null_scores_ = null_scores

    def _take_saved_null_scores(self, null_scores: np.ndarray) -> None:
        """Take null scores of a file. Raises ValueError for what no fit gives."""
        if null_scores.ndim != 1 or null_scores.dtype != np.float64 or not np.isfinite(null_scores).all():
            raise ValueError("the null scores are not a row of finite numbers")
        if null_scores.min(initial=np.inf) < self.least_score:
            raise ValueError(f"no score is below {self.least_score:g}, got a null score of {null_scores.min():g}")
        self._take_null_scores(null_scores)

    def _check_calibrated(self) -> None:
        if not len(self.null_scores_):
            raise ValueError(
                "calibration=None gives scores only; fit with 'holdout' or 'leave-one-out' to decide, or call calibrate"
            )


def warn_of_few(n_null_scores: int, false_positive_rate: float) -> None:
    """Warn if not even the highest score can have a p-value of at most the rate."""
    n = n_null_scores
    if n and np.isinf(score_threshold(np.zeros(n), false_positive_rate)):
        warnings.warn(
            f"{n} null scores cannot give a p-value of at most {false_positive_rate}: the smallest is "
            f"1 / ({n} + 1) = {1 / (n + 1):.3g}; calibrate with at least {math.ceil(1 / false_positive_rate) - 1} "
            "clean inputs, or ask for a higher false_positive_rate; predict will flag nothing",
            stacklevel=4,
        )


def check_labels(y: Any, n_samples: int | None = None) -> np.ndarray:
    """Take labels, one an input. Raises ValueError for another number of them, or one that is missing."""
    if y is None:
        raise ValueError("each input needs a label: y is missing")
    refuse_masked(y, "labels")
    y = column_or_1d(y)
    if n_samples is not None and len(y) != n_samples:
        raise ValueError(f"{n_samples} inputs but {len(y)} labels")
    missing = np.array([label is None or label != label for label in y.tolist()], dtype=bool)  # NaN is not itself
    if missing.any():
        first = int(missing.argmax())
        raise ValueError(f"each input needs a label, that of input {first} is {'NaN' if y[first] else 'missing'}")
    if len(kinds := {type(label).__name__ for label in y.tolist()}) > 1:
        raise InvalidTypeError(f"labels must be of one type, got {' and '.join(sorted(kinds))}")
    return y


@contextmanager
def unchanged_on_error(*objects: Any) -> Iterator[None]:
    """Give objects their attributes back where something in the block fails."""
    before = [dict(vars(one)) for one in objects]
    try:
        yield
    except BaseException:
        for one, attributes in zip(objects, before, strict=True):
            vars(one).clear()
            vars(one).update(attributes)
        raise


def _some_at_once(rows: np.ndarray) -> list[np.ndarray]:
    """Split row numbers so that picking them copies little at a time."""
    return [rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE)]
