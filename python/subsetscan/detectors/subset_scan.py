"""The scan as a scikit-learn outlier detector: fitted on clean inputs, calibrated, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from .._random import RandomState
from ..background import Background
from ..scanning import ScanResult
from .leading import leading_subsets
from .ranked import BackgroundDetector

__all__ = ["SubsetScanDetector"]


class SubsetScanDetector(BackgroundDetector):
    """Detect inputs whose nodes are jointly more extreme than those of clean inputs.

    Scores are those of the exact scan over all subsets of nodes; decisions come from the scores of clean inputs that
    are not in the background, so that the share of clean inputs that are flagged is known.

    Parameters
    ----------
    statistic : {"berk-jones", "higher-criticism", "kolmogorov-smirnov"}, default "berk-jones"
        What a subset is scored by.
    tail : {"upper", "lower", "two-sided"}, default "upper"
        Which node values are extreme.
    alpha_max : float in (0, 1], default 0.5
        The largest threshold to consider.
    scope : {"subset", "all"}, default "subset"
        Hold the small p-values against the subset alone, as in the paper, or against all nodes.
    ties : {"upper", "midrank", "random", "range"}, default "upper"
        Which part of its range a p-value takes where background values equal the input's: see `Background.scan`.
    calibration : {"holdout", "leave-one-out", None}, default "holdout"
        Where null scores come from. "holdout" keeps a part of the clean inputs out of the background; the false
        positive rate is then guaranteed. "leave-one-out" scans each background input against all the others, which
        wastes no input, but its guarantee is weaker. None gives scores only, until `calibrate` is called with
        your own clean inputs. All of X is background in the last two.
    calibration_fraction : float in (0, 1), default 0.25
        The part of the clean inputs that "holdout" keeps out.
    false_positive_rate : float in (0, 1), default 0.05
        The share of clean inputs that `predict` may flag. It is no guess at the share of outliers.
    random_state : int, RandomState, Generator or None, default None
        Draws the part that is held out, and the seed of random ties.

    Attributes
    ----------
    background_ : Background
        Compact where `ties` is "upper": it serves scans of `tail` up to `alpha_max`.
    null_scores_ : ndarray of shape (n,), float64
        Scores of the clean inputs that calibrate, in their order; empty without calibration.
    offset_ : float
        `decision_function` is `score_samples` minus this.
    scan_options_ : dict
        The options of the scan, as they were when fitted.
    n_features_in_ : int
        Number of nodes.
    feature_names_in_ : ndarray of str
        Names of the nodes, where `X` was a data frame with such.

    References
    ----------
    Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> clean, attacked = rng.normal(size=(400, 50)), rng.normal(1, size=(3, 50))
    >>> detector = SubsetScanDetector(random_state=0).fit(clean)
    >>> detector.predict(attacked)
    array([-1, -1, -1])
    """

    def __init__(
        self,
        *,
        statistic: str = "berk-jones",
        tail: str = "upper",
        alpha_max: float = 0.5,
        scope: str = "subset",
        ties: str = "upper",
        calibration: str | None = "holdout",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.statistic = statistic
        self.tail = tail
        self.alpha_max = alpha_max
        self.scope = scope
        self.ties = ties
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def scan(self, X: Any, y: None = None, *, return_nodes: bool = False) -> ScanResult:
        """Find the highest-scoring subset of nodes of each input.

        Parameters
        ----------
        X : array-like of shape (N, J)
        y : None
            Ignored.
        return_nodes : bool
            Whether to return the subsets as well.

        Returns
        -------
        ScanResult

        Raises
        ------
        ValueError
            If a value is NaN or infinite, or the number of nodes is not that of the background.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        del y
        X = self.check_values(X)
        return self.with_p_values(self.background_.scan(X, **self.scan_options_, return_nodes=return_nodes))

    def leading(self, X: Any, y: None = None, *, share: float = 0.5) -> ScanResult:
        """Find the smallest subset of each input's nodes that carries at least a share of its score.

        The highest-scoring subset may hold a third of all nodes, many of them hardly unusual. This one is all nodes
        with p <= alpha for the smallest alpha whose score is at least `share` of the highest.

        Parameters
        ----------
        X : array-like of shape (N, J)
        y : None
            Ignored.
        share : float in (0, 1]

        Returns
        -------
        ScanResult
            With these subsets, their scores and thresholds.

        Raises
        ------
        ValueError
            As for `scan`, and if the share is outside (0, 1].
        """
        del y
        return leading_subsets(self.background_, self.check_values(X), self.scan_options_, share)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("statistic", "tail", "alpha_max", "scope", "ties")}

    def _kept(self) -> tuple[str, float] | tuple[()]:
        return (self.tail, self.alpha_max) if self.ties == "upper" else ()

    @staticmethod
    def _score(background: Background, X: np.ndarray, options: Mapping[str, Any], inside: bool) -> np.ndarray:
        scan = partial(background.leave_one_out, same_grid=True) if inside else background.scan
        return scan(X, **options).scores
