"""Nodes that are found anomalous most often: as features for whatever comes next, and compared across runs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ._tables import counted, html_table
from ._validation import InvalidTypeError, refuse_masked
from .detectors import SubsetScanDetector
from .detectors.base import DTYPES, Detector, check_labels

__all__ = ["NodeSelector", "Overlaps", "overlaps"]


class NodeSelector(SelectorMixin, BaseEstimator):
    """Select the nodes that are found anomalous most often, as features: a transformer of scikit-learn.

    Clean inputs make the background; in each anomalous input the smallest subset of nodes is found that carries a share
    of its score. The nodes that lie in the most of these subsets are selected.

    Parameters
    ----------
    detector : detector, optional
        One that finds subsets: by default a `SubsetScanDetector` of both tails. A clone is fitted.
    n_features_to_select : int or float in (0, 1], default 0.1
        How many nodes, or which share of them; of equals the first. Those in no subset are never selected.
    share : float in (0, 1], default 0.5
        Of a score, as for `SubsetScanDetector.leading`.

    Attributes
    ----------
    frequencies_ : ndarray of shape (J,), float64
        The share of the anomalous inputs in whose subset each node is.
    n_features_in_ : int
        Number of nodes, J.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(300, 40)), np.arange(300) >= 260  # the last 40 are anomalous
    >>> X[260:, [3, 8]] += 5
    >>> selector = NodeSelector(n_features_to_select=2).fit(X, y)
    >>> selector.get_support(indices=True), selector.transform(X).shape
    (array([3, 8]), (300, 2))
    """

    def __init__(
        self, detector: Detector | None = None, *, n_features_to_select: float = 0.1, share: float = 0.5
    ) -> None:
        self.detector = detector
        self.n_features_to_select = n_features_to_select
        self.share = share

    def fit(self, X: Any, y: Any) -> Self:
        """Find which nodes are anomalous how often.

        Parameters
        ----------
        X : array-like of shape (n, J)
            Node values of clean and of anomalous inputs.
        y : array-like of shape (n,)
            Which are anomalous: True or 1 where 0 are the others, or -1 where 1 are the others.

        Returns
        -------
        NodeSelector
            Itself.

        Raises
        ------
        ValueError
            If the labels are others, or of one kind alone, an option is out of its range, or as the detector's `fit`.
        TypeError
            If the detector finds no subsets.

        Warns
        -----
        UserWarning
            If fewer nodes are in any subset than were asked for.
        """
        if y is None:
            raise ValueError("NodeSelector requires y to be passed, but the target y is None")
        refuse_masked(X, "node values")
        X = validate_data(self, X, dtype=DTYPES)
        is_anomalous = _is_anomalous(check_labels(y, len(X)))
        detector = SubsetScanDetector(tail="two-sided", calibration=None) if self.detector is None else self.detector
        if not hasattr(detector, "leading"):
            raise InvalidTypeError(f"{type(detector).__name__} finds no subsets: take a SubsetScanDetector")
        wanted = self._wanted(X.shape[1])
        detector = clone(detector).fit(X[~is_anomalous])
        found = detector.leading(X[is_anomalous], share=self.share).nodes
        self.frequencies_ = found.sum(axis=0) / found.shape[0]
        if (n_found := int((self.frequencies_ > 0).sum())) < wanted:
            selected = "these are selected" if n_found else "none is selected"
            warnings.warn(f"{n_found} nodes are in any subset, {wanted} were asked for: {selected}", stacklevel=2)
        order = np.argsort(-self.frequencies_, kind="stable")[: min(wanted, n_found)]
        self._support_ = np.zeros(X.shape[1], bool)
        self._support_[order] = True
        return self

    def _wanted(self, n_nodes: int) -> int:
        wanted = self.n_features_to_select
        is_share = isinstance(wanted, float | np.floating)
        in_range = 0 < wanted <= 1 if is_share else wanted in range(1, n_nodes + 1)
        if isinstance(wanted, bool | np.bool_) or not in_range:
            raise ValueError(
                f"n_features_to_select must be an int from 1 to {n_nodes}, or a share in (0, 1], got {wanted!r}"
            )
        return max(round(float(wanted) * n_nodes), 1) if is_share else int(wanted)

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        return self._support_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _is_anomalous(y: np.ndarray) -> np.ndarray:
    kinds = sorted({one.item() for one in np.unique(y)}, key=str)
    if kinds not in ([False, True], [-1, 1]):
        raise ValueError(
            "y must say which inputs are anomalous: True or 1 among 0, or -1 among 1, with some of both; of "
            f"n_samples = {len(y)} the labels are {', '.join(map(repr, kinds[:5]))}"
        )
    return y == -1 if kinds[0] == -1 else y.astype(bool)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Which nodes several subsets have in common.

    Attributes
    ----------
    counts : dict of tuple of str to int
        For each combination of names that occurs, the number of nodes that are in just these subsets, the most first:
        what the bars of an UpSet plot count (Lex et al., 2014). `upsetplot.from_memberships` takes its keys and values.
    sizes : dict of str to int
        The number of nodes of each subset.
    jaccard : ndarray of shape (K, K), float64
        Of each two subsets the nodes in both among those in any of the two; NaN for two empty ones.
    """

    counts: dict[tuple[str, ...], int]
    sizes: dict[str, int]
    jaccard: np.ndarray

    def _repr_html_(self) -> str:
        rows = [[" and ".join(names), f"{n:,}"] for names, n in self.counts.items()]
        return html_table(["in just these subsets", "nodes"], rows, counted(len(self.sizes), "subset"))


