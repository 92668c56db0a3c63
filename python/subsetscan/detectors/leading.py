"""The few nodes that carry most of an input's score."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..background import Background
from ..scanning import ScanResult

__all__ = ["leading_subsets"]


def leading_subsets(background: Background, X: np.ndarray, options: Mapping[str, Any], share: float) -> ScanResult:
    """Find the smallest subset of each input's nodes that carries at least a share of its score.

    Parameters
    ----------
    background : Background
    X : ndarray of shape (N, J)
    options : mapping
        Those of `Background.scan`, "alpha_max" among them.
    share : float in (0, 1]

    Returns
    -------
    ScanResult
        As `SubsetScanDetector.leading` returns it.

    Raises
    ------
    ValueError
        As for `Background.scan`, and if the share is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    found = [_leading(background, X[n : n + 1], options, share) for n in range(len(X))]
    return ScanResult.concatenate(found or [background.scan(X, **options)])


def _leading(background: Background, x: np.ndarray, options: Mapping[str, Any], share: float) -> ScanResult:
    def scan(alpha_max: float, return_nodes: bool = False) -> ScanResult:
        return background.scan(x, **{**options, "alpha_max": alpha_max}, return_nodes=return_nodes)

    largest = options["alpha_max"]
    least = share * scan(largest).scores[0]
    # The highest score up to a threshold grows with it. Midranks are half steps.
    grid = np.arange(1, 2 * (background.n_samples + 1) + 1) / (2 * (background.n_samples + 1))
    grid = np.append(grid[grid < largest], largest)
    first = bisect.bisect_left(grid, True, key=lambda alpha: bool(scan(alpha).scores[0] >= least))
    return scan(grid[min(first, len(grid) - 1)], return_nodes=True)
