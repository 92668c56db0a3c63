"""`subsetscan experiment files`: attacked files of many types, and an attacker who knows the detector."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..._tables import text_table
from ...plot.report import Results, check_libraries, sequence_results, write_report
from ...sequence_result import SequenceScans
from ..experiment.files import write_json
from ..kept_scans import pack_scans, unpack_scans
from ..markdown import check_renders
from ..options import start_writing
from ..progress import Progress
from ..result_cache import Arrays, ResultCache, code_version, fingerprint
from ..subjects.found import version_of
from ..subjects.magika_attack import Attacked, attack, changed_at_random
from ..subjects.magika_network import POSITIONS, Magika, as_bytes
from .attackers import Pursued, Usual, pursue, seen_by, usual_of
from .cells import CLEAN, CONFIDENCES, OTHERS, Cell, cells_of, confidence_name, read_cells, write_cells
from .drawing import draw
from .edits import EDITS
from .methods import AUTOMATIC, BOTH, RATE, Judge, Judged
from .page import write_page
from .sample import PYTHON, Sample, Setting, make_sample
from .where import BYTES, Within, measures, over_changes

__all__ = ["files"]

_QUICK = Setting(
    n_ending=50, n_background=110, n_test=12, least=112, n_edited=2, n_attacked=2, n_adaptive=1, n_tried=4, budget=20,
    weights=(1.0,),
)  # fmt: skip
# Of the stages, on two cores, roughly. In the small version detectors are fitted all the same, but little is attacked.
_SECONDS = {"files": 50.0, "attacks": 70.0, "scores": 60.0, "where": 100.0, "adaptive attacks": 900.0}
_QUICK_SECONDS = {"files": 20.0, "attacks": 5.0, "scores": 40.0, "where": 40.0, "adaptive attacks": 3.0}
_CHUNK = 20  # files that are attacked at once, and kept
_DIGITS = 5
# The code that what is kept depends on.
_MADE_BY = (
    "_core", "background", "calibration", "combination", "decisions", "detectors", "group_scan", "residuals", "scanner",
    "scanning", "sequence_result", "sequence_scan", "networks", "spaces", "lab.files.attackers", "lab.files.edits",
    "lab.files.methods", "lab.files.sample", "lab.files.where", "lab.kept_scans", "lab.subjects.edits",
    "lab.subjects.found", "lab.subjects.magika_attack", "lab.subjects.magika_network",
)  # fmt: skip


def files(
    out: Path | str,
    *,
    kept: Path | str | None = None,
    quick: bool = False,
    seed: int = 0,
    report: bool = False,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Judge the detectors on attacked files of many types, and let an attacker who knows of them try.

    Files, attacks and scores are kept as they are made.

    Parameters
    ----------
    out : path-like
        Folder for ``files.md`` and ``files/``: every number as CSV and JSON, and a figure.
    report : bool, default False
        Whether to write ``files/report.html`` too: attacked files, and their bytes that the scan within them finds.
    kept, quick, seed, progress, say
        As for `subsetscan.lab.defaults.run.defaults`.

    Returns
    -------
    dict
        The content of ``files/results.json``.

    Raises
    ------
    ValueError
        If the machine has too few files.
    ModuleNotFoundError
        If magika, onnx or onnxruntime is missing; the message says what to install.
    OSError
        If a file cannot be read or written.
    """
    started = time.monotonic()
    out, setting = Path(out), _QUICK if quick else Setting()
    check_renders(figures=True)
    if report:
        check_libraries()
    network = Magika()
    stages = Progress(progress=progress, say=say)
    for name, seconds in (_QUICK_SECONDS if quick else _SECONDS).items():
        stages.expect(name, seconds)
    study = _Study(network, setting, seed, Path(out / "kept" if kept is None else kept), stages)
    start_writing(out, "files.md")
    start_writing(out / "files", "cells.csv", "results.json", "files.png", "report.html")
    cells, results = study.results()
    results |= {
        "quick": quick,
        "seed": seed,
        "setting": asdict(setting),
        "source": f"Magika (PyPI {version_of('magika')}, Apache-2.0, ONNX)",
        "machine": _machine(),
        "seconds": study.seconds,
        "figure": study.draw(out / "files" / "files.png"),
    }
    write_cells(out / "files" / "cells.csv", cells)
    write_json(out / "files" / "results.json", results)
    write_page(out / "files.md", results, read_cells(out / "files" / "cells.csv"))
    if report:
        write_report(study.found(), out / "files" / "report.html")
    header = ["file", "seen before", "after", "p-value", "flagged", "positions found", "right"]
    rows = [
        [
            *(one[name] for name in ("name", "before", "after")),
            f"{one['p_value']:.4f}",
            "yes" if one["p_value"] <= RATE else "no",
            str(one["n_found"]),
            "" if one["precision"] is None else f"{one['precision']:.0%}",
        ]
        for one in results["shown"]
    ]
    say(text_table(header, rows))
    say(f"wrote files.md and files/ to {out}/ in {time.monotonic() - started:.0f} s")
    return results


