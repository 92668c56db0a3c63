"""The pairs of spaces and detectors: every scan of every layer and error, their means, and what a scan has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from ...detectors import Detector, OutlierDetector, SubsetScanDetector, SummaryDetector
from ...spaces import ClassifierMargin, KerasLayers, ReconstructionError, Space
from ..comparators import MeanValue, PixelStatistic
from ..experiment.scoring import Pair

if TYPE_CHECKING:
    import keras

__all__ = [
    "BASELINES",
    "ERROR",
    "FIRST",
    "MARGIN",
    "METRICS",
    "NEARLY_BLACK",
    "OUTSIDE",
    "PAPER",
    "STATISTICS",
    "SVM",
    "TAILS",
    "TUNED_SVM",
    "baseline_pairs",
    "error_name",
    "mean_of",
    "paper_pairs",
    "paper_scan",
    "scan_pairs",
    "spaces_of",
]

STATISTICS = ("berk-jones", "higher-criticism", "kolmogorov-smirnov")
TAILS = ("upper", "lower", "two-sided")
METRICS = ("binary-crossentropy", "absolute", "squared", "signed")
PAPER = ("berk-jones", "upper")  # how the paper scans
FIRST = "conv2d_1"  # the layer, and the error, that the paper looks at most
ERROR = "binary-crossentropy error"

# Over the cross-entropy error. The default is the paper's: scikit-learn's own parameters.
SVM, TUNED_SVM = Pair("one-class SVM"), Pair("one-class SVM, tuned")
MARGIN = Pair("classifier margin")
_GREY = 0.015  # a pixel between black and this is nearly black: clean black ground has few of them
NEARLY_BLACK = Pair(f"share of pixels in (0, {_GREY})")
OUTSIDE = Pair("any pixel outside [0, 1]")
_PIXELS: dict[Pair, Callable[[np.ndarray], Any]] = {
    NEARLY_BLACK: lambda pixels: ((pixels > 0) & (pixels < _GREY)).mean(axis=1),
    OUTSIDE: lambda pixels: ((pixels < 0) | (pixels > 1)).any(axis=1),
}
_MEAN_P = {name: Pair(f"mean p of {name}") for name in (FIRST, ERROR)}
BASELINES = (OUTSIDE, MARGIN, *sorted(_MEAN_P.values()), NEARLY_BLACK, SVM, TUNED_SVM)  # without a threshold: last


def error_name(metric: str) -> str:
    """Name the space of a reconstruction error."""
    return f"{metric} error"


def mean_of(metric: str) -> Pair:
    """Name the pair of a reconstruction error and its mean."""
    return Pair(f"mean {metric} error")


def paper_scan(space: str) -> Pair:
    """Name the pair of a space and the paper's scan."""
    return Pair(space, *PAPER)


def _error_spaces(autoencoder: keras.Model) -> dict[str, Space]:
    """Make a space of each reconstruction error, by its metric."""
    return {metric: ReconstructionError(autoencoder, metric, name=error_name(metric)) for metric in METRICS}


def spaces_of(autoencoder: keras.Model) -> list[Space]:
    """Make the spaces of all layers and all errors, which are read in one pass."""
    return [KerasLayers(autoencoder), *_error_spaces(autoencoder).values()]


def scan_pairs(
    spaces: Sequence[Space], calibration: str | None = "leave-one-out"
) -> dict[Pair, tuple[Space, Detector]]:
    """Pair each array of spaces with every statistic and tail."""
    return {
        Pair(name, statistic, tail): (
            space,
            SubsetScanDetector(statistic=statistic, tail=tail, calibration=calibration),
        )
        for space in spaces
        for name, statistic, tail in product(space.names, STATISTICS, TAILS)
    }


def paper_pairs(autoencoder: keras.Model) -> dict[Pair, tuple[Space, Detector]]:
    """Pair all layers and errors of an autoencoder with all scans, and the errors with their means."""
    errors = _error_spaces(autoencoder)
    means = {mean_of(metric): (space, MeanValue()) for metric, space in errors.items()}
    return scan_pairs([KerasLayers(autoencoder), *errors.values()]) | means


def baseline_pairs(autoencoder: keras.Model, classifier: keras.Model) -> dict[Pair, tuple[Space, Detector]]:
    """Make what a scan has to beat: one-class SVMs as in the paper's table 2, and detectors that hardly look."""
    shape = autoencoder.inputs[0].shape[1:]
    first, error = KerasLayers(autoencoder, [FIRST]), ReconstructionError(autoencoder, METRICS[0], name=ERROR)
    found: dict[Pair, tuple[Space, Detector]] = {
        pair: (PixelStatistic(shape, statistic, pair.space), MeanValue()) for pair, statistic in _PIXELS.items()
    }
    found[MARGIN] = ClassifierMargin(classifier), MeanValue()
    for space in (first, error):
        found[_MEAN_P[space.names[0]]] = space, SummaryDetector(summary="mean-p", calibration="leave-one-out")
    for pair, svm in {
        SVM: OneClassSVM(),
        TUNED_SVM: make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)),
    }.items():
        found[pair] = error, OutlierDetector(svm, calibration=None)  # fitted to all clean images, as in the paper
    return found
