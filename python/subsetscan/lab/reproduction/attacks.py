"""What is attacked, how, and how strongly: the paper's attacks and larger budgets; in full and in small."""

from __future__ import annotations

from dataclasses import dataclass

from ..adversaries import Job
from ..experiment.images import PAPER_SPLIT, SMALL_SPLIT, Split
from ..experiment.plan import jobs

__all__ = ["FULL", "PAPER_STRENGTH", "QUICK", "Size", "jobs_of"]

# The paper, section 5.2, and larger budgets, at which more attacks succeed. DeepFool's is its overshoot.
PAPER_STRENGTH = {"fgsm": 0.01, "bim": 0.01, "deepfool": 1e-6}
_LARGER = (("fgsm", 0.03), ("fgsm", 0.1), ("bim", 0.03), ("deepfool", 0.02))
_MASKED = (("fgsm", 0.01), ("fgsm", 0.03), ("fgsm", 0.1), ("bim", 0.01), ("bim", 0.03))


@dataclass(frozen=True)
class Size:
    """How much is reproduced: of the test images, the autoencoders' seeds and shares of poison, and larger budgets."""

    split: Split
    seeds: tuple[int, ...]
    poisoned: tuple[float, ...]
    larger: bool


FULL = Size(PAPER_SPLIT, seeds=(0, 1, 2), poisoned=(0.01, 0.09), larger=True)
QUICK = Size(SMALL_SPLIT, seeds=(0,), poisoned=(), larger=False)


def jobs_of(protocol: str, size: Size) -> list[Job]:
    """List the attacks under a protocol: the paper's first; masked ones under ``valid``."""
    strengths = [*PAPER_STRENGTH.items(), *(_LARGER if size.larger else ())]
    masked = (_MASKED if size.larger else _MASKED[:1]) if protocol == "valid" else ()
    return jobs(protocol, strengths, masked)
