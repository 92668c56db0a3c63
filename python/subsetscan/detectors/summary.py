"""The simple scores that a scan has to beat: mean p, minimum p, Fisher's combination of all p."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._random import RandomState
from ..background import Background
from .ranked import BackgroundDetector

__all__ = ["SummaryDetector"]


class SummaryDetector(BackgroundDetector):
    """Detect inputs by all of their nodes' p-values in one number, without a choice of a subset.

    Parameters
    ----------
    summary : {"mean-p", "minimum-p", "fisher"}, default "mean-p"
        The score: 1 - mean p, ln (1 / min p), or 2 sum ln (1 / p).
    tail : {"upper", "lower", "two-sided"}, default "upper"
    ties : {"upper", "midrank", "random"}, default "upper"
    calibration, calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    background_ : Background
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    References
    ----------
    R. A. Fisher, Statistical Methods for Research Workers, 1925, section 21.1.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> clean, attacked = rng.normal(size=(400, 50)), rng.normal(1, size=(3, 50))
    >>> SummaryDetector(summary="fisher", random_state=0).fit(clean).predict(attacked)
    array([-1, -1, -1])
    """

    def __init__(
        self,
        *,
        summary: str = "mean-p",
        tail: str = "upper",
        ties: str = "upper",
        calibration: str | None = "holdout",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.summary = summary
        self.tail = tail
        self.ties = ties
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("summary", "tail", "ties")}

    def _kept(self) -> tuple[()]:
        return ()

    @staticmethod
    def _score(background: Background, X: np.ndarray, options: Mapping[str, Any], inside: bool) -> np.ndarray:
        return background.summarise(X, **options, membership="calibrating" if inside else "outside")
