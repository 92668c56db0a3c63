"""Which axis of a Keras layer's values counts channels: by a table of fragments, beside marks put in a bias."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
from keras import layers, ops  # noqa: E402

from subsetscan.networks import as_network  # noqa: E402
from subsetscan.spaces import FeatureResponse, Layers  # noqa: E402

FIRST, LAST = (3, 8, 9), (8, 9, 3)


def conv(**options):
    return layers.Conv2D(5, 3, padding="same", **options)


def first():
    return conv(data_format="channels_first")


def keep(x):
    return x


KNOWN = [
    (first, keep, FIRST, 0),
    (first, lambda x: layers.BatchNormalization(axis=1)(x), FIRST, 0),
    (first, lambda x: layers.ReLU()(layers.BatchNormalization(axis=1)(x)), FIRST, 0),
    (first, lambda x: layers.Dropout(0.1)(x), FIRST, 0),
    (first, lambda x: layers.Activation("gelu")(x), FIRST, 0),
    (first, lambda x: layers.Add()([x, layers.ReLU()(x)]), FIRST, 0),
    (first, lambda x: x + ops.relu(x), FIRST, 0),
    (first, lambda x: layers.Concatenate(axis=1)([x, x]), FIRST, 0),
    (first, lambda x: layers.MaxPooling2D(data_format="channels_first")(x), FIRST, 0),
    (first, lambda x: layers.ZeroPadding2D(data_format="channels_first")(x), FIRST, 0),
    (first, lambda x: layers.UpSampling2D(data_format="channels_first")(x), FIRST, 0),
    (first, lambda x: layers.GlobalAveragePooling2D(data_format="channels_first", keepdims=True)(x), FIRST, 0),
    (first, lambda x: layers.GroupNormalization(1, axis=1)(x), FIRST, 0),
    (first, lambda x: layers.Permute((2, 3, 1))(x), FIRST, 2),
    (first, lambda x: ops.transpose(x, (0, 2, 3, 1)), FIRST, 2),
    (first, lambda x: layers.Reshape((5, 72))(x), FIRST, 0),
    (first, lambda x: ops.mean(x, axis=2), FIRST, 0),
    (first, lambda x: layers.Dense(4)(layers.Permute((2, 3, 1))(x)), FIRST, 2),
    (conv, keep, LAST, 2),
    (conv, lambda x: layers.ReLU()(layers.BatchNormalization()(x)), LAST, 2),
    (conv, lambda x: layers.Permute((3, 1, 2))(x), LAST, 0),
    (conv, lambda x: layers.Reshape((72, 5))(x), LAST, 1),
    (conv, lambda x: ops.sin(layers.Permute((3, 1, 2))(x)), LAST, 0),
    (conv, lambda x: ops.cumsum(layers.Permute((3, 1, 2))(x), axis=2), LAST, 0),
    (lambda: layers.ConvLSTM2D(5, 2, data_format="channels_first", return_sequences=True), keep, (4, 3, 6, 7), 1),
    (lambda: layers.TimeDistributed(conv(data_format="channels_first")), keep, (4, 3, 6, 7), 1),
    (lambda: layers.Dense(5), lambda x: layers.Permute((2, 1))(x), (7, 3), 0),
    (lambda: layers.LSTM(5, return_sequences=True), lambda x: layers.LayerNormalization()(x), (7, 3), 1),
    (lambda: layers.Conv1D(5, 3), lambda x: layers.ReLU()(x), (7, 3), 1),
    (lambda: layers.TimeDistributed(layers.Dense(5)), keep, (7, 3), 1),
    (lambda: layers.Embedding(9, 5), keep, (7,), 1),
]
UNKNOWN = [
    (first, lambda x: layers.Reshape((40, 9))(x), FIRST),
    (first, lambda x: ops.mean(x, axis=1), FIRST),
    (conv, lambda x: ops.mean(x, axis=-1), LAST),
    (conv, lambda x: x[..., 0], LAST),
    (lambda: layers.Dense(5), lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), (7, 3)),
    (lambda: layers.Dense(5), lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), (5, 3)),
]


def model_of(layer, function, shape):
    source = keras.Input(shape)
    made = layer()
    end = layers.Identity(name="end")(function(made(source)))
    model = keras.Model(source, end)
    for weight in getattr(made, "weights", ()):
        marks = weight.name == "bias" and weight.shape == (5,)
        weight.assign(10.0 ** np.arange(5) if marks else np.zeros(weight.shape))
    return model, np.random.default_rng(0).random((4, *shape)).astype(np.float32)


@pytest.mark.parametrize(("layer", "function", "shape", "axis"), KNOWN)
def test_known(layer, function, shape, axis):
    model, inputs = model_of(layer, function, shape)
    network = as_network(model)
    values = network.read(network.check(inputs), ("end",))["end"]
    assert network.channel_axis("end", values.shape[1:]) == axis
    pooled = Layers(model, ["end"], pool="mean").transform(inputs)["end"]
    others = tuple(n + 1 for n in range(values.ndim - 1) if n != axis)
    assert np.allclose(pooled, values.mean(axis=others), rtol=1e-4, atol=1e-4)
    if function is keep and layer in (first, conv):
        assert np.allclose(pooled, 10.0 ** np.arange(5), rtol=1e-4)


@pytest.mark.parametrize(("layer", "function", "shape"), UNKNOWN)
def test_unknown(layer, function, shape):
    model, inputs = model_of(layer, function, shape)
    with pytest.raises(ValueError, match="end of .* do not tell which axis counts channels"):
        Layers(model, ["end"], pool="mean").transform(inputs)
    assert Layers(model, ["end"]).transform(inputs)["end"].shape[0] == 4


def test_models_within_models_and_layers_that_say_nothing():
    class Own(layers.Layer):
        def call(self, x):
            return x * 2

        def compute_output_shape(self, shape):
            return shape

    inner_source = keras.Input(FIRST)
    inner = keras.Model(inner_source, layers.ReLU(name="act")(first()(inner_source)), name="inner")

    class Halves(layers.Layer):
        def call(self, x):
            return x[:, :, ::2]

        def compute_output_shape(self, shape):
            return (*shape[:2], -(-shape[2] // 2), *shape[3:])

    source = keras.Input(FIRST)
    own = Own(name="own")(layers.Dropout(0.1, name="drop")(inner(source)))
    model = keras.Model(source, Halves(name="halves")(own))
    inputs = np.random.default_rng(0).random((4, *FIRST)).astype(np.float32)
    pooled = Layers(model, ["inner/act", "inner", "drop", "own"], pool="mean").transform(inputs)
    assert {values.shape for values in pooled.values()} == {(4, 5)}
    with pytest.raises(ValueError, match="halves of .* do not tell"):  # it may have moved the channels
        Layers(model, ["halves"], pool="mean")
    source = keras.Input((7, 3))
    model = keras.Model(source, Halves(name="halves")(Own(name="own")(source)))  # nothing speaks of channels
    assert Layers(model, ["halves", "own"], pool="mean").node_shapes == {"halves": (2,), "own": (3,)}


def test_blocks_keep_channels_apart():
    model, inputs = model_of(first, lambda x: layers.ReLU()(x), FIRST)
    space = Layers(model, ["end"], pool_above=100)
    assert space.node_shapes == {"end": (5, 4, 5)}
    assert space.channel_axis("end") == 0
    assert space.transform(inputs)["end"].shape == (4, 100)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="feature responses of Keras models need TensorFlow")
@pytest.mark.parametrize(("layer", "shape", "axis"), [(first, FIRST, 0), (conv, LAST, 2)])
def test_channels_of_responses_are_those_of_the_image(layer, shape, axis):
    model, _ = model_of(layer, keep, shape)
    assert FeatureResponse(model, "gradient", layer="end").channel_axis("response") == axis
