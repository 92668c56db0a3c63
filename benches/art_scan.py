"""ART's subset scan on arrays: its own lines, without the network. Slow to import, so only where it is needed."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about frameworks that are not installed
    from art.defences.detector.evasion.subsetscanning.detector import SubsetScanningDetector
    from art.defences.detector.evasion.subsetscanning.scanner import Scanner

__all__ = ["ArtDetector", "Scanner"]


class ArtDetector(SubsetScanningDetector):
    """ART's detector: fitting and scoring are ART's own lines; the network, null scores and progress are left out."""

    def __init__(self, background: np.ndarray) -> None:
        self._layer_name = ""
        self.sorted_bgd_activations = np.sort(background, axis=0)

    def _get_activations(self, x: np.ndarray, *_: Any) -> np.ndarray:
        return x

    def scores(self, images: np.ndarray) -> np.ndarray:
        return np.array([Scanner.fgss_individ_for_nets(p)[0] for p in self._calculate_pvalue_ranges(images)])
