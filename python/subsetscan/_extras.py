"""What is imported only where it is needed, and how to get it."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["import_extra"]


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module that comes with an extra of this package.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error.name} is not installed: pip install "subsetscan[{extra}]"', name=error.name
        ) from error
