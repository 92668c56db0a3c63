"""Activations that are at hand already: from any framework, or from a file. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._validation import refuse_masked, refuse_no_numbers
from ..input_checks import ShapeError, as_rows, one_array
from .base import Space

__all__ = ["Arrays"]


class Arrays(Space):
    """Node values as they are: activations, embeddings or any other table of numbers.

    Parameters
    ----------
    node_shapes : mapping of str to sequence of int
        For each name the shape of what belongs to one input.

    Raises
    ------
    ValueError
        If there are no names, or one has no nodes.

    Examples
    --------
    >>> import numpy as np
    >>> space = Arrays({"conv": (2, 2, 3), "dense": (5,)})
    >>> values = {"conv": np.zeros((4, 2, 2, 3)), "dense": np.ones((4, 5))}
    >>> {name: rows.shape for name, rows in space.transform(values).items()}
    {'conv': (4, 12), 'dense': (4, 5)}

    `stack` lays all values side by side in one array:

    >>> space.stack(values).shape
    (4, 17)
    """

    def __init__(self, node_shapes: Mapping[str, Sequence[int]]) -> None:
        self.node_shapes = {name: tuple(shape) for name, shape in node_shapes.items()}
        self._sizes = {name: math.prod(shape) for name, shape in self.node_shapes.items()}
        if not self._sizes or not all(self._sizes.values()):
            raise ValueError(f"each array needs a name and at least one node, got {self.node_shapes}")

    def stack(self, arrays: Mapping[str, Any]) -> np.ndarray:
        """Lay the values of all names side by side.

        Parameters
        ----------
        arrays : mapping of str to array-like of shape (N, ...)

        Returns
        -------
        ndarray of shape (N, J)
            J counts the nodes of all names, in the order of `node_shapes`. Of a single array this is a view.

        Raises
        ------
        ValueError
            If a name is missing or unknown, or an array has another shape or another number of inputs.
        TypeError
            If an array does not hold real numbers.
        """
        rows = list(self._rows(arrays).values())
        return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)

    def transform(self, images: Any) -> dict[str, np.ndarray]:
        """Flatten what belongs to each input.

        Parameters
        ----------
        images : mapping of str to array-like of shape (N, ...), or array-like
            An array for each name; or what `stack` made of them, of shape (N, J); or a single name's array.

        Returns
        -------
        dict of str to ndarray of shape (N, J)
            Each of the type that it was given in, so that no two values become equal.

        Raises
        ------
        ValueError, TypeError
            As for `stack`.
        """
        if isinstance(images, Mapping):
            return self._rows(images)
        array, n_nodes = one_array(images), sum(self._sizes.values())
        refuse_no_numbers(array, "inputs")
        if array.ndim and list(self.node_shapes.values()) == [array.shape[1:]]:
            array = as_rows(array)
        if array.ndim != 2 or array.shape[1] != n_nodes:
            hint = "; for one input use x[np.newaxis]" if array.shape == (n_nodes,) else ""
            raise ShapeError(f"expected {n_nodes} nodes an input, shape (n, {n_nodes}), got {array.shape}{hint}")
        ends = np.cumsum(list(self._sizes.values()))[:-1]
        return dict(zip(self.node_shapes, np.split(array, ends, axis=1), strict=True))

    def _rows(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Check the arrays, and flatten what belongs to each input."""
        if set(arrays) != set(self.node_shapes):
            given = ", ".join(map(str, arrays)) or "none"
            raise ValueError(f"expected the arrays {', '.join(self.node_shapes)}, got {given}")
        rows = {}
        for name, shape in self.node_shapes.items():
            refuse_masked(arrays[name], name)
            array = np.asanyarray(arrays[name])
            refuse_no_numbers(array, name)
            if not array.ndim or array.shape[1:] != shape:
                raise ShapeError(f"{name} must have the shape {shape} for each input, got {array.shape} in all")
            rows[name] = as_rows(array)
        counts = {name: len(array) for name, array in rows.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(f"all arrays must have one row for each input, but their numbers of rows differ: {told}")
        return rows
