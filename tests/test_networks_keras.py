"""Keras models as networks on whatever backend Keras has: run for others with KERAS_BACKEND=torch, or jax."""

import copy
import pickle

import numpy as np
import pytest

from subsetscan import ModelScanner
from subsetscan.networks import KerasNetwork, layer_names
from subsetscan.spaces import ClassifierMargin, FeatureResponse, KerasLayers, Layers, ReconstructionError, join

keras = pytest.importorskip("keras")
layers, ops = keras.layers, keras.ops
BACKEND = keras.backend.backend()


def net(dtype=None):
    """Two inputs, a model within the model, and a layer that is used twice."""
    image, extra = keras.Input((8, 8, 2), name="image"), keras.Input((5,), name="extra")
    steps = [layers.Conv2D(3, 3, name="conv", dtype=dtype), layers.BatchNormalization(name="norm", dtype=dtype)]
    x = keras.Sequential([keras.Input((8, 8, 2)), *steps], name="features")(image)
    act = layers.ReLU(name="act")
    x = layers.GlobalAveragePooling2D(name="mean")(layers.Dropout(0.5, name="drop")(act(x)))
    x = act(layers.Dense(6, name="hidden", dtype=dtype)(layers.Concatenate(name="joined")([x, extra])))
    model = keras.Model([image, extra], layers.Dense(4, activation="softmax", name="head", dtype=dtype)(x))
    draws = np.random.default_rng(0)
    model.set_weights([draws.uniform(0.2, 0.9, one.shape) - 0.6 * (len(one.shape) > 1) for one in model.weights])
    return model


def inputs(n, seed=1):
    draws = np.random.default_rng(seed)
    return {"image": draws.normal(size=(n, 8, 8, 2)), "extra": draws.normal(size=(n, 5))}


def by_hand(model, given):
    """What the layers give, in numpy."""
    kernel, bias, gamma, beta, mean, variance, dense, dense_bias, last, last_bias = map(np.asarray, model.get_weights())
    windows = np.lib.stride_tricks.sliding_window_view(given["image"], (3, 3), axis=(1, 2))
    conv = np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias
    norm = (conv - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    pooled = np.maximum(norm, 0).mean(axis=(1, 2))
    hidden = np.concatenate([pooled, given["extra"]], axis=1) @ dense + dense_bias
    logits = np.maximum(hidden, 0) @ last + last_bias
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"features/conv": conv, "features/norm": norm, "act:0": np.maximum(norm, 0), "mean": pooled,
            "hidden": hidden, "act:1": np.maximum(hidden, 0),
            "head": odds / odds.sum(axis=1, keepdims=True)}, logits  # fmt: skip


def kept(model):
    return [ops.convert_to_numpy(one) for one in model.variables]


def test_values_and_margins_are_those_of_numpy():
    model, given = net(), inputs(9)
    before = kept(model)
    expected, logits = by_hand(model, given)
    assert set(expected) < set(layer_names(model))
    (joined,) = join([KerasLayers(model), ClassifierMargin(model)])
    values = joined.transform(given)
    for name, array in expected.items():
        np.testing.assert_allclose(values[name], array.reshape(9, -1), rtol=1e-5, atol=1e-5, err_msg=name)
    ordered = np.sort(logits, axis=1)
    np.testing.assert_allclose(values["margin"][:, 0], ordered[:, -2] - ordered[:, -1], rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(before, kept(model), strict=True))
    alone = [joined.transform({name: array[n : n + 1] for name, array in given.items()}) for n in range(3)]
    for name, rows in values.items():
        np.testing.assert_allclose(np.concatenate([one[name] for one in alone]), rows[:3], rtol=1e-5, atol=1e-5)


def test_a_scanner_of_all_layers(tmp_path):
    model = net()
    scanner = ModelScanner.automatic(model, false_positive_rate=0.2).fit(inputs(60))
    assert scanner.names == ("features/conv", "features/norm", "act:0", "act:1", "mean", "joined", "hidden", "head")
    odd = {name: array + 6 for name, array in inputs(10, seed=2).items()}
    assert scanner.predict(odd).tolist() == [-1] * 10
    scanner.save(tmp_path / "fitted")
    model.save(tmp_path / "model.keras")
    again = ModelScanner.automatic(keras.models.load_model(tmp_path / "model.keras"))
    loaded = ModelScanner.load(tmp_path / "fitted", again.spaces)  # the same weights: no warning
    assert np.array_equal(loaded.p_values(odd), scanner.p_values(odd))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))])
