"""Inputs through spaces, batch by batch: what is wrong with one is told by its number among all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from sklearn.utils import gen_batches
from tqdm.auto import tqdm

from .input_checks import ImageError, check_finite
from .inputs import Inputs, InputSummary
from .spaces.base import Space, check_node_values

__all__ = ["stream"]


def stream(
    spaces: Sequence[Space],
    images: Inputs,
    rows: np.ndarray,
    batch_size: int,
    *,
    see: Callable[[InputSummary], object],
    progress: str | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield rows and their node values, batch by batch; one empty batch, which no space sees, if there are no rows.

    Parameters
    ----------
    spaces : sequence of Space
        With different names.
    images : ndarray of shape (N, ...), or InputDict
    rows : ndarray of shape (n,), int
        Which of them, in this order.
    batch_size : int
    see : callable
        Takes the summary of each batch.
    progress : str, optional
        The label of the progress bar; none is shown without it.

    Raises
    ------
    ValueError, TypeError
        If an image is not finite or does not fit, or a space returns something else than its `node_shapes` say.
    """
    if not len(rows):
        # A network that does not tell shapes has shown them in the fit, which has rows.
        shapes = {name: space.node_shapes.get(name, ()) for space in spaces for name in space.names}
        yield rows, {name: np.empty((0, math.prod(shape)), np.float32) for name, shape in shapes.items()}
        return
    batches = list(gen_batches(len(rows), batch_size))
    for part in tqdm(batches, desc=progress, unit="batch", disable=progress is None, leave=False):
        batch = rows[part]
        inputs = images[batch]
        if isinstance(inputs, np.ndarray):
            inputs = np.asarray(inputs)  # out of the file that a memory map is
            if inputs.dtype.kind == "f":
                check_finite(inputs, batch)
            if (summary := InputSummary.of(inputs)) is not None:
                see(summary)
        values: dict[str, np.ndarray] = {}
        for space in spaces:
            try:
                values |= check_node_values(space, space.transform(inputs), batch)
            except ImageError as error:
                raise ImageError(int(batch[error.image]), error.why) from None
        yield batch, values
