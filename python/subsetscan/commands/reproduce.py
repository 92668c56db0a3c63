"""`subsetscan reproduce`: the paper's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..lab.experiment.plan import DATASETS
from ..lab.options import names_in
from ..lab.reproduction import run
from . import options
from .console import Console

__all__ = ["reproduce"]


def reproduce(
    out: options.Out,
    dataset: Annotated[str, typer.Option(help=f"Some of {', '.join(DATASETS)}, comma-separated.")] = ",".join(DATASETS),
    images: Annotated[
        str, typer.Option(help="paper (not clipped, as in the paper), valid (clipped to [0, 1]), or both.")
    ] = ",".join(run.PROTOCOLS),
    networks: Annotated[Path, typer.Option(help="Folder with trained networks. Missing ones are trained.")] = Path(
        "networks"
    ),
    kept: options.KeptFolder = None,
    data: options.DataFolder = None,
    poisoned: Annotated[
        bool, typer.Option(help="Whether to include the autoencoders that were trained on poisoned images.")
    ] = True,
    quick: options.Quick = False,
    processes: options.Processes = 2,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Make the tables and figures of the paper, and some more.

    Writes results.md, and in results/ the figures and every number as CSV and JSON. Each stage is kept as it finishes:
    the same command continues where it was stopped.
    """
    console = Console(json, quiet)
    datasets, protocols = names_in(dataset, DATASETS), names_in(images, run.PROTOCOLS)
    options.start_keras()
    results = run.reproduce(
        out,
        dataset=datasets,
        images=protocols,
        networks=networks,
        kept=kept,
        data=data,
        poisoned=poisoned,
        quick=quick,
        n_processes=processes,
        progress=console.progress,
        say=console.say,
    )
    return console.end(results)
