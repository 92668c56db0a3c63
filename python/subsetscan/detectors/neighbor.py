"""The distance to the nearest clean image."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from .._random import RandomState
from .base import CalibratedDetector

__all__ = ["NearestNeighborDetector"]

_SHARED = 0.1  # of the mean variance
_SMALLEST = 1e-12  # the distance of an image to itself is 0, however it is rounded


class NearestNeighborDetector(CalibratedDetector):
    """Detect images that are far from all clean ones: the distance to the k-th nearest of them.

    Parameters
    ----------
    n_neighbors : int, default 1
        k.
    metric : str, default "cosine"
        A metric of `sklearn.neighbors.NearestNeighbors` that its brute-force search takes.
    scale : bool, default True
        Whether to divide the values of each node by their standard deviation over the clean images. To its variance a
        tenth of the mean variance of those that vary is added, so that those that hardly vary do not decide.
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
        As for `SubsetScanDetector`.
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    background_ : ndarray of shape (M, J)
        The clean images.
    scale_ : ndarray of shape (J,), float64
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    References
    ----------
    Y. Sun, Y. Ming, X. Zhu, Y. Li, Out-of-distribution detection with deep nearest neighbors, ICML 2022.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> clean, other = rng.normal(1, size=(400, 50)), rng.normal(size=(2, 50))
    >>> NearestNeighborDetector().fit(clean).predict(other)
    array([-1, -1])
    """

    leaves_one_out = True

    def __init__(
        self,
        *,
        n_neighbors: int = 1,
        metric: str = "cosine",
        scale: bool = True,
        calibration: str | None = "leave-one-out",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.scale = scale
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X: np.ndarray) -> np.ndarray:  # noqa: D102 (the base says it, as for the other)
        if len(X) <= self.n_neighbors:
            raise ValueError(f"{self.n_neighbors} neighbors need at least {self.n_neighbors + 1} images, got {len(X)}")
        self.background_ = np.ascontiguousarray(X)
        self.scale_ = np.ones(X.shape[1])
        if self.scale:
            variances = X.var(axis=0, dtype=np.float64)
            if variances.any():
                self.scale_ = np.sqrt(variances + _SHARED * variances[variances > 0].mean())
        return self._distances(None)

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        return self._distances(X / self.scale_) if len(X) else np.empty(0)

    def _distances(self, X: np.ndarray | None) -> np.ndarray:
        """Compute the distance of images to the k-th nearest in the background, or of that to its other images."""
        search = NearestNeighbors(n_neighbors=self.n_neighbors, metric=self.metric, algorithm="brute")
        distances, _ = search.fit(self.background_ / self.scale_).kneighbors(X)
        last = np.where(distances[:, -1] < _SMALLEST, 0.0, distances[:, -1])
        if self.metric == "cosine":  # rows of zeros have no direction, but are equal
            own = ~(self.background_ if X is None else X).any(axis=1)
            alike = (~self.background_.any(axis=1)).sum() - (X is None)
            if alike >= self.n_neighbors:
                last[own] = 0.0
        return last
