"""Two-sample tests of sets of images by the maximum mean discrepancy (MMD), and how often they reject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import rbf_kernel

from ...input_checks import as_rows, check_finite

__all__ = ["MMDTest", "mmd_power", "mmd_test"]


@dataclass(frozen=True)
class MMDTest:
    """Result of a two-sample test: the unbiased squared MMD, its p-value, and the bandwidth of the kernel."""

    statistic: float
    p_value: float
    bandwidth: float


def mmd_test(x: Any, y: Any, *, n_permutations: int = 999, seed: int = 0) -> MMDTest:
    """Test whether two sets come from one distribution, by their maximum mean discrepancy.

    The kernel is exp(-d^2 / (2 b^2)), d the Euclidean distance, b the median of it over all pairs of the pooled sample:
    of the pooled one, since that does not change when images change sides, so that the permutation test is exact. If
    most pairs are alike, b is the median of the positive distances.

    Parameters
    ----------
    x, y : array-like of shape (m, ...) and (n, ...)
        Images, or rows of anything, at least two each; time and memory grow with (m + n)^2.
    n_permutations : int
        Random ones. The p-value is (1 + how many give at least the observed statistic) / (1 + n_permutations).
    seed : int

    Raises
    ------
    ValueError
        If a set has fewer than two rows, rows differ in shape or are not finite, or `n_permutations` is below 1.

    References
    ----------
    A. Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012: equation 3, and section 8 for the bandwidth;
    K. Grosse et al., On the (Statistical) Detection of Adversarial Examples, 2017, arXiv:1702.06280.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> mmd_test(rng.normal(size=(30, 5)), rng.normal(1, size=(30, 5))).p_value
    0.001
    """
    x, y = _rows(x, y)
    _check_at_least_1("n_permutations", n_permutations)
    bandwidth, statistics = _mmds(np.concatenate([x, y]), len(x), n_permutations, np.random.default_rng(seed))
    return MMDTest(float(statistics[0]), _p_value(statistics), bandwidth)


def mmd_power(
    clean: Any,
    anomalous: Any,
    size: int,
    *,
    n_repeats: int = 200,
    n_permutations: int = 199,
    level: float = 0.05,
    seed: int = 0,
) -> float:
    """Estimate how often `mmd_test` rejects, for a random set of clean rows and one of as many anomalous rows.

    Parameters
    ----------
    clean, anomalous : array-like of shape (m, ...) and (n, ...)
        Of different source images: an attacked image beside its own source makes the sets alike. Sets are drawn
        without replacement, anew each time.
    size : int
        Rows in each set, at least two.
    n_repeats : int
        Tests; the share has a standard error of at most 1 / (2 sqrt(n_repeats)).
    n_permutations : int
        Of each test.
    level : float
        Tests reject at p <= level.
    seed : int

    Returns
    -------
    float
        The share of tests that reject; about `level` where both are of one distribution.

    Raises
    ------
    ValueError
        As for `mmd_test`, if a set is smaller than `size`, or no p-value can be as low as `level`.
    """
    clean, anomalous = _rows(clean, anomalous)
    _check_at_least_1("n_repeats", n_repeats)
    _check_at_least_1("n_permutations", n_permutations)
    if not 2 <= size <= min(len(clean), len(anomalous)):
        raise ValueError(f"size must be from 2 to {min(len(clean), len(anomalous))}, the smaller set, got {size}")
    if not 1 / (1 + n_permutations) <= level < 1:
        raise ValueError(
            f"level must be from {1 / (1 + n_permutations):.3g}, the lowest p-value of {n_permutations} permutations, "
            f"to below 1, got {level}; n_permutations may be more"
        )
    rng = np.random.default_rng(seed)
    rejected = 0
    for _ in range(n_repeats):
        drawn = [rows[rng.choice(len(rows), size, replace=False)] for rows in (clean, anomalous)]
        rejected += _p_value(_mmds(np.concatenate(drawn), size, n_permutations, rng)[1]) <= level
    return rejected / n_repeats


def _mmds(pooled: np.ndarray, m: int, n_permutations: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Return the bandwidth, and the statistics of the first m rows against the rest and of random m rows."""
    distances = pdist(pooled)
    if not np.median(distances) > 0:
        distances = distances[distances > 0]
    bandwidth = float(np.median(distances)) if len(distances) else 1.0  # all alike: any will do
    kernel = rbf_kernel(pooled, gamma=1 / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0)  # pairs of a row with itself don't count: what makes it unbiased
    first = np.zeros((1 + n_permutations, len(pooled)))
    first[:, :m] = 1
    first[1:] = rng.permuted(first[1:], axis=1)
    n = len(pooled) - m
    of_first = first @ kernel
    within_x, of_x = (of_first * first).sum(axis=1), of_first.sum(axis=1)
    within_y = kernel.sum() - 2 * of_x + within_x
    return bandwidth, within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * (of_x - within_x) / (m * n)


def _p_value(statistics: np.ndarray) -> float:
    # Sums in another order differ in their last bits; a tie counts.
    return float((statistics >= statistics[0] - 1e-12).mean())


def _rows(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(array, np.float64) for array in (x, y))
    if first.ndim < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"expected two sets of rows of one shape, got {first.shape} and {second.shape}")
    if min(len(first), len(second)) < 2:
        raise ValueError(f"each set needs at least 2 rows, got {len(first)} and {len(second)}")
    check_finite(first)
    check_finite(second)
    return as_rows(first), as_rows(second)


def _check_at_least_1(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
