"""The figure: success of the attackers against their budget, with and without each detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...plot.style import COLOURS, new_figure, save
from .cells import Cell, interval
from .trials import ANY, ATTACKERS

__all__ = ["draw"]


def draw(path: Path, cells: Sequence[Cell]) -> None:
    """Draw a panel for each detector, and write the PNG."""
    detectors = list(dict.fromkeys(cell.detector for cell in cells))
    figure = new_figure(3.4 * len(detectors) + 0.4, 3.6)
    panels = figure.subplots(1, len(detectors), sharey=True, squeeze=False)[0]
    for panel, detector in zip(panels, detectors, strict=True):
        own = [cell for cell in cells if cell.detector == detector]
        best = [cell for cell in own if cell.attacker == ANY]
        eps = [cell.eps for cell in best]
        panel.plot(
            eps,
            [cell.misclassified / cell.n for cell in best],
            "k--",
            marker="o",
            ms=3,
            label="no detector: any of them",
        )
        ends = [interval(cell.undetected, cell.n) for cell in best]
        panel.fill_between(eps, *zip(*ends, strict=True), color=COLOURS[0], alpha=0.15, lw=0)
        for colour, attacker in zip(COLOURS, (ANY, *(one for one in ATTACKERS if one != ANY)), strict=False):
            of = [cell for cell in own if cell.attacker == attacker]
            panel.plot(
                eps,
                [cell.undetected / cell.n for cell in of],
                color=colour,
                lw=2.2 if attacker == ANY else 1.2,
                marker="o",
                ms=3,
                label=f"undetected: {attacker}",
            )
        panel.axhline(0.5, color="0.8", lw=0.8, zorder=0)
        panel.set_title(detector, fontsize=10)
        panel.set_xlabel("largest change of a pixel", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.set_ylim(-0.02, 1.02)
    panels[0].set_ylabel("share of attacks that succeed", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    save(figure, path)
