"""Who is compared: each fits a background and scores images by Berk-Jones, upper tail, alpha up to 0.5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numba_scan
import numpy as np

from subsetscan import Background

__all__ = ["ALPHA_MAX", "RIVALS", "Rival", "fit_ours"]

ALPHA_MAX = 0.5
BLOCK = 64  # nodes or images at once, so that numpy's intermediate arrays stay in the cache
FEW = 100  # up to so many images numpy is faster by one search for all values than by one for each node


@dataclass(frozen=True)
class Rival:
    """A way to fit (background -> state) and to score (state, images -> scores)."""

    fit: Callable[[np.ndarray], Any]
    score: Callable[[Any, np.ndarray], np.ndarray]
    same_score: bool = True


def fit_ours(background: np.ndarray) -> Background:
    return Background(background, tail="upper", alpha_max=ALPHA_MAX)


def fit_art(background: np.ndarray) -> Any:
    from art_scan import ArtDetector

    return ArtDetector(background)


def fit_ecod(background: np.ndarray) -> Any:
    from pyod.models.ecod import ECOD

    return ECOD().fit(background)


@dataclass(frozen=True)
class Columns:
    """Each node's values, ascending: the last `kept` of a row can be reached up to alpha_max, `cutoffs` no more."""

    values: np.ndarray
    kept: int
    cutoffs: np.ndarray
    logs: np.ndarray  # log(1 / alpha) of each rank up to alpha_max


def fit_numpy(background: np.ndarray) -> Columns:
    """Sort each node's values, contiguously: transposed some nodes at a time, then sorted by numpy's vector code."""
    m, n_nodes = background.shape
    values = np.empty((n_nodes, m), dtype=background.dtype)
    for start in range(0, n_nodes, BLOCK):
        block = values[start : start + BLOCK]
        block[:] = background[:, start : start + BLOCK].T
        block.sort(axis=1)
    alphas = np.arange(1, m + 1) / (m + 1)
    logs = -np.log(alphas[alphas <= ALPHA_MAX])
    return Columns(values, max(1, len(logs) - 1), values[:, m - len(logs)].copy(), logs)


def fit_numba(background: np.ndarray) -> Columns:
    """Sort as above, and keep a copy of what counts."""
    columns = fit_numpy(background)
    return replace(columns, values=columns.values[:, -columns.kept :].copy())


def score_numba(state: Columns, images: np.ndarray) -> np.ndarray:
    return numba_scan.score(state.values, state.cutoffs, state.logs, images)


def score_numpy(state: Columns, images: np.ndarray) -> np.ndarray:
    """Count ranks, then look at each image's histogram: the fastest of the ways that were tried in numpy alone."""
    n_images, n_ranks = len(images), len(state.logs)
    histograms = (count_at_once if n_images <= FEW else count_by_node)(state, images)
    scores = np.empty(n_images)
    for start in range(0, n_images, BLOCK):
        sizes = histograms[start : start + BLOCK].reshape(-1, n_ranks).cumsum(axis=1)
        scores[start : start + BLOCK] = (sizes * state.logs).max(axis=1)
    return scores


def count_by_node(state: Columns, images: np.ndarray) -> np.ndarray:
    """Search for the values that count, in their order, node by node."""
    n_images, n_ranks = len(images), len(state.logs)
    histograms = np.zeros(n_images * n_ranks, dtype=np.int32)
    values = np.ascontiguousarray(images.T)
    for column, cutoff, x in zip(state.values[:, -state.kept :], state.cutoffs, values, strict=True):
        rows = (x > cutoff).nonzero()[0]
        order = x[rows].argsort()
        rows = rows[order]
        histograms[rows * n_ranks + (state.kept - column.searchsorted(x[rows]))] += 1
    return histograms.reshape(n_images, n_ranks)


def count_at_once(state: Columns, images: np.ndarray) -> np.ndarray:
    """Halve the intervals of all values that count at the same time."""
    n_ranks, width = len(state.logs), state.values.shape[1]
    rows, nodes = (images > state.cutoffs).nonzero()
    x, flat = images[rows, nodes], state.values.reshape(-1)
    first = nodes * width + (width - state.kept)
    at, n = first.copy(), state.kept
    while n > 1:
        half = n // 2
        at += half * (flat[at + (half - 1)] < x)
        n -= half
    ranks = state.kept - (at - first) - (flat[at] < x)
    histograms = np.bincount(rows * n_ranks + ranks, minlength=len(images) * n_ranks)
    return histograms.reshape(len(images), n_ranks)


RIVALS = {
    "subsetscan": Rival(fit_ours, lambda background, images: background.scan(images).scores),
    "ART": Rival(fit_art, lambda detector, images: detector.scores(images)),
    "numpy": Rival(fit_numpy, score_numpy),
    "numba": Rival(fit_numba, score_numba),
    "ECOD": Rival(fit_ecod, lambda model, images: model.decision_function(images), same_score=False),
}
