"""What a command shows: text for people or JSON for programs, and progress where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .. import plot
from ..lab.experiment.files import json_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Console"]


class Console:
    """What a command shows.

    Parameters
    ----------
    as_json : bool
        Print the summary alone, as one JSON document.
    quiet : bool
        Show no progress.

    Attributes
    ----------
    progress : bool
        Whether to show progress bars: on a terminal only, so that they stay out of log files, and not beside JSON.
    """

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        self.as_json = as_json
        self.progress = not quiet and not as_json and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Print text for people."""
        if not self.as_json:
            typer.echo(text)

    def save_figure(self, draw: Callable[[], Figure | None], path: Path, why_none: str = "") -> list[str]:
        """Save a figure, and return the name of its file; say why there is none.

        Parameters
        ----------
        draw : callable
            Draws the figure, or returns None where there is nothing to draw.
        path : Path
        why_none : str
            What to say in that case.
        """
        try:
            if (figure := draw()) is not None:
                plot.save(figure, path)
                return [path.name]
        except ModuleNotFoundError as error:
            why_none = f"{error.name} is not installed"
        self.say(f"no figure, because {why_none}")
        return []

    def end(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Print the summary if JSON is asked for, and return it."""
        if self.as_json:
            typer.echo(json_text(summary))
        return dict(summary)
