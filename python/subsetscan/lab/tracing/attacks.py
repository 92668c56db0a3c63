"""What is attacked, how, and how strongly: the attacks of the slides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..adversaries import Job
from ..attacks import ATTACKS, check
from ..experiment.plan import jobs

__all__ = ["STRENGTHS", "jobs_of", "strengths_of"]

# In the order of the slides. Largest change of a pixel; longest step; number of pixels; overshoot; first step.
STRENGTHS = {"fgsm": 0.1, "gradient": 3.0, "one-pixel": 1.0, "deepfool": 0.02, "boundary": 0.01}
_SLOW = 1.0  # seconds for an image


def strengths_of(text: str) -> dict[str, float]:
    """Read attacks, comma-separated, each with its strength or without: ``fgsm=0.03,boundary``.

    Raises
    ------
    ValueError
        If an attack is unknown, its strength is invalid, or it is given more than once: tables and figures go by name.
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
                f"{name} is given twice, with strengths {found[name]:g} and {eps:g}: run once for each strength"
            )
        if eps is not None:
            found[name] = eps
    return found


def jobs_of(protocol: str, strengths: Mapping[str, float], n_fast: int | None, n_slow: int | None) -> list[Job]:
    """List the attacks under a protocol, each on as many images at most."""
    return [
        replace(job, n_images=n_slow if ATTACKS[job.attack].seconds > _SLOW else n_fast)
        for job in jobs(protocol, strengths.items())
    ]
