"""Fits and calibrations whose inputs come in batches: what they are, and those that most detectors share."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .._validation import refuse_masked
from ..calibration import Plan

__all__ = ["Calibration", "CollectedFit", "Fit", "StreamedCalibration", "one_each"]


class Fit(Protocol):
    """A fit whose inputs come in batches: first those of the background, then those that calibrate.

    Where the detector needs labels, `y` holds those of the batch.
    """

    def add_background(self, X: np.ndarray, y: np.ndarray | None = None) -> None:
        """Add clean inputs to the background. Raises ValueError for a NaN or another number of nodes."""

    def add_calibration(self, X: np.ndarray, y: np.ndarray | None = None) -> None:
        """Score clean inputs against the background, which is complete with the first of them.

        Under "leave-one-out" these are the inputs of the background once more.
        """

    def finish(self) -> Any:
        """Complete the fit and return the detector, which changes here only."""


class Calibration(Protocol):
    """A calibration whose clean inputs come in batches; the detector changes in `finish` only."""

    def add(self, X: Any, y: Any = None) -> None:
        """Score clean inputs that are not in the background."""

    def finish(self) -> None:
        """Take the scores as null scores. Raises ValueError if there are none."""


class CollectedFit:
    """A fit that needs the whole background at once; see `Fit`."""

    def __init__(self, detector: Any, shares: Plan) -> None:
        if shares.leave_one_out and not detector.leaves_one_out:
            raise ValueError(
                f"{type(detector).__name__} cannot leave out one input at a time, and scores those that it was fitted "
                "on too low: calibration must be 'holdout' or None"
            )
        self._detector = detector
        self._leave_one_out = shares.leave_one_out
        self._fitted: Any = None
        self._background: list[np.ndarray] = []
        self._null_scores: list[np.ndarray] = []

    def add_background(self, X: np.ndarray, y: Any = None) -> None:  # noqa: D102 (as in Fit)
        del y
        self._background.append(np.array(X))

    def add_calibration(self, X: np.ndarray, y: Any = None) -> None:  # noqa: D102
        del y
        if not self._leave_one_out:  # the background itself has told the scores
            self._null_scores.append(one_each(self._complete().anomaly_score(X), X))

    def finish(self) -> Any:  # noqa: D102
        fitted = self._complete()
        fitted._take_null_scores(np.concatenate([*self._null_scores, np.empty(0)]))
        parameters = self._detector.get_params(deep=False)
        found = {name: value for name, value in vars(fitted).items() if name not in parameters}
        self._detector.__dict__.update(found)
        return self._detector

    def _complete(self) -> Any:
        if self._fitted is None:
            X = np.concatenate(self._background)
            self._fitted, self._background = clone(self._detector), []
            left_out = self._fitted.take_background(X)
            if self._leave_one_out:
                self._null_scores = [one_each(left_out, X)]
        return self._fitted


class StreamedCalibration:
    """The calibration of a detector by its own scores; see `Calibration`."""

    def __init__(self, detector: Any) -> None:
        check_is_fitted(detector)
        self._detector = detector
        self._scores: list[np.ndarray] = []

    def add(self, X: Any, y: Any = None) -> None:  # noqa: D102 (as in Calibration)
        del y
        self._scores.append(one_each(self._detector.anomaly_score(X), X))

    def finish(self) -> None:  # noqa: D102
        self._detector._take_null_scores(_at_least_one(self._scores))


def _at_least_one(scores: list[np.ndarray]) -> np.ndarray:
    """Join the scores of all batches. Raises ValueError if there are none to calibrate by."""
    null_scores = np.concatenate([*scores, np.empty(0)])
    if not len(null_scores):
        raise ValueError("at least 1 clean input is needed to calibrate, got 0")
    return null_scores


def one_each(scores: Any, X: Any) -> np.ndarray:
    """Refuse scores of which there is not one for each input."""
    refuse_masked(scores, "scores")
    scores, n = np.asarray(scores), X.shape[0] if hasattr(X, "shape") else len(np.asarray(X))
    if scores.shape != (n,):
        raise ValueError(f"anomaly_score must return one score an input, shape ({n},), got {scores.shape}")
    return scores
