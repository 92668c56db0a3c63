"""What inputs look like: whether two sets of them can belong together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

__all__ = ["InputSummary", "ScaleWatch", "SeenInputs"]

# Pixels in [0, 1] and in 0..16 differ by more, clean and anomalous inputs on one scale by less.
_OTHER_SCALE = 8
_UNIT_SCALE = 2  # [0, 1] and [-1, 1], with room for noise; all-dark inputs of 0..255 are brighter
_BELOW_ZERO = -0.6  # of the background's largest value: [-1, 1] beside [0, 1]


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

    @classmethod
    def of_each(cls, batch: Any) -> dict[str, Self]:
        """Summarise each array of numbers in a batch of inputs, by its name; a single one has the name ""."""
        arrays = dict(enumerate(batch)) if isinstance(batch, tuple) else batch
        arrays = arrays if isinstance(arrays, Mapping) else {"": arrays}
        found = {str(name): cls.of(np.asarray(array)) for name, array in arrays.items()}
        return {name: summary for name, summary in found.items() if summary is not None}

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
        # A dark input of 0 to 255 does not mean another scale, unless its type is another as well.
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
        if np.dtype(name).kind not in "biuf":
            raise ValueError(f"inputs that are summarised are numbers, got {name}")
        return cls(name, shape, float(content["low"]), float(content["high"]))


class SeenInputs:
    """What has been seen of inputs, as one.

    Attributes
    ----------
    summaries : dict of str to InputSummary
        Of each array of numbers; a single one has the name "".
    """

    def __init__(self) -> None:
        self.summaries: dict[str, InputSummary] = {}

    def __call__(self, summaries: Mapping[str, InputSummary]) -> None:
        """Take the summaries of some more inputs."""
        self.summaries |= {name: own.joined(self.summaries.get(name)) for name, own in summaries.items()}


class ScaleWatch:
    """Warns, once for each array, of inputs that cannot be of the kind that is expected.

    Parameters
    ----------
    expected : mapping of str to InputSummary
    """

    def __init__(self, expected: Mapping[str, InputSummary]) -> None:
        self._expected = dict(expected)

    def __call__(self, summaries: Mapping[str, InputSummary]) -> None:
        """Look at some inputs."""
        for name, summary in summaries.items():
            if name in self._expected and (why := self._expected[name].contradiction(summary)):
                what = f"the values of {name}" if name else "the inputs"
                warnings.warn(f"{what} do not match the background: {why}; scale both the same way", stacklevel=6)
                del self._expected[name]
