"""Run the python blocks of a page, in order and in one namespace, as a reader does who copies them.

A block of text right behind a python block is what that block prints. A picture of the page that a block saves under
the same name is what that block draws.

    python docs/blocks.py docs/tutorial.md docs/howto/*.md     # writes what is printed and drawn now into the pages
"""

import contextlib
import doctest
import io
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INCLUDED = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
_SAME = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS  # as for the examples of docstrings


@dataclass(frozen=True)
class Block:
    """A python block of a page, what the page says that it prints, and where that stands."""

    source: str
    line: int
    expected: str = ""
    span: tuple[int, int] | None = None


def python_blocks(text: str) -> list[Block]:
    """List the python blocks of a page."""
    found = list(_FENCED.finditer(text))
    blocks = []
    for block, after in zip_longest(found, found[1:]):
        if block[1] == "python":
            line = text.count("\n", 0, block.start(2))
            told = after is not None and after[1] == "text" and not text[block.end() : after.start()].strip()
            blocks.append(Block(block[2], line, *((after[2], after.span(2)) if told and after else ())))
    return blocks


def fenced(text: str, kind: str) -> list[str]:
    """List the blocks of a page in some language."""
    return [block[2] for block in _FENCED.finditer(text) if block[1] == kind]


def pictures(page: Path) -> list[Path]:
    """List the pictures of a page."""
    found = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [page.parent / name for name in found]


def run(page: Path) -> Iterator[tuple[Block, str]]:
    """Run the blocks in the current folder, as in a clone, and hand back each with what it printed."""
    Path("examples").symlink_to(ROOT / "examples")
    namespace: dict[str, Any] = {"__name__": "__page__"}
    for block in python_blocks(page.read_text(encoding="utf-8")):
        source = _INCLUDED.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), block.source)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + source, str(page), "exec"), namespace)  # noqa: S102 (our own pages)
        yield block, printed.getvalue()


def is_as_told(block: Block, printed: str) -> bool:
    """Compare what a block prints with what the page says."""
    return doctest.OutputChecker().check_output(block.expected, printed, _SAME)


def write(page: Path) -> None:
    """Put what the blocks print and draw now into the page."""
    text, shift = page.read_text(encoding="utf-8"), 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block, printed in run(page):
            if is_as_told(block, printed):
                continue
            if block.span is None:
                raise SystemExit(f"{page}:{block.line}: prints what the page does not show:\n{printed}")
            start, end = (place + shift for place in block.span)
            text, shift = text[:start] + printed + text[end:], shift + len(printed) - (end - start)
        for picture in pictures(page):
            if Path(picture.name).exists():
                picture.parent.mkdir(exist_ok=True)
                shutil.copy(picture.name, picture)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(Path(argument).resolve())
