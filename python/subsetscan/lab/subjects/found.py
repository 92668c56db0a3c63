"""What lies on the machine: files of installed packages, Debian's or Python's, and files of a type, a seeded choice."""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

__all__ = ["debian_files", "draw", "draw_named", "file_of_package", "paths_by_ending", "version_of"]

_ROOTS = ("/usr/share", "/usr/include", "/usr/lib", "/usr/bin", "/etc")
_LEAST, _MOST = 4096, 2_000_000  # bytes of a file


def file_of_package(module: str, path: str, package: str, *, alone: bool = False) -> Path:
    """Return the path of a file within an installed Python package, which is not imported.

    Parameters
    ----------
    module : str
        The module that the package installs.
    path : str
        The file's path within it.
    package : str
        What to install where it is missing.
    alone : bool, default False
        Whether the package is installed without what it depends on, of which nothing is needed here.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed, or has no such file; the message says which to install.
    """
    spec = find_spec(module)
    for folder in (spec and spec.submodule_search_locations) or []:
        if (found := Path(folder) / path).is_file():
            return found
    how = "pip install --no-deps" if alone else "pip install"
    raise ModuleNotFoundError(f"no {path} of {package}: {how} {package}", name=module)


def version_of(package: str) -> str:
    """Name a Python package with its installed version."""
    return f"{package} {version(package)}"


def debian_files(folder: str, names: Sequence[str], package: str) -> list[Path]:
    """Return the files of these names in a folder, those that are there.

    Raises
    ------
    FileNotFoundError
        If none is there; the message says which of Debian's packages has them.
    """
    found = [Path(folder) / name for name in names if (Path(folder) / name).is_file()]
    if not found:
        raise FileNotFoundError(f"no {names[0]} in {folder}: apt install {package}")
    return found


@cache
def paths_by_ending() -> dict[str, list[str]]:
    """List the files of the system and of this Python by the ending of their names, in the order of their paths.

    Links and files outside 4 kB to 2 MB are passed over; files without an ending are listed under an empty one.
    """
    paths = sysconfig.get_paths()
    roots = sorted({os.path.realpath(root) for root in (*_ROOTS, sys.prefix, paths["stdlib"], paths["purelib"])})
    found: dict[str, set[str]] = {}
    for root in roots:
        for path, size in _files_below(root):
            if _LEAST <= size <= _MOST:
                found.setdefault(os.path.splitext(path)[1].lower().lstrip("."), set()).add(path)
    return {ending: sorted(paths) for ending, paths in found.items()}


def _files_below(folder: str) -> Iterator[tuple[str, int]]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(place, name)
            try:
                if not os.path.islink(path):
                    yield path, os.stat(path).st_size
            except OSError:
                continue


def draw(endings: Sequence[str], n: int, rng: np.random.Generator, *, most_a_package: int) -> list[bytes]:
    """Draw files with these endings at random, no content twice, as `draw_named` does.

    Returns
    -------
    list of bytes
        Their contents, in a random order.
    """
    return [content for _, content in draw_named(endings, n, rng, most_a_package=most_a_package)]


def draw_named(
    endings: Sequence[str], n: int, rng: np.random.Generator, *, most_a_package: int
) -> list[tuple[str, bytes]]:
    """Draw files with these endings at random, no content twice.

    Parameters
    ----------
    endings : sequence of str
        Without the dot.
    n : int
        How many, or as many as there are.
    rng : numpy.random.Generator
    most_a_package : int
        How many files to take at most from one package: the first folder below ``site-packages``, ``share``, ``lib``
        and the like. Without it the largest package would be most of the sample.

    Returns
    -------
    list of (str, bytes)
        Paths and contents, in a random order.
    """
    paths = [path for ending in endings for path in paths_by_ending().get(ending, ())]
    found: list[tuple[str, bytes]] = []
    seen: set[bytes] = set()
    taken: Counter[str] = Counter()
    for index in rng.permutation(len(paths)):
        package = _package(paths[index])
        if taken[package] >= most_a_package:
            continue
        try:
            content = Path(paths[index]).read_bytes()
        except OSError:
            continue
        if (digest := hashlib.sha256(content).digest()) not in seen:
            seen.add(digest)
            taken[package] += 1
            found.append((paths[index], content))
        if len(found) == n:
            break
    return found


def _package(path: str) -> str:
    """Name the package of a file, by the first folder below one that holds packages."""
    parts = Path(path).parts[:-1]
    for holder in ("site-packages", "dist-packages", "doc", "include", "share", "lib"):
        if holder in parts[:-1]:
            return parts[parts.index(holder) + 1]
    return parts[-1]
