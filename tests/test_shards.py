"""Activations in shards: the same bits for any number of shards in any order, resumed, mixed up, and scanned."""

import csv
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from subsetscan import ModelScanner, SubsetScanDetector, shards
from subsetscan.detectors import AutomaticDetector
from subsetscan.spaces import Arrays, KerasLayers

keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6, 6, 2)),
        keras.layers.Conv2D(3, 3, activation="relu", name="first"),
        keras.layers.Flatten(),
        keras.layers.Dense(4, name="last"),
    ]
    return keras.Sequential(layers, name="small")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model.save(folder / "model.keras")
    rng = np.random.default_rng(0)
    np.save(folder / "clean.npy", rng.random((700, 6, 6, 2), np.float32))
    np.save(folder / "input.npy", rng.random((40, 6, 6, 2), np.float32) * 1.3)
    return folder


def extract(run, folder, out, shard, *more, code=0):
    given = [f"--model={folder / 'model.keras'}", f"--input={folder / 'clean.npy'}", "--layers=first,last"]
    return run("extract", *given, f"--shard={shard}", f"--out={out}", *more, code=code)


def merged(run, folder, tmp_path, n, order=1):
    """Extract in n shards, each to a folder of its own, and merge them."""
    parts = [tmp_path / f"{n}-{own}" for own in range(n)]
    for own in range(n):
        extract(run, folder, parts[own], f"{own}/{n}")
    run("merge", *map(str, parts[::order]), f"--out={tmp_path / f'merged-{n}'}")
    return tmp_path / f"merged-{n}"


def scores_of(run, folder, background, out):
    run(
        "scan", f"--model={folder / 'model.keras'}", f"--background={background}", f"--input={folder / 'input.npy'}",
        f"--out={out}", "--quiet",
    )  # fmt: skip
    return (out / "scores.csv").read_bytes(), (out / "null_scores.csv").read_bytes()


def test_any_number_of_shards_gives_the_same_bits(run, model, folder, tmp_path):
    files = {n: merged(run, folder, tmp_path, n, order) for n, order in ((1, 1), (2, -1), (7, -1))}
    contents = {n: (path / shards.ACTIVATIONS).read_bytes() for n, path in files.items()}
    assert contents[1] == contents[2] == contents[7]
    found = load_file(files[1] / shards.ACTIVATIONS)
    clean = np.load(folder / "clean.npy")
    expected = KerasLayers(model, ["first", "last"]).transform(clean)
    for name, rows in expected.items():
        np.testing.assert_allclose(found[name].reshape(700, -1), rows, rtol=1e-5, atol=1e-6)
    assert found["first"].shape == (700, 4, 4, 3)
    scores = {n: scores_of(run, folder, path, tmp_path / f"out-{n}") for n, path in files.items()}
    assert scores[1] == scores[2] == scores[7]
    with (tmp_path / "out-1" / "scores.csv").open(newline="") as file:
        own = [float(row["score"]) for row in csv.DictReader(file) if row["space"] == "combined"]
    whole = ModelScanner.automatic(KerasLayers(model, ["first", "last"]), random_state=0).fit(clean)
    np.testing.assert_allclose(own, whole.anomaly_score(np.load(folder / "input.npy")), rtol=1e-3)


