"""A value depends on the image alone, a row is that of its image, and the model stays as it was."""

import copy
import pickle

import numpy as np
import pytest
from rounding import assert_same

from subsetscan.networks import keras as keras_network
from subsetscan.networks import keras_forward
from subsetscan.spaces import ClassifierMargin, FeatureResponse, KerasLayers, ReconstructionError, join

keras = pytest.importorskip("keras")
layers = keras.layers


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(3).normal(size=(10, 24)).astype(np.float32)


def over(*steps, shape=(24,), **options):
    x = inputs = keras.Input(shape, **options)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x, name="net")


class Frames(layers.Layer):
    """Folds frames into the first axis, those of an image beside each other or those of a time beside each other."""

    def __init__(self, by_time, **options):
        super().__init__(**options)
        self.by_time = by_time

    def call(self, x):
        x = keras.ops.reshape(x, (-1, 4, 6))
        return keras.ops.reshape(keras.ops.transpose(x, (1, 0, 2)) if self.by_time else x, (-1, 6))


class TimeFirst(layers.Layer):
    def call(self, x):
        return keras.ops.transpose(x, (1, 0, 2))


class Windows(layers.Layer):
    """Partitions (H, W, C) into windows of 2 x 2, as in window attention."""

    def call(self, x):
        x = keras.ops.transpose(keras.ops.reshape(x, (-1, 2, 2, 2, 2, 1)), (0, 1, 3, 2, 4, 5))
        return keras.ops.reshape(x, (-1, 4, 1))


class Untold(layers.Layer):
    """Folds, but says that it does not."""

    def call(self, x):
        return keras.ops.reshape(x, (-1, 6))

    def compute_output_shape(self, shape):
        return (shape[0], 6)


class Counter(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="ones", trainable=False, name="count")

    def call(self, x):
        self.count.assign_add(1.0)
        return x * self.count


class Sampling(layers.Layer):
    """As in a variational autoencoder."""

    def __init__(self, per_batch=False, **options):
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(1)
        self.per_batch = per_batch

    def call(self, x):
        shape = (1, 24) if self.per_batch else keras.ops.shape(x)
        return x + keras.random.normal(shape, seed=self.generator)


class Training(layers.Layer):
    """Has a layer that is in training always."""

    def __init__(self, layer, **options):
        super().__init__(**options)
        self.layer = layer

    def call(self, x):
        return self.layer(x, training=True)


def variables(model):
    return [np.asarray(one).copy() for one in model.variables]


def same(before, after):
    return len(before) == len(after) and all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("by_time", [False, True])
def test_frames_folded_into_the_first_axis(rows, by_time):
    model = over(Frames(by_time, name="frames"), layers.Dense(3, name="dense"))
    space = KerasLayers(model)
    assert space.node_shapes == {"frames": (4, 6), "dense": (4, 3)}
    if by_time:
        with pytest.raises(
            ValueError, match="other values elsewhere in a batch, beside others, after dense, frames of"
        ):
            space.transform(rows)
        return
    values = space.transform(rows)
    assert np.array_equal(values["frames"], rows)
    kernel, bias = model.get_layer("dense").get_weights()
    assert values["dense"].shape == (10, 12)
    assert np.allclose(values["dense"], (rows.reshape(10, 4, 6) @ kernel + bias).reshape(10, 12), rtol=1e-5, atol=1e-6)
    assert np.array_equal(values["dense"][3:4], space.transform(rows[3:4])["dense"])


def test_operations_and_windows(rows):
    model = over(lambda x: keras.ops.reshape(x, (-1, 6)), layers.Dense(3, name="dense"))
    assert KerasLayers(model).transform(rows)["dense"].shape == (10, 12)
    images = rows[:, :16].reshape(10, 4, 4, 1)
    space = KerasLayers(over(Windows(name="windows"), shape=(4, 4, 1)))
    assert space.node_shapes == {"windows": (4, 4, 1)}
    values = space.transform(images)["windows"].reshape(10, 4, 4)
    assert np.array_equal(values[:, 1].reshape(10, 2, 2), images[:, :2, 2:, 0])


def test_folded_rows_that_come_together_again(rows):
    model = over(Frames(True), layers.Dense(3), lambda x: keras.ops.reshape(x, (4, -1, 3)), TimeFirst(name="back"))
    assert KerasLayers(model, ["back"]).transform(rows)["back"].shape == (10, 12)
    with pytest.raises(ValueError, match=r"net is not a classifier: .* got \(4, 3\) for each input"):
        ClassifierMargin(over(Frames(False), layers.Dense(3, name="dense")))


