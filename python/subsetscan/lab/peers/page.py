"""The page: the detectors beside those that people take instead, and where they lose, in tables and in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ...measures import Auroc
from ..defaults.cells import RATE, Cell
from ..defaults.methods import AUTOMATIC, PAPER
from ..defaults.page import outside
from ..defaults.times import Timing
from ..markdown import listed, number, percent, render, table
from ..subjects.registry import SUBJECTS
from ..subjects.subject import CHOOSE, REPORT
from .kinds import GROUPS
from .location import AS_MANY, OF_FILES, RULES, SCAN
from .location import METHODS as LOCATORS
from .means import NETWORK, WITHIN, Means, auroc_of, best_peer_of, flagged_of, mean_of, means_of_pairs
from .methods import BY_CLASS, LAYER_METHODS, LEAST_IN_CLASS, NETWORK_METHODS, OURS

__all__ = ["write_page"]

CLOSE = 0.005  # of the best: as good
LOUD = "†"  # of a method that flags too many clean inputs
AHEAD, LEVEL, BEHIND = "ahead of", "level with", "behind"
_N_WORST = 3
_WHERE = {
    AUTOMATIC: "a few nodes of each layer where it shows most, by channel and place",
    PAPER: "the subset of nodes with the highest score",
    BY_CLASS: "as the automatic detector",
    "Fisher, all nodes": "each node has its part of the sum; nothing says how many count",
    "ECOD": "as Fisher's sum",
}
_LOCATING = {
    SCAN: "the block of positions and units with the highest score",
    **dict.fromkeys(list(LOCATORS)[1:], "each position has a score, units have none"),
}

_ASKED_OF_LOCATION = (
    (AS_MANY, "precision", "precision, with as many positions of each file"),
    (AS_MANY, "recall", "recall, with as many positions of each file"),
    (OF_FILES, "attacked", "attacked files that are flagged, at 5% of clean files"),
)


def write_page(path: Path, results: dict[str, Any], cells: Sequence[Cell], times: Sequence[Timing]) -> None:
    """Write the page, whole or not at all."""
    page = _Page(results["subjects"], cells, results.get("location"))
    about = {name: method.about for name, method in LAYER_METHODS.items()} | dict(NETWORK_METHODS)
    render(
        Path(__file__).with_name("peers.md.jinja"),
        path,
        **{"location": None} | results,
        page=page,
        times=times,
        methods=about,
        where=_WHERE | _LOCATING,
        groups=GROUPS,
        known=SUBJECTS,
        locators=LOCATORS,
        rules=RULES,
        views=(WITHIN, NETWORK),
        loud=LOUD,
        by_class=BY_CLASS,
        least_class=LEAST_IN_CLASS,
    )


class _Page(Means):
    """The tables and sentences of the page."""

    def __init__(self, subjects: dict[str, Any], cells: Sequence[Cell], location: dict[str, Any] | None) -> None:
        super().__init__(subjects, cells)
        self._location: list[dict[str, Any]] = []
        if location:
            self._location = [_with_interval(one, location["n_attacked"]) for one in location["measured"]]
        self.n_layers = sum(len(about["layers"]) for about in subjects.values())
        self.n_kinds = sum(len(about["groups"]) for about in subjects.values())
        self.chosen_on = listed([name for name in subjects if name not in self.aside]) or "none of these"
        self.reported_on = listed(self.aside) or "none of these"

    @property
    def minutes(self) -> int:
        """Minutes that the scores took, from nothing."""
        return max(1, round(sum(about["seconds"]["scores"] for about in self.subjects.values()) / 60))

    # The lead.

    def lead(self) -> str:
        """Lay out the automatic detector beside the best peer of each network, and beside the best of all."""
        rows = []
        for view in (WITHIN, NETWORK):
            single, _ = self.single_best(view)
            peers = [self.best_peer(view, name) for name in self.subjects]
            for method, words in ((AUTOMATIC, AUTOMATIC), (single, f"best other over all networks: {single}")):
                of = [mean_of(self.kinds(view, name), auroc_of, method) for name in self.subjects]
                rows.append([f"{words}, {view}", *map(number, of), *self._means_of(of)])
            rows.append(
                [
                    f"best other of each network, {view}",
                    *(f"{number(value)} ({name})" for name, value in peers),
                    *self._means_of([value for _, value in peers]),
                ]
            )
        return table(["", *self.subjects, "mean", "of those kept aside"], rows)

    def _means_of(self, values: Sequence[float]) -> tuple[str, str]:
        """Average values of networks: over all of them, and over those that were kept aside."""
        aside = [value for name, value in zip(self.subjects, values, strict=True) if name in self.aside]
        return number(float(np.mean(values))), number(float(np.mean(aside))) if aside else ""

    def findings(self) -> list[str]:
        """Say what the tables mean, whichever way the numbers fall."""
        n = len(self.subjects)
        close = {view: [self.lead_of(view, name) >= -CLOSE for name in self.subjects] for view in (WITHIN, NETWORK)}
        single = {view: self.single_best(view) for view in close}
        mine = {view: self.over_networks(view, auroc_of, AUTOMATIC) for view in close}
        flagged = {
            method: self.over_networks(NETWORK, flagged_of, method) for method in (AUTOMATIC, single[NETWORK][0], PAPER)
        }
        said = [
            "The automatic detector is first, or within "
            f"{CLOSE} of the first, "
            + " and ".join(f"on {sum(of)} of {n} networks {_words(view)}" for view, of in close.items())
            + ". The first is picked after the fact, network by network.",
            "Beside the one other that is best over all networks: "
            + "; ".join(
                f"{number(mine[view])} {_words(view)}, {name} {number(value)}" for view, (name, value) in single.items()
            )
            + ".",
            *self._kept_aside(),
            f"At a p-value of {RATE}, all layers: "
            + ", ".join(f"{method} flags {percent(share)}" for method, share in flagged.items())
            + " of the anomalous inputs.",
        ]
        if any(self.subjects[name]["against_noise"] for name in self.subjects):
            attacks = self._against_noise()
            best = max((m for m in attacks if m not in OURS), key=lambda m: attacks[m])
            said.append(
                f"Attacks beside as much random change: {AUTOMATIC} {number(attacks[AUTOMATIC])}, the best other, "
                f"{best}, {number(attacks[best])}; 0.5 would be chance."
            )
        if self._location:
            scan, other = self._located(AS_MANY, "precision")
            said.append(
                f"Where in a file, means over files: {_spread(scan, 'precision')} of the positions that the scan "
                f"returns lie over changed bytes, and {_spread(scan, 'recall')} of the changed bytes are under them; "
                f"{other['method']}, with as many positions, {_spread(other, 'precision')} and "
                f"{_spread(other, 'recall')}. Of the positions of all files together {percent(scan['pooled'])} and "
                f"{percent(other['pooled'])} lie over changed bytes."
            )
        lost = [name for name in self.subjects if self.lead_of(NETWORK, name) < -CLOSE]
        advice = (
            f"{AUTOMATIC} needs no choice and loses nowhere by more than {CLOSE} with all layers."
            if not lost
            else f"with all layers another does better on {listed(lost)}: see [where it loses](#where-it-loses)."
        )
        return [*said, f"**For you:** {advice}"]

    def _kept_aside(self) -> list[str]:
        """Say how the automatic detector does on networks that no option was chosen on, beside the best there."""
        if not self.aside or len(self.aside) == len(self.subjects):
            return []
        told = []
        for view in (WITHIN, NETWORK):
            mine = self.over_networks(view, auroc_of, AUTOMATIC, REPORT)
            name, value = self.single_best(view, REPORT)
            told.append(f"{_words(view)} {number(mine)}, the best other there, {name}, {number(value)}")
        return [f"On the {len(self.aside)} networks that were kept aside, {listed(self.aside)}: {'; '.join(told)}."]

    def _located(self, rule: str, measure: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take the scan by a rule of what is returned, and the other that is best by a measure."""
        scan, *others = (one for one in self._location if one["rule"] == rule)
        return scan, max(others, key=lambda one: float(one[measure]))

    # Goals.

    def goals(self) -> str:
        """Lay out which goals are met."""
        lent = [name for name in LAYER_METHODS if name not in OURS]
        own = [name for name in NETWORK_METHODS if name not in OURS]
        rows = []
        for view, words, among in (
            (WITHIN, "all others", lent),
            (NETWORK, "others that look at all layers, or at the last, in their own way", own),
            (NETWORK, "others of a layer, lent this package's combination of layers", lent),
        ):
            leads = {name: self.lead_of(view, name, among) for name in self.subjects}
            behind = {
                f"{name} ({lead:+.3f}, {self.best_peer(view, name, among)[0]})": lead
                for name, lead in leads.items()
                if lead < -CLOSE
            }
            first = sum(lead >= 0 for lead in leads.values())
            rows.append(
                [
                    f"first or within {CLOSE} of it on every network, {view}, beside {words}",
                    f"first on {first}, within on {len(leads) - len(behind) - first}, behind on {len(behind)}"
                    + (f": {', '.join(behind)}" if behind else ""),
                    _met(not behind),
                ]
            )
        if self._location:
            for rule, measure, words in _ASKED_OF_LOCATION:
                scan, best = self._located(rule, measure)
                measured = f"{_spread(scan, measure)}, {best['method']} {_spread(best, measure)}"
                how = _beside(scan, best, measure)
                rows.append([f"first in location: {words}", measured, "level" if how == LEVEL else _met(how == AHEAD)])
        return table(["goal", "measured", "met"], rows)

    # Where it loses.

    def losses(self) -> list[str]:
        """Say for each network where others are ahead, in bold where by more than is close; and of location."""
        said = []
        for name in self.subjects:
            verdicts = []
            for view in (WITHIN, NETWORK):
                peer, value = self.best_peer(view, name)
                lead = self.lead_of(view, name)
                means = self.subjects[name]["means"]
                mine, theirs = (
                    (str(_interval(means[one])) for one in (AUTOMATIC, peer))
                    if view == NETWORK
                    else map(number, (value + lead, value))
                )
                how = "behind" if lead < -CLOSE else "ahead of" if lead > 0 else "close to"
                verdict = f"{view} {how} {peer}, {mine} to {theirs}"
                verdicts.append(f"**{verdict}**" if lead < -CLOSE else verdict)
            peer, _ = self.best_peer(NETWORK, name)
            behind = {
                cell.kind: cell.auroc[AUTOMATIC] - cell.auroc[peer]
                for cell in self.kinds(NETWORK, name)
                if cell.auroc[AUTOMATIC] < cell.auroc[peer] - CLOSE
            }
            worst = sorted(behind, key=lambda kind: behind[kind])[:_N_WORST]
            n = len(self.kinds(NETWORK, name))
            furthest = ", ".join(f'"{kind}" {behind[kind]:+.3f}' for kind in worst)
            kinds = f"Behind {peer} by more than {CLOSE} on {len(behind)} of {n} kinds, {NETWORK}" + (
                f", furthest on {furthest}" if worst else ""
            )
            said.append(f"**{name}**: {verdicts[0]}; {verdicts[1]}. {kinds}.")
            if pairs := list(self.subjects[name]["against_noise"].values()):
                means = means_of_pairs(pairs)
                peer = max((m for m in means if m not in OURS), key=lambda m, of=means: of[m])  # type: ignore[misc]
                if means[AUTOMATIC] < means[peer] - CLOSE:
                    said.append(
                        f"**{name}**, attacks beside as much random change: **behind {peer}, "
                        f"{number(means[AUTOMATIC])} to {number(means[peer])}**."
                    )
        for rule, measure, words in _ASKED_OF_LOCATION if self._location else ():
            scan, best = self._located(rule, measure)
            if (how := _beside(scan, best, measure)) != AHEAD:
                told = f"{how} {best['method']}, {percent(scan[measure])} to {percent(best[measure])}"
                said.append(f"**Where in a file**, {words}: " + (told if how == LEVEL else f"**{told}**") + ".")
        return said

    def group_losses(self) -> list[str]:
        """Say in which groups of kinds of which networks another is ahead."""
        said = []
        for group in GROUPS:
            of = []
            for name in self.subjects:
                cells = self.kinds(NETWORK, name, group)
                if cells:
                    peer, value = best_peer_of(cells)
                    lead = mean_of(cells, auroc_of, AUTOMATIC) - value
                    if lead < -CLOSE:
                        of.append(f"{name} {lead:+.3f} ({peer})")
            said.append(f"{group}: {', '.join(of) or 'nowhere'}.")
        return said

    # Tables.

    def by_network(self, view: str, what: str) -> str:
        """Lay out the means of each method on each network, of ``"auroc"`` or ``"flagged"``."""
        measure, write = (auroc_of, number) if what == "auroc" else (flagged_of, percent)
        roles = (CHOOSE, REPORT, None)
        values = {
            method: [
                *(mean_of(self.kinds(view, name), measure, method) for name in self.subjects),
                *(self.over_networks(view, measure, method, role) for role in roles),
            ]
            for method in self.methods(view)
        }
        columns = [[name] for name in self.subjects]
        columns += [[name for name, about in self.subjects.items() if role in (None, about["role"])] for role in roles]
        loud = {
            method: [what == "flagged" and self.flags_too_many(view, of, method) for of in columns] for method in values
        }
        return _methods_table(["", *self.subjects, "chosen on", "kept aside", "all"], values, write, loud)

    def flags_too_many(self, view: str, networks: Sequence[str], method: str) -> bool:
        """Tell whether a method flags more clean inputs of some networks than the interval of the rate allows.

        Within a layer the share of a network is a mean over its layers, which see the same inputs.
        """
        n_flagged = n = 0.0
        for name in networks:
            cells = [cell for cell in self.clean(view, name) if method in cell.flagged]
            if cells:
                n += cells[0].n
                n_flagged += cells[0].n * mean_of(cells, flagged_of, method)
        return n > 0 and round(n_flagged) > stats.binom.interval(0.95, n, RATE)[1]

    def by_group(self, view: str) -> str:
        """Lay out the means of each method for each group of kinds, networks that have some alike."""
        values: dict[str, list[float]] = {}
        for method in self.methods(view):
            values[method] = []
            for group in GROUPS:
                cells = [of for name in self.subjects if (of := self.kinds(view, name, group))]
                values[method].append(
                    float(np.mean([mean_of(of, auroc_of, method) for of in cells])) if cells else np.nan
                )
        return _methods_table(["", *GROUPS], values, number)

    def grouped(self) -> str:
        """Lay out which kinds are in which group."""
        rows = []
        for name, about in self.subjects.items():
            of = [[kind for kind, group in about["groups"].items() if group == one] for one in GROUPS]
            rows.append([name, *(", ".join(kinds) or "—" for kinds in of)])
        return table(["", *GROUPS], rows)

    def against_noise(self) -> str:
        """Lay out how each method tells attacks from as much random change."""
        pairs = [(name, attack) for name, about in self.subjects.items() for attack in about["against_noise"]]
        rows = []
        means = self._against_noise()
        best = number(max(means.values()))
        for method in self.methods(NETWORK):
            found = [self.subjects[name]["against_noise"][attack].get(method) for name, attack in pairs]
            mean = number(means.get(method, np.nan))
            rows.append(
                [
                    method,
                    *("" if one is None else str(_interval(one)) for one in found),
                    f"**{mean}**" if mean == best else mean,
                ]
            )
        return table(["", *(f"{name}, {attack}" for name, attack in pairs), "mean"], rows)

    def _against_noise(self) -> dict[str, float]:
        """Average over the pairs, of methods that all of them have."""
        return means_of_pairs([of for about in self.subjects.values() for of in about["against_noise"].values()])

    def false_positives(self) -> str:
        """Lay out how many clean inputs every method flags."""
        rows = []
        for method in self.methods(NETWORK):
            row = [method]
            for view in (WITHIN, NETWORK):
                cells = [c for name in self.subjects for c in self.clean(view, name) if method in c.flagged]
                if not cells:
                    row += ["", "", ""]
                    continue
                rates = [cell.flagged[method] for cell in cells]
                row += [
                    percent(float(np.mean(rates))),
                    f"{percent(min(rates))} to {percent(max(rates))}",
                    f"{sum(outside(cell, method) for cell in cells)} of {len(cells)}",
                ]
            rows.append(row)
        header = [f"{what}, {view}" for view in (WITHIN, NETWORK) for what in ("mean", "range", "outside")]
        return table(["", *header], rows)

    def located(self) -> str:
        """Lay out precision and recall over changed bytes."""
        rows = [
            [
                one["method"],
                one["rule"],
                _spread(one, "precision"),
                percent(one["pooled"]),
                _spread(one, "recall"),
                f"{one['positions']:.1f}",
                percent(one["attacked"]),
                percent(one["clean"]),
            ]
            for one in self._location
        ]
        header = [
            "",
            "returned",
            "precision",
            "pooled",
            "recall",
            "positions a file",
            "attacked files",
            "their originals",
        ]
        return table(header, rows)

    def inputs(self, network: str) -> str:
        """Lay out the kinds of a network."""
        rows = []
        groups = self.subjects[network]["groups"]
        within = self.kinds(WITHIN, network)
        for cell in self.kinds(NETWORK, network):
            peer, _ = best_peer_of([cell])
            layers = [one for one in within if one.kind == cell.kind]
            layer_peer, layer_value = best_peer_of(layers)
            rows.append(
                [
                    f"{cell.kind} ({groups[cell.kind]}, {cell.n})",
                    number(mean_of(layers, auroc_of, AUTOMATIC)),
                    f"{number(layer_value)} ({layer_peer})",
                    str(_interval_of(cell, AUTOMATIC)),
                    f"{_interval_of(cell, peer)} ({peer})",
                    percent(cell.flagged[AUTOMATIC]),
                    percent(cell.flagged[peer]),
                ]
            )
        header = ["kind", f"automatic, {WITHIN}", "best other for the kind", f"automatic, {NETWORK}"]
        return table([*header, "best other for the kind", "automatic flags", "that other flags"], rows)

    def seconds(self, times: Sequence[Timing]) -> str:
        """Lay out times and memory."""
        rows = [
            [
                f"{one.detector}",
                f"{one.n_nodes:,} x {one.n_background:,}",
                f"{one.fit:.2f}",
                f"{one.score:.2f}",
                "" if np.isnan(one.memory) else f"{one.memory:,.0f}",
            ]
            for one in times
        ]
        return table(["", "nodes x clean rows", "fit", "scoring", "memory, MB"], rows)


