"""The command line: it parses; others do the work."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ._validation import InvalidTypeError
from .detectors import SubsetScanDetector
from .detectors.entropy import DEFAULT_READING
from .lab.networks import allow_code_of_models, start_keras
from .lab.options import check_folder, names_in

__all__ = ["app", "main"]

# What a wrong call raises. Typer has this class from click, or carries it within, and names only its child.
_UsageError: Any = typer.BadParameter.__base__

_EXPECTED = (_UsageError, ValueError, InvalidTypeError, OSError, ImportError, MemoryError)
_DEBUG = "--debug"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the jointly anomalous subset of a network's activations.",
)

Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Out = Annotated[
    Path,
    typer.Option(help="Folder for the results; made if it is not there.", file_okay=False, callback=check_folder),
]
KeptFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder for what is kept between runs; OUT/kept by default.",
        file_okay=False,
        callback=lambda folder: None if folder is None else check_folder(folder),
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Model = Annotated[Path, typer.Option(help="Keras model file, .keras or .h5.")]
UnsafeModel = Annotated[
    bool,
    typer.Option(
        "--unsafe-model", help="Run code that the model file holds (Lambda layers): only for files you trust."
    ),
]
BackgroundFile = Annotated[Path, typer.Option(help="Clean images that make the background, .npy of shape (n, ...).")]
InputFile = Annotated[Path, typer.Option(help="Images to scan, .npy.")]
CleanFile = Annotated[
    Path | None, typer.Option(help="Further clean images, .npy: the input is told from them, as an AUROC.")
]
Layers = Annotated[
    str | None, typer.Option(help='"all", or names of layers, comma-separated. All, if no error is asked for.')
]
Error = Annotated[
    Literal["absolute", "squared", "binary-crossentropy", "signed"] | None,
    typer.Option(
        help="Scan the reconstruction error of an autoencoder, pixel by pixel (signed: image minus reconstruction)."
    ),
]
Statistic = Annotated[
    Literal["berk-jones", "higher-criticism", "kolmogorov-smirnov"], typer.Option(help="What a subset is scored by.")
]
Tail = Annotated[Literal["upper", "lower", "two-sided"], typer.Option(help="Which node values are extreme.")]
AlphaMax = Annotated[float, typer.Option(help="The largest threshold to consider, in (0, 1].")]
Scope = Annotated[Literal["subset", "all"], typer.Option(help="Hold small p-values against the subset or all nodes.")]
Ties = Annotated[
    Literal["upper", "midrank", "random", "range"],
    typer.Option(help="Which part of its range a p-value takes where background values equal the image's."),
]
Combine = Annotated[
    Literal["min", "fisher", "cauchy"] | None,
    typer.Option(help="Combine the p-values of all spaces, calibrated again, under the name combined."),
]
Fitted = Annotated[Path, typer.Option(help="Folder that `fit` wrote.")]
Calibration = Annotated[
    Literal["holdout", "leave-one-out", "none"],
    typer.Option(help="Where null scores come from: a quarter of the background held out, each of it, or nowhere."),
]
Preprocessing = Annotated[
    Literal["none", "0-255", "tf", "torch", "caffe"],
    typer.Option(help="What the model expects of its pixels, made of those in [0, 1], as keras.applications names it."),
]
Processes = Annotated[int, typer.Option(min=1, help="How many processes attack images at the same time.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images worked on at once.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"subsetscan {version_of('subsetscan')}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show where an error arose.")] = False,
) -> None:
    del version, debug  # `main` looks for the latter: it may stand anywhere


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Seed = 0,
    n_background: Annotated[int, typer.Option(min=2, help="Images that make the background and calibrate.")] = 1000,
    n_clean: Annotated[int, typer.Option(min=1, help="Images that remain clean.")] = 400,
    n_attacked: Annotated[int, typer.Option(min=1, help="Images that are attacked.")] = 600,
    quiet: Quiet = False,
) -> None:
    """Tell adversarial Fashion-MNIST images from clean ones, with what the package carries.

    Attacks a classifier by FGSM and BIM, scans every layer and the reconstruction error of an autoencoder, prints
    how well attacked images are told from clean ones, and draws where.
    """
    from .lab import demo as demonstration

    start_keras()
    demonstration.run(
        out,
        seed=seed,
        n_background=n_background,
        n_clean=n_clean,
        n_attacked=n_attacked,
        progress=not quiet,
        say=typer.echo,
    )


@app.command()
def scan(
    model: Model,
    background: BackgroundFile,
    input: InputFile,  # noqa: A002 (the option's name)
    out: Out,
    clean: CleanFile = None,
    layers: Layers = None,
    reconstruction_error: Error = None,
    statistic: Statistic = "berk-jones",
    tail: Tail = "upper",
    alpha_max: AlphaMax = 0.5,
    scope: Scope = "subset",
    ties: Ties = "upper",
    calibration: Calibration = "holdout",
    combine: Combine = None,
    batch_size: BatchSize = 256,
    seed: Seed = 0,
    unsafe_model: UnsafeModel = False,
    quiet: Quiet = False,
) -> None:
    """Scan your own images with your own model.

    Writes scores.csv (set, index, space, score, alpha, size, p_value), summary.json (for each space the number of
    nodes and, with --clean, the AUROC with a 95 % interval) and scores.png.
    """
    from .lab import scan_files

    _start(unsafe_model)
    scan_files.scan(
        model=model,
        safe_mode=not unsafe_model,
        background=background,
        images=input,
        clean=clean,
        layers=layers,
        reconstruction_error=reconstruction_error,
        detector=_detector(statistic, tail, alpha_max, scope, ties, calibration, seed),
        out=out,
        combine=combine,
        batch_size=batch_size,
        progress=not quiet,
        say=typer.echo,
    )


@app.command()
def fit(
    model: Model,
    background: BackgroundFile,
    out: Out,
    layers: Layers = None,
    reconstruction_error: Error = None,
    statistic: Statistic = "berk-jones",
    tail: Tail = "upper",
    alpha_max: AlphaMax = 0.5,
    scope: Scope = "subset",
    ties: Ties = "upper",
    calibration: Calibration = "holdout",
    batch_size: BatchSize = 256,
    seed: Seed = 0,
    unsafe_model: UnsafeModel = False,
    quiet: Quiet = False,
) -> None:
    """Fit on a background, and keep the detectors for `score`."""
    from .lab import scan_files

    _start(unsafe_model)
    scan_files.fit(
        model=model,
        safe_mode=not unsafe_model,
        background=background,
        layers=layers,
        reconstruction_error=reconstruction_error,
        detector=_detector(statistic, tail, alpha_max, scope, ties, calibration, seed),
        out=out,
        batch_size=batch_size,
        progress=not quiet,
        say=typer.echo,
    )


@app.command()
def score(
    model: Model,
    fitted: Fitted,
    input: InputFile,  # noqa: A002 (the option's name)
    out: Out,
    clean: CleanFile = None,
    combine: Combine = None,
    batch_size: BatchSize = 256,
    unsafe_model: UnsafeModel = False,
    quiet: Quiet = False,
) -> None:
    """Scan images with detectors that `fit` kept; writes what `scan` writes."""
    from .lab import scan_files

    _start(unsafe_model)
    scan_files.score(
        model=model,
        safe_mode=not unsafe_model,
        fitted=fitted,
        images=input,
        clean=clean,
        out=out,
        combine=combine,
        batch_size=batch_size,
        progress=not quiet,
        say=typer.echo,
    )


@app.command()
def explain(
    model: Model,
    fitted: Fitted,
    input: InputFile,  # noqa: A002 (the option's name)
    out: Out,
    index: Annotated[int, typer.Option(min=0, help="Which of the images.")] = 0,
    unsafe_model: UnsafeModel = False,
) -> None:
    """Tell which layers, channels and positions carry an image's subset, with detectors that `fit` kept.

    Prints a table, the most anomalous space first, and writes explanation.json and explanation.png.
    """
    from .lab import scan_files

    _start(unsafe_model)
    scan_files.explain(
        model=model, fitted=fitted, images=input, index=index, out=out, safe_mode=not unsafe_model, say=typer.echo
    )


@app.command()
def train(
    network: Annotated[Literal["autoencoder", "classifier"], typer.Option(help="Which network.")],
    out: Out,
    dataset: Annotated[Literal["fashion-mnist", "mnist"], typer.Option(help="On which images.")] = "fashion-mnist",
    data: Annotated[Path | None, typer.Option(help="Folder with the dataset's four IDX files.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="By default 100 for the autoencoder, 25 for the classifier.")
    ] = None,
    seed: Seed = 0,
    poisoned: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Share of an autoencoder's training images to replace by attacked ones."),
    ] = 0.0,
    classifier: Annotated[Path | None, typer.Option(help="Whom those attacks aim at: a Keras model file.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train one of the networks of the experiments.

    Keeps a checkpoint of every epoch: the same command continues where it was stopped.
    """
    from .lab.training import train as train_network

    start_keras()
    summary = train_network(
        network,
        dataset,
        out,
        data=data,
        epochs=epochs,
        seed=seed,
        poisoned=poisoned,
        classifier=classifier,
        verbose=0 if quiet else 2,
    )
    for name, value in summary.items():
        if name != "made_from":  # digests
            typer.echo(f"{name}: {value}")


