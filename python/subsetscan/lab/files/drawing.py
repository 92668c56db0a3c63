"""The figure: attacked files, what was changed and what the scan found; beside them the same files as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ... import plot
from ...sequence_result import SequenceScans
from ..subjects.magika_attack import Attacked
from ..subjects.magika_network import as_bytes
from .edits import BINARY
from .sample import Sample
from .where import BYTES

__all__ = ["draw"]

_PART = 600  # bytes of the beginning that are drawn
_MOST, _LEAST_CHANGED = 3, 3  # files; changed bytes of that part
_COLUMNS, _LINES = 64, 14


def draw(
    path: Path, sample: Sample, attacked: Attacked, found: SequenceScans, before: SequenceScans
) -> list[dict[str, float]]:
    """Draw the first attacked text of each of the first types of which one has some changes in its beginning.

    Parameters
    ----------
    path : Path
    sample : Sample
    attacked : Attacked
    found, before : SequenceScans
        In the attacked files, and in the same files as they were.

    Returns
    -------
    list of dict of str to float
        The p-values of the scan in each file, "before" and "after" the attack; without such a file nothing is drawn.
    """
    rows = _chosen(sample, attacked)
    if not rows:
        return []
    figure = plot.new_figure(12, 2.6 * len(rows))
    panels = figure.subplots(len(rows), 2, squeeze=False)
    for row, (one, other) in zip(rows, panels, strict=True):
        source = attacked.sources[row]
        own, clean = attacked.tokens[row, :_PART], sample.test[source, :_PART]
        name = f"{sample.types[sample.test_types[source]]}, {sample.names[source]}"
        for panel, scans, tokens, title in ((one, before, clean, name), (other, found, own, "attacked")):
            scan = scans[row]
            part = replace(scan, positions=scan.positions[: _PART // BYTES], strength=scan.strength[: _PART // BYTES])
            plot.text_panel(
                panel,
                part,
                as_bytes(tokens),
                set(np.flatnonzero(tokens != clean).tolist()),
                title=f"{title}: p = {scan.p_value:.3g}{', flagged' if scan.is_flagged else ''}",
                columns=_COLUMNS,
                most_lines=_LINES,
                size=6.5,
            )
    plot.save(figure, path)
    return [{"before": float(before.p_value[row]), "after": float(found.p_value[row])} for row in rows]


def _chosen(sample: Sample, attacked: Attacked) -> list[int]:
    n_changed = (attacked.tokens != sample.test[attacked.sources])[:, :_PART].sum(axis=1)
    kinds = sample.test_types[attacked.sources]
    rows: list[int] = []
    for kind in np.unique(kinds):
        own = np.flatnonzero((kinds == kind) & (n_changed >= _LEAST_CHANGED))
        if sample.types[kind] not in BINARY and len(own):
            rows.append(int(own[0]))
    return rows[:_MOST]
