"""Detectors over node values: estimators as scikit-learn has them, fitted on clean inputs and calibrated."""

from ..persistence import load_detector
from .automatic import AutomaticDetector
from .base import CalibratedDetector, Detector
from .combined import CombinedDetector
from .conditional import ClassConditionalDetector
from .entropy import LocalSpatialEntropy
from .mahalanobis import MahalanobisDetector
from .neighbor import NearestNeighborDetector
from .outlier import OutlierDetector
from .residual_scan import ResidualScanDetector
from .subset_scan import SubsetScanDetector
from .summary import SummaryDetector

__all__ = [
    "AutomaticDetector",
    "CalibratedDetector",
    "ClassConditionalDetector",
    "CombinedDetector",
    "Detector",
    "LocalSpatialEntropy",
    "MahalanobisDetector",
    "NearestNeighborDetector",
    "OutlierDetector",
    "ResidualScanDetector",
    "SubsetScanDetector",
    "SummaryDetector",
    "load_detector",
]
