"""From scores to decisions: which clean inputs calibrate, p-values, thresholds, selections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ._random import RandomState, check_random_state
from ._validation import refuse_masked

__all__ = [
    "CALIBRATIONS",
    "Plan",
    "check_probabilities",
    "check_scores",
    "conformal_p_values",
    "extrapolated_null_p_values",
    "extrapolated_p_values",
    "has_tail",
    "null_p_values",
    "plan",
    "score_threshold",
    "select",
]

CALIBRATIONS = ("holdout", "leave-one-out", None)
_TAIL_POINT = 0.9  # the share of null scores below the tail
_LEAST_TAIL, _LEAST_OF_FEW = 6, 2  # scores to fit one to
_MOST_EXCESS = 8  # of one null score, in medians; of an exponential distribution 0.4 % exceed it
_LEAST_P_VALUE = 1e-300


@dataclass(frozen=True, eq=False)
class Plan:
    """Which of the clean inputs make the background, and which give the null scores: row indices, increasing."""

    background: np.ndarray
    calibration: np.ndarray
    leave_one_out: bool


def plan(n_samples: int, calibration: str | None, fraction: float = 0.25, random_state: RandomState = None) -> Plan:
    """Share out clean inputs between background and calibration.

    Parameters
    ----------
    n_samples : int
        Number of clean inputs.
    calibration : {"holdout", "leave-one-out", None}
        Hold a random part of them out of the background, use all of them twice, or do not calibrate.
    fraction : float in (0, 1)
        The part that is held out; at least one input, and at least one stays.
    random_state : int, RandomState, Generator or None
        Draws that part.

    Raises
    ------
    ValueError
        If the kind is unknown, the fraction is outside (0, 1), or there are too few inputs.
    """
    everyone = np.arange(n_samples)
    if calibration not in CALIBRATIONS:
        raise ValueError(f"unknown calibration {calibration!r}; known are 'holdout', 'leave-one-out' and None")
    if calibration is None:
        return Plan(everyone, everyone[:0], leave_one_out=False)
    if n_samples < 2:
        raise ValueError(f"{calibration} calibration needs at least 2 clean inputs, got {n_samples} sample")
    if calibration == "leave-one-out":
        return Plan(everyone, everyone, leave_one_out=True)
    if not 0 < fraction < 1:
        raise ValueError(f"calibration_fraction must be in (0, 1), got {fraction}")
    n_held_out = min(max(1, round(fraction * n_samples)), n_samples - 1)
    shuffled = check_random_state(random_state).permutation(n_samples)
    return Plan(np.sort(shuffled[n_held_out:]), np.sort(shuffled[:n_held_out]), leave_one_out=False)


def conformal_p_values(scores: np.ndarray, null_scores: np.ndarray) -> np.ndarray:
    """Compute for each score the share of clean inputs, this one counted among them, that score at least as high.

    If the input is clean, so that it is exchangeable with those that gave the null scores, the chance of a p-value
    of at most a is at most a, whatever the dependence between nodes.

    Parameters
    ----------
    scores : ndarray of shape (N,)
    null_scores : ndarray of shape (n,)
        Scores of clean inputs that are not in the background.

    Returns
    -------
    ndarray of shape (N,), float64
        (1 + number of null scores >= score) / (n + 1)

    Raises
    ------
    ValueError
        If a score is NaN, which has no place among the others, or masked.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005.
    """
    scores, null_scores = check_scores(scores), check_scores(null_scores, "null scores")
    n = len(null_scores)
    return (1 + n - np.searchsorted(np.sort(null_scores), scores, side="left")) / (n + 1)


def null_p_values(null_scores: np.ndarray) -> np.ndarray:
    """Compute the p-value of each of the clean inputs that calibrate, among themselves.

    What a combination of several p-values is calibrated by. A further input would add to the count of some of them;
    without it they are a little too small, and p-values calibrated by them a little too large, never too small.

    Parameters
    ----------
    null_scores : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (n,), float64
        (number of null scores >= its own) / (n + 1)
    """
    null_scores = check_scores(null_scores, "null scores")
    n = len(null_scores)
    return (n - np.searchsorted(np.sort(null_scores), null_scores, side="left")) / (n + 1)


def extrapolated_p_values(scores: np.ndarray, null_scores: np.ndarray, *, of_few: bool = False) -> np.ndarray:
    """Compute p-values that go on below 1 / (n + 1), for combinations: an exponential tail above most null scores.

    A conformal p-value ends at 1 / (n + 1), however high the score; a combination of several then cannot tell one
    space that is far beyond all clean inputs from one that is just beyond them. Up to the null scores' 90 % point these
    p-values are the conformal ones; above it, with k null scores that exceed the point u, they are
    k / (n + 1) exp(-(score - u) / e), with e their mean excess, in which none counts for more than 8 times the median
    one: lest a single clean input that lies far out hides what is less far. They are estimates without a guarantee:
    what they are combined to is calibrated again.

    Parameters
    ----------
    scores : ndarray of shape (N,)
    null_scores : ndarray of shape (n,)
        Where fewer than 6 are above their 90 % point, there is no tail.
    of_few : bool, default False
        Let the tail start at the median there: where p-values of several small sets end at 1 / (n + 1), too many inputs
        that are first in one of them would tie.

    Returns
    -------
    ndarray of shape (N,), float64
        At least 1e-300.

    Raises
    ------
    ValueError
        If a score is NaN.

    References
    ----------
    Exceedances of a high threshold: S. Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, ch. 4.
    """
    p_values = conformal_p_values(scores, null_scores)
    scores, null_scores, n = np.asarray(scores, np.float64), np.sort(null_scores), len(null_scores)
    if not _tail_exists(null_scores, of_few):
        return p_values
    point = null_scores[_tail_places(n, of_few)[0]]
    excess = null_scores[np.searchsorted(null_scores, point, side="right") :] - point
    mean = np.minimum(excess, _MOST_EXCESS * np.median(excess)).mean()
    return _with_tail(p_values, scores - point, len(excess) / (n + 1), mean)


def extrapolated_null_p_values(null_scores: np.ndarray, *, of_few: bool = False) -> np.ndarray:
    """Compute what `extrapolated_p_values` gives for the inputs that calibrate, each beside the others alone.

    A score that had a part in the tail that it is judged by could not lie far out in it, as that of a new input can: a
    combination that is calibrated by such p-values would flag too many.

    Parameters
    ----------
    null_scores : ndarray of shape (n,)
    of_few : bool, default False
        As for `extrapolated_p_values`. Where there is no tail even so, p-values are counted in n + 1, not in n: by a
        minimum every new input that is first, with 1 / (n + 1), would be before all clean ones that are, with 1 / n.

    Returns
    -------
    ndarray of shape (n,), float64
    """
    null_scores = check_scores(null_scores, "null scores")
    n = len(null_scores)
    order = np.argsort(null_scores, kind="stable")
    ordered, place = null_scores[order], np.arange(n)
    p_values = np.empty(n)
    counts = n - np.searchsorted(ordered, ordered, side="left")  # 1 + the others
    if not _tail_exists(ordered, of_few):
        p_values[order] = counts / (n + 1 if of_few else max(n, 1))
        return p_values
    p_values[order] = counts / n
    at = _tail_places(n, of_few)[1]
    point = np.where(place > at, ordered[at], ordered[at + 1])  # of the others
    first = np.searchsorted(ordered, point, side="right")  # the first that exceeds it
    n_above = n - first - (place >= first)
    # The median of the excesses of the others: the places of two among all, stepping over one's own.
    middle = np.stack([first + (n_above - 1) // 2, first + n_above // 2])
    middle += (place >= first) & (place <= middle)
    limit = point + _MOST_EXCESS * (ordered[np.minimum(middle, n - 1)].mean(axis=0) - point)
    inside = np.searchsorted(ordered, limit, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    total = sums[inside] - sums[first] + (n - inside) * limit - np.where(place >= first, np.minimum(ordered, limit), 0)
    tailed = n_above >= (_LEAST_OF_FEW if of_few else _LEAST_TAIL)
    mean = total[tailed] / n_above[tailed] - point[tailed]
    told = p_values[order]
    told[tailed] = _with_tail(told[tailed], (ordered - point)[tailed], n_above[tailed] / n, mean)
    p_values[order] = told
    return p_values


def has_tail(null_scores: np.ndarray, *, of_few: bool = False) -> bool:
    """Tell whether null scores are enough for the tail of `extrapolated_p_values`."""
    return _tail_exists(np.sort(check_scores(null_scores, "null scores")), of_few)


def _tail_exists(ordered: np.ndarray, of_few: bool) -> bool:
    """Tell whether scores are enough for a tail: all of them, and without the highest. Neither has one alone.

    Infinite scores have no distances, and so no tail.
    """
    least, n = _LEAST_OF_FEW if of_few else _LEAST_TAIL, len(ordered)
    if n < 2 or not np.isfinite(ordered[[0, -1]]).all():
        return False
    above = [
        left - np.searchsorted(ordered[:left], ordered[_tail_places(n, of_few)[n - left]], side="right")
        for left in (n, n - 1)
    ]
    return bool(min(above) >= least)


def _tail_places(n: int, of_few: bool) -> tuple[int, int]:
    """Tell the places, among n ordered null scores and among n - 1, of the one that the tail starts at."""
    places = int(_TAIL_POINT * n), int(_TAIL_POINT * (n - 1))
    if of_few and min(n - 1 - places[0], n - 2 - places[1]) < _LEAST_TAIL:
        return n // 2, (n - 1) // 2  # the mean of the least that are needed would be too rough
    return places


def _with_tail(p_values: np.ndarray, excess: np.ndarray, share: Any, mean: Any) -> np.ndarray:
    """Put an exponential tail in the place of the p-values of scores that exceed the point where it starts."""
    with np.errstate(over="ignore", under="ignore"):
        tail = share * np.exp(-np.maximum(excess, 0) / mean)
    return np.where(excess > 0, np.maximum(tail, _LEAST_P_VALUE), p_values)


def select(p_values: Any, fdr: float = 0.05) -> np.ndarray:
    """Select inputs so that the expected share of clean ones among them is at most `fdr`.

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
    p_values = check_probabilities(p_values)
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
    null_scores = check_scores(null_scores, "null scores")
    n = len(null_scores)
    attainable = np.arange(1, n + 1) / (n + 1)
    n_allowed = int(np.searchsorted(attainable, false_positive_rate, side="right"))
    return float(np.sort(null_scores)[n - n_allowed]) if n_allowed else np.inf


def check_scores(scores: Any, what: str = "scores") -> np.ndarray:
    """Take a row of scores as float64. Raises ValueError for another shape, NaN, and masked values."""
    refuse_masked(scores, what)
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"{what} must have 1 dimension, got shape {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"{what} must be numbers, got NaN at {int(np.isnan(scores).argmax())}")
    return scores


def check_probabilities(p_values: Any) -> np.ndarray:
    """Take p-values as float64. Raises ValueError for one that is not in [0, 1], or is masked."""
    refuse_masked(p_values, "p-values")
    p_values = np.asarray(p_values, dtype=np.float64)
    inside = (p_values >= 0) & (p_values <= 1)
    if not inside.all():
        raise ValueError(f"p-values must be in [0, 1], got {p_values[~inside][0]}")
    return p_values
