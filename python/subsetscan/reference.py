"""The whole algorithm in plain Python, sort, loop and formula: what the fast core is tested against.

Nothing here is clever, and nothing here is fast. Values are floats without NaN; an image is a list of node values,
and a background a list of images. The core computes the same, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

__all__ = [
    "brute_force",
    "conformal_p_value",
    "leave_one_out",
    "p_value",
    "p_value_range",
    "phi",
    "rank_histogram",
    "scan",
    "scan_image",
    "thresholds",
]


def p_value(x: float, column: Sequence[float], tail: str = "upper") -> float:
    """Compute the empirical p-value of a value among the background values of its node (the paper, section 3.1).

    >>> p_value(2.0, [1.0, 2.0, 3.0])
    0.75
    """
    return p_value_range(x, column, tail)[1]


def p_value_range(x: float, column: Sequence[float], tail: str = "upper") -> tuple[float, float]:
    """Compute the p-value with every tie counted as less extreme, and with every tie counted as more extreme.

    >>> p_value_range(2.0, [1.0, 2.0, 3.0])
    (0.25, 0.75)
    """
    m = len(column)
    upper = sum(z > x for z in column) / (m + 1), (sum(z >= x for z in column) + 1) / (m + 1)
    lower = sum(z < x for z in column) / (m + 1), (sum(z <= x for z in column) + 1) / (m + 1)
    if tail == "upper":
        return upper
    if tail == "lower":
        return lower
    return min(1.0, 2 * min(upper[0], lower[0])), min(1.0, 2 * min(upper[1], lower[1]))


def thresholds(n_samples: int, tail: str = "upper", alpha_max: float = 0.5) -> list[float]:
    """List the p-values that `n_samples` background values can lead to, up to `alpha_max`.

    >>> thresholds(3)
    [0.25, 0.5]
    """
    sides = 2 if tail == "two-sided" else 1
    grid = {min(1.0, sides * ((rank + 1) / (n_samples + 1))) for rank in range(n_samples + 1)}
    return sorted(alpha for alpha in grid if alpha <= alpha_max)


def phi(statistic: str, alpha: float, n_alpha: int, n: int) -> float:
    """Score n p-values of which `n_alpha` are at most alpha (the paper, table 3).

    >>> phi("kolmogorov-smirnov", 0.25, 4, 4)
    1.5
    """
    if n_alpha <= n * alpha:
        return 0.0
    if statistic == "berk-jones":
        x = n_alpha / n
        divergence = x * math.log(x / alpha)
        if x < 1:
            divergence += (1 - x) * math.log((1 - x) / (1 - alpha))
        return max(0.0, n * divergence)
    if statistic == "higher-criticism":
        return (n_alpha - n * alpha) / math.sqrt(n * alpha * (1 - alpha))
    return (n_alpha - n * alpha) / math.sqrt(n)


def scan(
    p_values: Sequence[float], statistic: str = "berk-jones", alpha_max: float = 0.5, scope: str = "subset"
) -> tuple[float, float, list[int]]:
    """Find the highest-scoring subset of one image's nodes: its score, its threshold, its nodes.

    For each threshold the best subset is all nodes whose p-value is at most that (LTSS; the paper, section 3.2).
    Of equal scores the one with the smaller threshold is returned; without a score above 0 the subset is empty.

    >>> scan([0.25, 1.0, 0.25])  # 2 log(1 / 0.25)
    (2.772588722239781, 0.25, [0, 2])
    """
    score, threshold = 0.0, 0.0
    for alpha in sorted(set(p_values)):
        if alpha > alpha_max:
            break
        n_alpha = sum(p <= alpha for p in p_values)
        candidate = phi(statistic, alpha, n_alpha, n_alpha if scope == "subset" else len(p_values))
        if candidate > score:
            score, threshold = candidate, alpha
    return score, threshold, [node for node, p in enumerate(p_values) if p <= threshold]


def scan_image(
    image: Sequence[float],
    background: Sequence[Sequence[float]],
    statistic: str = "berk-jones",
    tail: str = "upper",
    alpha_max: float = 0.5,
    scope: str = "subset",
) -> tuple[float, float, list[int]]:
    """Scan one image against background images: p-values, then `scan`.

    >>> scan_image([2.0, 0.5], [[0.0, 1.0], [0.5, 2.0], [1.0, 3.0]])  # log(4)
    (1.3862943611198906, 0.25, [0])
    """
    columns = list(zip(*background, strict=True)) if background else [()] * len(image)
    p_values = [p_value(x, column, tail) for x, column in zip(image, columns, strict=True)]
    return scan(p_values, statistic, alpha_max, scope)


def leave_one_out(
    background: Sequence[Sequence[float]],
    statistic: str = "berk-jones",
    tail: str = "upper",
    alpha_max: float = 0.5,
    scope: str = "subset",
) -> list[tuple[float, float, list[int]]]:
    """Scan every background image against all the others."""
    return [
        scan_image(image, [*background[:n], *background[n + 1 :]], statistic, tail, alpha_max, scope)
        for n, image in enumerate(background)
    ]


def rank_histogram(
    image: Sequence[float], background: Sequence[Sequence[float]], tail: str = "upper", alpha_max: float = 0.5
) -> list[int]:
    """Count the nodes of one image at each threshold of `thresholds`."""
    p_values = [p_value(x, column, tail) for x, column in zip(image, zip(*background, strict=True), strict=True)]
    return [p_values.count(alpha) for alpha in thresholds(len(background), tail, alpha_max)]


def brute_force(
    p_values: Sequence[float], alphas: Iterable[float], statistic: str = "berk-jones", scope: str = "subset"
) -> float:
    """Find the highest score over ALL subsets of the nodes and all given thresholds, looking at every one.

    >>> brute_force([0.25, 1.0, 0.25], [0.25, 0.5])
    2.772588722239781
    """
    best = 0.0
    alphas = list(alphas)
    for size in range(1, len(p_values) + 1):
        for subset in combinations(p_values, size):
            for alpha in alphas:
                n_alpha = sum(p <= alpha for p in subset)
                best = max(best, phi(statistic, alpha, n_alpha, size if scope == "subset" else len(p_values)))
    return best


def conformal_p_value(score: float, null_scores: Sequence[float]) -> float:
    """Compute the share of clean images, this one counted among them, that score at least as high.

    >>> conformal_p_value(3.0, [1.0, 2.0, 3.0])
    0.5
    """
    return (1 + sum(null >= score for null in null_scores)) / (len(null_scores) + 1)
