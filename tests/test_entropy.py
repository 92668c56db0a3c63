"""Local spatial entropy, in each reading, against loops in plain Python; and the detector around it."""

import math
from collections import Counter

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from subsetscan import SubsetScanDetector
from subsetscan.calibration import conformal_p_values, plan
from subsetscan.detectors import ClassConditionalDetector, CombinedDetector, LocalSpatialEntropy, load_detector
from subsetscan.detectors.entropy import DEFAULT_READING, READINGS

SHAPES = [(3, 3), (3, 7), (6, 3), (5, 5), (7, 8)]
NORMALISATIONS = ["max", "range", 1.5]


def entropy_of(counts):
    total = sum(counts)
    return -sum(n / total * math.log2(n / total) for n in counts if n > 0)


def patches(height, width, patch):
    """For each pixel the pixels of the patch around it that lie in the map."""
    reach = patch // 2
    for row in range(height):
        for column in range(width):
            yield (
                (row, column),
                [
                    (y, x)
                    for y in range(row - reach, row + reach + 1)
                    for x in range(column - reach, column + reach + 1)
                    if 0 <= y < height and 0 <= x < width
                ],
            )


def grey_levels(grey, levels, normalise):
    if normalise == "range":
        lowest = grey.min()
        grey = grey - lowest
    grey = abs(grey)
    highest = grey.max() if isinstance(normalise, str) else normalise
    result = {}
    for pixel, value in np.ndenumerate(grey):
        unit = min(value / highest, 1) if highest > 0 else 0
        result[pixel] = min(math.floor(unit * levels), levels - 1)
    return result


def loop(image, patch, reading, levels=16, normalise="max"):
    grey = image.astype(float)
    if grey.ndim == 3:
        grey = grey.sum(axis=2) / grey.shape[2]
    level = grey_levels(grey, levels, normalise)
    result = np.empty(grey.shape)
    for centre, pixels in patches(*grey.shape, patch):
        if reading == "mass":
            counts = [abs(grey[pixel]) for pixel in pixels]
        elif reading == "histogram":
            counts = Counter(level[pixel] for pixel in pixels).values()
        else:
            cells = Counter()
            for y, x in pixels:
                for other in ((y, x + 1), (y + 1, x)):
                    if other in pixels:
                        cells[level[y, x], level[other]] += 1
                        cells[level[other], level[y, x]] += 1
            counts = cells.values()
        result[centre] = entropy_of(counts) if sum(counts) else 0
    return result


def some_maps(rng, shape):
    ordinary = rng.normal(size=(3, *shape))
    sparse = np.maximum(rng.normal(size=(2, *shape)) - 0.8, 0)
    single = np.zeros((1, *shape))
    single[0, 0, -1] = -2.0
    constant = np.full((2, *shape), [[[0.7]], [[-0.7]]])
    return np.concatenate([ordinary, sparse, rng.integers(-2, 3, (2, *shape)), single, constant, np.zeros((1, *shape))])


def detector_of(shape, reading, **parameters):
    if reading == "histogram":
        pytest.importorskip("skimage")
    return LocalSpatialEntropy(shape, reading=reading, **parameters)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_reading_is_that_of_the_loops(rng, reading, shape):
    maps = some_maps(rng, shape)
    for patch in (3, 5, 7):
        if patch > min(shape):
            continue
        for normalise in NORMALISATIONS:
            for levels in (2, 5, 16, 300):
                detector = detector_of(shape, reading, patch=patch, normalise=normalise, levels=levels)
                found = detector.entropy_map(maps)
                assert found.dtype == np.float64
                assert found.shape == maps.shape
                expected = [loop(image, patch, reading, levels, normalise) for image in maps]
                assert np.allclose(found, expected, rtol=0, atol=1e-12)
                assert (found >= 0).all()


@pytest.mark.parametrize("reading", READINGS)
def test_channels_are_averaged(rng, reading):
    maps = rng.normal(size=(3, 5, 4, 3))
    detector = detector_of((5, 4, 3), reading)
    expected = [loop(image, 3, reading) for image in maps]
    assert np.allclose(detector.entropy_map(maps), expected, rtol=0, atol=1e-12)
    assert np.array_equal(detector.entropy_map(maps.reshape(3, -1)), detector.entropy_map(maps))
    one = detector_of((5, 4, 1), reading).entropy_map(maps[..., :1])
    assert np.array_equal(one, detector_of((5, 4), reading).entropy_map(maps[..., 0]))


