"""The default detector, which combines five, and the scanner that has one for each layer."""

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import check_estimator

from subsetscan import Background, ModelScanner, SubsetScanDetector
from subsetscan.calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values, plan
from subsetscan.combination import COMBINATIONS
from subsetscan.detectors import (
    AutomaticDetector,
    ClassConditionalDetector,
    CombinedDetector,
    NearestNeighborDetector,
    OutlierDetector,
    ResidualScanDetector,
    load_detector,
)
from subsetscan.spaces import Arrays, KerasLayers, Pixels


def dependent(rng, n, width, seed=0):
    """Draw rows whose nodes depend on each other: a few causes move them all."""
    mix = np.random.default_rng(seed).normal(size=(4, width))
    return rng.normal(size=(n, 4)) @ mix + rng.normal(size=(n, width))


@pytest.fixture
def clean(rng):
    return dependent(rng, 150, 12)


@pytest.fixture
def images(rng):
    """Half of them changed in three nodes."""
    images = dependent(rng, 30, 12)
    images[15:, 2:5] += 6
    return images


# A rate that a few null scores can give: warnings are errors.
def automatic(**options):
    return AutomaticDetector(false_positive_rate=0.5, **options)


def test_equal_values_do_not_vary_however_their_mean_is_rounded(clean):
    with_equal = np.hstack([clean, np.full_like(clean, 0.1)])
    assert with_equal.var(axis=0)[12:].any()
    scales = [NearestNeighborDetector().fit(values).scale_[:12] for values in (clean, with_equal)]
    np.testing.assert_allclose(*scales, rtol=1e-12)


@pytest.mark.parametrize("kind", [AutomaticDetector, ResidualScanDetector, NearestNeighborDetector])
def test_the_contract_of_scikit_learn(kind):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*null scores cannot give a p-value")
        warnings.filterwarnings("ignore", message="Skipping check check_array_api_input")
        # Images of the fit are scored as new ones, so that none need be flagged: each is its own nearest neighbour.
        failing = () if kind is AutomaticDetector else ("check_outliers_fit_predict", "check_outliers_train")
        known = dict.fromkeys(failing, "flags none of the fit's images")
        results = check_estimator(kind(), expected_failed_checks=known)
    assert {result["status"] for result in results} <= {"passed", "skipped", "xfail"}
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(known)


@pytest.mark.parametrize("extreme", [-np.inf, np.inf])
@pytest.mark.parametrize("of_few", [False, True])
def test_infinite_null_scores_have_no_tail(extreme, of_few):
    null = np.append(np.arange(99.0), extreme)
    scores = np.array([-np.inf, 0.5, 98, 99, 1e9, np.inf])
    assert np.array_equal(extrapolated_p_values(scores, null, of_few=of_few), conformal_p_values(scores, null))
    at_least = np.array([np.count_nonzero(null >= score) for score in null])
    assert np.array_equal(extrapolated_null_p_values(null, of_few=of_few), at_least / (101 if of_few else 100))


