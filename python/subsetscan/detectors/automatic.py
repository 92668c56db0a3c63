"""The default detector: nothing to choose, nothing to know about the anomaly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .._random import RandomState
from ..background import Background
from ..calibration import extrapolated_null_p_values, extrapolated_p_values
from ..scanning import ScanResult
from .base import CalibratedDetector
from .neighbor import NearestNeighborDetector
from .residual_scan import ResidualScanDetector

__all__ = ["RARE", "AutomaticDetector", "is_rare"]

_COPIES = 0.01  # of all inputs: with more, false positives are too many
RARE = 5  # inputs in which a node differs from its usual value
_WEIGHTS = np.array([1, 1, 1, 0.1, 1])
_POINTING = 0.05  # alpha_max of the scan that points


class AutomaticDetector(CalibratedDetector):
    """Detect inputs in five ways that complement each other, with nothing to choose.

    1. A two-sided Berk-Jones scan of the residuals of within-sample ranks, each node given all others: some nodes are
       not what the others say. See `subsetscan.residuals`.
    2. The same of the values.
    3. Mahalanobis' distance of the ranks: all nodes together are far out.
    4. Mahalanobis' distance of the values: one node alone is very far out, which ranks do not tell.
    5. The cosine distance to the nearest clean input, of values in units of each node's standard deviation: there was
       nothing like it.

    Each score becomes a p-value among the scores of the clean inputs, each of which is left out in turn, with an
    exponential tail above most of them. The harmonic mean of the five makes the score, so that what one of them sees is
    not lost among the others; it is calibrated as a score of its own. The fourth has a tenth of the weight of the
    others: it adds little where many nodes are a little odd, and its p-values are tiny where it is needed.

    Where an anomaly lies is told by a scan of its own, which points at few nodes, most of them rightly: of the values,
    two-sided, by Higher Criticism.

    Sums of products may be rounded differently in batches of other sizes: scores agree to about 12 digits.

    Parameters
    ----------
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
        As for `SubsetScanDetector`.
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    rank_scan_, value_scan_ : ResidualScanDetector
    nearest_ : NearestNeighborDetector
    part_null_scores_ : ndarray of shape (M, 5), float64
        The five scores of the clean inputs of the background.
    where_ : Background
        The clean inputs' values, for the scan that points.
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
    >>> AutomaticDetector().fit(clean).predict(changed)
    array([-1, -1, -1])
    """

    leaves_one_out = True

    def __init__(
        self,
        *,
        calibration: str | None = "leave-one-out",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X: np.ndarray) -> np.ndarray:  # noqa: D102 (the base says it, as for those below)
        _warn_of_copies(self._count_copies(X), len(X))
        if self.calibration == "leave-one-out" and len(X) > 2 * RARE:
            _warn_of_rare_values(self._count_rare(X), X.shape)
        self.rank_scan_, self.value_scan_, self.nearest_ = self._new_parts()
        scans = [part.take_background(X) for part in (self.rank_scan_, self.value_scan_)]
        nearest = self.nearest_.take_background(X)
        self.part_null_scores_ = np.column_stack(
            [*scans, self.rank_scan_.distances_, self.value_scan_.distances_, nearest]
        )
        # The smallest p-value of a two-sided scan is 2 / (n + 1).
        largest = min(max(_POINTING, 4 / (len(X) + 1)), 1.0)
        self.where_ = self._new_background(X, "two-sided", largest)
        return _together([extrapolated_null_p_values(null_scores) for null_scores in self.part_null_scores_.T])

    # What differs where the inputs are spread over machines.
    _new_background: Callable[..., Any] = Background

    @staticmethod
    def _new_parts() -> tuple[ResidualScanDetector, ResidualScanDetector, NearestNeighborDetector]:
        ranks, values = (ResidualScanDetector(of=of, calibration=None) for of in ("ranks", "values"))
        return ranks, values, NearestNeighborDetector(calibration=None)

    @staticmethod
    def _count_copies(X: np.ndarray) -> int:
        """Count inputs that equal an earlier one; those whose nodes are all equal, as zeros, may do so by nature."""
        varied = X[(X[:, :1] != X).any(axis=1)]
        return len(varied) - len({row.tobytes() for row in np.ascontiguousarray(varied)})

    @staticmethod
    def _count_rare(X: np.ndarray) -> int:
        """Count nodes with the same value in all inputs but a few, and not in all: most of the first have it."""
        return int(is_rare((np.median(X[: 2 * RARE + 1], axis=0) != X).sum(axis=0)).sum())

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        parts = self.part_scores(X)
        null = self.part_null_scores_
        return _together([extrapolated_p_values(parts[:, n], null[:, n]) for n in range(parts.shape[1])])

    def part_scores(self, X: Any) -> np.ndarray:
        """Compute the five scores of each input, float64 of shape (N, 5), in the order of the class' description."""
        X = self.check_values(X)
        ranked, distances = self.rank_scan_.scan_with_distances(X)
        valued, far = self.value_scan_.scan_with_distances(X)
        return np.column_stack([ranked.scores, valued.scores, distances, far, self.nearest_.anomaly_score(X)])

    def _check_scoring(self, n_values: int) -> None:
        super()._check_scoring(n_values)
        parts = [self.part_null_scores_.T[0], self.rank_scan_.distances_, self.value_scan_.distances_]
        if {self.where_.n_samples, *map(len, (*parts, self.nearest_.points_))} != {self.where_.n_samples}:
            raise ValueError("its parts are of different numbers of inputs")
        if self.where_.n_nodes != self.n_features_in_:
            raise ValueError(f"it points at {self.where_.n_nodes} nodes, but scores {self.n_features_in_}")

    def scan(self, X: Any, y: None = None, *, return_nodes: bool = False) -> ScanResult:
        """Score inputs, and point at the nodes that tell most of what is odd about each.

        Parameters
        ----------
        X : array-like of shape (N, J)
        y : None
            Ignored.
        return_nodes : bool

        Returns
        -------
        ScanResult
            With the scores of `anomaly_score`; thresholds, sizes and subsets are those of the scan that points.

        Raises
        ------
        ValueError
            As for `anomaly_score`.
        """
        del y
        X = self.check_values(X)
        options = {"statistic": "higher-criticism", "tail": "two-sided", "alpha_max": self.where_.alpha_max}
        found = self.where_.scan(X, **options, return_nodes=return_nodes)
        return self.with_p_values(replace(found, scores=self.anomaly_score(X)))

    def leading(self, X: Any, y: None = None, *, share: float = 0.5) -> ScanResult:
        """Return what `scan` does, with the subsets, whatever the share: they are few nodes as they are."""
        del share
        return self.scan(X, y, return_nodes=True)


