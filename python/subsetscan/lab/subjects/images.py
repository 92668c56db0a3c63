"""The subjects ``classifier`` and ``autoencoder``: the two small networks of the package, on Fashion-MNIST."""

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
from ..networks import load_pretrained, start_keras
from .corruptions import CORRUPTIONS, corrupted
from .subject import CHOOSE, Rows, Subject, make_subject

if TYPE_CHECKING:
    import keras

__all__ = ["autoencoder", "classifier"]

_N_CLEAN, _N_KIND, _N_ATTACKED = 1500, 250, 1000
_ATTACKS = (("fgsm", 0.02), ("fgsm", 0.05), ("bim", 0.01), ("bim", 0.03))

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


def _subject(
    name: str, layers: dict[str, str], seed: int, n_clean: int, n_kind: int, mnist: Path | str | None
) -> Subject:
    start_keras()
    clean, kinds = _inputs(seed, n_clean, n_kind, mnist)
    model = load_pretrained(name)
    of_classifier: dict[str, Any] = {}
    if name == "classifier":
        squeezing = FeatureSqueezing(model)
        of_classifier["head"] = "dense_1", Head(*model.get_layer("dense_2").get_weights())
        of_classifier["judges"] = {"feature squeezing": lambda images: squeezing.transform(images)["feature squeezing"]}
    return make_subject(
        name,
        f"the {name} for Fashion-MNIST that travels with this package (Keras, trained by `subsetscan train`)",
        CHOOSE,
        layers=layers,
        read=lambda images: _rows(model, images, layers),
        clean=("Fashion-MNIST test images", clean),
        kinds=kinds,
        **of_classifier,
    )


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
def _inputs(seed: int, n_clean: int, n_kind: int, mnist: Path | str | None) -> tuple[np.ndarray, Kinds]:
    """Draw clean images, and make those of every kind from others; both networks see the same."""
    rng = np.random.default_rng(seed)
    images, labels = load("fashion-mnist", "test")
    order = rng.permutation(len(images))
    clean, rest = images[order[:n_clean]], order[n_clean:]
    sources = images[rest[:n_kind]]
    kinds: Kinds = {
        name: (f"Fashion-MNIST images: {about}", corrupted(name, sources, rng))
        for name, (about, _) in CORRUPTIONS.items()
    }
    aims = rest[: min(_N_ATTACKED, 4 * n_kind)]
    model = load_pretrained("classifier")
    for name, eps in _ATTACKS:
        made = attack(model, images[aims], labels[aims], name, eps=eps)
        attacked = made.images[:n_kind]
        about = f"attacks on the classifier by {name.upper()}, eps {eps}, that succeeded: {made.success_rate:.0%}"
        if len(attacked):
            kinds[f"{name.upper()} {eps}"] = about, attacked
            kinds[f"noise as {name.upper()} {eps}"] = (
                "the changes of those attacks at random pixels with random signs",
                noisy(images[aims][made.sources[:n_kind]], attacked, seed),
            )
    if mnist is not None:
        digits, _ = load("mnist", "test", mnist)
        kinds["digits"] = "MNIST digits", digits[rng.permutation(len(digits))[:n_kind]]
    return clean, kinds