@pytest.mark.parametrize("calibration", ["leave-one-out", "holdout", None])
def test_scores_are_five_combined_by_hand(clean, images, calibration):
    """Each a p-value among those of the clean images without it, and the logarithm of the weighted mean of 1 / p."""
    options = {"calibration": calibration, "random_state": 3}
    detector = AutomaticDetector(**options).fit(clean)
    shares = plan(150, calibration, 0.25, 3)
    background = clean[shares.background]
    ranks, values = (ResidualScanDetector(of=of).fit(background) for of in ("ranks", "values"))
    nearest = NearestNeighborDetector().fit(background)

    scaled = background / np.sqrt(background.var(axis=0) + 0.1 * background.var(axis=0).mean())
    distances = cdist(scaled, scaled, "cosine")
    np.fill_diagonal(distances, np.inf)
    assert nearest.null_scores_ == pytest.approx(distances.min(axis=0), rel=1e-9)
    null = [ranks.null_scores_, values.null_scores_, ranks.distances_, values.distances_, nearest.null_scores_]
    (found, far), (valued, far_out) = (one.scan_with_distances(images) for one in (ranks, values))
    own = [found.scores, valued.scores, far, far_out, nearest.anomaly_score(images)]
    assert detector.part_scores(images) == pytest.approx(np.column_stack(own), rel=1e-9)
    p_values = np.array([extrapolated_p_values(*both) for both in zip(own, null, strict=True)])
    expected = np.log(np.average(1 / p_values, axis=0, weights=[10, 10, 10, 1, 10]))
    assert detector.anomaly_score(images) == pytest.approx(expected, rel=1e-9)

    if calibration == "leave-one-out":
        inverse = [1 / extrapolated_null_p_values(one) for one in null]
        null_scores = np.log(np.average(inverse, axis=0, weights=[10, 10, 10, 1, 10]))
        assert detector.null_scores_ == pytest.approx(null_scores, rel=1e-9)
        assert (detector.predict(images[15:]) == -1).all()
    elif calibration == "holdout":
        held_out = detector.anomaly_score(clean[shares.calibration])
        assert detector.null_scores_ == pytest.approx(held_out, rel=1e-9)
    if calibration:
        p_values = detector.p_values(images)
        assert np.array_equal(p_values, conformal_p_values(detector.anomaly_score(images), detector.null_scores_))
        assert np.array_equal(detector.predict(images) == -1, p_values <= 0.05)
    else:
        assert not detector.is_calibrated
        with pytest.raises(ValueError, match="calibration=None gives scores only"):
            detector.predict(images)
        own_clean = dependent(np.random.default_rng(5), 60, 12)
        assert np.array_equal(detector.calibrate(own_clean).null_scores_, detector.anomaly_score(own_clean))


def test_few_clean_images_are_flagged(rng):
    """At 5 %, on fresh images whose nodes depend on each other: the share is off by .007 of chance."""
    flagged = np.mean(AutomaticDetector().fit(dependent(rng, 1000, 40)).predict(dependent(rng, 4000, 40)) == -1)
    assert 0.03 < flagged < 0.07


@pytest.mark.parametrize("shape", [(50, 50), (100, 400), (300, 300)])
def test_few_clean_images_are_flagged_where_there_are_as_many_nodes(shape):
    """At 20 %: with the images left out of the covariance alone, not of the mean, it would be .3 to .6."""
    flagged = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        detector = AutomaticDetector(false_positive_rate=0.2).fit(rng.normal(size=shape))
        flagged.append(np.mean(detector.predict(rng.normal(size=(300, shape[1]))) == -1))
    assert 0.1 < np.mean(flagged) < 0.27


def test_few_clean_images_are_flagged_where_one_node_of_many_is_rarely_active():
    """At 20 %, with images that have no active node among them: once each of these was flagged."""
    rng = np.random.default_rng(0)
    clean, new = (np.maximum(rng.normal(size=(n, 50)) - 2.0, 0) for n in (400, 2000))
    flagged = AutomaticDetector(false_positive_rate=0.2).fit(clean).predict(new) == -1
    assert 0.1 < flagged.mean() < 0.27
    assert not flagged[~new.any(axis=1)].any()


@pytest.mark.parametrize("far", [20, 1e6])
def test_one_node_that_is_very_far_out_is_seen(rng, far):
    """Its rank is the highest, whatever its value, and residuals have p-values that end at 2 / (n + 1)."""
    images = rng.normal(size=(100, 200))
    images[np.arange(100), np.arange(100)] += far
    assert (AutomaticDetector().fit(rng.normal(size=(500, 200))).predict(images) == -1).all()


def test_one_strange_clean_image_hides_little(rng):
    clean, images = rng.normal(size=(200, 30)), rng.normal(size=(200, 30))
    images[:, 5:10] += 4
    clean[0] *= 100
    assert np.mean(AutomaticDetector().fit(clean).predict(images) == -1) > 0.9


def test_copies_among_clean_images_are_warned_of(rng):
    clean = dependent(rng, 200, 12)
    with pytest.warns(UserWarning, match="100 of 300 clean inputs equal an earlier one. If they are copies"):
        AutomaticDetector().fit(np.concatenate([clean, clean[:100]]))
    dark = clean.copy()
    dark[:100] = 0  # so may be by nature
    AutomaticDetector().fit(dark)


def test_nodes_that_hardly_ever_vary_are_warned_of(rng):
    clean = np.maximum(rng.normal(size=(200, 60)) - 2.4, 0)
    with pytest.warns(UserWarning, match="of 60 nodes have the same value in all but at most 5 of 200 clean inputs"):
        AutomaticDetector().fit(clean)
    AutomaticDetector(calibration="holdout", random_state=0).fit(clean)


