"""Activations from files, scanned without a model: `Arrays`, and the commands over them."""

import csv
import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan._validation import InvalidTypeError
from subsetscan.spaces import Arrays

pytest.importorskip("typer")
from subsetscan.commands import activations
from subsetscan.commands.activations import read_activations
from subsetscan.commands.explain import explain, most_anomalous_of
from subsetscan.commands.fit import fit
from subsetscan.commands.scan import scan
from subsetscan.commands.score import score


@pytest.fixture(scope="module")
def values():
    """Activations of a background and of an input, whose images 4 and 7 are shifted: in both spaces, and in one."""
    rng = np.random.default_rng(0)
    sets = {
        kind: {"conv": rng.normal(size=(n, 3, 2, 2)).astype(np.float32), "dense": rng.normal(size=(n, 12))}
        for kind, n in (("background", 400), ("input", 20))
    }
    sets["input"]["conv"][[4, 7], :2] += 4
    sets["input"]["dense"][4, :5] += 4
    return sets


@pytest.fixture(scope="module")
def folder(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("activations")
    for kind, arrays in values.items():
        np.savez(folder / f"{kind}.npz", **arrays)
        save_file(arrays, folder / f"{kind}.safetensors")
        np.save(folder / f"{kind}.npy", arrays["dense"])
    return folder


def read_scores(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_arrays(values):
    arrays = values["input"]
    space = Arrays({name: array.shape[1:] for name, array in arrays.items()})
    expected = {name: array.reshape(20, 12) for name, array in arrays.items()}
    for given in (arrays, dict(reversed(arrays.items())), space.stack(arrays)):
        found = space.transform(given)
        assert list(found) == ["conv", "dense"]
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
    conv = Arrays({"conv": (3, 2, 2)})
    assert np.array_equal(conv.transform(arrays["conv"])["conv"], expected["conv"])
    assert np.shares_memory(conv.stack({"conv": arrays["conv"]}), arrays["conv"])
    single = conv.transform(arrays["conv"])["conv"]
    assert single.dtype == np.float32  # not widened, and nothing finer is made coarser
    assert Arrays({"dense": (12,)}).transform(arrays["dense"])["dense"].dtype == np.float64


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"a": np.zeros((2, 3))}, ValueError, "expected the arrays a, b, got a"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((3, 4))}, ValueError, "numbers of rows differ: a 2, b 3"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 4))}, ValueError, r"a must have the shape \(3,\) .*got \(2, 2\)"),
        ({"a": np.array([["x"] * 3]), "b": np.zeros((1, 4))}, InvalidTypeError, "a must be real numbers, got dtype"),
        (np.zeros((2, 6)), ValueError, r"expected 7 nodes an input, shape \(n, 7\), got \(2, 6\)"),
        (np.zeros(7), ValueError, r"got \(7,\)"),
    ],
)
def test_arrays_that_do_not_fit(given, error, message):
    with pytest.raises(error, match=message):
        Arrays({"a": (3,), "b": (4,)}).transform(given)


@pytest.mark.parametrize("shapes", [{}, {"a": (0, 3)}])
def test_arrays_without_nodes(shapes):
    with pytest.raises(ValueError, match="each array needs a name and at least one node"):
        Arrays(shapes)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_scan_is_that_of_each_array_alone(folder, tmp_path, values, ending):
    files = {kind: folder / f"{kind}.{ending}" for kind in values}
    summary = scan(**files, out=tmp_path, tail="upper", quiet=True)
    assert summary["spaces"] == {"conv": {"n_nodes": 12}, "dense": {"n_nodes": 12}}
    assert (summary["model"], summary["n_background"], summary["n_input"]) == (None, 400, 20)
    rows = read_scores(tmp_path / "scores.csv")
    for name in ("conv", "dense"):
        detector = SubsetScanDetector(random_state=0).fit(values["background"][name].reshape(400, -1))
        own = values["input"][name].reshape(20, -1)
        mine = [row for row in rows if row["space"] == name]
        assert [float(row["score"]) for row in mine] == detector.scan(own).scores.tolist()
        assert [float(row["p_value"]) for row in mine] == detector.p_values(own).tolist()
        assert [row["flagged"] == "1" for row in mine] == (detector.predict(own) == -1).tolist()


