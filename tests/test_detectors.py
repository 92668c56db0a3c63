"""The other detectors: summaries, combinations, one for each class; and what they share with the scan."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import check_estimator

from subsetscan import Background, SubsetScanDetector, select
from subsetscan.calibration import (
    conformal_p_values,
    extrapolated_null_p_values,
    extrapolated_p_values,
    has_tail,
    null_p_values,
    plan,
)
from subsetscan.combination import COMBINATIONS, SUMS, combined, combined_scores
from subsetscan.detectors import (
    CalibratedDetector,
    ClassConditionalDetector,
    CombinedDetector,
    OutlierDetector,
    SummaryDetector,
    load_detector,
)

SUMMARIES = ("mean-p", "minimum-p", "fisher")
TAILS = [SubsetScanDetector(tail="upper"), SubsetScanDetector(tail="lower")]


@pytest.fixture
def clean(rng):
    return rng.normal(size=(300, 20))


@pytest.mark.parametrize(
    "detector", [SummaryDetector(summary="fisher"), CombinedDetector(TAILS), OutlierDetector(OneClassSVM())]
)
def test_the_contract_of_scikit_learn(detector):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*null scores cannot give a p-value")
        warnings.filterwarnings("ignore", message="Skipping check check_array_api_input")
        results = check_estimator(detector)
    assert {result["status"] for result in results} <= {"passed", "skipped"}


@pytest.mark.parametrize("summary", SUMMARIES)
@pytest.mark.parametrize("tail", ["upper", "lower", "two-sided"])
def test_summaries(clean, rng, summary, tail):
    detector = SummaryDetector(summary=summary, tail=tail, random_state=0).fit(clean)
    shares = plan(300, "holdout", 0.25, 0)
    p = Background(clean[shares.background]).p_values(clean[shares.calibration], tail)
    expected = {"mean-p": 1 - p.mean(axis=1), "minimum-p": -np.log(p.min(axis=1)), "fisher": -2 * np.log(p).sum(axis=1)}
    assert detector.null_scores_ == pytest.approx(expected[summary], rel=1e-12)
    assert np.array_equal(detector.predict(clean) == -1, detector.p_values(clean) <= 0.05)


def test_a_simple_score_misses_what_a_scan_sees(rng):
    clean, images = rng.normal(size=(2000, 400)), rng.normal(size=(100, 400))
    images[:, :20] += 3
    found = {
        name: np.mean(detector.fit(clean).predict(images) == -1)
        for name, detector in {
            "scan": SubsetScanDetector(statistic="higher-criticism", scope="all", random_state=0),
            "mean": SummaryDetector(random_state=0),
        }.items()
    }
    assert found["scan"] > found["mean"] + 0.2


@pytest.mark.parametrize("combine", ["min", "fisher", "cauchy"])
def test_combinations_are_calibrated_again(rng, combine):
    """On fresh clean images the share of small p-values stays at the rate, although the two tails depend."""
    flagged, n_null = [], 0
    for seed in range(40):
        detector = CombinedDetector(TAILS, combine=combine, false_positive_rate=0.1, random_state=seed)
        detector.fit(rng.normal(size=(200, 15)))
        n_null = len(detector.null_scores_)
        flagged.append(np.mean(detector.p_values(rng.normal(size=(200, 15))) <= 0.1))
    expected = np.floor(0.1 * (n_null + 1)) / (n_null + 1)
    assert abs(np.mean(flagged) - expected) < 4 * 0.047 / np.sqrt(40)


def test_a_combination_looks_both_ways(clean):
    for shift in (-2, 2):
        assert (CombinedDetector(TAILS, random_state=0).fit(clean).predict(clean[:30] + shift) == -1).all()


def test_combined_scores_by_hand():
    p = np.array([[0.5, 0.25], [1.0, 0.1]])
    assert combined_scores(p, "min").tolist() == [0.75, 0.9]
    assert combined_scores(p, "fisher") == pytest.approx([2 * np.log(8), 2 * np.log(10)])
    assert combined_scores(p, "harmonic") == pytest.approx([np.log(3), np.log(5.5)])
    assert combined_scores(p[:1], "cauchy") == pytest.approx([(0 + 1) / 2])
    assert combined_scores(p, "cauchy")[1] == pytest.approx(
        np.tan(0.4 * np.pi) / 2
    )  # the p-value of 1 takes nothing off
    with pytest.raises(
        ValueError, match="unknown combination 'max'; known are 'fisher', 'harmonic', 'cauchy', 'min' and None"
    ):
        combined_scores(p, "max")


def test_two_combinations_are_combined_by_hand():
    """Fisher's sum and the harmonic mean, each as a p-value among clean images, and Fisher's sum of both."""
    null = np.array([[0.2, 0.4], [0.6, 0.6], [0.8, 0.2]])  # too few for a tail
    own = np.array([[0.1, 0.7], [1.0, 1.0]])
    scores, null_scores = combined(own, null, "fisher+harmonic")
    # Products .08, .36, .16, and .07, 1; means of 1/p 3.75, 1.67, 3.12, and 5.71, 1: either puts them in one order.
    assert null_scores == pytest.approx([-4 * np.log(1 / 3), -4 * np.log(3 / 3), -4 * np.log(2 / 3)])
    assert scores == pytest.approx([-4 * np.log(1 / 4), -4 * np.log(1)])


def test_p_values_go_on_below_the_smallest_conformal_one():
    null = np.arange(100.0)  # the 90 % point is 90, and nine are above it, by 5 on average and in the middle
    scores = np.array([-1.0, 50.5, 90.0, 90.5, 190.0, 1e6])
    expected = [1, 50 / 101, 11 / 101, 9 / 101 * np.exp(-0.1), 9 / 101 * np.exp(-20), 1e-300]
    assert extrapolated_p_values(scores, null) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60)
@given(arrays(np.float64, st.integers(2, 150), elements=st.integers(0, 40).map(float) | st.floats(0, 1e6)))
def test_images_that_calibrate_are_judged_by_the_others(null):
    others = [np.delete(null, n) for n in range(len(null))]
    if not has_tail(null):
        n = len(null)
        assert extrapolated_null_p_values(null) == pytest.approx(null_p_values(null) * (n + 1) / n, rel=1e-12)
    elif all(map(has_tail, others)):
        own = [extrapolated_p_values(null[n : n + 1], of_others)[0] for n, of_others in enumerate(others)]
        assert extrapolated_null_p_values(null) == pytest.approx(np.array(own), rel=1e-9)


def test_one_null_score_far_out_leaves_the_tail_of_the_others():
    null = np.arange(100.0)
    expected = extrapolated_p_values(np.array([120.0]), null)
    null[-1] = 1e9
    assert expected < extrapolated_p_values(np.array([120.0]), null) < 15 * expected  # by the mean, 400 times


def test_combinations_flag_as_many_as_is_asked_with_few_null_scores():
    """At 1 and 5 %: with scores that had a part in their own tail it was .045 and .10."""
    flagged = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        null, new = rng.normal(size=(99, 20)), rng.normal(size=(1000, 20))
        own = np.column_stack([extrapolated_p_values(new[:, n], null[:, n]) for n in range(20)])
        among = np.column_stack([extrapolated_null_p_values(null[:, n]) for n in range(20)])
        p_values = conformal_p_values(*combined(own, among, "fisher+harmonic"))
        flagged.append([np.mean(p_values <= rate) for rate in (0.01, 0.05)])
    assert (np.mean(flagged, axis=0) < [0.016, 0.06]).all()


@pytest.mark.parametrize("n", [1, 5, 59, 61])
def test_few_or_equal_null_scores_have_no_tail(n):
    for null in (np.zeros(n), np.arange(float(n))):
        scores = np.array([-1.0, 0.0, 1e9])
        assert np.array_equal(extrapolated_p_values(scores, null), conformal_p_values(scores, null))
        among = null_p_values(null) * (n + 1) / n  # each beside n - 1 others
        assert extrapolated_null_p_values(null) == pytest.approx(among, rel=1e-12)


@given(arrays(np.float64, st.integers(1, 200), elements=st.integers(0, 50).map(float)))
def test_extrapolated_p_values_fall_as_scores_grow(null):
    scores = np.linspace(-1, 100, 300)
    p_values = extrapolated_p_values(scores, null)
    assert (np.diff(p_values) <= 0).all()
    assert ((p_values > 0) & (p_values <= 1)).all()
    assert ((extrapolated_null_p_values(null) > 0) & (extrapolated_null_p_values(null) <= 1)).all()


@pytest.mark.parametrize("combine", SUMS)
@given(p=arrays(np.float64, 4, elements=st.floats(0.001, 1)), large=st.floats(0, 1))
def test_a_large_p_value_never_hides_a_small_one(combine, p, large):
    """What a combination makes of several p-values is at least what it makes of the smallest among ordinary ones."""
    smallest = np.array([[p.min(), *np.full(3, max(0.5, p.min()))]])
    score = combined_scores(p[np.newaxis], combine)[0]
    worst = combined_scores(np.array([[p.min(), 1, 1, 1]]), combine)[0]
    assert score >= worst - 1e-12
    if combine not in ("fisher", "harmonic"):
        assert worst == pytest.approx(combined_scores(smallest, combine)[0], abs=1e-12)
    larger = np.maximum(p, large)  # scores fall as p-values grow
    assert combined_scores(larger[np.newaxis], combine)[0] <= score + 1e-12


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_opposite_tails_do_not_cancel(combine, rng):
    """Under a shift down the upper tail's p-value is 1 and the lower one's small."""
    clean = rng.normal(size=(800, 30))
    detector = CombinedDetector(TAILS, combine=combine, random_state=0).fit(clean)
    p_values = [part.p_values(clean[:50] - 2) for part in detector.detectors_]
    assert p_values[0].min() > 0.9
    assert p_values[1].max() < 0.01
    assert detector.p_values(clean[:50] - 2).max() < 0.02


def test_scores_that_are_no_numbers_have_no_p_value():
    with pytest.raises(ValueError, match="scores must be numbers, got NaN at 1"):
        conformal_p_values([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="null scores must be numbers, got NaN at 0"):
        conformal_p_values([1.0], [np.nan])
    with pytest.raises(ValueError, match=r"p-values must be in \[0, 1\], got nan"):
        combined_scores(np.array([[0.5, np.nan]]), "min")


def frames(clean):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(clean * np.arange(1, 21), columns=[f"node {n}" for n in range(20)])


def test_columns_of_another_order_are_refused(clean, tmp_path):
    frame, labels = frames(clean), np.arange(len(clean)) % 2
    for detector, given_labels in (
        (CombinedDetector(TAILS, random_state=0), ()),
        (ClassConditionalDetector(SubsetScanDetector(random_state=0), min_class_size=2), (labels,)),
    ):
        detector.fit(frame, *given_labels)
        assert np.mean(detector.predict(frame, *given_labels) == -1) < 0.1  # no warning: they are errors here
        detector.save(tmp_path / "detector.safetensors")
        for one in (detector, type(detector).load(tmp_path / "detector.safetensors")):
            for ask in (one.predict, one.p_values, one.anomaly_score, one.calibrate):
                with pytest.raises(ValueError, match="feature names should match"):
                    ask(frame[frame.columns[::-1]], *given_labels)


class Decisive(BaseEstimator):
    """An estimator without score_samples."""

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        return self

    def decision_function(self, X):
        return -np.abs(X - self.mean_).sum(axis=1)


class Distance(CalibratedDetector):
    """A detector of a user's own: the distance from the mean."""

    def __init__(
        self, power=2, calibration="holdout", calibration_fraction=0.25, false_positive_rate=0.05, random_state=0
    ):
        self.power = power
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit_background(self, X):
        self.mean_, self.n_seen_ = X.mean(axis=0), len(X)

    def anomaly_score(self, X, y=None):
        return (np.abs(self.check_values(X) - self.mean_) ** self.power).sum(axis=1)


