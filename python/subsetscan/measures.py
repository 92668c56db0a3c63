"""How well scores tell anomalous images from clean ones: AUROC with its interval, and rates at a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from .calibration import check_scores, score_threshold

__all__ = ["Auroc", "area", "auroc", "mean_auroc", "shares_above"]


@dataclass(frozen=True)
class Auroc:
    """Area under the ROC curve, with a 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def as_dict(self) -> dict[str, float]:
        """Return the three numbers under the names they have in ``summary.json``."""
        return {"auroc": self.value, "auroc_low": self.low, "auroc_high": self.high}


def auroc(clean: np.ndarray, anomalous: np.ndarray, *, n_resamples: int = 1000, seed: int = 0) -> Auroc:
    """Estimate the chance that an anomalous image scores higher than a clean one, ties counting half.

    Parameters
    ----------
    clean, anomalous : ndarray of shape (n,) and (m,)
        Scores, at least one each.
    n_resamples : int
        Bootstrap samples, drawn from the clean and the anomalous scores apart, for the percentile interval.
    seed : int

    Raises
    ------
    ValueError
        If one of them is empty, or a score is NaN or masked.
    """
    return mean_auroc(clean, [anomalous], n_resamples=n_resamples, seed=seed)


def mean_auroc(clean: np.ndarray, anomalous: Sequence[np.ndarray], *, n_resamples: int = 1000, seed: int = 0) -> Auroc:
    """Estimate the mean of the areas of several anomalous sets beside the same clean one.

    Parameters
    ----------
    clean : ndarray of shape (n,)
    anomalous : sequence of ndarray of shape (m,)
    n_resamples, seed
        As for `auroc`.

    Raises
    ------
    ValueError
        If one of them is empty, there is no anomalous set, or a score is NaN or masked.
    """
    clean, anomalous = check_scores(clean, "clean scores"), [check_scores(one, "scores") for one in anomalous]
    n_anomalous = [len(scores) for scores in anomalous]
    if not len(clean) or not n_anomalous or not all(n_anomalous):
        counts = ", ".join(map(str, n_anomalous)) or "0"
        raise ValueError(f"an AUROC needs scores of both kinds, got {len(clean)} clean and {counts} anomalous")
    value = float(np.mean([area(clean, scores) for scores in anomalous]))
    if min(len(clean), *n_anomalous) == 1:
        return Auroc(value, 0.0, 1.0)  # nothing to resample: such an estimate excludes nothing
    ranks = np.unique(np.concatenate([clean, *anomalous]), return_inverse=True)[1]
    interval = bootstrap(
        np.split(ranks, np.cumsum([len(clean), *n_anomalous])[:-1]),
        _mean_area_of_ranks,
        n_resamples=n_resamples,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Auroc(value, float(interval.low), float(interval.high))


def area(clean: np.ndarray, anomalous: np.ndarray) -> float:
    """Compute the area under the ROC curve alone, by sorting: the bootstrap asks for it a thousand times."""
    ordered = np.sort(clean)
    below = np.searchsorted(ordered, anomalous, side="left") + np.searchsorted(ordered, anomalous, side="right")
    return float(below.sum()) / (2 * len(clean) * len(anomalous))


def shares_above(null_scores: np.ndarray, scores: np.ndarray, rates: Sequence[float]) -> list[float]:
    """Compute the share of scores above the threshold for each false positive rate.

    Parameters
    ----------
    null_scores : ndarray of shape (n,)
        Scores of clean images that were not used for fitting: the thresholds come from them.
    scores : ndarray of shape (m,)
    rates : sequence of float
    """
    scores = check_scores(scores)
    return [float(np.mean(scores > score_threshold(null_scores, rate))) for rate in rates]


def _mean_area_of_ranks(clean: np.ndarray, *anomalous: np.ndarray, axis: int) -> np.ndarray:
    return np.mean([_areas_of_ranks(clean, scores, axis) for scores in anomalous], axis=0)


def _areas_of_ranks(clean: np.ndarray, anomalous: np.ndarray, axis: int) -> np.ndarray:
    """Compute the area for many resamples at once, along the last axis: by counting, which is faster than sorting."""
    del axis
    n, m = clean.shape[-1], anomalous.shape[-1]
    rows = np.atleast_2d(clean)
    n_ranks = 1 + max(int(clean.max()), int(anomalous.max()))
    places = rows + n_ranks * np.arange(len(rows))[:, np.newaxis]
    counts = np.bincount(places.ravel(), minlength=n_ranks * len(rows)).reshape(len(rows), n_ranks)
    twice_below = 2 * counts.cumsum(axis=1) - counts
    found = np.take_along_axis(twice_below, np.atleast_2d(anomalous), axis=1).sum(axis=1) / (2 * n * m)
    return found.reshape(clean.shape[:-1])