def test_a_first_axis_that_does_not_count_images(rows):
    model = over(TimeFirst(name="time_first"), layers.Dense(2, name="dense"), shape=(64, 6))  # as many as in a pass
    for wanted in (["time_first"], ["dense"], "all"):
        with pytest.raises(
            ValueError, match="the output of (time_first|dense) does not have a row for each sample: its fi"
        ):
            KerasLayers(model, wanted)
    fixed = over(TimeFirst(name="time_first"), batch_shape=(4, 4, 6), shape=None)
    with pytest.raises(ValueError, match="beside others, after time_first of net"):
        KerasLayers(fixed).transform(rows.reshape(10, 4, 6))
    with pytest.raises(ValueError, match="the output of mean.* has no rows for samples: it is one number"):
        KerasLayers(over(layers.Lambda(keras.ops.mean, name="mean")))
    with pytest.raises(ValueError, match=r"untold of net has the shape \(4, 6\) for an input, and \(6,\) for earlier"):
        KerasLayers(over(Untold(name="untold"))).transform(rows)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_stateful_layers(rows, kind):
    model = over(kind(5, stateful=True, name="rnn"), layers.Dense(2, name="d"), batch_shape=(8, 4, 6), shape=None)
    sequences = rows.reshape(10, 4, 6)
    space = KerasLayers(model)
    first = space.transform(sequences)
    assert all(not np.asarray(state).any() for state in model.get_layer("rnn").states)
    stateless = over(kind(5, name="rnn"), layers.Dense(2, name="d"), shape=(4, 6))
    stateless.set_weights(model.get_weights())
    for name, expected in KerasLayers(stateless).transform(sequences).items():
        assert np.allclose(first[name], expected, rtol=1e-5, atol=1e-6)
        assert_same(space.transform(sequences[::-1])[name][::-1], first[name])
    model.predict_on_batch(sequences[:8])  # now each place in the batch starts from another state
    with pytest.raises(ValueError, match="after rnn of net: .* starts from a state that an earlier call left"):
        KerasLayers(model, ["d"]).transform(sequences)


def test_counters(rows):
    model = over(Counter(name="counter"), layers.Dense(3, name="d"))
    before = variables(model)
    space = KerasLayers(model)
    values = space.transform(rows)
    assert np.array_equal(values["counter"], 2 * rows)
    assert same(before, variables(model))
    assert np.array_equal(space.transform(np.tile(rows, (14, 1)))["counter"], np.tile(2 * rows, (14, 1)))
    responses = FeatureResponse(model, "gradient", layer="counter")
    for _ in range(2):
        assert np.array_equal(responses.transform(rows)["response"], 4 * rows)
    assert same(before, variables(model))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))])
def test_copies(rows, copied):
    model = over(layers.LSTM(3, stateful=True, name="rnn"), batch_shape=(8, 4, 6), shape=None)
    space = KerasLayers(model)
    expected = space.transform(rows.reshape(10, 4, 6))["rnn"]
    other = copied(space)
    for _ in range(2):
        assert np.array_equal(other.transform(rows.reshape(10, 4, 6))["rnn"], expected)
    assert other.fingerprint() == space.fingerprint()


def test_a_pass_that_fails_puts_variables_back(rows):
    class Failing(layers.Layer):
        def call(self, x):
            tensorflow.debugging.assert_less(x, 100.0)
            return x

    tensorflow = pytest.importorskip("tensorflow")
    model = over(Counter(name="counter"), Failing(name="failing"))
    space = KerasLayers(model)
    space.transform(rows)
    before = variables(model)
    for one in (space, KerasLayers(model)):
        with pytest.raises(ValueError, match=r"net cannot compute inputs of shape \(10, 24\) from .* assertion failed"):
            one.transform(100 * np.abs(rows) + 100)
        assert same(before, variables(model))


NOISY = {
    "sampling": lambda: Sampling(name="noisy"),
    "the same for a batch": lambda: Sampling(per_batch=True, name="noisy"),
    "Lambda": lambda: layers.Lambda(lambda x: x + 0.01 * keras.random.normal(keras.ops.shape(x)), name="noisy"),
    "dropout": lambda: Training(layers.Dropout(0.5), name="noisy"),
    "batch normalization": lambda: Training(layers.BatchNormalization(), name="noisy"),
    "noise": lambda: Training(layers.GaussianNoise(0.1), name="noisy"),
    "over the batch": lambda: layers.Lambda(lambda x: x - keras.ops.mean(x, axis=0), name="noisy"),
    "by the place": lambda: layers.Lambda(lambda x: keras.ops.cumsum(x, axis=0), name="noisy"),
    "nested": lambda: keras.Sequential([keras.Input((24,)), Sampling(name="drawn")], name="noisy"),
}


@pytest.mark.parametrize("kind", NOISY)
def test_values_that_depend_on_more_than_the_image(rows, kind):
    model = over(layers.Dense(24, name="first"), NOISY[kind](), layers.Dense(3, name="last"))
    before = variables(model)
    (joined,) = join([KerasLayers(model, ["first"]), ClassifierMargin(model)])
    spaces = [KerasLayers(model), KerasLayers(model, ["last"]), ClassifierMargin(model), joined]
    for space in spaces:
        for images in (rows, rows[:1]):
            with pytest.raises(ValueError, match="the same sample has other values .* after ([a-z_0-9]+, )?noisy of"):
                space.transform(images)
    responses = FeatureResponse(model, "gradient", layer="last")
    with pytest.raises(ValueError, match="the same sample has other values .* noisy of"):
        responses.transform(rows)
    assert same(before, variables(model))
    assert KerasLayers(model, ["first"]).transform(rows)["first"].shape == (10, 24)  # what is before it is as ever
    with pytest.raises(ValueError, match="after ([a-z_0-9]+, )?noisy of"):
        ReconstructionError(over(NOISY[kind]())).transform(rows)


