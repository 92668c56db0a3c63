"""Spaces: what an input is turned into before it is scanned, one row of node values for each input."""

from .arrays import Arrays
from .base import Pixels, Space, join
from .filters import Laplacian
from .layers import KerasLayers, Layers, OnnxLayers, TorchLayers
from .margin import ClassifierMargin
from .network import NetworkSpace
from .reconstruction import ReconstructionError
from .responses import FeatureResponse
from .transformer import TransformerLayers

__all__ = [
    "Arrays",
    "ClassifierMargin",
    "FeatureResponse",
    "KerasLayers",
    "Laplacian",
    "Layers",
    "NetworkSpace",
    "OnnxLayers",
    "Pixels",
    "ReconstructionError",
    "Space",
    "TorchLayers",
    "TransformerLayers",
    "join",
]
