"""Figures: score distributions, ROC curves, anomalous nodes over the image, and an explanation of one image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_curve

from .._extras import import_extra
from .._files import whole
from ..explanation import Explanation, SpaceExplanation
from .evaluation import Evaluation, area, auroc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = [
    "Example",
    "anomalous_nodes",
    "colours_of",
    "counted_shares",
    "densities",
    "display_name",
    "distributions",
    "draw_densities",
    "draw_roc",
    "drawable",
    "explanation",
    "legend_above",
    "legend_handles",
    "new_figure",
    "proportions",
    "roc",
    "save",
    "span",
]

_MOST_CHANNELS = 12


# The colours of Okabe and Ito, which colour-blind readers tell apart; the first is for clean images.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_NAMES = {"fgsm": "FGSM", "bim": "BIM", "deepfool": "DeepFool"}


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def distributions(evaluation: Evaluation, *, clean: str = "clean") -> Figure:
    """Draw the scores of every set in every space, a panel for each space."""
    return densities(
        {
            space: {kind: scans[space].scores for kind, scans in evaluation.scans.items()}
            for space in evaluation.n_nodes
        },
        first=clean,
    )


def densities(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    n_columns: int = 4,
    xlabel: str = "scan score",
    first: str = "clean",
    captions: Mapping[str, str] | None = None,
) -> Figure:
    """Draw densities of sets of scores, a panel for each title (the paper, figures 1, 3b, 4b and 6a).

    Parameters
    ----------
    panels : mapping of str to mapping of str to ndarray of shape (n,)
        For each title, a layer's name for instance, the scores of every set. A set has the same colour in all panels;
        one without scores is not drawn.
    n_columns : int
        How many panels are side by side, at most.
    xlabel : str
        What is drawn.
    first : str
        The set that the others are told from: the area under the ROC curve of each is in the panel's title.
    captions : mapping of str to str, optional
        For each title what else is to be said of the panel, on a line beneath the areas.
    """
    n_columns = min(len(panels), n_columns)
    n_rows = -(-len(panels) // n_columns)
    height = 2.3 if captions is None else 2.5
    figure = new_figure(max(3.2 * n_columns, 4.0), height * n_rows + 0.5)
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    colours = colours_of((kind for sets in panels.values() for kind in sets), first)
    for panel, (title, sets) in zip(axes, panels.items(), strict=False):
        draw_densities(panel, sets, colours)
        areas = [
            f"{display_name(kind)} {area(sets[first], values):.2f}"
            for kind, values in sets.items()
            if kind != first and first in sets and len(values) and len(sets[first])
        ]
        caption = [] if captions is None else [captions.get(title, "")]
        panel.set_title("\n".join([title, f"AUROC {', '.join(areas)}" if areas else "", *caption]), fontsize=9)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    legend_above(figure, colours)
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel("density", fontsize=10)
    return figure


def roc(curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Draw ROC curves, a panel for each attack.

    Parameters
    ----------
    curves : mapping of str to mapping of str to pair of ndarray
        For each attack and detector the scores of clean and of attacked images.
    """
    figure = new_figure(5 * len(curves), 5.3)
    for panel, (attack, detectors) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        draw_roc(panel, detectors, colours_of(detectors))
        panel.set_title(display_name(attack))
    return figure


def draw_densities(panel: Axes, sets: Mapping[str, np.ndarray], colours: Mapping[str, str]) -> None:
    """Draw the density of each set over common bins; sets without values are left out."""
    drawn = {kind: np.asarray(values, dtype=np.float64) for kind, values in sets.items() if len(values)}
    panel.tick_params(labelsize=7)
    panel.set_yticks([])
    if not drawn:
        return
    fewest = min(len(values) for values in drawn.values())
    edges = _edges(np.concatenate(list(drawn.values())), int(np.clip(2 * fewest**0.5, 15, 40)))
    shades = _shades(colours)
    for kind, values in drawn.items():
        density, _ = np.histogram(values, edges, density=True)
        panel.stairs(density, edges, fill=True, alpha=shades[kind], color=colours[kind])
        panel.stairs(density, edges, color=colours[kind], label=display_name(kind))
    panel.set_ylim(bottom=0)


