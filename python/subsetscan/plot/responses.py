"""Figures of feature responses: image, response and local spatial entropy, one above the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .style import display_name, drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Response",
    "responses",
]

_LABELS = ("image", "feature\nresponse", "local\nspatial\nentropy")


class Response(NamedTuple):
    """An image of shape (H, W) or (H, W, C), its response of the same shape, the entropy map (H, W), and a caption."""

    image: np.ndarray
    response: np.ndarray
    entropy: np.ndarray
    caption: str


def responses(sets: Mapping[str, Sequence[Response | tuple[np.ndarray, np.ndarray, np.ndarray, str]]]) -> Figure:
    """Draw images, their feature responses and their local spatial entropy, the sets one above the other.

    Columns are images. A response is drawn as the size of its mean over channels, from which the entropy comes too, and
    goes up to the largest in its map. Entropy has one scale for all maps, and images have one: see
    `subsetscan.plot.style.drawable`.

    Parameters
    ----------
    sets : mapping of str to sequence of Response
        For each set, as "clean" and "fgsm", its images; plain tuples will do.

    Raises
    ------
    ValueError
        If there are no images.

    References
    ----------
    M. Amirian, F. Schwenker, T. Stadelmann, Trace and Detect Adversarial Attacks on CNNs using Feature Response Maps,
    2018, arXiv:2208.11436, figure 3.
    """
    drawn = {kind: [Response(*example) for example in examples] for kind, examples in sets.items() if len(examples)}
    if not drawn:
        raise ValueError("there are no images to draw")
    n_columns = max(2, *map(len, drawn.values()))  # beside a single one the labels would be cut off
    highest = max(float(example.entropy.max()) for examples in drawn.values() for example in examples) or 1.0
    pictures = iter(drawable([example.image for examples in drawn.values() for example in examples]))
    height, width = next(iter(drawn.values()))[0].entropy.shape
    figure = new_figure(1.3 * n_columns + 1.5, len(drawn) * (3 * 1.3 * float(np.clip(height / width, 0.4, 3)) + 0.7))
    for part, (kind, examples) in zip(
        figure.subfigures(len(drawn), 1, squeeze=False)[:, 0], drawn.items(), strict=True
    ):
        part.suptitle(display_name(kind), fontsize=11, fontweight="bold")
        *columns, bars = part.subplots(3, n_columns + 1, squeeze=False, width_ratios=[*[1] * n_columns, 0.06]).T
        for panel, label in zip(columns[0], _LABELS, strict=True):
            panel.set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
        for (above, middle, below), example in zip(columns, examples, strict=False):
            above.imshow(next(pictures), cmap="gray", vmin=0, vmax=1)
            above.set_title(example.caption, fontsize=8)
            response = middle.imshow(_size(example.response), cmap="inferno", vmin=0, vmax=1)
            entropy = below.imshow(example.entropy, cmap="viridis", vmin=0, vmax=highest)
        for panel in np.ravel(columns):
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        for panel in np.ravel(columns[len(examples) :]):
            panel.set_visible(False)
        bars[0].set_visible(False)
        part.colorbar(response, cax=bars[1], ticks=[0, 1], format=lambda value, _: "max" if value else "0")
        part.colorbar(entropy, cax=bars[2], label="bits")
        for bar in bars[1:]:
            bar.tick_params(labelsize=7, length=2)
            bar.yaxis.label.set_size(8)
            bar.spines[:].set_visible(False)
    return figure


def _size(response: np.ndarray) -> np.ndarray:
    """Take the absolute value of a response's grey values, the largest being 1."""
    grey = np.asarray(response, dtype=np.float64)
    size = np.abs(grey.mean(axis=2) if grey.ndim == 3 else grey)
    return size / (size.max() or 1.0)
