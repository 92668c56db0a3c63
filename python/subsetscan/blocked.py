"""A background larger than memory: blocks of nodes, each a file that is mapped.

Rank histograms of disjoint sets of nodes add up to that of their union. So the blocks are searched one after the other,
and their sum is scanned: the results are those of a `Background` of all nodes, to the bit.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches
from tqdm.auto import tqdm

from . import _core
from ._digest import digest
from ._files import atomic_write, damage_as_value_error, lock
from ._index_file import map_index, write_index
from ._sealed import as_text
from ._validation import InvalidTypeError, node_values
from .background import Background, _kept
from .builder import BackgroundBuilder
from .node_blocks import How, NodeBlocks, check_ties, part_of
from .scanning import ScanResult, scan_histograms

__all__ = ["BlockedBackground"]

_MANIFEST = "background.json"
_FORMAT = "subsetscan.BlockedBackground"
_FORMAT_VERSION = 2
_BLOCKS = "block-{:05}.safetensors"
_COPIES = 4  # of a block: as it is built, or as values, as these in a coarser type, and as their keys; room for inputs
_LIMIT = 1 << 30


class BlockedBackground(NodeBlocks):
    """What `BlockedBackground.fit` wrote: scanned like a `Background`, block by block, where the files lie.

    The first use maps each file and compares its checksum, which reads all of it. Files stay mapped: later uses read
    what they search, which the system keeps in memory as far as there is room, for all processes together. Inputs of a
    coarser type than the background cost a copy of each block in their type, each time: give many together.

    The files must not be written to while they are mapped: where one is shortened, the system ends the process
    (SIGBUS).

    Parameters
    ----------
    folder : path-like
        Where `fit` wrote it.
    memory_limit : int, default 2**30
        Bytes that may be taken at a time, beside results. Mapped files, of inputs and of blocks, do not count, as they
        do not for a limit of the system (RLIMIT_DATA): it takes their pages back when it needs them.
    progress : bool, default False
        Show a progress bar.

    Attributes
    ----------
    n_samples, n_nodes, dtype, tail, alpha_max
        As in `Background`.
    n_blocks : int

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If the folder is damaged, here or when a block is first used, or a block needs more memory than `memory_limit`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> clean, x = np.arange(12.0).reshape(4, 3), np.array([[12.0, 5.0, 6.0]])
    >>> with TemporaryDirectory() as folder:
    ...     background = BlockedBackground.fit(clean, folder, memory_limit=10_000)
    ...     print(background.scan(x).scores.round(3), Background(clean).scan(x).scores.round(3))
    ...     del background  # Windows removes no file that is mapped
    [1.609] [1.609]
    """

    def __init__(self, folder: Path | str, memory_limit: int = _LIMIT, progress: bool = False) -> None:
        self.folder = Path(folder).absolute()
        self.memory_limit = memory_limit = _bytes(memory_limit)
        self.progress = progress
        manifest = self.folder / _MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(f"{folder} holds no background in blocks: there is no {_MANIFEST}")
        with damage_as_value_error(manifest):
            content = json.loads(manifest.read_text(encoding="utf-8"))
            if (kind := (content["format"], content["format_version"])) != (_FORMAT, _FORMAT_VERSION):
                wanted = f"{_FORMAT} version {_FORMAT_VERSION}"
                raise ValueError(f"{manifest} is {kind[0]} version {kind[1]}, not {wanted}: fit anew")
            if content.pop("digest") != digest(as_text(content)):
                raise ValueError("it has not the digest that it was saved with; copy the folder again, or fit anew")
            self.n_samples, self.n_nodes = content["n_samples"], content["n_nodes"]
            self.dtype, (self.tail, self.alpha_max) = np.dtype(content["dtype"]), content["kept"]
            self._width, self._digests = content["width"], content["digests"]
        self._mapped: dict[int, _core.Background] = {}
        needed = _COPIES * _bytes_per_node(self.n_samples, self.dtype, self.tail, self.alpha_max) * self._width
        if needed > memory_limit:
            raise ValueError(
                f"the blocks of {folder} need about {needed} bytes of memory, and memory_limit is {memory_limit}: "
                "raise it, or fit anew with the lower one"
            )

    @classmethod
    def fit(
        cls,
        activations: Any,
        folder: Path | str,
        *,
        tail: str | None = None,
        alpha_max: float | None = None,
        memory_limit: int = _LIMIT,
        progress: bool = False,
    ) -> Self:
        """Sort the node values of clean inputs, a block of nodes at a time, into files.

        Parameters
        ----------
        activations : array of shape (M, J)
            As for `Background`, and anything with a shape of which ``activations[a:b, c:d]`` can be taken: a mapped
            file, a dataset of h5py, an array of zarr or dask. It is read once, by blocks of nodes.
        folder : path-like
            It must not hold a background already.
        tail, alpha_max
            As for `Background`.
        memory_limit, progress
            As for the class.

        Returns
        -------
        BlockedBackground

        Raises
        ------
        FileExistsError
            If the folder holds a background.
        OSError
            If a file cannot be read or written.
        ValueError
            As for `Background`, or if a single node needs more memory than `memory_limit`.
        TypeError
            As for `Background`.
        """
        folder = Path(folder)
        if (folder / _MANIFEST).exists():
            raise FileExistsError(f"{folder} holds a background already: choose another folder, or remove it")
        memory_limit = _bytes(memory_limit)
        tail, alpha_max = _kept(tail, None if alpha_max is None else float(alpha_max))
        n_samples, n_nodes = _shape_of(activations, "activations")
        if n_nodes < 1:
            raise ValueError("at least 1 node is needed, got 0")
        dtype = node_values(activations[:1, :1], "activations").dtype
        per_node = _bytes_per_node(n_samples, dtype, tail, alpha_max)
        width = min(n_nodes, memory_limit // (_COPIES * per_node))
        if width < 1:
            raise ValueError(
                f"one node of {n_samples} inputs needs about {_COPIES * per_node} bytes of memory, and memory_limit is "
                f"{memory_limit}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        n_rows = max(1, memory_limit // (_COPIES * width * dtype.itemsize))
        digests = []
        parts = list(gen_batches(n_nodes, width))
        with _alone(folder):
            for left in folder.glob(_BLOCKS.replace("{:05}", "*")):  # of a fit that was stopped
                left.unlink()
            for n, part in enumerate(tqdm(parts, desc="fit", unit="block", disable=not progress, leave=False)):
                builder = BackgroundBuilder(n_samples, tail, alpha_max)
                for rows in gen_batches(n_samples, n_rows):
                    builder.add(_read(activations, rows, part, "activations"))
                digests.append(write_index(folder / _BLOCKS.format(n), builder.finish()._core, None))
            content = {
                "format": _FORMAT,
                "format_version": _FORMAT_VERSION,
                "n_samples": n_samples,
                "n_nodes": n_nodes,
                "dtype": dtype.name,
                "kept": [tail, alpha_max],
                "width": width,
                "digests": digests,
            }
            content["digest"] = digest(as_text(content))
            with atomic_write(folder / _MANIFEST) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return cls(folder, memory_limit, progress)

    @property
    def n_blocks(self) -> int:  # noqa: D102 (the class says it)
        return len(self._digests)

    def p_values(self, x: Any, tail: str = "upper", ties: str = "upper", out: np.ndarray | None = None) -> np.ndarray:
        """Compute the empirical p-value of every node of every input.

        Parameters
        ----------
        x : array of shape (N, J)
            Anything that `fit` takes.
        tail : {"upper", "lower", "two-sided"}
        ties : {"upper", "midrank"}
            As for `Background.p_values`. Random ties depend on all nodes together.
        out : ndarray of shape (N, J), float64, optional
            Where to write them, a mapped file, say.

        Returns
        -------
        ndarray of shape (N, J), float64
            `out` if that is given.

        Raises
        ------
        ValueError
            As for `Background.p_values`, and if `ties` is another or `out` has another shape or type.
        """
        check_ties(ties)
        n = self._check(x)
        if out is None:
            out = np.empty((n, self.n_nodes))
        if out.shape != (n, self.n_nodes) or out.dtype != np.float64:
            raise ValueError(f"out must be float64 of shape {(n, self.n_nodes)}, got {out.dtype} of shape {out.shape}")
        for part, block in self._blocks():
            for rows in self._rows(slice(0, n)):
                out[rows, part] = block.p_values(_read(x, rows, part), tail, ties)
        return out

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_mapped": {}}  # who loads it maps the files anew

    def __repr__(self) -> str:
        kept = "" if self.tail is None else f", tail={self.tail!r}, alpha_max={self.alpha_max}"
        return (
            f"<BlockedBackground of {self.n_samples} inputs x {self.n_nodes} nodes, {self.dtype}{kept}, "
            f"in {self.n_blocks} blocks at {self.folder}>"
        )

    def _rank_histogram(self, x: Any, how: How) -> np.ndarray:
        return self._count(x, slice(0, self._check(x)), how)

    def _scan(self, x: Any, how: How, options: dict[str, str], return_nodes: bool) -> ScanResult:
        tail, alpha_max, ties, membership = how
        if not 0 < alpha_max <= 1:
            raise ValueError(f"alpha_max must be in (0, 1], got {alpha_max}")
        n, n_ranked = self._check(x), self.n_samples - (membership == "inside")
        n_thresholds = 1 + int(alpha_max * (2 if ties == "midrank" else 1) * (self.n_samples + 1))
        found = []
        for rows in gen_batches(n, max(1, self.memory_limit // (8 * _COPIES * n_thresholds))) if n else [slice(0, 0)]:
            counts = self._count(x, rows, how)
            result, _ = scan_histograms(
                [counts], n_ranked, self.n_nodes, [tail], alpha_max=alpha_max, ties=ties, **options
            )
            if return_nodes:
                nodes = [
                    sparse.vstack(
                        [
                            block.nodes_within(
                                _read(x, some, part), result.alphas[some.start - rows.start : some.stop - rows.start],
                                tail, alpha_max, ties, 0, membership,
                            )
                            for some in self._rows(rows)
                        ],
                        format="csr",
                    )
                    for part, block in self._blocks()
                ]  # fmt: skip
                both = sparse.csr_array(sparse.hstack(nodes, format="csr"))
                result = ScanResult(result.scores, result.alphas, result.sizes, both)
            found.append(result)
        return ScanResult.concatenate(found)

    def _count(self, x: Any, rows: slice, how: How) -> np.ndarray:
        tail, alpha_max, ties, membership = how
        counts: np.ndarray | None = None
        for part, block in self._blocks():
            for some in self._rows(rows):
                own = block.rank_histogram(_read(x, some, part), tail, alpha_max, ties, 0, membership)
                if counts is None:
                    counts = np.zeros((rows.stop - rows.start, own.shape[1]), np.uint32)
                counts[some.start - rows.start : some.stop - rows.start] += own
        assert counts is not None  # noqa: S101  # there is a block
        return counts

    def _rows(self, rows: slice) -> Iterator[slice]:
        """Part rows so that those of a block, and what they are checked by, take a share of the memory."""
        size = max(1, self.memory_limit // (_COPIES * 9 * self._width))  # 8 bytes of a value, one of the check
        starts = range(rows.start, max(rows.stop, rows.start + 1), size)
        return (slice(start, min(rows.stop, start + size)) for start in starts)

    def _blocks(self) -> Iterator[tuple[slice, Background]]:
        parts = list(gen_batches(self.n_nodes, self._width))
        if len(parts) != self.n_blocks:
            raise ValueError(f"{self.folder / _MANIFEST} is damaged: {self.n_blocks} blocks for {self.n_nodes} nodes")
        for n, part in enumerate(tqdm(parts, unit="block", disable=not self.progress, leave=False)):
            if n not in self._mapped:
                self._mapped[n], _, _ = map_index(self.folder / _BLOCKS.format(n), True, self._digests[n])
            yield part, Background._wrap(self._mapped[n])  # a copy in a coarser type goes with it

    def _check(self, x: Any) -> int:
        """Refuse inputs with another number of nodes; how many there are."""
        n, n_nodes = _shape_of(x, "x")
        if n_nodes != self.n_nodes:
            raise ValueError(f"the inputs have {n_nodes} nodes, but the background has {self.n_nodes}")
        return n


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other fits out of a folder. Raises FileExistsError if one is at work there."""
    path = folder / ".fit.lock"
    held = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        is_free = True
        with suppress(OSError):  # a file system without locks
            is_free = lock(held)
        if not is_free:
            raise FileExistsError(f"another process is fitting a background in {folder}: choose another folder")
        if (folder / _MANIFEST).exists():
            raise FileExistsError(f"{folder} holds a background already: choose another folder, or remove it")
        yield
    finally:
        os.close(held)


