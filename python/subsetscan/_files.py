"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

__all__ = ["whole"]


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """Lend a temporary path beside `path` that takes its place when the block ends, and is removed when it fails.

    Raises
    ------
    OSError
        If the folder is not there or cannot be written.
    """
    path = Path(path)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix, delete=False) as file:
        temporary = Path(file.name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # temporary files are for their owner only
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
