"""Edits of Python source files, as bytes: harmless ones, broken ones, and such as hide something."""

from __future__ import annotations

import ast
import base64
import codecs
import warnings
from collections.abc import Callable

import numpy as np

__all__ = ["EDITS", "replaced"]

Edit = Callable[[bytes, np.random.Generator, bytes], "bytes | None"]

_START = 1024  # bytes at the beginning, within which something is put


def replaced(content: bytes, n: int, rng: np.random.Generator) -> bytes:
    """Replace `n` of the first and of the last 1,000 bytes by random printable ones."""
    values = np.frombuffer(content, np.uint8).copy()
    seen = np.concatenate([np.arange(1000), np.arange(len(values) - 1000, len(values))])
    values[rng.choice(seen, n, replace=False)] = rng.integers(33, 127, n)
    return values.tobytes()


def _shuffled_lines(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[i] for i in rng.permutation(len(lines)))


def _shuffled_words(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes:
    words = content.split()
    return b" ".join(words[i] for i in rng.permutation(len(words)))


def _shuffled_bytes(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes:
    return rng.permutation(np.frombuffer(content, np.uint8)).tobytes()


def _without_spaces(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes:
    return b"".join(content.split())


def _written_anew(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes | None:
    """Parse a file and write it again: no comments, no documentation, one layout."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings that are not ours
            tree = ast.parse(content)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            first = body[0] if isinstance(body, list) and len(body) > 1 else None
            if isinstance(body, list) and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del body[0]
        return ast.unparse(tree).encode()
    except (SyntaxError, ValueError, RecursionError):
        return None


def _payload_inside(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes:
    where = int(rng.integers(100, _START - 300))
    return content[:where] + payload + content[where + len(payload) :]


def _base64(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes:
    return base64.b64encode(payload)


def _keyed(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes:
    key = np.resize(rng.integers(1, 256, 8).astype(np.uint8), len(content))
    return (np.frombuffer(content, np.uint8) ^ key).tobytes()


def _as_utf16(content: bytes, rng: np.random.Generator, payload: bytes) -> bytes | None:
    try:
        return content.decode().encode("utf-16")
    except UnicodeDecodeError:
        return None


# What is done to a file, in words, and how. The payload is a shared library without its first 4 kB: tables and zeros
# first, machine code later.
EDITS: dict[str, tuple[str, Edit]] = {
    "upper case": ("letters turned into capitals", lambda c, rng, p: c.upper()),
    "rot13": ("letters moved on by 13 places", lambda c, rng, p: codecs.encode(c.decode("latin-1"), "rot13").encode()),
    "CRLF": ("lines end as on Windows", lambda c, rng, p: c.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")),
    "tabs": ("four spaces turned into a tab", lambda c, rng, p: c.replace(b"    ", b"\t")),
    "UTF-16": ("encoded anew in two bytes a character", _as_utf16),
    "no spaces": ("all white space taken out", _without_spaces),
    "written anew": ("parsed and written again, without comments and documentation", _written_anew),
    "shuffled lines": ("lines in a random order", _shuffled_lines),
    "shuffled words": ("words in a random order, one space between them", _shuffled_words),
    "shuffled bytes": ("bytes in a random order", _shuffled_bytes),
    "reversed": ("read backwards", lambda c, rng, p: c[::-1]),
    "truncated": ("the first 200 bytes alone", lambda c, rng, p: c[:200]),
    "20 random bytes": ("20 of the bytes that are looked at replaced by random printable ones",
                        lambda c, rng, p: replaced(c, 20, rng)),
    "200 random bytes": ("200 of the bytes that are looked at replaced by random printable ones",
                         lambda c, rng, p: replaced(c, 200, rng)),
    "library inside": ("256 bytes of a shared library, mostly tables and zeros, in place of others near the beginning",
                       lambda c, rng, p: _payload_inside(c, rng, p[:256])),
    "library appended": ("2,048 bytes of a shared library at the end, mostly tables and zeros",
                         lambda c, rng, p: c + p[:2048]),
    "base64 inside": ("a line of 256 characters in base64 in place of others near the beginning",
                      lambda c, rng, p: _payload_inside(c, rng, b'\n"' + base64.b64encode(p[:189]) + b'"\n')),
    "base64 appended": ("a text of 600 characters in base64, and what decodes it, at the end",
                        lambda c, rng, p: c + b'\nexec(b64decode("' + base64.b64encode(p[:450]) + b'"))\n'),
    "base64": ("nothing but a shared library in base64, without its first 4 kB", _base64),
    "keyed": ("each byte combined with a key of eight bytes by exclusive or", _keyed),
}  # fmt: skip
