"""`subsetscan experiment adaptive`: attackers who know the detector, on Fashion-MNIST."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..._extras import import_extra
from ..datasets import load_from
from ..experiment.files import write_json
from ..markdown import check_renders
from ..networks import load_pretrained, start_keras
from ..options import start_writing
from ..progress import Progress
from ..result_cache import ResultCache, code_version
from .cells import Cell, cell_of, read_cells, write_cells
from .drawing import draw
from .page import write_page
from .trials import ATTACKERS, DETECTORS, RATE, Setting, Trials

__all__ = ["adaptive"]

_QUICK = Setting(n_background=300, n_own=200, n_clean=200, n_attacked=20, eps=(0.02, 0.05), weights=(0.5,), steps=30)
_SECONDS = {"paper": 60.0, "preset": 90.0, "automatic": 300.0}  # attacks on each detector
# The code that results depend on.
_MADE_BY = (
    "_core", "background", "calibration", "combination", "detectors", "networks", "residuals", "scanner", "scanning",
    "spaces", "lab.adaptive.attackers", "lab.adaptive.surrogates", "lab.adaptive.trials", "lab.adaptive.views",
    "lab.preset",
)  # fmt: skip


def adaptive(
    out: Path | str,
    *,
    kept: Path | str | None = None,
    data: Path | str | None = None,
    quick: bool = False,
    seed: int = 0,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Attack three detectors and the classifier that they guard, by attackers who know more and more.

    Attacks are kept as they are made, and made again where what they came from changed.

    Parameters
    ----------
    out : path-like
        Folder for ``adaptive.md`` and ``adaptive/``: every number as CSV and JSON, and a figure.
    kept : path-like, optional
        Folder for what is kept between runs; ``kept`` in `out` by default.
    data : path-like, optional
        Folder with a folder ``fashion-mnist`` of IDX files.
    quick : bool
        A small version: few images.
    seed : int
        Draws images.
    progress : bool
    say : callable
        Takes lines of the report.

    Returns
    -------
    dict
        The content of ``adaptive/results.json``.

    Raises
    ------
    ModuleNotFoundError
        If Keras, its backend or Matplotlib is missing.
    ValueError
        If Keras runs on another backend than TensorFlow.
    FileNotFoundError
        If Fashion-MNIST is nowhere; the message says what to install.
    OSError
        If a file cannot be read or written.
    """
    started, out = time.monotonic(), Path(out)
    check_renders(figures=True)
    start_keras()
    if (backend := import_extra("keras", "all").backend.backend()) != "tensorflow":
        raise ValueError(f"gradients are TensorFlow's, but Keras runs on {backend}: set KERAS_BACKEND=tensorflow")
    try:
        images, labels = load_from(data, "fashion-mnist")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; on Debian install the package dataset-fashion-mnist") from error
    start_writing(out, "adaptive.md")
    start_writing(out / "adaptive", "cells.csv", "results.json", "success.png")
    setting, package = _QUICK if quick else Setting(), __name__.partition(".")[0]
    cache = ResultCache(
        Path(out / "kept" if kept is None else kept) / "adaptive",
        code_version(*(f"{package}.{module}" for module in _MADE_BY)),
    )
    trials = Trials(images, labels, load_pretrained("classifier"), load_pretrained("autoencoder"), setting, seed, cache)
    stages = Progress(progress=progress, say=say, quick=quick)
    for detector in DETECTORS:
        stages.expect(detector, _SECONDS[detector])
    results: dict[str, Any] = {"setting": asdict(setting), "quick": quick, "seed": seed, "detectors": {}}
    cells: list[Cell] = []
    for detector, (_, about) in DETECTORS.items():
        with stages.stage(detector, len(setting.eps) * setting.n_attacked) as done:
            unattacked = trials.unattacked(detector)
            for eps in setting.eps:
                found = trials.attacked(detector, eps)
                cells += [
                    cell_of(detector, attacker, eps, misclassified.astype(bool), p_values)
                    for attacker, misclassified, p_values in zip(
                        ATTACKERS, found["misclassified"], found["p_values"], strict=True
                    )
                ]
                done(setting.n_attacked)
        results["detectors"][detector] = {
            "about": about,
            "flagged": {what: float(np.mean(p_values <= RATE)) for what, p_values in unattacked.items()},
        }
    write_cells(out / "adaptive" / "cells.csv", cells)
    results["seconds"] = {**stages.seconds, "all": time.monotonic() - started}
    write_json(out / "adaptive" / "results.json", results)
    cells = read_cells(out / "adaptive" / "cells.csv")
    draw(out / "adaptive" / "success.png", cells)
    write_page(out / "adaptive.md", results, cells)
    say(f"wrote adaptive.md and adaptive/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results
