"""The margin of a classifier's decision against float64, whatever the classifier ends in."""

import numpy as np
import pytest

from subsetscan.networks.logits import logit_tensor
from subsetscan.spaces import ClassifierMargin, KerasLayers, join

keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")
layers = keras.layers


class SoftmaxWithScale(layers.Dense):
    """What nobody but its author knows how to take apart."""

    def call(self, inputs, training=None):
        return super().call(2 * inputs, training=training)


def tail(end, classes=5):
    """The layers that a classifier ends in, the first one being named logits."""
    return {
        "activation": lambda: [layers.Dense(classes, activation="softmax", name="logits")],
        "function": lambda: [layers.Dense(classes, activation=keras.ops.softmax, name="logits")],
        "TensorFlow": lambda: [layers.Dense(classes, activation=tensorflow.nn.softmax, name="logits")],
        "layer in a layer": lambda: [layers.Dense(classes, activation=layers.Softmax(), name="logits")],
        "no bias": lambda: [layers.Dense(classes, activation="softmax", use_bias=False, name="logits")],
        "Softmax": lambda: [layers.Dense(classes, name="logits"), layers.Softmax(name="softmax")],
        "Activation": lambda: [layers.Dense(classes, name="logits"), layers.Activation("softmax", name="softmax")],
        "operation": lambda: [layers.Dense(classes, name="logits"), keras.ops.softmax],
        "linear": lambda: [layers.Dense(classes, name="logits")],
        "log-softmax": lambda: [layers.Dense(classes, activation="log_softmax", name="logits")],
    }[end]()


ENDS = ["activation", "function", "TensorFlow", "layer in a layer", "no bias", "Softmax", "Activation", "linear",
        "log-softmax"]  # fmt: skip


def functional(end):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    x = layers.Dense(7, activation="relu", name="hidden")(layers.Flatten(name="flat")(inputs))
    for layer in tail(end):
        x = layer(x)
    return keras.Model(inputs, x)


def sequential(end):
    keras.utils.set_random_seed(2)
    start = [keras.Input((8, 8, 1)), layers.Flatten(name="flat"), layers.Dense(7, activation="relu", name="hidden")]
    return keras.Sequential(start + tail(end))


def nested(end):
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(2.0, name="twice"), functional(end)])


def margins(images, classifier):
    """Compute margins in float64, from the weights alone."""
    hidden, logits = classifier.get_layer("hidden"), classifier.get_layer("logits")
    x = images.reshape(len(images), -1).astype(np.float64)
    x = np.maximum(x @ np.float64(hidden.kernel) + np.float64(hidden.bias), 0)
    x = x @ np.float64(logits.kernel) + (0 if logits.bias is None else np.float64(logits.bias))
    ordered = np.sort(x, axis=1)
    return (ordered[:, -2] - ordered[:, -1])[:, np.newaxis]


@pytest.mark.parametrize(
    ("build", "end"),
    [(build, end) for build in (functional, sequential, nested) for end in ENDS] + [(functional, "operation")],
)
def test_the_margin_is_that_of_float64(images, build, end):
    model = build(end)
    for layer in (model if build is not nested else model.layers[-1]).layers:
        for weight in getattr(layer, "_trainable_variables", []):  # biases start as zeros
            weight.assign(np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    space = ClassifierMargin(model)
    assert space.node_shapes == {"margin": (1,)}
    values = space.transform(images)["margin"]
    assert values.dtype == np.float32
    assert values.shape == (90, 1)
    expected = margins(2 * images, model.layers[-1]) if build is nested else margins(images, model)
    assert np.allclose(values, expected, rtol=1e-4, atol=1e-4)
    assert (values <= 0).all()
    assert len(np.unique(values)) == 90


@pytest.mark.parametrize("end", ["activation", "Softmax", "Activation"])
def test_a_saturated_softmax(end):
    inputs = keras.Input((3,))
    x = inputs
    for layer in tail(end, classes=3):
        x = layer(x)
    model = keras.Model(inputs, x)
    model.get_layer("logits").set_weights([np.diag([200.0, 600.0, 300.0]), np.array([0.0, 1.0, 0.0])])
    images = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0.5, 0, 1]])
    # The logits are 200, 601, 300 where the pixel is 1, else 0, 1, 0: softmax rounds all of it to 0 and 1.
    assert np.isin(model.predict_on_batch(images), [0, 1]).all()
    assert ClassifierMargin(model).transform(images)["margin"].tolist() == [[-199], [-601], [-299], [-401], [-200]]


def test_classes_that_tie():
    model = keras.Sequential([keras.Input((2,)), layers.Softmax()])
    assert ClassifierMargin(model).transform([[3.0, 3.0], [-1.0, 4.0]])["margin"].tolist() == [[0], [-5]]


@pytest.mark.parametrize("build", [functional, sequential, nested])
@pytest.mark.parametrize("end", ["activation", "Softmax", "linear"])
def test_the_model_stays_as_it_is(images, build, end):
    model = build(end)
    weights = [weight.copy() for weight in model.get_weights()]
    predictions = model.predict_on_batch(images)
    before = model.to_json(), model.outputs[0], [id(variable) for variable in model.variables]
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    ClassifierMargin(model).transform(images)
    assert (model.to_json(), model.outputs[0], [id(variable) for variable in model.variables]) == before
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert np.array_equal(model.predict_on_batch(images), predictions)
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes


