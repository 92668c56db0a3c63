"""One detector for each name of some spaces, all calibrated on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._validation import InvalidTypeError
from .base import Detector

__all__ = ["detectors_by_name"]


def detectors_by_name(detector: Any, names: Sequence[str]) -> dict[str, Detector]:
    """Return the detector of each name, not fitted. Raises TypeError or ValueError if there is none, or they differ."""
    if isinstance(detector, Mapping):
        if set(detector) != set(names):
            raise ValueError(f"detectors are given for {', '.join(detector)}; the spaces are {', '.join(names)}")
        detectors = {name: detector[name] for name in names}
    else:
        detectors = dict.fromkeys(names, detector)
    for one in detectors.values():
        if not isinstance(one, Detector):
            raise InvalidTypeError(
                f"expected a SubsetScanDetector or another of subsetscan.detectors, got {type(one).__name__}"
            )
    shares = {(one.calibration, one.calibration_fraction) for one in detectors.values()}
    if len(shares) > 1:
        raise ValueError(
            f"all detectors must calibrate on the same inputs, got {' and '.join(map(str, sorted(shares, key=str)))}"
        )
    return detectors
