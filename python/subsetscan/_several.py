"""Inputs as one array, or as several by name or in a tuple, each with a row for every input: handled in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["arrays_of", "each", "n_samples", "picked"]


def arrays_of(inputs: Any) -> list[np.ndarray]:
    """List the arrays of inputs: one, or those of a mapping or a tuple."""
    if isinstance(inputs, tuple):
        return list(inputs)
    return list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]


def n_samples(inputs: Any) -> int:
    """Count inputs: rows of an array, or of each of several arrays in a mapping or a tuple."""
    return len(arrays_of(inputs)[0])


def picked(inputs: Any, rows: np.ndarray | slice) -> Any:
    """Pick inputs."""
    return each(inputs, lambda array: array[rows])


def each(inputs: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Change each array of inputs."""
    if isinstance(inputs, Mapping):
        return {name: change(array) for name, array in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(map(change, inputs))
    return change(inputs)
