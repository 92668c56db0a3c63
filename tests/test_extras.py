"""Each extra does its work without what the other extras bring, and messages name a command that gets it."""

import subprocess
import sys

import pytest

from subsetscan import _extras

# What extras bring, by the name of the extra: modules that are imported by name.
MODULES = {
    "keras": {"tensorflow", "keras"},
    "attacks": {"art"},
    "plots": {"matplotlib"},
    "responses": {"skimage"},
    "cli": {"typer"},
    "onnx": {"onnxruntime", "onnx"},
    "torch": {"torch"},
    "dask": {"dask"},
    "pyod": {"pyod"},
    "tables": {"pandas", "pyarrow"},
    "report": {"jinja2", "vl_convert", "itables"},
}
WITH = {  # extras of which an extra takes others along, as pyproject.toml has it
    "attacks": ("keras",),
    "responses": ("keras",),
    "report": ("plots",),
}
START = """
import sys
from importlib.util import find_spec

lacking = [name for name in {own!r} if find_spec(name) is None]
if lacking:
    print("lacking", *lacking)
    sys.exit()

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {others!r} else self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
import numpy as np
from subsetscan import ModelScanner, SubsetScanDetector, plot
from subsetscan.spaces import Arrays, Layers
rng = np.random.default_rng(0)
rows = rng.normal(size=(150, 8, 8, 1)).astype(np.float32)
"""
KERAS = """
import keras
model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="first"), keras.layers.Flatten(),
                          keras.layers.Dense(3)])
"""
WORK = {
    "keras": KERAS + "assert ModelScanner.automatic(model).fit(rows).p_values(rows[:3]).shape == (3,)",
    "attacks": KERAS
    + """
from art.estimators.classification import KerasClassifier
from subsetscan.adapters.art import SubsetScanningDetector
detector = SubsetScanningDetector(KerasClassifier(model), rows, "first", verbose=False)
assert detector.detect(rows[:3])[1].shape == (3,)
""",
    "plots": """
found = SubsetScanDetector(random_state=0).fit(rows.reshape(150, 64)).anomaly_score(rows.reshape(150, 64))
plot.save(plot.densities({"scan": {"clean": found[:75], "new": found[75:]}}), "scores.png")
""",
    "responses": """
from subsetscan.detectors import LocalSpatialEntropy
assert LocalSpatialEntropy((8, 8), reading="histogram").entropy_map(rows[:1].reshape(1, 64)).shape == (1, 8, 8)
""",
    "cli": """
np.save("rows.npy", rows)
sys.argv = ["subsetscan", "scan", "--background", "rows.npy", "--input", "rows.npy", "--out", "out", "--quiet"]
from subsetscan.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert len(open("out/scores.csv").readlines()) == 301  # the layer, and all layers
""",
    "onnx": """
from onnx import TensorProto, helper, numpy_helper
node = helper.make_node("MatMul", ["x", "w"], ["y"])
graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 5])],
                          [numpy_helper.from_array(rng.normal(size=(64, 5)).astype(np.float32), "w")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
open("model.onnx", "wb").write(model.SerializeToString())
found = Layers("model.onnx", ["y"]).transform(rows.reshape(150, 64))["y"]
assert found.shape == (150, 5)
""",
    "torch": """
import torch
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
assert ModelScanner.automatic(model).fit(rows).p_values(rows[:3]).shape == (3,)
""",
    "dask": """
import dask.array as da
from subsetscan.adapters.dask import DaskSubsetScan
chunks = da.from_array(rows.reshape(150, 64), (40, 30))
assert DaskSubsetScan(random_state=0).fit(chunks).p_values(chunks[:3]).shape == (3,)
""",
    "pyod": """
from subsetscan.adapters.pyod import SubsetScan
assert SubsetScan().fit(rows.reshape(150, 64)).labels_.shape == (150,)
""",
    "tables": """
import pandas as pd
table = pd.DataFrame(rows.reshape(150, 64))
detector = SubsetScanDetector(random_state=0).fit(table)
assert len(detector.scan(table[:3]).to_frame()) == 3
""",
    "report": """
from subsetscan.plot.report import check_libraries, write_report
check_libraries()
lines = [f"input,{n},a,{n / 9},0.1,1,{1 - n / 9},0" for n in range(9)]
open("scores.csv", "w").write("\\n".join(["set,index,space,score,alpha,size,p_value,flagged", *lines]))
open("summary.json", "w").write("{}")
assert "</html>" in write_report(".").read_text()
""",
}


def test_every_extra_is_tried():
    assert WORK.keys() == MODULES.keys()


@pytest.mark.parametrize("extra", MODULES)
def test_an_extra_alone(extra, tmp_path):
    own = {name for which in (extra, *WITH.get(extra, ())) for name in MODULES[which]}
    others = set().union(*MODULES.values()) - own
    if extra == "pyod":
        others -= {"matplotlib"}  # PyOD imports it
    code = START.format(own=sorted(own), others=sorted(others)) + WORK[extra]
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    if run.stdout.startswith("lacking"):
        pytest.skip(f"{run.stdout.strip()}: {_extras.how_to_get(extra)}")
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize(
    ("noted", "told"),
    [
        ({}, 'pip install "subsetscan[onnx]"'),
        ({"url": "file:///src/my%20clone", "dir_info": {}}, 'pip install "/src/my clone[onnx]"'),
        ({"url": "file:///src/s", "dir_info": {"editable": True}}, 'pip install --editable "/src/s[onnx]"'),
        ({"url": "file:///w/s-1.whl", "archive_info": {}}, 'pip install "subsetscan[onnx] @ file:///w/s-1.whl"'),
        (
            {"url": "https://x.org/s.git", "vcs_info": {"vcs": "git", "commit_id": "0"}},
            'pip install "subsetscan[onnx] @ git+https://x.org/s.git"',
        ),
    ],
)
def test_messages_name_what_was_installed(noted, told, monkeypatch):
    monkeypatch.setattr(_extras, "_direct_url", lambda: noted)
    assert _extras.how_to_get("onnx") == told
    with pytest.raises(ModuleNotFoundError) as raised:
        _extras.import_extra("no_such_module", "onnx")
    assert str(raised.value) == f"no_such_module is not installed: {told}"
