"""Names as the page shows them: on one line, not too long, and such that they leave what is around them as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, count
from typing import TypeVar
from unicodedata import bidirectional

from ..sequence import shown
from .results import Results

__all__ = ["label", "with_labels"]

_MOST = 60  # characters
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_ISOLATED = "\u2068{}\u2069"

_T = TypeVar("_T")


def label(name: str) -> str:
    """Write a name: a dot stands for what cannot be printed; the middle of a long one is left out."""
    if len(name) > _MOST:
        name = f"{name[: _MOST // 2]}…{name[1 - _MOST // 2 :]}"
    name = shown(name).replace("\n", "·")
    return _ISOLATED.format(name) if any(bidirectional(letter) in _RIGHT_TO_LEFT for letter in name) else name


def with_labels(results: Results) -> Results:
    """Call sets and spaces by their labels; no two by the same."""
    sets, spaces = _labels(results.sets), _labels(results.spaces)

    def of_sets(found: Mapping[str, Mapping[str, _T]]) -> dict[str, dict[str, _T]]:
        return {sets[name]: {spaces[space]: values for space, values in own.items()} for name, own in found.items()}

    return replace(
        results,
        sets=list(sets.values()),
        spaces=list(spaces.values()),
        scores=of_sets(results.scores),
        p_values=None if results.p_values is None else of_sets(results.p_values),
        null_scores={spaces[name]: own for name, own in results.null_scores.items() if name in spaces},
    )


def _labels(names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        counted = (f"{label(name)} ({n})" for n in count(2))
        found[name] = next(own for own in chain([label(name)], counted) if own not in found.values())
    return found
