"""The comparison with other software, in small: that it runs, and that scores agree. Never how long it takes."""

import dataclasses
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

pytest.importorskip("numba", reason='a rival of the benchmark: pip install ".[bench]"')
pytest.importorskip("pyod", reason='a rival of the benchmark: pip install ".[bench]"')

BENCHES = Path(__file__).parent.parent / "benches"
# PyTorch is a rival where it is installed.
TORCH = ["torch"] * (importlib.util.find_spec("torch") is not None)
SAME = ["ART", "numpy", "numba", *TORCH]
RIVALS = [*SAME, "histogram", "kNN", "Mahalanobis", "ECOD"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("benches") / "performance"
    options = ["--cases", "b,e,g,ties,memory,growth", "--scale", "0.01", "--repeats", "2", "--threads", "1"]
    subprocess.run([sys.executable, str(BENCHES / "compare.py"), *options, "--out", str(out)], check=True)
    return out


@pytest.fixture(scope="module")
def machine(out):
    """The file of this machine, the only one there."""
    (file,) = out.glob("*.json")
    return file


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(BENCHES)
    spec = importlib.util.spec_from_file_location("report", BENCHES / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_rival_is_measured_and_agrees(machine):
    results = json.loads(machine.read_text())
    case = results["cases"]["b"]
    found = case["threads"]["1"]
    assert case["left_out"] == {}
    for what in ("fit", "score"):
        assert list(found[what]) == ["subsetscan", *RIVALS]
        assert all(taken["median"] > 0 for taken in found[what].values())
    assert list(found["difference"]) == SAME
    assert max(found["difference"].values()) <= 1e-9
    assert case["exact"]["identical"]
    assert list(case["sets"]) == results["machine"]["instruction_sets"]
    assert all(list(of["fit"]) == list(of["score"]) == ["subsetscan", "ART"] for of in case["sets"].values())
    assert found["read_limit"] > 0
    for name in ("a", "b"):
        assert list(results["one_image"][name]["1"]["cold"]) == ["subsetscan", *RIVALS]
        assert list(results["groups"][name]["1"]) == ["1", "10"]
        assert list(results["memory"][name]) == ["subsetscan", "ART", "numpy"]
    assert list(results["ties"]["a"]["time"]) == ["upper", "midrank", "random", "range"]
    for rows in results["growth"].values():
        assert [row["time"]["subsetscan"]["n"] for row in rows] == [2] * len(rows)
    assert results["seed"] == 0
    assert results["machine"]["cores"] > 0


def test_picture_and_page_are_written(out, machine):
    assert machine.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    page = out.with_name("performance.md").read_text()
    for heading in ("Scores, 1 thread", "Fit", "One image", "Groups", "Ties", "Memory", "Growth", "How it works"):
        assert f"\n## {heading}\n" in page
    assert "| b | ART 0.0e+00" in page
    assert ("PyTorch is not installed" in page) == (not TORCH)


def test_the_page_shows_each_machine_whose_file_is_there(report, machine, tmp_path):
    """Another one's, measured before a rival was there, anyone was left out, and generations were told apart."""
    out = tmp_path / "performance"
    out.mkdir()
    shutil.copy(machine, out)
    other = json.loads(machine.read_text())
    other["machine"]["model"] = "Another(R) Maker(TM) 9"
    del other["missing"], other["ties"], other["machine"]["family"], other["machine"]["number"]
    case = other["cases"]["b"]
    case["left_out"] = {"ECOD": "takes more than 1 s"}
    for what in ("fit", "score"):
        case["threads"]["1"][what]["subsetscan"]["median"] *= 1000
        del case["threads"]["1"][what]["kNN"], case["threads"]["1"][what]["ECOD"]
    report.save(other, out)
    assert (out / "another-maker-9.json").exists()
    report.write(out)
    page = out.with_name("performance.md").read_text()
    assert page.count("**Make it again.**") == 2
    measured = json.loads(machine.read_text())
    own = report.label(measured)
    for name in (own, "Another Maker 9"):
        assert f"\n## {name}\n" in page
        assert f"| {name} | b | plain |" in page
    assert "| Another Maker 9 | a |" not in page.partition("\n## Ties\n")[2].partition("\n## ")[0]
    assert f"| {own} | a | {measured['ties']['a']['images']} |" in page.partition("\n## Ties\n")[2]
    assert "ECOD (all cases): takes more than 1 s" in page
    assert "kNN (all cases): not yet compared" in page
    assert (out / "another-maker-9.png").exists()


def test_what_is_close_and_how_times_vary(report):
    """Everything counts that was timed on one thread, and nobody is faster where quartiles overlap."""

    def took(median, low, high):
        return {"median": median, "quartiles": [low, high]}

    pair = {"subsetscan": took(2.0, 1.9, 2.1), "ART": took(1.0, 0.9, 1.1)}
    alone = {"subsetscan": took(2.0, 1.0, 3.0), "numpy": took(1.8, 1.7, 1.9), "numba": took(5.0, 1.0, 9.0)}
    results = {
        "cases": {
            "b": {
                "threads": {"1": {"fit": pair, "score": pair, "difference": {"ART": 0.0}}},
                "sets": {
                    "plain": {"fit": {"subsetscan": took(1.0, 0.9, 1.1), "ART": took(9.0, 8.0, 10.0)}, "score": pair}
                },
            }
        },
        "one_image": {"b": {"1": {"warm": alone}, "2": {"warm": {"subsetscan": took(1.0, 0.1, 9.0)}}}},
        "groups": {},
        "ties": {"b": {"time": {"range": took(1.0, 1.0, 1.2)}}},
    }
    found = {(row["where"], row["rival"]): row["verdict"] for row in report.close(results)}
    assert found == {
        ("case b, score", "ART"): ", it is faster",
        ("case b, fit", "ART"): ", it is faster",
        ("case b, score, plain", "ART"): ", it is faster",
        ("one image of case b, warm caches", "numpy"): "; the quartiles overlap",
    }
    assert report.spread(results) == pytest.approx({"usual": 0.15, "most": 1.0})
    assert report.spread({"cases": {}, "one_image": {}, "groups": {}}) == {"usual": 0.0, "most": 0.0}


def test_generations_of_one_name_have_files_of_their_own(report):
    """A maker's name alone may be all that a virtual machine says."""
    machine = {"model": "AMD EPYC", "family": "25", "number": "17"}
    assert report.label({"machine": machine}) == "AMD EPYC (family 25, model 17)"
    assert report.slug(report.label({"machine": machine})) == "amd-epyc-family-25-model-17"
    assert report.label({"machine": machine | {"family": None, "number": None}}) == "AMD EPYC"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "there is no JSON file of a machine in"), ("{", "a.json is no JSON: Expecting")]
)
def test_there_is_no_page_without_results(report, tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(typer.BadParameter, match=message):
        report.write(tmp_path)
    assert not tmp_path.with_name(f"{tmp_path.name}.md").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "99999"], "no number of threads up to that in '99999'"),
        (["--threads", "x"], "threads must be whole numbers, comma-separated, got 'x'"),
        (["--threads", "0"], "got '0'"),
        (["--cases", "z"], "unknown cases z; known are a, a-independent, b, c, d, e, g, ties, memory, growth"),
        (["--scale", "0"], "--scale"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_options_that_are_wrong_are_refused_first(options, message, tmp_path):
    command = [sys.executable, str(BENCHES / "compare.py"), *options, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hotspots(monkeypatch):
    monkeypatch.syspath_prepend(BENCHES)
    return importlib.import_module("hotspots")


def test_hotspots_are_of_a_measured_machine(hotspots, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "perf" else tool)
    with pytest.raises(typer.BadParameter, match="needs perf, addr2line, cargo; not found: perf"):
        hotspots.main(out=tmp_path)
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    with pytest.raises(typer.BadParameter, match="was not measured, .*json does not exist: run compare.py first"):
        hotspots.main(out=tmp_path)


@pytest.mark.skipif(shutil.which("addr2line") is None, reason="needs binutils")
def test_addresses_are_of_functions(hotspots):
    """Of our own extension, which has no names: whatever is asked comes back, once each."""
    from subsetscan import _core

    found = hotspots.functions(Path(_core.__file__), {"0x1000", "0x2000"})
    assert list(found) == ["0x1000", "0x2000"]


@pytest.mark.parametrize(
    ("symbol", "file", "name"),
    [
        ("__memmove_avx_unaligned_erms", "/usr/lib/x86_64-linux-gnu/libc.so.6", "libc: memmove"),
        ("__memset_evex_unaligned", "/lib/libc-2.31.so", "libc: memset"),
        ("__ieee754_log_fma", "/usr/lib/libm.so.6", "libm: ieee754_log"),
        ("_PyEval_EvalFrameDefault", "/opt/lib/libpython3.11.so.1.0", "libpython3"),
        ("clear_page_erms", "[kernel.kallsyms]", "the kernel"),
    ],
)
def test_what_is_not_ours_is_named(hotspots, symbol, file, name):
    assert hotspots.elsewhere(symbol, file) == name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("subsetscan_core::index::NodeBlock::count_near", "index::NodeBlock::count_near"),
        ("subsetscan_core::search::tile_ranks::TileRanks<R>::add_to", "search::tile_ranks::TileRanks::add_to"),
        ("<subsetscan_core::a::B<C<D>> as subsetscan_core::e::F<G>>::run::{{closure}}", "a::B::run"),
        ("subsetscan_core::search::<impl subsetscan_core::background::Background<V>>::bins", "search::bins"),
    ],
)
def test_functions_are_named_briefly(hotspots, name, short):
    assert hotspots.shortened(name) == short


