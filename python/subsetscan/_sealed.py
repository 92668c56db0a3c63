"""Safetensors files that say what they are, with a digest over all of it.

The digest tells of damage and of files that were mixed up. It is no signature: who can write the file can write it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from ._digest import digest
from ._files import atomic_write, damage_as_value_error

__all__ = ["Sealed", "as_text", "header_of", "read_sealed", "read_tensors", "write_sealed", "write_tensors"]

_FORMAT_VERSION = "2"
_WITHOUT_DIGEST = "1"
_CACHE_LINE = 64
# The format's names.
_TYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip


@dataclass(frozen=True)
class Sealed:
    """What a file holds.

    Attributes
    ----------
    kind : str
        The format, without "subsetscan.".
    description : str
        JSON.
    tensors : mapping of str to ndarray
    digest : str or None
        Of all of this; None in a file of format version 1, which has none.
    """

    kind: str
    description: str
    tensors: Mapping[str, np.ndarray]
    digest: str | None


def as_text(description: Any) -> str:
    """Return the one text in JSON of a description: the same for equal ones."""
    return json.dumps(description, default=lambda number: number.item(), sort_keys=True)


def write_sealed(path: Path | str, kind: str, description: Any, tensors: Mapping[str, np.ndarray]) -> str:
    """Write a file, whole or not at all, whose bytes depend on what it holds alone, and return its digest.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    text, tensors = as_text(description), {name: _as_saved(tensor) for name, tensor in tensors.items()}
    own = _digest(kind, _FORMAT_VERSION, text, tensors)
    metadata = {
        "description": text,
        "digest": own,
        "format": f"subsetscan.{kind}",
        "format_version": _FORMAT_VERSION,
    }
    write_tensors(path, metadata, tensors)
    return own


def read_sealed(path: Path | str, kinds: Collection[str], wanted: str) -> Sealed:
    """Read what `write_sealed` wrote.

    Parameters
    ----------
    path : path-like
    kinds : collection of str
        Those that are taken.
    wanted : str
        What to call them in messages.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, or of another kind, or was written by a later version.
    """
    metadata, tensors = read_tensors(path, "is not a complete safetensors file")
    kind = metadata.get("format", "").removeprefix("subsetscan.")
    if kind not in kinds or metadata["format"] == kind:
        raise ValueError(f"{path} is not a file of {wanted}: its format is {metadata.get('format')!r}")
    version, text, own = (metadata.get(name) for name in ("format_version", "description", "digest"))
    if version not in (_WITHOUT_DIGEST, _FORMAT_VERSION):
        raise ValueError(
            f"{path} has format version {version!r}; this subsetscan reads {_WITHOUT_DIGEST} and {_FORMAT_VERSION}: "
            "load it with the version that saved it, or fit and save anew"
        )
    expected = None if version == _WITHOUT_DIGEST else _digest(kind, version, text or "", tensors)
    if text is None or own != expected:
        raise ValueError(
            f"{path} is damaged: its content has not the digest that it was saved with; copy it again from where it "
            "was saved, or fit and save anew"
        )
    return Sealed(kind, text, tensors, own)


def read_tensors(path: Path | str, complaint: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Read the metadata and the arrays, by sorted names, of a safetensors file: as many bytes as it has.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, or holds numbers that numpy has no type for; the message begins with path and complaint.
    """
    with damage_as_value_error(path, complaint), safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if strange := [f"{name} holds {one.dtype}" for name, one in tensors.items() if one.dtype.kind not in "biuf"]:
            raise ValueError(strange[0])  # bfloat16, where another library has taught numpy what it is
        return file.metadata() or {}, tensors


def write_tensors(path: Path | str, metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file, whole or not at all, whose bytes depend on what it holds alone.

    The format's library writes to a file of its own beside, which stays when the process is killed, orders the metadata
    at random, and raises no OSError where the disk is full.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    arrays = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in tensors.items()}
    header, _ = header_of(metadata, {name: (array.dtype.name, array.shape) for name, array in arrays.items()})
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        for name in _in_order({name: array.itemsize for name, array in arrays.items()}):
            file.write(arrays[name].reshape(-1).view(np.uint8).data)


def header_of(metadata: Mapping[str, str], tensors: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[bytes, int]:
    """Return the head of a safetensors file of these types and shapes, and how many bytes follow.

    What follows begins with a cache line, as arrays do that are searched where they lie.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in _in_order({name: np.dtype(dtype).itemsize for name, (dtype, _) in tensors.items()}):
        dtype, shape = tensors[name]
        start, end = end, end + np.dtype(dtype).itemsize * math.prod(shape)
        header[name] = {"dtype": _TYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _CACHE_LINE)
    return len(text).to_bytes(8, "little") + text, end


def _in_order(sizes: Mapping[str, int]) -> list[str]:
    """Return the names of arrays so that each begins where its type may, by the size of its numbers."""
    return sorted(sizes, key=lambda name: (-sizes[name], name))


def _as_saved(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _digest(kind: str, version: str, text: str, tensors: Mapping[str, np.ndarray]) -> str:
    named = (part for name in sorted(tensors) for part in (name, tensors[name]))
    return digest(f"subsetscan.{kind}", version, text, *named)
