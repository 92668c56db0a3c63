"""Groups of images in plain Python: blocks of images and nodes, bounds, and every block there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from .images import _check, phi

__all__ = [
    "best_rows",
    "brute_force_group",
    "coarse_grid",
    "group_upper_bound",
    "scan_group",
]

# Score, threshold, images and nodes of a block.
Block = tuple[float, float, list[int], list[int]]


def best_rows(
    p_values: Sequence[Sequence[float]],
    columns: Sequence[int],
    alphas: Iterable[float],
    statistic: str = "berk-jones",
    limits: tuple[int | None, int | None] = (None, None),
    floor: float = 0.0,
) -> tuple[float, float, list[int]] | None:
    """Choose the rows that score highest together on the given columns, over all given thresholds.

    For each threshold the best are those with the most p-values up to it (LTSS). Rows with equal counts come all or not
    at all, unless a limit on the number of rows cuts them, in their order. Of equal scores that with the smaller
    threshold is returned, then that with fewer rows; None where no score is above `floor`.

    >>> best_rows([[0.2, 0.9], [0.9, 0.9], [0.1, 0.1]], [0, 1], [0.1, 0.2])  # 2 log(10)
    (4.605170185988092, 0.1, [2])
    """
    _check("statistic", statistic)
    smallest, largest = limits[0] or 1, limits[1] or len(p_values)
    score, threshold, rows = floor, 0.0, None
    for alpha in alphas:
        counts = [sum(row[column] <= alpha for column in columns) for row in p_values]
        order = sorted(range(len(counts)), key=lambda row: -counts[row])
        for size in range(smallest, min(largest, len(order)) + 1):
            cuts_a_tie = size < len(order) and counts[order[size - 1]] == counts[order[size]]
            if cuts_a_tie and size not in (smallest, largest):
                continue
            candidate = phi(statistic, alpha, sum(counts[row] for row in order[:size]), size * len(columns))
            if candidate > score:
                score, threshold, rows = candidate, alpha, sorted(order[:size])
    return None if rows is None else (score, threshold, rows)


def coarse_grid(p_values: Sequence[Sequence[float]], alpha_max: float = 0.5) -> list[float]:
    """List every k-th of the distinct p-values below `alpha_max`, at most 50 or so, and `alpha_max`.

    >>> coarse_grid([[0.1, 0.9], [0.1, 0.2]])
    [0.1, 0.2, 0.5]
    """
    below = sorted({p for row in p_values for p in row if p < alpha_max})
    return [*below[:: len(below) // 50 + 1], alpha_max]


def scan_group(
    p_values: Sequence[Sequence[float]],
    starts: Iterable[tuple[Sequence[int] | None, Sequence[int] | None]],
    statistic: str = "berk-jones",
    alpha_max: float = 0.5,
    image_limits: tuple[int | None, int | None] = (None, None),
    node_limits: tuple[int | None, int | None] = (None, None),
    first_grids: Sequence[str] = ("exact", "coarse", "own"),
) -> Block:
    """Find a block of images and nodes that scores high, by alternating ascent from every start.

    A start is a pair (images, nodes), one of which is None. Each climbs once with exact steps, and once first on the
    coarse grid and then exactly; from nodes also first on the coarse grid of each step's own p-values and then exactly.
    Of equal scores the first is returned; without a score above 0 the block is empty.

    >>> scan_group([[0.1, 0.9], [0.1, 0.9]], [([0, 1], None)])  # 2 log(10)
    (4.605170185988092, 0.1, [0, 1], [0])
    """
    _check("statistic", statistic)
    for first in first_grids:
        _check("grid", first)
    lines = p_values, list(zip(*p_values, strict=True))
    limits = image_limits, node_limits
    exact = sorted({p for row in p_values for p in row if p <= alpha_max})
    grids = {"exact": exact, "coarse": coarse_grid(p_values, alpha_max)}

    def climb(score: float, alpha: float, sides: list[Sequence[int] | None], free: int, first: str) -> Block | None:
        n_settled = 0  # sides that were found to be the best for the other
        while n_settled < 2:
            fixed = sides[1 - free] or []
            own = [[line[n] for n in fixed] for line in lines[free]]
            grid = coarse_grid(own, alpha_max) if first == "own" else grids[first]
            found = best_rows(lines[free], fixed, grid, statistic, limits[free], score)
            if found is not None:
                if _allows(limits[1 - free], len(fixed)):
                    score, alpha = found[:2]
                # else the start is no side of a block; what is chosen for it is where to go on
                sides[free] = found[2]
                n_settled = 1
            elif score > 0:
                n_settled += 1
            else:
                counts = [sum(p <= alpha_max for p in line) for line in own]
                if sides[free] is not None or max(counts) == 0:
                    return None
                sides[free] = [counts.index(max(counts))]  # who has most small p-values
            free = 1 - free
        return score, alpha, list(sides[0] or []), list(sides[1] or [])

    best: Block = (0.0, 0.0, [], [])
    for start in starts:
        for first in first_grids:
            free = 0 if start[0] is None else 1
            if first == "own" and free == 1:
                continue
            block = climb(0.0, 0.0, list(start), free, first)
            if first != "exact" and block is not None and "exact" in first_grids:
                block = climb(block[0], block[1], list(block[2:]), 1, "exact")
            if block is not None and block[0] > best[0]:
                best = block
    return best


def _allows(limits: tuple[int | None, int | None], n: int) -> bool:
    return (limits[0] or 1) <= n and (limits[1] is None or n <= limits[1])


def group_upper_bound(
    p_values: Sequence[Sequence[float]],
    statistic: str = "berk-jones",
    alpha_max: float = 0.5,
    image_limits: tuple[int | None, int | None] = (None, None),
    node_limits: tuple[int | None, int | None] = (None, None),
) -> float:
    """Bound the score of every block by how many small p-values r images and c nodes can share, for all r and c.

    They share no more than the r largest min(c, count of an image) together, and no more than the c largest
    min(r, count of a node).

    >>> group_upper_bound([[0.1, 0.9], [0.1, 0.9]])
    4.605170185988092
    """
    _check("statistic", statistic)
    n_images, n_nodes = len(p_values), len(p_values[0])
    best = 0.0
    for alpha in sorted({p for row in p_values for p in row if p <= alpha_max}):
        of_images = sorted((sum(p <= alpha for p in row) for row in p_values), reverse=True)
        of_nodes = sorted((sum(p <= alpha for p in column) for column in zip(*p_values, strict=True)), reverse=True)
        for r in range(image_limits[0] or 1, min(image_limits[1] or n_images, n_images) + 1):
            for c in range(node_limits[0] or 1, min(node_limits[1] or n_nodes, n_nodes) + 1):
                by_images = sum(min(c, count) for count in of_images[:r])
                by_nodes = sum(min(r, count) for count in of_nodes[:c])
                best = max(best, phi(statistic, alpha, min(by_images, by_nodes), r * c))
    return best


def brute_force_group(
    p_values: Sequence[Sequence[float]],
    statistic: str = "berk-jones",
    alpha_max: float = 0.5,
    image_limits: tuple[int | None, int | None] = (None, None),
    node_limits: tuple[int | None, int | None] = (None, None),
) -> float:
    """Find the highest score over ALL blocks of images and nodes and all thresholds, looking at every one.

    >>> brute_force_group([[0.1, 0.9], [0.1, 0.9]])
    4.605170185988092
    """
    _check("statistic", statistic)
    alphas = sorted({p for row in p_values for p in row if p <= alpha_max})
    images, nodes = range(len(p_values)), range(len(p_values[0]))
    best = 0.0
    for r in range(image_limits[0] or 1, min(image_limits[1] or len(images), len(images)) + 1):
        for c in range(node_limits[0] or 1, min(node_limits[1] or len(nodes), len(nodes)) + 1):
            for rows in combinations(images, r):
                for columns in combinations(nodes, c):
                    block = [p_values[row][column] for row in rows for column in columns]
                    for alpha in alphas:
                        best = max(best, phi(statistic, alpha, sum(p <= alpha for p in block), r * c))
    return best