def _together(p_values: list[np.ndarray]) -> np.ndarray:
    """Compute minus the logarithm of the weighted harmonic mean."""
    return np.log(_WEIGHTS @ (1 / np.array(p_values)) / _WEIGHTS.sum())


def _warn_of_copies(n_copies: int, n_samples: int) -> None:
    """Warn if many inputs equal another one."""
    if n_copies > _COPIES * n_samples:
        warnings.warn(
            f"{n_copies} of {n_samples} clean inputs equal an earlier one. If they are copies, more clean inputs are "
            "flagged than asked for, as no new input has such a neighbor: leave them out",
            stacklevel=4,
        )


def is_rare(n_others: np.ndarray) -> np.ndarray:
    """Tell which nodes differ from their usual value in some inputs, and in very few."""
    return (n_others > 0) & (n_others <= RARE)


def _warn_of_rare_values(n_rare: int, shape: tuple[int, ...]) -> None:
    """Warn where most nodes have one value but for very few inputs: what one of these adds to a fit is not small."""
    if n_rare > shape[1] / 2:
        warnings.warn(
            f"{n_rare} of {shape[1]} nodes have the same value in all but at most {RARE} of {shape[0]} clean "
            "inputs. Calibrated by leaving one out, more clean inputs may be flagged than asked for: give more clean "
            "inputs, or calibration='holdout'",
            stacklevel=4,
        )
