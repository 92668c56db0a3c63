"""Feature responses against finite differences, and against passes written out in numpy: response_reference.py."""

import random

import numpy as np
import pytest
from response_reference import FIRST, HIDDEN, IMAGES, LABELS, LOGITS, RNG, SECOND, SHAPE, responses, same, steps
from rounding import assert_same

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.detectors import LocalSpatialEntropy
from subsetscan.spaces import FeatureResponse, KerasLayers, Pixels, join
from subsetscan.spaces.responses import METHODS, TARGETS

keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")
layers = keras.layers


def network(style="argument", dtype="float64", end="softmax", padding="same", stride=1, relu=None):
    """The same network, its ReLUs being said in another way."""
    shared = layers.ReLU(name="shared", dtype=dtype)

    def after(x, name):
        if style == "Activation":
            return layers.Activation("relu", name=name, dtype=dtype)(x)
        if style == "ReLU":
            return layers.ReLU(name=name, dtype=dtype)(x)
        if style == "operation":
            return keras.ops.relu(x)
        return shared(x) if style == "shared" else x

    function = relu or {"argument": "relu", "nested": "relu", "sequential": "relu", "TensorFlow": tensorflow.nn.relu,
                        "operation as argument": keras.ops.relu, "layer as argument": layers.ReLU(),
                        }.get(style)  # fmt: skip
    first = layers.Conv2D(3, (3, 2), activation=function, name="first", dtype=dtype)
    pool = layers.MaxPooling2D(2, name="pool", dtype=dtype)
    second = layers.Conv2D(4, (2, 3), stride, padding, activation=function, name="second", dtype=dtype)
    hidden = layers.Dense(6, activation=function, name="hidden", dtype=dtype)
    logits = layers.Dense(5, activation=end, name="logits", dtype=dtype)
    inputs = keras.Input(SHAPE, dtype=dtype, name="images")
    if style == "sequential":
        model = keras.Sequential([inputs, first, pool, second, layers.Flatten(dtype=dtype), hidden, logits])
    elif style == "nested":
        inner = keras.Input(SHAPE, dtype=dtype)
        middle = keras.Model(inner, second(pool(first(inner))), name="features")
        head = keras.Sequential([keras.Input(middle.output_shape[1:], dtype=dtype), layers.Flatten(dtype=dtype),
                                 hidden, logits], name="head")  # fmt: skip
        model = keras.Model(inputs, head(middle(inputs)))
    else:
        x = after(second(pool(after(first(inputs), "relu_1"))), "relu_2")
        model = keras.Model(inputs, logits(after(hidden(layers.Flatten(dtype=dtype)(x)), "relu_3")))
    for layer, (kernel, bias) in ((first, FIRST), (second, SECOND), (hidden, HIDDEN), (logits, LOGITS)):
        layer.set_weights([kernel[: layer.kernel.shape[0]], bias])  # fewer where strides leave fewer pixels
    return model


STYLES = ["argument", "TensorFlow", "operation as argument", "layer as argument", "Activation", "ReLU", "operation",
          "shared", "nested", "sequential"]  # fmt: skip


