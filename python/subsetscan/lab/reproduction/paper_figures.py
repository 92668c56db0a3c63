"""Figures as only the paper has them: shapes of subsets, errors, samples, the network and its activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._extras import import_extra
from ..._tables import counted
from ...plot.scores import draw_densities
from ...plot.style import colours_of, display_name, legend_above, legend_handles, new_figure, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

__all__ = [
    "activation_histograms",
    "architecture",
    "error_maps",
    "samples",
    "subset_shapes",
]

_SIDES = {"input": "#999999", "encoder": "#0072B2", "decoder": "#D55E00"}

# What layers may have that is worth a line, and how it is written.
_ATTRIBUTES: dict[str, Callable[[Any], str]] = {
    "filters": lambda n: counted(n, "filter"),
    "units": lambda n: counted(n, "unit"),
    "kernel_size": lambda lengths: f"kernel {_times(lengths)}",
    "pool_size": lambda lengths: f"pool {_times(lengths)}",
    "size": lambda lengths: f"factor {_times(lengths)}",
    "rate": lambda share: f"rate {share:g}",
    "activation": lambda function: getattr(function, "__name__", type(function).__name__),
}


def subset_shapes(
    sizes: Mapping[str, np.ndarray], alphas: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]
) -> Figure:
    """Draw how large the highest-scoring subsets are, at which alpha, and how high they score (the paper, figure 2).

    Parameters
    ----------
    sizes, alphas, scores : mapping of str to ndarray of shape (n,)
        For each set of images the number of nodes in every image's subset, the alpha that maximises its score, and
        that score.
    """
    figure = new_figure(9.6, 3.0)
    colours = colours_of([*sizes, *alphas, *scores])
    labels = ("nodes in the subset", "alpha that maximises the score", "score of the subset")
    for panel, label, sets in zip(figure.subplots(1, 3), labels, (sizes, alphas, scores), strict=True):
        draw_densities(panel, sets, colours)
        panel.set_xlabel(label, fontsize=9)
    legend_above(figure, colours)
    figure.supylabel("density", fontsize=9)
    return figure


def error_maps(
    rows: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]],
    mean_errors: Mapping[str, np.ndarray],
    *,
    title: str,
) -> Figure:
    """Draw images, their reconstructions and errors, and the densities of mean errors (the paper, figure 4).

    Parameters
    ----------
    rows : mapping of str to sequence of triple of ndarray of shape (H, W) or (H, W, 1)
        For each set of images a few of them: image and reconstruction in [0, 1], and the error at each pixel. All
        errors have one scale of colours, which ends where one in two hundred errors is larger.
    mean_errors : mapping of str to ndarray of shape (n,)
        For each set the mean error of all its images.
    title : str
        What was reconstructed.
    """
    n_rows = max([1, *(len(examples) for examples in rows.values())])
    figure = new_figure(3.0 * len(rows) + 4.2, max(3.4, 0.98 * n_rows + 1.0))
    figure.suptitle(title, fontsize=11)
    widths = [3.0] * len(rows) + [4.2]
    *blocks, aside = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
    scale = _scale([error for examples in rows.values() for *_, error in examples])
    for block, (kind, examples) in zip(blocks, rows.items(), strict=True):
        grid = block.subplots(n_rows, 3, squeeze=False)
        for panel, heading in zip(grid[0], ("image", "reconstruction", "error"), strict=True):
            panel.set_title(heading, fontsize=8)
        above = {"xytext": (0, 18), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        grid[0][1].annotate(display_name(kind), (0.5, 1), xycoords="axes fraction", fontsize=10, **above)
        for panels, (image, reconstruction, error) in zip(grid, examples, strict=False):
            _draw_image(panels[0], image)
            _draw_image(panels[1], reconstruction)
            panels[2].imshow(np.squeeze(error), cmap=scale.cmap, norm=scale.norm)
            panels[2].set(xticks=[], yticks=[])
        for panel in grid[len(examples) :].flat:
            panel.set_axis_off()
    bar, panel = aside.subplots(1, 2, width_ratios=[0.05, 1])
    aside.colorbar(scale, cax=bar, extend="max").ax.tick_params(labelsize=7)
    bar.set_title("error", fontsize=8)
    colours = colours_of([*rows, *mean_errors])
    draw_densities(panel, mean_errors, colours)
    panel.set_xlabel("mean error of an image", fontsize=9)
    panel.set_ylabel("density", fontsize=9)
    panel.legend(handles=legend_handles(colours), fontsize=8, handlelength=1.5)
    return figure


def samples(rows: Mapping[str, Sequence[tuple[np.ndarray, str]]]) -> Figure:
    """Draw attacked images, a row for each attack (the paper, figure 7).

    Parameters
    ----------
    rows : mapping of str to sequence of pair of ndarray and str
        For each attack images of shape (H, W), (H, W, 1) or (H, W, 3), and a caption of each. What lies outside
        [0, 1] is drawn as 0 or 1.
    """
    n_columns = max([1, *(len(images) for images in rows.values())])
    figure = new_figure(1.25 * n_columns + 0.4, 1.6 * len(rows) + 0.1)
    grid = figure.subplots(len(rows), n_columns, squeeze=False)
    for panels, (kind, images) in zip(grid, rows.items(), strict=True):
        for panel, (image, caption) in zip(panels, images, strict=False):
            _draw_image(panel, image)
            panel.set_title(_folded(caption), fontsize=7.5)
        for panel in panels[max(1, len(images)) :]:
            panel.set_axis_off()
        if not images:
            panels[0].set(title="none", xticks=[], yticks=[])
        panels[0].set_ylabel(display_name(kind), fontsize=10)
    return figure


def architecture(model: Any) -> Figure:
    """Draw a sequence of layers from left to right (the paper, figure 8).

    A box is as high as the layer's output, and the wider the more channels it has; those of layers without parameters
    are pale. Encoder is what comes before and with the smallest output, decoder the rest.

    Parameters
    ----------
    model : keras.Model
        Built, one layer after the other: each is asked for its name, its output's shape, its number of parameters, and
        what it has of filters, units, kernel, pool, factor and activation.
    """
    layers = [_described(layer) for layer in model.layers]
    smallest = min((math.prod(layer.shape) for layer in layers if not layer.is_input), default=0)
    bottleneck = next((n for n, x in enumerate(layers) if not x.is_input and math.prod(x.shape) == smallest), 0)
    sides = ["input" if x.is_input else "encoder" if n <= bottleneck else "decoder" for n, x in enumerate(layers)]

    # All in inches: what is written beneath each box decides how far apart they are.
    longest = max(len(line) for layer in layers for line in layer.lines)
    pitch, height = max(0.7, 0.062 * longest + 0.06), 1.9
    n_lines = max(len(layer.lines) for layer in layers)
    bottom, top = -height / 2 - 0.16 * n_lines - 0.2, height / 2 + 0.6
    figure = new_figure(pitch * len(layers) + 0.1, top - bottom + 0.1)
    panel = figure.subplots()
    panel.set(xlim=(0, pitch * len(layers)), ylim=(bottom, top))
    panel.set_axis_off()
    tallest, widest = max(layer.extent for layer in layers), max(layer.n_channels for layer in layers)
    rectangle = import_extra("matplotlib.patches", "plots").Rectangle
    edges = []
    for n, (layer, side) in enumerate(zip(layers, sides, strict=True)):
        middle, high = (n + 0.5) * pitch, height * layer.extent / tallest
        wide = 0.6 * pitch * (0.2 + 0.8 * math.log2(1 + layer.n_channels) / math.log2(1 + widest))
        box = rectangle((middle - wide / 2, -high / 2), wide, high, gid=layer.name)
        box.set(facecolor=(_SIDES[side], 0.75 if layer.n_parameters else 0.25), edgecolor=_SIDES[side])
        panel.add_patch(box)
        edges.append((middle - wide / 2, middle + wide / 2))
        for line, text in enumerate(layer.lines):
            where = middle, -height / 2 - 0.15 - 0.16 * line
            panel.text(*where, text, color="0.3" if line else "black", fontsize=7, ha="center", va="top")
    for (_, left), (right, _) in pairwise(edges):
        arrow = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 1}
        panel.annotate("", (right, 0), (left, 0), arrowprops=arrow)
    if "decoder" in sides:  # otherwise it is not an autoencoder
        for side in ("encoder", "decoder"):
            first, last = sides.index(side), len(sides) - sides[::-1].index(side)
            left, right, above = (first + 0.08) * pitch, (last - 0.08) * pitch, height / 2 + 0.15
            panel.plot([left, right], [above, above], color=_SIDES[side], linewidth=2)
            panel.text(
                (left + right) / 2, above + 0.05, side, color=_SIDES[side], fontsize=10, ha="center", va="bottom"
            )
    n_parameters = sum(layer.n_parameters for layer in layers)
    panel.text(0.05, top, f"{model.name}: {n_parameters:,} parameters", fontsize=10, va="top")
    return figure


def activation_histograms(values: Mapping[str, np.ndarray]) -> Figure:
    """Draw how often each activation occurs, a panel for each layer (the paper, figure 9).

    Parameters
    ----------
    values : mapping of str to ndarray
        The activations of each layer, of any shape. Counts have a logarithmic axis; the share of activations that are
        exactly zero is in the panel's title.
    """
    n_columns = min(len(values), 5)
    n_rows = -(-len(values) // n_columns)
    figure = new_figure(max(2.4 * n_columns, 3.0), 1.9 * n_rows + 0.3)
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    for panel, (layer, activations) in zip(axes, values.items(), strict=False):
        panel.tick_params(labelsize=7)
        if not activations.size:
            panel.set_title(f"{layer}\nno activations", fontsize=8)
            panel.set(xticks=[], yticks=[])
            continue
        counts, edges = np.histogram(activations, bins=50, range=span(activations))
        panel.set_yscale("log")
        panel.stairs(counts, edges, baseline=0.5, fill=True, color=_SIDES["encoder"], alpha=0.6)
        panel.set_ylim(bottom=0.5)
        zeros = np.count_nonzero(activations == 0) / activations.size
        panel.set_title(f"{layer}\n{zeros:.1%} zeros", fontsize=8)
    for panel in axes[len(values) :]:
        panel.set_axis_off()
    figure.supxlabel("activation", fontsize=9)
    figure.supylabel("count", fontsize=9)
    return figure


@dataclass(frozen=True)
class _Layer:
    """What is drawn of a Keras layer."""

    name: str
    lines: Sequence[str]  # what is written beneath its box, its name first
    shape: tuple[int, ...]  # of its output, a length that is not fixed being 1
    n_parameters: int
    is_input: bool

    @property
    def extent(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def n_channels(self) -> int:
        return self.shape[-1] if self.shape else 1


def _described(layer: Any) -> _Layer:
    kind, shape, n_parameters = type(layer).__name__, tuple(layer.output.shape)[1:], int(layer.count_params())
    lines = [str(layer.name), kind, _times("?" if length is None else length for length in shape)]
    for attribute, write in _ATTRIBUTES.items():
        value = getattr(layer, attribute, None)
        if value is not None:
            lines.append(write(value))
    if n_parameters:
        lines.append(f"{n_parameters:,} parameters")
    return _Layer(
        name=str(layer.name),
        lines=lines,
        shape=tuple(1 if length is None else int(length) for length in shape),
        n_parameters=n_parameters,
        is_input=kind == "InputLayer",
    )


def _times(lengths: Iterable[object]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, lengths))


def _scale(errors: Sequence[np.ndarray]) -> ScalarMappable:
    """Span one scale of colours from 0, or the least error, to where few errors are larger."""
    values = np.concatenate([np.ravel(error) for error in errors] or [np.zeros(1)])
    low, high = min(float(values.min()), 0.0), float(np.quantile(values, 0.995))
    scale: ScalarMappable = import_extra("matplotlib.cm", "plots").ScalarMappable(cmap="Blues")
    scale.set_clim(low, high if high > low else low + 1)
    return scale


def _draw_image(panel: Axes, image: np.ndarray) -> None:
    picture = np.squeeze(np.clip(image, 0, 1))
    panel.imshow(picture, cmap="gray" if picture.ndim == 2 else None, vmin=0, vmax=1)
    panel.set(xticks=[], yticks=[])


def _folded(caption: str) -> str:
    """Break what became of what behind the arrow: names of two classes are too long for one line."""
    before, arrow, after = caption.partition(" -> ")
    return f"{before} →\n{after}" if arrow else caption
