"""The page on attacked files: tables, and sentences that follow from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ..markdown import listed, number, percent, render, table
from .cells import APART, BINS, CLEAN, CONFIDENCES, OTHERS, Cell, binned, confidence_name
from .edits import BINARY, HARMLESS
from .methods import AUTOMATIC, BOTH, BY_TYPE, METHODS, RATE
from .sample import PYTHON

__all__ = ["write_page"]

_BUDGETS = (5, 10, 20, 40, 60)
_BARELY, _SURELY = (confidence_name(confidence) for confidence in CONFIDENCES)
_NEAR_CHANCE = 0.6
_FEW_TYPES = 3  # that an edit applies to: they are named


def write_page(path: Path, results: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write the page, whole or not at all."""
    page = _Page(results, cells)
    render(Path(__file__).with_name("files.md.jinja"), path, **results, page=page, methods=METHODS, rate=RATE)


class _Page:
    """The tables and sentences of the page."""

    def __init__(self, results: dict[str, Any], cells: Sequence[Cell]) -> None:
        self._results = results
        self._cells = {(cell.kind, cell.type): cell for cell in cells}
        self.known = results["types"][:-1]
        self.least = min(10, results["setting"]["n_edited"])  # files of a type, for a share of its own
        self.binary = [kind for kind in self.known if kind in BINARY]
        python = self.known.index(PYTHON) if PYTHON in self.known else -1
        self.where = [one for one in results["where"] if one["type"] != PYTHON]
        self._pursued: dict[str, list[dict[str, Any]]] = {AUTOMATIC: [], BOTH: []}  # by what the attacker aims at
        for one in results["pursued"]:
            own = {
                key: [value for value, kind in zip(one[key], one["types"], strict=True) if kind != python]
                for key in ("reached", "undetected", "types")
            }
            self._pursued[one["against"]].append({**one, **own})
        self._best = {
            against: {what: _soonest([one[what] for one in of]) for what in ("reached", "undetected")}
            | {"types": of[0]["types"]}
            for against, of in self._pursued.items()
        }

    def cell(self, kind: str, of: str = APART) -> Cell | None:
        """Take a cell, where there is one."""
        return self._cells.get((kind, of))

    @staticmethod
    def _area(cell: Cell | None, method: str) -> str:
        if cell is None:
            return ""
        if method not in cell.low:
            return number(cell.auroc[method])
        return f"{cell.auroc[method]:.3f} [{cell.low[method]:.2f}, {cell.high[method]:.2f}]"

    @staticmethod
    def _flagged(cell: Cell | None, method: str) -> str:
        return "" if cell is None else percent(cell.flagged[method])

    # The lead.

    def lead(self) -> str:
        """Lay out every method: both attacks, the random changes, and the clean files."""
        rows = []
        for method in METHODS:
            row = [method]
            for kind in (_BARELY, _SURELY):
                row += [self._area(self.cell(kind), method), self._flagged(self.cell(kind), method)]
            row += [self._area(self.cell(f"random as {_SURELY}"), method), self._flagged(self.cell(CLEAN), method)]
            rows.append(row)
        header = [""]
        for confidence in CONFIDENCES:
            header += [f"attack to {confidence:g}: AUROC", "flagged"]
        return table([*header, "random bytes: AUROC", "clean: flagged"], rows)

    def findings(self) -> list[str]:
        """Say what the tables mean, whichever way the numbers fall."""
        said = []
        for kind in (_BARELY, _SURELY):
            if (cell := self.cell(kind)) is None:
                continue
            rivals = [method for method in METHODS if method not in (AUTOMATIC, BOTH)]
            best = max(rivals, key=lambda method: cell.auroc[method])
            lead = cell.auroc[AUTOMATIC] - cell.auroc[best]
            said.append(
                f"{kind.capitalize()} ({cell.n} files): the automatic detector has an AUROC of "
                f"{self._area(cell, AUTOMATIC)}, {'ahead of' if lead > 0 else 'not ahead of'} the best other line, "
                f'"{best}" ({self._area(cell, best)}); it flags {self._flagged(cell, AUTOMATIC)}, both together flag '
                f"{self._flagged(cell, BOTH)}."
            )
        if self.binary:
            texts = [kind for kind in self.known if kind not in (*self.binary, PYTHON)]
            for kind in (_BARELY, _SURELY):
                shares = self._flagged_of(kind, self.binary), self._flagged_of(kind, texts)
                said.append(f"{kind.capitalize()}: of binary files {shares[0]} are flagged, of texts {shares[1]}.")
        random = [self.cell(f"random as {kind}") for kind in (_BARELY, _SURELY)]
        told = " and ".join(self._area(cell, AUTOMATIC) for cell in random if cell)
        if told:
            few = all(cell.auroc[AUTOMATIC] < _NEAR_CHANCE for cell in random if cell)
            means = "Such changes hardly raise its score." if few else "It tells these too."
            said.append(f"As many random bytes: AUROC {told}. {means}")
        if self.where:
            found, right = (sum(one[what] for one in self.where) for what in ("n_found", "n_right"))
            said.append(
                f"Where: of the positions that the scan within a file points at {percent(self._mean('precision'))} lie "
                f"over changed bytes, {percent(self._mean('chance'))} by chance; it finds "
                f"{percent(self._mean('recall'))} of the changed bytes (means over {len(self.where)} files). Of the "
                f"positions of all files together, where a file with many counts for more, "
                f"{percent(right / max(1, found))} lie over changed bytes. By itself it flags "
                f"{percent(self._scanned('p_value'))} of these, and {percent(self._scanned('p_value_before'))} of what "
                "they were."
            )
        said.append(self._adaptive())
        clean, rare = self.cell(CLEAN), self.cell(OTHERS, "other")
        said.append(
            f"Clean files: it flags {self._flagged(clean, AUTOMATIC)}, where {RATE:.0%} are asked for (held out: "
            f"{self._flagged(clean, 'automatic, held out')}), and {self._flagged(rare, AUTOMATIC)} of the clean files "
            "of rare types, of which it has no background."
        )
        return said

    def _flagged_of(self, kind: str, types: Sequence[str]) -> str:
        """Write which share of the files of some types the automatic detector flags."""
        cells = [cell for of in types if (cell := self.cell(kind, of))]
        n = sum(cell.n for cell in cells)
        return percent(sum(cell.flagged[AUTOMATIC] * cell.n for cell in cells) / n) if n else "none"

    def _adaptive(self) -> str:
        budget = self._results["setting"]["budget"]
        plain, best, both = self._pursued[AUTOMATIC][0], self._best[AUTOMATIC], self._best[BOTH]
        changed, past = (self._share(plain, what, budget) for what in ("reached", "undetected"))
        texts = self._best_of(AUTOMATIC, binary=False)
        parts = f", of the {len(texts['reached'])} texts {self._share(texts, 'undetected', budget)}"
        broken = np.mean([n >= 0 for n in best["undetected"]]) > 0.5
        return (
            f"An attacker who does not know the detector, and stops at 0.5, changes the type of {changed} of "
            f"{len(plain['reached'])} files within {budget} bytes (median {self._median(plain, 'reached')}), and gets "
            f"{past} past it. One who knows it, and takes for each file what does best, gets "
            f"{self._share(best, 'undetected', budget)} past it (median {self._median(best, 'undetected')} bytes)"
            + (parts if 0 < len(texts["reached"]) < len(best["reached"]) else "")
            + ". Past the detector and the margin together, one who knows both gets "
            f"{self._share(both, 'undetected', budget)} (median {self._median(both, 'undetected')} bytes)"
            + (
                ". **It is no defence against somebody who has the detector and its background.**"
                if broken
                else ". **It stops such an attacker with half of the files or more.**"
            )
        )

    def means(self) -> list[str]:
        """Say what to do."""
        said = []
        barely, surely = self.cell(_BARELY), self.cell(_SURELY)
        if barely and surely:
            low, high = (cell.auroc[AUTOMATIC] - cell.auroc[BY_TYPE] for cell in (barely, surely))
            if low < 0 < high:
                said.append(
                    "An attack that stops as soon as another type is seen leaves the network in doubt, and a small "
                    "margin tells more than the activations do; an attack that goes on until the network is sure hides "
                    f"from the margin, and the activations tell. {_price_of_both(barely, surely)}"
                )
            else:
                better = AUTOMATIC if low > 0 else BY_TYPE
                said.append(f'On {"both attacks" if low * high > 0 else "these attacks"} "{better}" is not behind.')
        few = self.cell(binned(_SURELY, *BINS[0]))
        many = [cell for least_most in BINS[1:] if (cell := self.cell(binned(_SURELY, *least_most)))]
        if few and many:
            told = ", ".join(number(cell.auroc[AUTOMATIC]) for cell in many)
            said.append(
                f"Attacks to {CONFIDENCES[-1]:g} with {BINS[0][0]} to {BINS[0][1]} changed bytes have an AUROC of "
                f"{number(few.auroc[AUTOMATIC])}, those with more {told}."
            )
        return said

    # Tables.

    def by_bytes(self) -> str:
        """Lay out the attacks by the number of changed bytes."""
        rows = []
        for kind in (_BARELY, _SURELY):
            for least, most in BINS:
                cell = self.cell(binned(kind, least, most))
                if cell:
                    told = [self._area(cell, method) for method in (AUTOMATIC, BY_TYPE, BOTH)]
                    shares = [self._flagged(cell, method) for method in (AUTOMATIC, BOTH)]
                    rows.append([f"{kind}, {least} to {most} bytes", str(cell.n), *told, *shares])
        header = ["", "files", "AUROC, automatic", "margin, by type", "both", "flagged, automatic", "both"]
        return table(header, rows)

    def by_type(self) -> str:
        """Lay out types: numbers of files, clean ones flagged, attacks."""
        rows = []
        for n, kind in enumerate(self._results["types"]):
            clean = self.cell(CLEAN if n < len(self.known) else OTHERS, kind)
            row = [kind, str(self._results["n_background"][n]), str(self._results["n_test"][n])]
            row.append(self._flagged(clean, AUTOMATIC))
            for name in (_BARELY, _SURELY):
                changes = self._results["changes"][name]
                own = [c for c, of in zip(changes["n_changed"], changes["sources"], strict=True) if of == n]
                cell = self.cell(name, kind)
                row += [
                    str(len(own)) if n < len(self.known) else "",
                    f"{np.median(own):g}" if own else "",
                    self._area(cell, AUTOMATIC),
                    self._flagged(cell, AUTOMATIC),
                ]
            rows.append(row)
        header = ["", "background", "test", "clean flagged"]
        for confidence in CONFIDENCES:
            header += [f"attack to {confidence:g}: succeeded", "bytes, median", "AUROC", "flagged"]
        return table(header, rows)

    def controls(self) -> str:
        """Lay out what is no attack."""
        names = [f"random as {kind}" for kind in (_BARELY, _SURELY)]
        about = dict.fromkeys(names, ("control", "as many random printable bytes at random places"))
        about |= {name: (one["role"], one["about"]) for name, one in self._results["edits"].items()}
        rows = []
        for name, (role, words) in about.items():
            if cell := self.cell(name):
                types = [of for of in self.known if of != PYTHON and self.cell(name, of)]
                words += f" ({listed(types)} alone)" if len(types) <= _FEW_TYPES else ""
                row = [f"{name}: {words}", role, str(cell.n), percent(self._results["retyped"][name])]
                row += [self._area(cell, AUTOMATIC), self._flagged(cell, AUTOMATIC), self._flagged(cell, BOTH)]
                rows.append(row)
                if role == HARMLESS and len(types) > 1 and (worst := self._worst([name], AUTOMATIC)):
                    row = [f"{name}, of these {worst.type}", role, str(worst.n), "", self._area(worst, AUTOMATIC)]
                    rows.append([*row, self._flagged(worst, AUTOMATIC), self._flagged(worst, BOTH)])
        header = ["", "what it is", "files", "seen as another type", "AUROC", "flagged, automatic", "flagged, both"]
        return table(header, rows)

    def edited(self) -> str:
        """Say how many edited files are flagged: of each edit, of harmless ones together, and of the worst of these."""
        cells = [cell for name in self._results["edits"] if (cell := self.cell(name))]
        harmless = [cell for cell in cells if self._results["edits"][cell.kind]["role"] == HARMLESS]
        n = sum(cell.n for cell in harmless)
        share = sum(cell.flagged[AUTOMATIC] * cell.n for cell in harmless) / n if n else float("nan")
        each = ", ".join(f"{cell.kind} {self._flagged(cell, AUTOMATIC)} of {cell.n}" for cell in harmless)
        others = [f"{cell.kind} {self._flagged(cell, AUTOMATIC)}" for cell in cells if cell not in harmless]
        worst = [
            f"of {cell.type} files, {cell.kind}, {method} flags {_share_of(cell, method)}"
            for method in (AUTOMATIC, BOTH)
            if (cell := self._worst([cell.kind for cell in harmless], method))
        ]
        return (
            f"Of {n} files with harmless edits it flags {percent(share)} ({each})"
            + "".join(f"; {told}" for told in worst)
            + f". Of what hides or adds something: {', '.join(others)}."
        )

    def _worst(self, kinds: Sequence[str], method: str) -> Cell | None:
        """Take the type but Python, and the kind, of which most files are flagged, among those with enough of them."""
        cells = [cell for kind in kinds for of in self.known if of != PYTHON and (cell := self.cell(kind, of))]
        enough = [cell for cell in cells if cell.n >= self.least]
        return max(enough, key=lambda cell: cell.flagged[method], default=None)

    def in_figure(self) -> str:
        """Say how many of the files of the figure this scan flags."""
        drawn = self._results["figure"]
        after, before = (sum(one[which] <= RATE for one in drawn) for which in ("after", "before"))
        return f"Of the {len(drawn)} attacked files here it flags {after}, of the same files as they were {before}."

    def _mean(self, what: str, of: Sequence[dict[str, Any]] | None = None) -> float:
        values = [one[what] for one in (self.where if of is None else of)]
        values = [value for value in values if value is not None and not np.isnan(value)]
        return float(np.mean(values)) if values else float("nan")

    def _scanned(self, which: str, of: Sequence[dict[str, Any]] | None = None) -> float:
        """Average how many files the scan within them flags: attacked, or as they were before."""
        return float(np.mean([one[which] <= RATE for one in (self.where if of is None else of)]))

    def places(self) -> str:
        """Lay out where the scan pointed, type by type."""
        rows = []
        kinds = [kind for kind in self.known if any(one["type"] == kind for one in self._results["where"])]
        for name, of in [(kind, [kind]) for kind in kinds] + [
            ("binary, together", self.binary),
            ("texts but python, together", [kind for kind in kinds if kind not in (*self.binary, PYTHON)]),
        ]:
            own = [one for one in self._results["where"] if one["type"] in of]
            if own:
                shares = [self._scanned(key, own) for key in ("p_value", "p_value_before")]
                told = [percent(self._mean(what, own)) for what in ("precision", "chance", "recall")]
                rows.append([name, str(len(own)), *told, *map(percent, shares)])
        header = ["", "files", "precision", "by chance", "recall", "flagged by this scan", "as they were"]
        return table(header, rows)

    def _name(self, one: dict[str, Any]) -> str:
        if "weight" not in one:
            return "knows the detector, the best of all these for each file"
        if one["weight"]:
            return f"knows the detector, weight {one['weight']:g}, tries {one['n_tried']}"
        return "the gradient alone" if one["n_tried"] == 1 else f"knows the network, tries {one['n_tried']}"

    @staticmethod
    def _share(one: dict[str, Any], what: str, budget: int) -> str:
        n = sum(0 <= changes <= budget for changes in one[what])
        interval = binomtest(n, len(one[what])).proportion_ci()
        return f"{n / len(one[what]):.0%} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"

    @staticmethod
    def _median(one: dict[str, Any], what: str) -> str:
        """Write the median number of changes, those that never succeed counted as more than any."""
        median = float(np.median([n if n >= 0 else np.inf for n in one[what]]))
        return f"{median:g}" if np.isfinite(median) else "more than were allowed"

    def curve(self, against: str) -> str:
        """Lay out success, and success undetected, by the budget; the best attack also for texts and binary files."""
        budgets = [budget for budget in _BUDGETS if budget <= self._results["setting"]["budget"]]
        parts = {"texts": self._best_of(against, binary=False), "binary files": self._best_of(against, binary=True)}
        best = self._best[against]
        told = [(self._name(one), one) for one in [*self._pursued[against], best]]
        told += [(f"{self._name(best)}, {which}", one) for which, one in parts.items() if one["reached"]]
        rows = [
            [f"{name}: {words}", *(self._share(one, what, budget) for budget in budgets), self._median(one, what)]
            for name, one in told
            for what, words in (("reached", "type changed"), ("undetected", "and not flagged"))
        ]
        return table(["", *(f"{budget} bytes" for budget in budgets), "bytes, median"], rows)

    def _best_of(self, against: str, *, binary: bool) -> dict[str, Any]:
        best = self._best[against]
        own = [(self._results["types"][kind] in self.binary) == binary for kind in best["types"]]
        return {key: [value for value, yes in zip(of, own, strict=True) if yes] for key, of in best.items()}

    def shown(self) -> str:
        """Lay out the first attacked file of each type."""
        rows = [
            [
                f"`{one['name']}`",
                f"{one['before']}, then {one['after']}",
                str(one["n_changed"]),
                f"{one['p_value']:.4f}",
                "yes" if one["p_value"] <= RATE else "no",
                str(one["n_found"]),
                "" if one["precision"] is None or np.isnan(one["precision"]) else f"{one['precision']:.0%}",
            ]
            for one in self._results["shown"]
        ]
        header = ["file", "seen as", "bytes changed", "p-value", "flagged", "positions found", "of these over changes"]
        return table(header, rows)

    @property
    def minutes(self) -> int:
        """Minutes that the whole took."""
        return max(1, round(self._results["seconds"] / 60))


