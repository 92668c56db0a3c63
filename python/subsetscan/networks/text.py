"""Networks that take texts: a tokenizer before a network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._digest import digest
from .base import Network
from .blocks import block_names
from .tokens import MASK, MASKS, Tokens, cut_of, mask_of, tokenize, tokenizer_digest
from .wrap import as_network

__all__ = ["TextNetwork"]


class TextNetwork(Network):
    """A network behind a tokenizer: it takes a list of texts, and so does each space over it.

    What is in the blocks of a transformer has short names: "hidden_0" are the embeddings, "hidden_3" is what the third
    block returns; "attention_3" and "mlp_3" are what the attention and the feed-forward part of that block return; of
    BERT and its like "mlp_3" are the wide inner values after their activation. The network's own names are understood
    as well. So hidden_k is as in ``hidden_states`` of Hugging Face, but for the last, which there is after a final
    normalization where there is one; and GPT-2 has no hidden_0, as no module of it gives the sum of its embeddings.

    Texts of about a length pass together, padded behind to the longest. What a text gives depends on its padding by
    rounding alone. A network that takes no mask may treat padding as it treats words: for it each text is padded to
    `max_length`, so that what a text gives does not depend on the texts beside it, and the tokenizer's mask still says
    which tokens count.

    Parameters
    ----------
    model : torch.nn.Module, path of an ONNX file, keras.Model, or Network
        It takes ids, and most often their mask, by the names that Hugging Face or Keras gives them; what a network
        with one input takes are ids, whatever their name.
    tokenizer : transformers.PreTrainedTokenizerBase or tokenizers.Tokenizer
        That of the model. It stays as it is.
    max_length : int, optional
        Tokens of a text; longer texts are cut, and the first are warned of. By default what the tokenizer says. Needed
        for a network that takes no mask, unless its input has a fixed length.
    pad_to_max_length : bool, default False
        Whether each text is padded to that length: with a space's `forward_batch`, so that a text's values have the
        same bits whatever it is handed in with.
    blocks : str, optional
        The name of the stack of blocks, such as "decoder.layers", where a network has several.

    Raises
    ------
    TypeError
        If the model or the tokenizer is none; `check` raises it if an input is no text.
    ValueError
        If there are several stacks of blocks, or none of that name, or a length is missing.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int | None = None,
        pad_to_max_length: bool = False,
        blocks: str | None = None,
    ) -> None:
        self.network = as_network(model)
        self.name = self.network.name
        self.batch_size = self.network.batch_size
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        names = self.network.input_names()
        self._takes_mask = names is None or not MASKS.isdisjoint(names)
        if not self._takes_mask:
            pad_to_max_length, max_length = True, self._fixed_length() if max_length is None else max_length
        if pad_to_max_length and max_length is None:
            why = "pad_to_max_length needs" if self._takes_mask else f"{self.name} takes no mask of padding: it needs"
            raise ValueError(f"{why} a max_length, to which each text is padded")
        tokenize(tokenizer, [], max_length)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_to_max_length = pad_to_max_length
        short = block_names((*self.network.layer_names(), *self.network.aliases()), blocks)
        self._short = {name: self._first_output(own) for name, own in short.items()}
        self._warned = False

    def layer_names(self) -> tuple[str, ...]:
        """List the short names; the network's own where it has no blocks."""
        return tuple(self._short) or self.network.layer_names()

    def find_one(self, which: Any) -> list[str]:  # noqa: D102 (the base says it, as for those below)
        try:
            return super().find_one(which)
        except ValueError as error:
            try:
                return self.network.find_one(which)
            except ValueError:
                raise error from None

    def check(self, inputs: Any) -> Any:
        """Turn texts, or what `tokens` made of them, into what the network takes; arrays of ids stay as they are."""
        if isinstance(inputs, Mapping | tuple):
            return self.network.check(inputs)
        tokens = inputs if isinstance(inputs, Tokens) else self.tokens(inputs)
        longest = max((len(ids) for ids in tokens.ids), default=1)
        n_tokens = self.max_length if self.pad_to_max_length and self.max_length else max(longest, 1)
        arrays = tokens.arrays(self.network.input_names(), n_tokens)
        if self._takes_mask:
            return self.network.check(arrays)
        mask = arrays.pop(MASK)
        own = self.network.check(arrays)
        return {**(own if isinstance(own, Mapping) else dict.fromkeys(arrays, own)), MASK: mask}

    def tokens(self, texts: Any) -> Tokens:
        """Tokenize texts. Raises TypeError for what is no text; warns of the first that are cut."""
        tokens = tokenize(self.tokenizer, texts, self.max_length)
        if tokens.n_cut and not self._warned:
            self._warned = True
            warnings.warn(
                f"{tokens.n_cut} of {len(tokens.ids)} texts have more than {max(map(len, tokens.ids))} tokens: what is "
                "behind these is not seen; max_length chooses how many are",
                stacklevel=2,
            )
        return tokens

    def order(self, inputs: Any) -> np.ndarray | None:  # noqa: D102
        mask = mask_of(inputs)
        return None if mask is None or self.pad_to_max_length else np.argsort(mask.sum(axis=1), kind="stable")

    def read(self, inputs: Any, names: Sequence[str]) -> dict[str, np.ndarray]:  # noqa: D102
        own = {name: self._own(name) for name in names}
        if not self._takes_mask and isinstance(inputs, Mapping):
            inputs = {name: array for name, array in inputs.items() if name != MASK}
        found = self.network.read(inputs, list(dict.fromkeys(own.values())))
        return {name: found[of] for name, of in own.items()}

    def trimmed(self, inputs: Any) -> Any:
        """Leave out tokens that are padding in each of some inputs."""
        mask = mask_of(inputs)
        if mask is None or self.pad_to_max_length:
            return inputs
        n_tokens = max(int(mask.any(axis=0).sum()), 1) if _is_behind(mask) else mask.shape[1]
        return {name: array[:, :n_tokens] if array.shape[:2] == mask.shape else array for name, array in inputs.items()}

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:  # noqa: D102
        own = {name: self._own(name) for name in names}
        known = self.network.shapes(list(own.values()))
        return {name: known[of] for name, of in own.items() if of in known}

    def channel_axis(self, name: str, shape: tuple[int, ...]) -> int | None:  # noqa: D102
        return self.network.channel_axis(self._own(name), shape)

    def fingerprint(self, names: Sequence[str]) -> str | None:  # noqa: D102
        own = self.network.fingerprint([self._own(name) for name in names])
        return None if own is None else digest(own, tokenizer_digest(self.tokenizer, self.max_length))

    def stamp(self, names: Sequence[str]) -> str | None:  # noqa: D102
        own = self.network.stamp([self._own(name) for name in names])
        return None if own is None else f"{own} {cut_of(self.tokenizer, self.max_length)}"

    def joined(self, other: Network) -> Network | None:  # noqa: D102
        if not isinstance(other, TextNetwork) or self._settings() != other._settings():
            return None
        if (both := self.network.joined(other.network)) is None:
            return None
        joined = TextNetwork.__new__(TextNetwork)
        joined.__dict__.update(vars(self), network=both)
        return joined

    def output(self) -> str:  # noqa: D102
        return self.network.output()

    def logits(self) -> str:  # noqa: D102
        return self.network.logits()

    def _settings(self) -> tuple[Any, ...]:
        tokenizer = tokenizer_digest(self.tokenizer, self.max_length)
        return self.max_length, self.pad_to_max_length, tuple(self._short.items()), tokenizer

    def _fixed_length(self) -> int | None:
        """Tell how many tokens the network takes, where its input is of one length."""
        shape = self.network.input_shape()
        return shape[0] if shape is not None and len(shape) == 1 else None

    def _own(self, name: str) -> str:
        """Return the network's own name."""
        return self._short.get(name, name)

    def _first_output(self, name: str) -> str:
        """Find what a name of the network's own stands for, the first of several things that a block returns."""
        try:
            return self.network.find(f"{name}:0")[0]
        except ValueError:
            return self.network.find(name)[0]


def _is_behind(mask: np.ndarray) -> bool:
    """Tell whether padding is behind the tokens alone."""
    return bool((np.diff(mask.astype(np.int8), axis=1) <= 0).all())
