"""Content that is wrong: bytes, values of JSON and arrays, changed at random."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

import numpy as np

NUMBERS = (
    0, 1, -1, 2, 7, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 3 * 10**8, 10**12, 2**52, 2**53, 2**63 - 1, 2**63, 2**64,
    -(2**63), 10**30, 0.0, -0.0, 0.5, 1.5, -1.5, 5e-324, 1e-300, 1e300, 1.7976931348623157e308, float("inf"),
    float("-inf"), float("nan"),
)  # fmt: skip
TEXTS = (
    "", "a", "0", "-1", "null", "nan", "upper", "lower", "two-sided", "random", "range", "berk-jones", "fisher", "min",
    "holdout", "leave-one-out", "float32", "O", "float99", "..", "../x", "/", "\0", "\ud800", "ä" * 40, "x" * 5000,
    "SubsetScanDetector", "Background", "Residuals", "OutlierDetector", "null_scores", "fitted/a_", "__class__",
)  # fmt: skip
INTERESTING_BYTES = tuple(
    n.to_bytes(size, order) for n in (0, 1, 0x7F, 0xFF) for size in (1, 2, 4, 8) for order in ("little", "big")
)
NUMBERS_IN_TEXT = (
    b"0",
    b"-1",
    b"1e9",
    b"99999999999999999999",
    b"{",
    b"}",
    b"(",
    b")",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"'",
    b"\\",
)


def mutated_bytes(content: bytes, random: Random) -> bytes:
    """Change a few places: bits, bytes, numbers, a piece that is cut out, put twice or moved, the end."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        n = len(changed)
        at = random.randrange(n + 1) if random.random() < 0.6 else random.randrange(min(n, 160) + 1)
        length = min(random.choice((1, 2, 4, 8, 40, 400)), n - at)
        kind = random.randrange(8)
        if kind == 0 and at < n:
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < n:
            changed[at] = random.randrange(256)
        elif kind == 2:
            new = random.choice(INTERESTING_BYTES)
            changed[at : at + len(new)] = new
        elif kind == 3:
            new = random.choice(NUMBERS_IN_TEXT)
            changed[at : at + random.choice((0, len(new)))] = new
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length] * random.choice((1, 2, 50))
        elif kind == 6:
            to = random.randrange(n + 1)
            changed[to : to + length] = changed[at : at + length]
        else:
            del changed[at:]
    return bytes(changed)


def strange_value(random: Random, depth: int = 0) -> Any:
    """Return a value that JSON holds."""
    kind = random.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return random.choice(NUMBERS)
    if kind == 2:
        return random.choice(TEXTS)
    if kind == 3:
        return random.choice((None, True, False))
    if kind == 4:
        return random.choice(([], {}))
    if kind == 5:
        return [strange_value(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 6:
        return {random.choice(TEXTS): strange_value(random, depth + 1) for _ in range(random.randrange(3))}
    deep: Any = random.choice(([], {}))
    for _ in range(random.choice((10, 200))):
        deep = [deep]
    return deep


def mutate_json(value: Any, random: Random) -> Any:
    """Change one place within a value of JSON, or the value, and return it."""
    places = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not places or random.random() < 0.05:
        if isinstance(value, bool | str) or value is None or random.random() < 0.5:
            return strange_value(random)
        if isinstance(value, int | float):
            return value + random.choice((1, -1, 0.5)) if random.random() < 0.5 else random.choice(NUMBERS)
        return strange_value(random)
    key, one = random.choice(places)
    kind = random.random()
    if kind < 0.7:
        value[key] = mutate_json(one, random)
    elif kind < 0.8:
        del value[key]
    elif isinstance(value, dict):
        value[random.choice((*TEXTS, *value))] = random.choice([strange_value(random), one])
    else:
        value.insert(random.randrange(len(value) + 1), random.choice([strange_value(random), one]))
    return value


def mutate_array(array: np.ndarray, random: Random) -> np.ndarray:
    """Return an array with other values, of another type or shape."""
    kind = random.randrange(9)
    if kind < 3 and array.size:
        array = array.copy()
        for _ in range(random.choice((1, 1, 5))):
            with np.errstate(all="ignore"):
                array.flat[random.randrange(array.size)] = _as(random.choice(NUMBERS), array.dtype)
    elif kind == 3:
        with np.errstate(all="ignore"):
            array = array.astype(random.choice(("f2", "f4", "f8", "i1", "i8", "u4", "?")))
    elif kind == 4:
        array = array[: random.randrange(len(array) + 1)] if array.ndim else array[np.newaxis]
    elif kind == 5:
        array = array.ravel() if random.random() < 0.5 else array.T
    elif kind == 6:
        array = array[::-1] if array.ndim else array
    elif kind == 7:
        array = np.concatenate([array, array], axis=random.randrange(array.ndim)) if array.ndim else array
    else:
        array = array.reshape(
            random.choice((array.shape, (*array.shape, 1), (1, *array.shape), (array.size, 1), (1, array.size)))
        )
    return np.ascontiguousarray(array) if array.ndim else array.copy()


def _as(number: float, dtype: np.dtype) -> Any:
    return number if dtype.kind == "f" else int(number) % 2 if math.isfinite(number) else 1


def strange_array(random: Random, most: int = 6, ndim: int | None = 2) -> np.ndarray:
    """Return numbers of any type, shape and memory layout; many tie, some are not finite."""
    shape = tuple(random.choice((0, 1, 1, 2, 3, most)) for _ in range(random.randrange(4) if ndim is None else ndim))
    rng = np.random.default_rng(random.getrandbits(32))
    dtype = random.choice(("f2", "f4", "f4", "f8", "f8", ">f4", "i2", "u1", "?", "i8"))
    with np.errstate(all="ignore"):
        array = random.choice((rng.normal, rng.random, lambda size: rng.integers(-2, 3, size)))(size=shape).astype(
            dtype
        )
    if array.size and random.random() < 0.3:
        with np.errstate(all="ignore"):
            array.flat[random.randrange(array.size)] = _as(random.choice(NUMBERS), array.dtype)
    layout = random.randrange(5)
    if layout == 0:
        array = np.asfortranarray(array)
    elif layout == 1 and array.ndim:
        array = array[::-1]
    elif layout == 2 and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == 3 and random.random() < 0.1:
        array = np.ma.masked_array(array, rng.random(shape) < 0.2)
    return array


def as_json(value: Any) -> str:
    """Write JSON, which may have numbers that are not finite, and half pairs of surrogates."""
    return json.dumps(value)
