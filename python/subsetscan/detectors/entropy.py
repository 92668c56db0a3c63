"""Average local spatial entropy of maps: how much a network's response is spread out, patch by patch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import entr
from sklearn.utils import check_array

from .._extras import import_extra
from .._random import RandomState
from .._validation import refuse_masked
from ..calibration import Plan
from ..persistence import State
from .base import DTYPES, CalibratedDetector

__all__ = ["DEFAULT_READING", "NORMALISATIONS", "READINGS", "LocalSpatialEntropy"]

READINGS = ("mass", "histogram", "cooccurrence")
DEFAULT_READING = "mass"  # by measurement on clean validation images: docs/decisions/0003-reading-of-entropy.md
NORMALISATIONS = ("max", "range")
_MOST_LEVELS = 1024  # with more scikit-image warns that it is slow
_PIXELS_AT_ONCE = 2**20


class LocalSpatialEntropy(CalibratedDetector):
    """Detect images by the average local spatial entropy of their feature response maps: higher is more anomalous.

    The idea is that an attack makes a network respond to a broader part of the image, so that its response is spread
    out. The score is the mean over all pixels of the entropy, in bits, of the patch around each: S = -sum h log2 h.
    Patches end at the map's border, so those around border pixels have fewer pixels. A map with channels is first made
    grey: their mean.

    The paper leaves open what h is. Three readings of it:

    * "mass": one h for each pixel of the patch: its share of the patch's sum of absolute grey values. A patch of zeros
      has entropy 0, a constant one log2 of its number of pixels. The map's scale cancels out; `levels` and `normalise`
      are not looked at.
    * "histogram": one h for each grey level: its share of the patch's pixels. Computed by scikit-image's rank entropy.
    * "cooccurrence": one h for each ordered pair of grey levels: its share of the pairs of pixels that lie side by side
      or one above the other in the patch, each counted in both orders. A constant patch has entropy 0.

    The default was chosen on clean validation images only. There "mass" tells images that a classifier gets wrong from
    others of their class no worse than the best, within the error, as all do: none is better than chance. It has no
    parameter but the patch, and needs no extra. On attacked images the choice matters much, and "mass" is not the best:
    see docs/decisions/0003-reading-of-entropy.md.

    The score of a map does not depend on other maps. So the whole of the fit is calibration, and "leave-one-out", the
    default here, takes the scores of all clean images as null scores with the same guarantee as "holdout".

    Parameters
    ----------
    shape : tuple of int
        In which shape the J nodes lie: (H, W) or (H, W, C), as a space's `node_shapes` has it.
    patch : int, default 3
        Side of a patch in pixels: odd, at least 3, and no larger than the map.
    reading : {"mass", "histogram", "cooccurrence"}, default "mass"
    levels : int, default 16
        Number of grey levels, from 2 to 1024. A value v in [0, 1] has level min(floor(v levels), levels - 1).
    normalise : {"max", "range"} or float, default "max"
        How grey values g come into [0, 1]. "max": |g| divided by its largest value in the map; "range": g minus the
        map's smallest, divided by the difference to the largest, which keeps signs apart; a number: |g| divided by it,
        at most 1, the same for all maps. A map of zeros, or under "range" a constant one, has level 0 everywhere.
    calibration : {"leave-one-out", "holdout", None}, default "leave-one-out"
    calibration_fraction, false_positive_rate, random_state
        As for `SubsetScanDetector`.

    Attributes
    ----------
    null_scores_ : ndarray of shape (n,), float64
    offset_ : float
    n_features_in_ : int

    References
    ----------
    M. Amirian, F. Schwenker, T. Stadelmann, Trace and Detect Adversarial Attacks on CNNs using Feature Response Maps,
    2018, arXiv:2208.11436. R. M. Haralick, K. Shanmugam, I. Dinstein, Textural Features for Image Classification, 1973,
    for co-occurrence, DOI 10.1109/TSMC.1973.4309314.

    Examples
    --------
    >>> import numpy as np
    >>> narrow = np.zeros((3, 3))
    >>> narrow[1, 1] = 5
    >>> LocalSpatialEntropy((3, 3)).entropy_map([narrow, np.ones((3, 3))]).round(2)
    array([[[0. , 0. , 0. ], [0. , 0. , 0. ], [0. , 0. , 0. ]],
           [[2. , 2.58, 2. ], [2.58, 3.17, 2.58], [2. , 2.58, 2. ]]])
    >>> rng = np.random.default_rng(0)
    >>> clean, spread = rng.exponential(size=(200, 64)), rng.uniform(1, 2, size=(3, 64))
    >>> LocalSpatialEntropy((8, 8)).fit(clean).predict(spread)
    array([-1, -1, -1])
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        patch: int = 3,
        reading: str = DEFAULT_READING,
        levels: int = 16,
        normalise: str | float = "max",
        calibration: str | None = "leave-one-out",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: RandomState = None,
    ) -> None:
        self.shape = shape
        self.patch = patch
        self.reading = reading
        self.levels = levels
        self.normalise = normalise
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def start_fit(self, shares: Plan, y: Any = None) -> _EntropyFit:  # noqa: D102 (the base says it)
        del shares, y
        return _EntropyFit(self, self._patch_entropy())

    def anomaly_score(self, X: Any, y: None = None) -> np.ndarray:
        """Compute the average local spatial entropy of each map in bits, float64 of shape (N,).

        Parameters
        ----------
        X : array-like of shape (N, J)
        y : None
            Ignored.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, or the number of nodes is not that of the shape.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ModuleNotFoundError
            For the reading "histogram", if scikit-image is not installed.
        """
        del y
        X = self.check_values(X)
        return self._entropy.scores(X)

    def entropy_map(self, maps: Any) -> np.ndarray:
        """Compute the entropy of the patch around each pixel in bits, by the parameters as they are; no fit is needed.

        Parameters
        ----------
        maps : array-like of shape (N, J), (N, H, W) or (N, H, W, C)

        Returns
        -------
        ndarray of shape (N, H, W), float64
            The mean of each is its score.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, the maps have another shape, or a parameter has an invalid value.
        ModuleNotFoundError
            As for `anomaly_score`.
        """
        entropy = self._patch_entropy()
        refuse_masked(maps, "maps")
        maps = np.asarray(maps)
        if maps.ndim != 2 and maps.shape[1:] == entropy.shape:
            maps = maps.reshape(len(maps), math.prod(entropy.shape))
        if maps.ndim != 2:
            raise ValueError(f"expected maps of shape (N, {', '.join(map(str, entropy.shape))}), got {maps.shape}")
        return entropy.maps(entropy.check(maps))

    def _patch_entropy(self) -> _PatchEntropy:
        return _PatchEntropy(tuple(self.shape), self.patch, self.reading, self.levels, self.normalise)

    def _state(self) -> State:
        description, tensors = self._common_state()
        description["parameters"]["shape"] = [int(n) for n in self.shape]
        return description | {"options": asdict(self._entropy), "dtype": getattr(self, "dtype_", None)}, tensors

    @classmethod
    def _new(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> LocalSpatialEntropy:
        parameters = dict(description["parameters"])
        detector = cls(tuple(parameters.pop("shape")), **parameters)
        detector._take_entropy(_PatchEntropy(**description["options"]))
        if dtype := description.get("dtype"):
            if dtype not in (known := [np.dtype(one).name for one in DTYPES]):
                raise ValueError(f"maps are of {', '.join(known)}, got {dtype!r:.80}")
            detector.dtype_ = dtype
        return detector

    def _check_scoring(self, n_values: int) -> None:
        """Look at nothing more: the entropy has checked its options, and keeps no values to score by."""

    def _take_entropy(self, entropy: _PatchEntropy) -> None:
        self._entropy = entropy
        self.n_features_in_ = math.prod(entropy.shape)


class _EntropyFit:
    """A fit of `LocalSpatialEntropy`, batch by batch; see `Fit`. There is no background: it is only looked at."""

    def __init__(self, detector: LocalSpatialEntropy, entropy: _PatchEntropy) -> None:
        self._detector = detector
        self._entropy = entropy
        self._dtype: np.dtype | None = None
        self._null_scores: list[np.ndarray] = []

    def add_background(self, X: np.ndarray, y: Any = None) -> None:
        del y
        self._dtype = self._entropy.check(X).dtype

    def add_calibration(self, X: np.ndarray, y: Any = None) -> None:
        del y
        self._null_scores.append(self._entropy.scores(self._entropy.check(X)))

    def finish(self) -> LocalSpatialEntropy:
        self._detector._take_entropy(self._entropy)
        if self._dtype is not None and self._entropy.reading != "mass":
            self._detector.dtype_ = self._dtype.name  # where grey levels meet, rounding makes another one
        self._detector._take_null_scores(np.concatenate([*self._null_scores, np.empty(0)]))
        return self._detector


@dataclass(frozen=True)
class _PatchEntropy:
    """The entropy of patches, with parameters that are as `LocalSpatialEntropy` lists them."""

    shape: tuple[int, ...]  # JSON makes it a list
    patch: int
    reading: str
    levels: int
    normalise: str | float

    def __post_init__(self) -> None:
        shape = self.shape
        if len(shape) not in (2, 3) or not all(isinstance(n, Integral) and n > 0 for n in shape):
            raise ValueError(f"shape must be (H, W) or (H, W, C), got {tuple(shape)}")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        if not isinstance(self.patch, Integral) or not 3 <= self.patch <= min(shape[:2]) or self.patch % 2 == 0:
            raise ValueError(
                f"patch must be an odd number, at least 3 and no more than the map's {shape[0]} x {shape[1]} pixels, "
                f"got {self.patch!r}"
            )
        if self.reading not in READINGS:
            raise ValueError(f"unknown reading {self.reading!r}; known are {', '.join(READINGS)}")
        if not isinstance(self.levels, Integral) or not 2 <= self.levels <= _MOST_LEVELS:
            raise ValueError(f"levels must be a whole number from 2 to {_MOST_LEVELS}, got {self.levels!r}")
        if isinstance(self.normalise, str):
            if self.normalise not in NORMALISATIONS:
                raise ValueError(f"unknown normalisation {self.normalise!r}; known are max, range, or a number")
        elif not isinstance(self.normalise, Real) or not 0 < self.normalise < math.inf:
            raise ValueError(f"normalise must be max, range, or a positive number, got {self.normalise!r}")

    def check(self, X: np.ndarray) -> np.ndarray:
        """Take rows of nodes. Raises ValueError if a value is not finite, or for another number of nodes."""
        X = check_array(X, dtype=DTYPES, ensure_min_samples=0)
        if X.shape[1] != math.prod(self.shape):
            raise ValueError(f"maps of shape {self.shape} have {math.prod(self.shape)} nodes, got {X.shape[1]}")
        return X

    def scores(self, X: np.ndarray) -> np.ndarray:
        """Average the entropy over each map, (N, J) to (N,)."""
        parts = [self._some(rows).reshape(len(rows), -1).mean(axis=1) for rows in self._at_once(X)]
        return np.concatenate([*parts, np.empty(0)])

    def maps(self, X: np.ndarray) -> np.ndarray:
        """Compute the entropy around each pixel, (N, J) to (N, H, W)."""
        return np.concatenate([*map(self._some, self._at_once(X)), np.empty((0, *self.shape[:2]))])

    def _at_once(self, X: np.ndarray) -> list[np.ndarray]:
        # All pairs of a patch are in memory at once; the other readings take no more than a few maps.
        for_each_pixel = self.patch**2 if self.reading == "cooccurrence" else 1
        n = max(1, _PIXELS_AT_ONCE // (math.prod(self.shape[:2]) * for_each_pixel))
        return [X[start : start + n] for start in range(0, len(X), n)]

    def _some(self, X: np.ndarray) -> np.ndarray:
        grey = X.reshape(len(X), *self.shape).astype(np.float64)
        if grey.ndim == 4:
            grey = grey.mean(axis=3)
        if self.reading == "mass":
            return _mass_entropy(grey, self.patch)
        levels = np.minimum(np.floor(self._unit(grey) * self.levels), self.levels - 1)
        if self.reading == "histogram":
            return _histogram_entropy(levels.astype(np.uint16), self.patch)
        return _cooccurrence_entropy(levels.astype(np.int32), self.patch, self.levels)

    def _unit(self, grey: np.ndarray) -> np.ndarray:
        """Bring grey values into [0, 1]."""
        if self.normalise == "range":
            grey = grey - grey.min(axis=(1, 2), keepdims=True)
        grey = np.abs(grey)
        if isinstance(self.normalise, str):
            return _divided(grey, grey.max(axis=(1, 2), keepdims=True))
        return np.minimum(grey / float(self.normalise), 1)


def _divided(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Divide, with 0 / 0 = 0."""
    return np.divide(values, by, out=np.zeros_like(values), where=by > 0)


def _mass_entropy(grey: np.ndarray, patch: int) -> np.ndarray:
    grey = np.abs(grey)
    grey = _divided(grey, grey.max(axis=(1, 2), keepdims=True))  # so that no sum overflows
    reach = patch // 2
    # Zeros beyond the border change neither the sum nor the entropy.
    padded = np.pad(grey, ((0, 0), (reach, reach), (reach, reach)))
    _, height, width = grey.shape
    parts = [padded[:, y : y + height, x : x + width] for y in range(patch) for x in range(patch)]
    total, entropy = np.zeros_like(grey), np.zeros_like(grey)
    for part in parts:
        total += part
    for part in parts:
        entropy += entr(_divided(part, total))
    return entropy / math.log(2)


def _histogram_entropy(levels: np.ndarray, patch: int) -> np.ndarray:
    # Of scikit-image's rank filters: the footprint ends at the border, as patches do here; it must be no larger than
    # the image, else its counts can be wrong; 8-bit images always take 256 bins, 16-bit ones as many as there are
    # levels, with the same result in less time.
    rank = import_extra("skimage.filters.rank", "responses")
    footprint = np.ones((patch, patch), np.uint8)
    return np.stack([rank.entropy(image, footprint) for image in levels])


def _cooccurrence_entropy(levels: np.ndarray, patch: int, n_levels: int) -> np.ndarray:
    reach, missing = patch // 2, -1
    beside, below = (levels[:, :, :-1], levels[:, :, 1:]), (levels[:, :-1], levels[:, 1:])
    pairs = []
    for (one, other), window in ((beside, (patch, patch - 1)), (below, (patch - 1, patch))):
        codes = np.minimum(one, other) * n_levels + np.maximum(one, other)
        codes = np.pad(codes, ((0, 0), (reach, reach), (reach, reach)), constant_values=missing)
        pairs.append(sliding_window_view(codes, window, axis=(1, 2)).reshape(*levels.shape, -1))
    codes = np.concatenate(pairs, axis=3)  # of all pairs in each patch, whatever their order
    codes.sort(axis=3)
    present = codes != missing
    n_pairs = present.sum(axis=3)
    # Equal pairs now lie side by side. A patch's last code ends a run, so that none reaches into the next patch.
    ends_run = np.ones(codes.shape, bool)
    np.not_equal(codes[..., 1:], codes[..., :-1], out=ends_run[..., :-1])
    ends = np.flatnonzero(ends_run)
    n_equal = np.diff(ends, prepend=-1)
    logarithms = np.where(present.ravel()[ends], n_equal * np.log2(n_equal), 0)
    logarithms = np.bincount(ends // codes.shape[3], logarithms).reshape(levels.shape)
    # In both orders a pair of two levels is two cells, each of half the share: one bit more.
    unequal = present & (codes // n_levels != codes % n_levels)
    return np.maximum(np.log2(n_pairs) - logarithms / n_pairs, 0) + unequal.sum(axis=3) / n_pairs
