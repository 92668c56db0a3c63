"""How time, bandwidth and memory are measured."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

__all__ = ["Sweep", "memory_of", "rounds", "summary", "timed"]

SLOW, SLOWER = 10.0, 60.0  # seconds: a call that takes longer is made three times only, or once


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Time one call, in seconds, and return what it returned."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def rounds(calls: Mapping[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Time calls in turn, round by round, so that a disturbance meets all of them; and keep what each returned last.

    How many "cores" a call kept busy tells whether something else ran there: fewer than one is a disturbance.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    processor: dict[str, float] = dict.fromkeys(calls, 0.0)
    results: dict[str, Any] = {}
    for n in range(repeats):
        for name, call in calls.items():
            if (n >= 3 and np.median(times[name]) > SLOW) or (n and times[name][0] > SLOWER):
                continue
            results.pop(name, None)  # its memory is free before it is needed again
            before = time.process_time()
            seconds, results[name] = timed(call)
            processor[name] += time.process_time() - before
            times[name].append(seconds)
    found = {name: summary(taken) | {"cores": processor[name] / sum(taken)} for name, taken in times.items()}
    return found, results


def summary(times: list[float]) -> dict[str, Any]:
    """Reduce times to the median and the quartiles."""
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
    return {"median": float(median), "quartiles": [float(low), float(high)], "n": len(times)}


def cache_bytes() -> int:
    """Return the size of the last-level cache, or 32 MB where the system does not tell."""
    sizes = [32 << 20]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(ValueError):
            sizes.append(int(file.read_text().strip().removesuffix("K")) << 10)
    return max(sizes)


class Sweep:
    """Memory that is larger than every cache: reading it leaves nothing else there, and tells the bandwidth."""

    def __init__(self, scale: float) -> None:
        n_bytes = max(1 << 30, 3 * cache_bytes()) if scale >= 0.5 else 64 << 20
        self._values = np.ones(n_bytes // 8, dtype=np.int64)

    def __call__(self) -> None:
        _total(self._values, get_num_threads())

    def bandwidth(self, repeats: int = 9) -> dict[str, Any]:
        """Measure how many bytes a second can be read: the better of numba's sum, on all threads, and numpy's."""
        self()
        calls = {"numba": self, "numpy": self._values.sum}
        times, _ = rounds(calls, repeats)
        found = {name: self._values.nbytes / taken["median"] for name, taken in times.items()}
        return {"bytes_per_second": max(found.values()), "by": found, "buffer_bytes": self._values.nbytes}


@njit(parallel=True, nogil=True, cache=True)
def _total(values, n_parts):
    total = 0
    for part in prange(n_parts):
        own = 0
        for n in range(len(values) * part // n_parts, len(values) * (part + 1) // n_parts):
            own += values[n]
        total += own
    return total


def memory_of(call: Callable[[], Any]) -> tuple[int, Any]:
    """Measure by how many bytes this process grew at most during a call, and return what it returned."""
    with contextlib.suppress(OSError):  # where the peak can't be reset, a higher one before hides this one
        Path("/proc/self/clear_refs").write_text("5")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    result = call()
    return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before), result
