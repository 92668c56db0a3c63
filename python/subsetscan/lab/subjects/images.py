"""The package's small networks: ``classifier`` and ``autoencoder`` on Fashion-MNIST, and ``mnist``, a classifier."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...spaces import KerasLayers
from ..attacks import attack
from ..comparators import FeatureSqueezing, Head
from ..datasets import load
from ..experiment.images import noisy
from ..networks import file_name, find, load_model, load_pretrained, start_keras
from .corruptions import CORRUPTIONS, corrupted
from .subject import CHOOSE, REPORT, Rows, Subject, make_subject

if TYPE_CHECKING:
    import keras

__all__ = ["autoencoder", "classifier", "mnist"]

_N_CLEAN, _N_KIND, _N_ATTACKED = 1500, 250, 1000
_NETWORKS = "networks"
Attacks = tuple[tuple[str, float], ...]
_ATTACKS: Attacks = (("fgsm", 0.02), ("fgsm", 0.05), ("bim", 0.01), ("bim", 0.03))
_ON_DIGITS: Attacks = (("fgsm", 0.1), ("fgsm", 0.2), ("bim", 0.05), ("bim", 0.1))  # smaller ones seldom succeed

_CLASSIFIER = {
    "conv2d_1": "first convolution (ReLU), mean of each channel",
    "max_pooling2d_1": "first pooling, mean of each channel and third of height and width",
    "conv2d_2": "second convolution (ReLU), mean of each channel",
    "max_pooling2d_2": "second pooling, as it is",
    "dense_1": "dense layer (ReLU), as it is",
    "dense_2": "probabilities of ten classes",
}
_AUTOENCODER = {
    "conv2d_1": "first convolution (ReLU), mean of each channel",
    "max_pooling2d_1": "first pooling, mean of each channel and third of height and width",
    "max_pooling2d_2": "second pooling, as it is",
    "max_pooling2d_3": "code in the middle, as it is",
    "conv2d_5": "fifth convolution (ReLU), as it is",
    "conv2d_6": "sixth convolution (ReLU), mean of each channel",
    "reconstruction": "absolute error of the reconstruction, by pixel",
}

Kinds = dict[str, tuple[str, np.ndarray]]


def classifier(
    seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND, mnist: Path | str | None = None
) -> Subject:
    """Make the subject ``classifier``.

    Parameters
    ----------
    seed : int, default 0
    n_clean, n_kind : int
        Numbers of clean images, and of images of each kind.
    mnist : path-like, optional
        A folder with the IDX files of MNIST, whose digits are a further kind.

    Raises
    ------
    ModuleNotFoundError
        If Keras or the toolbox of attacks is not installed.
    FileNotFoundError
        If Fashion-MNIST is nowhere.
    """
    return _subject("classifier", _CLASSIFIER, seed, n_clean, n_kind, mnist)


def autoencoder(
    seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND, mnist: Path | str | None = None
) -> Subject:
    """Make the subject ``autoencoder``, from the same images; see `classifier`."""
    return _subject("autoencoder", _AUTOENCODER, seed, n_clean, n_kind, mnist)


def mnist(seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND, mnist: Path | str | None = None) -> Subject:
    """Make the subject ``mnist``: a classifier like `classifier`, for digits, whose file is in the folder ``networks``.

    Parameters
    ----------
    seed, n_clean, n_kind
        See `classifier`.
    mnist : path-like, optional
        A folder with the IDX files of MNIST.

    Raises
    ------
    ModuleNotFoundError
        If Keras or the toolbox of attacks is not installed.
    FileNotFoundError
        If MNIST, Fashion-MNIST or the network is nowhere.
    """
    start_keras()
    file = file_name("classifier", "mnist")
    if (path := find(file, _NETWORKS)) is None:
        raise FileNotFoundError(
            f"there is no {file} in {_NETWORKS}: `subsetscan train --network classifier --dataset mnist --out "
            f"{_NETWORKS}` makes it"
        )
    model = load_model(path)
    clothes = "clothes", "Fashion-MNIST images", load("fashion-mnist", "test")[0]
    images = "MNIST", *load("mnist", "test", mnist)
    clean, kinds = _drawn(images, model, _ON_DIGITS, seed, n_clean, n_kind, clothes)
    return make_subject(
        "mnist",
        "a classifier for MNIST like that for Fashion-MNIST, in the repository's folder `networks` (Keras)",
        REPORT,
        layers=_CLASSIFIER,
        read=lambda images: _rows(model, images, _CLASSIFIER),
        clean=("MNIST test images", clean),
        kinds=kinds,
        **_outputs_of(model),
    )


def _subject(
    name: str, layers: dict[str, str], seed: int, n_clean: int, n_kind: int, mnist: Path | str | None
) -> Subject:
    start_keras()
    clean, kinds = _of_fashion(seed, n_clean, n_kind, mnist)
    model = load_pretrained(name)
    return make_subject(
        name,
        f"the {name} for Fashion-MNIST that travels with this package (Keras, trained by `subsetscan train`)",
        CHOOSE,
        layers=layers,
        read=lambda images: _rows(model, images, layers),
        clean=("Fashion-MNIST test images", clean),
        kinds=kinds,
        **(_outputs_of(model) if name == "classifier" else {}),
    )


def _outputs_of(model: keras.Model) -> dict[str, Any]:
    """Return what a subject has besides if the network is a classifier: see `make_subject`."""
    squeezing = FeatureSqueezing(model)
    return {
        "head": ("dense_1", Head(*model.get_layer("dense_2").get_weights())),
        "judges": {"feature squeezing": lambda images: squeezing.transform(images)["feature squeezing"]},
    }


def _rows(model: keras.Model, images: np.ndarray, layers: dict[str, str]) -> Rows:
    names = [layer for layer in layers if layer != "reconstruction"]
    space = KerasLayers(model, names)
    found = space.transform(images)
    for layer, about in layers.items():
        if layer == "reconstruction":
            found[layer] = np.abs(model.predict(images, batch_size=128, verbose=0) - images).reshape(len(images), -1)
        elif "mean" in about:
            maps = found[layer].reshape(-1, *space.node_shapes[layer])
            found[layer] = _by_thirds(maps) if "third" in about else maps.mean(axis=(1, 2))
    return {layer: found[layer] for layer in layers}


def _by_thirds(maps: np.ndarray) -> np.ndarray:
    parts = [part for rows in np.array_split(maps, 3, axis=1) for part in np.array_split(rows, 3, axis=2)]
    return np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=1)


@lru_cache(maxsize=1)
def _of_fashion(seed: int, n_clean: int, n_kind: int, mnist: Path | str | None) -> tuple[np.ndarray, Kinds]:
    """Draw what both networks for Fashion-MNIST see."""
    digits = None if mnist is None else ("digits", "MNIST digits", load("mnist", "test", mnist)[0])
    images = "Fashion-MNIST", *load("fashion-mnist", "test")
    return _drawn(images, load_pretrained("classifier"), _ATTACKS, seed, n_clean, n_kind, digits)


def _drawn(
    dataset: tuple[str, np.ndarray, np.ndarray],
    classifier: keras.Model,
    attacks: Attacks,
    seed: int,
    n_clean: int,
    n_kind: int,
    others: tuple[str, str, np.ndarray] | None,
) -> tuple[np.ndarray, Kinds]:
    """Draw clean images of a dataset (its name, images, labels), and make those of every kind from others."""
    name, images, labels = dataset
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    clean, rest = images[order[:n_clean]], order[n_clean:]
    sources = images[rest[:n_kind]]
    kinds: Kinds = {
        kind: (f"{name} images: {about}", corrupted(kind, sources, rng)) for kind, (about, _) in CORRUPTIONS.items()
    }
    aims = rest[: min(_N_ATTACKED, 4 * n_kind)]
    for which, eps in attacks:
        made = attack(classifier, images[aims], labels[aims], which, eps=eps)
        attacked = made.images[:n_kind]
        about = f"attacks on the classifier by {which.upper()}, eps {eps}, that succeeded: {made.success_rate:.0%}"
        if len(attacked):
            kinds[f"{which.upper()} {eps}"] = about, attacked
            kinds[f"noise as {which.upper()} {eps}"] = (
                "the changes of those attacks at random pixels with random signs",
                noisy(images[aims][made.sources[:n_kind]], attacked, seed),
            )
    if others is not None:
        kind, about, elsewhere = others
        kinds[kind] = about, elsewhere[rng.permutation(len(elsewhere))[:n_kind]]
    return clean, kinds
