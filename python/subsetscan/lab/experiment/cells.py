"""Rows of results: how well each pair tells attacked images from clean ones, what it really sees, and the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ...input_checks import as_rows
from ...measures import area, auroc, shares_above
from ..adversaries import Job
from .files import write_rows
from .images import CLEAN, TARGETS, Images, noise_of
from .plan import Network
from .scoring import NULL, Pair, Scores

__all__ = ["Cell", "always", "attack_rows", "cell", "cells", "never", "write_csv"]

RATES = (0.01, 0.05, 0.1)
NAN = float("nan")


@dataclass(frozen=True)
class Cell:
    """How one pair of a space and a detector does on one attack.

    Attributes
    ----------
    dataset, seed, poisoned
        The network.
    protocol, attack, eps, masked
        The attack.
    space, statistic, tail : str
        The pair.
    n : int
        Number of successful attacks.
    auroc, low, high : float
        Attacked against clean images, and the 95 % interval where it was asked for.
    control : float
        AUROC of the attacked images' own originals against clean images: what comes from their selection alone.
    paired : float
        AUROC of the attacked images against their own originals.
    noise : float
        AUROC of noise of the same size against clean images; NaN where there is none.
    tpr_1, tpr_5, tpr_10 : float
        Share of the attacked images above the threshold for 1, 5 and 10 % false positives.
    fpr_5 : float
        Share of clean images above the second.
    """

    dataset: str
    seed: int
    poisoned: float
    protocol: str
    attack: str
    eps: float
    masked: bool
    space: str
    statistic: str
    tail: str
    n: int
    auroc: float
    low: float
    high: float
    control: float
    paired: float
    noise: float
    tpr_1: float
    tpr_5: float
    tpr_10: float
    fpr_5: float

    @property
    def pair(self) -> Pair:
        """The pair of a space and a detector."""
        return Pair(self.space, self.statistic, self.tail)

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.auroc:.3f}"
        return f"{self.auroc:.3f} [{self.low:.3f}, {self.high:.3f}]"


def cell(images: Images, job: Job, network: Network, pair: Pair, scores: Scores, *, interval: bool = False) -> Cell:
    """Measure one pair on one attack; every value is NaN where no attack succeeded.

    Raises
    ------
    ValueError
        If the attack's images were not scored by the pair.
    """
    rows = images.sources(job)
    clean, attacked, targets = (scores.get(kind, pair) for kind in (CLEAN, job.name, TARGETS))
    if clean is None or attacked is None or targets is None:
        raise ValueError(f"{job.name} was not scored by {pair}")
    noise, null = scores.get(noise_of(job), pair), scores.get(NULL, pair)
    value = low = high = control = paired = of_noise = NAN
    rates = [NAN] * 4
    if len(rows):
        value, control = area(clean, attacked), area(clean, targets[rows])
        paired = area(targets[rows], attacked)
        if interval:
            estimate = auroc(clean, attacked)
            low, high = estimate.low, estimate.high
        if noise is not None:
            of_noise = area(clean, noise)
        if null is not None:
            rates = [*shares_above(null, attacked, RATES), *shares_above(null, clean, RATES[1:2])]
    return Cell(
        network.dataset, network.seed, network.poisoned, job.protocol, job.attack, job.eps, job.masked,
        pair.space, pair.statistic, pair.tail, len(rows), value, low, high, control, paired, of_noise, *rates,
    )  # fmt: skip


def always(job: Job, pair: Pair) -> bool:
    """Ask for every interval."""
    del job, pair
    return True


def never(job: Job, pair: Pair) -> bool:
    """Ask for no interval: each takes a thousand resamples."""
    del job, pair
    return False


def cells(
    images: Images,
    jobs: Sequence[Job],
    network: Network,
    scores: Scores,
    pairs: Sequence[Pair],
    *,
    interval: Callable[[Job, Pair], bool] = always,
) -> Iterator[Cell]:
    """Measure pairs on attacks, with a 95 % interval where `interval` says so."""
    for job, pair in product(jobs, pairs):
        yield cell(images, job, network, pair, scores, interval=interval(job, pair))


def attack_rows(dataset: str, images: Images) -> list[dict[str, str | int | float | bool]]:
    """Tell of each attack how many succeeded, and what there is to know about them."""
    rows: list[dict[str, str | int | float | bool]] = []
    for job, made in images.attacked.items():
        successes = images.successes(job)
        unchanged = as_rows(made.images == images.targets[made.sources]).all(axis=1)
        outside = ((successes < 0) | (successes > 1)).mean() if len(successes) else NAN
        rows.append(
            {
                "dataset": dataset,
                **{key: value for key, value in asdict(job).items() if key != "n_images"},
                "given": made.n_given,
                "misclassified_before": int(np.sum(made.first_predictions != images.labels)),
                "tried": len(made.sources),
                "n": int(made.successful.sum()),
                "success_rate": float(made.successful.mean()) if len(made.successful) else NAN,
                "unchanged": int(unchanged.sum()),
                "outside": float(outside),
            }
        )
    return rows


def write_csv(path: Path | str, rows: Sequence[Any], row_type: type = Cell) -> None:
    """Write rows, one line each with six decimals, whole or not at all.

    Parameters
    ----------
    path : path-like
    rows : sequence of mapping or dataclass
        All with the same names.
    row_type : dataclass, default Cell
        Whose names the header has where there are no rows.
    """
    plain = [_rounded(row if isinstance(row, Mapping) else asdict(row)) for row in rows]
    names = list(plain[0]) if plain else [field.name for field in fields(row_type)]
    write_rows(path, names, plain)


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}
