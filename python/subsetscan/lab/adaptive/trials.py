"""The trials: which detectors are attacked on which images, by which attackers, and how each attack ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...detectors import SubsetScanDetector
from ...scanner import ModelScanner
from ...spaces import KerasLayers, ReconstructionError
from ..preset import COMBINE, recommended
from ..reproduction.pairs import ERROR, FIRST, PAPER
from ..result_cache import Arrays, ResultCache, fingerprint, fingerprint_of_model
from .attackers import Descent, nearest_of_class
from .surrogates import Surrogate, matching
from .views import differentiable, logits_of

if TYPE_CHECKING:
    import keras

__all__ = ["ADAPTIVE", "ANY", "ATTACKERS", "DETECTORS", "PLAIN", "RATE", "Setting", "Trials", "best_of"]

RATE = 0.05  # of false positives
PLAIN, MASKED, HIDDEN, ADAPTIVE, ANY = "plain", "masked", "hidden", "adaptive", "any of them"

ATTACKERS: Mapping[str, str] = {
    PLAIN: "up the lead of the best wrong class over the true one, in logits, by the steps of BIM; knows no detector",
    MASKED: "the same, only at pixels that are not black",
    HIDDEN: "the plain attack; then every layer of the classifier towards its values for the clean image of the wrong "
    "class that looks most alike; knows that there is a detector, not which",
    ADAPTIVE: "up the lead, and down a smooth surrogate of the detector's score; knows the detector, its options and "
    "its background, with and without the mask, and keeps of several weights and of all smaller budgets what the "
    "detector itself finds least odd",
    ANY: "for each image the best of the four, and of all smaller budgets",
}
_ROWS = {attacker: row for row, attacker in enumerate(ATTACKERS)}


@dataclass(frozen=True)
class Setting:
    """How much is tried.

    Attributes
    ----------
    n_background, n_own, n_clean, n_attacked : int
        Numbers of images: what detectors are fitted to, the attacker's own clean ones, those that the false positive
        rate is measured on, and those that are attacked.
    eps : tuple of float
        The largest changes of a pixel, each larger than that before.
    weights : tuple of float
        Of the surrogate, beside the classifier's loss.
    steps : int
    """

    n_background: int = 1000
    n_own: int = 500
    n_clean: int = 1000
    n_attacked: int = 100
    eps: tuple[float, ...] = (0.01, 0.02, 0.03, 0.05, 0.1)
    weights: tuple[float, ...] = (0.1, 0.5)
    steps: int = 50


def _paper(classifier: keras.Model, autoencoder: keras.Model) -> ModelScanner:
    statistic, tail = PAPER
    detector = SubsetScanDetector(statistic=statistic, tail=tail, calibration="leave-one-out")
    error = ReconstructionError(autoencoder, "binary-crossentropy", name=ERROR)
    return ModelScanner([KerasLayers(autoencoder, [FIRST]), error], detector, combine="fisher")


def _preset(classifier: keras.Model, autoencoder: keras.Model) -> ModelScanner:
    scanner = recommended(autoencoder, classifier)
    scanner.combine = COMBINE
    return scanner


def _automatic(classifier: keras.Model, autoencoder: keras.Model) -> ModelScanner:
    return ModelScanner.automatic(classifier)


DETECTORS: Mapping[str, tuple[Callable[[keras.Model, keras.Model], ModelScanner], str]] = {
    "paper": (
        _paper,
        "the upper Berk-Jones scan of the autoencoder's first layer and of its cross-entropy error, by leave-one-out, "
        "combined by Fisher's sum",
    ),
    "preset": (_preset, "`subsetscan.lab.preset.recommended`: five scans of classifier, autoencoder and image"),
    "automatic": (_automatic, "`ModelScanner.automatic(classifier)`: every layer of the classifier"),
}


class Trials:
    """Attacks on one draw of images; what takes time is kept.

    Parameters
    ----------
    images, labels : ndarray of shape (N, ...) and (N,)
        Clean images that neither network was trained on.
    classifier, autoencoder : keras.Model
    setting : Setting
    seed : int
        Draws the images.
    cache : ResultCache

    Raises
    ------
    ValueError
        If there are too few images.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classifier: keras.Model,
        autoencoder: keras.Model,
        setting: Setting,
        seed: int,
        cache: ResultCache,
    ) -> None:
        self.setting = setting
        self._networks, self._cache = (classifier, autoencoder), cache
        order = np.random.default_rng([seed, 2]).permutation(len(images))  # other draws than options were chosen on
        counts = (setting.n_background, setting.n_own, setting.n_clean)
        background, own, clean, rest = np.split(order, np.cumsum(counts))
        seen = classifier.predict(images[rest], batch_size=256, verbose=0).argmax(axis=1)
        attacked = rest[seen == labels[rest]][: setting.n_attacked]
        if len(attacked) < setting.n_attacked:
            raise ValueError(
                f"{len(images)} images are too few: {sum(counts)} that are not attacked and {setting.n_attacked} that "
                f"the classifier gets right are needed, {len(attacked)} of these are left"
            )
        self.background, self.own, self.clean = images[background], images[own], images[clean]
        self._own_labels = labels[own]
        self.images, self.labels = images[attacked], labels[attacked]
        self._made_from = {
            "images": fingerprint(self.background, self.own, self._own_labels, self.clean, self.images, self.labels),
            "networks": [fingerprint_of_model(network) for network in self._networks],
            "steps": setting.steps,
        }
        self._logits = logits_of(classifier)
        self._scanners: dict[str, ModelScanner] = {}
        self._descents: dict[str, Descent] = {}

    def scanner(self, detector: str) -> ModelScanner:
        """Fit one of `DETECTORS`."""
        if detector not in self._scanners:
            self._scanners[detector] = DETECTORS[detector][0](*self._networks).fit(self.background)
        return self._scanners[detector]

    def unattacked(self, detector: str) -> Arrays:
        """Compute p-values of clean images, and of the originals of those that are attacked."""
        return self._cache.get_or_make(
            f"{detector}/clean",
            self._made_from,
            lambda: {
                "clean": _p_values(self.scanner(detector), self.clean),
                "originals": _p_values(self.scanner(detector), self.images),
            },
        )

    def blind(self, eps: float) -> Arrays:
        """Make the attacks that know no detector: images of each attacker, (n, ...)."""
        return self._cache.get_or_make(f"blind/{eps:g}", self._made_from, lambda: self._blind(eps))

    def attacked(self, detector: str, eps: float) -> Arrays:
        """Attack a detector within a budget.

        Returns
        -------
        dict of str to ndarray
            With a row for each of `ATTACKERS`: "images" (5, n, ...), "misclassified" (5, n) and "p_values" (5, n).
        """
        smaller = [one for one in self.setting.eps if one < eps]
        made_from = {**self._made_from, "weights": list(self.setting.weights), "smaller": smaller}
        return self._cache.get_or_make(f"{detector}/{eps:g}", made_from, lambda: self._attacked(detector, eps))

    @cached_property
    def _plain(self) -> Descent:
        return Descent(self._logits)

    def _blind(self, eps: float) -> Arrays:
        options: dict[str, Any] = {"eps": eps, "steps": self.setting.steps}
        plain = self._plain(self.images, self.labels, **options)
        masked = self._plain(self.images, self.labels, mask=self.images > 0, **options)
        wrong = self._predicted(plain)
        read = differentiable(ModelScanner.automatic(self._networks[0]).spaces)
        targets = nearest_of_class(self.images, wrong, self.own, self._own_labels)
        hide = Descent(self._logits, matching(read, targets, self.own))
        hidden = hide(self.images, self.labels, weight=1.0, start=plain, **options)
        return {PLAIN: plain, MASKED: masked, HIDDEN: hidden}

    def _attacked(self, detector: str, eps: float) -> Arrays:
        blind, scanner = self.blind(eps), self.scanner(detector)
        if detector not in self._descents:
            self._descents[detector] = Descent(self._logits, Surrogate(scanner, self.background, self.own))
        descent = self._descents[detector]
        masks = (None, self.images > 0)
        tries = [blind[PLAIN], blind[MASKED]] + [
            descent(self.images, self.labels, eps, weight=weight, steps=self.setting.steps, mask=mask)
            for weight in self.setting.weights
            for mask in masks
        ]
        before = [self.attacked(detector, one)["images"] for one in self.setting.eps if one < eps][-1:]
        kept = self._best(scanner, [*tries, *(images[_ROWS[ADAPTIVE]] for images in before)])
        rows = [blind[PLAIN], blind[MASKED], blind[HIDDEN], kept]
        rows.append(self._best(scanner, [*rows, *(images[_ROWS[ANY]] for images in before)]))
        return {
            "images": np.stack(rows),
            "misclassified": np.stack([self._predicted(row) != self.labels for row in rows]),
            "p_values": np.stack([_p_values(scanner, row) for row in rows]),
        }

    def _best(self, scanner: ModelScanner, tries: list[np.ndarray]) -> np.ndarray:
        misclassified = np.stack([self._predicted(one) != self.labels for one in tries])
        chosen = best_of(misclassified, np.stack([_p_values(scanner, one) for one in tries]))
        return np.stack(tries)[chosen, np.arange(len(chosen))]

    def _predicted(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._logits(images)).argmax(axis=1)


def _p_values(scanner: ModelScanner, images: np.ndarray) -> np.ndarray:
    """Compute one p-value for each image: these scanners combine their spaces."""
    return np.asarray(scanner.p_values(images))


def best_of(misclassified: np.ndarray, p_values: np.ndarray) -> np.ndarray:
    """Choose for each image the misclassified version with the largest p-value, or the first where none is.

    Parameters
    ----------
    misclassified, p_values : ndarray of shape (K, n)

    Returns
    -------
    ndarray of shape (n,), int64
    """
    return np.where(misclassified, p_values, -1.0).argmax(axis=0)
