"""Adversarial images, made by the Adversarial Robustness Toolbox, under one of two protocols.

``paper`` is how the paper's images were made: nothing is clipped, so that pixels leave [0, 1], and an attack counts
as successful where the predicted label is not the true one, natural errors of the classifier included. ``valid`` clips
to [0, 1], attacks only images that the classifier gets right, and counts those whose prediction changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .._labels import predicted_labels
from .._validation import InvalidTypeError
from ..networks.keras_graph import check_graph
from .attack_inputs import class_labels, unit_images
from .outputs import Outputs, find_outputs, raw_outputs
from .toolbox import as_art

if TYPE_CHECKING:
    import keras

__all__ = ["ATTACKS", "PROTOCOLS", "Attacked", "Attacker", "attack", "check", "predicted"]

PROTOCOLS = ("valid", "paper")


@dataclass(frozen=True, eq=False)
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


# Makes adversarial images of a batch: (images, labels) -> images; an attack that can leave pixels alone takes a mask.
Generate = Callable[..., np.ndarray]


@dataclass(frozen=True)
class _Kind:
    """How the toolbox makes an attack: (its classifier, eps, batch size) -> what attacks a batch."""

    make: Callable[[Any, float, int], Generate]
    eps: float
    seconds: float  # an image, on two cores, roughly: for estimates of the time that is left
    batch_size: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROTOCOLS, 128))
    on_logits: bool = False
    always_clips: bool = False
    takes_mask: bool = True
    chunk: int = 64  # images that are kept together


def _fgsm(classifier: Any, eps: float, batch_size: int) -> Generate:
    from art.attacks.evasion import FastGradientMethod

    return FastGradientMethod(classifier, eps=eps, batch_size=batch_size).generate


def _bim(classifier: Any, eps: float, batch_size: int) -> Generate:
    from art.attacks.evasion import BasicIterativeMethod

    # Steps as in the paper, section 5.2: 100 of a fifth of eps.
    return BasicIterativeMethod(
        classifier, eps=eps, eps_step=eps / 5, max_iter=100, batch_size=batch_size, verbose=False
    ).generate


def _deepfool(classifier: Any, eps: float, batch_size: int) -> Generate:
    from art.attacks.evasion import DeepFool

    return DeepFool(classifier, max_iter=100, epsilon=eps, batch_size=batch_size, verbose=False).generate


def _gradient(classifier: Any, eps: float, batch_size: int) -> Generate:
    from art.attacks.evasion import FastGradientMethod

    # With `minimal` the toolbox takes the shortest of these steps that changes the label, or else the longest.
    return FastGradientMethod(
        classifier, norm=2, eps=eps, eps_step=eps / 100, minimal=True, batch_size=batch_size
    ).generate


def _one_pixel(classifier: Any, eps: float, batch_size: int) -> Generate:
    from art.attacks.evasion import PixelAttack

    del batch_size
    pixels = PixelAttack(classifier, th=int(eps), es=1, max_iter=100)

    def of_one(image: np.ndarray, label: np.ndarray) -> np.ndarray:
        # Of two classes the toolbox takes no label, but attacks what the classifier sees.
        is_binary = classifier.nb_classes == 2
        if is_binary and classifier.predict(image).argmax(axis=1) != label:
            return image
        with np.errstate(divide="ignore"):  # where all candidates are equally good
            found: np.ndarray = pixels.generate(image, None if is_binary else label)
        # It works on 0 to 255: what is left of rounding there is no attack, where a p-value looks for ties.
        return np.where(np.abs(found - image) < 1e-4, image, found)

    return _one_by_one(of_one)


def _boundary(classifier: Any, eps: float, batch_size: int) -> Generate:
    from art.attacks.evasion import BoundaryAttack

    walk = BoundaryAttack(
        classifier, batch_size=batch_size, targeted=False, epsilon=eps, max_iter=BOUNDARY_STEPS, verbose=False
    )

    def of_one(image: np.ndarray, label: np.ndarray) -> np.ndarray:
        # Without a start the toolbox draws one that no seed determines.
        starts = np.concatenate([np.random.default_rng(0).random((100, *image.shape[1:]), np.float32), 1 - image])
        (seen,) = classifier.predict(image).argmax(axis=1)
        others = np.flatnonzero(classifier.predict(starts).argmax(axis=1) != seen)
        if not len(others):
            return image
        found: np.ndarray = walk.generate(image, label, x_adv_init=starts[others[:1]])
        return found

    return _one_by_one(of_one)


def _one_by_one(of_one: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Generate:
    """Attack each image with the same random numbers, which the toolbox takes from numpy's global state."""

    def generate(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        before = np.random.get_state()  # noqa: NPY002
        try:
            found = []
            for n in range(len(images)):
                np.random.seed(0)  # noqa: NPY002
                found.append(of_one(images[n : n + 1], labels[n : n + 1]))
        finally:
            np.random.set_state(before)  # noqa: NPY002
        return np.concatenate(found)

    return generate


# Of the boundary attack: the toolbox's 5,000 would take minutes for an image, to come a little closer to it.
BOUNDARY_STEPS = 300

# The strengths of FGSM, BIM and DeepFool are the paper's, section 5.2.
ATTACKS = {
    "fgsm": _Kind(_fgsm, 0.01, 0.001),
    "bim": _Kind(_bim, 0.01, 0.035),
    "gradient": _Kind(_gradient, 3.0, 0.01),
    # The toolbox goes on with a whole batch until its last image is done: seldom many steps, unless they are clipped.
    "deepfool": _Kind(_deepfool, 1e-6, 0.06, {"paper": 1, "valid": 64}, on_logits=True, takes_mask=False),
    "boundary": _Kind(_boundary, 0.01, 2.5, dict.fromkeys(PROTOCOLS, 1), takes_mask=False, chunk=8),
    "one-pixel": _Kind(_one_pixel, 1.0, 1.5, dict.fromkeys(PROTOCOLS, 1), always_clips=True, takes_mask=False, chunk=8),
}


def attack(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    name: str,
    *,
    eps: float | None = None,
    protocol: str = "valid",
    masked: bool = False,
    from_logits: bool | None = None,
    on_batch: Callable[[int], object] = lambda n_done: None,
) -> Attacked:
    """Attack images, untargeted, and keep the successes.

    Parameters
    ----------
    classifier : keras.Model
        From images to probabilities or logits: of K classes, or of class 1 alone.
    images : array-like of shape (N, H, W, C), floats in [0, 1]
    labels : array-like of shape (N,) or (N, 1), or one-hot of shape (N, K)
        True labels, whole numbers from 0 to K - 1, or booleans where there are two classes.
    name : {"fgsm", "bim", "gradient", "deepfool", "boundary", "one-pixel"}
        Fast gradient sign method; basic iterative method, 100 steps of a fifth of `eps`; one step along the gradient,
        the shortest of a hundred lengths that changes the label; DeepFool, at most 100 steps; boundary attack, from
        random noise that has another label, 300 steps; one pixel, by differential evolution, at most 100 generations.
        The last two draw the same random numbers for each image, and take seconds for each.
    eps : float, optional
        For FGSM and BIM how far a pixel may move, by default as in the paper 0.01; for the gradient attack the
        Euclidean length of the longest step, 3; for DeepFool the share by which it goes beyond the boundary, 1e-6 as in
        the paper; for the boundary attack the share of the distance that its first step goes towards the image, 0.01;
        for the one-pixel attack the number of pixels, 1.
    protocol : {"valid", "paper"}, default "valid"
        See the module. The one-pixel attack stays in [0, 1] under both.
    masked : bool, default False
        Whether to leave pixels alone that are zero; the last three cannot.
    from_logits : bool, optional
        Whether the classifier gives logits rather than probabilities. By default that is found out: from what its graph
        ends in, or else from its outputs for all of the images; see `subsetscan.lab.outputs.find_outputs`.
    on_batch : callable
        Called with the number of images that were just attacked, to show progress.

    Raises
    ------
    TypeError
        If the classifier is not a Keras model with a graph, or the pixels are not numbers.
    ValueError
        If the attack or the protocol is unknown, `eps` is not positive, images or labels are not as above, the attack
        cannot be masked, or the classifier's outputs are neither probabilities nor logits.

    References
    ----------
    I. J. Goodfellow, J. Shlens, C. Szegedy, Explaining and harnessing adversarial examples, 2014;
    A. Kurakin, I. Goodfellow, S. Bengio, Adversarial examples in the physical world, 2016;
    S.-M. Moosavi-Dezfooli, A. Fawzi, P. Frossard, DeepFool: a simple and accurate method to fool deep neural networks,
    2016; W. Brendel, J. Rauber, M. Bethge, Decision-based adversarial attacks, 2018; J. Su, D. Vargas, K. Sakurai, One
    pixel attack for fooling deep neural networks, 2019.
    """
    check(name, eps, protocol, masked)
    n_labels = len(labels) if np.ndim(labels) else None
    if n_labels != len(images):
        raise ValueError(f"{len(images)} images but {'no' if n_labels is None else n_labels} labels")
    attacker = Attacker(classifier, from_logits=from_logits)
    images, labels = attacker.checked(images, labels)
    sources = np.arange(len(images))
    if protocol == "valid":
        sources = sources[attacker.predicted(images) == labels]
        on_batch(len(images) - len(sources))
    result = attacker.perturb(
        images[sources], labels[sources], name, eps=eps, protocol=protocol, masked=masked, on_batch=on_batch
    )
    predictions = attacker.predicted(result)
    successful = predictions != labels[sources]
    return Attacked(
        result[successful], sources[successful], labels[sources][successful], predictions[successful], len(sources)
    )


class Attacker:
    """Attacks on one classifier, which is prepared once.

    Parameters
    ----------
    classifier : keras.Model
        From images to probabilities or logits; it is left as it is.
    from_logits : bool, optional
        Whether they are logits. By default that is found out when the first images come, and holds from then on.

    Raises
    ------
    TypeError, ValueError
        If it is not a Keras model with a graph and one input.
    """

    def __init__(self, classifier: keras.Model, *, from_logits: bool | None = None) -> None:
        check_graph(classifier)
        if (size := classifier.inputs[0].shape[0]) is not None:
            raise ValueError(
                f"{classifier.name} takes only batches of {size} images, but attacks use any number: rebuild it "
                "without a fixed batch size"
            )
        self.classifier = classifier
        self.from_logits = from_logits
        self._outputs: Outputs | None = None
        self._prepared: dict[tuple[bool, bool], Any] = {}

    def checked(self, images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        """Take images and labels that fit the classifier, float32 and int64; see `attack` for what is refused."""
        pixels = unit_images(images, self.classifier.inputs[0].shape[1:])
        return pixels, class_labels(labels, len(pixels), self.outputs(pixels).n_classes)

    def outputs(self, images: np.ndarray) -> Outputs:
        """Find out what the classifier's outputs are, once; see `find_outputs`."""
        if self._outputs is None:
            self._outputs = find_outputs(self.classifier, images, self.from_logits)
        return self._outputs

    def predicted(self, images: np.ndarray) -> np.ndarray:
        """Return the label that the classifier sees in each image, int64 of shape (N,)."""
        return predicted(self.classifier, images, self.outputs(images))

    def perturb(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        name: str,
        *,
        eps: float | None = None,
        protocol: str = "valid",
        masked: bool = False,
        on_batch: Callable[[int], object] = lambda n_done: None,
    ) -> np.ndarray:
        """Attack every image, whatever the classifier sees in it, and return them all, successful or not.

        Parameters and errors are those of `attack`.

        Returns
        -------
        ndarray of shape (N, H, W, C), float32
        """
        check(name, eps, protocol, masked)
        images, labels = self.checked(images, labels)
        if name == "one-pixel" and images.ndim != 4:
            raise ValueError(f"{name} needs images of shape (H, W, C), got {images.shape[1:]}")
        kind = ATTACKS[name]
        how = protocol == "valid" or kind.always_clips, kind.on_logits
        if how not in self._prepared:
            clip_values = (0.0, 1.0) if how[0] else None
            self._prepared[how] = as_art(self.classifier, self.outputs(images), clip_values, how[1])
        batch_size = kind.batch_size[protocol]
        generate = kind.make(self._prepared[how], kind.eps if eps is None else eps, batch_size)
        attacked = [np.empty((0, *images.shape[1:]), np.float32)]
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            options = {"mask": (batch != 0).astype(np.float32)} if masked else {}
            found = generate(batch, labels[start : start + batch_size], **options)
            attacked.append(found.astype(np.float32, copy=False))
            on_batch(len(batch))
        return np.concatenate(attacked)


def check(name: str, eps: float | None, protocol: str, masked: bool) -> None:
    """Raise ValueError for an invalid attack."""
    if name not in ATTACKS:
        raise ValueError(f"unknown attack {name!r}; known are {', '.join(ATTACKS)}")
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    if eps is not None and (isinstance(eps, bool) or not isinstance(eps, Real)):
        raise InvalidTypeError(f"eps must be a number, got {eps!r}")
    if eps is not None and not (eps > 0 and math.isfinite(eps)):
        raise ValueError(f"eps must be positive{' and finite' * (eps > 0)}, got {eps}")
    if eps is not None and name == "one-pixel" and eps != int(eps):
        raise ValueError(f"eps is a number of pixels for {name}, got {eps}")
    if masked and not ATTACKS[name].takes_mask:
        raise ValueError(f"{name} cannot be masked")


def predicted(classifier: keras.Model, images: np.ndarray, outputs: Outputs | None = None) -> np.ndarray:
    """Return the label that a classifier sees in each image, int64 of shape (N,).

    Parameters
    ----------
    classifier : keras.Model
    images : ndarray of shape (N, H, W, C)
    outputs : Outputs, optional
        What its outputs are. That of a single neuron is found out from the images where it is not given.
    """
    values = raw_outputs(classifier, images)
    if outputs is None and values.shape[1] >= 2:  # of logits as of probabilities it is the largest
        return predicted_labels(values)
    return (outputs or find_outputs(classifier, images)).labels(values)
