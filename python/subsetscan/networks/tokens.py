"""Texts as tokens: what tokenizers of Hugging Face give, in one form. No network is run here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._digest import digest
from .._validation import InvalidTypeError

__all__ = ["MASK", "MASKS", "Tokens", "cut_of", "mask_of", "tokenize", "tokenizer_digest"]

# What networks call the same arrays.
_IDS = ("input_ids", "token_ids", "ids")
MASK = "attention_mask"
MASKS = frozenset({MASK, "padding_mask", "mask"})
_TYPES = ("token_type_ids", "segment_ids")

_ENDLESS = 10**6  # tokenizers that know no limit say a number beyond


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of some texts.

    Attributes
    ----------
    ids : list of ndarray of shape (T,), int
        Of each text.
    is_special : list of ndarray of shape (T,), bool
        Tokens that the tokenizer adds, such as those for start and end.
    spans : list of ndarray of shape (T, 2), int, or None
        From which character of the text to before which; None where the tokenizer does not say.
    n_cut : int
        Texts that had more tokens.
    """

    ids: list[np.ndarray]
    is_special: list[np.ndarray]
    spans: list[np.ndarray] | None
    n_cut: int
    pad_id: int = 0

    def arrays(self, names: Sequence[str] | None, n_tokens: int) -> dict[str, np.ndarray]:
        """Make what a network takes: int64 of shape (n, T), with padding behind the tokens.

        Parameters
        ----------
        names : sequence of str or None
            What the network calls its inputs; one alone are the ids. None: ids and mask by the names that Hugging Face
            gives them. The mask comes in any case, as "attention_mask" where the network takes none.
        n_tokens : int
            T.

        Raises
        ------
        ValueError
            If the network takes something that is not known here.
        """
        ids = np.full((len(self.ids), n_tokens), self.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for n, own in enumerate(self.ids):
            ids[n, : len(own)], mask[n, : len(own)] = own, 1
        names = (_IDS[0], MASK) if names is None else names
        kinds = ((_IDS if len(names) > 1 else names, ids), (MASKS, mask), (_TYPES, np.zeros_like(ids)))
        arrays = {}
        for name in names:
            found = next((array for known, array in kinds if name in known), None)
            if found is None:
                raise ValueError(f"a tokenizer gives {_IDS[0]}, {MASK} and {_TYPES[0]}, the network takes {name!r}")
            arrays[name] = found
        return arrays if MASKS.intersection(names) else {**arrays, MASK: mask}


def tokenize(tokenizer: Any, texts: Any, max_length: int | None) -> Tokens:
    """Turn texts into tokens.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase or tokenizers.Tokenizer
        It stays as it is.
    texts : sequence of str
    max_length : int or None
        Longer ones are cut; by default where the tokenizer says.

    Raises
    ------
    TypeError
        If the tokenizer is none, or something is no text.
    """
    texts = list(texts)
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidTypeError(f"expected texts, input {n} is {type(text).__name__}")
    if hasattr(tokenizer, "encode_batch"):
        return _by_tokenizers(tokenizer, texts, max_length)
    if callable(tokenizer) and hasattr(tokenizer, "model_max_length"):
        return _by_transformers(tokenizer, texts, max_length)
    raise InvalidTypeError(
        "expected a tokenizer of Hugging Face, of transformers or of tokenizers, got "
        f"{tokenizer.__name__ if isinstance(tokenizer, type) else type(tokenizer).__name__}"
    )


def mask_of(inputs: Any) -> np.ndarray | None:
    """Find the mask of real tokens among a network's inputs, by its name."""
    name = next(iter(MASKS.intersection(inputs)), None) if isinstance(inputs, dict) else None
    return None if name is None else np.asarray(inputs[name]) != 0


def tokenizer_digest(tokenizer: Any, max_length: int | None) -> str:
    """Digest what a tokenizer makes tokens by, and where it cuts texts; how it pads is no part of it."""
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    cut = cut_of(tokenizer, max_length)
    if not hasattr(fast, "to_str"):
        return digest(type(tokenizer).__name__, json.dumps(tokenizer.get_vocab(), sort_keys=True), cut)
    settings = json.loads(fast.to_str())
    return digest(*(json.dumps(settings[name]) for name in sorted({*settings} - {"truncation", "padding"})), cut)


def cut_of(tokenizer: Any, max_length: int | None) -> str:
    """Tell where texts are cut: after how many tokens, and at which end."""
    if max_length is None:
        is_fast = hasattr(tokenizer, "encode_batch")
        max_length = (tokenizer.truncation or {}).get("max_length") if is_fast else _limit(tokenizer)
    return f"{max_length} {_side(tokenizer)}"


def _side(tokenizer: Any) -> str:
    if hasattr(tokenizer, "encode_batch"):
        return str((tokenizer.truncation or {}).get("direction", "right"))
    return str(getattr(tokenizer, "truncation_side", "right"))


def _limit(tokenizer: Any) -> int | None:
    return tokenizer.model_max_length if tokenizer.model_max_length < _ENDLESS else None


def _by_tokenizers(tokenizer: Any, texts: list[str], max_length: int | None) -> Tokens:
    own = type(tokenizer).from_str(tokenizer.to_str())  # a tokenizer keeps padding and cuts as settings
    own.no_padding()
    if max_length is not None:
        own.enable_truncation(max_length, direction=_side(tokenizer))
    padding = tokenizer.padding or {}
    return _of_encodings(own.encode_batch(texts), int(padding.get("pad_id", 0)))


def _by_transformers(tokenizer: Any, texts: list[str], max_length: int | None) -> Tokens:
    max_length = _limit(tokenizer) if max_length is None else max_length
    pad_id = tokenizer.pad_token_id or 0
    how = {} if max_length is None else {"truncation": True, "max_length": max_length}
    if not texts:
        return Tokens([], [], None, 0, pad_id)
    given = tokenizer(texts, return_special_tokens_mask=True, **how)
    if getattr(given, "encodings", None):
        return _of_encodings(given.encodings, pad_id)
    ids = [np.asarray(one, np.int64) for one in given["input_ids"]]
    special = [np.asarray(one, bool) for one in given.get("special_tokens_mask", [])]
    n_cut = sum(len(one) == max_length for one in ids)  # or as long: it does not say
    return Tokens(ids, special, None, n_cut, pad_id)


def _of_encodings(encodings: Sequence[Any], pad_id: int) -> Tokens:
    return Tokens(
        [np.asarray(one.ids, np.int64) for one in encodings],
        [np.asarray(one.special_tokens_mask, bool) for one in encodings],
        [np.asarray(one.offsets, np.int64).reshape(-1, 2) for one in encodings],
        sum(bool(one.overflowing) for one in encodings),
        pad_id,
    )
