"""Where and why: which layers, channels and positions carry the anomalous subset of an input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._extras import import_extra
from ._tables import html_table, text_table

__all__ = ["Explanation", "SpaceExplanation"]


@dataclass(frozen=True, eq=False)
class SpaceExplanation:
    """The subset of one input in one space.

    Attributes
    ----------
    score, alpha : float
        As in `ScanResult`.
    p_value : float or None
        The calibrated p-value; None without calibration.
    is_flagged : bool or None
        Whether the p-value is at most the detector's false positive rate; None without calibration.
    nodes : ndarray of the node shape, bool
        The highest-scoring subset, laid out: (H, W, C) for a convolutional layer or an image.
    leading : ndarray of the node shape, bool
        The smallest subset that carries at least half of the score: where to look first.
    channel_axis : int or None
        The axis of `nodes` that counts channels, as `Space.channel_axis` says; the others are positions. None: all
        are, or which are channels cannot be told.
    """

    score: float
    alpha: float
    p_value: float | None
    is_flagged: bool | None
    nodes: np.ndarray
    leading: np.ndarray
    channel_axis: int | None

    @property
    def size(self) -> int:
        """Number of nodes in the subset."""
        return int(self.nodes.sum())

    def of_leading(self) -> SpaceExplanation:
        """Return the same with the leading nodes as the subset."""
        return replace(self, nodes=self.leading)

    def channels(self) -> np.ndarray:
        """Count the subset's nodes in each channel, int64 of shape (C,); empty for a space without channels."""
        if self.channel_axis is None:
            return np.empty(0, np.int64)
        others = tuple(axis for axis in range(self.nodes.ndim) if axis != self.channel_axis)
        return self.nodes.sum(axis=others, dtype=np.int64)

    def positions(self) -> np.ndarray:
        """Count the subset's nodes at each position, over all channels: int64 of shape (H, W), say.

        A space without positions, as a dense layer, has its whole subset at one: shape ().
        """
        axes = () if self.channel_axis is None else self.channel_axis
        return np.asarray(self.nodes.sum(axis=axes, dtype=np.int64))

    def where(self, n: int = 3) -> str:
        """Name the channels with the most nodes; without channels, the first nodes or positions."""
        if not self.size:
            return ""
        if self.nodes.ndim == 1 or self.channel_axis is None:
            members = np.argwhere(self.nodes)[:n].tolist()
            named = [str(tuple(place)) if len(place) > 1 else str(place[0]) for place in members]
            return f"{'node' if self.nodes.ndim == 1 else 'position'} " + ", ".join(named) + " ..." * (self.size > n)
        counts = self.channels()
        return ", ".join(f"{k} ({counts[k]})" for k in np.argsort(-counts, kind="stable")[:n] if counts[k])


@dataclass(frozen=True, eq=False)
class Explanation:
    """The subsets of one input in all spaces; prints as a table, the most anomalous space first.

    Attributes
    ----------
    spaces : mapping of str to SpaceExplanation
        By name, in the order of the scanner.
    """

    spaces: Mapping[str, SpaceExplanation]

    def ranked(self) -> list[str]:
        """Return the names of the spaces, the smallest p-value first; the highest score without calibration."""
        return sorted(
            self.spaces,
            key=lambda name: (
                self.spaces[name].p_value if self.spaces[name].p_value is not None else 1.0,
                -self.spaces[name].score,
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return for each space its numbers, its channels' counts and the position with the most nodes.

        Without channels the counts are an empty list; without positions the position is. Leading nodes are given by
        their numbers and by their places in the node shape.
        """
        result = {}
        for name, space in self.spaces.items():
            positions = space.positions()
            leading = np.flatnonzero(space.leading)
            result[name] = {
                "score": space.score,
                "p_value": space.p_value,
                "flagged": space.is_flagged,
                "alpha": space.alpha,
                "n_nodes": space.nodes.size,
                "size": space.size,
                "channels": space.channels().tolist(),
                "densest_position": [int(n) for n in np.unravel_index(positions.argmax(), positions.shape)],
                "leading_nodes": leading.tolist(),
                "leading_places": np.stack(np.unravel_index(leading, space.leading.shape), axis=1).tolist(),
            }
        return result

    def to_frame(self) -> Any:
        """Return a pandas data frame with a row for each space, the most anomalous first.

        Columns are space, p_value, flagged, score, alpha, n_nodes, size, leading_size and where, the last in words.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed.
        """
        pandas = import_extra("pandas", "tables")
        ranked = [(name, self.spaces[name], self.spaces[name].of_leading()) for name in self.ranked()]
        return pandas.DataFrame(
            {
                "space": [name for name, _, _ in ranked],
                "p_value": [space.p_value for _, space, _ in ranked],
                "flagged": [space.is_flagged for _, space, _ in ranked],
                "score": [space.score for _, space, _ in ranked],
                "alpha": [space.alpha for _, space, _ in ranked],
                "n_nodes": [space.nodes.size for _, space, _ in ranked],
                "size": [space.size for _, space, _ in ranked],
                "leading_size": [leading.size for _, _, leading in ranked],
                "where": [leading.where() for _, _, leading in ranked],
            }
        )

    def __str__(self) -> str:
        return text_table(*self._table()) + self._legend()

    def _repr_html_(self) -> str:
        return html_table(*self._table(), self._legend().strip())

    def _legend(self) -> str:
        return "\n* flagged" if any(space.is_flagged for space in self.spaces.values()) else ""

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for name in self.ranked():
            space = self.spaces[name]
            p_value = "" if space.p_value is None else f"{space.p_value:.3g}{' *' if space.is_flagged else ''}"
            size, leading = f"{space.size} of {space.nodes.size}", space.of_leading()
            rows.append(
                [name, p_value, f"{space.score:.1f}", f"{space.alpha:.3g}", size, str(leading.size), leading.where()]
            )
        return ["space", "p-value", "score", "alpha", "subset", "leading", "leading channels (nodes)"], rows
