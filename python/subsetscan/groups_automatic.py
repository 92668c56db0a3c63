"""The default scan of groups: a few inputs of many that share what is odd about them, with nothing to choose."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ._extras import import_extra
from ._random import RandomState, as_generator, check_random_state
from ._tables import html_table, some_of
from ._validation import check_columns, column_names, node_values
from .background import Background
from .calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values
from .combination import combined_scores
from .detectors import AutomaticDetector, CalibratedDetector, MahalanobisDetector
from .group_scan import GroupScanResult, scan_group
from .residuals import Residuals, on_grid, within_sample_ranks

__all__ = ["AutomaticGroupScan", "AutomaticGroupScanner", "share_out", "widened"]

_SCANNED = ("ranks", "values")
_ALPHA_MAX = 0.01  # of the scans of residuals: a few nodes of a campaign are far out
_FEWEST = 19  # groups for a p-value of 0.05
_STEPS = 10  # p-values are multiples of 1 / (M + 1): at least so many are looked at


@dataclass(frozen=True, eq=False)
class AutomaticGroupScan:
    """What was found in a group.

    Attributes
    ----------
    score : float
        Higher is more anomalous.
    p_value : float
        The share of clean groups of this size, this one counted among them, that score at least as high.
    images : ndarray of shape (r,), int64
        Rows that share what is odd, increasing.
    nodes : ndarray of shape (c,), int64
        The nodes that they share, increasing.
    directions : ndarray of shape (c,), int64
        1 where those rows are above what the other nodes predict, -1 where they are below, 0 where the block has both.
    part_scores : ndarray of shape (4,), float64
        What the score is combined of, in the order of `AutomaticGroupScanner`.
    """

    score: float
    p_value: float
    images: np.ndarray
    nodes: np.ndarray
    directions: np.ndarray
    part_scores: np.ndarray

    def to_frame(self) -> Any:
        """Return a pandas data frame of one row: p_value, score, images, nodes and directions.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed.
        """
        pandas = import_extra("pandas", "tables")
        shown = {name: getattr(self, name) for name in ("p_value", "score", "images", "nodes", "directions")}
        return pandas.DataFrame({name: [value] for name, value in shown.items()})

    def _repr_html_(self) -> str:
        signs = {1: "+", -1: "-", 0: "±"}
        nodes = [f"{node} {signs[way]}" for node, way in zip(self.nodes, self.directions.tolist(), strict=True)]
        rows = [
            ["p-value", f"{self.p_value:.3g}"],
            ["score", f"{self.score:.4g}"],
            ["inputs", some_of(self.images)],
            ["nodes, above (+) or below (-) what the others say", some_of(nodes)],
        ]
        return html_table(["group", ""], rows)


class AutomaticGroupScanner:
    """Detect groups of images of which some share what is odd about them.

    Four scores, each of which becomes a p-value among those of clean groups of the same size, with an exponential tail:

    1. The group scan of the residuals of within-sample ranks, each node given all others; a node that is above what the
       others predict, and one that is below, count as two nodes, so that a block has one direction.
    2. The same of the values.
    3. Fisher's sum over the images of their p-values by `AutomaticDetector`.
    4. Fisher's sum over the images of their p-values by `MahalanobisDetector` of ranks.

    The harmonic mean of the first two p-values, and Fisher's sum of that and the other two, make the score, which is
    calibrated as a score of its own.

    Clean images are shared out among folds. Clean groups are drawn within a fold, and scored beside a background of all
    other folds: images of a group that are in its background hide what they share. A new group is scored beside all
    clean images. Clean groups share images, so that their scores differ less than those of groups that share none: N of
    n images, all drawn from the same n, by a factor of sqrt((n - N) / (n + N)) in a sum over images. Their scores are
    widened by as much about their mean.

    Parameters
    ----------
    n_groups : int, default 199
        Clean groups that are drawn for each size of a group.
    n_folds : int, default 5
        At least 2. A group may have half as many images as a fold; a fit takes as many times as long.
    restarts : int, default 10
        As for `scan_group`.
    random_state : int, RandomState, Generator or None, default None
        Draws the folds, the groups and the starts.

    Attributes
    ----------
    detector_ : AutomaticDetector
        Of single images.
    n_features_in_ : int
        Number of nodes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean, group = rng.normal(size=(400, 30)), rng.normal(size=(40, 30))
    >>> group[:4, 5:10] += 4
    >>> found = AutomaticGroupScanner(random_state=0).fit(clean).scan(group)
    >>> found.p_value, found.images, found.nodes
    (0.005, array([0, 1, 2, 3]), array([5, 6, 7, 8, 9]))
    """

    def __init__(
        self,
        *,
        n_groups: int = 199,
        n_folds: int = 5,
        restarts: int = 10,
        random_state: RandomState = None,
    ) -> None:
        self.n_groups = n_groups
        self.n_folds = n_folds
        self.restarts = restarts
        self.random_state = random_state

    def _repr_html_(self) -> str:
        fitted = "n_features_in_" in vars(self)
        names = ("n_groups", "n_folds", "restarts", "random_state", *(["n_features_in_"] if fitted else []))
        rows = [[name, str(getattr(self, name))] for name in names]
        return html_table(["group scanner", ""], rows, "fitted" if fitted else "not fitted")

    def fit(self, X: Any) -> AutomaticGroupScanner:
        """Learn from clean images.

        Parameters
        ----------
        X : array-like of shape (n, J)

        Returns
        -------
        AutomaticGroupScanner
            Itself.

        Raises
        ------
        ValueError
            If a value is not finite, there are too few images, or a parameter is out of its range.

        Warns
        -----
        UserWarning
            If there are too few clean groups for a p-value of 0.05.
        """
        columns, X = column_names(X), node_values(X, "the clean images")
        if self.n_groups < 1:
            raise ValueError(f"n_groups must be at least 1, got {self.n_groups}")
        if self.n_folds < 2:
            raise ValueError(f"n_folds must be at least 2, got {self.n_folds}")
        if len(X) < 4 * self.n_folds:  # two of each fold make the smallest group
            raise ValueError(f"{self.n_folds} folds need at least {4 * self.n_folds} clean images, got {len(X)}")
        if self.n_groups < _FEWEST:
            warnings.warn(
                f"{self.n_groups} clean groups give no p-value below {1 / (self.n_groups + 1):.2g}: a group cannot be "
                f"flagged at 5 %; take at least {_FEWEST}",
                stacklevel=2,
            )
        folds = share_out(len(X), self.n_folds, self.random_state)
        self._clean = [_Background(np.delete(X, fold, axis=0)).looked_at(X[fold]) for fold in folds]
        self._background = _Background(X)
        self.detector_ = self._background.detector
        self.n_features_in_ = X.shape[1]
        self._columns = columns
        self._null: dict[int, np.ndarray] = {}
        return self

    def scan(self, X: Any) -> AutomaticGroupScan:
        """Score a group, and name the images that share what is odd, and the nodes.

        The block is that of the scan of ranks or of values, whichever is rarer among clean groups.

        Parameters
        ----------
        X : array-like of shape (N, J)
            At least 2 images that were not in the fit.

        Returns
        -------
        AutomaticGroupScan

        Raises
        ------
        ValueError
            If a value is not finite, the number of nodes is another, or a fold has fewer than twice as many clean
            images to draw groups from.
        """
        return self.scan_groups(X, [np.arange(len(X))])[0]

    def scan_groups(self, X: Any, groups: Sequence[np.ndarray]) -> list[AutomaticGroupScan]:
        """Scan several groups of the same images, which is faster than `scan` for each where they share images.

        Parameters
        ----------
        X : array-like of shape (N, J)
            Images that were not in the fit.
        groups : sequence of ndarray of int
            The rows of each group, at least 2. The images that are named are places in it.

        Returns
        -------
        list of AutomaticGroupScan

        Raises
        ------
        ValueError
            As for `scan`.
        """
        check_columns(column_names(X), self._columns, "the fit")
        X = self.detector_.check_values(node_values(X))
        null = {size: self.null_part_scores(size) for size in dict.fromkeys(map(len, groups))}
        looked_at = self._background.looked_at(X)
        return [
            self._judged(*self._scan(looked_at.group(rows)), null[len(rows)], self.null_scores(len(rows)))
            for rows in groups
        ]

    def null_part_scores(self, size: int) -> np.ndarray:
        """Return the four scores of clean groups of this size, widened, (n_groups, 4); drawn once for each size.

        Raises
        ------
        ValueError
            If a fold has fewer than twice as many clean images to draw from.
        """
        n_each = min(len(fold.surprise) for fold in self._clean)
        if 2 * size > n_each:
            raise ValueError(
                f"groups of {size} images need at least {2 * size} clean images in each of the {self.n_folds} folds "
                f"that they are drawn from, got {n_each}: fit on more, or with fewer folds"
            )
        if size not in self._null:
            rng = as_generator(self.random_state)
            folds = [self._clean[n % self.n_folds] for n in range(self.n_groups)]
            draws = [np.sort(rng.choice(len(fold.surprise), size, replace=False)) for fold in folds]
            scores = np.array([self._scan(fold.group(rows))[0] for fold, rows in zip(folds, draws, strict=True)])
            self._null[size] = widened(scores, sum(len(fold.surprise) for fold in self._clean), size)
        return self._null[size]

    def null_scores(self, size: int) -> np.ndarray:
        """Return the scores of clean groups of this size, float64 (n_groups,). Raises what `null_part_scores` does."""
        return _together(np.column_stack([extrapolated_null_p_values(own) for own in self.null_part_scores(size).T]))

    def _scan(self, group: _LookedAt) -> tuple[np.ndarray, list[GroupScanResult]]:
        """Return the four scores of a group, and both blocks."""
        scan = partial(scan_group, restarts=self.restarts, random_state=self.random_state, bound=None)
        blocks = [scan(p_values, alpha_max=group.alpha_max) for p_values in group.p_values]
        return np.array([*(block.score for block in blocks), *group.surprise.sum(axis=0)]), blocks

    def _judged(
        self, parts: np.ndarray, blocks: list[GroupScanResult], null: np.ndarray, null_scores: np.ndarray
    ) -> AutomaticGroupScan:
        """Combine the scores of the parts, beside those of clean groups, and take the block that is rarer."""
        p_values = _extrapolated(parts[np.newaxis], null)
        score = _together(p_values)
        p_value = conformal_p_values(score, null_scores)
        block = blocks[int(np.argmin(p_values[0, : len(blocks)]))]
        above = np.zeros((2, self.n_features_in_), bool)
        above.ravel()[block.nodes] = True
        nodes = np.flatnonzero(above.any(axis=0))
        directions = above[0, nodes].astype(np.int64) - above[1, nodes]
        return AutomaticGroupScan(float(score[0]), float(p_value[0]), block.images, nodes, directions, parts)


def share_out(n_images: int, n_folds: int, random_state: RandomState) -> list[np.ndarray]:
    """Share out clean images among folds at random: the row numbers of each, increasing."""
    order = check_random_state(random_state).permutation(n_images)
    return [np.sort(order[n::n_folds]) for n in range(n_folds)]


def widened(scores: np.ndarray, n_images: int, size: int) -> np.ndarray:
    """Widen the scores of groups of one size that share images, as those of groups that share none differ more."""
    mean = scores.mean(axis=0)
    return mean + (scores - mean) * np.sqrt((n_images + size) / (n_images - size))


@dataclass(frozen=True)
class _LookedAt:
    """Images beside a background: p-values of their nodes, both ways, and -log p of each image by two detectors."""

    p_values: tuple[np.ndarray, ...]  # of residuals of ranks and of values, (N, 2 J)
    alpha_max: float
    surprise: np.ndarray  # (N, 2)

    def group(self, rows: np.ndarray) -> _LookedAt:
        return _LookedAt(tuple(p[rows] for p in self.p_values), self.alpha_max, self.surprise[rows])


class _Background:
    """What groups are scored beside: the residuals of clean images, and a detector of single ones."""

    def __init__(self, clean: np.ndarray) -> None:
        self.detector = AutomaticDetector().fit(clean)
        self._distance = MahalanobisDetector(of="ranks").fit(clean)
        self._residuals = {of: Residuals() for of in _SCANNED}
        self._clean = {
            of: Background(_both_ways(on_grid(residuals.fit_transform(_values(clean, of)))))
            for of, residuals in self._residuals.items()
        }
        self._alpha_max = min(max(_ALPHA_MAX, _STEPS / (len(clean) + 1)), 1.0)

    def looked_at(self, X: np.ndarray) -> _LookedAt:
        p_values = tuple(
            self._clean[of].p_values(_both_ways(on_grid(residuals.transform(_values(X, of)))))
            for of, residuals in self._residuals.items()
        )
        surprise = [_surprise(detector, X) for detector in (self.detector, self._distance)]
        return _LookedAt(p_values, self._alpha_max, np.column_stack(surprise))


def _surprise(detector: CalibratedDetector, X: np.ndarray) -> np.ndarray:
    """Compute -log p of each image."""
    return -np.log(detector.p_values_of(detector.anomaly_score(X), extrapolate=True))


def _extrapolated(parts: np.ndarray, null: np.ndarray) -> np.ndarray:
    return np.column_stack([extrapolated_p_values(own, null) for own, null in zip(parts.T, null.T, strict=True)])


def _together(p_values: np.ndarray) -> np.ndarray:
    """Combine the p-values of the four scores of each group, (G, 4)."""
    scans = 1 / (1 / p_values[:, :2]).mean(axis=1)
    return combined_scores(np.column_stack([scans, p_values[:, 2:]]), "fisher")


def _values(X: np.ndarray, of: str) -> np.ndarray:
    return within_sample_ranks(X) if of == "ranks" else X


def _both_ways(residuals: np.ndarray) -> np.ndarray:
    """Lay the residuals and their opposites side by side: what is low is high in the second half."""
    return np.concatenate([residuals, -residuals], axis=1)
