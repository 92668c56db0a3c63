"""Time subsetscan beside its rivals, and write what was found on this machine: its JSON, its picture, and the page.

The page shows every machine whose JSON is there; `report.py` writes it anew without measuring.

Every measurement is a process of its own (`measure.py`), with a set number of threads on as many cores.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import report
import typer
from rivals import MISSING, RIVALS

HERE = Path(__file__).parent
FULL = ("a", "a-independent", "b", "c", "d")  # the parts that are cases of their own
MORE = {"a": ("e", "g", "ties", "memory", "growth"), "b": ("e", "g", "memory")}  # what else needs a case
ABOUT = "a to d of the page; e: one image of a and b, g: groups, ties, memory, growth"
PARTS = (*FULL, *MORE["a"])
WEIGHED = ("subsetscan", "ART", "numpy")  # whose memory is measured
SETS = {"avx512": {"avx512f", "avx512bw", "avx512vl"}, "avx2": {"avx2"}, "plain": set[str]()}
BESIDE = ("subsetscan", "ART")  # who is timed with each set of instructions
AGREEMENT = 1e-9  # how far the scores of two ways to compute the same may differ, relatively
GROWTH = {
    "n_images": ((1, 3, 10, 30, 100, 300, 1000, 3000), {"n_background": 7000, "n_nodes": 12544}),
    "n_nodes": ((10**3, 10**4, 10**5, 10**6), {"n_background": 1000, "n_images": 64}),
    "n_background": ((10**2, 10**3, 10**4, 10**5), {"n_nodes": 1000, "n_images": 1000}),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Runner:
    """Starts the measurements, one after the other, on the cores that this process may use."""

    def __init__(self, folder: str, **common: Any) -> None:
        self.folder = folder
        self.common = common
        self.cores = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        )

    def __call__(
        self, task: str, n_threads: int = 1, simd: str | None = None, patience: float | None = None, **options: Any
    ) -> Any:
        """Run a task of `measure.py` and return what it found; raise TimeoutExpired after so many seconds."""
        words = [task, *(str(value) for value in options.values() if isinstance(value, str)), simd or ""]
        say(f"{' '.join(filter(None, words))}, {n_threads} thread{'s' * (n_threads > 1)} ... ", end="")
        command = [sys.executable, "-W", "ignore", str(HERE / "measure.py"), task]
        started = time.monotonic()
        self.pin(n_threads)
        try:
            done = subprocess.run(  # noqa: S603
                [*command, json.dumps({"folder": self.folder, **options})],
                env=self.environment(n_threads, simd),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=patience,
            )
        finally:
            self.pin()
            say(f"{time.monotonic() - started:.0f} s")
        return json.loads(done.stdout)

    def environment(self, n_threads: int, simd: str | None = None) -> dict[str, str]:
        """Return that of a process with so many threads."""
        names = (f"{name}_NUM_THREADS" for name in ("RAYON", "NUMBA", "OMP", "OPENBLAS", "MKL"))
        environment = os.environ | dict.fromkeys(names, str(n_threads))
        environment["OMP_WAIT_POLICY"] = "passive"  # no rival's threads wait busily where the next one is measured
        environment.pop("SUBSETSCAN_SIMD", None)
        return environment | ({"SUBSETSCAN_SIMD": simd} if simd else {})

    def pin(self, n: int = 0) -> None:
        """Let what is started run on so many of the cores, or on all."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores[-n:])


def say(text: str, end: str = "\n") -> None:
    """Show progress."""
    sys.stderr.write(text + end)
    sys.stderr.flush()


