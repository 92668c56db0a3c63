"""The spaces of a model where nobody chooses any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._validation import InvalidTypeError
from ..networks import as_network
from ..networks.wrap import is_network
from .base import Space
from .layers import Layers

__all__ = ["WIDEST", "as_spaces"]

WIDEST = 4096  # nodes of a layer that is read as it is


def as_spaces(model: Any) -> list[Space]:
    """Take spaces, or all layers of a model that compute something.

    Left out are the inputs, and layers that hand on the values of another in a different shape, or do nothing after
    training, such as Flatten and Dropout. A layer of more than `WIDEST` nodes is averaged over blocks of positions.

    Parameters
    ----------
    model : keras.Model, torch.nn.Module, path of an ONNX file, Network, Space or sequence of Space

    Returns
    -------
    list of Space

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(model, Space):
        return [model]
    if is_network(model):
        network = as_network(model)
        return [Layers(network, network.computing(), pool_above=WIDEST)]
    if isinstance(model, Sequence):
        return list(model)
    raise InvalidTypeError(
        "expected a Keras model, a PyTorch module, the path of an .onnx file, or spaces of subsetscan.spaces, got "
        f"{type(model).__name__}"
    )
