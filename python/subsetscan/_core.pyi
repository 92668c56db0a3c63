"""The compiled core. It takes arrays of floats as they are; `subsetscan` is the documented face."""

from pathlib import Path
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

_Values: TypeAlias = NDArray[np.float16] | NDArray[np.float32] | NDArray[np.float64]
_Subsets: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32]]
_Found: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], _Subsets | None]

_Limits: TypeAlias = tuple[int | None, int | None]
_Group: TypeAlias = tuple[float, float, NDArray[np.int64], NDArray[np.int64], float | None]

__all__ = [
    "BOUNDS",
    "SCOPES",
    "STATISTICS",
    "SUMMARIES",
    "TAILS",
    "TIES",
    "Background",
    "BackgroundBuilder",
    "MappedFile",
    "StandardFloats",
    "scan",
    "scan_group",
    "scan_histograms",
    "within_sample_ranks",
]

# The names that there are to choose from.
STATISTICS: tuple[str, ...]
TAILS: tuple[str, ...]
SCOPES: tuple[str, ...]
TIES: tuple[str, ...]
SUMMARIES: tuple[str, ...]
BOUNDS: tuple[str, ...]

@final
class Background:
    def __new__(cls, values: _Values, tail: str | None = None, alpha_max: float | None = None) -> Background: ...
    @staticmethod
    def from_columns(
        columns: _Values, n_samples: int, tail: str | None = None, alpha_max: float | None = None
    ) -> Background: ...
    @staticmethod
    def mapped(
        file: MappedFile,
        start: int,
        n_samples: int,
        n_nodes: int,
        dtype: str,
        tail: str | None,
        alpha_max: float | None,
        name: str,
        checksum: str | None,
    ) -> Background: ...
    @staticmethod
    def index_shape(
        n_samples: int, dtype: str, tail: str | None = None, alpha_max: float | None = None
    ) -> tuple[int, int]: ...
    def checksum(self) -> str: ...
    def index_part(self, n: int) -> bytes | None: ...
    def columns(self) -> _Values: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def n_nodes(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def tail(self) -> str | None: ...
    @property
    def alpha_max(self) -> float | None: ...
    def p_values(self, images: _Values, tail: str, ties: str, seed: int) -> NDArray[np.float64]: ...
    def p_value_ranges(self, images: _Values, tail: str) -> NDArray[np.float64]: ...
    def rank_histogram(
        self, images: _Values, membership: str, tail: str, alpha_max: float, ties: str, seed: int
    ) -> NDArray[np.uint32]: ...
    def scan(
        self,
        images: _Values,
        membership: str,
        statistic: str,
        tail: str,
        alpha_max: float,
        scope: str,
        ties: str,
        seed: int,
        return_nodes: bool,
    ) -> _Found: ...
    def nodes_within(
        self,
        images: _Values,
        up_to: NDArray[np.float64],
        membership: str,
        tail: str,
        alpha_max: float,
        ties: str,
        seed: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]: ...
    def summarise(
        self, images: _Values, membership: str, summary: str, tail: str, ties: str, seed: int
    ) -> NDArray[np.float64]: ...
    def scan_group(
        self,
        images: _Values,
        starts: NDArray[np.bool_],
        from_all_nodes: bool,
        statistic: str,
        tail: str,
        alpha_max: float,
        ties: str,
        seed: int,
        image_limits: _Limits,
        node_limits: _Limits,
        bound: str | None,
    ) -> _Group: ...

@final
class BackgroundBuilder:
    def __new__(
        cls, n_samples: int, n_nodes: int, dtype: str, tail: str | None = None, alpha_max: float | None = None
    ) -> BackgroundBuilder: ...
    @staticmethod
    def from_held(
        held: _Values, n_samples: int, n_pushed: int, tail: str | None = None, alpha_max: float | None = None
    ) -> BackgroundBuilder: ...
    @property
    def n_nodes(self) -> int: ...
    @property
    def n_pushed(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def push(self, values: _Values) -> None: ...
    def merge(self, other: BackgroundBuilder) -> None: ...
    def held(self) -> _Values: ...
    def finish(self, early: bool) -> Background: ...

@final
class MappedFile:
    def __new__(cls, path: Path) -> MappedFile: ...
    def __len__(self) -> int: ...
    def read(self, start: int, end: int) -> bytes: ...

@final
class StandardFloats:
    """Within it this thread's arithmetic is that of IEEE 754, whatever libraries have set for subnormal numbers."""

    def __new__(cls) -> StandardFloats: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_error: object) -> None: ...

def scan(p_values: NDArray[np.float64], statistic: str, alpha_max: float, scope: str, return_nodes: bool) -> _Found: ...
def scan_histograms(
    histograms: list[NDArray[np.uint32]],
    tails: list[str],
    ties: str,
    n_samples: int,
    n_nodes: int,
    statistic: str,
    alpha_max: float,
    scope: str,
) -> tuple[_Found, NDArray[np.int64]]: ...
def scan_group(
    p_values: NDArray[np.float64],
    starts: NDArray[np.bool_],
    from_all_nodes: bool,
    statistic: str,
    alpha_max: float,
    image_limits: _Limits,
    node_limits: _Limits,
    bound: str | None,
) -> _Group: ...
def within_sample_ranks(values: _Values) -> NDArray[np.float64]: ...
