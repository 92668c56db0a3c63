"""What a space is, and the simplest one: the pixels themselves. Nothing here needs a network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from .._digest import digest
from .._validation import refuse_no_numbers
from ..input_checks import as_rows, check_inputs, row_number

__all__ = ["Pixels", "Space", "check_node_shapes", "check_node_values", "join"]


class Space(ABC):
    """A map from inputs to node values.

    A space may yield several arrays at once, each under a name of its own: the layers of one forward pass.

    Attributes
    ----------
    node_shapes : mapping of str to tuple of int
        For each name the shape in which its J nodes lie, as (28, 28, 16) for J = 12,544: to draw a subset of nodes.
    """

    node_shapes: Mapping[str, tuple[int, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays that `transform` yields."""
        return tuple(self.node_shapes)

    @abstractmethod
    def transform(self, images: Any) -> dict[str, np.ndarray]:
        """Compute the node values of inputs.

        Parameters
        ----------
        images : array-like of shape (N, ...)

        Returns
        -------
        dict of str to ndarray of shape (N, J), float32

        Raises
        ------
        ValueError
            If the inputs have the wrong shape, or a pixel is NaN or infinite, or beyond what the space computes with.
        """

    def channel_axis(self, name: str) -> int | None:
        """Return which axis of a name's nodes counts channels; the others are positions. None: none, or it is unknown.

        By default the last, as of inputs (H, W, C) and of volumes (D, H, W, C); inputs (H, W) have no channels. Nodes
        in one row, (J,), are channels without a position.
        """
        n_axes = len(self.node_shapes[name])
        return None if n_axes == 2 else n_axes - 1

    def fingerprint(self) -> str | None:
        """Return a digest of what turns inputs into node values, such as the weights of a network.

        A detector that was fitted on one space can so tell that it is given another. The same network saved and loaded
        has the same fingerprint; states of random number generators are no part of it.

        Returns
        -------
        str or None
            A SHA-256 in hexadecimal. None, the default, is that of a space which does not say.
        """
        return None

    def stamp(self) -> str | None:
        """Tell cheaply whether the `fingerprint` may be another than before: another text where it may.

        None, the default: there is no cheaper way than the fingerprint.
        """
        return None

    def joined(self, other: Space) -> Space | None:
        """Return a space that does both in one pass, or None where that saves nothing."""
        del other
        return None


class Pixels(Space):
    """The pixels of an input as its nodes.

    Parameters
    ----------
    image_shape : tuple of int
        Shape of one input.

    Examples
    --------
    >>> import numpy as np
    >>> Pixels((2, 2, 1)).transform(np.zeros((5, 2, 2, 1)))["pixels"].shape
    (5, 4)
    """

    def __init__(self, image_shape: Sequence[int]) -> None:
        self.node_shapes = {"pixels": tuple(image_shape)}

    def transform(self, images: Any) -> dict[str, np.ndarray]:  # noqa: D102 (the base says it)
        images = check_inputs(images, self.node_shapes["pixels"])
        return {"pixels": as_rows(images)}

    def fingerprint(self) -> str | None:  # noqa: D102 (the base says it)
        return digest("Pixels", str(self.node_shapes["pixels"]))


def join(spaces: Sequence[Space]) -> list[Space]:
    """Make one of those spaces that can share a pass, as those that read the same network can.

    Raises
    ------
    ValueError
        If two spaces use the same name.
    """
    names = [name for space in spaces for name in space.names]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several spaces are named {', '.join(doubles)}: give each a name of its own")
    result: list[Space] = []
    for space in spaces:
        for n, earlier in enumerate(result):
            if (both := earlier.joined(space)) is not None:
                result[n] = both
                break
        else:
            result.append(space)
    return result


def check_node_shapes(space: Space) -> None:
    """Raise ValueError for a space that names no nodes, or has invalid shapes."""
    shapes = space.node_shapes
    if isinstance(shapes, Mapping) and not shapes and space.names:
        return  # a pass will show them
    if not isinstance(shapes, Mapping) or not shapes:
        raise ValueError(f"{type(space).__name__}.node_shapes must give a shape for each name, got {shapes!r}")
    for name, shape in shapes.items():
        if not isinstance(shape, Sequence) or not shape or not all(isinstance(n, Integral) and n > 0 for n in shape):
            raise ValueError(
                f"{type(space).__name__}.node_shapes must have positive numbers, such as (28, 28, 16), for {name}, "
                f"got {shape!r}"
            )


def check_node_values(space: Space, values: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Hold what a space made of some inputs against what it says of itself, and refuse values that are not finite.

    Parameters
    ----------
    space : Space
    values : dict of str to ndarray of shape (N, J)
        What `transform` returned.
    rows : ndarray of shape (N,)
        The numbers of these inputs among all.

    Raises
    ------
    ValueError
        If names or shapes are not those of `node_shapes`, or a value is NaN or infinite.
    TypeError
        If values are not real numbers.
    """
    kind = type(space).__name__
    if not isinstance(values, Mapping) or set(values) != set(space.names):
        received = ", ".join(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
        raise ValueError(f"{kind}.transform must return the arrays {', '.join(space.names)}, got {received or 'none'}")
    checked = {}
    for name, shape in space.node_shapes.items():
        array, expected = np.asarray(values[name]), (len(rows), math.prod(shape))
        refuse_no_numbers(array, f"the node values of {name} ({kind})")
        if array.shape != expected:
            raise ValueError(
                f"{name} ({kind}) must have one row an input and {expected[1]} nodes, as its node shape {tuple(shape)} "
                f"says: shape {expected}, got {array.shape}"
            )
        if not (finite := np.isfinite(array)).all():
            row, node = np.argwhere(~finite)[0]
            raise ValueError(
                f"{(~finite).any(axis=1).sum()} inputs have NaN or infinite values in {name}, the first is input "
                f"{row_number(rows, row)}, node {node}: {array[row, node]}"
            )
        checked[name] = array
    return checked
