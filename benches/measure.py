"""One measurement in a process of its own, whose threads and cores `compare.py` has set: `measure.py TASK OPTIONS`.

Prints what it found as JSON; `repeat` is watched from outside.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import cases
import numpy as np
from rivals import RIVALS, fit_ours
from timing import Sweep, memory_of, rounds, summary, timed

from subsetscan import Background, reference, scan_group

SCANS = [name for name, rival in RIVALS.items() if rival.same_score]
# Seconds: a rival whose scores, or a quarter of whose fit, would take longer leaves the study of growth; one that takes
# longer for one image leaves that study.
PATIENCE = 5.0
READIED = ("subsetscan", "numba", "torch")  # for what they compile or allocate once
MEMORY = 0.5  # the share of the machine's memory that a rival may fill
TIES = ("upper", "midrank", "random", "range")
FEW = 20  # images by which the slowest of them is tried


def load(folder: str, name: str) -> cases.Case:
    return cases.Case(*(np.load(Path(folder) / f"{name}-{part}.npy") for part in ("background", "images")))


def draw(folder: str, name: str, scale: float, seed: int) -> dict[str, Any]:
    """Draw a case, for the other measurements to load, and describe it."""
    case = cases.draw(name, scale, seed)
    np.save(Path(folder) / f"{name}-background.npy", case.background)
    np.save(Path(folder) / f"{name}-images.npy", case.images)
    (m, j), n = case.background.shape, len(case.images)
    return {
        "description": cases.CASES[name].description,
        "sizes": {"n_background": m, "n_nodes": j, "n_images": n},
        "background_bytes": case.background.nbytes,
        "shares": cases.shares(case),
    }


def compare(folder: str, name: str, rivals: list[str], repeats: int, scale: float) -> dict[str, Any]:
    """Time the fit and the scores of all rivals, see that they agree, and measure what reading alone would take."""
    case = load(folder, name)
    per_second = Sweep(scale).bandwidth()
    speed = per_second["bytes_per_second"]
    warm_up(rivals)
    fits, states = rounds({rival: partial(RIVALS[rival].fit, case.background) for rival in rivals}, repeats)
    for rival in rivals:
        RIVALS[rival].score(states[rival], case.images[:2])
        if rival in READIED:
            RIVALS[rival].score(states[rival], case.images)
    scores, found = rounds(
        {rival: partial(RIVALS[rival].score, states[rival], case.images) for rival in rivals}, repeats
    )
    kept = states["subsetscan"].nbytes
    return {
        "bandwidth": per_second,
        "compact_bytes": kept,
        "read_limit": (case.images.nbytes + kept) / speed,
        "read_background": case.background.nbytes / speed,
        "fit": fits,
        "score": scores,
        "difference": {
            rival: float(np.max(np.abs(found[rival] - found["subsetscan"]) / found["subsetscan"]))
            for rival in rivals
            if RIVALS[rival].same_score and rival != "subsetscan"
        },
    }


def trial(folder: str, name: str, rival: str) -> bool:
    """Fit and score once; tell whether that fits in memory."""
    case = load(folder, name)
    memory = int(MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    try:
        RIVALS[rival].score(RIVALS[rival].fit(case.background), case.images)
    except MemoryError:
        return False
    return True


def warm_up(rivals: list[str]) -> None:
    """Import and compile what the rivals need, so that it is neither timed nor counted."""
    few = np.random.default_rng(0).standard_normal((60, 50), dtype=np.float32)
    for rival in rivals:
        RIVALS[rival].score(RIVALS[rival].fit(few), few)


def exact(folder: str, name: str) -> dict[str, Any]:
    """Hold our scores and subsets against the reference: whole images by their p-values, and a part from its values."""
    case = load(folder, name)
    m, j = case.background.shape
    images = case.images[: 2 if m * j < 10**8 else 1]
    p_values = [((np.count_nonzero(case.background >= image, axis=0) + 1) / (m + 1)).tolist() for image in images]
    whole = fit_ours(case.background).scan(images, return_nodes=True)
    identical = same(whole, [reference.scan(p) for p in p_values])
    nodes = np.linspace(0, j - 1, max(1, min(j, 10**6 // m))).astype(int)
    part = case.background[:, nodes], case.images[:3, nodes]
    found = Background(part[0], tail="upper", alpha_max=0.5).scan(part[1], return_nodes=True)
    identical &= same(found, [reference.scan_image(image, part[0].tolist()) for image in part[1].tolist()])
    return {"identical": identical, "images": len(images), "part": [len(part[1]), len(nodes)]}


def same(found: Any, expected: list[tuple[float, float, list[int]]]) -> bool:
    rows = [found.nodes.indices[slice(*found.nodes.indptr[n : n + 2])].tolist() for n in range(len(expected))]
    results = zip(found.scores.tolist(), found.alphas.tolist(), rows, strict=True)
    return all(result == one for result, one in zip(results, expected, strict=True))


def one_image(folder: str, name: str, rivals: list[str], repeats: int, scale: float) -> dict[str, Any]:
    """Time scores of one image, another one each time: just after others, and after all caches were swept."""
    case = load(folder, name)
    sweep = Sweep(scale)
    states = {rival: RIVALS[rival].fit(case.background) for rival in rivals}
    next_image = count()

    def score(rival: str) -> float:
        n = next(next_image) % len(case.images)
        return timed(lambda: RIVALS[rival].score(states[rival], case.images[n : n + 1]))[0]

    rivals = [rival for rival in rivals if score(rival) <= PATIENCE]
    times: dict[str, dict[str, list[float]]] = {kind: {rival: [] for rival in rivals} for kind in ("warm", "cold")}
    for _ in range(repeats):
        for rival in rivals:
            enough = max(1, min(20, int(0.3 / score(rival))))
            times["warm"][rival] += [score(rival) for _ in range(enough)]
            sweep()
            times["cold"][rival].append(score(rival))
    return {kind: {rival: summary(taken) for rival, taken in by.items()} for kind, by in times.items()}


def ties(folder: str, name: str, repeats: int) -> dict[str, Any]:
    """Time each treatment of ties on as many images as the slowest does in a few seconds, but at least `FEW`."""
    case = load(folder, name)
    background = Background(case.background)
    tried = max(timed(partial(background.scan, case.images[:FEW], ties=treatment))[0] for treatment in TIES)
    images = case.images[: max(FEW, int(FEW * PATIENCE / tried))]
    times, _ = rounds({treatment: partial(background.scan, images, ties=treatment) for treatment in TIES}, repeats)
    return {"images": len(images), "time": times}


def groups(folder: str, name: str, repeats: int, seed: int) -> dict[str, Any]:
    """Time the group scan beside ART's, on the same p-values of 100 images: with its bound, and, as ART's, without."""
    from art_scan import Scanner

    case = load(folder, name)
    ranges = Background(case.background).p_value_ranges(case.images[:100])
    p_values = np.ascontiguousarray(ranges[:, :, 1])
    results = {}
    for restarts in (1, 10):
        np.random.seed(seed)  # noqa: NPY002 (what ART draws from)
        calls = {
            "subsetscan": lambda n=restarts: scan_group(p_values, restarts=n, random_state=seed).score,
            "without bound": lambda n=restarts: scan_group(p_values, restarts=n, random_state=seed, bound=None).score,
            "ART": lambda n=restarts: Scanner.fgss_for_nets(ranges, restarts=n)[0],
        }
        times, scores = rounds(calls, repeats)
        results[str(restarts)] = {"time": times, "score": {rival: float(score) for rival, score in scores.items()}}
    return results


def repeat(folder: str, name: str, work: str, seed: int) -> None:
    """Do our own work over and over, as long as who started this process is there; print "ready" when that begins."""
    started_by = os.getppid()
    case = load(folder, name)
    background = Background(case.background) if work in ("group, one start", *TIES) else fit_ours(case.background)
    few, some = case.images[:100], case.images[:1000]
    p_values = background.p_values(few) if work == "group, one start" else None
    next_image = count()

    def one() -> None:
        n = next(next_image) % len(case.images)
        background.scan(case.images[n : n + 1])

    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: fit_ours(case.background),
        "scan": lambda: background.scan(case.images),
        "one image": one,
        "group, one start": lambda: scan_group(p_values, restarts=1, random_state=seed, bound=None),
    }
    call = calls.get(work) or (lambda: background.scan(few if work == "range" else some, ties=work))
    call()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while os.getppid() == started_by:
        call()


def memory(folder: str, name: str, rival: str) -> dict[str, int]:
    """Measure how much memory a fit and a scan need beyond the arrays that go in."""
    case = load(folder, name)
    one = RIVALS[rival]
    warm_up([rival])
    fit, state = memory_of(lambda: one.fit(case.background))
    score, _ = memory_of(lambda: one.score(state, case.images))
    return {"fit": fit, "score": score, "background": case.background.nbytes, "images": case.images.nbytes}


def growth(folder: str, axis: str, sizes: list[int], others: dict[str, int], **common: Any) -> list[dict[str, Any]]:
    """Time scores as one size grows: normal values, or, as the images do, case a."""
    speed = Sweep(common["scale"]).bandwidth()["bytes_per_second"]
    case = load(folder, "a") if axis == "n_images" else None
    fitted = None if case is None else {rival: RIVALS[rival].fit(case.background) for rival in SCANS}
    rng = np.random.default_rng(common["seed"])
    warm_up(SCANS)
    rivals, rows, previous, last = list(SCANS), [], 0, dict.fromkeys(SCANS, 0.0)
    for size in sizes:
        rivals = [r for r in rivals if r == "subsetscan" or not previous or last[r] * size / previous <= PATIENCE]
        m, j, n = (size if axis == name else others[name] for name in ("n_background", "n_nodes", "n_images"))
        if case is None:
            background = rng.standard_normal((m, j), dtype=np.float32)
            images = rng.standard_normal((n, j), dtype=np.float32)
        else:
            images = case.images[:n]
        fits = {r: timed(partial(RIVALS[r].fit, background)) for r in rivals} if fitted is None else None
        states = fitted or {r: state for r, (_, state) in fits.items()}
        for rival in READIED:
            if rival in rivals:
                RIVALS[rival].score(states[rival], images)
        calls = {r: partial(RIVALS[r].score, states[r], images) for r in rivals}
        times, _ = rounds(calls, common["repeats"])
        last = {r: max(taken["median"], fits[r][0] / 4 if fits else 0) for r, taken in times.items()}
        limit = (images.nbytes + states["subsetscan"].nbytes) / speed
        rows.append({"n_background": m, "n_nodes": j, "n_images": n, "time": times, "read_limit": limit})
        previous = size
    return rows


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task for task in (draw, trial, compare, exact, one_image, groups, ties, repeat, memory, growth)
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
