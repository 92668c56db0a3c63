"""What backgrounds in blocks of nodes share, wherever the blocks lie: their scans, and parts of arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ._validation import node_values
from .scanning import ScanResult

__all__ = ["TIES", "How", "NodeBlocks", "check_ties", "part_of"]

TIES = ("upper", "midrank")  # random ties depend on all nodes together
How = tuple[str, float, str, str]  # tail, alpha_max, ties, membership


class NodeBlocks(ABC):
    """A background in blocks of nodes: rank histograms of the blocks add up to those that are scanned."""

    def rank_histogram(
        self, x: Any, tail: str = "upper", alpha_max: float = 0.5, ties: str = "upper", membership: str = "outside"
    ) -> np.ndarray:
        """Count the nodes of each input at each p-value up to `alpha_max`, as `Background.rank_histogram` does.

        Parameters
        ----------
        x : array of shape (N, J)
            Anything that `fit` takes.
        tail, alpha_max, membership
            As for `Background.rank_histogram`.
        ties : {"upper", "midrank"}

        Returns
        -------
        ndarray of shape (N, K), uint32

        Raises
        ------
        ValueError
            As for `Background.rank_histogram`, and if `ties` is another.
        """
        check_ties(ties)
        return self._rank_histogram(x, (tail, alpha_max, ties, membership))

    def scan(
        self,
        x: Any,
        *,
        statistic: str = "berk-jones",
        tail: str = "upper",
        alpha_max: float = 0.5,
        scope: str = "subset",
        ties: str = "upper",
        return_nodes: bool = False,
    ) -> ScanResult:
        """Find the highest-scoring subset of nodes of each input, exactly, as `Background.scan` does.

        Parameters
        ----------
        x : array of shape (N, J)
            Anything that `fit` takes.
        statistic : {"berk-jones", "higher-criticism", "kolmogorov-smirnov"}
        tail : {"upper", "lower", "two-sided"}
        alpha_max : float in (0, 1]
        scope : {"subset", "all"}
        ties : {"upper", "midrank"}
        return_nodes : bool
            All of these as for `Background.scan`.

        Returns
        -------
        ScanResult

        Raises
        ------
        ValueError
            As for `Background.scan`, and if `ties` is another.
        """
        check_ties(ties)
        how = (tail, alpha_max, ties, "outside")
        return self._scan(x, how, {"statistic": statistic, "scope": scope}, return_nodes)

    def leave_one_out(
        self,
        x: Any,
        *,
        statistic: str = "berk-jones",
        tail: str = "upper",
        alpha_max: float = 0.5,
        scope: str = "subset",
        ties: str = "upper",
        return_nodes: bool = False,
        same_grid: bool = False,
    ) -> ScanResult:
        """Scan inputs of the background, each against all the others, as `Background.leave_one_out` does.

        Parameters
        ----------
        x : array of shape (N, J)
            Rows of the background.
        statistic, tail, alpha_max, scope, ties, return_nodes
            As for `scan`.
        same_grid : bool
            As for `Background.leave_one_out`.

        Returns
        -------
        ScanResult

        Raises
        ------
        ValueError
            As for `Background.leave_one_out`, and if `ties` is another.
        """
        check_ties(ties)
        how = (tail, alpha_max, ties, "calibrating" if same_grid else "inside")
        return self._scan(x, how, {"statistic": statistic, "scope": scope}, return_nodes)

    @abstractmethod
    def _rank_histogram(self, x: Any, how: How) -> np.ndarray:
        """Count the nodes of all blocks."""

    @abstractmethod
    def _scan(self, x: Any, how: How, options: dict[str, str], return_nodes: bool) -> ScanResult:
        """Scan the nodes of all blocks."""


def part_of(values: Any, place: tuple[int, int], name: str = "x", shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Take a part of an array, which begins at this input and node. Raises ValueError with the place of a NaN."""
    values = node_values(values, name)
    if shape is not None and values.shape != shape:
        raise ValueError(
            f"a part of {name} has shape {values.shape} where it was announced as {shape}: name the chunks as they are"
        )
    if np.isnan(values).any():
        row, node = np.argwhere(np.isnan(values))[0]
        raise ValueError(f"{name} holds NaN, the first one met at input {place[0] + row}, node {place[1] + node}")
    return values


def check_ties(ties: str) -> None:
    """Refuse ties that need all nodes together. Raises ValueError."""
    if ties not in TIES:
        raise ValueError(f"blocks of nodes are scanned with ties {' or '.join(map(repr, TIES))}, got {ties!r}")
