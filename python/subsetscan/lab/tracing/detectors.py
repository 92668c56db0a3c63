"""Every detector that is compared: over feature responses, over what controls them, and those of other people."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...detectors import CalibratedDetector, CombinedDetector, LocalSpatialEntropy, SubsetScanDetector
from ...detectors.entropy import READINGS
from ...spaces import ClassifierMargin, FeatureResponse, Pixels, Space
from ..comparators import FeatureSqueezing, HiddenDensity
from ..kept import Arrays
from ..reproduction.scores import NULL

if TYPE_CHECKING:
    import keras

__all__ = ["DETECTORS", "ENTROPY", "PRESET", "score_everything", "seconds_per_thousand", "with_random_weights"]

_TAILS = ("upper", "lower", "two-sided")
ENTROPY = "entropy of the response"
_SCANS = {tail: f"{tail} scan of the response" for tail in _TAILS}
_HYBRIDS = {tail: f"entropy and {tail} scan of the response" for tail in ("upper", "two-sided")}
_OF_RANDOM, _OF_IMAGE = "entropy of a random network's response", "entropy of the image"
_SQUEEZING, _DENSITY, _MARGIN = "feature squeezing", "density of the last hidden layer", "classifier margin"
PRESET = "preset"
DETECTORS = (ENTROPY, *_SCANS.values(), *_HYBRIDS.values(), _OF_IMAGE, _OF_RANDOM, _SQUEEZING, _DENSITY, _MARGIN)


def score_everything(
    classifier: keras.Model,
    background: np.ndarray,
    sets: Mapping[str, np.ndarray],
    on_images: Callable[[int], object] = lambda n_done: None,
) -> Arrays:
    """Fit every detector on a background, and score sets of images.

    Parameters
    ----------
    classifier : keras.Model
    background : ndarray of shape (M, H, W, C)
    sets : mapping of str to ndarray of shape (n, H, W, C)
    on_images : callable
        Called with the number of images that are done, those of the background and of all sets.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64
        By set and detector, as ``clean|feature squeezing``; higher is more anomalous. Under ``background`` the scores
        of clean images from which thresholds come.
    """
    images = {NULL: background} | dict(sets)
    response = FeatureResponse(classifier)
    random_response = FeatureResponse(with_random_weights(classifier))
    (shape,) = response.node_shapes.values()
    entropy = LocalSpatialEntropy(shape)
    scans = {tail: SubsetScanDetector(tail=tail, calibration="leave-one-out") for tail in _TAILS}
    of_response: dict[str, CalibratedDetector] = {ENTROPY: entropy}
    of_response |= {_SCANS[tail]: scan for tail, scan in scans.items()}
    for tail, name in _HYBRIDS.items():
        of_response[name] = CombinedDetector([entropy, scans[tail]], combine="fisher", random_state=0)
    found = _of_space(response, of_response, images, on_images)
    found |= _of_space(random_response, {_OF_RANDOM: LocalSpatialEntropy(shape)}, images)
    found |= _of_space(Pixels(shape), {_OF_IMAGE: LocalSpatialEntropy(shape)}, images)
    margin, squeezing = ClassifierMargin(classifier), FeatureSqueezing(classifier)
    n_fitted = 3 * len(background) // 4  # the others calibrate
    density = HiddenDensity(classifier).fit(background[:n_fitted])
    for kind, own in images.items():
        (margins,) = margin.transform(own).values()
        found[f"{kind}|{_MARGIN}"] = margins[:, 0].astype(np.float64)
        found[f"{kind}|{_SQUEEZING}"] = squeezing.score(own)
        found[f"{kind}|{_DENSITY}"] = density.score(own[n_fitted:] if kind == NULL else own)
    return found


def _of_space(
    space: Space,
    detectors: Mapping[str, CalibratedDetector],
    images: Mapping[str, np.ndarray],
    on_images: Callable[[int], object] = lambda n_done: None,
) -> Arrays:
    """Fit detectors on the background's values in a space, and score those of every set."""
    found: Arrays = {}
    for kind, own in images.items():
        (values,) = space.transform(own).values()
        for name, detector in detectors.items():
            found[f"{kind}|{name}"] = (
                detector.fit(values).null_scores_ if kind == NULL else detector.anomaly_score(values)
            )
        on_images(len(own))
    return found


def with_random_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    """Clone a model, each of its arrays of weights in random order: what it learned is gone, their sizes are not."""
    import keras

    rng = np.random.default_rng(seed)
    clone = keras.models.clone_model(model)
    clone.set_weights([rng.permuted(weights.ravel()).reshape(weights.shape) for weights in model.get_weights()])
    return clone


def seconds_per_thousand(classifier: keras.Model, images: np.ndarray) -> dict[str, float]:
    """Measure what 1,000 images take: their maps, and the entropy of those in each reading, once each is warm."""
    response = FeatureResponse(classifier)
    (shape,) = response.node_shapes.values()
    response.transform(images[:1])
    seconds = {}
    started = time.perf_counter()
    (values,) = response.transform(images).values()
    seconds["response"] = time.perf_counter() - started
    for reading in READINGS:
        detector = LocalSpatialEntropy(shape, reading=reading).fit(values[:30])
        started = time.perf_counter()
        detector.anomaly_score(values)
        seconds[f"entropy, {reading}"] = time.perf_counter() - started
    return {name: 1000 * taken / len(images) for name, taken in seconds.items()}
