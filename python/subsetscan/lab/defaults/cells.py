"""Cells: how well each method tells one kind of anomalous inputs, in one layer or in all together; and their file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values
from ...combination import combined
from ..experiment.files import write_rows
from ..experiment.measures import area
from .methods import METHODS, LayerScores

__all__ = ["CLEAN", "RATE", "TOGETHER", "Cell", "cells_of", "read_cells", "write_cells"]

CLEAN = "clean"
RATE = 0.05  # of false positives
TOGETHER = {how: f"all layers, {how}" for how in ("fisher", "harmonic", "fisher+harmonic")}
_DIGITS = 5


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
    """

    network: str
    layer: str
    kind: str
    n: int
    auroc: dict[str, float]
    flagged: dict[str, float]


def cells_of(network: str, layers: Mapping[str, LayerScores], sets: Mapping[str, slice]) -> list[Cell]:
    """Measure every kind in every layer, and in all layers combined in several ways.

    Parameters
    ----------
    network : str
    layers : mapping of str to LayerScores
    sets : mapping of str to slice
        Which rows are "clean", and which are of each kind.
    """
    combinations = {layer: _together(list(layers.values()), how) for how, layer in TOGETHER.items()}
    return [
        _cell(network, layer, kind, scores, sets)
        for layer, scores in {**layers, **combinations}.items()
        for kind in sets
    ]


def _together(layers: list[LayerScores], how: str) -> LayerScores:
    """Combine the p-values of all layers, method by method, in scores that are calibrated again."""
    own, null = [], []
    for column in range(len(METHODS)):
        p = [extrapolated_p_values(layer.own[:, column], layer.null[:, column]) for layer in layers]
        p_null = [extrapolated_null_p_values(layer.null[:, column]) for layer in layers]
        scores, null_scores = combined(np.column_stack(p), np.column_stack(p_null), how)
        own.append(scores)
        null.append(null_scores)
    return LayerScores(np.column_stack(null), np.column_stack(own))


def _cell(network: str, layer: str, kind: str, scores: LayerScores, sets: Mapping[str, slice]) -> Cell:
    auroc, flagged = {}, {}
    for column, method in enumerate(METHODS):
        own, null = scores.own[sets[kind], column], scores.null[:, column]
        flagged[method] = float(np.mean(conformal_p_values(own, null) <= RATE))
        if kind != CLEAN:
            auroc[method] = area(scores.own[sets[CLEAN], column], own)
    return Cell(network, layer, kind, sets[kind].stop - sets[kind].start, auroc, flagged)


def write_cells(path: Path | str, cells: list[Cell]) -> None:
    """Write a CSV file with a row for each cell, and two columns for each method."""
    names = [
        "network",
        "layer",
        "kind",
        "n",
        *(f"{method}: {what}" for what in ("AUROC", "flagged") for method in METHODS),
    ]
    rows = [
        {"network": cell.network, "layer": cell.layer, "kind": cell.kind, "n": cell.n}
        | {f"{method}: AUROC": round(value, _DIGITS) for method, value in cell.auroc.items()}
        | {f"{method}: flagged": round(value, _DIGITS) for method, value in cell.flagged.items()}
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
                {method: float(row[f"{method}: AUROC"]) for method in METHODS if row[f"{method}: AUROC"]},
                {method: float(row[f"{method}: flagged"]) for method in METHODS},
            )
            for row in csv.DictReader(file)
        ]