@app.command()
def attack(
    model: Annotated[Path, typer.Option(help="Keras model file: from images to probabilities or logits.")],
    input: Annotated[Path, typer.Option(help="Images in [0, 1], .npy of shape (n, H, W, C).")],  # noqa: A002
    labels: Annotated[Path, typer.Option(help="Their true labels, counted from 0, .npy of shape (n,).")],
    out: Out,
    attack: Annotated[
        Literal["fgsm", "bim", "gradient", "deepfool", "boundary", "one-pixel"],
        typer.Option(help="Which attack. The last two take seconds for an image."),
    ] = "fgsm",
    eps: Annotated[
        float | None,
        typer.Option(
            help="Strength. fgsm, bim: how far a pixel may move (0.01 by default); gradient: the longest step (3); "
            "deepfool: overshoot (1e-6); boundary: its first step, a share of the distance (0.01); one-pixel: how "
            "many pixels (1)."
        ),
    ] = None,
    n_images: Annotated[
        int | None, typer.Option(min=1, help="How many images to attack at most; all by default.")
    ] = None,
    protocol: Annotated[
        Literal["valid", "paper"],
        typer.Option(help="valid: clipped to [0, 1], only what is classified correctly; paper: neither."),
    ] = "valid",
    masked: Annotated[bool, typer.Option(help="Leave pixels alone that are zero.")] = False,
    unsafe_model: UnsafeModel = False,
    from_logits: Annotated[
        bool | None,
        typer.Option(
            "--from-logits/--from-probabilities",
            help="What the model gives out; by default that is found out, and said.",
        ),
    ] = None,
    processes: Processes = 2,
    quiet: Quiet = False,
) -> None:
    """Attack a classifier's images, and keep the successes.

    Writes images.npy, sources.npy (the row of each one's source), labels.npy, predictions.npy and summary.json.
    Chunks are kept as they finish: the same command continues where it was stopped.
    """
    from .lab import attack_files

    _start(unsafe_model)
    attack_files.attack(
        model=model,
        safe_mode=not unsafe_model,
        images=input,
        labels=labels,
        name=attack,
        eps=eps,
        protocol=protocol,
        masked=masked,
        n_images=n_images,
        out=out,
        from_logits=from_logits,
        n_processes=processes,
        progress=not quiet,
        say=typer.echo,
    )


