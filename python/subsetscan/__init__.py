"""Find the jointly anomalous subset of a network's activations.

Compare each node of an input with the same node on clean inputs, and find, exactly and in linear time, the subset of
nodes that is jointly most anomalous: non-parametric subset scanning.
"""

from importlib.metadata import version

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
