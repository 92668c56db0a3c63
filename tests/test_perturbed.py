"""Inputs perturbed before they are read: the step beside TensorFlow's own gradient and beside differences."""

import numpy as np
import pytest

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.networks import Network, PerturbedNetwork
from subsetscan.spaces import ClassifierMargin, Layers, join

keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("gradients of Keras models need TensorFlow", allow_module_level=True)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(5, 3, activation="relu", name="first"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax", name="classes"),
        ]
    )


@pytest.fixture
def images(rng):
    return rng.random((9, 6, 6, 2)).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 10.0, 1000.0])
def test_the_step_follows_the_gradient_of_the_largest_log_probability(model, images, temperature):
    import tensorflow as tf

    logits = keras.Model(model.inputs, model.get_layer("classes").input)
    kernel, bias = model.get_layer("classes").get_weights()
    with tf.GradientTape() as tape:
        given = tf.constant(images)
        tape.watch(given)
        scores = (tf.matmul(logits(given, training=False), kernel) + bias) / temperature
        value = tf.reduce_sum(tf.reduce_max(tf.nn.log_softmax(scores), axis=1))
    gradient = tape.gradient(value, given).numpy()
    network = PerturbedNetwork(model, magnitude=0.01, temperature=temperature)
    moved = network.perturbed(images)
    clear = np.abs(gradient) > 1e-4 * np.abs(gradient).max()
    assert clear.mean() > 0.5
    assert np.array_equal(np.sign(moved - images)[clear], np.sign(gradient)[clear])
    assert np.abs(moved - images).max() <= 0.01 + 1e-6
    values = Layers(network, ["first", "classes"]).transform(images)
    expected = Layers(model, ["first", "classes"]).transform(moved)
    assert all(np.array_equal(values[name], expected[name]) for name in values)
    assert (values["classes"].max(axis=1) > Layers(model, ["classes"]).transform(images)["classes"].max(axis=1)).all()


def test_values_stay_within_bounds(model, images):
    moved = PerturbedNetwork(model, magnitude=0.3, clip=(0, 1)).perturbed(images)
    assert moved.min() == 0
    assert moved.max() == 1


def test_a_scanner_over_perturbed_inputs(model, rng, tmp_path):
    clean = rng.random((200, 6, 6, 2)).astype(np.float32)
    network = PerturbedNetwork(model)
    spaces = [Layers(network, ["first"]), ClassifierMargin(network)]
    assert len(join(spaces)) == 1
    scanner = ModelScanner(spaces, SubsetScanDetector(random_state=0)).fit(clean)
    scanner.save(tmp_path / "s")
    again = ModelScanner.load(tmp_path / "s", [Layers(PerturbedNetwork(model), ["first"]), spaces[1]])
    assert again.p_values(clean[:0])["first"].shape == (0,)
    assert np.array_equal(again.p_values(clean[:9])["first"], scanner.p_values(clean[:9])["first"])
    with pytest.warns(UserWarning, match="was fitted with another network for first"):
        ModelScanner.load(tmp_path / "s", [Layers(PerturbedNetwork(model, magnitude=0.1), ["first"]), spaces[1]])


def test_equal_options_of_other_types_are_the_same_network(model):
    own = PerturbedNetwork(model, magnitude=1.0, temperature=10.0, clip=(0.0, 1.0)).fingerprint(["first"])
    for options in (
        {"magnitude": 1, "temperature": 10, "clip": [0, 1]},
        {"magnitude": np.float64(1), "temperature": np.int64(10), "clip": np.array([0, 1])},
    ):
        assert PerturbedNetwork(model, **options).fingerprint(["first"]) == own


def test_no_inputs_are_perturbed_to_none(model, images):
    for clip in (None, (0, 1)):
        moved = PerturbedNetwork(model, clip=clip).perturbed(images[:0].astype(np.float64))
        assert (moved.shape, moved.dtype) == ((0, 6, 6, 2), np.float32)


def test_what_does_not_fit(model):
    for option in (
        {"magnitude": 0},
        {"magnitude": True},
        {"magnitude": -1},
        {"temperature": np.inf},
        {"temperature": "high"},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(option))} must be a positive number, got"):
            PerturbedNetwork(model, **option)
    for clip in ((1, 0), 3, "ab", ("a", "b"), (0, np.nan), (0, 1, 2), (False, True)):
        with pytest.raises(ValueError, match="clip must be two numbers, the smallest and the largest value"):
            PerturbedNetwork(model, clip=clip)

    class Own(Network):
        def layer_names(self):
            return ("hidden",)

        def read(self, inputs, names):
            return dict.fromkeys(names, inputs)

    with pytest.raises(TypeError, match="computes no gradients"):
        PerturbedNetwork(Own())
