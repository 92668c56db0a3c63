"""Mahalanobis' distance from the clean inputs, by a shrunk covariance."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._random import RandomState
from ..residuals import Residuals, within_sample_ranks
from .base import CalibratedDetector
from .residual_scan import VALUES

__all__ = ["MahalanobisDetector"]

_LEAST_SHRINKAGE = 1e-9  # Ledoit and Wolf's amount as it is, but for covariances that have no inverse


class MahalanobisDetector(CalibratedDetector):
    """Detect inputs whose nodes, all together, are far from those of the clean inputs.

    The squared distance z'Pz, with z the standardised values of an input and P the inverse of their covariance over the
    clean inputs, which is shrunk by Ledoit and Wolf's amount. Each clean input is scored by a mean, a scale
    and a covariance without it.

    Parameters
    ----------
    of : {"values", "ranks"}, default "values"
        The values themselves, or an input's values as ranks among each other.
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
        As for `SubsetScanDetector`.
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    residuals_ : Residuals
        The fitted covariance.
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    References
    ----------
    O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate
    Analysis 88, 2004; K. Lee, K. Lee, H. Lee, J. Shin, A simple unified framework for detecting out-of-distribution
    samples and adversarial attacks, NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> clean, other = rng.normal(size=(400, 50)), rng.normal(scale=2, size=(2, 50))
    >>> MahalanobisDetector().fit(clean).predict(other)
    array([-1, -1])
    """

    leaves_one_out = True

    def __init__(
        self,
        *,
        of: str = "values",
        calibration: str | None = "leave-one-out",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.of = of
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X: np.ndarray) -> np.ndarray:  # noqa: D102 (the base says it, as for the other)
        if self.of not in VALUES:
            raise ValueError(f"of must be one of {', '.join(map(repr, VALUES))}, got {self.of!r}")
        self.of_ = self.of
        self.residuals_ = Residuals(trim=0, least_shrinkage=_LEAST_SHRINKAGE)
        return self.residuals_.fit_distances(self._read(X))

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        return self.residuals_.transform_with_distances(self._read(X))[1]

    def _read(self, X: np.ndarray) -> np.ndarray:
        return within_sample_ranks(X) if self.of_ == "ranks" else X
