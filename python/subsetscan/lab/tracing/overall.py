"""How each pair does on all attacks of a protocol together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...measures import mean_auroc
from ..adversaries import Job
from ..experiment.cells import Cell
from ..experiment.images import CLEAN
from ..experiment.scoring import Pair, Scores

__all__ = ["FEWEST", "Overall", "overall"]

FEWEST = 5  # successes: with fewer an attack does not count among all


@dataclass(frozen=True)
class Overall:
    """How one pair does on all attacks of a protocol that succeed often enough; each of them counts alike.

    Attributes
    ----------
    dataset, protocol, detector : str
    recall : float
        Mean share of the attacked images above the threshold for 5 % false positives.
    precision : float
        Share of attacked images among those above it, were there as many clean ones.
    auroc, low, high : float
        Mean AUROC, and its 95 % interval.
    paired, noise : float
        Mean AUROC of attacked images against their own originals, and of noise of the same size against clean images.
    """

    dataset: str
    protocol: str
    detector: str
    recall: float
    precision: float
    auroc: float
    low: float
    high: float
    paired: float
    noise: float


def overall(
    dataset: str, protocol: str, pair: Pair, scores: Scores, cells: Sequence[Cell], jobs: Sequence[Job]
) -> Overall:
    """Average the cells of a pair over the attacks of a protocol."""
    own = [cell for cell in cells if cell.pair == pair and cell.n >= FEWEST]
    about = dataset, protocol, str(pair)
    if not own:
        return Overall(*about, *[float("nan")] * 7)
    recall, paired, noise = (
        float(np.mean([getattr(cell, key) for cell in own])) for key in ("tpr_5", "paired", "noise")
    )
    false = own[0].fpr_5  # of clean images, the same for all attacks
    counted = [job for job in jobs if any(cell.attack == job.attack for cell in own)]
    mean = mean_auroc(scores.of(CLEAN, pair), [scores.of(job.name, pair) for job in counted])
    precision = recall / (recall + false) if recall + false else float("nan")
    return Overall(*about, recall, precision, mean.value, mean.low, mean.high, paired, noise)