@pytest.mark.parametrize("build", [functional, sequential, nested])
def test_the_logits_share_the_weights(images, build):
    model = build("activation")
    logits = keras.Model(model.inputs, logit_tensor(model))
    assert {id(v) for v in logits.trainable_variables} == {id(v) for v in model.trainable_variables}
    model.set_weights([weight + 0.25 for weight in model.get_weights()])
    softmax = np.exp(logits.predict_on_batch(images).astype(np.float64))
    softmax /= softmax.sum(axis=1, keepdims=True)
    assert np.allclose(softmax, model.predict_on_batch(images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("build", [functional, sequential, nested])
@pytest.mark.parametrize("end", ["activation", "no bias", "Softmax"])
def test_the_model_of_logits_is_cloned_and_saved(images, build, end, tmp_path):
    model = build(end)
    logits = keras.Model(model.inputs, logit_tensor(model))
    expected = logits.predict_on_batch(images)
    clone = keras.models.clone_model(logits)
    clone.set_weights(logits.get_weights())
    assert not {id(weight) for weight in clone.weights} & {id(weight) for weight in model.weights}
    logits.save(tmp_path / "logits.keras")
    for other in (clone, keras.models.load_model(tmp_path / "logits.keras")):
        assert [weight.shape for weight in other.weights] == [weight.shape for weight in logits.weights]
        assert np.array_equal(other.predict_on_batch(images), expected)
        margin = ClassifierMargin(other).transform(images)["margin"]
        assert np.allclose(margin, ClassifierMargin(model).transform(images)["margin"], rtol=1e-5, atol=1e-6)


def test_the_model_of_logits_is_attacked(images):
    art = pytest.importorskip("art.estimators.classification")
    from art.attacks.evasion import FastGradientMethod

    model = functional("activation")
    logits = keras.Model(model.inputs, logit_tensor(model))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    logits.compile("sgd", loss)  # what is refitted is compiled alike
    classifier = art.TensorFlowV2Classifier(logits, 5, (8, 8, 1), loss_object=loss)
    labels = logits.predict_on_batch(images).argmax(axis=1)
    attacked = FastGradientMethod(classifier, eps=0.3).generate(images)
    assert np.mean(model.predict_on_batch(attacked).argmax(axis=1) == labels) < 0.5
    refitted = classifier.clone_for_refitting()
    assert refitted.predict(images).shape == (90, 5)


@pytest.mark.parametrize("build", [functional, nested])
def test_spaces_over_one_network_share_a_pass(images, build):
    model = build("activation")
    spaces = [KerasLayers(model), ClassifierMargin(model), ClassifierMargin(model, name="again")]
    (joined,) = join(spaces)
    assert joined.names == (*KerasLayers(model).names, "margin", "again")
    together = joined.transform(images)
    for space in spaces:
        for name, array in space.transform(images).items():
            assert np.allclose(together[name], array, rtol=1e-6, atol=1e-7)
    assert np.array_equal(together["margin"], together["again"])


def test_batches_make_no_difference(images):
    space = ClassifierMargin(functional("activation"))
    space.forward_batch = 64
    one_by_one = [space.transform(images[n : n + 1])["margin"] for n in range(len(images))]
    assert np.array_equal(space.transform(images)["margin"], np.concatenate(one_by_one))
    assert space.transform(images[:0])["margin"].shape == (0, 1)


def test_half_precision(images):
    inputs = keras.Input((8, 8, 1))
    x = layers.Dense(3, activation="softmax", dtype="mixed_float16")(layers.Flatten()(inputs))
    space = ClassifierMargin(keras.Model(inputs, x))
    assert space.network.read(images[:2], space.reads)[space.reads[0]].dtype == np.float16
    assert space.transform(images)["margin"].dtype == np.float32


def test_names_that_keras_would_choose(images):
    """A model opened from a file has names that Keras gave out in another session, and gives out again in this one."""
    keras.utils.clear_session()
    model = nested("activation")
    assert model.layers[-1].name == "functional"
    expected = ClassifierMargin(model).transform(images)["margin"]
    keras.utils.clear_session()
    (joined,) = join([ClassifierMargin(model), KerasLayers(model)])
    assert np.allclose(joined.transform(images)["margin"], expected, rtol=1e-6)


def test_models_that_are_no_classifiers(autoencoder):
    with pytest.raises(ValueError, match=r"is not a classifier: .* of shape \(None, K\) .* got \(None, 8, 8, 1\)"):
        ClassifierMargin(autoencoder)
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match=r"is not a classifier: .* K >= 2 classes, got \(None, 1\)"):
        ClassifierMargin(keras.Model(inputs, layers.Dense(1, activation="sigmoid")(inputs)))
    two = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(3)(inputs)])
    with pytest.raises(ValueError, match=r"is not a classifier: .* got \(None, 2\), \(None, 3\)"):
        ClassifierMargin(two)
    with pytest.raises(TypeError, match="expected the path of an .onnx file, got 'classifier.keras'"):
        ClassifierMargin("classifier.keras")


def test_softmax_that_cannot_be_left_out():
    inputs = keras.Input((4,))
    for output in (
        SoftmaxWithScale(3, activation="softmax", name="end")(inputs),
        layers.EinsumDense("bi,io->bo", 3, activation="softmax", name="end")(inputs),
        layers.Softmax(name="end")(inputs, mask=keras.ops.greater(inputs, 0)),
    ):
        with pytest.raises(ValueError, match=r"the softmax of end \(.*\) cannot be left out: expected a Dense"):
            ClassifierMargin(keras.Model(inputs, output))
    quantized = layers.Dense(3, activation="softmax", name="end")
    model = keras.Model(inputs, quantized(inputs))
    quantized.quantize("int8")
    with pytest.raises(ValueError, match=r"the softmax of end \(Dense\) cannot be left out"):
        ClassifierMargin(model)
