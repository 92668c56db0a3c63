"""What scans are compared with: other people's detectors, and some that hardly look, as spaces and detectors."""

from .density import ClassDensity, HiddenLayer
from .intrinsic import LocalDimension
from .mean import MeanValue
from .outputs import Head, RelativeMahalanobis, VirtualLogit
from .pixels import PixelStatistic
from .squeezing import FeatureSqueezing
from .tails import TailSum

__all__ = [
    "ClassDensity", "FeatureSqueezing", "Head", "HiddenLayer", "LocalDimension", "MeanValue", "PixelStatistic",
    "RelativeMahalanobis", "TailSum", "VirtualLogit",
]  # fmt: skip
