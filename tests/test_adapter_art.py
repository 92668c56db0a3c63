"""The drop-in for ART's detector: its numbers, and where they differ, on the same classifiers."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from subsetscan import Background, scan_group
from subsetscan.calibration import conformal_p_values
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained

pytest.importorskip("keras")
SubsetScanningDetector = pytest.importorskip("subsetscan.adapters.art").SubsetScanningDetector

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about frameworks that are not installed
    from art.defences.detector.evasion import EvasionDetector
    from art.defences.detector.evasion import SubsetScanningDetector as OfArt
    from art.estimators.classification import KerasClassifier

STATISTICS = ("BerkJones", "HigherCriticism", "KolmarovSmirnov")


@pytest.fixture(scope="module")
def classifier():
    return KerasClassifier(load_pretrained("classifier"), clip_values=(0, 1))


@pytest.fixture(scope="module")
def images():
    pixels, _ = load_sample()
    return pixels[:140].round(1)  # ties


@pytest.fixture(scope="module")
def detector(classifier, images):
    return SubsetScanningDetector(classifier, images[:60], "dense_1", verbose=False, random_state=0)


@pytest.mark.parametrize("scoring_function", STATISTICS)
@pytest.mark.parametrize("layer", ["conv2d_2", "dense_1", 2])
def test_scores_are_those_of_art(classifier, images, layer, scoring_function):
    background, clean, noisy = images[:60], images[60:80], np.clip(images[80:100] + 0.2, 0, 1).astype(np.float32)
    ours = SubsetScanningDetector(classifier, background, layer, scoring_function, verbose=False)
    theirs = OfArt(classifier, background, layer, scoring_function, verbose=False)
    np.testing.assert_allclose(ours.bgd_scores, theirs.bgd_scores, rtol=0, atol=1e-10)
    for mine, other in zip(ours.scan(clean, noisy), theirs.scan(clean, noisy), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-10)
    (report, flagged), (expected, expected_flagged) = ours.detect(noisy), theirs.detect(noisy)
    np.testing.assert_allclose(report["scores"], expected["scores"], rtol=0, atol=1e-10)
    assert np.array_equal(flagged, expected_flagged)
    assert isinstance(ours, EvasionDetector)


def test_scores_are_those_of_art_in_pytorch():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.estimators.classification import PyTorchClassifier
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 3)
    )
    classifier = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (1, 8, 8), 3, device_type="cpu")
    images = np.random.default_rng(0).random((90, 1, 8, 8)).astype(np.float32).round(1)
    for layer in range(2):
        ours = SubsetScanningDetector(classifier, images[:50], layer)
        theirs = OfArt(classifier, images[:50], layer, verbose=False)
        for mine, other in zip(
            ours.scan(images[50:70], images[70:]), theirs.scan(images[50:70], images[70:]), strict=True
        ):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-10)


class OfArrays:
    """A classifier whose layer gives the inputs themselves; it counts its passes."""

    def __init__(self):
        self.layer_names = ["inputs"]
        self.n_seen = 0

    def get_activations(self, x, layer, batch_size, framework=False):
        self.n_seen += len(x)
        return x


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (2, 2, 3, 2)])
def test_activations_of_any_rank_in_one_pass(shape):
    rows = np.random.default_rng(0).normal(size=(80, *shape)).astype(np.float32)
    classifier = OfArrays()
    found = SubsetScanningDetector(classifier, rows[:60], 0)
    assert classifier.n_seen == 60
    expected = Background(rows[:60].reshape(60, -1)).scan(rows[60:].reshape(20, -1))
    assert np.array_equal(found.detect(rows[60:])[0]["scores"], expected.scores)


def test_an_input_below_all_others_scores_nothing():
    rows = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    report, flagged = SubsetScanningDetector(OfArrays(), rows, 0).detect(np.full((1, 9), -9, np.float32))
    assert report["scores"].tolist() == [0.0]
    assert not flagged.any()
    with pytest.raises(ValueError, match="empty"):
        OfArt(OfArrays(), rows, 0, verbose=False).detect(np.full((1, 9), -9, np.float32))


def test_nan_is_refused():
    rows = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    found = SubsetScanningDetector(OfArrays(), rows, 0)
    rows[3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        found.detect(rows)
    with pytest.raises(ValueError, match="NaN"):
        SubsetScanningDetector(OfArrays(), rows, 0)


def test_the_threshold_holds_the_rate_that_is_asked_for():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(40):
        rows = rng.normal(size=(300, 20)).astype(np.float32)
        found = SubsetScanningDetector(OfArrays(), rows[:100], 0, false_positive_rate=0.1)
        report, flagged = found.detect(rows[100:])
        assert np.array_equal(report["p_values"], conformal_p_values(report["scores"], found.null_scores))
        assert np.array_equal(flagged, report["p_values"] <= 0.1)
        rates.append(flagged.mean())
    assert abs(np.mean(rates) - 0.1) < 0.02
    with pytest.warns(UserWarning, match="cannot give a p-value"):
        SubsetScanningDetector(OfArrays(), rows[:10], 0, false_positive_rate=0.05)


def test_groups_have_one_size_and_a_seed():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(260, 15)).astype(np.float32)
    alike = SubsetScanningDetector(OfArrays(), rows[:100], 0, random_state=3)
    clean, others, power = alike.scan(rows[100:180], rows[180:], 6, 4, run=60)
    assert clean.shape == others.shape == (60,)
    assert abs(power - 0.5) < 0.15  # nothing differs: ART's larger groups score more
    assert power == roc_auc_score(np.repeat([0, 1], 60), np.concatenate([clean, others]))
    again = SubsetScanningDetector(OfArrays(), rows[:100], 0, random_state=3).scan(
        rows[100:180], rows[180:], 6, 4, run=60
    )
    assert np.array_equal(again[0], clean)
    assert np.array_equal(again[1], others)
    odd = rows[180:] + np.float32(2)
    assert alike.scan(rows[100:180], odd, 6, 4, run=20)[2] > 0.95
    whole = alike.scan(rows[100:110], odd[:4], 6, 4, run=1)  # all there are: the group is known
    p = Background(rows[:100]).p_values(rows[100:110])
    assert whole[0][0] == pytest.approx(scan_group(p, restarts=10, random_state=0).score)
    larger = OfArt(OfArrays(), rows[:100], 0, verbose=False).scan(rows[100:180], rows[180:], 3, 40, run=20)[2]
    assert larger > 0.9


def test_what_is_wrong_is_named(classifier, images, detector):
    for layer, message in (("conv", "no layer 'conv'; layers are"), (99, "layer must be from 0 to"), (-1, "got -1")):
        with pytest.raises(ValueError, match=message):
            SubsetScanningDetector(classifier, images[:5], layer)
    with pytest.raises(TypeError, match="a place in layer_names or a name, got 1.5"):
        SubsetScanningDetector(classifier, images[:5], 1.5)
    with pytest.raises(ValueError, match="scoring_function must be one of 'BerkJones'.*got 'berk-jones'"):
        SubsetScanningDetector(classifier, images[:5], 0, "berk-jones")
    with pytest.raises(ValueError, match=r"false_positive_rate must be in \(0, 1\), got 5"):
        SubsetScanningDetector(classifier, images[:5], 0, false_positive_rate=5)
    with pytest.raises(ValueError, match="keras has no layer_names|has no layer_names"):
        SubsetScanningDetector(object(), images[:5], 0)
    for options, message in (
        ({"clean_size": 3}, "both sizes, got clean_size 3 and adv_size None"),
        ({"clean_size": 30, "adv_size": 3}, "need 33 clean and 3 attacked inputs, got 20 and 10"),
        ({"clean_size": 0, "adv_size": 3}, "clean_size must be at least 1, got 0"),
        ({"clean_size": 2, "adv_size": 3, "run": 0}, "run must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.scan(images[60:80], images[80:90], **options)
    with pytest.raises(ValueError, match="adv_x holds no inputs"):
        detector.scan(images[60:80], images[:0])
    with pytest.raises(NotImplementedError):
        detector.fit(images, np.zeros(len(images)))


def test_parameters_that_are_set_count(classifier, images, detector):
    other = SubsetScanningDetector(classifier, images[:60], "dense_1", verbose=False)
    other.set_params(layer="conv2d_2", scoring_function="KolmogorovSmirnov")
    expected = SubsetScanningDetector(classifier, images[:60], "conv2d_2", "KolmarovSmirnov", verbose=False)
    assert np.array_equal(other.detect(images[60:])[0]["scores"], expected.detect(images[60:])[0]["scores"])
    assert other.get_params()["layer"] == "conv2d_2"
    with pytest.raises(ValueError, match="unknown parameters a_max; known are classifier"):
        other.set_params(a_max=0.3)


def test_pickled_it_is_the_same(capsys):
    rows = np.random.default_rng(0).normal(size=(90, 9)).astype(np.float32)
    found = SubsetScanningDetector(OfArrays(), rows[:60], 0, false_positive_rate=0.1, random_state=2)
    copy = pickle.loads(pickle.dumps(found))
    for mine, other in zip(found.detect(rows[60:]), copy.detect(rows[60:]), strict=True):
        assert (mine["p_values"] == other["p_values"]).all() if isinstance(mine, dict) else (mine == other).all()
    assert np.array_equal(found.scan(rows[:30], rows[30:], 5, 5)[1], copy.scan(rows[:30], rows[30:], 5, 5)[1])


def test_it_is_silent_where_that_is_asked_for(classifier, images, capsys):
    SubsetScanningDetector(classifier, images[:60], "dense_1", verbose=False).detect(images[:5])
    assert capsys.readouterr().out == ""