@pytest.mark.parametrize(
    ("reading", "zeros", "constant"), [("mass", 0, math.log2(9)), ("histogram", 0, 0), ("cooccurrence", 0, 0)]
)
def test_by_hand(reading, zeros, constant):
    middle = detector_of((3, 3), reading).entropy_map([np.zeros((3, 3)), np.full((3, 3), 0.1)])[:, 1, 1]
    assert middle == pytest.approx([zeros, constant], abs=1e-12)
    half = np.repeat([[1.0], [0.0]], [4, 5], axis=0).reshape(3, 3)
    expected = {
        "mass": 2,  # four pixels of the same value
        "histogram": entropy_of([4, 5]),
        # 111 / 100 / 000: both 1 in 3 pairs (6 in both orders), both 0 in 5, unequal in 4
        "cooccurrence": entropy_of([6, 10, 4, 4]),
    }
    assert detector_of((3, 3), reading).entropy_map([half])[0, 1, 1] == pytest.approx(expected[reading], abs=1e-12)


@pytest.mark.parametrize("reading", READINGS)
def test_scale_and_type(rng, reading):
    maps = rng.integers(-8, 9, size=(4, 6, 6)).astype(np.float64)
    detector = detector_of((6, 6), reading)
    expected = detector.entropy_map(maps)
    for dtype in (np.float16, np.float32, np.int8):
        assert np.array_equal(detector.entropy_map(maps.astype(dtype)), expected)
    for scale in (2.0**-300, 2.0**300, -1.0):
        assert np.allclose(detector.entropy_map(maps * scale), expected, rtol=0, atol=1e-12)
    if reading != "mass":
        fixed = detector_of((6, 6), reading, normalise=8.0)
        assert fixed.entropy_map(maps / 100).mean() < fixed.entropy_map(maps).mean()


@pytest.mark.parametrize("reading", READINGS)
def test_scores_are_means_whatever_lies_beside(rng, reading, monkeypatch):
    maps = rng.normal(size=(20, 36)).astype(np.float32)
    detector = detector_of((6, 6), reading).fit(maps)
    scores = detector.anomaly_score(maps)
    assert scores.dtype == np.float64
    assert scores == pytest.approx([loop(image.reshape(6, 6), 3, reading).mean() for image in maps], abs=1e-12)
    assert np.array_equal(detector.anomaly_score(maps[::-1])[::-1], scores)
    monkeypatch.setattr("subsetscan.detectors.entropy._PIXELS_AT_ONCE", 100)
    assert np.array_equal(detector.anomaly_score(maps), scores)
    assert np.array_equal(np.concatenate([detector.anomaly_score(maps[n : n + 1]) for n in range(20)]), scores)
    assert detector.anomaly_score(maps[:0]).shape == (0,)
    assert detector.entropy_map(maps[:0]).shape == (0, 6, 6)


def test_all_clean_maps_calibrate(rng):
    clean, spread = rng.exponential(size=(199, 25)), rng.uniform(1, 1.1, size=(5, 25))
    detector = LocalSpatialEntropy((5, 5)).fit(clean)
    assert np.array_equal(detector.null_scores_, detector.anomaly_score(clean))
    expected = conformal_p_values(detector.anomaly_score(spread), detector.null_scores_)
    assert np.array_equal(detector.p_values(spread), expected)
    assert (detector.p_values(spread) == 1 / 200).all()
    assert (detector.predict(spread) == -1).all()
    assert np.mean(detector.predict(clean) == -1) <= 0.05
    assert detector.n_features_in_ == 25
    held_out = LocalSpatialEntropy((5, 5), calibration="holdout", random_state=0).fit(clean)
    shares = plan(199, "holdout", 0.25, 0)
    assert np.array_equal(held_out.null_scores_, detector.null_scores_[shares.calibration])
    scores_only = LocalSpatialEntropy((5, 5), calibration=None).fit(clean)
    with pytest.raises(ValueError, match="calibration=None gives scores only"):
        scores_only.predict(spread)
    assert np.array_equal(scores_only.calibrate(clean[:50]).null_scores_, detector.null_scores_[:50])


