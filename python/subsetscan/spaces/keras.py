"""Activations of Keras layers, read in one forward pass without any change to the model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._extras import import_extra
from .base import Space, as_rows, check_images

if TYPE_CHECKING:
    import keras

__all__ = ["KerasLayers", "NetworkSpace"]

_SOFTMAXES = {"Softmax", "softmax", "softmax_v2"}  # the layer and the operation, the function, TensorFlow's function


class NetworkSpace(Space):
    """A space that reads tensors of one Keras network; spaces over the same network share their forward passes.

    Parameters
    ----------
    model : keras.Model
        With a graph: functional, sequential and built, or subclassed with ``inputs`` and ``outputs``. One input.
    tensors : mapping of str to KerasTensor
        What `values` wants to read.
    node_shapes : mapping of str to tuple of int
        As in `Space`.

    Attributes
    ----------
    forward_batch : int
        Images in one forward pass, 64; set it lower where a network's activations take too much memory.
    """

    forward_batch = 64

    def __init__(
        self, model: keras.Model, tensors: Mapping[str, keras.KerasTensor], node_shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        import keras

        self.model = model
        self.tensors = dict(tensors)
        self.node_shapes = dict(node_shapes)
        distinct = {id(tensor): tensor for tensor in self.tensors.values()}
        self._positions = {name: list(distinct).index(id(tensor)) for name, tensor in self.tensors.items()}
        # A second view of the same graph: it shares layers and weights with the model and leaves it as it is.
        self._reader = keras.Model(model.inputs[0], list(distinct.values()))

    def transform(self, images: Any) -> dict[str, np.ndarray]:  # noqa: D102 (the base says it)
        images = check_images(images, self.model.inputs[0].shape[1:])
        return self.values(images, self._read(images))

    @abstractmethod
    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn images and the tensors read for them into node values."""

    def joined(self, other: Space) -> Space | None:  # noqa: D102 (the base says it)
        if isinstance(other, NetworkSpace) and other.model is self.model:
            return _JoinedSpaces([*_parts(self), *_parts(other)])
        return None

    def _read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        parts = [self._pass(images[n : n + self.forward_batch]) for n in range(0, len(images), self.forward_batch)]
        if not parts:  # no network takes an empty batch
            return {name: np.empty((0, *tensor.shape[1:]), np.float32) for name, tensor in self.tensors.items()}
        arrays = [outputs[0] if len(outputs) == 1 else np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        return {name: arrays[position] for name, position in self._positions.items()}

    def _pass(self, images: np.ndarray) -> list[np.ndarray]:
        # Convolutions round differently in batches of another size. All passes are of one size, so that an image's
        # values do not depend on the images beside it.
        missing = self.forward_batch - len(images)
        padded = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)]) if missing else images
        outputs = self._reader.predict_on_batch(padded)  # a single one comes without its list
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return [np.asarray(output)[: len(images)] for output in outputs]


class _JoinedSpaces(NetworkSpace):
    """Several spaces over one network."""

    def __init__(self, parts: Sequence[NetworkSpace]) -> None:
        self.parts = list(parts)
        super().__init__(
            parts[0].model,
            {f"{n}/{name}": tensor for n, part in enumerate(parts) for name, tensor in part.tensors.items()},
            {name: shape for part in parts for name, shape in part.node_shapes.items()},
        )
        self.forward_batch = min(part.forward_batch for part in parts)

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        result: dict[str, np.ndarray] = {}
        for n, part in enumerate(self.parts):
            result |= part.values(images, {name: read[f"{n}/{name}"] for name in part.tensors})
        return result


def _parts(space: NetworkSpace) -> list[NetworkSpace]:
    return space.parts if isinstance(space, _JoinedSpaces) else [space]


class KerasLayers(NetworkSpace):
    """Activations of layers of a Keras model: each position and channel of a layer's output is a node.

    Parameters
    ----------
    model : keras.Model
        Functional, sequential and built, or subclassed with ``inputs`` and ``outputs``.
    layers : "all", or sequence of str or int
        Names or indices of layers of ``model.layers``; "all" takes every layer but the inputs.
    prefix : str, default ""
        What goes before the layers' names, where two models have layers of the same name.

    Attributes
    ----------
    names : tuple of str
        The layers' names. A layer with several outputs, or used several times, has ":0", ":1" ... behind its name.
    node_shapes : dict of str to tuple of int

    Raises
    ------
    TypeError
        If the model is none of Keras, or has no graph.
    ValueError
        If there is no such layer (the message lists those that are), or the size of its output is not known before
        there are images.

    Examples
    --------
    >>> import keras
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="first")])
    >>> KerasLayers(model, ["first"]).node_shapes
    {'first': (6, 6, 4)}
    """

    def __init__(self, model: keras.Model, layers: str | Sequence[str | int] = "all", prefix: str = "") -> None:
        check_graph(model)
        tensors: dict[str, keras.KerasTensor] = {}
        for layer in _find_layers(model, layers):
            outputs = _outputs_in(model, layer)
            for n, tensor in enumerate(outputs):
                tensors[prefix + (layer.name if len(outputs) == 1 else f"{layer.name}:{n}")] = tensor
        super().__init__(model, tensors, {name: known_shape(name, tensor) for name, tensor in tensors.items()})

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        return {name: as_rows(array).astype(np.float32, copy=False) for name, array in read.items()}


