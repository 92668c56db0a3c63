"""Arrays of .npy files as dask arrays: each worker reads its chunks from the file itself."""

from __future__ import annotations

from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .._extras import import_extra

__all__ = ["spread_file"]

_AT_ENDS = 1 << 16  # bytes that tell a file from another one

_Seen = tuple[int, str]  # the size, and a digest of both ends


def spread_file(path: Path | str, client: Any) -> Any:
    """Take the array of an ``.npy`` file as a dask array of shape (N, J), once all workers see the same file.

    Parameters
    ----------
    path : path-like
        Of an array (N, ...); what belongs to one input is flattened.
    client : distributed.Client

    Returns
    -------
    dask.array.Array
        In chunks of dask's size, ``array.chunk-size`` of its configuration.

    Raises
    ------
    OSError
        If the file cannot be read, here or by a worker, or a worker sees another one.
    """
    da = import_extra("dask.array", "dask")
    path = Path(path).resolve()
    own = _seen(path)
    for worker, seen in sorted(client.run(_seen_or_none, path).items()):
        if seen != own:
            what = "no such file" if seen is None else "another file of this name"
            raise FileNotFoundError(
                f"the worker {worker} sees {what} as {path}: all workers read the files themselves, so lay them into a "
                "folder that all of them share, at the same path"
            )
    values = _rows(path)
    chunks = da.core.normalize_chunks("auto", values.shape, dtype=values.dtype)
    meta = np.empty((0, 0), values.dtype)
    return da.map_blocks(_chunk, path, own, chunks=chunks, dtype=values.dtype, meta=meta)


def _rows(path: Path) -> np.ndarray:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    return values.reshape(len(values), prod(values.shape[1:]))


def _seen(path: Path) -> _Seen:
    with path.open("rb") as file:
        size = path.stat().st_size
        start = file.read(_AT_ENDS)
        file.seek(max(0, size - _AT_ENDS))
        return size, sha256(start + file.read()).hexdigest()


# What workers do.


def _seen_or_none(path: Path) -> _Seen | None:
    try:
        return _seen(path)
    except OSError:
        return None


def _chunk(path: Path, seen: _Seen, block_info: Any = None) -> np.ndarray:
    if _seen(path) != seen:
        raise OSError(f"{path} was changed while it was read")
    rows, nodes = (slice(*place) for place in block_info[None]["array-location"])
    return np.array(_rows(path)[rows, nodes])
