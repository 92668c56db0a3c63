"""What becomes of a layer's values over the tokens of a text: their mean, or one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["TOKEN_POOLS", "TokenPooling"]

TOKEN_POOLS = ("mean", "max", "first", "last")


@dataclass(frozen=True)
class TokenPooling:
    """Pools values (n, T, ...) over their T tokens; those that are only padding do not count.

    Attributes
    ----------
    pool : {"mean", "max", "first", "last"}
    """

    pool: str
    unit = "channel"
    most = None

    @classmethod
    def of(cls, pool: object) -> TokenPooling:
        """Check the option. Raises ValueError if there is no such one."""
        if pool not in TOKEN_POOLS:
            raise ValueError(f"over tokens, pool must be one of {', '.join(map(repr, TOKEN_POOLS))}, got {pool!r}")
        return cls(str(pool))

    def goes_by_channels(self, shape: tuple[int, ...]) -> bool:
        """Tell whether it matters which axis counts channels: the first axis counts tokens, whatever the others do."""
        del shape
        return False

    def shape(self, shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
        """Tell the shape of a layer's nodes from that of its values."""
        del channel_axis
        return shape[1:] or (1,)

    def channel_axis(self, shape: tuple[int, ...], channel_axis: int | None) -> int | None:
        """Tell which axis of the nodes counts channels: the last."""
        del channel_axis
        return max(len(shape) - 2, 0)

    def __call__(self, values: np.ndarray, channel_axis: int | None, mask: np.ndarray | None = None) -> np.ndarray:
        """Pool the values of n inputs.

        Parameters
        ----------
        values : ndarray of shape (n, T, ...)
        mask : ndarray of shape (n, T), bool, optional
            Which tokens are real; by default all.

        Returns
        -------
        ndarray of shape (n, ...)
            NaN, or -inf for "max", where an input has no token: what takes node values refuses both.

        Raises
        ------
        ValueError
            If the values have no axis of tokens.
        """
        del channel_axis
        if values.ndim < 2 or (mask is not None and values.shape[:2] != mask.shape):
            expected = "" if mask is None else f", expected {mask.shape} first"
            raise ValueError(f"values of shape {values.shape} have no axis of tokens{expected}: leave the layer out")
        if mask is None:
            mask = np.ones(values.shape[:2], bool)
        values = values.astype(np.float32, copy=False) if values.dtype.itemsize < 4 else values
        real = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
        if self.pool == "max":
            return np.where(real, values, -np.inf).max(axis=1)
        if self.pool == "mean":
            with np.errstate(invalid="ignore"):
                return np.where(real, values, 0).sum(axis=1) / real.sum(axis=1)
        place = mask.argmax(axis=1) if self.pool == "first" else mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
        chosen = values[np.arange(len(values)), place]
        return np.where(mask.any(axis=1).reshape(-1, *[1] * (chosen.ndim - 1)), chosen, np.nan)

    def told(self) -> list[str]:
        """Describe it for a fingerprint."""
        return ["tokens", self.pool]
