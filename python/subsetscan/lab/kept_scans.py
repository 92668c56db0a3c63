"""Scans within texts and series as arrays, which a `ResultCache` keeps, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..sequence_result import SequenceScan, SequenceScans, spans_of
from .result_cache import Arrays

__all__ = ["pack_scans", "unpack_scans"]

_OF_EACH = {"score": float, "anomaly_score": float, "p_value": float, "is_flagged": bool, "alpha": float}
_OF_POSITIONS = {"positions": bool, "strength": np.float64, "distances": np.float64}


def pack_scans(scans: SequenceScans) -> Arrays:
    """Lay scans out as arrays, those of all inputs one after another; texts are left out."""
    packed: Arrays = {name: np.array([getattr(one, name) for one in scans], kind) for name, kind in _OF_EACH.items()}
    for name, kind in {**_OF_POSITIONS, "nodes": np.int64}.items():
        packed[name] = np.concatenate([np.empty(0, kind), *(getattr(one, name) for one in scans)])
    for name in ("positions", "nodes"):
        packed[f"n_{name}"] = np.array([len(getattr(one, name)) for one in scans], np.int64)
    if characters := [one.characters for one in scans if one.characters is not None]:
        packed["characters"] = np.concatenate(characters)
    return packed


def unpack_scans(packed: Arrays, texts: Sequence[str] | None = None) -> SequenceScans:
    """Make scans of what `pack_scans` laid out; `texts` are those that were scanned, where they were texts."""
    places, nodes = (_slices(packed[f"n_{name}"]) for name in ("positions", "nodes"))
    scans = []
    for n, (own, of_nodes) in enumerate(zip(places, nodes, strict=True)):
        fields: dict[str, Any] = {name: kind(packed[name][n]) for name, kind in _OF_EACH.items()}
        fields |= {name: packed[name][own] for name in _OF_POSITIONS}
        characters = packed["characters"][own] if "characters" in packed else None
        fields |= {"spans": spans_of(fields["positions"], characters), "characters": characters}
        text = None if texts is None else texts[n]
        scans.append(SequenceScan(**fields, nodes=packed["nodes"][of_nodes], text=text))
    return SequenceScans(scans)


def _slices(lengths: np.ndarray) -> list[slice]:
    ends = np.cumsum(lengths).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
