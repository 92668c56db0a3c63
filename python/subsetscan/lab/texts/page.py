"""The page on texts: tables and marked texts, written from the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..markdown import listed, number, percent, render, table

__all__ = ["f_score", "write_page"]

_WIDTH = 100


def write_page(path: Path, results: dict[str, Any]) -> None:
    """Write the page, whole or not at all."""
    render(Path(__file__).with_name("texts.md.jinja"), path, **results, page=_Page(results))


class _Page:
    def __init__(self, results: dict[str, Any]) -> None:
        self._measures = results["measures"]
        self._tried = results["tried"]
        self._layer = results["layer"]
        self._where = results["where"]
        self._kinds = results["kinds"]
        self.methods = list(self._measures)

    def mean(self, what: str, method: str) -> float:
        """Average over the kinds."""
        return float(np.mean([self._measures[method][kind][what] for kind in self._kinds]))

    def lead(self) -> str:
        """Lay out the methods: means over all kinds, and clean texts."""
        rows = [
            [
                method,
                number(self.mean("auroc", method)),
                percent(self.mean("flagged", method)),
                percent(self._measures[method]["clean"]["flagged"]),
            ]
            for method in self.methods
        ]
        return table(["", "mean AUROC", "flagged", "clean texts flagged"], rows)

    def best(self) -> str:
        """Name the method with the highest mean AUROC."""
        return max(self.methods, key=lambda method: self.mean("auroc", method))

    def ahead(self, first: str, second: str) -> list[str]:
        """List kinds on which a method is ahead of another by more than the intervals of both."""
        one, other = self._measures[first], self._measures[second]
        return [kind for kind in self._kinds if one[kind]["auroc_low"] > other[kind]["auroc_high"]]

    def compared(self, first: str, second: str) -> str:
        """Say on which kinds each of two methods is ahead."""
        told = [
            f"{a} is ahead of {b} on {listed(self.ahead(a, b)) or 'none'}"
            for a, b in ((first, second), (second, first))
        ]
        return "; ".join(told)

    def hidden(self) -> str:
        """List kinds that no method flags half of."""
        most = {kind: max(self._measures[m][kind]["flagged"] for m in self.methods) for kind in self._kinds}
        return listed([kind for kind, flagged in most.items() if flagged < 0.5]) or "none"

    def by_kind(self) -> str:
        """Lay out every kind."""
        rows = []
        for kind, about in self._kinds.items():
            own = [self._measures[method][kind] for method in self.methods]
            best = max(one["auroc"] for one in own)
            cells = [_bold(_interval(one), one["auroc"] == best) + f", {one['flagged']:.0%}" for one in own]
            rows.append([f"{kind}: {about}", *cells])
        return table(["texts", *self.methods], rows)

    def layers(self) -> str:
        """Lay out the layers that were tried for tokens."""
        rows = [
            [_bold(layer, layer == self._layer), *(percent(one[name]) for name in ("precision", "chance", "recall"))]
            for layer, one in self._tried.items()
        ]
        chance = percent(next(iter(self._tried.values()))["chance"])
        rows.append(["every character of each text", chance, chance, percent(1.0)])
        return table(["layer", "precision", "by chance", "recall"], rows)

    def where(self) -> str:
        """Tell how well the found characters lie over those that were put in."""
        one = self._where
        return (
            f"{one['precision']:.0%} of the characters that it returns lie in the order that was put in "
            f"({one['chance']:.0%} of all characters do), and it returns {one['recall']:.0%} of the order's, means "
            f"over texts: an F1 of {f_score(one['precision'], one['recall']):.2f}, where to mark every character of "
            f"each text has {f_score(one['chance'], 1.0):.2f}; {one['flagged']:.0%} of these texts are flagged"
        )

    def marked(self, example: dict[str, Any]) -> str:
        """Write a text in lines, with = under what was put in and ^ under what was found."""
        text = example["text"]
        lines = [f"p = {example['p_value']:.3g}"]
        for start in range(0, len(text), _WIDTH):
            lines.append(text[start : start + _WIDTH])
            for sign, spans in (("=", [example["put_in"]]), ("^", example["found"])):
                if under := _marks(len(text), spans, sign)[start : start + _WIDTH].rstrip():
                    lines.append(under)
        return "\n".join(f"    {line}" for line in lines)


def f_score(precision: float, recall: float) -> float:
    """Compute the harmonic mean of precision and recall; 0 where both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _interval(measured: dict[str, float]) -> str:
    return f"{measured['auroc']:.2f} [{measured['auroc_low']:.2f}, {measured['auroc_high']:.2f}]"


def _bold(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best else text


def _marks(length: int, spans: Sequence[Sequence[int]], sign: str) -> str:
    marks = [" "] * length
    for start, end in spans:
        marks[start:end] = sign * (end - start)
    return "".join(marks)
