"""The fuzzer of `make fuzz`, in small: every target passes, and a target that does not is told of."""

import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest

RUN = Path(__file__).parent.parent / "fuzz" / "run.py"
pytest.importorskip("PIL.Image", reason="pictures are read by Pillow")
pytest.importorskip("pyarrow", reason="parquet files are read by pyarrow")
pytest.importorskip("pyod", reason="one of the detectors is PyOD's")
sys.path.insert(0, str(RUN.parent))
from run import NUMERIC, READ, run_case  # noqa: E402


@pytest.mark.parametrize("target", [*READ, *NUMERIC])
def test_every_target_refuses_and_accepts(target, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Counter(run_case(target, 7, case, tmp_path) for case in range(200))
    assert sum(found.values()) == 200
    assert found["accepted"] > 0
    assert (found["refused"] > 0) == (target != "kept-result")  # one that is damaged is made anew


def test_a_process_that_ends_is_a_failure(tmp_path):
    """What a target does is changed to end the process in its fifth case, and to fail in its seventh."""
    broken = RUN.read_text().replace(
        "    if target in NUMERIC:",
        "    if case == 4:\n        os.abort()\n    if case == 6:\n        raise KeyError(case)\n"
        "    if target in NUMERIC:",
        1,
    )
    for path in RUN.parent.glob("*.py"):
        (tmp_path / path.name).write_text(broken if path == RUN else path.read_text())
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), "calibration", "--cases", "9"], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "calibration, case 4, exit -6:" in ended.stderr
    assert "calibration, case 6, exit 1:" in ended.stderr
    assert "KeyError: 6" in ended.stderr
    assert "| calibration | 9 | " in ended.stdout


def test_a_case_depends_on_its_number_alone(tmp_path):
    again = [[run_case("npz", 7, case, tmp_path) for case in cases] for cases in (range(40), range(39, -1, -1))]
    assert again[0] == again[1][::-1]
