"""`subsetscan experiment peers`: the detectors beside those that people take instead, on all layers of all subjects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...detectors import CalibratedDetector
from ...measures import Auroc, auroc, mean_auroc
from ..defaults import times as timing
from ..defaults.cells import CLEAN, Cell, cell_of, read_cells, write_cells
from ..defaults.methods import LayerScores
from ..defaults.run import N_BACKGROUND, N_QUICK_BACKGROUND, SCORED_BY, SECONDS_MADE, Judged, each, take_subject
from ..experiment.files import write_json
from ..markdown import check_renders
from ..options import check_known, start_writing
from ..progress import Progress
from ..result_cache import ResultCache, code_version, fingerprint
from ..subjects.found import version_of
from ..subjects.registry import SUBJECTS
from .kinds import PAIRS, group_of
from .location import locate, located
from .means import NETWORK
from .methods import LAYER_METHODS, NETWORK_METHODS, over_network
from .page import write_page

__all__ = ["LOCATED", "SHAPES", "peers"]

LOCATED = "magika"  # the network in whose files is looked for changes
SHAPES = ((64, 1000), (512, 1000), (1536, 1000))  # nodes, rows of the background, whose times are measured
_RESAMPLES = 300
_N_FILES, _N_QUICK_FILES = (400, 60), (40, 6)  # clean, attacked
_SECONDS_SCORED, _SECONDS_MEASURED, _SECONDS_LOCATED = 60.0, 15.0, 120.0
_PACKAGE = __name__.partition(".")[0]
_SCORED_BY = (*SCORED_BY, *(f"{_PACKAGE}.lab.{module}" for module in ("comparators", "peers.methods")))
_LOCATED_BY = (
    *SCORED_BY,
    *(f"{_PACKAGE}.{module}" for module in ("group_scan", "sequence_scan", "lab.subjects", "lab.peers.location")),
)


def peers(
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
    """Judge the package's detectors beside those that people take, on the activations of `defaults`.

    Activations and scores are kept as they are made, and made again where what they came from changed.

    Parameters
    ----------
    out : path-like
        Folder for ``peers.md`` and ``peers/``: every number as CSV and JSON.
    subjects, kept, data, quick, times, seed, progress, say
        As for `defaults`.

    Returns
    -------
    dict
        The content of ``peers/results.json``.

    Raises
    ------
    ValueError
        If a subject is unknown, none is given, or one has a kind of inputs that is in no group.
    ModuleNotFoundError, FileNotFoundError, OSError
        As for `defaults`.
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
        stages.expect(f"{name}: intervals", _SECONDS_MEASURED)
    cache = ResultCache(folder / "peers", code_version(*_SCORED_BY))
    results: dict[str, Any] = {"subjects": {}, "quick": quick, "seed": seed}
    cells: list[Cell] = []
    groups: dict[str, dict[str, str]] = {}
    for name in names:  # all of them first: a missing package is known before the scores
        with stages.stage(f"{name}: activations", 1) as done:
            subject = take_subject(folder, name, data, quick, seed)
            groups[name] = {kind: group_of(name, kind) for kind in subject.kinds}
            done(1)
    start_writing(out, "peers.md")
    start_writing(out / "peers", "cells.csv", "results.json", *["times.csv"] * times)
    for name in names:
        judged = Judged(take_subject(folder, name, data, quick, seed), N_QUICK_BACKGROUND if quick else N_BACKGROUND)
        with stages.stage(f"{name}: scores", len(judged.subject.layers) + 1) as done:
            layers = judged.scores(cache, done, LAYER_METHODS)
            network = _over_network(judged, layers, cache)
            done(1)
        for layer, scores in layers.items():
            cells += [cell_of(name, layer, kind, scores, judged.sets) for kind in judged.sets]
        with stages.stage(f"{name}: intervals", len(judged.sets)) as done:
            for kind in judged.sets:
                cells.append(_with_intervals(cell_of(name, NETWORK, kind, network, judged.sets), network, judged.sets))
                done(1)
            means = {method: _mean(own.own, judged.sets).as_dict() for method, own in network.items()}
        results["subjects"][name] = judged.about | {
            "groups": groups[name],
            "means": means,
            "against_noise": _against_noise(name, network, judged.sets),
        }
    if LOCATED in names:
        with stages.stage("location", 1) as done:
            results["location"] = _location(folder, quick, seed)
            done(1)
    write_cells(out / "peers" / "cells.csv", cells)
    measured = out / "peers" / "times.csv"
    if times:
        with stages.stage("times", len(SHAPES) * len(LAYER_METHODS)) as done:
            timing.write_times(measured, list(each(timing.measure(SHAPES, detectors=_steps()), done)))
    results["seconds"] = {**stages.seconds, "all": time.monotonic() - started}
    write_json(out / "peers" / "results.json", results)
    write_page(
        out / "peers.md",
        results,
        read_cells(out / "peers" / "cells.csv"),
        timing.read_times(measured) if measured.is_file() else [],
    )
    say(f"wrote peers.md and peers/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results


def _over_network(judged: Judged, layers: Mapping[str, LayerScores], cache: ResultCache) -> LayerScores:
    """Score over all layers, or take what is kept."""
    backgrounds = {layer: judged.background(layer) for layer in layers}
    rows = {layer: judged.rows(layer) for layer in layers}
    made_from = {
        "methods": [*LAYER_METHODS, *NETWORK_METHODS],
        "rows": fingerprint(*backgrounds.values(), *rows.values()),
    }
    scores = judged.kept(
        cache, "all layers", made_from, lambda: over_network(layers, backgrounds, rows, judged.subject.head)
    )
    return scores | {method: judged.scores_of(method) for method in judged.subject.scores}


def _with_intervals(cell: Cell, scores: LayerScores, sets: Mapping[str, slice]) -> Cell:
    if cell.kind == CLEAN:
        return cell
    found = {
        method: auroc(own[sets[CLEAN]], own[sets[cell.kind]], n_resamples=_RESAMPLES)
        for method, (_, own) in scores.items()
    }
    low, high = ({method: getattr(one, end) for method, one in found.items()} for end in ("low", "high"))
    return replace(cell, low=low, high=high)


def _mean(own: np.ndarray, sets: Mapping[str, slice]) -> Auroc:
    kinds = [own[rows] for kind, rows in sets.items() if kind != CLEAN]
    return mean_auroc(own[sets[CLEAN]], kinds, n_resamples=_RESAMPLES)


def _against_noise(name: str, scores: LayerScores, sets: Mapping[str, slice]) -> dict[str, dict[str, dict[str, float]]]:
    """Tell how often an attacked input scores higher than one with as much random change."""
    return {
        attack: {
            method: auroc(own[sets[noise]], own[sets[attack]], n_resamples=_RESAMPLES).as_dict()
            for method, (_, own) in scores.items()
        }
        for attack, noise in PAIRS.get(name, {}).items()
        if attack in sets and noise in sets
    }


def _location(folder: Path, quick: bool, seed: int) -> dict[str, Any]:
    """Locate changes in files, or take what is kept."""
    n_clean, n_attacked = _N_QUICK_FILES if quick else _N_FILES
    cache = ResultCache(folder / "peers", code_version(*_LOCATED_BY))
    made_from = {"n_clean": n_clean, "n_attacked": n_attacked, "seed": seed, "magika": version_of("magika")}
    found = cache.get_or_make("location", made_from, lambda: locate(n_clean, n_attacked, seed))
    changed = found["changed"]
    return {
        "n_clean": n_clean,
        "n_attacked": len(changed),
        "n_changed": float(np.median(changed.sum(axis=1))),
        "measured": located(found),
    }


def _steps() -> dict[str, Callable[[], timing.Steps]]:
    def steps(make: Callable[[], CalibratedDetector]) -> timing.Steps:
        detector = make()
        return detector.fit, detector.anomaly_score

    return {
        name: lambda make=method.make: steps(make)  # type: ignore[misc]
        for name, method in LAYER_METHODS.items()
        if method.make is not None
    }
