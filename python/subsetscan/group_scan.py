"""Groups of images: the block of images and nodes that is jointly most anomalous."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import _core
from ._random import RandomState, as_generator
from ._tables import html_table, some_of
from ._validation import InvalidTypeError, integer, probabilities, refuse_masked

__all__ = ["Found", "GroupScanResult", "Limits", "limits_of", "scan_classes", "scan_group"]

Limits = tuple[int | None, int | None]
# What the core returns: score, alpha, images, nodes, upper bound.
Found = tuple[float, float, np.ndarray, np.ndarray, float | None]
# Scan some rows, or all, from starts over these rows.
_Scan = Callable[[np.ndarray | None, np.ndarray, bool], Found]


@dataclass(frozen=True, eq=False)
class GroupScanResult:
    """The highest-scoring block of images and nodes that was found in a group.

    Attributes
    ----------
    score : float
        The score; 0 for a group without a p-value <= alpha_max.
    alpha : float
        The threshold that gives the score; 0 for an empty block.
    images : ndarray of shape (r,), int64
        Rows of the block's images, increasing.
    nodes : ndarray of shape (c,), int64
        The block's nodes, increasing.
    upper_bound : float
        No block of the group scores more, so that at most ``upper_bound - score`` was missed; inf if it was not asked
        for.
    """

    score: float
    alpha: float
    images: np.ndarray
    nodes: np.ndarray
    upper_bound: float

    def _repr_html_(self) -> str:
        rows = [
            ["score", f"{self.score:.4g}, of at most {self.upper_bound:.4g}"],
            ["alpha", f"{self.alpha:.3g}"],
            ["inputs", some_of(self.images)],
            ["nodes", some_of(self.nodes)],
        ]
        return html_table(["block", ""], rows)


def scan_group(
    p_values: Any,
    statistic: str = "berk-jones",
    alpha_max: float = 0.5,
    restarts: int = 10,
    random_state: RandomState = None,
    *,
    constraint: Any = None,
    sizes: Mapping[str, Limits] | None = None,
    bound: str | None = "quick",
) -> GroupScanResult:
    """Find the block of images and nodes whose p-values jointly score highest, by alternating ascent.

    For fixed images the best nodes are found exactly, over all subsets and all thresholds, then for these nodes the
    best images, and so on until nothing improves. Which block that is depends on the start; the best over all starts is
    returned, with a bound on the score of every block. Each start climbs twice, with exact steps from the first one on,
    and first on a fixed coarse grid (every k-th of the distinct p-values up to `alpha_max`, about 50 of them, and
    `alpha_max`) and then on from there exactly. So the score is never lower than that of an ascent on this coarse grid
    from any of the same starts. From all nodes there is a third ascent, first on a coarse grid that each step draws
    from the p-values it looks at: as ART's ``Scanner.fgss_for_nets`` climbs with one restart, so that the score is
    never lower than that one. A start for which nothing scores goes on from the image, or the node, that has most
    p-values up to `alpha_max` there.

    Scores grow with the size of the group: compare groups of the same size only, as `GroupScanner.p_value` does.

    Parameters
    ----------
    p_values : array-like of shape (N, J)
        One p-value in (0, 1] for each node of each of at least 2 images, from any test.
    statistic : {"berk-jones", "higher-criticism", "kolmogorov-smirnov"}
        What a block is scored by.
    alpha_max : float in (0, 1]
        The largest threshold to consider.
    restarts : int
        Number of starts, at least 1: from all nodes, from all images, then from random subsets of the images and from
        single random images in turn. More starts than images are worth something too.
    random_state : int, RandomState, Generator or None
        Draws the starts.
    constraint : array-like of shape (N,), optional
        Labels: only blocks whose images all have the same one count. There are `restarts` starts in each class.
    sizes : mapping, optional
        Limits such as ``{"images": (2, 50), "nodes": (None, 100)}``: the smallest and the largest number of images and
        nodes in a block, None for no limit. Classes with too few images are left out.
    bound : {"quick", "close", None}
        How to compute `upper_bound`, see below; None not to compute it.

    Returns
    -------
    GroupScanResult
        An empty block with score 0 where no block scores more.

        The quick bound is the highest score that any numbers of images and nodes could have, given how many small
        p-values each image and each node has: in large groups many times the score. The close bound takes up to tens of
        seconds. Up to about 15 images, or 15 nodes, and some more where few p-values are small, every subset of them is
        tried: the block is the best one of all, and the bound is its score. Up to about 75 the bound follows from which
        small p-values the images, or nodes, share in pairs and in threes, and up to about 290 in pairs; beyond that it
        is the quick one. For large groups the search for either ends early, and what it returns is still a bound but
        may lie higher.

    Raises
    ------
    ValueError
        If a p-value is NaN or outside (0, 1], there are not two dimensions, fewer than 2 images or no node; a name,
        `alpha_max`, `restarts` or a limit is invalid; the labels are not one for each image or all the same.
    TypeError
        If the array does not hold numbers, `restarts` or a limit is not an integer, an option is of another type, or
        labels are of several types that have no order.

    References
    ----------
    E. McFowland III, S. Speakman, D. B. Neill, Fast generalized subset scan for anomalous pattern detection,
    JMLR 14, 2013; D. B. Neill, Fast subset scan for spatial pattern detection, 2012,
    doi:10.1111/j.1467-9868.2011.01014.x.

    Examples
    --------
    >>> found = scan_group([[0.9, 0.02, 0.04], [0.7, 0.6, 0.9], [0.8, 0.03, 0.01]], random_state=0)
    >>> found.images, found.nodes, found.alpha
    (array([0, 2]), array([1, 2]), 0.04)
    >>> round(found.score, 3), round(found.upper_bound, 3)  # 4 log(1 / 0.04): nothing scores higher
    (12.876, 12.876)
    """
    p_values = probabilities(p_values, one_is_enough=False)
    limits = limits_of(sizes)

    def scan(rows: np.ndarray | None, starts: np.ndarray, from_all_nodes: bool) -> Found:
        group = p_values if rows is None else p_values[rows]
        return _core.scan_group(group, starts, from_all_nodes, statistic, alpha_max, *limits, bound)

    return scan_classes(scan, len(p_values), restarts, as_generator(random_state), constraint, limits[0])


def scan_classes(
    scan: _Scan,
    n_images: int,
    restarts: int,
    rng: np.random.Generator,
    constraint: Any,
    image_limits: Limits,
) -> GroupScanResult:
    """Scan each class of images on its own, or all images as one, and take the best."""
    if integer(restarts, "restarts") < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    if n_images < 2:
        raise ValueError(f"a group needs at least 2 images, got {n_images}; for single images use scan")
    best, bound = GroupScanResult(0.0, 0.0, np.empty(0, np.int64), np.empty(0, np.int64), 0.0), 0.0
    for rows in _classes(constraint, n_images, image_limits[0] or 1):
        starts = _starts(n_images if rows is None else len(rows), restarts - 1, rng)
        score, alpha, images, nodes, class_bound = scan(rows, starts, True)
        bound = np.inf if class_bound is None else max(bound, class_bound)
        if score > best.score:
            best = GroupScanResult(score, alpha, images if rows is None else rows[images], nodes, bound)
    return replace(best, upper_bound=bound)


def _classes(constraint: Any, n_images: int, smallest: int) -> list[np.ndarray | None]:
    """List the rows of each class, in the order of their labels; None stands for all rows."""
    if constraint is None:
        return [None]
    refuse_masked(constraint, "constraint")
    labels = np.asarray(constraint)
    if any(label is None or label != label for label in labels.ravel().tolist()):
        raise ValueError("constraint must be one label for each image, got None or NaN among them")
    if labels.shape != (n_images,):
        raise ValueError(f"constraint must be one label for each of the {n_images} images, got shape {labels.shape}")
    try:
        distinct, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    except TypeError:
        kinds = sorted({type(label).__name__ for label in labels.tolist()})
        raise InvalidTypeError(f"constraint must be labels of one kind, got {', '.join(kinds)}") from None
    if len(distinct) == 1:
        label = distinct.tolist()[0]
        raise ValueError(f"a constraint needs labels of at least 2 classes, all {n_images} are {label!r}")
    if counts.max() < smallest:
        raise ValueError(f"a block must have at least {smallest} images, but the largest class has {counts.max()}")
    return [np.flatnonzero(codes == n) for n in range(len(distinct)) if counts[n] >= smallest]


def _starts(n_images: int, n_subsets: int, rng: np.random.Generator) -> np.ndarray:
    """Draw subsets of the images: all, then random ones and single images in turn."""
    starts = np.zeros((n_subsets, n_images), dtype=bool)
    starts[:1] = True
    for n in range(1, n_subsets):
        size = int(rng.integers(1, n_images + 1)) if n % 2 else 1
        starts[n, rng.choice(n_images, size, replace=False)] = True
    return starts


def limits_of(sizes: Mapping[str, Limits] | None) -> tuple[Limits, Limits]:
    """Take limits apart; that they are in order is for the core to see."""
    if not isinstance(sizes, Mapping | None):
        raise InvalidTypeError(f'sizes must be a mapping such as {{"images": (2, 50)}}, got {sizes!r:.60}')
    sizes = dict(sizes or {})
    limits: list[Limits] = []
    for side in ("images", "nodes"):
        what, given = f"the limits of {side}", sizes.pop(side, (None, None))
        pair = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
        if len(pair) != 2:
            raise ValueError(f"{what} must be a pair (smallest, largest), got {given!r:.60}")
        smallest, largest = (None if limit is None else integer(limit, what) for limit in pair)
        for limit in (smallest, largest):
            if limit is not None and limit < 1:
                raise ValueError(f"the limits of {side} must be positive, got {limit}")
        limits.append((smallest, largest))
    if sizes:
        raise ValueError(f"unknown sizes {sorted(sizes)}; known are images, nodes")
    return limits[0], limits[1]
