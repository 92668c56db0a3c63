"""Pages in Markdown: tables, numbers, and the template that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._extras import import_extra
from .._files import atomic_write
from .._tables import counted

__all__ = ["number", "percent", "render", "table"]


def render(template: Path, out: Path | str, **values: Any) -> None:
    """Fill in a template, and write the page, whole or not at all."""
    jinja2 = import_extra("jinja2", "all")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    text = environment.get_template(template.name).render(values, counted=counted)
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table, the first column to the left."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Write a value with three digits; nothing where there is none."""
    return "" if np.isnan(value) else f"{value:.3f}"


def percent(value: float) -> str:
    """Write a share; nothing where there is none."""
    return "" if np.isnan(value) else f"{value:.1%}"
