"""Scanning the arrays and the model of a user: from files to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..detector import SubsetScanDetector
from ..scanner import ModelScanner
from ..spaces import KerasLayers, ReconstructionError, Space
from . import figures
from .evaluation import evaluate, write_json
from .networks import load_model
from .tables import text_table

__all__ = ["load_images", "run"]


def load_images(path: Path | str) -> np.ndarray:
    """Map an array of images from an ``.npy`` file. Nothing in the file is executed.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no complete ``.npy`` file, or holds no array of images.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of images at {path}")
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a complete .npy file of numbers: {error}") from error
    if not isinstance(images, np.ndarray) or images.ndim < 2 or images.dtype.kind not in "biuf":
        received = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else "an archive"
        raise ValueError(f"{path} should hold one array of images, numbers of shape (n, ...), but holds {received}")
    return images


def run(
    *,
    model: Path | str,
    background: Path | str,
    images: Path | str,
    out: Path | str,
    clean: Path | str | None = None,
    layers: str | None = None,
    reconstruction_error: str | None = None,
    detector: SubsetScanDetector,
    batch_size: int = 256,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Fit on a background, scan, and write the scores, the summary and a figure.

    Parameters
    ----------
    model : path-like
        Keras model file.
    background, images, clean : path-like
        ``.npy`` files of clean images that make the background, of images to scan, and of further clean images.
    out : path-like
        Folder for ``scores.csv``, ``summary.json`` and ``scores.png``.
    layers : str, optional
        "all" or comma-separated names; all layers if neither this nor an error is asked for.
    reconstruction_error : {"absolute", "squared", "binary-crossentropy"}, optional
    detector : SubsetScanDetector
        How to scan and to calibrate.
    batch_size, progress
        As in `ModelScanner`.
    say : callable
        Takes the lines of the report.

    Returns
    -------
    dict
        The content of ``summary.json``.
    """
    sets = {} if clean is None else {"clean": load_images(clean)}
    sets["input"] = load_images(images)
    clean_images = load_images(background)
    network = load_model(model)
    spaces: list[Space] = []
    if layers is not None or reconstruction_error is None:
        names = [name.strip() for name in (layers or "all").split(",") if name.strip()]
        spaces.append(KerasLayers(network, "all" if names == ["all"] else names))
    if reconstruction_error is not None:
        spaces.append(ReconstructionError(network, reconstruction_error))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)

    scanner = ModelScanner(spaces, detector, batch_size=batch_size, progress=progress)
    scanner.fit(clean_images)
    evaluation = evaluate(scanner, sets)
    quality = {
        space: evaluation.auroc(space, "input")
        for space in evaluation.n_nodes
        if clean is not None and len(sets["clean"]) and len(sets["input"])
    }
    summary: dict[str, Any] = {
        "model": str(model),
        "n_background": len(clean_images),
        **{f"n_{kind}": len(pictures) for kind, pictures in sets.items()},
        "detector": detector.get_params(),
        "spaces": {
            space: {"n_nodes": n_nodes, **(quality[space].as_dict() if space in quality else {})}
            for space, n_nodes in evaluation.n_nodes.items()
        },
    }
    evaluation.write_scores(out / "scores.csv")
    write_json(out / "summary.json", summary)
    written = ["scores.csv", "summary.json"]
    if all(len(pictures) for pictures in sets.values()):
        try:
            figures.save(figures.distributions(evaluation), out / "scores.png")
            written.append("scores.png")
        except ModuleNotFoundError as error:
            say(f"no figure, because {error.name} is not installed")

    header = ["space", "nodes", "median score", "flagged at 5 %", "AUROC [95 %]"]
    rows = [
        [
            space,
            str(n_nodes),
            f"{np.median(evaluation.scans['input'][space].scores):.1f}" if len(sets["input"]) else "",
            ""
            if evaluation.p_values is None or not len(sets["input"])
            else f"{np.mean(evaluation.p_values['input'][space] <= 0.05):.1%}",
            str(quality.get(space, "")),
        ]
        for space, n_nodes in evaluation.n_nodes.items()
    ]
    say(text_table(header, rows))
    say(f"\nwrote {', '.join(written)} to {out}/")
    return summary
