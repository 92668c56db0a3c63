"""What a scan within one input finds: positions, units, spans of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, overload

import numpy as np

from ._extras import import_extra

__all__ = ["SequenceScan", "SequenceScans", "runs_of", "spans_of"]

_WIDTH = 80
_SHOWN = 10  # inputs, in a notebook


@dataclass(frozen=True, eq=False)
class SequenceScan:
    """The block of positions and units of one input; printed, a text has a line of marks under what is anomalous.

    Attributes
    ----------
    score : float
        The block's.
    anomaly_score : float
        Of the input: higher is more anomalous; -2 log(p q) for the p-values of its score and of its farthest position.
    p_value : float
        The share of clean inputs of like length whose anomaly score is at least as high, this one counted among them.
    is_flagged : bool
        Whether the p-value is at most the scanner's false positive rate.
    alpha : float
        The threshold of the p-values that gives the score.
    positions : ndarray of the positions' shape, bool
        The block's: (P,) for a text or a series, (H, W) for an input.
    strength : ndarray of the positions' shape, float64
        The part of the block's units that is anomalous at each position: 0 outside the block.
    distances : ndarray of the positions' shape, float64
        The squared Mahalanobis distance of each position from clean positions.
    nodes : ndarray of shape (c,), int64
        The block's units, increasing.
    spans : list of (int, int)
        Neighbouring positions of the block, from which to before which: characters of a text, positions of a series.
        Empty for an input.
    text : str or None
        The input, where it is a text.
    characters : ndarray of shape (P, 2), int, or None
        Of a text: from which character each position goes to before which.
    """

    score: float
    anomaly_score: float
    p_value: float
    is_flagged: bool
    alpha: float
    positions: np.ndarray
    strength: np.ndarray
    distances: np.ndarray
    nodes: np.ndarray
    spans: list[tuple[int, int]]
    text: str | None = None
    characters: np.ndarray | None = None

    def runs(self) -> list[tuple[int, int]]:
        """List neighbouring positions of the block, from which to before which; for positions of one axis."""
        return runs_of(self.positions)

    def judged(self, anomaly_score: float, p_value: float, is_flagged: bool) -> SequenceScan:
        """Return the same with what it is worth among clean inputs."""
        return replace(self, anomaly_score=anomaly_score, p_value=p_value, is_flagged=is_flagged)

    def words(self) -> list[str]:
        """Return the parts of a text that are anomalous; none where there is no text."""
        return [] if self.text is None else [self.text[start:end] for start, end in self.spans]

    def _told(self) -> str:
        told = f"p = {self.p_value:.3g}{' *' if self.is_flagged else ''}, score {self.score:.1f}, "
        told += f"{int(self.positions.sum())} of {self.positions.size} positions, {len(self.nodes)} units"
        if self.text is None and self.spans:
            told += ": " + ", ".join(f"{a}-{b}" for a, b in self.spans)
        return told

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._told())}</p>{self._marked()}"

    def _marked(self) -> str:
        """Write a text with marks around what is anomalous."""
        if self.text is None:
            return ""
        parts, place = [], 0
        for start, end in self.spans:
            parts.append(f"{escape(self.text[place:start])}<mark>{escape(self.text[start:end])}</mark>")
            place = end
        return f'<pre style="white-space: pre-wrap">{"".join(parts)}{escape(self.text[place:])}</pre>'

    def __str__(self) -> str:
        told = self._told()
        if self.text is None:
            return told
        marks = [" "] * len(self.text)
        for start, end in self.spans:
            marks[start:end] = "^" * (end - start)
        lines = [told]
        place = 0
        for line in re.findall(r".*\n|.+", self.text):
            for start in range(0, len(line), _WIDTH):
                part = line[start : start + _WIDTH]
                under = "".join(marks[place + start : place + start + len(part)]).rstrip()
                shown = "".join(one if one.isprintable() else " " for one in part)
                lines += [shown.rstrip(), *([under] if under else [])]
            place += len(line)
        return "\n".join(lines)


class SequenceScans(Sequence[SequenceScan]):
    """The blocks of several inputs.

    Attributes
    ----------
    score, anomaly_score, p_value : ndarray of shape (N,), float64
    is_flagged : ndarray of shape (N,), bool
    spans, nodes, positions : list
        Those of each input, as `SequenceScan` has them.
    """

    def __init__(self, scans: Iterable[SequenceScan]) -> None:
        self._scans = list(scans)

    @overload
    def __getitem__(self, n: int) -> SequenceScan: ...

    @overload
    def __getitem__(self, n: slice) -> SequenceScans: ...

    def __getitem__(self, n: Any) -> Any:
        return SequenceScans(self._scans[n]) if isinstance(n, slice) else self._scans[n]

    def __len__(self) -> int:
        return len(self._scans)

    def __iter__(self) -> Iterator[SequenceScan]:
        return iter(self._scans)

    @property
    def score(self) -> np.ndarray:  # noqa: D102 (the class says it, as for those below)
        return np.array([one.score for one in self._scans], np.float64)

    @property
    def anomaly_score(self) -> np.ndarray:  # noqa: D102
        return np.array([one.anomaly_score for one in self._scans], np.float64)

    @property
    def p_value(self) -> np.ndarray:  # noqa: D102
        return np.array([one.p_value for one in self._scans], np.float64)

    @property
    def is_flagged(self) -> np.ndarray:  # noqa: D102
        return np.array([one.is_flagged for one in self._scans], bool)

    @property
    def spans(self) -> list[list[tuple[int, int]]]:  # noqa: D102
        return [one.spans for one in self._scans]

    @property
    def nodes(self) -> list[np.ndarray]:  # noqa: D102
        return [one.nodes for one in self._scans]

    @property
    def positions(self) -> list[np.ndarray]:  # noqa: D102
        return [one.positions for one in self._scans]

    def to_frame(self) -> Any:
        """Return a pandas data frame with a row for each input.

        Columns are score, anomaly_score, p_value, flagged, n_positions, n_found, n_units and spans.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed.
        """
        pandas = import_extra("pandas", "tables")
        return pandas.DataFrame(
            {
                "score": self.score,
                "anomaly_score": self.anomaly_score,
                "p_value": self.p_value,
                "flagged": self.is_flagged,
                "n_positions": np.array([one.positions.size for one in self], np.int64),
                "n_found": np.array([int(one.positions.sum()) for one in self], np.int64),
                "n_units": np.array([len(one.nodes) for one in self], np.int64),
                "spans": self.spans,
            }
        )

    def __str__(self) -> str:
        return "\n\n".join(map(str, self._scans))

    def _repr_html_(self) -> str:
        more = f"<p>and {len(self) - _SHOWN} more</p>" if len(self) > _SHOWN else ""
        return "".join(one._repr_html_() for one in self._scans[:_SHOWN]) + more


def runs_of(mask: np.ndarray) -> list[tuple[int, int]]:
    """List runs of what is true: from which place to before which."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def spans_of(mask: np.ndarray, characters: np.ndarray | None) -> list[tuple[int, int]]:
    """Join neighbouring positions: from where to before where, in characters of a text, or in positions."""
    runs = runs_of(mask)
    if characters is None:
        return runs
    return [(int(characters[start, 0]), int(characters[end - 1, 1])) for start, end in runs]
