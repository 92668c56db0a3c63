"""The command line over networks that are no Keras models of one input, and over tables of embeddings."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.metrics import roc_auc_score

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.spaces import Arrays, Layers, ReconstructionError

pytest.importorskip("typer")
from subsetscan.commands import memory
from subsetscan.commands.activations import read_activations
from subsetscan.commands.explain import picture_of
from subsetscan.commands.results import _figure
from subsetscan.commands.scanned_sets import scan_sets
from subsetscan.commands.subject import Subject

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, FLOAT, INT64, UINT8 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.UINT8

ANY = "n"  # of any size


def saved(path, nodes, inputs, outputs, constants):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two networks as ONNX files, channels first and of two inputs, with inputs for both."""
    folder = tmp_path_factory.mktemp("onnx")
    rng = np.random.default_rng(3)
    kernel, head = rng.normal(size=(4, 3, 3, 3)), rng.normal(size=(4 * 6 * 7, 5)) / 10
    saved(
        folder / "model.onnx",
        [
            helper.make_node("Conv", ["image", "kernel"], ["conv"], "/features/conv1/Conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["conv"], ["active"], "/features/act/Relu"),
            helper.make_node("Flatten", ["active"], ["row"]),
            helper.make_node("Gemm", ["row", "weight"], ["logits"], "/head/Gemm"),
        ],
        [("image", FLOAT, [ANY, 3, 6, 7])],
        [("logits", FLOAT, [ANY, 5])],
        {"kernel": kernel.astype(np.float32), "weight": head.astype(np.float32)},
    )
    saved(
        folder / "tokens.onnx",
        [
            helper.make_node("Gather", ["table", "ids"], ["embedded"]),
            helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
            helper.make_node("Mul", ["embedded", "weights"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "first"], ["sum"], keepdims=0),
            helper.make_node("MatMul", ["sum", "weight"], ["out"], "/head/MatMul"),
        ],
        [("ids", INT64, [ANY, 6]), ("mask", FLOAT, [ANY, 6])],
        [("out", FLOAT, [ANY, 8])],
        {
            "table": rng.normal(size=(50, 8)).astype(np.float32),
            "weight": rng.normal(size=(8, 8)).astype(np.float32),
            "last": np.array([2]),
            "first": np.array([1]),
        },
    )
    images = rng.random((140, 3, 6, 7), np.float32)
    images[120:, :, :3] += 0.5
    ids, mask = rng.integers(0, 25, (140, 6)), (rng.random((140, 6)) < 0.9).astype(np.float32)
    ids[120:] += 25
    for kind, rows in (("background", slice(100)), ("clean", slice(100, 120)), ("input", slice(120, None))):
        np.save(folder / f"{kind}.npy", images[rows])
        np.savez(folder / f"{kind}.npz", ids=ids[rows], mask=mask[rows])
        save_file({"ids": ids[rows].copy(), "mask": mask[rows].copy()}, folder / f"{kind}.safetensors")
    return folder


def read_scores(path, space):
    with path.open() as file:
        return [row for row in csv.DictReader(file) if (row["set"], row["space"]) == ("input", space)]


def numbers(rows, column):
    return [float(row[column]) for row in rows]


def test_scan_is_that_of_a_scanner(run, folder, tmp_path):
    files = [f"--{kind}={folder}/{kind}.npy" for kind in ("background", "input", "clean")]
    run("scan", f"--model={folder}/model.onnx", *files, f"--out={tmp_path}", "--quiet")
    scanner = ModelScanner.automatic(folder / "model.onnx").fit(np.load(folder / "background.npy"))
    inputs = np.load(folder / "input.npy")
    assert scanner.names == ("active", "logits")
    expected = scanner.p_values(inputs, combine=None) | {"combined": scanner.p_values(inputs)}
    for space, p_values in expected.items():
        assert numbers(read_scores(tmp_path / "scores.csv", space), "p_value") == p_values.tolist()
    summary = json.loads((tmp_path / "summary.json").read_text())
    scores = [scanner.anomaly_score(one) for one in (np.load(folder / "clean.npy"), inputs)]
    assert summary["combined"]["auroc"] == pytest.approx(roc_auc_score([0] * 20 + [1] * 20, np.concatenate(scores)))
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("--layers=act*,/head/Gemm", ["active", "logits"]),
        ("--layers=features.conv1", ["conv"]),
        ("--layers=all", ["conv", "active", "row", "logits"]),
        ("--tail=two-sided", ["active", "logits"]),
    ],
)
def test_layers_of_a_plain_scan(run, folder, tmp_path, asked, names):
    files = [f"--{kind}={folder}/{kind}.npy" for kind in ("background", "input")]
    given = [f"--model={folder}/model.onnx", *files, f"--out={tmp_path}", "--quiet", "--tail=two-sided"]
    summary = json.loads(run("scan", *dict.fromkeys([*given, asked]), "--json").out)
    assert list(summary["spaces"]) == names
    space = Layers(folder / "model.onnx", names)
    scanner = ModelScanner(space, SubsetScanDetector(tail="two-sided", random_state=0))
    scanner.fit(np.load(folder / "background.npy"))
    for name, p_values in scanner.p_values(np.load(folder / "input.npy")).items():
        assert numbers(read_scores(tmp_path / "scores.csv", name), "p_value") == p_values.tolist()


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_several_inputs_by_name(run, folder, tmp_path, ending):
    """Fit, score and explain are what a scanner gives for a dict of arrays, whose whole numbers stay such."""
    model = f"--model={folder}/tokens.onnx"
    run("fit", model, f"--background={folder}/background.{ending}", f"--out={tmp_path}/fitted", "--quiet")
    given = [model, f"--fitted={tmp_path}/fitted", f"--input={folder}/input.{ending}", f"--out={tmp_path}/out"]
    run("score", *given)
    clean, inputs = (dict(np.load(folder / f"{kind}.npz")) for kind in ("background", "input"))
    scanner = ModelScanner.automatic(folder / "tokens.onnx").fit(clean)
    p_values = scanner.p_values(inputs)
    assert numbers(read_scores(tmp_path / "out" / "scores.csv", "combined"), "p_value") == p_values.tolist()
    told = json.loads(run("explain", *given, "--most-anomalous=2", "--json").out)["inputs"]
    scores = scanner.anomaly_score(inputs)
    assert [one["index"] for one in told] == np.argsort(-scores, kind="stable")[:2].tolist()
    assert [one["p_value"] for one in told] == p_values[[one["index"] for one in told]].tolist()
    saved_inputs = json.loads((tmp_path / "fitted" / "scanner.json").read_text())["inputs"]
    assert saved_inputs["ids"]["dtype"] == "int64"


