"""What a ``random_state`` may be: as in scikit-learn an int, a RandomState or None, or else a numpy Generator."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state as check_with_sklearn

__all__ = ["RandomState", "as_generator", "check_random_state", "draw_seed"]

RandomState = int | np.random.RandomState | np.random.Generator | None


def check_random_state(random_state: RandomState) -> np.random.RandomState | np.random.Generator:
    """Take what draws as it is, and make it of a seed as scikit-learn does. Raises ValueError for anything else."""
    return random_state if isinstance(random_state, np.random.Generator) else check_with_sklearn(random_state)


def as_generator(random_state: RandomState) -> np.random.Generator:
    """Make a Generator; one of a RandomState draws from its stream. Raises ValueError for anything else."""
    if isinstance(random_state, int | np.integer):
        return np.random.default_rng(random_state)
    drawing = check_random_state(random_state)
    return drawing if isinstance(drawing, np.random.Generator) else np.random.default_rng(drawing._bit_generator)


def draw_seed(random_state: RandomState) -> int:
    """Draw a seed below 2^31."""
    drawing = check_random_state(random_state)
    return int(drawing.integers(2**31) if isinstance(drawing, np.random.Generator) else drawing.randint(2**31))
