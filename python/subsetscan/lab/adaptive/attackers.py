"""The attackers: projected gradient steps against a classifier, and against what a detector sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Descent", "nearest_of_class"]

_LEAD = 0.5  # by how much a wrong class must lead, in logits, before hiding is all that counts
_STEP = 0.2  # the first step, as a share of eps, as in the paper; later ones are shorter


class Descent:
    """Projected gradient descent within a distance of each pixel, compiled once for one classifier and one disguise.

    What is to rise is the lead of the best wrong class over the true one, in logits: the cross-entropy has no slope in
    single precision where the classifier is sure. Where there is a disguise, an attacker who gives it weight leaves the
    classifier alone as long as a wrong class leads by enough, and only hides. The gradients of both are brought to one
    length, image by image, before they are weighed.

    Parameters
    ----------
    logits : callable
        From images to logits (n, K), in TensorFlow.
    disguise : callable, optional
        From images to scores (n,), which are to be small.

    References
    ----------
    N. Carlini and D. Wagner, Towards Evaluating the Robustness of Neural Networks, 2017, for the difference of logits;
    A. Kurakin, I. Goodfellow, S. Bengio, Adversarial examples in the physical world, 2016, for the steps.
    """

    def __init__(self, logits: Callable[[Any], Any], disguise: Callable[[Any], Any] | None = None) -> None:
        import tensorflow as tf

        self._logits, self._disguise = logits, disguise
        self._step = tf.function(self._gradients, autograph=False)

    def __call__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        eps: float,
        *,
        weight: float = 0.0,
        steps: int = 100,
        mask: np.ndarray | None = None,
        start: np.ndarray | None = None,
    ) -> np.ndarray:
        """Attack images.

        Parameters
        ----------
        images : ndarray of shape (n, ...), float32 in [0, 1]
        labels : ndarray of shape (n,)
            True classes.
        eps : float
            The largest change of a pixel.
        weight : float
            Of the disguise; with 0 this is the plain attack.
        steps : int
        mask : ndarray of bool, shape (n, ...), optional
            Pixels that may be changed; all by default.
        start : ndarray of shape (n, ...), optional
            Where to begin; the images by default.

        Returns
        -------
        ndarray of shape (n, ...), float32
            Of each image the misclassified version with the best disguise (without weight the last one that is
            misclassified), or else the last.
        """
        room = np.float32(eps) if mask is None else np.float32(eps) * mask.astype(np.float32)
        lowest, highest = np.maximum(images - room, 0), np.minimum(images + room, 1)
        found = np.clip(images if start is None else start, lowest, highest)
        best, best_score = found.copy(), np.full(len(images), np.inf)
        is_hiding = weight > 0 and self._disguise is not None
        for n in range(steps + 1):
            lead, away, score, seen = (np.asarray(one) for one in self._step(found, labels, is_hiding))
            is_better = (lead > 0) & (score <= best_score)  # without a disguise all scores are 0
            best[is_better], best_score[is_better] = found[is_better], score[is_better]
            if n == steps:
                break
            if is_hiding:
                away = np.where(_each(lead < _LEAD, away), away, 0) - np.float32(weight) * seen
            step = np.float32(_STEP * eps * (1 - n / (steps + 1)))
            found = np.clip(found + step * np.sign(away), lowest, highest)
        return np.where(_each(np.isfinite(best_score), best), best, found)

    def _gradients(self, images: Any, labels: Any, is_hiding: bool) -> tuple[Any, Any, Any, Any]:
        """Compute a wrong class' lead, where it rises, the disguise's score, and where that rises."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = self._logits(images)
            is_true = tf.one_hot(labels, logits.shape[1], on_value=True, off_value=False)
            wrong = tf.reduce_max(tf.where(is_true, logits.dtype.min, logits), axis=1)
            lead = wrong - tf.gather(logits, labels, batch_dims=1)
        away = _unit(tape.gradient(lead, images))
        if not is_hiding or self._disguise is None:
            return lead, away, tf.zeros_like(lead), tf.zeros_like(images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            score = self._disguise(images)
        return lead, away, score, _unit(tape.gradient(score, images))


def _unit(gradient: Any) -> Any:
    """Bring each image's gradient to a mean absolute value of 1."""
    import tensorflow as tf

    axes = list(range(1, len(gradient.shape)))
    return gradient / (tf.reduce_mean(tf.abs(gradient), axis=axes, keepdims=True) + 1e-30)


def _each(of_image: np.ndarray, like: np.ndarray) -> np.ndarray:
    return of_image.reshape(-1, *[1] * (like.ndim - 1))


def nearest_of_class(
    images: np.ndarray, classes: np.ndarray, clean: np.ndarray, clean_classes: np.ndarray
) -> np.ndarray:
    """Find for each image the clean one of a class that differs least from it, pixel by pixel.

    Parameters
    ----------
    images, clean : ndarray of shape (n, ...) and (m, ...)
    classes, clean_classes : ndarray of shape (n,) and (m,)
        The class that each image is to look like, and those of the clean ones.

    Raises
    ------
    ValueError
        If there is no clean image of a class.
    """
    if missing := sorted(set(classes.tolist()) - set(clean_classes.tolist())):
        raise ValueError(f"no clean image of class {', '.join(map(str, missing))}")
    found = np.empty_like(images)
    for n, (image, label) in enumerate(zip(images, classes, strict=True)):
        own = clean[clean_classes == label]
        found[n] = own[np.argmin(((own - image) ** 2).reshape(len(own), -1).sum(axis=1))]
    return found
