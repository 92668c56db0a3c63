"""Files that appear whole or not at all, and files from anybody, whose damage is a ValueError."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_write", "check_expansion", "damage_as_value_error"]

_MOST_EXPANSION = 100  # bytes for each that is compressed: pictures take 2 to 5, sparse activations 10 or 20
_ALWAYS_EXPANDED = 64 << 20  # labels in their order, and masks, take much more, but are small


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Lend a temporary path beside `path` that takes its place when the block ends, and is removed when it fails.

    Raises
    ------
    OSError
        If the folder is not there or cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    # The system takes its mask off these permissions, as for any new file; it cannot be asked for its mask alone.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    permissions = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(permissions)  # some libraries write a new file in its place, for its owner only
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
