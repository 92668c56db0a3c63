"""Every array of a space scanned in every way: the scores of all sets of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ...background import BackgroundBuilder
from ...spaces import KerasLayers, ReconstructionError, Space, join
from ..kept import Arrays
from .plan import METRICS, STATISTICS, TAILS

if TYPE_CHECKING:
    import keras

__all__ = ["NULL", "PAPER", "Scores", "error_name", "mean_name", "scan_everything", "spaces_of"]

NULL = "background"  # each image of the background among the others: what thresholds come from
PAPER = ("berk-jones", "upper")  # how the paper scans
_BATCH = 256


def error_name(metric: str) -> str:
    """Name the space of a reconstruction error."""
    return f"{metric} error"


def mean_name(metric: str) -> str:
    """Name the detector by the mean of a reconstruction error."""
    return f"mean {metric} error"


@dataclass(frozen=True)
class Scores:
    """Scores of sets of images.

    Parameters
    ----------
    arrays : dict of str to ndarray
        As they are kept: float64 of shape (n,) for each set, space, statistic and tail.
    """

    arrays: Arrays

    def scan(self, images: str, space: str, statistic: str, tail: str) -> np.ndarray:
        """Return the scan scores of a set of images."""
        return self.arrays[f"{images}|{space}|{statistic}|{tail}"]

    def mean_error(self, images: str, metric: str) -> np.ndarray:
        """Return the mean reconstruction errors of a set of images."""
        return self.arrays[f"{images}|{mean_name(metric)}"]

    def subsets(self, images: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the sizes and the thresholds of the subsets in the first layer, as the paper scans."""
        return self.arrays[f"{images}|size"], self.arrays[f"{images}|alpha"]


def spaces_of(autoencoder: keras.Model) -> Space:
    """Make one space of all layers and all errors, read in one pass."""
    errors = [ReconstructionError(autoencoder, metric, name=error_name(metric)) for metric in METRICS]
    (space,) = join([KerasLayers(autoencoder), *errors])
    return space


def scan_everything(
    space: Space,
    background: np.ndarray,
    sets: Mapping[str, np.ndarray],
    on_images: Callable[[int], object] = lambda n_done: None,
) -> Arrays:
    """Scan sets of images against a background, by every statistic, over every tail.

    Parameters
    ----------
    space : Space
    background : ndarray of shape (M, H, W, C)
    sets : mapping of str to ndarray of shape (n, H, W, C)
        Where none of them is `NULL`, the background's own images are, each scanned among the others.
    on_images : callable
        Called with the number of images that are done: those of the background, once more if they are a set, and of
        all sets.

    Returns
    -------
    dict of str to ndarray
        For `Scores`.
    """
    first = space.names[0]
    builders = {name: BackgroundBuilder(len(background)) for name in space.names}
    for values in _batches(space, background, on_images):
        for name, array in values.items():
            builders[name].add(array)
    backgrounds = {name: builders.pop(name).finish() for name in space.names}
    found: dict[str, list[np.ndarray]] = {}
    inside = NULL not in sets
    for kind, images in ({NULL: background} | dict(sets)).items():
        for values in _batches(space, images, on_images):
            for name, (statistic, tail) in product(space.names, product(STATISTICS, TAILS)):
                if kind == NULL and inside:
                    result = backgrounds[name].leave_one_out(
                        values[name], statistic=statistic, tail=tail, same_grid=True
                    )
                else:
                    result = backgrounds[name].scan(values[name], statistic=statistic, tail=tail)
                found.setdefault(f"{kind}|{name}|{statistic}|{tail}", []).append(result.scores)
                if (name, statistic, tail) == (first, *PAPER):
                    found.setdefault(f"{kind}|size", []).append(result.sizes)
                    found.setdefault(f"{kind}|alpha", []).append(result.alphas)
            for metric in METRICS:
                if (name := error_name(metric)) in values:
                    means = values[name].mean(axis=1, dtype=np.float64)
                    found.setdefault(f"{kind}|{mean_name(metric)}", []).append(means)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _batches(space: Space, images: np.ndarray, on_images: Callable[[int], object]) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, max(len(images), 1), _BATCH):  # an empty set gives empty rows
        batch = images[start : start + _BATCH]
        yield space.transform(batch)
        on_images(len(batch))
