"""What is tried: the attacks of the slides with their strengths, and what the slides report, as printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..adversaries import Job
from ..attacks import ATTACKS, check

__all__ = ["FEWEST", "METHODS", "SIZES", "STRENGTHS", "TABLE_1", "AttackRow", "MethodRow", "jobs", "strengths_of"]

# In the order of the slides. Largest change of a pixel; longest step; number of pixels; overshoot; first step.
STRENGTHS = {"fgsm": 0.1, "gradient": 3.0, "one-pixel": 1.0, "deepfool": 0.02, "boundary": 0.01}
_SLOW = ("one-pixel", "boundary")  # seconds for an image
FEWEST = 5  # successes: with fewer an attack does not count among all
SIZES = (10, 25, 100)  # of the sets that a test tells apart


class AttackRow(NamedTuple):
    """A row of the slides' table of attacks: VGG19, validation images of ImageNet."""

    n_images: int
    success_rate: float
    true_confidence: float
    target_confidence: float
    tpr_1: float
    tpr_5: float
    tpr_10: float


class MethodRow(NamedTuple):
    """A row of the slides' table of methods; what is not reported is None."""

    method: str
    dataset: str
    network: str
    attack: str
    recall: float | None
    precision: float | None
    auroc: float | None


# M. Amirian, Trace and Detect Adversarial Attacks on CNNs using Feature Response Maps, Deep Learning Day 2018, slides
# "Decision Metric and Method Performance" and "Numerical Evaluation and Comparison".
TABLE_1 = {
    "fgsm": AttackRow(50014, 0.925, 0.022, 0.588, 0.954, 0.974, 0.983),
    "gradient": AttackRow(50014, 0.499, 0.052, 0.371, 0.922, 0.954, 0.969),
    "one-pixel": AttackRow(50014, 0.620, 0.037, 0.463, 0.917, 0.951, 0.966),
    "deepfool": AttackRow(47858, 0.606, 0.041, 0.446, 0.936, 0.963, 0.976),
    "boundary": AttackRow(4013, 0.940, 0.023, 0.583, 0.934, 0.960, 0.972),
}
METHODS = (
    MethodRow("Uncertainty density estimation", "SVHN", "LeNet", "FGSM", None, None, 0.890),
    MethodRow("Adaptive noise reduction", "ImageNet (4 classes)", "CaffeNet", "DeepFool", 0.956, 0.911, None),
    MethodRow("Feature squeezing", "ImageNet-1000", "VGG19", "Several attacks", 0.859, 0.917, 0.942),
    MethodRow("Statistical analysis", "MNIST", "Self-designed", "FGSM (eps = 0.3)", 0.999, 0.940, None),
    MethodRow("Feature response", "ImageNet validation", "VGG19", "Several attacks", 0.979, 0.920, 0.990),
)


def strengths_of(text: str) -> dict[str, float]:
    """Read attacks, comma-separated, each with its strength or without: ``fgsm=0.03,boundary``.

    Raises
    ------
    ValueError
        If an attack is unknown, its strength none, or it is named more than once: tables and figures go by its name.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, strength = (piece.strip() for piece in part.partition("="))
        if not name:
            raise ValueError(f"expected names of attacks, comma-separated, of {', '.join(ATTACKS)}; got {text!r}")
        try:
            eps = float(strength) if equals else STRENGTHS.get(name, ATTACKS[name].eps if name in ATTACKS else None)
        except ValueError:
            raise ValueError(f"the strength of {name} must be a number, got {strength!r}") from None
        check(name, eps, "valid", masked=False)
        if name in found:
            raise ValueError(
                f"{name} is named twice, with strengths {found[name]:g} and {eps:g}: run once for each strength"
            )
        if eps is not None:
            found[name] = eps
    return found


def jobs(protocol: str, strengths: Mapping[str, float], n_fast: int | None, n_slow: int | None) -> list[Job]:
    """List the attacks under a protocol, each on as many images at most."""
    return [Job(name, eps, protocol, n_images=n_slow if name in _SLOW else n_fast) for name, eps in strengths.items()]
