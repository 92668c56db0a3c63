"""The pairs of spaces and detectors: over feature responses, over what controls them, and those of other people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ...calibration import Plan
from ...detectors import CombinedDetector, Detector, LocalSpatialEntropy, OutlierDetector, SubsetScanDetector
from ...detectors.entropy import READINGS
from ...spaces import ClassifierMargin, FeatureResponse, Pixels, Space
from ..comparators import ClassDensity, FeatureSqueezing, HiddenLayer, MeanValue
from ..experiment.scoring import Pair

if TYPE_CHECKING:
    import keras

__all__ = ["CONTROLS", "DETECTORS", "ENTROPY", "SCANS", "pairs_of", "seconds_per_thousand", "with_random_weights"]

_TAILS = ("upper", "lower", "two-sided")
ENTROPY = Pair("entropy of the response")
_SCANS = {tail: Pair(f"{tail} scan of the response") for tail in _TAILS}
_HYBRIDS = {tail: Pair(f"entropy and {tail} scan of the response") for tail in ("upper", "two-sided")}
SCANS = (*_SCANS.values(), *_HYBRIDS.values())
_OF_RANDOM, _OF_IMAGE = Pair("entropy of a random network's response"), Pair("entropy of the image")
CONTROLS = (_OF_IMAGE, _OF_RANDOM)
_SQUEEZING, _MARGIN = Pair("feature squeezing"), Pair("classifier margin")
_DENSITY = Pair("density of the last hidden layer")
DETECTORS = (ENTROPY, *SCANS, *CONTROLS, _SQUEEZING, _DENSITY, _MARGIN)


class _LastQuarterCalibrates(OutlierDetector):
    """An estimator whose fit takes the first three quarters of the clean images: so were the published numbers made."""

    def plan(self, n_samples: int, y: Any = None) -> Plan:
        del y
        background, calibration = np.split(np.arange(n_samples), [3 * n_samples // 4])
        return Plan(background, calibration, leave_one_out=False)


def pairs_of(classifier: keras.Model) -> dict[Pair, tuple[Space, Detector]]:
    """Make every pair that is compared, for one classifier."""
    response = FeatureResponse(classifier)
    (shape,) = response.node_shapes.values()
    entropy = LocalSpatialEntropy(shape)
    scans = {tail: SubsetScanDetector(tail=tail, calibration="leave-one-out") for tail in _TAILS}
    hidden = HiddenLayer(classifier)
    found: dict[Pair, tuple[Space, Detector]] = {ENTROPY: (response, entropy)}
    found |= {_SCANS[tail]: (response, scan) for tail, scan in scans.items()}
    for tail, pair in _HYBRIDS.items():
        found[pair] = response, CombinedDetector([entropy, scans[tail]], combine="fisher", random_state=0)
    found[_OF_IMAGE] = Pixels(shape), entropy
    found[_OF_RANDOM] = FeatureResponse(with_random_weights(classifier), name="response of a random network"), entropy
    found[_SQUEEZING] = FeatureSqueezing(classifier), MeanValue()
    found[_DENSITY] = hidden, _LastQuarterCalibrates(ClassDensity(hidden.n_classes))
    found[_MARGIN] = ClassifierMargin(classifier), MeanValue()
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
