"""Attacks on classifiers of every kind of output: the same weights are as fragile under each."""

import itertools

import numpy as np
import pytest

from subsetscan.lab import attacks, networks
from subsetscan.lab.attack_inputs import class_labels, unit_images
from subsetscan.lab.attacks import Attacker, attack, predicted
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.outputs import find_outputs

keras = pytest.importorskip("keras")
layers, ops = keras.layers, keras.ops
NUMBERS = itertools.count()
A, B = 0, 6  # a T-shirt, a shirt


def handwritten(logits):
    powers = ops.exp(logits - ops.max(logits, axis=1, keepdims=True))
    return powers / ops.sum(powers, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def classifier():
    return networks.load_pretrained("classifier")


def of_head(classifier, head, kernel=None, bias=None):
    """Put another head on the hidden layers; a dense one gets the classifier's own weights, or those that are given."""
    hidden = classifier.layers[-2].output
    own = classifier.layers[-1].get_weights()
    weights = own if kernel is None else [kernel, bias]
    name = f"head_{next(NUMBERS)}"  # the classifier's layers have the names that Keras would choose
    dense = layers.Dense(weights[0].shape[1], activation=head if isinstance(head, str) else None, name=name)
    logits = dense(hidden)
    dense.set_weights(weights)
    return keras.Model(classifier.inputs, logits if isinstance(head, str) else head(logits))


def nested(classifier):
    images = keras.Input((28, 28, 1))
    return keras.Model(images, [keras.Model(classifier.inputs, classifier.outputs)(images)])


HEADS = {
    "logits": lambda logits: logits,
    "activation layer": layers.Activation("softmax"),
    "softmax layer": layers.Softmax(),
    "half-precision cast": lambda logits: ops.cast(ops.softmax(logits), "float32"),
    "lambda": layers.Lambda(ops.softmax),
    "lambda by hand": layers.Lambda(handwritten),
    "log-softmax": layers.Activation("log_softmax"),
    "mean of two": lambda logits: layers.Average()([layers.Softmax()(logits), layers.Softmax()(logits)]),
}


def pair(classifier):
    """Images of two classes, and the weights that tell them apart."""
    images, labels = load_sample()
    chosen = np.flatnonzero(np.isin(labels, (A, B)))[:40]
    kernel, bias = classifier.layers[-1].get_weights()
    return images[chosen], (labels[chosen] == B).astype(int), kernel[:, [A, B]], bias[[A, B]]


STRENGTHS = {"fgsm": 0.1, "bim": 0.03, "gradient": 2, "deepfool": 0.02}


@pytest.fixture(scope="module")
def expected(classifier):
    """What attacks do to the classifier as it is, which ends in a softmax."""
    pytest.importorskip("art")
    images, labels = (array[:50] for array in load_sample())
    return {name: attack(classifier, images, labels, name, eps=eps) for name, eps in STRENGTHS.items()}


@pytest.mark.parametrize("head", [*HEADS, "nested"])
def test_the_same_weights_are_as_fragile_under_every_head(classifier, expected, head):
    images, labels = (array[:50] for array in load_sample())
    other = nested(classifier) if head == "nested" else of_head(classifier, HEADS[head])
    for name in STRENGTHS if head in ("logits", "lambda", "lambda by hand") else ("fgsm", "deepfool"):
        found = attack(other, images, labels, name, eps=STRENGTHS[name])
        assert expected[name].success_rate > 0.5
        assert found.n_tried == expected[name].n_tried
        # Rounded probabilities hide which way the surest images lead: a few attacks end otherwise.
        assert abs(found.success_rate - expected[name].success_rate) <= 0.05
        assert (predicted(other, found.images) == found.predictions).all()
        if head in ("logits", "lambda", "nested"):
            assert np.array_equal(found.sources, expected[name].sources)


@pytest.mark.parametrize("name", ["boundary", "one-pixel"])
def test_attacks_that_draw_do_not_mind_the_head(classifier, name, monkeypatch):
    pytest.importorskip("art")
    monkeypatch.setattr(attacks, "BOUNDARY_STEPS", 10)
    images, _ = load_sample()
    probabilities = np.sort(classifier.predict(images[:300], verbose=0), axis=1)
    near = images[np.argsort(probabilities[:, -1] - probabilities[:, -2])[:2]]
    labels = predicted(classifier, near)
    expected = attack(classifier, near, labels, name)
    assert expected.success_rate == 1
    for head in ("logits", "lambda"):
        found = attack(of_head(classifier, HEADS[head]), near, labels, name)
        assert found.success_rate == 1
        assert np.abs(found.images - expected.images).mean() < 0.02


def test_one_neuron_is_two_classes(classifier, monkeypatch):
    """A sigmoid neuron, a linear one and a softmax over two classes: every attack does the same to them."""
    pytest.importorskip("art")
    monkeypatch.setattr(attacks, "BOUNDARY_STEPS", 10)
    images, labels, kernel, bias = pair(classifier)
    two = of_head(classifier, "softmax", kernel, bias)
    one = kernel[:, [1]] - kernel[:, [0]], bias[[1]] - bias[[0]]
    heads = {
        "sigmoid": "sigmoid",
        "linear": "linear",
        "sigmoid by hand": layers.Lambda(lambda z: 1 / (1 + ops.exp(-z))),
    }
    seen = predicted(two, images)
    assert 0.7 < np.mean(seen == labels) < 1
    of_two = {name: attack(two, images, labels, name, eps=eps) for name, eps in STRENGTHS.items()}
    for head in heads.values():
        single = of_head(classifier, head, *one)
        assert np.array_equal(predicted(single, images), seen)
        for name, eps in STRENGTHS.items():
            expected = of_two[name]
            found = attack(single, images, labels.astype(bool)[:, None], name, eps=eps)
            assert expected.success_rate > 0.5
            assert found.n_tried == expected.n_tried
            assert abs(found.success_rate - expected.success_rate) <= 1 / expected.n_tried
            assert set(found.labels) | set(found.predictions) == {0, 1}
    margins = np.abs(np.diff(two.predict(images, verbose=0), axis=1)[:, 0])
    near = np.argsort(np.where(seen == labels, margins, np.inf))[:2]
    for name in ("boundary", "one-pixel"):
        models = two, of_head(classifier, "sigmoid", *one), of_head(classifier, "linear", *one)
        results = [attack(model, images[near], labels[near], name) for model in models]
        assert [result.sources.tolist() for result in results] == [[0, 1]] * 3
    # What is wrong from the start is a success under the protocol of the paper, as it is.
    wrong = np.flatnonzero(seen != labels)[:2]
    found = attack(models[1], images[wrong], labels[wrong], "one-pixel", protocol="paper")
    assert np.array_equal(found.images, images[wrong])


def test_what_outputs_are_taken_for(classifier):
    images = load_sample()[0][:20]
    kernel, bias = classifier.layers[-1].get_weights()
    for head, from_logits, why in (
        ("softmax", False, "the network ends in a softmax"),
        (HEADS["lambda"], False, "the network ends in a softmax"),
        (HEADS["lambda by hand"], False, "they lie in [0, 1] and sum to 1 for all 20 images"),
        (HEADS["logits"], True, "the network ends in a linear layer"),
        (layers.Lambda(lambda z: z - 1), True, "they range from "),
        (layers.Lambda(lambda z: ops.cast(ops.cast(z, "float16"), "float32")), True, "the network ends in a linear"),
    ):
        found = find_outputs(of_head(classifier, head, kernel, bias), images)
        assert (found.from_logits, found.n_neurons, found.n_classes) == (from_logits, 10, 10)
        assert why in found.why
    logits = of_head(classifier, "linear")
    found = find_outputs(logits, images).probabilities(logits.predict(images, verbose=0))
    assert np.allclose(found, classifier.predict(images, verbose=0), atol=1e-6)
    one = of_head(classifier, "sigmoid", kernel[:, :1], bias[:1])
    assert find_outputs(one, images).n_classes == 2
    assert str(find_outputs(one, images)) == (
        "the classifier's one output is taken for the probability of class 1, because the network ends in a sigmoid"
    )
    linear = of_head(classifier, "linear", kernel[:, :1], bias[:1])
    found = find_outputs(linear, images)
    assert found.from_logits
    values = linear.predict(images, verbose=0)
    assert np.array_equal(found.labels(values), values[:, 0] > 0)
    assert np.allclose(found.probabilities(values)[:, 1:], one.predict(images, verbose=0), atol=1e-6)
    assert find_outputs(linear, images[:0]).from_logits
    # A few images alone could mislead; all of them decide.
    own = linear.predict(load_sample()[0], verbose=0)[:, 0]
    few = load_sample()[0][(own >= 0) & (own <= 1)]
    assert len(few)
    with pytest.raises(ValueError, match="ends in one linear neuron, but its outputs lie in .*--from-probabilities"):
        find_outputs(linear, few)
    assert not find_outputs(linear, few, from_logits=False).from_logits


@pytest.mark.filterwarnings("ignore:(?s).*softmax over axis -1")
def test_outputs_that_cannot_be_attacked(classifier):
    images, labels = (array[:20] for array in load_sample())
    kernel, bias = classifier.layers[-1].get_weights()
    several = layers.Lambda(lambda z: 1 / (1 + ops.exp(-z)))
    for model, options, message in (
        (of_head(classifier, "sigmoid"), {}, "ends in 10 sigmoid neurons, which give an image several labels"),
        (of_head(classifier, several), {}, "has 10 outputs that lie in .* and do not sum to 1 for all 20 images"),
        (of_head(classifier, "softmax", kernel[:, :1], bias[:1]), {}, "softmax over 1 neuron, which always gives 1"),
        (classifier, {"from_logits": True}, "ends in a softmax: its outputs are probabilities"),
        (of_head(classifier, "linear"), {"from_logits": False}, "are not probabilities: they range from -"),
        (of_head(classifier, layers.Lambda(lambda z: z / 0.0)), {}, "gives NaN or infinite outputs, first for image 0"),
        (
            keras.Model(classifier.inputs, classifier.layers[1].output),
            {},
            r"is not a classifier: .*got \(None, 26, 26, 32",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            attack(model, images, labels, "fgsm", **options)
    with pytest.raises(TypeError, match="expected a Keras model, got function"):
        attack(lambda x: x, images, labels, "fgsm")


def test_a_classifier_without_a_gradient(classifier):
    pytest.importorskip("art")
    images = load_sample()[0][:4]
    pixels = keras.Input((28, 28, 1))
    model = keras.Model(pixels, classifier(layers.Lambda(lambda x: ops.round(x))(pixels)))
    for name in ("fgsm", "bim", "gradient", "deepfool"):
        with pytest.raises(ValueError, match="has no gradient with respect to its images.*boundary or one-pixel"):
            attack(model, images, predicted(model, images), name)


def test_no_images(classifier):
    pytest.importorskip("art")
    for model in (classifier, of_head(classifier, HEADS["logits"]), of_head(classifier, HEADS["lambda by hand"])):
        found = attack(model, np.empty((0, 28, 28, 1), np.float32), np.empty(0, int), "deepfool")
        assert (len(found.images), found.n_tried) == (0, 0)


def test_images_of_an_attack():
    images = load_sample()[0][:3]
    assert unit_images(images.astype(np.float64), (28, 28, 1)).dtype == np.float32
    holed = images.copy()
    holed[1, 3, 3] = np.nan
    for wrong, message in (
        (255 * images, r"images: pixels must be in \[0, 1\], got 0 to 255: divide by 255"),
        (images - 1, r"pixels must be in \[0, 1\], got -1 to 0"),
        ((255 * images).astype(np.uint8), r"pixels must be floats in \[0, 1\], got uint8 0 to 255: divide by 255"),
        (images > 0.5, r"pixels must be floats in \[0, 1\], got bool"),
        (holed, "input 1 has NaN or infinite values; it is the first of 1 that have"),
        (images[:, :20], r"each input must have shape \(28, 28, 1\), got \(20, 28, 1\)"),
        (images[..., 0], r"each input must have shape \(28, 28, 1\), got \(28, 28\)"),
    ):
        with pytest.raises(ValueError, match=message):
            unit_images(wrong, (28, 28, 1))
    with pytest.raises(TypeError, match="inputs must be real numbers, got dtype <U1"):
        unit_images(np.full((3, 28, 28, 1), "a"), (28, 28, 1))


def test_labels_of_an_attack():
    for right in ([0, 2, 1], [[0], [2], [1]], [0.0, 2.0, 1.0], np.eye(3)[[0, 2, 1]], np.array([0, 2, 1], np.uint8)):
        found = class_labels(right, 3, 3)
        assert (found.tolist(), found.dtype) == ([0, 2, 1], np.int64)
    assert class_labels([True, False], 2, 2).tolist() == [1, 0]
    assert class_labels([], 0, 3).shape == (0,)
    for wrong, message in (
        ([0, 1], "3 images but 2 labels"),
        ([0, 1, 3], "must be whole numbers from 0 to 2, got 3 for image 2"),
        ([0, -1, 1], "must be whole numbers from 0 to 2, got -1 for image 1"),
        ([0, 1, 0.5], "must be whole numbers from 0 to 2, got 0.5 for image 2"),
        ([0, 1, np.nan], "must be whole numbers from 0 to 2, got nan for image 2"),
        ([0, 1, np.inf], "must be whole numbers from 0 to 2, got inf for image 2"),
        (["cat", "dog", "cat"], "got <U3, such as 'cat'"),
        ([True, False, True], "must be whole numbers from 0 to 2, got bool"),
        (np.full((3, 3), 1 / 3), r"or one-hot rows for 3 classes, got float64 of shape \(3, 3\)"),
        (np.eye(3)[:, :2], r"or one-hot rows for 3 classes, got float64 of shape \(3, 2\)"),
        (np.zeros((3, 1, 1), int), r"must have shape \(3,\), got \(3, 1, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            class_labels(wrong, 3, 3)


def test_attacks_check_what_they_are_given(classifier):
    pytest.importorskip("art")
    images, labels = (array[:6] for array in load_sample())
    for call in (attack, lambda *parts: Attacker(parts[0]).perturb(*parts[1:])):
        for pictures, truth, message in (
            (255 * images, labels, "divide by 255"),
            (images, labels + 10, "must be whole numbers from 0 to 9, got 1. for image 0"),
            (images, labels.astype(str), "must be whole numbers from 0 to 9, got <U"),
            (images, labels[:5], "6 images but 5 labels"),
        ):
            with pytest.raises(ValueError, match=message):
                call(classifier, pictures, truth, "fgsm")
    expected = attack(classifier, images, labels, "fgsm", eps=0.1)
    for same in (labels[:, None], np.eye(10)[labels], labels.astype(float), labels.tolist()):
        found = attack(classifier, images, same, "fgsm", eps=0.1)
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.labels, expected.labels)
