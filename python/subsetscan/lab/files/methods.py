"""What tells attacked files from clean ones: the package's detectors type by type, and what one would do without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from ... import ModelScanner
from ...calibration import conformal_p_values, extrapolated_p_values
from ...detectors import (
    AutomaticDetector,
    CalibratedDetector,
    ClassConditionalDetector,
    MahalanobisDetector,
    SubsetScanDetector,
)
from ...spaces import Arrays
from ..subjects.magika_network import Magika
from ..subjects.subject import Rows
from .sample import Sample

__all__ = ["AUTOMATIC", "BOTH", "BY_TYPE", "METHODS", "RATE", "Judge", "Judged"]

RATE = 0.05  # of false positives
AUTOMATIC = "automatic"
_COMBINE = "fisher+harmonic"
_LEAST_CLASS = 100

_DETECTORS: Mapping[str, tuple[Callable[[], CalibratedDetector], str]] = {
    AUTOMATIC: (lambda: AutomaticDetector(random_state=0), "`AutomaticDetector()`: nothing to choose"),
    "automatic, held out": (
        lambda: AutomaticDetector(calibration="holdout", random_state=0),
        "`AutomaticDetector(calibration='holdout')`: a quarter of the background calibrates",
    ),
    "paper's scan": (
        lambda: SubsetScanDetector(calibration="leave-one-out", random_state=0),
        "`SubsetScanDetector(calibration='leave-one-out')`: the paper's options",
    ),
    "Mahalanobis of ranks": (
        lambda: MahalanobisDetector(of="ranks", random_state=0),
        "`MahalanobisDetector(of='ranks')`: the best other detector of this network elsewhere",
    ),
}


def _doubt(logits: np.ndarray) -> np.ndarray:
    return -softmax(logits.astype(np.float64), axis=1).max(axis=1)


def _closeness(logits: np.ndarray) -> np.ndarray:
    two = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    return two[:, 0] - two[:, 1]


_OF_LOGITS: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "softmax": (_doubt, "the largest probability, low; one threshold for all types"),
    "margin": (_closeness, "the largest logit less the second, low; one threshold for all types"),
}
BY_TYPE, _POOLED, BOTH = "margin, by type", "automatic, rare types pooled", "automatic and margin"

METHODS: Mapping[str, str] = (
    {name: f"{about}; beside the nearest type, all layers together" for name, (_, about) in _DETECTORS.items()}
    | {_POOLED: "the automatic detector, but what Magika sees as a rare type beside files of all rare types"}
    | {name: about for name, (_, about) in _OF_LOGITS.items()}
    | {
        BY_TYPE: "the same margin, among background files of the nearest type",
        BOTH: "the smaller p-value of the automatic detector and of the margin by type, doubled",
    }
)


class Judged(NamedTuple):
    """What is said of files.

    Attributes
    ----------
    types : ndarray of shape (n,), int64
        The nearest type: that with the largest logit of those that have a background, a place in `Sample.types`.
    seen : ndarray of shape (n,), int64
        What is seen, of Magika's 214 types.
    scores, p_values : ndarray of shape (n, 9), float64
        By every method of `METHODS`: higher scores are more anomalous.
    """

    types: np.ndarray
    seen: np.ndarray
    scores: np.ndarray
    p_values: np.ndarray


class Judge:
    """All methods, fitted to the background of a sample when they are first needed.

    Parameters
    ----------
    network : Magika
    sample : Sample
    """

    def __init__(self, network: Magika, sample: Sample) -> None:
        self.network = network
        self.types = np.array(sample.types)
        self._sample = sample
        self._known = np.array([network.types.index(kind) for kind in sample.types[:-1]])

    def nearest(self, logits: np.ndarray) -> np.ndarray:
        """Return the type with the largest logit of those that have a background, a place in `Sample.types`."""
        return logits[:, self._known].argmax(axis=1)

    @cached_property
    def background(self) -> Rows:
        """The rows of the background, by layer."""
        return self.network.rows(self._sample.background)

    @cached_property
    def scanners(self) -> dict[str, ModelScanner]:
        """The fitted scanner of each detector."""
        space = Arrays({layer: rows.shape[1:] for layer, rows in self.background.items()})
        labels = self.types[self._sample.background_types]
        return {
            name: ModelScanner(
                space, ClassConditionalDetector(make(), min_class_size=_LEAST_CLASS), combine=_COMBINE
            ).fit(self.background, labels)
            for name, (make, _) in _DETECTORS.items()
        }

    def judge(self, tokens: np.ndarray) -> Judged:
        """Score files by every method."""
        rows = self.network.rows(tokens)
        seen = rows["logits"].argmax(axis=1)
        types = self.nearest(rows["logits"])
        pooled = np.where(np.isin(seen, self._known), types, len(self.types) - 1)
        scores, p_values, nulls = [], [], []
        for name, labels in [*((name, types) for name in _DETECTORS), (AUTOMATIC, pooled)]:
            own, p, null = self.scored(name, rows, labels)
            nulls.append(null)
            scores.append(own)
            p_values.append(p)
        known = self._sample.background_types < len(self.types) - 1
        for measure, _ in _OF_LOGITS.values():
            own, null = measure(rows["logits"]), measure(self.background["logits"][known])
            scores.append(own)
            p_values.append(conformal_p_values(own, null))
        score, p = self._margin(rows, types)
        both, p_both = _both((scores[0], p_values[0], nulls[0]), (score, p))
        return Judged(types, seen, np.column_stack([*scores, score, both]), np.column_stack([*p_values, p, p_both]))

    def looked(self, name: str, rows: Rows, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score rows by `AUTOMATIC` or `BOTH` alone: scores and p-values, as `judge` gives them."""
        found = self.scored(AUTOMATIC, rows, types)
        return _both(found, self._margin(rows, types)) if name == BOTH else found[:2]

    def _margin(self, rows: Rows, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own, null = _closeness(rows["logits"]), _closeness(self.background["logits"])
        score, p = np.empty(len(own)), np.empty(len(own))
        for kind in np.unique(types):
            mine, of_kind = types == kind, null[self._sample.background_types == kind]
            score[mine] = -np.log(extrapolated_p_values(own[mine], of_kind))
            p[mine] = conformal_p_values(own[mine], of_kind)
        return score, p

    def scored(self, name: str, rows: Rows, types: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score rows by one detector: the scores of all layers combined, their p-values, and the null scores."""
        scanner, labels = self.scanners[name], self.types[types]
        found = {layer: one.anomaly_score(rows[layer], labels) for layer, one in scanner.detectors_.items()}
        own, p_values, null = scanner.combined_of(found, labels)
        return own, p_values, null


def _both(
    found: tuple[np.ndarray, np.ndarray, np.ndarray], margin: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Join scores, p-values and null scores of a detector with scores and p-values of the margin."""
    score = np.maximum(margin[0], -np.log(extrapolated_p_values(found[0], found[2])))
    return score, np.minimum(2 * np.minimum(margin[1], found[1]), 1)  # holds whatever the two have in common
