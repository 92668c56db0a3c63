"""The sets of images of an experiment: clean ones, attacked ones, their originals, and noise of the same size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...input_checks import as_rows
from ..adversaries import Adversaries, Job

__all__ = ["CLEAN", "PAPER_SPLIT", "SMALL_SPLIT", "TARGETS", "Images", "Split", "noise_of", "noisy"]

CLEAN, TARGETS = "clean", "targets"


@dataclass(frozen=True)
class Split:
    """How the images are shared out: the first are background, then come clean ones, then those that are attacked."""

    n_background: int
    first_target: int
    end: int


PAPER_SPLIT = Split(7000, 8500, 10000)  # the paper, section 5.1
SMALL_SPLIT = Split(600, 760, 920)


@dataclass(frozen=True, eq=False)
class Images:
    """The images of an experiment, and what attacks made of the last of them.

    Attributes
    ----------
    background, clean, targets : ndarray of shape (n, H, W, C), float32
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
    def shared_out(cls, images: np.ndarray, labels: np.ndarray, split: Split) -> Images:
        """Share out images, none of them attacked yet. Raises ValueError if there are too few."""
        if len(images) < split.end:
            raise ValueError(f"{split.end} test images are needed, there are {len(images)}")
        background, clean, targets = np.split(images[: split.end], [split.n_background, split.first_target])
        return cls(background, clean, targets, labels[split.first_target : split.end], {})

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
        found = {CLEAN: self.clean, TARGETS: self.targets}
        for job in self.attacked:
            found[job.name] = self.successes(job)
            if job.protocol == "valid" and not job.masked:
                found[noise_of(job)] = noisy(self.targets[self.sources(job)], self.successes(job))
        return found


def noise_of(job: Job) -> str:
    """Name the set of images with noise of the same size as an attack's changes."""
    return f"{job.name} noise"


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