def test_arrays_are_combined_without_options(folder, tmp_path, values):
    scan(folder / "background.npz", folder / "input.npz", tmp_path, quiet=True)
    scanner = ModelScanner.automatic(Arrays({"conv": (3, 2, 2), "dense": (12,)})).fit(values["background"])
    expected = scanner.p_values(values["input"], combine=None) | {"combined": scanner.p_values(values["input"])}
    rows = read_scores(tmp_path / "scores.csv")
    assert [row["space"] for row in rows] == [name for name in ("conv", "dense", "combined") for _ in range(20)]
    for name, p_values in expected.items():
        assert [float(row["p_value"]) for row in rows if row["space"] == name] == p_values.tolist()


def test_fit_and_score_are_scan(folder, tmp_path):
    options = {"false_positive_rate": 0.1, "tail": "two-sided", "quiet": True}
    scan(folder / "background.npy", folder / "input.npy", tmp_path / "scan", combine="min", **options)
    told = fit(folder / "background.npy", tmp_path / "fitted", **options)
    assert told["spaces"] == {"activations": {"n_nodes": 12}}
    score(tmp_path / "fitted", folder / "input.npy", tmp_path / "score", combine="min", quiet=True)
    for name in ("scores.csv", "scores.png"):
        assert (tmp_path / "score" / name).read_bytes() == (tmp_path / "scan" / name).read_bytes()
    combined = [row for row in read_scores(tmp_path / "score" / "scores.csv") if row["space"] == "combined"]
    assert [row["flagged"] for row in combined] == [str(int(float(row["p_value"]) <= 0.1)) for row in combined]


def test_the_false_positive_rate_decides_what_is_flagged(folder, tmp_path, capsys):
    fit(folder / "background.npz", tmp_path / "fitted", quiet=True)
    shares = {}
    for rate in (None, 0.2, 0.9):
        score(tmp_path / "fitted", folder / "input.npz", tmp_path, false_positive_rate=rate, quiet=True)
        rows = read_scores(tmp_path / "scores.csv")
        expected = 0.05 if rate is None else rate
        assert [row["flagged"] for row in rows] == [str(int(float(row["p_value"]) <= expected)) for row in rows]
        shares[expected] = sum(row["flagged"] == "1" for row in rows)
        assert f"p <= {expected:g}" in capsys.readouterr().out
    assert shares[0.05] < shares[0.2] < shares[0.9]
    with pytest.warns(UserWarning, match=r"400 null scores cannot give a p-value of at most 0\.001"):
        score(tmp_path / "fitted", folder / "input.npz", tmp_path, false_positive_rate=0.001, quiet=True)


def test_explain_several(folder, tmp_path, values):
    fit(folder / "background.npz", tmp_path / "fitted", quiet=True)
    given = {"fitted": tmp_path / "fitted", "input": folder / "input.npz", "out": tmp_path / "out", "quiet": True}
    told = explain(**given, index="4, 0,4")
    assert [one["index"] for one in told["inputs"]] == [4, 0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "explanation-0.json", "explanation-0.png", "explanation-4.json", "explanation-4.png",
    ]  # fmt: skip
    space = Arrays({name: array.shape[1:] for name, array in values["input"].items()})
    scanner = ModelScanner.automatic(space).fit(values["background"])
    found = scanner.scan(values["input"], return_nodes=True)
    p_values, combined = scanner.p_values(values["input"], combine=None), scanner.p_values(values["input"])
    for one in told["inputs"]:
        n = one["index"]
        assert json.loads((tmp_path / "out" / f"explanation-{n}.json").read_text()) == one["spaces"]
        assert (one["p_value"], one["flagged"]) == (combined[n], bool(combined[n] <= 0.05))
        for name, about in one["spaces"].items():
            members = np.flatnonzero(found[name].mask(n, (12,)))
            assert about["nodes"] == members.tolist()
            places = np.unravel_index(members, space.node_shapes[name])
            assert about["places"] == np.transpose(places).tolist()
            assert about["leading_nodes"] == members.tolist()  # they are few as they are
            assert (about["space"], about["p_value"]) == (name, p_values[name][n])
            assert (about["flagged"], about["false_positive_rate"]) == (p_values[name][n] <= 0.05, 0.05)

    told = explain(**given, most_anomalous=2)
    assert [one["index"] for one in told["inputs"]] == [4, 7]  # in both spaces, in one
    assert all(one["flagged"] for one in told["inputs"])
    for rate, flagged in ((float(combined[8]) - 0.01, False), (float(combined[8]) + 0.01, True)):
        told = explain(**given, index="8", false_positive_rate=rate)
        assert [one["flagged"] for one in told["inputs"]] == [flagged]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["explanation.json", "explanation.png"]