def test_copies(copied):
    space = Layers(net(), ["features", "head"])
    other = copied(space)
    assert other.fingerprint() == space.fingerprint()
    given = inputs(5)
    for name, rows in space.transform(given).items():
        np.testing.assert_allclose(other.transform(given)[name], rows, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_less_precision(policy):
    model, given = net(policy), inputs(9)
    expected, _ = by_hand(net(), given)
    values = Layers(model, list(expected)).transform(given)
    for name, array in expected.items():
        assert values[name].dtype == np.float32
        np.testing.assert_allclose(values[name], array.reshape(9, -1), atol=0.15 if "bfloat" in policy else 0.02)


def test_an_autoencoder():
    image = keras.Input((8, 8, 1))
    x = layers.MaxPooling2D(2, name="pool")(layers.Conv2D(3, 3, padding="same", name="conv")(image))
    x = layers.UpSampling2D(2, name="repeated")(x)
    x = layers.UpSampling2D(1, interpolation="bilinear", name="interpolated")(x)
    model = keras.Model(image, layers.Conv2D(1, 3, padding="same", name="out")(x))
    images = np.random.default_rng(3).random((5, 8, 8, 1), np.float32)
    expected = np.abs(images - model.predict_on_batch(images)).reshape(5, -1)
    errors = ReconstructionError(model).transform(images)["reconstruction_error"]
    np.testing.assert_allclose(errors, expected, rtol=1e-5, atol=1e-6)
    assert KerasNetwork(model).computing() == ("conv", "pool", "interpolated", "out")


def test_series_and_several_outputs():
    series = keras.Input((7, 3))
    every, state = layers.GRU(4, return_sequences=True, return_state=True, name="gru")(series)
    model = keras.Model(series, [layers.LSTM(3, name="lstm")(every), state])
    rows = np.random.default_rng(4).normal(size=(5, 7, 3)).astype(np.float32)
    values = Layers(model, "all").transform(rows)
    for name, expected in zip(("lstm", "gru:1"), model.predict_on_batch(rows), strict=True):
        np.testing.assert_allclose(values[name], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["gru:0"].reshape(5, 7, 4)[:, -1], values["gru:1"], rtol=1e-5, atol=1e-6)


def test_states_of_recurrent_layers_go_back():
    def over(**options):
        series = keras.Input(batch_shape=(4, 7, 3))
        return keras.Model(series, layers.LSTM(3, name="lstm", **options)(series))

    model, plain = over(stateful=True), over()
    plain.set_weights(model.get_weights())
    rows, states = np.random.default_rng(4).normal(size=(4, 7, 3)), model.get_layer("lstm").states
    space = Layers(model, "lstm")
    for _ in range(2):
        values = space.transform(rows)["lstm"]
        np.testing.assert_allclose(values, Layers(plain, "lstm").transform(rows)["lstm"], rtol=1e-5, atol=1e-6)
        assert not any(ops.convert_to_numpy(state).any() for state in states)
    for state in states:
        state.assign(np.arange(12).reshape(4, 3))  # each place in the batch starts from another one
    with pytest.raises(ValueError, match="after lstm of .* starts from a state that an earlier call left"):
        Layers(model, "lstm").transform(rows)


class Drawing(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.generator)


class Centring(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=0, keepdims=True)


@pytest.mark.parametrize("kind", [Drawing, Centring])
def test_what_depends_on_more_than_the_input(kind):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="first"), kind(name="odd")])
    before, rows = kept(model), np.random.default_rng(5).normal(size=(9, 6))
    with pytest.raises(ValueError, match="the same sample has other values elsewhere in a batch.* after odd of"):
        Layers(model, "all").transform(rows)
    assert all(np.array_equal(a, b) for a, b in zip(before, kept(model), strict=True))
    assert Layers(model, "first").transform(rows)["first"].shape == (9, 6)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")  # JAX's own, at each call
@pytest.mark.parametrize(("dtype", "large"), [("int64", 2**40 + 3), ("float64", 1e300)])
def test_numbers_that_a_backend_cannot_hold(dtype, large):
    """JAX has 32 bits, unless it is told otherwise, where 64 are asked for."""
    given = keras.Input((2,), dtype=dtype)
    share = layers.Lambda(lambda x: ops.cast(x / (x + 1), "float32"), output_shape=(2,), dtype=dtype, name="share")
    space = Layers(keras.Model(given, share(given)), "share")
    rows = np.full((3, 2), large)
    if BACKEND == "jax":
        with pytest.raises(ValueError, match="32 cannot hold: it would become"):
            space.transform(rows)
    else:
        assert np.allclose(space.transform(rows)["share"], 1)
    assert np.allclose(space.transform(np.ones((3, 2)))["share"], 0.5)


def test_what_a_backend_says_is_told():
    series = keras.Input((None, 3))
    space = Layers(keras.Model(series, layers.Conv1D(3, 5, name="conv")(series)), "conv", pool="mean")
    with pytest.raises(ValueError, match=r"cannot compute inputs of shape .*(negative|empty output|ernel size)"):
        space.transform(np.random.default_rng(6).random((5, 2, 3)))


@pytest.mark.skipif(BACKEND == "tensorflow", reason="has feature responses")
def test_feature_responses_are_refused_elsewhere():
    image = keras.Input((8, 8, 1))
    with pytest.raises(RuntimeError, match=f"feature responses need TensorFlow as Keras' backend, not {BACKEND}"):
        FeatureResponse(keras.Model(image, layers.Conv2D(2, 3)(image)))
