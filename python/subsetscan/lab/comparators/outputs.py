"""Detectors that take a classifier's last layer into account: its logits, the classes that it sees, its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.utils.validation import check_is_fitted

__all__ = ["LOGIT_SCORES", "Head", "RelativeMahalanobis", "VirtualLogit", "energy", "margin", "uncertainty"]


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a classifier: logits = values @ weights + bias.

    Attributes
    ----------
    weights : ndarray of shape (J, K)
    bias : ndarray of shape (K,)
    """

    weights: np.ndarray
    bias: np.ndarray

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Compute the logits of values of the layer before, (n, J) to float64 of shape (n, K)."""
        return np.asarray(values, np.float64) @ np.asarray(self.weights, np.float64) + self.bias

    def labels(self, values: np.ndarray) -> np.ndarray:
        """Tell which class is seen, of shape (n,)."""
        return self.logits(values).argmax(axis=1)


def energy(logits: np.ndarray) -> np.ndarray:
    """Compute the energy, -log sum exp logits: W. Liu, X. Wang, J. Owens, Y. Li, NeurIPS 2020."""
    return -logsumexp(logits, axis=1)


def uncertainty(logits: np.ndarray) -> np.ndarray:
    """Compute -log of the largest probability, which orders inputs as 1 less it: D. Hendrycks, K. Gimpel, ICLR 2017."""
    return logsumexp(logits, axis=1) - logits.max(axis=1)


def margin(logits: np.ndarray) -> np.ndarray:
    """Compute the second largest logit less the largest."""
    return np.partition(logits, -2, axis=1)[:, -2] - logits.max(axis=1)


# From logits to scores that are higher for what is more anomalous. Nothing is fitted: clean inputs just calibrate.
LOGIT_SCORES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "energy": energy,
    "max softmax": uncertainty,
    "margin": margin,
}


class RelativeMahalanobis(BaseEstimator):
    """How much nearer an input is to all clean inputs than to those of any one class: an `OutlierDetector`'s estimator.

    The squared Mahalanobis distance to the nearest class' mean, by a covariance that classes share, less the distance
    to the mean of all by the covariance of all. Both covariances are shrunk by Ledoit and Wolf's amount. Classes are
    those that the classifier sees.

    Parameters
    ----------
    head : Head

    Attributes
    ----------
    means_ : ndarray of shape (K, J)
        Of the classes that are seen in the background.
    within_, whole_ : LedoitWolf

    References
    ----------
    J. Ren, S. Fort, J. Liu, A. G. Roy, S. Padhy, B. Lakshminarayanan, A simple fix to Mahalanobis distance for
    improving near-OOD detection, 2021, arXiv:2106.09022.
    """

    def __init__(self, head: Head) -> None:
        self.head = head

    def fit(self, X: np.ndarray, y: None = None) -> RelativeMahalanobis:
        """Learn from clean inputs, (M, J). Raises ValueError if fewer than two classes are seen."""
        del y
        X = np.asarray(X, np.float64)
        classes, labels = np.unique(self.head.labels(X), return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"expected clean inputs of at least 2 classes, the classifier sees class {classes[0]} in all"
            )
        self.means_ = np.stack([X[labels == n].mean(axis=0) for n in range(len(classes))])
        self.within_ = LedoitWolf(assume_centered=True).fit(X - self.means_[labels])
        self.whole_ = LedoitWolf().fit(X)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Compute the score of each input, (n, J) to float64 of shape (n,): lower is more anomalous."""
        check_is_fitted(self)
        X = np.asarray(X, np.float64)
        nearest = np.min([self.within_.mahalanobis(X - mean) for mean in self.means_], axis=0)
        return self.whole_.mahalanobis(X) - nearest


class VirtualLogit(BaseEstimator):
    """Virtual-logit matching (ViM), an `OutlierDetector`'s estimator: what is off the main directions, and the energy.

    The origin is -pinv(W') b, the smallest values whose logits are nearest to 0. The residual is the length of what
    lies off the first directions of the clean inputs around it; scaled to the size of a logit, it is compared with
    the logits.

    Parameters
    ----------
    head : Head
    n_directions : int, optional
        By default half of the nodes; the paper takes 1,000 of 2,048 and 512 of 768.

    Attributes
    ----------
    origin_ : ndarray of shape (J,)
    rest_ : ndarray of shape (J, J - n_directions)
        Directions off the main ones.
    scale_ : float

    References
    ----------
    H. Wang, Z. Li, L. Feng, W. Zhang, ViM: out-of-distribution with virtual-logit matching, CVPR 2022.
    """

    def __init__(self, head: Head, n_directions: int | None = None) -> None:
        self.head = head
        self.n_directions = n_directions

    def fit(self, X: np.ndarray, y: None = None) -> VirtualLogit:
        """Learn from clean inputs, (M, J). Raises ValueError if no direction, or no residual, is left."""
        del y
        X = np.asarray(X, np.float64)
        n = X.shape[1] // 2 if self.n_directions is None else self.n_directions
        if not 0 < n < X.shape[1]:
            raise ValueError(f"n_directions must be between 1 and {X.shape[1] - 1}, got {n}")
        self.origin_ = -np.linalg.pinv(np.asarray(self.head.weights, np.float64).T) @ self.head.bias
        covariance = EmpiricalCovariance(assume_centered=True).fit(X - self.origin_).covariance_
        self.rest_ = np.linalg.eigh(covariance)[1][:, : X.shape[1] - n]  # eigenvalues increase
        residual = self.residual(X).mean()
        if not residual > 0:
            raise ValueError(f"the clean inputs lie along {n} directions: there is no residual off them")
        self.scale_ = float(self.head.logits(X).max(axis=1).mean() / residual)
        return self

    def residual(self, X: np.ndarray) -> np.ndarray:
        """Compute how far inputs lie off the main directions, float64 of shape (n,)."""
        return np.linalg.norm((np.asarray(X, np.float64) - self.origin_) @ self.rest_, axis=1)

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Compute the score of each input, (n, J) to float64 of shape (n,): lower is more anomalous."""
        check_is_fitted(self)
        return -self.scale_ * self.residual(X) - energy(self.head.logits(X))
