"""The automatic detector over dask arrays, chunked over inputs and over nodes. The scan alone is in `adapters.dask`.

Products of rows add up over blocks of nodes, those of columns over blocks of inputs: what is solved is a matrix of the
smaller of both numbers. With it every block of nodes, or of inputs, finds its residuals by itself. Only ranks within an
input need all its nodes, and they need no other input.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import linalg
from sklearn.base import clone

from .. import _core
from .._extras import import_extra
from .._validation import InvalidTypeError, rounded
from ..calibration import plan
from ..detectors.automatic import RARE, AutomaticDetector, is_rare
from ..detectors.base import DTYPES, unchanged_on_error
from ..detectors.neighbor import SMALLEST, NearestNeighborDetector, scale_of
from ..detectors.residual_scan import ResidualScanDetector
from ..node_blocks import part_of
from ..residuals import Factor, Residuals, Solved, on_grid, single, standardised, usable_scale
from .dask import (
    DaskBackground,
    _added,
    _as_array,
    _check_held,
    _computed,
    _finite,
    _joined,
    _parts,
    _persisted,
    _rechunked,
)

__all__ = ["DaskAutomatic"]

_EXACT = 1 << 23  # of so many nodes, ranks and their halves are exact in single precision
_LEAST = 1 << 20  # values of a chunk: with fewer, most of the time goes into tasks
_NO_LENGTH = 10 * np.finfo(np.float64).eps  # as for sklearn.preprocessing.normalize


class DaskAutomatic(AutomaticDetector):
    """`AutomaticDetector` over dask arrays: the same parameters, and scores that are rounded differently.

    Scores agree to about 12 digits; to 6 where nodes are many times as many as inputs, as a fit without one of these is
    then the difference of numbers that are nearly equal. Where inputs tie, as copies do, rounding may break the tie in
    another way than in one process, and a p-value may be another. Every `X` may be a dask array, or one of numpy.

    What is fitted stays with the workers: together as many bytes as one process would take. During a fit they hold `X`
    and its ranks too, and each of them chunks as large as the largest of `X`, of 2^20 values at least; whole inputs,
    where one is larger; and about four square matrices, of as many rows as there are inputs or nodes, whichever are
    fewer.

    Attributes
    ----------
    part_null_scores_, null_scores_, n_features_in_
        As in `AutomaticDetector`.
    where_ : DaskBackground
        The clean inputs' values, for the scan that points.

    Examples
    --------
    >>> import dask.array as da
    >>> rng = np.random.default_rng(0)
    >>> mix = rng.normal(size=(5, 40))
    >>> clean, changed = (rng.normal(size=(n, 5)) @ mix + rng.normal(size=(n, 40)) for n in (400, 3))
    >>> changed[:, :6] += 4
    >>> DaskAutomatic().fit(da.from_array(clean, chunks=(100, 20))).predict(changed)
    array([-1, -1, -1])
    """

    def fit(self, X: Any, y: None = None) -> Self:
        """Build the background from clean inputs, and calibrate, as `AutomaticDetector.fit` does.

        Parameters
        ----------
        X : dask.array.Array or ndarray of shape (n, J)
            With chunks of any known sizes. What it is made of should last: a lost worker's part is made again.
        y : None
            Ignored.

        Raises
        ------
        ValueError
            As there, or if sizes of chunks are unknown.
        TypeError
            As there, or if it is no array.
        ModuleNotFoundError
            If dask is missing.
        """
        del y
        array = _checked(X)
        with unchanged_on_error(self):
            plan(len(array), self.calibration, self.calibration_fraction)  # what is invalid is refused before a read
            (array,) = _persisted(_in_pieces(array))
            shares = self.plan(len(array))
            everyone = len(shares.background) == len(array)
            left_out = self.take_background(array if everyone else array[shares.background])
            if not shares.leave_one_out:
                left_out = self.anomaly_score(array[shares.calibration])
            self._take_null_scores(left_out)
            self.warn_of_few_null_scores()
        return self

    def part_scores(self, X: Any) -> np.ndarray:
        """Compute the five scores of each input, as `AutomaticDetector.part_scores` does."""
        X = _in_rows(self.check_values(X))
        if not len(X):
            return np.empty((0, self.part_null_scores_.shape[1]))
        ranked, distances = self.rank_scan_.lazy_scan(X)
        valued, far = self.value_scan_.lazy_scan(X)
        nearest = self.nearest_.lazy_scores(X)
        ranked, valued, *others = _computed(ranked, valued, distances, far, nearest)
        return np.column_stack([_joined(ranked).scores, _joined(valued).scores, *others])

    def check_values(self, X: Any) -> Any:
        """Take rows of nodes for a fitted detector, as `AutomaticDetector.check_values` does."""
        array = _checked(X)
        if array.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {array.shape[1]} nodes, but the background has {self.n_features_in_}")
        dtype = np.dtype(self.dtype_)
        if array.dtype.itemsize < dtype.itemsize:
            raise InvalidTypeError(
                f"{type(self).__name__} was fitted on {dtype} and cannot compare {array.dtype} with it: fit it on "
                f"{array.dtype}"
            )
        return array if array.dtype == dtype else _mapped(rounded, array, dtype, dtype=dtype)

    def gather(self) -> AutomaticDetector:
        """Return an `AutomaticDetector` with the same fit, in the memory of this process; it can be saved."""
        parts = {name: getattr(self, name).gather() for name in ("rank_scan_", "value_scan_", "nearest_", "where_")}
        detector = AutomaticDetector(**self.get_params())
        detector.__dict__.update({**vars(self), **parts})
        return detector

    def _save(self, path: Path | str) -> str:
        return self.gather()._save(path)

    @staticmethod
    def _new_background(X: Any, tail: str, alpha_max: float) -> DaskBackground:
        return DaskBackground.fit(_in_node_chunks(X), tail, alpha_max)

    @staticmethod
    def _new_parts() -> Any:
        return _ResidualScan("ranks"), _ResidualScan("values"), _Nearest()

    @staticmethod
    def _count_copies(X: Any) -> int:
        rows = _in_rows(X)
        (rows,) = _computed(_mapped(_digests, rows, dtype=np.uint64, chunks=(rows.chunks[0], (3,))))
        varied = rows[rows[:, 0] > 0]
        return len(varied) - len(np.unique(varied, axis=0))

    @staticmethod
    def _count_rare(X: Any) -> int:
        first = _rechunked(X[: 2 * RARE + 1], {0: -1})
        usual = _mapped(np.median, first, axis=0, drop_axis=0, dtype=X.dtype, n_dim=1)
        return int(_computed(is_rare((usual != X).sum(axis=0)).sum())[0])


class _ResidualScan:
    """A `ResidualScanDetector` with its options by default, whose residuals and background are spread."""

    def __init__(self, of: str) -> None:
        self._new = ResidualScanDetector(of=of, calibration=None)
        self._options = {name: getattr(self._new, name) for name in ("statistic", "tail", "alpha_max", "scope")}

    def take_background(self, X: Any) -> np.ndarray:
        """Fit on clean inputs, and return the score of each, left out."""
        (values,) = (X,) if self._new.of == "values" else _persisted(_in_pieces(self._values(X)))
        self._residuals = _Residuals()
        residuals, self.distances_ = self._residuals.fit(values)
        residuals = _in_node_chunks(residuals)
        self._background = DaskBackground.fit(residuals, self._new.tail, self._new.alpha_max)
        self._shape = X.shape[1], X.dtype.name
        return self._background.leave_one_out(residuals, **self._options, same_grid=True).scores

    def lazy_scan(self, X: Any) -> tuple[list[Any], Any]:
        """Return the scan of inputs and their squared Mahalanobis distances, to be computed."""
        residuals, distances = self._residuals.transform(self._values(X))
        how = (self._new.tail, self._new.alpha_max, "upper", "outside")
        options = {name: self._options[name] for name in ("statistic", "scope")}
        return self._background._lazy_scan(residuals, how, options), distances

    def gather(self) -> ResidualScanDetector:
        """Return the same in the memory of this process."""
        detector = _gathered(self._new, self._shape)
        detector.residuals_, detector.distances_ = self._residuals.gather(), self.distances_
        detector.background_, detector.scan_options_ = self._background.gather(), self._options
        detector.of_ = detector.of
        return detector

    def _values(self, X: Any) -> Any:
        if self._new.of == "values":
            return X
        dtype = np.float32 if X.shape[1] < _EXACT else np.float64
        return _mapped(_ranks, _in_rows(X), dtype, dtype=dtype)


class _Residuals:
    """`Residuals` whose arrays are spread: over inputs where these are many, over nodes where these are."""

    has_few_nodes: bool
    _matrix: Any
    _precision: Any
    _new = Residuals()

    def fit(self, values: Any) -> tuple[Any, np.ndarray]:
        """Return residuals on the grid, as a dask array, and distances, as `fit_transform_with_distances` does."""
        da = import_extra("dask.array", "dask")
        n = len(values)
        if n < 2:
            raise ValueError(f"at least 2 inputs and 1 node are needed, got shape {values.shape}")
        kept = np.arange(n)
        solved = self._fit(values, kept)
        if n_trimmed := min(round(self._new.trim * n), n - 2):
            kept = np.sort(np.argsort(_computed(solved.distances)[0], kind="stable")[:-n_trimmed])
            solved = self._fit(values, kept)
        is_kept = np.isin(np.arange(n), kept)
        rows = solved.y.chunks[0]
        residuals = _mapped(
            _left_out,
            solved.y,
            _rechunked(solved.products, (rows,))[:, np.newaxis],
            da.from_array(is_kept, (rows,))[:, np.newaxis],
            _row(self._precision, solved.y),
            solved.share,
            solved.n,
            dtype=np.float32,
        )
        self._matrix, self._precision, residuals, products = _persisted(
            self._matrix, self._precision, residuals, solved.products
        )
        solved = replace(solved, products=_computed(products)[0])
        return residuals, np.where(is_kept, solved.distances, solved.products)

    def transform(self, values: Any) -> tuple[Any, Any]:
        """Return residuals on the grid, and distances, of new inputs, as dask arrays."""
        _check_held([self._matrix])
        z = self._standardised(_rechunked(values, {1: self._matrix.chunks[1]}))
        if self.has_few_nodes:
            y = _times(z, self._matrix)
        else:
            y = (z - _times(_times(z, self._matrix.T), self._matrix)) / self._floor
        return _mapped(_plain, y, _row(self._precision, y), dtype=np.float32), _row_sums(z, y)

    def gather(self) -> Residuals:
        """Return the same in the memory of this process."""
        _check_held([self._matrix])
        residuals = Residuals()
        arrays = _computed(self._mean, self._scale, self._matrix, self._precision)
        residuals.n_features_in_ = len(arrays[0])
        residuals.shrinkage_, residuals.floor_ = self._shrinkage, self._floor
        residuals.mean_, residuals.scale_, residuals.matrix_, residuals.precision_ = arrays
        return residuals

    def _fit(self, values: Any, kept: np.ndarray) -> Any:
        """Learn from the kept of these inputs, and return all of them `Solved`, y and the products as dask arrays."""
        dask, da = import_extra("dask", "dask"), import_extra("dask.array", "dask")
        (n, n_nodes), n_kept = values.shape, len(kept)
        self.has_few_nodes = n_nodes <= n_kept
        values = _in_pieces(values, self.has_few_nodes)
        self._mean, self._scale = _persisted(*_mean_and_scale(values if n_kept == n else values[kept]))
        z = self._standardised(values)
        own = z if n_kept == n else z[kept]
        least = self._new.least_shrinkage
        if self.has_few_nodes:
            (factor,) = _persisted(
                dask.delayed(_factor)(_whole(_times(own.T, own)), _whole(_row_sums(own, own)), n_nodes, least)
            )
            self._matrix = da.from_delayed(dask.delayed(Factor.inverse)(factor), (n_nodes, n_nodes), np.float64)
            (self._matrix,) = _persisted(self._matrix)
            self._precision = da.diag(self._matrix)
            y = _times(z, self._matrix)
            products = _row_sums(z, y)
        else:
            (solved,) = _persisted(dask.delayed(_solved_rows)(_whole(_times(z, z.T)), kept, n_nodes, least))
            factor, common, products = (dask.delayed(_item)(solved, place) for place in range(3))
            self._matrix = _mapped(_half, own, factor)
            self._precision = _mapped(_precision_of, self._matrix, factor, drop_axis=0, n_dim=1)
            floor = dask.delayed(_scalars)(factor)[1]
            common = da.from_delayed(common, (n, n_kept), np.float64)
            y = (z - _times(common, own)) / da.from_delayed(floor, (), np.float64)
            products = da.from_delayed(products, (n,), np.float64)
        self._shrinkage, self._floor, share = _computed(dask.delayed(_scalars)(factor))[0]
        return Solved(y, products, share, n_kept)

    def _standardised(self, values: Any) -> Any:
        return _mapped(_standardised, values, _row(self._mean, values), _row(self._scale, values))


class _Nearest:
    """A `NearestNeighborDetector` with its options by default, whose points are spread."""

    def take_background(self, X: Any) -> np.ndarray:
        """Fit on clean inputs, and return the score of each, left out."""
        dask, da = import_extra("dask", "dask"), import_extra("dask.array", "dask")
        X = _in_pieces(X)
        scale = dask.delayed(scale_of)(_whole(X.var(axis=0, dtype=np.float64)), _whole(X.min(axis=0) < X.max(axis=0)))
        (self._scale,) = _persisted(da.from_delayed(scale, X.shape[1:], np.float64))
        (self._points,) = _persisted(self._points_of(X))
        self._shape = X.shape[1], X.dtype.name
        return _computed(self._distances(self._points, inside=True))[0]

    def lazy_scores(self, X: Any) -> Any:
        """Return the distances of inputs, to be computed."""
        _check_held([self._points])
        return self._distances(self._points_of(_rechunked(X, {1: self._points.chunks[1]})))

    def gather(self) -> NearestNeighborDetector:
        """Return the same in the memory of this process."""
        _check_held([self._points])
        detector = _gathered(NearestNeighborDetector(calibration=None), self._shape)
        detector.metric_, detector.n_neighbors_ = detector.metric, detector.n_neighbors
        detector.scale_, detector.points_ = _computed(self._scale, self._points)
        return detector

    def _points_of(self, X: Any) -> Any:
        da = import_extra("dask.array", "dask")
        scaled = X / _row(self._scale, X)
        lengths = da.sqrt(_row_sums(scaled, scaled))
        return scaled / da.where(lengths < _NO_LENGTH, 1, lengths)[:, np.newaxis]

    def _distances(self, points: Any, inside: bool = False) -> Any:
        da = import_extra("dask.array", "dask")
        zeros, own_zeros = ((some == 0).all(axis=1) for some in (self._points, points))
        alike = da.where(own_zeros[:, np.newaxis], zeros[np.newaxis], _times(points, self._points.T))
        if inside:
            alike = _mapped(_without_itself, alike)
        last = da.maximum(1 - alike.max(axis=1), 0)
        return da.where(last < SMALLEST, 0.0, last)


def _checked(X: Any) -> Any:
    """Take a dask array of floats, or make one; values that are not finite are refused when they are read."""
    array = _as_array(X, "X")
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype not in DTYPES:
        raise InvalidTypeError(f"X must be float16, float32, float64 or integers, got dtype {array.dtype}")
    if not array.shape[1]:
        raise ValueError("at least 1 node is needed, got 0")
    return _mapped(_finite_part, array, dtype=array.dtype)


def _in_rows(values: Any) -> Any:
    """Take whole inputs, in chunks that are no larger than the largest, if one input is not."""
    return _rechunked(values, {0: max(1, _largest(values) // values.shape[1]), 1: -1})


def _in_pieces(values: Any, has_few_nodes: bool | None = None) -> Any:
    """Take whole inputs where nodes are few, and all values of a node where they are not."""
    if has_few_nodes is None:
        has_few_nodes = values.shape[1] <= len(values)
    return _in_rows(values) if has_few_nodes else _rechunked(_in_node_chunks(values), {0: -1})


def _in_node_chunks(values: Any) -> Any:
    """Take so many nodes that all their values are no more than those of the largest chunk, if one node's are not."""
    return _rechunked(values, {1: max(1, _largest(values) // len(values))})


def _largest(values: Any) -> int:
    return max(_LEAST, prod(max(sizes) for sizes in values.chunks))


def _mapped(work: Callable[..., Any], *given: Any, dtype: Any = np.float64, n_dim: int = 2, **options: Any) -> Any:
    """Map blocks, without a try on empty ones to see what comes of it."""
    da = import_extra("dask.array", "dask")
    return da.map_blocks(work, *given, dtype=dtype, meta=np.empty((0,) * n_dim, dtype), **options)


def _row(row: Any, like: Any) -> Any:
    """Lay a value for each node beside chunks of others."""
    return _rechunked(row, (like.chunks[1],))[np.newaxis]


def _row_sums(some: Any, others: Any) -> Any:
    """Sum up the products of the values of each input."""
    return _mapped(_products, some, others, chunks=(some.chunks[0], (1,) * len(some.chunks[1]))).sum(axis=1)


def _mean_and_scale(values: Any) -> tuple[Any, Any]:
    """Return the mean and the standard deviation of each node, 1 for one that does not vary, as dask arrays."""
    dask, da = import_extra("dask", "dask"), import_extra("dask.array", "dask")
    means, scales, node = [], [], 0
    for width, column in zip(values.chunks[1], _parts(values).T, strict=True):
        extent = _added([dask.delayed(_extent)(part, len(values)) for part in column], _extents)
        spread = _added([dask.delayed(_spread)(part, extent) for part in column], sum)
        both = dask.delayed(_settled)(extent, spread, len(values), node)
        means.append(da.from_delayed(both[0], (width,), np.float64))
        scales.append(da.from_delayed(both[1], (width,), np.float64))
        node += width
    return da.concatenate(means), da.concatenate(scales)


def _times(some: Any, others: Any) -> Any:
    """Multiply matrices. Their chunks meet each other, of which dask warns where there are many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", import_extra("dask.array", "dask").PerformanceWarning)
        return some @ others


def _whole(array: Any) -> Any:
    """Take all chunks of an array as one, delayed."""
    return _parts(_rechunked(array, -1)).item()


def _gathered(detector: Any, shape: tuple[int, str]) -> Any:
    detector = clone(detector)
    detector.n_features_in_, detector.dtype_ = shape
    detector.null_scores_ = np.empty(0)
    return detector


# What workers do.


def _finite_part(values: Any, block_info: Any = None) -> np.ndarray:
    starts, stops = zip(*block_info[0]["array-location"], strict=True)
    shape = tuple(stop - start for start, stop in zip(starts, stops, strict=True))
    return _finite(part_of(values, starts, "X", shape), "X")


def _digests(rows: np.ndarray) -> np.ndarray:
    """Tell of each input whether its nodes differ, and 16 bytes that are those of equal ones alone."""
    varied = (rows[:, :1] != rows).any(axis=1)
    found = [blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    return np.column_stack([varied, np.frombuffer(b"".join(found), np.uint64).reshape(-1, 2)])


def _ranks(rows: np.ndarray, dtype: Any) -> np.ndarray:
    return _core.within_sample_ranks(rows).astype(dtype, copy=False)


def _extent(values: np.ndarray, n: int) -> np.ndarray:
    """Find the lowest and the highest value of each node, and its part of the mean."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([values.min(axis=0), values.max(axis=0), values.sum(axis=0, dtype=np.float64) / n])


def _extents(parts: list[np.ndarray]) -> np.ndarray:
    lowest, highest, means = np.stack(parts, axis=1)
    return np.stack([lowest.min(axis=0), highest.max(axis=0), means.sum(axis=0)])


def _spread(values: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Sum up squared distances from the mean, in units of the range: those of tiny values would be 0."""
    lowest, highest, mean = extent
    with np.errstate(all="ignore"):
        return (((values - mean) / (highest - lowest)) ** 2).sum(axis=0)


def _settled(extent: np.ndarray, spread: np.ndarray, n: int, first_node: int) -> tuple[np.ndarray, np.ndarray]:
    lowest, highest, mean = extent
    varies, span = lowest < highest, highest - lowest
    with np.errstate(all="ignore"):
        scale = np.where(varies, span * np.sqrt(spread / n), 0)
        scale[varies & ~np.isfinite(spread * span**2)] = np.inf
    return np.where(varies, mean, lowest), usable_scale(scale, lowest, highest, first_node)


def _standardised(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return standardised(values.astype(np.float64), mean, scale)


def _products(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", some, others)[:, np.newaxis]


def _factor(gram: np.ndarray, squares: np.ndarray, n_nodes: int, least_shrinkage: float) -> Factor:
    return Factor.of(gram.copy(), squares, n_nodes, least_shrinkage)


def _solved_rows(
    gram: np.ndarray, kept: np.ndarray, n_nodes: int, least_shrinkage: float
) -> tuple[Factor, np.ndarray, np.ndarray]:
    """Solve for all inputs from their products: what each has in common with the kept ones, and z'Pz."""
    squares = np.diag(gram)
    factor = Factor.of(gram[np.ix_(kept, kept)], squares[kept], n_nodes, least_shrinkage)
    common = linalg.cho_solve((factor.root, True), gram[:, kept].T, overwrite_b=True).T
    common *= factor.share / factor.floor
    return factor, common, (squares - np.einsum("ij,ij->i", common, gram[:, kept])) / factor.floor


def _item(several: Any, place: int) -> Any:
    return several[place]


def _scalars(factor: Factor) -> tuple[float, float, float]:
    return factor.shrinkage, factor.floor, factor.share


def _half(z: np.ndarray, factor: Factor) -> np.ndarray:
    return factor.half(z)


def _precision_of(matrix: np.ndarray, factor: Factor) -> np.ndarray:
    return factor.precision(matrix)


def _without_itself(alike: np.ndarray, block_info: Any = None) -> np.ndarray:
    """Have no input be the nearest to itself."""
    rows, columns = (np.arange(*place) for place in block_info[0]["array-location"])
    return np.where(rows[:, np.newaxis] == columns, -np.inf, alike)


def _left_out(
    y: np.ndarray, products: np.ndarray, is_kept: np.ndarray, precision: np.ndarray, share: float, n: int
) -> np.ndarray:
    """Compute the residuals of inputs of a fit without each of them, and of those that it has not."""
    residuals = y / np.sqrt(precision)
    kept = is_kept[:, 0]
    residuals[kept] = Solved(y[kept], products[kept, 0], share, n).residuals(precision[0])
    return on_grid(single(residuals))


def _plain(y: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return on_grid(single(y / np.sqrt(precision)))