def found(model, method, target, **options):
    return FeatureResponse(model, method, target, **options).responses(
        IMAGES, LABELS if target == "true-logit" else None
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", TARGETS)
def test_each_method_and_target_is_that_of_numpy(method, target):
    reference = steps()[:5] if target == "activations" else steps()
    same(found(network(), method, target), responses(reference, method, target))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("method", ["deconvnet", "guided"])
def test_every_way_to_say_relu(style, method):
    model = network(style)
    same(found(model, method, "true-logit"), responses(steps(), method, "true-logit"))
    # The last convolution's own output: a ReLU of its own comes after it.
    carries = style not in ("Activation", "ReLU", "operation", "shared")
    same(found(model, method, "activations"), responses(steps()[: 5 if carries else 4], method, "activations"))


@pytest.mark.parametrize(("padding", "stride"), [("valid", 1), ("same", 2), ("valid", 2)])
@pytest.mark.parametrize("method", METHODS)
def test_other_convolutions(padding, stride, method):
    model = network("Activation", padding=padding, stride=stride)
    options = {"padding": padding, "stride": stride}
    same(found(model, method, "activations", layer="relu_2"), responses(steps(**options)[:5], method, "activations"))


def test_layers_by_name_and_index():
    for model in (network(), network("nested"), network("sequential")):
        for which, n in (("first", 2), ("pool", 3), ("hidden", 8)):
            same(found(model, "guided", "activations", layer=which), responses(steps()[:n], "guided", "activations"))
    expected = responses(steps()[:3], "deconvnet", "activations")
    same(found(network("sequential"), "deconvnet", "activations", layer=1), expected)
    same(found(network("sequential"), "deconvnet", "activations", layer=-5), expected)


def test_layers_themselves_and_their_outputs():
    for model in (network(), network("nested")):
        inner = model if model.layers[1].name == "first" else model.get_layer("features")
        values = found(model, "guided", "activations", layer=inner.get_layer("pool"))
        same(values, responses(steps()[:3], "guided", "activations"))
    shared = network("shared")
    same(found(shared, "guided", "activations", layer="shared:1"), responses(steps()[:5], "guided", "activations"))
    with pytest.raises(ValueError, match="has no layer 'pool' .another layer of this name"):
        FeatureResponse(network(), layer=layers.MaxPooling2D(name="pool"))
    with pytest.raises(TypeError, match="a layer must be a name, an index or a layer of the model, got True"):
        FeatureResponse(network(), layer=True)


def differences(model, objective, step=1e-5):
    """Central differences of a number that the model's output gives for each image, by each pixel."""
    steps = step * np.eye(IMAGES[0].size).reshape(-1, *SHAPE)
    result = []
    for image, label in zip(IMAGES, LABELS, strict=True):
        high, low = (objective(np.asarray(model(image + sign * steps, training=False)), label) for sign in (1, -1))
        result.append((high - low).reshape(SHAPE) / (2 * step))
    return np.array(result)


@pytest.mark.parametrize(
    "activation",
    ["relu", "elu", "gelu", "sigmoid", layers.LeakyReLU(dtype="float64"), layers.ReLU(max_value=9, dtype="float64")],
)
def test_the_gradient_is_that_of_finite_differences(activation):
    model = network(relu=activation)
    logits = network(relu=activation, end=None)
    second = keras.Model(model.inputs[0], model.get_layer("second").output)
    objectives = {
        "activations": (second, lambda f, label: np.square(f).sum(axis=(1, 2, 3)) / 2),
        "top-logit": (logits, lambda f, label: f.max(axis=1)),
        "true-logit": (logits, lambda f, label: f[:, label]),
        "max-output": (logits, lambda f, label: np.square(f.max(axis=1)) / 2),
    }
    for target, (read, objective) in objectives.items():
        expected = differences(read, objective)
        values = found(model, "gradient", target)
        assert np.abs(expected).max() > 0.001
        assert np.allclose(values, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("end", ["softmax", None])
def test_the_softmax_is_left_out(end):
    same(found(network(end=end), "guided", "top-logit"), responses(steps(), "guided", "top-logit"))


def test_linear_layers_pass_a_backward_pass_on():
    """Without a ReLU all methods are plain backpropagation; with one, the clone still computes what the model does."""
    keras.utils.set_random_seed(0)
    normalise = layers.Normalization(name="normalise")
    normalise.adapt(3 * IMAGES + 1)

    def build(relu):
        inputs = keras.Input(SHAPE)
        x = layers.Rescaling(2.0, offset=0.5)(normalise(inputs))
        x = layers.ZeroPadding2D(1)(x)
        x = layers.DepthwiseConv2D(2, depth_multiplier=2, activation=relu)(x)
        x = layers.BatchNormalization(name="batch")(layers.SeparableConv2D(4, 3, activation=relu)(x))
        side = layers.Conv2D(4, 1, kernel_regularizer="l2", kernel_constraint="max_norm")(x)
        x = layers.Dropout(0.5)(layers.Add()([x, side]) + side)
        x = layers.Concatenate()([layers.AveragePooling2D(2)(x), layers.MaxPooling2D(2)(x)])
        x = layers.Conv2DTranspose(2, 2, activation=relu)(layers.UpSampling2D(2)(x))
        x = layers.SpatialDropout2D(0.2)(layers.Cropping2D(1)(x))
        return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))

    for relu in (None, "relu"):
        model = build(relu)
        for variable in model.get_layer("batch").variables:
            variable.assign(RNG.uniform(0.5, 1.5, size=variable.shape))
        space = FeatureResponse(model, "guided", "top-logit")
        values, gradient = space.responses(IMAGES), found(model, "gradient", "top-logit")
        assert np.allclose(space._backward.network(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
        assert np.allclose(values, gradient, rtol=1e-4, atol=1e-6) == (relu is None)


INFERENCE_IDENTITIES = {
    "ActivityRegularization": lambda: layers.ActivityRegularization(l2=0.1),
    "AlphaDropout": lambda: layers.AlphaDropout(0.5),
    "Dropout": lambda: layers.Dropout(0.5),
    "GaussianDropout": lambda: layers.GaussianDropout(0.5),
    "GaussianNoise": lambda: layers.GaussianNoise(0.5),
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.5),
    "AugMix": lambda: layers.AugMix(),
    "CutMix": lambda: layers.CutMix(),
    "MixUp": lambda: layers.MixUp(),
    "RandAugment": lambda: layers.RandAugment(),
    "RandomBrightness": lambda: layers.RandomBrightness(0.5),
    "RandomColorJitter": lambda: layers.RandomColorJitter(brightness_factor=0.5),
    "RandomContrast": lambda: layers.RandomContrast(0.5),
    "RandomErasing": lambda: layers.RandomErasing(),
    "RandomFlip": lambda: layers.RandomFlip(),
    "RandomGaussianBlur": lambda: layers.RandomGaussianBlur(),
    "RandomRotation": lambda: layers.RandomRotation(0.5),
    "RandomShear": lambda: layers.RandomShear(0.5),
    "RandomTranslation": lambda: layers.RandomTranslation(0.5, 0.5),
    "RandomZoom": lambda: layers.RandomZoom(0.5),
}


@pytest.mark.parametrize("kind", INFERENCE_IDENTITIES)
def test_what_is_the_identity_in_inference(kind):
    inputs = keras.Input(SHAPE)

    def build(first, training=None):
        x = inputs if first is None else first(inputs, training=training) if training else first(inputs)
        x = layers.Conv2D(3, (3, 2), activation="relu", name="first")(x)
        return keras.Model(inputs, layers.Dense(5, name="logits")(layers.Flatten()(x)))

    plain, layer = build(None), INFERENCE_IDENTITIES[kind]()
    model = build(layer)
    model.set_weights(plain.get_weights())
    states = random_states()
    for method in ("deconvnet", "guided"):
        assert np.array_equal(found(model, method, "top-logit"), found(plain, method, "top-logit"))
    assert random_states() == states
    if "Dropout" in kind or "Noise" in kind:
        with pytest.raises(ValueError, match=f'{layer.name} is called with training=True: "guided" is defined for'):
            FeatureResponse(build(layer, training=True), "guided", "top-logit")


@pytest.mark.parametrize("method", METHODS)
def test_batches_make_no_difference(method):
    model = network(dtype="float32")
    images = np.random.default_rng(0).normal(size=(130, *SHAPE))
    space = FeatureResponse(model, method)
    at_once = space.transform(images)["response"]
    assert at_once.shape == (130, 144)
    rounding = {"rtol": 1e-4, "atol": 1e-4}
    assert_same(space.transform(images[::-1])["response"][::-1], at_once, **rounding)
    some = [*range(5), *range(60, 70), 129]
    one_by_one = [space.transform(images[n : n + 1])["response"] for n in some]
    assert_same(np.concatenate(one_by_one), at_once[some], **rounding)
    assert space.transform(images[:0])["response"].shape == (0, 144)
    space.forward_batch = 9
    assert np.allclose(space.transform(images)["response"], at_once, **rounding)


def random_states():
    return random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 (those that a model's author may seed)


@pytest.mark.parametrize("style", ["shared", "operation", "nested", "sequential"])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_stays_as_it_is(style, method):
    model = network(style)
    model.compile("sgd", "categorical_crossentropy")
    weights = [weight.copy() for weight in model.get_weights()]
    predictions = model.predict_on_batch(IMAGES)
    operations = model.operations if hasattr(model, "operations") else model._functional.operations
    before = model.to_json(), model.outputs[0], [id(variable) for variable in model.variables]
    nodes = [len(operation._inbound_nodes) for operation in operations]
    functions = [getattr(operation, "activation", None) for operation in operations]
    states = random_states()
    for target in TARGETS:
        found(model, method, target)
    assert random_states() == states
    assert (model.to_json(), model.outputs[0], [id(variable) for variable in model.variables]) == before
    assert [len(operation._inbound_nodes) for operation in operations] == nodes
    assert [getattr(operation, "activation", None) for operation in operations] == functions
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert np.array_equal(model.predict_on_batch(IMAGES), predictions)
    assert model.fit(IMAGES, np.eye(5)[LABELS], verbose=0).history["loss"][0] > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["activations", "top-logit"])
def test_weights_that_are_set_later_count(method, target):
    model = network("nested")
    space = FeatureResponse(model, method, target)
    before = space.responses(IMAGES)
    model.set_weights([weight + 0.125 for weight in model.get_weights()])
    after = space.responses(IMAGES)
    assert not np.allclose(before, after, rtol=0.01)
    assert np.array_equal(after, FeatureResponse(model, method, target).responses(IMAGES))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(dtype):
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(3, 3, activation="relu", dtype=dtype, name="c")(inputs)
    model = keras.Model(inputs, layers.Dense(3, dtype=dtype)(layers.Flatten()(x)))
    for target in ("activations", "max-output"):
        values = found(model, "guided", target)
        assert values.dtype == np.float32
        assert np.abs(values).max() > 0


def test_a_space_among_others():
    model = network(dtype="float32")
    images = np.random.default_rng(1).normal(size=(60, *SHAPE)).astype(np.float32)
    space = FeatureResponse(model, name="guided")
    assert space.names == ("guided",)
    assert space.node_shapes == {"guided": SHAPE}
    spaces = [KerasLayers(model, ["pool"]), space, FeatureResponse(model, "gradient", name="plain"), Pixels(SHAPE)]
    assert [one.names for one in join(spaces)] == [("pool",), ("guided",), ("plain",), ("pixels",)]
    with pytest.raises(ValueError, match="several spaces are named response"):
        join([FeatureResponse(model), FeatureResponse(model, "gradient")])
    scan = SubsetScanDetector(tail="two-sided", calibration="leave-one-out")
    scanner = ModelScanner([space, Pixels(SHAPE)], {"guided": LocalSpatialEntropy(SHAPE), "pixels": scan})
    p_values = scanner.fit(images).p_values(IMAGES)
    expected = LocalSpatialEntropy(SHAPE).fit(space.transform(images)["guided"])
    assert np.array_equal(p_values["guided"], expected.p_values(space.transform(IMAGES)["guided"]))


def test_labels():
    model = network()
    space = FeatureResponse(model, "guided", "true-logit")
    with pytest.raises(
        ValueError, match=r'"true-logit" needs the labels of the images: call responses\(images, labels'
    ):
        space.transform(IMAGES)
    for bad, message in (
        (LABELS[1:], r"expected 7 labels, whole numbers, got int64 of shape \(6,\)"),
        (LABELS / 2, "expected 7 labels, whole numbers, got float64"),
        (LABELS + 1, "label 5 of image 0 is not one of the classes 0 to 4"),
        (LABELS - 1, "label -1 of image 1 is not one of the classes"),
    ):
        with pytest.raises(ValueError, match=message):
            space.responses(IMAGES, bad)
    with pytest.raises(ValueError, match="only target \"true-logit\" takes labels, got 'top-logit'"):
        FeatureResponse(model, "guided", "top-logit").responses(IMAGES, LABELS)
    top = np.asarray(model(IMAGES)).argmax(axis=1)
    assert np.array_equal(space.responses(IMAGES, top), found(model, "guided", "top-logit"))


class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: layers.Dense(2, activation="elu", name="odd"), "odd has the activation elu"),
        (lambda: layers.Dense(2, activation="gelu", name="odd"), "odd has the activation gelu"),
        (lambda: layers.Dense(2, activation="sigmoid", name="odd"), "odd has the activation sigmoid"),
        (lambda: layers.Conv2D(2, 1, activation="softmax", name="odd"), "odd has the activation softmax"),
        (lambda: layers.Activation("tanh", name="odd"), "odd has the activation tanh"),
        (lambda: layers.Dense(2, activation=lambda x: 0.5 * x, name="odd"), "odd has the activation <lambda>"),
        (lambda: layers.Dense(2, activation=layers.ELU(), name="odd"), "odd has the activation ELU"),
        (lambda: layers.LeakyReLU(name="odd"), "odd is a LeakyReLU layer"),
        (lambda: layers.PReLU(name="odd"), "odd is a PReLU layer"),
        (lambda: layers.ReLU(max_value=6, name="odd"), "odd is a ReLU with max_value=6"),
        (lambda: layers.ReLU(negative_slope=0.1, name="odd"), "odd is a ReLU with negative_slope=0.1"),
        (lambda: layers.ReLU(threshold=0.5, name="odd"), "odd is a ReLU with threshold=0.5"),
        (lambda: layers.Dense(2, activation=layers.ReLU(6), name="odd"), "odd is a ReLU with max_value=6"),
        (lambda: layers.LayerNormalization(name="odd"), "odd is a LayerNormalization layer"),
        (lambda: Doubled(name="odd"), "odd is a Doubled layer"),
        (lambda: keras.Sequential([layers.Activation("swish", name="odd")]), "odd has the activation silu"),
        (lambda: keras.ops.sigmoid, "sigmoid.* is the operation Sigmoid"),
    ],
)
def test_other_nonlinearities_are_refused(layer, message):
    inputs = keras.Input(SHAPE)
    x = layer()(layers.Conv2D(3, 3, activation="relu", name="early")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten(name="flat")(x)))
    for method in ("deconvnet", "guided"):
        expected = f'{message}.*: "{method}" is defined for plain ReLUs between linear layers only'
        with pytest.raises(ValueError, match=expected):
            FeatureResponse(model, method, "top-logit")
    assert found(model, "gradient", "top-logit").shape == IMAGES.shape
    # What comes after the target does not matter.
    assert found(model, "guided", "activations", layer="early").shape == IMAGES.shape


