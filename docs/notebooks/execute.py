"""Notebooks: scripts in cells, as Jupyter and editors know them ("# %%"), and the same with what each cell showed.

python docs/notebooks/execute.py     # runs all scripts beside this one, and writes NAME.ipynb; a minute
"""

import ast
import base64
import contextlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)
DPI = 90


def cells(script: str) -> Iterator[tuple[str, str]]:
    """Take a script apart: whether a cell is "markdown" or "code", and its text."""
    _, *parts = _CELL.split(script)
    for told, text in zip(parts[::2], parts[1::2], strict=True):
        if told.strip() == "[markdown]":
            yield "markdown", re.sub(r"^# ?", "", text.strip(), flags=re.MULTILINE)
        else:
            yield "code", re.sub(r"^# %", "%", text.strip(), flags=re.MULTILINE)  # commands to Jupyter


def run(code: str, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell, and return what Jupyter would show: what it prints, and its last expression."""
    tree = ast.parse(re.sub(r"^%.*$", "", code, flags=re.MULTILINE))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), namespace)  # noqa: S102 (our own notebooks)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)  # noqa: S307
    shown = []
    if text := printed.getvalue():
        shown.append({"output_type": "stream", "name": "stdout", "text": _lines(text)})
    if value is not None:
        shown.append({"output_type": "display_data", "metadata": {}, "data": _data(value)})
    return shown


def execute(script: str) -> dict[str, Any]:
    """Run a script in a folder of its own, and return a notebook."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    made: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for n, (kind, text) in enumerate(cells(script)):
            cell = {"cell_type": kind, "id": f"cell-{n}", "metadata": {}, "source": _lines(text)}
            made.append(cell | ({"execution_count": None, "outputs": run(text, namespace)} if kind == "code" else {}))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def _data(value: Any) -> dict[str, Any]:
    if hasattr(value, "savefig"):
        picture = io.BytesIO()
        value.savefig(picture, dpi=DPI, format="png")
        return {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": [repr(value)]}
    data = {"text/plain": _lines(repr(value))}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = _lines(value._repr_html_())
    return data


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name != Path(__file__).name and (len(sys.argv) < 2 or path.stem in sys.argv[1:]):
            notebook = execute(path.read_text(encoding="utf-8"))
            text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
            path.with_suffix(".ipynb").write_text(text, encoding="utf-8")
            print(f"{path.stem}: {len(text) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
