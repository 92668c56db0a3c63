"""Values inside a network: layers, modules or tensors by name, read in one pass without any change to the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..input_checks import ShapeError, as_rows
from ..networks import KerasNetwork, OnnxNetwork, TorchNetwork
from ..networks.tokens import mask_of
from .network import NetworkSpace
from .pooling import Pool, Pooling
from .token_pooling import TokenPooling

if TYPE_CHECKING:
    import keras
    import torch

__all__ = ["OVER", "KerasLayers", "Layers", "OnnxLayers", "TorchLayers"]

OVER = ("positions", "tokens")


class Layers(NetworkSpace):
    """Values inside a network: each position and channel of what a layer gives is a node.

    Parameters
    ----------
    model : keras.Model, torch.nn.Module, path of an ONNX file, or Network
        See `subsetscan.networks.as_network`.
    layers : "all", or str or sequence of str
        Names, as `subsetscan.networks.layer_names` lists them, or patterns: ``"encoder.*.dense"``.
    prefix : str, default ""
        What goes before the layers' names, where two models have layers of the same name.
    pool : {"mean", "max"}, callable or None
        Over the positions of each channel, or over the channels of each position; a function takes an array and its
        axes, as `numpy.median` does. None, the default, pools nothing.
    over : {"positions", "tokens"}, default "positions"
        "tokens": the first axis of a layer counts tokens, over which `pool` goes, "first" and "last" among its choices.
        What the model's input "attention_mask" (or "padding_mask", or "mask") has 0 for, padding, does not count.
    unit : {"node", "channel", "position"}, optional
        What is a node, over positions. By default "channel" where there is a `pool`; with a `unit` alone the mean is
        taken. A layer of 224 x 224 positions and 64 channels is so scanned as 64 channels, as 50,176 positions, or
        whole.
    pool_above : int, optional
        The largest number of nodes of a layer that is read as it is. A larger one is averaged over blocks of
        neighbouring positions, channel by channel: the smallest blocks that leave so few nodes. One without positions
        stays as it is. By default all do.

    Attributes
    ----------
    names : tuple of str
        The layers' names.
    node_shapes : dict of str to tuple of int
        Of those layers whose shape the network tells, or a pass has shown. Of a layer whose first axis holds k
        consecutive rows for each input, because positions or frames are folded into it: (k, ...).

    Raises
    ------
    TypeError
        If the model is none, or its values cannot be read, or a layer is not named by text.
    ValueError
        If a layer does not exist (the message lists those that do), or an option; if nodes go by channels or positions,
        and the network cannot tell which axis counts channels. `transform` raises it if a layer has another shape than
        before, or its values depend on more than the input: see `NetworkSpace`.

    Examples
    --------
    >>> import keras
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="first")])
    >>> Layers(model, ["first"]).node_shapes, Layers(model, ["first"], pool="mean").node_shapes
    ({'first': (6, 6, 4)}, {'first': (4,)})
    """

    def __init__(
        self,
        model: Any,
        layers: str | Iterable[Any] = "all",
        prefix: str = "",
        pool_above: int | None = None,
        *,
        pool: Pool = None,
        over: str = "positions",
        unit: str | None = None,
    ) -> None:
        super().__init__(model, (), ())
        self.reads = self.network.find(layers)
        self.prefix = prefix
        self._names = tuple(prefix + name for name in self.reads)
        self.pooling = _pooling(pool, over, unit, pool_above)
        self._shapes: dict[str, tuple[int, ...]] = {}  # before pooling
        for name, shape in self.network.shapes(self.reads).items():
            self._learn(name, shape)

    def values(self, images: Any, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        mask = mask_of(images) if isinstance(self.pooling, TokenPooling) else None
        found = {}
        for name, array in read.items():
            if (shape := array.shape[1:]) != self._shapes.get(name):
                self._learn(name, shape)
            pooled = self.pooling(array, self._axis(name, shape), mask)
            found[self.prefix + name] = as_rows(pooled).astype(np.float32, copy=False)
        return found

    def channel_axis(self, name: str) -> int | None:  # noqa: D102
        own = name.removeprefix(self.prefix)
        shape = self._shapes[own]
        try:
            axis = self.network.channel_axis(own, shape)
        except ValueError:  # nodes are told by their places alone
            axis = None
        return self.pooling.channel_axis(shape, axis)

    def _axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Ask the network which axis counts channels, where that matters. Raises ValueError if it cannot tell."""
        return self.network.channel_axis(name, shape) if self.pooling.goes_by_channels(shape) else None

    def _learn(self, name: str, shape: tuple[int, ...]) -> None:
        """Take the shape of what a layer gives. Raises ValueError if the nodes would be others than before."""
        known, nodes = self._shapes.get(name, shape), self.pooling.shape(shape, self._axis(name, shape))
        if self.pooling.shape(known, self._axis(name, known)) != nodes or (
            known != shape and self.pooling.unit != "channel"
        ):
            raise ShapeError(
                f"{name} of {self.network.name} has the shape {shape} for an input, and {known} for earlier ones: give "
                "inputs of one size, or pool over their positions"
            )
        self._shapes[name] = shape
        self.node_shapes = {**self.node_shapes, self.prefix + name: nodes}

    def _options(self) -> list[str]:
        shapes = self.network.shapes(self.reads)
        told = [str(self.pooling.shape(own, self._axis(name, own))) for name, own in shapes.items()]
        return [*self.reads, *self.pooling.told(), *(told or [str(self.pooling.most)])]


