"""Scanning a user's own arrays with a user's own model: from files to files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._tables import counted, text_table
from ..detectors import SubsetScanDetector
from ..explanation import Explanation
from ..scanner import ModelScanner
from ..spaces import KerasLayers, ReconstructionError, Space
from . import figures
from .evaluation import Auroc, Evaluation, evaluate, write_json
from .networks import load_model
from .options import RESULTS, names_in, start_writing

if TYPE_CHECKING:
    import keras

__all__ = ["check_in_unit", "explain", "fit", "load_images", "load_labels", "scan", "score"]

_SPACES = "spaces.json"


def scan(
    *,
    model: Path | str,
    background: Path | str,
    images: Path | str,
    out: Path | str,
    clean: Path | str | None = None,
    layers: str | None = None,
    reconstruction_error: str | None = None,
    detector: SubsetScanDetector,
    combine: str | None = None,
    batch_size: int = 256,
    safe_mode: bool = True,
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
    reconstruction_error : {"absolute", "squared", "binary-crossentropy", "signed"}, optional
    detector : SubsetScanDetector
        How to scan and to calibrate.
    combine : {"min", "fisher", "cauchy"}, optional
        Adds the combined p-values of all spaces, under the name "combined", to the scores.
    batch_size, progress
        As in `ModelScanner`.
    safe_mode : bool
        Whether to refuse a model file that holds code; see `subsetscan.lab.networks.load_model`.
    say : callable
        Takes the lines of the report.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read or written, or does not fit.
    """
    sets = _load_sets(images, clean)
    clean_images = load_images(background)
    spaces = _spaces(load_model(model, safe_mode), layers, reconstruction_error)
    scanner = _fit(spaces, detector, clean_images, out, batch_size, progress)
    return _report(scanner, sets, {"model": str(model), "n_background": len(clean_images)}, combine, Path(out), say)


def fit(
    *,
    model: Path | str,
    background: Path | str,
    out: Path | str,
    layers: str | None = None,
    reconstruction_error: str | None = None,
    detector: SubsetScanDetector,
    batch_size: int = 256,
    safe_mode: bool = True,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Fit on a background and keep the fitted scanner in a folder, for `score`. Parameters as for `scan`."""
    clean_images = load_images(background)
    spaces = _spaces(load_model(model, safe_mode), layers, reconstruction_error)
    scanner = _fit(spaces, detector, clean_images, out, batch_size, progress)
    start_writing(out, _SPACES)
    scanner.save(out)
    write_json(Path(out) / _SPACES, {"layers": layers, "reconstruction_error": reconstruction_error})
    kept, given = counted(len(scanner.names), "detector"), counted(len(clean_images), "image")
    say(f"kept {kept}, fitted on {given}, in {out}/")


def score(
    *,
    model: Path | str,
    fitted: Path | str,
    images: Path | str,
    out: Path | str,
    clean: Path | str | None = None,
    combine: str | None = None,
    batch_size: int = 256,
    safe_mode: bool = True,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Scan with what `fit` kept in the folder `fitted`. Other parameters, and what is written, as for `scan`."""
    sets = _load_sets(images, clean)
    scanner = _load_fitted(model, fitted, safe_mode, batch_size=batch_size, progress=progress)
    Path(out).mkdir(parents=True, exist_ok=True)
    return _report(scanner, sets, {"model": str(model), "fitted": str(fitted)}, combine, Path(out), say)


def explain(
    *,
    model: Path | str,
    fitted: Path | str,
    images: Path | str,
    out: Path | str,
    index: int = 0,
    safe_mode: bool = True,
    say: Callable[[str], object] = print,
) -> Explanation:
    """Explain one image with what `fit` kept in the folder `fitted`.

    Parameters
    ----------
    model, fitted, images, safe_mode, say
        As for `score`.
    out : path-like
        Folder for ``explanation.json`` and ``explanation.png``.
    index : int
        Which of the images.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read or written, or does not fit, or there is no such image.
    """
    pictures = load_images(images)
    if not 0 <= index < len(pictures):
        raise ValueError(f"{images} holds {len(pictures)} images, there is no image {index}")
    scanner = _load_fitted(model, fitted, safe_mode, progress=False)
    explanation = scanner.explain(pictures[index])
    say(str(explanation))
    out = start_writing(out, "explanation.json", "explanation.png")
    write_json(out / "explanation.json", explanation.as_dict())
    written = ["explanation.json"]
    try:
        if (figure := figures.explanation(explanation, pictures[index])) is None:
            say("no figure, because no space has positions in a grid")
        else:
            figures.save(figure, out / "explanation.png")
            written.append("explanation.png")
    except ModuleNotFoundError as error:
        say(f"no figure, because {error.name} is not installed")
    say(f"\nwrote {', '.join(written)} to {out}/")
    return explanation


def load_images(path: Path | str) -> np.ndarray:
    """Map an array of images from an ``.npy`` file. Nothing in the file is executed.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no complete ``.npy`` file, or holds no array of images.
    """
    images = _load_array(path, "images")
    if not isinstance(images, np.ndarray) or images.ndim < 2 or images.dtype.kind not in "biuf":
        received = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else "an archive"
        raise ValueError(f"{path} should hold one array of images, numbers of shape (n, ...), but holds {received}")
    return images


def check_in_unit(images: np.ndarray, path: Path | str) -> None:
    """Refuse the images of a file if a pixel is not in [0, 1]. Raises ValueError."""
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"pixels must be in [0, 1], {path} has {images.min():g} to {images.max():g}")


