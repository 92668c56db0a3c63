"""Results that cost time, kept in a folder: a file says what made it from what, and is made anew when that changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open

from .._files import damage_as_value_error
from .._sealed import write_tensors

if TYPE_CHECKING:
    import keras

__all__ = ["ResultCache", "code_version", "fingerprint", "fingerprint_of_model"]

Arrays = dict[str, np.ndarray]

# Whose numbers results are made of, as they are named where packages come from.
_LIBRARIES = (
    "numpy", "scipy", "scikit-learn", "scikit-image", "keras", "tensorflow", "tensorflow-cpu",
    "adversarial-robustness-toolbox",
)  # fmt: skip


def fingerprint(*arrays: np.ndarray) -> str:
    """Return a digest of arrays: their types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fingerprint_of_model(model: keras.Model) -> str:
    """Return a digest of a Keras model: its layers with their options, its weights, and the backend that runs it.

    Weights alone would not do: layers without any, as one that rescales pixels, make another model.
    """
    import keras

    about = f"{keras.backend.backend()};{model.to_json(sort_keys=True)};{fingerprint(*model.get_weights())}"
    return hashlib.sha256(about.encode()).hexdigest()


@cache
def code_version(*modules: str) -> str:
    """Return a digest of the code that makes a result.

    Parameters
    ----------
    *modules : str
        Names of modules, whose source counts, and of packages, of which all sources and extension modules do. The
        versions of the libraries beneath always count.
    """
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        try:
            digest.update(f"{library} {version(library)};".encode())
        except PackageNotFoundError:
            continue
    for module in modules:
        for path in _sources(module):
            digest.update(f"{module} {path.name};".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _sources(module: str) -> list[Path]:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of {module}", name=module)
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)]
    endings = (".py", *EXTENSION_SUFFIXES)
    return sorted(path for path in Path(spec.origin).parent.rglob("*") if path.name.endswith(endings))


class ResultCache:
    """A folder of results, each of which is known by what it was made from, and by the code that made it.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    made_by : str, optional
        What `code_version` returns for the code that makes these results: all of this package by default.
    """

    def __init__(self, folder: Path | str, made_by: str | None = None) -> None:
        self.folder = Path(folder)
        self.made_by = code_version(__name__.partition(".")[0]) if made_by is None else made_by

    def get(self, name: str, made_from: Mapping[str, Any]) -> Arrays | None:
        """Return a result, or None if there is none, it was made from something else, or its file is damaged."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            with damage_as_value_error(path), safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                if about.get("made_from") != self._as_text(made_from):
                    return None
                arrays = {key: file.get_tensor(key) for key in sorted(file.keys())}
        except ValueError:
            return None
        return arrays if about.get("digest") == _digest(arrays) else None

    def put(self, name: str, made_from: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a result under a name, which may have slashes."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {key: np.asarray(array, order="C") for key, array in arrays.items()}
        about = {"made_from": self._as_text(made_from), "digest": _digest(contiguous)}
        write_tensors(path, about, contiguous)

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

    def _as_text(self, made_from: Mapping[str, Any]) -> str:
        return json.dumps({**made_from, "made_by": self.made_by}, sort_keys=True)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return hashlib.sha256("".join(f"{key}={fingerprint(arrays[key])};" for key in sorted(arrays)).encode()).hexdigest()
