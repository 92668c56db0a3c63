"""`subsetscan report`: one page to look at, of what a scan found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..plot.report import write_report
from . import options
from .console import Console

__all__ = ["report"]


def report(
    results: Annotated[
        Path, typer.Argument(help="Folder that scan, score or demo wrote its results to.", exists=True, file_okay=False)
    ],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Write one HTML page of what a scan found: verdicts, scores, calibration, layers.

    The page needs no network and no other file. A slider sets the false positive rate. Inputs are shown with where
    they are anomalous if the scan was run with --report, which scan, score and demo take. Writes report.html to the
    folder.
    """
    console = Console(json, quiet)
    path = write_report(results)
    console.say(f"wrote {path.name} to {path.parent}/, {path.stat().st_size / 1e6:.1f} MB")
    return console.end({"report": str(path), "bytes": path.stat().st_size})
