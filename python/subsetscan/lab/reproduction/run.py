"""`subsetscan reproduce`: the paper's tables and figures, and the questions that it did not ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...plot import save
from ..adversaries import Job
from ..experiment.cells import Cell, always, attack_rows, cells, never, write_csv
from ..experiment.files import write_json
from ..experiment.plan import DATASETS, Network
from ..experiment.scoring import Pair
from ..markdown import check_renders
from ..options import check_known, start_writing
from ..preset import PRESET
from ..result_cache import ResultCache
from .attacks import FULL, PAPER_STRENGTH, QUICK
from .drawing import draw, draw_groups
from .page import write_pages
from .pairs import BASELINES, FIRST, PAPER
from .stages import GROUP_SIZE, Experiment, Stages

__all__ = ["PROTOCOLS", "reproduce"]

PROTOCOLS = ("paper", "valid")  # in the order of the page


def reproduce(
    out: Path | str,
    *,
    dataset: Sequence[str] = DATASETS,
    images: Sequence[str] = PROTOCOLS,
    networks: Path | str = "networks",
    kept: Path | str | None = None,
    data: Path | str | None = None,
    poisoned: bool = True,
    quick: bool = False,
    n_processes: int = 2,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Make every table and figure of the paper, and answer the questions that it did not ask.

    Each stage is kept as it finishes, checked when it is used again, and made again where what it came from changed.
    Networks that are nowhere to be found are trained.

    Parameters
    ----------
    out : path-like
        Folder for ``results.md`` and ``results/``: further tables, the figures, and every number as CSV and JSON.
    dataset : sequence of {"fashion-mnist", "mnist"}
    images : sequence of {"paper", "valid"}
        The protocols; see `subsetscan.lab.attacks`.
    networks : path-like
        Folder with trained networks, named as `subsetscan.lab.networks.file_name` does.
    kept : path-like, optional
        Folder for what is kept between runs; ``kept`` in `out` by default.
    data : path-like, optional
        Folder with a folder of IDX files for each dataset; see `subsetscan.lab.datasets.load`.
    poisoned : bool
        Whether to look at the autoencoders trained on poisoned images as well.
    quick : bool
        A small version: few images, one seed, the paper's budgets only.
    n_processes : int
        For attacks.
    progress : bool
    say : callable
        Takes lines of the report.

    Returns
    -------
    dict
        The content of ``results/results.json``.

    Raises
    ------
    ValueError
        If a dataset or a protocol is unknown, or none is given.
    FileNotFoundError
        If a dataset cannot be found.
    """
    check_known(dataset, DATASETS)
    check_known(images, PROTOCOLS)
    if n_processes < 1:
        raise ValueError(f"n_processes must be at least 1, got {n_processes}")
    check_renders(figures=True)
    started = time.monotonic()
    out = Path(out)
    folder = out / "results"
    stages = Stages(
        cache=ResultCache(out / "kept" if kept is None else kept),
        networks_folder=Path(networks),
        data=None if data is None else Path(data),
        size=QUICK if quick else FULL if poisoned else replace(FULL, poisoned=()),
        protocols=tuple(images),
        n_processes=n_processes,
        progress=progress,
        say=say,
    )
    parts = [Experiment(name, stages) for name in dict.fromkeys(dataset)]
    start_writing(out, "results.md")
    own = [f"{name}-{what}.png" for name in DATASETS for what in ("figure-*", "groups")]
    start_writing(folder, "details.md", "cells.csv", "attacks.csv", "results.json", *own)
    found: list[Cell] = []
    attacks: list[dict[str, Any]] = []
    groups: dict[str, Any] = {}
    summaries: list[dict[str, Any]] = []
    pictures: list[str] = []
    for part in parts:
        attacks += attack_rows(part.name, part.attacked_images())
        found += measure(part)
        summaries += part.summaries()
        pictures += draw(part, folder)
        groups[part.name] = grouped(part, folder)
        pictures += [f"{part.name}-groups.png"] * bool(groups[part.name]["spaces"])
    write_csv(folder / "cells.csv", found)
    write_csv(folder / "attacks.csv", attacks)
    results = {
        "datasets": list(dataset),
        "protocols": list(images),
        "quick": quick,
        "poisoned": poisoned and not quick,
        "seconds": {**stages.seconds, "all": time.monotonic() - started},
        "networks": summaries,
        "attacks": attacks,
        "groups": groups,
        "figures": pictures,
    }
    write_json(folder / "results.json", results)
    write_pages(out, results, found)
    say(f"wrote results.md and results/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results


def grouped(part: Experiment, folder: Path) -> dict[str, Any]:
    """Scan groups with more and more attacked images, and draw how their scores rise."""
    protocol = part.stages.protocols[0]
    job = Job("bim", PAPER_STRENGTH["bim"], protocol)
    size = min(GROUP_SIZE, len(part.attacked_images().sources(job)), len(part.attacked_images().clean))
    if size < 10:  # too few to form shares of
        return {"attack": job.name, "size": size, "spaces": {}}
    found = part.proportions(job, size)
    save(draw_groups(found, job.attack, size), folder / f"{part.name}-groups.png")
    rows = {
        space: [
            {"share": one.n_anomalous / size, "median": float(np.median(one.scores)), **one.auroc.as_dict()}
            for one in of_space
        ]
        for space, of_space in found.items()
    }
    return {"attack": job.name, "size": size, "spaces": rows}


def measure(part: Experiment) -> list[Cell]:
    """Measure every pair on every attack of a dataset, the paper's with a 95 % interval."""
    found: list[Cell] = []
    images = part.attacked_images()
    everything = list(images.attacked)
    for variant in part.variants:
        scores = part.scores(variant)
        asked = [job for job in everything if job.name in part.sets_of(variant)]
        scans = [pair for pair in scores.pairs() if pair.statistic]
        means = [pair for pair in scores.pairs() if not pair.statistic]
        in_tables, shown = (_in_tables, always) if variant.seed == 0 else (never, never)
        found += cells(images, asked, variant, scores, scans, interval=in_tables)
        found += cells(images, asked, variant, scores, means, interval=shown)
        if not variant.poisoned:
            found += cells(images, asked, variant, part.preset(variant), [PRESET])
    found += cells(images, everything, Network(part.name), part.baselines(), BASELINES)
    return found


def _in_tables(job: Job, pair: Pair) -> bool:
    """Whether a table shows a scan of an attack's images."""
    of_paper = PAPER_STRENGTH[job.attack] == job.eps and not job.masked
    return (
        (pair.statistic, pair.tail) == PAPER
        or (of_paper and pair.tail == "upper")
        or (pair.space == FIRST and pair.tail == "lower")
    )
