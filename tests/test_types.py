"""Images and backgrounds of different types: ties decide p-values, so both are compared in the coarser type."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from strategies import DTYPES, TAILS, TIES, cases, scan_options

from subsetscan import Background, GroupScanner, SubsetScanDetector
from subsetscan.detectors import (
    ClassConditionalDetector,
    CombinedDetector,
    LocalSpatialEntropy,
    OutlierDetector,
    SummaryDetector,
)
from subsetscan.spaces import Pixels

ecod = pytest.importorskip("pyod.models.ecod")
pandas = pytest.importorskip("pandas")

PAIRS = [(one, other) for one in DTYPES for other in DTYPES if one != other]


@pytest.fixture
def pixels(rng):
    """Multiples of 1 / 255, many of them equal, in double precision."""
    return rng.integers(0, 12, size=(1000, 40)) / 255


@given(cases(), st.sampled_from(DTYPES), st.sampled_from(DTYPES), scan_options, st.sampled_from(TIES))
@settings(max_examples=300)
def test_the_finer_type_is_rounded_to_the_coarser(case, of_background, of_images, options, ties):
    with np.errstate(over="ignore", under="ignore"):
        background, images = case[0].astype(of_background), case[1].astype(of_images)
        coarser = min(of_background, of_images, key=lambda dtype: np.dtype(dtype).itemsize)
        expected = Background(background.astype(coarser)).scan(images.astype(coarser), **options, ties=ties)
    found = Background(background).scan(images, **options, ties=ties)
    for key in ("scores", "alphas", "sizes"):
        assert np.array_equal(getattr(found, key), getattr(expected, key))
    if ties == "upper":
        compact = Background(background, tail=options["tail"], alpha_max=options["alpha_max"])
        assert np.array_equal(compact.scan(images, **options).scores, expected.scores)


@pytest.mark.parametrize(("of_images", "of_background"), PAIRS)
@pytest.mark.parametrize("tail", TAILS)
def test_equal_numbers_tie_whatever_their_types(pixels, of_images, of_background, tail):
    coarser = min(of_images, of_background, key=lambda dtype: np.dtype(dtype).itemsize)
    background, images = pixels[:900].astype(of_background), pixels[900:].astype(of_images)
    in_one_type = Background(pixels[:900].astype(coarser))
    expected = in_one_type.p_values(pixels[900:].astype(coarser), tail)
    whole = Background(background)
    assert np.array_equal(whole.p_values(images, tail), expected)
    assert np.array_equal(whole.p_value_ranges(images, tail)[..., 1], expected)
    for ask in ("rank_histogram", "summarise"):
        options = {"tail": tail} | ({"summary": "mean-p"} if ask == "summarise" else {})
        same = getattr(in_one_type, ask)(pixels[900:].astype(coarser), **options)
        assert np.array_equal(getattr(whole, ask)(images, **options), same)
    inside = whole.leave_one_out(pixels[:20].astype(of_images), tail=tail)
    assert np.array_equal(inside.scores, in_one_type.leave_one_out(pixels[:20].astype(coarser), tail=tail).scores)


@pytest.mark.parametrize(("of_images", "of_background"), PAIRS)
def test_detectors_flag_as_many_clean_images_in_every_type(pixels, tmp_path, of_images, of_background):
    clean, images = pixels[:600].astype(of_background), pixels[600:]
    labels = np.arange(600) % 2
    scan = SubsetScanDetector(random_state=0)
    both = [scan, SummaryDetector(tail="lower")]
    detectors = {
        "scan": (scan, ()),
        "summary": (SummaryDetector(summary="minimum-p", random_state=0), ()),
        "combined": (CombinedDetector(both, random_state=0), ()),
        "by class": (ClassConditionalDetector(scan), (labels,)),
    }
    for name, (detector, given_labels) in detectors.items():
        detector.fit(clean, *given_labels)
        asked = (np.arange(400) % 2,) if given_labels else ()
        p_values = detector.p_values(images.astype(of_images), *asked)
        assert np.mean(p_values <= 0.05) < 0.1, name
        detector.save(tmp_path / "detector.safetensors")
        loaded = type(detector).load(tmp_path / "detector.safetensors")
        assert np.array_equal(loaded.p_values(images.astype(of_images), *asked), p_values), name
        coarser = min(of_images, of_background, key=lambda dtype: np.dtype(dtype).itemsize)
        alike = type(detector)(**detector.get_params(deep=False)).fit(pixels[:600].astype(coarser), *given_labels)
        if of_background == coarser:  # then the null scores are of the coarser type as well
            assert np.array_equal(alike.p_values(images.astype(coarser), *asked), p_values), name


def test_calibrating_in_another_type(pixels):
    detector = SubsetScanDetector(calibration=None).fit(pixels[:600])
    p_values = detector.calibrate(pixels[600:800].astype(np.float32)).p_values(pixels[800:].astype(np.float32))
    same = SubsetScanDetector(calibration=None).fit(pixels[:600].astype(np.float32))
    same.calibrate(pixels[600:800].astype(np.float32))
    assert np.array_equal(p_values, same.p_values(pixels[800:].astype(np.float32)))


@pytest.mark.parametrize(("of_images", "of_background"), PAIRS)
def test_groups_in_another_type(pixels, of_images, of_background):
    coarser = min(of_images, of_background, key=lambda dtype: np.dtype(dtype).itemsize)
    found = [
        GroupScanner(Background(pixels[:500].astype(one)), random_state=0)
        .calibrate(pixels[500:700].astype(two), n_groups=20)
        .p_value(pixels[700:720].astype(two))
        for one, two in ((of_background, of_images), (coarser, coarser))
    ]
    assert found[0] == found[1]


def test_values_beyond_a_coarser_type_are_infinite():
    background = Background(np.array([[0.0], [1e300], [2.0]], np.float64))
    assert background.p_values(np.array([[np.inf]], np.float32)).tolist() == [[0.5]]  # 1e300 is no float32
    assert background.p_values(np.array([[1e300]])).tolist() == [[0.5]]
    assert Background(np.array([[0.0], [2.0]], np.float32)).p_values([[1e300]]).tolist() == [[1 / 3]]


@pytest.mark.parametrize("make", [IsolationForest, ecod.ECOD])
def test_estimators_of_others_are_asked_in_the_type_of_their_fit(pixels, make):
    for of_background in DTYPES:
        detector = OutlierDetector(make(), random_state=0).fit(pixels[:600].astype(of_background))
        expected = detector.predict(pixels[600:620].astype(of_background))
        for of_images in DTYPES:
            images = pixels[600:620].astype(of_images)
            if np.dtype(of_images).itemsize < np.dtype(of_background).itemsize:
                with pytest.raises(TypeError, match=f"fitted on {np.dtype(of_background)} and cannot compare"):
                    detector.predict(images)
            else:
                assert np.array_equal(detector.predict(images), expected)


def test_grey_levels_are_those_of_the_type_of_the_fit(rng, tmp_path):
    maps = rng.integers(0, 11, (200, 64)) / 10
    detector = LocalSpatialEntropy((8, 8), reading="cooccurrence", levels=10, normalise=1.0).fit(maps)
    detector.save(tmp_path / "d.safetensors")
    for one in (detector, LocalSpatialEntropy.load(tmp_path / "d.safetensors")):
        with pytest.raises(TypeError, match="LocalSpatialEntropy was fitted on float64 and cannot compare float32"):
            one.predict(maps.astype(np.float32))
    coarse = LocalSpatialEntropy((8, 8), reading="cooccurrence", levels=10, normalise=1.0).fit(maps.astype(np.float32))
    assert np.array_equal(coarse.predict(maps), coarse.predict(maps.astype(np.float32)))


def test_columns_have_names_at_the_array_level_too(pixels):
    frame = pandas.DataFrame(pixels * np.arange(1, 41), columns=[f"n{n}" for n in range(40)])
    background = Background(frame[:500])
    reordered = frame[frame.columns[::-1]]
    scanner = GroupScanner(background, random_state=0).calibrate(frame[500:700], n_groups=9)
    pickled = pickle.loads(pickle.dumps(background))
    for ask in (background.scan, background.p_values, pickled.scan, scanner.scan, scanner.p_value, scanner.calibrate):
        with pytest.raises(ValueError, match="the columns must be those of the background, .* column 0 is 'n39'"):
            ask(reordered[:20])
    assert np.array_equal(pickled.p_values(frame[700:]), background.p_values(frame[700:].to_numpy()))


def test_masked_values_are_refused(pixels):
    masked = np.ma.masked_less(pixels, 0.01)
    with pytest.raises(ValueError, match="must not have masked values, got .*: fill them first"):
        Background(masked)
    with pytest.raises(ValueError, match="masked"):
        Background(pixels).scan(masked)
    with pytest.raises(ValueError, match="inputs must not have masked values"):
        Pixels((40,)).transform(masked)
    assert Background(np.ma.array(pixels)).n_nodes == 40
