"""Cells: how often one attacker succeeds against one detector within one budget; and their file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from ..experiment.files import write_rows
from .trials import RATE

__all__ = ["Cell", "cell_of", "half_budget", "interval", "read_cells", "write_cells"]

_DIGITS = 5


@dataclass(frozen=True)
class Cell:
    """How attacks on a detector end.

    Attributes
    ----------
    detector, attacker : str
    eps : float
        The largest change of a pixel.
    n : int
        Number of images that were attacked.
    misclassified, undetected : int
        How many of them are misclassified, and how many are so with a p-value above 5 %.
    median_p : float
        Median p-value of the misclassified ones; NaN without any.
    """

    detector: str
    attacker: str
    eps: float
    n: int
    misclassified: int
    undetected: int
    median_p: float


def cell_of(detector: str, attacker: str, eps: float, misclassified: np.ndarray, p_values: np.ndarray) -> Cell:
    """Count how the attacks on n images end, by whether each is misclassified, and its p-value."""
    wrong = p_values[misclassified]
    median = float(np.median(wrong)) if len(wrong) else float("nan")
    return Cell(detector, attacker, eps, len(p_values), len(wrong), int((wrong > RATE).sum()), median)


def interval(count: int, n: int) -> tuple[float, float]:
    """Compute the 95 % interval of a share (Clopper and Pearson's)."""
    found = binomtest(count, n).proportion_ci()
    return float(found.low), float(found.high)


def half_budget(cells: Sequence[Cell], what: str) -> float:
    """Find the change of a pixel with which half of the attacks succeed, on straight lines from 0 through the cells.

    Parameters
    ----------
    cells : sequence of Cell
        Of one detector and one attacker, by eps.
    what : str
        Which count of the cells is success.

    Returns
    -------
    float
        Infinite where no budget is enough.
    """
    before = (0.0, 0.0)
    for cell in cells:
        here = cell.eps, getattr(cell, what) / cell.n
        if here[1] >= 0.5:
            return before[0] + (here[0] - before[0]) * (0.5 - before[1]) / (here[1] - before[1])
        before = here
    return float("inf")


def write_cells(path: Path | str, cells: Sequence[Cell]) -> None:
    """Write a CSV file with a row for each cell."""
    names = [field.name for field in fields_of(Cell)]
    write_rows(path, names, ({**asdict(cell), "median_p": round(cell.median_p, _DIGITS)} for cell in cells))


def read_cells(path: Path | str) -> list[Cell]:
    """Read what `write_cells` wrote."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [
            Cell(
                detector=row["detector"],
                attacker=row["attacker"],
                eps=float(row["eps"]),
                n=int(row["n"]),
                misclassified=int(row["misclassified"]),
                undetected=int(row["undetected"]),
                median_p=float(row["median_p"]),
            )
            for row in csv.DictReader(file)
        ]
