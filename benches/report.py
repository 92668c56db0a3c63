"""What was measured, as a page, pictures and JSON: medians become ratios here, and nothing is typed by hand.

A machine has a JSON file and a picture of its own; the page shows all whose files are there. `python benches/report.py`
writes the page and the pictures anew, without measuring.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import jinja2
import typer
from goals import GOALS
from matplotlib.figure import Figure

from subsetscan import plot
from subsetscan._files import atomic_write
from subsetscan.lab.markdown import linker

__all__ = ["save", "write"]

HERE = Path(__file__).parent
RIVALS = ("ART", "numpy", "numba", "torch", "histogram", "kNN", "Mahalanobis", "ECOD")
CLOSE = 2.0  # a rival that takes less than twice our time is named
PANELS = {"n_images": "images", "n_nodes": "nodes", "n_background": "background images"}


def save(results: dict[str, Any], out: Path) -> None:
    """Write the JSON of the machine it was measured on, all there is so far."""
    with atomic_write(out / f"{slug(label(results))}.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write(out: Path) -> None:
    """Write the page of all machines whose JSON is in the folder `out` beside it, and their pictures into it."""
    machines = []
    files = sorted(out.glob("*.json"))
    if not files:
        raise typer.BadParameter(f"there is no JSON file of a machine in {out}")
    for file in files:
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise typer.BadParameter(f"{file} is no JSON: {error}") from None
        if results["growth"]:
            plot.save(picture(results["growth"]), file.with_suffix(".png"))
        machines.append({"ties": {}, "state": ""} | results | shown(results) | {"file": file.stem})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 (Markdown)
    )  # fmt: skip
    filters = (seconds, times, ratio, ratios, size, percent)
    environment.filters |= {function.__name__: function for function in filters}
    page = environment.get_template("performance.md.jinja").render(
        machines=machines,
        folder=out.name,
        rivals=[rival for rival in RIVALS if any(rival in one["measured"] for one in machines)],
        timed=any(one["lead"] for one in machines),
        n_threads=sorted({n for one in machines for case in one["cases"].values() for n in case.get("threads", ())}),
        drawn={name: case for one in reversed(machines) for name, case in one["cases"].items()},
        link=linker(out.parent),
    )
    with atomic_write(out.with_name(f"{out.name}.md")) as path:
        path.write_text(page, encoding="utf-8")


def label(results: dict[str, Any]) -> str:
    """Name a machine by its processor, without signs of trade marks: makers give one name to several generations."""
    machine = results["machine"]
    name = " ".join(re.sub(r"\((R|TM)\)", " ", machine["model"], flags=re.IGNORECASE).split()) or "unknown"
    generation = [
        f"{what} {machine[key]}" for what, key in (("family", "family"), ("model", "number")) if machine.get(key)
    ]
    return f"{name} ({', '.join(generation)})" if generation else name


def slug(name: str) -> str:
    """Name its files."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def shown(results: dict[str, Any]) -> dict[str, Any]:
    """Work out what the page says of a machine."""
    timed = [found["score"] for case in results["cases"].values() for found in case.get("threads", {}).values()]
    return {
        "label": label(results),
        "measured": {rival for found in timed for rival in found},
        "lead": lead(results),
        "close": close(results),
        "busy": busy(results),
        "spread": spread(results),
        "absent": absent(results),
        "goals": goals(results),
    }


