"""The drop-in for ART's detector: its numbers, and where they differ, on the same classifiers.

Those of Keras and TensorFlow need TensorFlow, those of PyTorch run where torch is installed: `make test-torch`.
"""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from subsetscan import Background, scan_group
from subsetscan.calibration import conformal_p_values
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained

SubsetScanningDetector = pytest.importorskip("subsetscan.adapters.art").SubsetScanningDetector

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about frameworks that are not installed
    from art.defences.detector.evasion import EvasionDetector
    from art.defences.detector.evasion import SubsetScanningDetector as OfArt
    from art.estimators.classification import KerasClassifier, PyTorchClassifier, TensorFlowV2Classifier

STATISTICS = ("BerkJones", "HigherCriticism", "KolmarovSmirnov")


@pytest.fixture(scope="module")
def classifier():
    pytest.importorskip("tensorflow")
    return KerasClassifier(load_pretrained("classifier"), clip_values=(0, 1))


def of_tensorflow(model, **options):
    keras = pytest.importorskip("keras")
    loss = keras.losses.CategoricalCrossentropy()
    return TensorFlowV2Classifier(model, 10, (28, 28, 1), loss_object=loss, clip_values=(0, 1), **options)


@pytest.fixture(scope="module")
def models():
    """Make Keras models: functional, sequential, and with a model inside."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    functional, inner = load_pretrained("classifier"), load_pretrained("classifier")
    keras.utils.set_random_seed(0)
    images = keras.Input((28, 28, 1))
    return {
        "functional": functional,
        "sequential": keras.Sequential([images, *functional.layers[1:]]),
        "nested": keras.Model(images, keras.layers.Dense(10, name="head")(inner(images))),
    }


def of_pytorch(kind):
    """Make a small classifier of PyTorch: sequential, or a module of its own that uses a layer twice."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    layers = {
        "conv": nn.Conv2d(1, 4, 3), "act": nn.ReLU(inplace=True), "flat": nn.Flatten(), "dense": nn.Linear(144, 90)
    }  # fmt: skip

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, layer in layers.items():
                self.add_module(name, layer)

        def forward(self, x):
            return self.dense(self.flat(self.act(self.conv(x))))

    module = Net()
    if kind == "sequential":
        module = nn.Sequential()
        for name, layer in layers.items():
            module.add_module(name, layer)
    optimizer = torch.optim.Adam(module.parameters())
    options = {"optimizer": optimizer, "clip_values": (0, 1), "preprocessing": (0.1, 0.5), "device_type": "cpu"}
    return PyTorchClassifier(module, nn.CrossEntropyLoss(), (1, 8, 8), 90, **options)


@pytest.fixture(scope="module")
def small():
    return np.random.default_rng(0).random((90, 1, 8, 8)).astype(np.float32).round(1)  # ties


@pytest.fixture(scope="module")
def images():
    pixels, _ = load_sample()
    return pixels[:140].round(1)  # ties


@pytest.fixture(scope="module")
def detector(classifier, images):
    return SubsetScanningDetector(classifier, images[:60], "dense_1", verbose=False, random_state=0)


def assert_as_art(classifier, layer, scoring_function, background, clean, odd):
    ours = SubsetScanningDetector(classifier, background, layer, scoring_function, verbose=False)
    theirs = OfArt(classifier, background, layer, scoring_function, verbose=False)
    np.testing.assert_allclose(ours.bgd_scores, theirs.bgd_scores, rtol=0, atol=1e-10)
    for mine, other in zip(ours.scan(clean, odd), theirs.scan(clean, odd), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-10)
    (report, flagged), (expected, expected_flagged) = ours.detect(odd), theirs.detect(odd)
    np.testing.assert_allclose(report["scores"], expected["scores"], rtol=0, atol=1e-10)
    assert np.array_equal(flagged, expected_flagged)
    assert isinstance(ours, EvasionDetector)