def test_the_layer_within_is_named(rows):
    with pytest.raises(ValueError, match="beside others, after drawn, noisy of"):
        KerasLayers(over(NOISY["nested"]())).transform(rows)


def test_images_that_are_alike_prove_nothing(rows):
    space = KerasLayers(over(NOISY["over the batch"]()))
    assert not space.transform(np.zeros((64, 24)))["noisy"].any()
    with pytest.raises(ValueError, match="after noisy of net"):
        space.transform(rows)


@pytest.mark.parametrize("layer", [layers.Dropout(0.5), layers.BatchNormalization(), layers.RandomContrast(0.5)])
def test_training_is_overruled_in_inference(layer):
    images = np.random.default_rng(0).random((10, 4, 4, 1), dtype=np.float32)
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, layer(inputs, training=True))
    expected = model.predict(images, verbose=0).reshape(10, -1)
    before = variables(model)
    for _ in range(2):
        assert np.allclose(KerasLayers(model).transform(images)[layer.name], expected, rtol=1e-6)
    assert same(before, variables(model))


def test_nan_is_its_own_equal(rows):
    model = over(layers.Lambda(lambda x: x / keras.ops.sum(x, axis=1, keepdims=True), name="share"))
    assert np.allclose(KerasLayers(model).transform(rows)["share"], rows / rows.sum(axis=1, keepdims=True), rtol=1e-4)


def test_a_model_of_a_fixed_batch_size(rows):
    model = over(layers.Dense(24, name="d"), batch_shape=(8, 24), shape=None)
    free = over(layers.Dense(24, name="d"))
    free.set_weights(model.get_weights())
    for make in (
        KerasLayers,
        ReconstructionError,
        ClassifierMargin,
        lambda m: FeatureResponse(m, layer="d"),
        lambda m: FeatureResponse(m, "gradient", "top-logit"),
    ):
        ((name, values),) = make(model).transform(rows).items()
        assert np.allclose(values, make(free).transform(rows)[name], rtol=1e-4, atol=1e-5)


def test_the_size_of_passes(autoencoder, images, monkeypatch):
    first, second = KerasLayers(autoencoder, ["pool"]), ReconstructionError(autoencoder)
    (joined,) = join([first, second])
    for part, size in ((first, 7), (second, 5)):
        part.forward_batch = size
        assert joined.forward_batch == size
    sizes = []

    def watched_forward(model):
        compute = keras_forward.forward_of(model)
        return lambda *arrays: sizes.append(len(arrays[0])) or compute(*arrays)

    monkeypatch.setattr(keras_network, "forward_of", watched_forward)
    watched = over(layers.Identity(name="watched"))
    (joined,) = join([a := KerasLayers(watched), ReconstructionError(watched)])
    a.forward_batch = np.int64(3)
    sizes.clear()
    joined.transform(np.random.default_rng(0).random((4, 24)))
    assert set(sizes) == {3}
    joined.forward_batch = 9
    assert a.forward_batch == 9
    for space in (first, FeatureResponse(autoencoder, "gradient"), joined):
        for size in (0, -1, 2.0, True, "8"):
            with pytest.raises(ValueError, match="forward_batch must be a whole number, at least 1, or None, got"):
                space.forward_batch = size


def test_no_images_need_no_pass():
    called = []

    class Watched(layers.Layer):
        def call(self, x):
            called.append(x.shape)
            return x

    model = over(Watched(), layers.Conv2D(1, 1, name="c"), shape=(4, 4, 1))
    classifier = over(Watched(), layers.Flatten(), layers.Dense(3, name="d"), shape=(4, 4, 1))
    spaces = [KerasLayers(model), ReconstructionError(model), FeatureResponse(model, "gradient"),
              ClassifierMargin(classifier), KerasLayers(over(Frames(False)))]  # fmt: skip
    spaces += join([KerasLayers(model), ReconstructionError(model)])
    called.clear()
    for space in spaces:
        shape = (24,) if isinstance(space, KerasLayers) and space is spaces[4] else (4, 4, 1)
        for name, values in space.transform(np.empty((0, *shape))).items():
            assert values.shape == (0, np.prod(space.node_shapes[name]))
            assert values.dtype == np.float32
    assert called == []


def test_noise_that_is_small_beside_another_node():
    import tensorflow as tf

    class Noisy(keras.layers.Layer):
        def call(self, x):
            noisy = 0.001 * x + 0.001 * tf.random.normal(tf.shape(x))
            return tf.concat([noisy, 1000 * tf.ones_like(x)], -1)

    model = keras.Sequential([keras.Input((8, 8, 1)), Noisy(name="noisy")])
    with pytest.raises(ValueError, match="noisy"):
        KerasLayers(model).transform(np.random.default_rng(0).random((70, 8, 8, 1)))