def test_rows_of_zeros_are_neighbors(rng):
    clean = rng.normal(size=(40, 6))
    clean[:2] = 0
    for k, expected in ((1, 0.0), (2, 1.0)):
        detector = NearestNeighborDetector(n_neighbors=k, false_positive_rate=0.5).fit(clean)
        assert detector.null_scores_[:2].tolist() == [expected, expected]
        assert detector.anomaly_score(np.zeros((1, 6))).tolist() == [0.0]


def test_masked_values_are_refused(rng):
    clean = dependent(rng, 60, 12)
    masked = np.ma.masked_greater(clean, 3)
    with pytest.raises(ValueError, match="node values must not have masked values"):
        automatic().fit(masked)
    with pytest.raises(ValueError, match="node values must not have masked values"):
        automatic().fit(clean).anomaly_score(masked)


def test_the_subset_points_at_what_was_changed(clean, images):
    """By a scan of the values themselves, and with the scores of the detector."""
    detector = AutomaticDetector().fit(clean)
    found = detector.scan(images, return_nodes=True)
    options = {"statistic": "higher-criticism", "tail": "two-sided", "alpha_max": 0.05}
    expected = Background(clean).scan(images, **options, return_nodes=True)
    assert np.array_equal(found.nodes.toarray(), expected.nodes.toarray())
    assert np.array_equal(found.sizes, expected.sizes)
    assert np.array_equal(found.scores, detector.anomaly_score(images))
    told = found.nodes.toarray()[15:]
    assert told[:, 2:5].mean() > 0.8
    assert told[:, [0, 1, *range(5, 12)]].mean() < 0.1
    assert np.array_equal(detector.leading(images, share=0.3).nodes.toarray(), found.nodes.toarray())


@pytest.mark.parametrize("of", ["ranks", "values"])
def test_leading_residuals_are_few_and_carry_a_share(clean, images, of):
    """They are what a scan of the residuals by a detector of its own has."""
    detector = ResidualScanDetector(of=of).fit(clean)
    found = detector.leading(images, share=0.6)
    options = {"tail": "two-sided", "alpha_max": 0.1, "calibration": None}
    alone = SubsetScanDetector(**options)
    alone._take_background(detector.background_, detector.scan_options_)
    expected = alone.leading(detector._residuals_of(images)[0], share=0.6)
    assert np.array_equal(found.nodes.toarray(), expected.nodes.toarray())
    whole = detector.scan(images, return_nodes=True)
    assert (found.scores >= 0.6 * whole.scores).all()
    assert (found.sizes <= whole.sizes).all()
    assert len(detector.leading(images[:0])) == 0
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 0"):
        detector.leading(images, share=0)


@pytest.mark.parametrize("calibration", ["leave-one-out", "holdout", None])
def test_saved_detectors_are_the_same(clean, images, tmp_path, calibration):
    detector = AutomaticDetector(calibration=calibration, false_positive_rate=0.2, random_state=1).fit(clean)
    detector.save(tmp_path / "detector.safetensors")
    loaded = load_detector(tmp_path / "detector.safetensors")
    assert type(loaded) is AutomaticDetector
    assert loaded.get_params() == detector.get_params()
    assert np.array_equal(loaded.anomaly_score(images), detector.anomaly_score(images))
    assert np.array_equal(loaded.null_scores_, detector.null_scores_)
    assert np.array_equal(loaded.part_null_scores_, detector.part_null_scores_)
    scans = [one.scan(images, return_nodes=True).nodes.toarray() for one in (loaded, detector)]
    assert np.array_equal(*scans)
    if calibration:
        assert np.array_equal(loaded.p_values(images), detector.p_values(images))


def test_an_image_has_one_score_whatever_is_beside_it(rng):
    """Also where there are more nodes than images, and values that often tie."""
    for width in (12, 400):
        clean, images = (np.maximum(dependent(rng, n, width).round(1), 0) for n in (120, 40))
        detector = AutomaticDetector().fit(clean)
        together = detector.anomaly_score(images)
        alone = np.concatenate([detector.anomaly_score(image[np.newaxis]) for image in images])
        assert alone == pytest.approx(together, rel=1e-9)
        assert detector.anomaly_score(images[::-1])[::-1] == pytest.approx(together, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 19])
