"""What is measured: backgrounds and test images, drawn from a seed, the same for every rival. It times nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["CASES", "Case", "Kind", "draw", "shares"]

SIDE = 28
CHANNELS = 16
BATCH = 500  # images drawn at once

# Draws the values of that many images.
Rows = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """A kind of data and its full size: M background images, J nodes, N test images."""

    description: str
    n_background: int
    n_nodes: int
    n_images: int
    rows: Callable[[np.random.Generator, int], Rows]

    def scaled(self, scale: float) -> tuple[int, int, int]:
        """Shrink all three sizes; a few of each remain."""
        full = (self.n_background, 40), (self.n_nodes, 40), (self.n_images, 20)
        return tuple(max(min(size, least), round(scale * size)) for size, least in full)


@dataclass(frozen=True)
class Case:
    """The arrays of a case, float32: `background` (M, J), and `images` (N, J), a tenth of which are anomalous."""

    background: np.ndarray
    images: np.ndarray


def draw(name: str, scale: float = 1.0, seed: int = 0) -> Case:
    """Draw the arrays of a case."""
    kind = CASES[name]
    n_background, n_nodes, n_images = kind.scaled(scale)
    rng = np.random.default_rng([seed, *name.encode()])
    values = np.empty((n_background + n_images, n_nodes), dtype=np.float32)
    rows = kind.rows(rng, n_nodes)
    for start in range(0, len(values), BATCH):
        values[start : start + BATCH] = rows(min(BATCH, len(values) - start))
    images = values[n_background:]
    spread = values[:500].std(axis=0)
    for image in images[:: len(images) // max(1, round(len(images) / 10))]:
        shifted = rng.choice(n_nodes, max(1, n_nodes // 20), replace=False)
        image[shifted] += spread[shifted]
    return Case(values[:n_background], images)


def shares(case: Case) -> dict[str, float]:
    """Describe the ties of a case: where time can be saved, and where it cannot."""
    nodes = np.linspace(0, case.images.shape[1] - 1, min(500, case.images.shape[1])).astype(int)
    columns = np.sort(case.background[:, nodes].T)
    medians = columns[:, columns.shape[1] // 2]
    ties = [np.unique(column, return_counts=True)[1].max() / len(column) for column in columns]
    return {
        "zeros": float((case.background[:, nodes] == 0).mean()),
        "above_median": float((case.images[:, nodes] > medians).mean()),
        "largest_tie": float(np.median(ties)),
    }


def convolution(rng: np.random.Generator, n_nodes: int) -> Rows:
    """ReLU of 16 random filters over images of a few strokes on an empty ground, as of a first convolution."""
    filters = rng.normal(0, 0.5, (CHANNELS, 9)).astype(np.float32)
    filters -= 0.5 * filters.mean(axis=1, keepdims=True)
    biases = rng.normal(-0.03, 0.05, CHANNELS).astype(np.float32)
    nodes = np.sort(rng.choice(SIDE * SIDE * CHANNELS, n_nodes, replace=False))

    def rows(n: int) -> np.ndarray:
        pictures = np.pad(strokes(rng, n), ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(pictures, (3, 3), axis=(1, 2))
        layer = windows.reshape(n * SIDE * SIDE, 9) @ filters.T + biases
        return np.maximum(layer, 0).reshape(n, -1)[:, nodes]

    return rows


def strokes(rng: np.random.Generator, n: int, n_strokes: int = 5) -> np.ndarray:
    """Draw grey pictures (n, 28, 28) of some short, thick strokes with a grain; exactly zero elsewhere."""
    place = rng.normal((SIDE - 1) / 2, 7, (2, n, n_strokes, 1)).astype(np.float32)
    angle = rng.uniform(0, np.pi, (n, n_strokes, 1)).astype(np.float32)
    length = rng.uniform(4, 10, (n, n_strokes, 1)).astype(np.float32)
    y, x = np.indices((SIDE, SIDE), dtype=np.float32).reshape(2, -1)
    along = np.cos(angle) * (x - place[0]) + np.sin(angle) * (y - place[1])
    across = np.cos(angle) * (y - place[1]) - np.sin(angle) * (x - place[0])
    ink = np.exp(-((along / length) ** 2) - (across / 3) ** 2).sum(axis=1)
    grain = rng.normal(1, 0.1, ink.shape).astype(np.float32)
    return (np.where(ink > 0.35, np.minimum(ink, 1), 0) * grain).reshape(n, SIDE, SIDE)


def independent(rng: np.random.Generator, n_nodes: int) -> Rows:
    """max(0, normal), every value on its own: half of all values are above the median, more than in any real layer."""
    return lambda n: np.maximum(rng.standard_normal((n, n_nodes), dtype=np.float32), 0)


def heavy_tailed(rng: np.random.Generator, n_nodes: int) -> Rows:
    """Draw errors that are log-normal, with a level for each node and each image."""
    levels = rng.normal(0, 0.5, n_nodes).astype(np.float32)

    def rows(n: int) -> np.ndarray:
        own = rng.standard_normal((n, n_nodes), dtype=np.float32)
        return np.exp(levels + 0.3 * rng.standard_normal((n, 1), dtype=np.float32) + own)

    return rows


def gaussian(rng: np.random.Generator, n_nodes: int) -> Rows:
    """Draw normal values."""
    return lambda n: rng.standard_normal((n, n_nodes), dtype=np.float32)


def mixed(rng: np.random.Generator, n_nodes: int) -> Rows:
    """Draw normal values; those of every second node are cut off at zero."""

    def rows(n: int) -> np.ndarray:
        values = rng.standard_normal((n, n_nodes), dtype=np.float32)
        np.maximum(values[:, ::2], 0, out=values[:, ::2])
        return values

    return rows


CASES = {
    "a": Kind("a layer: ReLU of a convolution", 7_000, SIDE * SIDE * CHANNELS, 3_000, convolution),
    "a-independent": Kind("a layer of independent nodes", 7_000, SIDE * SIDE * CHANNELS, 3_000, independent),
    "b": Kind("reconstruction error: heavy tails", 7_000, SIDE * SIDE, 3_000, heavy_tailed),
    "c": Kind("wide: normal values", 1_000, 400_000, 64, gaussian),
    "d": Kind("deep background: half normal, half ReLU", 100_000, 2_048, 2_048, mixed),
}
