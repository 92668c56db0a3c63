"""Within-sample ranks, and residuals of each node given all others: sums, one elimination, no closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["ledoit_wolf", "left_out_residuals", "residuals", "within_sample_ranks"]

Row = Sequence[float]


def within_sample_ranks(image: Row) -> list[float]:
    """Rank an image's values among each other: the mean place of those that are equal, counted from 1."""
    return [sum(y < x for y in image) + (sum(y == x for y in image) + 1) / 2 for x in image]


def ledoit_wolf(rows: Sequence[Row]) -> tuple[float, float]:
    """Return Ledoit and Wolf's shrinkage of the covariance of centred rows, and the level it is shrunk to."""
    n, width = len(rows), len(rows[0])
    covariance = _covariance(rows)
    level = sum(covariance[j][j] for j in range(width)) / width
    distance = sum((covariance[i][j] - level * (i == j)) ** 2 for i in range(width) for j in range(width))
    error = sum(
        (row[i] * row[j] - covariance[i][j]) ** 2 for row in rows for i in range(width) for j in range(width)
    ) / (n * n)
    return (min(1.0, error / distance) if distance > 0 else 1.0), level


def residuals(image: Row, background: Sequence[Row], least_shrinkage: float = 0.1) -> list[float]:
    """Compute the residual of each node given all others: how far it is from their prediction, in its error's units."""
    mean, scale = _mean_and_scale(background)
    inverse = _inverse(_shrunk([_standardised(row, mean, scale) for row in background], least_shrinkage))
    return _given_the_others(_standardised(image, mean, scale), inverse, [inverse[j][j] for j in range(len(inverse))])


def left_out_residuals(background: Sequence[Row], least_shrinkage: float = 0.1) -> list[list[float]]:
    """Compute the residuals of background images, each by the mean and the covariance of the others.

    The scale, the shrinkage, the level, the number that sums are divided by, and the units are those of all images.
    """
    mean, scale = _mean_and_scale(background)
    rows = [_standardised(row, mean, scale) for row in background]
    whole = _shrunk(rows, least_shrinkage)
    inverse = _inverse(whole)
    nodes = range(len(inverse))
    units = [inverse[j][j] for j in nodes]
    share = (1 - max(ledoit_wolf(rows)[0], least_shrinkage)) / len(rows)
    found = []
    for n, row in enumerate(rows):
        others = [*rows[:n], *rows[n + 1 :]]
        center = [math.fsum(column) / len(others) for column in zip(*others, strict=True)]
        about = [[x - m for x, m in zip(other, center, strict=True)] for other in others]
        without = [[whole[i][j] - share * sum(r[i] * r[j] for r in rows) for j in nodes] for i in nodes]  # the floor
        without = [[without[i][j] + share * sum(r[i] * r[j] for r in about) for j in nodes] for i in nodes]
        found.append(_given_the_others([x - m for x, m in zip(row, center, strict=True)], _inverse(without), units))
    return found


def _given_the_others(z: Row, inverse: Sequence[Row], units: Row) -> list[float]:
    """Node j less its prediction by the others is (P z)_j / P_jj, and the error's variance 1 / P_jj of the units."""
    return [
        sum(inverse[j][k] * z[k] for k in range(len(z))) / inverse[j][j] * math.sqrt(units[j]) for j in range(len(z))
    ]


def _mean_and_scale(background: Sequence[Row]) -> tuple[list[float], list[float]]:
    columns = list(zip(*background, strict=True))
    mean = [column[0] if len(set(column)) == 1 else math.fsum(column) / len(column) for column in columns]
    variance = [math.fsum((x - m) ** 2 for x in column) / len(column) for column, m in zip(columns, mean, strict=True)]
    return mean, [math.sqrt(v) or 1.0 for v in variance]


def _standardised(image: Row, mean: Row, scale: Row) -> list[float]:
    return [(x - m) / s for x, m, s in zip(image, mean, scale, strict=True)]


def _covariance(rows: Sequence[Row]) -> list[list[float]]:
    width = range(len(rows[0]))
    return [[math.fsum(row[i] * row[j] for row in rows) / len(rows) for j in width] for i in width]


def _shrunk(rows: Sequence[Row], least_shrinkage: float) -> list[list[float]]:
    shrinkage, level = ledoit_wolf(rows)
    shrinkage = max(shrinkage, least_shrinkage)
    covariance = _covariance(rows)
    floor = shrinkage * level or 1.0
    return [
        [(1 - shrinkage) * value + floor * (i == j) for j, value in enumerate(line)]
        for i, line in enumerate(covariance)
    ]


def _inverse(matrix: Sequence[Row]) -> list[list[float]]:
    """Invert a positive definite matrix by elimination."""
    n = len(matrix)
    work = [[*line, *(float(i == j) for j in range(n))] for i, line in enumerate(matrix)]
    for pivot in range(n):
        line = [x / work[pivot][pivot] for x in work[pivot]]
        work = [
            line if i == pivot else [x - own[pivot] * y for x, y in zip(own, line, strict=True)]
            for i, own in enumerate(work)
        ]
    return [line[n:] for line in work]
