"""What the slides report, as printed.

M. Amirian, Trace and Detect Adversarial Attacks on CNNs using Feature Response Maps, Deep Learning Day 2018, slides
"Decision Metric and Method Performance" and "Numerical Evaluation and Comparison".
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["METHODS", "TABLE_1", "AttackRow", "MethodRow"]


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
