"""Scans within texts and files as a page shows them: scores, and the words or bytes of the most anomalous inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...sequence_result import SequenceScan, SequenceScans, runs_of
from ..sequence import by_character, shown
from .results import Results, most_anomalous

__all__ = ["parts_of", "sequence_results"]

_MOST, _AROUND = 1500, 60  # characters of a text, and on both sides of what is marked
_SHORTEST_GAP = 30
_NAMED = 5  # spans, units
_OF_KNOWN = 1e-3  # what is only known to be changed gives way to what was found


def sequence_results(
    sets: Mapping[str, SequenceScans],
    inputs: Mapping[str, Sequence[str | bytes]] | None = None,
    *,
    space: str = "positions",
    known: Mapping[str, Sequence[Collection[int]]] | None = None,
    titles: Mapping[str, Sequence[str]] | None = None,
    about: Mapping[str, Any] | None = None,
    n_shown: int = 8,
) -> Results:
    """Turn scans within inputs into what `write_report` takes.

    Parameters
    ----------
    sets : mapping of str to SequenceScans
        What was found in each set of inputs. A set named "clean" is what the others are told from.
    inputs : mapping of str to sequence of str or bytes, optional
        The inputs of some sets, as for `subsetscan.plot.sequence`: each position stands for an equal part of them. By
        default the texts that were scanned; without any, positions are told by number.
    space : str, default "positions"
        A name for what was scanned, such as the layer's.
    known : mapping of str to sequence of collections of int, optional
        For inputs of some sets the characters or bytes that are known to be changed.
    titles : mapping of str to sequence of str, optional
        What the inputs of some sets are called.
    about : mapping, optional
        What was scanned and how, for the end of the page.
    n_shown : int, default 8
        How many inputs are shown with what is anomalous: the most anomalous of each set, clean ones left out.

    Returns
    -------
    Results

    Raises
    ------
    ValueError
        If there is no set, or one has another number of inputs, titles or changes than of scans.

    Examples
    --------
    >>> from subsetscan import SequenceScanner
    >>> rng = np.random.default_rng(0)
    >>> clean = [rng.normal(size=(30, 12)) for _ in range(200)]
    >>> clean[-1][9:14, :4] += 5
    >>> found = SequenceScanner(random_state=0).fit(clean[:150]).scan(clean[150:])
    >>> results = sequence_results({"new": found}, {"new": [f"input number {n:<17}" for n in range(50)]}, n_shown=1)
    >>> results.gallery[0]["title"], results.gallery[0]["spaces"][0]["where"]
    ('new 49', 'characters 9-13; units 0, 1, 2, 3')
    """
    if not sets:
        raise ValueError("expected scans of at least one set, got none")
    for what, own in (("inputs", inputs), ("titles", titles), ("known changes", known)):
        for name, values in (own or {}).items():
            if name not in sets or len(values) != len(sets[name]):
                n_scans = f"{len(sets[name])} scans" if name in sets else "no scans"
                raise ValueError(f"set {name!r} has {len(values)} {what}, and {n_scans}")
    chosen = most_anomalous(
        {name: own.anomaly_score for name, own in sets.items()},
        {name: own.p_value for name, own in sets.items()},
        n_shown,
    )
    return Results(
        sets=list(sets),
        spaces=[space],
        scores={name: {space: own.anomaly_score} for name, own in sets.items()},
        p_values={name: {space: own.p_value} for name, own in sets.items()},
        null_scores={},
        summary=about or {},
        gallery=[
            _entry(
                titles[name][n] if titles and name in titles else f"{name} {n}",
                sets[name][n],
                inputs[name][n] if inputs and name in inputs else sets[name][n].text,
                known[name][n] if known and name in known else (),
                space,
            )
            for name, n in chosen
        ],
        folder=Path(),
    )


def _entry(
    title: str, found: SequenceScan, given: str | bytes | None, known: Collection[int], space: str
) -> dict[str, Any]:
    """Make what the gallery shows of one input."""
    told = [f"{_unit(found, given)} {_first(places)}"] if (places := _places(found, given)) else []
    if len(found.nodes):
        told.append(f"units {_first(list(map(str, found.nodes.tolist())))}")
    return {
        "title": title,
        "p_value": found.p_value,
        "score": found.anomaly_score,
        "picture": None,
        "text": None if given is None or found.positions.ndim != 1 else parts_of(found, given, known),
        "spaces": [{"space": space, "p_value": found.p_value, "size": len(found.nodes), "where": "; ".join(told)}],
    }


def _places(found: SequenceScan, given: str | bytes | None) -> list[str]:
    """Name neighbouring positions together, those with the most of the block's units first."""
    if found.positions.ndim != 1:
        return []
    spans, runs, n = found.spans, found.runs(), found.positions.size
    if given is not None and given != found.text:  # as `by_character` spreads them
        spans = [(-(-start * len(given) // n), -(-end * len(given) // n)) for start, end in runs]
    strongest = [found.strength[start:end].max() for start, end in runs]
    ordered = (spans[place] for place in np.argsort(np.negative(strongest), kind="stable"))
    return [f"{start}-{end - 1}" if end - start > 1 else str(start) for start, end in ordered]


def _unit(found: SequenceScan, given: str | bytes | None) -> str:
    if isinstance(given, bytes):
        return "bytes"
    return "positions" if given is None and found.characters is None else "characters"


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def parts_of(
    found: SequenceScan, given: str | bytes, known: Collection[int] = ()
) -> list[tuple[str, float | None, bool]]:
    """Cut a text into parts of equal strength, and leave out what is far from any that is marked.

    Parameters
    ----------
    found : SequenceScan
    given : str or bytes
    known : collection of int
        Characters or bytes that are known to be changed.

    Returns
    -------
    list of (str, float or None, bool)
        What is written; which part of the block's units is anomalous there, in [0, 1], None where something is left
        out; and whether it is known to be changed.
    """
    weights, letters = by_character(found, given), shown(given)
    is_known = np.zeros(len(given), bool)
    is_known[[place for place in known if place < len(given)]] = True
    kept = _kept(np.maximum(weights, _OF_KNOWN * is_known))
    is_edge = np.any([np.diff(own) != 0 for own in (kept, weights * kept, is_known & kept)], axis=0)
    edges = [0, *(np.flatnonzero(is_edge) + 1).tolist(), len(given)]
    return [
        (letters[start:end], float(weights[start]), bool(is_known[start]))
        if kept[start]
        else (_left_out(weights[start:end], _unit(found, given)), None, False)
        for start, end in pairwise(edges)
        if end > start
    ]


def _left_out(weights: np.ndarray, unit: str) -> str:
    n_found = int((weights > 0).sum())
    return f" … {len(weights):,} {unit}{f', {n_found:,} of them found' if n_found else ''} … "


def _kept(marks: np.ndarray) -> np.ndarray:
    """Choose which characters are shown: all of a short text, of a long one those around the strongest marks."""
    kept = np.full(len(marks), len(marks) <= _MOST)
    for start, end in sorted(runs_of(marks > 0), key=lambda run: -marks[slice(*run)].sum()):
        room = _MOST - int(kept.sum())
        if room > 0:
            kept[max(start - _AROUND, 0) : min(end, start + room) + _AROUND] = True
    if not kept.any():
        kept[:_MOST] = True
    for start, end in runs_of(~kept):
        if end - start < _SHORTEST_GAP:
            kept[start:end] = True
    return kept
