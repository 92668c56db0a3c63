"""What a detector sees of an image, as TensorFlow computes it with gradients: the values of its spaces, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..._validation import InvalidTypeError
from ...networks.keras import KerasNetwork
from ...networks.logits import logit_tensor
from ...spaces import ClassifierMargin, Laplacian, Layers, ReconstructionError, Space
from ...spaces.blocks import Blocks
from ...spaces.pooling import Pooling

__all__ = ["Values", "differentiable", "logits_of"]

Values = Mapping[str, Any]  # tensors of shape (n, J), by the space's name
_SMALLEST_PROBABILITY = 1e-7


def logits_of(classifier: Any) -> Callable[[Any], Any]:
    """Make a function from images to a Keras classifier's logits, (n, K), that has gradients."""
    import keras

    model = keras.Model(classifier.inputs[0], logit_tensor(classifier))
    return lambda images: model(images, training=False)


def differentiable(spaces: Sequence[Space]) -> Callable[[Any], Values]:
    """Make a function from images to the values of spaces of Keras models, that has gradients.

    Raises
    ------
    TypeError
        If the gradient of such a space is not written yet.
    """
    readers = [_reader(space) for space in spaces]

    def read(images: Any) -> Values:
        return {name: values for reader in readers for name, values in reader(images).items()}

    return read


def _reader(space: Space) -> Callable[[Any], Values]:
    import keras

    if isinstance(space, Layers) and isinstance(space.network, KerasNetwork):
        return _layers(space)
    name = space.names[0]
    if isinstance(space, ClassifierMargin) and isinstance(space.network, KerasNetwork):
        logits = logits_of(space.network.model)
        return lambda images: {name: _margin(logits(images))}
    if isinstance(space, ReconstructionError) and isinstance(space.network, KerasNetwork):
        error, own = _ERRORS[space.metric], space.network.model
        model = keras.Model(own.inputs[0], own.outputs[0])
        return lambda images: {name: _rows(error(images, model(images, training=False)))}
    if isinstance(space, Laplacian):
        return lambda images: {name: _rows(_laplacian(images))}
    raise InvalidTypeError(f"expected spaces of Keras models, or Laplacian, got {type(space).__name__}")


def _layers(space: Layers) -> Callable[[Any], Values]:
    import keras

    network: Any = space.network
    if not isinstance(space.pooling, Pooling) or space.pooling.unit != "node":
        raise InvalidTypeError(
            "expected layers whose nodes are places or blocks of them, got others: leave out pool and unit"
        )
    layers = [network.model.get_layer(name).output for name in space.reads]
    model = keras.Model(network.model.inputs[0], layers)
    most = space.pooling.most
    means = [
        _blocks(tuple(layer.shape[1:]), network.channel_axis(name, tuple(layer.shape[1:])), most)
        for name, layer in zip(space.reads, layers, strict=True)
    ]

    def read(images: Any) -> Values:
        found = keras.tree.flatten(model(images, training=False))
        return {name: _rows(mean(own)) for name, mean, own in zip(space.names, means, found, strict=True)}

    return read


def _blocks(shape: tuple[int, ...], channel_axis: int | None, most: int | None) -> Callable[[Any], Any]:
    """Average a layer's values as `Blocks` does: linear, so that what it makes of single positions tells all."""
    import tensorflow as tf

    if len(shape) != 3:
        return lambda values: values
    size = Blocks.to_fit(shape, channel_axis, most).size
    down, across = (
        tf.constant(Blocks((n, 1), 1, size).mean(np.eye(n, dtype=np.float32)[:, :, np.newaxis])[:, :, 0])
        for n in shape[:2]
    )
    return (lambda values: tf.einsum("nhwc,ha,wb->nabc", values, down, across)) if size > 1 else lambda values: values


def _rows(values: Any) -> Any:
    import tensorflow as tf

    return tf.reshape(values, (tf.shape(values)[0], -1))


def _margin(logits: Any) -> Any:
    import tensorflow as tf

    first, second = tf.unstack(tf.math.top_k(logits, 2).values, axis=1)
    return (second - first)[:, tf.newaxis]


def _laplacian(images: Any) -> Any:
    import tensorflow as tf

    padded = tf.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "SYMMETRIC")
    inner = padded[:, 1:-1, 1:-1]
    return padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] + padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2] - 4 * inner


def _binary_crossentropy(images: Any, reconstructions: Any) -> Any:
    import tensorflow as tf

    p = tf.clip_by_value(reconstructions, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return -(images * tf.math.log(p) + (1 - images) * tf.math.log(1 - p))


_ERRORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "absolute": lambda images, reconstructions: abs(images - reconstructions),
    "squared": lambda images, reconstructions: (images - reconstructions) ** 2,
    "signed": lambda images, reconstructions: images - reconstructions,
    "binary-crossentropy": _binary_crossentropy,
}
