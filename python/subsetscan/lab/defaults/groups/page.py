"""The page on campaigns: tables of groups, and one story, in sentences that follow from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...markdown import listed, number, percent, render, table
from .cells import ALONE, RATE, Cell
from .methods import AUTOMATIC, CLEAN, LAYERS, METHODS, NAMING, PARTS, RIVALS

__all__ = ["write_page"]

_CLOSE = 0.005  # of another line: level with it


def write_page(path: Path, results: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write the page, whole or not at all."""
    page = _Page(results, cells)
    constants = {"known": LAYERS, "methods": METHODS, "rate": RATE, "alone": ALONE}
    render(Path(__file__).with_name("campaigns.md.jinja"), path, **results, page=page, **constants)


class _Page:
    """The tables and sentences of the page."""

    def __init__(self, results: dict[str, Any], cells: Sequence[Cell]) -> None:
        self.subjects = results["subjects"]
        self.setting = results["setting"]
        self.stories = results["stories"]
        self.few, self.many = self.setting["ks"]
        self._cells = cells
        self.places = [(name, layer) for name, about in self.subjects.items() for layer in about["layers"]]
        self.looked_at, self.aside = (
            [(name, layer) for name, layer in self.places if self.subjects[name]["layers"][layer]["looked_at"] == yes]
            for yes in (True, False)
        )

    # What is selected and averaged: within a layer over kinds, then over layers.

    def cells(self, place: tuple[str, str], k: int, *, attacks: bool = False) -> list[Cell]:
        """Select the cells of one layer: of the chosen kinds, of the attacks, or of clean groups for k = 0."""
        about = self.subjects[place[0]]
        kinds = [CLEAN] if not k else about["attacks" if attacks else "kinds"]
        return [c for c in self._cells if (c.network, c.layer) == place and c.k == k and c.kind in kinds]

    def mean(
        self, what: str, method: str, places: Sequence[tuple[str, str]], k: int, *, attacks: bool = False
    ) -> float:
        """Average a measure of a method; NaN where there is nothing."""
        of = [
            float(np.mean([getattr(cell, what)[method] for cell in cells]))
            for place in places
            if (cells := self.cells(place, k, attacks=attacks))
        ]
        return float(np.mean(of)) if of else float("nan")

    def clean_flagged(self, method: str) -> float:
        """Tell which share of all clean groups is flagged."""
        return self.mean("flagged", method, self.places, 0)

    @property
    def with_attacks(self) -> list[tuple[str, str]]:
        """List the layers of networks whose attacks are judged on their own."""
        return [place for place in self.places if self.subjects[place[0]]["attacks"]]

    # The lead.

    def lead(self) -> str:
        """Lay out every method, by what was looked at."""
        columns: dict[str, list[float]] = {}
        for k in (self.few, self.many):
            columns[f"looked at, k = {k}"] = [self.mean("auroc", m, self.looked_at, k) for m in METHODS]
            columns[f"not looked at, k = {k}"] = [self.mean("auroc", m, self.aside, k) for m in METHODS]
            columns[f"attacks, k = {k}"] = [self.mean("auroc", m, self.with_attacks, k, attacks=True) for m in METHODS]
        rows = [[method] for method in METHODS]
        for values in columns.values():
            for row, text in zip(rows, _with_best(values), strict=True):
                row.append(text)
        for row, method in zip(rows, METHODS, strict=True):
            row.append(percent(self.clean_flagged(method)))
        return table(["", *columns, "clean groups flagged"], rows)

    def findings(self) -> list[str]:
        """Say what the lead's table means, whichever way the numbers fall."""
        said = []
        for words, places in (("looked at", self.looked_at), ("not looked at", self.aside)):
            if places:
                parts = []
                for k in (self.few, self.many):
                    own = self.mean("auroc", AUTOMATIC, places, k)
                    best, value = self._best(places, k)
                    parts.append(f"{number(own)} with k = {k}, where the best other, {best}, has {number(value)}")
                said.append(f"Layers {words}: the automatic scan has a mean AUROC of {'; '.join(parts)}.")
        rows = [(place, k) for place in self.places for k in (self.few, self.many)]
        leads = [self.mean("auroc", AUTOMATIC, [place], k) - self._best([place], k)[1] for place, k in rows]
        said.append(
            f"Against the best other method of each layer and k, which nobody could know, it is ahead or level in "
            f"{sum(lead >= 0 for lead in leads)} of {len(leads)} cases ({min(leads):+.3f} to {max(leads):+.3f})."
        )
        named = []
        for k in (self.few, self.many):
            precision, recall, share = (
                percent(self.mean(what, AUTOMATIC, self.places, k)) for what in ("precision", "recall", "named")
            )
            named.append(
                f"with k = {k}, {precision} of the inputs that it names are anomalous (by chance "
                f"{k / self.setting['size']:.0%}), and {recall} of the anomalous ones are named (by chance {share})"
            )
        said.append(f"It names inputs: {'; '.join(named)}.")
        return [*said, f"**For you:** {self._advice()}"]

    def _advice(self) -> str:
        """Say which line to take, by the averages over all layers and both k."""
        means = {
            m: float(np.mean([self.mean("auroc", m, self.places, k) for k in (self.few, self.many)])) for m in METHODS
        }
        best = max(RIVALS, key=lambda m: means[m])
        lead = means[AUTOMATIC] - means[best]
        how = "level with" if abs(lead) <= _CLOSE else "ahead of" if lead > 0 else "behind"
        return (
            f"averaged over the {len(self.places)} layers and both k, the automatic scan ({means[AUTOMATIC]:.4f}) is "
            f"{how} the best other line, {best} ({means[best]:.4f}); its options were chosen on "
            f"{len(self.looked_at)} of these layers. `GroupScanner.automatic` also names inputs and nodes, and has "
            "nothing to choose. "
            f"It flags {percent(self.clean_flagged(AUTOMATIC))} of clean groups at {RATE:.0%}."
        )

    def _best(self, places: Sequence[tuple[str, str]], k: int) -> tuple[str, float]:
        return max(((m, self.mean("auroc", m, places, k)) for m in RIVALS), key=lambda one: one[1])

    # Tables.

    def layers(self, k: int) -> str:
        """Lay out every method on every layer."""
        columns = [_with_best([self.mean("auroc", m, [place], k) for m in METHODS]) for place in self.places]
        rows = [[method, *(column[n] for column in columns)] for n, method in enumerate(METHODS)]
        return table(["", *(f"{name}, {layer}" for name, layer in self.places)], rows)

    def attacks(self) -> str:
        """Lay out every method on the attacks alone."""
        asked = [(place, k) for k in (self.few, self.many) for place in self.with_attacks]
        columns = [_with_best([self.mean("auroc", m, [p], k, attacks=True) for m in METHODS]) for p, k in asked]
        rows = [[method, *(column[n] for column in columns)] for n, method in enumerate(METHODS)]
        return table(["", *(f"{name}, {layer}, k = {k}" for (name, layer), k in asked)], rows)

    def false_positives(self) -> str:
        """Lay out how many clean groups every method flags: the mean over splits, and the range of the splits."""
        rows = []
        for method in METHODS:
            row = [method, percent(self.clean_flagged(method))]
            for place in self.places:
                rates = [cell.flagged[method] for cell in self.cells(place, 0)]
                row.append(f"{percent(float(np.mean(rates)))} ({min(rates):.0%} to {max(rates):.0%})")
            rows.append(row)
        return table(["", "all", *(f"{name}, {layer}" for name, layer in self.places)], rows)

    def names(self) -> str:
        """Lay out precision and recall of the inputs that are named."""
        rows = []
        for k in (self.few, self.many):
            for method in NAMING:
                row = [f"{method}, k = {k}"]
                for places in (self.looked_at, self.aside):
                    row += [percent(self.mean(what, method, places, k)) for what in ("precision", "recall", "named")]
                rows.append(row)
            row = [f"by chance, k = {k}"]
            for _ in range(2):
                row += [percent(k / self.setting["size"]), "as many as are named", ""]
            rows.append(row)
        header = [""]
        for words in ("looked at", "not looked at"):
            header += [f"precision, {words}", "recall", "named, of all"]
        return table(header, rows)

    def draws(self) -> str:
        """Lay out the attacks over all draws: groups, and inputs alone."""
        rows = [
            [
                f"{cell.kind}; {cell.layer}; k = {cell.k}",
                str(cell.n),
                percent(cell.flagged[AUTOMATIC]),
                percent(cell.any_alone),
                percent(cell.each_alone),
                percent(cell.any_of_all),
                f"{percent(cell.precision[AUTOMATIC])}, {percent(cell.recall[AUTOMATIC])}",
            ]
            for place in self.with_attacks
            for k in (self.few, self.many)
            for cell in self.cells(place, k, attacks=True)
        ]
        header = [
            "", "draws", f"group flagged, {RATE:.0%}", f"any of the k alone, {ALONE:.1%}", "each of them",
            f"any input, {RATE / self.setting['size']:.2%}", "precision, recall",
        ]  # fmt: skip
        return table(header, rows)

    def story(self, told: dict[str, Any]) -> str:
        """Tell one group's story."""
        size, k = self.setting["size"], told["k"]
        seen = sum(p <= ALONE for p in told["alone"])
        hits = len(set(told["named"]) & set(told["anomalous"]))
        n_nodes = self.subjects[told["network"]]["layers"][told["layer"]]["n_nodes"]
        alone = {0: "none of them is flagged"}.get(seen, f"{seen} of them {'is' if seen == 1 else 'are'} flagged")
        found = "is flagged" if told["p_value"] <= RATE else "is **not** flagged"
        p_values = listed([f"{p:.3f}" for p in sorted(told["alone"])])
        return (
            f'**{told["network"]}, "{told["kind"]}", layer {told["layer"]}.** {k} attacked files among {size}. Alone, '
            f"their p-values are {p_values}: at {ALONE:.1%} {alone}, and {told['clean_flagged_alone']} of the "
            f"{size - k} clean ones; {told['clean_below']} clean ones have one as small as the smallest of these. "
            f"Together: the group's p-value is {told['p_value']:.2f}, so that it {found} at {RATE:.0%}. "
            f"{len(told['named'])} files are named, {hits} of the {k} attacked ones among them; what they share is in "
            f"{told['n_nodes']} of {n_nodes} nodes."
        )

    def over_draws(self) -> list[str]:
        """Say for each layer, over all draws with few attacked inputs, how often groups and inputs are flagged."""
        return [self._over_draws(place) for place in self.with_attacks]

    def _over_draws(self, place: tuple[str, str]) -> str:
        cells, size = self.cells(place, self.few, attacks=True), self.setting["size"]
        n = sum(cell.n for cell in cells)

        def share(what: str) -> str:
            return percent(sum(getattr(cell, what) * cell.n for cell in cells) / n)

        together = percent(sum(cell.flagged[AUTOMATIC] * cell.n for cell in cells) / n)
        return (
            f"{self.few} attacked files among {size}, {place[0]}, layer {place[1]}, {n} draws: the group is flagged at "
            f"{RATE:.0%} in {together}; any of the {self.few} alone is flagged at {ALONE:.1%} in {share('any_alone')}, "
            f"and of all these files {share('each_alone')} are. But with {size} files, {ALONE:.1%} a file is "
            f"{ALONE * size:.1f} false alarms a group; at {RATE / size:.2%} a file, which is about {RATE:.0%} a group "
            f"like the scan's, some file is flagged in {share('any_of_all')}."
        )

    def listed_places(self, places: Sequence[tuple[str, str]]) -> str:
        """Name layers in a sentence."""
        return listed([f'{name} "{layer}"' for name, layer in places]) or "none of these"

    @property
    def minutes(self) -> int:
        """Minutes that the scores took."""
        return max(1, round(sum(about["seconds"] for about in self.subjects.values()) / 60))

    @property
    def parts(self) -> str:
        """Name the parts of the automatic scan."""
        return listed([f'"{part}"' for part in PARTS])


def _with_best(values: Sequence[float]) -> list[str]:
    """Write a column, its best in bold."""
    best = number(float(np.nanmax(values))) if not np.isnan(values).all() else ""
    return [f"**{number(v)}**" if number(v) and number(v) == best else number(v) for v in values]
