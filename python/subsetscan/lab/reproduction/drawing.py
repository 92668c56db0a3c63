"""The paper's figures, from a dataset's images and scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...background import Background
from ...plot import Example, anomalous_nodes, densities, proportions, roc_and_densities, save
from ...spaces import KerasLayers, ReconstructionError
from ..adversaries import Job
from ..experiment.images import CLEAN
from ..experiment.plan import Network
from ..experiment.scoring import Scores
from . import paper_figures as paper
from .attacks import PAPER_STRENGTH
from .pairs import ERROR, FIRST, METRICS, PAPER, mean_of, paper_scan
from .stages import Experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..experiment.proportions import Proportion

__all__ = ["draw", "draw_groups"]

N_SHOWN = 6

CLASSES = {
    "fashion-mnist": (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    "mnist": tuple("0123456789"),
}  # fmt: skip


def draw(part: Experiment, folder: Path) -> list[str]:
    """Draw figures 1 to 9 of a dataset, those of scores for each protocol, and return their file names."""
    network = Network(part.name)
    scores = part.scores(network)
    drawn: dict[str, Figure] = {}
    for protocol in part.stages.protocols:
        asked = {name: Job(name, eps, protocol) for name, eps in PAPER_STRENGTH.items()}
        asked = {name: job for name, job in asked.items() if len(part.attacked_images().sources(job))}
        if not asked:
            continue
        main = "bim" if "bim" in asked else next(iter(asked))
        found = _of_scores(part, scores, asked, main)
        if protocol == part.stages.protocols[0]:
            found |= _of_images(part, scores, asked, main)
        drawn |= {f"figure-{number}-{protocol}": found[number] for number in sorted(found)}
    autoencoder = part.load_autoencoder(network)
    drawn["figure-8"] = paper.architecture(autoencoder)
    layers = KerasLayers(autoencoder)
    drawn["figure-9"] = paper.activation_histograms(layers.transform(part.attacked_images().background[:500]))
    for name, figure in drawn.items():
        save(figure, folder / f"{part.name}-{name}.png")
    return [f"{part.name}-{name}.png" for name in drawn]


def _of_scores(part: Experiment, scores: Scores, asked: dict[str, Job], main: str) -> dict[int, Figure]:
    kinds = {CLEAN: CLEAN} | {name: job.name for name, job in asked.items()}
    pair = {CLEAN: CLEAN, main: asked[main].name}

    def scans(space: str, of: dict[str, str]) -> dict[str, np.ndarray]:
        return {name: scores.of(kind, paper_scan(space)) for name, kind in of.items()}

    def curves(space: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        found = scans(space, kinds)
        return {name: (found[CLEAN], values) for name, values in found.items() if name != CLEAN}

    sizes, alphas = (
        {name: scores.of(kind, paper_scan(FIRST), what) for name, kind in pair.items()} for what in ("size", "alpha")
    )
    layers = KerasLayers(part.load_autoencoder(Network(part.name))).names
    return {
        1: densities({layer: scans(layer, pair) for layer in layers}),
        2: paper.subset_shapes(sizes, alphas, scans(FIRST, pair)),
        3: roc_and_densities(curves(FIRST), FIRST),
        6: roc_and_densities(curves(ERROR), ERROR),
    }


def _of_images(part: Experiment, scores: Scores, asked: dict[str, Job], main: str) -> dict[int, Figure]:
    pair = {CLEAN: CLEAN, main: asked[main].name}
    return {
        4: _error_maps(part, scores, asked[main], pair),
        5: _anomalous_nodes(part, asked[main]),
        7: paper.samples({name: _samples(part, job) for name, job in asked.items()}),
    }


def draw_groups(groups: dict[str, list[Proportion]], kind: str, size: int) -> Figure:
    """Draw how group scores rise with the share of attacked images."""
    panels = {
        f"{space}, groups of {size}": {
            kind: ([100 * one.n_anomalous / size for one in found], [one.scores for one in found])
        }
        for space, found in groups.items()
    }
    return proportions(panels)


def _error_maps(part: Experiment, scores: Scores, job: Job, pair: dict[str, str]) -> Figure:
    autoencoder = part.load_autoencoder(Network(part.name))
    error = ReconstructionError(autoencoder, METRICS[0])
    rows = {}
    for kind, images in _originals_and_attacked(part, job).items():
        (values,) = error.transform(images).values()
        rebuilt = np.asarray(autoencoder.predict(images, verbose=0))
        rows[kind] = [
            (image[..., 0], built[..., 0], value.reshape(image.shape[:2]))
            for image, built, value in zip(images, rebuilt, values, strict=True)
        ]
    means = {name: scores.of(kind, mean_of(METRICS[0])) for name, kind in pair.items()}
    return paper.error_maps(rows, means, title="binary cross-entropy")


def _anomalous_nodes(part: Experiment, job: Job) -> Figure:
    error = ReconstructionError(part.load_autoencoder(Network(part.name)), METRICS[0])
    (values,) = error.transform(part.attacked_images().background).values()
    background = Background(values)
    rows = {}
    for kind, images in _originals_and_attacked(part, job).items():
        (values,) = error.transform(images).values()
        found = background.scan(values, statistic=PAPER[0], tail=PAPER[1], return_nodes=True)
        shape = images.shape[1:3]
        rows[kind] = [
            Example(image[..., 0], values[n].reshape(shape), found.mask(n, shape), f"score {found.scores[n]:.0f}")
            for n, image in enumerate(images)
        ]
    return anomalous_nodes(rows)


def _originals_and_attacked(part: Experiment, job: Job) -> dict[str, np.ndarray]:
    sources = part.attacked_images().sources(job)[:N_SHOWN]
    return {CLEAN: part.attacked_images().targets[sources], job.attack: part.attacked_images().successes(job)[:N_SHOWN]}


def _samples(part: Experiment, job: Job) -> list[tuple[np.ndarray, str]]:
    made = part.attacked_images().attacked[job]
    classes = CLASSES[part.name]
    return [
        (made.images[n, ..., 0], f"{classes[made.labels[n]]} \N{RIGHTWARDS ARROW} {classes[made.predictions[n]]}")
        for n in np.flatnonzero(made.successful)[:N_SHOWN]
    ]
