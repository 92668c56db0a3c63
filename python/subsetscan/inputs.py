"""Inputs as they are handed in, and what they look like: whether two sets of them can belong together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from ._validation import column_names

__all__ = ["InputDict", "InputSummary", "Inputs", "ScaleWatch", "SeenInputs", "as_inputs", "columns_of", "one_input"]

# Pixels in [0, 1] and in 0..16 differ by more, clean and anomalous inputs on one scale by less.
_OTHER_SCALE = 8
_UNIT_SCALE = 2  # [0, 1] and [-1, 1], with room for noise; all-dark images of 0..255 are brighter
_BELOW_ZERO = -0.6  # of the background's largest value: [-1, 1] beside [0, 1]


class InputDict:
    """Several arrays with one row for each input, by their names; rows are picked from all of them.

    Raises
    ------
    ValueError
        If there is no array, or they differ in their number of rows.
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = {name: _counted(array, name) for name, array in arrays.items()}
        counts = {name: len(array) for name, array in self._arrays.items()}
        if len(set(counts.values())) != 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items()) or "no array"
            raise ValueError(f"all arrays must have one row for each input, but they differ in their number: {told}")

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, rows: Any) -> dict[str, np.ndarray]:
        return {name: np.asarray(array[rows]) for name, array in self._arrays.items()}


Inputs = np.ndarray | InputDict


def as_inputs(inputs: Any) -> Inputs:
    """Take an array or a mapping of arrays whose first axis counts the inputs. Raises ValueError for anything else."""
    return InputDict(inputs) if isinstance(inputs, Mapping) else _counted(inputs, "images")


def columns_of(inputs: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of data frames among inputs, by the frame's name; "" is that of a single one."""
    arrays = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return {name: columns for name, array in arrays.items() if (columns := column_names(array))}


def one_input(value: Any) -> Inputs:
    """Take one input as a set of one."""
    if isinstance(value, Mapping):
        return InputDict({name: np.asarray(array)[np.newaxis] for name, array in value.items()})
    return np.asarray(value)[np.newaxis]


def _counted(array: Any, what: str) -> np.ndarray:
    array = np.asanyarray(array)
    if not array.ndim:
        raise ValueError(f"{what} must have a first axis that counts them, got shape {array.shape}")
    return array


@dataclass(frozen=True)
class InputSummary:
    """Summary of numeric inputs.

    Attributes
    ----------
    dtype : str
        numpy's name of their type.
    shape : tuple of int
        Of one input.
    low, high : float
        The smallest and the largest value.
    """

    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float

    @classmethod
    def of(cls, batch: np.ndarray) -> Self | None:
        """Summarise inputs, (n, ...); None where there are no numbers."""
        if not batch.size or batch.dtype.kind not in "biuf":
            return None
        return cls(batch.dtype.name, tuple(batch.shape[1:]), float(batch.min()), float(batch.max()))

    def joined(self, other: InputSummary | None) -> InputSummary:
        """Summarise both sets as one."""
        if other is None:
            return self
        return InputSummary(self.dtype, self.shape, min(self.low, other.low), max(self.high, other.high))

    def contradiction(self, other: InputSummary) -> str | None:
        """Say why inputs cannot be of the kind summarised here; None if they can.

        Examples
        --------
        >>> InputSummary("float32", (28, 28), 0, 1).contradiction(InputSummary("uint8", (28, 28), 0, 255))
        'they range from 0 to 255 (uint8), the background from 0 to 1 (float32)'
        """
        own, others = (max(abs(one.low), abs(one.high)) for one in (self, other))
        is_unit = min(own, others) <= _UNIT_SCALE
        other_type = self._is_integer != other._is_integer
        larger = others > _OTHER_SCALE * own > 0
        # A dark image of 0 to 255 does not mean another scale, unless its type is another as well.
        smaller = own > _OTHER_SCALE * others > 0 and (other_type or (is_unit and not self._is_integer))
        below_zero = self.low >= 0 and other.low < _BELOW_ZERO * own < 0
        if not (larger or smaller or below_zero or (other_type and is_unit and self._is_pixel and other._is_pixel)):
            return None
        return (
            f"they range from {other.low:g} to {other.high:g} ({other.dtype}), the background from {self.low:g} to "
            f"{self.high:g} ({self.dtype})"
        )

    @property
    def _is_integer(self) -> bool:
        return np.dtype(self.dtype).kind in "iu"

    @property
    def _is_pixel(self) -> bool:
        """Whether this is bytes, or floats: the two ways in which pixels are kept."""
        return self.dtype == "uint8" or np.dtype(self.dtype).kind == "f"

    def as_dict(self) -> dict[str, Any]:
        """Return the content for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Take up what `as_dict` returned. Raises KeyError, TypeError or ValueError for anything else."""
        name, shape = str(np.dtype(content["dtype"])), tuple(int(n) for n in content["shape"])
        return cls(name, shape, float(content["low"]), float(content["high"]))


class SeenInputs:
    """What has been seen of inputs, as one.

    Attributes
    ----------
    summary : InputSummary or None
    """

    def __init__(self) -> None:
        self.summary: InputSummary | None = None

    def __call__(self, summary: InputSummary) -> None:
        """Take the summary of some more inputs."""
        self.summary = summary.joined(self.summary)


class ScaleWatch:
    """Warns, once, of inputs that cannot be of the kind that is expected.

    Parameters
    ----------
    expected : InputSummary or None
        None expects nothing.
    """

    def __init__(self, expected: InputSummary | None) -> None:
        self._expected = expected

    def __call__(self, summary: InputSummary) -> None:
        """Look at some inputs."""
        if self._expected and (why := self._expected.contradiction(summary)):
            warnings.warn(f"the images do not match the background: {why}; scale both the same way", stacklevel=6)
            self._expected = None
