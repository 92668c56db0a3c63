"""The scans of p-values and of rank histograms that came from anywhere, and what every scan returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from . import _core
from ._extras import import_extra
from ._tables import counted, html_table
from ._validation import InvalidTypeError, probabilities, refuse_masked

__all__ = ["SCOPES", "STATISTICS", "TAILS", "TIES", "ScanResult", "SpaceScans", "scan", "scan_histograms"]

# The names that the core takes.
STATISTICS, TAILS, SCOPES, TIES = _core.STATISTICS, _core.TAILS, _core.SCOPES, _core.TIES

_SHOWN = 10  # inputs, in a notebook
# What the core returns: scores, alphas, sizes, and the index arrays of the subsets.
_Found = tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]


@dataclass(frozen=True, eq=False)
class ScanResult:
    """The highest-scoring subset of nodes of each of N inputs.

    Attributes
    ----------
    scores : ndarray of shape (N,), float64
        The scan score; 0 for an input without any node at p <= alpha_max.
    alphas : ndarray of shape (N,), float64
        The threshold that gives the score: the subset is all nodes with p <= alpha. 0 for an empty subset.
    sizes : ndarray of shape (N,), int64
        The number of nodes in the subset.
    nodes : scipy.sparse.csr_array of shape (N, J), bool, or None
        The subset itself, one row an input, if it was asked for.
    p_values : ndarray of shape (N,), float64, or None
        Calibrated p-values of the scores, where a calibrated detector scanned.
    """

    scores: np.ndarray
    alphas: np.ndarray
    sizes: np.ndarray
    nodes: sparse.csr_array | None = None
    p_values: np.ndarray | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.scores)

    def mask(self, index: int, node_shape: Sequence[int]) -> np.ndarray:
        """Lay the subset of one input out in the shape of its nodes, to be drawn.

        Parameters
        ----------
        index : int
            Which input.
        node_shape : sequence of int
            Shape in which its J nodes lie, as a space's `node_shapes` has it.

        Returns
        -------
        ndarray of that shape, bool

        Raises
        ------
        ValueError
            If the scan was not asked to return nodes, or their number is not that of the shape.
        IndexError
            If `index` is out of range.

        Examples
        --------
        >>> scan([[0.02, 0.9, 0.02, 0.4]], return_nodes=True).mask(0, (2, 2))
        array([[ True, False],
               [ True, False]])
        """
        if self.nodes is None:
            raise ValueError("the subsets were not kept: scan with return_nodes=True")
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no input {index} among {len(self)}")
        start, end = self.nodes.indptr[index % len(self)], self.nodes.indptr[index % len(self) + 1]
        members = np.zeros(self.nodes.shape[1], dtype=bool)
        members[self.nodes.indices[start:end]] = True
        return members.reshape(tuple(node_shape))

    def frequent_nodes(self, n: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Find the nodes that are in the subsets of the most inputs.

        Parameters
        ----------
        n : int
            How many of them at most; nodes in no subset are not returned.

        Returns
        -------
        ndarray of shape (<= n,), int64
            The nodes, the most frequent first, equals in their order; `numpy.unravel_index` lays them out.
        ndarray of the same shape, int64
            The number of inputs in whose subset each is.

        Raises
        ------
        ValueError
            If the scan was not asked to return nodes.

        Examples
        --------
        >>> scan([[0.02, 0.9, 0.02], [0.9, 0.9, 0.02]], return_nodes=True).frequent_nodes()
        (array([2, 0]), array([2, 1]))
        """
        if self.nodes is None:
            raise ValueError("the subsets were not kept: scan with return_nodes=True")
        counts = np.bincount(self.nodes.indices, minlength=self.nodes.shape[1])
        nodes = np.argsort(-counts, kind="stable")[:n]
        nodes = nodes[counts[nodes] > 0]
        return nodes, counts[nodes]

    def to_frame(self) -> Any:
        """Return a pandas data frame with the columns score, alpha and size, and p_value where calibrated.

        It has a row for each input.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed.

        Examples
        --------
        >>> scan([[0.02, 0.9, 0.02, 0.4], [0.9, 0.9, 0.9, 0.1]]).to_frame().round(2)
           score  alpha  size
        0   7.82   0.02     2
        1   2.30   0.10     1
        """
        pandas = import_extra("pandas", "tables")
        columns = {"score": self.scores, "alpha": self.alphas, "size": self.sizes}
        return pandas.DataFrame(columns | ({} if self.p_values is None else {"p_value": self.p_values}))

    def _repr_html_(self) -> str:
        header = ["input", "score", "alpha", "size", *([] if self.p_values is None else ["p-value"])]
        rows = [
            [str(n), f"{self.scores[n]:.4g}", f"{self.alphas[n]:.3g}", str(self.sizes[n])]
            + ([] if self.p_values is None else [f"{self.p_values[n]:.3g}"])
            for n in range(min(len(self), _SHOWN))
        ]
        rows += [["...", *[""] * (len(header) - 1)]] * (len(self) > _SHOWN)
        return html_table(header, rows, counted(len(self), "input"))

    def take(self, rows: Any) -> ScanResult:
        """Return the results of some inputs, in the given order."""
        nodes = None if self.nodes is None else sparse.csr_array(self.nodes[rows])
        p_values = None if self.p_values is None else self.p_values[rows]
        return ScanResult(self.scores[rows], self.alphas[rows], self.sizes[rows], nodes, p_values=p_values)

    @classmethod
    def concatenate(cls, results: Sequence[ScanResult]) -> ScanResult:
        """Put the results of several batches of inputs, at least one, below each other."""
        nodes = [result.nodes for result in results]
        p_values = [result.p_values for result in results if result.p_values is not None]
        return cls(
            np.concatenate([result.scores for result in results]),
            np.concatenate([result.alphas for result in results]),
            np.concatenate([result.sizes for result in results]),
            None if None in nodes else sparse.csr_array(sparse.vstack(nodes, format="csr")),
            p_values=np.concatenate(p_values) if len(p_values) == len(results) else None,
        )

    @classmethod
    def _from_core(cls, found: _Found, n_nodes: int) -> ScanResult:
        scores, alphas, sizes, nodes = found
        return cls(scores, alphas, sizes, None if nodes is None else subsets(nodes, (len(scores), n_nodes)))