def test_what_is_none():
    model = network()
    with pytest.raises(ValueError, match="unknown method 'saliency'; known are gradient, deconvnet, guided"):
        FeatureResponse(model, "saliency")
    with pytest.raises(ValueError, match="unknown target 'logit'; known are activations, top-logit, true-logit, max-"):
        FeatureResponse(model, "guided", "logit")
    with pytest.raises(ValueError, match="a layer is for target \"activations\"; 'top-logit' reads the logits"):
        FeatureResponse(model, "guided", "top-logit", layer="first")
    for which in ("nowhere", 12):
        with pytest.raises(ValueError, match=f"has no layer {which!r}; it has 6 layers: first, pool, second"):
            FeatureResponse(model, layer=which)
    with pytest.raises(ValueError, match=r"shared has 3 outputs in .*, or is called 3 times: expected a layer"):
        FeatureResponse(network("shared"), layer="shared")
    inputs = keras.Input((4,))
    dense = keras.Model(inputs, layers.Dense(2, name="d")(inputs), name="dense")
    with pytest.raises(ValueError, match="dense has no convolutional layer: name a layer to propagate back from"):
        FeatureResponse(dense)
    assert FeatureResponse(dense, layer="d").node_shapes == {"response": (4,)}
    with pytest.raises(ValueError, match="is not a classifier"):
        FeatureResponse(keras.Model(inputs, layers.Dense(1)(inputs)), "gradient", "top-logit")
    with pytest.raises(TypeError, match="expected a Keras model, got str"):
        FeatureResponse("model.keras")
    whole = keras.Input((4,), dtype="int32", name="whole")
    with pytest.raises(ValueError, match="must be floating-point numbers, got int32"):
        FeatureResponse(keras.Model(whole, layers.Dense(2)(whole)), "gradient", "top-logit")
    free = keras.Input((None, None, 1), name="free")
    with pytest.raises(ValueError, match="the output of free has no fixed size"):
        FeatureResponse(keras.Model(free, layers.Conv2D(1, 3)(free)))


def test_images_that_do_not_fit():
    space = FeatureResponse(network())
    with pytest.raises(ValueError, match=r"each input must have shape \(9, 8, 2\), got \(9, 8\)"):
        space.transform(IMAGES[..., 0])
    holed = IMAGES.copy()
    holed[3, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="input 3 has NaN or infinite values; it is the first of 1 that have"):
        space.transform(holed)


def test_what_cannot_be_differentiated():
    inputs = keras.Input(SHAPE)
    x = layers.Lambda(lambda x: keras.ops.cast(keras.ops.argmax(x, axis=-1), "float32"))(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)), name="rounding")
    with pytest.raises(ValueError, match="no gradient reaches the image: a layer of rounding cannot be differentiated"):
        FeatureResponse(model, "gradient", "top-logit").transform(IMAGES)