def _interval(found: Mapping[str, float]) -> Auroc:
    return Auroc(found["auroc"], found["auroc_low"], found["auroc_high"])


def _interval_of(cell: Cell, method: str) -> Auroc:
    return Auroc(cell.auroc[method], cell.low[method], cell.high[method])


def _methods_table(
    header: Sequence[str],
    values: Mapping[str, list[float]],
    write: Callable[[float], str],
    loud: Mapping[str, list[bool]] | None = None,
) -> str:
    """Lay out methods, the best of each column bold; those that are loud in it have a mark, and are not the best."""
    marked = np.array([loud[method] if loud else [False] * len(of) for method, of in values.items()])
    compared = np.where(marked, np.nan, list(values.values()))
    tops = [write(np.nanmax(column)) if not np.isnan(column).all() else "" for column in compared.T]
    rows = [
        [method, *(_told(write(value), top, mark) for value, top, mark in zip(of, tops, marks, strict=True))]
        for (method, of), marks in zip(values.items(), marked, strict=True)
    ]
    return table(header, rows)


def _told(text: str, top: str, is_loud: bool) -> str:
    if is_loud and text:
        return f"{text} {LOUD}"
    return f"**{text}**" if text and text == top else text


def _spread(one: Mapping[str, Any], measure: str) -> str:
    """Write a share with its interval, where it has one."""
    low, high = (one.get(f"{measure}_{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return percent(one[measure]) + interval


def _beside(one: Mapping[str, Any], other: Mapping[str, Any], measure: str) -> str:
    """Compare two measures: level where either lies within the 95 % interval of the other."""
    a, b = one[measure], other[measure]
    ends = [(of[f"{measure}_low"], of[f"{measure}_high"]) for of in (one, other)]
    if ends[0][0] <= b <= ends[0][1] or ends[1][0] <= a <= ends[1][1]:
        return LEVEL
    return AHEAD if a > b else BEHIND


def _with_interval(one: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Give the share of attacked files its binomial interval."""
    found = stats.binomtest(round(one["attacked"] * n), n).proportion_ci()
    return {**one, "attacked_low": found.low, "attacked_high": found.high}


def _words(view: str) -> str:
    return "within a layer" if view == WITHIN else "with all layers"


def _met(met: bool) -> str:
    return "yes" if met else "**no**"
