"""Results that cost time, kept in a folder: a file says what it was made from, and is made anew when that changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .._files import whole

__all__ = ["Kept", "fingerprint"]

Arrays = dict[str, np.ndarray]


def fingerprint(*arrays: np.ndarray) -> str:
    """Return a digest of arrays: their types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Kept:
    """A folder of results.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def get(self, name: str, made_from: Mapping[str, Any]) -> Arrays | None:
        """Return a result, or None if there is none, it was made from something else, or its file is damaged."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                if about.get("made_from") != _as_text(made_from):
                    return None
                arrays = {key: file.get_tensor(key) for key in sorted(file.keys())}
        except (SafetensorError, ValueError):
            return None
        return arrays if about.get("digest") == _digest(arrays) else None

    def put(self, name: str, made_from: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a result under a name, which may have slashes."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        about = {"made_from": _as_text(made_from), "digest": _digest(contiguous)}
        with whole(path) as temporary:
            save_file(contiguous, temporary, about)

    def get_or_make(
        self, name: str, made_from: Mapping[str, Any], make: Callable[[], Mapping[str, np.ndarray]]
    ) -> Arrays:
        """Return a result, made and kept if there is none."""
        found = self.get(name, made_from)
        if found is None:
            found = dict(sorted(make().items()))  # in the order in which it is read again
            self.put(name, made_from, found)
        return found

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def _as_text(made_from: Mapping[str, Any]) -> str:
    return json.dumps(made_from, sort_keys=True)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return hashlib.sha256("".join(f"{key}={fingerprint(arrays[key])};" for key in sorted(arrays)).encode()).hexdigest()