def test_a_shard_continues_where_it_was_stopped(run, folder, tmp_path):
    extract(run, folder, tmp_path / "a", "0/1")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert sorted(before) == [f"block-{n:09}.safetensors" for n in range(3)]
    (tmp_path / "a" / "block-000000001.safetensors").unlink()
    (tmp_path / "a" / "block-000000002.safetensors").write_bytes(b"half a file")
    told = json.loads(extract(run, folder, tmp_path / "a", "0/1", "--json").out)
    assert told == {"shard": "0/1", "n_inputs": 700, "blocks_read": 2, "blocks_found": 1}
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_what_does_not_belong_together_is_refused(run, folder, tmp_path):
    extract(run, folder, tmp_path / "a", "0/2")
    done = run("merge", str(tmp_path / "a"), f"--out={tmp_path / 'm.safetensors'}", code=2)
    assert "1 of 3 blocks are missing, 1: run `subsetscan extract`" in done.err
    assert not (tmp_path / "m.safetensors").exists()
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    np.save(other / "clean.npy", np.load(folder / "clean.npy")[::-1])
    extract(run, other, tmp_path / "b", "1/2")
    done = run("merge", str(tmp_path / "a"), str(tmp_path / "b"), f"--out={tmp_path / 'm.safetensors'}", code=2)
    assert "is of other inputs than the first block" in done.err
    done = extract(run, other, tmp_path / "a", "0/2", code=2)
    assert "is of other inputs: choose an empty folder, or remove it" in done.err
    for shard in ("2/2", "1", "a/b", "-1/2", "0/0"):
        assert "is not I/N with I from 0 to N - 1" in extract(run, folder, tmp_path / "c", shard, code=2).err
    block = tmp_path / "a" / "block-000000000.safetensors"
    assert "is block 0 of a shard: put the shards together" in run(
        "scan", f"--model={folder / 'model.keras'}", f"--background={block}", f"--input={folder / 'input.npy'}",
        f"--out={tmp_path / 'out'}", code=2,
    ).err  # fmt: skip
    with pytest.raises(FileNotFoundError, match="no folder of shards at"):
        shards.merge([tmp_path / "nowhere"], tmp_path / "m")
    with pytest.raises(ValueError, match="there are no blocks to merge"):
        shards.merge([], tmp_path / "m")


def test_other_networks_and_layers_are_refused(run, folder, tmp_path):
    background = merged(run, folder, tmp_path, 1)
    keras.utils.set_random_seed(1)
    other = keras.Sequential.from_config(keras.models.load_model(folder / "model.keras").get_config())
    other.save(tmp_path / "other.keras")
    asked = ["scan", f"--background={background}", f"--input={folder / 'input.npy'}", f"--out={tmp_path / 'out'}"]
    assert "were computed by another network" in run(*asked, f"--model={tmp_path / 'other.keras'}", code=2).err
    done = run(*asked, f"--model={folder / 'model.keras'}", "--layers=last", code=2)
    assert "holds activations of layers 'first,last', not of 'last'" in done.err


def test_without_a_model_and_with_options(run, folder, tmp_path):
    background = merged(run, folder, tmp_path, 2)
    done = run(
        "scan", f"--background={background}", f"--input={background}", f"--out={tmp_path / 'out'}", "--tail=two-sided"
    )
    assert "first" in done.out
    run("fit", f"--model={folder / 'model.keras'}", f"--background={background}", f"--out={tmp_path / 'fitted'}")
    run(
        "score", f"--model={folder / 'model.keras'}", f"--fitted={tmp_path / 'fitted'}",
        f"--input={folder / 'input.npy'}", f"--out={tmp_path / 'scores'}",
    )  # fmt: skip
    assert (tmp_path / "scores" / "scores.csv").read_bytes() == scores_of(run, folder, background, tmp_path / "s")[0]


def test_fit_on_activations_is_a_fit_on_what_gave_them(rng):
    space = Arrays({"a": (4, 3), "b": (7,)})
    clean = {"a": rng.normal(size=(150, 4, 3)), "b": rng.normal(size=(150, 7))}
    for detector, options in (
        (AutomaticDetector(), {"combine": "fisher"}),
        (SubsetScanDetector(random_state=0), {"joint": True}),
    ):
        whole, parts = (ModelScanner(space, detector, **options) for _ in range(2))
        whole.fit(clean)
        parts.fit_activations(clean)
        new = {name: array[:9] + 1 for name, array in clean.items()}
        one, other = whole.p_values(new), parts.p_values(new)
        assert one.keys() == other.keys() if isinstance(one, dict) else True
        for name in one if isinstance(one, dict) else [...]:
            assert np.array_equal(one[name], other[name])
    with pytest.raises(ValueError, match="expected activations of a, b with the nodes"):
        parts.fit_activations({"a": clean["a"]})
    with pytest.raises(ValueError, match="expected activations of a, b with the nodes"):
        parts.fit_activations({"a": clean["a"], "b": clean["b"][:, :5]})
