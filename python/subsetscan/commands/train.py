"""`subsetscan train`: train one of the networks of the experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..lab import training
from ..lab.datasets import DATASETS
from . import options
from .console import Console

__all__ = ["train"]


def train(
    network: Annotated[str, options.one_of(training.RECIPES, "Which network.")],
    out: options.Out,
    dataset: Annotated[str, options.one_of(DATASETS, "Which images to train on.")] = "fashion-mnist",
    data: Annotated[Path | None, typer.Option(help="Folder with the dataset's four IDX files.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="The default is 100 for the autoencoder, and 25 for the classifier.")
    ] = None,
    seed: options.Seed = 0,
    poisoned: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Share of an autoencoder's training images to replace by attacked ones."),
    ] = 0.0,
    classifier: Annotated[
        Path | None, typer.Option(help="Keras model file: the classifier that those attacks aim at.")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Train one of the networks of the experiments.

    Keeps a checkpoint of every epoch: the same command continues where it was stopped.
    """
    console = Console(json, quiet)
    options.start_keras()
    summary = training.train(
        network,
        dataset,
        out,
        data=data,
        epochs=epochs,
        seed=seed,
        poisoned=poisoned,
        classifier=classifier,
        verbose=0 if quiet or json else 2,
    )
    for name, value in summary.items():
        if name != "made_from":  # digests
            console.say(f"{name}: {value}")
    return console.end(summary)