def draw_roc(
    panel: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], colours: Mapping[str, str], fontsize: float = 8
) -> None:
    """Draw a ROC curve for each pair of clean and anomalous scores, and the area under it in the legend."""
    for name, (clean, anomalous) in curves.items():
        if not len(clean) or not len(anomalous):
            panel.plot([], [], color=colours[name], label=f"{display_name(name)}: no scores")
            continue
        truth = np.repeat([0, 1], [len(clean), len(anomalous)])
        false_positives, true_positives, _ = roc_curve(truth, np.concatenate([clean, anomalous]))
        label = f"{display_name(name)}: {auroc(clean, anomalous)}"
        panel.plot(false_positives, true_positives, color=colours[name], label=label)
    panel.plot([0, 1], [0, 1], color="0.7", linestyle=":", linewidth=1)
    panel.set(xlabel="false positive rate", ylabel="true positive rate")
    panel.set_box_aspect(1)
    panel.legend(loc="lower right", fontsize=fontsize, title="AUROC [95 % interval]", title_fontsize=fontsize)


def legend_above(figure: Figure, colours: Mapping[str, str]) -> None:
    """Put a legend of sets over the panels."""
    handles = legend_handles(colours)
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=9, handlelength=1.5)


def legend_handles(colours: Mapping[str, str]) -> list[Patch]:
    """Make what stands for each set in a legend: a patch that looks as its density."""
    patch, shades = import_extra("matplotlib.patches", "plots").Patch, _shades(colours)
    return [
        patch(facecolor=(colour, shades[kind]), edgecolor=colour, label=display_name(kind))
        for kind, colour in colours.items()
    ]


def _shades(colours: Mapping[str, str]) -> dict[str, float]:
    """Say how opaque each set's area is: two can be seen through each other, of more only the first is filled well."""
    return {kind: 0.25 if n == 0 or len(colours) <= 2 else 0.05 for n, kind in enumerate(colours)}


def colours_of(kinds: Iterable[str], first: str = "clean") -> dict[str, str]:
    """Give every kind a colour in the order in which they come, except that `first` comes first if it is there."""
    ordered = sorted(dict.fromkeys(kinds), key=lambda kind: kind != first)
    return dict(zip(ordered, cycle(_COLOURS), strict=False))


