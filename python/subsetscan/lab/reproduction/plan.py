"""What is reproduced: the split of the images, the attacks, the networks, the ways to scan; in full and in small."""

from __future__ import annotations

from dataclasses import dataclass

from ..adversaries import Job

__all__ = [
    "DATASETS",
    "ERROR",
    "FIRST",
    "FULL",
    "METRICS",
    "PAPER_STRENGTH",
    "POISONED",
    "QUICK",
    "STATISTICS",
    "TAILS",
    "Network",
    "Size",
    "jobs",
]

DATASETS = ("fashion-mnist", "mnist")
STATISTICS = ("berk-jones", "higher-criticism", "kolmogorov-smirnov")
TAILS = ("upper", "lower", "two-sided")
METRICS = ("binary-crossentropy", "absolute", "squared", "signed")
FIRST = "conv2d_1"  # the layer, and the error, that the paper looks at most
ERROR = "binary-crossentropy error"

# The paper, section 5.2, and larger budgets, at which more attacks succeed. DeepFool's is its overshoot.
PAPER_STRENGTH = {"fgsm": 0.01, "bim": 0.01, "deepfool": 1e-6}
LARGER = (("fgsm", 0.03), ("fgsm", 0.1), ("bim", 0.03), ("deepfool", 0.02))
MASKED = (("fgsm", 0.01), ("fgsm", 0.03), ("fgsm", 0.1), ("bim", 0.01), ("bim", 0.03))
POISONED = (0.01, 0.09)


@dataclass(frozen=True)
class Size:
    """How many of the test images: the first are background, then come clean ones, then those that are attacked."""

    n_background: int
    first_target: int
    end: int
    seeds: tuple[int, ...]
    poisoned: tuple[float, ...]
    larger: bool


FULL = Size(7000, 8500, 10000, seeds=(0, 1, 2), poisoned=POISONED, larger=True)
QUICK = Size(600, 760, 920, seeds=(0,), poisoned=(), larger=False)


@dataclass(frozen=True)
class Network:
    """An autoencoder: on which dataset it was trained, from which seed, with which share of poisoned images."""

    dataset: str
    seed: int = 0
    poisoned: float = 0.0


def jobs(protocol: str, size: Size) -> list[Job]:
    """List the attacks under a protocol: the paper's first; masked ones under ``valid``."""
    found = [Job(name, eps, protocol) for name, eps in PAPER_STRENGTH.items()]
    if size.larger:
        found += [Job(name, eps, protocol) for name, eps in LARGER]
    if protocol == "valid":
        found += [Job(name, eps, protocol, masked=True) for name, eps in (MASKED if size.larger else MASKED[:1])]
    return found
