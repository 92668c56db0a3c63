"""Groups of images against a background: how unusual the score of their best block is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._random import RandomState, as_generator
from ._validation import InvalidTypeError, integer, node_values
from .background import Background
from .calibration import conformal_p_values
from .group_scan import Found, GroupScanResult, Limits, limits_of, scan_classes
from .groups_automatic import AutomaticGroupScanner

__all__ = ["GroupScanner"]


class GroupScanner:
    """The group scan over a fitted background, and p-values of groups against clean groups of the same size.

    Parameters
    ----------
    background : Background
        Node values of clean images, whole or compact.
    statistic, alpha_max, restarts, sizes
        As for `scan_group`.
    tail : {"upper", "lower", "two-sided"}
        Which values are extreme.
    ties : {"upper", "midrank", "random"}
        As for `Background.p_values`; random ones are drawn with seed 0.
    random_state : int, RandomState, Generator or None
        Draws the starts, and the clean groups. With an int every call draws the same.

    Raises
    ------
    TypeError
        If the background is something else.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.normal(size=(400, 50))
    >>> scanner = GroupScanner(Background(clean[:200]), random_state=0).calibrate(clean[200:], n_groups=99)
    >>> group = rng.normal(size=(10, 50))
    >>> scanner.p_value(group)
    0.73
    >>> group[:4, 20:30] += 2.5
    >>> scanner.p_value(group)
    0.01
    >>> scanner.scan(group).images
    array([0, 1, 2, 3])
    """

    def __init__(
        self,
        background: Background,
        *,
        statistic: str = "berk-jones",
        tail: str = "upper",
        alpha_max: float = 0.5,
        ties: str = "upper",
        restarts: int = 10,
        sizes: Mapping[str, Limits] | None = None,
        random_state: RandomState = None,
    ) -> None:
        if not isinstance(background, Background):
            kind = type(background).__name__
            raise InvalidTypeError(f"background must be a Background, got {kind}: use Background(activations)")
        self.background = background
        self.statistic = statistic
        self.tail = tail
        self.ties = ties
        self.alpha_max = alpha_max
        self.restarts = restarts
        self.sizes = sizes
        self.random_state = random_state
        self._clean: np.ndarray | None = None
        self._n_groups = 0
        self._null_scores: dict[tuple[Any, ...], np.ndarray] = {}

    @staticmethod
    def automatic(clean: Any, **options: Any) -> AutomaticGroupScanner:
        """Make a scanner of groups with nothing to choose: see `subsetscan.groups_automatic.AutomaticGroupScanner`.

        Parameters
        ----------
        clean : array-like of shape (n, J)
            Node values of clean images, for the background and for clean groups.
        **options
            Those of `AutomaticGroupScanner`.

        Raises
        ------
        ValueError
            As for `AutomaticGroupScanner.fit`.
        """
        return AutomaticGroupScanner(**options).fit(clean)

    def scan(self, X: Any, constraint: Any = None, bound: str | None = "quick") -> GroupScanResult:
        """Find the block of images and nodes that scores highest, as `scan_group` does from their p-values.

        Parameters
        ----------
        X : array-like of shape (N, J)
            Node values of a group of at least 2 images that are not in the background.
        constraint : array-like of shape (N,), optional
            Labels: only blocks whose images all have the same one count.
        bound : {"quick", "close", None}
            How to compute `upper_bound`, as in `scan_group`.

        Returns
        -------
        GroupScanResult

        Raises
        ------
        ValueError
            If `X` has another number of nodes than the background, a NaN or fewer than 2 images, the background is
            compact and was built for other scans, and as for `scan_group`.
        TypeError
            If `X` does not hold numbers.
        """
        return self._scan(X, as_generator(self.random_state), constraint, bound)

    def calibrate(self, clean: Any, n_groups: int = 199) -> GroupScanner:
        """Keep the node values of clean images to draw groups from.

        Parameters
        ----------
        clean : array-like of shape (n, J)
            Clean images that are not in the background. Those that are would score too low.
        n_groups : int
            How many groups are drawn for each size that is asked for.

        Returns
        -------
        GroupScanner
            This one.

        Raises
        ------
        ValueError
            If the images have another number of nodes than the background, or fewer than one group is asked for.
        """
        self.background.check_names(clean)
        clean = node_values(clean)
        if clean.shape[1] != self.background.n_nodes:
            raise ValueError(
                f"the images have {clean.shape[1]} nodes, but the background has {self.background.n_nodes}"
            )
        if integer(n_groups, "n_groups") < 1:
            raise ValueError(f"n_groups must be at least 1, got {n_groups}")
        self._clean, self._n_groups, self._null_scores = clean.copy(), n_groups, {}
        return self

    def null_scores(self, size: int) -> np.ndarray:
        """Return the scores of random clean groups of this size, increasing; drawn once for each size and options.

        Images are drawn without replacement within a group. Groups overlap unless they are few.

        Raises
        ------
        ValueError
            If the scanner is not calibrated, there are fewer than twice as many clean images, or fewer than 2 are asked
            for.
        """
        if self._clean is None:
            raise ValueError("no clean groups to compare with: call calibrate first")
        if 2 * size > len(self._clean):
            n = len(self._clean)
            raise ValueError(f"groups of {size} images need at least {2 * size} clean images to be drawn from, got {n}")
        key = size, *self._options()
        if key not in self._null_scores:
            rng = as_generator(self.random_state)
            scores = [
                self._scan(self._clean[rng.choice(len(self._clean), size, replace=False)], rng, bound=None).score
                for _ in range(self._n_groups)
            ]
            self._null_scores[key] = np.sort(scores)
        return self._null_scores[key]

    def _options(self) -> tuple[Any, ...]:
        """Return what a score depends on besides the images: null scores serve for the same alone."""
        scan = self.background, self.statistic, self.tail, self.alpha_max, self.ties
        return *scan, self.restarts, limits_of(self.sizes), self.random_state

    def p_value(self, X: Any) -> float:
        """Compute the share of clean groups of the same size, this one counted among them, that score at least as high.

        The clean groups overlap, unless they are few, and so share images that score high or low by chance: the p-value
        is approximate, and too small where there are few of them. Take many times more clean images than a group has;
        fewer than twice as many are refused.

        Parameters
        ----------
        X : array-like of shape (N, J)
            Node values of a group of images.

        Raises
        ------
        ValueError
            As for `scan` and `null_scores`.
        """
        score = self._scan(X, as_generator(self.random_state), bound=None).score
        return float(conformal_p_values(np.array([score]), self.null_scores(len(X)))[0])

    def _scan(
        self, X: Any, rng: np.random.Generator, constraint: Any = None, bound: str | None = "quick"
    ) -> GroupScanResult:
        limits = limits_of(self.sizes)
        self.background._check(self.tail, self.ties)
        core, values = self.background._in_one_type(X)

        def scan(rows: np.ndarray | None, starts: np.ndarray, from_all_nodes: bool) -> Found:
            group = values if rows is None else values[rows]
            options = self.statistic, self.tail, self.alpha_max, self.ties, 0
            return core.scan_group(group, starts, from_all_nodes, *options, *limits, bound)

        return scan_classes(scan, len(values), self.restarts, rng, constraint, limits[0])
