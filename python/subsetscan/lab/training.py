"""Training of the experiments' networks: checkpointed every epoch, resumed where it stopped."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._files import atomic_write
from . import datasets, networks
from .adversaries import ATTACK_CODE, Job, attack_all
from .checkpoints import Checkpoints
from .experiment.files import write_json, write_rows
from .options import start_writing
from .result_cache import ResultCache, code_version, fingerprint, fingerprint_of_model

__all__ = ["RECIPES", "train"]

POISON = Job("bim", 0.01, protocol="paper")
# What makes a network of data and a recipe.
_CODE = ("subsetscan.lab.training", "subsetscan.lab.checkpoints", "subsetscan.lab.networks")


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

    Keras' global random state is seeded, at the start of each epoch. A second call with the same folder continues where
    the first one was stopped, at an epoch's end, and comes to the same network as one that is not stopped. What
    finished is not trained again, unless it was made from other data, another classifier, or by other code.

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
        The summary: network, dataset, seed, epochs, number of parameters, the test images' loss and metrics, and what
        all of it was made from.

    Raises
    ------
    OSError, ValueError
        If the network or the dataset is unknown or cannot be found, or a number is out of range.
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
    data_of = {split: datasets.load(dataset, split, data) for split in ("train", "test")}
    made_from = {
        **asked,
        "data": fingerprint(*data_of["train"], *data_of["test"]),
        "recipe": asdict(recipe),
        "backend": keras.backend.backend(),
        "code": code_version(*_CODE),
    }
    if poisoned and classifier is not None:
        poison = {"attack": asdict(POISON), "classifier": fingerprint_of_model(networks.load_model(classifier))}
        made_from |= {"poison": poison | {"code": code_version(*ATTACK_CODE)}}
    made_from = json.loads(json.dumps(made_from))  # as it is read again
    poison_cache = ResultCache(out / f"{stem}-poison")
    checkpoints = Checkpoints(out / f"{stem}-backup", made_from)
    if (finished := _finished(out, stem, made_from)) is not None:
        if checkpoints.of_this_training():  # a run that was killed after its summary left them
            _remove(poison_cache.folder, checkpoints.folder)
        return finished

    (train_images, train_labels), (test_images, test_labels) = data_of["train"], data_of["test"]
    if poisoned and classifier is not None:
        train_images = _poison(train_images, train_labels, poisoned, classifier, poison_cache, seed, n_processes)
    train_targets, test_targets = (train_images, test_images) if recipe.target_is_input else (train_labels, test_labels)
    keras.utils.set_random_seed(seed)
    model = networks.NETWORKS[network]()
    model.compile(
        optimizer=getattr(keras.optimizers, recipe.optimizer)(learning_rate=recipe.learning_rate),
        loss=recipe.loss,
        metrics=list(recipe.metrics),
    )
    log = checkpoints.restore(model)
    for epoch in range(len(log), epochs):
        # Each epoch draws from a seed of its own, so that one after a stop is what it would have been.
        keras.utils.set_random_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
        history = model.fit(
            train_images,
            train_targets,
            batch_size=recipe.batch_size,
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=(test_images, test_targets),
            verbose=verbose,
        ).history
        log.append({key: float(value) for key, (value,) in sorted(history.items())})
        checkpoints.save(model, log)
    judged = model.evaluate(test_images, test_targets, verbose=0, return_dict=True)
    summary = {
        **asked,
        "n_parameters": model.count_params(),
        **{f"test_{key}": float(value) for key, value in judged.items()},
        "made_from": made_from,
    }
    start_writing(out, f"{stem}.json")  # the last that is written: it says that the others are of one training
    _write_log(out / f"{stem}.csv", log)
    _save_weights_only(model, network, out / f"{stem}.keras")
    write_json(out / f"{stem}.json", summary)
    _remove(poison_cache.folder, checkpoints.folder)
    return summary


def _remove(*folders: Path) -> None:
    """Remove folders, that of the checkpoints last: it says whose they are."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _finished(out: Path, stem: str, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the summary of a training that was finished; None where there is none, or it was another."""
    path = out / f"{stem}.json"
    if path.is_file() and (out / f"{stem}.keras").is_file():
        try:
            finished: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            finished = {}
        before = finished.get("made_from", {})
        if before == made_from:
            return finished
        others = " and ".join(key for key in made_from if before.get(key) != made_from[key])
        why = f"was made from other {others}" if before else "does not say what it was made from"
        warnings.warn(f"{out / stem}.keras {why}: it is trained again and then replaced", stacklevel=3)
    return None


def _write_log(path: Path, log: Sequence[Mapping[str, float]]) -> None:
    write_rows(path, ["epoch", *log[0]], ({"epoch": epoch, **row} for epoch, row in enumerate(log)))


def _poison(
    images: np.ndarray,
    labels: np.ndarray,
    share: float,
    classifier: Path | str,
    cache: ResultCache,
    seed: int,
    n_processes: int,
) -> np.ndarray:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[: round(share * len(images))])
    made = attack_all(classifier, images[chosen], labels[chosen], [POISON], cache, n_processes=n_processes)[POISON]
    images = images.copy()
    images[chosen[made.sources]] = made.images
    return images


def _save_weights_only(model: Any, network: str, path: Path) -> None:
    """Save a fresh, uncompiled copy: the file then holds no optimizer state, and appears whole or not at all."""
    copy = networks.NETWORKS[network]()
    copy.set_weights(model.get_weights())
    with atomic_write(path) as temporary:
        copy.save(temporary)
