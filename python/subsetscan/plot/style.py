"""What all figures share: size, colours, names of sets, legends, the scale of images, the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._extras import import_extra
from .._files import atomic_write

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = [
    "COLOURS",
    "colours_of",
    "display_name",
    "drawable",
    "legend_above",
    "legend_handles",
    "new_figure",
    "opacities",
    "save",
    "span",
]

# The colours of Okabe and Ito, which colour-blind readers tell apart; the first is for clean images.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_NAMES = {"fgsm": "FGSM", "bim": "BIM", "deepfool": "DeepFool"}


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, its size in inches; nothing of it is global."""
    figure: Figure = import_extra("matplotlib.figure", "plots").Figure((width, height), layout="constrained")
    return figure


def save(figure: Figure, path: Path | str, *, dpi: int = 150, colours: int | None = None) -> None:
    """Write a figure as PNG with so many pixels an inch, whole or not at all; of few colours, at most 256, if asked."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")
        if colours is not None:
            image = import_extra("PIL.Image", "plots")
            with image.open(temporary) as picture:
                few = picture.convert("RGB").quantize(colours)
            few.save(temporary, format="png", optimize=True)


def display_name(kind: str) -> str:
    """Write the name of a set as papers do."""
    return _NAMES.get(kind, kind)


def colours_of(kinds: Iterable[str], first: str = "clean") -> dict[str, str]:
    """Give every kind a colour in the order in which they come, except that `first` comes first if it is there."""
    ordered = sorted(dict.fromkeys(kinds), key=lambda kind: kind != first)
    return dict(zip(ordered, cycle(COLOURS), strict=False))


def legend_above(figure: Figure, colours: Mapping[str, str], *others: Artist) -> None:
    """Put a legend of sets, and of what else is drawn, over the panels."""
    handles = [*legend_handles(colours), *others]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=9, handlelength=1.5)


def legend_handles(colours: Mapping[str, str]) -> list[Patch]:
    """Make what stands for each set in a legend: a patch that looks as its density."""
    patch, shades = import_extra("matplotlib.patches", "plots").Patch, opacities(colours)
    return [
        patch(facecolor=(colour, shades[kind]), edgecolor=colour, label=display_name(kind))
        for kind, colour in colours.items()
    ]


def opacities(colours: Mapping[str, str]) -> dict[str, float]:
    """Say how opaque each set's area is: two can be seen through each other, of more only the first is filled well."""
    return {kind: 0.25 if n == 0 or len(colours) <= 2 else 0.05 for n, kind in enumerate(colours)}


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


def span(values: np.ndarray) -> tuple[float, float]:
    """Find the range of values, made wide enough to be divided where only rounding tells them apart."""
    low, high = float(values.min()), float(values.max())
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = max(0.5, 1e-6 * abs(low))
    return low - margin, high + margin
