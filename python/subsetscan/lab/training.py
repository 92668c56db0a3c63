"""Training of the experiments' networks: checkpointed every epoch, resumed where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import datasets, networks
from .adversaries import Job, attack_all
from .kept import Kept

__all__ = ["train"]

POISON = Job("bim", 0.01, protocol="paper")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, and what it is judged by."""

    loss: str
    metrics: tuple[str, ...]
    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int
    target_is_input: bool


RECIPES = {
    # The paper, section A.4. Keras 3's default learning rate for Adadelta, 0.001, hardly trains at all.
    "autoencoder": Recipe("binary_crossentropy", (), "Adadelta", 1.0, 128, 100, target_is_input=True),
    "classifier": Recipe(
        "sparse_categorical_crossentropy", ("accuracy",), "Adam", 0.001, 128, 25, target_is_input=False
    ),
}


def train(
    network: str,
    dataset: str,
    out: Path | str,
    *,
    data: Path | str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    poisoned: float = 0.0,
    classifier: Path | str | None = None,
    n_processes: int = 2,
    verbose: int = 2,
) -> dict[str, Any]:
    """Train a network on a dataset's training images and judge it on its test images.

    Keras' global random state is seeded. A second call with the same folder continues where the first one was
    stopped, at an epoch's end; one that finished is not trained again.

    Parameters
    ----------
    network : {"autoencoder", "classifier"}
    dataset : {"fashion-mnist", "mnist"}
    out : path-like
        Folder for the network (a ``.keras`` file of the name that `subsetscan.lab.networks.file_name` gives, without
        optimizer state), its ``.csv`` log, one line per epoch, and its ``.json`` summary.
    data : path-like, optional
        Folder with the dataset's IDX files; see `subsetscan.lab.datasets.load`.
    epochs : int, optional
        The recipe's own number by default: 100 for the autoencoder, as in the paper, and 25 for the classifier.
    seed : int
    poisoned : float in [0, 1), default 0
        Share of the training images, drawn at random, that the basic iterative method's images of them replace (eps
        0.01, not clipped, successful or not; the paper, section 5): for an autoencoder.
    classifier : path-like, optional
        Keras model file: whom those attacks aim at.
    n_processes : int
        How many make them.
    verbose : int
        As in ``keras.Model.fit``.

    Returns
    -------
    dict
        The summary: network, dataset, seed, epochs, number of parameters and the test images' loss and metrics.
    """
    import keras

    if network not in RECIPES:
        raise ValueError(f"unknown network {network!r}; known are {', '.join(RECIPES)}")
    recipe = RECIPES[network]
    epochs = recipe.epochs if epochs is None else epochs
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not 0 <= poisoned < 1:
        raise ValueError(f"poisoned must be a share in [0, 1), got {poisoned}")
    if poisoned and (classifier is None or not recipe.target_is_input):
        raise ValueError("poisoned images are for an autoencoder, and need the classifier that they are aimed at")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stem = networks.file_name(network, dataset, seed, poisoned).removesuffix(".keras")
    asked = {"network": network, "dataset": dataset, "seed": seed, "epochs": epochs}
    if poisoned:
        asked |= {"poisoned": poisoned}
    summary_path = out / f"{stem}.json"
    if summary_path.is_file() and (out / f"{stem}.keras").is_file():
        finished = json.loads(summary_path.read_text(encoding="utf-8"))
        if {key: finished.get(key) for key in asked} == asked:
            return finished

    train_images, train_labels = datasets.load(dataset, "train", data)
    test_images, test_labels = datasets.load(dataset, "test", data)
    poison = Kept(out / f"{stem}-poison")
    if poisoned and classifier is not None:
        train_images = _poison(train_images, train_labels, poisoned, classifier, poison, seed, n_processes)
    train_targets, test_targets = (train_images, test_images) if recipe.target_is_input else (train_labels, test_labels)
    keras.utils.set_random_seed(seed)
    model = networks.NETWORKS[network]()
    model.compile(
        optimizer=getattr(keras.optimizers, recipe.optimizer)(learning_rate=recipe.learning_rate),
        loss=recipe.loss,
        metrics=list(recipe.metrics),
    )
    backup = out / f"{stem}-backup"
    log = out / f"{stem}.csv"
    model.fit(
        train_images,
        train_targets,
        batch_size=recipe.batch_size,
        epochs=epochs,
        validation_data=(test_images, test_targets),
        verbose=verbose,
        callbacks=[
            keras.callbacks.BackupAndRestore(backup),
            keras.callbacks.CSVLogger(log, append=backup.exists()),
        ],
    )
    judged = model.evaluate(test_images, test_targets, verbose=0, return_dict=True)
    summary = {
        **asked,
        "n_parameters": model.count_params(),
        **{f"test_{key}": float(value) for key, value in judged.items()},
    }
    _save_weights_only(model, network, out / f"{stem}.keras")
    summary_path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(poison.folder, ignore_errors=True)
    return summary


def _poison(
    images: np.ndarray,
    labels: np.ndarray,
    share: float,
    classifier: Path | str,
    kept: Kept,
    seed: int,
    n_processes: int,
) -> np.ndarray:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[: round(share * len(images))])
    made = attack_all(classifier, images[chosen], labels[chosen], [POISON], kept, n_processes=n_processes)[POISON]
    images = images.copy()
    images[chosen[made.sources]] = made.images
    return images


def _save_weights_only(model: Any, network: str, path: Path) -> None:
    """Save a fresh, uncompiled copy: the file then holds no optimizer state, and appears whole or not at all."""
    copy = networks.NETWORKS[network]()
    copy.set_weights(model.get_weights())
    partial = path.with_name(f"{path.stem}.partial.keras")
    copy.save(partial)
    os.replace(partial, path)