@app.command()
def responses(
    model: Model,
    images: Annotated[Path, typer.Option(help="Images, .npy, or a folder of PNG and JPEG files.")],
    out: Out,
    clean: Annotated[
        Path | None, typer.Option(help="Clean images, likewise: they calibrate, and are drawn above the others.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The images' classes, .npy of shape (n,), for --target true-logit.")
    ] = None,
    preprocessing: Preprocessing = "none",
    method: Annotated[
        Literal["guided", "deconvnet", "gradient"], typer.Option(help="What the backward pass does at a ReLU.")
    ] = "guided",
    target: Annotated[
        Literal["activations", "top-logit", "true-logit", "max-output"], typer.Option(help="What is propagated back.")
    ] = "activations",
    layer: Annotated[
        str | None, typer.Option(help="Whose activations, by name: the last convolutional layer, if none is named.")
    ] = None,
    reading: Annotated[
        Literal["mass", "histogram", "cooccurrence"], typer.Option(help="Of what in a patch the entropy is taken.")
    ] = DEFAULT_READING,  # type: ignore[assignment]  # one of them
    patch: Annotated[int, typer.Option(min=3, help="Side of a patch in pixels, an odd number.")] = 3,
    levels: Annotated[
        int, typer.Option(min=2, help="Number of grey levels, for the readings histogram and cooccurrence.")
    ] = 16,
    normalise: Annotated[
        Literal["max", "range"], typer.Option(help="How a map is brought into [0, 1] for those readings.")
    ] = "max",
    shown: Annotated[int, typer.Option(min=1, help="Images of each set to be drawn.")] = 6,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images worked on at once; fewer than 64 make the network's passes smaller.")
    ] = 256,
    unsafe_model: UnsafeModel = False,
    quiet: Quiet = False,
) -> None:
    """Show what a network responds to in images, and score how widely the response is spread.

    Writes maps.npy (feature responses), entropy.npy (local spatial entropy), scores.csv (set, index, score, p_value),
    summary.json and responses.png. With --clean there are p-values, and the AUROC with a 95 % interval.
    """
    from .lab import response_files

    _start(unsafe_model)
    response_files.responses(
        model=model,
        safe_mode=not unsafe_model,
        images=images,
        out=out,
        clean=clean,
        labels=labels,
        method=method,
        target=target,
        layer=layer,
        reading=reading,
        patch=patch,
        levels=levels,
        normalise=normalise,
        preprocessing=preprocessing,
        shown=shown,
        batch_size=batch_size,
        progress=not quiet,
        say=typer.echo,
    )


