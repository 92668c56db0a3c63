"""From scores to decisions: which clean images calibrate, conformal p-values, combinations of them, selections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ._random import RandomState, check_random_state

__all__ = [
    "CALIBRATIONS",
    "COMBINATIONS",
    "Plan",
    "combined_scores",
    "conformal_p_values",
    "null_p_values",
    "plan",
    "score_threshold",
    "select",
]

CALIBRATIONS = ("holdout", "leave-one-out", None)
COMBINATIONS = ("min", "fisher", "cauchy")


@dataclass(frozen=True)
class Plan:
    """Which of the clean images make the background, and which give the null scores: row indices, increasing."""

    background: np.ndarray
    calibration: np.ndarray
    leave_one_out: bool


def plan(n_samples: int, calibration: str | None, fraction: float = 0.25, random_state: RandomState = None) -> Plan:
    """Share out clean images between background and calibration.

    Parameters
    ----------
    n_samples : int
        Number of clean images.
    calibration : {"holdout", "leave-one-out", None}
        Hold a random part of them out of the background, use all of them twice, or do not calibrate.
    fraction : float in (0, 1)
        The part that is held out; at least one image, and at least one stays.
    random_state : int, RandomState, Generator or None
        Draws that part.

    Raises
    ------
    ValueError
        If the kind is unknown, the fraction is outside (0, 1), or there are too few images.
    """
    everyone = np.arange(n_samples)
    if calibration not in CALIBRATIONS:
        raise ValueError(f"unknown calibration {calibration!r}; known are 'holdout', 'leave-one-out' and None")
    if calibration is None:
        return Plan(everyone, everyone[:0], leave_one_out=False)
    if n_samples < 2:
        raise ValueError(f"{calibration} calibration needs at least 2 clean images, got {n_samples} sample")
    if calibration == "leave-one-out":
        return Plan(everyone, everyone, leave_one_out=True)
    if not 0 < fraction < 1:
        raise ValueError(f"calibration_fraction must be in (0, 1), got {fraction}")
    n_held_out = min(max(1, round(fraction * n_samples)), n_samples - 1)
    shuffled = check_random_state(random_state).permutation(n_samples)
    return Plan(np.sort(shuffled[n_held_out:]), np.sort(shuffled[:n_held_out]), leave_one_out=False)


def conformal_p_values(scores: np.ndarray, null_scores: np.ndarray) -> np.ndarray:
    """Compute for each score the share of clean images, this one counted among them, that score at least as high.

    If the image is clean, so that it is exchangeable with those that gave the null scores, the chance of a p-value
    of at most a is at most a, whatever the dependence between nodes.

    Parameters
    ----------
    scores : ndarray of shape (N,)
    null_scores : ndarray of shape (n,)
        Scores of clean images that are not in the background.

    Returns
    -------
    ndarray of shape (N,), float64
        (1 + number of null scores >= score) / (n + 1)

    Raises
    ------
    ValueError
        If a score is NaN, which has no place among the others.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005.
    """
    n = len(null_scores)
    scores, null_scores = _numbers(scores, "scores"), _numbers(null_scores, "null scores")
    return (1 + n - np.searchsorted(np.sort(null_scores), scores, side="left")) / (n + 1)


def null_p_values(null_scores: np.ndarray) -> np.ndarray:
    """Compute the p-value of each of the clean images that calibrate, among themselves.

    What a combination of several p-values is calibrated by. A further image would add to the count of some of them;
    without it they are a little too small, and p-values calibrated by them a little too large, never too small.

    Parameters
    ----------
    null_scores : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (n,), float64
        (number of null scores >= its own) / (n + 1)
    """
    n = len(null_scores)
    null_scores = _numbers(null_scores, "null scores")
    return (n - np.searchsorted(np.sort(null_scores), null_scores, side="left")) / (n + 1)


def combined_scores(p_values: np.ndarray, combine: str) -> np.ndarray:
    """Combine several p-values of each image in one score, higher for smaller ones, to be calibrated again.

    Parameters
    ----------
    p_values : ndarray of shape (N, S)
        S p-values of each image, in (0, 1). They may depend on each other.
    combine : {"min", "fisher", "cauchy"}
        1 - min p (Tippett), -2 sum log p (Fisher), or mean max(0, tan((0.5 - p) pi)) (truncated Cauchy: without the
        truncation one p-value near 1 would outweigh any small one).

    Returns
    -------
    ndarray of shape (N,), float64

    Raises
    ------
    ValueError
        If there is no such combination, a p-value is not in [0, 1], or the shape is not (N, S) with S >= 1.

    References
    ----------
    Y. Liu, J. Xie, Cauchy combination test, JASA 115, 2020, doi:10.1080/01621459.2018.1554485; B. Chen, W. Xu, X. Gao,
    Truncated Cauchy combination test, 2025, arXiv:2506.12489.
    """
    p_values = _probabilities(p_values)
    if p_values.ndim != 2 or not p_values.shape[1]:
        raise ValueError(f"p-values must have shape (N, S), at least one for each image, got {p_values.shape}")
    if combine == "min":
        return 1 - p_values.min(axis=1)
    if combine == "fisher":
        return -2 * np.log(p_values).sum(axis=1)
    if combine == "cauchy":
        return np.maximum(stats.cauchy.isf(p_values), 0).mean(axis=1)
    raise ValueError(f"unknown combination {combine!r}; known are {', '.join(map(repr, COMBINATIONS))} and None")


def select(p_values: Any, fdr: float = 0.05) -> np.ndarray:
    """Select images so that the expected share of clean ones among them is at most `fdr`.

    Benjamini and Hochberg's procedure. Conformal p-values with the same null scores depend on each other in a way that
    leaves its guarantee as it is (Bates et al. 2023).

    Parameters
    ----------
    p_values : array-like of shape (N,)
        Calibrated p-values.
    fdr : float in (0, 1)
        The false discovery rate.

    Returns
    -------
    ndarray of shape (N,), bool

    Raises
    ------
    ValueError
        If `fdr` is outside (0, 1), or a p-value outside [0, 1].

    References
    ----------
    Y. Benjamini, Y. Hochberg, Controlling the false discovery rate, 1995;
    S. Bates, E. Candes, L. Lei, Y. Romano, M. Sesia, Testing for outliers with conformal p-values, Annals of Statistics
    51, 2023, doi:10.1214/22-AOS2244.

    Examples
    --------
    >>> select([0.001, 0.9, 0.012, 0.04])
    array([ True, False,  True, False])
    """
    if not 0 < fdr < 1:
        raise ValueError(f"fdr must be in (0, 1), got {fdr}")
    p_values = _probabilities(p_values)
    if p_values.ndim != 1:
        raise ValueError(f"p-values must have 1 dimension, got shape {p_values.shape}")
    return stats.false_discovery_control(p_values) <= fdr if len(p_values) else np.empty(0, bool)


def score_threshold(null_scores: np.ndarray, false_positive_rate: float) -> float:
    """Find the score that must be exceeded for a conformal p-value of at most the false positive rate.

    Infinite where not even the highest score can have one, because there are too few null scores.

    Parameters
    ----------
    null_scores : ndarray of shape (n,)
    false_positive_rate : float in (0, 1)

    Raises
    ------
    ValueError
        If the rate is outside (0, 1).
    """
    if not 0 < false_positive_rate < 1:
        raise ValueError(f"false_positive_rate must be in (0, 1), got {false_positive_rate}")
    n, null_scores = len(null_scores), _numbers(null_scores, "null scores")
    attainable = np.arange(1, n + 1) / (n + 1)
    n_allowed = int(np.searchsorted(attainable, false_positive_rate, side="right"))
    return float(np.sort(null_scores)[n - n_allowed]) if n_allowed else np.inf


def _numbers(scores: Any, what: str) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"{what} must be numbers, got NaN at {int(np.isnan(scores).argmax())}")
    return scores


def _probabilities(p_values: Any) -> np.ndarray:
    p_values = np.asarray(p_values, dtype=np.float64)
    inside = (p_values >= 0) & (p_values <= 1)
    if not inside.all():
        raise ValueError(f"p-values must be in [0, 1], got {p_values[~inside][0]}")
    return p_values
