"""What scans are compared with: other people's detectors, and some that hardly look, as spaces and detectors."""

from .density import ClassDensity, HiddenLayer
from .mean import MeanValue
from .pixels import PixelStatistic
from .squeezing import FeatureSqueezing

__all__ = ["ClassDensity", "FeatureSqueezing", "HiddenLayer", "MeanValue", "PixelStatistic"]