def _machine() -> str:
    """Name the processor, where Linux tells, and the number of processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"{name}, {os.cpu_count()} processors"


class _Study:
    """What is made, each thing once: kept, or taken from where it is kept."""

    def __init__(self, network: Magika, setting: Setting, seed: int, folder: Path, stages: Progress) -> None:
        package = __name__.partition(".")[0]
        self.network, self.setting, self.seed, self.stages = network, setting, seed, stages
        self.seconds = 0.0  # what all that is kept took to make
        self._cache = ResultCache(folder / "files", code_version(*(f"{package}.{module}" for module in _MADE_BY)))
        with stages.stage("files", 1) as done:
            about: dict[str, Any] = {"seed": seed, "setting": {**asdict(setting), "weights": list(setting.weights)}}
            about |= {"libraries": [version_of(library) for library in ("magika", "onnxruntime")]}
            made = self._timed("sample", about, lambda: make_sample(network, setting, seed).pack())
            self.sample = Sample.unpack(made)
            done(1)
        self._made_from = {"sample": fingerprint(*(made[name] for name in sorted(made))), **about}
        self.judge = Judge(network, self.sample)

    def _keep(self, name: str, tokens: np.ndarray, make: Callable[[], Arrays]) -> Arrays:
        return self._timed(name, {**self._made_from, "tokens": fingerprint(tokens)}, make)

    def _timed(self, name: str, made_from: dict[str, Any], make: Callable[[], Arrays]) -> Arrays:
        def timed() -> Arrays:
            started = time.monotonic()
            return {**make(), "seconds": np.array(time.monotonic() - started)}

        kept = self._cache.get_or_make(name, made_from, timed)
        self.seconds += float(kept.pop("seconds"))
        return kept

    def results(self) -> tuple[list[Cell], dict[str, Any]]:
        """Make everything."""
        sample = self.sample
        known = sample.test_types < len(sample.types) - 1
        attacks = self._attacks()
        rng = np.random.default_rng([self.seed, 1])
        # By kind: the files, which test file each was, and how many bytes were changed.
        kinds: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for name, rows in ((CLEAN, np.flatnonzero(known)), (OTHERS, np.flatnonzero(~known))):
            kinds[name] = sample.test[rows], rows, np.zeros(len(rows), np.int64)
        for confidence, attacked in attacks.items():
            name = confidence_name(confidence)
            kinds[name] = attacked.tokens, attacked.sources, attacked.n_changed
            random = changed_at_random(sample.test, attacked, rng)
            kinds[f"random as {name}"] = random, attacked.sources, attacked.n_changed
        for name, (tokens, sources) in sample.edited.items():
            kinds[name] = tokens, sources, np.zeros(len(tokens), np.int64)
        kinds = {name: of for name, of in kinds.items() if len(of[0])}  # an edit may apply to no file
        judged = {}
        with self.stages.stage("scores", len(kinds)) as done:
            for name, (tokens, _, _) in kinds.items():
                judged[name] = self._judged(name, tokens)
                done(1)
        cells = cells_of(sample, kinds, judged)
        confident, sure = attacks[CONFIDENCES[-1]], judged.get(confidence_name(CONFIDENCES[-1]))
        nearest = np.empty(0, np.int64) if sure is None else sure.types
        with self.stages.stage("where", 2) as done:
            self._found = self._within("attacked", confident.tokens, nearest)
            done(1)
            originals = sample.test[confident.sources]
            self._clean_found = self._within("originals", originals, sample.test_types[confident.sources])
            done(1)
        self._confident = confident
        where = self._where(confident, originals)
        pursued = self._pursuits()
        shown = [] if sure is None else self._shown(confident, sure, where)
        tried = sample.first_of_each(self.setting.n_attacked)
        return cells, {
            "types": sample.types,
            "n_background": [n for n, _ in sample.n_of_types],
            "n_test": [n for _, n in sample.n_of_types],
            "n_tried": len(tried),
            "changes": {
                confidence_name(c): {
                    "n": len(a.tokens),
                    "n_changed": a.n_changed.tolist(),
                    "sources": sample.test_types[a.sources].tolist(),
                }
                for c, a in attacks.items()
            },
            "retyped": {name: self._retyped(judged[name], sources) for name, (_, sources, _) in kinds.items()},
            "edits": {name: {"role": edit.role, "about": edit.about} for name, edit in EDITS.items()},
            "where": where,
            "pursued": pursued,
            "shown": shown,
        }

    def _attacks(self) -> dict[float, Attacked]:
        rows = self.sample.first_of_each(self.setting.n_attacked)
        parts: list[dict[float, Attacked]] = []
        with self.stages.stage("attacks", len(rows)) as done:
            for start in range(0, len(rows), _CHUNK):
                own = rows[start : start + _CHUNK]
                tokens = self.sample.test[own]

                def make(tokens: np.ndarray = tokens) -> Arrays:
                    found = attack(self.network, tokens, CONFIDENCES, self.setting.most_changes)
                    return {f"{c}/{key}": value for c, a in found.items() for key, value in vars(a).items()}

                kept = self._keep(f"attacks/{start}", tokens, make)
                part = {
                    c: Attacked(**{key: kept[f"{c}/{key}"] for key in Attacked.__dataclass_fields__})
                    for c in CONFIDENCES
                }
                parts.append({c: _moved(a, own) for c, a in part.items()})
                done(len(own))
        return {c: _joined([part[c] for part in parts]) for c in CONFIDENCES}

    def _judged(self, name: str, tokens: np.ndarray) -> Judged:
        kept = self._keep(f"scores/{name}", tokens, lambda: self.judge.judge(tokens)._asdict())
        return Judged(**{field: kept[field] for field in Judged._fields})

    def _within(self, name: str, tokens: np.ndarray, types: np.ndarray) -> SequenceScans:
        if not hasattr(self, "_scanners"):
            self._scanners = Within(self.network, self.sample, self.seed)
        kept = self._keep(f"where/{name}", tokens, lambda: pack_scans(self._scanners.scan(tokens, types)))
        return unpack_scans(kept)

    def _retyped(self, judged: Judged, sources: np.ndarray) -> float:
        """Return the share of files, but Python's, that Magika sees as another type than the test file they were."""
        seen = np.array(self.network.types)[judged.seen]
        before = self.sample.type_names(sources)
        own = before != PYTHON
        return float(np.mean((seen != before)[own])) if own.any() else float("nan")

    def _where(self, attacked: Attacked, originals: np.ndarray) -> list[dict[str, Any]]:
        """Tell for every file where the scan pointed."""
        changed = attacked.tokens != originals
        positions = np.array(self._found.positions, bool).reshape(-1, changed.shape[1] // BYTES)
        precision, recall, chance = measures(positions, changed)
        n_right = (positions & over_changes(changed)).sum(axis=1)
        return [
            {
                "type": kind,
                "precision": None if np.isnan(precision[n]) else round(float(precision[n]), _DIGITS),
                "recall": round(float(recall[n]), _DIGITS),
                "chance": round(float(chance[n]), _DIGITS),
                "n_found": int(positions[n].sum()),
                "n_right": int(n_right[n]),
                "p_value": round(self._found[n].p_value, _DIGITS),
                "p_value_before": round(self._clean_found[n].p_value, _DIGITS),
            }
            for n, kind in enumerate(self.sample.type_names(attacked.sources).tolist())
        ]

    def _pursuits(self) -> list[dict[str, Any]]:
        setting, rows = self.setting, self.sample.first_of_each(self.setting.n_adaptive)
        attackers = [
            (against, weight, n_tried)
            for against in (AUTOMATIC, BOTH)
            for weight, n_tried in [(0.0, 1), *((weight, setting.n_tried) for weight in (0.0, *setting.weights))]
        ]
        pursued = []
        with self.stages.stage("adaptive attacks", len(attackers) * len(rows)) as done:
            for against, weight, n_tried in attackers:
                options = {"against": against, "weight": weight, "n_tried": n_tried}
                reached, undetected, p_values = [], [], []
                for start in range(0, len(rows), _CHUNK):
                    tokens = self.sample.test[rows[start : start + _CHUNK]]
                    found = self._pursued(tokens, start, against, weight, n_tried)
                    reached += found.reached.tolist()
                    undetected += found.undetected.tolist()
                    p_values += found.p_values.round(_DIGITS).tolist()
                    done(len(tokens))
                pursued.append(
                    {
                        **options,
                        "reached": reached,
                        "undetected": undetected,
                        "p_values": p_values,
                        "types": self.sample.test_types[rows].tolist(),
                    }
                )
        return pursued

    def _pursued(self, tokens: np.ndarray, start: int, against: str, weight: float, n_tried: int) -> Pursued:
        """Let an attacker try. One who never asks the detector tries once, whatever detector then looks."""

        def make() -> Arrays:
            if not weight and against != AUTOMATIC:
                plain = self._pursued(tokens, start, AUTOMATIC, weight, n_tried)
                return vars(seen_by(self.judge, plain, against))
            options: dict[str, Any] = {"n_tried": n_tried, "budget": self.setting.budget, "weight": weight}
            return vars(pursue(self.judge, tokens, **options, usual=self._usual if weight else None, against=against))

        return Pursued(**self._keep(f"pursued/{against}/{weight:g}-{n_tried}/{start}", tokens, make))

    @cached_property
    def _usual(self) -> Usual:
        return usual_of(self.judge, self.sample.background_types)

    def _shown(self, attacked: Attacked, judged: Judged, where: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """List the first attacked file of each type."""
        kinds = self.sample.test_types[attacked.sources]
        firsts = [int(np.flatnonzero(kinds == kind)[0]) for kind in np.unique(kinds)]
        return [
            {
                "name": self.sample.names[attacked.sources[n]],
                "before": self.sample.types[kinds[n]],
                "after": self.network.types[judged.seen[n]],
                "n_changed": int(attacked.n_changed[n]),
                "p_value": round(float(judged.p_values[n, 0]), _DIGITS),
                "n_found": where[n]["n_found"],
                "precision": where[n]["precision"],
            }
            for n in firsts
        ]

    def found(self) -> Results:
        """Return what the scan within files found, as a report takes it."""
        attacked, sample = self._confident, self.sample
        of = sample.type_names(attacked.sources)
        changed = attacked.tokens != sample.test[attacked.sources]
        return sequence_results(
            {CLEAN: self._clean_found, "attacked": self._found},
            {"attacked": [as_bytes(one) for one in attacked.tokens]},
            space=POSITIONS.rpartition("/")[0].rpartition("/")[-1],
            known={"attacked": [np.flatnonzero(one).tolist() for one in changed]},
            titles={"attacked": [f"{kind}, {sample.names[n]}" for kind, n in zip(of, attacked.sources, strict=True)]},
            about={
                "experiment": "files",
                "read": "the first and the last 1,024 bytes of a file; four of them are a position",
                "n_background": int((sample.background_types < len(sample.types) - 1).sum()),
                "detector": {"name": "SequenceScanner, beside files of the same type", "false_positive_rate": RATE},
                "seed": self.seed,
            },
        )

    def draw(self, path: Path) -> list[dict[str, float]]:
        """Draw attacked files beside what they were; return the p-values of those that are drawn."""
        return draw(path, self.sample, self._confident, self._found, self._clean_found)


def _moved(attacked: Attacked, rows: np.ndarray) -> Attacked:
    """Let the sources be places among all test files."""
    return Attacked(attacked.tokens.reshape(-1, 2048), rows[attacked.sources], attacked.n_changed, attacked.confidences)


def _joined(parts: Sequence[Attacked]) -> Attacked:
    names = Attacked.__dataclass_fields__
    return Attacked(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
