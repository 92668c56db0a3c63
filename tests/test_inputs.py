"""Images are cast to what a network takes, and what the cast would change is refused."""

import pickle

import numpy as np
import pytest

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.input_checks import InputError, check_inputs
from subsetscan.spaces import (
    Arrays,
    ClassifierMargin,
    FeatureResponse,
    KerasLayers,
    Laplacian,
    Pixels,
    ReconstructionError,
)


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([0.5, 1e300], "float32", r"input 1 has the value 1e\+300, which float32 cannot hold: it would become inf"),
        ([0.5, -1e300], "float32", "input 1 has the value -1e.300, .* become -inf"),
        ([0.5, 7e4], "float16", "input 1 has the value 70000.0, which float16 cannot hold: it would become inf"),
        ([2**24, 2**24 + 1], "float32", "input 1 has the value 16777217, .* become 16777216"),
        (np.array([0, 2**53 + 1]), "float64", "input 1 has the value 9007199254740993, .* become 9007199254740992"),
        (np.array([0, 2**63 + 1], np.uint64), "float32", "input 1 has the value 9223372036854775809"),
        ([-(2**63), 2**24 + 1], "float32", "input 1 has the value 16777217"),
        ([0, 2049], "float16", "input 1 has the value 2049, .* become 2048"),
        ([0, 2**31], "int32", "input 1 has the value 2147483648, which int32 cannot hold: it would become -2147483648"),
        ([0.0, 1.5], "int32", "input 1 has the value 1.5, which int32 cannot hold: it would become 1"),
        ([0.0, 1e300], "int32", r"input 1 has the value 1e\+300, which int32 cannot hold"),
        ([0, -1], "uint8", "input 1 has the value -1, which uint8 cannot hold: it would become 255"),
        ([0, 2], "bool", "input 1 has the value 2, which bool cannot hold"),
        ([0.0, np.nan], "int32", "input 1 has NaN or infinite values; it is the first of 1 that have"),
    ],
)
def test_what_a_cast_would_change(values, dtype, message):
    with pytest.raises(ValueError, match=message):
        check_inputs(np.reshape(values, (2, 1)), (1,), np.dtype(dtype))


def test_what_is_wrong_with_an_input_goes_to_another_process():
    with pytest.raises(InputError) as caught:
        check_inputs(np.array([[0.5], [np.nan]]), (1,))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == "input 1 has NaN or infinite values; it is the first of 1 that have"
    assert again.number == 1


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_what_fits(dtype):
    for values in ([False, True], np.array([0, 1], np.uint64), np.array([0, 1], np.int8), np.array([0, 1], np.float16),
                   [0.0, 1.0]):  # fmt: skip
        images = check_inputs(np.reshape(values, (2, 1)), (1,), np.dtype(dtype))
        assert images.dtype == dtype
        assert images.ravel().tolist() == [0, 1]
    assert check_inputs([[-(2**63)], [2**62]], (1,)).ravel().tolist() == [-(2**63), 2**62]
    assert check_inputs([[0.1]], (1,)).dtype == np.float32


def test_spaces_without_a_network():
    for space in (Pixels((1, 2)), Laplacian((1, 2))):
        with pytest.raises(ValueError, match="input 1 has the value 1e.300, which float32 cannot hold"):
            space.transform([[[0.0, 1.0]], [[0.0, 1e300]]])
        with pytest.raises(ValueError, match="input 0 has the value 16777217"):
            space.transform([[[0, 2**24 + 1]]])
        for n_images in (3, 0):
            (values,) = space.transform(np.ones((n_images, 1, 2), bool)).values()
            assert values.dtype == np.float32
            assert values.shape == (n_images, 2)


def test_token_ids():
    keras = pytest.importorskip("keras")
    layers = keras.layers
    wide = keras.Input((2,), dtype="int32")
    model = keras.Model(wide, layers.Lambda(lambda x: keras.ops.mod(x, 1000), name="last_digits")(wide))
    space = KerasLayers(model)
    ids = np.array([[2**24 + 1, 5], [2**31 - 1, 7]])
    for given in (ids, ids.astype(np.float64)):
        assert space.transform(given)["last_digits"].tolist() == [[217, 5], [647, 7]]
    with pytest.raises(ValueError, match="input 1 has the value 2147483648, which int32 cannot hold"):
        space.transform(ids + [[0, 0], [1, 0]])
    tokens = keras.Input((3,), dtype="int32")
    embedded = layers.Embedding(9, 4, name="e")(tokens)
    model = keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(embedded)))
    values = KerasLayers(model, ["e"]).transform([[0, 8, 1]])["e"]
    assert np.array_equal(values.reshape(3, 4), model.get_layer("e").get_weights()[0][[0, 8, 1]])
    assert ClassifierMargin(model).transform(np.ones((2, 3), np.uint8)).keys() == {"margin"}
    with pytest.raises(ValueError, match="input 0 has the value 0.5, which int32 cannot hold"):
        KerasLayers(model, ["e"]).transform([[0.5, 1, 1]])


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float64"])
def test_other_inputs(dtype):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((4,), dtype=dtype)
    model = keras.Model(inputs, keras.layers.Identity(dtype=dtype, name="same")(inputs))
    images = np.array([[0, 1, 2, 200], [3, 0, 7, 9]])
    assert np.array_equal(KerasLayers(model).transform(images)["same"], images)
    assert np.array_equal(KerasLayers(model).transform(images / 1)["same"], images)
    error = ReconstructionError(model).transform(images)["reconstruction_error"]
    assert error.dtype == np.float32
    assert not error.any()
    with pytest.raises(ValueError, match=f"input 1 has the value .*, which {dtype} cannot hold"):
        KerasLayers(model).transform([[0] * 4, [2**53 + 1] * 4])
    if dtype != "uint8":
        space = FeatureResponse(model, "gradient", layer="same")
        assert space.transform(images)["response"].dtype == np.float32
        assert np.array_equal(space.transform(images)["response"], images)
        with pytest.raises(ValueError, match=f"input 1 has the value .*, which {dtype} cannot hold"):
            space.transform([[0] * 4, [2**53 + 1] * 4])
    strings = keras.Input((1,), dtype="string", name="words")
    words = keras.Model(strings, keras.layers.Hashing(9)(strings), name="words")
    with pytest.raises(ValueError, match="expected a model with numeric input, words takes strings"):
        KerasLayers(words)


def test_frames_with_other_columns_are_refused(rng, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rng.normal(size=(60, 4)), columns=list("abcd"))
    space, detector = Arrays({"x": (4,)}), SubsetScanDetector(false_positive_rate=0.5, random_state=0)
    scanner = ModelScanner(space, detector).fit({"x": frame})
    expected = scanner.p_values({"x": frame})["x"]
    scanner.save(tmp_path)
    for one in (scanner, ModelScanner.load(tmp_path, space)):
        assert np.array_equal(one.p_values({"x": frame})["x"], expected)
        assert np.array_equal(one.p_values({"x": frame.to_numpy()})["x"], expected)
        for call in (one.p_values, one.scan, one.calibrate):
            with pytest.raises(
                ValueError, match="the columns must be those of the fit in x, in the same order, but col"
            ):
                call({"x": frame[["b", "a", "c", "d"]]})
    alone = ModelScanner(Pixels((4,)), detector).fit(frame)
    with pytest.raises(
        ValueError, match="the columns must be those of the fit, in the same order, but column 0 is 'd'"
    ):
        alone.p_values(frame[list("dcba")])
