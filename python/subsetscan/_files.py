"""Files that appear whole or not at all, and files from anybody, whose damage is a ValueError."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

__all__ = ["atomic_write", "check_expansion", "damage_as_value_error", "lock"]

_TEMPORARY = ".subsetscan-"  # what is being written begins with it
_MOST_EXPANSION = 100  # bytes for each that is compressed: pictures take 2 to 5, sparse activations 10 or 20
_ALWAYS_EXPANDED = 64 << 20  # labels in their order, and masks, take much more, but are small


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Lend a temporary path beside `path` that takes its place when the block ends, and is removed when it fails.

    The content is on the disk before it has its name, and the name when this returns. Permissions stay those of the
    file that is replaced, if there is one. The first write to a folder removes what processes that were killed had
    begun to write there.

    Raises
    ------
    OSError
        If the folder is not there or cannot be written, or the disk is full; it names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}{path.suffix}")  # no longer than names may be
    try:
        _sweep(path.parent.absolute())
        held = _created(temporary)
        try:
            permissions = os.fstat(held).st_mode
            with suppress(FileNotFoundError):
                permissions = path.stat().st_mode
            if sys.platform == "win32":  # which renames no file that is open
                os.close(held)
            yield temporary
            temporary.chmod(permissions)  # some libraries write a new file in its place, for its owner only
            _sync(temporary, os.O_RDWR)
            os.replace(temporary, path)
            with suppress(OSError):  # not every system can
                _sync(path.parent, os.O_RDONLY)
        finally:
            if sys.platform != "win32":
                os.close(held)
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.filename not in (None, str(temporary), temporary):
            raise  # another file's
        if error.errno is None:  # a library's
            raise OSError(f"cannot write {path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


def _created(path: Path) -> int:
    """Make a file that is locked for as long as it is open, and open it."""
    while True:
        # The system takes its mask off these permissions, as for any new file; it cannot be asked for its mask alone.
        held = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if sys.platform == "win32":
            return held
        with suppress(OSError):
            lock(held)
        if os.fstat(held).st_nlink:
            return held
        os.close(held)  # another process swept it away before it was locked


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed, or the process ends; return whether nobody else has.

    Raises
    ------
    OSError
        If the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # no other process reads what is locked: far behind the content
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _sync(path: Path, flags: int) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _sweep(folder: Path) -> None:
    """Remove the temporary files of processes that are gone: nobody has them locked."""
    if sys.platform == "win32":
        return
    for left in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):  # gone meanwhile, or somebody else's
            descriptor = os.open(left, os.O_RDWR)
            try:
                if lock(descriptor):
                    left.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def damage_as_value_error(path: Path | str, complaint: str = "is damaged") -> Iterator[None]:
    """Turn what reading the content of a file raises into a ValueError that begins with its path and the complaint.

    Files may come from anybody, and what reads them raises much: RecursionError, OverflowError, zlib.error,
    tokenize.TokenError, OSError. Errors of the system, and too little memory, stay what they are.

    Raises
    ------
    ValueError
        Instead of any other exception in the block but an OSError of the system, MemoryError, and a ValueError that
        begins with the path already.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        # Libraries raise OSError without a number for what is in a file; a seek to before its beginning gives EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        if isinstance(error, ValueError) and str(error).startswith(f"{path} "):
            raise
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} {complaint}: {what}") from error


def check_expansion(path: Path | str, n_bytes: int) -> None:
    """Refuse a compressed file that claims to hold far more than any of its size does.

    Raises
    ------
    ValueError
        The message says what to do with one that is trusted.
    """
    most = _ALWAYS_EXPANDED + _MOST_EXPANSION * (size := os.stat(path).st_size)
    if n_bytes > most:
        raise ValueError(
            f"{path} has {size} bytes and would decompress to {n_bytes}; at most {most} are taken: if it comes from "
            "somebody you trust, decompress it yourself"
        )
