"""`subsetscan experiment`: what was measured about the package's own detectors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..lab.adaptive import run as adaptive
from ..lab.defaults import run as defaults
from ..lab.defaults.groups import run as groups
from ..lab.files import run as files
from ..lab.markdown import listed
from ..lab.options import names_in
from ..lab.peers import run as peers
from ..lab.subjects.registry import SUBJECTS
from ..lab.texts import run as texts
from . import options
from .console import Console

__all__ = ["experiment"]

_EXPERIMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "defaults": defaults.defaults,
    "groups": groups.groups,
    "files": files.files,
    "peers": peers.peers,
    "texts": texts.texts,
    "adaptive": adaptive.adaptive,
}


def _takers(option: str) -> str:
    """Name the experiments that take an option."""
    return listed([name for name, run in _EXPERIMENTS.items() if option in inspect.signature(run).parameters])


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
    data: Annotated[
        Path | None,
        typer.Option(
            help=f"Of {_takers('data')}: folder that holds a folder of IDX files for each dataset.",
            callback=options.holds_data,
        ),
    ] = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            help=f"Of {_takers('subjects')}: the networks, some of {', '.join(SUBJECTS)}, comma-separated [all]."
        ),
    ] = None,
    times: Annotated[
        bool,
        typer.Option(
            "--times", help=f"Of {_takers('times')}: measure times too, some minutes, with nothing else running."
        ),
    ] = False,
    seed: options.Seed = 0,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help=f"Of {_takers('report')}: write NAME/report.html too, with the bytes or words found marked.",
        ),
    ] = False,
    quick: options.Quick = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Judge the package's detectors beside others.

    defaults: the automatic detector on networks that others made. Writes defaults.md, and in defaults/ every number as
    CSV and JSON.

    groups: the automatic scan of groups, of which a few inputs are anomalous, on the same activations. Writes
    campaigns.md and campaigns/.

    files: attacked files of many types that lie on the machine, and an attacker who knows the detector. Writes files.md
    and files/.

    peers: the detectors beside those that people take instead, on the same activations; and where in a file. Writes
    peers.md and peers/.

    texts: odd texts before a sentence encoder, and which of their words are odd. Writes texts.md and texts/.

    adaptive: attackers of images who know the classifier and the detector. Writes adaptive.md and adaptive/.

    Activations, attacks and scores are kept as they are made: the same command continues where it was stopped.
    """
    console = Console(json, quiet)
    run = _EXPERIMENTS[name]
    chosen = {
        "subjects": subjects and names_in(subjects, SUBJECTS),
        "data": data,
        "times": times,
        "seed": seed,
        "report": report,
    }
    given = {option: value for option, value in chosen.items() if value is not None and value is not False}
    if strangers := [f"--{option}" for option in given if option not in inspect.signature(run).parameters]:
        raise ValueError(f"experiment {name} takes no {strangers[0]}: leave out {', '.join(strangers)}")
    return console.end(run(out, kept=kept, quick=quick, progress=console.progress, say=console.say, **given))
