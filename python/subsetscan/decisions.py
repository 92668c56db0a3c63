"""What a scanner says of inputs by their scores in several spaces: p-values, thresholds, verdicts, combinations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from .calibration import conformal_p_values, score_threshold
from .combination import combined
from .detectors import CalibratedDetector, Detector
from .joint import JointScan

__all__ = ["JOINT", "Decisions", "check_combination"]

JOINT = "joint"
_OWN: Any = "the scanner's own"  # the combination that was chosen when the scanner was made


class Decisions(ABC):
    """The part of `subsetscan.ModelScanner` that turns scores into decisions.

    Attributes
    ----------
    names : tuple of str
        Of the spaces.
    combine : str or None
    detectors_ : dict of str to detector
        The fitted detectors.
    """

    combine: str | None
    detectors_: dict[str, Detector]
    _joint: JointScan | None

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:  # noqa: D102 (the class says it)
        ...

    def p_values(
        self, inputs: Any, labels: Any = None, combine: str | None = _OWN
    ) -> dict[str, np.ndarray] | np.ndarray:
        """Compute the calibrated p-value of each input in each space, or one for all spaces together.

        Parameters
        ----------
        inputs : array-like of shape (N, ...)
        labels : array-like of shape (N,), optional
            As for `fit`.
        combine : {"fisher+harmonic", "fisher", "harmonic", "cauchy", "min", None}, optional
            How to combine the p-values of all spaces: see `subsetscan.combination.combined`. The combination is
            calibrated again, as a score of its own. None answers for each space. The default is the scanner's own.

        Returns
        -------
        dict of str to ndarray of shape (N,), float64
            With ``joint=True`` also under "joint".
        ndarray of shape (N,), float64
            With `combine`. The joint scan is not part of it.

        Raises
        ------
        ValueError
            As for `scan`, if the detectors were not calibrated, or if there is no such combination.
        """
        combine = self._how(combine)
        scores, labels = self._scores(inputs, labels, combine)
        if combine is None:
            return self.p_values_of(scores, labels)
        return self.combined_p_values_of(scores, labels, combine)

    def anomaly_score(
        self, inputs: Any, labels: Any = None, combine: str | None = _OWN
    ) -> dict[str, np.ndarray] | np.ndarray:
        """Compute the score of each input in each space, or that of their combination: higher is more anomalous.

        Parameters, shapes and errors are those of `p_values`; without a combination, scores need no calibration.
        """
        combine = self._how(combine)
        scores, labels = self._scores(inputs, labels, combine, calibrated=combine is not None)
        return scores if combine is None else self._combined(scores, labels, combine)[0]

    def decision_function(
        self, inputs: Any, labels: Any = None, combine: str | None = _OWN
    ) -> dict[str, np.ndarray] | np.ndarray:
        """Compute the threshold minus the score of each input: negative for what `predict` flags.

        Parameters, shapes and errors are those of `p_values`.
        """
        combine = self._how(combine)
        scores, labels = self._scores(inputs, labels, combine)
        self._warn_of_few_null_scores()
        if combine is not None:
            own, null = self._combined(scores, labels, combine)
            return score_threshold(null, self._rate()) - own
        decisions = {name: detector.decisions_of(scores[name], labels) for name, detector in self.detectors_.items()}
        if self._joint:
            decisions[JOINT] = score_threshold(self._joint.null_scores, self._rate()) - scores[JOINT]
        return decisions

    def predict(
        self, inputs: Any, labels: Any = None, combine: str | None = _OWN
    ) -> dict[str, np.ndarray] | np.ndarray:
        """Flag inputs whose calibrated p-value is at most the detectors' `false_positive_rate`.

        Parameters, shapes and errors are those of `p_values`; -1 for what is flagged, 1 for the others.
        """
        decisions = self.decision_function(inputs, labels, combine)
        if isinstance(decisions, dict):
            return {name: np.where(own >= 0, 1, -1) for name, own in decisions.items()}
        return np.where(decisions >= 0, 1, -1)

    def p_values_of(self, scores: Mapping[str, np.ndarray], labels: Any = None) -> dict[str, np.ndarray]:
        """Compute the calibrated p-values of scores that `scan` gave, by the names of their spaces."""
        p_values = {}
        for name, own in scores.items():
            if name == JOINT and self._joint:
                p_values[name] = conformal_p_values(own, self._joint.null_scores)
            else:
                p_values[name] = self.detectors_[name].p_values_of(own, labels)
        return p_values

    def combined_p_values_of(self, scores: Mapping[str, np.ndarray], labels: Any, combine: str) -> np.ndarray:
        """Combine the spaces' scores of each input, as p-values, and calibrate the combination.

        Parameters
        ----------
        scores : mapping of str to ndarray of shape (N,)
            Scores that `scan` gave, by the names of their spaces: all or some. That of the joint scan is not used.
        labels : array-like of shape (N,) or None
            As for `fit`.
        combine : {"fisher+harmonic", "fisher", "harmonic", "cauchy", "min"}

        Returns
        -------
        ndarray of shape (N,), float64

        Raises
        ------
        ValueError
            If there is no such combination, or no space.
        """
        return conformal_p_values(*self._combined(scores, labels, combine))

    def combined_of(
        self, scores: Mapping[str, np.ndarray], labels: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Combine the spaces' scores of each input in the scanner's own way.

        Returns
        -------
        scores, p_values : ndarray of shape (N,), float64
        null_scores : ndarray of shape (n,), float64
            The combined scores of the clean inputs that calibrate.
        """
        own, null = self._combined(scores, labels, self.combine or "fisher+harmonic")
        return own, conformal_p_values(own, null), null

    @abstractmethod
    def _scores(
        self, inputs: Any, labels: Any, combine: str | None, calibrated: bool = True
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Score inputs in each space and as one, and return their labels with the scores."""

    def _combined(self, scores: Mapping[str, np.ndarray], labels: Any, combine: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the combined scores of inputs, and those of the inputs that calibrate."""
        names = [name for name in self.names if name in scores]
        if not names:
            raise ValueError(f"nothing to combine: scores of {', '.join(self.names)} are needed")
        fitted = self.detectors_
        if len(names) == 1 and isinstance(alone := fitted[names[0]], CalibratedDetector):
            return scores[names[0]], alone.null_scores_  # p-values of few inputs would tie where scores do not
        how = "few" if combine == "min" else True
        own = np.column_stack([fitted[name].p_values_of(scores[name], labels, extrapolate=how) for name in names])
        null = np.column_stack([fitted[name].null_p_values(extrapolate=how) for name in names])
        return combined(own, null, combine)

    def _how(self, combine: str | None) -> str | None:
        return self.combine if combine is _OWN else combine

    def _rate(self) -> float:
        """Return the rate of what has no detector of its own. Raises ValueError if the detectors differ in it."""
        rates = {detector.false_positive_rate for detector in self.detectors_.values()}
        if len(rates) > 1:
            raise ValueError(f"the detectors must have one false_positive_rate to decide together, got {sorted(rates)}")
        return rates.pop()

    def _warn_of_few_null_scores(self) -> None:
        """Warn once for all spaces: they share the inputs that calibrate."""
        self.detectors_[self.names[0]].warn_of_few_null_scores()


def check_combination(combine: str | None) -> None:
    """Raise ValueError if there is no such combination."""
    if combine is not None:
        combined(np.ones((1, 1)), np.ones((1, 1)), combine)
