"""The pages under docs/: links resolve, each says how it is made, and is what the code writes from saved numbers."""

import csv
import dataclasses
import importlib.util
import json
import math
import re
import shutil
import sys
from pathlib import Path

import pytest

from subsetscan.lab.adaptive import page as adaptive_page
from subsetscan.lab.adaptive.cells import read_cells as read_adaptive_cells
from subsetscan.lab.defaults import page as defaults_page
from subsetscan.lab.defaults.cells import read_cells
from subsetscan.lab.defaults.groups import cells as campaign_cells
from subsetscan.lab.defaults.groups import page as campaigns_page
from subsetscan.lab.defaults.times import read_times
from subsetscan.lab.experiment.cells import Cell
from subsetscan.lab.files import page as files_page
from subsetscan.lab.files.cells import read_cells as read_file_cells
from subsetscan.lab.peers import page as peers_page
from subsetscan.lab.reproduction import page as results_page
from subsetscan.lab.texts import page as texts_page
from subsetscan.lab.tracing import page as tracing_page
from subsetscan.lab.tracing.overall import Overall

ROOT = Path(__file__).parent.parent
# What a command needs, by what is on its line.
NEEDED = {"subsetscan ": "cli", ".onnx": "onnx", ".keras": "keras", ".parquet": "tables", "report": "report"}
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BY_HAND = {DOCS / "glossary.md", DOCS / "networks.md", DOCS / "tutorial.md"} | {
    page for room in ("api", "explanation", "howto") for page in (DOCS / room).glob("*.md")
}
ALL = [
    *ROOT.glob("*.md"),
    *PAGES,
    *(page for room in ("benches", "examples", "networks") for page in (ROOT / room).rglob("*.md")),
]


def _anchors(page):
    """List the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


@pytest.mark.parametrize("page", [page for page in PAGES if page not in BY_HAND], ids=lambda page: page.name)
def test_a_page_names_the_command_that_makes_it(page):
    text = page.read_text(encoding="utf-8")
    scripts = re.findall(r"`python ((?:docs|benches)/[\w./-]+\.py)", text)
    assert scripts or re.search(r"`subsetscan (reproduce|trace|experiment)", text)
    assert all((ROOT / script).is_file() for script in scripts)


def test_what_the_page_of_networks_calls_tried_is_tested():
    tests = re.findall(r"`(tests/\w+\.py)`", (DOCS / "networks.md").read_text(encoding="utf-8"))
    assert len(tests) > 8
    assert all((ROOT / test).is_file() for test in tests)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_place_on_a_machine(page):
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt)/", page.read_text(encoding="utf-8"))


def test_excerpts_are_what_the_script_printed():
    for printed in (DOCS / "decisions").glob("*.txt"):
        page = printed.with_suffix(".md").read_text(encoding="utf-8")
        excerpts = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
        assert excerpts
        assert all(excerpt in printed.read_text(encoding="utf-8") for excerpt in excerpts)


def _rows(path, kind):
    convert = {"str": str, "int": int, "float": float, "bool": lambda text: text == "True"}
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    with path.open(encoding="utf-8") as file:
        return [kind(**{key: convert[types[key]](text) for key, text in row.items()}) for row in csv.DictReader(file)]


def _with_nan(value):
    """Put NaN back where JSON has null."""
    if isinstance(value, dict):
        return {key: _with_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nan(one) for one in value]
    return math.nan if value is None else value


def _results(name):
    return _with_nan(json.loads((DOCS / name / "results.json").read_text(encoding="utf-8")))


def _import(path):
    """Import a script that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _assert_same(name, out):
    """Compare a page with what is in the repository: the words, and the numbers but for their last digit.

    Saved numbers have six decimals, so that one in some thousands is rounded the other way.
    """
    committed, written = ((folder / name).read_text(encoding="utf-8") for folder in (DOCS, out))
    assert _NUMBER.sub("0", committed) == _NUMBER.sub("0", written)
    for one, other in zip(_NUMBER.findall(committed), _NUMBER.findall(written), strict=True):
        last = 10.0 ** -len(one.partition(".")[2])
        assert one == other or ("." in one and abs(float(one) - float(other)) < 1.5 * last)


