"""The notebooks: their cells run, and show what is kept in them, but for numbers, which machines round otherwise."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

for needed in ("keras", "matplotlib", "magika", "onnxruntime", "art"):
    pytest.importorskip(needed)

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
_specification = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
execute = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(execute)


def _shown(output):
    """Tell what an output is: the kinds of data, or the words of a text."""
    if "data" in output:
        return sorted(output["data"])
    return re.sub(r"\s+", " ", re.sub(r"\d+(?:\.\d+)?", "0", "".join(output["text"])))


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.ipynb")))
def test_a_notebook_is_what_its_script_shows(name):
    kept = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    made = execute.execute((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    assert [cell["source"] for cell in made["cells"]] == [cell["source"] for cell in kept["cells"]]
    for new, old in zip(made["cells"], kept["cells"], strict=True):
        if name != "files":  # the types that the attacked files become depend on Python's version
            assert [*map(_shown, new.get("outputs", ()))] == [*map(_shown, old.get("outputs", ()))]
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 300_000


def test_every_script_is_a_notebook():
    scripts = {path.stem for path in FOLDER.glob("*.py")} - {"execute"}
    assert len(scripts) == 3
    assert scripts == {path.stem for path in FOLDER.glob("*.ipynb")}


def test_cells_are_taken_apart_and_show_their_last_value():
    script = "# %% [markdown]\n# # Title\n#\n# Words\n\n# %%\n# %matplotlib inline\nx = 2\nprint(x)\n\n# %%\nx + 1\n"
    notebook = execute.execute(script)
    assert ["".join(cell["source"]) for cell in notebook["cells"]] == [
        "# Title\n\nWords", "%matplotlib inline\nx = 2\nprint(x)", "x + 1",
    ]  # fmt: skip
    _, first, second = notebook["cells"]
    assert first["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["2\n"]}]
    assert second["outputs"][0]["data"] == {"text/plain": ["3"]}
