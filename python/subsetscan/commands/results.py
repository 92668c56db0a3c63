"""What scan and score find: scores, a summary, a figure and a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plot
from .._tables import counted, text_table
from ..calibration import score_threshold
from ..inputs.base import SizedInputs
from ..lab.experiment.files import write_json
from ..lab.options import RESULTS, start_writing
from ..measures import Auroc
from ..plot.report import write_report
from ..scanner import ModelScanner
from .console import Console
from .fitted import about_detector, about_run, false_positive_rate_of
from .gallery import write_gallery
from .scanned_sets import COMBINED, ScannedSets, scan_sets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["report_scores"]

_NULL = "background (null scores)"
_DRAWN = 0.99  # of the null scores


def report_scores(
    scanner: ModelScanner,
    sets: Mapping[str, SizedInputs],
    about: Mapping[str, Any],
    out: Path,
    console: Console,
    *,
    with_page: bool = False,
) -> dict[str, Any]:
    """Scan the sets "input" and, if there is one, "clean"; write their scores, a summary and a figure.

    Parameters
    ----------
    scanner : ModelScanner
        It is fitted.
    sets : mapping of str to SizedInputs
    about : mapping
        What the summary begins with.
    out : Path
    console : Console
    with_page : bool
        Whether to write ``report.html`` too, and the gallery that it shows.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    OSError, ValueError
        If the inputs do not fit, there is nothing to combine, or a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    scanned = scan_sets(scanner, sets)
    rate = false_positive_rate_of(scanner)
    filled = all(len(inputs) for inputs in sets.values())
    with_quality = scanned.scores() if filled and "clean" in scanned.scans else ()
    quality = {space: scanned.auroc(space, "input") for space in with_quality}
    summary: dict[str, Any] = {
        **about,
        **{f"n_{kind}": len(inputs) for kind, inputs in sets.items()},
        "detector": about_detector(scanner),
        **about_run(scanner),
        "spaces": {
            space: {"n_nodes": n_nodes, **(quality[space].as_dict() if space in quality else {})}
            for space, n_nodes in scanned.n_nodes.items()
        },
        **({COMBINED: quality[COMBINED].as_dict()} if COMBINED in quality else {}),
    }
    start_writing(out, *RESULTS)
    scanned.write_scores(out / "scores.csv", rate)
    write_json(out / "summary.json", summary)
    written = ["scores.csv", "summary.json"]
    if scanned.null_scores:
        scanned.write_null_scores(out / "null_scores.csv")
        written.append("null_scores.csv")
    if filled:
        written += console.save_figure(lambda: _figure(scanned, rate), out / "scores.png")

    if with_page and filled:
        write_gallery(scanner, sets, scanned, out)
        written.append(write_report(out).name)
    elif with_page:
        console.say("no page, because a set has no inputs")

    console.say(_table(scanned, quality, rate))
    console.say(f"\nwrote {', '.join(written)} to {out}/")
    return summary


def _figure(scanned: ScannedSets, rate: float) -> Figure:
    """Draw the scores beside those of clean inputs, or where there are none beside the null scores, and the threshold.

    Null scores far beyond all else are told in a caption: they would leave no room for the others.
    """
    panels, thresholds, captions = scanned.scores(), {}, {}
    for space, null_scores in scanned.null_scores.items():
        thresholds[space] = score_threshold(null_scores, rate)
        if "clean" not in scanned.scans:
            drawn = [np.quantile(null_scores, _DRAWN, method="lower"), *panels[space]["input"], thresholds[space]]
            is_beyond = null_scores > max(one for one in drawn if np.isfinite(one))
            panels[space] = {_NULL: null_scores[~is_beyond]} | panels[space]
            if is_beyond.any():
                n_beyond = counted(int(is_beyond.sum()), "null score")
                captions[space] = f"not drawn: {n_beyond}, up to {null_scores.max():.3g}"
    return plot.densities(panels, xlabel="anomaly score", thresholds=thresholds, captions=captions or None)


def _table(scanned: ScannedSets, quality: Mapping[str, Auroc], rate: float) -> str:
    """Lay out what was found; what was not asked for has no column."""
    scores = {space: own["input"] for space, own in scanned.scores().items()}
    p_values = None if scanned.p_values is None else scanned.p_values["input"]
    columns: dict[str, Callable[[str], str]] = {
        "space": str,
        "nodes": lambda space: str(scanned.n_nodes.get(space, "")),
        "median score": lambda space: f"{np.median(scores[space]):.1f}" if len(scores[space]) else "",
    }
    if p_values is not None:
        columns[f"p <= {rate:g}"] = lambda space: (
            f"{np.mean(p_values[space] <= rate):.1%}" if len(p_values[space]) else ""
        )
    if quality:
        columns["AUROC [95 %]"] = lambda space: str(quality.get(space, ""))
    return text_table(list(columns), [[write(name) for write in columns.values()] for name in scores])
