"""What a layer gives at each position of an input, as rows: tokens of a text, places of an input, steps of a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._validation import refuse_masked
from ..input_checks import InputError
from ..networks import TextNetwork
from ..networks.tokens import mask_of
from .layers import Layers
from .token_pooling import TokenPooling

__all__ = ["Positions", "read_positions"]


@dataclass(frozen=True, eq=False)
class Positions:
    """The positions of one input.

    Attributes
    ----------
    values : ndarray of shape (P, C), float32 or float64
        What C units give at each.
    shape : tuple of int
        In which they lie, as (H, W) for P = H * W.
    spans : ndarray of shape (P, 2), int, or None
        Of a text, from which character each token goes to before which.
    """

    values: np.ndarray
    shape: tuple[int, ...]
    spans: np.ndarray | None = None


def read_positions(space: Layers | None, inputs: Any, channel_axis: int | None = None) -> list[Positions]:
    """Read the positions of inputs.

    Parameters
    ----------
    space : Layers or None
        With one layer, whose pooling is not used. None: the inputs are what some layer gave.
    inputs : object
        As the space takes them; without one arrays of shape (P, C), or (H, W, C).
    channel_axis : int, optional
        Which axis of what the layer gives for an input counts units; by default as the network says, without one last.

    Returns
    -------
    list of Positions
        Tokens that are padding, or that a tokenizer adds, are left out.

    Raises
    ------
    ValueError
        If a layer has no positions, the network cannot tell its axis of units, or a value is not finite.
    """
    found = _given(inputs, channel_axis) if space is None else _read(space, inputs, channel_axis)
    for n, one in enumerate(found):
        if not np.isfinite(one.values).all():
            raise InputError(n, "has NaN or infinite values at its positions")
    return found


def _given(inputs: Any, channel_axis: int | None) -> list[Positions]:
    found = []
    for n, one in enumerate(inputs):
        refuse_masked(one, f"input {n}")
        array = np.asarray(one)
        if array.dtype.kind not in "biuf":
            raise InputError(n, f"has dtype {array.dtype}, expected numbers")
        if array.ndim < 2:
            raise InputError(n, f"must have positions and units, shape (P, C) or (H, W, C), got {array.shape}")
        axis = -1 if channel_axis is None else channel_axis
        if not -array.ndim <= axis < array.ndim:
            raise InputError(n, f"has the shape {array.shape}: no axis {axis}, which is to count units")
        found.append(_of(np.moveaxis(array, axis, -1)))
    return found


def _of(array: np.ndarray, spans: np.ndarray | None = None) -> Positions:
    """Take an array (..., C) of one input."""
    dtype = np.result_type(array.dtype, np.float32)  # float64 for whole numbers that float32 may not hold
    return Positions(array.reshape(-1, array.shape[-1]).astype(dtype), array.shape[:-1], spans)


def _read(space: Layers, inputs: Any, channel_axis: int | None) -> list[Positions]:
    network, (name,) = space.network, space.reads
    over_tokens = isinstance(space.pooling, TokenPooling) or isinstance(network, TextNetwork)
    tokens = None
    if isinstance(network, TextNetwork) and not isinstance(inputs, Mapping | tuple):
        tokens = inputs = network.tokens(inputs)
    found: dict[int, Positions] = {}
    for rows, part, read in space.passes(network.check(inputs)):
        values = read[name][: len(rows)]
        axis = channel_axis
        if axis is None:
            axis = values.ndim - 2 if over_tokens else network.channel_axis(name, values.shape[1:])
        if values.ndim < 3 or axis is None or not -values.ndim + 1 <= axis < values.ndim - 1:
            raise ValueError(
                f"{name} of {network.name} has the shape {values.shape[1:]} for an input: no positions beside "
                f"units of axis {axis}"
            )
        axis %= values.ndim - 1
        mask = mask_of(part) if over_tokens else None
        for k, (row, one) in enumerate(zip(rows.tolist(), np.moveaxis(values, axis + 1, -1), strict=True)):
            found[row] = _of(one) if mask is None else _real(one, mask[k], tokens, row)
    return [found[row] for row in sorted(found)]


def _real(values: np.ndarray, mask: np.ndarray, tokens: Any, row: int) -> Positions:
    """Leave out padding, and tokens that are no part of the text."""
    if len(values) != len(mask):
        raise ValueError(f"values of shape {values.shape} have no axis of {len(mask)} tokens: choose another layer")
    values = values[mask]
    if tokens is None:
        return _of(values)
    own = ~tokens.is_special[row]
    return _of(values[own], None if tokens.spans is None else tokens.spans[row][own])
