"""What is compared: within a layer, and over all layers of a network with what its last layer says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from ...calibration import conformal_p_values, null_p_values
from ...combination import combined
from ...detectors import AutomaticDetector, ClassConditionalDetector, OutlierDetector, SummaryDetector
from ..comparators import Head, LocalDimension, RelativeMahalanobis, TailSum, VirtualLogit
from ..comparators.outputs import LOGIT_SCORES
from ..defaults.cells import together
from ..defaults.methods import AUTOMATIC, METHODS, PAPER, RIVALS, LayerScores, Method, Scores

__all__ = ["BY_CLASS", "COMBINE", "LAYER_METHODS", "LEAST_IN_CLASS", "NETWORK_METHODS", "OURS", "over_network"]

COMBINE = "fisher+harmonic"  # of `ModelScanner.automatic`
BY_CLASS, LEAST_CLASS = "automatic by class seen", "automatic, nearest class"
OURS = (AUTOMATIC, PAPER, BY_CLASS, LEAST_CLASS)
LEAST_IN_CLASS = 20  # clean inputs: fewer cannot give a p-value of 0.05
_NEIGHBORS = 50
_UNKNOWN = 1e-300  # p-value where a class is not known: sums of its inverse stay finite
_SUMMED = {"deep kNN, ranks": "10 neighbours, cosine", "LID, summed": "LID"}


def _of_scikit_learn(make: Callable[[], object]) -> Callable[[], OutlierDetector]:
    return lambda: OutlierDetector(make(), random_state=0)


LAYER_METHODS: Mapping[str, Method] = {
    AUTOMATIC: METHODS[AUTOMATIC],
    PAPER: METHODS[PAPER],
    "Fisher, all nodes": Method(
        "",
        "`SummaryDetector(summary='fisher', tail='two-sided')`: the sum of -2 log p over all nodes",
        partial(SummaryDetector, summary="fisher", tail="two-sided", calibration="leave-one-out"),
    ),
    "ECOD": Method("", "the smaller tail of each node, -log, summed, as PyOD's ECOD does for one input", TailSum),
    **{name: METHODS[name] for name in RIVALS},
    "LID": Method("", "local intrinsic dimensionality by 20 neighbours", LocalDimension),
    "Isolation Forest": Method(
        "", "scikit-learn's `IsolationForest()`", _of_scikit_learn(partial(IsolationForest, random_state=0))
    ),
    "One-class SVM": Method(
        "",
        "scikit-learn's `OneClassSVM()` of standardised values",
        _of_scikit_learn(lambda: make_pipeline(StandardScaler(), OneClassSVM())),
    ),
}

# Besides those within a layer, whose p-values of all layers are combined.
NETWORK_METHODS: Mapping[str, str] = {
    BY_CLASS: "`ClassConditionalDetector(AutomaticDetector())` in each layer, by the class that the network sees",
    LEAST_CLASS: "the same with `conditional='min'`: by the class for which an input is least anomalous",
    "deep kNN, ranks": "the rank of the distance to the 10th neighbour (cosine) among clean inputs, summed over layers",
    "deep kNN, classes": "of the 50 nearest clean inputs (cosine) in each layer, how many are seen as another class",
    "LID, summed": "the p-values of LID, summed over layers",
    "energy": "-log sum exp of the logits",
    "max softmax": "the largest probability",
    "margin": "the two largest logits' difference",
    "relative Mahalanobis": "to the nearest class seen, less that to all, in the layer before the logits",
    "ViM": "virtual-logit matching: what is off half of the directions of that layer, and the energy",
    "feature squeezing": "how far the probabilities move when the image loses detail",
}


def over_network(
    layers: Mapping[str, LayerScores],
    backgrounds: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    head: tuple[str, Head] | None = None,
) -> LayerScores:
    """Score the rows of a network by all of its layers, and by what its last layer says.

    Parameters
    ----------
    layers : mapping of str to LayerScores
        The scores of each layer by `LAYER_METHODS`.
    backgrounds, rows : mapping of str to ndarray of shape (M, J) and (N, J)
        What each layer holds.
    head : (str, Head), optional
        The layer before the logits, and how the logits are made of it. Without it there are no methods that need them.

    Returns
    -------
    LayerScores
        By `LAYER_METHODS` combined, and by those of `NETWORK_METHODS` that are possible: where the network sees the
        same class in all clean inputs, none that compares classes within the clean ones.
    """
    found = together(layers.values(), COMBINE)
    for name, within in _SUMMED.items():
        found[name] = _summed([scores[within] for scores in layers.values()])
    if head is not None:
        layer, last = head
        found |= _by_outputs(last, backgrounds[layer], rows[layer])
        labels = last.labels(backgrounds[layer]), last.labels(rows[layer])
        found["deep kNN, classes"] = _disagreeing(backgrounds, rows, *labels)
        if len(np.unique(labels[0])) > 1:
            found[BY_CLASS] = _by_class(backgrounds, rows, *labels)
            found[LEAST_CLASS] = _by_least_class(backgrounds, rows, labels[0])
    return {name: found[name] for name in (*LAYER_METHODS, *NETWORK_METHODS) if name in found}


def _summed(layers: list[Scores]) -> Scores:
    """Sum p-values: of -p higher is more anomalous."""
    null, own = (
        -np.sum(p_values, axis=0)
        for p_values in zip(
            *((null_p_values(null), conformal_p_values(own, null)) for null, own in layers), strict=True
        )
    )
    return Scores(null, own)


def _by_outputs(head: Head, background: np.ndarray, rows: np.ndarray) -> LayerScores:
    logits = head.logits(background), head.logits(rows)
    found = {name: Scores(*map(score, logits)) for name, score in LOGIT_SCORES.items()}
    estimators = {"ViM": VirtualLogit(head)}
    if len(np.unique(head.labels(background))) > 1:
        estimators["relative Mahalanobis"] = RelativeMahalanobis(head)
    for name, estimator in estimators.items():
        detector = OutlierDetector(estimator, random_state=0).fit(background)
        found[name] = Scores(detector.null_scores_, detector.anomaly_score(rows))
    return found


def _disagreeing(
    backgrounds: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], labels: np.ndarray, own: np.ndarray
) -> Scores:
    """Count the nearest clean inputs in all layers that are seen as another class than the input itself."""
    null_counts, counts = np.zeros(len(labels)), np.zeros(len(own))
    for layer, background in backgrounds.items():
        n_neighbors = min(_NEIGHBORS, len(background) - 1)
        search = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine", algorithm="brute").fit(background)
        null_counts += (labels[search.kneighbors(return_distance=False)] != labels[:, np.newaxis]).sum(axis=1)
        counts += (labels[search.kneighbors(rows[layer], return_distance=False)] != own[:, np.newaxis]).sum(axis=1)
    return Scores(null_counts, counts)


def _by_class(
    backgrounds: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], labels: np.ndarray, own: np.ndarray
) -> Scores:
    """Combine the p-values of all layers, each among the clean inputs of the class that is seen.

    A class that is seen in too few clean inputs has none: its inputs are as anomalous as can be, whatever they hold.
    """
    enough = _in_enough(labels)
    known = np.isin(own, labels[enough])
    p, p_null = [], []
    for layer, background in backgrounds.items():
        detector = _conditional("label").fit(background[enough], labels[enough])
        told = np.zeros(len(own))
        scores = detector.anomaly_score(rows[layer][known], own[known])
        told[known] = detector.p_values_of(scores, own[known], extrapolate=True)
        p.append(np.maximum(told, _UNKNOWN))
        p_null.append(detector.null_p_values(extrapolate=True))
    return _together(p, p_null)


def _by_least_class(
    backgrounds: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], labels: np.ndarray
) -> Scores:
    """Combine the p-values of all layers, each among the clean inputs of the class where it is least anomalous."""
    enough = _in_enough(labels)
    p, p_null = [], []
    for layer, background in backgrounds.items():
        detector = _conditional("min").fit(background[enough], labels[enough])
        p.append(detector.p_values_of(detector.anomaly_score(rows[layer]), extrapolate=True))
        p_null.append(detector.null_p_values(extrapolate=True))
    return _together(p, p_null)


def _conditional(conditional: str) -> ClassConditionalDetector:
    return ClassConditionalDetector(AutomaticDetector(), conditional=conditional, min_class_size=LEAST_IN_CLASS)


def _in_enough(labels: np.ndarray) -> np.ndarray:
    """Tell which clean inputs are of a class that is seen in enough of them."""
    classes, counts = np.unique(labels, return_counts=True)
    return np.isin(labels, classes[counts >= LEAST_IN_CLASS])


def _together(p: list[np.ndarray], p_null: list[np.ndarray]) -> Scores:
    own, null = combined(np.column_stack(p), np.column_stack(p_null), COMBINE)
    return Scores(null, own)
