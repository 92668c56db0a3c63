"""What the cells of networks say on average: by method, network, group of kinds, and over networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..defaults.cells import CLEAN, Cell
from ..defaults.methods import AUTOMATIC
from ..subjects.subject import REPORT
from .methods import OURS

__all__ = [
    "NETWORK",
    "WITHIN",
    "Means",
    "Measure",
    "auroc_of",
    "best_peer_of",
    "flagged_of",
    "mean_of",
    "means_of_pairs",
]

WITHIN, NETWORK = "within a layer", "all layers"

Measure = Callable[[Cell], Mapping[str, float]]


class Means:
    """Averages over the cells of several networks.

    Attributes
    ----------
    subjects : dict
        What the results say of each network, by its name.
    aside : list of str
        The networks that were kept aside: no option was chosen on them.
    """

    def __init__(self, subjects: dict[str, Any], cells: Sequence[Cell]) -> None:
        self.subjects = subjects
        self._cells: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
            view = NETWORK if cell.layer == NETWORK else WITHIN
            self._cells.setdefault((view, cell.network), []).append(cell)
        self.aside = [name for name, about in subjects.items() if about["role"] == REPORT]

    def kinds(self, view: str, network: str, group: str | None = None) -> list[Cell]:
        """Select the cells of a network's anomalous inputs, of one group or all."""
        groups = self.subjects[network]["groups"]
        return [
            cell for cell in self._cells[view, network] if cell.kind != CLEAN and group in (None, groups[cell.kind])
        ]

    def clean(self, view: str, network: str) -> list[Cell]:
        """Select the cells of a network's clean inputs."""
        return [cell for cell in self._cells[view, network] if cell.kind == CLEAN]

    def methods(self, view: str) -> list[str]:
        """List the methods of a view, whatever networks they are for."""
        return list(dict.fromkeys(m for name in self.subjects for m in self.clean(view, name)[0].flagged))

    def best_peer(self, view: str, network: str, among: Iterable[str] | None = None) -> tuple[str, float]:
        """Name the peer with the highest mean AUROC on a network, and give that."""
        return best_peer_of(self.kinds(view, network), among)

    def lead_of(self, view: str, network: str, among: Iterable[str] | None = None) -> float:
        """Tell by how much the automatic detector is ahead of the best peer, in mean AUROC."""
        return mean_of(self.kinds(view, network), auroc_of, AUTOMATIC) - self.best_peer(view, network, among)[1]

    def over_networks(self, view: str, measure: Measure, method: str, role: str | None = None) -> float:
        """Average over networks, of one role or all; NaN where a network lacks the method."""
        names = [name for name, about in self.subjects.items() if role in (None, about["role"])]
        of = [mean_of(self.kinds(view, name), measure, method) for name in names]
        return float(np.mean(of)) if of else np.nan

    def single_best(self, view: str, role: str | None = None) -> tuple[str, float]:
        """Name the peer that is best over all networks, or those of one role, and give its mean AUROC."""
        means = {m: self.over_networks(view, auroc_of, m, role) for m in self.methods(view) if m not in OURS}
        return max(((m, mean) for m, mean in means.items() if not np.isnan(mean)), key=lambda one: one[1])


def auroc_of(cell: Cell) -> Mapping[str, float]:
    """Return the AUROC of each method."""
    return cell.auroc


def flagged_of(cell: Cell) -> Mapping[str, float]:
    """Return the share that each method flags."""
    return cell.flagged


def mean_of(cells: Iterable[Cell], measure: Measure, method: str) -> float:
    """Average over cells; NaN where one lacks the method."""
    return float(np.mean([measure(cell).get(method, np.nan) for cell in cells]))


def best_peer_of(cells: Sequence[Cell], among: Iterable[str] | None = None) -> tuple[str, float]:
    """Name the peer with the highest mean AUROC over cells, and give that."""
    peers = [m for m in cells[0].auroc if m not in OURS and (among is None or m in among)]
    return max(((name, mean_of(cells, auroc_of, name)) for name in peers), key=lambda one: one[1])


def means_of_pairs(pairs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Average AUROCs over pairs of kinds, of the methods that all of them have."""
    return {m: float(np.mean([of[m]["auroc"] for of in pairs])) for m in pairs[0] if all(m in of for of in pairs)}