def _bytes(memory_limit: Any) -> int:
    """Take a number of bytes. Raises ValueError."""
    try:
        n = operator.index(memory_limit)
    except TypeError:
        n = 0
    if n < 1:
        raise ValueError(f"memory_limit must be a whole number of bytes, at least 1, got {memory_limit!r}")
    return n


def _bytes_per_node(n_samples: int, dtype: np.dtype, tail: str | None, alpha_max: float | None) -> int:
    """Return what a node takes while it is built. Raises ValueError for an impossible background."""
    return _core.BackgroundBuilder(n_samples, 1, dtype.name, tail, alpha_max).nbytes


def _shape_of(activations: Any, name: str) -> tuple[int, int]:
    shape = getattr(activations, "shape", None)
    if shape is None or hasattr(activations, "iloc"):
        raise InvalidTypeError(
            f"{name} must be an array of which parts can be taken, got {type(activations).__name__}: use numpy.asarray"
        )
    if len(shape) != 2:
        raise ValueError(f"{name} must have 2 dimensions (inputs, nodes), got shape {tuple(shape)}")
    return int(shape[0]), int(shape[1])


def _read(activations: Any, rows: slice, nodes: slice, name: str = "x") -> np.ndarray:
    return part_of(activations[rows, nodes], (rows.start, nodes.start), name)