def check_graph(model: Any) -> None:
    """Refuse what is no Keras model with a graph and one input. Raises TypeError or ValueError."""
    keras = import_extra("keras", "keras")
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a Keras model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise TypeError("the sequential model is not built: give it a keras.Input, or call model.build(input_shape)")
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise TypeError(
            f"{type(model).__name__} is a subclassed model without a graph, so its layers' outputs cannot be read: "
            "build it with keras.Model(inputs=..., outputs=...)"
        )
    if len(inputs) != 1:
        raise ValueError(f"expected a model with one input, {model.name} has {len(inputs)}")


def known_shape(name: str, tensor: keras.KerasTensor) -> tuple[int, ...]:
    """Return the shape of one image's nodes. Raises ValueError if the graph leaves it open."""
    shape = tuple(tensor.shape[1:])
    if None in shape:
        raise ValueError(f"the output of {name} has no fixed size: {shape}; rebuild the model with a fixed input shape")
    return shape


def logit_tensor(model: keras.Model) -> keras.KerasTensor:
    """Find a classifier's logits, so that ``keras.Model(model.inputs, logit_tensor(model))`` maps images to them.

    Parameters
    ----------
    model : keras.Model
        One that `check_graph` accepts. It stays as it is: what is read shares its layers and weights.

    Returns
    -------
    KerasTensor of shape (None, K)
        What the softmax that the model ends in is given; the model's output if it ends in none.

    Raises
    ------
    ValueError
        If there is not one output of shape (None, K) with K >= 2, or the softmax cannot be left out.
    """
    shapes = [tuple(output.shape) for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or (shapes[0][1] or 0) < 2:
        received = ", ".join(str(shape) for shape in shapes)
        raise ValueError(
            f"{model.name} is no classifier: expected one output of shape (None, K) with K >= 2 classes, got {received}"
        )
    return _before_softmax(model.outputs[0])


def _before_softmax(tensor: keras.KerasTensor) -> keras.KerasTensor:
    import keras

    layer, call, position = tensor._keras_history
    arguments = layer._inbound_nodes[call].arguments
    # In a graph names must differ, and the user's layers may have names that Keras would choose for new ones.
    name = f"{layer.name}_before_softmax_{keras.backend.get_uid('before_softmax')}"
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):  # a model within the model, with a graph
        inner = layer.outputs[position]
        before = _before_softmax(inner)
        return tensor if before is inner else keras.Model(layer.inputs, before, name=name)(*arguments.args)
    function = getattr(layer, "activation", layer)  # a softmax may be a layer or an operation of its own
    if getattr(function, "__name__", type(function).__name__) not in _SOFTMAXES:
        return tensor
    if function is layer or isinstance(layer, keras.layers.Activation):
        if len(arguments.keras_tensors) == 1:  # no mask
            return arguments.keras_tensors[0]
    elif type(layer) is keras.layers.Dense and layer.quantization_mode is None:
        return _linear_part(layer, name)(arguments.keras_tensors[0])
    raise ValueError(
        f"the softmax of {layer.name} ({type(layer).__name__}) cannot be left out: expected a Dense, Activation or "
        "Softmax layer, neither quantized nor masked; give the classifier without its softmax instead"
    )


def _linear_part(dense: keras.layers.Dense, name: str) -> keras.layers.Layer:
    """Make a layer that does what a dense one does before its activation, with the same weights."""
    import keras

    class LinearPart(keras.layers.Layer):
        is_affine = True  # FeatureResponse looks for it

        def __init__(self) -> None:
            super().__init__(name=name, dtype=dense.dtype_policy)
            self.dense = dense
            self.supports_masking = True

        def call(self, x: Any) -> Any:
            x = keras.ops.matmul(x, self.dense.kernel)
            return x if self.dense.bias is None else keras.ops.add(x, self.dense.bias)

    return LinearPart()


def _find_layers(model: keras.Model, wanted: str | Sequence[str | int]) -> list[keras.layers.Layer]:
    import keras

    available = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if isinstance(wanted, str):
        if wanted != "all":
            raise ValueError(f'layers must be "all" or a list of names or indices, got {wanted!r}')
        return available
    found: list[keras.layers.Layer] = []
    for which in wanted:
        if isinstance(which, str):
            layer = next((layer for layer in available if layer.name == which), None)
        else:
            layer = model.layers[which] if -len(model.layers) <= which < len(model.layers) else None
        if layer is None:
            names = ", ".join(layer.name for layer in available)
            raise ValueError(f"{model.name} has no layer {which!r}; it has {len(model.layers)} layers: {names}")
        if layer not in found:
            found.append(layer)
    if not found:
        raise ValueError("no layer is asked for: name at least one, or all")
    return found


def _outputs_in(model: keras.Model, layer: keras.layers.Layer) -> list[keras.KerasTensor]:
    """Collect a layer's outputs in this model's graph: the layer may serve other models as well."""
    graph = getattr(model, "_functional", None) or model  # a sequential model keeps its graph beside itself
    in_graph = {id(node) for nodes in graph._nodes_by_depth.values() for node in nodes}
    return [tensor for node in layer._inbound_nodes if id(node) in in_graph for tensor in node.output_tensors]
