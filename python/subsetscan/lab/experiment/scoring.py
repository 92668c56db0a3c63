"""The one loop of all experiments: fit each detector on a space's values of clean images, and score sets of images."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import gen_batches

from ...background import Background
from ...builder import BackgroundBuilder
from ...calibration import conformal_p_values, null_p_values
from ...combination import combined_scores
from ...detectors import Detector
from ...detectors.batches import Fit
from ...detectors.ranked import BackgroundDetector, StreamedFit
from ...spaces import Space, join
from ..result_cache import Arrays, ResultCache, fingerprint, fingerprint_of_model

if TYPE_CHECKING:
    import keras

__all__ = ["NULL", "Key", "Pair", "Pairs", "Scores", "combined", "score", "score_once"]

NULL = "background"  # the clean images from which thresholds come
_BATCH = 256


@dataclass(frozen=True, order=True)
class Pair:
    """The name of a space and a detector.

    Attributes
    ----------
    space : str
        The space or, where the detector is not a scan, one name for both, such as "feature squeezing".
    statistic, tail : str
        How the space is scanned; empty where the detector is not a scan.
    """

    space: str
    statistic: str = ""
    tail: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.space, self.statistic, self.tail)))


@dataclass(frozen=True, order=True)
class Key:
    """What an array of scores is of: a set of images, a pair, and whether it holds a "score", "size" or "alpha"."""

    images: str
    pair: Pair
    what: str = "score"


Pairs = Mapping[Pair, tuple[Space, Detector]]


@dataclass(frozen=True)
class Scores:
    """Scores of sets of images, float64 of shape (n,) for each set and pair: higher is more anomalous.

    Beside them are the sizes and thresholds of the subsets that scans found, where they were asked for.
    """

    arrays: Mapping[Key, np.ndarray]

    def of(self, images: str, pair: Pair, what: str = "score") -> np.ndarray:
        """Return the scores of a set by a pair. Raises KeyError if there are none."""
        return self.arrays[Key(images, pair, what)]

    def get(self, images: str, pair: Pair) -> np.ndarray | None:
        """Return the scores of a set by a pair, or None if there are none."""
        return self.arrays.get(Key(images, pair))

    def sets(self) -> list[str]:
        """Return the names of the sets, each once."""
        return list(dict.fromkeys(key.images for key in self.arrays))

    def pairs(self) -> list[Pair]:
        """Return the pairs, each once."""
        return list(dict.fromkeys(key.pair for key in self.arrays))

    def __or__(self, others: Scores) -> Scores:
        return Scores({**self.arrays, **others.arrays})

    def to_named(self) -> Arrays:
        """Return the arrays under the names that they have in files, which tell their order too."""
        return {
            json.dumps([n, key.images, key.pair.space, key.pair.statistic, key.pair.tail, key.what]): array
            for n, (key, array) in enumerate(self.arrays.items())
        }

    @classmethod
    def from_named(cls, arrays: Arrays) -> Scores:
        """Take up what `to_named` returned, in any order."""
        found = {}
        for _, images, space, statistic, tail, what, array in sorted(
            ((*json.loads(name), array) for name, array in arrays.items()), key=lambda one: one[0]
        ):
            found[Key(images, Pair(space, statistic, tail), what)] = array
        return cls(found)


def score(
    pairs: Pairs,
    background: np.ndarray,
    sets: Mapping[str, np.ndarray],
    *,
    subsets: Collection[Pair] = (),
    on_images: Callable[[int], object] = lambda n_done: None,
) -> Scores:
    """Fit the detector of each pair on clean images, and score sets of images.

    Spaces over the same network share their passes, and scans of the same values share their background, where all
    clean images are in it. Images pass in batches, the background twice: to fit, and to calibrate.

    Parameters
    ----------
    pairs : mapping of Pair to (Space, Detector)
        A space of several arrays stands for the one that is named as the pair's space. Clones of the detectors are
        fitted.
    background : ndarray of shape (M, ...)
        The clean images.
    sets : mapping of str to ndarray of shape (n, ...)
    subsets : collection of Pair
        The scans of which sizes and thresholds of the subsets are returned as well.
    on_images : callable
        Called with the number of images that are done: those of the background twice, and those of all sets.

    Returns
    -------
    Scores
        In the order of the pairs. Null scores of detectors that are calibrated are under the set `NULL`.

    Raises
    ------
    ValueError
        If a space does not have the array of its pair, two spaces have arrays of the same name, or a set is named
        `NULL` beside detectors that are calibrated.
    """
    spaces = join(list({id(space): space for space, _ in pairs.values()}.values()))
    of_arrays: dict[str, dict[Pair, Detector]] = {}
    for pair, (space, detector) in pairs.items():
        of_arrays.setdefault(_array_of(pair, space), {})[pair] = clone(detector)
    fits = {name: _Fits(detectors, len(background)) for name, detectors in of_arrays.items()}
    for rows, values in _batches(spaces, background, on_images):
        for name, fit in fits.items():
            fit.add_background(values[name], rows)
    if any(fit.calibrates for fit in fits.values()):
        for rows, values in _batches(spaces, background, on_images):
            for name, fit in fits.items():
                fit.add_calibration(values[name], rows)
    else:
        on_images(len(background))
    fitted = {name: fit.finish() for name, fit in fits.items()}
    found: dict[Key, list[np.ndarray]] = {}
    for detectors in fitted.values():
        found |= {Key(NULL, pair): [one.null_scores_] for pair, one in detectors.items() if one.is_calibrated}
    if NULL in sets and found:
        raise ValueError(f"no set may be named {NULL!r} where detectors are calibrated: it is the name of null scores")
    for images, own in sets.items():
        for _, values in _batches(spaces, own, on_images):
            for name, detectors in fitted.items():
                for pair, detector in detectors.items():
                    for what, array in _scored(detector, values[name], pair in subsets).items():
                        found.setdefault(Key(images, pair, what), []).append(array)
    order = {pair: n for n, pair in enumerate(pairs)}
    return Scores({key: np.concatenate(found[key]) for key in sorted(found, key=lambda key: order[key.pair])})


def score_once(
    cache: ResultCache,
    name: str,
    pairs: Callable[[], Pairs],
    background: np.ndarray,
    sets: Mapping[str, np.ndarray],
    *,
    models: Sequence[keras.Model],
    **options: Any,
) -> Scores:
    """Score as `score` does, and keep the result under a name; return it where it is kept and made from the same.

    Parameters
    ----------
    cache : ResultCache
    name : str
    pairs : callable
        Makes the pairs, if they are needed.
    background, sets
        As for `score`.
    models : sequence of keras.Model
        The networks that the spaces read.
    **options
        Passed on to `score`.
    """
    made_from = {
        "models": [fingerprint_of_model(model) for model in models],
        "background": fingerprint(background),
        "sets": {images: fingerprint(own) for images, own in sets.items()},
    }
    return Scores.from_named(
        cache.get_or_make(name, made_from, lambda: score(pairs(), background, sets, **options).to_named())
    )


def combined(scores: Scores, parts: Collection[Pair], combine: str, name: Pair) -> Scores:
    """Combine the calibrated p-values of several pairs to scores of a pair of their own.

    Parameters
    ----------
    scores : Scores
        Of pairs whose detectors held out the same clean images for calibration.
    parts : collection of Pair
    combine : {"min", "fisher", "cauchy"}
        See `subsetscan.combination.combined_scores`.
    name : Pair
    """
    found = {}
    for images in scores.sets():
        columns = []
        for pair in parts:
            null = scores.of(NULL, pair)
            columns.append(null_p_values(null) if images == NULL else conformal_p_values(scores.of(images, pair), null))
        found[Key(images, name)] = combined_scores(np.column_stack(columns), combine)
    return Scores(found)


def _array_of(pair: Pair, space: Space) -> str:
    if pair.space in space.names:
        return pair.space
    if len(space.names) != 1:
        raise ValueError(f"the space of {pair} has several arrays, none of its name: {', '.join(space.names)}")
    return space.names[0]


def _batches(
    spaces: Sequence[Space], images: np.ndarray, on_images: Callable[[int], object]
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    for rows in gen_batches(len(images), _BATCH) if len(images) else [slice(0, 0)]:  # an empty set has empty scores
        values: dict[str, np.ndarray] = {}
        for space in spaces:
            values |= space.transform(images[rows])
        yield rows, values
        on_images(rows.stop - rows.start)


def _scored(detector: Detector, values: np.ndarray, with_subsets: bool) -> dict[str, np.ndarray]:
    if not with_subsets:
        return {"score": detector.anomaly_score(values)}
    result = detector.scan(values)
    return {"score": result.scores, "size": result.sizes, "alpha": result.alphas}


class _Fits:
    """The fits of all detectors of one array of node values."""

    def __init__(self, detectors: Mapping[Pair, Detector], n: int) -> None:
        self._shared: _SharedBackground | None = None
        self._plans = {pair: detector.plan(n) for pair, detector in detectors.items()}
        self._fits: dict[Pair, Fit] = {}
        for pair, detector in detectors.items():
            if isinstance(detector, BackgroundDetector) and len(self._plans[pair].background) == n:
                self._shared = self._shared or _SharedBackground(n)
                self._fits[pair] = _SharedFit(detector, n, self._shared)
            else:
                self._fits[pair] = detector.start_fit(self._plans[pair])

    @property
    def calibrates(self) -> bool:
        return any(len(plan.calibration) for plan in self._plans.values())

    def add_background(self, values: np.ndarray, rows: slice) -> None:
        if self._shared is not None:
            self._shared.add(values)
        for pair, fit in self._fits.items():
            if len(own := _within(self._plans[pair].background, rows)):
                fit.add_background(values[own])

    def add_calibration(self, values: np.ndarray, rows: slice) -> None:
        for pair, fit in self._fits.items():
            if len(own := _within(self._plans[pair].calibration, rows)):
                fit.add_calibration(values[own])

    def finish(self) -> dict[Pair, Any]:
        return {pair: fit.finish() for pair, fit in self._fits.items()}


def _within(chosen: np.ndarray, rows: slice) -> np.ndarray:
    """Return which rows of a batch are chosen, `chosen` being rows of all batches."""
    return chosen[(chosen >= rows.start) & (chosen < rows.stop)] - rows.start


class _SharedBackground:
    """A background that is built once for several detectors."""

    def __init__(self, n: int) -> None:
        self._builder = BackgroundBuilder(n)

    def add(self, values: np.ndarray) -> None:
        self._builder.add(values)

    @cached_property
    def background(self) -> Background:
        return self._builder.finish()


class _SharedFit(StreamedFit):
    """The fit of a detector whose background is shared: it adds no images to it."""

    def __init__(self, detector: BackgroundDetector, n: int, shared: _SharedBackground) -> None:
        super().__init__(detector, n)
        self._shared = shared

    def add_background(self, X: np.ndarray, y: Any = None) -> None:
        del X, y

    @property
    def background(self) -> Background:
        return self._shared.background