def goals(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Write what was aimed at beside what was measured; what misses its goal is in bold."""
    rows = []
    for goal in GOALS:
        write_value = seconds if goal.is_time else times
        bounds = {"at least": goal.least, "at most": goal.most}
        value = goal.measured(results)
        shown = "-" if value is None else write_value(value)
        missed = value is not None and goal.missed(value)
        rows.append({
            "what": goal.what,
            "goal": " and ".join(f"{word} {write_value(bound)}" for word, bound in bounds.items() if bound) or "-",
            "measured": f"**{shown}**" if missed else shown,
            "missed": missed,
        })  # fmt: skip
    return rows


def seconds(value: float) -> str:
    """Write a time with two or three digits that count."""
    unit, factor = ("s", 1) if value >= 1 else ("ms", 1e3) if value >= 1e-3 else ("µs", 1e6)
    shown = value * factor
    return f"{shown:,.0f} {unit}" if shown >= 100 else f"{shown:#.3g} {unit}"


def times(quotient: float) -> str:
    """Write a ratio."""
    return f"{quotient:,.0f}x" if quotient >= 100 else f"{quotient:#.3g}x" if quotient >= 10 else f"{quotient:.2f}x"


def ratio(taken: dict[str, Any], rival: str, ours: dict[str, Any] | None = None) -> str:
    """Write how many times our time a rival takes; a dash where it was not measured."""
    if rival not in taken:
        return "-"
    return times(taken[rival]["median"] / (ours or taken["subsetscan"])["median"])


def ratios(taken: dict[str, Any], rivals: list[str], ours: dict[str, Any] | None = None) -> str:
    """Write the ratios of rivals as cells of a table."""
    return " | ".join(ratio(taken, rival, ours) for rival in rivals)


def size(n_bytes: float) -> str:
    """Write a number of bytes."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.1f} MB"


def percent(share: float) -> str:
    """Write a share."""
    return f"{share:.0%}"


def lead(results: dict[str, Any]) -> dict[str, Any] | None:
    """Pick what the page leads with: the first case, on the fewest threads, and spans over all cases."""
    timed = {name: case for name, case in results["cases"].items() if "threads" in case}
    if not timed:
        return None
    name, case = next(iter(timed.items()))
    n_threads, first = next(iter(case["threads"].items()))
    scores = [one["threads"][n_threads]["score"] for one in timed.values() if n_threads in one["threads"]]
    spans = {}
    for rival in RIVALS:
        if found := [of[rival]["median"] / of["subsetscan"]["median"] for of in scores if rival in of]:
            spans[rival] = " to ".join(dict.fromkeys(times(quotient) for quotient in (min(found), max(found))))
    one_image = results["one_image"].get(name, {}).get(n_threads)
    memory = results["memory"].get(name)
    return {
        "case": case,
        "n_threads": n_threads,
        "found": first,
        "rivals": [rival for rival in RIVALS if rival in first["score"]],
        "spans": spans,
        "one_image": [one_image] if one_image else [],
        "memory": [memory] if memory and memory["subsetscan"]["score"] else [],  # nothing grows where sizes are tiny
        "same": list(first["difference"]),
        "difference": max(max(of["difference"].values()) for one in timed.values() for of in one["threads"].values()),
        "exact": all(one["exact"]["identical"] for one in timed.values()),
    }


def timings(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Go through what was timed beside others: what, on how many threads, by whom; fits for the same scores only."""
    for name, case in results["cases"].items():
        for n_threads, found in case.get("threads", {}).items():
            same = {rival: found["fit"][rival] for rival in ("subsetscan", *found["difference"])}
            yield from ((f"case {name}, score", n_threads, found["score"]), (f"case {name}, fit", n_threads, same))
        for instructions, found in case.get("sets", {}).items():
            yield from ((f"case {name}, {what}, {instructions}", "1", found[what]) for what in ("score", "fit"))
    for name, by_threads in results["one_image"].items():
        for n_threads, found in by_threads.items():
            yield from ((f"one image of case {name}, {kind} caches", n_threads, found[kind]) for kind in found)
    for name, by_threads in results["groups"].items():
        for n_threads, found in by_threads.items():
            yield from ((f"group of case {name}, restarts {n}", n_threads, one["time"]) for n, one in found.items())


def close(results: dict[str, Any]) -> list[dict[str, Any]]:
    """List where a rival takes less than `CLOSE` times our time, the closest first; of other scores, not the fits."""
    named = [
        {
            "where": where,
            "threads": n_threads,
            "rival": rival,
            "ratio": taken[rival]["median"] / taken["subsetscan"]["median"],
            "verdict": verdict(taken["subsetscan"], taken[rival]),
        }
        for where, n_threads, taken in timings(results)
        for rival in RIVALS
        if rival in taken and taken[rival]["median"] < CLOSE * taken["subsetscan"]["median"]
    ]
    return sorted(named, key=lambda row: row["ratio"])


def verdict(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Say that a rival is faster, as far as the quartiles tell."""
    (low, high), (least, most) = ours["quartiles"], theirs["quartiles"]
    if least <= high and low <= most:
        return "; the quartiles overlap"
    return ", it is faster" if theirs["median"] < ours["median"] else ""


def absent(results: dict[str, Any]) -> dict[str, list[str]]:
    """List by reason which rivals are absent, and from which cases."""
    timed = {name: case for name, case in results["cases"].items() if "threads" in case}
    reasons: dict[str, list[str]] = {}
    for rival in RIVALS:
        cases: dict[str, list[str]] = {}
        for name, case in timed.items():
            if any(rival not in found["score"] for found in case["threads"].values()):
                known = results.get("missing", {}) | case.get("left_out", {})
                cases.setdefault(known.get(rival, "not yet compared when this was measured"), []).append(name)
        for reason, names in cases.items():
            where = "all cases" if len(names) == len(timed) else f"case{'s' * (len(names) > 1)} {', '.join(names)}"
            reasons.setdefault(reason, []).append(f"{rival} ({where})")
    return reasons


def busy(results: dict[str, Any]) -> float | None:
    """Find the least share of its time for which a measurement of cases on one thread had its core."""
    found = [case["threads"]["1"] for case in results["cases"].values() if "1" in case.get("threads", {})]
    shares = [taken["cores"] for one in found for what in ("fit", "score") for taken in one[what].values()]
    return min(shares, default=None)


def spread(results: dict[str, Any]) -> dict[str, float]:
    """Find how far apart the quartiles of our times on one thread are, as a share of the median: usually, at most."""
    taken = [found["subsetscan"] for _, n_threads, found in timings(results) if n_threads == "1"]
    taken += [one for found in results.get("ties", {}).values() for one in found["time"].values()]
    shares = [(one["quartiles"][1] - one["quartiles"][0]) / one["median"] for one in taken]
    return {"usual": median(shares), "most": max(shares)} if shares else {"usual": 0.0, "most": 0.0}


def picture(growth: dict[str, list[dict[str, Any]]]) -> Figure:
    """Draw time against the number of images, and time per image and node against both other sizes."""
    figure = Figure((13, 4.3), layout="constrained")
    colours = dict(zip(("subsetscan", "ART", "numpy", "numba", "torch"), plot.COLOURS, strict=False))
    panels = figure.subplots(1, len(growth), squeeze=False)[0]
    for panel, (axis, rows) in zip(panels, growth.items(), strict=True):
        per_value = axis != "n_images"
        units = [1e-9 * row["n_images"] * row["n_nodes"] if per_value else 1e-3 for row in rows]
        for rival, colour in colours.items():
            points = [
                (row[axis], row["time"][rival]["median"] / unit)
                for row, unit in zip(rows, units, strict=True)
                if rival in row["time"]
            ]
            if points:
                panel.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3.5, label=rival)
        limit = [row["read_limit"] / unit for row, unit in zip(rows, units, strict=True)]
        panel.plot([row[axis] for row in rows], limit, color="0.5", linestyle=":", label="reading memory once")
        others = [name for name in ("n_background", "n_nodes", "n_images") if name != axis]
        fixed = ", ".join(f"{rows[0][name]:,} {PANELS[name]}" for name in others)
        panel.set(xscale="log", yscale="log", xlabel=PANELS[axis])
        panel.set_ylabel("time per image and node (ns)" if per_value else "time (ms)")
        panel.set_title(fixed, fontsize=10)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return figure


def main(folder: Annotated[Path, typer.Argument(help="Of the JSON files.")] = Path("docs/performance")) -> None:
    """Write the page and the pictures from the results that are kept."""
    write(folder)


if __name__ == "__main__":
    typer.run(main)
