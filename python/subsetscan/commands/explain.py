"""`subsetscan explain`: which nodes make inputs anomalous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .. import plot
from ..explanation import Explanation
from ..inputs.base import SizedInputs
from ..inputs.pictures import is_channels_first
from ..lab.experiment.files import write_json
from ..lab.options import start_writing
from ..scanner import ModelScanner
from . import options
from .console import Console
from .fitted import false_positive_rate_of, open_fitted
from .memory import show_shapes
from .subject import check_there

__all__ = ["explain", "most_anomalous_of", "one_of", "picture_of"]


def explain(
    fitted: options.Fitted,
    input: options.Input,  # noqa: A002 (the option's name)
    out: options.Out,
    model: options.FittedModel = None,
    index: Annotated[
        str | None, typer.Option(help="Which inputs, counted from 0, comma-separated. The default is the first, 0.")
    ] = None,
    most_anomalous: Annotated[
        int | None,
        typer.Option(min=1, help="Explain this many inputs instead: the most anomalous ones, by all spaces together."),
    ] = None,
    false_positive_rate: options.FittedRate = None,
    batch_size: options.BatchSize = 256,
    unsafe_model: options.UnsafeModel = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Show what makes inputs anomalous: layers, channels, positions.

    Uses detectors that `fit` kept, and the model that they were fitted on. Prints a table for each input, the most
    anomalous space first, and whether the input is flagged.
    Writes explanation.json and explanation.png, or for several inputs explanation-3.json and so on.
    """
    console = Console(json, quiet)
    check_there(input)
    if index is not None and most_anomalous is not None:
        raise ValueError(f"choose --index {index} or --most-anomalous {most_anomalous}, not both")
    chosen = _indices(index or "0")
    scanner, subject = open_fitted(
        fitted,
        model,
        unsafe_model=unsafe_model,
        batch_size=batch_size,
        progress=console.progress,
        false_positive_rate=false_positive_rate,
    )
    inputs = subject.load(input)
    if strangers := [n for n in chosen if n >= len(inputs)]:
        raise ValueError(f"{input} holds {len(inputs)} inputs, there is no input {strangers[0]}")
    show_shapes(subject.spaces, inputs)  # an explanation asks for the axes of channels first
    if most_anomalous is not None:
        chosen = most_anomalous_of(scanner, inputs, most_anomalous)
    start_writing(out, "explanation.json", "explanation.png", "explanation-*.json", "explanation-*.png")
    told = []
    for n in chosen:
        alone = most_anomalous is None and len(chosen) == 1
        stem = "explanation" if alone else f"explanation-{n}"
        if not alone:
            console.say(f"\ninput {n}\n")
        told.append(_explain_one(scanner, one_of(inputs, n), n, out / stem, subject.options.get("columns"), console))
    about = {"model": None if model is None else str(model), "fitted": str(fitted), "input": str(input)}
    return console.end(about | {"inputs": told})


def most_anomalous_of(scanner: ModelScanner, inputs: Any, n_inputs: int) -> list[int]:
    """Find the most anomalous inputs, the first of them first.

    Parameters
    ----------
    scanner : ModelScanner
        It is fitted.
    inputs : array-like of shape (N, ...)
    n_inputs : int
        How many to return, or all where there are fewer.

    Returns
    -------
    list of int
        By the score of all spaces combined in the scanner's own way, or of the only space. Without calibration by the
        highest score in any space.
    """
    scores = {name: found.scores for name, found in scanner.scan(inputs).items()}
    if scanner.is_calibrated and len(scores) > 1:
        together = scanner.combined_of(scores)[0]
    else:
        together = np.column_stack(list(scores.values())).max(axis=1)
    return [int(n) for n in np.argsort(-together, kind="stable")[:n_inputs]]


def _indices(text: str) -> list[int]:
    """Read numbers of inputs, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"--index takes numbers of inputs, counted from 0 and comma-separated, got {text!r}")
    return list(dict.fromkeys(map(int, parts)))


def one_of(inputs: SizedInputs, n: int) -> Any:
    """Pick one input: an array, or one for each of the network's inputs."""
    rows = inputs[n : n + 1]
    return {name: array[0] for name, array in rows.items()} if isinstance(rows, Mapping) else rows[0]


def picture_of(sample: Any, explanation: Explanation) -> np.ndarray | None:
    """Lay an image out as it is drawn, (H, W) or (H, W, C); None for several arrays, and where that is not clear."""
    if isinstance(sample, Mapping):
        return None
    if sample.ndim != 3:
        return sample
    if (first := is_channels_first(sample.shape)) is None:
        # Of other numbers of channels the layers tell: those of a network with channels first have them first.
        axes = {space.channel_axis for space in explanation.spaces.values() if space.nodes.ndim == 3}
        return None if 0 in axes else sample
    return np.moveaxis(sample, 0, -1) if first else sample


def _explain_one(
    scanner: ModelScanner, sample: Any, n: int, path: Path, node_names: Sequence[str] | None, console: Console
) -> dict[str, Any]:
    """Explain an input: print, write and draw it. `path` is that of the files without their endings."""
    explanation = scanner.explain(sample)
    rate = false_positive_rate_of(scanner)
    p_value = _p_value(scanner, explanation)
    flagged = None if p_value is None else p_value <= rate
    spaces = _with_nodes(explanation, rate, node_names)
    console.say(str(explanation))
    if p_value is not None:
        verdict = "flagged" if flagged else "not flagged"
        console.say(f"\ninput {n} is {verdict} at a false positive rate of {rate:g}: p = {p_value:.3g}")
    write_json(path.with_name(f"{path.name}.json"), spaces)
    written = console.save_figure(
        lambda: plot.explanation(explanation, picture_of(sample, explanation)),
        path.with_name(f"{path.name}.png"),
        "no space has positions in a grid",
    )
    console.say(f"\nwrote {', '.join([f'{path.name}.json', *written])} to {path.parent}/")
    return {"index": n, "flagged": flagged, "false_positive_rate": rate, "p_value": p_value, "spaces": spaces}


def _p_value(scanner: ModelScanner, explanation: Explanation) -> float | None:
    """Return the p-value of the input: that of the only space, or of all combined in the scanner's own way."""
    spaces = explanation.spaces
    if not scanner.is_calibrated:
        return None
    if len(spaces) == 1:
        return next(iter(spaces.values())).p_value
    scores = {name: np.array([space.score]) for name, space in spaces.items()}
    return float(scanner.combined_of(scores)[1][0])


def _with_nodes(explanation: Explanation, rate: float, node_names: Sequence[str] | None) -> Mapping[str, Any]:
    """Return what is known of each space, with its verdict and with the nodes of the subset."""
    told = {}
    for name, about in explanation.as_dict().items():
        space = explanation.spaces[name]
        nodes = np.flatnonzero(space.nodes).tolist()
        told[name] = about | {
            "space": name,
            "false_positive_rate": rate,
            "node_shape": list(space.nodes.shape),
            "nodes": nodes,
            "places": np.argwhere(space.nodes).tolist(),
        }
        if node_names is not None:
            told[name]["node_names"] = [node_names[node] for node in nodes]
    return told