def test_a_detector_of_ones_own_is_saved_and_loaded(clean, tmp_path):
    detector = Distance(power=3).fit(clean)
    shares = plan(300, "holdout", 0.25, 0)
    assert np.array_equal(detector.mean_, clean[shares.background].mean(axis=0))
    assert (detector.predict(clean + 2) == -1).all()
    detector.save(tmp_path / "detector.safetensors")
    loaded = load_detector(tmp_path / "detector.safetensors")
    assert type(loaded) is Distance
    assert loaded.get_params() == detector.get_params()
    assert loaded.n_seen_ == 225
    assert np.array_equal(loaded.p_values(clean), detector.p_values(clean))
    with pytest.raises(ValueError, match="cannot leave out one input at a time"):
        Distance(calibration="leave-one-out").fit(clean)


def test_what_cannot_be_loaded_is_not_saved(clean, tmp_path):
    detector = Distance().fit(clean)
    detector.tree_ = {1, 2}
    with pytest.raises(TypeError, match="Distance cannot be saved: tree_ is a set; arrays of numbers"):
        detector.save(tmp_path / "detector.safetensors")
    outlier = OutlierDetector(OneClassSVM(), random_state=0).fit(clean)
    with pytest.raises(TypeError, match="OutlierDetector cannot be saved: estimator is a OneClassSVM"):
        outlier.save(tmp_path / "detector.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("of", ["score_samples", "decision_function", "pyod"])
def test_outlier_detectors_of_others_are_calibrated(clean, rng, of):
    if of == "pyod":
        estimator = pytest.importorskip("pyod.models.knn").KNN()
    else:
        estimator = OneClassSVM() if of == "score_samples" else Decisive()
    detector = OutlierDetector(estimator, random_state=0).fit(clean)
    shares = plan(300, "holdout", 0.25, 0)
    alone = clone(estimator).fit(clean[shares.background])
    sign = 1 if of == "pyod" else -1
    scores = sign * getattr(alone, "score_samples" if of == "score_samples" else "decision_function")(clean)
    assert detector.anomaly_score(clean) == pytest.approx(scores, rel=1e-12)
    assert np.array_equal(detector.null_scores_, detector.anomaly_score(clean[shares.calibration]))
    assert np.mean(detector.p_values(clean * 3) <= 0.05) > 0.9
    assert len(detector.anomaly_score(clean[:0])) == 0
    with pytest.raises(TypeError, match="score_samples or decision_function, got StandardScaler"):
        OutlierDetector(StandardScaler()).fit(clean)


def test_a_combination_that_fails_to_calibrate_is_as_it_was(clean):
    class Picky(SubsetScanDetector):
        def anomaly_score(self, X, y=None):
            if np.max(X) > 100:
                raise ValueError("too large for me")
            return super().anomaly_score(X)

    detector = CombinedDetector([SubsetScanDetector(), Picky(tail="lower")], random_state=0).fit(clean)
    before = detector.p_values(clean)
    with pytest.raises(ValueError, match="too large for me"):
        detector.calibrate(clean[:50] + 200)
    assert np.array_equal(detector.p_values(clean), before)


def test_no_image_has_no_score(clean):
    labels = np.arange(len(clean)) % 2
    detector = ClassConditionalDetector(SubsetScanDetector(random_state=0), min_class_size=2).fit(clean, labels)
    found = detector.scan(clean[:0], labels[:0], return_nodes=True)
    assert len(found) == 0
    assert found.nodes.shape == (0, 20)
    for ask in (detector.predict, detector.p_values, detector.anomaly_score):
        assert len(ask(clean[:0], labels[:0])) == 0
    with pytest.raises(ValueError, match="that of input 1 is NaN"):
        detector.fit(clean[:4], [0, np.nan, 1, 1])


def test_null_p_values_are_never_too_large(rng):
    """With a further image among them, the p-values of those that calibrate could only grow."""
    scores = rng.integers(0, 5, size=30).astype(float)
    own = null_p_values(scores)
    assert own.tolist() == [np.sum(scores >= score) / 31 for score in scores]
    for further in range(-1, 6):
        among_all = np.array([np.sum(np.append(scores, further) >= score) / 31 for score in scores])
        assert (own <= among_all).all()


def test_your_own_images_calibrate(clean, rng):
    detector = SubsetScanDetector(calibration=None).fit(clean)
    own = rng.normal(size=(99, 20))
    assert detector.calibrate(own) is detector
    assert np.array_equal(detector.null_scores_, detector.anomaly_score(own))
    assert detector.p_values(own).min() >= 0.01
    assert (detector.predict(own + 3) == -1).all()
    with pytest.raises(NotFittedError):
        SubsetScanDetector().calibrate(own)
    both = CombinedDetector(TAILS, random_state=0).fit(clean).calibrate(own)
    assert len(both.null_scores_) == 99


def test_random_ties_are_drawn_from_the_seed():
    clean = np.maximum(np.random.default_rng(0).normal(size=(200, 10)), 0)
    scores = [SubsetScanDetector(ties="random", random_state=seed).fit(clean).null_scores_ for seed in (0, 0, 1)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    detector = SubsetScanDetector(ties="random", random_state=0).fit(clean)
    assert np.array_equal(detector.anomaly_score(clean[7:8]), detector.anomaly_score(clean)[7:8])


@pytest.fixture
def labelled(rng):
    labels = rng.permutation(np.repeat([0, 1, 2], [120, 150, 130]))
    return rng.normal(size=(400, 10)) + 5 * labels[:, np.newaxis], labels


@pytest.mark.parametrize("calibration", ["holdout", "leave-one-out", None])
def test_each_class_has_its_own_detector(labelled, calibration):
    clean, labels = labelled
    base = SubsetScanDetector(calibration=calibration, random_state=0)
    detector = ClassConditionalDetector(base).fit(clean, labels)
    found = detector.scan(clean, labels, return_nodes=True)
    for label in range(3):
        own = labels == label
        alone = SubsetScanDetector(**base.get_params()).fit(clean[own])
        assert np.array_equal(detector.anomaly_score(clean, labels)[own], alone.anomaly_score(clean[own]))
        assert np.array_equal(found.scores[own], alone.anomaly_score(clean[own]))
        expected = alone.scan(clean[own], return_nodes=True)
        assert np.array_equal(found.nodes[np.flatnonzero(own)].toarray(), expected.nodes.toarray())
        if calibration:
            assert np.array_equal(detector.p_values(clean, labels)[own], alone.p_values(clean[own]))
            assert np.array_equal(detector.predict(clean, labels)[own], alone.predict(clean[own]))
            null = detector.null_p_values()[detector.null_labels_ == label]
            assert np.array_equal(null, alone.null_p_values())


def test_labels_that_do_not_fit(labelled):
    clean, labels = labelled
    with pytest.raises(ValueError, match=r"at least 130 clean inputs \(min_class_size\); these have fewer: 0 \(120\)"):
        ClassConditionalDetector(SubsetScanDetector(), min_class_size=130).fit(clean, labels)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ClassConditionalDetector(SubsetScanDetector()).fit(clean, labels[1:])
    detector = ClassConditionalDetector(SubsetScanDetector()).fit(clean, labels)
    with pytest.raises(ValueError, match="400 inputs but 399 labels"):
        detector.p_values(clean, labels[1:])
    with pytest.raises(ValueError, match="label 7 of input 1 has no background; there are 0, 1, 2"):
        detector.predict(clean[:2], [0, 7])
    with pytest.raises(ValueError, match="no input calibrates the classes 1, 2"):
        detector.calibrate(clean[labels == 0], labels[labels == 0])
    with pytest.raises(NotFittedError):
        ClassConditionalDetector(SubsetScanDetector()).scan(clean, labels)


def test_every_kind_is_saved_and_loaded(labelled, tmp_path):
    clean, labels = labelled
    kinds = [
        SummaryDetector(summary="fisher", tail="two-sided", ties="midrank", random_state=0).fit(clean),
        SubsetScanDetector(ties="range", random_state=0).fit(clean),
        CombinedDetector(TAILS, combine="fisher", random_state=0).fit(clean),
    ]
    for detector in kinds:
        detector.save(tmp_path / "detector.safetensors")
        loaded = load_detector(tmp_path / "detector.safetensors")
        assert type(loaded) is type(detector)
        assert np.array_equal(loaded.p_values(clean), detector.p_values(clean))
        assert np.array_equal(loaded.predict(clean), detector.predict(clean))
    with pytest.raises(
        ValueError, match="is not a file of SummaryDetector: its format is 'subsetscan.CombinedDetector'"
    ):
        SummaryDetector.load(tmp_path / "detector.safetensors")
    for names in (labels, np.array(["boot", "coat", "shirt"])[labels]):
        detector = ClassConditionalDetector(CombinedDetector(TAILS, random_state=0)).fit(clean, names)
        detector.save(tmp_path / "detector.safetensors")
        loaded = ClassConditionalDetector.load(tmp_path / "detector.safetensors")
        assert np.array_equal(loaded.p_values(clean, names), detector.p_values(clean, names))
        assert np.array_equal(loaded.null_p_values(), detector.null_p_values())


def test_selection_controls_the_false_discovery_rate(rng):
    null_scores = rng.normal(size=999)
    shares = []
    for _ in range(60):
        scores = np.concatenate([rng.normal(size=180), rng.normal(4, size=20)])
        chosen = select(conformal_p_values(scores, null_scores), fdr=0.2)
        assert chosen.dtype == bool
        shares.append(chosen[:180].sum() / max(chosen.sum(), 1))
    assert np.mean(shares) < 0.25
    assert select([]).tolist() == []
    for bad in (0, 1, -0.1, 2, np.nan):
        with pytest.raises(ValueError, match=r"fdr must be in \(0, 1\), got"):
            select([0.5], fdr=bad)
    with pytest.raises(ValueError, match=r"p-values must be in \[0, 1\], got 1.5"):
        select([0.5, 1.5])
    with pytest.raises(ValueError, match=r"p-values must have 1 dimension, got shape \(1, 1\)"):
        select([[0.5]])


def test_combinations_that_are_none(clean):
    with pytest.raises(ValueError, match="at least one detector is needed"):
        CombinedDetector([]).fit(clean)
    with pytest.raises(ValueError, match="unknown combination 'x'"):
        CombinedDetector(TAILS, combine="x").fit(clean)
    with pytest.raises(ValueError, match="calibration must be 'holdout' or 'leave-one-out'"):
        CombinedDetector(TAILS, calibration=None).fit(clean)
    with pytest.raises(ValueError, match='unknown summary "x"; known are mean-p, minimum-p, fisher'):
        SummaryDetector(summary="x").fit(clean)
    with pytest.raises(ValueError, match='ties "range" leave every node a range'):
        SummaryDetector(ties="range").fit(clean)


def test_the_rate_of_classes_is_saved(clean, tmp_path):
    labels = np.arange(len(clean)) % 2
    detector = ClassConditionalDetector(SubsetScanDetector(random_state=0)).fit(clean, labels)
    detector.set_params(detector__false_positive_rate=0.3)
    detector.save(tmp_path / "detector.safetensors")
    loaded = ClassConditionalDetector.load(tmp_path / "detector.safetensors")
    assert loaded.false_positive_rate == 0.3
    assert np.array_equal(loaded.predict(clean, labels), detector.predict(clean, labels))
    assert np.array_equal(detector.predict(clean, labels) == -1, detector.p_values(clean, labels) <= 0.3)
    p_values = detector.p_values_of([1.0, 2.0], [0, 1])
    assert p_values.shape == detector.decisions_of([1.0, 2.0], [0, 1]).shape == (2,)


def test_scores_that_are_not_one_an_image_are_refused(clean):
    class Three(Distance):
        def anomaly_score(self, X, y=None):
            return np.zeros(3)

    with pytest.raises(ValueError, match=r"one score an input, shape \(75,\), got \(3,\)"):
        Three().fit(clean)


def test_attributes_that_would_be_lost_are_named(clean, tmp_path):
    detector = Distance().fit(clean)
    detector._hidden = np.zeros(3)
    with pytest.raises(TypeError, match="its attribute _hidden would be lost"):
        detector.save(tmp_path / "detector.safetensors")


@pytest.mark.parametrize("labels", [[0, None, 1] * 100, [0, "1", 1] * 100])
def test_labels_of_several_types_are_refused(clean, labels):
    detector = ClassConditionalDetector(SubsetScanDetector())
    with pytest.raises((TypeError, ValueError), match="that of input 1 is missing|labels must be of one type"):
        detector.fit(clean, np.array(labels, dtype=object))


def test_estimators_that_look_at_rows_together_are_asked_for_one_at_a_time(clean):
    ecod = pytest.importorskip("pyod.models.ecod")
    detector = OutlierDetector(ecod.ECOD(), random_state=0).fit(clean)
    shifted = clean[:30] + 0.8
    assert detector.scores_alone_
    assert np.array_equal(detector.predict(shifted), np.concatenate([detector.predict(x[np.newaxis]) for x in shifted]))
    assert not OutlierDetector(OneClassSVM(), random_state=0).fit(clean).scores_alone_


@pytest.mark.parametrize("shape", [(3,), (3, 0)])
@pytest.mark.parametrize("combine", COMBINATIONS)
def test_combinations_need_a_table(shape, combine):
    with pytest.raises(ValueError, match=r"p-values must have shape \(N, S\)"):
        combined_scores(np.ones(shape), combine)
