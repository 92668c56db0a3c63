"""Detectors over node values, but for the scan itself: each an estimator with the interface of `SubsetScanDetector`."""

from .base import CalibratedDetector
from .combined import CombinedDetector
from .conditional import ClassConditionalDetector
from .persistence import load_detector
from .summary import SummaryDetector

__all__ = ["CalibratedDetector", "ClassConditionalDetector", "CombinedDetector", "SummaryDetector", "load_detector"]
