"""ONNX models as networks: names, values beside numpy's, shapes, what is refused; the file stays as it is."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from subsetscan import ModelScanner
from subsetscan.detectors import SubsetScanDetector
from subsetscan.networks import KerasNetwork, OnnxNetwork, as_network, layer_names
from subsetscan.spaces import ClassifierMargin, FeatureResponse, Layers, OnnxLayers, ReconstructionError, join

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

rng = np.random.default_rng(0)
KERNEL = rng.normal(size=(3, 1, 3, 3)).astype(np.float32)
WEIGHT, BIAS = rng.normal(size=(48, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)


def constant(name, value):
    return onnx.numpy_helper.from_array(np.asarray(value), name)


def saved(path, nodes, inputs, outputs, constants=(), name="net"):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [constant(*one) for one in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def classifier(tmp_path):
    """A convolution and a dense layer, with the names of an exported module."""
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["/features/conv1/Conv_output_0"], "/features/conv1/Conv"),
        helper.make_node("Relu", ["/features/conv1/Conv_output_0"], ["active"], "/features/act/Relu"),
        helper.make_node("Reshape", ["active", "flat"], ["row"], "/Reshape"),
        helper.make_node("MatMul", ["row", "weight"], ["product"], "/head/MatMul"),
        helper.make_node("Add", ["product", "bias"], ["logits"], "/head/Add"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "/Softmax"),
    ]
    constants = [("kernel", KERNEL), ("weight", WEIGHT), ("bias", BIAS), ("flat", np.array([-1, 48]))]
    given, taken = [("image", FLOAT, ["n", 1, 6, 6])], [("probabilities", FLOAT, ["n", 4])]
    return saved(tmp_path / "classifier.onnx", nodes, given, taken, constants)


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(10, 1, 6, 6)).astype(np.float32)


def convolved(images):
    windows = np.lib.stride_tricks.sliding_window_view(images[:, 0], (3, 3), axis=(1, 2))
    return np.einsum("nijab,cab->ncij", windows, KERNEL[:, 0])


def test_tensors_have_the_values_that_numpy_computes(classifier, images):
    before = Path(classifier).read_bytes()
    network = as_network(str(classifier))
    assert isinstance(network, OnnxNetwork)
    assert layer_names(classifier) == (
        "/features/conv1/Conv_output_0", "active", "row", "product", "logits", "probabilities"
    )  # fmt: skip
    space = OnnxLayers(classifier, ["active", "logits"])
    assert space.node_shapes == {"active": (3, 4, 4), "logits": (4,)}
    assert [space.channel_axis(name) for name in space.names] == [0, 0]
    values = space.transform(images)
    active = np.maximum(convolved(images), 0)
    assert np.allclose(values["active"], active.reshape(10, 48), atol=1e-5)
    assert np.allclose(values["logits"], active.reshape(10, 48) @ WEIGHT + BIAS, atol=1e-4)
    assert Path(classifier).read_bytes() == before
    proto = onnx.load(classifier)
    told = proto.SerializeToString()
    assert np.array_equal(Layers(proto, "active").transform(images)["active"], values["active"])
    assert proto.SerializeToString() == told
    assert space.transform(images[:0])["active"].shape == (0, 48)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("features.conv1", "/features/conv1/Conv_output_0"),
        ("features/conv1", "/features/conv1/Conv_output_0"),
        ("/features/act/Relu", "active"),
        ("features", "active"),
        ("head", "logits"),
        ("/head/MatMul", "product"),
        ("log*", "logits"),
    ],
)
def test_names_of_nodes_and_scopes(classifier, asked, found):
    assert OnnxLayers(classifier, asked).names == (found,)


def test_what_computes(classifier, images):
    assert OnnxNetwork(classifier).computing() == ("active", "logits")
    clean = np.random.default_rng(2).normal(size=(60, 1, 6, 6)).astype(np.float32)
    scanner = ModelScanner.automatic(classifier, false_positive_rate=0.5).fit(clean)
    assert scanner.names == ("active", "logits")
    assert scanner.predict(images + 5).tolist() == [-1] * 10


@pytest.mark.parametrize(
    ("pool", "unit"), [("mean", None), ("max", "channel"), (np.median, "channel"), (None, "position")]
)
def test_pools(classifier, images, pool, unit):
    space = OnnxLayers(classifier, "active", pool=pool, unit=unit)
    active = np.maximum(convolved(images), 0)
    if unit == "position":
        expected, shape, axis = active.mean(axis=1), (4, 4), None
    else:
        expected, shape, axis = {"mean": np.mean, "max": np.max}.get(pool, pool)(active, axis=(2, 3)), (3,), 0
    assert space.node_shapes == {"active": shape}
    assert space.channel_axis("active") == axis
    assert np.allclose(space.transform(images)["active"], expected.reshape(10, -1), atol=1e-5)


def test_margin_and_autoencoder(classifier, images, tmp_path):
    logits = np.sort(OnnxLayers(classifier, "logits").transform(images)["logits"], axis=1)
    margin = ClassifierMargin(classifier)
    assert np.allclose(margin.transform(images)["margin"][:, 0], logits[:, -2] - logits[:, -1], atol=1e-5)
    node = helper.make_node("Mul", ["x", "half"], ["y"])
    shape = ["n", 5]
    path = saved(tmp_path / "a.onnx", [node], [("x", FLOAT, shape)], [("y", FLOAT, shape)], [("half", np.float32(0.5))])
    x = np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    assert np.allclose(ReconstructionError(path).transform(x)["reconstruction_error"], np.abs(x) / 2)
    with pytest.raises(
        ValueError, match=r"classifier.onnx is not an autoencoder: its input is \(1, 6, 6\), its output \(4"
    ):
        ReconstructionError(classifier)
    with pytest.raises(ValueError, match=r"active of .* a row|is not a classifier"):
        ClassifierMargin(
            path := saved(
                tmp_path / "b.onnx",
                [node],
                [("x", FLOAT, ["n", 1])],
                [("y", FLOAT, ["n", 1])],
                [("half", np.float32(0.5))],
            )
        )


def test_spaces_share_a_pass(classifier, images, monkeypatch):
    (joined,) = join([OnnxLayers(classifier, "active"), ClassifierMargin(classifier)])
    calls = []
    session = runtime.InferenceSession
    monkeypatch.setattr(runtime, "InferenceSession", lambda *a, **b: calls.append(1) or session(*a, **b))
    values = joined.transform(images)
    assert set(values) == {"active", "margin"}
    assert calls == [1]
    assert np.array_equal(values["active"], OnnxLayers(classifier, "active").transform(images)["active"])


def test_several_inputs(tmp_path):
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("Mul", ["embedded", "mask"], ["masked"]),
    ]
    given = [("ids", INT64, ["n", "t"]), ("mask", FLOAT, ["n", "t", 1])]
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    path = saved(tmp_path / "two.onnx", nodes, given, [("masked", FLOAT, ["n", "t", 3])], [("table", table)])
    ids, mask = np.array([[0, 3], [2, 1]]), np.array([[[1], [0]], [[1], [1]]], np.float32)
    expected = table[ids] * mask
    space = OnnxLayers(path, "masked")
    assert space.node_shapes == {}
    for inputs in ({"ids": ids, "mask": mask}, {"mask": mask, "ids": ids.astype(np.int32)}, (ids, mask)):
        assert np.array_equal(space.transform(inputs)["masked"], expected.reshape(2, 6))
    assert space.node_shapes == {"masked": (2, 3)}
    assert np.allclose(OnnxLayers(path, "masked", pool="mean").transform((ids, mask))["masked"], expected.mean(axis=1))
    with pytest.raises(ValueError, match="expected 2 inputs, ids, mask, by name or as a tuple, got one of shape"):
        space.transform(ids)
    with pytest.raises(ValueError, match="expected the inputs ids, mask, got ids"):
        space.transform({"ids": ids})
    with pytest.raises(ValueError, match="numbers of rows differ: ids 2, mask 1"):
        space.transform({"ids": ids, "mask": mask[:1]})
    with pytest.raises(ValueError, match="0.5, which int64 cannot hold"):
        space.transform({"ids": ids + 0.5, "mask": mask})
    longer = np.concatenate([ids, ids], axis=1), np.concatenate([mask, mask], axis=1)
    with pytest.raises(
        ValueError, match=r"masked of two.onnx has the shape \(4, 3\) for an input, and \(2, 3\) for earlier"
    ):
        space.transform(longer)
    scanner = ModelScanner(
        OnnxLayers(path, "masked", pool="max"), SubsetScanDetector(false_positive_rate=0.5, random_state=0)
    )
    draws = np.random.default_rng(4)
    many = {"ids": draws.integers(0, 4, (40, 2)), "mask": np.ones((40, 2, 1), np.float32)}
    assert scanner.fit(many).p_values(many)["masked"].shape == (40,)


def test_a_fixed_batch_and_files_beside(tmp_path, images, classifier):
    model = onnx.load(classifier)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "fixed.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")
    assert (tmp_path / "weights.bin").exists()
    space = OnnxLayers(tmp_path / "fixed.onnx", "active")
    assert space.network.batch_size == 4
    expected = OnnxLayers(classifier, "active").transform(images)["active"]
    assert np.allclose(space.transform(images)["active"], expected, atol=1e-6)


def test_what_depends_on_the_batch_is_refused(tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0]),
    ]
    given = [("x", FLOAT, ["n", 3])]
    path = saved(tmp_path / "batch.onnx", nodes, given, [("centred", FLOAT, ["n", 3]), ("turned", FLOAT, [3, "n"])])
    x = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="the same input has other values .* in centred of batch.onnx"):
        OnnxLayers(path, "centred").transform(x)
    with pytest.raises(ValueError, match=r"turned of batch.onnx does not have a row for each input: .* \(3, 4\) for 4"):
        OnnxLayers(path, "turned").transform(x)


def test_what_is_refused(classifier, tmp_path, images):
    with pytest.raises(ValueError, match="classifier.onnx has no layer 'nowhere'; it has 6 layers: /features/conv1"):
        OnnxLayers(classifier, "nowhere")
    (tmp_path / "broken.onnx").write_bytes(b"\x00no model")
    with pytest.raises(ValueError, match=r"broken.onnx (is no ONNX model|has no input)"):
        OnnxNetwork(tmp_path / "broken.onnx")
    with pytest.raises(FileNotFoundError):
        OnnxNetwork(tmp_path / "missing.onnx")
    with pytest.raises(TypeError, match="a session of onnxruntime does not tell its graph"):
        OnnxNetwork(runtime.InferenceSession(str(classifier), providers=["CPUExecutionProvider"]))
    for wrong in (3, None, KerasNetwork):
        with pytest.raises(TypeError, match="expected the path of an .onnx file or an onnx.ModelProto, got"):
            OnnxNetwork(wrong)
    with pytest.raises(
        TypeError, match="expected a Keras model, a PyTorch module, the path of an .onnx file or a subset"
    ):
        as_network(3)
    with pytest.raises(ValueError, match="onnxruntime has no provider NoneSuch here; it has .*CPU"):
        OnnxLayers(classifier, "active", providers=["NoneSuch"]).transform(images)
    with pytest.raises(ValueError, match=r"each input must have shape \(1, 6, 6\), got \(6, 6\)"):
        OnnxLayers(classifier, "active").transform(images[:, 0])
    with pytest.raises(ValueError, match="pool must be \"mean\"|pool must be 'mean', 'max', a function or None, got"):
        OnnxLayers(classifier, "active", pool="median")
    with pytest.raises(ValueError, match="unit must be one of 'node', 'channel', 'position', got 'pixel'"):
        OnnxLayers(classifier, "active", unit="pixel")


def test_there_are_no_feature_responses(classifier):
    message = "computes no gradients .OnnxNetwork.: feature responses need a Keras model or a PyTorch module"
    for model in (classifier, str(classifier), onnx.load(classifier), OnnxNetwork(classifier)):
        for target in ("activations", "top-logit"):
            with pytest.raises(TypeError, match=message):
                FeatureResponse(model, "gradient", target)


def test_fingerprints_and_copies(classifier, images, tmp_path):
    space = OnnxLayers(classifier, "active")
    values = space.transform(images)["active"]
    copy = pickle.loads(pickle.dumps(space))
    assert np.array_equal(copy.transform(images)["active"], values)
    assert copy.fingerprint() == space.fingerprint() != OnnxLayers(classifier, "active", pool="max").fingerprint()
    model = onnx.load(classifier)
    model.graph.initializer[0].CopyFrom(constant("kernel", KERNEL * 2))
    assert OnnxLayers(model, "active").fingerprint() != space.fingerprint()


def test_a_network_that_a_package_ships():
    magika = pytest.importorskip("magika")
    (path,) = Path(magika.__file__).parent.rglob("*.onnx")
    network = OnnxNetwork(path)
    names = network.computing()
    assert len(names) >= 3
    content = np.random.default_rng(6).integers(0, 256, (5, 2048)).astype(np.int32)
    values = OnnxLayers(network, [*names, network.output()], pool="mean").transform(content)
    assert all(len(rows) == 5 and np.isfinite(rows).all() for rows in values.values())
    assert np.allclose(values[network.output()].sum(axis=1), 1, atol=1e-4)


def test_channels_are_found_behind_constants_and_squeezes(tmp_path):
    """An activation that is written out adds what nodes make; exporters write series as images of height 1."""
    kernel = rng.normal(size=(4, 2, 1, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["three"], value=constant("t", np.float32(3))),
        helper.make_node("Unsqueeze", ["x", "height"], ["image"]),
        helper.make_node("Conv", ["image", "kernel"], ["conv"]),
        helper.make_node("Squeeze", ["conv", "height"], ["series"]),
        helper.make_node("Add", ["three", "series"], ["added"]),
        helper.make_node("Clip", ["added", "", "six"], ["clipped"]),
        helper.make_node("Mul", ["series", "clipped"], ["active"]),
        helper.make_node("Transpose", ["active"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Add", ["turned", "bias"], ["biased"]),
    ]
    constants = [("kernel", kernel), ("height", np.array([2])), ("six", np.float32(6)), ("bias", BIAS)]
    path = saved(
        tmp_path / "series.onnx", nodes, [("x", FLOAT, ["n", 2, 9])], [("biased", FLOAT, ["n", 7, 4])], constants
    )
    names = ["series", "clipped", "active", "turned", "biased"]
    space = OnnxLayers(path, names)
    assert {name: space.channel_axis(name) for name in names} == dict(zip(names, [0, 0, 0, 1, 1], strict=True))
    x = np.random.default_rng(7).normal(size=(5, 2, 9)).astype(np.float32)
    values = OnnxLayers(path, ["active", "biased"], pool="mean").transform(x)
    conv = np.einsum("nclk,ock->nol", np.lib.stride_tricks.sliding_window_view(x, 3, axis=2), kernel[:, :, 0])
    active = conv * np.minimum(conv + 3, 6)
    assert np.allclose(values["active"], active.mean(axis=2), atol=1e-5)
    assert np.allclose(values["biased"], active.mean(axis=2) + BIAS, atol=1e-5)


def test_a_bias_behind_another_order_of_axes_belongs_to_its_convolution(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["conv"]),
        helper.make_node("Transpose", ["conv"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["turned"], ["cast"], to=FLOAT),
        helper.make_node("Add", ["cast", "bias"], ["biased"]),
        helper.make_node("Relu", ["biased"], ["active"]),
        helper.make_node("Transpose", ["active"], ["back"], perm=[0, 3, 1, 2]),
    ]
    constants = [("kernel", KERNEL), ("bias", BIAS[:3])]
    path = saved(
        tmp_path / "a.onnx", nodes, [("x", FLOAT, ["n", 1, 6, 6])], [("back", FLOAT, ["n", 3, 4, 4])], constants
    )
    assert OnnxNetwork(path).computing() == ("active",)


def test_a_batch_is_one_run_however_many_spaces_read_it(classifier, images, monkeypatch):
    sizes, own = [], runtime.InferenceSession.run

    def counted(self, names, feed, *rest):
        sizes.append(len(feed["image"]))
        return own(self, names, feed, *rest)

    monkeypatch.setattr(runtime.InferenceSession, "run", counted)
    network = as_network(str(classifier))
    spaces = [Layers(network, ["active"]), Layers(network, ["product"]), ClassifierMargin(network)]
    many = np.concatenate([images + shift for shift in np.linspace(0, 1, 9, dtype=np.float32)])
    scanner = ModelScanner(spaces, SubsetScanDetector(random_state=0), combine="fisher").fit(many)
    for rows in (many[:60], many[:1]):
        sizes.clear()
        scanner.p_values(rows)
        assert sizes == [len(rows)]
