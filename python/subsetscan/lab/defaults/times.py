"""What the automatic detector takes beside the detectors of scikit-learn, on the same rows."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from ...detectors import AutomaticDetector
from ..experiment.files import write_rows

__all__ = ["DETECTORS", "SHAPES", "Timing", "measure", "processor", "read_times", "write_times"]

SHAPES = ((512, 1300), (1536, 2000), (4096, 1000))  # nodes, rows of the background; no layer is read wider
N_NEW = 1000
_REPEATS, _LONG = 3, 30.0  # what takes seconds like these is measured once

Steps = tuple[Callable[[np.ndarray], object], Callable[[np.ndarray], object]]  # fit; score


@dataclass(frozen=True)
class Timing:
    """Median seconds of one detector: its fit, and the scores of new rows; the processor, and its load before.

    And the most memory that it took beside the rows, in megabytes, where the system says.
    """

    n_nodes: int
    n_background: int
    n_new: int
    detector: str
    fit: float
    score: float
    processor: str
    load: float
    memory: float = math.nan


def _automatic() -> Steps:
    detector = AutomaticDetector()
    return detector.fit, detector.anomaly_score


def _neighbors() -> Steps:
    search = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute")
    return search.fit, search.kneighbors


def _mahalanobis() -> Steps:
    covariance = LedoitWolf()
    return covariance.fit, covariance.mahalanobis


DETECTORS: dict[str, Callable[[], Steps]] = {
    "AutomaticDetector()": _automatic,
    "NearestNeighbors(n_neighbors=10, metric='cosine', algorithm='brute')": _neighbors,
    "LedoitWolf()": _mahalanobis,
}


def measure(
    shapes: Sequence[tuple[int, int]] = SHAPES,
    n_new: int = N_NEW,
    detectors: Mapping[str, Callable[[], Steps]] = DETECTORS,
) -> Iterator[Timing]:
    """Time each detector on rows that are made up: 20 common causes and noise, float32.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Numbers of nodes, and of rows of the background.
    n_new : int
        How many new rows are scored.
    detectors : mapping of str to callable
        Make what fits, and what scores.
    """
    rng = np.random.default_rng(0)
    about = processor(), round(os.getloadavg()[0], 1)
    for n_nodes, n_background in shapes:
        mix = rng.normal(size=(20, n_nodes))
        background, rows = (
            (rng.normal(size=(n, 20)) @ mix + rng.normal(size=(n, n_nodes))).astype(np.float32)
            for n in (n_background, n_new)
        )
        for name, make in detectors.items():
            taken: list[tuple[float, float]] = []
            before = _restarted_peak()
            while len(taken) < _REPEATS and sum(map(sum, taken)) < _LONG:
                fit, score = make()
                taken.append((_seconds(fit, background), _seconds(score, rows)))
            fit_taken, score_taken = (round(float(median), 3) for median in np.median(taken, axis=0))
            memory = round(max(_memory("VmHWM") - before, 0) / 1e6, 1)
            yield Timing(n_nodes, n_background, n_new, name, fit_taken, score_taken, *about, memory)


def _seconds(step: Callable[[np.ndarray], object], rows: np.ndarray) -> float:
    started = time.perf_counter()
    step(rows)
    return time.perf_counter() - started


def _restarted_peak() -> float:
    """Let Linux measure the peak of this process' memory anew, and return what it has now; NaN on other systems.

    What was freed goes back to the system first: reused, it would not count.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _memory("VmRSS")
    return math.nan


def _memory(name: str) -> float:
    """Read one of the sizes of this process in bytes; NaN where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    sizes = [1024 * float(line.split()[1]) for line in lines if line.startswith(f"{name}:")]
    return sizes[0] if sizes else math.nan


def processor() -> str:
    """Name the processor, with its number of cores, as far as the system says."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name"]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def write_times(path: Path | str, times: Sequence[Timing]) -> None:
    """Write a CSV file of times."""
    write_rows(path, [field.name for field in fields(Timing)], map(asdict, times))


def read_times(path: Path | str) -> list[Timing]:
    """Read what `write_times` wrote."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Timing(
            n_nodes=int(row["n_nodes"]),
            n_background=int(row["n_background"]),
            n_new=int(row["n_new"]),
            detector=row["detector"],
            fit=float(row["fit"]),
            score=float(row["score"]),
            processor=row["processor"],
            load=float(row["load"]),
            memory=float(row.get("memory") or math.nan),
        )
        for row in rows
    ]
