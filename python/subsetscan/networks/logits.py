"""The logits of a classifier: those of a Keras model, before the softmax that it ends in, and what logits are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .keras_graph import call_of, has_graph, lifted, unique_name

if TYPE_CHECKING:
    import keras

__all__ = ["are_probabilities", "check_classes", "logit_tensor"]

_SOFTMAXES = {"Softmax", "softmax", "softmax_v2"}  # the layer and the operation, the function, TensorFlow's function
_PURPOSE = "before_softmax"


def logit_tensor(model: keras.Model) -> keras.KerasTensor:
    """Find a classifier's logits, so that ``keras.Model(model.inputs, logit_tensor(model))`` maps inputs to them.

    Parameters
    ----------
    model : keras.Model
        One that `check_graph` accepts. It stays as it is: what is read shares its layers and weights.

    Returns
    -------
    KerasTensor of shape (None, K)
        What the softmax that the model ends in is given; the model's output if it ends in none. A model that is made
        with it can be cloned and saved; to load it in another process, import `subsetscan.networks.linear_part` first.

    Raises
    ------
    ValueError
        If there is not one output of shape (None, K) with K >= 2, or the softmax cannot be left out.
    """
    shapes = [tuple(output.shape) for output in model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or (shapes[0][1] or 0) < 2:
        received = ", ".join(str(shape) for shape in shapes)
        raise ValueError(
            f"{model.name} is not a classifier: expected one output of shape (None, K) with K >= 2 classes, "
            f"got {received}"
        )
    return _before_softmax(model.outputs[0])


def check_classes(name: str, shape: tuple[int, ...]) -> None:
    """Check the shape of an input's logits. Raises ValueError if the network that is called so is no classifier."""
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(
            f"{name} is not a classifier: expected one output of shape (N, K) with K >= 2 classes, got "
            f"{shape} for each input"
        )


def are_probabilities(outputs: np.ndarray) -> bool:
    """Tell whether rows of outputs look like a softmax's."""
    return outputs.ndim == 2 and bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))


def _before_softmax(tensor: keras.KerasTensor) -> keras.KerasTensor:
    import keras

    call = call_of(tensor)
    layer, position, arguments = call
    if has_graph(layer):  # a model within the model
        inner = layer.outputs[position]
        before = _before_softmax(inner)
        return tensor if before is inner else lifted(call, [before], _PURPOSE)[0]
    function = getattr(layer, "activation", layer)  # a softmax may be a layer or an operation of its own
    if getattr(function, "__name__", type(function).__name__) not in _SOFTMAXES:
        return tensor
    if function is layer or isinstance(layer, keras.layers.Activation):
        if len(arguments.keras_tensors) == 1:  # no mask
            return arguments.keras_tensors[0]
    elif type(layer) is keras.layers.Dense and layer.quantization_mode is None:
        from .linear_part import LinearPart

        return LinearPart(layer, name=unique_name(layer, _PURPOSE), dtype=layer.dtype_policy)(
            arguments.keras_tensors[0]
        )
    raise ValueError(
        f"the softmax of {layer.name} ({type(layer).__name__}) cannot be left out: expected a Dense, Activation or "
        "Softmax layer, neither quantized nor masked; give the classifier without its softmax instead"
    )