def test_few_images_are_enough(rng, n):
    clean, images = dependent(rng, n, 8), dependent(rng, 20, 8)
    images[10:, ::3] += 50
    detector = automatic().fit(clean)
    assert len(detector.null_scores_) == n
    assert np.isfinite(detector.anomaly_score(images)).all()
    assert (detector.p_values(images) >= 1 / (n + 1)).all()
    # A part's p-value is at least 1 / (n + 1); too few scores have no tail.
    assert detector.anomaly_score(images).max() <= np.log(n + 1) + 1e-12
    if n > 3:
        assert detector.anomaly_score(images[10:]).min() > np.median(detector.null_scores_)
    with pytest.raises(ValueError, match="needs at least 2 clean inputs"):
        automatic().fit(clean[:1])


def test_one_node(rng):
    clean = rng.normal(10, size=(100, 1))
    detector = AutomaticDetector().fit(clean)
    assert detector.predict([[30.0], [-30.0], [10.0]]).tolist() == [-1, -1, 1]
    assert detector.scan([[30.0]], return_nodes=True).nodes.toarray().tolist() == [[True]]


def test_nodes_that_never_vary_say_nothing_until_they_do(rng, clean, images):
    """As a layer's dead channels: as nodes of value 0 they leave all parts but the ranks as they are."""
    dead = np.zeros((1, 6))
    with_dead = [np.hstack([x, np.repeat(dead, len(x), axis=0)]) for x in (clean, images)]
    detector, alone = AutomaticDetector().fit(with_dead[0]), AutomaticDetector().fit(clean)
    assert np.isfinite(detector.anomaly_score(with_dead[1])).all()
    assert detector.part_scores(with_dead[1])[:, 4] == pytest.approx(alone.part_scores(images)[:, 4], rel=1e-9)
    assert (detector.predict(with_dead[1][15:]) == -1).all()
    woken = with_dead[0][:20].copy()
    woken[:, 14] = 50
    assert (detector.predict(woken) == -1).all()
    assert detector.scan(woken, return_nodes=True).nodes.toarray()[:, 14].all()


def test_images_that_are_alike(rng):
    """Copies of a few images: these are clean, others are not. All equal: only what differs is anomalous."""
    few = dependent(rng, 5, 8)
    with pytest.warns(UserWarning, match="equal an earlier one"):
        detector = AutomaticDetector().fit(np.repeat(few, 12, axis=0))
    assert (detector.predict(few) == 1).all()
    assert np.isfinite(detector.anomaly_score(few * 3)).all()
    for value in (0.0, 2.5):
        equal = np.full((40, 8), value)
        detector = AutomaticDetector().fit(equal)
        assert detector.p_values(equal[:3]).tolist() == [1, 1, 1]
        assert detector.predict(equal[:3] + np.eye(3, 8)).tolist() == [-1, -1, -1]


def test_types_of_numbers(rng):
    """Numbers that each type holds have the same scores in each; finer ones are rounded to that of the fit."""
    clean, images = (dependent(rng, n, 8).round(1).astype(np.float16) for n in (80, 20))
    expected = AutomaticDetector().fit(clean.astype(np.float64)).anomaly_score(images.astype(np.float64))
    for dtype in (np.float16, np.float32):
        detector = AutomaticDetector().fit(clean.astype(dtype))
        assert np.array_equal(detector.anomaly_score(images.astype(dtype)), expected)
        finer = images.astype(np.float64) + 1e-12
        assert np.array_equal(detector.anomaly_score(finer), expected)
    detector = AutomaticDetector().fit(clean.astype(np.float64))
    with pytest.raises(TypeError, match="was fitted on float64 and cannot compare float32 with it"):
        detector.anomaly_score(images.astype(np.float32))
    whole = [(x * 10).astype(np.int64) for x in (clean, images)]
    detectors = [AutomaticDetector().fit(whole[0].astype(dtype)) for dtype in (np.int64, np.int32, np.float64)]
    scores = [one.anomaly_score(whole[1]) for one in detectors]
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])


