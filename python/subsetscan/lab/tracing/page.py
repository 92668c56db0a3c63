"""The page: the slides' tables with ours beside them, and what else was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..experiment.cells import Cell
from ..experiment.plan import attack_name
from ..experiment.scoring import Pair
from ..markdown import number, percent, render, table
from .overall import FEWEST, Overall
from .pairs import CONTROLS, ENTROPY, SCANS
from .published import METHODS, TABLE_1

__all__ = ["SIZES", "write_page"]

SIZES = (10, 25, 100)  # of the sets that a test tells apart
_SPECIFIC = 0.15


def write_page(path: Path, results: dict[str, Any], cells: Sequence[Cell], overall: Sequence[Overall]) -> None:
    """Write the page, whole or not at all."""
    page = _Page(results["subjects"], cells, overall)
    render(
        Path(__file__).with_name("tracing.md.jinja"),
        path,
        **results,
        page=page,
        fewest=FEWEST,
        sentences={subject: _sentences(subject, overall) for subject in results["subjects"]},
    )


class _Page:
    """The tables of the page."""

    def __init__(self, subjects: dict[str, Any], cells: Sequence[Cell], overall: Sequence[Overall]) -> None:
        self._subjects = subjects
        self._cells = {(one.dataset, one.protocol, one.pair, one.attack): one for one in cells}
        self._overall = overall

    def attacks(self, subject: str, protocol: str) -> str:
        """Lay out the slides' table of attacks, theirs below ours."""
        rows = []
        for row in self._attacks_of(subject, protocol):
            theirs, ours = TABLE_1.get(row["attack"]), self._cells[subject, protocol, ENTROPY, row["attack"]]
            own = [
                f"{row['tried']:,} ({row['n']:,})",
                percent(row["success_rate"]),
                *(number(row[key]) for key in ("true_confidence", "target_confidence")),
                *map(percent, (ours.tpr_1, ours.tpr_5, ours.tpr_10)),
            ]
            beside = [""] * len(own)
            if theirs is not None:
                n_images, success, *confidences = theirs[:4]
                published = [f"{n_images:,}", percent(success), *map(number, confidences), *map(percent, theirs[4:])]
                beside = [f"<br>slides {text}" for text in published]
            rows.append(
                [
                    attack_name(row["attack"], row["eps"]),
                    *(f"{mine or '—'}{yours}" for mine, yours in zip(own, beside, strict=True)),
                    str(ours) if ours.n else "—",
                ]
            )
        header = [
            "attack", "images tried (successes)", "success rate", "true class", "target class", "detected at 1 %",
            "at 5 %", "at 10 %", "AUROC",
        ]  # fmt: skip
        return table(header, rows)

    def methods(self) -> str:
        """Lay out the slides' table of methods, and all of our detectors below."""
        rows = [
            [f"slides: {one.method}", one.dataset, one.network, one.attack, *map(_published, one[4:]), "", ""]
            for one in METHODS
        ]
        rows += [
            [
                one.detector,
                f"{one.dataset}, {one.protocol}",
                "ours",
                "mean of all",
                *map(number, (one.recall, one.precision)),
                _of(one),
                *map(number, (one.paired, one.noise)),
            ]
            for one in self._overall
        ]
        header = ["method", "images", "network", "attacks", "recall", "precision", "AUROC", "paired", "noise"]
        return table(header, rows)

    def by_attack(self, subject: str, protocol: str) -> str:
        """Lay out the AUROC of each detector on each attack."""
        attacks = self._attacks_of(subject, protocol)
        names = [one.detector for one in self._overall if (one.dataset, one.protocol) == (subject, protocol)]
        rows = []
        for detector in names:
            own = [self._cells[subject, protocol, Pair(detector), row["attack"]] for row in attacks]
            rows.append([detector, *(str(one) if one.n else "—" for one in own)])
        return table(
            ["detector", *(f"{attack_name(row['attack'], row['eps'])} (n = {row['n']:,})" for row in attacks)], rows
        )

    def mmd(self, subject: str, protocol: str) -> str:
        """Lay out how often tests of whole sets reject."""
        found = self._subjects[subject]["protocols"][protocol]["mmd"]
        rows = [[one["space"], one["set"], *(percent(one[str(size)]) for size in SIZES)] for one in found]
        return table(["values", "clean sets against", *(f"sets of {size}" for size in SIZES)], rows)

    def seconds(self) -> str:
        """Lay out what maps and entropies take."""
        seconds = {subject: of["seconds_per_1000"] for subject, of in self._subjects.items()}
        rows = [[subject, *(f"{taken:.2f}" for taken in own.values())] for subject, own in seconds.items()]
        return table(["seconds for 1,000 images", *next(iter(seconds.values()))], rows)

    def drawn(self, subject: str, protocol: str) -> list[str]:
        """Name the attacks of which there are figures."""
        return [row["attack"] for row in self._attacks_of(subject, protocol) if row["n"]]

    def _attacks_of(self, subject: str, protocol: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._subjects[subject]["protocols"][protocol]["attacks"]
        return found


def _published(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _sentences(subject: str, overall: Sequence[Overall]) -> list[str]:
    """Say what the numbers of one subject mean."""
    found = []
    for protocol in dict.fromkeys(one.protocol for one in overall if one.dataset == subject):
        of = {one.detector: one for one in overall if (one.dataset, one.protocol) == (subject, protocol)}
        response = of[str(ENTROPY)]
        if not number(response.auroc):
            found.append(f"`{protocol}`: too few attacks succeeded.")
            continue
        best = max(of.values(), key=lambda one: one.auroc)
        controls = [of[str(pair)] for pair in CONTROLS]
        as_good = [one for one in controls if one.high >= response.auroc]
        worse = [one for one in controls if one not in as_good]
        scans = [of[str(pair)] for pair in SCANS]
        strongest = max(scans, key=lambda one: one.auroc)
        if response.low > 0.5:
            meaning = "it rises under attack, as in the slides"
        else:
            meaning = "it falls under attack" if response.high < 0.5 else "it hardly moves under attack"
        noise = f"; noise of the same size has {number(response.noise)}" if number(response.noise) else ""
        if response.low > 0.5 and response.noise > response.auroc - 0.05:
            noise += ", so that what it sees is noise, more than the attack"
        found.append(
            f"`{protocol}`: the entropy of the response has a mean AUROC of {_of(response)} over the attacks (the "
            f"slides: {METHODS[-1].auroc:.3f}, VGG19 on ImageNet): {meaning}. Against the images' own originals "
            f"{number(response.paired)}{noise}. "
            + (f"Controls that are as good, within the error, or better: {_listed(as_good)}. " if as_good else "")
            + (f"Controls that have less: {_listed(worse)}. " if worse else "")
            + f"The best scan of the response, alone or with the entropy: {strongest.detector}, {_of(strongest)}. "
            f"The best of all: {best.detector}, {_of(best)}."
        )
        attacks_alone = [
            one for one in of.values() if one.auroc - one.noise >= _SPECIFIC and one.auroc > response.auroc
        ]
        if attacks_alone:
            found[-1] += (
                f" What sees attacks rather than noise (AUROC higher by {_SPECIFIC} or more): "
                + ", ".join(f"{one.detector} {one.auroc:.3f}, noise {one.noise:.3f}" for one in attacks_alone)
                + "."
            )
    return found


def _of(one: Overall) -> str:
    return f"{one.auroc:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _listed(found: Sequence[Overall]) -> str:
    return ", ".join(f"{one.detector} {one.auroc:.3f}" for one in found)