def test_several_inputs_of_a_keras_model(run, folder, tmp_path):
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    ids, mask = keras.Input((6,), dtype="int32", name="ids"), keras.Input((6,), name="mask")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(50, 3, name="embedding")(ids))
    joined = keras.layers.Concatenate(name="joined")([embedded, mask])
    model = keras.Model([ids, mask], keras.layers.Dense(4, name="dense")(joined))
    model.save(tmp_path / "model.keras")
    files = [f"--{kind}={folder}/{kind}.npz" for kind in ("background", "input")]
    run("scan", f"--model={tmp_path}/model.keras", *files, f"--out={tmp_path}", "--quiet")
    scanner = ModelScanner.automatic(model).fit(dict(np.load(folder / "background.npz")))
    expected = scanner.p_values(dict(np.load(folder / "input.npz")))
    assert numbers(read_scores(tmp_path / "scores.csv", "combined"), "p_value") == pytest.approx(expected, rel=1e-9)
    given = [f"--model={tmp_path}/model.keras", f"--background={folder}/background.npy", f"--out={tmp_path}/out"]
    assert (
        "takes ids, mask: give an .npz or .safetensors file, with an array for each" in run("fit", *given, code=2).err
    )


def test_pictures_have_their_channels_where_the_network_wants_them(run, folder, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).integers(0, 256, (90, 6, 7, 3), dtype=np.uint8)
    for kind, part in (("background", pixels[:80]), ("input", pixels[80:])):
        np.save(tmp_path / f"{kind}.npy", np.moveaxis(part, -1, 1) / np.float32(255))
        (tmp_path / kind).mkdir()
        for n, picture in enumerate(part):
            pillow.fromarray(picture).save(tmp_path / kind / f"{n:02}.png")
    for ending in ("", ".npy"):
        model, out = f"--model={folder}/model.onnx", tmp_path / f"out{ending}"
        run("fit", model, f"--background={tmp_path}/background{ending}", f"--out={out}")
        given = [model, f"--fitted={out}", f"--input={tmp_path}/input{ending}", f"--out={out}"]
        run("score", *given)
        run("explain", *given, "--index=3")
    for name in ("scores.csv", "explanation.json", "explanation.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out.npy" / name).read_bytes()


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ([ANY, 3, 5, 3], FLOAT, r"takes \(3, 5, 3\), which does not tell whether the channels .* come first or last"),
        ([ANY, 3, "h", "w"], FLOAT, "brought to the size that the network takes, but model.onnx tells none"),
        ([ANY, 3, 6, 7], UINT8, r"are read as pixels in \[0, 1\], which model.onnx does not take .*uint8 cannot hold"),
        ([ANY, 2, 6, 7], FLOAT, r"but it takes \(2, 6, 7\); give it an \.npy file"),
    ],
)
def test_pictures_that_a_network_does_not_take(run, tmp_path, shape, kind, message):
    pillow = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    pillow.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "pictures" / "0.png")
    nodes = [helper.make_node("Cast", ["image"], ["cast"], to=FLOAT), helper.make_node("Flatten", ["cast"], ["row"])]
    saved(tmp_path / "model.onnx", nodes, [("image", kind, shape)], [("row", FLOAT, [ANY, None])], {})
    given = [f"--model={tmp_path}/model.onnx", f"--background={tmp_path}/pictures", f"--out={tmp_path}/out"]
    assert re.search(message, run("fit", *given, code=2).err)


