"""Detectors over node values: estimators as scikit-learn has them, fitted on clean images and calibrated."""

from .base import CalibratedDetector, Detector
from .combined import CombinedDetector
from .conditional import ClassConditionalDetector
from .entropy import LocalSpatialEntropy
from .outlier import OutlierDetector
from .persistence import load_detector
from .subset_scan import SubsetScanDetector
from .summary import SummaryDetector

__all__ = [
    "CalibratedDetector",
    "ClassConditionalDetector",
    "CombinedDetector",
    "Detector",
    "LocalSpatialEntropy",
    "OutlierDetector",
    "SubsetScanDetector",
    "SummaryDetector",
    "load_detector",
]
