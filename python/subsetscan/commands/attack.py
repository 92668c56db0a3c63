"""`subsetscan attack`: adversarial images of arrays and pictures on disk."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm.auto import tqdm

from .._tables import counted
from ..inputs.pictures import PictureFolder, is_pictures
from ..lab.adversaries import Adversaries, Job, attack_all
from ..lab.array_files import load_array, load_images, npy_of_rows
from ..lab.attack_inputs import unit_images
from ..lab.attacks import ATTACKS, PROTOCOLS, check
from ..lab.experiment.files import write_json
from ..lab.networks import load_model
from ..lab.options import start_writing
from ..lab.result_cache import ResultCache
from . import options
from .console import Console

__all__ = ["attack"]


def attack(
    model: Annotated[Path, typer.Option(help="Keras model file: from images to probabilities or logits.")],
    input: Annotated[  # noqa: A002 (the option's name)
        Path, typer.Option(help="Images in [0, 1], .npy of shape (n, H, W, C), or a folder of PNG and JPEG files.")
    ],
    labels: Annotated[Path, typer.Option(help="Their true labels, counted from 0, .npy of shape (n,).")],
    out: options.Out,
    attack: Annotated[
        str, options.one_of(ATTACKS, "Which attack. boundary and one-pixel take seconds for each image.")
    ] = "fgsm",
    eps: Annotated[
        float | None,
        typer.Option(
            help="Strength of the attack. fgsm, bim: how far a pixel may move (0.01 by default). gradient: the longest "
            "step (3). deepfool: overshoot (1e-6). boundary: the first step, as a share of the distance (0.01). "
            "one-pixel: how many pixels (1)."
        ),
    ] = None,
    n_images: Annotated[
        int | None, typer.Option(min=1, help="How many images to attack at most. The default is all.")
    ] = None,
    protocol: Annotated[
        str,
        options.one_of(
            PROTOCOLS, "valid: clipped to [0, 1], only images that are classified correctly; paper: neither."
        ),
    ] = "valid",
    masked: Annotated[bool, typer.Option(help="Do not change pixels that are zero.")] = False,
    unsafe_model: options.UnsafeModel = False,
    from_logits: Annotated[
        bool | None,
        typer.Option(
            "--from-logits/--from-probabilities",
            help="What the model's outputs are. By default this is found out, and printed.",
        ),
    ] = None,
    processes: options.Processes = 2,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Attack a classifier's images, and keep the successes.

    Writes images.npy, sources.npy (the row of each source image), labels.npy, predictions.npy and summary.json. Chunks
    are kept as they finish: the same command continues where it was stopped.
    """
    console = Console(json, quiet)
    check(attack, eps, protocol, masked)
    options.start_keras(unsafe_model)
    job = Job(attack, ATTACKS[attack].eps if eps is None else eps, protocol, masked, n_images)
    if is_pictures(input):
        images = PictureFolder(input, load_model(model, not unsafe_model).inputs[0].shape[1:])[:]
    else:
        images = load_images(input)
    images = unit_images(images, images.shape[1:], str(input))
    truth = load_array(labels, "labels")
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(images), desc=job.name, unit="image", disable=not console.progress) as bar:
        made = attack_all(
            model,
            images,
            truth,
            [job],
            ResultCache(out / "kept"),
            n_processes=processes,
            from_logits=from_logits,
            safe_mode=not unsafe_model,
            on_images=bar.update,
        )[job]
    console.say(str(made.outputs))
    _check_tried(made, input, labels)
    _write_successes(made, out)
    n_successful = int(made.successful.sum())
    rate = n_successful / len(made.sources) if len(made.sources) else float("nan")
    summary = {"attack": attack, "eps": job.eps, "protocol": protocol, "masked": masked, "given": made.n_given}
    summary |= {"tried": len(made.sources), "successful": n_successful, "success_rate": rate}
    summary |= {"outputs": asdict(made.outputs)}
    write_json(out / "summary.json", summary)
    _warn_of_none(made, job, images)
    share = f" ({rate:.1%})" if len(made.sources) else ""
    console.say(f"{job.name}: {n_successful} of {counted(len(made.sources), 'attack')} succeeded{share}")
    console.say(f"wrote images, sources, labels, predictions to {out}/")
    return console.end(summary)


def _write_successes(made: Adversaries, out: Path) -> None:
    good = made.successful
    arrays = {
        "images": made.images[good],
        "sources": made.sources[good],
        "labels": made.labels[good],
        "predictions": made.predictions[good],
    }
    start_writing(out, *(f"{key}.npy" for key in arrays), "summary.json")
    for key, array in arrays.items():
        with npy_of_rows(out / f"{key}.npy", array.dtype, array.shape) as add:
            add(array)


def _check_tried(made: Adversaries, images: Path, labels: Path) -> None:
    """Refuse where nothing could be tried. Raises ValueError."""
    if made.n_given and not len(made.sources):
        raise ValueError(
            f"the model classifies none of the {made.n_given} images in {images} as {labels} says, so that there is "
            "nothing to attack: do the labels belong to these images, in this order and counted from 0, and does the "
            f"model expect pixels in [0, 1]? ({made.outputs})"
        )


def _warn_of_none(made: Adversaries, job: Job, images: np.ndarray) -> None:
    """Warn where attacks were tried and none succeeded, with what may be the reason."""
    if not len(made.sources) or made.successful.any():
        return
    if np.array_equal(made.images, images[made.sources]):
        reason = (
            "they left every image as it was, as where the classifier is so sure that its gradient is zero, or where "
            "no step is long enough to change what it sees"
        )
    else:
        reason = f"eps {job.eps:g} may be too small, or the outputs may be something else: {made.outputs}"
    warnings.warn(f"{job.name}: none of {len(made.sources)} attacks succeeded: {reason}", UserWarning, stacklevel=3)
