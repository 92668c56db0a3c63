"""The options that several commands share. Choices come from where the names are defined."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..calibration import CALIBRATIONS
from ..combination import COMBINATIONS
from ..lab import datasets, networks
from ..lab.options import check_folder
from ..lab.preprocessing import PREPROCESSINGS
from ..scanning import SCOPES, STATISTICS, TAILS, TIES
from ..spaces.reconstruction import METRICS

__all__ = ["AlphaMax", "Background", "BatchSize", "Calibration", "Clean", "Cluster", "Combine", "DataFolder", "Error",
           "FalsePositiveRate", "Fitted", "FittedModel", "FittedRate", "Input", "Json", "KeptFolder",
           "Layers", "Model", "NamedModel", "NetworkFile", "Out", "Preprocessing", "Processes", "Quick", "Quiet",
           "Scope", "Seed", "Statistic", "Tail", "Ties", "UnsafeModel", "holds_data", "in_unit_interval", "one_of",
           "start_keras"]  # fmt: skip


def one_of(names: Iterable[str], help: str) -> Any:  # noqa: A002 (typer's word)
    """Make an option that takes one of some names, completes them, and refuses any other."""
    names = tuple(names)

    def parse(value: str) -> str:
        if value not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(repr, names))}.")
        return value

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return typer.Option(help=help, parser=parse, metavar=f"[{'|'.join(names)}]", autocompletion=complete)


def in_unit_interval(value: float | None) -> float | None:
    """Refuse a rate outside (0, 1)."""
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"{value:g} is not between 0 and 1.")
    return value


def holds_data(folder: Path | None) -> Path | None:
    """Refuse a folder that has no dataset."""
    datasets.check_data(folder)
    return folder


def start_keras(unsafe_model: bool = False) -> None:
    """Start Keras; where a model file may hold code, its copies may too."""
    networks.start_keras()
    if unsafe_model:
        networks.allow_code_of_models()


Out = Annotated[
    Path, typer.Option(help="Folder for the results. It is made if needed.", file_okay=False, callback=check_folder)
]
Report = Annotated[
    bool, typer.Option("--report", help="Write report.html too: one page, with the most anomalous inputs, and where.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and no other text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.", min=0)]

NetworkFile = Annotated[Path, typer.Option("--model", help="File of a network: .onnx, or .keras or .h5 of Keras.")]
NamedModel = Annotated[Path, typer.Option(help="Keras model file, .keras or .h5.")]
Model = Annotated[
    Path | None,
    typer.Option(
        help="File of a network: .onnx, or .keras or .h5 of Keras. Without a model, the files must hold activations."
    ),
]
FittedModel = Annotated[
    Path | None,
    typer.Option(
        help="The model that `fit` was given: .onnx, .keras or .h5. Leave it out where `fit` was given activations."
    ),
]
UnsafeModel = Annotated[
    bool,
    typer.Option(
        "--unsafe-model", help="Run the code that a Keras file holds (Lambda layers). Only for files you trust."
    ),
]
Background = Annotated[
    Path,
    typer.Option(
        help="Clean inputs that the model was not trained on: an .npy file of shape (n, ...); an .npz or .safetensors "
        "file with an array for each input of the network, by its name; or a folder of PNG and JPEG files, which are "
        "read as pixels in [0, 1]. Without a model: activations, .npy, .npz, .safetensors or .parquet."
    ),
]
Input = Annotated[
    Path,
    typer.Option(
        help="Inputs to scan: .npy, .npz or .safetensors, or a folder of PNG and JPEG files. Without a model: "
        "activations, .npy, .npz, .safetensors or .parquet."
    ),
]
Clean = Annotated[
    Path | None,
    typer.Option(help="Further clean inputs, in the same kinds of files. Adds the AUROC of the input against them."),
]
Layers = Annotated[
    str | None,
    typer.Option(
        help='"all", or names of layers or patterns of them ("encoder.*.dense"), comma-separated. The default is all '
        "that compute something, or none with --reconstruction-error; of a Keras model all, with options of a scan."
    ),
]
Error = Annotated[
    str | None,
    one_of(METRICS, "Scan an autoencoder's reconstruction error, value by value (signed: input minus output)."),
]
# Any of these means a scan of the values as they are, with the paper's options for the rest.
_OF_A_SCAN = "instead of the automatic detector:"
Statistic = Annotated[
    str | None, one_of(STATISTICS, f"Scan with options of your own, {_OF_A_SCAN} how a subset is scored [berk-jones].")
]
Tail = Annotated[str | None, one_of(TAILS, f"Likewise, {_OF_A_SCAN} which node values count as extreme [upper].")]
AlphaMax = Annotated[
    float | None,
    typer.Option(help=f"Likewise, {_OF_A_SCAN} the largest p-value threshold to consider, in (0, 1] [0.5]."),
]
Scope = Annotated[
    str | None,
    one_of(
        SCOPES,
        f"Likewise, {_OF_A_SCAN} compare the number of small p-values with the subset's size, or with all nodes "
        "[subset].",
    ),
]
Ties = Annotated[
    str | None,
    one_of(
        TIES,
        f"Likewise, {_OF_A_SCAN} which p-value a node gets where background values equal the input's, see "
        "Background.scan [upper].",
    ),
]
Calibration = Annotated[
    str | None,
    one_of(
        (name or "none" for name in CALIBRATIONS),
        "Where null scores come from: a quarter of the background held out, each input left out in turn, or none "
        "[leave-one-out; holdout with options of a scan].",
    ),
]
FalsePositiveRate = Annotated[
    float, typer.Option(help="Share of clean inputs that may be flagged, in (0, 1).", callback=in_unit_interval)
]
FittedRate = Annotated[
    float | None,
    typer.Option(
        help="Share of clean inputs that may be flagged, in (0, 1). The default is what `fit` was given.",
        callback=in_unit_interval,
    ),
]
Combine = Annotated[
    str | None,
    one_of(
        COMBINATIONS,
        "Combine the p-values of all spaces, calibrate again, and add them under the name combined; the automatic "
        "detector does so [fisher+harmonic].",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Inputs worked on at once.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Let the workers of a dask cluster do the work, by its scheduler's address, as tcp://10.0.0.1:8786. For "
        "activations in .npy files without a model. Workers need this package, in the same version, and read the files "
        "themselves: from a folder that all share, at the same path.",
    ),
]
Fitted = Annotated[Path, typer.Option(help="Folder that `fit` wrote.")]

Preprocessing = Annotated[
    str,
    one_of(PREPROCESSINGS, "How to turn pixels in [0, 1] into what the model expects: see keras.applications."),
]
Processes = Annotated[int, typer.Option(min=1, help="How many processes attack images at the same time.")]
KeptFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder for what is kept between runs. The default is OUT/kept.",
        file_okay=False,
        callback=lambda folder: None if folder is None else check_folder(folder),
    ),
]
DataFolder = Annotated[
    Path | None, typer.Option(help="Folder that holds a folder of IDX files for each dataset.", callback=holds_data)
]
Quick = Annotated[bool, typer.Option("--quick", help="A small version, to see that it works.")]
