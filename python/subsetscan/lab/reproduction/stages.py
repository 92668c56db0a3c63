"""The stages of a reproduction: each is kept as it finishes, and does nothing where it is kept already."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...background import Background
from ...spaces import KerasLayers, ReconstructionError, join
from .. import datasets, networks
from ..adversaries import Job, attack_all
from ..kept import Arrays, Kept, fingerprint, fingerprint_of_model
from ..preset import score_by_preset
from ..progress import Progress
from ..proportions import Proportion, scan_proportions
from ..training import RECIPES, train
from .baselines import score_baselines
from .images import Images
from .plan import ERROR, FIRST, Network, Size, jobs
from .scores import Scores, scan_everything, spaces_of

if TYPE_CHECKING:
    import keras

__all__ = ["GROUP_SIZE", "Dataset", "Stages"]

GROUP_SIZE = 100

# What an image takes, on two cores, roughly, and what all groups take: for the estimate of the time that is left.
SECONDS = {
    "fgsm": 0.001, "bim": 0.035, "deepfool": 0.06, "scores": 0.002, "preset": 0.001, "baselines": 0.002, "groups": 60.0,
}  # fmt: skip


@dataclass(kw_only=True)
class Stages(Progress):
    """What is to be done, where things are kept, and how progress is told.

    Parameters
    ----------
    kept : Kept
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

    kept: Kept
    networks_folder: Path
    data: Path | None
    size: Size
    protocols: tuple[str, ...]
    n_processes: int


