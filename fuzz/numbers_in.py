"""What takes numbers: each target calls an entry point with arrays and options of any kind, and looks at what comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np
from mutate import NUMBERS, TEXTS, mutate_array, strange_array

from subsetscan import Background, SubsetScanDetector, _core, scan, scan_group
from subsetscan.builder import BackgroundBuilder
from subsetscan.calibration import (
    conformal_p_values,
    extrapolated_null_p_values,
    extrapolated_p_values,
    null_p_values,
    plan,
    score_threshold,
    select,
)
from subsetscan.combination import COMBINATIONS, combined
from subsetscan.detectors import AutomaticDetector, NearestNeighborDetector
from subsetscan.measures import auroc, shares_above
from subsetscan.residuals import Residuals, within_sample_ranks
from subsetscan.scanning import scan_histograms

MEMBERSHIPS = ("outside", "inside", "calibrating")


def one_of(known: tuple[Any, ...], random: Random) -> Any:
    """Return a known name, or at times something else."""
    return random.choice(known) if random.random() < 0.97 else random.choice((*TEXTS, *NUMBERS, None))


def alpha(random: Random) -> Any:
    return random.choice(NUMBERS) if random.random() < 0.1 else random.choice((0.5, 1.0, 0.1, random.random()))


def seed(random: Random) -> Any:
    return random.choice((0, 1, 2**64 - 1)) if random.random() < 0.95 else random.choice(NUMBERS)


def node_values(random: Random, most: int = 6) -> np.ndarray:
    return strange_array(random, most) if random.random() < 0.97 else strange_array(random, most, None)


def like(array: np.ndarray, random: Random) -> np.ndarray:
    """Return an array with as many nodes, for the most part."""
    rows = strange_array(random)
    if array.ndim != 2 or rows.ndim != 2 or not rows.size or random.random() < 0.05:
        return rows
    return np.resize(np.asarray(rows), (random.randrange(4), array.shape[1]))


def check(fits: Any, told: Any) -> None:
    """Raise AssertionError for a result that no documentation allows."""
    if not np.all(fits):
        raise AssertionError(f"strange result: {told}")


def check_scan(found: Any, n_nodes: int) -> None:
    check((found.scores >= 0) & np.isfinite(found.scores), found.scores)
    check((found.sizes >= 0) & (found.sizes <= n_nodes) & ((found.sizes > 0) == (found.scores > 0)), found)
    check((found.alphas >= 0) & (found.alphas <= 1), found.alphas)
    if found.nodes is not None:
        check(np.diff(found.nodes.indptr) == found.sizes, found)


def options(random: Random) -> dict[str, Any]:
    return {
        "statistic": one_of(_core.STATISTICS, random),
        "alpha_max": alpha(random),
        "scope": one_of(_core.SCOPES, random),
    }


def background(random: Random) -> None:
    """Make a background, and ask it for everything."""
    values = node_values(random, random.choice((6, 40)))
    kept = () if random.random() < 0.6 else (one_of(_core.TAILS, random), alpha(random))
    made = Background(values, *kept)
    x, tail, ties = like(values, random), one_of(_core.TAILS, random), one_of(_core.TIES, random)
    ask_background(made, x, tail, ties, random)


def ask_background(made: Background, x: np.ndarray, tail: Any, ties: Any, random: Random) -> None:
    kind = random.randrange(6)
    if kind == 0:
        p = made.p_values(x, tail, ties, seed(random))
        check((p > 0) & (p <= 1), p)
    elif kind == 1:
        ranges = made.p_value_ranges(x, tail)
        check((ranges[..., 0] < ranges[..., 1]) & (ranges <= 1).all(axis=-1), ranges)
    elif kind == 2:
        how = {"tail": tail, "ties": ties, "random_state": seed(random), "return_nodes": random.random() < 0.5}
        check_scan(made.scan(x, **options(random), **how), made.n_nodes)
    elif kind == 3:
        how = {"tail": tail, "ties": ties, "same_grid": random.random() < 0.5}
        check_scan(made.leave_one_out(x, **options(random), **how), made.n_nodes)
    elif kind == 4:
        counts = made.rank_histogram(x, tail, alpha(random), ties, seed(random), one_of(MEMBERSHIPS, random))
        check(counts.sum(axis=1) <= made.n_nodes, counts)
    else:
        scores = made.summarise(
            x, one_of(_core.SUMMARIES, random), tail, ties, seed(random), one_of(MEMBERSHIPS, random)
        )
        check(scores >= 0, scores)


def columns(random: Random) -> None:
    """Take up columns that are sorted or not, with any number of inputs; and count them in batches."""
    kept = () if random.random() < 0.5 else (one_of(_core.TAILS, random), alpha(random))
    if random.random() < 0.2:
        builder = BackgroundBuilder(random.choice((1, 2, 3, 10**12, *NUMBERS)), *kept)
        for _ in range(random.randrange(3)):
            builder.add(node_values(random))
        builder.finish()
        return
    values = np.sort(np.asarray(node_values(random)), axis=-1) if random.random() < 0.9 else node_values(random)
    n_samples = values.shape[-1] if values.ndim and random.random() < 0.6 else random.choice(NUMBERS)
    made = Background._from_columns(values, n_samples, *(kept or (None, None)))
    check((made._columns() == values) | False, values)
    x = np.resize(np.asarray(strange_array(random)), (2, made.n_nodes))
    ask_background(made, x, one_of(_core.TAILS, random), one_of(_core.TIES, random), random)


def p_values_in(random: Random) -> np.ndarray:
    values = node_values(random)
    if random.random() < 0.9:
        with np.errstate(all="ignore"):
            values = np.clip(
                np.abs(np.asarray(values, np.float64)),
                random.choice((5e-324, 0.01, 0.1, 0.0)),
                random.choice((1, 1, 1, 2)),
            )
    return values


def scans(random: Random) -> None:
    """Scan p-values from anywhere."""
    p = p_values_in(random)
    check_scan(scan(p, **options(random), return_nodes=random.random() < 0.5), p.shape[-1])


def groups(random: Random) -> None:
    """Scan a group."""
    p = p_values_in(random)
    limits = NUMBERS if random.random() < 0.2 else (None, 1, 2, 3)
    sizes = {side: (random.choice(limits), random.choice(limits)) for side in ("images", "nodes")}
    found = scan_group(
        p,
        one_of(_core.STATISTICS, random),
        alpha(random),
        restarts=random.choice((1, 2, 3) if random.random() < 0.9 else (0, -1, 1.5, None)),
        random_state=0,
        constraint=None if random.random() < 0.8 else np.resize(strange_array(random, 6, 1), len(p)),
        sizes=sizes if random.random() < 0.3 else None,
    )
    check(np.isfinite(found.score) and found.score >= 0, found)
    check(np.isin(found.images, np.arange(len(p))), found)
    check(np.isin(found.nodes, np.arange(p.shape[1])), found)


def histograms(random: Random) -> None:
    """Scan histograms that may be those of no background."""
    how, ties = options(random), one_of(_core.TIES[:3], random)
    if random.random() < 0.7:
        n_samples, n_nodes, rows, rng = (
            random.choice((1, 3, 8)),
            12,
            random.randrange(4),
            np.random.default_rng(random.getrandbits(32)),
        )
        how["alpha_max"], ties, tails = (
            0.5,
            "upper",
            [random.choice(("upper", "lower")) for _ in range(random.choice((1, 2)))],
        )
        parts = [rng.integers(0, 3, (rows, (n_samples + 1) // 2)).astype(random.choice(("u4", "i8"))) for _ in tails]
        if random.random() < 0.2:
            parts[0] = mutate_array(parts[0], random)
    else:
        n_samples, n_nodes = random.choice((1, 3, 5, *NUMBERS)), random.choice((4, 30, *NUMBERS))
        parts = [strange_array(random) for _ in range(random.choice((0, 1, 1, 2)))]
        tails = [one_of(_core.TAILS, random) for _ in parts]
    found, shares = scan_histograms(parts, n_samples, n_nodes, tails, **how, ties=ties)
    check_scan(found, n_nodes)
    check(shares.sum(axis=1) == found.sizes, shares)


def scores_to_p_values(random: Random) -> None:
    """Turn scores into p-values, thresholds, selections and areas."""
    scores = strange_array(random, 30, random.choice((1, 1, 1, 1, 2)))
    null = strange_array(random, 30, 1)
    kind = random.randrange(8)
    if kind < 2:
        p = (conformal_p_values, extrapolated_p_values)[kind](scores, null)
        check((p > 0) & (p <= 1), p)
    elif kind < 4:
        p = (null_p_values, extrapolated_null_p_values)[kind - 2](null)
        check((p > 0) & (p <= 1), p)
    elif kind == 4:
        check(not np.isnan(score_threshold(null, alpha(random))), null)
    elif kind == 5:
        check(select(scores, alpha(random)).shape == scores.shape, scores)
    elif kind == 6:
        check(0 <= auroc(scores, null, n_resamples=9).value <= 1, (scores, null))
        shares_above(null, scores, [alpha(random)])
    else:
        n = random.choice((0, 1, 10, *NUMBERS))
        if not isinstance(n, int) or n < 1000:
            plan(n, random.choice(("holdout", "leave-one-out", None, "x")), alpha(random), 0)


def combinations(random: Random) -> None:
    """Combine p-values of several spaces."""
    own, null = (
        np.clip(np.abs(np.asarray(node_values(random), np.float64)), 0, random.choice((1, 2))) for _ in range(2)
    )
    if random.random() < 0.8 and own.ndim == 2:
        null = np.resize(null, (random.randrange(9), own.shape[1]))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scores, null_scores = combined(own, null, one_of(COMBINATIONS, random))
    check(~np.isnan(scores), scores)
    check(~np.isnan(null_scores), null_scores)


def residuals(random: Random) -> None:
    """Fit residuals, rank values within an input."""
    values = node_values(random)
    if random.random() < 0.3:
        ranks = within_sample_ranks(values)
        check((ranks >= 1) & (ranks <= values.shape[1]), ranks)
        return
    with np.errstate(all="ignore"):
        fitted = Residuals(least_shrinkage=random.choice((0.01, 1.0, alpha(random))), trim=random.choice((0, 0.3))).fit(
            values
        )
        found = fitted.transform(like(values, random))
    check(~np.isnan(found), found)


DETECTORS: tuple[Callable[[], Any], ...] = (
    lambda: SubsetScanDetector(random_state=0, false_positive_rate=0.3),
    lambda: AutomaticDetector(random_state=0, false_positive_rate=0.3),
    lambda: NearestNeighborDetector(random_state=0, false_positive_rate=0.3),
)


def detectors(random: Random) -> None:
    """Fit a detector, and ask it for p-values."""
    values = mutate_array(np.random.default_rng(random.getrandbits(16)).normal(size=(12, 3)), random)
    with np.errstate(all="ignore"):
        fitted = random.choice(DETECTORS)().fit(values)
        p = fitted.p_values(like(values, random))
    check((p > 0) & (p <= 1), p)


NUMERIC: Mapping[str, Callable[[Random], None]] = {
    "background": background,
    "columns": columns,
    "scan": scans,
    "group-scan": groups,
    "histograms": histograms,
    "calibration": scores_to_p_values,
    "combination": combinations,
    "residuals": residuals,
    "detectors": detectors,
}
