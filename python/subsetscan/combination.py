"""Several p-values of each input as one score: layers and spaces, or detectors, looked at together."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .calibration import check_probabilities, extrapolated_null_p_values, extrapolated_p_values

__all__ = ["COMBINATIONS", "SUMS", "combined", "combined_scores"]

SUMS = ("fisher", "harmonic", "cauchy", "min")
COMBINATIONS = ("fisher+harmonic", *SUMS)


def combined(own: np.ndarray, null: np.ndarray, combine: str) -> tuple[np.ndarray, np.ndarray]:
    """Combine several p-values of each input, and of each clean input that calibrates, in one score.

    Parameters
    ----------
    own : ndarray of shape (N, S)
        S p-values of each input, in (0, 1]. They may depend on each other.
    null : ndarray of shape (n, S)
        Those of the clean inputs that calibrate.
    combine : {"fisher+harmonic", "fisher", "harmonic", "cauchy", "min"}
        One of `combined_scores`; or Fisher's sum, which sees what is everywhere a little, and the harmonic mean, which
        sees what is in one place, each as a p-value among the null scores, and Fisher's sum of the two.

    Returns
    -------
    scores : ndarray of shape (N,), float64
        Higher is more anomalous.
    null_scores : ndarray of shape (n,), float64
        What they are calibrated by.

    Raises
    ------
    ValueError
        As for `combined_scores`.
    """
    if combine not in COMBINATIONS:
        raise ValueError(f"unknown combination {combine!r}; known are {', '.join(map(repr, COMBINATIONS))} and None")
    if combine != "fisher+harmonic":
        return combined_scores(own, combine), combined_scores(null, combine)
    parts = [(combined_scores(own, how), combined_scores(null, how)) for how in ("fisher", "harmonic")]
    both = np.column_stack([extrapolated_p_values(scores, null_scores) for scores, null_scores in parts])
    null_both = np.column_stack([extrapolated_null_p_values(null_scores) for _, null_scores in parts])
    return combined_scores(both, "fisher"), combined_scores(null_both, "fisher")


def combined_scores(p_values: np.ndarray, combine: str) -> np.ndarray:
    """Combine several p-values of each input in one score, higher for smaller ones, to be calibrated again.

    Parameters
    ----------
    p_values : ndarray of shape (N, S)
        S p-values of each input, in (0, 1). They may depend on each other.
    combine : {"fisher", "harmonic", "cauchy", "min"}
        -2 sum log p (Fisher), log mean 1/p (the harmonic mean), mean max(0, tan((0.5 - p) pi)) (truncated Cauchy:
        without the truncation one p-value near 1 would outweigh any small one), or 1 - min p (Tippett).

    Returns
    -------
    ndarray of shape (N,), float64

    Raises
    ------
    ValueError
        If there is no such combination, a p-value is not in [0, 1], or the shape is not (N, S) with S >= 1.

    References
    ----------
    D. Wilson, The harmonic mean p-value for combining dependent tests, PNAS 116, 2019, doi:10.1073/pnas.1814092116;
    Y. Liu, J. Xie, Cauchy combination test, JASA 115, 2020, doi:10.1080/01621459.2018.1554485; B. Chen, W. Xu, X. Gao,
    Truncated Cauchy combination test, 2025, arXiv:2506.12489.
    """
    p_values = check_probabilities(p_values)
    if p_values.ndim != 2 or not p_values.shape[1]:
        raise ValueError(f"p-values must have shape (N, S), at least one for each input, got {p_values.shape}")
    if combine == "fisher":
        return -2 * np.log(p_values).sum(axis=1)
    if combine == "harmonic":
        return np.log((1 / p_values).mean(axis=1))
    if combine == "cauchy":
        return np.maximum(stats.cauchy.isf(p_values), 0).mean(axis=1)
    if combine == "min":
        return 1 - p_values.min(axis=1)
    raise ValueError(f"unknown combination {combine!r}; known are {', '.join(map(repr, SUMS))} and None")
