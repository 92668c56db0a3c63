"""From scores to cells: how well each detector tells attacked images from clean ones, and what it really sees."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._files import whole
from ...calibration import score_threshold
from ...spaces.base import as_rows
from ..adversaries import Job
from ..evaluation import area, auroc
from .images import NOISE, Images
from .plan import PAPER_STRENGTH, STATISTICS, TAILS, Network
from .scores import NULL, PAPER, Scores

if TYPE_CHECKING:
    from ..kept import Arrays

__all__ = ["Cell", "attack_rows", "cell", "named_cells", "scan_cells", "write_csv"]

RATES = (0.01, 0.05, 0.1)
NAN = float("nan")

# The scores of a set of images, by its name; None for a set that was not scored.
ScoresOf = Callable[[str], np.ndarray | None]


@dataclass(frozen=True)
class Cell:
    """How one detector does on one attack.

    Attributes
    ----------
    dataset, seed, poisoned
        The autoencoder.
    protocol, attack, eps, masked
        The attack.
    space, statistic, tail : str
        What is scanned, and how; statistic and tail are empty for what is no scan.
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

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.auroc:.3f}"
        return f"{self.auroc:.3f} [{self.low:.3f}, {self.high:.3f}]"


def cell(
    images: Images,
    job: Job,
    network: Network,
    detector: tuple[str, str, str],
    scores_of: ScoresOf,
    *,
    interval: bool = False,
) -> Cell:
    """Measure one detector on one attack; every value is NaN where no attack succeeded."""
    rows = images.sources(job)
    clean, attacked, targets = (scores_of(kind) for kind in ("clean", job.name, "targets"))
    if clean is None or attacked is None or targets is None:
        raise ValueError(f"{job.name} was not scored by {detector}")
    noise, null = scores_of(job.name + NOISE), scores_of(NULL)
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
            thresholds = [score_threshold(null, rate) for rate in RATES]
            rates = [float(np.mean(attacked > threshold)) for threshold in thresholds]
            rates.append(float(np.mean(clean > thresholds[1])))
    return Cell(
        network.dataset, network.seed, network.poisoned, job.protocol, job.attack, job.eps, job.masked, *detector,
        len(rows), value, low, high, control, paired, of_noise, *rates,
    )  # fmt: skip


def scan_cells(
    images: Images, jobs: Sequence[Job], network: Network, scores: Scores, spaces: Sequence[str], *, intervals: bool
) -> Iterator[Cell]:
    """Measure all scans of some spaces on some attacks; with intervals for those that tables show."""
    for job, space, (statistic, tail) in product(jobs, spaces, product(STATISTICS, TAILS)):
        of_paper = PAPER_STRENGTH[job.attack] == job.eps and not job.masked
        shown = (statistic, tail) == PAPER or (of_paper and tail == "upper") or (space == spaces[0] and tail == "lower")
        yield cell(
            images, job, network, (space, statistic, tail),
            lambda kind: scores.arrays.get(f"{kind}|{space}|{statistic}|{tail}"),  # noqa: B023
            interval=intervals and shown,
        )  # fmt: skip


def named_cells(
    images: Images, jobs: Sequence[Job], network: Network, scores: Arrays, names: Sequence[str], *, interval: bool
) -> Iterator[Cell]:
    """Measure detectors that are no scan, by the names under which their scores are kept."""
    for job, name in product(jobs, names):
        yield cell(
            images, job, network, (name, "", ""), lambda kind: scores.get(f"{kind}|{name}"), interval=interval  # noqa: B023
        )  # fmt: skip


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


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}


def write_csv(path: Path | str, rows: Sequence[Cell] | Sequence[dict[str, str | int | float | bool]]) -> None:
    """Write rows, one line each with six decimals, whole or not at all."""
    plain = [_rounded(asdict(row) if isinstance(row, Cell) else row) for row in rows]
    names = list(plain[0]) if plain else [field.name for field in fields(Cell)]
    with whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain)
