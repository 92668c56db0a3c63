"""Activations of Keras layers, read in one forward pass without any change to the model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._digest import digest
from ..networks.keras import (
    check_graph,
    checked_passes,
    find_outputs,
    input_dtype,
    known_shape,
    operation_of,
    rows_per_sample,
    weights_digest,
)
from ..networks.passes import Batched
from .base import Space, as_rows, check_images
from .blocks import Blocks

if TYPE_CHECKING:
    import keras

__all__ = ["KerasLayers", "NetworkSpace"]


class NetworkSpace(Batched, Space):
    """A space that reads tensors of one Keras network; spaces over the same network share their forward passes.

    The model's variables are after a pass what they were before it. The first pass is checked by a second one: a value
    must depend on the image alone, not on its place in a batch nor on the images beside it.

    Parameters
    ----------
    model : keras.Model
        With a graph: functional, sequential and built, or subclassed with ``inputs`` and ``outputs``. One input.
    tensors : mapping of str to KerasTensor
        What `values` wants to read.
    node_shapes : mapping of str to tuple of int
        As in `Space`.
    unfold : bool, default False
        Whether to take tensors that have k consecutive rows for each image, as where positions or frames are folded
        into the first axis. `values` gets them in the shape (N, k, ...).

    Attributes
    ----------
    forward_batch : int
        Images in one forward pass, 64; set it lower where a network's activations take too much memory. Passes through
        a model whose batch size is fixed have that size.

    Raises
    ------
    ValueError
        If the first axis of a tensor does not count the images. `transform` raises it if a layer's values depend on
        more than the image: where it draws random numbers, starts from a state that an earlier call left, or normalizes
        over the batch. The message names the layer.
    """

    def __init__(
        self,
        model: keras.Model,
        tensors: Mapping[str, keras.KerasTensor],
        node_shapes: Mapping[str, tuple[int, ...]],
        unfold: bool = False,
    ) -> None:
        import keras

        self.model = model
        self.tensors = dict(tensors)
        self.node_shapes = dict(node_shapes)
        distinct = {id(tensor): tensor for tensor in self.tensors.values()}
        self._positions = {name: list(distinct).index(id(tensor)) for name, tensor in self.tensors.items()}
        # A second view of the same graph: it shares layers and weights with the model and leaves it as it is.
        self._reader = keras.Model(model.inputs[0], list(distinct.values()))
        self._rows = rows_per_sample(self._reader)
        for tensor, rows in zip(self._reader.outputs, self._rows, strict=True):
            if rows > 1 and not unfold:
                name = operation_of(tensor).name
                raise ValueError(f"the output of {name} has {rows} rows for each image, expected one")
        self._passes = checked_passes(model.name, self._reader, self._forward)

    def transform(self, images: Any) -> dict[str, np.ndarray]:  # noqa: D102 (the base says it)
        images = check_images(images, self.model.inputs[0].shape[1:], input_dtype(self.model))
        if not len(images):  # no network takes an empty batch
            return {name: np.empty((0, math.prod(shape)), np.float32) for name, shape in self.node_shapes.items()}
        arrays = self._passes.run([images], self.model.inputs[0].shape[0] or self.forward_batch)
        return self.values(images, {name: arrays[position] for name, position in self._positions.items()})

    @abstractmethod
    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn images and the tensors read for them into node values."""

    def joined(self, other: Space) -> Space | None:  # noqa: D102 (the base says it)
        if isinstance(other, NetworkSpace) and other.model is self.model:
            return _JoinedSpaces([*_parts(self), *_parts(other)])
        return None

    def fingerprint(self) -> str | None:  # noqa: D102 (the base says it)
        shapes = [str((*self.model.inputs[0].shape[1:], self.model.inputs[0].dtype)), str([*self.node_shapes.values()])]
        return digest(type(self).__name__, *self._options(), *shapes, weights_digest(self._reader))

    def _options(self) -> list[str]:
        """List what tells this space from others of its class over the same network: part of its fingerprint."""
        return list(self.tensors)

    def _forward(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            outputs = self._reader.predict_on_batch(images)  # a single one comes without its list
        except Exception as error:  # each backend has its own, of many lines
            raise ValueError(
                f"{self.model.name} cannot compute images from {images.min():g} to {images.max():g} ({images.dtype}): "
                f"{_reason(error)}"
            ) from error
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return [
            _unfolded(np.asarray(output), tensor, len(images), rows)
            for output, tensor, rows in zip(outputs, self._reader.outputs, self._rows, strict=True)
        ]


def _reason(error: Exception) -> str:
    """Pick the line of a backend's message that says what is wrong: the last that names no node of a graph."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith("[[")), type(error).__name__)


class _JoinedSpaces(NetworkSpace):
    """Several spaces over one network."""

    def __init__(self, parts: Sequence[NetworkSpace]) -> None:
        self.parts = list(parts)
        super().__init__(
            parts[0].model,
            {f"{n}/{name}": tensor for n, part in enumerate(parts) for name, tensor in part.tensors.items()},
            {name: shape for part in parts for name, shape in part.node_shapes.items()},
            unfold=True,  # the parts have refused what they do not take
        )

    @property
    def forward_batch(self) -> int:
        """The smallest of the parts'."""
        return min(part.forward_batch for part in self.parts)

    @forward_batch.setter
    def forward_batch(self, size: int) -> None:
        for part in self.parts:
            part.forward_batch = size

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        result: dict[str, np.ndarray] = {}
        for n, part in enumerate(self.parts):
            result |= part.values(images, {name: read[f"{n}/{name}"] for name in part.tensors})
        return result

    def fingerprint(self) -> str | None:
        return digest(*(str(part.fingerprint()) for part in self.parts))


def _unfolded(output: np.ndarray, tensor: keras.KerasTensor, n_samples: int, rows: int) -> np.ndarray:
    """Give each sample a row: (N * k, ...) to (N, k, ...). Raises ValueError where the graph told of another shape."""
    expected = (n_samples * rows, *tensor.shape[1:])
    if len(output.shape) != len(expected) or any(
        known not in (None, size) for known, size in zip(expected, output.shape, strict=True)
    ):
        name = operation_of(tensor).name
        raise ValueError(
            f"the output of {name} has shape {output.shape} for {n_samples} images, expected {expected} as its graph "
            "has it; leave it out"
        )
    return output if rows == 1 else output.reshape(n_samples, rows, *output.shape[1:])


def _parts(space: NetworkSpace) -> list[NetworkSpace]:
    return space.parts if isinstance(space, _JoinedSpaces) else [space]


class KerasLayers(NetworkSpace):
    """Activations of layers of a Keras model: each position and channel of a layer's output is a node.

    Parameters
    ----------
    model : keras.Model
        Functional, sequential and built, or subclassed with ``inputs`` and ``outputs``.
    layers : "all", or sequence of str, int or keras.layers.Layer
        Names or indices of layers of ``model.layers``, or these layers themselves; "name:0" is the first output of a
        layer that has several. "all" takes every layer but the inputs.
    prefix : str, default ""
        What goes before the layers' names, where two models have layers of the same name.
    pool_above : int, optional
        The largest number of nodes of a layer that is read as it is. A larger one is averaged over blocks of
        neighbouring positions, channel by channel: the smallest blocks that leave so few nodes. One without positions
        stays as it is. By default all do.

    Attributes
    ----------
    names : tuple of str
        The layers' names. A layer with several outputs, or used several times, has ":0", ":1" ... behind its name.
    node_shapes : dict of str to tuple of int
        Of a layer whose first axis holds k consecutive rows for each image, because positions or frames are folded into
        it: (k, ...).

    Raises
    ------
    TypeError
        If the model is not a Keras model, or has no graph, or a layer is neither a name, an index nor a layer.
    ValueError
        If a layer does not exist (the message lists those that do), the size of its output is not known before there
        are images, or its first axis does not count the images. `transform` raises it if a layer's values depend on
        more than the image: see `NetworkSpace`.

    Examples
    --------
    >>> import keras
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="first")])
    >>> KerasLayers(model, ["first"]).node_shapes
    {'first': (6, 6, 4)}
    """

    def __init__(
        self, model: keras.Model, layers: str | Iterable[Any] = "all", prefix: str = "", pool_above: int | None = None
    ) -> None:
        check_graph(model)
        tensors = {prefix + name: tensor for name, tensor in find_outputs(model, layers).items()}
        super().__init__(model, tensors, {}, unfold=True)
        self.prefix = prefix
        rows = {name: self._rows[position] for name, position in self._positions.items()}
        shapes = {name: known_shape(name, tensor) for name, tensor in tensors.items()}
        self.node_shapes = {name: shape if rows[name] == 1 else (rows[name], *shape) for name, shape in shapes.items()}
        self.pool_above = pool_above
        self._pools = {
            name: Blocks.to_fit(shape, self.channel_axis(name), pool_above) for name, shape in self.node_shapes.items()
        }
        self.node_shapes = {name: blocks.pooled_shape for name, blocks in self._pools.items()}

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        pooled = {name: self._pools[name].mean(array) for name, array in read.items()}
        return {name: as_rows(array).astype(np.float32, copy=False) for name, array in pooled.items()}

    def channel_axis(self, name: str) -> int | None:
        """Return the last axis, also of a series (T, C); the first for a layer whose data format is channels_first."""
        operation = operation_of(self.tensors[name])
        first = getattr(operation, "data_format", None) == "channels_first"
        return 0 if first else len(self.node_shapes[name]) - 1

    def _options(self) -> list[str]:
        return [name.removeprefix(self.prefix) for name in self.tensors]  # blocks: the node shapes tell them
