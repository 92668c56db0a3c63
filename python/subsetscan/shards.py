"""Activations in shards: machines that share nothing read parts of the inputs, and together have what one would have.

Inputs are cut into blocks of 256, in their order; shard i of n reads the blocks i, i + n, i + 2 n and so on. A block is
a file, written whole or not at all, so that what was stopped continues. Every pass through the network has the same
size, whoever makes it, so that a block has the same bits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from tqdm.auto import tqdm

from ._files import damage_as_value_error
from ._sealed import Sealed, as_text, read_sealed, write_sealed
from .fingerprints import NetworkWatch
from .inputs.base import SizedInputs
from .spaces import Space
from .spaces.base import join
from .spaces.network import NetworkSpace

__all__ = ["ACTIVATIONS", "BLOCK", "Extracted", "extract", "file_of", "is_extracted", "merge", "read_extracted"]

ACTIVATIONS = "activations.safetensors"  # in a folder of merged shards
BLOCK = 256  # inputs
_PASS = 64
_KIND = "Activations"
_BLOCKS = "block-{:09}.safetensors"
_RUNTIMES = ("tensorflow", "keras", "torch", "onnxruntime")  # whose versions may round otherwise
_N_NAMED = 5


@dataclass(frozen=True, eq=False)
class Extracted:
    """Activations of all inputs, put together from shards.

    Attributes
    ----------
    about : dict
        What they were made of: "inputs", a digest; "n_inputs"; "spaces", what makes the spaces again; "fingerprints"
        of the networks; "runtimes", versions.
    arrays : dict of str to ndarray of shape (n, ...), float32
        By the names of the spaces, in the order of the inputs.
    """

    about: Mapping[str, Any]
    arrays: dict[str, np.ndarray]


def extract(
    folder: Path | str,
    spaces: Sequence[Space],
    inputs: SizedInputs,
    shard: tuple[int, int],
    about: Mapping[str, Any],
    *,
    progress: bool = False,
) -> tuple[int, int]:
    """Read the blocks of one shard that are not there yet.

    Parameters
    ----------
    folder : path-like
        Where a file for each block goes; shards may share it.
    spaces : sequence of Space
        Those of networks get a `forward_batch`.
    inputs : SizedInputs
        All of them: the blocks of other shards are not read.
    shard : (int, int)
        i, from 0, and n.
    about : mapping
        What is the same for all shards, in JSON: see `Extracted`.
    progress : bool, default False

    Returns
    -------
    made, found : int
        Blocks that were read, and those that were there.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    ValueError
        If the shard is none, there are no inputs, they do not fit the network, or the folder has blocks of other
        inputs, of another network or of other layers.
    """
    own, n_shards = shard
    if not 0 <= own < n_shards:
        raise ValueError(f"the shard must be I/N with I from 0 to N - 1, got {own}/{n_shards}")
    if not len(inputs):
        raise ValueError("there are no inputs to read")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for space in spaces:
        if isinstance(space, NetworkSpace):
            space.forward_batch = _PASS
    passes, n_blocks = join(spaces), -(-len(inputs) // BLOCK)
    common = {
        **about,
        "n_inputs": len(inputs),
        "fingerprints": NetworkWatch(spaces, passes).now(),
        "runtimes": _runtimes(),
    }
    made = 0
    mine = range(own, n_blocks, n_shards)
    for block in tqdm(mine, desc=f"shard {own}/{n_shards}", unit="block", disable=not progress):
        path, description = folder / _BLOCKS.format(block), {**common, "block": block}
        if _is_there(path, as_text(description)):
            continue
        found: dict[str, np.ndarray] = {}
        for space in passes:
            found |= space.transform(inputs[block * BLOCK : (block + 1) * BLOCK])
        shapes = {name: shape for space in spaces for name, shape in space.node_shapes.items()}
        arrays = {name: rows.reshape(len(rows), *shapes[name]) for name, rows in found.items()}
        write_sealed(
            path, _KIND, description, {name: own.astype(np.float32, copy=False) for name, own in arrays.items()}
        )
        made += 1
    return made, len(mine) - made


def merge(folders: Iterable[Path | str], out: Path | str) -> Extracted:
    """Put the blocks of all shards together, in the order of the inputs, and write them to one file.

    Parameters
    ----------
    folders : iterable of path-like
        In any order; a block may be in several.
    out : path-like
        A ``.safetensors`` file, or a folder for it.

    Returns
    -------
    Extracted

    Raises
    ------
    OSError
        If a file cannot be read or written.
    ValueError
        If a block is missing or damaged, or blocks are of different inputs, networks or layers.
    """
    blocks: dict[int, Sealed] = {}
    common: dict[str, Any] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder of shards at {folder}")
        for path in sorted(folder.glob(_BLOCKS.replace("{:09}", "*"))):
            sealed = read_sealed(path, [_KIND], "activations")
            about = json.loads(sealed.description)
            number = about.pop("block", None)
            if number is None:
                raise ValueError(f"{path} is of other content than the first block")
            common = common or about
            if differs := _differences(about, common):
                raise ValueError(f"{path} is of other {differs} than the first block")
            if number in blocks and blocks[number].digest != sealed.digest:
                raise ValueError(f"{path} holds other activations than another file of block {number}")
            blocks[number] = sealed
    if not blocks:
        raise ValueError("there are no blocks to merge: `subsetscan extract` writes them")
    n_blocks = -(-common["n_inputs"] // BLOCK)
    if missing := [number for number in range(n_blocks) if number not in blocks]:
        told = ", ".join(map(str, missing[:_N_NAMED])) + (" ..." if len(missing) > _N_NAMED else "")
        raise ValueError(
            f"{len(missing)} of {n_blocks} blocks are missing, {told}: run `subsetscan extract` for the shards that "
            "have them (with --shard I/N block B is that of shard B modulo N)"
        )
    names = list(blocks[0].tensors)
    arrays = {name: np.concatenate([blocks[number].tensors[name] for number in range(n_blocks)]) for name in names}
    path = file_of(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, _KIND, common, arrays)
    return Extracted(common, arrays)


def is_extracted(path: Path | str) -> bool:
    """Tell whether a file, or the file in a folder, is what `merge` wrote."""
    path = file_of(path)
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return False
    with damage_as_value_error(path, "is not a complete safetensors file"), safe_open(path, framework="numpy") as file:
        return bool((file.metadata() or {}).get("format") == f"subsetscan.{_KIND}")


def read_extracted(path: Path | str) -> Extracted:
    """Read what `merge` wrote.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, or a single block.
    """
    path = file_of(path)
    sealed = read_sealed(path, [_KIND], "activations")
    about = json.loads(sealed.description)
    if "block" in about:
        raise ValueError(
            f"{path} is block {about['block']} of a shard: put the shards together with `subsetscan merge`"
        )
    return Extracted(about, dict(sealed.tensors))


def file_of(path: Path | str) -> Path:
    """Return the file of merged activations: the path itself, or within a folder."""
    path = Path(path)
    return path if path.suffix.lower() == ".safetensors" else path / ACTIVATIONS


def _is_there(path: Path, text: str) -> bool:
    """Tell whether a block is there, whole. Raises ValueError if it is of something else."""
    if not path.is_file():
        return False
    try:
        sealed = read_sealed(path, [_KIND], "activations")
    except ValueError:
        return False  # damaged: it is read again
    if sealed.description != text:
        differs = _differences(json.loads(sealed.description), json.loads(text))
        raise ValueError(f"{path} is of other {differs}: choose an empty folder, or remove it")
    return True


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ", ".join(key for key in {**one, **other} if one.get(key) != other.get(key))


def _runtimes() -> dict[str, str]:
    found = {}
    for name in _RUNTIMES:
        if name in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:  # tensorflow-cpu, as an example
                found[name] = getattr(sys.modules[name], "__version__", "unknown")
    return found
