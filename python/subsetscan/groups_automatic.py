"""The default scan of groups: a few inputs of many that share what is odd about them, with nothing to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._random import RandomState, as_generator
from ._validation import node_values
from .background import Background
from .calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values, plan
from .combination import combined_scores
from .detectors import AutomaticDetector
from .group_scan import GroupScanResult, scan_group
from .residuals import Residuals, within_sample_ranks

__all__ = ["AutomaticGroupScan", "AutomaticGroupScanner"]

_ALPHA_MAX = {"ranks": 0.01, "values": 0.005}  # of the scans of residuals: a few nodes of a campaign are far out
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
    part_scores : ndarray of shape (3,), float64
        What the score is combined of, in the order of `AutomaticGroupScanner`.
    """

    score: float
    p_value: float
    images: np.ndarray
    nodes: np.ndarray
    directions: np.ndarray
    part_scores: np.ndarray


class AutomaticGroupScanner:
    """Detect groups of images of which some share what is odd about them.

    Three scores, each of which becomes a p-value among those of clean groups of the same size, with an exponential
    tail; the harmonic mean of the three is calibrated as a score of its own:

    1. The group scan of the residuals of within-sample ranks, each node given all others; a node that is above what the
       others predict, and one that is below, count as two nodes, so that a block has one direction.
    2. The same of the values.
    3. Fisher's sum over the images of their p-values by `AutomaticDetector`.

    Clean groups are drawn from clean images that are not in the background. They share images, so that their scores
    differ less than those of groups that share none: N of n images, all drawn from the same n, by a factor of
    sqrt((n - N) / (n + N)) in a sum over images. Their scores are widened by as much about their mean.

    Parameters
    ----------
    n_groups : int, default 199
        Clean groups that are drawn for each size of a group.
    calibration_fraction : float in (0, 1), default 0.5
        The part of the clean images that clean groups are drawn from; a group may have half as many images as that.
    restarts : int, default 10
        As for `scan_group`.
    random_state : int, RandomState, Generator or None, default None
        Draws that part, the groups and the starts.

    Attributes
    ----------
    detector_ : AutomaticDetector
        Of single images.
    n_features_in_ : int
        Number of nodes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean, group = rng.normal(size=(300, 30)), rng.normal(size=(40, 30))
    >>> group[:4, 5:10] += 4
    >>> found = AutomaticGroupScanner(random_state=0).fit(clean).scan(group)
    >>> found.p_value, found.images, found.nodes
    (0.005, array([ 0,  1,  2,  3, 15]), array([ 5,  6,  7,  8,  9, 16, 18, 22]))
    """

    def __init__(
        self,
        *,
        n_groups: int = 199,
        calibration_fraction: float = 0.5,
        restarts: int = 10,
        random_state: RandomState = None,
    ) -> None:
        self.n_groups = n_groups
        self.calibration_fraction = calibration_fraction
        self.restarts = restarts
        self.random_state = random_state

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
        """
        X = node_values(X, "the clean images")
        if self.n_groups < 1:
            raise ValueError(f"n_groups must be at least 1, got {self.n_groups}")
        shares = plan(len(X), "holdout", self.calibration_fraction, self.random_state)
        background, calibrating = X[shares.background], X[shares.calibration]
        self.detector_ = AutomaticDetector().fit(background)
        self.n_features_in_ = X.shape[1]
        self._residuals = {of: Residuals() for of in _ALPHA_MAX}
        self._backgrounds = {
            of: Background(_both_ways(residuals.fit_transform(_values(background, of))))
            for of, residuals in self._residuals.items()
        }
        self._alpha_max = {of: min(max(most, _STEPS / (len(background) + 1)), 1.0) for of, most in _ALPHA_MAX.items()}
        self._clean = {of: self._p_values(calibrating, of) for of in _ALPHA_MAX}
        self._single = self._surprise(calibrating)
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
            If a value is not finite, the number of nodes is another, or there are fewer than twice as many clean images
            to draw groups from.
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
        X = self.detector_.check_values(X)
        null = {size: self.null_part_scores(size) for size in dict.fromkeys(map(len, groups))}
        own, single = {of: self._p_values(X, of) for of in _ALPHA_MAX}, self._surprise(X)
        return [
            self._judged(*self._scan({of: p[rows] for of, p in own.items()}, single[rows]), null[len(rows)])
            for rows in groups
        ]

    def _judged(self, parts: np.ndarray, blocks: list[GroupScanResult], null: np.ndarray) -> AutomaticGroupScan:
        """Combine the scores of the parts, beside those of clean groups, and take the block that is rarer."""
        p_values = np.array([extrapolated_p_values(parts[n : n + 1], null[:, n])[0] for n in range(len(parts))])
        score = combined_scores(p_values[np.newaxis], "harmonic")
        null_p_values = np.column_stack([extrapolated_null_p_values(own) for own in null.T])
        p_value = conformal_p_values(score, combined_scores(null_p_values, "harmonic"))
        block = blocks[int(np.argmin(p_values[: len(blocks)]))]
        above = np.zeros((2, self.n_features_in_), bool)
        above.ravel()[block.nodes] = True
        nodes = np.flatnonzero(above.any(axis=0))
        directions = above[0, nodes].astype(np.int64) - above[1, nodes]
        return AutomaticGroupScan(float(score[0]), float(p_value[0]), block.images, nodes, directions, parts)

    def null_part_scores(self, size: int) -> np.ndarray:
        """Return the three scores of clean groups of this size, widened, (n_groups, 3); drawn once for each size.

        Raises
        ------
        ValueError
            If there are fewer than twice as many clean images to draw from.
        """
        n = len(self._single)
        if 2 * size > n:
            raise ValueError(f"groups of {size} images need at least {2 * size} clean images to be drawn from, got {n}")
        if size not in self._null:
            rng = as_generator(self.random_state)
            groups = [np.sort(rng.choice(n, size, replace=False)) for _ in range(self.n_groups)]
            scores = np.array(
                [self._scan({of: p[rows] for of, p in self._clean.items()}, self._single[rows])[0] for rows in groups]
            )
            mean = scores.mean(axis=0)
            self._null[size] = mean + (scores - mean) * np.sqrt((n + size) / (n - size))
        return self._null[size]

    def _surprise(self, X: np.ndarray) -> np.ndarray:
        """Compute -log p of each image."""
        return -np.log(self.detector_.p_values_of(self.detector_.anomaly_score(X), extrapolate=True))

    def _p_values(self, X: np.ndarray, of: str) -> np.ndarray:
        return self._backgrounds[of].p_values(_both_ways(self._residuals[of].transform(_values(X, of))))

    def _scan(self, p_values: Mapping[str, np.ndarray], single: np.ndarray) -> tuple[np.ndarray, list[GroupScanResult]]:
        """Return the three scores of a group, of its nodes' p-values and its images' -log p, and both blocks."""
        blocks = [
            scan_group(p_values[of], alpha_max=alpha_max, restarts=self.restarts, random_state=self.random_state)
            for of, alpha_max in self._alpha_max.items()
        ]
        return np.array([*(block.score for block in blocks), single.sum()]), blocks


def _values(X: np.ndarray, of: str) -> np.ndarray:
    return within_sample_ranks(X) if of == "ranks" else X


def _both_ways(residuals: np.ndarray) -> np.ndarray:
    """Lay the residuals and their opposites side by side: what is low is high in the second half."""
    return np.concatenate([residuals, -residuals], axis=1)
