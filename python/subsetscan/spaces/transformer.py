"""Layers of a transformer by short names, read from texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..networks import TextNetwork
from .layers import Layers

__all__ = ["TransformerLayers"]


class TransformerLayers(Layers):
    """Values inside a transformer that reads text: `Layers` over a `subsetscan.networks.TextNetwork`.

    Parameters
    ----------
    model : torch.nn.Module, path of an ONNX file, keras.Model, or Network
    tokenizer : transformers.PreTrainedTokenizerBase or tokenizers.Tokenizer
        That of the model.
    layers : str or sequence of str, default "hidden_*"
        Short names, "hidden_3", "mlp_3", "attention_3", or patterns; "all" takes every one.
    pool : {"mean", "max", "first", "last", None}, default "mean"
        Over the tokens of a text; padding does not count. "first" is a classification token where there is one, "last"
        what a model that writes on knows of the text. None keeps each token: nodes of shape (max_length, H).
    max_length : int, optional
        Tokens of a text; longer texts are cut, and the first are warned of. By default what the tokenizer says.
    prefix : str, default ""
        What goes before the names.
    blocks : str, optional
        As for `TextNetwork`.

    Raises
    ------
    TypeError
        If the model or the tokenizer is none; `transform` raises it if an input is no text.
    ValueError
        If there is no such layer (the message lists those that are there), there are several stacks of blocks, or with
        ``pool=None`` there is no `max_length`.

    Examples
    --------
    >>> space = TransformerLayers(model, tokenizer, ["hidden_6", "mlp_*"])  # doctest: +SKIP
    >>> ModelScanner.automatic(space).fit(texts)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        layers: str | Iterable[str] = "hidden_*",
        pool: str | None = "mean",
        max_length: int | None = None,
        *,
        prefix: str = "",
        blocks: str | None = None,
    ) -> None:
        network = TextNetwork(model, tokenizer, max_length=max_length, pad_to_max_length=pool is None, blocks=blocks)
        super().__init__(network, layers, prefix, pool=pool, over="tokens")
