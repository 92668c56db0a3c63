"""What the page shows, worked out once: bins, thresholds, shares and curves; the browser only picks among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.metrics import roc_curve

from ...calibration import score_threshold
from .results import CLEAN, Results

__all__ = ["NULL", "RATES", "content_of", "rate_of"]

NULL = "clean (null scores)"
# The false positive rates that the slider offers, beside the scan's own.
RATES = tuple(round(k / 1000, 3) for k in (*range(1, 20), *range(20, 100, 5), *range(100, 501, 25)))
_N_BINS = 60
_FARTHEST = 4  # times as far as clean scores reach
_DRAWN = 0.995  # of a set's scores
_N_POINTS = 200  # of an ROC curve
_N_MAPPED = 30  # inputs
_LEAST = 1e-4  # p-values that are drawn
_DIGITS, _FEWER_DIGITS = 5, 3  # of scores: fewer where there are many
_MANY = 200_000


def rate_of(results: Results) -> float:
    """Return the scan's own false positive rate."""
    return float(results.summary.get("detector", {}).get("false_positive_rate", 0.05))


def content_of(results: Results) -> dict[str, Any]:
    """Work out all that the page shows.

    Returns
    -------
    dict
        Of lists, strings and finite numbers, or None where a number is not finite.
    """
    spaces, own = results.spaces, rate_of(results)
    rates = sorted({*RATES, own})
    n_scores = sum(results.counts.values()) * len(spaces)
    p_values, levels = _by_level(results)
    return {
        "sets": results.sets,
        "counts": results.counts,
        "spaces": spaces,
        "primary": results.primary,
        "rates": rates,
        "start": rates.index(own),
        "scores": _by_set(results.scores, _DIGITS if n_scores <= _MANY else _FEWER_DIGITS),
        "pValues": p_values,
        "levels": levels,
        "thresholds": {
            space: [_number(score_threshold(null, rate), 5) for rate in rates]
            for space, null in results.null_scores.items()
        },
        "bins": {space: _bins(results, space) for space in spaces},
        "flagged": None if results.p_values is None else _flagged(results, rates),
        "band": _band(results, rates),
        "roc": _rocs(results),
        "map": [] if results.p_values is None else _map(results),
    }


def _by_set(found: dict[str, dict[str, np.ndarray]], digits: int) -> dict[str, dict[str, list[float | None]]]:
    return {
        name: {space: [_number(value, digits) for value in own.tolist()] for space, own in spaces.items()}
        for name, spaces in found.items()
    }


def _by_level(
    results: Results,
) -> tuple[dict[str, dict[str, list[int]]] | None, dict[str, int | list[float]]]:
    """Write p-values as whole numbers, which loses none of them and takes little room.

    Returns
    -------
    dict of str to dict of str to list of int, or None
        For each set and space.
    dict of str to int or list of float
        For each space what these numbers are divided by, as conformal p-values are k / (n + 1); or the p-values
        themselves, increasing, among which the numbers are places.
    """
    if results.p_values is None:
        return None, {}
    numbers: dict[str, dict[str, list[int]]] = {name: {} for name in results.sets}
    levels: dict[str, int | list[float]] = {}
    for space in results.spaces:
        unique, places = np.unique(
            np.concatenate([results.p_values[name][space] for name in results.sets]), return_inverse=True
        )
        n = len(results.null_scores.get(space, ())) + 1
        counts = np.rint(n * unique).astype(int)
        is_conformal = np.array_equal(counts / n, unique)
        levels[space] = n if is_conformal else unique.tolist()
        found = (counts[places] if is_conformal else places).tolist()
        for name in results.sets:
            numbers[name][space] = found[: results.counts[name]]
            del found[: results.counts[name]]
    return numbers, levels


