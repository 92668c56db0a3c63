"""The spaces of a model where nobody chooses any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._validation import InvalidTypeError
from ..networks.keras import computing_layers, is_keras_model
from .base import Space
from .keras import KerasLayers

__all__ = ["WIDEST", "as_spaces"]

WIDEST = 4096  # nodes of a layer that is read as it is


def as_spaces(model: Any) -> list[Space]:
    """Take spaces, or all layers of a model that compute something.

    Left out are the inputs, and layers that hand on the values of another in a different shape, or do nothing after
    training, such as Flatten and Dropout. A layer of more than `WIDEST` nodes is averaged over blocks of positions.

    Parameters
    ----------
    model : keras.Model, Space or sequence of Space

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
    if is_keras_model(model):
        return [KerasLayers(model, computing_layers(model), pool_above=WIDEST)]
    if isinstance(model, Sequence):
        return list(model)
    raise InvalidTypeError(f"expected a Keras model, or spaces of subsetscan.spaces, got {type(model).__name__}")
