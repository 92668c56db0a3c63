"""Give every loader and every numeric entry point what is wrong somewhere, and see that nothing is hurt.

A case passes if the call returns what its documentation allows, or raises ValueError with a message that names the
file; for values that are no numbers it may be TypeError. Anything else fails: another exception, a panic, a process
that ends, more than 1 GB, more than 20 seconds. Cases are drawn from the seed and their number alone: --case runs one
again.

    python fuzz/run.py --seconds 60
    python fuzz/run.py npz --seed 3 --case 1234
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from loaders import READ
from numbers_in import NUMERIC

MOST_MEMORY = 1 << 30
MOST_SECONDS = 20
AT_ONCE = 256
MISSING_ARE_FINE = ("scanner-folder", "results-folder")  # a changed name is that of no file


class TooSlow(BaseException):
    """A case took too long; no handler of what is under test takes this."""


def run_case(target: str, seed: int, case: int, folder: Path) -> str:
    """Run one case. Returns "accepted" or "refused"; raises whatever else there is."""
    random = Random(f"{target} {seed} {case}")
    if target in NUMERIC:
        try:
            NUMERIC[target](random)
        except (ValueError, TypeError) as error:
            return _refused(error)
        except MemoryError as error:
            if "not enough memory for an array" not in str(error):  # which was never asked for
                raise
            return "refused"
        return "accepted"
    make, read = READ[target]
    path = make(folder, random)
    try:
        read(path)
    except ValueError as error:
        if str(folder) not in str(error):
            raise AssertionError("the message does not name the file") from error
        return "refused"
    except FileNotFoundError:
        if target not in MISSING_ARE_FINE:
            raise
        return "refused"
    return "accepted"


def _refused(error: Exception) -> str:
    if not str(error):
        raise AssertionError("there is no message") from error
    return "refused"


def work(target: str, seed: int, first: int, last: int, until: float, note: Path) -> None:
    """Run cases one after the other, and note how far it got: the process may end at any of them."""
    warnings.simplefilter("ignore")
    counts = {"accepted": 0, "refused": 0}
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:  # noqa: S108 (made anew)
        folder = Path(name)
        run_case(target, seed, 0, folder)  # what is made once takes longer
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        size = (
            int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            if sys.platform == "linux"
            else used
        )
        resource.setrlimit(resource.RLIMIT_AS, (size + MOST_MEMORY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGALRM, _too_slow)
        with note.open("r+b", buffering=0) as file:
            for case in range(first, last):
                if case % AT_ONCE == 0 and time.time() > until:
                    break
                file.seek(0)
                file.write(f"{case:<20}".encode())
                signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
                try:
                    counts[run_case(target, seed, case, folder)] += 1
                except BaseException:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    traceback.print_exc()
                    sys.stdout.write(json.dumps(counts | {"failed": case}))
                    sys.exit(1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(json.dumps(counts | {"failed": None}))


def _too_slow(*_: Any) -> None:
    raise TooSlow(f"more than {MOST_SECONDS} seconds")


def fuzz(target: str, seed: int, first: int, n_cases: int, seconds: float) -> dict[str, Any]:
    """Run a target in processes of its own, one after each failure."""
    start = time.time()
    told: dict[str, Any] = {"cases": 0, "accepted": 0, "refused": 0, "failures": []}
    with TemporaryDirectory() as folder:
        note = Path(folder) / "case"
        next_case = first
        while next_case < first + n_cases and time.time() < start + seconds and len(told["failures"]) < 10:
            note.write_bytes(f"{next_case:<20}".encode())
            arguments = [target, seed, next_case, first + n_cases, start + seconds, note]
            ended = subprocess.run(  # noqa: S603
                [sys.executable, __file__, "--work", *map(str, arguments)], capture_output=True, text=True
            )
            reached = int(note.read_bytes()) + 1
            try:
                counts = json.loads(ended.stdout.splitlines()[-1])
            except (IndexError, ValueError):  # the process ended within a case
                counts = {"accepted": 0, "refused": 0, "failed": reached - 1}
            told["accepted"] += counts["accepted"]
            told["refused"] += counts["refused"]
            told["cases"] = reached - first
            next_case = reached
            if counts["failed"] is None:
                break
            why = "\n".join(ended.stderr.splitlines()[-30:])
            told["failures"].append({"case": counts["failed"], "exit": ended.returncode, "why": why})
    told["seconds"] = round(time.time() - start, 1)
    return told


def main() -> int:
    """Run the targets. Returns the number that `sys.exit` takes: 1 after a failure."""
    if sys.argv[1:2] == ["--work"]:
        target, *numbers, until, note = sys.argv[2:]
        seed, first, last = map(int, numbers)
        work(target, seed, first, last, float(until), Path(note))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--cases", type=int, default=10**9, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("targets", nargs="*", help="all by default")
    parser.add_argument("--case", type=int, help="run this one alone, and tell its error")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    options = parser.parse_args()
    targets = options.targets or [*READ, *NUMERIC]
    if unknown := set(targets) - {*READ, *NUMERIC}:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join([*READ, *NUMERIC])}")
    if options.case is not None:
        with TemporaryDirectory() as folder:
            sys.stdout.write(run_case(targets[0], options.seed, options.case, Path(folder)) + "\n")
        return 0
    results = {}
    sys.stdout.write("| target | cases | accepted | refused | failed | cases / s |\n|---|---:|---:|---:|---:|---:|\n")
    for target in targets:
        told = results[target] = fuzz(target, options.seed, options.first, options.cases, options.seconds)
        rate = told["cases"] / max(told["seconds"], 0.1)
        row = (target, told["cases"], told["accepted"], told["refused"], len(told["failures"]), f"{rate:.0f}")
        sys.stdout.write("| " + " | ".join(f"{one:,}" if isinstance(one, int) else one for one in row) + " |\n")
        sys.stdout.flush()
        for failure in told["failures"]:
            sys.stderr.write(f"{target}, case {failure['case']}, exit {failure['exit']}:\n{failure['why']}\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return int(any(told["failures"] for told in results.values()))


if __name__ == "__main__":
    sys.exit(main())
