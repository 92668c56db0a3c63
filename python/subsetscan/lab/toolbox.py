"""A Keras classifier as the Adversarial Robustness Toolbox takes it: classes, their logits, and gradients."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .._extras import import_extra
from .outputs import Outputs, last_step

if TYPE_CHECKING:
    import keras

__all__ = ["as_art"]


def as_art(classifier: keras.Model, outputs: Outputs, clip_values: tuple[float, float] | None, on_logits: bool) -> Any:
    """Hand a classifier to the toolbox, with gradients that are compiled once: its own are traced in every call.

    Parameters
    ----------
    classifier : keras.Model
        It stays as it is.
    outputs : Outputs
        What its outputs are. A single neuron becomes two classes.
    clip_values : tuple of two floats, or None
        Where attacked pixels are clipped to.
    on_logits : bool
        Whether the attack sees logits, rather than probabilities.
    """
    import keras
    import tensorflow as tf

    with warnings.catch_warnings():
        # The toolbox warns of every framework that is not installed.
        warnings.filterwarnings("ignore", category=UserWarning, module="art")
        art_classifiers = import_extra("art.estimators.classification", "attacks")
    view = keras.Model(classifier.inputs[0], classifier.outputs[0])
    images = tf.TensorSpec((None, *view.input_shape[1:]), tf.float32)
    labels = tf.TensorSpec((None, outputs.n_classes), tf.float32)

    def read(x: Any) -> Any:
        traced = view(x, training=False)
        return _logits(traced, outputs) if on_logits else _probabilities(traced, outputs)

    def of_loss(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = _logits(view(x, training=False), outputs)
            losses = tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=logits)
        return tape.gradient(losses, x)

    def of_classes(x: Any) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            logits = _logits(view(x, training=False), outputs)
            each = tf.unstack(logits, axis=1)
        if tape.gradient(logits, x) is None:
            return None
        # One of the two classes of a single neuron is constant.
        return tf.stack([tape.gradient(one, x, unconnected_gradients="zero") for one in each], axis=1)

    # Of a concrete function: the attacks that draw call it a thousand times for an image.
    forward = tf.function(read, input_signature=[images]).get_concrete_function()
    gradient = tf.function(of_loss, input_signature=[images, labels])
    gradients = tf.function(of_classes, input_signature=[images])

    def as_array(found: Any) -> np.ndarray:
        if found is None:
            raise ValueError(
                f"{classifier.name} has no gradient with respect to its images, because a layer rounds or compares: "
                "use an attack that needs none, boundary or one-pixel"
            )
        return np.asarray(found)

    class Compiled(art_classifiers.KerasClassifier):  # type: ignore[name-defined]
        def predict(self, x: np.ndarray, batch_size: int = 128, **_: Any) -> np.ndarray:
            parts = [x[n : n + batch_size].astype(np.float32) for n in range(0, len(x), batch_size)]
            return np.concatenate([forward(tf.constant(part)).numpy() for part in parts])

        def loss_gradient(self, x: np.ndarray, y: np.ndarray, **_: Any) -> np.ndarray:
            return as_array(gradient(x.astype(np.float32), y.astype(np.float32)))

        def class_gradient(self, x: np.ndarray, label: Any = None, **_: Any) -> np.ndarray:
            of_all = as_array(gradients(x.astype(np.float32)))
            if label is None:
                return of_all
            return of_all[np.arange(len(x)), np.broadcast_to(label, len(x))][:, np.newaxis]

    return Compiled(view, clip_values=clip_values, use_logits=on_logits)


def _logits(traced: Any, outputs: Outputs) -> Any:
    """Find logits of shape (None, K >= 2), up to a constant for each image, without the rounding of probabilities."""
    import tensorflow as tf

    values = tf.cast(traced, tf.float32)
    operation, before = last_step(traced)
    if outputs.from_logits or operation in ("Softmax", "Sigmoid"):
        logits = values if outputs.from_logits else tf.cast(before, tf.float32)
        return logits if outputs.n_neurons > 1 else tf.concat([tf.zeros_like(logits), logits], axis=1)
    return tf.math.log(tf.maximum(_probabilities(traced, outputs), np.finfo(np.float32).tiny))


def _probabilities(traced: Any, outputs: Outputs) -> Any:
    import tensorflow as tf

    if outputs.from_logits:
        return tf.nn.softmax(_logits(traced, outputs))
    values = tf.cast(traced, tf.float32)
    return values if outputs.n_neurons > 1 else tf.concat([1 - values, values], axis=1)
