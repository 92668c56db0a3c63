"""Which files are looked at: those of the machine, by the type that Magika sees, for the background and for testing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..result_cache import Arrays
from ..subjects.found import draw, draw_named, paths_by_ending
from ..subjects.magika_network import Magika, as_tokens
from .edits import EDITS

__all__ = ["OTHER", "PYTHON", "Sample", "Setting", "make_sample", "share_out"]

OTHER = "other"  # all types that have too few files
PYTHON = "python"  # the type whose files options were chosen on
_MOST_A_PACKAGE = 100


@dataclass(frozen=True)
class Setting:
    """How much is done.

    Attributes
    ----------
    n_ending : int
        Files that are drawn of each ending of names.
    n_background, n_test : int
        The most files of a type for the background, and for testing.
    least : int
        The fewest files of a type: those with fewer are "other".
    n_edited, n_attacked : int
        Test files of a type that are edited, and that are attacked.
    most_changes : int
        Bytes that these attacks may change.
    n_adaptive, n_tried, budget : int
        Files of a type that the adaptive attacks begin with; what they try at each step; bytes that they may change.
    weights : tuple of float
        How much the detector's score counts in an adaptive attack; see `attackers.pursue`.
    """

    n_ending: int = 500
    n_background: int = 300
    n_test: int = 60
    least: int = 134
    n_edited: int = 20
    n_attacked: int = 24
    most_changes: int = 40
    n_adaptive: int = 3
    n_tried: int = 16
    budget: int = 40
    weights: tuple[float, ...] = (0.02, 0.1, 0.5)


@dataclass(frozen=True, eq=False)
class Sample:
    """Files as tokens.

    Attributes
    ----------
    types : list of str
        The types with files enough, in alphabetical order, and last "other".
    names : list of str
        Names of the test files.
    background, test : ndarray of shape (n, 2048), int32
    background_types, test_types : ndarray of shape (n,), int64
        The place in `types` of what Magika sees.
    edited : dict of str to (ndarray of shape (n, 2048), ndarray of shape (n,))
        By the name of the edit: the files, and which test file each was.
    """

    types: list[str]
    names: list[str]
    background: np.ndarray
    background_types: np.ndarray
    test: np.ndarray
    test_types: np.ndarray
    edited: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def n_of_types(self) -> list[tuple[int, int]]:
        """Numbers of files of each type: of the background, and for testing."""
        every = range(len(self.types))
        return [(int((self.background_types == n).sum()), int((self.test_types == n).sum())) for n in every]

    def type_names(self, sources: np.ndarray) -> np.ndarray:
        """Name the type of each of these test files, given their places: ndarray of str."""
        return np.array(self.types)[self.test_types[sources]]

    def first_of_each(self, n: int) -> np.ndarray:
        """Return the places of the first n test files of each type but "other"."""
        return _first_of_each(self.test_types, len(self.types) - 1, n)

    def pack(self) -> Arrays:
        """Put all in arrays, for `ResultCache`."""
        about = json.dumps({"types": self.types, "names": self.names}).encode()
        arrays = {name: getattr(self, name) for name in _ARRAYS} | {"about": np.frombuffer(about, np.uint8)}
        for name, (tokens, sources) in self.edited.items():
            arrays |= {f"edited/{name}": tokens, f"sources/{name}": sources}
        return arrays

    @classmethod
    def unpack(cls, arrays: Arrays) -> Sample:
        """Take what `pack` gave."""
        about = json.loads(arrays["about"].tobytes())
        edited = {name: (arrays[f"edited/{name}"], arrays[f"sources/{name}"]) for name in EDITS}
        kept: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        return cls(**about, **kept, edited=edited)


_ARRAYS = ("background", "background_types", "test", "test_types")


def make_sample(network: Magika, setting: Setting, seed: int) -> Sample:
    """Draw files of every ending, see what Magika takes them for, and share them out.

    Raises
    ------
    ValueError
        If no two types have files enough.
    """
    rng = np.random.default_rng(seed)
    paths, tokens = [], []
    seen: set[bytes] = set()
    for path, content in _drawn(setting.n_ending, rng):
        own = as_tokens(content)
        if own.tobytes() not in seen:  # what differs elsewhere alone is the same to the network
            seen.add(own.tobytes())
            paths.append(path)
            tokens.append(own)
    every = np.array(tokens)
    kinds = [network.types[n] for n in network.logits(every).argmax(axis=1)]
    types, background, test = share_out(kinds, setting, rng)
    libraries = [content[4096:] for content in draw(["so"], 100, rng, most_a_package=_MOST_A_PACKAGE)] or [b""]
    contents = [Path(paths[row]).read_bytes() for row in test.tolist()]
    place = np.array([types.index(kind) if kind in types else len(types) - 1 for kind in kinds])
    chosen = _first_of_each(place[test], len(types) - 1, setting.n_edited).tolist()
    edited = {}
    for name, edit in EDITS.items():
        made = [
            (n, new)
            for n in chosen
            if (new := edit.change(contents[n], rng, kinds[test[n]], libraries[n % len(libraries)]))
        ]
        edited[name] = (
            np.array([as_tokens(new) for _, new in made], np.int32).reshape(-1, every.shape[1]),
            np.array([n for n, _ in made], np.int64),
        )
    return Sample(
        types=types,
        names=[Path(paths[row]).name for row in test.tolist()],
        background=every[background],
        background_types=place[background],
        test=every[test],
        test_types=place[test],
        edited=edited,
    )


def _first_of_each(types: np.ndarray, n_types: int, n: int) -> np.ndarray:
    return np.concatenate([np.flatnonzero(types == kind)[:n] for kind in range(n_types)])


def _drawn(n: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    for ending in sorted(paths_by_ending()):
        yield from draw_named([ending], n, rng, most_a_package=_MOST_A_PACKAGE)


def share_out(
    kinds: Sequence[str], setting: Setting, rng: np.random.Generator
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Choose files of each type for the background, and others for testing: at most a quarter of them.

    Parameters
    ----------
    kinds : sequence of str
        The type of each file.
    setting : Setting
    rng : numpy.random.Generator

    Returns
    -------
    types : list of str
        The last is "other".
    background, test : ndarray of int64
        Places of files, type by type in the order of `types`, at random within each.
    """
    counts = Counter(kinds)
    types = sorted(kind for kind, count in counts.items() if count >= setting.least)
    rest = sum(count for kind, count in counts.items() if kind not in types)
    if len(types) < 2 or rest < setting.least:
        raise ValueError(
            f"two types with {setting.least} files each, and as many of others, are needed: found "
            f"{', '.join(f'{kind} ({count})' for kind, count in counts.most_common(5))}, and {rest} others"
        )
    types.append(OTHER)
    place = np.array([types.index(kind) if kind in types else len(types) - 1 for kind in kinds])
    background, test = [], []
    for n in range(len(types)):
        own = rng.permutation(np.flatnonzero(place == n))
        n_test = min(setting.n_test, len(own) // 4)
        test.append(own[:n_test])
        background.append(own[n_test : n_test + setting.n_background])
    return types, np.concatenate(background), np.concatenate(test)