def processor() -> dict[str, Any]:
    """Tell what this runs on, as far as Linux says."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        caches[f"L{level} {kind.lower()}"] = size
    flags = set(fields.get("flags", "").split())
    return {
        "model": fields.get("model name", platform.processor()),
        "family": fields.get("cpu family"),
        "number": fields.get("model"),
        "cores": os.cpu_count(),
        "caches": caches,
        "instruction_sets": [name for name, needed in SETS.items() if needed <= flags],
        "system": platform.system(),
        "load": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Tell what was compared, and with which compiler."""
    names = ["subsetscan", "numpy", "numba", "adversarial-robustness-toolbox", "pyod", "scikit-learn"]
    names += ["torch"] * ("torch" in RIVALS)
    found = {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
    told = {"rustc": output("rustc --version").removeprefix("rustc ").partition(" ")[0], "commit": commit()}
    return found | {name: version for name, version in told.items() if version}


def commit() -> str:
    """Tell which state is measured, and whether its code was changed since; nothing outside a clone."""
    name = output("git describe --always").strip()
    return f"{name}-dirty" if output("git status --porcelain . ../rust ../python ../Cargo.lock") else name


def output(command: str) -> str:
    """Return what a command prints; nothing where it fails."""
    try:
        return subprocess.run(command.split(), cwd=HERE, capture_output=True, text=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""


def left_out(run: Runner, name: str, patience: float) -> dict[str, str]:
    """Try every rival once on a case, on one thread, and tell why it is not compared there."""
    found = {}
    for rival in RIVALS:
        if rival == "subsetscan":
            continue
        try:
            if not run("trial", patience=patience, name=name, rival=rival):
                found[rival] = "fills more than half of the memory"
        except subprocess.TimeoutExpired:
            found[rival] = f"takes more than {patience:g} s"
    return found


def run_case(run: Runner, name: str, rivals: list[str], sets: list[str], threads: list[int]) -> dict[str, Any]:
    """Measure one case on every number of threads, and on one with each set of instructions."""
    common = {"name": name, "repeats": run.common["repeats"], "scale": run.common["scale"]}
    found = {"exact": run("exact", name=name)}
    found["threads"] = {str(n): run("compare", n, rivals=rivals, **common) for n in threads}
    differences = [value for one in found["threads"].values() for value in one["difference"].values()]
    if max(differences, default=0) > AGREEMENT or not found["exact"]["identical"]:
        raise RuntimeError(f"scores of case {name} differ: {differences}; as the reference: {found['exact']}")
    beside = [rival for rival in BESIDE if rival in rivals]
    found["sets"] = {
        simd: {what: one[what] for what in ("fit", "score")}
        for simd in sets
        for one in [run("compare", simd=simd, rivals=beside, **common)]
    }
    return found


def grown(run: Runner) -> dict[str, Any]:
    """Measure how time grows with each size."""
    scale = run.common["scale"]
    found = {}
    for axis, (sizes, others) in GROWTH.items():
        least = 1 if axis == "n_images" else 10
        scaled = sorted({max(least, round(size * scale)) for size in sizes})
        rest = {name: max(10, round(size * scale)) for name, size in others.items()}
        found[axis] = run("growth", axis=axis, sizes=scaled, others=rest, **run.common)
    return found


@app.command()
def main(
    cases: Annotated[
        str, typer.Option(help=f"Which of them, comma-separated: {ABOUT}.", show_default="all")
    ] = ",".join(PARTS),
    scale: Annotated[float, typer.Option(min=0.001, max=1, help="Shrink all sizes, for a quick try.")] = 1.0,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians count.")] = 5,
    threads: Annotated[str, typer.Option(help="Numbers of threads; those beyond the cores are left out.")] = "1,2",
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds for one fit and one scoring; who takes longer is left out of a case.")
    ] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for this machine's JSON and picture; the page lies beside it: FOLDER.md.")
    ] = Path("docs/performance"),
) -> None:
    """Time subsetscan beside ART, other ways to the same scores, other detectors, and what reading memory takes."""
    parts = set(cases.split(","))
    if unknown := parts - set(PARTS):
        raise typer.BadParameter(f"unknown cases {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    with TemporaryDirectory(prefix="subsetscan-bench-") as folder:
        run = Runner(folder, scale=scale, repeats=repeats, seed=seed)
        counts = threads_of(threads, len(run.cores))
        out.mkdir(parents=True, exist_ok=True)
        command = " ".join(["python", "benches/compare.py", *map(shlex.quote, sys.argv[1:])])
        results: dict[str, Any] = {"command": command, **run.common, "patience": patience}
        results |= {"machine": processor(), "versions": versions(), "missing": MISSING}
        results |= {"cases": {}, "one_image": {}, "groups": {}, "ties": {}, "memory": {}, "growth": {}}
        for name in FULL:
            if not {name, *MORE.get(name, ())} & parts:
                continue
            case = results["cases"][name] = run("draw", name=name, scale=scale, seed=seed)
            if {name, "e"} & parts:
                case["left_out"] = left_out(run, name, patience)
            rivals = [rival for rival in RIVALS if rival not in case.get("left_out", ())]
            if name in parts:
                case |= run_case(run, name, rivals, results["machine"]["instruction_sets"], counts)
            if name in MORE:
                measure_more(run, results, name, rivals, parts & set(MORE[name]), counts)
            for file in Path(folder).iterdir():
                file.unlink()
            report.save(results, out)
    report.write(out)
    say(f"wrote {out.with_name(f'{out.name}.md')}")


def threads_of(text: str, n_cores: int) -> list[int]:
    """Read numbers of threads; those beyond the cores are left out."""
    numbers = text.split(",")
    if not all(number.strip().isdecimal() and int(number) > 0 for number in numbers):
        raise typer.BadParameter(f"threads must be whole numbers, comma-separated, got {text!r}")
    counts = [n for n in map(int, numbers) if n <= n_cores]
    if not counts:
        raise typer.BadParameter(f"there are {n_cores} cores, and no number of threads up to that in {text!r}")
    return counts


def measure_more(
    run: Runner, results: dict[str, Any], name: str, rivals: list[str], parts: set[str], counts: list[int]
) -> None:
    """Measure what is asked of cases a and b alone."""
    repeats = {"name": name, "repeats": run.common["repeats"]}
    if "e" in parts:
        common = repeats | {"rivals": rivals, "scale": run.common["scale"]}
        results["one_image"][name] = {str(n): run("one_image", n, **common) for n in counts}
    if "g" in parts:
        results["groups"][name] = {str(n): run("groups", n, seed=run.common["seed"], **repeats) for n in counts}
    if "ties" in parts:
        results["ties"][name] = run("ties", **repeats)
    if "memory" in parts:
        results["memory"][name] = {rival: run("memory", name=name, rival=rival) for rival in WEIGHED}
    if "growth" in parts:
        results["growth"] = grown(run)


if __name__ == "__main__":
    app()
