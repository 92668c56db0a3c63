"""`subsetscan extract`: read activations, a part of them on each of many machines."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from .._tables import counted
from ..shards import extract as read_shard
from . import options
from .console import Console
from .subject import Subject, check_there

__all__ = ["extract"]


def _parts(text: str) -> tuple[int, int]:
    own, slash, n = text.partition("/")
    if not (slash and own.isdigit() and n.isdigit() and int(own) < int(n)):
        raise typer.BadParameter(f"{text!r} is not I/N with I from 0 to N - 1, as 0/4.")
    return int(own), int(n)


def extract(
    model: options.NetworkFile,
    input: options.Input,  # noqa: A002 (the option's name)
    out: options.Out,
    layers: options.Layers = None,
    reconstruction_error: options.Error = None,
    shard: Annotated[
        str, typer.Option(help="Which part to read, I/N with I from 0: blocks I, I + N, I + 2 N ... of 256 inputs.")
    ] = "0/1",
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Read all nodes of wide layers, for scans with options. By default they are averaged over small "
            "blocks of positions, as the automatic detector reads them.",
        ),
    ] = False,
    unsafe_model: options.UnsafeModel = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Read a network's activations of clean inputs, or a part of them, for `merge`.

    Each machine reads its own shard; results do not depend on how many there are, if all have the same versions of the
    libraries that run the network. A run that was stopped continues where it was.
    """
    console = Console(json, quiet)
    own, n_shards = _parts(shard)
    check_there(input)
    chosen = {"layers": layers, "reconstruction_error": reconstruction_error, "automatic": not whole}
    subject = Subject.of(model, chosen, unsafe_model)
    inputs = subject.open(input)
    about = {"inputs": _digest_of(input), "spaces": dict(subject.options)}
    made, found = read_shard(out, subject.spaces, inputs, (own, n_shards), about, progress=console.progress)
    console.say(f"read {counted(made, 'block')} of shard {own}/{n_shards} to {out}/; {found} were there")
    return console.end({"shard": shard, "n_inputs": len(inputs), "blocks_read": made, "blocks_found": found})


def _digest_of(path: Path) -> str:
    """Compute a digest of a file's content, or of the names and sizes of the pictures in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = sorted((str(one.relative_to(path)), one.stat().st_size) for one in path.rglob("*") if one.is_file())
    return hashlib.sha256(repr(found).encode()).hexdigest()
