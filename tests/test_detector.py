"""The estimator: scikit-learn's contract, calibration, saving and loading."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_estimators_partial_fit_n_features,
    check_n_features_in_after_fitting,
)
from strategies import cases, scan_options

from subsetscan import Background, SubsetScanDetector, reference
from subsetscan.calibration import conformal_p_values, plan, score_threshold
from subsetscan.detectors import SummaryDetector


@pytest.fixture
def clean(rng):
    return rng.normal(size=(300, 20))


@pytest.mark.parametrize("options", [{}, {"calibration": "leave-one-out", "tail": "two-sided", "scope": "all"}])
def test_the_contract_of_scikit_learn(options):
    with warnings.catch_warnings():
        # The checks fit on a handful of samples, which are too few to calibrate with, and skip what is for others.
        warnings.filterwarnings("ignore", message=".*null scores cannot give a p-value")
        warnings.filterwarnings("ignore", message="Skipping check check_array_api_input")
        results = check_estimator(SubsetScanDetector(**options))
    assert len(results) > 40
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}


def test_holdout_is_background_and_calibration(clean):
    detector = SubsetScanDetector(random_state=3).fit(clean)
    shares = plan(300, "holdout", 0.25, 3)
    assert len(shares.calibration) == 75
    assert sorted([*shares.background, *shares.calibration]) == list(range(300))
    background = Background(clean[shares.background])
    assert np.array_equal(detector.null_scores_, background.scan(clean[shares.calibration]).scores)
    assert detector.background_.n_samples == 225


def test_leave_one_out_uses_everyone(clean):
    detector = SubsetScanDetector(calibration="leave-one-out").fit(clean)
    assert detector.background_.n_samples == 300
    assert np.array_equal(detector.null_scores_, Background(clean).leave_one_out(clean, same_grid=True).scores)


def test_leave_one_out_keeps_the_rate_where_many_images_share_a_score(rng):
    """Higher Criticism of one node at the smallest p-value is the same for many images, inside and outside."""
    flagged = []
    for seed in range(30):
        detector = SubsetScanDetector(statistic="higher-criticism", calibration="leave-one-out", random_state=seed)
        detector.fit(rng.normal(size=(100, 8)))
        flagged.append(np.mean(detector.predict(rng.normal(size=(500, 8))) == -1))
    assert np.mean(flagged) < 0.06


def test_scores_only(clean):
    detector = SubsetScanDetector(calibration=None).fit(clean)
    assert np.array_equal(detector.anomaly_score(clean), Background(clean).scan(clean).scores)
    for decide in (detector.p_values, detector.predict, detector.decision_function):
        with pytest.raises(ValueError, match="calibration=None gives scores only"):
            decide(clean)


@pytest.mark.parametrize("calibration", ["holdout", "leave-one-out"])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_predictions_are_p_values_at_the_rate(clean, rng, calibration, rate):
    detector = SubsetScanDetector(calibration=calibration, false_positive_rate=rate, random_state=0)
    if calibration == "holdout" and rate == 0.01:
        with pytest.warns(UserWarning, match="75 null scores cannot give a p-value of at most 0.01"):
            detector.fit(clean)
    else:
        detector.fit(clean)
    images = np.concatenate([clean[:50], rng.normal(0.3, 1.2, size=(200, 20))])
    if np.isinf(detector.offset_):
        with pytest.warns(UserWarning, match=r"the smallest is 1 / \(75 \+ 1\) = 0.0132; calibrate with at least 99"):
            assert (detector.predict(images) == 1).all()
        with pytest.warns(UserWarning, match="predict will flag nothing"):
            assert (detector.decision_function(images) > 0).all()
        return
    p_values = detector.p_values(images)
    assert p_values.tolist() == [
        reference.conformal_p_value(score, detector.null_scores_) for score in detector.anomaly_score(images)
    ]
    assert np.array_equal(detector.predict(images) == -1, p_values <= rate)
    assert np.array_equal(detector.predict(images) == -1, detector.decision_function(images) < 0)
    assert np.array_equal(detector.score_samples(images), -detector.anomaly_score(images))


def test_the_rate_holds_on_fresh_clean_images(rng):
    """Over many splits the share of flagged clean images stays near what was asked for."""
    flagged = []
    for seed in range(40):
        detector = SubsetScanDetector(false_positive_rate=0.1, random_state=seed).fit(rng.normal(size=(200, 15)))
        flagged.append(np.mean(detector.predict(rng.normal(size=(200, 15))) == -1))
    # The rate of one split has standard deviation of about sqrt(0.1 * 0.9 * (1/50 + 1/200)) = 0.047.
    assert abs(np.mean(flagged) - 5 / 51) < 4 * 0.047 / np.sqrt(40)


def test_conformal_threshold_on_ties():
    null_scores = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 5.0])
    scores = np.linspace(-1, 6, 29)
    for rate in np.linspace(0.01, 0.99, 99):
        assert np.array_equal(
            scores > score_threshold(null_scores, rate), conformal_p_values(scores, null_scores) <= rate
        )


def test_subsets(clean):
    found = SubsetScanDetector(random_state=0).fit(clean).scan(clean[:4] + 2, return_nodes=True)
    assert found.nodes.shape == (4, 20)
    assert np.array_equal(found.nodes.sum(axis=1), found.sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistic": "x"}, 'unknown statistic "x"'),
        ({"tail": "x"}, 'unknown tail "x"'),
        ({"scope": "x"}, 'unknown scope "x"'),
        ({"alpha_max": 0}, "alpha_max must be in"),
        ({"calibration": "x"}, "unknown calibration 'x'; known are 'holdout', 'leave-one-out' and None"),
        ({"calibration_fraction": 1.0}, r"calibration_fraction must be in \(0, 1\), got 1.0"),
        ({"false_positive_rate": 0.0}, r"false_positive_rate must be in \(0, 1\), got 0.0"),
    ],
)
def test_parameters_that_are_none(clean, options, message):
    with pytest.raises(ValueError, match=message):
        SubsetScanDetector(**options).fit(clean)


@pytest.mark.parametrize("option", ["statistic", "ties", "scope"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_no_score_takes_is_refused_by_the_fit(clean, option, method):
    detector = SubsetScanDetector(calibration=None, **{option: "other"})
    with pytest.raises(ValueError, match='unknown .* "other"; known are'):
        getattr(detector, method)(clean)
    assert not hasattr(detector, "background_")


def test_input_that_does_not_fit(clean):
    with pytest.raises(NotFittedError):
        SubsetScanDetector().scan(clean)
    with pytest.raises(ValueError, match="infinity"):
        SubsetScanDetector().fit(np.where(clean > 3, np.inf, clean))
    with pytest.raises(ValueError, match="needs at least 2 clean inputs, got 1 sample"):
        SubsetScanDetector().fit(clean[:1])
    detector = SubsetScanDetector(random_state=0).fit(clean)
    with pytest.raises(ValueError, match="X has 19 features, but SubsetScanDetector is expecting 20"):
        detector.predict(clean[:, 1:])
    assert detector.predict(clean[:0]).shape == (0,)


def test_a_change_after_the_fit_changes_nothing(clean):
    detector = SubsetScanDetector(random_state=0).fit(clean)
    before = detector.p_values(clean)
    detector.set_params(statistic="higher-criticism", alpha_max=1.0)
    assert np.array_equal(detector.p_values(clean), before)


def test_the_rate_of_the_moment_decides(clean, rng, tmp_path):
    detector = SubsetScanDetector(random_state=0).fit(clean)
    images = rng.normal(size=(300, 20))
    p_values = detector.p_values(images)
    for rate in (0.2, 0.5, 0.0500001, 0.05):
        detector.set_params(false_positive_rate=rate)
        detector.save(tmp_path / "detector.safetensors")
        for one in (detector, SubsetScanDetector.load(tmp_path / "detector.safetensors")):
            assert np.array_equal(one.predict(images) == -1, p_values <= rate)
            assert one.offset_ == detector.offset_
    detector.set_params(false_positive_rate=2)
    with pytest.raises(ValueError, match=r"false_positive_rate must be in \(0, 1\), got 2"):
        detector.predict(images)


@pytest.mark.parametrize("rate", [0.05, 0.0499, 0.01])
def test_too_few_null_scores_are_warned_of_at_every_rate(rate, rng):
    detector = SubsetScanDetector(false_positive_rate=rate, random_state=0)
    with pytest.warns(UserWarning, match="5 null scores cannot give a p-value of at most") as warned:
        detector.fit(rng.normal(size=(20, 3)))
    assert len(warned) == 1
    with pytest.warns(UserWarning, match="5 null scores cannot give a p-value of at most") as warned:
        assert (detector.predict(rng.normal(9, size=(4, 3))) == 1).all()
    assert len(warned) == 1


def test_a_call_that_fails_changes_nothing(clean, rng):
    detector = SubsetScanDetector(random_state=0).fit(clean)
    before = dict(vars(detector))
    for change in (
        lambda: detector.fit(rng.normal(size=(30, 7)) * np.nan),
        lambda: detector.set_params(alpha_max=0.5).fit(rng.normal(size=(1, 7))),
        lambda: detector.calibrate(clean[:, :7]),
        lambda: detector.calibrate(clean[:0]),
    ):
        with pytest.raises(ValueError, match="NaN|at least|features|clean input"):
            change()
        assert vars(detector) == before


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("calibration", ["holdout", None])
def test_save_and_load(clean, tmp_path, dtype, calibration):
    options = {"tail": "two-sided", "alpha_max": 0.2, "statistic": "higher-criticism", "false_positive_rate": 0.1}
    detector = SubsetScanDetector(calibration=calibration, random_state=1, **options).fit(clean.astype(dtype))
    detector.save(tmp_path / "detector.safetensors")
    loaded = SubsetScanDetector.load(tmp_path / "detector.safetensors")
    assert loaded.get_params() == detector.get_params()
    assert loaded.offset_ == detector.offset_
    assert loaded.background_.dtype == dtype
    found, expected = (d.scan(clean[:9] + 1, return_nodes=True) for d in (loaded, detector))
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.nodes.toarray(), expected.nodes.toarray())
    if calibration:
        assert np.array_equal(loaded.predict(clean), detector.predict(clean))
    assert [path.name for path in tmp_path.iterdir()] == ["detector.safetensors"]


def test_names_of_nodes_are_kept(clean, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(clean, columns=[f"node {n}" for n in range(20)])
    SubsetScanDetector(random_state=np.random.RandomState(0)).fit(frame).save(tmp_path / "d.safetensors")
    loaded = SubsetScanDetector.load(tmp_path / "d.safetensors")
    assert loaded.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame[frame.columns[::-1]])


def test_files_that_are_none(clean, tmp_path):
    path = tmp_path / "detector.safetensors"
    with pytest.raises(FileNotFoundError, match="no detector file at"):
        SubsetScanDetector.load(path)
    SubsetScanDetector(random_state=0).fit(clean).save(path)
    content = path.read_bytes()
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in ("background", "null_scores")}

    for damaged in (content[:100], content[:-8], b"", b"PK\x03\x04 something else"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a complete safetensors file"):
            SubsetScanDetector.load(path)

    def write(changed_tensors=(), **changed):
        save_file({**tensors, **dict(changed_tensors)}, path, metadata={**metadata, **changed})

    write(format="another")
    with pytest.raises(ValueError, match="not a file of SubsetScanDetector: its format is 'another'"):
        SubsetScanDetector.load(path)
    write(format_version="99")
    with pytest.raises(ValueError, match="has format version '99'; this subsetscan reads 1"):
        SubsetScanDetector.load(path)
    write(description="{}")
    with pytest.raises(ValueError, match="is damaged"):
        SubsetScanDetector.load(path)


def test_a_save_that_fails_leaves_what_was_there(clean, tmp_path):
    detector = SubsetScanDetector(random_state=0).fit(clean)
    with pytest.raises(OSError, match="No such file or directory"):
        detector.save(tmp_path / "nowhere" / "detector.safetensors")
    with pytest.raises(NotFittedError):
        SubsetScanDetector().save(tmp_path / "detector.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ties", ["upper", "midrank", "random"])
@pytest.mark.parametrize("scope", ["subset", "all"])
@pytest.mark.parametrize("tail", ["upper", "two-sided"])
def test_leading_nodes_are_the_fewest_that_carry_half_the_score(rng, ties, scope, tail):
    clean, images = np.round(rng.normal(size=(120, 30)), 1), np.round(rng.normal(0.4, 1.3, size=(12, 30)), 1)
    detector = SubsetScanDetector(ties=ties, scope=scope, tail=tail, random_state=0, false_positive_rate=0.1).fit(clean)
    seed = {"random_state": detector.scan_options_["random_state"]} if ties == "random" else {}
    whole = Background(clean[detector.plan(len(clean)).background])  # the detector's may be compact
    for share in (0.5, 0.9, 1.0):
        found = detector.leading(images, share=share)
        for row, (image, score) in enumerate(zip(images, detector.scan(images).scores, strict=True)):
            (p,) = whole.p_values(image[np.newaxis], tail, ties, **seed)
            alphas = sorted({alpha for alpha in p if alpha <= 0.5})
            least = next((a for a in alphas if reference.scan(p, alpha_max=a, scope=scope)[0] >= share * score), 0)
            expected = reference.scan(p, alpha_max=least, scope=scope)
            assert found.mask(row, (30,)).nonzero()[0].tolist() == expected[2]
            assert found.scores[row] == expected[0]
            assert found.alphas[row] == expected[1]
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 0"):
        detector.leading(images, share=0)
    assert len(detector.leading(images[:0])) == 0


def finite(array):
    return np.nan_to_num(array, posinf=3, neginf=-3)


@given(
    case=cases(), options=scan_options, ties=st.sampled_from(["upper", "midrank", "random", "range"]), data=st.data()
)
def test_a_fit_in_parts_is_one_of_all_whatever_the_parts_and_their_order(case, options, ties, data):
    clean, x = map(finite, case)
    options |= {"ties": ties, "calibration": None, "false_positive_rate": 0.5, "random_state": 5}
    parts = np.array_split(clean, data.draw(st.integers(1, len(clean))))
    grown = SubsetScanDetector(**options)
    for part in data.draw(st.permutations(parts)):
        assert grown.partial_fit(part) is grown
    whole = SubsetScanDetector(**options).fit(clean)
    one, other = (detector.scan(x, return_nodes=True) for detector in (grown, whole))
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("scores", "alphas", "sizes"))
    assert (one.nodes != other.nodes).nnz == 0
    assert np.array_equal(grown.background_._columns(), Background(clean)._columns())
    if len(x):
        one, other = (detector.calibrate(x).p_values(clean) for detector in (grown, whole))
        assert np.array_equal(one, other)


def test_a_fit_goes_on_after_it_was_saved_and_drops_null_scores(clean, tmp_path):
    grown = SubsetScanDetector(calibration=None).partial_fit(clean[:100]).calibrate(clean[250:])
    grown.save(tmp_path / "part.safetensors")
    grown = SubsetScanDetector.load(tmp_path / "part.safetensors")
    assert grown.is_calibrated
    grown.partial_fit(clean[100:250])
    assert not grown.is_calibrated
    whole = SubsetScanDetector(calibration=None).fit(clean[:250])
    assert np.array_equal(grown.anomaly_score(clean), whole.anomaly_score(clean))
    grown.fit(clean[:50])
    assert grown.background_.n_samples == 50
    summary = SummaryDetector(calibration=None).partial_fit(clean[:100]).partial_fit(clean[100:])
    assert np.array_equal(
        summary.anomaly_score(clean[:5]), SummaryDetector(calibration=None).fit(clean).anomaly_score(clean[:5])
    )


def test_fits_that_cannot_go_on_say_why(clean):
    for calibration in ("holdout", "leave-one-out"):
        detector = SubsetScanDetector(calibration=calibration)
        assert not hasattr(detector, "partial_fit")
        with pytest.raises(AttributeError, match="no attribute 'partial_fit'") as refused:
            detector.partial_fit(clean)
        assert f"calibration={calibration!r} needs all clean inputs together" in str(refused.value.__cause__)
    fitted = SubsetScanDetector(calibration=None).fit(clean)
    grown = SubsetScanDetector(calibration=None).partial_fit(clean)
    before = dict(vars(grown))
    for call, error, message in [
        (
            lambda: fitted.partial_fit(clean),
            ValueError,
            "scans of the upper tail need among 300 inputs, .* new detector",
        ),
        (lambda: grown.partial_fit(clean[:, :3]), ValueError, "X has 3 features"),
        (lambda: grown.partial_fit(clean.astype(np.float32)), ValueError, "the same nodes and type"),
        (lambda: grown.partial_fit(clean[:0]), ValueError, "minimum of 1 is required"),
        (lambda: grown.partial_fit(clean * np.nan), ValueError, "NaN"),
        (lambda: SubsetScanDetector(calibration=None, tail="up").partial_fit(clean), ValueError, "unknown tail"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert vars(grown) == before


@pytest.mark.parametrize("check", [check_estimators_partial_fit_n_features, check_n_features_in_after_fitting])
def test_fits_in_parts_keep_the_contract(check):
    check("SubsetScanDetector", SubsetScanDetector(calibration=None))


def test_parts_of_data_frames_have_the_same_columns(clean):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(clean[:, :2], columns=["a", "b"])
    grown = SubsetScanDetector(calibration=None).partial_fit(frame).partial_fit(frame)
    assert grown.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        grown.partial_fit(frame[["b", "a"]])
