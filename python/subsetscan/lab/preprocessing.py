"""What a model expects of its pixels, put before it as a layer: images stay in [0, 1] for whoever works on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..networks.keras_graph import check_graph, operation_of

if TYPE_CHECKING:
    import keras

__all__ = ["PREPROCESSINGS", "with_preprocessing"]

PREPROCESSINGS = ("none", "0-255", "tf", "torch", "caffe")

# Of ImageNet's training set, as in keras.applications: red, green, blue.
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_MEAN_255 = np.array([123.68, 116.779, 103.939])


def with_preprocessing(model: keras.Model, mode: str) -> keras.Model:
    """Put before a model the fixed linear layer that makes of images in [0, 1] what the model was trained on.

    Parameters
    ----------
    model : keras.Model
        With a graph and one input, of shape (..., C). It stays as it is, and shares its weights.
    mode : {"none", "0-255", "tf", "torch", "caffe"}
        "none": images as they are, and the model itself is returned; "0-255": times 255; "tf": from -1 to 1; "torch":
        minus the mean and divided by the standard deviation of ImageNet; "caffe": times 255, in the order blue, green,
        red, minus the mean of ImageNet. The last three are the modes of ``keras.applications``.

    Raises
    ------
    TypeError
        If the model is not a Keras model, or has no graph.
    ValueError
        If the mode is unknown, the model has several inputs, or for "torch" and "caffe", if its images do not end in
        three channels.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    >>> with_preprocessing(model, "tf").predict_on_batch(np.full((1, 2, 2, 1), 0.75))
    array([[0.5, 0.5, 0.5, 0.5]], dtype=float32)
    """
    if mode not in PREPROCESSINGS:
        raise ValueError(f"unknown preprocessing {mode!r}; known are {', '.join(PREPROCESSINGS)}")
    check_graph(model)
    if mode == "none":
        return model
    import keras

    source = model.inputs[0]
    if mode in ("torch", "caffe") and source.shape[-1] != 3:
        raise ValueError(
            f'preprocessing "{mode}" is for images of shape (H, W, 3), red, green and blue; '
            f"{model.name} takes {tuple(source.shape[1:])}"
        )
    # In a graph names must differ.
    name = f"{model.name}_preprocessing"
    images = keras.Input(source.shape[1:], dtype=source.dtype, name=operation_of(source).name)
    if mode == "caffe":
        # What a 1 x 1 convolution does, but it is not taken for the last convolutional layer of a model without any.
        layer = keras.layers.Dense(3, trainable=False, dtype=source.dtype, name=name)
        layer.build(images.shape)
        layer.set_weights([255 * np.eye(3)[::-1], -_MEAN_255[::-1]])
    else:
        scale, offset = {"0-255": (255, 0), "tf": (2, -1), "torch": ((1 / _STD).tolist(), (-_MEAN / _STD).tolist())}[
            mode
        ]
        layer = keras.layers.Rescaling(scale, offset, dtype=source.dtype, name=name)
    return keras.Model(images, model(layer(images)), name=model.name)
