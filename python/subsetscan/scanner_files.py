"""Fitted scanners as folders: a safetensors file for each detector, and ``scanner.json``, written last."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ._files import atomic_write
from .detectors import load_detector
from .inputs import InputSummary
from .spaces.base import Space

__all__ = ["SavedScanner", "load", "save"]

_FORMAT = "subsetscan.ModelScanner"
_FORMAT_VERSION = 2
_MANIFEST = "scanner.json"
_JOINT_FILE = "joint.safetensors"
_DETECTOR_FILES = "detector-{:03}.safetensors"


@dataclass(frozen=True)
class SavedScanner:
    """What a folder holds of a fitted scanner.

    Attributes
    ----------
    detectors : mapping of str to detector
        By the names of the spaces.
    joint_null_scores : ndarray of shape (n,) or None
        Those of the joint scan; None where there is no such scan.
    fingerprints : mapping of str to str
        Of the spaces and the classifier, as they were when the scanner was fitted: those that have one.
    inputs : mapping of str to InputSummary
        What the background's inputs looked like, array by array.
    combine : str or None
        How the scanner combines its spaces.
    columns : mapping of str to tuple of str
        Names of the columns of data frames that the scanner was fitted on, by the frame's name.
    """

    detectors: Mapping[str, Any]
    joint_null_scores: np.ndarray | None
    fingerprints: Mapping[str, str]
    inputs: Mapping[str, InputSummary]
    combine: str | None
    columns: Mapping[str, tuple[str, ...]]


def save(folder: Path | str, scanner: SavedScanner) -> None:
    """Write a fitted scanner; older files of a scanner in the folder go. Raises OSError if it cannot be written."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / _MANIFEST
    manifest.unlink(missing_ok=True)
    for older in [*folder.glob(_DETECTOR_FILES.replace("{:03}", "*")), folder / _JOINT_FILE]:
        older.unlink(missing_ok=True)
    files = {name: _DETECTOR_FILES.format(n) for n, name in enumerate(scanner.detectors)}
    for name, file in files.items():
        scanner.detectors[name].save(folder / file)
    if scanner.joint_null_scores is not None:
        with atomic_write(folder / _JOINT_FILE) as temporary:
            save_file({"null_scores": scanner.joint_null_scores}, temporary)
    content = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "detectors": files,
        "joint": None if scanner.joint_null_scores is None else _JOINT_FILE,
        "fingerprints": dict(scanner.fingerprints),
        "inputs": {name: summary.as_dict() for name, summary in scanner.inputs.items()},
        "combine": scanner.combine,
        "columns": dict(scanner.columns),
    }
    with atomic_write(manifest) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load(folder: Path | str, spaces: Sequence[Space]) -> SavedScanner:
    """Read what `save` wrote, for spaces of the same names and numbers of nodes.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If the folder is not complete, or was saved for other spaces.
    """
    manifest = Path(folder) / _MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(f"{folder} holds no saved scanner: there is no {_MANIFEST}")
    try:
        content: Mapping[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        kind, version, files = content["format"], content["format_version"], dict(content["detectors"])
        joint, fingerprints = content.get("joint"), dict(content.get("fingerprints") or {})
        inputs = content.get("inputs") or {}
        inputs = {"": inputs} if "dtype" in inputs else inputs  # earlier files describe a single array
        inputs = {str(name): InputSummary.from_dict(own) for name, own in inputs.items()}
        combine = content.get("combine")
        columns = {str(name): tuple(map(str, own)) for name, own in (content.get("columns") or {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{manifest} is damaged: {error!r}") from error
    if (kind, version) != (_FORMAT, _FORMAT_VERSION):
        raise ValueError(f"{manifest} is {kind} version {version}; expected {_FORMAT} version {_FORMAT_VERSION}")
    detectors = {name: load_detector(Path(folder) / Path(file).name) for name, file in files.items()}
    given = {name: shape for space in spaces for name, shape in space.node_shapes.items()}
    sizes = {name: math.prod(shape) for name, shape in given.items()}
    saved = {name: detector.n_features_in_ for name, detector in detectors.items()}
    named = {name for space in spaces for name in space.names}
    if set(saved) != named or any(saved[name] != size for name, size in sizes.items()):
        raise ValueError(f"{folder} was saved for spaces with the nodes {saved}, got {sizes}")
    null_scores = None if joint is None else _joint_null_scores(Path(folder) / Path(joint).name)
    return SavedScanner(detectors, null_scores, fingerprints, inputs, combine, columns)


def _joint_null_scores(path: Path) -> np.ndarray:
    try:
        return load_file(path)["null_scores"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
