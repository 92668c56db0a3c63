"""The scan as a detector of PyOD: what PyOD asks of its own ECOD, and exactly our own scores behind it."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from subsetscan import Background, SubsetScanDetector, reference
from subsetscan._extras import how_to_get
from subsetscan.detectors import (
    AutomaticDetector,
    CombinedDetector,
    MahalanobisDetector,
    NearestNeighborDetector,
    OutlierDetector,
)

data = pytest.importorskip("pyod.utils.data", reason='pip install "subsetscan[pyod]"')

from subsetscan.adapters.pyod import SubsetScan  # noqa: E402 (PyOD may be missing)

N_TRAIN, N_TEST, FLOOR = 200, 100, 0.8  # the area that PyOD asks of its ECOD on the same rows


@pytest.fixture(scope="module")
def drawn():
    """Rows of PyOD's generator, 10 % of them outliers: those of the fit, others, and the labels of both."""
    return data.generate_data(n_train=N_TRAIN, n_test=N_TEST, n_features=10, contamination=0.1, random_state=42)


@pytest.fixture(scope="module")
def rows(drawn):
    return drawn[0]


@pytest.fixture(scope="module")
def others(drawn):
    return drawn[1]


@pytest.fixture(scope="module")
def fitted(rows):
    return SubsetScan(contamination=0.1).fit(rows)


@pytest.fixture(params=[None, AutomaticDetector()], ids=["scan", "automatic"], scope="module")
def either(request, rows):
    return SubsetScan(contamination=0.1, detector=request.param).fit(rows)


# What PyOD's tests ask of its ECOD.


def test_a_fit_leaves_what_pyod_reads(either):
    assert either.decision_scores_.shape == either.labels_.shape == (N_TRAIN,)
    assert np.isfinite(either.threshold_)
    assert set(either.labels_) == {0, 1}
    assert either.contamination == 0.1


def test_outliers_score_high(either, drawn):
    _, others, labels, labels_of_others = drawn
    scores = either.decision_function(others)
    assert scores.shape == (N_TEST,)
    assert roc_auc_score(labels_of_others, scores) >= FLOOR
    assert roc_auc_score(labels, either.decision_scores_) >= FLOOR


def test_labels_follow_the_threshold(either, others):
    labels = either.predict(others)
    assert labels.shape == (N_TEST,)
    assert np.array_equal(labels, either.decision_function(others) > either.threshold_)
    assert either.labels_.sum() == N_TRAIN // 10


@pytest.mark.parametrize("options", [{}, {"method": "linear"}, {"method": "unify"}])
def test_probabilities(either, others, options):
    probabilities, confidence = either.predict_proba(others, **options, return_confidence=True)
    assert np.array_equal(probabilities, either.predict_proba(others, **options))
    assert probabilities.shape == (N_TEST, 2)
    assert probabilities.min() >= 0
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(N_TEST))
    assert confidence.shape == (N_TEST,)
    assert 0 <= confidence.min() <= confidence.max() <= 1
    in_order = np.argsort(either.decision_function(others))
    assert (np.diff(probabilities[in_order, 1]) >= 0).all()


def test_an_unknown_kind_of_probability_is_refused(fitted, others):
    with pytest.raises(ValueError, match="something"):
        fitted.predict_proba(others, method="something")


def test_labels_with_confidence(either, others):
    labels, confidence = either.predict(others, return_confidence=True)
    assert np.array_equal(labels, either.predict(others))
    assert confidence.shape == (N_TEST,)
    assert 0 <= confidence.min() <= confidence.max() <= 1


def test_rejection(either, others):
    labels = either.predict_with_rejection(others, c_r=0.1)
    assert labels.shape == (N_TEST,)
    assert set(labels) <= {-2, 0, 1}
    kept = labels != -2
    assert np.array_equal(labels[kept], either.predict(others)[kept])
    with pytest.warns(UserWarning, match="cost of rejection"):
        same, (rejected, most_rejected, most_cost) = either.predict_with_rejection(others, return_stats=True)
    assert np.array_equal(same, labels)
    assert 0 <= rejected <= 1
    assert 0 <= most_rejected <= 1
    assert most_cost >= 0


