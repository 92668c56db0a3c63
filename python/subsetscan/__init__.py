"""Find the jointly anomalous subset of a network's activations.

Compare each node of an input with the same node on clean inputs, and find, exactly and in linear time, the subset of
nodes that is jointly most anomalous: non-parametric subset scanning.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .background import Background
    from .calibration import select
    from .detectors import SubsetScanDetector
    from .group_scan import GroupScanResult, scan_group
    from .groups import GroupScanner
    from .scanner import ModelScanner
    from .scanning import ScanResult, scan
    from .selection import NodeSelector, overlaps
    from .sequence_scan import SequenceScanner

__all__ = [
    "Background",
    "GroupScanResult",
    "GroupScanner",
    "ModelScanner",
    "NodeSelector",
    "ScanResult",
    "SequenceScanner",
    "SubsetScanDetector",
    "overlaps",
    "scan",
    "scan_group",
    "select",
]
__version__ = version("subsetscan")

# Imported when they are first asked for: scikit-learn, which most need, takes most of a second.
_PLACES = {
    "Background": "background",
    "GroupScanResult": "group_scan",
    "GroupScanner": "groups",
    "ModelScanner": "scanner",
    "NodeSelector": "selection",
    "ScanResult": "scanning",
    "SequenceScanner": "sequence_scan",
    "SubsetScanDetector": "detectors",
    "overlaps": "selection",
    "scan": "scanning",
    "scan_group": "group_scan",
    "select": "calibration",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        try:
            return import_module(f".{name}", __name__)
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