def test_a_detector_among_others(rng):
    clean, labels = rng.exponential(size=(240, 25)), np.repeat([0, 1], 120)
    entropy = LocalSpatialEntropy((5, 5), calibration="holdout", random_state=0)
    both = CombinedDetector([entropy, SubsetScanDetector()], random_state=0).fit(clean)
    assert both.p_values(np.ones((1, 25)))[0] < 0.1
    for_each = ClassConditionalDetector(LocalSpatialEntropy((5, 5))).fit(clean, labels)
    assert np.array_equal(for_each.detectors_[1].null_scores_, entropy.fit(clean).anomaly_score(clean[120:]))
    copy = clone(entropy)
    assert copy.get_params() == entropy.get_params()
    assert not hasattr(copy, "null_scores_")


@pytest.mark.parametrize("reading", READINGS)
def test_saved_and_loaded(rng, tmp_path, reading):
    clean = rng.normal(size=(60, 50)).astype(np.float32)
    detector = detector_of(np.array([5, 5, 2]), reading, levels=np.int64(7), normalise=np.float32(2), random_state=1)
    detector.fit(clean)
    expected = detector.p_values(clean), detector.anomaly_score(clean)
    # What was fitted counts, not what a parameter has become since.
    detector.set_params(levels=3, patch=5)
    assert np.array_equal(detector.anomaly_score(clean), expected[1])
    detector.save(tmp_path / "detector.safetensors")
    loaded = load_detector(tmp_path / "detector.safetensors")
    assert isinstance(loaded, LocalSpatialEntropy)
    assert loaded.shape == (5, 5, 2)
    assert np.array_equal(loaded.p_values(clean), expected[0])
    assert np.array_equal(loaded.anomaly_score(clean), expected[1])
    assert loaded.predict(clean).tolist() == detector.predict(clean).tolist()


def test_the_default_reading_is_one_constant():
    assert LocalSpatialEntropy((3, 3)).reading == DEFAULT_READING


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shape": (5,)}, r"shape must be \(H, W\) or \(H, W, C\), got \(5,\)"),
        ({"shape": (5, 0)}, r"shape must be .* got \(5, 0\)"),
        ({"shape": (5, 2.5)}, r"shape must be .* got \(5, 2.5\)"),
        ({"patch": 4}, "patch must be an odd number, at least 3 and no more than the map's 5 x 6 pixels, got 4"),
        ({"patch": 1}, "patch must be .* got 1"),
        ({"patch": 7}, "patch must be .* 5 x 6 pixels, got 7"),
        ({"patch": 3.0}, "patch must be .* got 3.0"),
        ({"reading": "texture"}, "unknown reading 'texture'; known are mass, histogram, cooccurrence"),
        ({"levels": 1}, "levels must be a whole number from 2 to 1024, got 1"),
        ({"levels": 2000}, "levels must be .* got 2000"),
        ({"normalise": "mean"}, "unknown normalisation 'mean'; known are max, range, or a number"),
        ({"normalise": 0}, "normalise must be max, range, or a positive number, got 0"),
        ({"normalise": math.nan}, "normalise must be .* got nan"),
        ({"normalise": None}, "normalise must be .* got None"),
    ],
)
def test_parameters_that_are_none(parameters, message):
    detector = LocalSpatialEntropy(**{"shape": (5, 6)} | parameters)
    with pytest.raises(ValueError, match=message):
        detector.fit(np.ones((40, 30)))
    with pytest.raises(ValueError, match=message):
        detector.entropy_map(np.ones((1, 30)))


def test_maps_that_do_not_fit(rng):
    clean = rng.normal(size=(40, 30))
    detector = LocalSpatialEntropy((5, 6))
    with pytest.raises(NotFittedError):
        detector.anomaly_score(clean)
    with pytest.raises(ValueError, match=r"maps of shape \(5, 6\) have 30 nodes, got 29"):
        detector.fit(clean[:, 1:])
    with pytest.raises(ValueError, match="has 29 features, but LocalSpatialEntropy is expecting 30"):
        detector.fit(clean).anomaly_score(clean[:, 1:])
    with pytest.raises(ValueError, match=r"expected maps of shape \(N, 5, 6\), got \(40, 6, 5\)"):
        detector.entropy_map(clean.reshape(40, 6, 5))
    holed = clean.copy()
    holed[3, 4] = np.nan
    for method in (
        detector.fit,
        detector.anomaly_score,
        detector.entropy_map,
        detector.start_fit(detector.plan(40)).add_background,
    ):
        with pytest.raises(ValueError, match="contains NaN"):
            method(holed)
