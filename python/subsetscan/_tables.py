"""Tables and counts, as plain text and as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["counted", "html_table", "some_of", "text_table"]


def counted(n: int, what: str) -> str:
    """Write a number of things.

    >>> counted(1, "image"), counted(1000, "image")
    ('1 image', '1,000 images')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def some_of(values: Iterable[object], most: int = 20) -> str:
    """Write how many there are, and the first of them.

    >>> some_of([3, 8, 9], most=2), some_of([])
    ('3: 3, 8 ...', '0')
    """
    told = [str(value) for value in values]
    return f"{len(told):,}" + (f": {', '.join(told[:most])}" if told else "") + (" ..." if len(told) > most else "")


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: the first column to the left, the others to the right.

    >>> print(text_table(["space", "nodes"], [["pixels", "784"], ["conv2d_1", "12544"]]))
    space     nodes
    --------  -----
    pixels      784
    conv2d_1  12544
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for line in (header, ["-" * width for width in widths], *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
    return "\n".join(lines)


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Lay out a table for a notebook; whatever its cells hold is text.

    >>> html_table(["space"], [["<b>"]])
    '<table><thead><tr><th>space</th></tr></thead><tbody><tr><th>&lt;b&gt;</th></tr></tbody></table>'
    """
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in others)}</tr>"
        for first, *others in rows
    )
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
