"""Figures of scores: densities, ROC curves, and how group scores rise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_curve

from ..measures import area, auroc
from .style import COLOURS, colours_of, display_name, legend_above, new_figure, opacities, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "counted_shares",
    "densities",
    "draw_densities",
    "draw_roc",
    "proportions",
    "roc",
    "roc_and_densities",
]

_THRESHOLD = "threshold: flagged above"


def densities(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    n_columns: int = 4,
    xlabel: str = "scan score",
    first: str = "clean",
    captions: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | None = None,
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
    thresholds : mapping of str to float, optional
        For each title the score above which inputs are flagged: a line. An infinite one is not drawn.
    """
    n_columns = min(len(panels), n_columns)
    n_rows = -(-len(panels) // n_columns)
    height = 2.3 if captions is None else 2.5
    figure = new_figure(max(3.2 * n_columns, 4.0), height * n_rows + 0.5)
    axes = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
    colours = colours_of((kind for sets in panels.values() for kind in sets), first)
    for panel, (title, sets) in zip(axes, panels.items(), strict=False):
        draw_densities(panel, sets, colours)
        if np.isfinite(threshold := (thresholds or {}).get(title, np.inf)):
            panel.axvline(threshold, color="0.2", linestyle="--", linewidth=1, label=_THRESHOLD)
        areas = [
            f"{display_name(kind)} {area(sets[first], values):.2f}"
            for kind, values in sets.items()
            if kind != first and first in sets and len(values) and len(sets[first])
        ]
        caption = [] if captions is None else [captions.get(title, "")]
        panel.set_title("\n".join([title, *([f"AUROC {', '.join(areas)}"] if areas else []), *caption]), fontsize=9)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    lines = {line.get_label(): line for panel in axes for line in panel.lines}
    legend_above(figure, colours, *lines.values())
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


def roc_and_densities(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Draw the ROC curve of each attack, and the densities behind them (the paper, figures 3 and 6).

    Parameters
    ----------
    curves : mapping of str to pair of ndarray of shape (n,) and (m,)
        For each attack the scores of clean and of attacked images; the clean ones are the same for all.
    title : str
        What was scored.
    """
    figure = new_figure(9.6, 4.3)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    clean, _ = next(iter(curves.values()))
    sets = {"clean": clean, **{attack: attacked for attack, (_, attacked) in curves.items()}}
    colours = colours_of(sets)
    draw_roc(left, curves, colours, fontsize=7.5)
    left.tick_params(labelsize=8)
    draw_densities(right, sets, colours)
    right.set(xlabel="score", ylabel="density")
    right.tick_params(labelsize=8)
    legend_above(figure, colours)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11)
    return figure


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
        for (kind, (shares, scores)), colour in zip(curves.items(), COLOURS, strict=False):
            low, median, high = np.transpose([np.quantile(group, (0.05, 0.5, 0.95)) for group in scores])
            panel.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
            panel.plot(shares, median, color=colour, marker="o", markersize=3, label=display_name(kind))
        panel.set(title=title, xlabel="anomalous images (%)", ylabel="group score")
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    axes[0].legend(fontsize=8)
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
        for (ties, shares), colour, style in zip(lines.items(), COLOURS, ("-", "-", "-", "--"), strict=False):
            panel.plot(alphas, shares, color=colour, linestyle=style, label=ties)
        panel.set(title=f"{tail} tail", xlabel="alpha", xlim=(0, 1), ylim=(0, 1.02))
        panel.set_box_aspect(1)
    panels[0].set_ylabel("share of clean images' nodes that count")
    panels[0].legend(title="ties", fontsize=8)
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
    shades = opacities(colours)
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


def _edges(values: np.ndarray, most: int) -> np.ndarray:
    """Divide the range of values into bins; those of whole numbers hold as many numbers each."""
    low, high = span(values)
    if high - low >= 10 and np.array_equal(values, np.rint(values)):
        width = -(-int(high - low + 1) // most)
        return low - 0.5 + width * np.arange(-(-int(high - low + 1) // width) + 1)
    return np.linspace(low, high, most + 1)