def test_the_page_shows_where_time_goes(report, machine, tmp_path):
    results = json.loads(machine.read_text())
    shares = {"index::search": 0.6, "rows::take": 0.31, "else": 0.01}
    results["hotspots"] = {"command": "python benches/hotspots.py", "commit": None, "cases": {"a": {"scan": shares}}}
    out = tmp_path / "performance"
    out.mkdir()
    report.save(results, out)
    report.write(out)
    page = out.with_name("performance.md").read_text()
    assert "| a | scan | `index::search` 60%, `rows::take` 31% |" in page


def test_a_goal_that_is_missed_is_bold(report, monkeypatch, machine):
    results = json.loads(machine.read_text())
    goal = report.GOALS[2]
    value = goal.measured(results)
    for least, most, missed in ((value / 2, None, False), (value * 2, None, True), (None, value / 2, True)):
        monkeypatch.setattr(report, "GOALS", [dataclasses.replace(goal, least=least, most=most)])
        (row,) = report.goals(results)
        assert row["measured"].startswith("**") == missed
        assert row["goal"].startswith("at least" if least else "at most")
    del results["cases"]["b"]["threads"]
    assert report.goals(results)[0]["measured"] == "-"


@pytest.fixture
def folder(tmp_path):
    """A folder with the arrays of a case, some megabytes."""
    for part, rows in (("background", 30), ("images", 20)):
        np.save(tmp_path / f"x-{part}.npy", np.random.default_rng(rows).random((rows, 50_000), dtype=np.float32))
    return str(tmp_path)


def test_who_takes_too_long_is_left_out(folder, monkeypatch):
    monkeypatch.syspath_prepend(BENCHES)
    compare = importlib.import_module("compare")
    monkeypatch.setattr(compare, "RIVALS", dict.fromkeys(["subsetscan", "numpy"]))
    run = compare.Runner(folder)
    assert compare.left_out(run, "x", 60) == {}
    assert compare.left_out(run, "x", 0.01) == {"numpy": "takes more than 0.01 s"}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts mapped memory on Linux alone")
@pytest.mark.parametrize(("share", "fits"), [(0.5, True), (1e-6, False)])
def test_who_fills_too_much_memory_is_left_out(share, fits, folder):
    """In a process of its own, as the limit stays; without memory, not even the sorted columns can be kept."""
    code = f"import measure; measure.MEMORY = {share}; print(measure.trial({folder!r}, 'x', 'numpy'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHES, check=True, capture_output=True, text=True)
    assert done.stdout == f"{fits}\n"
