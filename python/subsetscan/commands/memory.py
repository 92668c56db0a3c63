"""How many nodes a fit reads, and whether the memory of this machine holds them."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence

from ..inputs.base import SizedInputs
from ..spaces import Space

__all__ = ["AUTOMATIC", "check_memory", "show_shapes", "total_memory"]

_ITEM_SIZE = 4  # spaces compute in single precision
# Of the automatic detector, measured: it keeps three backgrounds, the values and up to two matrices in double precision
# of each space, and the fit of one takes as much again twice.
AUTOMATIC = {"item_size": 30, "working_size": 60}


def total_memory() -> int | None:
    """Return the memory of this machine in bytes, or None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def show_shapes(spaces: Sequence[Space], inputs: SizedInputs) -> None:
    """Pass one input through each space whose network does not tell the shapes of all its layers before.

    Raises
    ------
    ValueError, TypeError
        As the space's `transform` does.
    """
    for space in spaces:
        if set(space.names) - set(space.node_shapes):
            space.transform(inputs[:1])


def check_memory(
    spaces: Sequence[Space], n_background: int, item_size: int = _ITEM_SIZE, working_size: int = 0
) -> None:
    """Refuse a background that cannot fit in memory, before anything is computed.

    Parameters
    ----------
    spaces : sequence of Space
    n_background : int
        Number of background inputs.
    item_size : int
        Bytes that are kept of a node value.
    working_size : int
        Bytes that the fit of one space takes beside, for each of its node values.

    Raises
    ------
    MemoryError
        If that is more than all of the memory.

    Warns
    -----
    UserWarning
        If it is more than half of the memory.
    """
    total = total_memory()
    sizes = [math.prod(shape) for space in spaces for shape in space.node_shapes.values()]
    n_nodes = sum(sizes)
    needed = n_background * (n_nodes * item_size + max(sizes, default=0) * working_size)
    if total is None or needed <= total / 2:
        return
    estimate = (
        f"{n_nodes:,} nodes x {n_background:,} background inputs need about {_size(needed)}, and this machine has "
        f"{_size(total)} of memory"
    )
    advice = "name fewer layers with --layers, or give fewer background inputs"
    if needed > total:
        raise MemoryError(f"{estimate}: {advice}")
    warnings.warn(f"{estimate}; if that is too much, {advice}", stacklevel=2)


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} GB"
