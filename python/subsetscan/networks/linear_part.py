"""A dense layer without its activation, as a layer that Keras clones, saves and loads. Importing this needs Keras."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["LinearPart"]


@keras.saving.register_keras_serializable(package="subsetscan")
class LinearPart(keras.layers.Wrapper):
    """What a dense layer does before its activation, with the same weights.

    Parameters
    ----------
    layer : keras.layers.Dense
    **options
        Of every Keras layer.
    """

    def __init__(self, layer: keras.layers.Dense, **options: Any) -> None:
        super().__init__(layer, **options)
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        """Compute the values before the activation."""
        x = keras.ops.matmul(x, self.layer.kernel)
        return x if self.layer.bias is None else keras.ops.add(x, self.layer.bias)