def _number(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def _bins(results: Results, space: str) -> list[dict[str, Any]]:
    """Count scores in bins of equal width; those beyond are in the last, lest a few leave no room for the others."""
    sets = {name: results.scores[name][space] for name in results.sets}
    if (null := results.null_scores.get(space)) is not None and CLEAN not in sets:
        sets = {NULL: null} | sets
    finite = {name: own[np.isfinite(own)] for name, own in sets.items()}
    ends = {name: np.quantile(own, (0.0, _DRAWN)) for name, own in finite.items() if len(own)}
    low, high = min((end[0] for end in ends.values()), default=0), max((end[1] for end in ends.values()), default=1)
    usual = next((ends[name][1] for name in (CLEAN, NULL) if name in ends), high)
    high = min(high, low + _FARTHEST * (usual - low))
    high = high if high > low else low + 1
    edges = np.linspace(low, high, _N_BINS + 1)
    rows = []
    for name, own in sets.items():
        counts, _ = np.histogram(np.clip(own, low, high), edges)
        for start, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
            share = count / len(own) if len(own) else 0.0
            rows.append({"set": name, "start": _number(start, 5), "end": _number(end, 5), "share": _number(share, 4)})
    return rows


def _flagged(results: Results, rates: list[float]) -> dict[str, dict[str, list[float | None]]]:
    """Tell which share of each set is flagged, at each rate."""
    return {
        name: {space: _shares(own, np.array(rates)) for space, own in spaces.items()}
        for name, spaces in (results.p_values or {}).items()
    }


def _shares(p_values: np.ndarray, rates: np.ndarray) -> list[float | None]:
    ordered = np.sort(p_values)
    return [_number(share, 5) for share in np.searchsorted(ordered, rates, side="right") / max(len(ordered), 1)]


def _band(results: Results, rates: list[float]) -> list[dict[str, float | None]]:
    """Tell between which shares of as many clean inputs lie 95 % of the time, where each rate holds exactly."""
    if not (n := results.counts.get(CLEAN, 0)):
        return []
    low, high = binom.interval(0.95, n, np.array(rates))
    return [
        {"rate": rate, "low": _number(a / n, 5), "high": _number(b / n, 5)}
        for rate, a, b in zip(rates, low, high, strict=True)
    ]


def _rocs(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Trace how each set is told from the clean one, in each space; empty without a clean one."""
    if not results.counts.get(CLEAN):
        return {}
    curves: dict[str, list[dict[str, Any]]] = {}
    for space in results.spaces:
        curves[space] = []
        for name in results.sets:
            if name == CLEAN or not results.counts[name]:
                continue
            scores = [np.nan_to_num(results.scores[kind][space]) for kind in (CLEAN, name)]  # infinite ones: largest
            false, true, _ = roc_curve(np.repeat([0, 1], list(map(len, scores))), np.concatenate(scores))
            some = np.unique(np.linspace(0, len(false) - 1, _N_POINTS).astype(int))
            area = float(np.trapezoid(true, false))
            curves[space] += [
                {"set": f"{name}, AUROC {area:.3f}", "false": _number(a, 4), "true": _number(b, 4)}
                for a, b in zip(false[some].tolist(), true[some].tolist(), strict=True)
            ]
    return curves


def _map(results: Results) -> list[dict[str, Any]]:
    """Lay out the p-values of the most anomalous inputs in every space."""
    p_values = results.p_values or {}
    order = sorted(
        ((p, name == CLEAN, -score, name, n) for name in results.sets for n, (p, score) in enumerate(
            zip(p_values[name][results.primary].tolist(), results.scores[name][results.primary].tolist(), strict=True)
        ))
    )[:_N_MAPPED]  # fmt: skip
    return [
        {
            "place": place,
            "input": f"{name} {n}",
            "column": column,
            "space": space,
            "p": _number(float(p_values[name][space][n]), 4),
            "drawn": _number(-float(np.log10(max(p_values[name][space][n], _LEAST))), 4),
        }
        for place, (*_, name, n) in enumerate(order)
        for column, space in enumerate(results.spaces)
    ]