def subsets(found: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]) -> sparse.csr_array:
    """Make a matrix of where each input's nodes begin, and of the nodes."""
    indptr, indices = found
    if indptr[-1] <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)  # both of one type, or scipy copies the longer array
    return sparse.csr_array((np.ones(len(indices), dtype=bool), indices, indptr), shape=shape)


class SpaceScans(dict[str, ScanResult]):
    """What was found in each space, by its name: a dictionary that notebooks show as a table."""

    def to_frame(self) -> Any:
        """Return a pandas data frame, a row for each space and input: space, input, and the columns of `ScanResult`.

        Raises
        ------
        ModuleNotFoundError
            If pandas is not installed.
        """
        pandas = import_extra("pandas", "tables")
        frames = [
            found.to_frame().reset_index(names="input").assign(space=name)[lambda own: ["space", *own.columns[:-1]]]
            for name, found in self.items()
        ]
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()

    def _repr_html_(self) -> str:
        return html_table(
            ["space", "inputs", "highest score", "of input", "its p-value"],
            [[name, f"{len(found):,}", *_highest(found)] for name, found in self.items()],
        )


def _highest(found: ScanResult) -> list[str]:
    if not len(found):
        return ["", "", ""]
    n = int(found.scores.argmax())
    return [f"{found.scores[n]:.4g}", str(n), "" if found.p_values is None else f"{found.p_values[n]:.3g}"]


