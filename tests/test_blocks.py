"""Layers that are read where nobody chooses: which of them, and wide ones averaged over blocks of positions."""

import itertools
import math

import numpy as np
import pytest

from subsetscan.spaces import KerasLayers
from subsetscan.spaces.automatic import WIDEST, as_spaces
from subsetscan.spaces.blocks import Blocks

SHAPES = [((7, 5, 3), 2), ((3, 7, 5), 0), ((4, 4, 4, 2), 3), ((2, 4, 5, 3), 0), ((6, 7), None), ((6, 7), 1), ((9,), 0),
          ((9,), None), ((1, 1, 5), 2)]  # fmt: skip


def plain_means(values, channel_axis, size):
    """Average position by position what falls into the same block."""
    shape = [n if axis == channel_axis else -(-n // size) for axis, n in enumerate(values.shape[1:])]
    sums, counts = np.zeros((len(values), *shape)), np.zeros(shape)
    for place in np.ndindex(values.shape[1:]):
        block = tuple(n if axis == channel_axis else n // size for axis, n in enumerate(place))
        sums[(slice(None), *block)] += values[(slice(None), *place)]
        counts[block] += 1
    return sums / counts


@pytest.mark.parametrize(("shape", "channel_axis"), SHAPES)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int32, bool])
def test_means_are_those_of_a_plain_loop(rng, shape, channel_axis, size, dtype):
    values = (rng.normal(size=(3, *shape)) * 3).astype(dtype)
    blocks = Blocks(shape, channel_axis, size)
    found, expected = blocks.mean(values), plain_means(values.astype(np.float64), channel_axis, size)
    assert found.shape == expected.shape == (3, *blocks.pooled_shape)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert blocks.mean(values[:0]).shape == (0, *blocks.pooled_shape)


def test_means_of_half_precision_stay_within_it():
    """The sum of a block is beyond half precision, its mean is not."""
    values = np.full((2, 4, 4, 1), 6e4, np.float16)
    assert (Blocks((4, 4, 1), 2, 2).mean(values) == 6e4).all()


@pytest.mark.parametrize(("shape", "channel_axis"), SHAPES)
def test_blocks_are_the_smallest_that_fit(shape, channel_axis):
    longest = max((n for axis, n in enumerate(shape) if axis != channel_axis), default=1)
    for most in (*range(1, math.prod(shape) + 2), None):
        found = Blocks.to_fit(shape, channel_axis, most)
        fitting = [
            size
            for size in range(1, longest + 1)
            if most is None or math.prod(Blocks(shape, channel_axis, size).pooled_shape) <= most
        ]
        assert found == Blocks(shape, channel_axis, min(fitting, default=1))


def test_layers_are_averaged_where_they_are_wide(rng):
    """Channel by channel, wherever the channels lie; narrow layers and those without positions are read as they are."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    pixels = keras.Input((9, 10, 3))
    last = layers.Conv2D(4, 2, name="last")(pixels)
    first = layers.Permute((3, 1, 2), name="permuted")(last)
    first = layers.ZeroPadding2D(1, data_format="channels_first", name="first")(first)
    dense = layers.Dense(150, name="dense")(layers.Flatten()(last))
    model = keras.Model(pixels, [first, dense, layers.GlobalMaxPooling2D(name="narrow")(last)])
    names = ["last", "first", "dense", "narrow"]
    images = rng.random((5, 9, 10, 3), np.float32)
    plain, pooled = KerasLayers(model, names), KerasLayers(model, names, pool_above=100)
    assert pooled.node_shapes == {"last": (4, 5, 4), "first": (4, 4, 4), "dense": (150,), "narrow": (4,)}
    assert {name: pooled.channel_axis(name) for name in names} == {"last": 2, "first": 0, "dense": 0, "narrow": 0}
    values, found = plain.transform(images), pooled.transform(images)
    for name in ("dense", "narrow"):
        assert np.array_equal(found[name], values[name])
    for name, axis in (("last", 2), ("first", 0)):
        as_laid = values[name].reshape(5, *plain.node_shapes[name])
        sizes = [size for size in range(1, 11) if plain_means(as_laid[:1], axis, size).size <= 100]
        expected = plain_means(as_laid.astype(np.float64), axis, sizes[0]).reshape(5, -1)
        assert found[name].dtype == np.float32
        assert found[name] == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert math.prod(pooled.node_shapes[name]) == expected.shape[1]
    # What is read tells two spaces from each other, not how it was asked for.
    assert pooled.fingerprint() != plain.fingerprint()
    assert KerasLayers(model, names, pool_above=WIDEST).fingerprint() == plain.fingerprint()


def test_layers_that_hand_on_values_are_left_out(rng):
    keras = pytest.importorskip("keras")
    layers = keras.layers
    passing = [
        layers.GaussianNoise(0.1), layers.ZeroPadding2D(1), layers.Cropping2D(1), layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5), layers.UpSampling2D(2), layers.Permute((2, 1, 3)), layers.Reshape((4, 16, 2)),
        layers.ActivityRegularization(), layers.Identity(), layers.Flatten(), layers.RepeatVector(2),
    ]  # fmt: skip
    computing = [layers.Conv2D(2, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.Dense(3)]
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), *computing[:3], *passing[:6], layers.Permute((1, 2, 3)), layers.Reshape((8, 8, 2)),
         *passing[8:], computing[3]]
    )  # fmt: skip
    (space,) = as_spaces(model)
    assert list(space.names) == [layer.name for layer in computing]
    every = KerasLayers(model).transform(rng.random((2, 4, 4, 1), np.float32))
    known = set(every[computing[2].name].ravel().tolist()) | {0.0}
    for layer in model.layers:
        if layer not in computing:  # what is left out holds nothing new
            assert set(every[layer.name].ravel().tolist()) <= known
    alone = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(name="flat")])
    assert as_spaces(alone)[0].names == ("flat",)


def test_every_layer_that_computes_is_read(autoencoder):
    (space,) = as_spaces(autoencoder)
    assert list(space.names) == ["encode", "pool", "decode"]
    assert as_spaces(space) == [space]
    assert as_spaces((space,)) == [space]
    assert list(itertools.chain(*(one.names for one in as_spaces([space])))) == list(space.names)
