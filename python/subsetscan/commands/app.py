"""The command line: which commands there are, and how one ends."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer

from .._validation import InvalidTypeError
from ..lab.options import hold_folder
from ..shards import file_of
from . import (
    attack,
    demo,
    experiment,
    explain,
    extract,
    fit,
    merge,
    report,
    reproduce,
    responses,
    scan,
    score,
    trace,
    train,
)

__all__ = ["app", "main"]

# What a wrong call raises. Typer has this class from click, or carries it within, and names only its child.
_UsageError: Any = typer.BadParameter.__base__

_EXPECTED = (_UsageError, ValueError, InvalidTypeError, OSError, ImportError, MemoryError)
_DEBUG = "--debug"
_INTERRUPTED = 130  # what Typer returns after Ctrl-C, where it does not raise Abort
_CONTINUING = ("extract", "attack", "train", "reproduce", "trace", "experiment")  # what is done is kept

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes cut the names of options at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the jointly anomalous subset of a network's activations.",
)


def _alone(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let no two runs of commands write to the same folder."""

    @wraps(command)
    def run(**given: Any) -> Any:
        folder: Path = given["results" if command is report.report else "out"]
        if command is merge.merge:
            folder = file_of(folder).parent
        # Shards may share a folder.
        own = given.get("shard", "").split("/") if command is extract.extract else []
        part = "-" * bool(own) + "-of-".join(number.strip().lstrip("0") or "0" for number in own)
        with hold_folder(folder, part):
            return command(**given)

    return run


# In the order in which `subsetscan --help` lists them.
for _command in (
    demo.demo,
    scan.scan,
    fit.fit,
    score.score,
    explain.explain,
    report.report,
    extract.extract,
    merge.merge,
    responses.responses,
    attack.attack,
    train.train,
    reproduce.reproduce,
    trace.trace,
    experiment.experiment,
):
    app.command()(_alone(_command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"subsetscan {version_of('subsetscan')}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show where an error arose.")] = False,
) -> None:
    del version, debug  # `main` looks for the latter: it may stand anywhere


def main() -> None:
    """Run the command line: what is wrong with the input is one line on standard error, and exit code 2.

    An error that nobody expects is one line as well, and exit code 1.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    debug = len(arguments) < len(sys.argv[1:])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _each_once()
            result = app(arguments or ["--help"], prog_name="subsetscan", standalone_mode=False)
        if result == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(result if isinstance(result, int) else 0)  # a command returns its summary
    except _EXPECTED as error:
        message = error.format_message() if isinstance(error, _UsageError) else str(error)
        _end(error, message or type(error).__name__, 2, debug)
    except (KeyboardInterrupt, typer.Abort) as error:
        hint = ": the same command continues where it was stopped" if {*arguments[:1]} & {*_CONTINUING} else ""
        _end(error, f"interrupted{hint}", _INTERRUPTED, debug)
    except Exception as error:
        where = "above is where it arose" if debug else f"{_DEBUG} shows where it arose"
        _end(error, f"unexpected error ({type(error).__name__}: {error}): please report it; {where}", 1, debug)


def _each_once() -> Callable[..., None]:
    """Make what shows a warning in one line, whatever number of detectors have it."""
    seen: set[str] = set()

    def show(message: Warning | str, *_: object) -> None:
        text = " ".join(str(message).split())
        if text not in seen:
            seen.add(text)
            typer.echo(f"subsetscan: warning: {text}", err=True)

    return show


def _end(error: BaseException, message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"subsetscan: {' '.join(message.split())}", err=True)
    sys.exit(code)