def _share_of(cell: Cell, method: str) -> str:
    """Write which share of a cell's files is flagged, with its 95 % interval."""
    found = binomtest(round(cell.flagged[method] * cell.n), cell.n).proportion_ci()
    return f"{percent(cell.flagged[method])} [{100 * found.low:.0f}, {100 * found.high:.0f}] of {cell.n}"


def _price_of_both(barely: Cell, surely: Cell) -> str:
    """Say what it costs to look at both, beside what is better for each attack."""
    told = [
        f'of {cell.kind.replace("attack", "attacks")} it flags {percent(cell.flagged[BOTH])}, where "{alone}" flags '
        f"{percent(cell.flagged[alone])} (AUROC {number(cell.auroc[BOTH])} and {number(cell.auroc[alone])})"
        for cell, alone in ((barely, BY_TYPE), (surely, AUTOMATIC))
    ]
    return f'Who cannot know which comes looks at both, by "{BOTH}". This has a price: {"; ".join(told)}.'


def _soonest(counts: Sequence[Sequence[int]]) -> list[int]:
    """Take for each file the fewest changes of any attack that succeeded; -1 where none did."""
    fewest = np.where(np.array(counts) < 0, np.inf, counts).min(axis=0)
    return [int(n) if np.isfinite(n) else -1 for n in fewest]
