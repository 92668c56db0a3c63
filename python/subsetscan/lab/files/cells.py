"""Cells: how well each method tells one kind of files from clean ones, of one type or of all; and their file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...measures import area, auroc
from ..experiment.files import write_rows
from .methods import METHODS, RATE, Judged
from .sample import PYTHON, Sample

__all__ = ["ALL", "APART", "BINS", "CLEAN", "CONFIDENCES", "OTHERS", "Cell", "binned", "cells_of", "confidence_name",
           "read_cells", "write_cells"]  # fmt: skip

CLEAN, OTHERS = "clean", "clean, of rare types"
ALL, APART = "all", "all but python"
CONFIDENCES = (0.5, 0.95)  # probabilities of another type that an attack is to reach
BINS = ((1, 5), (6, 10), (11, 20), (21, 40))  # numbers of changed bytes
_DIGITS = 5


def confidence_name(confidence: float) -> str:
    """Name an attack by the probability that it was to reach."""
    return f"attack to {confidence:g}"


def binned(kind: str, least: int, most: int) -> str:
    """Name the attacks of a kind with so many changed bytes."""
    return f"{kind}, {least} to {most} bytes"


@dataclass(frozen=True)
class Cell:
    """How each method does on files of one kind.

    Attributes
    ----------
    kind, type : str
        The type is that before the files were changed: one of them, "all", or "all but python".
    n : int
    auroc : dict of str to float
        By method: how often such a file scores higher than a clean one of any type, for "all but python" of any of
        these. Empty for clean ones.
    low, high : dict of str to float
        The 95 % interval; empty but for "all" and "all but python".
    flagged : dict of str to float
        By method: the share of files with a p-value of at most 5 %.
    """

    kind: str
    type: str
    n: int
    auroc: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    flagged: dict[str, float]


Kind = tuple[np.ndarray, np.ndarray, np.ndarray]


def cells_of(sample: Sample, kinds: Mapping[str, Kind], judged: Mapping[str, Judged]) -> list[Cell]:
    """Measure every kind: of each type, of all, and of all but Python.

    Parameters
    ----------
    sample : Sample
    kinds : mapping of str to (tokens, sources, numbers of changed bytes)
    judged : mapping of str to Judged
        For each of `kinds`.
    """
    cells = []
    clean = dict.fromkeys((ALL, *sample.types), judged[CLEAN].scores)
    clean[APART] = clean[ALL][sample.type_names(kinds[CLEAN][1]) != PYTHON]
    attacks = [confidence_name(confidence) for confidence in CONFIDENCES]
    for kind, (_, sources, n_changed) in kinds.items():
        of = sample.type_names(sources)
        every = np.ones(len(of), bool)
        chosen = {ALL: every, APART: of != PYTHON} | {name: of == name for name in sample.types}
        cells += [_cell(kind, name, judged[kind], own, clean[name]) for name, own in chosen.items() if own.any()]
        if kind in attacks:
            for least, most in BINS:
                own = (n_changed >= least) & (n_changed <= most)
                cells += [
                    _cell(binned(kind, least, most), name, judged[kind], own & also, clean[name])
                    for name, also in ((ALL, every), (APART, of != PYTHON))
                    if (own & also).any()
                ]
    return cells


def _cell(kind: str, name: str, judged: Judged, own: np.ndarray, clean: np.ndarray) -> Cell:
    auc, low, high, flagged = {}, {}, {}, {}
    for n, method in enumerate(METHODS):
        flagged[method] = float(np.mean(judged.p_values[own, n] <= RATE))
        if kind != CLEAN and name in (ALL, APART):
            found = auroc(clean[:, n], judged.scores[own, n])
            auc[method], low[method], high[method] = found.value, found.low, found.high
        elif kind != CLEAN:
            auc[method] = area(clean[:, n], judged.scores[own, n])
    return Cell(kind, name, int(own.sum()), auc, low, high, flagged)


_MEASURES = ("auroc", "low", "high", "flagged")


def write_cells(path: Path | str, cells: list[Cell]) -> None:
    """Write a CSV file with a row for each cell, and four columns for each method."""
    names = ["kind", "type", "n", *(f"{method}: {what}" for what in _MEASURES for method in METHODS)]
    rows = [
        {"kind": cell.kind, "type": cell.type, "n": cell.n}
        | {f"{m}: {what}": round(value, _DIGITS) for what in _MEASURES for m, value in getattr(cell, what).items()}
        for cell in cells
    ]
    write_rows(path, names, rows)


def read_cells(path: Path | str) -> list[Cell]:
    """Read what `write_cells` wrote."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [
            Cell(
                row["kind"],
                row["type"],
                int(row["n"]),
                **{what: {m: float(row[f"{m}: {what}"]) for m in METHODS if row[f"{m}: {what}"]} for what in _MEASURES},
            )
            for row in csv.DictReader(file)
        ]
