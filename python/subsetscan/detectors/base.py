"""What all detectors share: the fit on clean images, calibration, decisions. How to score is each one's own."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..background import Background, BackgroundBuilder
from ..calibration import Plan, conformal_p_values, null_p_values, plan, score_threshold
from .persistence import Persistent, State

__all__ = [
    "DTYPES",
    "BackgroundDetector",
    "CalibratedDetector",
    "Calibration",
    "Fit",
    "StreamedFit",
    "check_rows",
    "some_at_once",
    "unchanged_on_error",
]

DTYPES = (np.float64, np.float32, np.float16)
_ROWS_AT_ONCE = 1024


class Fit(Protocol):
    """A fit whose images come in batches: first those of the background, then those that calibrate."""

    def add_background(self, X: np.ndarray) -> None:
        """Add clean images to the background. Raises ValueError for a NaN or another number of nodes."""

    def add_calibration(self, X: np.ndarray) -> None:
        """Score clean images against the background, which is complete with the first of them.

        Under "leave-one-out" these are the images of the background once more.
        """

    def finish(self) -> Any:
        """Complete the fit and return the detector."""


class Calibration(Protocol):
    """A calibration whose clean images come in batches; the detector changes in `finish` only."""

    def add(self, X: Any) -> None:
        """Score clean images that are not in the background."""

    def finish(self) -> None:
        """Take the scores as null scores. Raises ValueError if there are none."""


class CalibratedDetector(Persistent, OutlierMixin, BaseEstimator):
    """A detector whose decisions come from the scores of clean images.

    Attributes
    ----------
    null_scores_ : ndarray of shape (n,), float64
        Scores of the clean images that calibrate, in their order; empty without calibration.
    offset_ : float
        `decision_function` is `score_samples` minus this: it follows `false_positive_rate`.
    n_features_in_ : int
        Number of nodes.
    """

    null_scores_: np.ndarray
    calibration: str | None
    calibration_fraction: float
    false_positive_rate: float
    random_state: int | np.random.RandomState | None

    @abstractmethod
    def start_fit(self, n_background: int) -> Fit:
        """Begin a fit whose images come in batches.

        Parameters
        ----------
        n_background : int
            How many of them will make the background.
        """

    @abstractmethod
    def anomaly_score(self, X: Any) -> np.ndarray:
        """Compute the score of each image, float64 of shape (N,): higher is more anomalous."""

    def plan(self, n_samples: int) -> Plan:
        """Share out clean images between background and calibration; see `subsetscan.calibration.plan`."""
        return plan(n_samples, self.calibration, self.calibration_fraction, self.random_state)

    def fit(self, X: Any, y: None = None) -> Self:
        """Build the background from clean images, and calibrate.

        Parameters
        ----------
        X : array-like of shape (n, J)
            Node values of clean images: all of them, there is no share of outliers to be guessed.
        y : None
            Ignored.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, there are too few images, or a parameter is none of those listed.
        """
        with unchanged_on_error(self):
            X = validate_data(self, X, dtype=DTYPES)
            shares = self.plan(len(X))
            fit = self.start_fit(len(shares.background))
            for rows in some_at_once(shares.background):
                fit.add_background(X[rows])
            for rows in some_at_once(shares.calibration):
                fit.add_calibration(X[rows])
            fit.finish()
            self.warn_of_few_null_scores()
        return self

    def calibrate(self, X: Any) -> Self:
        """Take the scores of your own clean images, which must not be in the background, as null scores.

        Parameters
        ----------
        X : array-like of shape (n, J)

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, the number of nodes is not that of the background, or there is no image.
        sklearn.exceptions.NotFittedError
            Before `fit`; ``calibration=None`` leaves all clean images of the fit to the background.
        """
        with unchanged_on_error(self):
            calibration = self.start_calibration()
            calibration.add(X)
            calibration.finish()
            self.warn_of_few_null_scores()
        return self

    def start_calibration(self) -> Calibration:
        """Begin to `calibrate` with images that come in batches."""
        return _StreamedCalibration(self)

    def p_values(self, X: Any) -> np.ndarray:
        """Compute the calibrated p-value of each image, float64 of shape (N,): the share of clean images like it.

        Raises
        ------
        ValueError
            As for `anomaly_score`, and if the detector was not calibrated.
        """
        return self.p_values_of(self.anomaly_score(X))

    def p_values_of(self, scores: np.ndarray) -> np.ndarray:
        """Compute the calibrated p-values of scores that this detector gave.

        Parameters
        ----------
        scores : ndarray of shape (N,)

        Returns
        -------
        ndarray of shape (N,), float64

        Raises
        ------
        ValueError
            If the detector was not calibrated.
        """
        check_is_fitted(self)
        self._check_calibrated()
        return conformal_p_values(np.asarray(scores), self.null_scores_)

    def null_p_values(self) -> np.ndarray:
        """Compute the p-value of each image that calibrates, among themselves, float64 of shape (n,)."""
        check_is_fitted(self)
        self._check_calibrated()
        return null_p_values(self.null_scores_)

    def score_samples(self, X: Any) -> np.ndarray:
        """Compute the opposite of the anomaly score, float64 of shape (N,): in scikit-learn lower is worse."""
        return -self.anomaly_score(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute `score_samples` minus `offset_`, float64 of shape (N,): negative for what `predict` flags.

        Raises
        ------
        ValueError
            As for `predict`.
        """
        scores = self.score_samples(X)
        self._check_calibrated()
        self.warn_of_few_null_scores()
        return scores - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Flag images whose calibrated p-value is at most `false_positive_rate`.

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
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @property
    def offset_(self) -> float:  # noqa: D102 (the class says it)
        # The threshold is a score that a flagged image exceeds; scikit-learn's signs turn it round.
        return -score_threshold(self.null_scores_, self.false_positive_rate)

    def warn_of_few_null_scores(self) -> None:
        """Warn if there are too few null scores for a p-value of at most `false_positive_rate`; nothing is flagged."""
        n = len(self.null_scores_)
        if n and np.isinf(self.offset_):
            warnings.warn(
                f"{n} null scores cannot give a p-value of at most {self.false_positive_rate}: the smallest is "
                f"1 / ({n} + 1) = {1 / (n + 1):.3g}; calibrate with at least "
                f"{math.ceil(1 / self.false_positive_rate) - 1} clean images, or ask for a higher "
                "false_positive_rate; predict will flag nothing",
                stacklevel=3,
            )

    def _check_values(self, X: Any) -> np.ndarray:
        return check_rows(self, X)

    def _state(self) -> State:
        check_is_fitted(self)
        if type(self)._state is CalibratedDetector._state or getattr(self._new, "__isabstractmethod__", False):
            raise TypeError(
                f"{type(self).__name__} cannot be saved: it must define _state, which returns what tells a fitted "
                "detector from a new one, and _new, which makes the detector of that"
            )
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
        null_scores = tensors["null_scores"]
        if null_scores.ndim != 1 or null_scores.dtype != np.float64 or not np.isfinite(null_scores).all():
            raise ValueError("the null scores are not a row of finite numbers")
        detector._take_null_scores(null_scores)
        if description["feature_names"]:
            detector.feature_names_in_ = np.asarray(description["feature_names"], dtype=object)
        return detector

    @classmethod
    @abstractmethod
    def _new(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CalibratedDetector:
        """Make a detector of this kind from its state, but for the null scores."""

    def _take_null_scores(self, null_scores: np.ndarray) -> None:
        score_threshold(null_scores, self.false_positive_rate)  # a rate that is out of range is refused now
        self.null_scores_ = null_scores

    def _check_calibrated(self) -> None:
        if not len(self.null_scores_):
            raise ValueError(
                "calibration=None gives scores only; fit with 'holdout' or 'leave-one-out' to decide, or call calibrate"
            )


class BackgroundDetector(CalibratedDetector):
    """A detector that ranks images among the values of one background.

    Attributes
    ----------
    background_ : Background
    scan_options_ : dict
        The options of the score, as they were when fitted.
    """

    tail: str
    ties: str

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Return the options of the score, but for the seed of random ties."""

    @abstractmethod
    def _kept(self) -> tuple[str, float] | tuple[()]:
        """Return the tail and the threshold that a compact background serves, or nothing for a whole one."""

    @staticmethod
    @abstractmethod
    def _score(background: Background, X: np.ndarray, options: Mapping[str, Any], inside: bool) -> np.ndarray:
        """Score images, or rows of the background among the others, as null scores."""

    def start_fit(self, n_background: int) -> StreamedFit:  # noqa: D102 (the base says it)
        return StreamedFit(self, n_background)

    def anomaly_score(self, X: Any) -> np.ndarray:  # noqa: D102
        X = self._check_values(X)
        return self._score(self.background_, X, self.scan_options_, False)

    def _state(self) -> State:
        description, tensors = super()._state()
        background = self.background_
        description |= {
            "scan_options": self.scan_options_,
            "n_samples": background.n_samples,
            "kept": [] if background.tail is None else [background.tail, background.alpha_max],
        }
        return description, tensors | {"background": background._columns()}

    @classmethod
    def _new(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CalibratedDetector:
        detector = cls(**description["parameters"])
        tail, alpha_max = description["kept"] or (None, None)
        background = Background._from_columns(tensors["background"], description["n_samples"], tail, alpha_max)
        detector._take_background(background, description["scan_options"])
        return detector

    def _take_background(self, background: Background, options: dict[str, Any]) -> None:
        self.background_ = background
        self.scan_options_ = options
        self.n_features_in_ = background.n_nodes


class StreamedFit:
    """A fit of a detector with one background, batch by batch; see `Fit`.

    Parameters
    ----------
    detector : BackgroundDetector
        The detector to be fitted; it changes in `finish` only.
    n_background : int
        How many images will make the background.

    Attributes
    ----------
    options : dict
        Those of the score, with the seed of random ties.
    """

    def __init__(self, detector: BackgroundDetector, n_background: int) -> None:
        self._detector = detector
        self.options = detector._options()
        if detector.ties == "random":
            self.options["random_state"] = int(check_random_state(detector.random_state).randint(2**31))
        self._builder = BackgroundBuilder(n_background, *detector._kept())
        self._background: Background | None = None
        self._null_scores: list[np.ndarray] = []

    def add_background(self, X: np.ndarray) -> None:  # noqa: D102 (as in Fit)
        self._builder.add(X)

    def add_calibration(self, X: np.ndarray) -> None:  # noqa: D102
        inside = self._detector.calibration == "leave-one-out"
        self._null_scores.append(self._detector._score(self.background, X, self.options, inside))

    def finish(self) -> BackgroundDetector:  # noqa: D102
        self._detector._take_background(self.background, self.options)
        self._detector._take_null_scores(np.concatenate([*self._null_scores, np.empty(0)]))
        return self._detector

    @property
    def background(self) -> Background:
        """The background, complete once it is asked for."""
        if self._background is None:
            self._background = self._builder.finish()
        return self._background


class _StreamedCalibration:
    """The calibration of a detector by its own scores; see `Calibration`."""

    def __init__(self, detector: CalibratedDetector) -> None:
        check_is_fitted(detector)
        self._detector = detector
        self._scores: list[np.ndarray] = []

    def add(self, X: Any) -> None:
        self._scores.append(self._detector.anomaly_score(X))

    def finish(self) -> None:
        self._detector._take_null_scores(_at_least_one(self._scores))


def _at_least_one(scores: list[np.ndarray]) -> np.ndarray:
    """Join the scores of all batches. Raises ValueError if there are none to calibrate by."""
    null_scores = np.concatenate([*scores, np.empty(0)])
    if not len(null_scores):
        raise ValueError("at least 1 clean image is needed to calibrate, got 0")
    return null_scores


def check_rows(detector: BaseEstimator, X: Any) -> np.ndarray:
    """Take rows of nodes for a fitted detector: their number and their names are those of the fit."""
    check_is_fitted(detector)
    return validate_data(detector, X, dtype=DTYPES, reset=False, ensure_min_samples=0)


@contextmanager
def unchanged_on_error(detector: Any) -> Iterator[None]:
    """Give a detector its attributes back where something in the block fails."""
    before = dict(vars(detector))
    try:
        yield
    except BaseException:
        vars(detector).clear()
        vars(detector).update(before)
        raise


def some_at_once(rows: np.ndarray) -> list[np.ndarray]:
    """Split row numbers so that picking them copies little at a time."""
    return [rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE)]