@pytest.mark.parametrize("scoring_function", STATISTICS)
@pytest.mark.parametrize("layer", ["conv2d_2", "dense_1", 2])
def test_scores_are_those_of_art(classifier, images, layer, scoring_function):
    noisy = np.clip(images[80:100] + 0.2, 0, 1).astype(np.float32)
    assert_as_art(classifier, layer, scoring_function, images[:60], images[60:80], noisy)


@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")  # which ART puts in a list
@pytest.mark.parametrize("scoring_function", STATISTICS)
@pytest.mark.parametrize("layer", ["conv2d_2", 5])
def test_scores_are_those_of_art_in_tensorflow(models, images, layer, scoring_function):
    noisy = np.clip(images[80:100] + 0.2, 0, 1).astype(np.float32)
    classifier = of_tensorflow(models["sequential"])
    assert_as_art(classifier, layer, scoring_function, images[:60], images[60:80], noisy)


@pytest.mark.parametrize("scoring_function", STATISTICS)
@pytest.mark.parametrize("layer", ["conv", "dense", 1])
@pytest.mark.parametrize("kind", ["sequential", "own"])
def test_scores_are_those_of_art_in_pytorch(small, kind, layer, scoring_function):
    assert_as_art(of_pytorch(kind), layer, scoring_function, small[:50], small[50:70], small[70:])


