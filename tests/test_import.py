"""The array-level package works with its base dependencies alone, and importing it is light."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import subsetscan
from subsetscan._extras import how_to_get

BASE_ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "keras", "torch", "jax", "art", "skimage", "matplotlib", "typer",
                                      "pandas"}:
            raise ModuleNotFoundError(f"blocked: {name}", name=name.partition(".")[0])

sys.meta_path.insert(0, Blocked())

import numpy as np
import subsetscan
from subsetscan._extras import how_to_get
from subsetscan import Background, ModelScanner, SubsetScanDetector, reference, scan
from subsetscan.builder import BackgroundBuilder
from subsetscan.calibration import conformal_p_values
from subsetscan.detectors import LocalSpatialEntropy
from subsetscan.spaces import ClassifierMargin, FeatureResponse, KerasLayers, Laplacian, Pixels, ReconstructionError
import subsetscan.lab.attacks, subsetscan.lab.datasets, subsetscan.lab.training

try:
    KerasLayers("model")
except ModuleNotFoundError as error:
    assert str(error) == f"keras is not installed: {how_to_get('keras')}"

try:
    LocalSpatialEntropy((3, 3), reading="histogram").entropy_map(np.ones((1, 9)))
except ModuleNotFoundError as error:
    assert str(error) == f"skimage is not installed: {how_to_get('responses')}"
assert np.isclose(LocalSpatialEntropy((3, 3)).entropy_map(np.ones((1, 9))).max(), np.log2(9))

rng = np.random.default_rng(0)
clean, images = rng.normal(size=(200, 16)), rng.normal(1, size=(5, 16))
background = Background(clean)
assert np.array_equal(scan(background.p_values(images)).scores, background.scan(images).scores)
detector = SubsetScanDetector(random_state=0).fit(clean)
detector.save(sys.argv[1])
assert (SubsetScanDetector.load(sys.argv[1]).predict(images) == -1).all()
scanner = ModelScanner(Pixels((4, 4, 1)), detector).fit(clean.reshape(-1, 4, 4, 1))
assert scanner.p_values(images.reshape(-1, 4, 4, 1))["pixels"].max() < 0.1
assert subsetscan.lab.datasets.load_sample()[0].shape == (2000, 28, 28, 1)
print("all without", *sorted({"keras", "art", "matplotlib", "typer"} - set(sys.modules)))
"""


def test_the_base_alone(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", BASE_ALONE, str(tmp_path / "detector.safetensors")], capture_output=True, text=True
    )
    assert run.stderr == ""
    assert run.stdout == "all without art keras matplotlib typer\n"


def test_without_typer_the_command_says_what_it_needs():
    block = "import sys; sys.modules['typer'] = None; from subsetscan.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == f"subsetscan: the command line needs typer: {how_to_get('cli')}\n"


def test_the_command_line_starts_without_what_its_commands_need():
    """Shell completion waits for it."""
    pytest.importorskip("typer")
    heavy = "{'keras', 'tensorflow', 'art', 'matplotlib', 'skimage', 'PIL', 'jinja2'}"
    code = f"import sys, subsetscan.commands.app; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_nothing_imports_the_command_line():
    package = Path(subsetscan.__file__).parent
    modules = [path for path in package.rglob("*.py") if path.parent.name != "commands"]
    importing = [
        path.name for path in modules if re.search(r"import.*\bcommands\b|\.commands\b", path.read_text("utf-8"))
    ]
    assert importing == ["__main__.py"]


def test_names_come_when_they_are_asked_for():
    """`import subsetscan` alone imports nothing of weight, and yet all names are there."""
    code = (
        "import sys, subsetscan; "
        "heavy = {'sklearn', 'scipy', 'numpy', 'pandas'} & set(sys.modules); assert not heavy, heavy; "
        "assert set(subsetscan._PLACES) == set(subsetscan.__all__); "
        "assert all(getattr(subsetscan, name).__name__ == name for name in subsetscan.__all__); "
        "assert subsetscan.detectors.SubsetScanDetector is subsetscan.SubsetScanDetector; "
        "assert set(subsetscan.__all__) <= set(dir(subsetscan)); "
        "assert not hasattr(subsetscan, 'no_such_name'); print('all there')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "all there\n", done.stderr