def test_which_way_round_an_image_is_drawn(folder):
    scanner = ModelScanner.automatic(folder / "model.onnx").fit(np.load(folder / "background.npy"))
    image = np.load(folder / "input.npy")[0]
    told = scanner.explain(image)
    assert np.array_equal(picture_of(image, told), np.moveaxis(image, 0, 2))
    assert picture_of(np.zeros((6, 7, 3)), told).shape == (6, 7, 3)
    assert picture_of(np.zeros((5, 6, 7)), told) is None  # the network's channels come first, and these are no colours
    assert picture_of(np.zeros((6, 7)), told).shape == (6, 7)
    assert picture_of({"ids": np.zeros(6)}, told) is None


def test_the_reconstruction_error(run, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(90, 12)).astype(np.float32)
    halves = (np.eye(12) / 2).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "halves"], ["half"])]
    saved(tmp_path / "m.onnx", nodes, [("x", FLOAT, [ANY, 12])], [("half", FLOAT, [ANY, 12])], {"halves": halves})
    np.save(tmp_path / "background.npy", values[:80])
    np.save(tmp_path / "input.npy", values[80:])
    files = [f"--{kind}={tmp_path}/{kind}.npy" for kind in ("background", "input")]
    asked = ["--reconstruction-error=signed", "--tail=upper", "--quiet"]
    run("scan", f"--model={tmp_path}/m.onnx", *files, f"--out={tmp_path}/out", *asked)
    assert np.array_equal(
        ReconstructionError(tmp_path / "m.onnx", "signed").transform(values)["reconstruction_error"], values / 2
    )
    detector = SubsetScanDetector(random_state=0).fit(values[:80] / 2)
    rows = read_scores(tmp_path / "out" / "scores.csv", "reconstruction_error")
    assert numbers(rows, "p_value") == detector.p_values(values[80:] / 2).tolist()