def test_arrays_that_lie_anyhow_in_memory(rng):
    clean, images = dependent(rng, 200, 24), dependent(rng, 40, 24)
    expected = AutomaticDetector().fit(clean[::2, ::-3].copy()).anomaly_score(images[1::2, ::-3].copy())
    for lie in (lambda x: x, np.asfortranarray):
        found = AutomaticDetector().fit(lie(clean[::2, ::-3])).anomaly_score(lie(images[1::2, ::-3]))
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(clean, bad):
    holed = clean.copy()
    holed[4, 7] = bad
    detector = AutomaticDetector().fit(clean)
    before = detector.anomaly_score(clean)
    for ask in (detector.fit, detector.anomaly_score, detector.predict, detector.scan, detector.calibrate):
        with pytest.raises(ValueError, match="NaN|infinity"):
            ask(holed)
    assert np.array_equal(detector.anomaly_score(clean), before)
    with pytest.raises(ValueError, match="features"):
        detector.predict(clean[:, :5])


def test_no_image_has_no_score(clean):
    detector = AutomaticDetector().fit(clean)
    for ask in (detector.anomaly_score, detector.p_values, detector.predict, detector.decision_function):
        assert len(ask(clean[:0])) == 0
    assert detector.part_scores(clean[:0]).shape == (0, 5)
    assert detector.scan(clean[:0], return_nodes=True).nodes.shape == (0, 12)
    assert len(detector.leading(clean[:0])) == 0


def test_far_values_stay_numbers(clean):
    detector = AutomaticDetector().fit(clean.astype(np.float32))
    far = np.full((2, 12), np.finfo(np.float32).max)
    far[1, ::2] *= -1
    assert np.isfinite(detector.anomaly_score(far)).all()
    assert (detector.predict(far) == -1).all()
    for power in (30, 150, 300):
        assert np.isfinite(AutomaticDetector().fit(clean).anomaly_score(clean * 10.0**power)).all()


def test_detectors_are_combined(clean, images):
    detector = CombinedDetector([AutomaticDetector(), SubsetScanDetector()], calibration="leave-one-out").fit(clean)
    parts = AutomaticDetector().fit(clean), SubsetScanDetector(calibration="leave-one-out").fit(clean)
    own = np.column_stack([part.p_values_of(part.anomaly_score(images), extrapolate=True) for part in parts])
    assert detector.anomaly_score(images) == pytest.approx(1 - own.min(axis=1), rel=1e-9)


@pytest.fixture
def arrays(rng):
    sets = {
        kind: {"conv": dependent(rng, n, 12).reshape(n, 2, 3, 2), "dense": dependent(rng, n, 8, seed=1)}
        for kind, n in (("clean", 120), ("images", 20))
    }
    sets["images"]["conv"][:5, 0, 0] += 6
    sets["images"]["dense"][:5, :2] -= 12
    return sets


SPACE = Arrays({"conv": (2, 3, 2), "dense": (8,)})


@pytest.mark.parametrize("batch_size", [1, 7, 256])
@pytest.mark.parametrize("calibration", ["leave-one-out", "holdout"])
def test_streaming_is_fitting_by_hand(arrays, batch_size, calibration):
    options = {"calibration": calibration, "random_state": 2}
    scanner = ModelScanner.automatic(SPACE, batch_size=batch_size, **options).fit(arrays["clean"])
    scores, p_values = (ask(arrays["images"], combine=None) for ask in (scanner.anomaly_score, scanner.p_values))
    assert list(scores) == list(p_values) == ["conv", "dense"]
    for name in scores:
        clean, images = (arrays[kind][name].reshape(len(arrays[kind][name]), -1) for kind in ("clean", "images"))
        alone = AutomaticDetector(**options).fit(clean)
        assert scanner.detectors_[name].null_scores_ == pytest.approx(alone.null_scores_, rel=1e-9)
        assert scores[name] == pytest.approx(alone.anomaly_score(images), rel=1e-9)
        assert np.array_equal(p_values[name], alone.p_values(images))


def combined_by_hand(own, null):
    """Fisher's sum and the harmonic mean of spaces' p-values, each as a p-value, Fisher's sum of both, calibrated."""
    both, null_both = [], []
    for combine in (lambda p: -2 * np.log(p).sum(axis=0), lambda p: np.log(np.mean(1 / p, axis=0))):
        null_scores = combine(null)
        both.append(extrapolated_p_values(combine(own), null_scores))
        null_both.append(extrapolated_null_p_values(null_scores))
    scores, null_scores = (-2 * np.log(p).sum(axis=0) for p in (both, null_both))
    return scores, np.array([(1 + np.sum(null_scores >= score)) / (len(null_scores) + 1) for score in scores])


