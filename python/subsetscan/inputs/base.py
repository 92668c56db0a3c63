"""What inputs are to the rest of the package: batches, in whatever form their networks take them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._validation import check_columns

__all__ = ["Batch", "Inputs", "SizedInputs"]


class Batch(NamedTuple):
    """Some inputs that go through spaces together.

    Attributes
    ----------
    rows : ndarray of shape (n,), int
        Their numbers among all.
    inputs : ndarray, dict of str to ndarray, or tuple of ndarray
        With a row for each.
    labels : ndarray of shape (n,), or None
        Their labels, where they came with the inputs.
    """

    rows: np.ndarray
    inputs: Any
    labels: np.ndarray | None = None


class Inputs(ABC):
    """Inputs in any form.

    Attributes
    ----------
    columns : dict of str to tuple of str
        The names of the columns of data frames among them, by the frame's name; "" is that of a single one. Of
        batches those that have come.
    hint : str
        What an error about their shape should say of how they were taken.
    """

    columns: Mapping[str, tuple[str, ...]] = {}
    hint: str = ""

    def hold_to(self, columns: Mapping[str, tuple[str, ...]]) -> None:
        """Raise ValueError for data frames with other columns than those of a fit, now or when they come."""
        for name, own in self.columns.items():
            check_columns(own, columns.get(name), f"the fit{f' in {name}' if name else ''}")

    @abstractmethod
    def collected(self) -> SizedInputs:
        """Return all of them as inputs of which any can be picked."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all of them in batches of that size, of which the last may be smaller."""


class SizedInputs(Inputs):
    """Inputs of a known number, of which any can be picked."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, rows: Any) -> Any:
        """Pick rows, by a slice or by increasing numbers."""

    def collected(self) -> SizedInputs:
        """Return themselves."""
        return self

    def batches(self, size: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
        """Yield those of these numbers, by default all, in batches of that size."""
        rows = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield Batch(part, self[part])
