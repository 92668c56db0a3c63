"""The files of results: tables as CSV, summaries as JSON, each whole or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._files import atomic_write

__all__ = ["json_text", "write_json", "write_rows"]


def write_rows(path: Path | str, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file: a header of names, and a line for each row; a name that a row lacks is left empty."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON file, as `json_text` lays it out, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json_text(content) + "\n", encoding="utf-8")


def json_text(content: Mapping[str, Any]) -> str:
    """Lay out JSON that people can read. JSON has no NaN: null stands for it."""
    return json.dumps(_without_nan(content), indent=2, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
