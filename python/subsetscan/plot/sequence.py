"""Figures of what a scan within one input finds: text with marks, an image or a series under what is anomalous."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from ..sequence_result import SequenceScan
from .style import COLOURS, drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["by_character", "sequence", "shown", "text_panel"]

_COLUMNS, _LINES = 90, 40


def sequence(found: SequenceScan, given: Any = None, underlined: Collection[int] = ()) -> Figure:
    """Draw where the anomalous positions of one input are: the darker, the more of the block's units are anomalous.

    Parameters
    ----------
    found : SequenceScan
    given : str, bytes, or ndarray of shape (H, W), (H, W, C) or (T,), optional
        The input. By default the text that was scanned. Of bytes, series and images each position stands for an equal
        part: of 2,048 bytes and 512 positions for four bytes. Without any of these the strength is drawn alone.
    underlined : collection of int
        Characters or bytes to underline, such as those that are known to be changed.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there are other than one or two axes of positions.
    """
    given = found.text if given is None else given
    if found.positions.ndim not in (1, 2):
        raise ValueError(f"positions of {found.positions.ndim} axes cannot be drawn, shape {found.positions.shape}")
    if isinstance(given, str | bytes) and found.positions.ndim == 1:
        return _text(found, given, underlined)
    figure = new_figure(8.5, 2) if found.positions.ndim == 1 else new_figure(4, 4)
    panel = figure.subplots()
    panel.set_title(_verdict(found), fontsize=9)
    if found.positions.ndim == 1:
        _series(panel, found.strength, None if given is None else np.asarray(given).ravel())
        return figure
    shape = found.positions.shape
    if given is not None:
        picture = drawable([np.asarray(given)])[0]
        shape = picture.shape[:2]
        panel.imshow(picture, cmap="gray", vmin=0, vmax=1)
    red = np.zeros((*found.positions.shape, 4))
    red[..., 0], red[..., 3] = 0.85, 0.75 * found.strength
    panel.imshow(red, extent=(-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5), interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    return figure


def _verdict(found: SequenceScan) -> str:
    flagged = ", flagged" if found.is_flagged else ""
    return f"p = {found.p_value:.3g}{flagged}; {len(found.nodes)} units at {int(found.positions.sum())} positions"


def _series(panel: Axes, strength: np.ndarray, values: np.ndarray | None) -> None:
    n = len(strength) if values is None else len(values)
    if values is not None:
        panel.plot(values, color=COLOURS[0], linewidth=0.8)
    edges = np.linspace(-0.5, n - 0.5, len(strength) + 1)
    for start, end, one in zip(edges, edges[1:], strength, strict=False):
        if one > 0:
            panel.axvspan(start, end, color=COLOURS[1], alpha=0.6 * one, linewidth=0)
    panel.set(xlim=(-0.5, n - 0.5), xlabel="position", yticks=panel.get_yticks() if values is not None else [])


def _text(found: SequenceScan, text: str | bytes, underlined: Collection[int]) -> Figure:
    n_lines = len(_lines(shown(text), _COLUMNS, _LINES))
    figure = new_figure(8.5, 0.2 * n_lines + 0.5)
    text_panel(figure.subplots(), found, text, underlined)
    return figure


def text_panel(
    panel: Axes,
    found: SequenceScan,
    text: str | bytes,
    underlined: Collection[int] = (),
    *,
    title: str | None = None,
    columns: int = _COLUMNS,
    most_lines: int = _LINES,
    size: float = 7.5,
) -> None:
    """Write a text, what is anomalous on red ground; in full lines, of which the first are shown.

    Parameters
    ----------
    panel : matplotlib.axes.Axes
    found, text, underlined
        As for `sequence`.
    title : str, optional
        By default the verdict.
    columns, most_lines : int
    size : float
        Of the letters, in points.
    """
    weights, letters = by_character(found, text), shown(text)
    lines = _lines(letters, columns, most_lines)
    panel.set_title(_verdict(found) if title is None else title, fontsize=9)
    panel.set(xlim=(0, columns), ylim=(len(lines), 0))
    panel.axis("off")
    for y, (start, end) in enumerate(lines):
        for x, place in enumerate(range(start, end)):
            if weights[place] > 0:
                opacity = 0.2 + 0.6 * weights[place]
                panel.fill_between([x, x + 1], y, y + 1, color=COLOURS[1], alpha=opacity, linewidth=0)
            if place in underlined:
                panel.plot([x, x + 1], [y + 0.95] * 2, color=COLOURS[0], linewidth=2, solid_capstyle="butt")
            letter = letters[place]
            panel.text(x + 0.5, y + 0.75, letter, family="monospace", fontsize=size, ha="center", parse_math=False)


def shown(text: str | bytes) -> str:
    """Write a text or bytes, each of them as one character: a dot stands for those that cannot be printed."""
    return "".join(map(_printable, text))


def _printable(one: int | str) -> str:
    is_plain = one.isprintable() or one == "\n" if isinstance(one, str) else 32 <= one < 127 or one == ord("\n")
    return (one if isinstance(one, str) else chr(one)) if is_plain else "·"


def by_character(found: SequenceScan, text: str | bytes) -> np.ndarray:
    """Spread the positions' strength over the characters: by the spans of tokens, or in equal parts."""
    weights = np.zeros(len(text))
    if found.text is not None and text == found.text:
        spans = np.empty((0, 2), int) if found.characters is None else found.characters
        for (start, end), strength in zip(spans, found.strength, strict=False):
            weights[start:end] = np.maximum(weights[start:end], strength)
    elif len(found.strength):
        weights = found.strength[np.arange(len(text)) * len(found.strength) // max(len(text), 1)]
    return weights


def _lines(text: str, columns: int, most: int) -> list[tuple[int, int]]:
    """Cut a text into lines of the figure's width: from which character to before which."""
    lines, place = [], 0
    for line in text.split("\n"):
        lines += [
            (place + start, min(place + start + columns, place + len(line)))
            for start in range(0, max(len(line), 1), columns)
        ]
        place += len(line) + 1
    return lines[:most]
