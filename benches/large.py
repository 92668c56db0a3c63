"""Measure what is larger than memory, and more than one process: write docs/large.md and its numbers.

python benches/large.py [--gigabytes 12] [--folder FOLDER]   with as much free disk, twice, in FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import dask
import dask.array as da
import jinja2
import numpy as np
from compare import processor
from distributed import Client, LocalCluster

from subsetscan import Background
from subsetscan._files import atomic_write
from subsetscan.adapters import dask_automatic
from subsetscan.adapters.dask import DaskBackground
from subsetscan.adapters.dask_automatic import DaskAutomatic
from subsetscan.blocked import BlockedBackground
from subsetscan.builder import BackgroundBuilder
from subsetscan.detectors import AutomaticDetector

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "large"
SAMPLES, TESTED = 20_000, 200
ALPHA_MAX = 0.5
INDEXED, PROCESSES = 70_000, 4  # nodes of a mapped file, and who maps it
REPEATS = 20
LIMIT, OWN_LIMIT = 1 << 30, 600 << 20  # of the process, and what BlockedBackground is given of it
SINGLES = 1_000_000
KEPT: list[Background] = []  # mapped until the process ends
CLUSTER = (8_000, 4_000, 400)  # inputs of the background, nodes, inputs
ROWS, NODES = 500, 500  # of a chunk
AUTOMATIC, AUTOMATIC_TESTED = ((1_000, 20_000), (10_000, 1_000)), 200  # inputs and nodes
TIED = 90  # small arrays with ties
PLANNED = (10**9, 10**6)  # inputs and nodes of the plan
PLANNED_ALPHA, PLANNED_CHUNK = 0.001, (10**7, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=12)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        what, folder = asked.child
        children = {"fit": fit_blocks, "scan": scan_blocks, "map": map_file, "trust": partial(map_file, verify=False)}
        sys.stdout.write(json.dumps(children[what](Path(folder))) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()  # what is mapped stays so until the parent has looked
        return
    with TemporaryDirectory(dir=asked.folder) as folder:
        results = {
            "processor": processor(),
            "builders": [
                builder(tail, alpha_max) for tail, alpha_max in (("upper", 0.05), ("upper", 0.5), (None, None))
            ],
            "blocks": blocks(Path(folder), int(asked.gigabytes * 1e9)),
            "mapped": mapped(Path(folder)),
            "cluster": [cluster(n) for n in (1, 2, 4)],
            "automatic": [automatic(*shape) for shape in AUTOMATIC],
            "ties": ties(),
            "singles": singles(),
        }
    write(results, OUT)


def builder(tail: str | None, alpha_max: float | None) -> dict[str, Any]:
    """Fit in batches, and hold it against a fit of everything at once."""
    values = np.maximum(np.random.default_rng(0).normal(size=(SAMPLES, 2_000)).astype(np.float32), 0)
    started = time.perf_counter()
    whole = Background(values, tail, alpha_max)
    at_once = time.perf_counter() - started
    started, parts = time.perf_counter(), [BackgroundBuilder(SAMPLES, tail, alpha_max) for _ in range(3)]
    for n, batch in enumerate(np.array_split(values, 60)):
        parts[n % 3].add(batch)
    held = parts[0].nbytes
    for part in parts[1:]:
        parts[0].merge(part)
    merged = parts[0].finish()
    return {
        "what": "whole" if tail is None else f"{tail}, alpha_max {alpha_max}",
        "held": held / values.nbytes,
        "kept": whole.nbytes / values.nbytes,
        "slower": (time.perf_counter() - started) / at_once,
        "equal": bool(np.array_equal(merged._columns(), whole._columns())),
    }


def blocks(folder: Path, n_bytes: int) -> dict[str, Any]:
    """Fit and scan a file under a limit that the system holds, and the same in memory if there is as much."""
    n_nodes = n_bytes // (4 * (SAMPLES + TESTED))
    path = folder / "x.npy"
    out = np.lib.format.open_memmap(path, "w+", np.float32, (SAMPLES + TESTED, n_nodes))
    rng = np.random.default_rng(0)
    drawn = np.maximum(rng.normal(size=n_nodes + 4_000_037), 0).astype(np.float32)
    for row in range(len(out)):
        start = rng.integers(len(drawn) - n_nodes)
        out[row] = drawn[start : start + n_nodes] * np.float32(1 + row % 97 / 97)
    out.flush()
    del out
    started = time.perf_counter()
    for _ in range(2):
        with path.open("rb", buffering=0) as file:
            room = bytearray(1 << 24)
            while file.readinto(room):
                pass
    found: dict[str, Any] = {
        "bytes": path.stat().st_size,
        "n_nodes": n_nodes,
        "read_twice": time.perf_counter() - started,
    }
    for what in ("fit", "scan"):
        with child(what, folder) as (found[what], _):
            pass
    shutil.rmtree(folder / "blocks")
    x = np.load(path, mmap_mode="r")
    started = time.perf_counter()
    whole = Background(x[:SAMPLES], "upper", ALPHA_MAX)
    found["fit_whole"], started = time.perf_counter() - started, time.perf_counter()
    scores = whole.scan(x[SAMPLES:]).scores
    found["scan_whole"] = time.perf_counter() - started
    found["one_whole"] = best_of(lambda: whole.scan(x[SAMPLES : SAMPLES + 1]))
    found["equal"] = bool(np.array_equal(scores, np.load(folder / "scores.npy")))
    return found


def fit_blocks(folder: Path) -> dict[str, Any]:
    x = limited(folder)
    started = time.perf_counter()
    background = BlockedBackground.fit(
        x[:SAMPLES], folder / "blocks", tail="upper", alpha_max=ALPHA_MAX, memory_limit=OWN_LIMIT
    )
    return {"seconds": time.perf_counter() - started, "n_blocks": background.n_blocks}


def scan_blocks(folder: Path) -> dict[str, Any]:
    x = limited(folder)
    started = time.perf_counter()
    background = BlockedBackground(folder / "blocks", OWN_LIMIT)
    opened, started = time.perf_counter() - started, time.perf_counter()
    scores = background.scan(x[SAMPLES:]).scores
    first, started = time.perf_counter() - started, time.perf_counter()
    again = background.scan(x[SAMPLES:]).scores
    seconds = time.perf_counter() - started
    if not np.array_equal(scores, again):
        raise AssertionError("a second scan differs")
    np.save(folder / "scores.npy", scores)
    one = best_of(lambda: background.scan(x[SAMPLES : SAMPLES + 1]))
    return {"opened": opened, "first": first, "again": seconds, "one": one}


@contextmanager
def child(what: str, folder: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Run one of the parts in a process of its own, which is there, with what it has mapped, until the block ends."""
    command = [sys.executable, __file__, "--child", what, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), process.pid
        process.stdin.close()


