"""The distance to the nearest clean input."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from .._random import RandomState
from .base import CalibratedDetector

__all__ = ["SMALLEST", "NearestNeighborDetector", "scale_of"]

_SHARED = 0.1  # of the mean variance
_AT_ONCE = 512  # inputs
SMALLEST = 1e-12  # the distance of an input to itself is 0, however it is rounded


class NearestNeighborDetector(CalibratedDetector):
    """Detect inputs that are far from all clean ones: the distance to the k-th nearest of them.

    Parameters
    ----------
    n_neighbors : int, default 1
        k.
    metric : str, default "cosine"
        A metric of `sklearn.neighbors.NearestNeighbors` that its brute-force search takes. Under "cosine" an input of
        zeros alone has no direction: it is at distance 0 from others like it, and 1 from all else, so that a dead layer
        is anomalous unless some clean inputs have one.
    scale : bool, default True
        Whether to divide the values of each node by their standard deviation over the clean inputs. To its variance a
        tenth of the mean variance of those that vary is added, so that those that hardly vary do not decide.
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
        As for `SubsetScanDetector`.
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    points_ : ndarray of shape (M, J), float64
        The clean inputs, divided by the scale; under "cosine" of length 1, or 0.
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
    least_score = 0.0

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
            raise ValueError(f"{self.n_neighbors} neighbors need at least {self.n_neighbors + 1} inputs, got {len(X)}")
        self.scale_ = np.ones(X.shape[1])
        if self.scale:
            self.scale_ = scale_of(X.var(axis=0, dtype=np.float64), X.min(axis=0) < X.max(axis=0))
        self.metric_, self.n_neighbors_ = self.metric, self.n_neighbors
        self.points_ = self._points(X)
        return self._distances(None)

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        return self._distances(self._points(X)) if len(X) else np.empty(0)

    def _check_scoring(self, n_values: int) -> None:
        super()._check_scoring(n_values)
        if not self.scale_.shape == self.points_.shape[1:] == (self.n_features_in_,):
            raise ValueError(f"its points must have {self.n_features_in_} nodes, got shape {self.points_.shape}")

    def _points(self, X: np.ndarray) -> np.ndarray:
        scaled = X / self.scale_
        return normalize(scaled, copy=False) if self.metric_ == "cosine" else scaled

    def _distances(self, points: np.ndarray | None) -> np.ndarray:
        """Compute the distance of inputs to the k-th nearest in the background, or of that to its other inputs."""
        k = self.n_neighbors_
        if self.metric_ == "cosine":
            last = _cosine_distances(points, self.points_, k)
        else:
            search = NearestNeighbors(n_neighbors=k, metric=self.metric_, algorithm="brute")
            last = search.fit(self.points_).kneighbors(points)[0][:, -1]
        return np.where(last < SMALLEST, 0.0, last)


def scale_of(variances: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """Compute what the values of each node are divided by; a variance of equal values may be rounded to more than 0."""
    variances = np.where(varies, variances, 0)
    if not variances.any():
        return np.ones(len(variances))
    return np.sqrt(variances + _SHARED * variances[variances > 0].mean())


def _cosine_distances(points: np.ndarray | None, background: np.ndarray, k: int) -> np.ndarray:
    """Compute distances of points of length 1 to the k-th nearest; None: of the background to its other points.

    Rows of zeros have no direction: they are at distance 0 from each other, and 1 from all else.
    """
    inside = points is None
    own = background if points is None else points
    own_zeros: Any = np.count_nonzero(own, axis=1) == 0
    zeros = np.count_nonzero(background, axis=1) == 0 if own_zeros.any() else False
    distances = np.empty(len(own))
    for rows in gen_batches(len(own), _AT_ONCE):
        alike = own[rows] @ background.T
        alike[own_zeros[rows]] = zeros
        if inside:
            alike[np.arange(len(alike)), np.arange(rows.start, rows.stop)] = -np.inf
        distances[rows] = 1 - np.partition(alike, -k, axis=1)[:, -k]
    return np.maximum(distances, 0)
