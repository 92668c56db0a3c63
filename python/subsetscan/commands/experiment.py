"""`subsetscan experiment`: what was measured about the package's own detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..lab.defaults import run as defaults
from ..lab.defaults.groups import run as groups
from ..lab.options import names_in
from ..lab.subjects.registry import SUBJECTS
from . import options
from .report import Report

__all__ = ["experiment"]

_EXPERIMENTS: dict[str, Callable[..., dict[str, Any]]] = {"defaults": defaults.defaults, "groups": groups.groups}


def _known(name: str) -> str:
    if name not in _EXPERIMENTS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, _EXPERIMENTS))}.")
    return name


def experiment(
    name: Annotated[
        str,
        typer.Argument(
            help=f"One of {', '.join(_EXPERIMENTS)}.", callback=_known, autocompletion=lambda: list(_EXPERIMENTS)
        ),
    ],
    out: options.Out,
    kept: options.KeptFolder = None,
    data: options.DataFolder = None,
    subjects: Annotated[
        str, typer.Option(help=f"Networks to try it on: some of {', '.join(SUBJECTS)}, comma-separated.")
    ] = ",".join(SUBJECTS),
    times: Annotated[
        bool, typer.Option("--times", help="Measure times too: some minutes, with nothing else running.")
    ] = False,
    seed: options.Seed = 0,
    quick: options.Quick = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Judge the package's detectors beside others.

    defaults: the automatic detector on networks that others made. Writes defaults.md, and in defaults/ every number as
    CSV and JSON.

    groups: the automatic scan of groups, of which a few inputs are anomalous, on the same activations. Writes
    campaigns.md and campaigns/.

    Activations and scores are kept as they are made: the same command continues where it was stopped.
    """
    report = Report(json, quiet)
    results = _EXPERIMENTS[name](
        out,
        subjects=names_in(subjects, SUBJECTS),
        kept=kept,
        data=data,
        quick=quick,
        times=times,
        seed=seed,
        progress=report.progress,
        say=report.say,
    )
    return report.end(results)
