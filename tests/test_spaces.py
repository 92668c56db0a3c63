"""Spaces over Keras models: which layers, what shapes, one pass, the model left as it is."""

import numpy as np
import pytest

from subsetscan.spaces import KerasLayers, Pixels, ReconstructionError, join

keras = pytest.importorskip("keras")
layers = keras.layers


def activations(model, name, images):
    return np.asarray(keras.Model(model.inputs[0], model.get_layer(name).output)(images))


def test_all_layers(autoencoder, images):
    space = KerasLayers(autoencoder)
    assert space.node_shapes == {"encode": (8, 8, 3), "pool": (4, 4, 3), "up": (8, 8, 3), "decode": (8, 8, 1)}
    values = space.transform(images)
    assert tuple(values) == space.names
    for name, array in values.items():
        assert array.dtype == np.float32
        assert array.shape == (90, np.prod(space.node_shapes[name]))
        expected = activations(autoencoder, name, images).reshape(90, -1)
        assert np.allclose(array, expected, rtol=1e-5, atol=1e-6)


def test_layers_by_name_and_index(autoencoder):
    assert KerasLayers(autoencoder, ["up", 1, -1]).names == ("up", "encode", "decode")


def test_layers_themselves(autoencoder, images):
    first = autoencoder.layers[0]  # the input layer
    space = KerasLayers(autoencoder, [first, autoencoder.get_layer("up"), np.int64(1)])
    assert space.names == (first.name, "up", "encode")
    assert np.array_equal(space.transform(images)[first.name], images.reshape(90, 64))
    other = layers.Conv2D(2, 3, name="encode")
    with pytest.raises(ValueError, match=r"has no layer 'encode' \(another layer of this name\); it has 4 layers: enc"):
        KerasLayers(autoencoder, [other])
    with pytest.raises(ValueError, match="has no layer 'elsewhere'; it has 4 layers: encode, pool, up, decode"):
        KerasLayers(autoencoder, [layers.Dense(1, name="elsewhere")])


@pytest.mark.parametrize("wanted", [True, np.True_, 1.0, None, ["encode"], b"encode"])
def test_what_names_no_layer(autoencoder, wanted):
    with pytest.raises(TypeError, match="a layer must be a name, an index or a layer of the model, got"):
        KerasLayers(autoencoder, [wanted])
    if wanted != ["encode"] and wanted != b"encode":
        with pytest.raises(TypeError, match='layers must be "all", or names or patterns of them, got'):
            KerasLayers(autoencoder, wanted)


@pytest.mark.parametrize("wanted", [["nowhere"], [9], [-6], ["encode", "nowhere"], ["nowhere:0"], ["encode:0"]])
def test_a_layer_that_is_not_there(autoencoder, wanted):
    with pytest.raises(
        ValueError, match="(has no layer .*; it has 4 layers: enc|no output 'encode:0'; its outputs are e)"
    ):
        KerasLayers(autoencoder, wanted)


def test_layers_that_are_none(autoencoder):
    with pytest.raises(ValueError, match="no layers requested"):
        KerasLayers(autoencoder, [])
    assert KerasLayers(autoencoder, "encode").names == ("encode",)


def test_patterns_of_names(autoencoder):
    assert KerasLayers(autoencoder, ["*code", "up"]).names == ("encode", "decode", "up")
    assert KerasLayers(autoencoder, "[pu]*").names == ("pool", "up")
    with pytest.raises(ValueError, match=r"has no layer 'x\*'; it has 4 layers: encode"):
        KerasLayers(autoencoder, "x*")


def test_batches_make_no_difference(autoencoder, images):
    """To the last bit, where they are asked to be of one size; to rounding, where they are not."""
    for size in (64, None):
        space = KerasLayers(autoencoder)
        space.forward_batch = size
        at_once = space.transform(images)
        one_by_one = [space.transform(images[n : n + 1]) for n in range(len(images))]
        for name, array in at_once.items():
            joined = np.concatenate([values[name] for values in one_by_one])
            assert np.array_equal(array, joined) if size else np.allclose(array, joined, rtol=1e-5, atol=1e-6)
            assert np.array_equal(space.transform(images)[name], array)
            assert space.transform(images[:0])[name].shape == (0, array.shape[1])


def test_the_model_stays_as_it_is(autoencoder, images):
    before = autoencoder.to_json(), [weight.copy() for weight in autoencoder.get_weights()], autoencoder.outputs[0]
    nodes = [len(layer._inbound_nodes) for layer in autoencoder.layers]
    join([KerasLayers(autoencoder), ReconstructionError(autoencoder)])[0].transform(images)
    assert autoencoder.to_json() == before[0]
    assert all(np.array_equal(a, b) for a, b in zip(autoencoder.get_weights(), before[1], strict=True))
    assert autoencoder.outputs[0] is before[2]
    assert [len(layer._inbound_nodes) for layer in autoencoder.layers] == nodes


def test_sequential_models(images):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3, name="c"), layers.Flatten(name="f")])
    assert KerasLayers(model).node_shapes == {"c": (6, 6, 2), "f": (72,)}
    assert np.array_equal(KerasLayers(model, ["c"]).transform(images)["c"], KerasLayers(model).transform(images)["f"])
    with pytest.raises(TypeError, match="the sequential model is not built"):
        KerasLayers(keras.Sequential([layers.Dense(2)]))


def test_subclassed_models(images):
    class WithGraph(keras.Model):
        def __init__(self):
            inputs = keras.Input((8, 8, 1))
            super().__init__(inputs, layers.Dense(2, name="d")(layers.Flatten(name="f")(inputs)))

    assert KerasLayers(WithGraph()).transform(images)["d"].shape == (90, 2)

    class WithoutGraph(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="WithoutGraph is a subclassed model without a graph"):
        KerasLayers(WithoutGraph())
    with pytest.raises(TypeError, match="expected a Keras model, got str"):
        KerasLayers("model.keras")


