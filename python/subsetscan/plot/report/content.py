"""What the page shows, worked out once: bins, thresholds, shares and curves; the browser only picks among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.metrics import roc_curve

from ...calibration import score_threshold
from .results import CLEAN, Results

__all__ = ["NULL", "RATES", "content_of", "start_of"]

NULL = "clean (null scores)"
# The false positive rates that the slider offers.
RATES = tuple(round(k / 1000, 3) for k in (*range(1, 20), *range(20, 100, 5), *range(100, 501, 25)))
_N_BINS = 60
_FARTHEST = 4  # times as far as clean scores reach
_DRAWN = 0.995  # of a set's scores
_N_POINTS = 200  # of an ROC curve
_N_MAPPED = 30  # inputs
_LEAST = 1e-4  # p-values that are drawn


def start_of(results: Results) -> int:
    """Find the place among the rates that is nearest to the scan's own."""
    rate = results.summary.get("detector", {}).get("false_positive_rate", 0.05)
    return int(np.argmin(np.abs(np.array(RATES) - rate)))


def content_of(results: Results) -> dict[str, Any]:
    """Work out all that the page shows.

    Returns
    -------
    dict
        Of lists, strings and finite numbers, or None where a number is not finite.
    """
    spaces = results.spaces
    return {
        "sets": results.sets,
        "counts": results.counts,
        "spaces": spaces,
        "primary": results.primary,
        "rates": list(RATES),
        "start": start_of(results),
        "scores": _by_set(results.scores, 5),
        "pValues": None if results.p_values is None else _by_set(results.p_values, 4),
        "thresholds": {
            space: [_number(score_threshold(null, rate), 5) for rate in RATES]
            for space, null in results.null_scores.items()
        },
        "bins": {space: _bins(results, space) for space in spaces},
        "flagged": None if results.p_values is None else _flagged(results),
        "band": _band(results),
        "roc": _rocs(results),
        "map": [] if results.p_values is None else _map(results),
    }


def _by_set(found: dict[str, dict[str, np.ndarray]], digits: int) -> dict[str, dict[str, list[float | None]]]:
    return {
        name: {space: [_number(value, digits) for value in own.tolist()] for space, own in spaces.items()}
        for name, spaces in found.items()
    }


def _number(value: float, digits: int) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def _bins(results: Results, space: str) -> list[dict[str, Any]]:
    """Count scores in bins of equal width; those beyond are in the last, lest a few leave no room for the others."""
    sets = {name: results.scores[name][space] for name in results.sets}
    if (null := results.null_scores.get(space)) is not None and CLEAN not in sets:
        sets = {NULL: null} | sets
    finite = {name: own[np.isfinite(own)] for name, own in sets.items()}
    ends = {name: np.quantile(own, (0.0, _DRAWN)) for name, own in finite.items() if len(own)}
    if not ends:
        return []
    low, high = min(end[0] for end in ends.values()), max(end[1] for end in ends.values())
    usual = next((ends[name][1] for name in (CLEAN, NULL) if name in ends), high)
    high = min(high, low + _FARTHEST * (usual - low))
    high = high if high > low else low + 1
    edges = np.linspace(low, high, _N_BINS + 1)
    rows = []
    for name, own in finite.items():
        counts, _ = np.histogram(np.clip(own, low, high), edges)
        for start, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
            share = count / len(own) if len(own) else 0.0
            rows.append({"set": name, "start": _number(start, 5), "end": _number(end, 5), "share": _number(share, 4)})
    return rows


def _flagged(results: Results) -> dict[str, dict[str, list[float | None]]]:
    """Tell which share of each set is flagged, at each rate."""
    rates = np.array(RATES)
    return {
        name: {space: _shares(own, rates) for space, own in spaces.items()}
        for name, spaces in (results.p_values or {}).items()
    }


def _shares(p_values: np.ndarray, rates: np.ndarray) -> list[float | None]:
    ordered = np.sort(p_values)
    return [_number(share, 5) for share in np.searchsorted(ordered, rates, side="right") / max(len(ordered), 1)]


def _band(results: Results) -> list[dict[str, float | None]]:
    """Tell between which shares of as many clean inputs lie 95 % of the time, where each rate holds exactly."""
    if not (n := results.counts.get(CLEAN, 0)):
        return []
    low, high = binom.interval(0.95, n, np.array(RATES))
    return [
        {"rate": rate, "low": _number(a / n, 5), "high": _number(b / n, 5)}
        for rate, a, b in zip(RATES, low, high, strict=True)
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
        ((p, -score, name, n) for name in results.sets for n, (p, score) in enumerate(
            zip(p_values[name][results.primary].tolist(), results.scores[name][results.primary].tolist(), strict=True)
        ))
    )[:_N_MAPPED]  # fmt: skip
    return [
        {
            "place": place,
            "input": f"{name} {n}",
            "space": space,
            "p": _number(float(p_values[name][space][n]), 4),
            "drawn": _number(-float(np.log10(max(p_values[name][space][n], _LEAST))), 4),
        }
        for place, (_, _, name, n) in enumerate(order)
        for space in results.spaces
    ]
