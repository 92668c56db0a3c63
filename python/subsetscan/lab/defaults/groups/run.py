"""`subsetscan experiment groups`: the automatic scan of groups beside others, on one layer or two of each network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...experiment.files import write_json
from ...markdown import check_renders
from ...options import check_known, start_writing
from ...progress import Progress
from ...result_cache import ResultCache, code_version, fingerprint
from ...subjects.registry import SUBJECTS
from ..run import SECONDS_MADE, take_subject
from .cells import Cell, cells_of, read_cells, story_of, write_cells
from .methods import CLEAN, LAYERS, METHODS, Group, GroupScores, Setting, draw_groups, score_groups
from .page import write_page

__all__ = ["ATTACKS", "LOOKED_AT", "groups"]

LOOKED_AT = {("magika", "max pool"), ("encoder", "layer 6"), ("classifier", "dense_1")}  # for the largest alphas
ATTACKS: Mapping[str, tuple[str, ...]] = {"magika": ("attack, just enough", "attack, confident")}  # the story's
_QUICK = Setting(
    size=20,
    ks=(2, 4),
    n_fit=200,
    n_clean=6,
    n_kind=3,
    n_attacked=4,
    n_null=39,
    n_folds=3,
    restarts=2,
    n_splits=2,
    most_kinds=3,
)
_SECONDS_SCORED = 40.0  # of a layer
# The code that scores depend on.
_SCORED_BY = (
    "_core", "background", "calibration", "combination", "detectors", "groups", "groups_automatic", "residuals",
    "scanning", "lab.defaults.groups.methods",
)  # fmt: skip


def groups(
    out: Path | str,
    *,
    subjects: Sequence[str] = tuple(LAYERS),
    kept: Path | str | None = None,
    data: Path | str | None = None,
    quick: bool = False,
    times: bool = False,
    seed: int = 0,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Judge the automatic scan of groups beside others on networks that others made.

    Activations are those of `defaults`; they and the scores are kept as they are made.

    Parameters
    ----------
    out : path-like
        Folder for ``campaigns.md`` and ``campaigns/``: every number as CSV and JSON.
    subjects : sequence of str
        Some of `SUBJECTS`; those that have no layer in `LAYERS` are passed over.
    kept, data, quick, seed, progress, say
        As for `defaults`.
    times : bool
        Must be False: no times are measured.

    Returns
    -------
    dict
        The content of ``campaigns/results.json``.

    Raises
    ------
    ValueError
        If a subject is unknown, none with a layer is given, or times are asked for.
    ModuleNotFoundError, FileNotFoundError, OSError
        As for `defaults`.
    """
    check_known(subjects, SUBJECTS)
    names = [name for name in dict.fromkeys(subjects) if name in LAYERS]
    check_known(names, LAYERS)
    if times:
        raise ValueError("no times are measured of groups: leave out --times")
    check_renders()
    started = time.monotonic()
    out, setting = Path(out), _QUICK if quick else Setting()
    folder = Path(out / "kept" if kept is None else kept)
    stages = Progress(progress=progress, say=say, quick=quick)
    for name in names:
        stages.expect(f"{name}: activations", SECONDS_MADE)
        stages.expect(f"{name}: groups", _SECONDS_SCORED * len(LAYERS[name]))
    package = __name__.partition(".")[0]
    cache = ResultCache(folder / "groups", code_version(*(f"{package}.{module}" for module in _SCORED_BY)))
    results: dict[str, Any] = {"subjects": {}, "setting": vars(setting), "stories": [], "quick": quick, "seed": seed}
    cells: list[Cell] = []
    for name in names:  # all of them first: a missing package is known before earlier results go
        with stages.stage(f"{name}: activations", 1) as done:
            take_subject(folder, name, data, quick, seed)
            done(1)
    start_writing(out, "campaigns.md")
    start_writing(out / "campaigns", "cells.csv", "results.json")
    for name in names:
        subject = take_subject(folder, name, data, quick, seed)
        attacks = tuple(kind for kind in ATTACKS.get(name, ()) if kind in subject.kinds)
        chosen = every_nth(list(subject.kinds), setting.most_kinds)
        seconds = 0.0
        with stages.stage(f"{name}: groups", len(LAYERS[name]) * setting.n_splits) as done:
            for layer in LAYERS[name]:
                kinds = {kind: subject.kinds[kind][layer] for kind in dict.fromkeys((*chosen, *attacks))}
                for split in range(setting.n_splits):
                    drawn, scores, taken = _scores(
                        cache, f"{name}/{layer}/{split}", subject.clean[layer], kinds, attacks, setting, seed, split
                    )
                    seconds += taken
                    cells += cells_of(name, layer, split, drawn, scores)
                    if split == 0:
                        stories = [story_of(kind, setting.ks[0], drawn, scores) for kind in attacks]
                        results["stories"] += [{"network": name, "layer": layer, **story} for story in stories]
                    done(1)
        results["subjects"][name] = {
            "source": subject.source,
            "layers": {
                layer: {
                    "about": subject.layers[layer],
                    "n_nodes": subject.clean[layer].shape[1],
                    "looked_at": (name, layer) in LOOKED_AT,
                }
                for layer in LAYERS[name]
            },
            "clean": subject.inputs[CLEAN],
            "n_test": len(subject.clean[LAYERS[name][0]]) - setting.n_fit,
            "kinds": {kind: subject.inputs[kind] for kind in chosen},
            "attacks": {kind: subject.inputs[kind] for kind in attacks},
            "seconds": seconds,
        }
    write_cells(out / "campaigns" / "cells.csv", cells)
    write_json(out / "campaigns" / "results.json", results)
    write_page(out / "campaigns.md", results, read_cells(out / "campaigns" / "cells.csv"))
    say(f"wrote campaigns.md and campaigns/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results


def every_nth(kinds: list[str], most: int) -> list[str]:
    """Choose at most so many kinds: every n-th in alphabetical order."""
    return sorted(kinds)[:: -(-len(kinds) // most)]


def _scores(
    cache: ResultCache,
    place: str,
    clean: np.ndarray,
    kinds: Mapping[str, np.ndarray],
    attacks: tuple[str, ...],
    setting: Setting,
    seed: int,
    split: int,
) -> tuple[list[Group], GroupScores, float]:
    """Draw the groups of a split, and take their scores from where they are kept, or make them."""
    order = np.random.default_rng([seed, split]).permutation(len(clean))
    fit, test = clean[order[: setting.n_fit]], clean[order[setting.n_fit :]]
    if len(test) < setting.size:
        raise ValueError(f"{place}: {len(test)} clean inputs are left for groups of {setting.size}")
    drawn = draw_groups(setting, len(test), {kind: len(rows) for kind, rows in kinds.items()}, attacks, seed, split)
    rows = np.concatenate([test, *kinds.values()])
    ends = np.cumsum([len(test), *map(len, kinds.values())]).tolist()
    starts = dict(zip(kinds, ends, strict=False))
    places = np.array([group.rows(starts) for group in drawn])

    def timed() -> dict[str, np.ndarray]:
        started = time.monotonic()
        scores = score_groups(fit, rows, places, setting, seed)
        return scores._asdict() | {"seconds": np.array(time.monotonic() - started)}

    made_from = {
        "methods": list(METHODS),
        "setting": {**vars(setting), "ks": list(setting.ks)},
        "seed": seed,
        "rows": fingerprint(fit, rows, places),
    }
    found = cache.get_or_make(place, made_from, timed)
    return drawn, GroupScores(**{name: found[name] for name in GroupScores._fields}), float(found["seconds"])
