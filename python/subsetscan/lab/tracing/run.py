"""`subsetscan trace`: the slides' attacks, detected by feature responses and by other means."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...detectors import LocalSpatialEntropy
from ...plot import Response, responses, roc_and_densities, save
from ...spaces import FeatureResponse
from .. import networks
from ..adversaries import Job, attack_all
from ..attacks import ATTACKS, PROTOCOLS
from ..comparators import HiddenLayer
from ..comparators.mmd import mmd_power
from ..experiment.cells import Cell, attack_rows, cells, write_csv
from ..experiment.files import write_json
from ..experiment.images import CLEAN
from ..experiment.plan import DATASETS, Network
from ..experiment.scoring import Scores, score_once
from ..markdown import check_renders
from ..options import check_known, start_writing
from ..outputs import raw_outputs
from ..preset import PRESET, combined_by_preset, preset_pairs
from ..progress import Progress
from ..result_cache import ResultCache
from .attacks import STRENGTHS, jobs_of
from .overall import Overall, overall
from .page import SIZES, write_page
from .pairs import DETECTORS, ENTROPY, pairs_of, seconds_per_thousand
from .subject import Subject, of_dataset, of_model

if TYPE_CHECKING:
    import keras

__all__ = ["trace"]

_N_SHOWN = 6
_N_TESTS = 100  # of two sets each
_SECONDS_SCORED = 0.004  # as `seconds` in `subsetscan.lab.attacks`


def trace(
    out: Path | str,
    *,
    dataset: Sequence[str] = DATASETS,
    model: Path | str | None = None,
    images: Path | str | None = None,
    labels: Path | str | None = None,
    preprocessing: str = "none",
    safe_mode: bool = True,
    protocol: Sequence[str] = PROTOCOLS,
    attacks: Mapping[str, float] | None = None,
    n_images: int | None = None,
    n_slow: int | None = 100,
    networks_folder: Path | str = "networks",
    kept: Path | str | None = None,
    data: Path | str | None = None,
    quick: bool = False,
    n_processes: int = 2,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Attack a classifier in the slides' five ways, and detect that by feature responses and by other means.

    Attacks and scores are kept as they finish, and made again where what they came from changed.

    Parameters
    ----------
    out : path-like
        Folder for ``tracing.md`` and ``tracing/``: the figures, and every number as CSV and JSON.
    dataset : sequence of {"fashion-mnist", "mnist"}
        Whose classifiers, where no model is given.
    model, images : path-like, optional
        A Keras classifier, and an ``.npy`` file or a folder of its images: instead of the datasets.
    labels : path-like, optional
        ``.npy`` file of the images' classes; what the model sees by default.
    preprocessing : str
        What the model expects of its pixels; see `with_preprocessing`.
    safe_mode : bool
        Whether to refuse a model file that holds code; see `subsetscan.lab.networks.load_model`.
    protocol : sequence of {"valid", "paper"}
        See `subsetscan.lab.attacks`.
    attacks : mapping of str to float, optional
        The strength of each attack; the slides' five by default. See `subsetscan.lab.attacks.attack`.
    n_images, n_slow : int, optional
        On how many images the attacks are tried at most, and the slow ones (one pixel, boundary); all where None.
    networks_folder : path-like
        Folder with trained networks.
    kept : path-like, optional
        Folder for what is kept between runs; ``kept`` in `out` by default.
    data : path-like, optional
        Folder with a folder of IDX files for each dataset; see `subsetscan.lab.datasets.load`.
    quick : bool
        A small version: few images, and fewer for the slow attacks.
    n_processes : int
        For attacks.
    progress : bool
    say : callable
        Takes lines of the report.

    Returns
    -------
    dict
        The content of ``tracing/results.json``.

    Raises
    ------
    ValueError
        If a dataset, a protocol or an attack is unknown or none is given, a model comes without images or images
        without a model, or what they hold does not fit.
    OSError
        If a file is not there, or cannot be read or written.
    """
    check_known(dataset, DATASETS)
    check_known(protocol, PROTOCOLS)
    if (model is None) != (images is None):
        raise ValueError(f"a model and its images go together: got {'no model' if model is None else 'no images'}")
    counts = {"n_images": n_images, "n_slow": n_slow, "n_processes": n_processes}
    for what, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{what} must be at least 1, got {count}")
    check_renders(figures=True)
    started = time.monotonic()
    out = Path(out)
    cache = ResultCache(out / "kept" if kept is None else kept)
    if model is not None and images is not None:
        truth = None if labels is None else Path(labels)
        subjects = [of_model(Path(model), Path(images), truth, preprocessing, cache, safe_mode=safe_mode)]
    else:
        folder = None if data is None else Path(data)
        subjects = [of_dataset(name, Path(networks_folder), folder, quick=quick) for name in dict.fromkeys(dataset)]
    if quick:
        n_slow = min(4, n_slow or 4)
    start_writing(out, "tracing.md")
    own = [f"*-{one}-{what}.png" for one in PROTOCOLS for what in ("entropy", *ATTACKS)]
    start_writing(out / "tracing", "cells.csv", "overall.csv", "results.json", *own)
    stages = Progress(progress=progress, say=say)
    tracers = [
        _Tracer(
            subject,
            one,
            jobs_of(one, attacks or STRENGTHS, n_images, n_slow),
            cache,
            stages,
            n_processes,
        )
        for subject in subjects
        for one in dict.fromkeys(protocol)
    ]
    rows: list[Cell] = []
    averages: list[Overall] = []
    results: dict[str, Any] = {"subjects": {}, "protocols": list(dict.fromkeys(protocol)), "quick": quick}
    for tracer in tracers:
        found = tracer.run(out / "tracing")
        rows += found.pop("cells")
        averages += found.pop("overall")
        results["subjects"].setdefault(tracer.subject.name, {"protocols": {}})["protocols"][tracer.protocol] = found
    for subject in subjects:
        results["subjects"][subject.name]["seconds_per_1000"] = seconds_per_thousand(
            subject.load_classifier(), subject.images.background[:1000]
        )
    results["seconds"] = {**stages.seconds, "all": time.monotonic() - started}
    write_csv(out / "tracing" / "cells.csv", rows)
    write_csv(out / "tracing" / "overall.csv", averages, Overall)
    write_json(out / "tracing" / "results.json", results)
    write_page(out / "tracing.md", results, rows, averages)
    say(f"wrote tracing.md and tracing/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results


class _Tracer:
    """One subject under one protocol."""

    def __init__(
        self,
        subject: Subject,
        protocol: str,
        asked: list[Job],
        cache: ResultCache,
        stages: Progress,
        n_processes: int,
    ) -> None:
        self.subject = subject
        self.protocol = protocol
        self.images = subject.images  # to which those that are attacked are added
        self.asked = asked
        self.cache = cache
        self.stages = stages
        self.n_processes = n_processes
        self._attacks, self._scores = (f"{subject.name}: {what}, {protocol}" for what in ("attacks", "scores"))
        n_targets = len(subject.images.targets)
        counts = {job.attack: min(n_targets, job.n_images or n_targets) for job in asked}
        stages.expect(self._attacks, sum(n * ATTACKS[attack].seconds for attack, n in counts.items()))
        n_scored = len(subject.images.background) + 2 * sum(counts.values())
        stages.expect(self._scores, n_scored * _SECONDS_SCORED)

    def run(self, folder: Path) -> dict[str, Any]:
        """Attack, score, measure and draw."""
        subject = self.subject
        with self.stages.stage(self._attacks, len(self.asked) * len(subject.images.targets)) as done:
            attacked = attack_all(
                subject.classifier,
                subject.images.targets,
                subject.images.labels,
                self.asked,
                ResultCache(self.cache.folder / subject.cache_folder / "attacks"),
                n_processes=self.n_processes,
                safe_mode=subject.safe_mode,
                on_images=done,
            )
        images = self.images = replace(subject.images, attacked=attacked)
        classifier = subject.load_classifier()
        sets = images.sets()
        with self.stages.stage(self._scores, 2 * len(images.background) + sum(map(len, sets.values()))) as done:
            scores = self._scored(classifier, sets, done)
        pairs = [*DETECTORS, *[PRESET] * (subject.autoencoder is not None)]
        network = Network(subject.name)
        self._draw(classifier, scores, folder)
        rows = list(cells(images, self.asked, network, scores, pairs))
        return {
            "cells": rows,
            "overall": [overall(subject.name, self.protocol, pair, scores, rows, self.asked) for pair in pairs],
            "attacks": [
                row | self._confidence(classifier, job)
                for job, row in zip(self.asked, attack_rows(subject.name, images), strict=True)
            ],
            "mmd": self._mmd(classifier),
        }

    def _scored(self, classifier: keras.Model, sets: dict[str, np.ndarray], done: Callable[[int], object]) -> Scores:
        background, folder = self.images.background, self.subject.cache_folder
        scores = score_once(
            self.cache,
            f"{folder}/tracing-{self.protocol}",
            lambda: pairs_of(classifier),
            background,
            sets,
            models=[classifier],
            on_images=done,
        )
        if self.subject.autoencoder is None:
            return scores
        autoencoder = networks.load_model(self.subject.autoencoder)
        return scores | combined_by_preset(
            score_once(
                self.cache,
                f"{folder}/tracing-preset-{self.protocol}",
                lambda: preset_pairs(autoencoder, classifier),
                background,
                sets,
                models=[classifier, autoencoder],
            )
        )

    def _confidence(self, classifier: keras.Model, job: Job) -> dict[str, float]:
        """Average the probabilities of the true class and of the one that is seen after successful attacks."""
        made = self.images.attacked[job]
        good = made.successful
        if not good.any():
            return {"true_confidence": float("nan"), "target_confidence": float("nan")}
        probabilities = made.outputs.probabilities(raw_outputs(classifier, made.images[good]))
        rows = np.arange(len(probabilities))
        return {
            "true_confidence": float(probabilities[rows, made.labels[good]].mean()),
            "target_confidence": float(probabilities[rows, made.predictions[good]].mean()),
        }

    def _mmd(self, classifier: keras.Model) -> list[dict[str, Any]]:
        """Measure how often a test of whole sets tells attacked images from clean ones, and clean from clean ones."""
        images = self.images
        hidden = HiddenLayer(classifier)
        # Sources are shared out at random: test sets lie in an order, of who wrote a digit, say.
        attacked = np.random.default_rng(0).permutation(len(images.targets)) % 2 == 1
        clean = images.targets[~attacked]
        sets = {"clean": images.targets[attacked]}
        sets |= {job.name: images.successes(job)[attacked[images.sources(job)]] for job in self.asked}
        found = []
        for space, read in (("pixels", lambda own: own), ("last hidden layer", hidden.hidden)):
            values = read(clean)
            for kind, own in sets.items():
                powers = {
                    str(size): mmd_power(values, read(own), size, n_repeats=_N_TESTS)
                    if size <= min(len(own), len(clean))
                    else float("nan")
                    for size in SIZES
                }
                found.append({"space": space, "set": kind, **powers})
        return found

    def _draw(self, classifier: keras.Model, scores: Scores, folder: Path) -> None:
        images = self.images
        space = FeatureResponse(classifier)
        (shape,) = space.node_shapes.values()
        detector = LocalSpatialEntropy(shape)

        def examples(pictures: np.ndarray, labels: np.ndarray) -> list[Response]:
            maps = space.responses(pictures)
            entropy = detector.entropy_map(maps)
            captions = [f"seen as {label}\n{own.mean():.3f} bits" for label, own in zip(labels, entropy, strict=True)]
            return [Response(*parts) for parts in zip(pictures, maps, entropy, captions, strict=True)]

        def stem(what: str) -> Path:
            return folder / f"{self.subject.name}-{self.protocol}-{what}.png"

        for job in self.asked:
            made = images.attacked[job]
            shown = np.flatnonzero(made.successful)[:_N_SHOWN]
            if len(shown):
                originals = made.sources[shown]
                rows = {
                    "clean": examples(images.targets[originals], made.first_predictions[originals]),
                    job.attack: examples(made.images[shown], made.predictions[shown]),
                }
                save(responses(rows), stem(job.attack))
        curves = {
            job.attack: (scores.of(CLEAN, ENTROPY), scores.of(job.name, ENTROPY))
            for job in self.asked
            if len(images.sources(job)) > 1
        }
        if curves:
            save(roc_and_densities(curves, "entropy of the response, bits"), stem("entropy"))
