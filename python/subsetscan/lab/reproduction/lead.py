"""What the page leads with: a small table of the paper's best-known number, and what it means for a user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..experiment.cells import Cell
from ..markdown import table
from ..preset import PRESET
from .attacks import PAPER_STRENGTH
from .pairs import FIRST, OUTSIDE, paper_scan
from .published import TABLE_1
from .verdicts import NEAR, Cells

__all__ = ["lead_table", "meaning"]

ATTACK = "bim"


@dataclass(frozen=True)
class Lead:
    """The cells of one dataset, over the autoencoders' seeds; a list is empty where none were asked for."""

    dataset: str
    paper: list[Cell]
    valid: list[Cell]
    preset: list[Cell]
    outside: list[Cell]

    @property
    def published(self) -> float:
        """The paper's AUROC in the first layer."""
        return TABLE_1[FIRST, self.dataset, 0.0, ATTACK]


def leads(found: Cells) -> list[Lead]:
    """Pick the cells, dataset by dataset."""
    where = {"poisoned": 0.0, "masked": False, "attack": ATTACK, "eps": PAPER_STRENGTH[ATTACK]}
    scan = paper_scan(FIRST)
    return [
        Lead(
            dataset,
            paper=found.all(**where, dataset=dataset, protocol="paper", pair=scan),
            valid=found.all(**where, dataset=dataset, protocol="valid", pair=scan),
            preset=found.all(**where, dataset=dataset, protocol="valid", pair=PRESET),
            outside=found.all(**where, dataset=dataset, protocol="paper", pair=OUTSIDE),
        )
        for dataset in found.datasets
    ]


def lead_table(found: Cells) -> str:
    """Lay out a line for each question, a column for each dataset."""
    lines: dict[str, Callable[[Lead], str]] = {
        "first layer, as printed in the paper": lambda one: f"{one.published:.3f}",
        "first layer, `paper` images": lambda one: _span(one.paper),
        "first layer, `valid` images": lambda one: _span(one.valid),
        "preset (five scans, combined), `valid` images": lambda one: _mean(one.preset, "auroc"),
        "preset, clean images with noise as large as the attack": lambda one: _mean(one.preset, "noise"),
        '"is any pixel outside [0, 1]?", `paper` images': lambda one: _span(one.outside),
        "number of attacked images, `paper` and `valid`": lambda one: f"{_count(one.paper)} and {_count(one.valid)}",
    }
    own = leads(found)
    return table(["", *(one.dataset for one in own)], [[what, *map(of, own)] for what, of in lines.items()])


def meaning(found: Cells) -> list[str]:
    """Say what the table means, whichever way the numbers fall."""
    own = leads(found)
    said = []
    met = [one for one in own if one.paper and _most(one.paper) >= one.published - NEAR]
    missed = [one for one in own if one.paper and one not in met]
    if met:
        by_luck = [one for one in met if _most(one.paper) - _least(one.paper) > NEAR]
        said.append(
            f"On the paper's kind of images its number comes out on {_listed(met)}"
            + (f"; on {_listed(by_luck)} it depends on the autoencoder's training seed." if by_luck else ".")
        )
    if missed:
        said.append(f"On the paper's kind of images its number does not come out on {_listed(missed)}.")
    given_away = [one for one in own if one.outside and one.paper and _least(one.outside) >= _most(one.paper)]
    if given_away:
        said.append(
            f"These images give themselves away ({_listed(given_away)}): to look for a pixel outside [0, 1] is as "
            "good a detector or better. Numbers on `paper` images say little about attacks."
        )
    lower = [one for one in own if one.valid and _most(one.valid) < one.published - NEAR]
    if lower:
        said.append(
            f"On images within [0, 1] the same scan detects less on {_listed(lower)}. **For you:** do not rely on the "
            "default options, which are the paper's, for small attacks; compare tails and statistics on your own data."
        )
    noise = [
        one for one in own if one.preset and _average(one.preset, "noise") > _average(one.preset, "auroc") - 0.05
    ]  # fmt: skip
    if noise:
        said.append(
            f"The preset, whose options were tuned, reacts to noise as it does to the attack on {_listed(noise)}. "
            "**For you:** an alarm says that an input was changed, not that someone attacked it."
        )
    return said


def _listed(own: list[Lead]) -> str:
    return " and ".join(one.dataset for one in own)


def _least(cells: list[Cell]) -> float:
    return min(cell.auroc for cell in cells)


def _most(cells: list[Cell]) -> float:
    return max(cell.auroc for cell in cells)


def _average(cells: list[Cell], key: str) -> float:
    return float(np.mean([getattr(cell, key) for cell in cells]))


def _span(cells: list[Cell]) -> str:
    """Write the AUROC, from the lowest to the highest over the seeds."""
    if not cells:
        return "—"
    if len(cells) == 1:
        return f"{cells[0].auroc:.3f}"
    return f"{_least(cells):.3f} to {_most(cells):.3f} by the training seed"


def _mean(cells: list[Cell], key: str) -> str:
    value = _average(cells, key) if cells else float("nan")
    return "—" if np.isnan(value) else f"{value:.3f}"


def _count(cells: list[Cell]) -> str:
    return f"{cells[0].n:,}" if cells else "—"
