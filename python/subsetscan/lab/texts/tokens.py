"""The scan of tokens: where it points in texts with orders, and what it says of whole texts; kept as it is made."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..._digest import digest
from ...networks import TextNetwork
from ...sequence_result import SequenceScans
from ...sequence_scan import SequenceScanner
from ...spaces import Layers
from ..kept_scans import pack_scans, unpack_scans
from ..result_cache import Arrays, ResultCache
from .inputs import ORDERS, Injected, Texts

__all__ = ["TokenScans", "located"]

_SHOWN = 4


class TokenScans:
    """The scans of one layer, by a scanner that is fitted to the background of some texts when it is first needed.

    Parameters
    ----------
    network : TextNetwork
    layer : str
    drawn : Texts
    seed : int
    cache : ResultCache
    folder : str
        Of the cache.
    encoder : str
        The network's version.
    """

    def __init__(
        self, network: TextNetwork, layer: str, drawn: Texts, seed: int, cache: ResultCache, folder: str, encoder: str
    ) -> None:
        self._network, self._layer, self._drawn, self._seed = network, layer, drawn, seed
        self._cache, self._folder = cache, folder
        self._made_from = {"seed": seed, "encoder": encoder, "background": digest(*drawn.background)}

    @cached_property
    def _scanner(self) -> SequenceScanner:
        space = Layers(self._network, [self._layer])
        space.forward_batch = 64
        return SequenceScanner(space, random_state=self._seed).fit(self._drawn.background)

    def located(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Measure where the scan points in the texts into which orders were put; see `located`."""
        injected = self._drawn.injected
        return located(self.scans(ORDERS, injected.texts), injected)

    def scans(self, name: str, texts: Sequence[str]) -> SequenceScans:
        """Scan texts."""

        def make() -> Arrays:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".* other numbers of positions")  # some are odd by that
                return pack_scans(self._scanner.scan(texts))

        made_from = {**self._made_from, "texts": digest(*texts)}
        return unpack_scans(self._cache.get_or_make(f"{self._folder}/{self._layer}/{name}", made_from, make), texts)


def located(found: SequenceScans, injected: Injected) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Measure how the characters that scans found lie over those that were put in, and keep the first texts.

    Returns
    -------
    dict of str to float
        Means over texts: "precision" and "recall" of characters, "chance", the share that was put in, and "flagged".
    list of dict
        The first texts, with the spans that were put in and found.
    """
    precision, recall, chance = [], [], []
    for one, text, (start, end) in zip(found, injected.texts, injected.spans, strict=True):
        mask = np.zeros(len(text), bool)
        for first, behind in one.spans:
            mask[first:behind] = True
        precision.append(mask[start:end].sum() / mask.sum() if mask.any() else np.nan)
        recall.append(mask[start:end].mean())
        chance.append((end - start) / len(text))
    measured = {
        "precision": float(np.nanmean(precision)),
        "recall": float(np.mean(recall)),
        "chance": float(np.mean(chance)),
        "flagged": float(np.mean(found.is_flagged)),
    }
    shown = [
        {"text": text, "put_in": list(span), "found": [list(own) for own in one.spans], "p_value": one.p_value}
        for one, text, span in zip(found[:_SHOWN], injected.texts, injected.spans, strict=False)
    ]
    return measured, shown
