"""The axis of channels, followed through arrays that are made of each other, forward, backward and through shapes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from typing import Any

__all__ = ["KEPT", "ChannelAxes", "Sizes", "axes_kept", "is_same_shape"]

Sizes = tuple[int | str | None, ...]  # one for each axis; of an open axis its name, if it has one

# Axes count from the right, as elementwise operations align them: -1 is the last.
KEPT = {axis: axis for axis in range(-12, 0)}


class ChannelAxes:
    """Which axis of an array becomes which of another, and which ones operations have as channels.

    The operation that makes an array tells. Where it does not, the operations that take the array do; where two of
    these disagree, nothing is known.

    Parameters
    ----------
    names : iterable of str
        Of the arrays, each after those that it is made of; what is said of others is left out.
    sizes : mapping of str to tuple
        Of those whose rank is known.
    """

    def __init__(self, names: Iterable[str], sizes: Mapping[str, Sizes]) -> None:
        self._names, self._sizes = dict.fromkeys(names), sizes
        self._made: dict[str, set[int]] = defaultdict(set)
        self._taken: dict[str, set[int]] = defaultdict(set)
        self._makers: dict[str, list[tuple[str, dict[int, int]]]] = defaultdict(list)
        self._takers: dict[str, list[tuple[str, dict[int, int]]]] = defaultdict(list)

    def make(self, name: str, axis: int) -> None:
        """Take it that what makes an array has channels there."""
        self._made[name].update([axis] if self._has(name, axis) else [])

    def take(self, name: str, axis: int) -> None:
        """Take it that what is given an array has channels there."""
        self._taken[name].update([axis] if self._has(name, axis) else [])

    def link(self, source: str, target: str, axes: Mapping[int, int], *, repeats: bool = False) -> None:
        """Take it that axes of one array become those of another. Where it `repeats`, one channel is none of many."""
        for a, b in axes.items() if {source, target} <= self._names.keys() else ():
            is_repeated = repeats and self._size(source, a) == 1 != self._size(target, b)
            if self._has(source, a) and self._has(target, b) and not is_repeated:
                self._makers[target].append((source, {a: b}))
                self._takers[source].append((target, {b: a}))

    def found(self) -> dict[str, int]:
        """Tell the axis of channels of each array where it is known."""
        disputed: set[str] = set()
        while True:
            axes = self._settled(disputed)
            # What was found late may contradict what was settled early.
            if not (wrong := {name for name, axis in axes.items() if self._told(name, axes) != {axis}}):
                return axes
            disputed |= wrong

    def _settled(self, disputed: Set[str]) -> dict[str, int]:
        """Go forward and backward until nothing is added."""
        axes: dict[str, int] = {}
        before = -1
        while before < len(axes):
            before = len(axes)
            for names, told in ((list(self._names), self._told_by_makers), (list(self._names)[::-1], self._told)):
                for name in names:
                    if name not in axes and name not in disputed and len(found := told(name, axes)) == 1:
                        axes[name] = min(found)
        return axes

    def _told(self, name: str, axes: Mapping[str, int]) -> set[int]:
        return self._told_by_makers(name, axes) or self._taken[name] | _linked(self._takers[name], axes)

    def _told_by_makers(self, name: str, axes: Mapping[str, int]) -> set[int]:
        return self._made[name] | _linked(self._makers[name], axes)

    def _has(self, name: str, axis: int) -> bool:
        return name not in self._sizes or -axis <= len(self._sizes[name])

    def _size(self, name: str, axis: int) -> int | str | None:
        return self._sizes[name][axis] if name in self._sizes and self._has(name, axis) else None


def _linked(links: Iterable[tuple[str, Mapping[int, int]]], axes: Mapping[str, int]) -> set[int]:
    return {pairs[axes[name]] for name, pairs in links if axes.get(name) in pairs}


def axes_kept(before: Sizes, after: Sizes) -> dict[int, int]:
    """Pair axes of an array with those of a reshaped one that hold the same values, both counted from the right.

    Left out are axes that are merged or split, those of size 1, and what open sizes do not tell.

    Examples
    --------
    >>> axes_kept(("n", 3, 4, 5), ("n", 3, 20))
    {-4: -3, -3: -2}
    """
    old = [(n - len(before), size) for n, size in enumerate(before) if size != 1]
    new = [(n - len(after), size) for n, size in enumerate(after) if size != 1]
    pairs = _paired(old, new)
    old, new = old[::-1], new[::-1]
    pairs |= _paired(old, new)
    return pairs | ({old[0][0]: new[0][0]} if len(old) == len(new) == 1 else {})


def is_same_shape(before: Sizes, after: Sizes) -> bool:
    """Tell whether an array that is reshaped, perhaps in several steps, has its first shape again."""
    different = [a for a, b in zip(before, after, strict=False) if a is None or a != b]
    return len(before) == len(after) and len(different) < 2  # as many values: one open size follows from the others


def _paired(old: list[tuple[int, Any]], new: list[tuple[int, Any]]) -> dict[int, int]:
    """Take axes away from the front as long as sizes tell what becomes of them; pair those that stay whole."""
    pairs: dict[int, int] = {}
    while old and new:
        (a, size), (b, other) = old[0], new[0]
        m, n = 1, 1
        while size != other and isinstance(size, int) and isinstance(other, int):
            rest = old[m:] if size < other else new[n:]
            if not rest or not isinstance(grown := rest[0][1], int):
                return pairs
            if size < other:
                size, m = size * grown, m + 1
            else:
                other, n = other * grown, n + 1
        if size is None or size != other:
            return pairs
        if m == n == 1:
            pairs[a] = b
        del old[:m], new[:n]
    return pairs
