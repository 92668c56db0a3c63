"""The last layers of the subjects that are classifiers, from the packages that their networks come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import softmax

from ..comparators import Head
from ..networks import load_pretrained
from ..subjects.magika_network import Magika
from ..subjects.subject import Subject

__all__ = ["HEADS", "head_of"]

_TOLERANCE = 1e-3


def _magika(subject: Subject) -> tuple[str, Head]:
    values, logits = subject.clean["layer norm"], subject.clean["logits"]
    weights = Magika().dense
    head = Head(weights, (logits - values @ weights).mean(axis=0))
    _check(head.logits(values), logits, subject.name)
    return "layer norm", head


def _classifier(subject: Subject) -> tuple[str, Head]:
    values, probabilities = subject.clean["dense_1"], subject.clean["dense_2"]
    head = Head(*load_pretrained("classifier").get_layer("dense_2").get_weights())
    _check(softmax(head.logits(values), axis=1), probabilities, subject.name)
    return "dense_1", head


HEADS: Mapping[str, Callable[[Subject], tuple[str, Head]]] = {"magika": _magika, "classifier": _classifier}


def head_of(subject: Subject) -> tuple[str, Head] | None:
    """Find the layer before a subject's logits and how they are made of it; None where it has no logits.

    Raises
    ------
    ModuleNotFoundError
        If the network's package is missing.
    ValueError
        If the network does not give the outputs that were read: it is another one.
    """
    return HEADS[subject.name](subject) if subject.name in HEADS else None


def _check(computed: np.ndarray, read: np.ndarray, name: str) -> None:
    furthest = float(np.abs(computed - read).max())
    if furthest > _TOLERANCE:
        raise ValueError(
            f"the last layer of {name} differs from what was read by up to {furthest:.3g}: another network?"
        )
