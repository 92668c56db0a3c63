"""The scan of what each node says that the others do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._random import RandomState
from ..background import Background
from ..residuals import Residuals, on_grid, within_sample_ranks
from ..scanning import ScanResult
from .base import CalibratedDetector
from .leading import leading_subsets

__all__ = ["VALUES", "ResidualScanDetector"]

VALUES = ("ranks", "values")


class ResidualScanDetector(CalibratedDetector):
    """Detect inputs by a scan of the residuals of their nodes, each node given all others.

    Nodes depend on each other: one cause moves many, and a scan of their values counts it many times, on clean inputs
    too. Residuals take that out. See `subsetscan.residuals.Residuals`.

    Parameters
    ----------
    of : {"ranks", "values"}, default "ranks"
        What the residuals are of: an input's values as ranks among each other, which do not change with its overall
        level or gain, or the values themselves.
    statistic, tail, alpha_max, scope
        As for `SubsetScanDetector`. The defaults are what detected most on networks of several kinds.
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
        As for `SubsetScanDetector`.
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    residuals_ : Residuals
    background_ : Background
        Residuals of the clean inputs.
    distances_ : ndarray of shape (M,), float64
        Squared Mahalanobis distances of the clean inputs, each by a covariance without it.
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> mix = rng.normal(size=(5, 40))
    >>> clean, changed = (rng.normal(size=(n, 5)) @ mix + rng.normal(size=(n, 40)) for n in (400, 3))
    >>> changed[:, :6] += 4
    >>> ResidualScanDetector(of="values").fit(clean).predict(changed)
    array([-1, -1, -1])
    """

    leaves_one_out = True
    least_score = 0.0

    def __init__(
        self,
        *,
        of: str = "ranks",
        statistic: str = "berk-jones",
        tail: str = "two-sided",
        alpha_max: float = 0.1,
        scope: str = "subset",
        calibration: str | None = "leave-one-out",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.of = of
        self.statistic = statistic
        self.tail = tail
        self.alpha_max = alpha_max
        self.scope = scope
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X: np.ndarray) -> np.ndarray:  # noqa: D102 (the base says it, as for those below)
        if self.of not in VALUES:
            raise ValueError(f"of must be one of {', '.join(map(repr, VALUES))}, got {self.of!r}")
        self.residuals_ = Residuals()
        values = within_sample_ranks(X) if self.of == "ranks" else X
        residuals, self.distances_ = self.residuals_.fit_transform_with_distances(values)
        residuals = on_grid(residuals)
        self.background_ = Background(residuals, self.tail, self.alpha_max)
        self.scan_options_ = {name: getattr(self, name) for name in ("statistic", "tail", "alpha_max", "scope")}
        self.of_ = self.of
        return self.background_.leave_one_out(residuals, **self.scan_options_, same_grid=True).scores

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        return self.scan(X).scores

    def scan(self, X: Any, y: None = None, *, return_nodes: bool = False) -> ScanResult:
        """Find the highest-scoring subset of nodes of each input, by their residuals.

        Parameters, results and errors are those of `SubsetScanDetector.scan`.
        """
        del y
        return self.with_p_values(self.scan_with_distances(X, return_nodes)[0])

    def leading(self, X: Any, y: None = None, *, share: float = 0.5) -> ScanResult:
        """Find the smallest subset of each input's nodes that carries at least a share of its score.

        Parameters, results and errors are those of `SubsetScanDetector.leading`.
        """
        del y
        residuals, _ = self._residuals_of(X)
        return leading_subsets(self.background_, residuals, self.scan_options_, share)

    def scan_with_distances(self, X: Any, return_nodes: bool = False) -> tuple[ScanResult, np.ndarray]:
        """Scan inputs, and compute their squared Mahalanobis distances, float64 (N,), by the same covariance."""
        residuals, distances = self._residuals_of(X)
        return self.background_.scan(residuals, **self.scan_options_, return_nodes=return_nodes), distances

    def _residuals_of(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Compute the residuals of inputs, and their squared Mahalanobis distances."""
        X = self.check_values(X)
        values = within_sample_ranks(X) if self.of_ == "ranks" else X
        residuals, distances = self.residuals_.transform_with_distances(values)
        return on_grid(residuals), distances