@pytest.fixture
def out(tmp_path):
    """A folder with the pages that others link to."""
    for name in ("CONTRIBUTING.md", *(f"docs/{page.relative_to(DOCS)}" for page in PAGES)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path / "docs"


def test_results_are_what_the_code_writes(out):
    results_page.write_pages(out, _results("results"), _rows(DOCS / "results" / "cells.csv", Cell))
    _assert_same("results.md", out)
    _assert_same("results/details.md", out)


def test_tracing_is_what_the_code_writes(out):
    rows = _rows(DOCS / "tracing" / "cells.csv", Cell), _rows(DOCS / "tracing" / "overall.csv", Overall)
    tracing_page.write_page(out / "tracing.md", _results("tracing"), *rows)
    _assert_same("tracing.md", out)


def test_defaults_are_what_the_code_writes(out):
    times = read_times(DOCS / "defaults" / "times.csv")
    defaults_page.write_page(
        out / "defaults.md", _results("defaults"), read_cells(DOCS / "defaults" / "cells.csv"), times
    )
    _assert_same("defaults.md", out)


def test_peers_are_what_the_code_writes(out):
    times = read_times(DOCS / "peers" / "times.csv")
    peers_page.write_page(out / "peers.md", _results("peers"), read_cells(DOCS / "peers" / "cells.csv"), times)
    _assert_same("peers.md", out)


def test_campaigns_are_what_the_code_writes(out):
    cells = campaign_cells.read_cells(DOCS / "campaigns" / "cells.csv")
    campaigns_page.write_page(out / "campaigns.md", _results("campaigns"), cells)
    _assert_same("campaigns.md", out)


def test_files_are_what_the_code_writes(out):
    files_page.write_page(out / "files.md", _results("files"), read_file_cells(DOCS / "files" / "cells.csv"))
    _assert_same("files.md", out)


def test_texts_are_what_the_code_writes(out):
    texts_page.write_page(out / "texts.md", _results("texts"))
    _assert_same("texts.md", out)


def test_adaptive_is_what_the_code_writes(out):
    cells = read_adaptive_cells(DOCS / "adaptive" / "cells.csv")
    adaptive_page.write_page(out / "adaptive.md", _results("adaptive"), cells)
    _assert_same("adaptive.md", out)


def test_performance_is_what_the_code_writes(out, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benches")
    report = _import(ROOT / "benches" / "report.py")
    monkeypatch.setattr(report.plot, "save", lambda *_: None)
    (out / "performance").mkdir()
    for machine in (DOCS / "performance").glob("*.json"):
        shutil.copy(machine, out / "performance")
    report.write(out / "performance")
    _assert_same("performance.md", out)


def test_large_is_what_the_code_writes(out, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.syspath_prepend(ROOT / "benches")
    large = _import(ROOT / "benches" / "large.py")
    results = _results("large")
    large.write(results, out / "large")
    _assert_same("large.md", out)
    assert all(
        row["equal"] for row in (results["blocks"], results["mapped"], *results["builders"], *results["cluster"])
    )


def test_latency_is_what_the_code_writes(out, monkeypatch):
    pytest.importorskip("keras")
    monkeypatch.syspath_prepend(str(ROOT / "benches"))
    latency = _import(ROOT / "benches" / "latency.py")
    latency.write(_results("latency"), out / "latency")
    _assert_same("latency.md", out)


@pytest.mark.parametrize("name", ["calibration", "perturbation", "tails"])
def test_studies_are_what_their_scripts_write(name, out, monkeypatch):
    study = _import(DOCS / "studies" / f"{name}.py")
    monkeypatch.setattr(study, "HERE", out / "studies")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--report"])
    study.main()
    _assert_same(f"studies/{name}.md", out)


@pytest.mark.parametrize("name", ["art", "pyod"])
def test_the_page_of_a_drop_in_is_what_its_script_writes(name, out, monkeypatch):
    script = _import(DOCS / name / "measure.py")
    (out / name).mkdir()
    for numbers in (DOCS / name).glob("*.csv"):
        shutil.copy(numbers, out / name)
    monkeypatch.setattr(script, "HERE", out / name)
    monkeypatch.setattr(sys, "argv", ["measure.py", "--report"])
    script.main()
    _assert_same(f"{name}.md", out)


@pytest.mark.parametrize("page", sorted((DOCS / "howto").glob("*.md")), ids=lambda page: page.stem)
def test_commands_of_a_page_come_with_what_they_need(page):
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"```bash\n(.*?)```", text, re.DOTALL):
        commands = [line for line in block[1].splitlines() if line.startswith("subsetscan ")]
        needed = {extra for line in commands for sign, extra in NEEDED.items() if sign in line}
        named = re.findall(r'pip install "\.\[([\w,]+)\]"', text[: block.end()])
        assert needed <= set((named or [""])[-1].split(",")), block[1]
