"""What was fitted, as safetensors files: arrays and one description in JSON, nothing that is executed."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ._files import damage_as_value_error
from ._sealed import as_text, read_sealed, write_sealed
from ._validation import InvalidTypeError

__all__ = [
    "Persistent",
    "State",
    "check_plain",
    "load_detector",
    "pack",
    "pack_attributes",
    "restore",
    "unpack",
    "unpack_attributes",
]

_FITTED = "fitted/"  # before the names of attributes' arrays

State = tuple[dict[str, Any], dict[str, np.ndarray]]


class Persistent:
    """A fitted estimator that is saved and loaded; it says what tells it from a new one."""

    _kinds: ClassVar[dict[str, type[Persistent]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._kinds[cls.kind()] = cls

    @classmethod
    def kind(cls) -> str:
        """Name the class in files: classes of other packages with the module, so that no two have the same name."""
        return cls.__name__ if cls.is_own() else f"{cls.__module__}.{cls.__qualname__}"

    @classmethod
    def is_own(cls) -> bool:
        """Whether the class is one of this package, which knows what a file of it must hold."""
        return cls.__module__.startswith(f"{__name__.partition('.')[0]}.")

    @abstractmethod
    def _state(self) -> State:
        """Return a description, ready for JSON, with the class' `kind` as "kind"; and arrays by name."""

    @classmethod
    @abstractmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Persistent:
        """Make what `_state` was called on. Raises any exception for an invalid state."""

    def _take_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Take up what `unpack_attributes` returned. Raises ValueError for what would hide a method or a property."""
        for name in attributes:
            if callable(of_class := getattr(type(self), name, None)) or isinstance(of_class, property):
                raise ValueError(f"no fit sets an attribute {name!r}")
        self.__dict__.update(attributes)

    def save(self, path: Path | str) -> None:
        """Save the fitted detector as a safetensors file, whole or not at all.

        A `random_state` that is not a number is not saved.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        self._save(path)

    def _save(self, path: Path | str) -> str:
        """Save, and return the digest of what was saved: equal detectors have the same bytes."""
        return write_sealed(path, self.kind(), *self._state())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Load a detector that `save` wrote. Nothing in the file is executed.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is damaged, or is no such file, or was written by a later version. A file of format version 2 has a
            digest, which tells of any damage; one of version 1, which has none, is held to what its parts say.
        """
        detector: Self = load_detector(path, cls)
        return detector


def load_detector(path: Path | str, kind: type[Persistent] = Persistent, digest: str | None = None) -> Any:
    """Load a detector of any kind, or of the given one, that its `save` wrote. Raises what `Persistent.load` does.

    With a `digest`, any other than the detector that has it is refused as well.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no detector file at {path}")
    kinds = [name for name, one in Persistent._kinds.items() if issubclass(one, kind)]
    found = read_sealed(path, kinds, "a detector" if kind is Persistent else kind.__name__)
    if digest not in (None, found.digest):
        raise ValueError(
            f"{path} is another detector than was saved in its place: files were swapped, or come from two"
        )
    with damage_as_value_error(path):
        description = json.loads(found.description)
        if description["kind"] != found.kind:
            raise ValueError(f"it describes a {description['kind']}, its format is that of a {found.kind}")
        detector = restore(description, found.tensors)
        if found.digest and detector.is_own():
            _check_same(detector._state(), (found.description, found.tensors))
        return detector


def _check_same(state: State, read: tuple[str, Mapping[str, np.ndarray]]) -> None:
    """Refuse a file with something that nobody reads, or without something that has a default. Raises ValueError."""
    (description, tensors), (text, arrays) = state, read
    if strange := sorted(tensors.keys() ^ arrays.keys()):
        raise ValueError(f"its arrays are not those of such a detector: {strange[0]} is missing or unknown")
    if as_text(description) != text:
        raise ValueError("its description is not that of such a detector: something is missing or unknown")


def restore(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Any:
    """Make a fitted detector of the state of one. Raises any exception for an invalid state, as `_from_state` does."""
    return Persistent._kinds[description["kind"]]._from_state(description, tensors)


def pack(parts: Sequence[Persistent]) -> State:
    """Return the states of several detectors as one: their descriptions as "parts", their arrays under numbers."""
    states = [part._state() for part in parts]
    tensors = {f"{n}/{name}": array for n, (_, arrays) in enumerate(states) for name, array in arrays.items()}
    return {"parts": [description for description, _ in states]}, tensors


def unpack(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> list[Any]:
    """Make the detectors of which `pack` returned the states."""
    parts = []
    for n, part in enumerate(description["parts"]):
        own = {name.removeprefix(f"{n}/"): array for name, array in tensors.items() if name.startswith(f"{n}/")}
        parts.append(restore(part, own))
    return parts


def pack_attributes(attributes: Mapping[str, Any]) -> State:
    """Return the state of fitted attributes: arrays, what JSON holds, and what is saved itself or a list of such.

    Raises
    ------
    TypeError
        If one is anything else; the message names it.
    """
    plain: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    tensors: dict[str, np.ndarray] = {}
    for name, value in attributes.items():
        several = value if isinstance(value, list) and value else [value]
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            tensors[_FITTED + name] = value
        elif all(isinstance(one, Persistent) for one in several):
            description, arrays = pack(several)
            parts[name] = description | {"is_list": several is value}
            tensors |= {f"{_FITTED}{name}/{key}": array for key, array in arrays.items()}
        else:
            plain[name] = value
    check_plain(plain)
    return {"fitted": plain, "fitted_parts": parts}, tensors


def unpack_attributes(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Make the attributes of which `pack_attributes` returned the state."""
    arrays = {name.removeprefix(_FITTED): array for name, array in tensors.items() if name.startswith(_FITTED)}
    attributes = dict(description["fitted"])
    for name, state in description.get("fitted_parts", {}).items():
        own = {key.removeprefix(f"{name}/"): arrays.pop(key) for key in list(arrays) if key.startswith(f"{name}/")}
        parts = unpack(state, own)
        attributes[name] = parts if state["is_list"] else parts[0]
    return attributes | arrays


def check_plain(values: Mapping[str, Any]) -> None:
    """Raise TypeError for the first value that JSON does not hold."""
    for name, value in values.items():
        if not _is_plain(value):
            raise InvalidTypeError(
                f"{name} is a {type(value).__name__}; arrays of numbers, numbers, text and lists of these are saved"
            )


def _is_plain(value: Any) -> bool:
    """Whether JSON holds a value, and gives it back as it was but for tuples."""
    try:
        return bool(json.loads(json.dumps(value)) == (list(value) if isinstance(value, tuple) else value))
    except (TypeError, ValueError):
        return False
