"""A background of fewer values: a histogram of each node, whose edges are quantiles, in the place of all values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._validation import node_values
from .background import Background
from .persistence import State
from .scanning import ScanResult

__all__ = ["CoarseBackground"]

_TAILS = ("upper", "lower", "two-sided")


class CoarseBackground(Background):
    """A background that keeps `n_edges` quantiles of each node: p-values are at most 1 / (n_edges + 1) too large.

    With edges at every (M + 1) / (n_edges + 1)-th rank, rounded to the extreme, the p-value among the edges is that of
    the upper end of the bin that a value falls in: never too small, so that what is calibrated stays valid. Two-sided
    p-values are at most twice as far off. Scores are those of coarser p-values: what stands out by p-values below
    1 / (n_edges + 1) alone is not seen.

    Calibrate by inputs that are not in the background: it does not know which inputs it was made of, so that
    leave-one-out is refused. Rank histograms of several add up over nodes; over inputs coarse backgrounds do not.

    Parameters
    ----------
    activations : array-like of shape (M, J), or Background
        As for `Background`; or a whole one.
    tail : {"upper", "lower", "two-sided"}, default "upper"
        For which p-values and scans.
    n_edges : int, default 255
        Where M is not larger, all values are kept, and nothing is coarse.

    Attributes
    ----------
    n_samples : int
        Number of values that are kept of a node: `n_edges`, or M.
    n_inputs : int
        How many inputs they stand for, M.
    n_nodes, dtype, nbytes
        As in `Background`.

    Raises
    ------
    ValueError
        As for `Background`, or if it is compact, the tail is unknown, or `n_edges` is less than 1.

    References
    ----------
    Quantile edges: M. Greenwald, S. Khanna, Space-efficient online computation of quantile summaries, SIGMOD 2001,
    section 1; with all values at hand they are exact here.

    Examples
    --------
    >>> clean = np.arange(1000.0)[:, np.newaxis]
    >>> whole, coarse = Background(clean), CoarseBackground(clean)
    >>> whole.p_values([[990.0]]).round(4), coarse.p_values([[990.0]]).round(4)
    (array([[0.011]]), array([[0.0117]]))
    >>> whole.nbytes // coarse.nbytes
    3
    """

    __slots__ = ("_for_tail", "n_inputs")

    def __init__(self, activations: Any, tail: str = "upper", n_edges: int = 255) -> None:
        whole = activations if isinstance(activations, Background) else Background(activations)
        if tail not in _TAILS:
            raise ValueError(f"unknown tail {tail!r}; known are {', '.join(_TAILS)}")
        if not isinstance(n_edges, int | np.integer) or n_edges < 1:
            raise ValueError(f"n_edges must be a whole number, at least 1, got {n_edges!r}")
        if whole.tail is not None or isinstance(whole, CoarseBackground):
            raise ValueError(f"a coarse background is made of a whole one, got {whole}")
        columns = whole._columns()
        kept = columns[:, _places(whole.n_samples, tail, n_edges)]
        self._take(Background._from_columns(kept, kept.shape[1], None, None)._core, whole._names)
        self._for_tail, self.n_inputs = tail, whole.n_samples

    def p_values(self, x: Any, tail: str | None = None, ties: str = "upper", random_state: int = 0) -> np.ndarray:
        """Compute p-values that are at most 1 / (n_edges + 1) too large, two-sided ones 2 / (n_edges + 1)."""
        return super().p_values(x, self._check(tail, ties), ties, random_state)

    def p_value_ranges(self, x: Any, tail: str = "upper") -> np.ndarray:
        """Not of a coarse background. Raises ValueError."""
        raise ValueError("a coarse background does not know the range of a p-value: use Background")

    def scan(self, x: Any, *, tail: str | None = None, ties: str = "upper", **options: Any) -> ScanResult:
        """Scan by these p-values, as `Background.scan` does."""
        return super().scan(x, tail=self._check(tail, ties), ties=ties, **options)

    def leave_one_out(self, x: Any, **options: Any) -> ScanResult:
        """Not of a coarse background. Raises ValueError."""
        raise ValueError("a coarse background has no inputs to leave out: calibrate by others, or use Background")

    def rank_histogram(
        self,
        x: Any,
        tail: str | None = None,
        alpha_max: float = 0.5,
        ties: str = "upper",
        random_state: int = 0,
        membership: str = "outside",
    ) -> np.ndarray:
        """Count as `Background.rank_histogram` does, for inputs outside."""
        self._check_outside(membership)
        return super().rank_histogram(x, self._check(tail, ties), alpha_max, ties, random_state)

    def nodes_within(
        self,
        x: Any,
        alphas: Any,
        tail: str | None = None,
        alpha_max: float = 0.5,
        ties: str = "upper",
        random_state: int = 0,
        membership: str = "outside",
    ) -> Any:
        """Find nodes as `Background.nodes_within` does, for inputs outside."""
        self._check_outside(membership)
        return super().nodes_within(x, alphas, self._check(tail, ties), alpha_max, ties, random_state)

    def summarise(
        self,
        x: Any,
        summary: str,
        tail: str | None = None,
        ties: str = "upper",
        random_state: int = 0,
        membership: str = "outside",
    ) -> np.ndarray:
        """Summarise p-values as `Background.summarise` does, for inputs outside."""
        self._check_outside(membership)
        return super().summarise(x, summary, self._check(tail, ties), ties, random_state)

    def merge(self, *others: Background) -> Background:
        """Not of a coarse background. Raises ValueError."""
        raise ValueError("coarse backgrounds cannot be merged over inputs: merge whole ones, and make one of that")

    def __repr__(self) -> str:
        return (
            f"<CoarseBackground of {self.n_inputs} inputs x {self.n_nodes} nodes, {self.dtype}, {self.n_samples} edges "
            f"for tail={self._for_tail!r}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return CoarseBackground._of, (self._columns(), self._for_tail, self.n_inputs, self._names)

    def _check(self, tail: str | None, ties: str) -> str:
        if tail not in (None, self._for_tail):
            raise ValueError(f"this coarse background is for tail={self._for_tail!r}, got {tail!r}")
        if ties != "upper":
            raise ValueError(
                f"the p-values of a coarse background are the upper ends: ties must be 'upper', got {ties!r}"
            )
        return self._for_tail

    def _check_outside(self, membership: str) -> None:
        if membership != "outside":
            raise ValueError(f"a coarse background ranks inputs that are outside, got membership={membership!r}")

    def _state(self) -> State:
        description, tensors = super()._state()
        return description | {"tail": self._for_tail, "n_inputs": self.n_inputs}, tensors

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CoarseBackground:
        names = None if description["names"] is None else tuple(description["names"])
        tail, n_inputs, columns = description["tail"], int(description["n_inputs"]), tensors["columns"]
        if tail not in _TAILS or n_inputs < columns.shape[1] or description["kept"]:
            raise ValueError(f"no coarse background has tail {tail!r} and {columns.shape[1]} of {n_inputs} values")
        return cls._of(columns, tail, n_inputs, names)

    @classmethod
    def _of(cls, columns: np.ndarray, tail: str, n_inputs: int, names: tuple[str, ...] | None) -> CoarseBackground:
        background = cls.__new__(cls)
        background._take(Background._from_columns(node_values(columns), columns.shape[1], None, None)._core, names)
        background._for_tail, background.n_inputs = tail, n_inputs
        return background


def _places(n: int, tail: str, n_edges: int) -> np.ndarray:
    """Return the places of the edges in an ascending column of n values."""
    if n <= n_edges:
        return np.arange(n)
    ranks = np.arange(1, n_edges + 1) * (n + 1) // (n_edges + 1)  # from the extreme, 1 being the most extreme one
    if tail == "lower":
        return ranks - 1
    from_above = (n - ranks)[::-1]
    if tail == "upper":
        return from_above
    half = n_edges // 2  # of two-sided p-values only the nearer end counts
    return np.concatenate([ranks[:half] - 1, from_above[half:]])
