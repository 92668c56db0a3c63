"""Fitted scanners as folders: a safetensors file for each detector, and ``scanner.json``, written last.

``scanner.json`` has the digest of each of these files, and one of itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ._digest import digest
from ._files import atomic_write, damage_as_value_error
from ._sealed import as_text, read_sealed, read_tensors, write_sealed
from .combination import COMBINATIONS
from .detectors import load_detector
from .inputs import InputSummary
from .spaces.base import Space

__all__ = ["SavedScanner", "digest_beside", "load", "save"]

_FORMAT = "subsetscan.ModelScanner"
_FORMAT_VERSION = 3
_WITHOUT_DIGESTS = 2
_MANIFEST = "scanner.json"
_JOINT = "JointScan"
_JOINT_FILE = "joint.safetensors"
_DETECTOR_FILES = "detector-{:03}.safetensors"
_FILE_NAME = re.compile(r"[a-z]+(-\d{3,9})?\.safetensors")


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
    digests = {file: scanner.detectors[name]._save(folder / file) for name, file in files.items()}
    if scanner.joint_null_scores is not None:
        tensors = {"null_scores": scanner.joint_null_scores}
        digests[_JOINT_FILE] = write_sealed(folder / _JOINT_FILE, _JOINT, {}, tensors)
    content = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "detectors": files,
        "joint": None if scanner.joint_null_scores is None else _JOINT_FILE,
        "fingerprints": dict(scanner.fingerprints),
        "inputs": {name: summary.as_dict() for name, summary in scanner.inputs.items()},
        "combine": scanner.combine,
        "columns": dict(scanner.columns),
        "digests": digests,
    }
    content["digest"] = digest(as_text(content))
    with atomic_write(manifest) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load(folder: Path | str, spaces: Sequence[Space]) -> SavedScanner:
    """Read what `save` wrote, for spaces of the same names and numbers of nodes.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If the folder is not complete, was saved for other spaces, or a file is damaged, or is not the one that was
        saved in its place.
    """
    folder = Path(folder)
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(f"{folder} holds no saved scanner: there is no {_MANIFEST}")
    with damage_as_value_error(manifest):
        content: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        kind, version = content["format"], content["format_version"]
    if kind != _FORMAT or version not in (_WITHOUT_DIGESTS, _FORMAT_VERSION):
        raise ValueError(
            f"{manifest} is {kind} version {version}; expected {_FORMAT} version {_WITHOUT_DIGESTS} or "
            f"{_FORMAT_VERSION}: load it with the version that saved it, or fit and save anew"
        )
    with damage_as_value_error(manifest):
        own = content.pop("digest", None)
        if own != (None if version == _WITHOUT_DIGESTS else digest(as_text(content))):
            raise ValueError(
                "it has not the digest that it was saved with; copy the folder again, or fit and save anew"
            )
        saved, files, joint = _described(content)
        named = [file for file in (*files.values(), joint) if file is not None]
        digests = content["digests"] if own else dict.fromkeys(named)
        if digests.keys() != set(named):
            raise ValueError(f"it has digests of {', '.join(digests)}, but names {', '.join(named)}")
    detectors = {name: load_detector(folder / file, digest=digests[file]) for name, file in files.items()}
    given = {name: shape for space in spaces for name, shape in space.node_shapes.items()}
    sizes = {name: math.prod(shape) for name, shape in given.items()}
    found = {name: detector.n_features_in_ for name, detector in detectors.items()}
    expected = {name for space in spaces for name in space.names}
    if set(found) != expected or any(found[name] != size for name, size in sizes.items()):
        raise ValueError(f"{folder} was saved for spaces with the nodes {found}, got {sizes}")
    null_scores = None if joint is None else _joint_null_scores(folder / joint, digests[joint], detectors)
    return replace(saved, detectors=detectors, joint_null_scores=null_scores)


def digest_beside(folder: Path | str, content: Mapping[str, Any]) -> str | None:
    """Compute the digest of what is kept in JSON beside a saved scanner: that of another scanner is another.

    None for a scanner of an older version, which has no digest. Raises OSError or ValueError if there is no scanner.
    """
    manifest = Path(folder) / _MANIFEST
    with damage_as_value_error(manifest):
        own = json.loads(manifest.read_text(encoding="utf-8")).get("digest")
        return None if own is None else digest(as_text(content), own)


def _described(content: Mapping[str, Any]) -> tuple[SavedScanner, dict[str, str], str | None]:
    """Take what ``scanner.json`` says, without the detectors, with their files and that of the joint scan.

    Raises
    ------
    Exception
        Of any kind, where it is not such a description.
    """
    files, joint, combine = dict(content["detectors"]), content.get("joint"), content.get("combine")
    names = [*files.values(), *([] if joint is None else [joint])]
    if len(set(names)) != len(names) or not all(_FILE_NAME.fullmatch(name) for name in names):
        raise ValueError(f"it must name one file in the folder for each detector, got {names!r:.200}")
    fingerprints = dict(content.get("fingerprints") or {})
    if not all(isinstance(own, str) for own in fingerprints.values()):
        raise ValueError(f"fingerprints are text, got {fingerprints!r:.200}")
    if combine not in (None, *COMBINATIONS):
        raise ValueError(f"unknown combination {combine!r}")
    inputs = content.get("inputs") or {}
    inputs = {"": inputs} if "dtype" in inputs else inputs  # earlier files describe a single array
    saved = SavedScanner(
        {},
        None,
        fingerprints,
        {str(name): InputSummary.from_dict(own) for name, own in inputs.items()},
        combine,
        {str(name): tuple(map(str, own)) for name, own in (content.get("columns") or {}).items()},
    )
    return saved, files, joint


def _joint_null_scores(path: Path, own: str | None, detectors: Mapping[str, Any]) -> np.ndarray:
    """Read the null scores of the joint scan: as many as each detector has, none of them below 0."""
    if own is None:
        null_scores = read_tensors(path, "is damaged")[1].get("null_scores", np.empty((0, 0)))
    else:
        sealed = read_sealed(path, [_JOINT], "a joint scan")
        if sealed.digest != own:
            raise ValueError(f"{path} is another joint scan than was saved in its place: files come from two folders")
        null_scores = sealed.tensors["null_scores"]
    expected = {detector.null_scores_.shape for detector in detectors.values()}
    if (
        {null_scores.shape} != expected
        or null_scores.dtype != np.float64
        or not (np.isfinite(null_scores) & (null_scores >= 0)).all()
    ):
        raise ValueError(
            f"{path} is damaged: the null scores must be numbers of at least 0, as many as each detector has, got "
            f"{null_scores.dtype} of shape {null_scores.shape}"
        )
    return null_scores