def test_neither_keras_nor_a_backend_is_needed(folder, tmp_path):
    """In a process where importing them fails, and in one where they could be imported."""
    code = """
import sys
unwanted = ("tensorflow", "keras", "torch", "jax")
class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in unwanted:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
if sys.argv.pop(1) == "without":
    sys.meta_path.insert(0, Missing)
from subsetscan.commands.app import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
assert not set(unwanted) & set(sys.modules), set(unwanted) & set(sys.modules)
"""
    model = f"--model={folder}/model.onnx"
    fitted = ["fit", model, f"--background={folder}/background.npy", f"--out={tmp_path}/fitted"]
    given = [model, f"--fitted={tmp_path}/fitted", f"--input={folder}/input.npy", f"--out={tmp_path}/out"]
    calls = [("without", fitted), ("with", ["score", *given]), ("without", ["explain", *given])]
    for kind, arguments in calls:
        done = subprocess.run(
            [sys.executable, "-c", code, kind, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "explanation.png").exists()


def write_bad_files(folder, tmp_path):
    arrays = dict(np.load(folder / "input.npz"))
    holed = np.where(np.arange(20)[:, None] == 7, np.nan, arrays["mask"])
    for name, content in {
        "renamed": {"ids": arrays["ids"], "attention": arrays["mask"]},
        "uneven": {"ids": arrays["ids"][:5], "mask": arrays["mask"]},
        "holed": arrays | {"mask": holed},
        "broken": arrays | {"ids": arrays["ids"] + 0.5},
        "words": arrays | {"ids": np.array(["a"] * 20)},
        "far": arrays | {"ids": arrays["ids"] + 100},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **content)
    for name in ("x.pt", "x.pth", "x.pt2", "x.tflite", "x.onnx"):
        (tmp_path / name).write_bytes(b"something else")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--input={}/renamed.npz"],
            "takes ids, mask: {}/renamed.npz must hold an array for each, by its name, and has",
        ),
        (["--input={}/uneven.npz"], "uneven.npz must have one row per input, but their numbers of rows differ: ids 5"),
        (["--input={}/holed.npz"], "input 7 has NaN or infinite values"),
        (["--input={}/broken.npz"], "which int64 cannot hold"),
        (["--input={}/words.npz"], "ids in {}/words.npz must hold numbers of shape (n, ...), got <U1 of shape (20,)"),
        (["--input={}/far.npz"], "tokens.onnx cannot compute inputs of shapes ids (20, 6), mask (20, 6)"),
        (["--input={}/x.tflite"], "read from .npy, .npz, .safetensors files, and from folders of PNG and JPEG files"),
        (["--model={}/nowhere.onnx"], "no model file at {}/nowhere.onnx"),
        (["--model={}/x.onnx"], "x.onnx is no ONNX model"),
        (["--model={}/x.pt"], "reading one may run code that it holds; export the module, torch.onnx.export("),
        (["--model={}/x.pth"], "by its name it is a file of PyTorch"),
        (["--model={}/x.pt2"], "by its name it is a file of PyTorch"),
        (["--model={}/x.tflite"], "networks are read from .onnx files, and from .keras and .h5 files"),
        (["--layers=nowhere"], "has no layer 'nowhere'; it has 5 layers: embedded, weights, masked, sum, out"),
        (["--layers=sum,,out"], "has no layer ''"),
        (["--reconstruction-error=signed"], "is not an autoencoder: its input is ['ids', 'mask'], its output (8,)"),
    ],
)
def test_what_is_wrong_is_one_line(run, folder, tmp_path, arguments, message):
    write_bad_files(folder, tmp_path)
    given = {"--model": f"{folder}/tokens.onnx", "--background": f"{folder}/background.npz"}
    given |= {"--input": f"{folder}/input.npz", "--out": f"{tmp_path}/out"}
    given |= dict(argument.format(tmp_path).split("=", 1) for argument in arguments)
    done = run("scan", *(f"{option}={value}" for option, value in given.items()), "--quiet", code=2)
    assert message.replace("{}", str(tmp_path)) in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize("command", ["attack", "responses", "trace"])
