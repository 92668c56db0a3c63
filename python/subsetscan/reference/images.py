"""Single images in plain Python: p-values, statistics, scans, null scores."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

__all__ = [
    "brute_force",
    "conformal_p_value",
    "leave_one_out",
    "null_scores",
    "p_value",
    "p_value_range",
    "phi",
    "random_ranks",
    "rank_histogram",
    "scan",
    "scan_image",
    "scan_ranges",
    "steps",
    "summary",
    "thresholds",
]


def _log_ratio(x: float, y: float) -> float:
    ratio = x / y  # beyond all floats for 1 / 1e-310
    return math.log(ratio) if math.isfinite(ratio) else math.log(x) - math.log(y)


def _berk_jones(alpha: float, n_alpha: float, n: int) -> float:
    x = n_alpha / n
    divergence = x * _log_ratio(x, alpha)
    if x < 1:
        divergence += (1 - x) * _log_ratio(1 - x, 1 - alpha)
    return max(0.0, n * divergence)


# The score of n p-values of which n_alpha, more than n alpha, are at most alpha.
_STATISTICS: dict[str, Callable[[float, float, int], float]] = {
    "berk-jones": _berk_jones,
    "higher-criticism": lambda alpha, n_alpha, n: (n_alpha - n * alpha) / math.sqrt(n * alpha * (1 - alpha)),
    "kolmogorov-smirnov": lambda alpha, n_alpha, n: (n_alpha - n * alpha) / math.sqrt(n),
}

_NAMES = {
    "tail": ("upper", "lower", "two-sided"),
    "treatment of ties": ("upper", "midrank", "random", "range"),
    "statistic": tuple(_STATISTICS),
    "scope": ("subset", "all"),
    "summary": ("mean-p", "minimum-p", "fisher"),
    "grid": ("exact", "coarse", "own"),
}


def _check(what: str, name: str) -> None:
    if name not in _NAMES[what]:
        raise ValueError(f'unknown {what} "{name}"; known are {", ".join(_NAMES[what])}')


def p_value(
    x: float,
    column: Sequence[float],
    tail: str = "upper",
    ties: str = "upper",
    random_rank: Fraction = Fraction(0),
    n_steps: int | None = None,
) -> float:
    """Compute the empirical p-value of a value among the background values of its node (the paper, section 3.1).

    `random_rank` in [0, 1) picks a grid point of the range where ties are "random". The grid has `n_steps`, M + 1.

    >>> p_value(2.0, [1.0, 2.0, 3.0])
    0.75
    >>> p_value(2.0, [1.0, 2.0, 3.0], ties="midrank")
    0.5
    """
    _check("treatment of ties", ties)
    if ties == "range":
        raise ValueError('ties "range" leave every node a range of p-values: see p_value_range')
    n_steps = n_steps or len(column) + 1
    low, high = steps(x, column, tail, n_steps)
    if ties == "midrank":
        return (low + high) / (2 * n_steps)
    if ties == "random":
        return (low + 1 + math.floor(random_rank * (high - low))) / n_steps
    return high / n_steps


def steps(x: float, column: Sequence[float], tail: str = "upper", n_steps: int | None = None) -> tuple[int, int]:
    """Count in which of `n_steps`, M + 1, the p-value's range begins, every tie counted as less extreme, and ends.

    >>> steps(2.0, [1.0, 2.0, 3.0])
    (1, 3)
    """
    _check("tail", tail)
    upper = sum(z > x for z in column), sum(z >= x for z in column) + 1
    lower = sum(z < x for z in column), sum(z <= x for z in column) + 1
    if tail == "upper":
        return upper
    if tail == "lower":
        return lower
    return 2 * min(upper[0], lower[0]), min(n_steps or len(column) + 1, 2 * min(upper[1], lower[1]))


def p_value_range(x: float, column: Sequence[float], tail: str = "upper") -> tuple[float, float]:
    """Compute the p-value with every tie counted as less extreme, and with every tie counted as more extreme.

    >>> p_value_range(2.0, [1.0, 2.0, 3.0])
    (0.25, 0.75)
    """
    low, high = steps(x, column, tail)
    return low / (len(column) + 1), high / (len(column) + 1)


def random_ranks(image: Sequence[float], random_state: int = 0) -> list[Fraction]:
    """Draw a number in [0, 1) for each node, from the seed and the image's values alone (SplitMix64).

    >>> [round(float(u), 3) for u in random_ranks([0.0, 0.0, 1.0])]
    [0.379, 0.226, 0.619]
    """

    def mix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    seed = mix(random_state)
    for x in image:
        seed = mix(seed ^ int.from_bytes(struct.pack("<d", x + 0.0), "little"))
    return [Fraction(mix(seed ^ node), 2**64) for node in range(len(image))]


def thresholds(n_samples: int, tail: str = "upper", alpha_max: float = 0.5, ties: str = "upper") -> list[float]:
    """List the p-values that `n_samples` background values can lead to, up to `alpha_max`.

    >>> thresholds(3)
    [0.25, 0.5]
    """
    _check("tail", tail)
    _check("treatment of ties", ties)
    n_steps = n_samples + 1
    if ties == "upper":
        sides = 2 if tail == "two-sided" else 1
        grid = {min(1.0, sides * ((rank + 1) / n_steps)) for rank in range(n_steps)}
    else:
        parts = 2 * n_steps if ties == "midrank" else n_steps
        grid = {step / parts for step in range(1, parts + 1)}
    return sorted(alpha for alpha in grid if alpha <= alpha_max)


def phi(statistic: str, alpha: float, n_alpha: float, n: int) -> float:
    """Score n p-values of which `n_alpha` are at most alpha (the paper, table 3).

    >>> phi("kolmogorov-smirnov", 0.25, 4, 4)
    1.5
    """
    _check("statistic", statistic)
    return 0.0 if n_alpha <= n * alpha else _STATISTICS[statistic](alpha, n_alpha, n)


def scan(
    p_values: Sequence[float], statistic: str = "berk-jones", alpha_max: float = 0.5, scope: str = "subset"
) -> tuple[float, float, list[int]]:
    """Find the highest-scoring subset of one image's nodes: its score, its threshold, its nodes.

    For each threshold the best subset is all nodes whose p-value is at most that (LTSS; the paper, section 3.2).
    Of equal scores the one with the smaller threshold is returned; without a score above 0 the subset is empty.

    >>> scan([0.25, 1.0, 0.25])  # 2 log(1 / 0.25)
    (2.772588722239781, 0.25, [0, 2])
    """
    _check("statistic", statistic)
    _check("scope", scope)
    score, threshold = 0.0, 0.0
    for alpha in sorted(set(p_values)):
        if alpha > alpha_max:
            break
        n_alpha = sum(p <= alpha for p in p_values)
        candidate = phi(statistic, alpha, n_alpha, n_alpha if scope == "subset" else len(p_values))
        if candidate > score:
            score, threshold = candidate, alpha
    return score, threshold, [node for node, p in enumerate(p_values) if p <= threshold]


def scan_ranges(
    ranges: Sequence[tuple[int, int]],
    n_steps: int,
    statistic: str = "berk-jones",
    alpha_max: float = 0.5,
    scope: str = "subset",
) -> tuple[float, float, list[int]]:
    """Find the highest-scoring subset where a node counts with the share of its range that lies within [0, alpha].

    Ranges are in steps of 1 / `n_steps`. For each threshold the best subset is a prefix in the order of that share
    (McFowland et al. 2013); a share of at most alpha never helps.

    >>> scan_ranges([(0, 4), (4, 5)], n_steps=8)  # log(2)
    (0.6931471805599453, 0.5, [0])
    """
    _check("statistic", statistic)
    _check("scope", scope)
    score, threshold, subset = 0.0, 0.0, list[int]()
    for step in range(1, n_steps + 1):
        alpha = step / n_steps
        if alpha > alpha_max:
            break
        shares = [min(1.0, max(0.0, (step - low) / (high - low))) for low, high in ranges]
        useful = {share for share in shares if share > (alpha if scope == "subset" else 0)}
        for least in sorted(useful, reverse=True):
            members = [node for node, share in enumerate(shares) if share >= least]
            n_alpha = sum(sorted((shares[node] for node in members), reverse=True))
            candidate = phi(statistic, alpha, n_alpha, len(members) if scope == "subset" else len(ranges))
            if candidate > score:
                score, threshold, subset = candidate, alpha, members
    return score, threshold, subset


def _p_values(
    image: Sequence[float], background: Sequence[Sequence[float]], tail: str, ties: str, random_state: int
) -> list[float]:
    columns = list(zip(*background, strict=True)) if background else [()] * len(image)
    draws = random_ranks(image, random_state)
    return [p_value(x, column, tail, ties, u) for x, column, u in zip(image, columns, draws, strict=True)]


def scan_image(
    image: Sequence[float],
    background: Sequence[Sequence[float]],
    statistic: str = "berk-jones",
    tail: str = "upper",
    alpha_max: float = 0.5,
    scope: str = "subset",
    ties: str = "upper",
    random_state: int = 0,
) -> tuple[float, float, list[int]]:
    """Scan one image against background images: p-values, then `scan`; or ranges, then `scan_ranges`.

    >>> scan_image([2.0, 0.5], [[0.0, 1.0], [0.5, 2.0], [1.0, 3.0]])  # log(4)
    (1.3862943611198906, 0.25, [0])
    """
    if ties != "range":
        return scan(_p_values(image, background, tail, ties, random_state), statistic, alpha_max, scope)
    columns = list(zip(*background, strict=True)) if background else [()] * len(image)
    ranges = [steps(x, column, tail) for x, column in zip(image, columns, strict=True)]
    return scan_ranges(ranges, len(background) + 1, statistic, alpha_max, scope)


def leave_one_out(background: Sequence[Sequence[float]], **options: Any) -> list[tuple[float, float, list[int]]]:
    """Scan every background image against all the others, with the options of `scan_image`."""
    return [scan_image(image, [*background[:n], *background[n + 1 :]], **options) for n, image in enumerate(background)]


def null_scores(
    background: Sequence[Sequence[float]],
    statistic: str = "berk-jones",
    tail: str = "upper",
    alpha_max: float = 0.5,
    scope: str = "subset",
    ties: str = "upper",
    random_state: int = 0,
) -> list[float]:
    """Score every background image among all the others, with the p-values that its ranks have for images outside.

    >>> null_scores([[1.0], [2.0], [3.0]], alpha_max=1.0)  # log(4 / rank), where leaving one out gives log(3 / rank)
    [0.28768207245178085, 0.6931471805599453, 1.3862943611198906]
    """
    n_steps, scores = len(background) + 1, list[float]()
    for n, image in enumerate(background):
        others = [*background[:n], *background[n + 1 :]]
        columns = list(zip(*others, strict=True)) if others else [()] * len(image)
        if ties == "range":
            ranges = [steps(x, column, tail, n_steps) for x, column in zip(image, columns, strict=True)]
            scores.append(scan_ranges(ranges, n_steps, statistic, alpha_max, scope)[0])
        else:
            nodes = zip(image, columns, random_ranks(image, random_state), strict=True)
            p_values = [p_value(x, column, tail, ties, u, n_steps) for x, column, u in nodes]
            scores.append(scan(p_values, statistic, alpha_max, scope)[0])
    return scores


def rank_histogram(
    image: Sequence[float],
    background: Sequence[Sequence[float]],
    tail: str = "upper",
    alpha_max: float = 0.5,
    ties: str = "upper",
    random_state: int = 0,
) -> list[int]:
    """Count the nodes of one image at each threshold of `thresholds`."""
    p_values = _p_values(image, background, tail, ties, random_state)
    return [p_values.count(alpha) for alpha in thresholds(len(background), tail, alpha_max, ties)]


def summary(kind: str, p_values: Sequence[float]) -> float:
    """Put all p-values of an image in one number, higher for smaller ones.

    >>> summary("mean-p", [0.25, 0.75])
    0.5
    """
    _check("summary", kind)
    if kind == "mean-p":
        return 1 - sum(p_values) / len(p_values)
    if kind == "minimum-p":
        return _log_ratio(1, min(p_values))
    return 2 * sum(_log_ratio(1, p) for p in p_values)


def brute_force(
    p_values: Sequence[float], alphas: Iterable[float], statistic: str = "berk-jones", scope: str = "subset"
) -> float:
    """Find the highest score over ALL subsets of the nodes and all given thresholds, looking at every one.

    >>> brute_force([0.25, 1.0, 0.25], [0.25, 0.5])
    2.772588722239781
    """
    _check("statistic", statistic)
    _check("scope", scope)
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
