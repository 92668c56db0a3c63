"""`subsetscan responses`: feature responses, entropy maps and scores of images, from files to files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm.auto import tqdm

from .. import plot
from .._tables import text_table
from ..calibration import conformal_p_values, null_p_values, plan
from ..detectors import LocalSpatialEntropy
from ..detectors.entropy import DEFAULT_READING, NORMALISATIONS, READINGS
from ..input_checks import check_finite
from ..inputs.pictures import PictureFolder
from ..lab.array_files import load_labels, npy_of_rows, open_images
from ..lab.experiment.files import write_json, write_rows
from ..lab.networks import load_model
from ..lab.options import RESULTS, start_writing
from ..lab.preprocessing import with_preprocessing
from ..measures import Auroc, auroc
from ..plot import Response
from ..spaces import FeatureResponse
from ..spaces.responses import METHODS, TARGETS
from . import options
from .console import Console
from .scanned_sets import decision_columns, image_rows

__all__ = ["responses"]

_WRITTEN, _FIGURE = ("maps.npy", "entropy.npy", "scores.csv", "summary.json"), "responses.png"


def responses(
    model: options.NamedModel,
    images: Annotated[Path, typer.Option(help="Images, .npy, or a folder of PNG and JPEG files.")],
    out: options.Out,
    clean: Annotated[
        Path | None,
        typer.Option(
            help="Clean images, in the same kinds of files. They give p-values, and are drawn above the others."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The images' classes, .npy of shape (n,), for --target true-logit.")
    ] = None,
    preprocessing: options.Preprocessing = "none",
    method: Annotated[str, options.one_of(METHODS, "What the backward pass does at a ReLU.")] = "guided",
    target: Annotated[str, options.one_of(TARGETS, "What is propagated back.")] = "activations",
    layer: Annotated[
        str | None, typer.Option(help="Name of the layer. The default is the last convolutional layer.")
    ] = None,
    reading: Annotated[
        str, options.one_of(READINGS, "What the entropy of a patch is computed from: see LocalSpatialEntropy.")
    ] = DEFAULT_READING,
    patch: Annotated[int, typer.Option(min=3, help="Side of a patch in pixels, an odd number.")] = 3,
    levels: Annotated[
        int, typer.Option(min=2, help="Number of grey levels, for the readings histogram and cooccurrence.")
    ] = 16,
    normalise: Annotated[
        str, options.one_of(NORMALISATIONS, "How a map is brought into [0, 1] for those readings.")
    ] = "max",
    false_positive_rate: options.FalsePositiveRate = 0.05,
    shown: Annotated[int, typer.Option(min=1, help="How many images of each set to draw.")] = 6,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images worked on at once. Fewer than 64 take less memory in the network, too.")
    ] = 256,
    unsafe_model: options.UnsafeModel = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Show a network's responses to images, and score their spread.

    Writes maps.npy (feature responses), entropy.npy (local spatial entropy), scores.csv (set, index, score, p_value,
    flagged), summary.json and responses.png. With --clean there are p-values, and the AUROC with a 95 % interval.
    """
    console = Console(json, quiet)
    _check_options(target, labels, clean, shown, batch_size)
    options.start_keras(unsafe_model)
    network = load_model(model, not unsafe_model)
    FeatureResponse(network, "gradient", target, layer)  # what does not fit is told of the user's own layers
    space = FeatureResponse(with_preprocessing(network, preprocessing), method, target, layer)
    (shape,) = space.node_shapes.values()
    detector = LocalSpatialEntropy(shape, patch=patch, reading=reading, levels=levels, normalise=normalise)
    detector.entropy_map(np.zeros((1, *shape)))  # what cannot be computed is refused before the work
    paths = ({} if clean is None else {"clean": clean}) | {"images": images}
    sets = {kind: open_images(path, shape) for kind, path in paths.items()}
    if "clean" in sets:
        _check_calibration(len(sets["clean"]), false_positive_rate)
    n_images = len(sets["images"])
    truth = None if labels is None else load_labels(labels, n_images, space.model.output_shape[1])
    out = start_writing(out, *RESULTS)

    scores = {kind: np.empty(len(pictures)) for kind, pictures in sets.items()}
    examples: dict[str, list[Response]] = {kind: [] for kind in sets}
    with (
        npy_of_rows(out / "maps.npy", np.float32, (n_images, *shape)) as write_maps,
        npy_of_rows(out / "entropy.npy", np.float64, (n_images, *shape[:2])) as write_entropy,
        tqdm(total=sum(map(len, sets.values())), desc="responses", unit="image", disable=not console.progress) as bar,
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
    _write_scores(out / "scores.csv", scores, p_values, false_positive_rate)
    write_json(out / "summary.json", summary)
    written = [*_WRITTEN]
    if any(examples.values()):
        captioned = _captioned(examples, scores, p_values)
        written += console.save_figure(lambda: plot.responses(captioned), out / _FIGURE)
    console.say(_table(scores, p_values, quality, false_positive_rate))
    console.say(f"\nwrote {', '.join(written)} to {out}/")
    return console.end(summary)


def _check_options(target: str, labels: object, clean: object, shown: int, batch_size: int) -> None:
    if target == "true-logit" and labels is None:
        raise ValueError('target "true-logit" needs the labels of the images')
    if target != "true-logit" and labels is not None:
        raise ValueError(f'only target "true-logit" takes labels, got {target!r}')
    if labels is not None and clean is not None:
        raise ValueError('target "true-logit" cannot be used with clean images: they have no labels')
    if shown < 1 or batch_size < 1:
        raise ValueError(f"shown and batch_size must be at least 1, got {shown} and {batch_size}")


def _check_calibration(n_clean: int, rate: float) -> None:
    plan(n_clean, "leave-one-out")  # refuses too few
    if 1 / (n_clean + 1) > rate:
        warnings.warn(
            f"{n_clean} clean images cannot give a p-value of at most {rate}: the smallest is 1 / ({n_clean} + 1) = "
            f"{1 / (n_clean + 1):.3g}; give at least {math.ceil(1 / rate) - 1}",
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
            f'preprocessing "{preprocessing}" expects pixels in [0, 1], but those of {path} range from '
            f'{batch.min():g} to {batch.max():g}: divide them, or use preprocessing "none" if the model expects them '
            "as they are"
        )


def _p_values(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "clean" not in scores:
        return {}
    null_scores = scores["clean"]
    n = len(null_scores)
    among_others = null_p_values(null_scores) * ((n + 1) / n)  # it divides by n + 1, for an image and n more
    return {"clean": among_others, "images": conformal_p_values(scores["images"], null_scores)}


def _write_scores(
    path: Path, scores: Mapping[str, np.ndarray], p_values: Mapping[str, np.ndarray], rate: float
) -> None:
    decisions = {kind: decision_columns(own, rate) for kind, own in p_values.items()}
    rows = (
        row
        for kind, own in scores.items()
        for row in image_rows({"score": own.tolist()} | decisions.get(kind, {}), set=kind)
    )
    write_rows(path, ["set", "index", "score", "p_value", "flagged"], rows)


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


def _table(
    scores: Mapping[str, np.ndarray], p_values: Mapping[str, np.ndarray], quality: Auroc | None, rate: float
) -> str:
    """Lay out what was found; what was not asked for has no column."""
    header = ["set", "images", "median score", *[f"p <= {rate:g}"] * bool(p_values), *["AUROC [95 %]"] * bool(quality)]
    rows = []
    for kind, own in scores.items():
        row = [kind, str(len(own)), f"{np.median(own):.3f}" if len(own) else ""]
        if p_values:
            row.append(f"{np.mean(p_values[kind] <= rate):.1%}" if len(own) else "")
        if quality:
            row.append(str(quality) if kind == "images" else "")
        rows.append(row)
    return text_table(header, rows)
