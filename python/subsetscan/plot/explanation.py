"""Figures of subsets of nodes: over the image, at each position, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..explanation import Explanation, SpaceExplanation
from .style import display_name, drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Example",
    "anomalous_nodes",
    "explanation",
]

_MOST_CHANNELS = 12


def explanation(told: Explanation, image: np.ndarray | None, *, most: int | None = None) -> Figure | None:
    """Draw where an image's subsets lie: a row for each space whose positions are a grid.

    What is drawn are the leading nodes, the fewest that carry half of the score: over the image, then as their number
    at each position, and channel by channel, the channels with the most of them first.

    Parameters
    ----------
    told : Explanation
        What `ModelScanner.explain` returned.
    image : ndarray or None
        The image, (H, W) or (H, W, C); see `drawable` for its scale. Inputs of other shapes are not drawn.
    most : int, optional
        How many spaces to draw at most, the most anomalous; all by default.

    Returns
    -------
    Figure or None
        None where no space has such positions, as dense layers, series and volumes have not.
    """
    names = [name for name in told.ranked() if told.spaces[name].positions().ndim == 2][:most]
    if not names:
        return None
    picture = drawable([image])[0] if image is not None and np.ndim(image) in (2, 3) else None
    has_channels = any(len(told.spaces[name].channels()) > 1 for name in names)
    widths = [1, 1.2, 2.2] if has_channels else [1, 1]
    figure = new_figure(8.5 if has_channels else 5, 2.5 * len(names))
    rows = figure.subplots(len(names), len(widths), squeeze=False, width_ratios=widths)
    for (over, where, *channels), name in zip(rows, names, strict=True):
        whole, space = told.spaces[name], told.spaces[name].of_leading()
        positions = space.positions()
        if picture is not None:
            height, width = picture.shape[:2]
            over.imshow(picture, cmap="gray", vmin=0, vmax=1)
            red = np.zeros((*positions.shape, 4))
            red[positions > 0] = (0.8, 0.0, 0.1, 1)
            red[..., 3] = 0.8 * positions / max(positions.max(), 1)
            over.imshow(red, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
        over.set_ylabel(name, fontsize=9)
        over.set_title(_verdict(whole), fontsize=8)
        shown = where.imshow(positions, cmap="Reds", vmin=0, vmax=max(positions.max(), 1))
        if positions.max() > 1:
            figure.colorbar(shown, ax=where, shrink=0.8).ax.tick_params(labelsize=7)
        where.set_title(f"leading nodes: {space.size} of {whole.size}", fontsize=8)
        counts = space.channels()
        leading = [int(n) for n in np.argsort(-counts, kind="stable")[:_MOST_CHANNELS] if counts[n]]
        for panel in channels:
            panel.set_visible(len(counts) > 1 and bool(leading))
            if panel.get_visible():
                panel.set_facecolor("0.6")  # shows between the maps
                panel.imshow(_mosaic(space, leading), cmap="Reds", vmin=0, vmax=1)
                panel.set_title(f"channels {', '.join(map(str, leading))}", fontsize=8)
        for panel in (over, where, *channels):
            panel.set(xticks=[], yticks=[])
    return figure


@dataclass(frozen=True, eq=False)
class Example:
    """An image, its reconstruction error and its anomalous nodes, each of shape (H, W), and a caption."""

    image: np.ndarray
    error: np.ndarray
    nodes: np.ndarray
    caption: str


def anomalous_nodes(rows: Mapping[str, Sequence[Example]]) -> Figure:
    """Draw images, and their anomalous nodes over their reconstruction error (the paper, figure 5).

    Parameters
    ----------
    rows : mapping of str to sequence of Example
        The examples of each set; the sets have the same number.
    """
    n_examples = max(len(examples) for examples in rows.values())
    figure = new_figure(1.75 * n_examples, 3.9 * len(rows))
    panels = figure.subplots(2 * len(rows), n_examples, squeeze=False)
    pictures = iter(drawable([example.image for examples in rows.values() for example in examples]))
    brightest = max(float(example.error.max()) for examples in rows.values() for example in examples)
    for n, (kind, examples) in enumerate(rows.items()):
        above, below = panels[2 * n], panels[2 * n + 1]
        for example, picture, map_ in zip(examples, above, below, strict=True):
            picture.imshow(next(pictures), cmap="gray", vmin=0, vmax=1)
            picture.set_title(example.caption, fontsize=8)
            map_.imshow(example.error, cmap="Blues", vmin=0, vmax=brightest)
            red = np.zeros((*example.nodes.shape, 4))
            red[example.nodes] = (0.8, 0.0, 0.1, 0.7)
            map_.imshow(red)
        above[0].set_ylabel(display_name(kind), fontsize=9)
        below[0].set_ylabel("error (blue) and\nanomalous nodes (red)", fontsize=9)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    return figure


def _verdict(space: SpaceExplanation) -> str:
    if space.p_value is None:
        return f"score {space.score:.3g}"
    return f"p = {space.p_value:.3g}: {'flagged' if space.is_flagged else 'not flagged'}"


def _mosaic(space: SpaceExplanation, channels: Sequence[int]) -> np.ndarray:
    """Lay the maps of channels side by side, two rows of them at most, with NaN between."""
    height, width = space.positions().shape
    scale = max(1, 40 // height)  # the lines between small maps stay thin
    n_columns = -(-len(channels) // 2) if len(channels) > 4 else len(channels)
    n_rows = -(-len(channels) // n_columns)
    down, across = scale * height + 1, scale * width + 1
    mosaic = np.full((n_rows * down - 1, n_columns * across - 1), np.nan)
    for n, channel in enumerate(channels):
        top, left = n // n_columns * down, n % n_columns * across
        enlarged = np.kron(np.take(space.nodes, channel, axis=space.channel_axis), np.ones((scale, scale)))
        mosaic[top : top + down - 1, left : left + across - 1] = enlarged
    return mosaic