@app.command()
def reproduce(
    out: Out,
    dataset: Annotated[
        str, typer.Option(help="fashion-mnist, mnist, or both, comma-separated.")
    ] = "fashion-mnist,mnist",
    images: Annotated[
        str, typer.Option(help="paper (unclipped, as the paper's), valid (clipped), or both, comma-separated.")
    ] = "paper,valid",
    networks: Annotated[Path, typer.Option(help="Folder with trained networks; what it lacks is trained.")] = Path(
        "networks"
    ),
    kept: KeptFolder = None,
    data: Annotated[Path | None, typer.Option(help="Folder with a folder of IDX files for each dataset.")] = None,
    poisoned: Annotated[
        bool, typer.Option(help="Whether to look at the autoencoders trained on poisoned images as well.")
    ] = True,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, to see that it works.")] = False,
    processes: Processes = 2,
    quiet: Quiet = False,
) -> None:
    """Make every table and figure of the paper, and answer the questions that it did not ask.

    Writes results.md, and in results/ the figures and every number as CSV and JSON. Each stage is kept as it finishes:
    the same command continues where it was stopped.
    """
    from .lab.reproduction.plan import DATASETS
    from .lab.reproduction.run import PROTOCOLS
    from .lab.reproduction.run import reproduce as run

    datasets, protocols = names_in(dataset, DATASETS), names_in(images, PROTOCOLS)
    start_keras()
    run(
        out,
        dataset=datasets,
        images=protocols,
        networks=networks,
        kept=kept,
        data=data,
        poisoned=poisoned,
        quick=quick,
        n_processes=processes,
        progress=not quiet,
        say=typer.echo,
    )


