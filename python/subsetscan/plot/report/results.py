"""What a results folder holds: ``scores.csv``, ``summary.json``, and null scores and a gallery where they are kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._files import damage_as_value_error
from ...calibration import check_probabilities, check_scores

__all__ = ["CLEAN", "COMBINED", "Results", "most_anomalous", "read_results"]

CLEAN = "clean"  # the set that others are told from
COMBINED = "combined"  # the space of all others together
_SHOWN = {"title", "p_value", "picture", "text", "spaces"}  # of an input in the gallery
_COLUMNS = ("set", "index", "space", "score", "p_value")


@dataclass(frozen=True, eq=False)
class Results:
    """What a scan found.

    Attributes
    ----------
    sets, spaces : list of str
        In the order of the file.
    scores : dict of str to dict of str to ndarray of shape (n,)
        By set and space.
    p_values : dict of str to dict of str to ndarray of shape (n,), or None
        The same; None without calibration.
    null_scores : dict of str to ndarray of shape (n,)
        By space; empty where they were not kept.
    summary : mapping
        The content of ``summary.json``.
    gallery : list of mapping
        The most anomalous inputs, and where: the content of ``gallery/gallery.json``, or nothing.
    folder : Path
        Where the pictures of the gallery are, in its own ``gallery``.
    """

    sets: list[str]
    spaces: list[str]
    scores: dict[str, dict[str, np.ndarray]]
    p_values: dict[str, dict[str, np.ndarray]] | None
    null_scores: dict[str, np.ndarray]
    summary: Mapping[str, Any]
    gallery: list[Mapping[str, Any]]
    folder: Path

    @property
    def primary(self) -> str:
        """The space that counts: all together, or where they were not combined the first."""
        return COMBINED if COMBINED in self.spaces else self.spaces[0]

    @property
    def counts(self) -> dict[str, int]:
        """How many inputs each set has."""
        return {name: len(next(iter(found.values()))) for name, found in self.scores.items()}


def most_anomalous(
    scores: Mapping[str, np.ndarray], p_values: Mapping[str, np.ndarray] | None, n_inputs: int
) -> list[tuple[str, int]]:
    """List sets and places of the most anomalous inputs, those of the clean set left out.

    The first of each set come first, then the second, and so on; among these, and within a set, the smallest p-value
    first, of equal ones the highest score.
    """
    found: list[tuple[int, float, float, str, int]] = []
    for name, own in scores.items():
        if name != CLEAN:
            p = np.ones(len(own)) if p_values is None else p_values[name]
            ordered = np.lexsort((-own, p)).tolist()
            found += [(rank, float(p[n]), -float(own[n]), name, n) for rank, n in enumerate(ordered)]
    return [(name, n) for *_, name, n in sorted(found)[:n_inputs]]


def read_results(folder: Path | str) -> Results:
    """Read a results folder, as `subsetscan scan` writes it.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a file is not what `subsetscan scan` writes; the message names it.
    """
    folder = Path(folder)
    path = folder / "scores.csv"
    if not path.is_file():
        raise FileNotFoundError(f"no scan's results in {folder}: scan, score and demo of subsetscan write them")
    scores, p_values = _read_scores(path)
    spaces = list(next(iter(scores.values())))
    for name, found in scores.items():
        lengths = {space: len(own) for space, own in found.items()}
        if list(found) != spaces or len(set(lengths.values())) > 1:
            raise ValueError(f"{path}: set {name!r} has other spaces, or other numbers of inputs in them: {lengths}")
    null = folder / "null_scores.csv"
    return Results(
        list(scores),
        spaces,
        scores,
        p_values,
        _read_null_scores(null) if null.is_file() else {},
        _read_json(folder / "summary.json"),
        _read_gallery(folder / "gallery" / "gallery.json"),
        folder,
    )


def _read_scores(path: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, np.ndarray]] | None]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    calibrated = set()
    for line, row in _rows(path, _COLUMNS):
        rows = found.setdefault(row["set"], {}).setdefault(row["space"], [])
        try:
            index, score = int(row["index"]), float(row["score"])
            p_value = float(row["p_value"] or "nan")
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        if index != len(rows):
            raise ValueError(f"{path}, line {line}: expected input {len(rows)} of set {row['set']!r}, got {index}")
        calibrated.add(row["p_value"] != "")
        rows.append((score, p_value))
    if not found:
        raise ValueError(f"{path} has no scores: the scan was of no inputs")
    if len(calibrated) > 1:
        raise ValueError(f"{path} has p-values for some inputs but not for others")
    columns = {
        name: {space: np.array(rows, np.float64).T for space, rows in spaces.items()} for name, spaces in found.items()
    }
    with damage_as_value_error(path):
        scores = {
            name: {space: check_scores(own[0]) for space, own in spaces.items()} for name, spaces in columns.items()
        }
        if not calibrated.pop():
            return scores, None
        return scores, {
            name: {space: check_probabilities(own[1]) for space, own in spaces.items()}
            for name, spaces in columns.items()
        }


def _read_null_scores(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {}
    for line, row in _rows(path, ("space", "score")):
        try:
            found.setdefault(row["space"], []).append(float(row["score"]))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
    with damage_as_value_error(path):
        return {space: check_scores(scores, "null scores") for space, scores in found.items()}


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a table with their numbers. Raises ValueError where columns or cells are missing."""
    with damage_as_value_error(path), path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in columns if name not in (reader.fieldnames or [])]:
            raise ValueError(f"it has no column {missing[0]!r}: expected a table as `subsetscan scan` writes it")
        for row in reader:
            if any(row[name] is None for name in columns):
                raise ValueError(f"line {reader.line_num}: cells are missing")
            yield reader.line_num, row


def _read_gallery(path: Path) -> list[Mapping[str, Any]]:
    if not path.is_file():
        return []
    found = _read_json(path).get("inputs")
    if not isinstance(found, list) or any(not isinstance(one, dict) or _SHOWN - set(one) for one in found):
        raise ValueError(f"{path} is not a gallery as `subsetscan scan --report` writes it")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    with damage_as_value_error(path, "is not JSON"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} where an object is expected")
    return content
