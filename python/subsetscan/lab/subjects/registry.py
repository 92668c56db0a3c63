"""Every subject by its name; subjects as files, and kept between runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..._files import atomic_write
from ..comparators import Head
from ..result_cache import Arrays, ResultCache, code_version
from .files import magika
from .imagenet import imagenet
from .images import autoencoder, classifier, mnist
from .lines import lines
from .photographs import photographs
from .speech import speech
from .subject import Subject
from .texts import encoder

__all__ = ["SUBJECTS", "kept_subject", "write", "write_all"]

SUBJECTS: Mapping[str, Callable[[int], Subject]] = {
    "magika": magika,
    "encoder": encoder,
    "classifier": classifier,
    "autoencoder": autoencoder,
    "mnist": mnist,
    "photographs": photographs,
    "imagenet": imagenet,
    "lines": lines,
    "speech": speech,
}

_ABOUT = "about"


def kept_subject(folder: Path | str, name: str, make: Callable[[], Subject], made_from: Mapping[str, Any]) -> Subject:
    """Take a subject from where it is kept, or make and keep it: that takes minutes.

    Parameters
    ----------
    folder : path-like
    name : str
        Of the file.
    make : callable
    made_from : mapping
        What the subject depends on besides the code: the seed, numbers of inputs.
    """

    def timed() -> Arrays:
        started = time.monotonic()
        subject = make()
        return _packed(replace(subject, seconds=time.monotonic() - started))

    cache = ResultCache(folder, code_version(__package__))
    return _from_arrays(cache.get_or_make(name, made_from, timed))


def _packed(subject: Subject) -> Arrays:
    """Put all of a subject in arrays, what it is as the bytes of JSON."""
    about = {key: getattr(subject, key) for key in ("name", "source", "role", "inputs", "layers", "seconds")}
    about["methods"] = list(subject.scores)
    arrays = _as_arrays(subject)
    for method, found in subject.scores.items():
        arrays |= {f"score/{method}/{kind}": scores for kind, scores in found.items()}
    if subject.head is not None:
        about["head"], head = subject.head
        arrays |= {"head/weights": head.weights, "head/bias": head.bias}
    return arrays | {_ABOUT: np.frombuffer(json.dumps(about).encode(), np.uint8)}


def _from_arrays(arrays: Arrays) -> Subject:
    about = json.loads(arrays[_ABOUT].tobytes())
    layers, methods, before = about["layers"], about.pop("methods"), about.pop("head", None)
    return Subject(
        **about,
        head=None if before is None else (before, Head(arrays["head/weights"], arrays["head/bias"])),
        scores={method: {kind: arrays[f"score/{method}/{kind}"] for kind in about["inputs"]} for method in methods},
        clean={layer: arrays[f"clean/{layer}"] for layer in layers},
        kinds={
            kind: {layer: arrays[f"kind/{kind}/{layer}"] for layer in layers}
            for kind in about["inputs"]
            if kind != "clean"
        },
    )


def _as_arrays(subject: Subject) -> Arrays:
    arrays = {f"clean/{layer}": rows for layer, rows in subject.clean.items()}
    for kind, rows in subject.kinds.items():
        arrays |= {f"kind/{kind}/{layer}": array for layer, array in rows.items()}
    return arrays


def write(subject: Subject, path: Path | str) -> None:
    """Write a subject's arrays as one .npz file: ``clean/LAYER`` and ``kind/KIND/LAYER``."""
    arrays = _as_arrays(subject)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def write_all(folder: Path | str, names: Iterable[str] = tuple(SUBJECTS), seed: int = 0) -> Iterator[Subject]:
    """Make subjects one after another, and write each as ``NAME.npz``.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    names : iterable of str
        Which of `SUBJECTS`; all by default.
    seed : int, default 0

    Yields
    ------
    Subject
        Each once its file is there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        subject = SUBJECTS[name](seed)
        write(subject, folder / f"{name}.npz")
        yield subject
