"""The sets of images of one dataset: clean ones, attacked ones, their originals, and noise of the same size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...spaces.base import as_rows
from ..adversaries import Adversaries, Job
from .plan import Size

__all__ = ["Images", "noisy"]

NOISE = " noise"  # behind the name of a job: the set of images with noise of the same size


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a dataset's test set, and what attacks made of the last of them.

    Attributes
    ----------
    background, clean, targets : ndarray of shape (n, 28, 28, 1), float32
        What makes the background; what stays clean; what is attacked.
    labels : ndarray of shape (n,), int64
        The true labels of the targets.
    attacked : dict of Job to Adversaries
    """

    background: np.ndarray
    clean: np.ndarray
    targets: np.ndarray
    labels: np.ndarray
    attacked: dict[Job, Adversaries]

    @classmethod
    def split(cls, images: np.ndarray, labels: np.ndarray, size: Size) -> Images:
        """Split a test set as the paper does, section 5.1. Raises ValueError if it has too few images."""
        if len(images) < size.end:
            raise ValueError(f"{size.end} test images are needed, there are {len(images)}")
        background, clean, targets = np.split(images[: size.end], [size.n_background, size.first_target])
        return cls(background, clean, targets, labels[size.first_target : size.end], {})

    def sources(self, job: Job) -> np.ndarray:
        """Return which targets a job attacked with success: rows of `targets`."""
        made = self.attacked[job]
        return made.sources[made.successful]

    def successes(self, job: Job) -> np.ndarray:
        """Return the images of a job's successful attacks."""
        made = self.attacked[job]
        return made.images[made.successful]

    def sets(self) -> dict[str, np.ndarray]:
        """Return every set that is scored: under ``valid``, noise of the same size goes with each attack."""
        found = {"clean": self.clean, "targets": self.targets}
        for job in self.attacked:
            found[job.name] = self.successes(job)
            if job.protocol == "valid" and not job.masked:
                found[job.name + NOISE] = noisy(self.targets[self.sources(job)], self.successes(job))
        return found


def noisy(originals: np.ndarray, attacked: np.ndarray, seed: int = 0) -> np.ndarray:
    """Give each image the changes of its attack at random pixels with random signs, clipped to [0, 1].

    Parameters
    ----------
    originals, attacked : ndarray of shape (n, H, W, C), float32
    seed : int
    """
    rng = np.random.default_rng(seed)
    changes = as_rows(np.abs(attacked - originals))
    changes = rng.permuted(changes, axis=1) * rng.choice(np.array([-1, 1], np.float32), changes.shape)
    return np.clip(originals + changes.reshape(originals.shape), 0, 1)
