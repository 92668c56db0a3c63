"""The experiment on one dataset, in stages: each is kept as it finishes, and does nothing where it is kept already."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...background import Background
from ...spaces import KerasLayers, ReconstructionError, join
from .. import datasets, networks
from ..adversaries import Adversaries, Job, attack_all
from ..attacks import ATTACKS
from ..experiment.images import CLEAN, TARGETS, Images
from ..experiment.plan import Network
from ..experiment.proportions import Proportion, scan_proportions
from ..experiment.scoring import Pair, Pairs, Scores, score_once
from ..preset import combined_by_preset, preset_pairs
from ..progress import Progress
from ..result_cache import ResultCache
from ..training import RECIPES, train
from .attacks import Size, jobs_of
from .pairs import ERROR, FIRST, METRICS, baseline_pairs, paper_pairs, paper_scan

if TYPE_CHECKING:
    import keras

__all__ = ["GROUP_SIZE", "Experiment", "Stages"]

GROUP_SIZE = 100

# What an image takes, and what all groups take: as `seconds` in `subsetscan.lab.attacks`.
SECONDS = {"scores": 0.002, "preset": 0.001, "baselines": 0.002, "groups": 60.0}


@dataclass(kw_only=True)
class Stages(Progress):
    """What is to be done, where things are kept, and how progress is told.

    Parameters
    ----------
    cache : ResultCache
    networks_folder : Path
        Where trained networks are looked for first.
    data : Path or None
        Folder with a folder of IDX files for each dataset; see `subsetscan.lab.datasets.load`.
    size : Size
    protocols : tuple of str
    n_processes : int
        For attacks.
    progress, say
        As in `Progress`.
    """

    cache: ResultCache
    networks_folder: Path
    data: Path | None
    size: Size
    protocols: tuple[str, ...]
    n_processes: int


class Experiment:
    """The experiment on one dataset: its images, attacks, networks and scores.

    Parameters
    ----------
    name : {"fashion-mnist", "mnist"}
    stages : Stages
    """

    def __init__(self, name: str, stages: Stages) -> None:
        self.name = name
        self.stages = stages
        size = stages.size
        of_seeds = [Network(name, seed) for seed in size.seeds] if name == "fashion-mnist" else [Network(name)]
        poisoned = [Network(name, 0, share) for share in size.poisoned] if name == "fashion-mnist" else []
        self.variants = [*of_seeds, *poisoned]
        self._attacked: Images | None = None
        self._sets: dict[str, np.ndarray] | None = None
        self._scores: dict[str, Scores] = {}
        self._files: dict[str, Path] = {}
        # All that is needed is missed now, rather than after hours with another dataset.
        self._clean_images = Images.shared_out(*datasets.load_from(stages.data, name), size.split)
        needed = [self._stem("classifier", Network(name)), *(self._stem("autoencoder", one) for one in self.variants)]
        if any(networks.find(f"{stem}.keras", stages.networks_folder) is None for stem in needed):
            datasets.load_from(stages.data, name, "train")
        n_background, n = size.split.n_background, len(self._clean_images.targets)
        for protocol in stages.protocols:
            stages.expect(
                self._attacks(protocol), sum(n * ATTACKS[job.attack].seconds for job in jobs_of(protocol, size))
            )
        for variant in self.variants:
            stages.expect(self._stem("scores", variant), SECONDS["scores"] * (n_background + 10 * n))
            if not variant.poisoned:
                stages.expect(self._stem("preset", variant), SECONDS["preset"] * (n_background + 10 * n))
        stages.expect(self._stem("baselines", Network(name)), SECONDS["baselines"] * (n_background + 10 * n))
        stages.expect(self._groups, SECONDS["groups"])

    def _attacks(self, protocol: str) -> str:
        return f"{self.name}: attacks, {protocol}"

    def _stem(self, kind: str, variant: Network) -> str:
        return networks.file_name(kind, self.name, variant.seed, variant.poisoned).removesuffix(".keras")

    @property
    def _groups(self) -> str:
        return f"{self.name}: groups"

    def attacked_images(self) -> Images:
        """Attack the test images, once, and return them all; the classifier is trained where there is none."""
        if self._attacked is None:
            attacked: dict[Job, Adversaries] = {}
            for protocol in self.stages.protocols:
                attacked |= self._attack(protocol)
            self._attacked = replace(self._clean_images, attacked=attacked)
        return self._attacked

    def _attack(self, protocol: str) -> dict[Job, Adversaries]:
        images, asked = self._clean_images, jobs_of(protocol, self.stages.size)
        classifier = self.find_or_train("classifier", Network(self.name))
        with self.stages.stage(self._attacks(protocol), len(images.targets) * len(asked)) as done:
            return attack_all(
                classifier,
                images.targets,
                images.labels,
                asked,
                ResultCache(self.stages.cache.folder / self.name / "attacks"),
                n_processes=self.stages.n_processes,
                on_images=done,
            )

    def sets_of(self, variant: Network) -> dict[str, np.ndarray]:
        """Attack as `attacked_images` does, and return the sets that are scored with an autoencoder.

        With one that was trained on poisoned images they are the paper's BIM images only.
        """
        if self._sets is None:
            self._sets = self.attacked_images().sets()
        if not variant.poisoned:
            return self._sets
        return {kind: own for kind, own in self._sets.items() if kind in (CLEAN, TARGETS) or "bim-0.01" in kind}

    def summaries(self) -> list[dict[str, object]]:
        """Return what is known of the networks from their training."""
        files = [self.find_or_train("classifier", Network(self.name))]
        files += [self.find_or_train("autoencoder", variant) for variant in self.variants]
        notes = [file.with_suffix(".json") for file in files]
        return [json.loads(note.read_text(encoding="utf-8")) for note in notes if note.is_file()]

    def find_or_train(self, network: str, variant: Network) -> Path:
        """Find a trained network, or train it: one that was trained in an earlier run is used where nothing changed."""
        name = networks.file_name(network, self.name, variant.seed, variant.poisoned)
        if name not in self._files:
            found = networks.find(name, self.stages.networks_folder)
            self._files[name] = self._train(network, variant, name) if found is None else found
        return self._files[name]

    def _train(self, network: str, variant: Network, name: str) -> Path:
        folder = self.stages.cache.folder / "networks"
        if not (folder / name).is_file():
            self.stages.say(
                f"there is no {name} in {self.stages.networks_folder}: it is trained in {folder}, "
                f"{RECIPES[network].epochs} epochs, which takes a while"
            )
        classifier = self.find_or_train("classifier", Network(self.name)) if variant.poisoned else None
        train(
            network,
            self.name,
            folder,
            data=datasets.folder_in(self.stages.data, self.name),
            seed=variant.seed,
            poisoned=variant.poisoned,
            classifier=classifier,
            verbose=2 if self.stages.progress else 0,
        )
        return folder / name

    def load_autoencoder(self, variant: Network) -> keras.Model:
        """Open an autoencoder; it is trained where there is none."""
        return networks.load_model(self.find_or_train("autoencoder", variant))

    def load_classifier(self) -> keras.Model:
        """Open the classifier that was attacked; it is trained where there is none."""
        return networks.load_model(self.find_or_train("classifier", Network(self.name)))

    def scores(self, variant: Network) -> Scores:
        """Scan all layers and errors of an autoencoder; see `sets_of`."""
        autoencoder = self.load_autoencoder(variant)
        subsets = [paper_scan(FIRST)]
        return self._scored("scores", variant, lambda: paper_pairs(autoencoder), [autoencoder], subsets=subsets)

    def baselines(self) -> Scores:
        """Score all sets by what a scan has to beat."""
        models = self.load_autoencoder(Network(self.name)), self.load_classifier()
        return self._scored("baselines", Network(self.name), lambda: baseline_pairs(*models), models)

    def preset(self, variant: Network) -> Scores:
        """Score all sets by the recommended preset."""
        models = self.load_autoencoder(variant), self.load_classifier()
        return combined_by_preset(self._scored("preset", variant, lambda: preset_pairs(*models), models))

    def _scored(
        self,
        kind: str,
        variant: Network,
        pairs: Callable[[], Pairs],
        models: Sequence[keras.Model],
        subsets: Sequence[Pair] = (),
    ) -> Scores:
        name = self._stem(kind, variant)
        if name not in self._scores:
            sets, background = self.sets_of(variant), self._clean_images.background
            with self.stages.stage(name, 2 * len(background) + sum(map(len, sets.values()))) as done:
                self._scores[name] = score_once(
                    self.stages.cache,
                    f"{self.name}/{name}",
                    pairs,
                    background,
                    sets,
                    models=models,
                    subsets=subsets,
                    on_images=done,
                )
        return self._scores[name]

    def proportions(self, job: Job, size: int, n_groups: int = 100) -> dict[str, list[Proportion]]:
        """Scan groups of a fixed size with more and more attacked images, in the first layer and over the error."""
        autoencoder = self.load_autoencoder(Network(self.name))
        errors = ReconstructionError(autoencoder, METRICS[0], name=ERROR)
        (space,) = join([KerasLayers(autoencoder, [FIRST]), errors])
        own = self.attacked_images()
        background, clean, attacked = (
            space.transform(images) for images in (own.background, own.clean, own.successes(job))
        )
        found = {}
        with self.stages.stage(self._groups, len(space.names)) as done:
            for name in space.names:
                found[name] = scan_proportions(
                    Background(background[name]), clean[name], attacked[name], size=size, n_groups=n_groups, restarts=4
                )
                done(1)
        return found
