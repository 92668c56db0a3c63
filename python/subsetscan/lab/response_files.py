"""`subsetscan responses`: feature responses, entropy maps and scores of images, from files to files."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from tqdm.auto import tqdm

from .._files import atomic_write
from .._tables import text_table
from ..calibration import conformal_p_values, null_p_values, plan
from ..detectors import LocalSpatialEntropy
from ..detectors.entropy import DEFAULT_READING
from ..spaces import FeatureResponse
from ..spaces.base import check_finite
from . import figures, response_figures
from .evaluation import Auroc, auroc, write_json
from .networks import load_model
from .options import start_writing
from .pictures import PictureFolder, open_images
from .preprocessing import with_preprocessing
from .response_figures import Response
from .scan_files import load_labels

__all__ = ["responses"]

_RATE = 0.05
_WRITTEN, _FIGURE = ("maps.npy", "entropy.npy", "scores.csv", "summary.json"), "responses.png"


def responses(
    *,
    model: Path | str,
    images: Path | str,
    out: Path | str,
    clean: Path | str | None = None,
    labels: Path | str | None = None,
    method: str = "guided",
    target: str = "activations",
    layer: str | None = None,
    reading: str = DEFAULT_READING,
    patch: int = 3,
    levels: int = 16,
    normalise: str | float = "max",
    preprocessing: str = "none",
    safe_mode: bool = True,
    shown: int = 6,
    batch_size: int = 256,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Compute the feature response of each image, its local spatial entropy and its score, and write them.

    Memory holds one batch of images, whatever their number.

    Parameters
    ----------
    model : path-like
        Keras model file: a classifier, or any other model for the target "activations".
    images, clean : path-like
        ``.npy`` files, or folders of PNG and JPEG files, which are brought to the model's size. Clean images calibrate,
        and are drawn above the others.
    out : path-like
        Folder for ``maps.npy`` (float32, in the images' shape) and ``entropy.npy`` (float64, of shape (N, H, W)), of
        the images but not of the clean ones; ``scores.csv`` (set, index, score, p_value), ``summary.json`` and
        ``responses.png``. Without clean images there are no p-values. That of a clean image is among the other ones.
    labels : path-like, optional
        ``.npy`` file of the images' classes, for the target "true-logit", which takes no clean images.
    method, target, layer
        As for `FeatureResponse`.
    reading, patch, levels, normalise
        As for `LocalSpatialEntropy`.
    preprocessing : {"none", "0-255", "tf", "torch", "caffe"}
        What the model expects of its pixels, made of images in [0, 1]: see `with_preprocessing`. Responses are to
        the images as they were given.
    safe_mode : bool
        Whether to refuse a model file that holds code; see `subsetscan.lab.networks.load_model`.
    shown : int
        How many images of each set are drawn at most: the first ones.
    batch_size : int
        Images worked on at once. If it is below 64, so many pass through the network at once too, which takes less
        memory, and changes responses by rounding. Nothing else depends on it.
    progress : bool
        Whether to show a progress bar on standard error.
    say : callable
        Takes the lines of the report.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read or written, or does not fit, or an option is none of those listed.
    """
    _check_options(target, labels, clean, shown, batch_size)
    network = load_model(model, safe_mode)
    FeatureResponse(network, "gradient", target, layer)  # what does not fit is told of the user's own layers
    space = FeatureResponse(with_preprocessing(network, preprocessing), method, target, layer)
    space.forward_batch = min(space.forward_batch, batch_size)
    (shape,) = space.node_shapes.values()
    detector = LocalSpatialEntropy(shape, patch=patch, reading=reading, levels=levels, normalise=normalise)
    detector.entropy_map(np.zeros((1, *shape)))  # what cannot be computed is refused before the work
    paths = ({} if clean is None else {"clean": clean}) | {"images": images}
    sets = {kind: open_images(path, shape) for kind, path in paths.items()}
    if "clean" in sets:
        _check_calibration(len(sets["clean"]))
    n_images = len(sets["images"])
    truth = None if labels is None else load_labels(labels, n_images, space.model.output_shape[1])
    out = start_writing(out, *_WRITTEN, _FIGURE)

    scores = {kind: np.empty(len(pictures)) for kind, pictures in sets.items()}
    examples: dict[str, list[Response]] = {kind: [] for kind in sets}
    with (
        _npy_of_rows(out / "maps.npy", np.float32, (n_images, *shape)) as write_maps,
        _npy_of_rows(out / "entropy.npy", np.float64, (n_images, *shape[:2])) as write_entropy,
        tqdm(total=sum(map(len, sets.values())), desc="responses", unit="image", disable=not progress) as bar,
    ):
        for kind, start, batch in _batches(sets, batch_size):
            rows = slice(start, start + len(batch))
            _check_pixels(batch, start, paths[kind], preprocessing)
            maps = space.responses(batch, None if truth is None else truth[rows])
            entropy = detector.entropy_map(maps)
            scores[kind][rows] = entropy.reshape(len(entropy), -1).mean(axis=1)
            if kind == "images":
                write_maps(maps)
                write_entropy(entropy)
            for n in range(min(len(batch), shown - start)):
                examples[kind].append(Response(batch[n].copy(), maps[n].copy(), entropy[n].copy(), ""))
            bar.update(len(batch))

    p_values = _p_values(scores)
    quality = auroc(scores["clean"], scores["images"]) if "clean" in scores and n_images else None
    summary: dict[str, Any] = {
        "model": str(model),
        **{kind: str(path) for kind, path in paths.items()},
        **({} if labels is None else {"labels": str(labels)}),
        **{"preprocessing": preprocessing, "method": method, "target": target, "layer": layer},
        **{"reading": reading, "patch": patch, "levels": levels, "normalise": normalise},
        **{f"n_{kind}": len(own) for kind, own in scores.items()},
        "median_score": {kind: float(np.median(own)) if len(own) else None for kind, own in scores.items()},
        **({} if quality is None else quality.as_dict()),
    }
    _write_scores(out / "scores.csv", scores, p_values)
    write_json(out / "summary.json", summary)
    written = [*_WRITTEN]
    try:
        if any(examples.values()):
            figures.save(response_figures.responses(_captioned(examples, scores, p_values)), out / _FIGURE)
            written.append(_FIGURE)
    except ModuleNotFoundError as error:
        say(f"no figure, because {error.name} is not installed")
    say(_table(scores, p_values, quality))
    say(f"\nwrote {', '.join(written)} to {out}/")
    return summary