def test_fit_and_predict_at_once(rows, fitted):
    with pytest.warns(FutureWarning, match="fit_predict"):
        labels = SubsetScan(contamination=0.1).fit_predict(rows)
    assert np.array_equal(labels, fitted.labels_)


@pytest.mark.parametrize("scoring", ["roc_auc_score", "prc_n_score"])
def test_fit_and_judge_at_once(drawn, scoring):
    _, others, _, labels = drawn
    with pytest.warns(FutureWarning, match="fit_predict_score"):
        assert FLOOR - 0.2 <= SubsetScan().fit_predict_score(others, labels, scoring=scoring) <= 1


def test_an_unknown_measure_is_refused(drawn):
    with pytest.warns(FutureWarning, match="fit_predict_score"), pytest.raises(NotImplementedError):
        SubsetScan().fit_predict_score(drawn[1], drawn[3], scoring="something")


@pytest.mark.parametrize(("normalized", "highest"), [(False, N_TRAIN), (True, 1)])
def test_ranks_are_in_the_order_of_the_scores(either, others, normalized, highest):
    ranks = either._predict_rank(others, normalized=normalized)
    assert rankdata(ranks) == pytest.approx(rankdata(either.decision_function(others)), abs=3)
    assert 0 <= ranks.min() <= ranks.max() <= highest


def test_clones_and_parameters(rows):
    detector = SubsetScan(0.2, detector=AutomaticDetector(random_state=3))
    copy = clone(detector.fit(rows))
    assert copy.contamination == 0.2
    assert copy.detector is not detector.detector
    assert copy.get_params()["detector__random_state"] == 3
    assert not hasattr(copy, "decision_scores_")
    copy.set_params(contamination=0.3, detector__random_state=4)
    assert (copy.contamination, copy.detector.random_state, detector.detector.random_state) == (0.3, 4, 3)
    assert set(SubsetScan().get_params()) == {"contamination", "n_jobs", "detector"}
    assert "contamination=0.2" in repr(detector)


def test_jobs_change_nothing(rows, others, fitted):
    jobs = SubsetScan(0.1, 2).fit(rows)
    assert clone(jobs).n_jobs == 2
    assert np.array_equal(jobs.decision_scores_, fitted.decision_scores_)
    assert np.array_equal(jobs.predict(others), fitted.predict(others))


# What is behind it.


def test_scores_are_those_of_the_reference(rng):
    """Each row's own scan beside the others, in plain Python, and that of new rows against all; many values tie."""
    rows, new = (rng.integers(0, 9, (n, 5)).astype(float) for n in (30, 4))
    detector = SubsetScan().fit(rows)
    assert detector.decision_scores_.tolist() == reference.null_scores(rows.tolist(), tail="two-sided")
    expected = [reference.scan_image(row, rows.tolist(), tail="two-sided")[0] for row in new.tolist()]
    assert detector.decision_function(new).tolist() == expected


