"""The page on texts: tables and marked texts, written from the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..markdown import listed, number, percent, render, table

__all__ = ["TOKENS", "f_score", "write_page"]

TOKENS = "scan of tokens"
_WIDTH = 100
_CLOSE = 0.005  # of the best: level with it
_ENOUGH = 0.9  # of the texts of a kind have a length that the background has: else the kind is in no mean


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
        self._in_range = results["in_range"]
        self._looked_at = results["looked_at"]
        self.methods = list(self._measures)
        self.compared_kinds = [kind for kind in self._kinds if self._in_range[kind] >= _ENOUGH]
        self.outside = [kind for kind in self._kinds if kind not in self.compared_kinds]

    def mean(self, what: str, method: str) -> float:
        """Average over the kinds whose lengths the background has."""
        return float(np.mean([self._measures[method][kind][what] for kind in self.compared_kinds]))

    def numbers(self) -> str:
        """Say how many texts there are of a kind."""
        n = {kind: self._measures[self.methods[0]][kind]["n"] for kind in self._kinds}
        most = max(n.values())
        fewer = [f"{own} {kind}" for kind, own in n.items() if own < most]
        return f"{most} each" + (f" but {listed(fewer)}" if fewer else "")

    def left_out(self) -> str:
        """Name the kinds that are in no mean, with the share of texts whose length the background has."""
        told = [f"{kind} ({self._in_range[kind]:.0%})" for kind in self.outside]
        return listed(told) or "none"

    def looked_at(self) -> str:
        """Say how many odd texts are among those on which options were chosen."""
        told = [f"{n} of {kind}" for kind, n in self._looked_at.items() if n]
        return f"are others but {listed(told)}" if told else "are others"

    def lead(self) -> str:
        """Lay out the methods: means over the kinds whose lengths the background has, and clean texts."""
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

    def order(self, what: str = "auroc") -> list[str]:
        """List the methods, the one with the highest mean first."""
        return sorted(self.methods, key=lambda method: -self.mean(what, method))

    def best(self) -> str:
        """Name the method with the highest mean AUROC, and the next."""
        told = [f"{method} ({number(self.mean('auroc', method))})" for method in self.order()]
        return f"{told[0]}, before {listed(told[1:])}"

    def advice(self) -> str:
        """Say what to flag whole texts by, and what tells where."""
        order, most = self.order(), self.order("flagged")[0]
        level = [m for m in order if self.mean("auroc", m) >= self.mean("auroc", order[0]) - _CLOSE]
        names = " or ".join(f'"{method}"' for method in level)
        how = "has the highest mean AUROC" if len(level) == 1 else f"are level in mean AUROC, within {_CLOSE}"
        return (
            f"Flag whole texts by {names}, which {how}. At a p-value of 0.05 "
            f'"{most}" flags most ({percent(self.mean("flagged", most))}). "{TOKENS}" also says which tokens are odd.'
        )

    def ahead(self, first: str, second: str) -> list[str]:
        """List kinds on which a method is ahead of another by more than the intervals of both."""
        one, other = self._measures[first], self._measures[second]
        return [kind for kind in self.compared_kinds if one[kind]["auroc_low"] > other[kind]["auroc_high"]]

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

    def by_kind(self, kinds: Sequence[str]) -> str:
        """Lay out kinds."""
        rows = []
        for kind in kinds:
            own = [self._measures[method][kind] for method in self.methods]
            best = max(one["auroc"] for one in own)
            cells = [_bold(_interval(one), one["auroc"] == best) + f", {one['flagged']:.0%}" for one in own]
            rows.append([f"{kind}: {self._kinds[kind]}", *cells])
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
