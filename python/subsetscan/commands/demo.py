"""`subsetscan demo`: adversarial Fashion-MNIST images told from clean ones, on what the package carries."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from sklearn.base import clone
from tqdm.auto import tqdm

from .. import plot
from .._tables import counted, text_table
from ..calibration import conformal_p_values
from ..detectors import SubsetScanDetector
from ..lab import preset as presets
from ..lab.attacks import Attacked, attack
from ..lab.datasets import load_sample
from ..lab.experiment.files import write_json
from ..lab.experiment.scoring import NULL, score
from ..lab.networks import load_pretrained
from ..lab.options import start_writing
from ..measures import Auroc, auroc
from ..plot.report import check_libraries, write_report
from ..scanner import ModelScanner
from ..spaces import KerasLayers, ReconstructionError
from . import options
from .console import Console
from .fitted import about_detector, about_run
from .scanned_sets import ScannedSets, scan_sets

if TYPE_CHECKING:
    import keras

__all__ = ["CONFIGURATIONS", "demo"]

ATTACKS = ("fgsm", "bim")
EPS = 0.01
ERROR = "reconstruction_error"
BASELINE = "mean reconstruction error"
PRESET = "recommended preset"
N_SHOWN = 6
_WRITTEN = (
    "scores.csv", "null_scores.csv", "summary.json", "scores.png", "roc.png", "anomalous_nodes.png", "report.html",
)  # fmt: skip

# How layers are scanned, and how the reconstruction error is: as in the paper, and as chosen on attacked images of the
# training set (docs/decisions/0001-options-of-the-demo.md).
CONFIGURATIONS = {
    "paper": (SubsetScanDetector(), SubsetScanDetector()),
    "chosen": (
        SubsetScanDetector(statistic="higher-criticism", tail="lower"),
        SubsetScanDetector(statistic="higher-criticism", tail="upper"),
    ),
}


def demo(
    out: options.Out = Path("demo"),
    seed: options.Seed = 0,
    n_background: Annotated[int, typer.Option(min=2, help="Images that make the background and calibrate.")] = 1000,
    n_clean: Annotated[int, typer.Option(min=1, help="Images that remain clean.")] = 400,
    n_attacked: Annotated[int, typer.Option(min=1, help="Images that are attacked.")] = 600,
    false_positive_rate: options.FalsePositiveRate = 0.05,
    report: options.Report = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Try it out on images and networks that the package includes.

    Attacks a classifier of Fashion-MNIST images by FGSM and BIM, scans every layer and the reconstruction error of an
    autoencoder, prints how well attacked images are told from clean ones, and draws where they differ. Writes
    scores.csv, null_scores.csv, summary.json, scores.png, roc.png and anomalous_nodes.png.
    """
    console = Console(json, quiet)
    if report:
        check_libraries()
    options.start_keras()
    started = time.monotonic()
    images, labels = load_sample()
    if n_background + n_clean + n_attacked > len(images):
        raise ValueError(f"asked for {n_background + n_clean + n_attacked} images, there are {len(images)}")
    out = Path(out)
    shuffled = np.random.default_rng(seed).permutation(len(images))
    background, clean, targets, _ = np.split(shuffled, np.cumsum([n_background, n_clean, n_attacked]))

    attacked = _attack(images[targets], labels[targets], console.progress)
    sets = {"clean": images[clean]} | {name: result.images for name, result in attacked.items() if len(result.images)}
    names = [name for name in attacked if name in sets]
    autoencoder = load_pretrained("autoencoder")
    layers, error = KerasLayers(autoencoder), ReconstructionError(autoencoder, "binary-crossentropy", name=ERROR)
    parameters = {"random_state": seed, "false_positive_rate": false_positive_rate}
    scanners = {
        configuration: [
            ModelScanner(space, clone(detector).set_params(**parameters), progress=console.progress)
            for space, detector in zip((layers, error), detectors, strict=True)
        ]
        for configuration, detectors in CONFIGURATIONS.items()
    }
    scanned = {
        configuration: ScannedSets.join([scan_sets(scanner.fit(images[background]), sets) for scanner in pair])
        for configuration, pair in scanners.items()
    }
    mean_errors = {kind: error.transform(pictures)[ERROR].mean(axis=1) for kind, pictures in sets.items()}
    aurocs = {
        configuration: {space: {name: found.auroc(space, name) for name in names} for space in found.n_nodes}
        for configuration, found in scanned.items()
    }
    preset = _score_by_preset(autoencoder, images[background], sets, seed)
    others = {
        title: {name: auroc(scores["clean"], scores[name]) for name in names}
        for title, scores in ((BASELINE, mean_errors), (PRESET, preset["scores"]))
    }

    chosen = scanned["chosen"]
    drawn = {"scores.png": plot.densities(chosen.scores())}
    shown = (next(iter(chosen.n_nodes)), ERROR)
    if names:
        _, error_scanner = scanners["chosen"]
        sources = images[targets][attacked[names[-1]].sources]
        pictures = {"clean": sources[:N_SHOWN], names[-1]: sets[names[-1]][:N_SHOWN]}
        drawn["roc.png"] = plot.roc(_curves(scanned, {BASELINE: mean_errors, PRESET: preset["scores"]}, shown, names))
        drawn["anomalous_nodes.png"] = plot.anomalous_nodes(
            {kind: _examples(error_scanner, error, examples) for kind, examples in pictures.items()}
        )
    summary = {
        "dataset": "fashion-mnist",
        "protocol": "valid",
        "eps": EPS,
        "seed": seed,
        "n_background": n_background,
        "n_clean": n_clean,
        "attacks": {
            name: {
                "n_tried": result.n_tried,
                "n_successful": len(result.images),
                "success_rate": result.success_rate if result.n_tried else None,
            }
            for name, result in attacked.items()
        },
        "spaces": _summary(aurocs["chosen"], chosen),
        "detector": _about_detectors(*scanners["chosen"]),
        **about_run(*scanners["chosen"]),
        "paper": _summary(aurocs["paper"], chosen),
        "baseline": {BASELINE: {name: value.as_dict() for name, value in others[BASELINE].items()}},
        "preset": {name: value.as_dict() for name, value in others[PRESET].items()},
    }
    start_writing(out, *_WRITTEN)
    chosen.write_scores(out / "scores.csv", false_positive_rate)
    chosen.write_null_scores(out / "null_scores.csv")
    for name, figure in drawn.items():
        plot.save(figure, out / name)
    write_json(out / "summary.json", summary)
    pages = [write_report(out).name] if report else []

    sys.stderr.flush()  # progress first
    given = f"{n_background} background and {counted(n_clean, 'clean image')}"
    console.say(f"Fashion-MNIST, protocol valid, eps {EPS}: {given}")
    for name, result in attacked.items():
        share = f" ({result.success_rate:.1%})" if result.n_tried else ""
        console.say(f"  {name}: {len(result.images)} of {counted(result.n_tried, 'attack')} succeeded{share}")
    console.say("\nAUROC [95 % interval] of the scan, with the options of the paper and with the chosen ones\n")
    console.say(_table(aurocs, others, chosen, names))
    console.say(f"\nflagged at {100 * false_positive_rate:g} % false positives, with the chosen options:")
    flagged = {space: {kind: p[space] for kind, p in (chosen.p_values or {}).items()} for space in shown}
    for title, p_values in (flagged | {PRESET: preset["p_values"]}).items():
        shares = {kind: np.mean(own <= false_positive_rate) for kind, own in p_values.items()}
        console.say(f"  {title}: " + ", ".join(f"{share:.1%} of {kind}" for kind, share in shares.items()))
    written = ", ".join(["scores.csv", "null_scores.csv", "summary.json", *drawn, *pages])
    console.say(f"\nwrote {written} to {out}/ in {time.monotonic() - started:.0f} s")
    return console.end(summary)