@pytest.mark.parametrize(
    "detector",
    [
        None,
        SubsetScanDetector(statistic="higher-criticism", tail="upper", calibration="leave-one-out"),
        AutomaticDetector(),
        MahalanobisDetector(),
        NearestNeighborDetector(),
        CombinedDetector(
            [SubsetScanDetector(tail="upper"), SubsetScanDetector(tail="lower")], calibration="leave-one-out"
        ),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_scores_are_those_of_the_detector(rows, others, detector, tmp_path):
    fitted = SubsetScan(contamination=0.15, detector=detector).fit(rows)
    own = clone(detector or SubsetScanDetector(tail="two-sided", calibration="leave-one-out")).fit(rows)
    assert np.array_equal(fitted.decision_scores_, own.null_scores_)
    assert np.array_equal(fitted.decision_function(others), own.anomaly_score(others))
    assert fitted.detector is detector
    fitted.save(tmp_path / "fitted.safetensors")
    loaded = SubsetScan.load(tmp_path / "fitted.safetensors")
    for name in ("decision_scores_", "threshold_", "labels_", "contamination"):
        assert np.array_equal(getattr(loaded, name), getattr(fitted, name))
    for ask in ("decision_function", "predict", "predict_proba", "predict_confidence"):
        assert np.array_equal(getattr(loaded, ask)(others), getattr(fitted, ask)(others))
    assert np.array_equal(loaded.predict_proba(others, method="unify"), fitted.predict_proba(others, method="unify"))
    assert np.array_equal(clone(loaded).fit(rows).decision_scores_, fitted.decision_scores_)


def test_rows_are_left_out_of_their_own_background(rows, fitted):
    scores = Background(rows).leave_one_out(rows, tail="two-sided", same_grid=True).scores
    assert np.array_equal(fitted.decision_scores_, scores)
    assert np.array_equal(SubsetScan().fit(rows[::-1]).decision_scores_, scores[::-1])


def test_files(rows, fitted, tmp_path):
    path = tmp_path / "fitted.safetensors"
    with pytest.raises(NotFittedError):
        SubsetScan().save(path)
    with pytest.raises(TypeError, match="SubsetScan cannot be saved: contamination is a Halves"):
        SubsetScan(Halves()).fit(rows).save(path)
    assert list(tmp_path.iterdir()) == []
    fitted.detector_.save(path)
    with pytest.raises(ValueError, match="is not a file of SubsetScan: its format is 'subsetscan.SubsetScanDetector'"):
        SubsetScan.load(path)
    changed = SubsetScan(0.1).fit(rows).set_params(contamination=0.3)  # what was fitted stays as it was
    changed.save(path)
    loaded = SubsetScan.load(path)
    assert loaded.contamination == 0.3
    assert np.array_equal(loaded.labels_, fitted.labels_)
    assert loaded.threshold_ == fitted.threshold_


class Halves:
    """A thresholder as PyOD takes them: what is above the mean is an outlier."""

    def fit(self, scores):
        self.thresh_ = scores.mean()
        self.labels_ = self.predict(scores)

    def predict(self, scores):
        return (scores > self.thresh_).astype(int)


def test_thresholders(rows, others):
    detector = SubsetScan(Halves()).fit(rows)
    scores = detector.decision_scores_
    assert np.array_equal(detector.labels_, scores > scores.mean())
    assert np.array_equal(detector.predict(others), detector.decision_function(others) > scores.mean())


@pytest.mark.parametrize("contamination", [0, -0.1, 0.6, 1, np.nan])
def test_contamination_out_of_range(rows, contamination):
    with pytest.raises(ValueError, match=r"contamination must be in \(0, 0.5\], got"):
        SubsetScan(contamination=contamination)
    with pytest.raises(ValueError, match=r"contamination must be in \(0, 0.5\], got"):
        SubsetScan().set_params(contamination=contamination).fit(rows)


@pytest.mark.parametrize("contamination", ["auto", None, np.float32(0.1)])
def test_contamination_that_is_none(rows, contamination):
    kind = type(contamination).__name__
    with pytest.raises(TypeError, match=f"contamination must be a float or a thresholder of PyOD, got a {kind}"):
        SubsetScan(contamination).fit(rows)


@pytest.mark.parametrize(
    ("detector", "error", "message"),
    [
        (OneClassSVM(), TypeError, r"one of subsetscan.detectors, as AutomaticDetector\(\), got OneClassSVM"),
        (AutomaticDetector, TypeError, "got <class 'subsetscan.detectors.automatic"),
        (SubsetScanDetector(), ValueError, "calibration of the detector must be 'leave-one-out', got 'holdout'"),
        (AutomaticDetector(calibration=None), ValueError, "must be 'leave-one-out', got None"),
        (
            OutlierDetector(OneClassSVM(), calibration="leave-one-out"),
            ValueError,
            "OutlierDetector cannot leave out one input",
        ),
    ],
    ids=str,
)
def test_detectors_that_leave_no_row_out(rows, detector, error, message):
    with pytest.raises(error, match=message):
        SubsetScan(detector=detector).fit(rows)


def test_values_that_are_refused(rows, others, fitted):
    broken = others.copy()
    broken[3, 2] = np.nan
    for ask in (SubsetScan().fit, fitted.decision_function, fitted.predict, fitted.predict_proba):
        with pytest.raises(ValueError, match="contains NaN"):
            ask(broken)
    with pytest.raises(ValueError, match="X has 9 features, but SubsetScanDetector is expecting 10"):
        fitted.decision_function(others[:, :9])
    with pytest.raises(ValueError, match="needs at least 2 clean inputs, got 1 sample"):
        SubsetScan().fit(rows[:1])
    with pytest.raises(NotFittedError):
        SubsetScan().decision_function(others)
    with pytest.raises(NotFittedError):
        SubsetScan().predict(others)


def test_a_fit_that_fails_changes_nothing(rows, others):
    detector = SubsetScan().fit(rows)
    before = dict(vars(detector))
    with pytest.raises(ValueError, match="Unknown label type"):
        detector.fit(others, np.linspace(0, 1, N_TEST))
    with pytest.raises(ValueError, match="infinity"):
        detector.fit(np.full((5, 3), np.inf))
    assert vars(detector).keys() == before.keys()
    assert all(vars(detector)[name] is value for name, value in before.items())


def test_labels_are_warned_of(drawn, fitted):
    with pytest.warns(UserWarning, match="y should not be presented"):
        detector = SubsetScan().fit(drawn[0], drawn[2])
    assert np.array_equal(detector.decision_scores_, fitted.decision_scores_)


def test_columns_have_names(rows, others, tmp_path):
    pandas = pytest.importorskip("pandas")
    names = [f"n{n}" for n in range(10)]
    detector = SubsetScan().fit(pandas.DataFrame(rows, columns=names))
    detector.save(tmp_path / "fitted.safetensors")
    frame = pandas.DataFrame(others, columns=names)
    for one in (detector, SubsetScan.load(tmp_path / "fitted.safetensors")):
        assert one.predict_proba(frame).shape == (N_TEST, 2)
        with pytest.raises(ValueError, match="feature names should match"):
            one.predict(frame[names[::-1]])
    assert np.array_equal(detector.decision_function(frame), SubsetScan().fit(rows).decision_function(others))


@pytest.mark.parametrize("n", [2, 5, 18])
def test_few_rows_without_a_word(rng, n):
    rows = rng.normal(size=(n, 4))
    detector = SubsetScan(contamination=0.5).fit(rows)
    assert detector.predict(rows).shape == (n,)


def test_one_column_and_constant_ones(rng):
    rows = rng.normal(size=(200, 1))
    rows[0] = 9
    assert np.isfinite(SubsetScan().fit(rows).decision_scores_).all()
    several = np.hstack([rng.normal(size=(200, 6)), np.full((200, 3), 7.0)])
    several[0, :6] = 9
    detector = SubsetScan().fit(several)
    assert detector.decision_scores_.argmax() == 0
    same = SubsetScan().fit(np.ones((50, 4)))
    assert len(set(same.decision_scores_)) == 1
    assert same.labels_.sum() == 0


def test_types(rows, others):
    single = rows.astype(np.float32)
    detector = SubsetScan().fit(single)
    assert detector.decision_scores_.dtype == np.float64
    own = SubsetScanDetector(tail="two-sided", calibration="leave-one-out").fit(single)
    assert np.array_equal(detector.decision_scores_, own.null_scores_)
    assert np.array_equal(detector.decision_function(others), own.anomaly_score(others.astype(np.float32)))
    whole = np.round(rows * 10).astype(int)
    assert np.array_equal(SubsetScan().fit(whole).decision_scores_, SubsetScan().fit(whole * 1.0).decision_scores_)
    assert np.array_equal(SubsetScan().fit(rows.tolist()).labels_, SubsetScan().fit(rows).labels_)


def test_in_a_pipeline(rows, others, fitted):
    pipeline = make_pipeline(StandardScaler(), SubsetScan()).fit(rows)
    assert np.array_equal(pipeline.predict(others), fitted.predict(others))  # ranks do not depend on the scale


def test_without_pyod_the_import_says_what_it_needs():
    code = "import sys; sys.modules['pyod'] = None; import subsetscan.adapters; import subsetscan.adapters.pyod"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert how_to_get("pyod") in run.stderr.splitlines()[-1]
