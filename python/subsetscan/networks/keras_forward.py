"""The forward pass of a Keras model in inference, with as little around it as its backend allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

__all__ = ["forward_of"]


def forward_of(model: keras.Model) -> Callable[..., list[np.ndarray]]:
    """Return what computes all outputs of a model for arrays, one for each of its inputs.

    On TensorFlow it is one graph, traced at the first call and then called without Keras, whose `predict_on_batch`
    takes about twice as long for one input, and copies what it returns: here arrays are read-only. On other backends,
    and where a model asks to be run eagerly or cannot be traced for any number of samples, it is `predict_on_batch`.
    """
    import keras

    if keras.backend.backend() == "tensorflow" and not model.run_eagerly:
        return _Traced(model)
    return _by_keras(model)


def _by_keras(model: keras.Model) -> Callable[..., list[np.ndarray]]:
    def forward(*arrays: np.ndarray) -> list[np.ndarray]:
        outputs = model.predict_on_batch(list(arrays) if len(arrays) > 1 else arrays[0])
        # A single output comes without its list.
        return [np.asarray(output) for output in (outputs if isinstance(outputs, list) else [outputs])]

    return forward


class _Traced:
    """A model's graph on TensorFlow."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._graph: Callable[..., Any] | None = None
        self._instead: Callable[..., list[np.ndarray]] | None = None

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        import tensorflow as tf

        if self._graph is None and self._instead is None:
            try:
                self._graph = self._trace()
            except Exception:  # whatever a layer of one's own raises where shapes are open: Keras says it better
                self._instead = _by_keras(self._model)
        if self._graph is None:
            return self._instead(*arrays)  # type: ignore[misc]  # set where there is no graph
        return [_as_array(output) for output in self._graph(*map(tf.constant, arrays))]

    def _trace(self) -> Callable[..., Any]:
        import tensorflow as tf

        def call(*tensors: Any) -> list[Any]:
            outputs = self._model(list(tensors) if len(tensors) > 1 else tensors[0], training=False)
            return list(outputs) if isinstance(outputs, list | tuple) else [outputs]

        specs = [tf.TensorSpec(source.shape, source.dtype) for source in self._model.inputs]
        return tf.function(call, autograph=False).get_concrete_function(*specs)


def _as_array(tensor: Any) -> np.ndarray:
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError):  # a type that Python has none for, as bfloat16
        return tensor.numpy()
