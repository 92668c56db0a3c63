"""What is imported only where it is needed, and how to get it."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["how_to_get", "import_extra"]

_PACKAGE = __name__.partition(".")[0]


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
        raise ModuleNotFoundError(f"{error.name} is not installed: {how_to_get(extra)}", name=error.name) from error


def how_to_get(extra: str) -> str:
    """Write the command that installs an extra, from where this package was installed: a folder, an address, an index.

    See the Python packaging user guide, "Recording the Direct URL Origin of installed distributions".
    """
    source = _direct_url()
    url, folder = source.get("url", ""), source.get("dir_info")
    if folder is not None:
        editable = "--editable " if folder.get("editable") else ""
        return f'pip install {editable}"{url2pathname(urlsplit(url).path)}[{extra}]"'
    if "vcs_info" in source:
        url = f"{source['vcs_info']['vcs']}+{url}"
    return f'pip install "{_PACKAGE}[{extra}]{f" @ {url}" if url else ""}"'


def _direct_url() -> dict[str, Any]:
    """Read what pip noted of where the package came from; nothing where it came from an index."""
    try:
        noted: dict[str, Any] = json.loads(distribution(_PACKAGE).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return {}
    return noted
