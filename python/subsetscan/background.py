"""The background: what clean inputs gave each node, sorted once, for any number of test inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from . import _core
from ._index_file import IndexFile, map_index, write_index
from ._validation import check_columns, column_names, node_values, rounded
from .persistence import Persistent, State
from .scanning import ScanResult, subsets

__all__ = ["Background"]

_ALPHA_MAX = 0.5  # of compact backgrounds


class Background(Persistent):
    """Node values of clean inputs, validated and sorted once: the reference that test inputs are ranked in.

    Immutable, and safe to use from several threads. Sorting is the costly part; scanning then only searches.

    Ties decide p-values, so values are compared in one type. Where inputs and background differ in type, the finer of
    the two is rounded to the coarser: 0.3 in single precision ties with 0.3 in double precision. Inputs that are
    coarser than the background cost a copy of it in their type, which is made once and kept.

    Parameters
    ----------
    activations : array-like of shape (M, J)
        One row for each clean input, one column for each node: float16, float32 or float64 in any memory layout.
        Booleans and integers become float64. Infinities have their place in the order; NaN has none.
    tail : {"upper", "lower", "two-sided"}, optional
        Keep only what scans of this tail look at. Such a compact background refuses other tails, larger
        thresholds, and p-values. By default everything is kept.
    alpha_max : float in (0, 1], default 0.5
        The largest threshold of those scans. Only with `tail`.

    Attributes
    ----------
    n_samples : int
        Number of inputs, M.
    n_nodes : int
        Number of nodes, J.
    dtype : numpy.dtype
        Type of the values that are kept.
    nbytes : int
        Their size in bytes, in whole cache lines, and that of their search index; in its file, where it is mapped.
    tail, alpha_max : str, float or None
        What a compact background was built for.

    Raises
    ------
    ValueError
        If there are no inputs or no nodes, a value is NaN, the array is not two-dimensional, or `tail` or `alpha_max`
        is invalid.
    TypeError
        If the values are not real numbers.
    MemoryError
        If there is not enough memory for a copy of them.

    Examples
    --------
    >>> background = Background([[0.0, 1.0], [0.5, 2.0], [1.0, 3.0]])
    >>> background.p_values([[2.0, 0.5]])
    array([[0.25, 1.  ]])
    >>> background.scan([[2.0, 0.5]]).scores.round(3)
    array([1.386])
    """

    __slots__ = ("_coarser", "_core", "_file", "_names")

    def __init__(self, activations: Any, tail: str | None = None, alpha_max: float | None = None) -> None:
        core = _core.Background(node_values(activations, "activations"), *_kept(tail, alpha_max))
        self._take(core, column_names(activations))

    @property
    def n_samples(self) -> int:  # noqa: D102 (as for the others: the class says it)
        return self._core.n_samples

    @property
    def n_nodes(self) -> int:  # noqa: D102
        return self._core.n_nodes

    @property
    def dtype(self) -> np.dtype:  # noqa: D102
        return np.dtype(self._core.dtype)

    @property
    def nbytes(self) -> int:  # noqa: D102
        return self._core.nbytes

    @property
    def tail(self) -> str | None:  # noqa: D102
        return self._core.tail

    @property
    def alpha_max(self) -> float | None:  # noqa: D102
        return self._core.alpha_max

    def p_values(self, x: Any, tail: str = "upper", ties: str = "upper", random_state: int = 0) -> np.ndarray:
        """Compute the empirical p-value of every node of every input.

        For the upper tail, (number of background values >= x, plus 1) / (M + 1). The lower tail counts those <= x;
        the two-sided p-value is twice the smaller of both, at most 1.

        Parameters
        ----------
        x : array-like of shape (N, J)
            Node values of test inputs; of two types the coarser is compared in (see the class).
        tail : {"upper", "lower", "two-sided"}
        ties : {"upper", "midrank", "random"}
            Which part of its range (see `p_value_ranges`) a p-value takes where background values equal the input's:
            the upper end as in the paper, the middle, or a point drawn from {1, ..., M + 1} / (M + 1) within it.
        random_state : int
            Seeds "random". A draw depends on it and on the input's own values, not on the inputs beside it.

        Returns
        -------
        ndarray of shape (N, J), float64

        Raises
        ------
        ValueError
            If `x` has another number of nodes or a NaN, the tail or the treatment of ties is unknown, or the background
            is compact.

        References
        ----------
        Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section 3.1.
        """
        core, values = self._in_one_type(x)
        return core.p_values(values, tail, ties, random_state)

    def p_value_ranges(self, x: Any, tail: str = "upper") -> np.ndarray:
        """Compute the range of every p-value: every tie counted as less extreme, and as more extreme.

        Parameters
        ----------
        x, tail
            As for `p_values`.

        Returns
        -------
        ndarray of shape (N, J, 2), float64
            p_min = (number of background values > x) / (M + 1), and p_max, the value of `p_values` with ties "upper".

        Raises
        ------
        ValueError
            As for `p_values`.

        References
        ----------
        E. McFowland III, S. Speakman, D. B. Neill, Fast generalized subset scan for anomalous pattern detection,
        JMLR 14, 2013.
        """
        core, values = self._in_one_type(x)
        return core.p_value_ranges(values, tail)

    def scan(
        self,
        x: Any,
        *,
        statistic: str = "berk-jones",
        tail: str = "upper",
        alpha_max: float = 0.5,
        scope: str = "subset",
        ties: str = "upper",
        random_state: int = 0,
        return_nodes: bool = False,
    ) -> ScanResult:
        """Find the highest-scoring subset of nodes of each input, exactly, over all subsets and all thresholds.

        Parameters
        ----------
        x : array-like of shape (N, J)
            Node values of inputs that are not in the background.
        statistic : {"berk-jones", "higher-criticism", "kolmogorov-smirnov"}
            What a subset is scored by.
        tail : {"upper", "lower", "two-sided"}
            Which values are extreme.
        alpha_max : float in (0, 1]
            The largest threshold to consider.
        scope : {"subset", "all"}
            Hold the small p-values against the subset alone, as in the paper, or against all nodes.
        ties : {"upper", "midrank", "random", "range"}
            Which part of its range (see `p_value_ranges`) a p-value takes where background values equal the input's.
            "upper" as in the paper, the middle, or a grid point drawn from it. With "range" a node counts with the
            share of its range that lies within [0, alpha] (McFowland et al. 2013).
        random_state : int
            Seeds "random". A draw depends on it and on the input's own values, not on the inputs beside it.
        return_nodes : bool
            Whether to return the subsets as well.

        Returns
        -------
        ScanResult

        Raises
        ------
        ValueError
            If `x` has another number of nodes or a NaN, a name or `alpha_max` is invalid, or the background
            is compact and was built for other scans. Compact ones serve ties "upper" only.

        References
        ----------
        Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section 3 and algorithm 1.
        """
        core, values = self._in_one_type(x)
        found = core.scan(values, "outside", statistic, tail, alpha_max, scope, ties, random_state, return_nodes)
        return ScanResult._from_core(found, self.n_nodes)

    def leave_one_out(
        self,
        x: Any,
        *,
        statistic: str = "berk-jones",
        tail: str = "upper",
        alpha_max: float = 0.5,
        scope: str = "subset",
        ties: str = "upper",
        random_state: int = 0,
        return_nodes: bool = False,
        same_grid: bool = False,
    ) -> ScanResult:
        """Scan inputs of the background, each against all the others: null scores that waste no input.

        Parameters
        ----------
        x : array-like of shape (N, J)
            Rows of the background, all or some.
        statistic, tail, alpha_max, scope, ties, random_state, return_nodes
            As for `scan`.
        same_grid : bool
            Give a rank among the M - 1 others the p-value that it has among M, (rank + 1) / (M + 1). Null scores need
            it: where many inputs have the same score, one node at the smallest p-value, say, those outside would all
            exceed those inside. By default, as if the background had never held the input.

        Returns
        -------
        ScanResult

        Raises
        ------
        ValueError
            As for `scan`, and if an input cannot be in the background.
        """
        core, values = self._in_one_type(x)
        membership = "calibrating" if same_grid else "inside"
        found = core.scan(values, membership, statistic, tail, alpha_max, scope, ties, random_state, return_nodes)
        return ScanResult._from_core(found, self.n_nodes)

    def rank_histogram(
        self,
        x: Any,
        tail: str = "upper",
        alpha_max: float = 0.5,
        ties: str = "upper",
        random_state: int = 0,
        membership: str = "outside",
    ) -> np.ndarray:
        """Count the nodes of each input at each p-value up to `alpha_max`.

        The histograms of disjoint sets of nodes add up to that of their union: layers, or machines, can count apart
        and be scanned as one by `scan_histograms`.

        Parameters
        ----------
        x, tail, alpha_max, random_state
            As for `scan`.
        ties : {"upper", "midrank", "random"}
            As for `p_values`.
        membership : {"outside", "inside", "calibrating"}
            Whether the inputs are in the background, each to be ranked among the others: as `leave_one_out` does, and
            as it does with `same_grid`.

        Returns
        -------
        ndarray of shape (N, K), uint32
            One column for each of the K p-values up to `alpha_max` that M background values can lead to, increasing;
            M - 1 values for "inside".

        Raises
        ------
        ValueError
            As for `scan`.
        """
        core, values = self._in_one_type(x)
        return core.rank_histogram(values, membership, tail, alpha_max, ties, random_state)

    def nodes_within(
        self,
        x: Any,
        alphas: Any,
        tail: str = "upper",
        alpha_max: float = 0.5,
        ties: str = "upper",
        random_state: int = 0,
        membership: str = "outside",
    ) -> sparse.csr_array:
        """Find the nodes of each input whose p-values are at most a threshold of its own.

        With the thresholds of `scan_histograms` these are the nodes of its subsets that are here.

        Parameters
        ----------
        x, tail, alpha_max, ties, random_state, membership
            As for `rank_histogram`.
        alphas : array-like of shape (N,)
            Thresholds from 0 to `alpha_max`.

        Returns
        -------
        scipy.sparse.csr_array of shape (N, J), bool

        Raises
        ------
        ValueError
            As for `scan`, and if there is not one such threshold for each input.
        """
        core, values = self._in_one_type(x)
        up_to = np.ascontiguousarray(alphas, np.float64).reshape(-1)
        found = core.nodes_within(values, up_to, membership, tail, alpha_max, ties, random_state)
        return subsets(found, (len(values), self.n_nodes))

    def summarise(
        self,
        x: Any,
        summary: str,
        tail: str = "upper",
        ties: str = "upper",
        random_state: int = 0,
        membership: str = "outside",
    ) -> np.ndarray:
        """Put all p-values of each input in one number, without a choice of a subset: what a scan has to beat.

        Parameters
        ----------
        x : array-like of shape (N, J)
        summary : {"mean-p", "minimum-p", "fisher"}
            1 - mean p, ln (1 / min p), or 2 sum ln (1 / p).
        tail, ties, random_state
            As for `p_values`.
        membership : {"outside", "inside", "calibrating"}
            Whether the inputs are in the background, each to be ranked among the others: as `leave_one_out` does, and
            as it does with `same_grid`.

        Returns
        -------
        ndarray of shape (N,), float64
            Higher is more anomalous.

        Raises
        ------
        ValueError
            As for `p_values`, and if the summary is unknown.

        References
        ----------
        R. A. Fisher, Statistical Methods for Research Workers, 1925, section 21.1.
        """
        core, values = self._in_one_type(x)
        return core.summarise(values, membership, summary, tail, ties, random_state)

    def merge(self, *others: Background) -> Background:
        """Return the background of the inputs of this one and of others, as if built from all at once.

        Parameters
        ----------
        *others : Background
            Of the same nodes, in the same type. All of them whole: what a compact one dropped may be among what a
            larger one keeps. Compact ones are built in parts by `BackgroundBuilder`.

        Raises
        ------
        ValueError
            If one is compact, or its nodes, their names or its type are others.
        """
        parts = (self, *others)
        for part in parts:
            if type(part) is not Background:
                raise ValueError(f"only whole backgrounds can be merged, got {part!r}")
            if part.tail is not None:
                raise ValueError(f"{part} is compact, and has dropped what may count among more inputs: merge builders")
            if (part.n_nodes, part.dtype, part._names) != (self.n_nodes, self.dtype, self._names):
                raise ValueError(f"only backgrounds of the same nodes and type can be merged, got {self} and {part}")
        builder = _core.BackgroundBuilder(sum(part.n_samples for part in parts), self.n_nodes, self.dtype.name)
        for part in parts:
            builder.push(part._columns().T)  # which input a value came from is forgotten anyway
        return Background._wrap(builder.finish(early=False), self._names)

    def write_index(self, path: Path | str) -> None:
        """Write all that a scan looks at to a file, whole or not at all, for `map_index`.

        It is larger than what `save` writes, by the search index. Equal backgrounds have the same bytes.

        Parameters
        ----------
        path : path-like
            A file that is there already is replaced; who has mapped it keeps what it was.

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If this is a kind of background that has no such file.
        RuntimeError
            If the processor is not little-endian.
        """
        if type(self) is not Background:
            raise ValueError(f"only a Background has an index file, got {self!r}: use save")
        write_index(path, self._core, self._names)

    @staticmethod
    def map_index(path: Path | str, verify: bool = True) -> Background:
        """Map a file that `write_index` wrote: it opens at once, and its pages are shared by all processes that map it.

        Nothing but the header is read. The first use reads all of the file and compares its checksum, later ones read
        what they search. Pickled, it is the path and the file's digest: other processes map the file where it lies, and
        refuse another. Use `save` for what goes to another machine.

        The file must not be written to while it is mapped: where it is shortened, the system ends the process (SIGBUS).
        To be removed, or replaced as `write_index` does, does no harm; Windows does neither while it is mapped.

        Parameters
        ----------
        path : path-like
        verify : bool
            Whether to compare the checksum. Without it, what is wrong in a damaged file leads to wrong results, and is
            no longer found in what is written from them.

        Returns
        -------
        Background
            Of the same values, type, names and results as the one that was written.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is no such file, or not whole; and at the first use, if it is damaged.
        RuntimeError
            If the processor is not little-endian.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Background([[0.0, 1.0], [0.5, 2.0]]).write_index(f"{folder}/index.safetensors")
        ...     Background.map_index(f"{folder}/index.safetensors").p_values([[1.0, 0.5]])
        array([[0.33333333, 1.        ]])
        """
        return Background._wrap(*map_index(path, verify))

    def __repr__(self) -> str:
        kept = "" if self.tail is None else f", tail={self.tail!r}, alpha_max={self.alpha_max}"
        where = "" if self._file is None else f", mapped from {self._file.path}"
        return f"<Background of {self.n_samples} inputs x {self.n_nodes} nodes, {self.dtype}{kept}{where}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is not None:
            return Background._map_again, (self._file,)
        return Background._from_columns, (self._columns(), self.n_samples, self.tail, self.alpha_max, self._names)

    def __sizeof__(self) -> int:
        own = self.nbytes if self._file is None else 0
        return object.__sizeof__(self) + own  # what schedulers of tasks ask for

    def check_names(self, x: Any) -> None:
        """Refuse a data frame whose columns are not those of the background. Raises ValueError."""
        check_columns(column_names(x), self._names, "the background")

    def _check(self, tail: str | None, ties: str) -> str | None:
        """Return the tail to rank by. Raises ValueError where a kind of background does not rank so."""
        del ties
        return tail

    def _in_one_type(self, x: Any) -> tuple[_core.Background, np.ndarray]:
        """Take inputs in the coarser of both types, and the sorted values in the same one."""
        self.check_names(x)
        values = node_values(x)
        if values.dtype.itemsize >= self.dtype.itemsize:
            return self._core, rounded(values, self.dtype)
        if values.dtype not in self._coarser:
            # Rounding keeps the order, so that nothing has to be sorted again.
            self._coarser[values.dtype] = _core.Background.from_columns(
                rounded(self._columns(), values.dtype), self.n_samples, self.tail, self.alpha_max
            )
        return self._coarser[values.dtype], values

    def _state(self) -> State:
        kept = [] if self.tail is None else [self.tail, self.alpha_max]
        description = {"kind": self.kind(), "n_samples": self.n_samples, "kept": kept, "names": self._names}
        return description, {"columns": self._columns()}

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Background:
        tail, alpha_max = description["kept"] or (None, None)
        names = None if description["names"] is None else tuple(description["names"])
        return cls._from_columns(tensors["columns"], description["n_samples"], tail, alpha_max, names)

    def _columns(self) -> np.ndarray:
        """Return what is kept, one row for each node, ascending."""
        return self._core.columns()

    @classmethod
    def _from_columns(
        cls,
        columns: np.ndarray,
        n_samples: int,
        tail: str | None,
        alpha_max: float | None,
        names: tuple[str, ...] | None = None,
    ) -> Background:
        """Take up what `_columns` returned. Raises ValueError if it did not."""
        if columns.dtype.kind != "f":
            raise ValueError(f"the columns of a background are floats, got {columns.dtype}")
        core = _core.Background.from_columns(node_values(columns, "columns"), n_samples, tail, alpha_max)
        return cls._wrap(core, names)

    @classmethod
    def _map_again(cls, file: IndexFile) -> Background:
        return cls._wrap(*map_index(file.path, file.verify, file.digest))

    @classmethod
    def _wrap(
        cls, core: _core.Background, names: tuple[str, ...] | None = None, file: IndexFile | None = None
    ) -> Background:
        background = cls.__new__(cls)
        background._take(core, names, file)
        return background

    def _take(self, core: _core.Background, names: tuple[str, ...] | None, file: IndexFile | None = None) -> None:
        self._core = core
        self._names = names
        self._file = file
        self._coarser: dict[np.dtype, _core.Background] = {}


def _kept(tail: str | None, alpha_max: float | None) -> tuple[str | None, float | None]:
    if tail is None and alpha_max is not None:
        raise ValueError(f"alpha_max={alpha_max} is for a compact background and needs a tail as well")
    return tail, _ALPHA_MAX if tail is not None and alpha_max is None else alpha_max
