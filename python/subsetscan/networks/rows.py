"""Whether what was read has a row for each sample."""

from __future__ import annotations

import numpy as np

from ..input_checks import ShapeError

__all__ = ["by_sample"]


def by_sample(values: np.ndarray, n_samples: int, what: str) -> np.ndarray:
    """Give each sample one row of numbers: (N * k, ...) to (N, k, ...).

    Raises
    ------
    ValueError
        If the first axis does not count samples, or there are no real numbers.
    """
    if values.dtype.kind not in "biuf" and values.dtype.name != "bfloat16":
        raise ValueError(f"{what} has no real numbers, but {values.dtype}: leave it out")
    if not values.ndim or not values.shape[0] or values.shape[0] % n_samples:
        raise ShapeError(
            f"{what} does not have a row for each input: it has the shape {values.shape} for {n_samples} inputs; leave "
            "it out"
        )
    rows = values.shape[0] // n_samples
    return values if rows == 1 else values.reshape(n_samples, rows, *values.shape[1:])
