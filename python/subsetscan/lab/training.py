"""Training of the experiments' networks: checkpointed every epoch, resumed where it stopped."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import datasets, networks

__all__ = ["train"]


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
        Folder for ``{dataset}-{network}.keras`` (without optimizer state), its ``.csv`` log, one line per epoch,
        and its ``.json`` summary.
    data : path-like, optional
        Folder with the dataset's IDX files; see `subsetscan.lab.datasets.load`.
    epochs : int, optional
        The recipe's own number by default: 100 for the autoencoder, as in the paper, and 25 for the classifier.
    seed : int
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
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{dataset}-{network}"
    asked = {"network": network, "dataset": dataset, "seed": seed, "epochs": epochs}
    summary_path = out / f"{stem}.json"
    if summary_path.is_file() and (out / f"{stem}.keras").is_file():
        finished = json.loads(summary_path.read_text(encoding="utf-8"))
        if {key: finished.get(key) for key in asked} == asked:
            return finished

    train_images, train_labels = datasets.load(dataset, "train", data)
    test_images, test_labels = datasets.load(dataset, "test", data)
    train_targets, test_targets = (train_images, test_images) if recipe.target_is_input else (train_labels, test_labels)
    keras.utils.set_random_seed(seed)
    model = networks.NETWORKS[network]()
    model.compile(
        optimizer=getattr(keras.optimizers, recipe.optimizer)(learning_rate=recipe.learning_rate),
        loss=recipe.loss,
        metrics=list(recipe.metrics),
    )
    backup = out / f"{stem}-seed{seed}-backup"
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
    return summary


def _save_weights_only(model: Any, network: str, path: Path) -> None:
    """Save a fresh, uncompiled copy: the file then holds no optimizer state, and appears whole or not at all."""
    copy = networks.NETWORKS[network]()
    copy.set_weights(model.get_weights())
    partial = path.with_name(f"{path.stem}.partial.keras")
    copy.save(partial)
    os.replace(partial, path)
