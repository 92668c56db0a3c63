"""Where our own time goes, by function: samples of Linux's `perf`, added to what `compare.py` found on this machine.

Nearly all of a scan is compiled into one function, so that a build with debug information, in `target/hotspots`, is
sampled, and tells of each address which functions it was inlined from.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import report
import typer
from compare import Runner, commit, processor, say

HERE = Path(__file__).parent
ROOT = HERE.parent
TARGET = ROOT / "target" / "hotspots"
EXTENSION = "_core.abi3.so"
COMMON = ("fit", "scan", "one image")
WORK = {"a": (*COMMON, "midrank", "random", "range", "group, one start"), "b": COMMON}
TOOLS = ("perf", "addr2line", "cargo")
RECORD = ("perf", "record", "--quiet", "--event", "cpu-clock")
SOURCES = "rust/core/src/"
INSTRUCTIONS = ("simd/x86", "simd/lanes.rs")


def build(folder: str) -> Path:
    """Make a package whose extension has debug information; return the extension's path."""
    say("building ... ", end="")
    environment = os.environ | {"CARGO_PROFILE_RELEASE_DEBUG": "1", "CARGO_TARGET_DIR": str(TARGET)}
    environment.pop("CARGO_BUILD_TARGET", None)
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--package", "subsetscan-py"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)  # noqa: S603
    package = Path(folder) / "subsetscan"
    shutil.copytree(ROOT / "python" / "subsetscan", package, ignore=shutil.ignore_patterns("_core*.so", "__pycache__"))
    extension = package / EXTENSION
    shutil.copy(TARGET / "release" / "lib_core.so", extension)
    say("done")
    return extension


def sample(run: Runner, extension: Path, name: str, work: str, seconds: float, seed: int) -> dict[str, float]:
    """Do some work over and over on one thread, and find in which functions its time goes."""
    say(f"{work}, {name} ... ", end="")
    run.pin(1)
    environment = run.environment(1) | {"PYTHONPATH": str(extension.parent.parent)}
    options = json.dumps({"folder": run.folder, "name": name, "work": work, "seed": seed})
    command = [sys.executable, "-W", "ignore", str(HERE / "measure.py"), "repeat", options]
    data = Path(run.folder) / "perf.data"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:  # noqa: S603
        try:
            if worker.stdout is None or worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"{work} of case {name} did not begin")
            record = [*RECORD, "--pid", str(worker.pid), "--output", str(data), "--", "sleep", str(seconds)]
            subprocess.run(record, check=True)  # noqa: S603
            maps = Path(f"/proc/{worker.pid}/maps").read_text(encoding="utf-8")
        finally:
            worker.kill()
            run.pin()
    begin = min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(str(extension)))
    listed = ["perf", "script", "--input", str(data), "--fields", "ip,sym,dso"]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout  # noqa: S603
    # An address, a symbol that may have blanks, and in parentheses the file.
    samples = [tuple(line.strip(" )").rsplit(" (", 1)) for line in found.splitlines() if line.strip()]
    inside = [hex(int(what.split()[0], 16) - begin) for what, file in samples if file == str(extension)]
    names = functions(extension, set(inside))
    counts = Counter(names[address] for address in inside)
    counts.update(elsewhere(what.split()[1], file) for what, file in samples if file != str(extension))
    say(f"{len(samples)} samples")
    return {name: count / len(samples) for name, count in counts.most_common()}


def functions(extension: Path, addresses: set[str]) -> dict[str, str]:
    """Name the function of the core that each address is of: of those it was inlined from, the nearest that is ours.

    Vector instructions count for who uses them.
    """
    command = ["addr2line", "--exe", str(extension), "--functions", "--inlines", "--demangle", "--addresses"]
    listed = sorted(addresses)
    done = subprocess.run(command, input="\n".join(listed), capture_output=True, text=True, check=True)  # noqa: S603
    names = {}
    for address, block in zip(listed, re.split(r"^0x[0-9a-f]+\n", done.stdout, flags=re.MULTILINE)[1:], strict=True):
        lines = block.splitlines()
        frames = list(zip(lines[::2], lines[1::2], strict=True))
        own = [(name, place) for name, place in frames if SOURCES in place]
        callers = [frame for frame in own if not any(part in frame[1] for part in INSTRUCTIONS)]
        names[address] = shortened((callers or own or frames[-1:])[0][0])
    return names


def shortened(name: str) -> str:
    """Leave out of a function's name what says nothing to a reader: the crate, type parameters, traits, closures."""
    name = re.sub(r"::\{[^}]*\}+(#\d+)?", "", name)
    name = re.sub(r"^<(.*?) as .*>::(\w+)$", r"\1::\2", name)
    while (shorter := re.sub(r"(::)?<[^<>]*>", "", name)) != name:
        name = shorter
    return name.removeprefix("subsetscan_core::").removeprefix("_core::")


def elsewhere(symbol: str, file: str) -> str:
    """Name what is not the extension's: of the C library the function, of others the library."""
    if file.startswith("[kernel"):
        return "the kernel"
    library = re.split(r"[-.]\d|\.so", Path(file).name)[0]
    return (
        f"{library}: {re.split('_(avx|evex|sse|fma)', symbol.strip('_'))[0]}"
        if library in ("libc", "libm")
        else library
    )


def try_to_record() -> None:
    """Refuse where perf may not see this user's processes and the kernel's work for them."""
    setting = Path("/proc/sys/kernel/perf_event_paranoid")
    level = int(setting.read_text()) if setting.exists() else -1
    if level > 1 and os.geteuid() != 0:
        raise typer.BadParameter(f"perf may not watch the kernel: {setting} is {level}; set it to 1, or be root")
    command = [*RECORD, "--output", "/dev/null", "--", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if tried.returncode:
        raise typer.BadParameter(f"perf cannot record here: {tried.stderr.strip() or tried.returncode}")


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each work is sampled.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of this machine's JSON.")] = Path("docs/performance"),
) -> None:
    """Sample where our time goes on one thread, and write the page anew. Needs Linux, perf and binutils."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise typer.BadParameter(f"this needs {', '.join(TOOLS)}; not found: {', '.join(missing)}")
    file = out / f"{report.slug(report.label({'machine': processor()}))}.json"
    if not file.exists():
        raise typer.BadParameter(f"this machine was not measured, {file} does not exist: run compare.py first")
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    found: dict[str, dict[str, dict[str, float]]] = {}
    try_to_record()
    with TemporaryDirectory(prefix="subsetscan-hotspots-") as folder:
        run = Runner(str(Path(folder).resolve()))
        extension = build(run.folder)
        for name, works in WORK.items():
            run("draw", name=name, scale=results["scale"], seed=seed)
            found[name] = {work: sample(run, extension, name, work, seconds, seed) for work in works}
    command = shlex.join(["python", "benches/hotspots.py", *sys.argv[1:]])
    report.save(results | {"hotspots": {"command": command, "commit": commit(), "cases": found}}, out)
    report.write(out)


if __name__ == "__main__":
    typer.run(main)
