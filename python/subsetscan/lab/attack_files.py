"""`subsetscan attack`: adversarial images of arrays on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .._files import atomic_write
from .._tables import counted
from .adversaries import Adversaries, Job, attack_all
from .attack_inputs import unit_images
from .attacks import ATTACKS, check
from .evaluation import write_json
from .kept import Kept
from .options import start_writing
from .scan_files import _load_array, load_images

__all__ = ["attack"]


def attack(
    *,
    model: Path,
    images: Path,
    labels: Path,
    name: str,
    eps: float | None,
    protocol: str,
    masked: bool,
    n_images: int | None = None,
    out: Path,
    from_logits: bool | None = None,
    safe_mode: bool = True,
    n_processes: int = 2,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Attack the images of a file, and write the successes.

    Parameters are those of `subsetscan.lab.attacks.attack`, from files, how many images are attacked at most, and
    `safe_mode` as for `subsetscan.lab.networks.load_model`. It warns where no attack succeeds.

    Raises
    ------
    TypeError, ValueError
        As for `subsetscan.lab.attacks.attack`, or if a file does not hold what it should, or the classifier gets every
        image wrong, so that under protocol ``valid`` there is nothing to attack.
    OSError
        If a file cannot be read, or the folder not written.
    """
    check(name, eps, protocol, masked)
    job = Job(name, ATTACKS[name].eps if eps is None else eps, protocol, masked, n_images)
    pictures = load_images(images)
    pictures = unit_images(pictures, pictures.shape[1:], str(images))
    truth = _load_array(labels, "labels")
    if not isinstance(truth, np.ndarray):
        raise ValueError(f"{labels} must hold one array of labels, got an archive")
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(pictures), desc=job.name, unit="image", disable=not progress) as bar:
        made = attack_all(
            model,
            pictures,
            truth,
            [job],
            Kept(out / "kept"),
            n_processes=n_processes,
            from_logits=from_logits,
            safe_mode=safe_mode,
            on_images=bar.update,
        )[job]
    say(str(made.outputs))
    _check_tried(made, images, labels)
    good = made.successful
    arrays = {
        "images": made.images[good],
        "sources": made.sources[good],
        "labels": made.labels[good],
        "predictions": made.predictions[good],
    }
    start_writing(out, *(f"{key}.npy" for key in arrays), "summary.json")
    for key, array in arrays.items():
        with atomic_write(out / f"{key}.npy") as temporary:
            np.save(temporary, array)
    rate = float(good.mean()) if len(good) else float("nan")
    summary = {"attack": name, "eps": job.eps, "protocol": protocol, "masked": masked, "given": made.n_given}
    summary |= {"tried": len(good), "successful": int(good.sum()), "success_rate": rate}
    write_json(out / "summary.json", summary | {"outputs": asdict(made.outputs)})
    _warn_of_none(made, job, pictures)
    share = f" ({rate:.1%})" if len(good) else ""
    say(f"{job.name}: {good.sum()} of {counted(len(good), 'attack')} succeeded{share}")
    say(f"wrote {', '.join(arrays)} to {out}/")


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