@app.command()
def trace(
    out: Out,
    dataset: Annotated[
        str, typer.Option(help="fashion-mnist, mnist, or both, comma-separated: whose classifier, without --model.")
    ] = "fashion-mnist,mnist",
    model: Annotated[Path | None, typer.Option(help="Keras classifier, .keras or .h5, instead of a dataset's.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Its images, 160 or more: .npy in [0, 1], or a folder of PNG and JPEG files.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Their classes, .npy of shape (n,); what the model sees by default.")
    ] = None,
    preprocessing: Preprocessing = "none",
    unsafe_model: UnsafeModel = False,
    protocol: Annotated[
        str, typer.Option(help="valid (clipped), paper (unclipped), or both, comma-separated.")
    ] = "valid,paper",
    attacks: Annotated[
        str, typer.Option(help="Comma-separated, each with its strength or without: see `attack --help`.")
    ] = "fgsm=0.1,gradient=3,one-pixel=1,deepfool=0.02,boundary=0.01",
    n_images: Annotated[
        int | None, typer.Option(min=1, help="How many images each attack is tried on at most; all by default.")
    ] = None,
    n_slow: Annotated[
        int, typer.Option(min=1, help="The same for one-pixel and boundary, which take seconds for an image.")
    ] = 100,
    networks: Annotated[Path, typer.Option(help="Folder with trained networks.")] = Path("networks"),
    kept: KeptFolder = None,
    data: Annotated[Path | None, typer.Option(help="Folder with a folder of IDX files for each dataset.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small version, to see that it works.")] = False,
    processes: Processes = 2,
    quiet: Quiet = False,
) -> None:
    """Attack a classifier in five ways, and trace it by feature responses, beside other detectors and controls.

    Writes tracing.md, with the slides' numbers beside ours, and in tracing/ the figures and every number as CSV and
    JSON. What takes long is kept as it finishes: the same command continues where it was stopped.
    """
    from .lab.attacks import PROTOCOLS
    from .lab.reproduction.plan import DATASETS
    from .lab.tracing.plan import strengths_of
    from .lab.tracing.run import trace as run

    datasets, protocols, strengths = names_in(dataset, DATASETS), names_in(protocol, PROTOCOLS), strengths_of(attacks)
    _start(unsafe_model)
    run(
        out,
        dataset=datasets,
        model=model,
        safe_mode=not unsafe_model,
        images=images,
        labels=labels,
        preprocessing=preprocessing,
        protocol=protocols,
        attacks=strengths,
        n_images=n_images,
        n_slow=n_slow,
        networks_folder=networks,
        kept=kept,
        data=data,
        quick=quick,
        n_processes=processes,
        progress=not quiet,
        say=typer.echo,
    )


def _start(unsafe_model: bool) -> None:
    """Start Keras; where a model file may hold code, its copies may too."""
    start_keras()
    if unsafe_model:
        allow_code_of_models()


def _detector(
    statistic: str, tail: str, alpha_max: float, scope: str, ties: str, calibration: str, seed: int
) -> SubsetScanDetector:
    return SubsetScanDetector(
        statistic=statistic,
        tail=tail,
        alpha_max=alpha_max,
        scope=scope,
        ties=ties,
        calibration=None if calibration == "none" else calibration,
        random_state=seed,
    )


def _each_once() -> Callable[..., None]:
    """Make what shows a warning in one line, whatever number of detectors have it."""
    seen: set[str] = set()

    def show(message: Warning | str, *_: object) -> None:
        text = " ".join(str(message).split())
        if text not in seen:
            seen.add(text)
            typer.echo(f"subsetscan: warning: {text}", err=True)

    return show


def main() -> None:
    """Run the command line: what is wrong with the input is one line on standard error, and exit code 2.

    An error that nobody expects is one line as well, and exit code 1.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    debug = len(arguments) < len(sys.argv[1:])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _each_once()
            sys.exit(app(arguments or ["--help"], prog_name="subsetscan", standalone_mode=False))
    except _EXPECTED as error:
        message = error.format_message() if isinstance(error, _UsageError) else str(error)
        _end(error, message or type(error).__name__, 2, debug)
    except (KeyboardInterrupt, typer.Abort) as error:
        _end(error, "interrupted", 130, debug)
    except Exception as error:
        where = "above is where it arose" if debug else f"{_DEBUG} shows where it arose"
        _end(error, f"unexpected error ({type(error).__name__}: {error}): please report it; {where}", 1, debug)


def _end(error: BaseException, message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"subsetscan: {' '.join(message.split())}", err=True)
    sys.exit(code)
