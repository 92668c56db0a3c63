"""Magika's network: how a file becomes tokens, and which of its tensors are read."""

from __future__ import annotations

import json

import numpy as np

from ..._extras import import_extra
from ...networks import OnnxNetwork
from ...spaces import Layers, join
from ..comparators import Head
from .found import file_of_package
from .subject import Rows, read_rows

__all__ = ["LAYERS", "PADDING", "POSITIONS", "Magika", "as_bytes", "as_tokens", "gelu", "gelu_slope"]

PADDING = 256  # the token where a file is too short
_FOLDER = "models/standard_v3_3"
_PART, _BLOCK = 1024, 4096  # bytes of the beginning and of the end; where they are looked for
_GRAPH = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/"
_BATCH = 32

POSITIONS = _GRAPH + "LayerNorm_0/AddV2_1:0"  # 512 of them, with 256 units each
_TENSORS = {
    "embedding": _GRAPH + "ApplyActivation_0/Mul_5:0",
    "groups": _GRAPH + "Reshape:0",
    "normalised": POSITIONS,
    "convolution": _GRAPH + "Conv_0/AddV2:0",
    "activation": _GRAPH + "ApplyActivation_1/Mul_5:0",
    "max pool": _GRAPH + "Max_Squeeze__213:0",
    "layer norm": _GRAPH + "LayerNorm_1/AddV2_1:0",
    "logits": _GRAPH + "Dense_1/AddV2:0",
}
LAYERS = {
    "embedding": "embedding of each byte, mean over 2,048 bytes",
    "groups": "embeddings of four neighbouring bytes, mean over 512 positions",
    "normalised": "the same after layer normalisation, mean over channels: a node is a position in the file",
    "convolution": "convolution before its activation, mean over positions",
    "activation": "convolution after its activation (GELU), mean over positions",
    "max pool": "maximum over positions, as the network takes it",
    "layer norm": "the same after layer normalisation",
    "logits": "logits of 214 file types",
}


class Magika:
    """The network of the package `magika`, read directly.

    Attributes
    ----------
    types : list of str
        The names of the file types, in the order of the logits.
    head : Head
        From the last layer normalisation, of 512 units, to the logits of 214 types.
    embedding, kernel, scale_0, scale_1 : ndarray
        Further weights that the gradient needs: (257, 64) with its activation, (512, 5, 256), (512,), (512,).
    """

    def __init__(self) -> None:
        path = file_of_package("magika", f"{_FOLDER}/model.onnx", "magika")
        config = json.loads(path.with_name("config.min.json").read_text(encoding="utf-8"))
        if (config["beg_size"], config["mid_size"], config["end_size"]) != (_PART, 0, _PART):
            raise ValueError(f"magika reads other parts of a file than it did: {path.with_name('config.min.json')}")
        self.types: list[str] = config["target_labels_space"]
        onnx = import_extra("onnx", "onnx")
        model = onnx.load(str(path))
        weights = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
        self.network = OnnxNetwork(model)
        (self._space,) = join(
            [
                Layers(self.network, [tensor for tensor in _TENSORS.values() if tensor != POSITIONS], pool="mean"),
                Layers(self.network, POSITIONS, unit="position"),
            ]
        )
        self.embedding = gelu(weights["jax2tf_get_logits_/Const:0"] + weights[_GRAPH + "Dense_0/Reshape:0"][0])
        self.kernel = weights[_GRAPH + "Conv_0/transpose_3:0"][..., 0].transpose(0, 2, 1)
        self.head = Head(weights["jax2tf_get_logits_/Const_24:0"], weights[_GRAPH + "Dense_1/Reshape:0"][0])
        self.scale_0, self.scale_1 = (weights[f"{_GRAPH}LayerNorm_{n}/Reshape_2:0"].ravel() for n in (0, 1))

    def forward(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """Return every tensor for one batch, positions before channels, nothing pooled."""
        found = self.network.read(self.network.check(tokens), tuple(_TENSORS.values()))
        tensors = {layer: found[tensor] for layer, tensor in _TENSORS.items()}
        for layer in ("convolution", "activation"):
            tensors[layer] = tensors[layer].transpose(0, 2, 1)
        return tensors

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Return the logits of each file, of shape (n, 214): without the other layers, in half the time."""
        tokens, name = self.network.check(tokens), _TENSORS["logits"]
        parts = [tokens[start : start + _BATCH] for start in range(0, len(tokens), _BATCH)]
        return np.concatenate([self.network.read(part, (name,))[name] for part in parts])

    def rows(self, tokens: np.ndarray) -> Rows:
        """Return the rows of every layer in `LAYERS`."""
        return read_rows(self._space, _TENSORS, tokens, _BATCH)


def as_bytes(tokens: np.ndarray) -> bytes:
    """Return what is read of a file, given its tokens: zeros where it is too short."""
    return np.where(tokens == PADDING, 0, tokens).astype(np.uint8).tobytes()


def as_tokens(content: bytes) -> np.ndarray:
    """Return the first and the last 1,024 bytes of a file, white space at its ends left out, as Magika takes them."""
    n = min(len(content), _BLOCK)
    start, end = content[:n].lstrip()[:_PART], content[len(content) - n :].rstrip()[-_PART:]
    tokens = np.full(2 * _PART, PADDING, np.int32)
    tokens[: len(start)] = np.frombuffer(start, np.uint8)
    tokens[2 * _PART - len(end) :] = np.frombuffer(end, np.uint8)
    return tokens


_ROOT = np.sqrt(2 / np.pi)


def gelu(x: np.ndarray) -> np.ndarray:
    """Compute the activation GELU, in the form with a hyperbolic tangent that Magika has."""
    return 0.5 * x * (1 + np.tanh(_ROOT * (x + 0.044715 * x**3)))


def gelu_slope(x: np.ndarray) -> np.ndarray:
    """Compute the derivative of `gelu`."""
    tanh = np.tanh(_ROOT * (x + 0.044715 * x**3))
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * _ROOT * (1 + 3 * 0.044715 * x**2)
