"""Spaces: what an image is turned into before it is scanned, one row of node values for each image."""

from .arrays import Arrays
from .base import Pixels, Space, join
from .filters import Laplacian
from .keras import KerasLayers, NetworkSpace
from .margin import ClassifierMargin
from .reconstruction import ReconstructionError
from .responses import FeatureResponse

__all__ = [
    "Arrays",
    "ClassifierMargin",
    "FeatureResponse",
    "KerasLayers",
    "Laplacian",
    "NetworkSpace",
    "Pixels",
    "ReconstructionError",
    "Space",
    "join",
]
