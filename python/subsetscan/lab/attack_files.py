"""`subsetscan attack`: adversarial images of arrays on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .._files import whole
from .._tables import counted
from .adversaries import Job, attack_all
from .attacks import ATTACKS, check
from .evaluation import write_json
from .kept import Kept
from .options import start_writing
from .scan_files import check_in_unit, load_images, load_labels

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
    safe_mode: bool = True,
    n_processes: int = 2,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Attack the images of a file, and write the successes.

    Parameters are those of `subsetscan.lab.attacks.attack`, from files, how many images are attacked at most, and
    `safe_mode` as for `subsetscan.lab.networks.load_model`.

    Raises
    ------
    ValueError
        As for `subsetscan.lab.attacks.attack`, or if a file does not hold what it should.
    OSError
        If a file cannot be read, or the folder not written.
    """
    check(name, eps, protocol, masked)
    job = Job(name, ATTACKS[name].eps if eps is None else eps, protocol, masked, n_images)
    pictures = np.asarray(load_images(images), dtype=np.float32)
    truth = load_labels(labels, len(pictures))
    check_in_unit(pictures, images)
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(pictures), desc=job.name, unit="image", disable=not progress) as bar:
        made = attack_all(
            model,
            pictures,
            truth,
            [job],
            Kept(out / "kept"),
            n_processes=n_processes,
            safe_mode=safe_mode,
            on_images=bar.update,
        )[job]
    good = made.successful
    arrays = {
        "images": made.images[good],
        "sources": made.sources[good],
        "labels": made.labels[good],
        "predictions": made.predictions[good],
    }
    start_writing(out, *(f"{key}.npy" for key in arrays), "summary.json")
    for key, array in arrays.items():
        with whole(out / f"{key}.npy") as temporary:
            np.save(temporary, array)
    rate = float(good.mean()) if len(good) else float("nan")
    summary = {"attack": name, "eps": job.eps, "protocol": protocol, "masked": masked, "given": made.n_given}
    write_json(
        out / "summary.json", summary | {"tried": len(good), "successful": int(good.sum()), "success_rate": rate}
    )
    share = f" ({rate:.1%})" if len(good) else ""
    say(f"{job.name}: {good.sum()} of {counted(len(good), 'attack')} succeeded{share}")
    say(f"wrote {', '.join(arrays)} to {out}/")
