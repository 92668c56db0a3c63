"""The page: how the automatic detector does beside others, in tables and in sentences that follow from the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..markdown import listed, number, percent, render, table
from ..subjects.registry import SUBJECTS
from ..subjects.subject import CHOOSE, REPORT
from .cells import CLEAN, RATE, TOGETHER, Cell
from .methods import AUTOMATIC, METHODS, PAPER, RIVALS
from .times import Timing

__all__ = ["outside", "write_page"]

WITHIN = "within a layer"
STEADIEST = TOGETHER["fisher+harmonic"]
VIEWS = (WITHIN, *TOGETHER.values())
_LOW = 0.45  # an AUROC below it is worse than chance
_GOAL_LOW = 0.01
_GOAL_RATE = (0.04, 0.06)
_FEW_NODES = 32
_N_WORST = 3
_HARD = 0.6  # a mean AUROC that no method reaches


def write_page(path: Path, results: dict[str, Any], cells: Sequence[Cell], times: Sequence[Timing]) -> None:
    """Write the page, whole or not at all."""
    page = _Page(results["subjects"], cells, times)
    render(
        Path(__file__).with_name("defaults.md.jinja"),
        path,
        **results,
        page=page,
        times=times,
        methods=METHODS,
        known=SUBJECTS,
    )


class _Page:
    """The tables and sentences of the page."""

    def __init__(self, subjects: dict[str, Any], cells: Sequence[Cell], times: Sequence[Timing]) -> None:
        self.subjects = subjects
        self.times = times
        self._cells = cells
        self.n_rivals = len(RIVALS)
        self.n_layers = sum(len(about["layers"]) for about in subjects.values())
        self.n_kinds = sum(len(about["inputs"]) - 1 for about in subjects.values())
        self.n_cells = len(self.kinds(WITHIN))

    # What is selected and averaged.

    def kinds(self, view: str, network: str | None = None) -> list[Cell]:
        """Select the cells of anomalous inputs, of one network or all."""
        return [cell for cell in self._of(view, network) if cell.kind != CLEAN]

    def clean(self, view: str, network: str | None = None) -> list[Cell]:
        """Select the cells of clean inputs."""
        return [cell for cell in self._of(view, network) if cell.kind == CLEAN]

    def _of(self, view: str, network: str | None) -> list[Cell]:
        return [
            cell
            for cell in self._cells
            if network in (None, cell.network) and (cell.layer if cell.layer in VIEWS else WITHIN) == view
        ]

    def best_rival(self, view: str, network: str) -> tuple[str, float]:
        """Name the rival with the highest mean AUROC on a network, and give that."""
        return _best_rival(self.kinds(view, network))

    def lead_of(self, view: str, network: str) -> float:
        """Tell by how much the automatic detector is ahead of the best rival, in mean AUROC."""
        return _mean(self.kinds(view, network), AUTOMATIC) - self.best_rival(view, network)[1]

    def of_role(self, role: str) -> list[str]:
        """List the networks that options were chosen on, or those that were kept aside."""
        return [name for name, about in self.subjects.items() if about["role"] == role]

    @property
    def minutes(self) -> dict[str, int]:
        """Minutes that the activations and the scores took, from nothing."""
        seconds = [about["seconds"] for about in self.subjects.values()]
        return {what: max(1, round(sum(one[what] for one in seconds) / 60)) for what in ("activations", "scores")}

    # The lead.

    def lead(self) -> str:
        """Lay out the automatic detector, the best rival of each network, and the paper's scan."""
        rows = []
        for view, words in ((WITHIN, "one layer"), (STEADIEST, "all layers together")):
            mine = [_mean(self.kinds(view, name), AUTOMATIC) for name in self.subjects]
            rivals = [self.best_rival(view, name) for name in self.subjects]
            paper = [_mean(self.kinds(view, name), PAPER) for name in self.subjects]
            rows += [
                [f"automatic, {words}", *map(number, mine), number(float(np.mean(mine)))],
                [
                    f"best other of each network, {words}",
                    *(f"{number(value)} ({name})" for name, value in rivals),
                    number(float(np.mean([value for _, value in rivals]))),
                ],
                [f"the paper's options, {words}", *map(number, paper), number(float(np.mean(paper)))],
            ]
        return table(["", *self.subjects, "mean"], rows)

    def findings(self) -> list[str]:
        """Say what the lead's table means for a user, whichever way the numbers fall."""
        n = len(self.subjects)
        leads = {view: [self.lead_of(view, name) for name in self.subjects] for view in (WITHIN, STEADIEST)}
        single = {view: max((self._over_networks(view, name), name) for name in RIVALS)[1] for view in leads}
        means = {view: [self._over_networks(view, one) for one in (AUTOMATIC, single[view])] for view in leads}
        flagged = {
            method: [float(np.mean([cell.flagged[method] for cell in self.kinds(view)])) for view in leads]
            for method in (AUTOMATIC, PAPER)
        }
        false = [float(np.mean([cell.flagged[AUTOMATIC] for cell in self.clean(view)])) for view in leads]
        ahead = {view: sum(lead > 0 for lead in of) for view, of in leads.items()}
        said = [
            f"Against the best of {self.n_rivals} other detectors, picked for each network by its anomalies, it is "
            + " and ".join(
                f"ahead on {ahead[view]} of {n} networks with {words} ({min(of):+.3f} to {max(of):+.3f})"
                for (view, of), words in zip(leads.items(), ("one layer", "all layers together"), strict=True)
            )
            + ".",
            "Against the one that is best over all networks: "
            + "; ".join(
                f"{number(means[view][0])} with {words}, {single[view]} {number(means[view][1])}"
                for view, words in ((WITHIN, "one layer"), (STEADIEST, "all together"))
            )
            + ".",
            f"At a threshold for {RATE:.0%} false positives it flags {percent(flagged[AUTOMATIC][0])} of the anomalous "
            f"inputs by one layer, {percent(flagged[AUTOMATIC][1])} by all together (the paper's options: "
            f"{percent(flagged[PAPER][0])}, {percent(flagged[PAPER][1])}), and {percent(false[0])} and "
            f"{percent(false[1])} of the clean ones.",
        ]
        better = [view for view, (own, other) in means.items() if own > other]
        advice = {
            2: "without anomalies to choose by, take the automatic detector, on several layers together.",
            1: "the automatic detector is the best single choice only "
            + ("with one layer: " if WITHIN in better else "with all layers together: ")
            + "otherwise compare it with the others.",
            0: f"take {single[WITHIN]} rather than the automatic detector, or compare both on your own network.",
        }[len(better)]
        if min(map(min, leads.values())) < 0:
            advice += (
                " If you have anomalies like those that you expect, compare: another detector may be a little better."
            )
        low = self._share_low(self.kinds(WITHIN))
        return [
            *said,
            f"**For you:** {advice} Do not trust it blindly: {percent(low)} of the cells are below {_LOW}, worse than "
            "chance; see [where it loses](#where-it-loses).",
        ]

    def _over_networks(self, view: str, method: str) -> float:
        return float(np.mean([_mean(self.kinds(view, name), method) for name in self.subjects]))

    def _share_low(self, cells: Sequence[Cell], method: str = AUTOMATIC) -> float:
        return float(np.mean([cell.auroc[method] < _LOW for cell in cells]))

    # Goals.

    def goals(self) -> str:
        """Lay out which goals are met."""
        rows = []
        for view in VIEWS:
            leads = {name: self.lead_of(view, name) for name in self.subjects}
            behind = {name: lead for name, lead in leads.items() if lead <= 0}
            missed = "; not on " + ", ".join(f"{name} ({lead:+.3f})" for name, lead in behind.items()) if behind else ""
            rows.append(
                [
                    f"ahead of the best other detector on every network, {view}",
                    f"on {len(leads) - len(behind)} of {len(leads)}{missed}",
                    _met(not behind),
                ]
            )
        low = self._share_low(self.kinds(WITHIN))
        rows.append([f"at most {_GOAL_LOW:.0%} of cells below {_LOW}, {WITHIN}", percent(low), _met(low <= _GOAL_LOW)])
        for view in (WITHIN, STEADIEST):
            rate = float(np.mean([cell.flagged[AUTOMATIC] for cell in self.clean(view)]))
            lowest, highest = _GOAL_RATE
            rows.append(
                [
                    f"between {lowest:.0%} and {highest:.0%} of clean inputs flagged on average, {view}",
                    percent(rate),
                    _met(lowest <= rate <= highest),
                ]
            )
            beyond = [outside(cell, AUTOMATIC) for cell in self.clean(view)]
            expected = sum(self._outside_by_chance(view))
            rows.append(
                [
                    f"no share of clean inputs outside its binomial 95 % interval, {view}",
                    f"{sum(beyond)} of {len(beyond)} outside (with exact p-values {expected:.1f})",
                    _met(not any(beyond)),
                ]
            )
        for shape, of in self._by_shape().items():
            mine, *theirs = of
            for what, own, others in (
                ("scoring", mine.score, sum(one.score for one in theirs)),
                ("fit and scoring", mine.fit + mine.score, sum(one.fit + one.score for one in theirs)),
            ):
                rows.append(
                    [
                        f"{what} no slower than scikit-learn's two, {shape[0]:,} nodes x {shape[1]:,} rows",
                        f"{_seconds(own)} s, theirs {_seconds(others)} s",
                        _met(own <= others),
                    ]
                )
        return table(["goal", "measured", "met"], rows)

    # Tables.

    def networks(self, network: str) -> str:
        """Lay out all methods on one network."""
        values: dict[str, list[float]] = {}
        for method in METHODS:
            values[method] = []
            for view in VIEWS:
                cells = self.kinds(view, network)
                values[method] += [_mean(cells, method), float(np.mean([cell.flagged[method] for cell in cells]))]
            values[method].insert(2, float(sum(cell.auroc[method] < _LOW for cell in self.kinds(WITHIN, network))))
        best = [max, max, min, *[max] * (2 * len(TOGETHER))]
        columns = list(zip(*values.values(), strict=True))
        tops = [top(column) for top, column in zip(best, columns, strict=True)]
        written: list[Callable[[float], str]] = [
            number,
            percent,
            lambda n: f"{n:.0f}",
            *[number, percent] * len(TOGETHER),
        ]
        rows = [
            [
                method,
                *(
                    f"**{write(value)}**" if write(value) == write(top) else write(value)
                    for value, top, write in zip(own, tops, written, strict=True)
                ),
            ]
            for method, own in values.items()
        ]
        header = ["", f"AUROC, {WITHIN}", "flagged", f"cells below {_LOW}"]
        for view in TOGETHER.values():
            header += [f"AUROC, {view}", "flagged"]
        return table(header, rows)

    def false_positives(self) -> str:
        """Lay out how many clean inputs every method flags."""
        rows = []
        for method in METHODS:
            row = [method]
            for view in (WITHIN, STEADIEST):
                cells = self.clean(view)
                rates = [cell.flagged[method] for cell in cells]
                row += [
                    percent(float(np.mean(rates))),
                    f"{percent(min(rates))} to {percent(max(rates))}",
                    f"{sum(outside(cell, method) for cell in cells)} of {len(cells)}",
                ]
            rows.append(row)
        header = [""]
        for view in (WITHIN, STEADIEST):
            header += [f"mean, {view}", "range", "outside"]
        return table(header, rows)

    def outside_by_chance(self) -> str:
        """Tell which share of cells would be outside with exact p-values: null scores are a sample as well."""
        return percent(float(np.mean(self._outside_by_chance(WITHIN))))

    def _outside_by_chance(self, view: str) -> list[float]:
        chances = []
        for cell in self.clean(view):
            n_null = self.subjects[cell.network]["n_background"]
            allowed = int(RATE * (n_null + 1))
            counts = stats.betabinom(cell.n, allowed, n_null + 1 - allowed)
            low, high = stats.binom.interval(0.95, cell.n, RATE)
            chances.append(float(counts.cdf(low - 1) + counts.sf(high)))
        return chances

    def false_positives_by_network(self) -> str:
        """Lay out how many clean inputs the automatic detector flags, network by network."""
        rows = []
        for name in self.subjects:
            layers, together = self.clean(WITHIN, name), self.clean(STEADIEST, name)
            rows.append(
                [
                    name,
                    f"{layers[0].n:,}",
                    percent(float(np.mean([cell.flagged[AUTOMATIC] for cell in layers]))),
                    f"{sum(outside(cell, AUTOMATIC) for cell in layers)} of {len(layers)}",
                    percent(together[0].flagged[AUTOMATIC]),
                ]
            )
        return table(["", "clean inputs", f"mean, {WITHIN}", "layers outside", STEADIEST], rows)

    def worst(self) -> list[str]:
        """Say on which kinds the automatic detector does worst, and where the best rival is furthest ahead."""
        said = []
        for name, about in self.subjects.items():
            rival, _ = self.best_rival(WITHIN, name)
            layers, together = self.kinds(WITHIN, name), self.kinds(STEADIEST, name)
            own, others = (
                {
                    kind: _mean([c for c in layers if c.kind == kind], method)
                    for kind in about["inputs"]
                    if kind != CLEAN
                }
                for method in (AUTOMATIC, rival)
            )
            behind = {kind: own[kind] - others[kind] for kind in own if own[kind] < others[kind]}
            said.append(
                f"**{name}**, {WITHIN}: {_smallest(own)}; {STEADIEST}: "
                f"{_smallest({cell.kind: cell.auroc[AUTOMATIC] for cell in together})}. "
                f"Behind {rival} on {len(behind)} of {len(own)} kinds"
                + (f": {_smallest(behind, '{:+.3f}')}." if behind else ".")
            )
        return said

    def low_cells(self) -> list[str]:
        """Say for each network which kinds have cells that are worse than chance, and in which layers."""
        said = []
        for name in self.subjects:
            low = [cell for cell in self.kinds(WITHIN, name) if cell.auroc[AUTOMATIC] < _LOW]
            if low:
                kinds, layers = (Counter(getattr(cell, what) for cell in low) for what in ("kind", "layer"))
                n = len(self.kinds(WITHIN, name))
                said.append(f"{name}, {len(low)} of {n}. Kinds: {_counts(kinds)}. Layers: {_counts(layers)}.")
        return said

    def hard(self) -> str:
        """Say which kinds no method detects within a layer."""
        hard = []
        for name, about in self.subjects.items():
            for kind in about["inputs"]:
                if kind != CLEAN:
                    cells = [cell for cell in self.kinds(WITHIN, name) if cell.kind == kind]
                    if max(_mean(cells, method) for method in METHODS) < _HARD:
                        hard.append(f'{name} "{kind}"')
        return f"Hard for every method (mean AUROC below {_HARD}, {WITHIN}): {', '.join(hard) or 'no kind'}."

    def few_nodes(self) -> str:
        """Say how layers of few nodes do."""
        of = [
            cell
            for cell in self.kinds(WITHIN)
            if self.subjects[cell.network]["layers"][cell.layer]["n_nodes"] < _FEW_NODES
        ]
        if not of:
            return ""
        rival, value = _best_rival(of)
        layers = list(dict.fromkeys(f"{cell.network} {cell.layer}" for cell in of))
        return (
            f"Layers of fewer than {_FEW_NODES} nodes ({listed(layers)}): {number(_mean(of, AUTOMATIC))} on average, "
            f"where {rival} has {number(value)}."
        )

    def layers(self) -> str:
        """Lay out each layer."""
        rows = []
        for name, about in self.subjects.items():
            for layer, of in about["layers"].items():
                cells = [cell for cell in self.kinds(WITHIN, name) if cell.layer == layer]
                clean = next(cell for cell in self.clean(WITHIN, name) if cell.layer == layer)
                rival, value = _best_rival(cells)
                rows.append(
                    [
                        f"{name}, {layer}: {of['about']}",
                        f"{of['n_nodes']:,}",
                        number(_mean(cells, AUTOMATIC)),
                        f"{number(value)} ({rival})",
                        percent(float(np.mean([cell.flagged[AUTOMATIC] for cell in cells]))),
                        percent(clean.flagged[AUTOMATIC]),
                    ]
                )
        header = ["layer", "nodes", "automatic", "best other", "flagged", "clean flagged"]
        return table(header, rows)

    def inputs(self, network: str) -> str:
        """Lay out the kinds of a network, and how they are detected."""
        layers, together = self.kinds(WITHIN, network), {c.kind: c for c in self.kinds(STEADIEST, network)}
        rows = []
        for kind, about in self.subjects[network]["inputs"].items():
            if kind != CLEAN:
                cells = [cell for cell in layers if cell.kind == kind]
                rival, value = _best_rival(cells)
                rows.append(
                    [
                        f"{kind}: {about}",
                        f"{cells[0].n:,}",
                        number(_mean(cells, AUTOMATIC)),
                        f"{number(value)} ({rival})",
                        number(together[kind].auroc[AUTOMATIC]),
                        percent(together[kind].flagged[AUTOMATIC]),
                    ]
                )
        header = ["kind", "inputs", f"automatic, {WITHIN}", "best other for the kind", STEADIEST, "flagged"]
        return table(header, rows)

    def n_clean(self, network: str) -> int:
        """Count the clean inputs that are judged."""
        return self.clean(STEADIEST, network)[0].n

    def seconds(self) -> str:
        """Lay out times."""
        rows = []
        for (n_nodes, n_background), of in self._by_shape().items():
            mine, *theirs = of
            for words, timings in (
                (f"`{mine.detector}`", [mine]),
                *((f"`{one.detector}`", [one]) for one in theirs),
                ("the two of scikit-learn", theirs),
            ):
                fit, score = sum(one.fit for one in timings), sum(one.score for one in timings)
                rows.append([words, f"{n_nodes:,} x {n_background:,}", *map(_seconds, (fit, score, fit + score))])
        return table(["", "nodes x rows of the background", "fit", "scoring", "both"], rows)

    def _by_shape(self) -> dict[tuple[int, int], list[Timing]]:
        found: dict[tuple[int, int], list[Timing]] = {}
        for one in self.times:
            found.setdefault((one.n_nodes, one.n_background), []).append(one)
        return found

    @cached_property
    def chosen_on(self) -> str:
        """Name the networks that options were chosen on."""
        return listed(self.of_role(CHOOSE)) or "none of these"

    @cached_property
    def reported_on(self) -> str:
        """Name the networks that were kept aside."""
        return listed(self.of_role(REPORT)) or "none of these"


def _mean(cells: Iterable[Cell], method: str) -> float:
    return float(np.mean([cell.auroc[method] for cell in cells]))


def _best_rival(cells: Sequence[Cell]) -> tuple[str, float]:
    return max(((name, _mean(cells, name)) for name in RIVALS), key=lambda one: one[1])


def outside(cell: Cell, method: str) -> bool:
    """Tell whether a share of clean inputs lies outside the binomial 95 % interval."""
    low, high = stats.binom.interval(0.95, cell.n, RATE)
    return not low <= round(cell.flagged[method] * cell.n) <= high


def _met(met: bool) -> str:
    return "yes" if met else "**no**"


def _smallest(values: dict[str, float], form: str = "{:.3f}") -> str:
    order = sorted(values, key=lambda key: values[key])[:_N_WORST]
    return ", ".join(f'"{key}" {form.format(values[key])}' for key in order)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f'"{name}"' + (f" {n}" if n > 1 else "") for name, n in counts.most_common())


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