def best_of(call: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def mapped(folder: Path) -> dict[str, Any]:
    """Write an index, and map it from the disk, from memory, and in several processes at the same time."""
    path = folder / "index.safetensors"
    found, expected = write_file(folder, path)
    started = time.perf_counter()
    Background.load(folder / "saved.safetensors")
    found["load"] = time.perf_counter() - started
    (folder / "saved.safetensors").unlink()
    for name, what in (("from_disk_trusted", "trust"), ("from_disk", "map")):  # the last one reads all of it
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # out of the system's memory
        with child(what, folder) as (one, _):
            found[name] = one["first"]
    with child("map", folder) as (one, _):
        found |= {name: one[name] for name in ("opened", "first", "one")}
    with ExitStack() as together:
        running = [together.enter_context(child("map", folder)) for _ in range(PROCESSES)]
        found["processes"] = [memory_of(pid, path) for _, pid in running]
        found["equal"] = all(np.array_equal(one["scores"], expected) for one, _ in running)
    return found


def write_file(folder: Path, path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Write an index and what `save` writes; return how long it took, and the scores that are expected."""
    x = np.load(folder / "x.npy", mmap_mode="r")[:, :INDEXED]
    whole = Background(x[:SAMPLES], "upper", ALPHA_MAX)
    started = time.perf_counter()
    whole.write_index(path)
    found = {"write": time.perf_counter() - started, "n_nodes": whole.n_nodes, "bytes": path.stat().st_size}
    whole.save(folder / "saved.safetensors")
    one = np.ascontiguousarray(x[SAMPLES : SAMPLES + 1])
    return found | {"one_whole": best_of(lambda: whole.scan(one))}, whole.scan(x[SAMPLES:]).scores


def map_file(folder: Path, verify: bool = True) -> dict[str, Any]:
    x = np.ascontiguousarray(np.load(folder / "x.npy", mmap_mode="r")[SAMPLES:, :INDEXED])
    started = time.perf_counter()
    background = Background.map_index(folder / "index.safetensors", verify)
    opened, started = time.perf_counter() - started, time.perf_counter()
    background.scan(x[:1])
    first = time.perf_counter() - started
    one = best_of(lambda: background.scan(x[:1]))
    KEPT.append(background)
    return {"opened": opened, "first": first, "one": one, "scores": background.scan(x).scores.tolist()}


def memory_of(pid: int, path: Path) -> dict[str, int]:
    """Bytes of a file that a process has in memory, its share of them, and all other memory that is its own."""
    found, entry, is_file = {"resident": 0, "share": 0, "own": 0}, "", False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        entry, *rest = line.split(maxsplit=1)
        if not entry.endswith(":"):  # a range of addresses begins
            is_file = line.endswith(str(path))
        elif is_file and entry in ("Rss:", "Pss:"):
            found["resident" if entry == "Rss:" else "share"] += 1024 * int(rest[0].split()[0])
        elif not is_file and entry.startswith("Private_") and entry != "Private_Hugetlb:":
            found["own"] += 1024 * int(rest[0].split()[0])
    return found


def limited(folder: Path) -> np.ndarray:
    """Have the system refuse this process more memory of its own; mapped files are not its own."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    return np.load(folder / "x.npy", mmap_mode="r")


def cluster(n_workers: int) -> dict[str, Any]:
    """Fit and scan on processes of one thread each, and count the bytes that go from one to another."""
    n_samples, n_nodes, n = CLUSTER
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=(n_samples + n, n_nodes)), 0).astype(np.float32)
    whole = Background(values[:n_samples], "upper", ALPHA_MAX).scan(values[n_samples:], return_nodes=True)
    with workers(values, n_workers) as (client, file):
        clean, x = file[:n_samples], file[n_samples:]
        started = time.perf_counter()
        background = DaskBackground.fit(clean, "upper", ALPHA_MAX)
        fit = time.perf_counter() - started
        moved = [sum(client.run(received).values())]
        started = time.perf_counter()
        found = background.scan(x, return_nodes=True)
        scan = time.perf_counter() - started
        moved.append(sum(client.run(received).values()))
        peak = max(client.run(most_resident).values())
    return {
        "n_workers": n_workers,
        "fit": fit,
        "scan": scan,
        "fit_moved": moved[0],
        "scan_moved": moved[1] - moved[0],
        "peak": peak,
        "equal": bool(np.array_equal(found.scores, whole.scores) and not (found.nodes != whole.nodes).nnz),
    }