def test_most_anomalous_without_calibration(folder, tmp_path, values):
    space = Arrays({"dense": (12,)})
    scanner = ModelScanner(space, SubsetScanDetector(calibration=None)).fit(values["background"]["dense"])
    scores = scanner.scan(values["input"]["dense"])["dense"].scores
    assert most_anomalous_of(scanner, values["input"]["dense"], 3) == np.argsort(-scores)[:3].tolist()
    assert len(most_anomalous_of(scanner, values["input"]["dense"], 99)) == 20
    fit(folder / "background.npy", tmp_path / "fitted", calibration="none", quiet=True)
    told = explain(tmp_path / "fitted", folder / "input.npy", tmp_path, most_anomalous=1, quiet=True)
    assert told["inputs"][0].items() >= {"index": int(scores.argmax()), "flagged": None, "p_value": None}.items()


def write_bad_files(folder, values):
    dense = values["input"]["dense"]
    np.savez(folder / "labelled.npz", dense=dense, labels=np.arange(20))
    np.savez(folder / "uneven.npz", conv=values["input"]["conv"][:3], dense=dense)
    np.savez(folder / "none.npz")
    (folder / "cut.npz").write_bytes((folder / "input.npz").read_bytes()[:-40])
    (folder / "cut.safetensors").write_bytes((folder / "input.safetensors").read_bytes()[:-40])
    np.savez(folder / "objects.npz", a=np.array([[None]]))
    np.save(folder / "narrow.npy", dense[:, :5])
    np.save(folder / "holed.npy", np.where(dense == dense[3, 2], np.nan, dense))
    (folder / "notes.txt").write_text("")


@pytest.mark.parametrize(
    ("background", "given", "message"),
    [
        (
            "npz",
            "labelled.npz",
            r"labels in .*labelled\.npz must hold numbers of shape \(n, nodes\), got int64",
        ),
        ("npz", "uneven.npz", r"uneven\.npz must have one row per input, .* rows differ: conv 3, dense 20"),
        ("npz", "none.npz", r"none\.npz contains no arrays"),
        ("npz", "cut.npz", r"cut\.npz is not a complete \.npz file"),
        ("npz", "objects.npz", r"objects\.npz is not a complete \.npz file of numbers"),
        ("npz", "cut.safetensors", r"cut\.safetensors is damaged"),
        ("npz", "input.npy", r"input\.npy: expected the arrays conv, dense, got activations"),
        ("npy", "narrow.npy", r"narrow\.npy: activations must have the shape \(12,\) for each input, got \(20, 5\)"),
        ("npy", "holed.npy", "input 3 has NaN or infinite values; it is the first of 1 that have"),
        ("npy", "notes.txt", r"without --model, activations are read from \.npy, .*, got .*notes\.txt"),
        ("npy", "nowhere.npy", "no file or folder of inputs at .*nowhere"),
    ],
)
def test_files_that_do_not_fit(folder, tmp_path, values, background, given, message):
    write_bad_files(folder, values)
    with pytest.raises((ValueError, OSError), match=message):
        scan(folder / f"background.{background}", folder / given, tmp_path / "out", quiet=True)
    assert not list(tmp_path.rglob("*.csv"))


