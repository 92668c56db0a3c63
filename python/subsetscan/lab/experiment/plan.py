"""What an experiment tries: on which datasets, by which network, which attacks at which strengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..adversaries import Job

__all__ = ["DATASETS", "Network", "attack_name", "jobs"]

DATASETS = ("fashion-mnist", "mnist")


@dataclass(frozen=True)
class Network:
    """The network of a cell: on which dataset it was trained, from which seed, with which share of poisoned images."""

    dataset: str
    seed: int = 0
    poisoned: float = 0.0


def jobs(protocol: str, strengths: Iterable[tuple[str, float]], masked: Iterable[tuple[str, float]] = ()) -> list[Job]:
    """List attacks with their strengths under a protocol; the masked ones come last."""
    found = [Job(attack, eps, protocol) for attack, eps in strengths]
    return found + [Job(attack, eps, protocol, masked=True) for attack, eps in masked]


def attack_name(attack: str, eps: float) -> str:
    """Write an attack with its strength, as in tables."""
    return f"{attack} {eps:g}"