class Dataset:
    """One dataset: its images, attacks, networks and scores.

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
        self._scores: dict[Network, Scores] = {}
        self._files: dict[str, Path] = {}
        # All that is needed is missed now, rather than after hours with another dataset.
        self._split = Images.split(*datasets.load_from(stages.data, name), size)
        needed = [self._stem("classifier", Network(name)), *(self._stem("autoencoder", one) for one in self.variants)]
        if any(networks.find(f"{stem}.keras", stages.networks_folder) is None for stem in needed):
            datasets.load_from(stages.data, name, "train")
        n = size.end - size.first_target
        for protocol in stages.protocols:
            stages.expect(self._attacks(protocol), sum(n * SECONDS[job.attack] for job in jobs(protocol, size)))
        for variant in self.variants:
            stages.expect(self._stem("scores", variant), SECONDS["scores"] * (size.n_background + 10 * n))
            if not variant.poisoned:
                stages.expect(self._stem("preset", variant), SECONDS["preset"] * (size.n_background + 10 * n))
        stages.expect(self._baselines, SECONDS["baselines"] * (size.n_background + 10 * n))
        stages.expect(self._groups, SECONDS["groups"])

    def _attacks(self, protocol: str) -> str:
        return f"{self.name}: attacks, {protocol}"

    def _stem(self, kind: str, variant: Network) -> str:
        return networks.file_name(kind, self.name, variant.seed, variant.poisoned).removesuffix(".keras")

    @property
    def _baselines(self) -> str:
        return f"{self.name}: baselines"

    @property
    def _groups(self) -> str:
        return f"{self.name}: groups"

    @cached_property
    def images(self) -> Images:
        """The test images and what the attacks made of them."""
        size, kept, images = self.stages.size, self.stages.kept, self._split
        classifier = self.network_file("classifier", Network(self.name))
        for protocol in self.stages.protocols:
            asked = jobs(protocol, size)
            n = len(images.targets)
            with self.stages.stage(self._attacks(protocol), n * len(asked)) as done:
                images.attacked.update(
                    attack_all(
                        classifier,
                        images.targets,
                        images.labels,
                        asked,
                        Kept(kept.folder / self.name / "attacks"),
                        n_processes=self.stages.n_processes,
                        on_images=done,
                    )
                )
        return images

    @cached_property
    def sets(self) -> dict[str, np.ndarray]:
        """Every set of images that is scored."""
        return self.images.sets()

    def sets_of(self, variant: Network) -> dict[str, np.ndarray]:
        """Those that an autoencoder scores: trained on poisoned images, the paper's BIM images only."""
        if not variant.poisoned:
            return self.sets
        return {kind: self.sets[kind] for kind in self.sets if kind in ("clean", "targets") or "bim-0.01" in kind}

    def summaries(self) -> list[dict[str, object]]:
        """Return what is known of the networks from their training."""
        files = [self.network_file("classifier", Network(self.name))]
        files += [self.network_file("autoencoder", variant) for variant in self.variants]
        notes = [file.with_suffix(".json") for file in files]
        return [json.loads(note.read_text(encoding="utf-8")) for note in notes if note.is_file()]

    def network_file(self, network: str, variant: Network) -> Path:
        """Find a trained network, or train it: one that was trained in an earlier run is used where nothing changed."""
        name = networks.file_name(network, self.name, variant.seed, variant.poisoned)
        if name not in self._files:
            found = networks.find(name, self.stages.networks_folder)
            self._files[name] = self._train(network, variant, name) if found is None else found
        return self._files[name]

    def _train(self, network: str, variant: Network, name: str) -> Path:
        folder = self.stages.kept.folder / "networks"
        if not (folder / name).is_file():
            self.stages.say(
                f"there is no {name} in {self.stages.networks_folder}: it is trained in {folder}, "
                f"{RECIPES[network].epochs} epochs, which takes a while"
            )
        classifier = self.network_file("classifier", Network(self.name)) if variant.poisoned else None
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

    def autoencoder(self, variant: Network) -> keras.Model:
        """Open an autoencoder."""
        return networks.load_model(self.network_file("autoencoder", variant))

    @cached_property
    def classifier(self) -> keras.Model:
        """The classifier that was attacked."""
        return networks.load_model(self.network_file("classifier", Network(self.name)))

    def scores(self, variant: Network) -> Scores:
        """Scan all sets by an autoencoder; those trained on poisoned images only look at the paper's BIM images."""
        if variant in self._scores:
            return self._scores[variant]
        sets = self.sets_of(variant)
        autoencoder = self.autoencoder(variant)
        n_images = 2 * len(self.images.background) + sum(map(len, sets.values()))
        name = self._stem("scores", variant)
        with self.stages.stage(name, n_images) as done:
            arrays = self.stages.kept.get_or_make(
                f"{self.name}/{name}",
                self._made_from(sets, autoencoder),
                lambda: scan_everything(spaces_of(autoencoder), self.images.background, sets, done),
            )
        self._scores[variant] = Scores(arrays)
        return self._scores[variant]

    def baselines(self) -> Arrays:
        """Score all sets by what a scan has to beat."""
        autoencoder = self.autoencoder(Network(self.name))
        n_images = len(self.images.background) + sum(map(len, self.sets.values()))
        with self.stages.stage(self._baselines, n_images) as done:
            return self.stages.kept.get_or_make(
                f"{self.name}/baselines",
                self._made_from(self.sets, autoencoder, self.classifier),
                lambda: score_baselines(autoencoder, self.classifier, self.images.background, self.sets, done),
            )

    def preset(self, variant: Network) -> Arrays:
        """Score all sets by the recommended preset."""
        autoencoder = self.autoencoder(variant)
        n_images = len(self.images.background) + sum(map(len, self.sets.values()))
        name = self._stem("preset", variant)
        with self.stages.stage(name, n_images) as done:
            return self.stages.kept.get_or_make(
                f"{self.name}/{name}",
                self._made_from(self.sets, autoencoder, self.classifier),
                lambda: score_by_preset(autoencoder, self.classifier, self.images.background, self.sets, done),
            )

    def proportions(self, job: Job, size: int, n_groups: int = 100) -> dict[str, list[Proportion]]:
        """Scan groups of a fixed size with more and more attacked images, in the first layer and over the error."""
        autoencoder = self.autoencoder(Network(self.name))
        errors = ReconstructionError(autoencoder, "binary-crossentropy", name=ERROR)
        (space,) = join([KerasLayers(autoencoder, [FIRST]), errors])
        background, clean, attacked = (
            space.transform(images) for images in (self.images.background, self.sets["clean"], self.sets[job.name])
        )
        found = {}
        with self.stages.stage(self._groups, len(space.names)) as done:
            for name in space.names:
                found[name] = scan_proportions(
                    Background(background[name]), clean[name], attacked[name], size=size, n_groups=n_groups, restarts=4
                )
                done(1)
        return found

    def _made_from(self, sets: dict[str, np.ndarray], *models: keras.Model) -> dict[str, object]:
        return {
            "models": [fingerprint_of_model(model) for model in models],
            "background": fingerprint(self.images.background),
            "sets": {kind: fingerprint(images) for kind, images in sets.items()},
        }