@pytest.mark.parametrize("options", [{}, {"preprocessing": (0.2, 0.5)}])
def test_functional_models_of_tensorflow_are_read(models, options):
    noise = np.random.default_rng(0).random((90, 28, 28, 1)).astype(np.float32)  # without ties
    classifier = of_tensorflow(models["functional"], **options)
    with pytest.raises(ValueError, match="not supported for non-Sequential"):
        OfArt(classifier, noise[:60], "conv2d_2", verbose=False)
    of_keras = KerasClassifier(models["functional"], clip_values=(0, 1), **options)
    expected = OfArt(of_keras, noise[:60], "conv2d_2", verbose=False).detect(noise[60:])[0]["scores"]
    found = SubsetScanningDetector(classifier, noise[:60], "conv2d_2", verbose=False).detect(noise[60:])[0]["scores"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    inputs = SubsetScanningDetector(classifier, noise[:60], 0, verbose=False).detect(noise[60:])[0]["scores"]
    rows = noise.reshape(90, -1)
    assert np.array_equal(inputs, Background(rows[:60]).scan(rows[60:]).scores)  # the first layer is that of the inputs


def test_models_within_models_are_read(models):
    images = np.random.default_rng(0).random((90, 28, 28, 1)).astype(np.float32)  # without ties
    classifier = KerasClassifier(models["nested"], clip_values=(0, 1))
    with pytest.raises(ValueError, match="not connected"):
        OfArt(classifier, images[:60], "classifier", verbose=False)
    found = SubsetScanningDetector(classifier, images[:60], "classifier", verbose=False)
    probabilities = models["nested"].get_layer("classifier").predict(images, verbose=0)
    expected = Background(probabilities[:60]).scan(probabilities[60:]).scores
    np.testing.assert_allclose(found.detect(images[60:])[0]["scores"], expected, rtol=0, atol=1e-10)


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(value):
    rows = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    found = SubsetScanningDetector(OfArrays(), rows, 0)
    odd = rows.copy()
    odd[3, 4] = value
    for name, call in (
        ("x", lambda: found.detect(odd)),
        ("clean_x", lambda: found.scan(odd, rows)),
        ("adv_x", lambda: found.scan(rows, odd)),
        ("bgd_data", lambda: SubsetScanningDetector(OfArrays(), odd, 0)),
    ):
        with pytest.raises(ValueError, match=f"^{name}: input 3 has NaN or infinite values"):
            call()

    class Overflowing(OfArrays):
        def get_activations(self, x, *_, **__):
            return np.where(x > 50, value, x)

    found = SubsetScanningDetector(Overflowing(), rows, 0)
    odd[3, 4] = 99
    with pytest.raises(ValueError, match=f"x: 1 inputs have NaN or infinite activations in inputs.*3, node 4: {value}"):
        found.detect(odd)


@pytest.mark.parametrize("options", [{}, {"false_positive_rate": 0.1}])
def test_of_no_inputs_there_are_no_scores_as_in_art(options):
    rows = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    report, flags = SubsetScanningDetector(OfArrays(), rows, 0, verbose=False, **options).detect(rows[:0])
    assert set(report) == {"scores", *(["p_values"] if options else [])}
    assert all(own.shape == (0,) and own.dtype == np.float64 for own in report.values())
    assert (flags.shape, flags.dtype) == ((0,), bool)


def test_inputs_that_fit_nothing_are_refused_by_name():
    rows = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    found = SubsetScanningDetector(OfArrays(), rows, 0)
    for inputs, kind, message in (
        (3.0, ValueError, r"x holds no inputs: its shape is \(\)"),
        (list("abc"), TypeError, "x must be real numbers, got dtype <U1: give numbers, not text"),
        (None, TypeError, "x must be real numbers, got dtype object"),
        (rows.astype(complex), TypeError, "x must be real numbers, got dtype complex128"),
        (np.ma.masked_less(rows, 0), ValueError, "x must not have masked values"),
        (rows[:, :5], ValueError, "the inputs have 5 nodes, but the background has 9"),
    ):
        with pytest.raises(kind, match=message):
            found.detect(inputs)
    for size, kind in ((0, ValueError), (2.5, TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(kind, match=f"batch_size must be .*got {size}"):
            found.detect(rows, size)

    class TooFew(OfArrays):
        def get_activations(self, x, *_, **__):
            return x[:3]

    with pytest.raises(ValueError, match=r"a row for each of 60 inputs of bgd_data, got shape \(3, 9\)"):
        SubsetScanningDetector(TooFew(), rows, 0)


def test_the_shape_that_a_classifier_wants_is_told(classifier, images, detector, small):
    with pytest.raises(ValueError, match=r"each input must have shape \(28, 28, 1\), got \(27, 28, 1\)"):
        detector.detect(images[:5, 1:])
    assert detector.detect(images[:5])[0]["scores"].shape == (5,)  # as ART reads it, as before


def test_the_shape_that_a_classifier_of_pytorch_wants_is_told(small):
    found = SubsetScanningDetector(of_pytorch("own"), small[:50], "dense")
    with pytest.raises(
        ValueError,
        match=r"cannot compute dense of x, of shape \(90, 1, 7, 8\) and dtype float32; its input_shape is \(1, 8, 8\)",
    ):
        found.detect(small[:, :, 1:])


def test_the_threshold_holds_the_rate_that_is_asked_for():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(40):
        rows = rng.normal(size=(300, 20)).astype(np.float32)
        found = SubsetScanningDetector(OfArrays(), rows[:100], 0, false_positive_rate=0.1)
        report, flagged = found.detect(rows[100:])
        assert np.array_equal(report["p_values"], conformal_p_values(report["scores"], found.null_scores))
        assert np.array_equal(flagged, report["p_values"] <= 0.1)
        assert np.array_equal(flagged, report["scores"] > found.threshold)
        assert found.threshold < found.bgd_scores.max()
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
    for name in ("berk-jones", None, ["BerkJones"]):
        with pytest.raises(ValueError, match="scoring_function must be one of 'BerkJones'.*got "):
            SubsetScanningDetector(classifier, images[:5], 0, name)
    with pytest.raises(ValueError, match=r"false_positive_rate must be in \(0, 1\), got 5"):
        SubsetScanningDetector(classifier, images[:5], 0, false_positive_rate=5)
    with pytest.raises(TypeError, match="false_positive_rate must be a number, got '0.1'"):
        SubsetScanningDetector(classifier, images[:5], 0, false_positive_rate="0.1")
    with pytest.raises(ValueError, match="object has no layer_names"):
        SubsetScanningDetector(object(), images[:5], 0)
    for options, message in (
        ({"clean_size": 3}, "both sizes, got clean_size 3 and adv_size None"),
        ({"clean_size": 30, "adv_size": 3}, "need 33 clean and 3 attacked inputs, got 20 and 10"),
        ({"clean_size": 0, "adv_size": 3}, "clean_size must be at least 1, got 0"),
        ({"clean_size": 2, "adv_size": 3, "run": 0}, "run must be at least 1, got 0"),
        ({"clean_size": 2, "adv_size": "3"}, "adv_size must be an integer, got '3'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
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
    before = dict(vars(other))
    with pytest.raises(ValueError, match="bgd_data: input 0 has NaN"):
        other.set_params(layer="dense_1", bgd_data=np.full_like(images[:60], np.nan))
    assert vars(other).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(other).items())


def assert_same_copies(found, images):
    for other in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        (report, flagged), (expected, expected_flagged) = other.detect(images), found.detect(images)
        assert np.array_equal(report["scores"], expected["scores"])
        assert np.array_equal(flagged, expected_flagged)
        assert np.array_equal(other.classifier.predict(images[:5]), found.classifier.predict(images[:5]))


def test_detectors_of_keras_classifiers_are_pickled(classifier, models, images):
    found = SubsetScanningDetector(classifier, images[:60], "dense_1", verbose=False, random_state=1)
    assert_same_copies(found, images[60:80])
    scaled = of_tensorflow(models["functional"], preprocessing=(0.2, 0.5))
    found = SubsetScanningDetector(scaled, images[:60], "dense_1", verbose=False)
    assert_same_copies(found, images[60:80])
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        pickle.dumps(OfArt(classifier, images[:60], "dense_1", verbose=False))


def test_detectors_of_pytorch_classifiers_are_pickled_and_leave_no_hooks(small):
    classifier = of_pytorch("sequential")
    theirs = OfArt(classifier, small[:50], "conv", verbose=False)
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        pickle.dumps(theirs)
    seen = []
    of_others = classifier.model.conv.register_forward_hook(lambda *_: seen.append(1))
    found = SubsetScanningDetector(classifier, small[:50], "conv", verbose=False)
    assert seen
    assert len(classifier.model.conv._forward_hooks) == 1  # not ours, and not ART's
    of_others.remove()
    assert_same_copies(found, small[50:])
    assert np.array_equal(theirs.detect(small[50:])[0]["scores"], found.detect(small[50:])[0]["scores"])


def test_pickled_it_is_the_same():
    rows = np.random.default_rng(0).normal(size=(90, 9)).astype(np.float32)
    found = SubsetScanningDetector(OfArrays(), rows[:60], 0, false_positive_rate=0.1, random_state=2)
    copy = pickle.loads(pickle.dumps(found))
    for mine, other in zip(found.detect(rows[60:]), copy.detect(rows[60:]), strict=True):
        assert (mine["p_values"] == other["p_values"]).all() if isinstance(mine, dict) else (mine == other).all()
    assert np.array_equal(found.scan(rows[:30], rows[30:], 5, 5)[1], copy.scan(rows[:30], rows[30:], 5, 5)[1])


def test_it_is_silent_where_that_is_asked_for(classifier, images, capsys):
    SubsetScanningDetector(classifier, images[:60], "dense_1", verbose=False).detect(images[:5])
    assert capsys.readouterr().out == ""


def test_progress_of_groups_is_shown_where_that_is_asked_for(capsys):
    rows = np.random.default_rng(0).normal(size=(60, 9)).astype(np.float32)
    for verbose in (True, False):
        SubsetScanningDetector(OfArrays(), rows, 0, verbose=verbose).scan(rows, rows, 2, 2, run=3)
        assert ("Subset scanning" in capsys.readouterr().err) == verbose