@pytest.mark.parametrize("kind", ["arrays", "network"])
def test_all_spaces_are_combined(request, arrays, kind, tmp_path):
    if kind == "arrays":
        model, names, clean, images = SPACE, ["conv", "dense"], arrays["clean"], arrays["images"]
        values = [{name: array.reshape(len(array), -1) for name, array in one.items()} for one in (clean, images)]
    else:
        model, names = request.getfixturevalue("autoencoder"), ["encode", "pool", "decode"]
        pictures = np.random.default_rng(0).random((90, 8, 8, 1), dtype=np.float32)
        pictures[70:75] = np.indices((8, 8)).sum(axis=0)[..., np.newaxis] % 2  # chequered
        clean, images = pictures[:70], pictures[70:]
        values = [KerasLayers(model, names).transform(one) for one in (clean, images)]
    scanner = ModelScanner.automatic(model, false_positive_rate=0.1).fit(clean)
    assert list(scanner.names) == names
    assert scanner.combine == "fisher+harmonic"
    fitted = [AutomaticDetector().fit(values[0][name]) for name in names]
    pairs = [(one, one.anomaly_score(values[1][name])) for name, one in zip(names, fitted, strict=True)]
    own = np.array([extrapolated_p_values(scores, one.null_scores_) for one, scores in pairs])
    expected = combined_by_hand(own, np.array([extrapolated_null_p_values(one.null_scores_) for one in fitted]))
    assert scanner.anomaly_score(images) == pytest.approx(expected[0], rel=1e-9)
    p_values = scanner.p_values(images)
    assert p_values.shape == (20,)
    assert p_values == pytest.approx(expected[1], rel=1e-9)
    assert np.array_equal(scanner.predict(images) == -1, p_values <= 0.1)
    assert (scanner.predict(images)[:5] == -1).all()
    assert {name: len(array) for name, array in scanner.p_values(images, combine=None).items()} == dict.fromkeys(
        names, 20
    )
    assert not np.array_equal(scanner.p_values(images, combine="min"), p_values)

    scanner.save(tmp_path / "scanner")
    loaded = ModelScanner.load(tmp_path / "scanner", model)
    assert loaded.combine == "fisher+harmonic"
    assert np.array_equal(loaded.p_values(images), p_values)
    assert ModelScanner.load(tmp_path / "scanner", model, combine=None).p_values(images).keys() == set(names)


@pytest.mark.parametrize("n", [25, 120])
def test_one_space_is_combined_to_itself(arrays, n):
    """Its p-values are as fine as they were, also where few images calibrate."""
    clean, images = ({"dense": arrays[kind]["dense"]} for kind in ("clean", "images"))
    clean["dense"] = clean["dense"][:n]
    for combine in COMBINATIONS:
        scanner = ModelScanner(Arrays({"dense": (8,)}), AutomaticDetector(), combine=combine).fit(clean)
        assert np.array_equal(scanner.p_values(images), scanner.p_values(images, combine=None)["dense"])
        assert np.array_equal(scanner.predict(images), scanner.predict(images, combine=None)["dense"])
        assert (scanner.predict(images) == -1).any()


def test_explanations_tell_where_in_each_space(arrays):
    scanner = ModelScanner.automatic(SPACE).fit(arrays["clean"])
    explanation = scanner.explain({name: array[0] for name, array in arrays["images"].items()})
    p_values = scanner.p_values(arrays["images"], combine=None)
    found = scanner.scan(arrays["images"], return_nodes=True)
    for name, space in explanation.spaces.items():
        assert space.p_value == p_values[name][0]
        assert np.array_equal(space.nodes, found[name].mask(0, SPACE.node_shapes[name]))
        assert np.array_equal(space.leading, space.nodes)
    assert explanation.spaces["conv"].nodes[0, 0].any()
    assert explanation.spaces["dense"].nodes[:2].any()
    assert "conv" in str(explanation)


