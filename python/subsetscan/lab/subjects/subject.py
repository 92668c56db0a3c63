"""A subject: activations of one network, layer by layer, for clean inputs and for many kinds of anomalous ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ...spaces import Space
from ..comparators import Head

__all__ = ["CHOOSE", "REPORT", "Rows", "Subject", "make_subject", "read_rows"]

CHOOSE, REPORT = "choose", "report"

Rows = dict[str, np.ndarray]  # layer -> (n, J)

Inputs = TypeVar("Inputs")


@dataclass(frozen=True, eq=False)
class Subject:
    """One network and what its layers hold.

    Attributes
    ----------
    name : str
    source : str
        What the network is, the package and version that it comes from, and its licence.
    role : {"choose", "report"}
        Whether it was looked at when options were chosen, or kept aside.
    clean : dict of str to ndarray of shape (n, J), float32
        The clean rows of each layer, in a seeded random order, the same in all layers.
    kinds : dict of str to dict of str to ndarray of shape (n, J), float32
        The rows of each layer for each kind of anomalous input.
    inputs : dict of str to str
        What the inputs are: of ``"clean"`` and of each kind.
    layers : dict of str to str
        What each layer is and how it was pooled, from early to late.
    head : (str, Head), optional
        Of a classifier: the layer before its logits, and how they are made of it.
    scores : dict of str to dict of str to ndarray of shape (n,)
        What methods say that need the inputs themselves, by method, then as `inputs`; higher is more anomalous.
    seconds : float
        What it took to make.
    """

    name: str
    source: str
    role: str
    clean: Rows
    kinds: dict[str, Rows]
    inputs: dict[str, str]
    layers: dict[str, str]
    head: tuple[str, Head] | None = None
    scores: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError where layers, kinds, their descriptions and the shapes of the arrays disagree."""
        if self.role not in (CHOOSE, REPORT):
            raise ValueError(f"the role of {self.name} must be {CHOOSE!r} or {REPORT!r}, got {self.role!r}")
        if set(self.inputs) != {"clean", *self.kinds}:
            raise ValueError(f"{self.name} describes {sorted(self.inputs)}, but has {sorted(['clean', *self.kinds])}")
        for kind, rows in {"clean": self.clean, **self.kinds}.items():
            if list(rows) != list(self.layers):
                raise ValueError(f"{self.name}, {kind}: layers {list(rows)} where {list(self.layers)} are described")
            for layer, array in rows.items():
                if array.ndim != 2 or array.shape[1] != self.clean[layer].shape[1]:
                    raise ValueError(f"{self.name}, {kind}, {layer}: rows of shape {array.shape}")
                if not np.isfinite(array).all():
                    raise ValueError(f"{self.name}, {kind}, {layer}: some activations are not finite")
        for method, found in self.scores.items():
            if {kind: len(scores) for kind, scores in found.items()} != self.counts:
                raise ValueError(f"{self.name}, {method}: not one score for each input")

    @property
    def counts(self) -> dict[str, int]:
        """How many inputs there are, clean and of each kind."""
        return {kind: len(next(iter(rows.values()))) for kind, rows in {"clean": self.clean, **self.kinds}.items()}


def make_subject(
    name: str,
    source: str,
    role: str,
    *,
    layers: Mapping[str, str],
    read: Callable[[Inputs], Rows],
    clean: tuple[str, Inputs],
    kinds: Mapping[str, tuple[str, Inputs]],
    head: tuple[str, Head] | None = None,
    judges: Mapping[str, Callable[[Inputs], np.ndarray]] | None = None,
) -> Subject:
    """Read the layers for all inputs.

    Parameters
    ----------
    name, source, role, layers
        See `Subject`.
    read : callable
        From inputs to the rows of each layer.
    clean : (str, inputs)
        What the clean inputs are, and the inputs, in a random order.
    kinds : mapping of str to (str, inputs)
        The same for each kind of anomalous inputs.
    head
        See `Subject`.
    judges : mapping of str to callable, optional
        What gives `Subject.scores`, from inputs to scores.

    Returns
    -------
    Subject
    """
    inputs = {"clean": clean, **kinds}
    return Subject(
        name=name,
        source=source,
        role=role,
        clean=_as_float32(read(clean[1])),
        kinds={kind: _as_float32(read(inputs)) for kind, (_, inputs) in kinds.items()},
        inputs={kind: about for kind, (about, _) in inputs.items()},
        layers=dict(layers),
        head=head,
        scores={
            method: {kind: judge(some).reshape(-1) for kind, (_, some) in inputs.items()}
            for method, judge in (judges or {}).items()
        },
    )


def read_rows(
    space: Space,
    layers: Mapping[str, str],
    inputs: Sequence[Any] | np.ndarray,
    size: int,
    prepare: Callable[[Any], Any] = lambda inputs: inputs,
) -> Rows:
    """Read layers part by part, so that inputs need not be prepared all at once.

    Parameters
    ----------
    space : Space
    layers : mapping of str to str
        For each layer its name in the space.
    inputs : sequence of n
    size : int
        Inputs of a part.
    prepare : callable
        Makes of a part what the space takes.
    """
    parts = [space.transform(prepare(inputs[start : start + size])) for start in range(0, len(inputs), size)]
    return {layer: np.concatenate([part[name] for part in parts]) for layer, name in layers.items()}


def _as_float32(rows: Rows) -> Rows:
    return {layer: np.ascontiguousarray(array, np.float32) for layer, array in rows.items()}
