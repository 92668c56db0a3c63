"""`subsetscan merge`: put shards of activations together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .._tables import counted, text_table
from ..shards import merge as put_together
from . import options
from .console import Console

__all__ = ["merge"]


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Folders that `extract` wrote to, in any order.")],
    out: Annotated[Path, typer.Option(help="What `--background` takes: a .safetensors file, or a folder for it.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Put the shards that `extract` read together, in the order of the inputs.

    All of them go through memory. The result has the same bits for any number of shards, in any order; `scan` and `fit`
    take it as the background, with the model or without.
    """
    console = Console(json, quiet)
    found = put_together(shards, out)
    shapes = {name: array.shape[1:] for name, array in found.arrays.items()}
    console.say(text_table(["space", "nodes"], [[name, " x ".join(map(str, shape))] for name, shape in shapes.items()]))
    console.say(f"merged activations of {counted(found.about['n_inputs'], 'input')} in {out}")
    return console.end(
        {"out": str(out), "n_inputs": found.about["n_inputs"], "spaces": {k: list(v) for k, v in shapes.items()}}
    )
