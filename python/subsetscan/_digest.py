"""Digests of arrays and settings, by which things are told apart."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["digest"]


def digest(*parts: str | np.ndarray) -> str:
    """Compute the SHA-256 of texts and arrays, with the arrays' types and shapes, in hexadecimal."""
    result = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, str) else f"{part.dtype.name} {part.shape}"
        result.update(f"{len(text)} {text}".encode())
        if not isinstance(part, str):
            result.update(np.ascontiguousarray(part).tobytes())
    return result.hexdigest()
