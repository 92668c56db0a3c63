"""Commands that are killed at moments of writing, and started again, end in the same bytes as those that are not.

There are 5 kills; `make nightly` asks for 100, of `attack` too.
"""

import os
import random
import re
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from subsetscan.lab.datasets import DATA, load_sample, write_idx

pytest.importorskip("typer")

N_KILLS = int(os.environ.get("SUBSETSCAN_KILLS", "5"))
SEED = int(os.environ.get("SUBSETSCAN_KILLS_SEED", "0"))
# The share of the kills, and how many files a run begins to write.
SHARES = {"fit": (0.3, 3), "extract": (0.4, 4), "train": (0.2, 6), "attack": (0.1, 9)}


def options_of_fit(folder, rng):
    np.save(folder / "clean.npy", rng.random((60, 8)))
    return [f"--background={folder / 'clean.npy'}"]


def options_of_extract(folder, rng):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    weights = onnx.numpy_helper.from_array(rng.random((6, 4)).astype(np.float32), "weights")
    nodes = [onnx.helper.make_node("MatMul", ["x", "weights"], ["y"]), onnx.helper.make_node("Relu", ["y"], ["z"])]
    ends = [(name, onnx.TensorProto.FLOAT, ["n", width]) for name, width in (("x", 6), ("z", 4))]
    first, last = (onnx.helper.make_tensor_value_info(*end) for end in ends)
    graph = onnx.helper.make_graph(nodes, "small", [first], [last], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "m.onnx")
    np.save(folder / "clean.npy", rng.random((1000, 6), np.float32))
    return [f"--model={folder / 'm.onnx'}", f"--input={folder / 'clean.npy'}", "--layers=y,z"]


def options_of_train(folder, rng):
    pytest.importorskip("keras")
    for split, n in (("train", 64), ("t10k", 32)):
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", rng.integers(0, 10, n, dtype=np.uint8))
    return ["--network=classifier", "--dataset=mnist", f"--data={folder}", "--epochs=3"]


def options_of_attack(folder, rng):
    pytest.importorskip("art")
    images, labels = load_sample()
    np.save(folder / "images.npy", images[:250])
    np.save(folder / "labels.npy", labels[:250])
    return [f"--model={DATA / 'fashion-mnist-classifier.keras'}", f"--input={folder / 'images.npy'}",
            f"--labels={folder / 'labels.npy'}"]  # fmt: skip


def start(command, options, out):
    return subprocess.Popen(
        [sys.executable, "-m", "subsetscan", command, *options, f"--out={out}", "--quiet"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "cannot be used" not in errors  # what is there is whole


def kill(process, out, n, delay):
    """Kill a process soon after it has begun to write its n-th file, and tell whether it was still running."""
    begun = set()
    while process.poll() is None and len(begun) < n:
        begun.update(path.name for path in out.rglob(".subsetscan-*"))
        time.sleep(0.0005)
    time.sleep(delay)
    if process.poll() is not None:
        finish(process)
        return False
    process.kill()
    process.communicate()  # which waits for the processes that it had started, too
    return True


def results(out):
    """Read every file, but what networks' files say of when they were saved, and where in memory something was."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                parts = {f"{name}/{part}": archive.read(part) for part in archive.namelist()}
            del parts[f"{name}/metadata.json"]
            found |= {part: re.sub(rb'"shared_object_id": \d+', b"", content) for part, content in parts.items()}
        else:
            found[name] = path.read_bytes()
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("command", SHARES)
def test_killed_commands_end_in_the_same_bytes(command, tmp_path):
    share, n_files = SHARES[command]
    kills = round(share * N_KILLS)
    if not kills:
        pytest.skip("too few kills for this command")
    draw = random.Random(f"{SEED} {command}")  # noqa: S311
    given = globals()[f"options_of_{command}"](tmp_path, np.random.default_rng(SEED))
    finish(start(command, given, tmp_path / "straight"))
    expected = results(tmp_path / "straight")
    assert not [name for name in expected if ".subsetscan-" in name or name.endswith(".lock")]
    n_runs = 0
    while kills:
        out = tmp_path / f"killed-{n_runs}"
        for _ in range(draw.randint(1, 4)):
            if kills and kill(start(command, given, out), out, draw.randint(1, n_files), draw.choice([0, 0.001, 0.03])):
                kills -= 1
        finish(start(command, given, out))
        found = results(out)
        assert found.keys() == expected.keys()
        assert [name for name in found if found[name] != expected[name]] == []
        n_runs += 1
