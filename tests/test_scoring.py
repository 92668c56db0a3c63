"""The one loop of experiments: its scores are those of spaces and detectors used by hand, whatever they share."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from subsetscan import Background, SubsetScanDetector
from subsetscan.calibration import conformal_p_values, null_p_values
from subsetscan.combination import combined_scores
from subsetscan.detectors import CombinedDetector, OutlierDetector, SummaryDetector
from subsetscan.lab.comparators import MeanValue
from subsetscan.lab.experiment.scoring import NULL, Key, Pair, Scores, combined, score, score_once
from subsetscan.lab.result_cache import ResultCache
from subsetscan.spaces import Laplacian, Pixels
from subsetscan.spaces.base import Space

SHAPE = (4, 4)


class TwoArrays(Space):
    """The pixels twice, the second time turned round."""

    node_shapes = {"bright": SHAPE, "dark": SHAPE}  # noqa: RUF012

    def transform(self, images):
        rows = np.asarray(images, np.float32).reshape(len(images), 16)
        return {"bright": rows, "dark": -rows}


@pytest.fixture
def clean(rng):
    return rng.normal(size=(600, *SHAPE)).astype(np.float32)  # more than two batches


@pytest.fixture
def sets(rng):
    shifted = rng.normal(0.5, size=(300, *SHAPE)).astype(np.float32)
    return {"shifted": shifted, "one": shifted[:1], "none": shifted[:0]}


def by_hand(space, name, detector, clean, sets):
    """Fit a detector on the array of a space, all at once: null scores, and those of the sets."""
    fitted = detector.fit(space.transform(clean)[name])
    return fitted.null_scores_, {kind: fitted.anomaly_score(space.transform(own)[name]) for kind, own in sets.items()}


def test_scores_are_those_of_each_detector_alone(clean, sets):
    two, pixels, laplacian = TwoArrays(), Pixels(SHAPE), Laplacian(SHAPE)
    forest = IsolationForest(n_estimators=10, random_state=0)
    scan = {"calibration": "leave-one-out", "statistic": "higher-criticism"}
    pairs = {
        Pair("bright", "higher-criticism", "upper"): (two, SubsetScanDetector(**scan)),
        Pair("bright", "higher-criticism", "two-sided"): (two, SubsetScanDetector(**scan, tail="two-sided")),
        Pair("dark", "berk-jones", "upper"): (two, SubsetScanDetector(random_state=0)),
        Pair("mean p"): (pixels, SummaryDetector(calibration="leave-one-out")),
        Pair("mean"): (pixels, MeanValue()),
        Pair("forest"): (laplacian, OutlierDetector(forest, random_state=0)),
        Pair("forest of all"): (
            laplacian,
            OutlierDetector(forest, calibration=None),
        ),
        Pair("tails"): (
            laplacian,
            CombinedDetector([SubsetScanDetector(tail=tail) for tail in ("upper", "lower")], random_state=1),
        ),
    }
    done = []
    scores = score(pairs, clean, sets, on_images=done.append)
    assert sum(done) == 2 * 600 + 301
    assert scores.pairs() == list(pairs)
    for pair, (space, detector) in pairs.items():
        name = pair.space if pair.space in space.names else space.names[0]
        null, expected = by_hand(space, name, detector, clean, sets)
        if detector.calibration is None:
            assert scores.get(NULL, pair) is None
        else:
            assert np.array_equal(scores.of(NULL, pair), null)
        for kind, own in expected.items():
            assert np.array_equal(scores.of(kind, pair), own)


def test_detectors_are_left_as_they_are(clean, sets):
    detector = SubsetScanDetector()
    score({Pair("pixels"): (Pixels(SHAPE), detector)}, clean, sets)
    assert not hasattr(detector, "background_")


def test_subsets_where_they_are_asked_for(clean, sets):
    asked, other = Pair("bright", "berk-jones", "upper"), Pair("dark", "berk-jones", "upper")
    space = TwoArrays()
    pairs = {pair: (space, SubsetScanDetector(calibration=None)) for pair in (asked, other)}
    scores = score(pairs, clean, sets, subsets=[asked])
    expected = Background(space.transform(clean)["bright"]).scan(space.transform(sets["shifted"])["bright"])
    assert np.array_equal(scores.of("shifted", asked), expected.scores)
    assert np.array_equal(scores.of("shifted", asked, "size"), expected.sizes)
    assert np.array_equal(scores.of("shifted", asked, "alpha"), expected.alphas)
    assert len(scores.of("none", asked, "size")) == 0
    with pytest.raises(KeyError):
        scores.of("shifted", other, "size")


def test_clean_images_that_are_handed_in_for_thresholds(clean, sets):
    pair = Pair("pixels", "berk-jones", "upper")
    pairs = {pair: (Pixels(SHAPE), SubsetScanDetector(calibration=None))}
    scores = score(pairs, clean[:500], {NULL: clean[500:], **sets})
    assert len(scores.of(NULL, pair)) == 100
    pairs = {pair: (Pixels(SHAPE), SubsetScanDetector())}
    with pytest.raises(ValueError, match="no set may be named 'background' where detectors are calibrated"):
        score(pairs, clean, {NULL: clean[500:]})


def test_a_space_without_the_array_of_its_pair(clean, sets):
    with pytest.raises(ValueError, match="space of left upper has several arrays, none of its name: bright, dark"):
        score({Pair("left", tail="upper"): (TwoArrays(), MeanValue())}, clean, sets)
    pairs = {Pair("a"): (Pixels(SHAPE), MeanValue()), Pair("b"): (Pixels(SHAPE), MeanValue())}
    with pytest.raises(ValueError, match="several spaces are named pixels"):
        score(pairs, clean, sets)


def test_a_combination_is_that_of_p_values(clean, sets):
    pairs = {
        Pair("pixels"): (Pixels(SHAPE), SubsetScanDetector(random_state=0)),
        Pair("laplacian"): (Laplacian(SHAPE), SubsetScanDetector(tail="lower", random_state=0)),
    }
    scores = score(pairs, clean, sets)
    both = combined(scores, list(pairs), "fisher", Pair("both"))
    null = [scores.of(NULL, pair) for pair in pairs]
    expected = [conformal_p_values(scores.of("shifted", pair), own) for pair, own in zip(pairs, null, strict=True)]
    assert np.array_equal(both.of("shifted", Pair("both")), combined_scores(np.column_stack(expected), "fisher"))
    expected = np.column_stack([null_p_values(own) for own in null])
    assert np.array_equal(both.of(NULL, Pair("both")), combined_scores(expected, "fisher"))
    assert (scores | both).pairs() == [*pairs, Pair("both")]


def test_scores_are_kept_once_in_their_order(clean, sets, tmp_path):
    cache = ResultCache(tmp_path, made_by="this test")
    names = ["ten", "two", "a|b", 'quoted "c"', "last"] * 3
    pairs = {Pair(f"{name} {n}"): (Laplacian(SHAPE, f"{name} {n}"), MeanValue()) for n, name in enumerate(names)}
    first = score_once(cache, "kept", lambda: pairs, clean, sets, models=[])
    assert first.pairs() == list(pairs)
    again = score_once(cache, "kept", None, clean, sets, models=[])  # no pairs are needed
    assert again.pairs() == list(pairs)
    assert all(np.array_equal(again.arrays[key], array) for key, array in first.arrays.items())
    with pytest.raises(TypeError):
        score_once(cache, "kept", None, clean[1:], sets, models=[])


def test_names():
    assert str(Pair("conv2d_1", "berk-jones", "upper")) == "conv2d_1 berk-jones upper"
    assert str(Pair("feature squeezing")) == "feature squeezing"
    key = Key("clean", Pair("x"))
    assert Scores.from_named(Scores({key: np.ones(2)}).to_named()).arrays[key].tolist() == [1, 1]
