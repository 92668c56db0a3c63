"""`subsetscan trace`: the slides' attacks, detected by feature responses and by other means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..lab.attacks import PROTOCOLS
from ..lab.experiment.plan import DATASETS
from ..lab.options import names_in
from ..lab.tracing import run
from ..lab.tracing.attacks import STRENGTHS, strengths_of
from . import options
from .console import Console

__all__ = ["trace"]

_ATTACKS = ",".join(f"{name}={strength:g}" for name, strength in STRENGTHS.items())


def trace(
    out: options.Out,
    dataset: Annotated[
        str,
        typer.Option(help=f"Some of {', '.join(DATASETS)}, comma-separated: whose classifier, if no --model is named."),
    ] = ",".join(DATASETS),
    model: Annotated[
        Path | None, typer.Option(help="Keras classifier, .keras or .h5, instead of a dataset's classifier.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="The model's images, 160 or more: .npy in [0, 1], or a folder of PNG and JPEG files."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Their classes, .npy of shape (n,). The default is what the model predicts.")
    ] = None,
    preprocessing: options.Preprocessing = "none",
    unsafe_model: options.UnsafeModel = False,
    protocol: Annotated[
        str, typer.Option(help="valid (clipped to [0, 1]), paper (not clipped), or both, comma-separated.")
    ] = ",".join(PROTOCOLS),
    attacks: Annotated[
        str, typer.Option(help="Comma-separated, each with or without its strength: see `attack --help`.")
    ] = _ATTACKS,
    n_images: Annotated[
        int | None, typer.Option(min=1, help="How many images to attack at most. The default is all.")
    ] = None,
    n_slow: Annotated[
        int, typer.Option(min=1, help="The same for one-pixel and boundary, which take seconds for each image.")
    ] = 100,
    networks: Annotated[Path, typer.Option(help="Folder with trained networks.")] = Path("networks"),
    kept: options.KeptFolder = None,
    data: options.DataFolder = None,
    quick: options.Quick = False,
    processes: options.Processes = 2,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Attack a classifier, and compare detectors of the attacks.

    The attacks are the slides' five, and the slides' detector by feature responses is among the detectors. Writes
    tracing.md, which compares the slides' numbers with ours, and in tracing/ the figures and every number as CSV and
    JSON. What takes long is kept as it finishes: the same command continues where it was stopped.
    """
    console = Console(json, quiet)
    datasets, protocols, strengths = names_in(dataset, DATASETS), names_in(protocol, PROTOCOLS), strengths_of(attacks)
    options.start_keras(unsafe_model)
    results = run.trace(
        out,
        dataset=datasets,
        model=model,
        safe_mode=not unsafe_model,
        images=images,
        labels=labels,
        preprocessing=preprocessing,
        protocol=protocols,
        attacks=strengths,
        n_images=n_images,
        n_slow=n_slow,
        networks_folder=networks,
        kept=kept,
        data=data,
        quick=quick,
        n_processes=processes,
        progress=console.progress,
        say=console.say,
    )
    return console.end(results)
