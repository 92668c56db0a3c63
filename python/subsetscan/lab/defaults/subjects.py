"""Every subject by its name, and subjects as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .files import magika
from .images import autoencoder, classifier
from .lines import lines
from .photographs import photographs
from .speech import speech
from .subject import Subject
from .texts import encoder

__all__ = ["SUBJECTS", "write"]

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
    with Path(path).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
