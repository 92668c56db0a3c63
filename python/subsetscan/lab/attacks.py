"""Adversarial images, made by the Adversarial Robustness Toolbox, under one of two protocols.

``paper`` is how the paper's images were made: nothing is clipped, so that pixels leave [0, 1], and an attack counts
as successful where the predicted label is not the true one, natural errors of the classifier included. ``valid`` clips
to [0, 1], attacks only images that the classifier gets right, and counts those whose prediction changes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._extras import import_extra

if TYPE_CHECKING:
    import keras

__all__ = ["ATTACKS", "PROTOCOLS", "Attacked", "attack"]

PROTOCOLS = ("valid", "paper")


@dataclass(frozen=True)
class Attacked:
    """Images of a successful attack, and how often it succeeded.

    Attributes
    ----------
    images : ndarray of shape (n, H, W, C), float32
        The attacked images whose attack succeeded.
    sources : ndarray of shape (n,), int64
        The row of the source image of each.
    labels, predictions : ndarray of shape (n,), int64
        The source's true label, and what the classifier sees in the attacked image.
    n_tried : int
        Number of images that were attacked.
    """

    images: np.ndarray
    sources: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    n_tried: int

    @property
    def success_rate(self) -> float:
        """Share of the attacked images whose attack succeeded; NaN if none was attacked."""
        return len(self.images) / self.n_tried if self.n_tried else float("nan")


def _fgsm(classifier: Any, eps: float, batch_size: int) -> Any:
    from art.attacks.evasion import FastGradientMethod

    return FastGradientMethod(classifier, eps=eps, batch_size=batch_size)


def _bim(classifier: Any, eps: float, batch_size: int) -> Any:
    from art.attacks.evasion import BasicIterativeMethod

    # Steps as in the paper, section 5.2: 100 of a fifth of eps.
    return BasicIterativeMethod(
        classifier, eps=eps, eps_step=eps / 5, max_iter=100, batch_size=batch_size, verbose=False
    )


ATTACKS: dict[str, Callable[[Any, float, int], Any]] = {"fgsm": _fgsm, "bim": _bim}


def attack(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    name: str,
    *,
    eps: float = 0.01,
    protocol: str = "valid",
    batch_size: int = 128,
    on_batch: Callable[[int], object] = lambda n_done: None,
) -> Attacked:
    """Attack images, untargeted, and keep the successes.

    Parameters
    ----------
    classifier : keras.Model
        From images to class probabilities.
    images : ndarray of shape (N, H, W, C), in [0, 1]
    labels : ndarray of shape (N,), int
        True labels.
    name : {"fgsm", "bim"}
        Fast gradient sign method, or basic iterative method: 100 steps of a fifth of `eps`.
    eps : float, default 0.01
        How far a pixel may move.
    protocol : {"valid", "paper"}, default "valid"
        See the module.
    batch_size : int
    on_batch : callable
        Called with the number of images that were just attacked, to show progress.

    Raises
    ------
    ValueError
        If the attack or the protocol is unknown, `eps` is not positive, or images and labels differ in number.

    References
    ----------
    I. J. Goodfellow, J. Shlens, C. Szegedy, Explaining and harnessing adversarial examples, 2014;
    A. Kurakin, I. Goodfellow, S. Bengio, Adversarial examples in the physical world, 2016.
    """
    if name not in ATTACKS:
        raise ValueError(f"unknown attack {name!r}; known are {', '.join(ATTACKS)}")
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}")
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    sources = np.arange(len(images))
    if protocol == "valid":
        sources = sources[_predict(classifier, images) == labels]
        on_batch(len(images) - len(sources))
    generator = ATTACKS[name](_as_art(classifier, (0.0, 1.0) if protocol == "valid" else None), eps, batch_size)
    attacked = [np.empty((0, *images.shape[1:]), np.float32)]
    for start in range(0, len(sources), batch_size):
        batch = sources[start : start + batch_size]
        attacked.append(generator.generate(images[batch], labels[batch]).astype(np.float32, copy=False))
        on_batch(len(batch))
    result = np.concatenate(attacked)
    predictions = _predict(classifier, result)
    successful = predictions != labels[sources]
    return Attacked(
        result[successful], sources[successful], labels[sources][successful], predictions[successful], len(sources)
    )


def _predict(classifier: keras.Model, images: np.ndarray) -> np.ndarray:
    if not len(images):
        return np.empty(0, np.int64)
    return np.asarray(classifier.predict(images, verbose=0)).argmax(axis=1)


def _as_art(classifier: keras.Model, clip_values: tuple[float, float] | None) -> Any:
    import keras

    with warnings.catch_warnings():
        # The toolbox warns of every framework that is not installed.
        warnings.filterwarnings("ignore", category=UserWarning, module="art")
        art_classifiers = import_extra("art.estimators.classification", "attacks")
    # A copy, because the toolbox reads the loss from a compiled model and the user's stays as it is.
    model = keras.models.clone_model(classifier)
    model.set_weights(classifier.get_weights())
    model.compile(loss="categorical_crossentropy")
    return art_classifiers.KerasClassifier(model, clip_values=clip_values, use_logits=False)
