"""Spaces that read a network; those over the same network share its passes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._digest import digest
from .._several import n_samples, picked
from ..networks import Network, as_network
from ..networks.passes import Batched, parts
from .base import Space

__all__ = ["NetworkSpace"]


class NetworkSpace(Batched, Space):
    """A space that reads values of one network.

    What a pass changes in a network is put back after it. The first pass is checked by a second one: a value must
    depend on the input alone, not on its place in a batch nor on the inputs beside it.

    Parameters
    ----------
    network : Network or what `subsetscan.networks.as_network` takes
    reads : iterable of str
        Names of what `values` wants to read, as the network's `find` returned them.
    names : sequence of str
        Of the space.

    Attributes
    ----------
    network : Network
    node_shapes : dict of str to tuple of int
        As in `Space`. Of networks that do not tell shapes before there are inputs, those that a pass has shown.
    forward_batch : int or None
        See `subsetscan.networks.passes.Batched`. Passes through a model whose batch size is fixed have that size.

    Raises
    ------
    ValueError
        `transform` raises it if a layer's values depend on more than the input: where it draws random numbers, starts
        from a state that an earlier call left, or normalizes over the batch. The message names the layer.
    """

    def __init__(self, network: Any, reads: Iterable[str], names: Sequence[str]) -> None:
        self.network: Network = as_network(network)
        self.reads = tuple(reads)
        self.node_shapes = {}
        self._names = tuple(names)

    @property
    def names(self) -> tuple[str, ...]:  # noqa: D102 (the base says it, as for those below)
        return self._names

    @property
    def model(self) -> Any:
        """The model as it was handed in, where the network has one."""
        return getattr(self.network, "model", self.network)

    def transform(self, images: Any) -> dict[str, np.ndarray]:  # noqa: D102
        inputs = self.network.check(images)
        if not n_samples(inputs):  # no network takes an empty batch
            return {name: np.empty((0, math.prod(shape)), np.float32) for name, shape in self.node_shapes.items()}
        found: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        numbers: list[np.ndarray] = []
        for own, part, read in self.passes(inputs):
            numbers.append(own)
            for name, rows in self.values(part, read).items():
                found[name].append(rows[: len(own)])
        joined = {name: rows[0] if len(rows) == 1 else np.concatenate(rows) for name, rows in found.items()}
        order = np.concatenate(numbers)
        if (np.diff(order) > 0).all():
            return joined
        back = np.argsort(order)
        return {name: rows[back] for name, rows in joined.items()}

    def passes(self, inputs: Any) -> Iterator[tuple[np.ndarray, Any, dict[str, np.ndarray]]]:
        """Pass inputs through the network.

        Parameters
        ----------
        inputs : object
            As the network's `check` returned them.

        Yields
        ------
        numbers : ndarray of shape (n,), int
            Those of a pass among all: alike ones may pass together.
        part : object
            These inputs; rows of zeros may fill up what follows the n.
        read : dict of str to ndarray
            What was read for them, by the names in `reads`.
        """
        order = self.network.order(inputs)
        numbers = np.arange(n_samples(inputs)) if order is None else order
        inputs = inputs if order is None else picked(inputs, order)
        start = 0
        for part, n in parts(inputs, self.network.batch_size or self.forward_batch):
            part = self.network.trimmed(part)
            yield numbers[start : start + n], part, self.network.read(part, self.reads)
            start += n

    @abstractmethod
    def values(self, images: Any, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn inputs and what was read for them into node values, (n, J) for each name."""

    def joined(self, other: Space) -> Space | None:  # noqa: D102
        if isinstance(other, NetworkSpace) and (both := self.network.joined(other.network)) is not None:
            return _JoinedSpaces(both, [*_parts(self), *_parts(other)])
        return None

    def fingerprint(self) -> str | None:  # noqa: D102
        own = self.network.fingerprint(self.reads)
        return None if own is None else digest(type(self).__name__, *self._options(), own)

    def stamp(self) -> str | None:  # noqa: D102
        return self.network.stamp(self.reads)

    def _options(self) -> list[str]:
        """List what tells this space from others of its class over the same network: part of its fingerprint."""
        return list(self.reads)


class _JoinedSpaces(NetworkSpace):
    """Several spaces over one network."""

    def __init__(self, network: Network, spaces: Sequence[NetworkSpace]) -> None:
        self.parts = list(spaces)
        super().__init__(
            network,
            dict.fromkeys(name for space in spaces for name in space.reads),
            [name for space in spaces for name in space.names],
        )

    @property
    def node_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: shape for space in self.parts for name, shape in space.node_shapes.items()}

    @node_shapes.setter
    def node_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        pass  # they are the parts'

    @property
    def forward_batch(self) -> int | None:
        """The smallest of the parts'."""
        return min((size for space in self.parts if (size := space.forward_batch)), default=None)

    @forward_batch.setter
    def forward_batch(self, size: int | None) -> None:
        for space in self.parts:
            space.forward_batch = size

    def values(self, images: Any, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        result: dict[str, np.ndarray] = {}
        for space in self.parts:
            result |= space.values(images, {name: read[name] for name in space.reads})
        return result

    def fingerprint(self) -> str | None:
        return digest(*(str(space.fingerprint()) for space in self.parts))


def _parts(space: NetworkSpace) -> list[NetworkSpace]:
    return space.parts if isinstance(space, _JoinedSpaces) else [space]
