"""What commands are given: lists of names, and the folder for what they write."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from .._files import lock

__all__ = ["RESULTS", "check_folder", "check_known", "hold_folder", "names_in", "start_writing"]


# What commands write about images. Beside new scores, what is older would pass for theirs.
RESULTS = (
    "scores.csv", "summary.json", "scores.png", "explanation*.json", "explanation*.png", "maps.npy", "entropy.npy",
    "responses.png", "null_scores.csv", "report.html", "gallery/gallery.json", "gallery/*.png",
)  # fmt: skip


def names_in(text: str, known: Collection[str]) -> list[str]:
    """Read comma-separated names, each once. Raises ValueError, with the known names, if one of them is empty."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise ValueError(f"expected names, comma-separated, of {', '.join(known)}; got {text!r}")
    return list(dict.fromkeys(found))


def check_known(asked: Iterable[str], known: Collection[str]) -> None:
    """Check that names are given and that all are known. Raises ValueError."""
    asked = list(asked)
    if not asked or (strangers := [name for name in asked if name not in known]):
        raise ValueError(f"expected some of {', '.join(known)}, got {', '.join(strangers) if asked else 'none'}")


def check_folder(folder: Path | str) -> Path:
    """Check that a folder can be made and written, without making it.

    Raises
    ------
    OSError
        If it, or the folder that would hold it, is a file or not writable.
    """
    folder = Path(folder)
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise NotADirectoryError(f"cannot write results to {folder}: {nearest} is not a folder")
    try:
        with TemporaryFile(dir=nearest):  # permissions alone do not tell: some file systems are read-only
            pass
    except OSError as error:
        raise type(error)(f"cannot write results to {folder}: {error.strerror or error} ({nearest})") from error
    return folder


@contextmanager
def hold_folder(folder: Path | str, part: str = "") -> Iterator[None]:
    """Make a folder, and keep other runs out of it, or out of a part of what is written there.

    The system ends the lock when the process ends, however it does. A folder that was not there is taken away again,
    with those in it, if what should fill it fails before it does.

    Raises
    ------
    OSError
        If another process holds the folder, or it cannot be made or written.
    """
    folder = check_folder(folder)
    made = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".run{part}.lock"
        held = _hold(path)
        try:
            yield
        finally:
            with suppress(OSError):  # the file itself keeps nobody out
                path.unlink()
            os.close(held)
    except BaseException:
        inner = sorted((place for place in folder.rglob("*") if place.is_dir()), reverse=True) if made else []
        for place in (*inner, *made):
            with suppress(OSError):  # one that holds something stays
                place.rmdir()
        raise


def _hold(path: Path) -> int:
    """Lock a file that says who locked it, and return its descriptor. Raises OSError if another process has."""
    while True:
        # Whoever can write to the folder could make it a link to any file of this user's.
        held = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            try:
                is_free = lock(held)
            except OSError:  # a file system without locks
                return held
            if not is_free:
                holder = os.read(held, 200).decode(errors="replace").strip()
                raise BlockingIOError(
                    f"cannot write results to {path.parent}: {holder or 'another process'} is writing there; wait "
                    "until it has ended, or choose another folder"
                )
            if _is_at(held, path):
                os.truncate(held, 0)
                os.write(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)  # who held it has removed it meanwhile


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def start_writing(folder: Path | str, *names: str) -> Path:
    """Make a folder where it is not there, and remove what an earlier run wrote to it.

    Parameters
    ----------
    folder : path-like
    *names : str
        Files that are about to be written there, or patterns of them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for path in folder.glob(name):
            path.unlink()
    return folder
