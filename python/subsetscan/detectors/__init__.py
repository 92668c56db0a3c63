"""Detectors over node values, but for the scan itself: each an estimator with the interface of `SubsetScanDetector`."""

from .base import CalibratedDetector
from .combined import CombinedDetector
from .conditional import ClassConditionalDetector
from .entropy import LocalSpatialEntropy
from .persistence import load_detector
from .summary import SummaryDetector

__all__ = [
    "CalibratedDetector",
    "ClassConditionalDetector",
    "CombinedDetector",
    "LocalSpatialEntropy",
    "SummaryDetector",
    "load_detector",
]
