"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_write"]


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
