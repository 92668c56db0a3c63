"""What was measured, as a page, a picture and JSON: medians become ratios here, and nothing is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from subsetscan import plot
from subsetscan._files import atomic_write
from subsetscan.lab.markdown import linker

__all__ = ["save", "write"]

HERE = Path(__file__).parent
RIVALS = ("ART", "numpy", "numba", "ECOD")
CLOSE = 2.0  # a rival that takes less than twice our time is named
PANELS = {"n_images": "images", "n_nodes": "nodes", "n_background": "background images"}


def save(results: dict[str, Any], out: Path) -> None:
    """Write results.json, all there is so far."""
    with atomic_write(out / "results.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write(results: dict[str, Any], out: Path) -> None:
    """Write results.json and performance.png into the folder `out`, and the page beside it, named as the folder."""
    save(results, out)
    if results["growth"]:
        plot.save(picture(results["growth"]), out / "performance.png")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 (Markdown)
    )  # fmt: skip
    environment.filters |= {"seconds": seconds, "times": times, "ratio": ratio, "size": size, "percent": percent}
    page = environment.get_template("performance.md.jinja").render(
        results,
        folder=out.name,
        close=close(results),
        busy=busy(results),
        lead=lead(results),
        link=linker(out.parent),
    )
    with atomic_write(out.with_name(f"{out.name}.md")) as path:
        path.write_text(page, encoding="utf-8")


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
    n_threads, found = next(iter(case["threads"].items()))
    scores = [of["score"] for one in timed.values() for of in one["threads"].values()]
    spans = {}
    for rival in RIVALS:
        ratios = [of[rival]["median"] / of["subsetscan"]["median"] for of in scores if rival in of]
        spans[rival] = f"{times(min(ratios))} to {times(max(ratios))}" if ratios else "-"
    one_image = results["one_image"].get(name, {}).get(n_threads, {}).get("warm")
    memory = results["memory"].get(name)
    return {
        "case": case,
        "n_threads": n_threads,
        "found": found,
        "spans": spans,
        "one_image": [one_image] if one_image else [],
        "memory": [memory] if memory and memory["subsetscan"]["score"] else [],  # nothing grows where sizes are tiny
        "difference": max(max(of["difference"].values()) for one in timed.values() for of in one["threads"].values()),
        "exact": all(one["exact"]["identical"] for one in timed.values()),
    }


def close(results: dict[str, Any]) -> list[dict[str, Any]]:
    """List where a rival takes less than `CLOSE` times our time, the closest first."""
    compared = []
    for name, case in results["cases"].items():
        for n_threads, found in case.get("threads", {}).items():
            compared += [(f"case {name}, {what}", n_threads, found[what]) for what in ("score", "fit")]
    for name, by_threads in results["one_image"].items():
        for n_threads, found in by_threads.items():
            compared += [(f"one image of case {name}, {kind} caches", n_threads, found[kind]) for kind in found]
    for name, by_threads in results["groups"].items():
        for n_threads, found in by_threads.items():
            compared += [(f"group of case {name}, restarts {n}", n_threads, one["time"]) for n, one in found.items()]
    named = [
        {"where": where, "threads": n_threads, "rival": rival, "ratio": taken[rival]["median"] / ours}
        for where, n_threads, taken in compared
        for ours in [taken["subsetscan"]["median"]]
        for rival in RIVALS
        if rival in taken and taken[rival]["median"] < CLOSE * ours
    ]
    return sorted(named, key=lambda row: row["ratio"])


def busy(results: dict[str, Any]) -> float | None:
    """Find the least share of its time for which a measurement of cases on one thread had its core."""
    found = [case["threads"]["1"] for case in results["cases"].values() if "1" in case.get("threads", {})]
    shares = [taken["cores"] for one in found for what in ("fit", "score") for taken in one[what].values()]
    return min(shares, default=None)


def picture(growth: dict[str, list[dict[str, Any]]]) -> Figure:
    """Draw time against the number of images, and time per image and node against both other sizes."""
    figure = Figure((13, 4.3), layout="constrained")
    colours = dict(zip(("subsetscan", "ART", "numpy", "numba"), plot.COLOURS, strict=False))
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
