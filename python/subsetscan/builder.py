"""A background that is under way: its inputs come in batches, or in parts that are merged."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from ._validation import InvalidTypeError, check_columns, column_names, integer, node_values
from .background import Background, _kept

__all__ = ["BackgroundBuilder"]


class BackgroundBuilder:
    """A background whose inputs come in batches, so that they need never be in memory together.

    Of a compact background no more than 1.25 times what it keeps is ever held, and 64 values for each node. Parts of
    one background may be built apart, on other machines too, as builders can be pickled: each is announced the number
    of all inputs, and `merge` puts them together. Batches, parts and their order make no difference to the result.
    One builder is for one thread at a time.

    Parameters
    ----------
    n_samples : int
        How many inputs will come, here and to the builders that are merged; where that is not known, a number that
        they will not exceed, and `finish` with `early`.
    tail, alpha_max
        As for `Background`.

    Attributes
    ----------
    n_seen : int
        How many inputs have come.
    nbytes : int
        Size in bytes of the memory for what is held.

    Raises
    ------
    ValueError
        If `n_samples` is less than 1.

    Examples
    --------
    >>> builder = BackgroundBuilder(3)
    >>> builder.add([[0.0, 1.0], [0.5, 2.0]])
    >>> builder.add([[1.0, 3.0]])
    >>> builder.finish()
    <Background of 3 inputs x 2 nodes, float64>

    In parts:

    >>> parts = [BackgroundBuilder(3), BackgroundBuilder(3)]
    >>> parts[0].add([[1.0, 3.0]])
    >>> parts[1].add([[0.0, 1.0], [0.5, 2.0]])
    >>> parts[0].merge(parts[1])
    >>> parts[0].finish()
    <Background of 3 inputs x 2 nodes, float64>
    """

    def __init__(self, n_samples: int, tail: str | None = None, alpha_max: float | None = None) -> None:
        if integer(n_samples, "n_samples") < 1:
            raise ValueError(f"a background needs at least 1 input, got n_samples={n_samples}")
        self._n_samples = n_samples
        self._kept = _kept(tail, alpha_max)
        self._core: _core.BackgroundBuilder | None = None
        self._dtype: np.dtype | None = None
        self._names: tuple[str, ...] | None = None

    @property
    def n_seen(self) -> int:  # noqa: D102 (the class says it)
        return 0 if self._core is None else self._core.n_pushed

    @property
    def nbytes(self) -> int:  # noqa: D102
        return 0 if self._core is None else self._core.nbytes

    def add(self, activations: Any) -> None:
        """Add the node values of some inputs, of shape (n, J).

        Raises
        ------
        ValueError
            If a value is NaN, the number of nodes is not that of the first batch, or too many inputs come. The
            inputs of such a batch do not count; what came before stays.
        TypeError
            If the values are not real numbers, or their type is not that of the first batch.
        """
        names = column_names(activations)
        check_columns(names, self._names, "the first batch")
        values = node_values(activations, "activations")
        core = self._new(values.shape[1], values.dtype) if self._core is None else self._core
        if self._dtype is not None and values.dtype != self._dtype:
            raise InvalidTypeError(f"the first batch was {self._dtype}, this one is {values.dtype}")
        core.push(values)
        self._core, self._dtype, self._names = core, values.dtype, self._names or names

    def merge(self, other: BackgroundBuilder) -> None:
        """Add the inputs that came to another builder of the same background; it stays as it is.

        Raises
        ------
        ValueError
            If the other was announced another number of inputs, keeps something else, has another number of nodes, or
            has too many inputs.
        TypeError
            If it is no builder, or its values are of another type.
        """
        if not isinstance(other, BackgroundBuilder):
            raise InvalidTypeError(f"a builder is merged with a BackgroundBuilder, got {type(other).__name__}")
        if other is self:
            raise ValueError("a builder cannot be merged with itself: its inputs would count twice")
        if (ours := (self._n_samples, *self._kept)) != (theirs := (other._n_samples, *other._kept)):
            what = "n_samples, tail and alpha_max"
            raise ValueError(f"only parts of one background can be merged: {what} are {ours} here and {theirs} there")
        check_columns(other._names, self._names, "this builder")
        if other._core is None or other._dtype is None:
            return
        if self._core is None:
            self._core, self._dtype = self._new(other._core.n_nodes, other._dtype), other._dtype
        if other._dtype != self._dtype:
            raise InvalidTypeError(f"the values of this builder are {self._dtype}, those of the other {other._dtype}")
        self._core.merge(other._core)
        self._names = self._names or other._names

    def finish(self, early: bool = False) -> Background:
        """Sort what has come.

        Parameters
        ----------
        early : bool
            Whether the inputs that have come are all, even where more were announced.

        Raises
        ------
        ValueError
            If no inputs came, or fewer than were announced and not `early`.
        """
        if self._core is None or not self.n_seen:
            raise ValueError(f"the background was to hold {self._n_samples} inputs, but none were given")
        if self.n_seen != self._n_samples and not early:
            raise ValueError(f"the background was to hold {self._n_samples} inputs, but {self.n_seen} were given")
        return Background._wrap(self._core.finish(early), self._names)

    def empty(self) -> BackgroundBuilder:
        """Return a builder of the same background to which nothing has come."""
        return BackgroundBuilder(self._n_samples, *self._kept)

    def copy(self) -> BackgroundBuilder:
        """Return a builder to which the same has come."""
        other = self.empty()
        other.merge(self)
        return other

    def __sizeof__(self) -> int:
        held = 0 if self._core is None or self._dtype is None else self._core.n_nodes * self._dtype.itemsize
        return object.__sizeof__(self) + min(self.nbytes, held * self.n_seen)

    def __getstate__(self) -> dict[str, Any]:
        held = None if self._core is None else (self._core.held(), self._core.n_pushed)
        return vars(self) | {"_core": None, "_held": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if (held := vars(self).pop("_held")) is not None:
            values, n_pushed = held
            self._core = _core.BackgroundBuilder.from_held(values, self._n_samples, n_pushed, *self._kept)

    def _new(self, n_nodes: int, dtype: np.dtype) -> _core.BackgroundBuilder:
        return _core.BackgroundBuilder(self._n_samples, n_nodes, dtype.name, *self._kept)
