"""What is done to files that is no attack: harmless edits, and ways to hide or add something."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..subjects.edits import EDITS as EDITS_OF_PYTHON

__all__ = ["BINARY", "EDITS", "HARMLESS", "HIDING", "Edit"]

HARMLESS, HIDING = "harmless", "hiding"
BINARY = ("elf", "pythonbytecode", "gzip", "jar", "png")  # of the types that have files enough on usual machines

Change = Callable[[bytes, np.random.Generator, str, bytes], "bytes | None"]


@dataclass(frozen=True)
class Edit:
    """One way to change a file.

    Attributes
    ----------
    role : {"harmless", "hiding"}
        Whether somebody might do it any day, or it adds or hides something.
    about : str
    change : callable
        From content, random generator, type and a payload to the new content; None where it does not apply.
    """

    role: str
    about: str
    change: Change


_COMMENTS = {
    "python": "# {}", "perl": "# {}", "yaml": "# {}", "tcl": "# {}", "shell": "# {}", "ruby": "# {}",
    "c": "/* {} */", "cpp": "// {}", "javascript": "// {}", "php": "// {}", "css": "/* {} */",
    "html": "<!-- {} -->", "xml": "<!-- {} -->", "markdown": "<!-- {} -->", "rst": "\n.. {}\n", "sql": "-- {}",
}  # fmt: skip
_SAID = "checked again: nothing to change here"
_WITHOUT_INDENTS = ("c", "cpp", "javascript", "html", "xml", "perl", "css", "php")  # where they mean nothing
_PACKED = {
    "python": b'import base64, zlib\nexec(zlib.decompress(base64.b64decode("%s")))\n',
    "javascript": b'eval(require("zlib").inflateSync(Buffer.from("%s", "base64")).toString());\n',
    "perl": b'use MIME::Base64;\nuse Compress::Zlib;\neval uncompress(decode_base64("%s"));\n',
    "php": b'<?php eval(gzuncompress(base64_decode("%s")));\n',
    "html": b'<html><script>document.write(unpack(atob("%s")))</script></html>\n',
}


def _by_line(content: bytes, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    return b"\n".join(change(content.split(b"\n")))


def _spaces_at_ends(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes | None:
    """Put a space at the end of ten lines, half of them among the first twenty that there are."""
    if kind in BINARY:
        return None
    lines = content.split(b"\n")
    chosen = {*rng.permutation(min(20, len(lines)))[:5].tolist(), *rng.permutation(len(lines))[:5].tolist()}
    return b"\n".join(line + b" " * (n in chosen) for n, line in enumerate(lines))


def _blank_line(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes | None:
    if kind in BINARY:
        return None
    where = int(rng.integers(1, 10))
    return _by_line(content, lambda lines: [*lines[:where], b"", *lines[where:]])


def _comment(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes | None:
    """Put a comment on a line of its own after one of the first lines. It may break a string that goes over lines."""
    if kind not in _COMMENTS:
        return None
    where, comment = int(rng.integers(1, 10)), _COMMENTS[kind].format(_SAID).encode()
    return _by_line(content, lambda lines: [*lines[:where], comment, *lines[where:]])


def _written_anew(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes | None:
    if kind == "python":
        return EDITS_OF_PYTHON["written anew"][1](content, rng, payload)
    return _json(content, indent=3) if kind == "json" else None


def _json(content: bytes, **layout: object) -> bytes | None:
    try:
        return json.dumps(json.loads(content), **layout).encode()  # type: ignore[arg-type]
    except (ValueError, RecursionError):
        return None


def _minified(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes | None:
    """Take out white space: of JSON all between values, of others indents and blank lines, which may mean something."""
    if kind == "json":
        return _json(content, separators=(",", ":"))
    return re.sub(rb"\s*\n\s*", b"\n", content) if kind in _WITHOUT_INDENTS else None


def _packed(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes | None:
    return _PACKED[kind] % base64.b64encode(zlib.compress(content)) if kind in _PACKED else None


def _base64(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes:
    return base64.encodebytes(zlib.compress(content))


def _library_appended(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes:
    return content + payload[:2048]


def _base64_appended(content: bytes, rng: np.random.Generator, kind: str, payload: bytes) -> bytes | None:
    if kind not in _COMMENTS:
        return None
    comment = _COMMENTS[kind].format(base64.b64encode(payload[:600]).decode()).encode()
    return content.rstrip() + b"\n" + comment + b"\n"


EDITS: dict[str, Edit] = {
    "spaces at ends of lines": Edit(HARMLESS, "a space more at the end of up to ten lines", _spaces_at_ends),
    "a blank line": Edit(HARMLESS, "an empty line more among the first ten", _blank_line),
    "a comment": Edit(HARMLESS, "a line of comment more among the first ten", _comment),
    "written anew": Edit(HARMLESS, "parsed and written again in another layout", _written_anew),
    "minified": Edit(
        HARMLESS,
        "JSON without white space, others without indents and empty lines, which some of them mind in places",
        _minified,
    ),
    "packed": Edit(HIDING, "compressed and in base64, within a line of its language that unpacks it", _packed),
    "base64": Edit(HIDING, "compressed and in base64, nothing else", _base64),
    "library appended": Edit(
        HIDING, "2,048 bytes of a shared library at the end, mostly tables and zeros", _library_appended
    ),
    "base64 appended": Edit(HIDING, "a comment of 800 characters in base64 at the end", _base64_appended),
}
