"""The page: how often attackers succeed with and without each detector, and what the detector costs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..markdown import listed, number, percent, render, table
from .cells import Cell, half_budget, interval
from .trials import ADAPTIVE, ANY, ATTACKERS, PLAIN, RATE

__all__ = ["write_page"]

_DEAR = 1.25  # times the budget: what counts as a hindrance


def write_page(path: Path, results: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write the page, whole or not at all."""
    page = _Page(results, cells)
    render(Path(__file__).with_name("adaptive.md.jinja"), path, **results, page=page, attackers=ATTACKERS, rate=RATE)


class _Page:
    """The tables and sentences of the page."""

    def __init__(self, results: dict[str, Any], cells: Sequence[Cell]) -> None:
        self._detectors = results["detectors"]
        self._cells = {(cell.detector, cell.attacker, cell.eps): cell for cell in cells}
        self._eps = sorted({cell.eps for cell in cells})
        self.minutes = max(1, round(results["seconds"]["all"] / 60))

    def of(self, detector: str, attacker: str) -> list[Cell]:
        """Select the cells of a detector and an attacker, by eps."""
        return [self._cells[detector, attacker, eps] for eps in self._eps]

    def half(self, detector: str, attacker: str, what: str = "undetected") -> float:
        """Find the budget with which half of an attacker's attacks succeed."""
        return half_budget(self.of(detector, attacker), what)

    def lead(self) -> str:
        """Lay out the budgets with which half of the attacks succeed."""
        rows = []
        for detector in self._detectors:
            free, plain, adaptive, best = (
                self.half(detector, ANY, "misclassified"),
                *(self.half(detector, attacker) for attacker in (PLAIN, ADAPTIVE, ANY)),
            )
            rows.append(
                [
                    detector,
                    *(self._budget(value) for value in (free, plain, adaptive, best)),
                    f"{best / free:.2f}" if np.isfinite(best) else "more than was tried",
                ]
            )
        return table(
            ["half succeed with eps", "no detector, any attacker", PLAIN, ADAPTIVE, ANY, "the detector's price"], rows
        )

    def findings(self) -> list[str]:
        """Say what the numbers mean, whichever way they fall."""
        last = self._eps[-1]
        said = []
        for detector in self._detectors:
            free, best = self.half(detector, ANY, "misclassified"), self.half(detector, ANY)
            plain, most = self._cells[detector, PLAIN, last], self._cells[detector, ANY, last]
            if not np.isfinite(best):
                what = f"no budget up to {last:g} lets half of the attacks through"
            elif best / free < _DEAR:
                what = f"half get through with {self._budget(best)} instead of {self._budget(free)}: hardly a hindrance"
            else:
                what = (
                    f"half get through with {self._budget(best)} instead of {self._budget(free)}, "
                    f"{best / free:.1f} times the change"
                )
            said.append(
                f"**{detector}**: {what}. With {last:g} the plain attack gets {self._share(plain, 'undetected')} "
                f"through, the best of all attackers {self._share(most, 'undetected')}."
            )
        weakest, strongest = (
            pick(self._detectors, key=lambda detector: sum(cell.undetected for cell in self.of(detector, ANY)))
            for pick in (max, min)
        )
        evaded = [detector for detector in self._detectors if np.isfinite(self.half(detector, ANY))]
        said.append(
            f"Over all budgets {strongest} lets least through and {weakest} most. An attacker who knows the detector "
            f"gets half of his attacks past {len(evaded)} of {len(self._detectors)} detectors within {last:g}."
        )
        if evaded:
            said.append(
                "**For you:** a detector does not stop an attacker who knows it: its share of detected attacks is that "
                "of attackers who do not aim at it."
            )
        return [*said, self._clean(strongest)]

    def _clean(self, strongest: str) -> str:
        """Say how many clean images are flagged, and whether the strongest detector flags most of them."""
        flagged = {name: about["flagged"]["clean"] for name, about in self._detectors.items()}
        others = {name: share for name, share in flagged.items() if name != strongest}
        said = (
            f"Of clean images {percent(min(flagged.values()))} to {percent(max(flagged.values()))} are flagged, where "
            f"{RATE:.0%} should be."
        )
        if others and flagged[strongest] > max(others.values()):
            told = listed([f"{name} {percent(share)}" for name, share in others.items()])
            said += (
                f" The detector {strongest}, which lets least through, flags most of them "
                f"({percent(flagged[strongest])}; {told}): its lead is partly that."
            )
        return said

    def rates(self) -> str:
        """Lay out the shares of images that nobody attacked and that are flagged all the same."""
        return table(
            ["detector", "what it is", "flagged, clean", "flagged, the originals of attacked images"],
            [
                [name, about["about"], percent(about["flagged"]["clean"]), percent(about["flagged"]["originals"])]
                for name, about in self._detectors.items()
            ],
        )

    def shares(self, detector: str) -> str:
        """Lay out every attacker's success against a detector, by eps."""
        rows = []
        for attacker in ATTACKERS:
            cells = self.of(detector, attacker)
            rows += [
                [f"{attacker}: misclassified", *(self._share(cell, "misclassified") for cell in cells)],
                [f"{attacker}: misclassified and undetected", *(self._share(cell, "undetected") for cell in cells)],
                [f"{attacker}: median p-value", *(number(cell.median_p) or "—" for cell in cells)],
            ]
        return table([f"{detector}, eps", *(f"{eps:g}" for eps in self._eps)], rows)

    @staticmethod
    def _budget(value: float) -> str:
        return f"{value:.3f}" if np.isfinite(value) else "more than was tried"

    @staticmethod
    def _share(cell: Cell, what: str) -> str:
        count = getattr(cell, what)
        low, high = interval(count, cell.n)
        return f"{count / cell.n:.0%} [{100 * low:.0f}, {100 * high:.0f}]"
