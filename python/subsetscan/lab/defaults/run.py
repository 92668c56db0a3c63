"""`subsetscan experiment defaults`: the automatic detector beside others, on every layer of every subject."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import folder_in
from ..experiment.files import write_json
from ..options import check_known, start_writing
from ..progress import Progress
from ..result_cache import ResultCache, code_version, fingerprint
from ..subjects.registry import SUBJECTS, kept_subject
from ..subjects.subject import Subject
from . import times as timing
from .cells import CLEAN, Cell, cells_of, read_cells, write_cells
from .methods import METHODS, LayerScores, score_layer
from .page import write_page

__all__ = ["SECONDS_MADE", "defaults", "take_subject"]

_N_BACKGROUND = 1000
_QUICK = {"n_clean": 300, "n_kind": 30}
_N_QUICK_BACKGROUND = 200
_WITH_DIGITS = ("autoencoder", "classifier")  # take a folder of MNIST
SECONDS_MADE, _SECONDS_SCORED = 300.0, 60.0  # of a subject, on average
# The code that scores depend on.
_SCORED_BY = (
    "_core", "background", "calibration", "combination", "detectors", "residuals", "scanning", "lab.defaults.methods",
)  # fmt: skip


def defaults(
    out: Path | str,
    *,
    subjects: Sequence[str] = tuple(SUBJECTS),
    kept: Path | str | None = None,
    data: Path | str | None = None,
    quick: bool = False,
    times: bool = False,
    seed: int = 0,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Judge the automatic detector beside others on networks that others made.

    Activations and scores are kept as they are made, and made again where what they came from changed.

    Parameters
    ----------
    out : path-like
        Folder for ``defaults.md`` and ``defaults/``: every number as CSV and JSON.
    subjects : sequence of str
        Some of `SUBJECTS`.
    kept : path-like, optional
        Folder for what is kept between runs; ``kept`` in `out` by default.
    data : path-like, optional
        Folder with a folder ``mnist`` of IDX files, whose digits are a kind of anomaly for the two small networks.
    quick : bool
        A small version: few inputs.
    times : bool
        Whether to measure times too. Those that were measured before stay.
    seed : int
        Draws inputs.
    progress : bool
    say : callable
        Takes lines of the report.

    Returns
    -------
    dict
        The content of ``defaults/results.json``.

    Raises
    ------
    ValueError
        If a subject is unknown, or none is given.
    ModuleNotFoundError, FileNotFoundError
        If a package that a subject needs is missing; the message says which, and how to go on without.
    OSError
        If a file cannot be read or written.
    """
    check_known(subjects, SUBJECTS)
    started = time.monotonic()
    out = Path(out)
    folder = Path(out / "kept" if kept is None else kept)
    names = list(dict.fromkeys(subjects))
    start_writing(out, "defaults.md")
    start_writing(out / "defaults", "cells.csv", "results.json", *["times.csv"] * times)
    stages = Progress(progress=progress, say=say)
    for name in names:
        stages.expect(f"{name}: activations", SECONDS_MADE)
        stages.expect(f"{name}: scores", _SECONDS_SCORED)
    results: dict[str, Any] = {"subjects": {}, "quick": quick, "seed": seed}
    for name in names:  # all of them first: a missing package is known before the scores
        with stages.stage(f"{name}: activations", 1) as done:
            take_subject(folder, name, data, quick, seed)
            done(1)
    cells: list[Cell] = []
    for name in names:
        subject = take_subject(folder, name, data, quick, seed)
        found = _Judged(subject, _N_QUICK_BACKGROUND if quick else _N_BACKGROUND)
        with stages.stage(f"{name}: scores", len(subject.layers)) as done:
            cells += found.cells(ResultCache(folder / "scores", _code()), done)
        results["subjects"][name] = found.about
    write_cells(out / "defaults" / "cells.csv", cells)
    if times:
        with stages.stage("times", len(timing.SHAPES) * len(timing.DETECTORS)) as done:
            timing.write_times(out / "defaults" / "times.csv", list(_each(timing.measure(), done)))
    results["seconds"] = {**stages.seconds, "all": time.monotonic() - started}
    write_json(out / "defaults" / "results.json", results)
    measured = out / "defaults" / "times.csv"
    # What was written is what the page is made of: digits and all.
    write_page(
        out / "defaults.md",
        results,
        read_cells(out / "defaults" / "cells.csv"),
        timing.read_times(measured) if measured.is_file() else [],
    )
    say(f"wrote defaults.md and defaults/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results


def _each(found: Any, done: Callable[[int], object]) -> Any:
    for one in found:
        done(1)
        yield one


def _code() -> str:
    package = __name__.partition(".")[0]
    return code_version(*(f"{package}.{module}" for module in _SCORED_BY))


def take_subject(folder: Path, name: str, data: Path | str | None, quick: bool, seed: int) -> Subject:
    """Take a subject from the folder where it is kept, or make it; for the options see `defaults`."""
    digits = folder_in(data, "mnist") if name in _WITH_DIGITS else None
    counts = _QUICK if quick else {}
    options = counts if digits is None else {**counts, "mnist": digits}
    made_from = {"seed": seed, **counts} | ({"digits": digits is not None} if name in _WITH_DIGITS else {})
    try:
        return kept_subject(folder / "subjects", name, partial(SUBJECTS[name], seed, **options), made_from)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        others = ",".join(other for other in SUBJECTS if other != name)
        raise type(error)(f"{name} cannot be made: {error}; --subjects {others} leaves it out") from error


class _Judged:
    """A subject whose clean rows are shared out."""

    def __init__(self, subject: Subject, n_background: int) -> None:
        self.subject = subject
        self.n_background = n_background
        self.seconds = 0.0  # of the scores
        counts = {CLEAN: len(next(iter(subject.clean.values()))) - n_background}
        if counts[CLEAN] < 1:
            raise ValueError(
                f"{subject.name} has {n_background + counts[CLEAN]} clean inputs, where {n_background} are the "
                "background: none is left"
            )
        counts |= {kind: len(next(iter(rows.values()))) for kind, rows in subject.kinds.items()}
        ends = np.cumsum(list(counts.values())).tolist()
        self.sets = {kind: slice(end - n, end) for (kind, n), end in zip(counts.items(), ends, strict=True)}

    @property
    def about(self) -> dict[str, Any]:
        """What the page says of the subject."""
        subject = self.subject
        return {
            "source": subject.source,
            "role": subject.role,
            "n_background": self.n_background,
            "seconds": {"activations": subject.seconds, "scores": self.seconds},
            "inputs": subject.inputs,
            "layers": {
                layer: {"about": about, "n_nodes": subject.clean[layer].shape[1]}
                for layer, about in subject.layers.items()
            },
        }

    def cells(self, cache: ResultCache, done: Callable[[int], object]) -> list[Cell]:
        """Score every layer, and measure."""
        layers = {}
        for layer in self.subject.layers:
            layers[layer], seconds = self._scores(layer, cache)
            self.seconds += seconds
            done(1)
        return cells_of(self.subject.name, layers, self.sets)

    def _scores(self, layer: str, cache: ResultCache) -> tuple[LayerScores, float]:
        clean = self.subject.clean[layer]
        background = clean[: self.n_background]
        rows = np.concatenate([clean[self.n_background :], *(kind[layer] for kind in self.subject.kinds.values())])
        found = cache.get_or_make(
            f"{self.subject.name}/{layer}",
            {"methods": list(METHODS), "rows": fingerprint(background, rows)},
            lambda: _timed(background, rows),
        )
        return LayerScores(found["null"], found["own"]), float(found["seconds"])


def _timed(background: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    started = time.monotonic()
    scores = score_layer(background, rows)
    return scores._asdict() | {"seconds": np.array(time.monotonic() - started)}
