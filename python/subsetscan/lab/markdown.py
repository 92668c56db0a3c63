"""Pages in Markdown: tables, numbers, and the template that holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._extras import import_extra
from .._files import atomic_write
from .._tables import counted

__all__ = ["as_options", "check_renders", "linker", "listed", "number", "percent", "render", "table"]


def check_renders(*, figures: bool = False) -> None:
    """Check, before the work, that a page can be written, and its figures drawn.

    Raises
    ------
    ModuleNotFoundError
        If a package is missing; the message says how to get it.
    """
    import_extra("jinja2", "report")
    if figures:
        import_extra("matplotlib.figure", "plots")


def render(template: Path, out: Path | str, **values: Any) -> None:
    """Fill in a template, and write the page, whole or not at all.

    Templates also have `counted`, `as_options` and the `link` of `linker`.
    """
    jinja2 = import_extra("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    text = environment.get_template(template.name).render(
        values, counted=counted, as_options=as_options, link=linker(Path(out).parent)
    )
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def linker(folder: Path) -> Callable[[str, str], str]:
    """Make a function that links words to another page, which need not be there: only this repository has all pages."""

    def link(words: str, target: str) -> str:
        return f"[{words}]({target})" if (folder / target.partition("#")[0]).is_file() else words

    return link


def as_options(known: Collection[str] = (), **chosen: Any) -> str:
    """Write what a command was given beside its defaults, as it is written after its name.

    Flags that are False, a seed of 0 and as many names as are known are defaults.
    """
    told = []
    for name, value in chosen.items():
        if isinstance(value, bool | int):
            told += [f" --{name}" if value is True else f" --{name} {value}"] if value else []
        elif len(value) < len(known):
            told.append(f" --{name} {','.join(value)}")
    return "".join(told)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table, the first column to the left."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(names: Sequence[str]) -> str:
    """Write names as a list within a sentence."""
    *first, last = names or [""]
    return f"{', '.join(first)} and {last}" if first else last


def number(value: float) -> str:
    """Write a value with three digits; nothing where there is none."""
    return "" if np.isnan(value) else f"{value:.3f}"


def percent(value: float) -> str:
    """Write a share; nothing where there is none."""
    return "" if np.isnan(value) else f"{value:.1%}"
