"""Local intrinsic dimensionality: along how many directions the clean inputs spread around an input."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..._random import RandomState
from ...detectors import CalibratedDetector

__all__ = ["LocalDimension"]

_LEAST = 1e-12  # where all neighbours are equally far, the estimate would be infinite


class LocalDimension(CalibratedDetector):
    """Detect inputs around which the clean ones spread along more directions than around each other.

    The maximum likelihood estimate -1 / mean log(r_i / r_k), with r_i the Euclidean distance to the i-th nearest clean
    input. Attacks were found to raise it.

    Parameters
    ----------
    n_neighbors : int, default 20
        k.
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    points_ : ndarray of shape (M, J), float64
        The clean inputs.
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    References
    ----------
    X. Ma, B. Li, Y. Wang, S. M. Erfani, S. Wijewickrema, G. Schoenebeck, D. Song, M. E. Houle, J. Bailey,
    Characterizing adversarial subspaces using local intrinsic dimensionality, ICLR 2018. There a classifier is trained
    on attacks too.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> line = np.outer(rng.normal(size=400), np.ones(5))
    >>> LocalDimension().fit(line).predict(line[:2] + rng.normal(scale=0.1, size=(2, 5)))
    array([-1, -1])
    """

    leaves_one_out = True

    def __init__(
        self,
        *,
        n_neighbors: int = 20,
        calibration: str | None = "leave-one-out",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X: np.ndarray) -> np.ndarray:  # noqa: D102 (the base says it, as for the other)
        if len(X) <= self.n_neighbors:
            raise ValueError(f"{self.n_neighbors} neighbors need at least {self.n_neighbors + 1} inputs, got {len(X)}")
        self.points_, self.n_neighbors_ = X.astype(np.float64), self.n_neighbors
        return self._dimensions(None)

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        return self._dimensions(X.astype(np.float64)) if len(X) else np.empty(0)

    def _dimensions(self, points: np.ndarray | None) -> np.ndarray:
        """Estimate the dimension at points; None: at each of the clean inputs, among the others."""
        search = NearestNeighbors(n_neighbors=self.n_neighbors_, algorithm="brute").fit(self.points_)
        distances = np.maximum(search.kneighbors(points)[0], np.finfo(np.float64).tiny)
        logs = np.log(distances / distances[:, -1:]).mean(axis=1)
        copies = distances[:, -1] == np.finfo(np.float64).tiny  # of k clean inputs: a point, of no dimension
        return np.where(copies, 0.0, -1 / np.minimum(logs, -_LEAST))