def _pooling(pool: Pool, over: str, unit: str | None, pool_above: int | None) -> Pooling | TokenPooling:
    """Choose how to pool. Raises ValueError or TypeError if options are unknown, or do not go together."""
    if over not in OVER:
        raise ValueError(f"over must be {' or '.join(map(repr, OVER))}, got {over!r}")
    if over == "positions" or pool is None:
        return Pooling.of(pool, unit, pool_above)
    if unit not in (None, "channel") or pool_above is not None:
        raise ValueError("over tokens, unit and pool_above are not used: leave them out")
    return TokenPooling.of(pool)


class KerasLayers(Layers):
    """Outputs of layers of a Keras model: `Layers` with what Keras alone has.

    Parameters
    ----------
    model : keras.Model
        Functional, sequential and built, or subclassed with ``inputs`` and ``outputs``.
    layers : "all", or sequence of str, int or keras.layers.Layer
        Names, patterns or indices of layers of ``model.layers``, or these layers themselves; "name:0" is the first
        output of a layer that has several or is used several times, "inner/name" a layer of a model within the model.
        "all" takes every layer but the inputs.
    prefix, pool_above, pool, over, unit
        As for `Layers`.

    Raises
    ------
    TypeError
        If the model is not a Keras model, or has no graph, or a layer is neither a name, an index nor a layer.
    ValueError
        As for `Layers`; and if the first axis of an output does not count the inputs.

    Examples
    --------
    >>> import keras
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="first")])
    >>> KerasLayers(model, [0]).node_shapes
    {'first': (6, 6, 4)}
    """

    def __init__(
        self,
        model: keras.Model,
        layers: str | Iterable[Any] = "all",
        prefix: str = "",
        pool_above: int | None = None,
        *,
        pool: Pool = None,
        over: str = "positions",
        unit: str | None = None,
    ) -> None:
        network = model if isinstance(model, KerasNetwork) else KerasNetwork(model)
        super().__init__(network, layers, prefix, pool_above, pool=pool, over=over, unit=unit)


class TorchLayers(Layers):
    """Outputs of submodules of a PyTorch module: `Layers` with what PyTorch alone has.

    Parameters
    ----------
    model : torch.nn.Module
    layers : "all", or str or sequence of str
        Names as ``named_modules()`` has them, or patterns; "name:1" is the second tensor of a module that returns
        several or is called several times.
    prefix, pool_above, pool, over, unit
        As for `Layers`.
    device : str or torch.device, optional
        As for `subsetscan.networks.TorchNetwork`.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        layers: str | Iterable[str] = "all",
        prefix: str = "",
        pool_above: int | None = None,
        *,
        pool: Pool = None,
        over: str = "positions",
        unit: str | None = None,
        device: Any = None,
    ) -> None:
        network = model if isinstance(model, TorchNetwork) else TorchNetwork(model, device=device)
        super().__init__(network, layers, prefix, pool_above, pool=pool, over=over, unit=unit)


class OnnxLayers(Layers):
    """Tensors of an ONNX model: `Layers` with what ONNX alone has.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or OnnxNetwork
    layers : "all", or str or sequence of str
        Names of tensors, nodes or scopes, or patterns: see `subsetscan.networks.OnnxNetwork`.
    prefix, pool_above, pool, over, unit
        As for `Layers`.
    providers : sequence of str, optional
        As for `subsetscan.networks.OnnxNetwork`.
    """

    def __init__(
        self,
        model: Any,
        layers: str | Iterable[str] = "all",
        prefix: str = "",
        pool_above: int | None = None,
        *,
        pool: Pool = None,
        over: str = "positions",
        unit: str | None = None,
        providers: Sequence[str] | None = None,
    ) -> None:
        network = model if isinstance(model, OnnxNetwork) else OnnxNetwork(model, providers=providers)
        super().__init__(network, layers, prefix, pool_above, pool=pool, over=over, unit=unit)
