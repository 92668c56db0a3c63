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
        meaning=_meaning(overall),
        sentences={subject: _sentences(subject, overall) for subject in results["subjects"]},
    )


class _Page:
    """The tables of the page."""

    def __init__(self, subjects: dict[str, Any], cells: Sequence[Cell], overall: Sequence[Overall]) -> None:
        self._subjects = subjects
        self._cells = {(one.dataset, one.protocol, one.pair, one.attack): one for one in cells}
        self._overall = overall

    def lead(self) -> str:
        """Lay out what matters most: the entropy beside the slides', what it is without learning, and on noise."""
        sets = list(dict.fromkeys((one.dataset, one.protocol) for one in self._overall))
        rows = [["entropy of the response, the slides", *[_published(METHODS[-1].auroc)] * len(sets)]]
        for what, key in (
            ("entropy of the response, ours", "auroc"),
            ("the same, clean images with noise as large as the attack", "noise"),
        ):
            rows.append([what, *(number(getattr(of[str(ENTROPY)], key)) or "—" for of in self._by_set(sets))])
        rows.append(
            ["entropy of the image itself", *(number(of[str(CONTROLS[0])].auroc) or "—" for of in self._by_set(sets))]
        )
        best = [max(of.values(), key=_rank) for of in self._by_set(sets)]
        rows.append(["best of all detectors", *(f"{number(one.auroc) or '—'} ({one.detector})" for one in best)])
        return table(["", *(f"{dataset}, `{protocol}`" for dataset, protocol in sets)], rows)

    def _by_set(self, sets: Sequence[tuple[str, str]]) -> list[dict[str, Overall]]:
        return [_by_detector(self._overall, *one) for one in sets]

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
            [f"slides: {one.method} ({one.network}, {one.attack})", one.dataset, *map(_published, one[4:]), "", ""]
            for one in METHODS
        ]
        rows += [
            [
                one.detector,
                f"{one.dataset}, {one.protocol}",
                *map(number, (one.recall, one.precision)),
                _of(one),
                *map(number, (one.paired, one.noise)),
            ]
            for one in self._overall
        ]
        header = ["method", "images", "recall", "precision", "AUROC", "paired", "noise"]
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


def _by_detector(overall: Sequence[Overall], dataset: str, protocol: str) -> dict[str, Overall]:
    return {one.detector: one for one in overall if (one.dataset, one.protocol) == (dataset, protocol)}


def _rank(one: Overall) -> float:
    """Order by AUROC, those without one last."""
    return one.auroc if number(one.auroc) else -1.0


def _meaning(overall: Sequence[Overall]) -> list[str]:
    """Say what the lead's table means for a user, whichever way the numbers fall."""
    entropies = [one for one in overall if one.detector == str(ENTROPY) and number(one.auroc)]
    images = {(one.dataset, one.protocol): one for one in overall if one.detector == str(CONTROLS[0])}
    above = [one for one in entropies if one.low > 0.5]
    below = [one for one in entropies if one.high < 0.5]
    noise = [one for one in above if one.noise > one.auroc - 0.05]
    no_worse = [one for one in entropies if images[one.dataset, one.protocol].high >= one.auroc]
    said = []
    if above:
        said.append(f"The entropy rises under attack, as the slides say, on {_sets(above)}.")
    if below:
        said.append(f"It falls under attack on {_sets(below)}: there the slides' detector is worse than chance.")
    if noise:
        said.append(f"Where it rises, noise as large as the attack raises it as well ({_sets(noise)}).")
    if no_worse:
        said.append(f"The entropy of the image, without any network, does as well or better on {_sets(no_worse)}.")
    if below or noise or no_worse:
        said.append(
            "**For you:** do not use the entropy of the response as a detector of attacks before it has passed these "
            "checks on your own network."
        )
    return said


def _sets(own: Sequence[Overall]) -> str:
    """List datasets with their protocols."""
    protocols: dict[str, list[str]] = {}
    for one in own:
        protocols.setdefault(one.dataset, []).append(f"`{one.protocol}`")
    return ", ".join(f"{dataset} ({', '.join(of)})" for dataset, of in protocols.items())


def _sentences(subject: str, overall: Sequence[Overall]) -> list[str]:
    """Say what the numbers of one subject mean."""
    found = []
    for protocol in dict.fromkeys(one.protocol for one in overall if one.dataset == subject):
        of = _by_detector(overall, subject, protocol)
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
        noise = (
            f" Clean images with noise of the same size have {number(response.noise)}."
            if number(response.noise)
            else ""
        )
        found.append(
            f"`{protocol}`: the entropy of the response has {_of(response)} (the slides: {METHODS[-1].auroc:.3f}), and "
            f"{number(response.paired)} against the images' own originals.{noise} "
            + (f"Controls that do as well, within the error, or better: {_listed(as_good)}. " if as_good else "")
            + (f"Controls that do worse: {_listed(worse)}. " if worse else "")
            + f"The best scan of the response, alone or with the entropy: {strongest.detector}, {_of(strongest)}. "
            f"The best of all: {best.detector}, {_of(best)}."
        )
        attacks_alone = [
            one for one in of.values() if one.auroc - one.noise >= _SPECIFIC and one.auroc > response.auroc
        ]
        if attacks_alone:
            found[-1] += (
                f" Detectors of attacks rather than noise (AUROC higher by {_SPECIFIC} or more): "
                + ", ".join(f"{one.detector} {one.auroc:.3f}, noise {one.noise:.3f}" for one in attacks_alone)
                + "."
            )
    return found


def _of(one: Overall) -> str:
    return f"{one.auroc:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _listed(found: Sequence[Overall]) -> str:
    return ", ".join(f"{one.detector} {one.auroc:.3f}" for one in found)
