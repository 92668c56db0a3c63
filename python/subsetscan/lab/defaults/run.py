"""`subsetscan experiment defaults`: the automatic detector beside others, on every layer of every subject."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..datasets import folder_in
from ..experiment.files import write_json
from ..markdown import check_renders
from ..options import check_known, start_writing
from ..progress import Progress
from ..result_cache import ResultCache, code_version, fingerprint
from ..subjects.registry import SUBJECTS, kept_subject
from ..subjects.subject import Subject
from . import times as timing
from .cells import CLEAN, Cell, cells_of, read_cells, write_cells
from .methods import METHODS, LayerScores, Method, Scores, score_layer
from .page import write_page

__all__ = [
    "N_BACKGROUND",
    "N_QUICK_BACKGROUND",
    "SCORED_BY",
    "SECONDS_MADE",
    "Judged",
    "defaults",
    "each",
    "take_subject",
]

N_BACKGROUND = 1000
_QUICK = {"n_clean": 300, "n_kind": 30}
N_QUICK_BACKGROUND = 200
_WITH_DIGITS = ("autoencoder", "classifier", "mnist")  # take a folder of MNIST
SECONDS_MADE, _SECONDS_SCORED = 300.0, 60.0  # of a subject, on average
# The code that scores depend on.
SCORED_BY = tuple(
    f"{__name__.partition('.')[0]}.{module}"
    for module in (
        "_core", "background", "calibration", "combination", "detectors", "residuals", "scanning",
        "lab.defaults.methods",
    )
)  # fmt: skip

Timed = TypeVar("Timed")


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
        Folder with a folder ``mnist`` of IDX files, whose digits are a kind of anomaly for the two networks for
        Fashion-MNIST, and the clean images of that for MNIST.
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
    check_renders()
    started = time.monotonic()
    out = Path(out)
    folder = Path(out / "kept" if kept is None else kept)
    names = list(dict.fromkeys(subjects))
    stages = Progress(progress=progress, say=say, quick=quick)
    for name in names:
        stages.expect(f"{name}: activations", SECONDS_MADE)
        stages.expect(f"{name}: scores", _SECONDS_SCORED)
    results: dict[str, Any] = {"subjects": {}, "quick": quick, "seed": seed}
    for name in names:  # all of them first: a missing package is known before the scores
        with stages.stage(f"{name}: activations", 1) as done:
            take_subject(folder, name, data, quick, seed)
            done(1)
    start_writing(out, "defaults.md")
    start_writing(out / "defaults", "cells.csv", "results.json", *["times.csv"] * times)
    cells: list[Cell] = []
    for name in names:
        subject = take_subject(folder, name, data, quick, seed)
        found = Judged(subject, N_QUICK_BACKGROUND if quick else N_BACKGROUND)
        with stages.stage(f"{name}: scores", len(subject.layers)) as done:
            layers = found.scores(ResultCache(folder / "scores", code_version(*SCORED_BY)), done)
            cells += cells_of(name, layers, found.sets)
        results["subjects"][name] = found.about
    write_cells(out / "defaults" / "cells.csv", cells)
    if times:
        with stages.stage("times", len(timing.SHAPES) * len(timing.DETECTORS)) as done:
            timing.write_times(out / "defaults" / "times.csv", list(each(timing.measure(), done)))
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


def each(found: Iterable[Timed], done: Callable[[int], object]) -> Iterator[Timed]:
    """Hand on what is found, and count it off."""
    for one in found:
        done(1)
        yield one


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


class Judged:
    """A subject whose clean rows are shared out.

    Parameters
    ----------
    subject : Subject
    n_background : int
        How many clean rows methods are fitted on; the others are judged.

    Attributes
    ----------
    sets : dict of str to slice
        Which of `rows` are "clean", and which are of each kind.
    seconds : float
        What the scores took.

    Raises
    ------
    ValueError
        If no clean row is left to be judged.
    """

    def __init__(self, subject: Subject, n_background: int) -> None:
        self.subject = subject
        self.n_background = n_background
        self.seconds = 0.0  # of the scores
        counts = subject.counts
        counts[CLEAN] -= n_background
        if counts[CLEAN] < 1:
            raise ValueError(
                f"{subject.name} has {n_background + counts[CLEAN]} clean inputs, where {n_background} are the "
                "background: none is left"
            )
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

    def background(self, layer: str) -> np.ndarray:
        """Return the clean rows that methods are fitted on."""
        return self.subject.clean[layer][: self.n_background]

    def rows(self, layer: str) -> np.ndarray:
        """Return the rows that are judged, one of `sets` after another."""
        kinds = (kind[layer] for kind in self.subject.kinds.values())
        return np.concatenate([self.subject.clean[layer][self.n_background :], *kinds])

    def scores_of(self, method: str) -> Scores:
        """Return the scores of a method that needed the inputs themselves: nothing was fitted."""
        found = self.subject.scores[method]
        null, clean = np.split(found[CLEAN], [self.n_background])
        return Scores(null, np.concatenate([clean, *(found[kind] for kind in self.subject.kinds)]))

    def scores(
        self, cache: ResultCache, done: Callable[[int], object], methods: Mapping[str, Method] = METHODS
    ) -> dict[str, LayerScores]:
        """Score every layer by every method, or take what is kept."""
        layers = {}
        for layer in self.subject.layers:
            background, rows = self.background(layer), self.rows(layer)
            make = partial(score_layer, background, rows, methods)
            layers[layer] = self.kept(
                cache, layer, {"methods": list(methods), "rows": fingerprint(background, rows)}, make
            )
            done(1)
        return layers

    def kept(
        self, cache: ResultCache, name: str, made_from: Mapping[str, Any], make: Callable[[], LayerScores]
    ) -> LayerScores:
        """Take scores from where they are kept, or make and keep them; and count the seconds that they took."""

        def timed() -> dict[str, np.ndarray]:
            started = time.monotonic()
            scores = make()
            arrays = {
                f"{what}/{n}": array for n, of in enumerate(scores.values()) for what, array in of._asdict().items()
            }
            names = np.frombuffer("\n".join(scores).encode(), np.uint8)
            return arrays | {"methods": names, "seconds": np.array(time.monotonic() - started)}

        found = cache.get_or_make(f"{self.subject.name}/{name}", made_from, timed)
        self.seconds += float(found["seconds"])
        names = found["methods"].tobytes().decode().splitlines()
        return {name: Scores(found[f"null/{n}"], found[f"own/{n}"]) for n, name in enumerate(names)}