def scan(
    p_values: Any,
    statistic: str = "berk-jones",
    alpha_max: float = 0.5,
    scope: str = "subset",
    return_nodes: bool = False,
) -> ScanResult:
    """Find the highest-scoring subset of nodes of each input, exactly, from its p-values.

    Parameters
    ----------
    p_values : array-like of shape (N, J)
        One p-value in (0, 1] for each node of each input, from any test.
    statistic : {"berk-jones", "higher-criticism", "kolmogorov-smirnov"}
        What a subset is scored by.
    alpha_max : float in (0, 1]
        The largest threshold to consider.
    scope : {"subset", "all"}
        Hold the small p-values against the subset alone, as in the paper, or against all nodes, as in a classical
        goodness-of-fit test.
    return_nodes : bool
        Whether to return the subsets as well.

    Returns
    -------
    ScanResult

    Raises
    ------
    ValueError
        If a p-value is NaN or outside (0, 1], the array has not two dimensions or no column, or a name or
        `alpha_max` is not one of the above.
    TypeError
        If the array does not hold numbers.

    References
    ----------
    Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section 3 and algorithm 1;
    D. B. Neill, Fast subset scan for spatial pattern detection, 2012, doi:10.1111/j.1467-9868.2011.01014.x.

    Examples
    --------
    >>> result = scan([[0.02, 0.9, 0.02, 0.4]], return_nodes=True)
    >>> result.scores.round(3), result.alphas, result.nodes.indices
    (array([7.824]), array([0.02]), array([0, 2], dtype=int32))
    """
    p_values = probabilities(p_values)
    found = _core.scan(p_values, statistic, alpha_max, scope, return_nodes)
    return ScanResult._from_core(found, p_values.shape[1])


def scan_histograms(
    histograms: Sequence[np.ndarray],
    n_samples: int,
    n_nodes: int,
    tails: Sequence[str],
    statistic: str = "berk-jones",
    alpha_max: float = 0.5,
    scope: str = "subset",
    ties: str = "upper",
) -> tuple[ScanResult, np.ndarray]:
    """Scan the union of disjoint sets of nodes, from the rank histograms of each: layers of a network, as one.

    Parameters
    ----------
    histograms : sequence of ndarray of shape (N, K), uint32
        What `Background.rank_histogram` counted in each set, for the same inputs among as many background inputs.
    n_samples : int
        The number of background inputs, one less if the counts left one out.
    n_nodes : int
        The number of nodes in all sets together.
    tails : sequence of str
        The tail that each set was ranked by.
    statistic, alpha_max, scope, ties
        As for `Background.scan`, and as the sets were ranked; no "range".

    Returns
    -------
    ScanResult
        Without the subsets: histograms do not know the nodes.
    ndarray of shape (N, number of sets), int64
        How many nodes of each set are in the subset.

    Raises
    ------
    ValueError
        If there is no set or no node, the sets differ in number from the tails or among each other in their inputs, a
        histogram has not one column for each threshold, a count is negative or does not fit in uint32, or an input has
        more counts than there are nodes.
    TypeError
        If the counts are not integers.

    Examples
    --------
    >>> from subsetscan import Background
    >>> values, image = np.array([[0.0, 1.0], [0.5, 2.0], [1.0, 3.0]]), np.array([[2.0, 0.5]])
    >>> counts = [Background(values[:, [n]]).rank_histogram(image[:, [n]]) for n in range(2)]
    >>> result, shares = scan_histograms(counts, n_samples=3, n_nodes=2, tails=["upper", "upper"])
    >>> result.scores.round(3), shares
    (array([1.386]), array([[1, 0]]))
    """
    if not len(histograms):
        raise ValueError("at least 1 histogram is needed, got none")
    if len(histograms) != len(tails):
        raise ValueError(f"{len(histograms)} histograms but {len(tails)} tails")
    counts = [_counts(histogram, f"histogram {n}") for n, histogram in enumerate(histograms)]
    found, shares = _core.scan_histograms(counts, list(tails), ties, n_samples, n_nodes, statistic, alpha_max, scope)
    return ScanResult._from_core(found, n_nodes), shares


def _counts(histogram: Any, what: str) -> np.ndarray:
    """Take a rank histogram as it is: no count may wrap around or lose a fraction on its way to uint32."""
    refuse_masked(histogram, what)
    array = np.asarray(histogram)
    if array.dtype.kind not in "iu":
        raise InvalidTypeError(f"{what} must hold counts, as integers, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{what} must have 2 dimensions (inputs, thresholds), got shape {array.shape}")
    most = np.iinfo(np.uint32).max
    for extreme in (array.min(initial=0), array.max(initial=0)):
        if not 0 <= extreme <= most:
            image, threshold = np.argwhere(array == extreme)[0]
            raise ValueError(
                f"{what} must hold counts from 0 to {most}, got {extreme} at input {image}, threshold {threshold}"
            )
    return np.require(array, np.uint32, ["ALIGNED"])
