"""The scan over dask arrays, chunked over inputs and over nodes: threads, processes or a cluster of machines.

Blocks of nodes stay where they are. Each is ranked by itself; rank histograms of disjoint sets of nodes add up to that
of their union, so that sums of small arrays are what travels, not activations. Builders of a background add up over
blocks of inputs in the same way. The results are those of one process, to the bit, whatever the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from .. import _core
from .._extras import import_extra
from .._validation import InvalidTypeError
from ..background import Background, _kept
from ..builder import BackgroundBuilder
from ..detectors.base import unchanged_on_error
from ..detectors.subset_scan import SubsetScanDetector
from ..node_blocks import How, NodeBlocks, check_ties, part_of
from ..scanning import ScanResult, scan_histograms

__all__ = ["DaskBackground", "DaskSubsetScan"]

_ARITY = 8  # parts that one task adds up

_Place = tuple[int, int, int, int]  # the first input and the first node of a chunk, and its shape


class DaskBackground(NodeBlocks):
    """A background whose blocks of nodes lie where dask puts them; what `fit` returns.

    Attributes
    ----------
    n_samples, n_nodes, dtype, tail, alpha_max
        As in `Background`.
    node_chunks : tuple of int
        How many nodes each block has.
    """

    def __init__(
        self,
        blocks: Sequence[Any],
        node_chunks: tuple[int, ...],
        n_samples: int,
        dtype: np.dtype,
        kept: tuple[str | None, float | None],
    ) -> None:
        self.node_chunks = node_chunks
        self.n_samples = n_samples
        self.dtype = dtype
        self.tail, self.alpha_max = kept
        self._blocks = list(blocks)

    @classmethod
    def fit(cls, activations: Any, tail: str | None = None, alpha_max: float | None = None) -> Self:
        """Sort the node values of clean inputs, and keep them on the workers.

        Parameters
        ----------
        activations : dask.array.Array of shape (M, J)
            With chunks of any known sizes. What it is made of should last: a lost worker's part is made again.
        tail, alpha_max
            As for `Background`.

        Returns
        -------
        DaskBackground

        Raises
        ------
        ValueError
            As for `Background`, or if sizes of chunks are unknown.
        TypeError
            As for `Background`, or if it is no array.
        ModuleNotFoundError
            If dask is missing.
        """
        dask = import_extra("dask", "dask")
        array = _as_array(activations, "activations")
        n_samples, n_nodes = array.shape
        tail, alpha_max = _kept(tail, alpha_max)
        _core.BackgroundBuilder(n_samples, 1, "float32", tail, alpha_max)  # what is invalid is refused before a read
        if n_nodes < 1:
            raise ValueError("at least 1 node is needed, got 0")
        start = dask.delayed(_start, pure=False)
        blocks = [
            dask.delayed(_finish, pure=False)(
                _added([start(part, place, n_samples, tail, alpha_max) for part, place in column], _merge)
            )
            for column in _chunks(array).T
        ]
        first = dask.delayed(_dtype_of)(blocks[0])
        *blocks, first = _persisted(*blocks, first)
        return cls(blocks, array.chunks[1], n_samples, _computed(first)[0], (tail, alpha_max))

    @property
    def n_nodes(self) -> int:
        """Number of nodes, J."""
        return sum(self.node_chunks)

    def p_values(self, x: Any, tail: str = "upper", ties: str = "upper") -> Any:
        """Compute the empirical p-value of every node of every input, when it is asked for.

        Parameters
        ----------
        x : dask.array.Array or ndarray of shape (N, J)
        tail : {"upper", "lower", "two-sided"}
        ties : {"upper", "midrank"}
            As for `Background.p_values`. Random ties depend on all nodes together.

        Returns
        -------
        dask.array.Array of shape (N, J), float64

        Raises
        ------
        ValueError
            As for `Background.p_values`, and if `ties` is another.
        """
        dask = import_extra("dask", "dask")
        import dask.array as da

        check_ties(ties)
        x = self._aligned(x)
        rank = dask.delayed(_p_values, pure=False)
        rows = [
            [
                da.from_delayed(rank(block, part, place, tail, ties), (n, width), np.float64)
                for (part, place), block, width in zip(row, self._blocks, self.node_chunks, strict=True)
            ]
            for row, n in zip(_chunks(x), x.chunks[0], strict=True)
        ]
        return da.block(rows)

    def gather(self) -> Background:
        """Return the background in the memory of this process."""
        _check_held(self._blocks)
        columns = np.concatenate([block._columns() for block in _computed(*self._blocks)])
        return Background._from_columns(columns, self.n_samples, self.tail, self.alpha_max)

    def __repr__(self) -> str:
        kept = "" if self.tail is None else f", tail={self.tail!r}, alpha_max={self.alpha_max}"
        return (
            f"<DaskBackground of {self.n_samples} inputs x {self.n_nodes} nodes, {self.dtype}{kept}, "
            f"in {len(self.node_chunks)} blocks>"
        )

    def _rank_histogram(self, x: Any, how: How) -> np.ndarray:
        counts = _computed(*[self._count(row, how) for row in _chunks(self._aligned(x))])
        return np.concatenate([_dense(own) for own in counts])

    def _scan(self, x: Any, how: How, options: dict[str, str], return_nodes: bool) -> ScanResult:
        return _joined(_computed(self._lazy_scan(x, how, options, return_nodes))[0])

    def _lazy_scan(self, x: Any, how: How, options: Mapping[str, Any], return_nodes: bool = False) -> list[Any]:
        """Return what `_joined` takes, to be computed."""
        dask = import_extra("dask", "dask")
        best, find = dask.delayed(_best, pure=False), dask.delayed(_nodes, pure=False)
        n_ranked = self.n_samples - (how[3] == "inside")
        found = []
        for row in _chunks(self._aligned(x)):
            result = best(self._count(row, how), n_ranked, self.n_nodes, how, options)
            nodes = [find(block, *chunk, result, how) for block, chunk in zip(self._blocks, row, strict=True)]
            found.append((result, nodes if return_nodes else None))
        return found

    def _count(self, row: np.ndarray, how: How) -> Any:
        count = import_extra("dask", "dask").delayed(_count, pure=False)
        return _added([count(block, *chunk, how) for block, chunk in zip(self._blocks, row, strict=True)], _sum)

    def _aligned(self, x: Any) -> Any:
        """Take inputs in chunks whose nodes are those of the blocks."""
        _check_held(self._blocks)
        array = _as_array(x, "x")
        if array.shape[1] != self.n_nodes:
            raise ValueError(f"the inputs have {array.shape[1]} nodes, but the background has {self.n_nodes}")
        return _rechunked(array, {1: self.node_chunks})


class DaskSubsetScan(SubsetScanDetector):
    """`SubsetScanDetector` over dask arrays: the same parameters, scores and p-values.

    Every `X` may be a dask array, or one of numpy. Ties are "upper" or "midrank".

    Attributes
    ----------
    background_ : DaskBackground
    null_scores_, scan_options_, n_features_in_
        As in `SubsetScanDetector`.
    """

    can_grow = False
    background_: DaskBackground  # type: ignore[assignment]  # it is scanned in the same way

    def fit(self, X: Any, y: None = None) -> Self:
        """Build the background from clean inputs, and calibrate, as `SubsetScanDetector.fit` does.

        Raises
        ------
        ValueError
            As there, and if `ties` is "random" or "range", or sizes of chunks are unknown.
        """
        del y
        check_ties(self.ties)
        array = _as_array(X, "X", finite=True)
        with unchanged_on_error(self):
            shares = self.plan(len(array))
            everyone = len(shares.background) == len(array)
            background = DaskBackground.fit(array if everyone else array[shares.background], *self._kept())
            self._take_background(background, self._options())  # type: ignore[arg-type]
            if shares.leave_one_out:
                nulls = background.leave_one_out(array, **self.scan_options_, same_grid=True).scores
            else:
                nulls = background.scan(array[shares.calibration], **self.scan_options_).scores
            self._take_null_scores(nulls)
            self.warn_of_few_null_scores()
        return self

    def calibrate(self, X: Any, y: None = None) -> Self:
        """Take the scores of clean inputs that are not in the background as null scores."""
        del y
        nulls = self.anomaly_score(X)
        if not len(nulls):
            raise ValueError("at least 1 clean input is needed to calibrate, got 0")
        with unchanged_on_error(self):
            self._take_null_scores(nulls)
            self.warn_of_few_null_scores()
        return self

    def anomaly_score(self, X: Any, y: None = None) -> np.ndarray:
        """Compute the score of each input, float64 of shape (N,)."""
        return self.scan(X, y).scores

    def scan(self, X: Any, y: None = None, *, return_nodes: bool = False) -> ScanResult:
        """Find the highest-scoring subset of nodes of each input, as `SubsetScanDetector.scan` does."""
        del y
        check_is_fitted(self)
        return self.background_.scan(_as_array(X, "X", finite=True), **self.scan_options_, return_nodes=return_nodes)

    def leading(self, X: Any, y: None = None, *, share: float = 0.5) -> ScanResult:
        """Not for dask arrays: gather the detector. Raises NotImplementedError."""
        raise NotImplementedError("leading subsets are those of a gathered detector: detector.gather().leading(X)")

    def gather(self) -> SubsetScanDetector:
        """Return a `SubsetScanDetector` with the same background, in the memory of this process; it can be saved."""
        check_is_fitted(self)
        detector = SubsetScanDetector(**self.get_params())
        detector._take_background(self.background_.gather(), dict(self.scan_options_))
        detector._take_null_scores(self.null_scores_)
        return detector

    def _save(self, path: Path | str) -> str:
        return self.gather()._save(path)


def _as_array(values: Any, name: str, finite: bool = False) -> Any:
    """Take a dask array, or make one; `finite` refuses infinite values when they are read."""
    import_extra("dask", "dask")
    import dask.array as da

    if isinstance(values, np.ndarray):
        values = da.from_array(values, chunks="auto")
    if not isinstance(values, da.Array):
        raise InvalidTypeError(f"{name} must be an array of dask or numpy, got {type(values).__name__}")
    if values.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions (inputs, nodes), got shape {values.shape}")
    if any(np.isnan(size) for sizes in values.chunks for size in sizes):
        raise ValueError(f"the chunks of {name} have unknown sizes: call compute_chunk_sizes() first")
    if any(0 in sizes and sum(sizes) for sizes in values.chunks):
        values = _rechunked(values, tuple(tuple(size for size in sizes if size) or (0,) for sizes in values.chunks))
    return values.map_blocks(_finite, name, dtype=values.dtype) if finite else values


def _check_held(parts: Sequence[Any]) -> None:
    """Refuse parts of a fit that a cluster held whose client is closed. Raises ConnectionError."""
    for part in parts:
        if any(getattr(one, "status", None) == "cancelled" for one in part.dask.values()):
            raise ConnectionError(
                "the cluster no longer holds what was fitted, as its client was closed: fit again, or gather() before "
                "the client closes"
            )


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError(f"{name} holds infinite values, {np.isinf(values).sum()} in one chunk")
    return values


def _chunks(array: Any) -> np.ndarray:
    """Return the chunks of an array by rows and columns of them, each with its place in the whole."""
    starts = [np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int).tolist() for sizes in array.chunks]
    parts = _parts(array)
    found = np.empty(parts.shape, object)
    for i, row in enumerate(starts[0]):
        for k, node in enumerate(starts[1]):
            found[i, k] = (parts[i, k], (row, node, array.chunks[0][i], array.chunks[1][k]))
    return found


def _parts(array: Any) -> np.ndarray:
    return array.to_delayed(optimize_graph=False)


# A part that is asked for again, while what was made of it is there, must be the same task, so graphs are taken as they
# are: what dask fuses with a task depends on the rest of its graph, and its exchange of chunks between workers (P2P)
# refuses graphs that are used again.


def _rechunked(array: Any, chunks: Any) -> Any:
    return array.rechunk(chunks, method="tasks")


def _computed(*collections: Any) -> tuple[Any, ...]:
    return import_extra("dask", "dask").compute(*collections, optimize_graph=False)


def _persisted(*collections: Any) -> tuple[Any, ...]:
    return import_extra("dask", "dask").persist(*collections, optimize_graph=False)


def _added(parts: list[Any], add: Callable[[list[Any]], Any]) -> Any:
    """Add up by a tree of tasks."""
    one = import_extra("dask", "dask").delayed(add, pure=False)
    while len(parts) > 1:
        parts = [one(parts[n : n + _ARITY]) for n in range(0, len(parts), _ARITY)]
    return parts[0]


# What workers do.


def _part(values: Any, place: _Place, name: str = "x") -> np.ndarray:
    return part_of(values, place[:2], name, place[2:])


def _start(values: Any, place: _Place, n_samples: int, tail: str | None, alpha_max: float | None) -> BackgroundBuilder:
    builder = BackgroundBuilder(n_samples, tail, alpha_max)
    builder.add(_part(values, place, "activations"))
    return builder


def _merge(parts: list[BackgroundBuilder]) -> BackgroundBuilder:
    whole = parts[0].empty()  # parts stay as they are: a task may run again
    for part in parts:
        whole.merge(part)
    return whole


def _finish(builder: BackgroundBuilder) -> Background:
    return builder.copy().finish()


def _dtype_of(background: Background) -> np.dtype:
    return background.dtype


def _p_values(background: Background, values: Any, place: _Place, tail: str, ties: str) -> np.ndarray:
    return background.p_values(_part(values, place), tail, ties)


def _count(background: Background, values: Any, place: _Place, how: How) -> Any:
    tail, alpha_max, ties, membership = how
    counts = background.rank_histogram(_part(values, place), tail, alpha_max, ties, 0, membership)
    # Where there are fewer nodes than thresholds, most counts are 0.
    return sparse.csr_array(counts) if 4 * background.n_nodes < counts.shape[1] else counts


def _sum(counts: list[Any]) -> Any:
    if not all(sparse.issparse(own) for own in counts):
        return np.sum([_dense(own) for own in counts], axis=0, dtype=np.uint32)
    total = sum(counts[1:], counts[0])
    return total if 2 * total.nnz < np.prod(total.shape) else total.toarray()


def _dense(counts: Any) -> np.ndarray:
    return counts.toarray() if sparse.issparse(counts) else counts


def _best(counts: Any, n_ranked: int, n_nodes: int, how: How, options: Mapping[str, Any]) -> ScanResult:
    tail, alpha_max, ties, _ = how
    found, _ = scan_histograms([_dense(counts)], n_ranked, n_nodes, [tail], alpha_max=alpha_max, ties=ties, **options)
    return found


def _nodes(background: Background, values: Any, place: _Place, found: ScanResult, how: How) -> sparse.csr_array:
    tail, alpha_max, ties, membership = how
    return background.nodes_within(_part(values, place), found.alphas, tail, alpha_max, ties, membership=membership)


def _joined(found: list[Any]) -> ScanResult:
    return ScanResult.concatenate([_with_nodes(*one) for one in found])


def _with_nodes(found: ScanResult, nodes: list[sparse.csr_array] | None) -> ScanResult:
    both = None if nodes is None else sparse.csr_array(sparse.hstack(nodes, format="csr"))
    return ScanResult(found.scores, found.alphas, found.sizes, both)