def proportions(panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[np.ndarray]]]]) -> Figure:
    """Draw group scores against the share of anomalous images: the median, and where the middle 90 % lie.

    Parameters
    ----------
    panels : mapping of str to mapping of str to pair of sequences
        For each panel and kind of image the shares in percent, and the scores of groups with such a share.
    """
    n_columns = min(len(panels), 2)
    figure = new_figure(4.5 * n_columns, 3.2 * -(-len(panels) // n_columns))
    axes = figure.subplots(-(-len(panels) // n_columns), n_columns, squeeze=False).ravel()
    for panel, (title, curves) in zip(axes, panels.items(), strict=False):
        for (kind, (shares, scores)), colour in zip(curves.items(), _COLOURS, strict=False):
            low, median, high = np.transpose([np.quantile(group, (0.05, 0.5, 0.95)) for group in scores])
            panel.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.plot(shares, median, color=colour, marker="o", markersize=3, label=display_name(kind))
        panel.set(title=title, xlabel="anomalous images (%)", ylabel="group score")
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    axes[0].legend(fontsize=8)
    return figure


@dataclass(frozen=True)
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


def explanation(told: Explanation, image: np.ndarray) -> Figure | None:
    """Draw where an image's subsets lie: a row for each space whose positions are a grid.

    A subset is drawn over the image, then as the number of its nodes at each position, and channel by channel, the
    channels with the most nodes first.

    Parameters
    ----------
    told : Explanation
        What `ModelScanner.explain` returned.
    image : ndarray
        The image, (H, W) or (H, W, C); see `drawable` for its scale. Inputs of other shapes are not drawn.

    Returns
    -------
    Figure or None
        None where no space has such positions, as dense layers, series and volumes have not.
    """
    names = [name for name in told.ranked() if told.spaces[name].positions().ndim == 2]
    if not names:
        return None
    picture = drawable([image])[0] if np.ndim(image) in (2, 3) else None
    figure = new_figure(8.5, 2.5 * len(names))
    rows = figure.subplots(len(names), 3, squeeze=False, width_ratios=[1, 1.2, 2.2])
    for (over, where, channels), name in zip(rows, names, strict=True):
        space = told.spaces[name]
        positions = space.positions()
        if picture is not None:
            height, width = picture.shape[:2]
            over.imshow(picture, cmap="gray", vmin=0, vmax=1)
            red = np.zeros((*positions.shape, 4))
            red[positions > 0] = (0.8, 0.0, 0.1, 1)
            red[..., 3] = 0.8 * positions / max(positions.max(), 1)
            over.imshow(red, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
        over.set_ylabel(name, fontsize=9)
        p_value = "" if space.p_value is None else f"p = {space.p_value:.3g}, "
        over.set_title(f"{p_value}{space.size} of {space.nodes.size} nodes", fontsize=8)
        shown = where.imshow(positions, cmap="Reds", vmin=0, vmax=max(positions.max(), 1))
        figure.colorbar(shown, ax=where, shrink=0.8).ax.tick_params(labelsize=7)
        where.set_title("nodes at each position", fontsize=8)
        counts = space.channels()
        leading = [int(n) for n in np.argsort(-counts, kind="stable")[:_MOST_CHANNELS] if counts[n]]
        if len(counts) > 1 and leading:
            channels.set_facecolor("0.6")  # shows between the maps
            channels.imshow(_mosaic(space, leading), cmap="Reds", vmin=0, vmax=1)
            channels.set_title(f"channels {', '.join(map(str, leading))}", fontsize=8)
        else:
            channels.set_visible(False)
        for panel in (over, where, channels):
            panel.set(xticks=[], yticks=[])
    return figure


def counted_shares(alphas: np.ndarray, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw which share of an image's nodes counts at each alpha: a panel for each tail, a line for each kind of ties.

    Parameters
    ----------
    alphas : ndarray of shape (n,)
    curves : mapping of str to mapping of str to sequence of n floats
        For each tail and treatment of ties.
    """
    figure = new_figure(5 * len(curves), 4.6)
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for panel, (tail, lines) in zip(panels, curves.items(), strict=True):
        panel.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="alpha")
        for (ties, shares), colour, style in zip(lines.items(), _COLOURS, ("-", "-", "-", "--"), strict=False):
            panel.plot(alphas, shares, color=colour, linestyle=style, label=ties)
        panel.set(title=f"{tail} tail", xlabel="alpha", xlim=(0, 1), ylim=(0, 1.02))
        panel.set_box_aspect(1)
    panels[0].set_ylabel("share of clean images' nodes that count")
    panels[0].legend(title="ties", fontsize=8)
    return figure


def drawable(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Bring images onto one scale from black, 0, to white, 1, for all of them.

    It spans [0, 1] where all pixels lie within, or [0, 255] where they do and some are beyond 2, which no attack on
    images in [0, 1] leads to; else from the lowest to the highest pixel.

    Parameters
    ----------
    images : sequence of ndarray of shape (H, W) or (H, W, C)

    Returns
    -------
    list of ndarray of shape (H, W) or (H, W, 3), float64
        Other numbers of channels are averaged.
    """
    if not len(images):
        return []
    low, high = min(float(np.min(image)) for image in images), max(float(np.max(image)) for image in images)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and 2 < high <= 255:
        low, high = 0.0, 255.0
    scaled = [(np.asarray(image, dtype=np.float64) - low) / ((high - low) or 1.0) for image in images]
    return [image if image.ndim == 2 or image.shape[2] == 3 else image.mean(axis=2) for image in scaled]


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


def _edges(values: np.ndarray, most: int) -> np.ndarray:
    """Divide the range of values into bins; those of whole numbers hold as many numbers each."""
    low, high = span(values)
    if high - low >= 10 and np.array_equal(values, np.rint(values)):
        width = -(-int(high - low + 1) // most)
        return low - 0.5 + width * np.arange(-(-int(high - low + 1) // width) + 1)
    return np.linspace(low, high, most + 1)


def span(values: np.ndarray) -> tuple[float, float]:
    """Find the range of values, made wide enough to be divided where only rounding tells them apart."""
    low, high = float(values.min()), float(values.max())
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = max(0.5, 1e-6 * abs(low))
    return low - margin, high + margin


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, its size in inches; nothing of it is global."""
    figure: Figure = import_extra("matplotlib.figure", "plots").Figure((width, height), layout="constrained")
    return figure


def display_name(kind: str) -> str:
    """Write the name of a set as papers do."""
    return _NAMES.get(kind, kind)