def automatic(n_samples: int, n_nodes: int) -> dict[str, Any]:
    """Fit the automatic detector in one process and on some, and compare what they give."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, n_nodes))
    values = rng.normal(size=(n_samples + AUTOMATIC_TESTED, 5)) @ mix + rng.normal(
        size=(n_samples + AUTOMATIC_TESTED, n_nodes)
    )
    values = values.astype(np.float32)
    with workers(values, 1) as (client, file):
        whole = client.submit(automatic_whole, file, n_samples).result()
    rows = []
    for n_workers in (1, 2, 4):
        with workers(values, n_workers) as (client, file):
            row = {"n_workers": n_workers, "before": max(client.run(most_resident).values())}
            started = time.perf_counter()
            spread = DaskAutomatic().fit(file[:n_samples])
            row["fit"], started = time.perf_counter() - started, time.perf_counter()
            scores = spread.anomaly_score(file[n_samples:])
            row["score"] = time.perf_counter() - started
            row["moved"] = sum(client.run(received).values())
            row["peak"] = max(client.run(most_resident).values())
            null_scores = spread.null_scores_
            row["differs"] = float(np.abs(scores - whole["scores"]).max())
            row["null_differs"] = float(np.abs(null_scores - whole["null_scores"]).max())
            row["p_values_differ"] = int((spread.p_values_of(scores) != whole["p_values"]).sum())
            rows.append(row)
    one = {name: whole[name] for name in ("before", "fit", "score", "peak")}
    return {"n_samples": n_samples, "n_nodes": n_nodes, "one": one, "rows": rows}


def ties() -> dict[str, int]:
    """Count p-values and verdicts that rounding changes where inputs tie: whole numbers, zeros, copies, few nodes."""
    rng = np.random.default_rng(0)
    counts = {"arrays": 0, "inputs": 0, "p_values": 0, "verdicts": 0}
    with mock.patch.object(dask_automatic, "_LEAST", 0), warnings.catch_warnings():  # or all were one chunk
        warnings.simplefilter("ignore")  # of copies, and of few inputs
        for kind in range(TIED):
            n_samples, n_nodes = rng.integers(20, 60), rng.integers(1, 60)
            values = rng.normal(size=(n_samples + 10, n_nodes))
            if kind % 3 == 0:
                values = np.round(values)
            elif kind % 3 == 1:
                values = np.maximum(values - 1, 0)
            else:
                values[rng.integers(0, n_samples, n_samples // 4)] = values[0]
            whole = AutomaticDetector().fit(values[:n_samples])
            spread = DaskAutomatic().fit(da.from_array(values[:n_samples], (25, 25)))
            x = values[n_samples:]
            counts["arrays"] += 1
            counts["inputs"] += len(x)
            counts["p_values"] += int((spread.p_values(x) != whole.p_values(x)).sum())
            counts["verdicts"] += int((spread.predict(x) != whole.predict(x)).sum())
    return counts


def automatic_whole(file: Any, n_samples: int) -> dict[str, Any]:
    """Fit the automatic detector in this process, which is a worker."""
    values, before = file.compute(scheduler="synchronous"), most_resident()
    started = time.perf_counter()
    detector = AutomaticDetector().fit(values[:n_samples])
    fit, started = time.perf_counter() - started, time.perf_counter()
    scores = detector.anomaly_score(values[n_samples:])
    return {
        "before": before,
        "fit": fit,
        "score": time.perf_counter() - started,
        "peak": most_resident(),
        "scores": scores,
        "null_scores": detector.null_scores_,
        "p_values": detector.p_values_of(scores),
    }


@contextmanager
def workers(values: np.ndarray, n_workers: int) -> Iterator[tuple[Client, Any]]:
    """Start processes of one thread each, which read their own chunks of the values from files."""
    with (
        TemporaryDirectory() as folder,
        dask.config.set({"distributed.admin.low-level-log-length": 1_000_000}),
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        da.to_zarr(da.from_array(values, (ROWS, NODES)), folder)
        client.run(lambda: os.environ.update(RAYON_NUM_THREADS="1"))
        yield client, da.from_zarr(folder)


def received(dask_worker: Any) -> int:
    return sum(one["total"] for one in dask_worker.transfer_incoming_log)


def most_resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def most_moved(n_samples: int, n_nodes: int, n: int, alpha_max: float, rows: int, nodes: int) -> dict[str, float]:
    """Bytes that a fit and a scan move if everything that is added up comes from elsewhere, and those of all blocks."""
    kept = 1.25 * alpha_max * n_samples
    n_chunks, fit = n_samples / rows, 0.0
    held = float(rows)  # of each node
    while n_chunks > 1:
        fit += n_chunks * min(held, kept) * n_nodes * 4
        n_chunks, held = np.ceil(n_chunks / 8), held * 8
    n_blocks, scan, width = n_nodes / nodes, 0.0, float(nodes)
    while n_blocks > 1:
        # Counts as an array, or as pairs of place and count of those that are not 0: what is smaller.
        scan += n_blocks * n * min(4 * kept, 8 * alpha_max * width)
        n_blocks, width = np.ceil(n_blocks / 8), width * 8
    return {"fit": fit, "scan": scan, "blocks": kept * n_nodes * 4}


def singles() -> dict[str, Any]:
    """Scan inputs one by one: memory stays where it was."""
    rng = np.random.default_rng(0)
    background = Background(rng.normal(size=(500, 64)).astype(np.float32))
    x = rng.normal(size=(1000, 64)).astype(np.float32)
    sizes = []
    started = time.perf_counter()
    for n in range(SINGLES):
        background.scan(x[n % 1000 : n % 1000 + 1])
        if n in (SINGLES // 10, SINGLES - 1):
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    return {"n": SINGLES, "seconds": time.perf_counter() - started, "resident": sizes}


def write(results: dict[str, Any], out: Path) -> None:
    """Write results.json into the folder `out`, and the page beside it."""
    out.mkdir(exist_ok=True)
    with atomic_write(out / "results.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 (Markdown)
    )  # fmt: skip
    environment.filters["size"] = size
    page = environment.get_template("large.md.jinja").render(
        results,
        samples=SAMPLES,
        tested=TESTED,
        limit=LIMIT,
        own_limit=OWN_LIMIT,
        shape=CLUSTER,
        chunk=(ROWS, NODES),
        automatic_tested=AUTOMATIC_TESTED,
        bound=most_moved(*CLUSTER, ALPHA_MAX, ROWS, NODES),
        planned=PLANNED,
        planned_alpha=PLANNED_ALPHA,
        planned_chunk=PLANNED_CHUNK,
        plan=most_moved(*PLANNED, 1, PLANNED_ALPHA, *PLANNED_CHUNK),
    )
    with atomic_write(out.with_name(f"{out.name}.md")) as path:
        path.write_text(page, encoding="utf-8")


def size(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} PB"


if __name__ == "__main__":
    main()
