"""Fewer nodes of a layer: its channels, its positions, or blocks of positions, each the mean or another measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._validation import InvalidTypeError
from .blocks import Blocks

__all__ = ["POOLS", "UNITS", "Pool", "Pooling"]

Pool = str | Callable[..., np.ndarray] | None
POOLS = ("mean", "max")
UNITS = ("node", "channel", "position")


@dataclass(frozen=True)
class Pooling:
    """What becomes of a layer's values.

    Attributes
    ----------
    unit : {"node", "channel", "position"}
        What is a node: each place where the layer has a value; a channel, over all positions; or a position, over all
        channels.
    pool : {"mean", "max"} or callable
        Over these; a function takes an array and its axes, as `numpy.median` does.
    most : int or None
        The largest number of nodes that stay as they are; of more, blocks of positions are averaged: see `Blocks`.
    """

    unit: str = "node"
    pool: str | Callable[..., np.ndarray] = "mean"
    most: int | None = None

    @classmethod
    def of(cls, pool: Pool, unit: str | None, most: int | None) -> Pooling:
        """Check options: with a `pool` and no `unit` channels are the nodes, with a `unit` alone the mean is taken.

        Raises
        ------
        ValueError
            If there is no such option.
        TypeError
            If `pool` is something else.
        """
        if pool is not None and not callable(pool) and not isinstance(pool, str):
            raise InvalidTypeError(f"pool must be {', '.join(map(repr, POOLS))}, a function or None, got {pool!r}")
        if isinstance(pool, str) and pool not in POOLS:
            raise ValueError(f"pool must be {', '.join(map(repr, POOLS))}, a function or None, got {pool!r}")
        if unit is None:
            unit = "node" if pool is None else "channel"
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(map(repr, UNITS))}, got {unit!r}")
        if unit == "node" and pool is not None:
            raise ValueError('pool is over positions or channels: unit must be "channel" or "position", got "node"')
        return cls(unit, "mean" if pool is None else pool, most)

    def goes_by_channels(self, shape: tuple[int, ...]) -> bool:
        """Tell whether the nodes of values of that shape depend on which axis counts channels."""
        return self.unit != "node" or (self.most is not None and math.prod(shape) > self.most)

    def shape(self, shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
        """Tell the shape of a layer's nodes from that of its values."""
        if self.unit == "node":
            return Blocks.to_fit(shape, channel_axis, self.most).pooled_shape
        axes = self._axes(shape, channel_axis)
        return tuple(size for axis, size in enumerate(shape) if axis not in axes) or (1,)

    def channel_axis(self, shape: tuple[int, ...], channel_axis: int | None) -> int | None:
        """Tell which axis of the nodes counts channels."""
        return {"node": channel_axis, "channel": 0, "position": None}[self.unit] if len(shape) > 1 else channel_axis

    def __call__(self, values: np.ndarray, channel_axis: int | None, mask: np.ndarray | None = None) -> np.ndarray:
        """Pool the values of N inputs, (N, ...); positions have no mask."""
        del mask
        shape = values.shape[1:]
        if self.unit == "node":
            return Blocks.to_fit(shape, channel_axis, self.most).mean(values)
        axes = tuple(axis + 1 for axis in self._axes(shape, channel_axis))
        if not axes:
            return values
        if values.dtype.itemsize < 4:
            values = values.astype(np.float32)  # sums of half precision would overflow
        if callable(self.pool):
            pooled = np.asarray(self.pool(values, axis=axes))
            expected = (len(values), *(n for axis, n in enumerate(shape) if axis + 1 not in axes))
            if pooled.shape != expected:
                raise ValueError(
                    f"pool must return shape {expected} for {values.shape} over {axes}, got {pooled.shape}"
                )
            return pooled
        return values.mean(axis=axes) if self.pool == "mean" else values.max(axis=axes)

    def _axes(self, shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
        """List the axes that go: those of positions, or that of channels."""
        if len(shape) < 2:
            return ()
        if self.unit == "channel":
            return tuple(axis for axis in range(len(shape)) if axis != channel_axis)
        return () if channel_axis is None else (channel_axis,)

    def told(self) -> list[str]:
        """Describe unit and pool for a fingerprint."""
        name = self.pool if isinstance(self.pool, str) else getattr(self.pool, "__qualname__", type(self.pool).__name__)
        return [self.unit, name]
