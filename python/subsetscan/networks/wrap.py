"""A network of whatever a user has."""

from __future__ import annotations

import os
from typing import Any

from .._validation import InvalidTypeError
from .base import Network
from .keras import KerasNetwork
from .keras_graph import is_keras_model
from .onnx import OnnxNetwork, is_onnx_model
from .torch import TorchNetwork, is_torch_module

__all__ = ["as_network", "is_network", "layer_names"]


def as_network(model: Any) -> Network:
    """Make a network of a model.

    Parameters
    ----------
    model : keras.Model, torch.nn.Module, path of an ONNX file, onnx.ModelProto, or Network
        A `Network` stays what it is.

    Returns
    -------
    Network

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If its values cannot be read.

    Examples
    --------
    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden")])
    >>> as_network(model).layer_names()
    ('hidden',)
    """
    if isinstance(model, Network):
        return model
    if is_keras_model(model):
        return KerasNetwork(model)
    if is_torch_module(model):
        return TorchNetwork(model)
    if is_onnx_model(model):
        return OnnxNetwork(model)
    if isinstance(model, str | os.PathLike):
        raise InvalidTypeError(f"expected the path of an .onnx file, got {os.fspath(model)!r}")
    raise InvalidTypeError(
        "expected a Keras model, a PyTorch module, the path of an .onnx file or a subsetscan.networks.Network, "
        f"got {type(model).__name__}"
    )


def is_network(model: Any) -> bool:
    """Tell whether `as_network` takes it."""
    return isinstance(model, Network) or is_keras_model(model) or is_torch_module(model) or is_onnx_model(model)


def layer_names(model: Any) -> tuple[str, ...]:
    """List the names of what can be read in a model, from its input on.

    Parameters
    ----------
    model : object
        As for `as_network`.
    """
    return as_network(model).layer_names()
