"""Cells: how well each method tells groups with one kind of anomalies; the story of one group; and their files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....calibration import conformal_p_values
from ....measures import area
from ...experiment.files import write_rows
from ..cells import RATE
from .methods import AUTOMATIC, CLEAN, METHODS, NAMING, Group, GroupScores

__all__ = ["ALONE", "CLEAN", "RATE", "Cell", "cells_of", "read_cells", "story_of", "write_cells"]

ALONE = 0.005  # a rate of false positives that one could use for single inputs
_DIGITS = 5
_NAMED = ("precision", "recall", "named")
_COUNTED = ("any_alone", "each_alone", "any_of_all")


@dataclass(frozen=True)
class Cell:
    """How each method does on groups with k inputs of one kind.

    Attributes
    ----------
    network, layer, kind : str
        The kind is "clean" for groups of clean inputs alone.
    k, split, n : int
        The number of anomalous inputs in a group; which split of the clean inputs; the number of groups.
    auroc : dict of str to float
        By method: how often such a group scores higher than a clean one of this split. Empty for clean ones.
    flagged : dict of str to float
        By method: the share of groups with a p-value of at most `RATE`.
    precision, recall, named : dict of str to float
        By method of `NAMING`, means over groups: the share of the named inputs that are anomalous, of the anomalous
        inputs that are named, and of all inputs that are named.
    any_alone, each_alone : float
        The share of groups of which an anomalous input is flagged on its own at `ALONE`; the share of those inputs.
    any_of_all : float
        The share of groups of which any input at all has a p-value, extrapolated, of at most `RATE` / size: looking at
        each input alone, with as many false alarms a group as the scan of groups.
    """

    network: str
    layer: str
    kind: str
    k: int
    split: int
    n: int
    auroc: dict[str, float]
    flagged: dict[str, float]
    precision: dict[str, float]
    recall: dict[str, float]
    named: dict[str, float]
    any_alone: float
    each_alone: float
    any_of_all: float


def cells_of(network: str, layer: str, split: int, groups: Sequence[Group], scores: GroupScores) -> list[Cell]:
    """Measure every kind and k of one split.

    Parameters
    ----------
    network, layer : str
    split : int
    groups : sequence of Group
    scores : GroupScores
        Of these groups.
    """
    clean = np.array([group.kind == CLEAN for group in groups])
    masks = np.array([group.mask for group in groups])
    p_values = p_values_of(scores)
    cells = []
    for kind, k in dict.fromkeys((group.kind, group.k) for group in groups):
        own = np.array([(group.kind, group.k) == (kind, k) for group in groups])
        odd, named, alone = masks[own], scores.named[own], scores.alone[own] <= ALONE
        auroc, precision, recall = {}, {}, {}
        if kind != CLEAN:
            auroc = {m: area(scores.own[clean, n], scores.own[own, n]) for n, m in enumerate(METHODS)}
            for n, method in enumerate(NAMING):
                hits = (named[:, n] & odd).sum(axis=1)
                precision[method] = float(np.mean(hits / np.maximum(named[:, n].sum(axis=1), 1)))
                recall[method] = float(np.mean(hits / k))
        cells.append(
            Cell(
                network,
                layer,
                kind,
                k,
                split,
                int(own.sum()),
                auroc,
                {m: float(np.mean(p_values[own, n] <= RATE)) for n, m in enumerate(METHODS)},
                precision,
                recall,
                {m: float(named[:, n].mean()) for n, m in enumerate(NAMING)},
                float((alone & odd).any(axis=1).mean()) if k else 0.0,
                float(alone[odd].mean()) if k else 0.0,
                float((scores.alone_extrapolated[own] <= RATE / odd.shape[1]).any(axis=1).mean()),
            )
        )
    return cells


def p_values_of(scores: GroupScores) -> np.ndarray:
    """Compute the p-value of each group by each method, (G, K)."""
    return np.column_stack([conformal_p_values(scores.own[:, n], scores.null[:, n]) for n in range(len(METHODS))])


def story_of(kind: str, k: int, groups: Sequence[Group], scores: GroupScores) -> dict[str, Any]:
    """Tell what is found in the group that was drawn first, of a kind and k."""
    first = next(n for n, group in enumerate(groups) if (group.kind, group.k) == (kind, k))
    odd, named = groups[first].mask, scores.named[first, NAMING.index(AUTOMATIC)]
    alone = scores.alone[first]
    return {
        "kind": kind,
        "k": k,
        "alone": alone[odd].round(_DIGITS).tolist(),
        "clean_flagged_alone": int((alone[~odd] <= ALONE).sum()),
        "clean_below": int((alone[~odd] <= alone[odd].min()).sum()),
        "p_value": float(p_values_of(scores)[first, list(METHODS).index(AUTOMATIC)]),
        "anomalous": np.flatnonzero(odd).tolist(),
        "named": np.flatnonzero(named).tolist(),
        "n_nodes": int(scores.n_nodes[first]),
    }


def write_cells(path: Path | str, cells: list[Cell]) -> None:
    """Write a CSV file with a row for each cell."""
    about = ["network", "layer", "kind", "k", "split", "n"]
    measures = {"auroc": METHODS, "flagged": METHODS, **dict.fromkeys(_NAMED, NAMING)}
    names = [*about, *(f"{method}: {what}" for what, methods in measures.items() for method in methods), *_COUNTED]
    rows = [
        {name: getattr(cell, name) for name in about}
        | {f"{m}: {what}": round(value, _DIGITS) for what in measures for m, value in getattr(cell, what).items()}
        | {what: round(getattr(cell, what), _DIGITS) for what in _COUNTED}
        for cell in cells
    ]
    write_rows(path, names, rows)


def read_cells(path: Path | str) -> list[Cell]:
    """Read what `write_cells` wrote."""

    def values(row: dict[str, str], what: str, methods: Sequence[str]) -> dict[str, float]:
        return {method: float(row[f"{method}: {what}"]) for method in methods if row[f"{method}: {what}"]}

    with Path(path).open(newline="", encoding="utf-8") as file:
        return [
            Cell(
                network=row["network"],
                layer=row["layer"],
                kind=row["kind"],
                k=int(row["k"]),
                split=int(row["split"]),
                n=int(row["n"]),
                auroc=values(row, "auroc", list(METHODS)),
                flagged=values(row, "flagged", list(METHODS)),
                precision=values(row, "precision", NAMING),
                recall=values(row, "recall", NAMING),
                named=values(row, "named", NAMING),
                any_alone=float(row["any_alone"]),
                each_alone=float(row["each_alone"]),
                any_of_all=float(row["any_of_all"]),
            )
            for row in csv.DictReader(file)
        ]
