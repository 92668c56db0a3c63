"""What the site needs beside docs/: the README as its front page, notebooks, and links to files that lie elsewhere.

Links are written as they are right in the repository, which `tests/test_docs.py` checks. Here they become links of the
site: a file outside docs/ that is no page is copied into the site, so that every link works without a network.
"""

import base64
import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "examples/service/README.md": "examples/service/index.md",
}
BY_HAND = (
    "tutorial.md",
    "notebooks/",
    "howto/",
    "explanation/",
    "api/",
)  # searches show these before long tables of measurements
EXAMPLES = "howto/index.md"  # tells of them
LISTING = "files.md"  # of a folder of measurements


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that lie outside docs/, the notebooks, and one that lists what is in each folder of measurements."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for notebook in (DOCS / "notebooks").glob("*.ipynb"):
        for place, content in _as_page(notebook).items():
            files.append(File.generated(config, f"notebooks/{place}", content=content))
    for results in DOCS.glob("*/results.json"):
        names = sorted(path.name for path in results.parent.iterdir() if path.suffix in {".csv", ".json", ".png"})
        text = "\n".join([f"# Files of `{results.parent.name}`\n", *(f"- [{name}]({name})" for name in names)])
        place = f"{results.parent.name}/{LISTING}"
        files.append(File.generated(config, place, content=text, inclusion=InclusionLevel.NOT_IN_NAV))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page into those of the site; say where it stands in searches."""
    if page.file.src_uri.startswith(BY_HAND):
        page.meta["search"] = {"boost": 4}
    if page.file.abs_src_path is None:
        return markdown
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    source, here = Path(page.file.abs_src_path), PurePosixPath(page.file.src_uri).parent

    def link(found: re.Match[str]) -> str:
        target, anchor = found.groups(default="")
        path = Path(os.path.normpath(source.parent / target))
        if not path.exists():
            return found[0]  # an address, an anchor, or what the build complains of
        place = _place(path)
        if files.get_file_from_path(place) is None:
            if path.suffix == ".md":
                raise PluginError(
                    f"{page.file.src_uri} links to {place}, which is no page: add it to OUTSIDE in hooks.py"
                )
            files.append(File.generated(config, place, abs_src_path=str(path)))
        return f"]({os.path.relpath(place, here)}{anchor})"

    return re.sub(r"\]\(([^)\s#]+)(#[^)\s]*)?\)", link, markdown)


def _as_page(notebook: Path) -> dict[str, str | bytes]:
    """Write a notebook as a page, and return it with its pictures, by their names."""
    parts, written = [], dict[str, str | bytes]()
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            data: dict[str, Any] = output.get("data", {"text/plain": output.get("text")})
            if "image/png" in data:
                picture = f"{notebook.stem}-{len(written) + 1}.png"
                written[picture] = base64.b64decode(data["image/png"])
                parts.append(f"![What the cell draws]({picture})")
            elif "text/html" in data:
                parts.append("".join(data["text/html"]))
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    parts.append(f"*This page is a notebook: [{notebook.name}]({notebook.name}).*")
    return written | {f"{notebook.stem}.md": "\n\n".join(parts) + "\n"}


def _place(path: Path) -> str:
    """Find where a file of the repository is within the site."""
    if path.is_relative_to(DOCS):
        name = path.relative_to(DOCS).as_posix()
        return f"{name}/{LISTING}" if path.is_dir() else name
    name = path.relative_to(ROOT).as_posix()
    return EXAMPLES if path.is_dir() else OUTSIDE.get(name, name)