def _attack(images: np.ndarray, labels: np.ndarray, progress: bool) -> dict[str, Attacked]:
    classifier = load_pretrained("classifier")
    attacked = {}
    for name in ATTACKS:
        with tqdm(total=len(images), desc=f"attack: {name}", unit="image", disable=not progress) as bar:
            attacked[name] = attack(classifier, images, labels, name, eps=EPS, protocol="valid", on_batch=bar.update)
    return attacked


def _score_by_preset(
    autoencoder: keras.Model, background: np.ndarray, sets: Mapping[str, np.ndarray], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    pairs = presets.preset_pairs(autoencoder, load_pretrained("classifier"), random_state=seed)
    scored = presets.combined_by_preset(score(pairs, background, sets))
    scores = {kind: scored.of(kind, presets.PRESET) for kind in sets}
    null = scored.of(NULL, presets.PRESET)
    return {"scores": scores, "p_values": {kind: conformal_p_values(own, null) for kind, own in scores.items()}}


def _about_detectors(layers: ModelScanner, error: ModelScanner) -> dict[str, Any]:
    """Tell of each parameter what it is, for layers and for the error where they differ."""
    of_layers, of_error = about_detector(layers), about_detector(error)
    return {
        name: own if own == of_error[name] else {"layers": own, ERROR: of_error[name]}
        for name, own in of_layers.items()
    }


def _summary(aurocs: Mapping[str, Mapping[str, Auroc]], scanned: ScannedSets) -> dict[str, Any]:
    return {
        space: {"n_nodes": scanned.n_nodes[space], **{name: value.as_dict() for name, value in row.items()}}
        for space, row in aurocs.items()
    }


def _table(
    aurocs: Mapping[str, Mapping[str, Mapping[str, Auroc]]],
    others: Mapping[str, Mapping[str, Auroc]],
    scanned: ScannedSets,
    names: Sequence[str],
) -> str:
    header = ["space", "nodes", *(f"{name} {configuration}" for name in names for configuration in aurocs)]
    rows = [
        [space, str(n_nodes), *(str(aurocs[configuration][space][name]) for name in names for configuration in aurocs)]
        for space, n_nodes in scanned.n_nodes.items()
    ]
    rows += [[title, "", *(str(row[name]) for name in names for _ in aurocs)] for title, row in others.items()]
    return text_table(header, rows)


def _curves(
    scanned: Mapping[str, ScannedSets],
    others: Mapping[str, Mapping[str, np.ndarray]],
    spaces: Sequence[str],
    names: Sequence[str],
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Collect the scores of clean and of attacked images, for each attack and detector."""
    curves = {}
    for name in names:
        curves[name] = {
            f"{space}, {configuration}": (found.scans["clean"][space].scores, found.scans[name][space].scores)
            for space in spaces
            for configuration, found in scanned.items()
        }
        curves[name] |= {title: (scores["clean"], scores[name]) for title, scores in others.items()}
    return curves


def _examples(scanner: ModelScanner, error: ReconstructionError, images: np.ndarray) -> list[plot.Example]:
    """Scan the reconstruction error of a few images, and lay the subsets back onto the pixels."""
    detector, shape = scanner.detectors_[ERROR], error.node_shapes[ERROR][:2]
    values = error.transform(images)[ERROR]
    found = detector.scan(values, return_nodes=True)
    p_values = detector.p_values_of(found.scores)
    return [
        plot.Example(
            image=image[..., 0],
            error=values[n].reshape(shape),
            nodes=found.mask(n, shape),
            caption=f"score {found.scores[n]:.0f}, p = {p_values[n]:.3f}",
        )
        for n, image in enumerate(images)
    ]
