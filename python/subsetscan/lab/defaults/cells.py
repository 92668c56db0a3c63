"""Cells: how well each method tells one kind of anomalous inputs, in one layer or in all together; and their file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values
from ...combination import combined
from ...measures import area
from ..experiment.files import write_rows
from .methods import LayerScores, Scores

__all__ = ["CLEAN", "RATE", "TOGETHER", "Cell", "cell_of", "cells_of", "read_cells", "together", "write_cells"]

CLEAN = "clean"
RATE = 0.05  # of false positives
TOGETHER = {how: f"all layers, {how}" for how in ("fisher", "harmonic", "fisher+harmonic")}
_DIGITS = 5
_MEASURES = {"AUROC": "auroc", "low": "low", "high": "high", "flagged": "flagged"}  # in the file, of a cell


@dataclass(frozen=True)
class Cell:
    """How each method does on one kind of inputs.

    Attributes
    ----------
    network, layer, kind : str
        The layer is one of `TOGETHER` for all layers combined; the kind is "clean" for clean rows that nothing was
        fitted to.
    n : int
        Number of inputs.
    auroc : dict of str to float
        By method: how often such an input scores higher than a clean one. Empty for clean ones.
    flagged : dict of str to float
        By method: the share of inputs with a p-value of at most `RATE`.
    low, high : dict of str to float
        By method: the ends of the AUROC's 95 % interval, where it was computed.
    """

    network: str
    layer: str
    kind: str
    n: int
    auroc: dict[str, float]
    flagged: dict[str, float]
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)


def cells_of(network: str, layers: Mapping[str, LayerScores], sets: Mapping[str, slice]) -> list[Cell]:
    """Measure every kind in every layer, and in all layers combined in several ways.

    Parameters
    ----------
    network : str
    layers : mapping of str to LayerScores
    sets : mapping of str to slice
        Which rows are "clean", and which are of each kind.
    """
    combinations = {layer: together(layers.values(), how) for how, layer in TOGETHER.items()}
    return [
        cell_of(network, layer, kind, scores, sets)
        for layer, scores in {**layers, **combinations}.items()
        for kind in sets
    ]


def together(layers: Iterable[LayerScores], how: str) -> LayerScores:
    """Combine the p-values of all layers, method by method, in scores that are calibrated again.

    Parameters
    ----------
    layers : iterable of LayerScores
        Of the same methods.
    how : str
        One of `TOGETHER`.
    """
    layers = list(layers)
    found = {}
    for method in layers[0]:
        scores = [layer[method] for layer in layers]
        p = [extrapolated_p_values(one.own, one.null) for one in scores]
        p_null = [extrapolated_null_p_values(one.null) for one in scores]
        own, null = combined(np.column_stack(p), np.column_stack(p_null), how)
        found[method] = Scores(null, own)
    return found


def cell_of(network: str, layer: str, kind: str, scores: LayerScores, sets: Mapping[str, slice]) -> Cell:
    """Measure one kind by scores of one layer, or of all together."""
    auroc, flagged = {}, {}
    for method, (null, rows) in scores.items():
        own = rows[sets[kind]]
        flagged[method] = float(np.mean(conformal_p_values(own, null) <= RATE))
        if kind != CLEAN:
            auroc[method] = area(rows[sets[CLEAN]], own)
    return Cell(network, layer, kind, sets[kind].stop - sets[kind].start, auroc, flagged)


def write_cells(path: Path | str, cells: list[Cell]) -> None:
    """Write a CSV file with a row for each cell, and a column for each measure of each method."""
    names = ["network", "layer", "kind", "n"]
    for what, measure in _MEASURES.items():
        methods = dict.fromkeys(method for cell in cells for method in getattr(cell, measure))
        names += [f"{method}: {what}" for method in methods]
    rows = [
        {"network": cell.network, "layer": cell.layer, "kind": cell.kind, "n": cell.n}
        | {
            f"{method}: {what}": round(value, _DIGITS)
            for what, measure in _MEASURES.items()
            for method, value in getattr(cell, measure).items()
        }
        for cell in cells
    ]
    write_rows(path, names, rows)


def read_cells(path: Path | str) -> list[Cell]:
    """Read what `write_cells` wrote."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [
            Cell(
                row["network"],
                row["layer"],
                row["kind"],
                int(row["n"]),
                **{measure: _values(row, f": {what}") for what, measure in _MEASURES.items()},
            )
            for row in csv.DictReader(file)
        ]


def _values(row: Mapping[str, str], ending: str) -> dict[str, float]:
    return {name.removesuffix(ending): float(text) for name, text in row.items() if name.endswith(ending) and text}