def test_what_needs_a_keras_model_refuses_others_by_name(run, folder, tmp_path, command):
    pytest.importorskip("keras")
    images = f"{folder}/clean.npy"
    given = {"attack": [f"--input={images}", f"--labels={images}"], "responses": [f"--images={images}"]}
    own = given.get(command, [f"--images={images}"])
    done = run(command, f"--model={folder}/model.onnx", *own, f"--out={tmp_path}/out", code=2)
    assert "model.onnx: by its name it is a file of ONNX; models are read from .keras files" in done.err


def test_shapes_that_a_pass_must_show_count_for_memory(run, tmp_path, monkeypatch):
    """The file leaves the size of the inputs open, so that the layer's is known once one has passed."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["conv"])]
    kernel = rng.normal(size=(2, 1, 3, 3)).astype(np.float32)
    any_size = [ANY, 1, "h", "w"]
    saved(
        tmp_path / "m.onnx", nodes, [("x", FLOAT, any_size)], [("conv", FLOAT, [ANY, 2, "a", "b"])], {"kernel": kernel}
    )
    np.save(tmp_path / "background.npy", rng.random((40, 1, 8, 8), np.float32))
    subject = Subject.to_fit(tmp_path / "m.onnx", tmp_path / "background.npy", None, None)
    assert subject.spaces[0].node_shapes == {}
    given = [f"--model={tmp_path}/m.onnx", f"--background={tmp_path}/background.npy", f"--out={tmp_path}/out"]
    monkeypatch.setattr(memory, "total_memory", lambda: 1000)
    done = run("fit", *given, "--tail=upper", "--calibration=leave-one-out", code=2)
    assert f"72 nodes x 40 background inputs need about {72 * 40 * 4 / 1000:.3g} kB" in done.err
    monkeypatch.setattr(memory, "total_memory", lambda: None)
    assert "kept 1 detector, fitted on 40 inputs" in run("fit", *given, "--quiet").out
    given = [given[0], f"--fitted={tmp_path}/out", f"--input={tmp_path}/background.npy", f"--out={tmp_path}/out"]
    run("score", *given)
    run("explain", *given)
    assert json.loads((tmp_path / "out" / "explanation.json").read_text())["conv"]["node_shape"] == [2, 6, 6]


def test_the_figure_shows_null_scores_and_what_is_flagged(folder):
    pytest.importorskip("matplotlib")
    scanner = ModelScanner.automatic(folder / "model.onnx").fit(np.load(folder / "background.npy"))
    sets = {kind: np.load(folder / f"{kind}.npy") for kind in ("clean", "input")}
    for given in ({"input": sets["input"]}, sets):
        scanned = scan_sets(scanner, given)
        figure = _figure(scanned, 0.05)
        assert figure.get_supxlabel() == "anomaly score"
        other = "clean" if "clean" in given else "background (null scores)"
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == [other, "input", "threshold: flagged above"]
        for panel, space in zip(figure.axes, ("active", "logits", "combined"), strict=False):
            (line,) = panel.lines
            scores, p_values = scanned.scores()[space]["input"], scanned.p_values["input"][space]
            assert np.array_equal(scores > line.get_xdata()[0], p_values <= 0.05)
            null_scores = scanned.null_scores[space]
            told = re.search(r"not drawn: (\d+) null score", panel.get_title())
            n_drawn = len(null_scores) - (int(told[1]) if told else 0)
            if "clean" not in given:
                heights, edges, _ = panel.patches[0].get_data()
                counts = heights * np.diff(edges) * n_drawn
                assert counts.sum() == pytest.approx(n_drawn)
                expected, _ = np.histogram(null_scores, edges)
                assert counts == pytest.approx(expected)
                assert (null_scores > edges[-1]).sum() == len(null_scores) - n_drawn


def test_without_calibration_there_is_no_threshold(folder):
    pytest.importorskip("matplotlib")
    scanner = ModelScanner(Layers(folder / "model.onnx", "logits"), SubsetScanDetector(calibration=None))
    scanned = scan_sets(scanner.fit(np.load(folder / "background.npy")), {"input": np.load(folder / "input.npy")})
    figure = _figure(scanned, 0.05)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["input"]
    assert not figure.axes[0].lines


@pytest.fixture
def table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(name, **columns):
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{name}.parquet", row_group_size=7)
        return tmp_path / f"{name}.parquet"

    return write


def test_columns_of_embeddings(run, table, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    values = {"text": rng.normal(size=(120, 6)), "image": rng.normal(size=(120, 4)).astype(np.float32)}
    values["text"][110:, :3] += 4
    kinds = {"text": pyarrow.list_(pyarrow.float64()), "image": pyarrow.list_(pyarrow.float32(), 4)}
    files = {}
    for kind, rows in (("background", slice(100)), ("input", slice(100, None))):
        columns = {name: pyarrow.array(list(array[rows]), kinds[name]) for name, array in values.items()}
        files[kind] = table(kind, **columns)
        found = read_activations(files[kind])
        assert found.columns is None
        assert list(found.arrays) == ["text", "image"]
        for name, array in values.items():
            assert found.arrays[name].dtype == array.dtype
            assert np.array_equal(found.arrays[name], array[rows])
    run("scan", *(f"--{kind}={path}" for kind, path in files.items()), f"--out={tmp_path}/out", "--quiet")
    scanner = ModelScanner.automatic(Arrays({"text": (6,), "image": (4,)}))
    scanner.fit({name: array[:100] for name, array in values.items()})
    expected = scanner.p_values({name: array[100:] for name, array in values.items()})
    rows = read_scores(tmp_path / "out" / "scores.csv", "combined")
    assert numbers(rows, "p_value") == pytest.approx(expected, rel=1e-9)
    whole = read_activations(table("whole", counts=[[1, 2], [3, 4]], flags=pyarrow.array([[True], [False]])))
    assert {name: array.tolist() for name, array in whole.arrays.items()} == {
        "counts": [[1, 2], [3, 4]],
        "flags": [[True], [False]],
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [[1.0, 2.0]], "b": [3.0]}, "hold either one number or a list of numbers .* a has lists and b has not"),
        ({"a": [[1.0, 2.0], [3.0]]}, "lists of a in .* must have one length, but row 0 has 2 numbers and row 1 has 1"),
        ({"a": [[1.0], [2.0], None]}, r"each row of a in .* must have a list of numbers, row 2 has none"),
        ({"a": [["x"]]}, "numbers of one node, or lists of numbers, but a is list<.*string>"),
        ({"a": [[[1.0]]]}, "numbers of one node, or lists of numbers, but a is list<.*list<"),
    ],
)
def test_columns_that_are_no_embeddings(table, columns, message):
    with pytest.raises(ValueError, match=message):
        read_activations(table("wrong", **columns))


def test_numbers_that_are_missing_in_embeddings_are_refused(run, table, tmp_path):
    whole, holed = table("whole", a=[[1.0, n] for n in range(30)]), table("holed", a=[[1.0, 2.0], [None, 2.0]])
    done = run("scan", f"--background={whole}", f"--input={holed}", f"--out={tmp_path}/out", code=2)
    assert "input 1 has NaN or infinite values; it is the first of 1" in done.err