def overlaps(subsets: Mapping[str, Any]) -> Overlaps:
    """Count the nodes that subsets have in common: those of several runs, attacks, concepts or layers' readings.

    Parameters
    ----------
    subsets : mapping of str to array-like of shape (J,), bool
        Which nodes are in each: `NodeSelector.get_support()`, or `ScanResult.mask` of an input.

    Returns
    -------
    Overlaps

    Raises
    ------
    ValueError
        If there are none, they are of different shapes, one is a masked array, or those of pandas have different
        indexes.
    TypeError
        If one is no mask, or its name no string.

    Examples
    --------
    >>> overlaps({"fgsm": [True, True, False], "bim": [True, False, False]}).counts
    {('fgsm', 'bim'): 1, ('fgsm',): 1}
    """
    if strangers := [name for name in subsets if not isinstance(name, str)]:
        raise InvalidTypeError(f"each subset must be named by a string, got {strangers[0]!r}")
    masks = {}
    first: tuple[str, Any] | None = None  # name and index of the first that has one, as those of pandas do
    for name, mask in subsets.items():
        index: Any = getattr(mask, "index", None)
        if hasattr(index, "equals"):
            first = first or (name, index)
            if not index.equals(first[1]):
                raise ValueError(f"subsets {first[0]} and {name} have different indexes: align them first")
        refuse_masked(mask, f"subset {name}")
        masks[name] = mask = np.asarray(mask)
        if mask.dtype != bool:
            raise InvalidTypeError(f"each subset must be a mask of booleans, {name} has dtype {mask.dtype}")
    if len({mask.shape for mask in masks.values()}) != 1:
        told = ", ".join(f"{name} {mask.shape}" for name, mask in masks.items()) or "none"
        raise ValueError(f"subsets must be masks of the same shape, got {told}")
    table = np.stack([mask.ravel() for mask in masks.values()])
    names = np.array(list(masks), object)
    found = Counter(tuple(names[own]) for own in table.T if own.any())
    both = table.astype(np.int64) @ table.T
    sizes = both.diagonal()
    with np.errstate(invalid="ignore"):
        jaccard = both / (sizes[:, None] + sizes - both)
    return Overlaps(dict(found.most_common()), dict(zip(masks, sizes.tolist(), strict=True)), jaccard)
