"""Every subject by its name, and subjects as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ..._files import atomic_write
from .files import magika
from .images import autoencoder, classifier
from .lines import lines
from .photographs import photographs
from .speech import speech
from .subject import Subject
from .texts import encoder

__all__ = ["SUBJECTS", "write", "write_all"]

SUBJECTS: Mapping[str, Callable[[int], Subject]] = {
    "magika": magika,
    "encoder": encoder,
    "classifier": classifier,
    "autoencoder": autoencoder,
    "photographs": photographs,
    "lines": lines,
    "speech": speech,
}


def write(subject: Subject, path: Path | str) -> None:
    """Write a subject's arrays as one .npz file: ``clean/LAYER`` and ``kind/KIND/LAYER``."""
    arrays = {f"clean/{layer}": rows for layer, rows in subject.clean.items()}
    for kind, rows in subject.kinds.items():
        arrays |= {f"kind/{kind}/{layer}": array for layer, array in rows.items()}
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
