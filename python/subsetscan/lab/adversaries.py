"""Many attacks on many images: in chunks that are kept as they finish, on several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from .attacks import ATTACKS, Attacker, check, predicted
from .kept import Arrays, Kept, code_version, fingerprint, fingerprint_of_model
from .networks import allow_code_of_models, load_model, start_keras

__all__ = ["ATTACK_CODE", "Adversaries", "Job", "attack_all"]

# What makes an attacked image: only that, because the slow attacks take hours.
ATTACK_CODE = ("subsetscan.lab.attacks", "subsetscan.lab.adversaries", "subsetscan.spaces.keras")
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class Job:
    """An attack with its strength, see `subsetscan.lab.attacks.attack`, and how many images it is tried on: or all."""

    attack: str
    eps: float
    protocol: str = "valid"
    masked: bool = False
    n_images: int | None = None

    @property
    def name(self) -> str:
        """A name that no other job has, such as ``valid-masked-bim-0.03``."""
        return f"{self.protocol}-{'masked-' * self.masked}{self.attack}-{self.eps:g}"


@dataclass(frozen=True, eq=False)
class Adversaries:
    """What an attack made of images.

    Attributes
    ----------
    n_given : int
        How many images there were; under protocol ``valid`` those are attacked that the classifier gets right.
    sources : ndarray of shape (n,), int64
        The rows of the images that were attacked.
    images : ndarray of shape (n, H, W, C), float32
        What became of each, successful or not.
    labels, predictions : ndarray of shape (n,), int64
        The true label, and what the classifier sees after the attack.
    first_predictions : ndarray of shape (n_given,), int64
        What it saw in all images before the attack.
    """

    n_given: int
    sources: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    first_predictions: np.ndarray

    @property
    def successful(self) -> np.ndarray:
        """Which attacks succeeded, bool of shape (n,): the prediction is not the true label."""
        return self.predictions != self.labels


def attack_all(
    classifier: Path | str,
    images: np.ndarray,
    labels: np.ndarray,
    jobs: Sequence[Job],
    kept: Kept,
    *,
    n_processes: int = 2,
    safe_mode: bool = True,
    on_images: Callable[[int], object] = lambda n_done: None,
) -> dict[Job, Adversaries]:
    """Attack images in several ways, each chunk kept as it finishes; what is kept already is not attacked again.

    Parameters
    ----------
    classifier : path-like
        Keras model file, from images to class probabilities.
    images : ndarray of shape (N, H, W, C), float32 in [0, 1]
    labels : ndarray of shape (N,), int64
    jobs : sequence of Job
    kept : Kept
    n_processes : int
        Each works on one thread of its own; results do not depend on how many there are.
    safe_mode : bool
        As for `subsetscan.lab.networks.load_model`.
    on_images : callable
        Called with the number of images that are done, to show progress: N for each job in all.

    Raises
    ------
    ValueError
        As for `subsetscan.lab.attacks.attack`.
    """
    for job in jobs:
        check(job.attack, job.eps, job.protocol, job.masked)
    model = load_model(classifier, safe_mode)
    first_predictions = predicted(model, images)
    kept = Kept(kept.folder, code_version(*ATTACK_CODE))
    fingerprint_of_classifier = fingerprint_of_model(model)
    found: dict[tuple[Job, int], Arrays] = {}
    tasks = []
    chunks = {}
    for job in jobs:
        how = {key: value for key, value in asdict(job).items() if key != "n_images"}
        rows = np.flatnonzero(first_predictions == labels) if job.protocol == "valid" else np.arange(len(images))
        rows, chunk_size = rows[: job.n_images], ATTACKS[job.attack].chunk
        chunks[job] = [rows[start : start + chunk_size] for start in range(0, len(rows), chunk_size)]
        on_images(len(images) - len(rows))
        for n, chunk in enumerate(chunks[job]):
            made_from = how | {
                "classifier": fingerprint_of_classifier,
                "images": fingerprint(images[chunk], labels[chunk]),
            }
            name = f"{job.name}/{n:04d}"
            if (arrays := kept.get(name, made_from)) is not None:
                found[job, n] = arrays
                on_images(len(chunk))
            else:
                tasks.append((job, n, name, made_from))
    # The slowest first, so that no process is left alone with them at the end.
    tasks.sort(key=lambda task: list(ATTACKS).index(task[0].attack), reverse=True)
    with _executor((str(classifier), safe_mode), min(n_processes, len(tasks))) as submit:
        running = {}
        for job, n, name, made_from in tasks:
            chunk = chunks[job][n]
            running[submit(images[chunk], labels[chunk], job)] = job, n, name, made_from
        for done in as_completed(running):
            job, n, name, made_from = running[done]
            found[job, n] = done.result()
            kept.put(name, made_from, found[job, n])
            on_images(len(chunks[job][n]))
    result = {}
    for job in jobs:
        parts = [found[job, n] for n in range(len(chunks[job]))]
        sources = np.concatenate([*chunks[job], np.empty(0, np.int64)]).astype(np.int64)
        result[job] = Adversaries(
            len(images),
            sources,
            np.concatenate([*(part["images"] for part in parts), images[:0]]),
            labels[sources],
            np.concatenate([*(part["predictions"] for part in parts), labels[:0]]),
            first_predictions,
        )
    return result


@contextmanager
def _executor(classifier: tuple[str, bool], n_processes: int) -> Iterator[Callable[..., Any]]:
    """Start processes that attack; they are stopped at once when the block fails."""
    if n_processes == 0:
        yield lambda *_: None
        return
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by each process when its TensorFlow starts
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_processes, context, _start, classifier)
    try:
        yield lambda *task: pool.submit(_work, *task)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        pool.shutdown()


_attacker: Attacker  # of a process that attacks


def _start(path: str, safe_mode: bool) -> None:
    global _attacker
    Thread(target=_end_with_parent, daemon=True).start()
    start_keras()
    if not safe_mode:
        allow_code_of_models()
    _attacker = Attacker(load_model(path, safe_mode))


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one: if it is killed, nobody else ends this."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _work(images: np.ndarray, labels: np.ndarray, job: Job) -> Arrays:
    attacked = _attacker.perturb(images, labels, job.attack, eps=job.eps, protocol=job.protocol, masked=job.masked)
    return {"images": attacked, "predictions": predicted(_attacker.classifier, attacked)}
