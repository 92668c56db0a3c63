"""Groups of a fixed size with more and more anomalous images: how their scores rise, and which images are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...background import Background
from ...group_scan import GroupScanResult, scan_group
from ...measures import Auroc, auroc

__all__ = ["Proportion", "scan_proportions"]


@dataclass(frozen=True, eq=False)
class Proportion:
    """What groups with a given number of anomalous images score.

    Attributes
    ----------
    n_anomalous : int
        How many of the images of each group are anomalous.
    scores : ndarray of shape (n_groups,)
    auroc : Auroc
        How well the scores are told from those of clean groups of the same size.
    precision : float
        Mean share of the returned images that are anomalous; NaN without an anomalous image.
    recall : float
        Mean share of the anomalous images that are returned; NaN without one.
    n_returned : float
        Mean number of images returned.
    """

    n_anomalous: int
    scores: np.ndarray
    auroc: Auroc
    precision: float
    recall: float
    n_returned: float


def scan_proportions(
    background: Background,
    clean: Any,
    anomalous: Any,
    *,
    size: int,
    proportions: Sequence[float] = (0.0, 0.05, 0.1, 0.25, 0.5),
    n_groups: int = 100,
    seed: int = 0,
    tail: str = "upper",
    **options: Any,
) -> list[Proportion]:
    """Scan random groups of one size, some of whose images are anomalous and the others clean.

    Images are drawn without replacement within a group. Groups overlap, so that an interval tells how much of an
    estimate is due to the draw of groups from these images, not of the images. Proportion 0 are clean groups, drawn
    apart from those that the AUROC compares with.

    Parameters
    ----------
    background : Background
        Whole, not compact.
    clean, anomalous : array-like of shape (n, J) and (m, J)
        Node values of images that are not in the background.
    size : int
        Number of images in a group.
    proportions : sequence of float in [0, 1]
        Shares of anomalous images, rounded to whole images.
    n_groups : int
        Groups for each proportion, and as many clean ones to compare with.
    seed : int
        Draws the groups and the starts of the scans.
    tail : {"upper", "lower", "two-sided"}
        Which values are extreme.
    **options
        Passed on to `scan_group`: statistic, alpha_max, restarts.

    Raises
    ------
    ValueError
        If there are too few images of a kind for such groups.
    """
    rng = np.random.default_rng(seed)
    p_clean, p_anomalous = background.p_values(clean, tail), background.p_values(anomalous, tail)
    counts = [round(proportion * size) for proportion in proportions]
    if size > len(p_clean) or max(counts) > len(p_anomalous):
        raise ValueError(
            f"groups of {size} images with up to {max(counts)} anomalous ones cannot be drawn from "
            f"{len(p_clean)} clean and {len(p_anomalous)} anomalous images"
        )

    def scan(n_anomalous: int) -> GroupScanResult:
        group = np.concatenate(
            [
                p_anomalous[rng.choice(len(p_anomalous), n_anomalous, replace=False)],
                p_clean[rng.choice(len(p_clean), size - n_anomalous, replace=False)],
            ]
        )
        return scan_group(group, random_state=rng, bound=None, **options)

    null_scores = np.array([scan(0).score for _ in range(n_groups)])
    rows = []
    for count in counts:
        found = [scan(count) for _ in range(n_groups)]
        scores = np.array([result.score for result in found])
        hits = np.array([np.sum(result.images < count) for result in found])  # the first of a group are anomalous
        sizes = np.array([len(result.images) for result in found])
        rows.append(
            Proportion(
                n_anomalous=count,
                scores=scores,
                auroc=auroc(null_scores, scores),
                precision=float(np.mean(hits / np.maximum(sizes, 1))) if count else np.nan,
                recall=float(np.mean(hits / count)) if count else np.nan,
                n_returned=float(sizes.mean()),
            )
        )
    return rows
