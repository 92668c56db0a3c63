"""Many attacks on many images: in chunks that are kept as they finish, on several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any

import numpy as np

from .attacks import ATTACKS, Attacker, check
from .networks import allow_code_of_models, load_model, start_keras
from .outputs import Outputs
from .result_cache import Arrays, ResultCache, code_version, fingerprint, fingerprint_of_model

__all__ = ["ATTACK_CODE", "Adversaries", "Job", "attack_all"]

# What makes an attacked image: only that, because the slow attacks take hours.
ATTACK_CODE = (
    "subsetscan._labels",
    "subsetscan.lab.adversaries",
    "subsetscan.lab.attack_inputs",
    "subsetscan.lab.attacks",
    "subsetscan.lab.outputs",
    "subsetscan.lab.toolbox",
    "subsetscan.networks",
)
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
    outputs : Outputs
        What its outputs were taken for.
    """

    n_given: int
    sources: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    first_predictions: np.ndarray
    outputs: Outputs

    @property
    def successful(self) -> np.ndarray:
        """Which attacks succeeded, bool of shape (n,): the prediction is not the true label."""
        return self.predictions != self.labels


def attack_all(
    classifier: Path | str,
    images: np.ndarray,
    labels: np.ndarray,
    jobs: Sequence[Job],
    cache: ResultCache,
    *,
    n_processes: int = 2,
    from_logits: bool | None = None,
    safe_mode: bool = True,
    on_images: Callable[[int], object] = lambda n_done: None,
) -> dict[Job, Adversaries]:
    """Attack images in several ways, each chunk kept as it finishes; what is kept already is not attacked again.

    Parameters
    ----------
    classifier : path-like
        Keras model file, from images to probabilities or logits.
    images : array-like of shape (N, H, W, C), floats in [0, 1]
    labels : array-like of shape (N,)
    jobs : sequence of Job
    cache : ResultCache
    n_processes : int
        Each works on one thread of its own; results do not depend on how many there are.
    from_logits : bool, optional
        As for `subsetscan.lab.attacks.attack`: found out from all images by default.
    safe_mode : bool, default True
        As for `subsetscan.lab.networks.load_model`.
    on_images : callable
        Called with the number of images that are done, to show progress: N for each job in all.

    Raises
    ------
    TypeError, ValueError
        As for `subsetscan.lab.attacks.attack`.
    ChildProcessError
        If a process ends before its work is done, because it was killed, say. What was finished is kept.
    """
    for job in jobs:
        check(job.attack, job.eps, job.protocol, job.masked)
    model = load_model(classifier, safe_mode)
    attacker = Attacker(model, from_logits=from_logits)
    images, labels = attacker.checked(images, labels)
    outputs = attacker.outputs(images)
    first_predictions = attacker.predicted(images)
    cache = ResultCache(cache.folder, code_version(*ATTACK_CODE))
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
            made_from |= outputs.made_from
            name = f"{job.name}/{n:04d}"
            if (arrays := cache.get(name, made_from)) is not None:
                found[job, n] = arrays
                on_images(len(chunk))
            else:
                tasks.append((job, n, name, made_from))
    # The slowest first, so that no process is left alone with them at the end.
    tasks.sort(key=lambda task: ATTACKS[task[0].attack].seconds, reverse=True)
    with _executor(min(n_processes, len(tasks)), str(classifier), safe_mode, outputs.from_logits) as submit:
        running = {}
        for job, n, name, made_from in tasks:
            chunk = chunks[job][n]
            running[submit(images[chunk], labels[chunk], job)] = job, n, name, made_from
        for done in as_completed(running):
            job, n, name, made_from = running[done]
            found[job, n] = done.result()
            cache.put(name, made_from, found[job, n])
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
            outputs,
        )
    return result


@contextmanager
def _executor(n_processes: int, *start: Any) -> Iterator[Callable[..., Any]]:
    """Start processes that attack, see `_start`; they are stopped at once when the block fails."""
    if n_processes == 0:
        yield lambda *_: None
        return
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by each process when its TensorFlow starts
    context = multiprocessing.get_context("spawn")
    alive, end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(n_processes, context, _start, (alive, *start))

    def submit(*task: Any) -> Any:
        with _interrupts_held_back():  # the processes start here, and inherit that
            return pool.submit(_work, *task)

    try:
        yield submit
        pool.shutdown()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a process that attacks images ended before its work was done: it was killed, perhaps for want of memory; "
            "the chunks that were finished are kept, so that the same call continues from there, with fewer processes "
            "in less memory"
        ) from error
    finally:
        end.close()  # ends those that still work
        pool.shutdown(cancel_futures=True)
        alive.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait: a terminal sends it to all processes, but only the first one is to answer."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    # Other threads, as those of TensorFlow, do not block it: what they receive Python would answer in this one.
    came: list[Any] = []
    handler = signal.getsignal(signal.SIGINT) if current_thread() is main_thread() else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            signal.raise_signal(signal.SIGINT)


_attacker: Attacker  # of a process that attacks


def _start(alive: Connection, classifier: str, safe_mode: bool, from_logits: bool) -> None:
    global _attacker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(alive,), daemon=True).start()
    start_keras()
    if not safe_mode:
        allow_code_of_models()
    _attacker = Attacker(load_model(classifier, safe_mode), from_logits=from_logits)


def _end_with(alive: Connection) -> None:
    """Wait for the end of a pipe, which its owner closes to stop this process, or by being killed itself."""
    with suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


def _work(images: np.ndarray, labels: np.ndarray, job: Job) -> Arrays:
    attacked = _attacker.perturb(images, labels, job.attack, eps=job.eps, protocol=job.protocol, masked=job.masked)
    return {"images": attacked, "predictions": _attacker.predicted(attacked)}