def test_layers_with_several_outputs_and_nested_models(images):
    class Halves(layers.Layer):
        def call(self, x):
            return x[..., :2], x[..., 2:]

    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 1)], name="inner")
    shared = layers.Dense(2, name="shared")
    inputs = keras.Input((8, 8, 1))
    left, right = Halves(name="halves")(inner(inputs))
    model = keras.Model(inputs, layers.Add(name="sum")([shared(left), shared(right)]))
    space = KerasLayers(model)
    inside = f"inner/{inner.layers[-1].name}"
    assert set(space.names) == {"inner", inside, "halves:0", "halves:1", "shared:0", "shared:1", "sum"}
    values = space.transform(images)
    assert np.array_equal(values[inside], values["inner"])
    assert np.array_equal(values["halves:0"].reshape(90, 8, 8, 2), values["inner"].reshape(90, 8, 8, 4)[..., :2])
    some = KerasLayers(model, ["halves:1", "shared:0", "halves:1"])
    assert some.names == ("halves:1", "shared:0")
    assert np.array_equal(some.transform(images)["halves:1"], values["halves:1"])
    with pytest.raises(ValueError, match="halves of .* has no output 'halves:2'; its outputs are halves:0, halves:1"):
        KerasLayers(model, ["halves:2"])
    # The same layer in another model does not count here.
    keras.Model(inputs, shared(shared(left)))
    assert KerasLayers(model, ["shared"]).names == ("shared:0", "shared:1")


def test_models_that_do_not_fit():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="open")(inputs))
    space, pooled = KerasLayers(model), KerasLayers(model, pool="mean")
    assert space.names == ("open",)
    assert space.node_shapes == {}
    small, large = (np.random.default_rng(0).random((3, n, n, 1)).astype(np.float32) for n in (5, 6))
    assert space.transform(small)["open"].shape == (3, 18)
    assert space.node_shapes == {"open": (3, 3, 2)}
    with pytest.raises(ValueError, match=r"open of .* has the shape \(4, 4, 2\) for an input, and \(3, 3, 2\) for"):
        space.transform(large)
    whole = KerasLayers(model).transform(large)["open"].reshape(3, 16, 2)
    assert pooled.transform(small)["open"].shape == (3, 2)
    assert np.allclose(pooled.transform(large)["open"], whole.mean(axis=1), rtol=1e-5)


def test_images_that_do_not_fit(autoencoder, images):
    space = KerasLayers(autoencoder)
    with pytest.raises(ValueError, match=r"each input must have shape \(8, 8, 1\), got \(8, 8\)"):
        space.transform(images[..., 0])
    with pytest.raises(TypeError, match="inputs must be real numbers, got dtype <U1"):
        space.transform(np.full((1, 8, 8, 1), "a"))
    holed = images.copy()
    holed[[3, 5], 0, 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="input 3 has NaN or infinite values; it is the first of 2 that have"):
        space.transform(holed)


@pytest.mark.parametrize("metric", ["absolute", "squared", "binary-crossentropy", "signed"])
def test_reconstruction_error(autoencoder, images, metric):
    space = ReconstructionError(autoencoder, metric)
    assert space.node_shapes == {"reconstruction_error": (8, 8, 1)}
    values = space.transform(images)["reconstruction_error"]
    reconstructions = np.asarray(autoencoder(images))
    if metric == "binary-crossentropy":  # per pixel: Keras averages over the last axis, which is one channel
        expected = np.asarray(keras.losses.binary_crossentropy(images, reconstructions))
    elif metric == "signed":
        expected = images - reconstructions
        assert expected.min() < 0 < expected.max()
    else:
        expected = np.abs(images - reconstructions) ** (2 if metric == "squared" else 1)
    assert np.allclose(values, expected.reshape(90, -1), rtol=1e-4, atol=1e-6)


def test_reconstruction_error_of_no_autoencoder(autoencoder):
    encoder = keras.Model(autoencoder.inputs, autoencoder.get_layer("pool").output)
    with pytest.raises(ValueError, match=r"is not an autoencoder: its input is \(8, 8, 1\), its output \("):
        ReconstructionError(encoder)
    with pytest.raises(ValueError, match="unknown reconstruction error 'cubic'; known are absolute, squared"):
        ReconstructionError(autoencoder, "cubic")


def test_spaces_over_one_network_share_a_pass(autoencoder, images):
    spaces = [KerasLayers(autoencoder, ["pool"]), Pixels((8, 8, 1)), ReconstructionError(autoencoder),
              KerasLayers(autoencoder, ["decode"])]  # fmt: skip
    joined = join(spaces)
    assert [space.names for space in joined] == [("pool", "reconstruction_error", "decode"), ("pixels",)]
    apart = {name: array for space in spaces for name, array in space.transform(images).items()}
    together = {name: array for space in joined for name, array in space.transform(images).items()}
    assert all(np.array_equal(apart[name], together[name]) for name in apart)


def test_names_must_differ(autoencoder):
    errors = [ReconstructionError(autoencoder), ReconstructionError(autoencoder, "squared")]
    with pytest.raises(ValueError, match="several spaces are named reconstruction_error: give each a name of its own"):
        join(errors)
    join([errors[0], ReconstructionError(autoencoder, "squared", name="squared_error")])


def test_half_precision_models_give_single_precision_values(images):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Dense(2, dtype="mixed_float16", name="d")(inputs))
    assert KerasLayers(model).transform(images)["d"].dtype == np.float32
