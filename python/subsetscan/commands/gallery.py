"""The most anomalous inputs of a scan, and where: what `--report` keeps beside the scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import plot
from ..explanation import SpaceExplanation
from ..inputs.base import SizedInputs
from ..lab.experiment.files import write_json
from ..lab.options import start_writing
from ..plot.report.results import most_anomalous
from ..scanner import ModelScanner
from .explain import one_of, picture_of
from .scanned_sets import COMBINED, ScannedSets

__all__ = ["GALLERY", "write_gallery"]

GALLERY = "gallery"
_N_SHOWN = 8
_DRAWN = {"dpi": 100, "colours": 64}  # letters can be read, and the page stays small
_N_DRAWN = 3  # spaces


def write_gallery(scanner: ModelScanner, sets: Mapping[str, SizedInputs], scanned: ScannedSets, out: Path) -> None:
    """Explain the most anomalous inputs, those of clean sets left out, and draw where they are anomalous.

    Parameters
    ----------
    scanner : ModelScanner
    sets : mapping of str to SizedInputs
    scanned : ScannedSets
        What the scanner found in these sets.
    out : Path
        The results folder; ``gallery`` in it holds ``gallery.json`` and pictures.
    """
    folder = start_writing(out / GALLERY, "gallery.json", "*.png")
    shown: list[dict[str, Any]] = []
    for rank, (name, n) in enumerate(_chosen(scanned)):
        sample = one_of(sets[name], n)
        explanation = scanner.explain(sample)
        figure = plot.explanation(explanation, picture_of(sample, explanation), most=_N_DRAWN)
        if figure is not None:
            plot.save(figure, folder / f"{rank}.png", **_DRAWN)
        p_value = None
        if scanned.p_values is not None:
            own = scanned.p_values[name]
            p_value = float(own.get(COMBINED, next(iter(own.values())))[n])
        shown.append(
            {
                "title": f"{name} {n}",
                "p_value": p_value,
                "picture": None if figure is None else f"{rank}.png",
                "text": None,
                "spaces": [_told(space, explanation.spaces[space]) for space in explanation.ranked()],
            }
        )
    write_json(folder / "gallery.json", {"inputs": shown})


def _told(name: str, space: SpaceExplanation) -> dict[str, Any]:
    leading = space.of_leading()
    return {"space": name, "p_value": space.p_value, "size": leading.size, "where": leading.where()}


def _chosen(scanned: ScannedSets) -> list[tuple[str, int]]:
    scores = scanned.scores()
    space = COMBINED if COMBINED in scores else next(iter(scores))
    p_values = None if scanned.p_values is None else {name: own[space] for name, own in scanned.p_values.items()}
    return most_anomalous(scores[space], p_values, _N_SHOWN)