def _check_options(target: str, labels: object, clean: object, shown: int, batch_size: int) -> None:
    if target == "true-logit" and labels is None:
        raise ValueError('target "true-logit" needs the labels of the images')
    if target != "true-logit" and labels is not None:
        raise ValueError(f'labels are for target "true-logit"; {target!r} takes none')
    if labels is not None and clean is not None:
        raise ValueError('target "true-logit" takes no clean images: the labels are those of the images alone')
    if shown < 1 or batch_size < 1:
        raise ValueError(f"shown and batch_size must be at least 1, got {shown} and {batch_size}")


def _check_calibration(n_clean: int) -> None:
    plan(n_clean, "leave-one-out")  # refuses too few
    if 1 / (n_clean + 1) > _RATE:
        warnings.warn(
            f"{n_clean} clean images cannot give a p-value of at most {_RATE}: the smallest is 1 / ({n_clean} + 1) = "
            f"{1 / (n_clean + 1):.3g}; give at least {math.ceil(1 / _RATE) - 1}",
            stacklevel=3,
        )


def _batches(sets: Mapping[str, np.ndarray | PictureFolder], batch_size: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """Read images of every set, with the number of the first of them."""
    for kind, pictures in sets.items():
        for start in range(0, len(pictures), batch_size):
            yield kind, start, np.asarray(pictures[start : start + batch_size])


def _check_pixels(batch: np.ndarray, start: int, path: Path | str, preprocessing: str) -> None:
    check_finite(batch, start)
    # Attacks that are not clipped leave [0, 1] by a little; pixels up to 255 leave it by far.
    if preprocessing != "none" and not (batch.min() > -1 and batch.max() < 2):
        raise ValueError(
            f'preprocessing "{preprocessing}" is of pixels in [0, 1], but those of {path} go from {batch.min():g} to '
            f'{batch.max():g}: divide them, or take preprocessing "none" if the model expects them as they are'
        )


@contextmanager
def _npy_of_rows(path: Path, dtype: type, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], object]]:
    """Lend what appends rows to an ``.npy`` file, which appears with the last of them or not at all."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        header = {"descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        write_array_header_1_0(file, header)
        yield lambda rows: file.write(np.ascontiguousarray(rows, dtype).data)


def _p_values(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "clean" not in scores:
        return {}
    null_scores = scores["clean"]
    n = len(null_scores)
    among_others = null_p_values(null_scores) * ((n + 1) / n)  # it divides by n + 1, for an image and n more
    return {"clean": among_others, "images": conformal_p_values(scores["images"], null_scores)}


def _write_scores(path: Path, scores: Mapping[str, np.ndarray], p_values: Mapping[str, np.ndarray]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["set", "index", "score", "p_value"])
        for kind, own in scores.items():
            p_of_kind = p_values[kind].tolist() if kind in p_values else [""] * len(own)
            for index, row in enumerate(zip(own.tolist(), p_of_kind, strict=True)):
                writer.writerow([kind, index, *row])


def _captioned(
    examples: Mapping[str, list[Response]], scores: Mapping[str, np.ndarray], p_values: Mapping[str, np.ndarray]
) -> dict[str, list[Response]]:
    """Write score and p-value, where there is one, over each image."""
    captioned: dict[str, list[Response]] = {}
    for kind, own in examples.items():
        captions = [f"{score:.3f} bits" for score in scores[kind]]
        if kind in p_values:
            captions = [f"{text}\np = {p:.2g}" for text, p in zip(captions, p_values[kind], strict=True)]
        captioned[kind] = [one._replace(caption=text) for one, text in zip(own, captions, strict=False)]
    return captioned


def _table(scores: Mapping[str, np.ndarray], p_values: Mapping[str, np.ndarray], quality: Auroc | None) -> str:
    """Lay out what was found; what was not asked for has no column."""
    header = ["set", "images", "median score", *[f"p <= {_RATE}"] * bool(p_values), *["AUROC [95 %]"] * bool(quality)]
    rows = []
    for kind, own in scores.items():
        row = [kind, str(len(own)), f"{np.median(own):.3f}" if len(own) else ""]
        if p_values:
            row.append(f"{np.mean(p_values[kind] <= _RATE):.1%}" if len(own) else "")
        if quality:
            row.append(str(quality) if kind == "images" else "")
        rows.append(row)
    return text_table(header, rows)
