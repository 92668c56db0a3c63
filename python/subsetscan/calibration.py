"""From scores to decisions: which clean images calibrate, conformal p-values, thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from sklearn.utils import check_random_state

__all__ = ["CALIBRATIONS", "Plan", "conformal_p_values", "plan", "score_threshold"]

CALIBRATIONS = ("holdout", "leave-one-out", None)


@dataclass(frozen=True)
class Plan:
    """Which of the clean images make the background, and which give the null scores: row indices, increasing."""

    background: np.ndarray
    calibration: np.ndarray
    leave_one_out: bool


def plan(
    n_samples: int, calibration: str | None, fraction: float = 0.25, random_state: int | RandomState | None = None
) -> Plan:
    """Share out clean images between background and calibration.

    Parameters
    ----------
    n_samples : int
        Number of clean images.
    calibration : {"holdout", "leave-one-out", None}
        Hold a random part of them out of the background, use all of them twice, or do not calibrate.
    fraction : float in (0, 1)
        The part that is held out; at least one image, and at least one stays.
    random_state : int, RandomState or None
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
    null_scores : ndarray of shape (n,), increasing
        Scores of clean images that are not in the background.

    Returns
    -------
    ndarray of shape (N,), float64
        (1 + number of null scores >= score) / (n + 1)

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005.
    """
    n = len(null_scores)
    return (1 + n - np.searchsorted(null_scores, scores, side="left")) / (n + 1)


def score_threshold(null_scores: np.ndarray, false_positive_rate: float) -> float:
    """Find the score that must be exceeded for a conformal p-value of at most the false positive rate.

    Infinite where not even the highest score can have one, because there are too few null scores.

    Parameters
    ----------
    null_scores : ndarray of shape (n,), increasing
    false_positive_rate : float in (0, 1)

    Raises
    ------
    ValueError
        If the rate is outside (0, 1).
    """
    if not 0 < false_positive_rate < 1:
        raise ValueError(f"false_positive_rate must be in (0, 1), got {false_positive_rate}")
    n = len(null_scores)
    attainable = np.arange(1, n + 1) / (n + 1)
    n_allowed = int(np.searchsorted(attainable, false_positive_rate, side="right"))
    return float(null_scores[n - n_allowed]) if n_allowed else np.inf
