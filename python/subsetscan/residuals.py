"""What each node's value says that the other nodes' values do not: residuals of a shrunk Gaussian model.

The nodes of a layer depend on each other, so that one cause moves many of them and a scan counts it many times. The
residual of a node given all others takes that out, node by node: each residual still belongs to its node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from . import _core
from ._validation import node_values
from .persistence import Persistent, State, pack_attributes, unpack_attributes

__all__ = ["Residuals", "on_grid", "within_sample_ranks"]

_GRID = np.float32(64)
_UNDERFLOWS = 1e-150
_FARTHEST = 1e100  # standard deviations: sums of so many nodes as there can be stay finite


def within_sample_ranks(x: Any) -> np.ndarray:
    """Rank the values of each input among each other: which nodes are high for this input.

    Ranks do not change with the input's overall level or gain: brightness, contrast, the length of a text.

    Parameters
    ----------
    x : array-like of shape (N, J)

    Returns
    -------
    ndarray of shape (N, J), float64
        From 1, the smallest value, to J; equal values share the mean of their ranks.

    Raises
    ------
    ValueError
        If a value is NaN, or there are not two dimensions.
    TypeError
        If `x` does not hold numbers.

    Examples
    --------
    >>> within_sample_ranks([[0.5, -2.0, 0.5, 3.0]])
    array([[2.5, 1. , 2.5, 4. ]])
    """
    return _core.within_sample_ranks(node_values(x))


def on_grid(residuals: np.ndarray) -> np.ndarray:
    """Round residuals to multiples of 1/64, so that those tie that differ by what a fit without an input differs.

    Where many inputs are alike, as where most nodes are zero, a new one like them has not quite the residuals that they
    have by fits without themselves: by a hair it would lie beyond them all.

    Parameters
    ----------
    residuals : ndarray of float32

    Returns
    -------
    ndarray of float32
    """
    with np.errstate(over="ignore"):
        rounded = np.round(residuals * _GRID) / _GRID
    return np.where(np.isfinite(rounded), rounded, residuals)


class Residuals(Persistent, TransformerMixin, BaseEstimator):
    """The residual of each node given all others, learnt from clean inputs: a transformer as scikit-learn has them.

    With z the standardised values of an input, and P the inverse of their shrunk covariance over the clean inputs, the
    residual of node j is (P z)_j / sqrt(P_jj): how far its value lies from what the others predict, in units of that
    prediction's error. The covariance is shrunk towards a multiple of the identity by Ledoit and Wolf's amount, at
    least `least_shrinkage`. No matrix of J x J is made where there are more nodes than inputs.

    Inputs take part in their own fit, so that their residuals would be too small. `fit_transform` therefore gives those
    of a mean and a covariance without the input itself, by a closed form; ``fit(X).transform(X)`` does not. The inputs
    that lie farthest out are left out of a second fit, lest a few strange ones shape it; theirs are those of new
    inputs.

    Parameters
    ----------
    least_shrinkage : float in (0, 1], default 0.01
    trim : float in [0, 1), default 0.05
        The part of the inputs that is left out of the second fit; 0 makes one fit.

    Attributes
    ----------
    n_features_in_ : int
        Number of nodes, J.
    shrinkage_ : float
        The weight of the identity.
    mean_, scale_ : ndarray of shape (J,), float64
        By which values are standardised.
    precision_ : ndarray of shape (J,), float64
        The diagonal of P.
    matrix_ : ndarray of shape (J, J) or (M, J), float64
        P; or W, where there are more nodes than inputs: P is the identity less W'W, divided by `floor_`.
    floor_ : float
        The smallest eigenvalue that the shrunk covariance can have.

    References
    ----------
    O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate
    Analysis 88, 2004. The residual of a node given the others: S. Lauritzen, Graphical Models, 1996, section 5.1.

    Examples
    --------
    Two nodes that are always alike differ for once, while each is as usual:

    >>> rng = np.random.default_rng(0)
    >>> clean = rng.normal(size=(200, 1)) + 0.1 * rng.normal(size=(200, 2))
    >>> Residuals().fit(clean).transform([[1.0, 1.0], [1.0, -1.0]]).round(1)
    array([[  0.3,  -0.1],
           [ 10.1, -10.1]], dtype=float32)
    """

    def __init__(self, *, least_shrinkage: float = 0.01, trim: float = 0.05) -> None:
        self.least_shrinkage = least_shrinkage
        self.trim = trim

    def fit(self, X: Any, y: None = None) -> Self:
        """Learn from clean inputs; parameters and errors are those of `fit_transform`."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: None = None) -> np.ndarray:
        """Learn from clean inputs, and compute the residuals of each by a fit without it.

        Parameters
        ----------
        X : array-like of shape (M, J)
            Node values of at least 2 inputs, finite.
        y : None
            Ignored.

        Returns
        -------
        ndarray of shape (M, J), float32

        Raises
        ------
        ValueError
            If there are fewer than 2 inputs or no node, a value is not finite or so large that its square is not, or a
            parameter is out of its range.
        TypeError
            If the values are not real numbers.
        """
        del y
        return self.fit_transform_with_distances(X)[0]

    def fit_transform_with_distances(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Do what `fit_transform` does, and tell how far each input lies from the others by a fit without it.

        Parameters and errors are those of `fit_transform`.

        Returns
        -------
        residuals : ndarray of shape (M, J), float32
        distances : ndarray of shape (M,), float64
            The squared Mahalanobis distances z'Pz.
        """
        values = self._checked(X)
        n, n_trimmed = len(values), min(round(self.trim * len(values)), len(values) - 2)
        solved = self._fit(values)
        kept = np.arange(n)
        if n_trimmed:
            kept = np.sort(np.argsort(solved.distances, kind="stable")[:-n_trimmed])
            solved = self._fit(values[kept])
        residuals, distances = np.empty(values.shape, np.float32), np.empty(n)
        residuals[kept], distances[kept] = single(solved.residuals(self.precision_)), solved.distances
        left_out = np.setdiff1d(np.arange(n), kept)
        residuals[left_out], distances[left_out] = self._transform(values[left_out])
        return residuals, distances

    def fit_distances(self, X: Any) -> np.ndarray:
        """Learn from all clean inputs, and tell how far each lies from the others by a fit and a scale without it.

        Nothing is trimmed. Parameters and errors are those of `fit_transform`.

        Distances by the scale of all inputs are a little smaller than those of new inputs, node by node. With many
        nodes for the number of inputs that adds up to more than inputs differ by.

        Returns
        -------
        ndarray of shape (M,), float64
            The squared Mahalanobis distances z'Pz.
        """
        values = self._checked(X)
        solved = self._fit(values)
        n, z = len(values), self._standardised(values)
        # In units without an input the floor of node j is s_j^2 / s^2 of what it is, (n - n/(n-1) z_j^2) / (n - 1):
        # that moves z'Pz, in first order, by the difference times what P z has there, squared.
        lower = (n / (n - 1) * z**2 - 1) / (n - 1)
        return solved.distances + self.floor_ * np.einsum("ij,ij->i", solved.without**2, lower)

    def transform(self, X: Any) -> np.ndarray:
        """Compute the residuals of new inputs.

        Parameters
        ----------
        X : array-like of shape (N, J)

        Returns
        -------
        ndarray of shape (N, J), float32

        Raises
        ------
        ValueError
            If the number of nodes is another, or a value is not finite.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        return self.transform_with_distances(X)[0]

    def transform_with_distances(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Compute the residuals of new inputs, and how far each lies from the clean ones.

        Parameters and errors are those of `transform`, shapes those of `fit_transform_with_distances`.
        """
        check_is_fitted(self)
        values = _finite(X)
        if values.shape[1] != self.n_features_in_:
            raise ValueError(f"expected {self.n_features_in_} nodes, got {values.shape[1]}")
        return self._transform(values)

    def _state(self) -> State:
        check_is_fitted(self)
        fitted = {name: value for name, value in vars(self).items() if name.endswith("_")}
        description, tensors = pack_attributes(fitted)
        return description | {"kind": self.kind(), "parameters": self.get_params()}, tensors

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Residuals:
        residuals = cls(**description["parameters"])
        residuals._take_attributes(unpack_attributes(description, tensors))
        residuals._check_state()
        return residuals

    def _check_state(self) -> None:
        """Refuse arrays that do not fit each other. Raises AttributeError or ValueError."""
        n = self.n_features_in_
        rows = {"mean_": self.mean_, "scale_": self.scale_, "precision_": self.precision_, "matrix_": self.matrix_[0]}
        for name, row in rows.items():
            if row.shape != (n,) or not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must hold finite numbers for {n} nodes, got {row.dtype} of shape {row.shape}")
        if not (self.scale_.min() > 0 and self.floor_ > 0 and 0 < self.shrinkage_ <= 1):
            raise ValueError("the scales and the floor must be above 0, and the shrinkage in (0, 1]")

    def _checked(self, X: Any) -> np.ndarray:
        values = _finite(X)
        if len(values) < 2 or not values.shape[1]:
            raise ValueError(f"at least 2 inputs and 1 node are needed, got shape {values.shape}")
        if not 0 < self.least_shrinkage <= 1:
            raise ValueError(f"least_shrinkage must be in (0, 1], got {self.least_shrinkage}")
        if not 0 <= self.trim < 1:
            raise ValueError(f"trim must be in [0, 1), got {self.trim}")
        return values

    def _transform(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = self._standardised(values)
        y = self._solve(z)
        return single(y / np.sqrt(self.precision_)), np.einsum("ij,ij->i", z, y)

    def _fit(self, values: np.ndarray) -> Solved:
        """Learn from all these inputs."""
        self.n_features_in_ = values.shape[1]
        self.mean_, self.scale_ = _mean_and_scale(values)
        z = self._standardised(values)
        few_nodes = z.shape[1] <= len(z)
        gram = z.T @ z if few_nodes else z @ z.T
        factor = Factor.of(gram, np.einsum("ij,ij->i", z, z), z.shape[1], self.least_shrinkage)
        self.shrinkage_, self.floor_ = factor.shrinkage, factor.floor
        self.matrix_ = factor.inverse() if few_nodes else factor.half(z)
        self.precision_ = factor.precision(self.matrix_)
        y = self._solve(z)
        return Solved(y, np.einsum("ij,ij->i", z, y), factor.share, len(z))

    def _standardised(self, values: np.ndarray) -> np.ndarray:
        return standardised(values, self.mean_, self.scale_)

    def _solve(self, z: np.ndarray) -> np.ndarray:
        """Multiply rows by P."""
        if len(self.matrix_) == self.n_features_in_:
            return z @ self.matrix_
        return (z - (z @ self.matrix_.T) @ self.matrix_) / self.floor_


@dataclass(frozen=True)
class Factor:
    """The shrunk products of columns, or of rows where these are fewer, as a product of a triangle and its transpose.

    Attributes
    ----------
    root : ndarray
        The lower triangle.
    shrinkage, floor : float
        As in `Residuals`.
    share : float
        That of one input in the covariance.
    n_nodes : int
        Number of nodes, of all where there is a part of them.
    """

    root: np.ndarray
    shrinkage: float
    floor: float
    share: float
    n_nodes: int

    @classmethod
    def of(cls, gram: np.ndarray, squares: np.ndarray, n_nodes: int, least_shrinkage: float) -> Factor:
        """Shrink the products of columns, or of rows, in their place; `squares` are the squared lengths of rows."""
        shrinkage, level = _ledoit_wolf(gram, squares, n_nodes)
        shrinkage = max(shrinkage, least_shrinkage)
        floor = shrinkage * level or 1.0  # no node varies: there is no level
        share = (1 - shrinkage) / len(squares)
        few_nodes = n_nodes <= len(squares)
        gram *= share if few_nodes else share / floor  # Woodbury's identity
        gram[np.diag_indices_from(gram)] += floor if few_nodes else 1
        return cls(linalg.cholesky(gram, lower=True, overwrite_a=True), shrinkage, floor, share, n_nodes)

    def inverse(self) -> np.ndarray:
        """Compute P from the products of columns."""
        return linalg.cho_solve((self.root, True), np.eye(len(self.root)), overwrite_b=True)

    def half(self, z: np.ndarray) -> np.ndarray:
        """Compute W from the products of rows, for all nodes or for some."""
        scaled = np.sqrt(self.share / self.floor) * z
        return linalg.solve_triangular(self.root, scaled, lower=True, overwrite_b=True)

    def precision(self, matrix: np.ndarray) -> np.ndarray:
        """Compute the diagonal of P from P, or from W for all nodes or for some."""
        if len(self.root) == self.n_nodes:
            return np.diag(matrix).copy()
        return (1 - np.einsum("ij,ij->j", matrix, matrix)) / self.floor


@dataclass(frozen=True)
class Solved:
    """Of n inputs of a fit some, multiplied by P: y = P z, the products z'y, and one input's share in the covariance.

    The mean of M inputs without one lies beside that of all, so that the input is M / (M - 1) as far from it, and the
    covariance about it lacks so much of zz'. That, taken out by Sherman and Morrison's formula, gives the fit without
    it; the scale, the shrinkage and the level stay.
    """

    y: np.ndarray
    products: np.ndarray
    share: float
    n: int

    @property
    def distances(self) -> np.ndarray:
        """How far each input lies from the others, squared: Mahalanobis' distance by a fit without it."""
        return self._farther**2 * self.products * self._growth

    @property
    def without(self) -> np.ndarray:
        """What y is by a fit without the input."""
        return self._farther * self.y * self._growth[:, np.newaxis]

    def residuals(self, precision: np.ndarray) -> np.ndarray:
        """Compute the residuals of each input by a fit without it, in units of the fit with it."""
        growth = self._growth[:, np.newaxis]
        diagonal = precision + self._farther * self.share * self.y**2 * growth  # of P
        return self.without * np.sqrt(precision) / diagonal

    @property
    def _farther(self) -> float:
        return self.n / (self.n - 1)

    @property
    def _growth(self) -> np.ndarray:
        """By how much y grows where the input is taken out of the covariance."""
        return 1 / (1 - self._farther * self.share * self.products)


def _mean_and_scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each node; 1 for a node that does not vary."""
    lowest, highest = values.min(axis=0), values.max(axis=0)
    varies = lowest < highest
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(varies, values.mean(axis=0), lowest)  # the mean of equal values may be rounded
        scale = values.std(axis=0)
        tiny = varies & (scale < _UNDERFLOWS)  # squares so small are rounded, or 0
        span = highest[tiny] - lowest[tiny]
        scale[tiny] = span * ((values[:, tiny] - lowest[tiny]) / span).std(axis=0)
    return mean, usable_scale(scale, lowest, highest)


def usable_scale(scale: np.ndarray, lowest: np.ndarray, highest: np.ndarray, first_node: int = 0) -> np.ndarray:
    """Put 1 for the scale of nodes that do not vary. Raises ValueError for values whose squares are not finite."""
    if not np.isfinite(scale).all():
        node = int(np.argmin(np.isfinite(scale)))
        raise ValueError(
            f"values must be small enough to be squared, those of node {first_node + node} range from "
            f"{lowest[node]:g} to {highest[node]:g}"
        )
    return np.where((lowest < highest) & (scale > 0), scale, 1)


def standardised(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Compute how many standard deviations values lie above the mean."""
    with np.errstate(over="ignore"):
        z = (values - mean) / scale
    return np.clip(z, -_FARTHEST, _FARTHEST, out=z)


def _ledoit_wolf(gram: np.ndarray, squares: np.ndarray, n_nodes: int) -> tuple[float, float]:
    """Return the shrinkage and the level, from the products of rows or of columns and the squared lengths of rows."""
    n = len(squares)
    level = squares.sum() / n / n_nodes
    spread = (gram**2).sum() / n**2
    total = spread - n_nodes * level**2
    noise = min((squares**2).sum() / n**2 - spread / n, total)
    return (min(1.0, max(0.0, noise / total)) if total > 0 else 1.0), level


def _finite(values: Any) -> np.ndarray:
    """Take finite values as float64."""
    values = node_values(values).astype(np.float64)
    if not (finite := np.isfinite(values)).all():
        image, node = np.argwhere(~finite)[0]
        raise ValueError(f"values must be finite, got {values[image, node]} at node {node} of input {image}")
    return values


def single(values: np.ndarray) -> np.ndarray:
    """Round to float32; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
