"""Networks: how a framework's tensors are named and read. Nothing else in the package knows a framework."""

from .base import Network
from .keras import KerasNetwork
from .onnx import OnnxNetwork
from .perturbed import PerturbedNetwork
from .text import TextNetwork
from .torch import TorchNetwork
from .wrap import as_network, layer_names

__all__ = [
    "KerasNetwork",
    "Network",
    "OnnxNetwork",
    "PerturbedNetwork",
    "TextNetwork",
    "TorchNetwork",
    "as_network",
    "layer_names",
]
