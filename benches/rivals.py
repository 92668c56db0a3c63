"""Who is compared: each fits a background and scores images by Berk-Jones, upper tail, alpha up to 0.5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numba_scan
import numpy as np

from subsetscan import Background

__all__ = ["ALPHA_MAX", "MISSING", "RIVALS", "Rival", "fit_ours"]

ALPHA_MAX = 0.5
BLOCK = 64  # nodes or images at once, so that numpy's intermediate arrays stay in the cache
FEW = 100  # up to so many images numpy is faster by one search for all values than by one for each node
BINS = 64  # of a node's histogram, of equal width
AT_ONCE = 8  # images that are binned at once: their histograms stay in the cache
NEIGHBOURS = 5


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


def fit_torch(background: np.ndarray) -> Any:
    import torch_scan

    return torch_scan.fit(background, logs_of(len(background)))


def score_torch(state: Any, images: np.ndarray) -> np.ndarray:
    import torch_scan

    return torch_scan.score(state, images)


def fit_neighbours(background: np.ndarray) -> Any:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(background)


def fit_mahalanobis(background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor the shrunk covariance: scikit-learn's own inverse takes several times as long."""
    from scipy.linalg import cholesky
    from sklearn.covariance import LedoitWolf

    model = LedoitWolf(store_precision=False).fit(background)
    return model.location_, cholesky(model.covariance_, lower=True, overwrite_a=True, check_finite=False)


def score_mahalanobis(state: tuple[np.ndarray, np.ndarray], images: np.ndarray) -> np.ndarray:
    from scipy.linalg import solve_triangular

    location, factor = state
    whitened = solve_triangular(factor, (images - location).T, lower=True, overwrite_b=True, check_finite=False)
    return np.einsum("jn,jn->n", whitened, whitened)


def logs_of(m: int) -> np.ndarray:
    """Compute the log(1 / alpha) of each rank up to alpha_max."""
    alphas = np.arange(1, m + 1) / (m + 1)
    return -np.log(alphas[alphas <= ALPHA_MAX])


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
    logs = logs_of(m)
    return Columns(values, max(1, len(logs) - 1), values[:, m - len(logs)].copy(), logs)


def fit_numba(background: np.ndarray) -> Columns:
    """Sort as above, and keep a copy of what counts."""
    columns = fit_numpy(background)
    return replace(columns, values=columns.values[:, -columns.kept :].copy())


def score_numba(state: Columns, images: np.ndarray) -> np.ndarray:
    return numba_scan.score(state.values, state.cutoffs, state.logs, images)


def score_numpy(state: Columns, images: np.ndarray) -> np.ndarray:
    """Count ranks, then look at each image's histogram: the fastest of the ways that were tried in numpy alone."""
    histograms = (count_at_once if len(images) <= FEW else count_by_node)(state, images)
    scores = np.empty(len(images))
    for start in range(0, len(images), BLOCK):
        scores[start : start + BLOCK] = best(histograms[start : start + BLOCK], state.logs)
    return scores


def best(histograms: np.ndarray, logs: np.ndarray) -> np.ndarray:
    return (histograms.cumsum(axis=1) * logs).max(axis=1)


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


@dataclass(frozen=True)
class Bins:
    """Each node's histogram: where it begins, bins per unit, and the rank of each bin, cut off beyond alpha_max."""

    low: np.ndarray
    per_unit: np.ndarray
    ranks: np.ndarray
    logs: np.ndarray

    def of(self, values: np.ndarray, nodes: slice = slice(None)) -> np.ndarray:
        """Find the bin of each value, counted through all these nodes."""
        scaled = values - self.low[nodes]
        scaled *= self.per_unit[nodes]
        bins = np.clip(scaled, 0, BINS - 1, out=scaled).astype(np.int32)
        bins += np.arange(0, BINS * bins.shape[1], BINS, dtype=np.int32)
        return bins


def fit_bins(background: np.ndarray) -> Bins:
    """Count each node's values in bins; a value counts as large as all of its bin."""
    logs, low = logs_of(len(background)), background.min(axis=0)
    width = background.max(axis=0) - low
    per_unit = np.divide(BINS, width, out=np.zeros_like(width), where=width > 0)
    ranks = np.empty((len(low), BINS), dtype=np.uint16 if len(logs) < 2**16 else np.uint32)
    state = Bins(low, per_unit, ranks, logs)
    for start in range(0, len(low), BLOCK):
        nodes = slice(start, start + BLOCK)
        bins = state.of(background[:, nodes], nodes)
        counts = np.bincount(bins.ravel(), minlength=ranks[nodes].size).reshape(-1, BINS)
        ranks[nodes] = np.minimum(counts[:, ::-1].cumsum(axis=1)[:, ::-1], len(logs))
    return state


def score_bins(state: Bins, images: np.ndarray) -> np.ndarray:
    """Look up ranks bin by bin, without a search, and go on as with exact ones."""
    width = len(state.logs) + 1  # the last is for values that do not count
    scores = np.empty(len(images))
    for start in range(0, len(images), AT_ONCE):
        block = images[start : start + AT_ONCE]
        ranks = state.ranks.ravel().take(state.of(block)) + np.arange(0, width * len(block), width)[:, None]
        histograms = np.bincount(ranks.ravel(), minlength=width * len(block)).reshape(-1, width)
        scores[start : start + AT_ONCE] = best(histograms[:, :-1], state.logs)
    return scores


HAS_TORCH = find_spec("torch") is not None
MISSING = {} if HAS_TORCH else {"torch": "PyTorch is not installed"}
RIVALS = {
    "subsetscan": Rival(fit_ours, lambda background, images: background.scan(images).scores),
    "ART": Rival(fit_art, lambda detector, images: detector.scores(images)),
    "numpy": Rival(fit_numpy, score_numpy),
    "numba": Rival(fit_numba, score_numba),
    **({"torch": Rival(fit_torch, score_torch)} if HAS_TORCH else {}),
    "histogram": Rival(fit_bins, score_bins, same_score=False),
    "kNN": Rival(fit_neighbours, lambda model, images: model.kneighbors(images)[0][:, -1], same_score=False),
    "Mahalanobis": Rival(fit_mahalanobis, score_mahalanobis, same_score=False),
    "ECOD": Rival(fit_ecod, lambda model, images: model.decision_function(images), same_score=False),
}