@pytest.mark.parametrize("base", [AutomaticDetector(), ResidualScanDetector()])
def test_classes_have_detectors_of_their_own(rng, tmp_path, base):
    labels = np.repeat([3, 5], [110, 120])
    clean = dependent(rng, 230, 8) + labels[:, np.newaxis]
    images, own = clean[105:115] + np.eye(10, 8) * 7, labels[105:115]
    scanner = ModelScanner(Arrays({"a": (8,)}), ClassConditionalDetector(base), batch_size=13)
    p_values = scanner.fit(clean, labels).p_values(images, own)["a"]
    for label in (3, 5):
        alone = type(base)().fit(clean[labels == label])
        assert np.array_equal(p_values[own == label], alone.p_values(images[own == label]))
    scanner.save(tmp_path)
    loaded = ModelScanner.load(tmp_path, Arrays({"a": (8,)}))
    assert np.array_equal(loaded.p_values(images, own)["a"], p_values)
    told = loaded.explain(images[0], own[0]).spaces["a"]
    assert told.nodes[0]
    assert told.p_value == p_values[0]


def test_classes_leave_out_only_what_can_be_left_out(rng):
    """Scores of images by a fit with them would be too low to calibrate."""
    clean, labels = rng.normal(size=(60, 4)), np.arange(60) % 2
    detector = OutlierDetector(OneClassSVM(), calibration="leave-one-out", false_positive_rate=0.5)
    with pytest.raises(ValueError, match="OutlierDetector cannot leave out one input at a time"):
        ClassConditionalDetector(detector, min_class_size=2).fit(clean, labels)
    detector = automatic()
    classes = ClassConditionalDetector(detector, min_class_size=2).fit(clean, labels)
    for label in (0, 1):
        alone = automatic().fit(clean[labels == label])
        assert np.array_equal(classes.detectors_[label].null_scores_, alone.null_scores_)
        assert np.array_equal(classes.null_p_values()[classes.null_labels_ == label], alone.null_p_values())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dense": np.zeros((7, 8))}, ValueError, "they differ in their number: conv 120, dense 7"),
        ({"dense": None}, TypeError, "expected an array as dense, got None"),
        ({"other": np.zeros((120, 3))}, ValueError, "expected the arrays conv, dense, got conv, dense, other"),
        ({"dense": np.zeros((120, 9))}, ValueError, r"dense must have the shape \(8,\) for each input"),
        ({"dense": np.array([["a"] * 8] * 120)}, TypeError, "dense must be real numbers"),
        ({"dense": np.where(np.eye(120, 8)[::-1], np.nan, 0.0)}, ValueError, "8 inputs have NaN .* in dense, the first "
         "is input 112, node 7: nan"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(arrays, change, error, message):
    scanner = ModelScanner.automatic(SPACE)
    with pytest.raises(error, match=message):
        scanner.fit(arrays["clean"] | change)
    scanner.fit(arrays["clean"])
    with pytest.raises(ValueError, match="expected the arrays conv, dense, got conv"):
        scanner.p_values({"conv": arrays["images"]["conv"]})
    with pytest.raises(ValueError, match="differ in their number: no array"):
        scanner.p_values({})


def test_no_image_is_an_answer(arrays):
    none = {name: array[:0] for name, array in arrays["images"].items()}
    scanner = ModelScanner.automatic(SPACE).fit(arrays["clean"])
    assert len(scanner.p_values(none)) == len(scanner.predict(none)) == 0
    assert {name: len(found) for name, found in scanner.scan(none, return_nodes=True).items()} == {
        "conv": 0,
        "dense": 0,
    }
    uncalibrated = ModelScanner.automatic(SPACE, calibration=None).fit(arrays["clean"])
    found = uncalibrated.anomaly_score(arrays["images"], combine=None)
    expected = scanner.anomaly_score(arrays["images"], combine=None)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("model", [3, None, "conv", [3], {"conv": (3,)}, np.zeros((5, 3)), AutomaticDetector()])
def test_what_has_no_spaces(model):
    with pytest.raises(
        TypeError,
        match="expected (a Keras model, a PyTorch .*, or )?spaces of subsetscan.spaces, got ",
    ):
        ModelScanner.automatic(model)
    with pytest.raises(ValueError, match="at least one space is needed"):
        ModelScanner.automatic([])


def test_combinations_that_are_none():
    message = "unknown combination 'max'; known are 'fisher.harmonic', 'fisher', 'harmonic', 'cauchy', 'min' and None"
    with pytest.raises(ValueError, match=message):
        ModelScanner(Pixels((2, 2)), combine="max")