def load_labels(path: Path | str, n_images: int, n_classes: float = math.inf) -> np.ndarray:
    """Load the labels of images from an ``.npy`` file, int64 of shape (n_images,).

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no complete ``.npy`` file, does not hold a whole number for each image, or one of them is none of the
        classes, which are counted from 0.
    """
    labels = _load_array(path, "labels")
    if not isinstance(labels, np.ndarray) or labels.shape != (n_images,) or labels.dtype.kind not in "iu":
        received = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, np.ndarray) else "an archive"
        raise ValueError(f"{path} must hold {counted(n_images, 'integer')}, got {received}")
    strangers = (labels < 0) | (labels >= n_classes)
    if strangers.any():
        first = int(strangers.argmax())
        raise ValueError(
            f"{path}: label {labels[first]} of image {first} is none of the classes 0 to {n_classes - 1:g}"
        )
    return np.asarray(labels, dtype=np.int64)


def _load_array(path: Path | str, what: str) -> Any:
    """Map what an ``.npy`` file holds, and nothing else."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of {what} at {path}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a complete .npy file of numbers: {error}") from error


def _load_sets(images: Path | str, clean: Path | str | None) -> dict[str, np.ndarray]:
    return ({} if clean is None else {"clean": load_images(clean)}) | {"input": load_images(images)}


def _spaces(network: keras.Model, layers: str | None, reconstruction_error: str | None) -> list[Space]:
    spaces: list[Space] = []
    if layers is not None or reconstruction_error is None:
        names = names_in("all" if layers is None else layers, ["all", *(layer.name for layer in network.layers)])
        spaces.append(KerasLayers(network, "all" if names == ["all"] else names))
    if reconstruction_error is not None:
        spaces.append(ReconstructionError(network, reconstruction_error))
    return spaces


def _load_fitted(model: Path | str, fitted: Path | str, safe_mode: bool, **options: Any) -> ModelScanner:
    """Open what `fit` kept, over the spaces it was fitted on."""
    kept = Path(fitted) / _SPACES
    if not kept.is_file():
        raise FileNotFoundError(f"{fitted} holds nothing that `subsetscan fit` kept: there is no {_SPACES}")
    try:
        asked = json.loads(kept.read_text(encoding="utf-8"))
        layers, reconstruction_error = asked["layers"], asked["reconstruction_error"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{kept} is damaged: {error!r}") from error
    spaces = _spaces(load_model(model, safe_mode), layers, reconstruction_error)
    return ModelScanner.load(fitted, spaces, **options)


def _fit(
    spaces: list[Space],
    detector: SubsetScanDetector,
    clean_images: np.ndarray,
    out: Path | str,
    batch_size: int,
    progress: bool,
) -> ModelScanner:
    """Fit, once it is sure that the results will have a folder."""
    scanner = ModelScanner(spaces, detector, batch_size=batch_size, progress=progress)
    Path(out).mkdir(parents=True, exist_ok=True)
    return scanner.fit(clean_images)


def _report(
    scanner: ModelScanner,
    sets: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    combine: str | None,
    out: Path,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Scan the sets, write what is to be written, and say what was found."""
    evaluation = evaluate(scanner, sets, combine)
    filled = all(len(images) for images in sets.values())
    quality = {
        space: evaluation.auroc(space, "input")
        for space in evaluation.n_nodes
        if filled and "clean" in evaluation.scans
    }
    summary: dict[str, Any] = {
        **about,
        **{f"n_{kind}": len(images) for kind, images in sets.items()},
        "detector": next(iter(scanner.detectors.values())).get_params(),
        "spaces": {
            space: {"n_nodes": n_nodes, **(quality[space].as_dict() if space in quality else {})}
            for space, n_nodes in evaluation.n_nodes.items()
        },
    }
    start_writing(out, *RESULTS)
    evaluation.write_scores(out / "scores.csv")
    write_json(out / "summary.json", summary)
    written = ["scores.csv", "summary.json"]
    if filled:
        try:
            figures.save(figures.distributions(evaluation), out / "scores.png")
            written.append("scores.png")
        except ModuleNotFoundError as error:
            say(f"no figure, because {error.name} is not installed")

    say(_table(evaluation, quality))
    say(f"\nwrote {', '.join(written)} to {out}/")
    return summary


def _table(evaluation: Evaluation, quality: Mapping[str, Auroc]) -> str:
    """Lay out what was found; what was not asked for has no column."""
    scans, p_values = evaluation.scans["input"], None if evaluation.p_values is None else evaluation.p_values["input"]
    columns: dict[str, Callable[[str], str]] = {
        "space": str,
        "nodes": lambda space: str(evaluation.n_nodes.get(space, "")),
        "median score": lambda space: f"{np.median(scans[space].scores):.1f}" if len(scans.get(space, ())) else "",
    }
    if p_values is not None:
        columns["p <= 0.05"] = lambda space: f"{np.mean(p_values[space] <= 0.05):.1%}" if len(p_values[space]) else ""
    if quality:
        columns["AUROC [95 %]"] = lambda space: str(quality.get(space, ""))
    names = [*evaluation.n_nodes, *(name for name in p_values or () if name not in evaluation.n_nodes)]
    return text_table(list(columns), [[write(name) for write in columns.values()] for name in names])