def test_a_model_is_named_where_it_is_needed(folder, tmp_path):
    with pytest.raises(ValueError, match="need a model: name it with --model"):
        scan(folder / "background.npy", folder / "input.npy", tmp_path, layers="all")
    fit(folder / "background.npy", tmp_path / "fitted", quiet=True)
    with pytest.raises(ValueError, match=r"fitted on activations, without a model: leave out --model m\.keras"):
        score(tmp_path / "fitted", folder / "input.npy", tmp_path, model="m.keras")
    with pytest.raises(ValueError, match="choose --index 0 or --most-anomalous 1, not both"):
        explain(tmp_path / "fitted", folder / "input.npy", tmp_path, index="0", most_anomalous=1)
    with pytest.raises(ValueError, match="--index takes numbers of inputs, .*got '1,-2'"):
        explain(tmp_path / "fitted", folder / "input.npy", tmp_path, index="1,-2")


def test_columns_of_tables(folder, tmp_path, values):
    """Nodes are known by the names of their columns, whatever the order."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = [f"node {n}" for n in range(12)]

    def write(name, array, columns):
        table = pyarrow.table({column: array[:, names.index(column)] for column in columns})
        parquet.write_table(table, tmp_path / name)
        return tmp_path / name

    dense = values["input"]["dense"]
    background = write("background.parquet", values["background"]["dense"], names)
    fit(background, tmp_path / "fitted", quiet=True)
    scan(folder / "background.npy", folder / "input.npy", tmp_path / "expected", quiet=True)
    for name, columns in (("same", names), ("reversed", names[::-1])):
        score(tmp_path / "fitted", write(f"{name}.parquet", dense, columns), tmp_path / name, quiet=True)
        expected = (tmp_path / "expected" / "scores.csv").read_bytes()
        assert (tmp_path / name / "scores.csv").read_bytes() == expected
    told = explain(tmp_path / "fitted", tmp_path / "reversed.parquet", tmp_path / "out", index="4", quiet=True)
    space = told["inputs"][0]["spaces"]["activations"]
    assert space["node_names"] == [f"node {n}" for n in space["nodes"]]
    with pytest.raises(ValueError, match=r"12 are expected and 11 given, and they differ in node 0"):
        score(tmp_path / "fitted", write("few.parquet", dense, names[1:]), tmp_path / "few", quiet=True)
    parquet.write_table(pyarrow.table({"word": ["a"]}), tmp_path / "words.parquet")
    with pytest.raises(ValueError, match="must hold the numbers of one node, or lists of numbers, but word is string"):
        read_activations(tmp_path / "words.parquet")
    (tmp_path / "cut.parquet").write_bytes(background.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut\.parquet is not a complete \.parquet file"):
        read_activations(tmp_path / "cut.parquet")


def test_columns_that_are_in_another_order():
    found = activations.Activations({"activations": np.array([[1, 2, 3]])}, ["a", "b", "c"])
    assert found.in_order_of(["c", "a", "b"], "x")["activations"].tolist() == [[3, 1, 2]]
    assert found.in_order_of(None, "x")["activations"].tolist() == [[1, 2, 3]]
    with pytest.raises(ValueError, match="3 are expected and 3 given, and they differ in c, d"):
        found.in_order_of(["a", "b", "d"], "x")


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "table.parquet").write_text("")
    with pytest.raises(ModuleNotFoundError, match="pyarrow is not installed, .*: pip install pyarrow"):
        read_activations(tmp_path / "table.parquet")


def test_a_layer_named_as_all_layers_together_is_refused(run, tmp_path, rng):
    np.savez(tmp_path / "a.npz", combined=rng.normal(size=(60, 4)), other=rng.normal(size=(60, 4)))
    files = [f"--{what}={tmp_path / 'a.npz'}" for what in ("background", "input")]
    said = run("scan", *files, f"--out={tmp_path / 'out'}", code=2).err
    assert 'a layer is named "combined", as all layers together are in tables: give it another name' in said
