"""The comparison with other software, in small: that it runs, and that scores agree. Never how long it takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason='a rival of the benchmark: pip install ".[bench]"')
pytest.importorskip("pyod", reason='a rival of the benchmark: pip install ".[bench]"')

COMPARE = Path(__file__).parent.parent / "benches" / "compare.py"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("benches") / "performance"
    options = ["--cases", "b,e,g,memory,growth", "--scale", "0.01", "--repeats", "2", "--threads", "1"]
    subprocess.run([sys.executable, str(COMPARE), *options, "--out", str(out)], check=True)
    return out


def test_every_rival_is_measured_and_agrees(out):
    results = json.loads((out / "results.json").read_text())
    case = results["cases"]["b"]
    found = case["threads"]["1"]
    for what in ("fit", "score"):
        assert list(found[what]) == ["subsetscan", "ART", "numpy", "numba", "ECOD"]
        assert all(taken["median"] > 0 for taken in found[what].values())
    assert list(found["difference"]) == ["ART", "numpy", "numba"]
    assert max(found["difference"].values()) <= 1e-9
    assert case["exact"]["identical"]
    assert "plain" in case["sets"]
    assert found["read_limit"] > 0
    for name in ("a", "b"):
        assert list(results["one_image"][name]["1"]["cold"]) == ["subsetscan", "ART", "numpy", "numba"]
        assert list(results["groups"][name]["1"]) == ["1", "10"]
        assert list(results["memory"][name]) == ["subsetscan", "ART", "numpy"]
    for rows in results["growth"].values():
        assert [row["time"]["subsetscan"]["n"] for row in rows] == [2] * len(rows)
    assert results["seed"] == 0
    assert results["machine"]["cores"] > 0


def test_picture_and_page_are_written(out):
    assert (out / "performance.png").read_bytes().startswith(b"\x89PNG")
    page = out.with_name("performance.md").read_text()
    for heading in ("Scores, 1 thread", "Fit", "One image", "Groups", "Memory", "Growth", "How it works"):
        assert f"\n## {heading}\n" in page
    assert "| b | ART 0.0e+00" in page
