"""A background's index in a safetensors file that is not read but mapped, so that all processes share its pages.

The file has all that a search looks at, as it lies in memory, behind a header that says what it is. The header is
checked when the file is mapped, and the rest, by its checksum, before it is searched for the first time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _core
from ._digest import digest
from ._files import atomic_write, damage_as_value_error
from ._sealed import as_text, header_of

__all__ = ["IndexFile", "map_index", "write_index"]

_FORMAT, _FORMAT_VERSION = "subsetscan.BackgroundIndex", "2"
_LONGEST_HEADER = 100_000_000  # of any safetensors file
_KEYS = {"float16": "uint16", "float32": "uint32", "float64": "uint64"}


@dataclass(frozen=True)
class IndexFile:
    """Where a mapped background lies, and what it is known by: enough to map the very same again."""

    path: str
    verify: bool
    digest: str


def write_index(path: Path | str, core: _core.Background, names: tuple[str, ...] | None) -> str:
    """Write a file, whole or not at all, whose bytes depend on the background alone; return its digest.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If the background itself lies in a damaged file.
    """
    _check_processor()
    description = {
        "dtype": core.dtype,
        "kept": [] if core.tail is None else [core.tail, core.alpha_max],
        "n_nodes": core.n_nodes,
        "n_samples": core.n_samples,
        "names": names,
    }
    header, own, _ = _header(as_text(description), core.checksum())
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        n = 0
        while (part := core.index_part(n)) is not None:
            file.write(part)
            n += 1
    return own


def map_index(
    path: Path | str, verify: bool, wanted: str | None = None
) -> tuple[_core.Background, tuple[str, ...] | None, IndexFile]:
    """Map what `write_index` wrote; with `wanted`, only the file that has this digest.

    Raises
    ------
    OSError
        If the file cannot be mapped.
    ValueError
        If it is not such a file, whole, of this version.
    """
    _check_processor()
    path = Path(path).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"no index of a background at {path}")
    file = _core.MappedFile(path)
    with damage_as_value_error(path):
        metadata = _metadata(path, file)
        text, checksum = metadata["description"], metadata["checksum"]
        header, own, n_bytes = _header(text, checksum)
        if file.read(0, len(header)) != header:
            raise ValueError("its header is not the one that it was written with")
        if len(file) != len(header) + n_bytes:
            raise ValueError(f"it has {len(file)} bytes where {len(header) + n_bytes} were written")
        description = json.loads(text)
        names = None if description["names"] is None else tuple(description["names"])
        if names is not None and (len(names) != description["n_nodes"] or not all(isinstance(n, str) for n in names)):
            raise ValueError(f"{description['n_nodes']} nodes must have as many names")
        tail, alpha_max = description["kept"] or (None, None)
        core = _core.Background.mapped(
            file, len(header), description["n_samples"], description["n_nodes"], description["dtype"], tail, alpha_max,
            str(path), checksum if verify else None,
        )  # fmt: skip
    if wanted not in (None, own):
        raise ValueError(f"{path} is not the file that it was: its digest is {own}, not {wanted}")
    return core, names, IndexFile(str(path), verify, own)


def _metadata(path: Path, file: _core.MappedFile) -> Mapping[str, str]:
    """Return what the header says of the file. Raises any exception for another file."""
    length = int.from_bytes(file.read(0, 8), "little")
    if length > min(len(file), _LONGEST_HEADER):
        raise ValueError(f"{path} is not a safetensors file, or not a complete one")
    metadata: dict[str, str] = json.loads(file.read(8, 8 + length))["__metadata__"]
    if (kind := metadata.get("format")) != _FORMAT:
        hint = "; what save wrote is read by load" if kind == "subsetscan.Background" else ""
        raise ValueError(f"{path} is not an index of a background: its format is {kind!r}{hint}")
    if (version := metadata.get("format_version")) != _FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version!r}; this subsetscan maps {_FORMAT_VERSION!r}: write it anew"
        )
    return metadata


def _header(text: str, checksum: str) -> tuple[bytes, str, int]:
    """Return the header of the file with this description, its digest, and how many bytes follow."""
    about: dict[str, Any] = json.loads(text)
    if sorted(about) != ["dtype", "kept", "n_nodes", "n_samples", "names"]:
        raise ValueError(f"its description is of {sorted(about)}")
    dtype, n_nodes = about["dtype"], about["n_nodes"]
    n_keys, n_table = _core.Background.index_shape(about["n_samples"], dtype, *about["kept"])
    own = digest(_FORMAT, _FORMAT_VERSION, text, checksum)
    metadata = {
        "checksum": checksum,
        "description": text,
        "digest": own,
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
    }
    tensors = {"columns": (_KEYS[dtype], (n_nodes, n_keys)), "table": ("uint32", (n_nodes, n_table))}
    header, n_bytes = header_of(metadata, tensors)
    return header, own, n_bytes


def _check_processor() -> None:
    if sys.byteorder != "little":
        raise RuntimeError("an index file is mapped by little-endian processors alone: use Background.save and load")
