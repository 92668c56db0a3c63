"""Threads do not survive a fork: every way into the core, in workers of every kind, after whatever their parent did."""

import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

from subsetscan import Background, GroupScanner, SubsetScanDetector

# More values than one thread scans by itself.
N_IMAGES, N_NODES = 400, 300

# A process of its own for each test: this one has frameworks, with threads of theirs.
PROGRAM = """
import multiprocessing, pickle, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from subsetscan import Background, GroupScanner, SubsetScanDetector

def work(background, folder):
    expected = np.load(f"{folder}/expected.npz")
    values, images = expected["values"], expected["images"]
    with open(f"{folder}/background.pickle", "rb") as file:
        loaded = pickle.load(file)
    for ready in (background, loaded, Background(values)):
        assert np.array_equal(ready.scan(images).scores, expected["scores"])
        assert np.array_equal(ready.scan(images, ties="random").scores, expected["random"])
        assert np.array_equal(ready.p_values(images), expected["p_values"])
    detector = SubsetScanDetector(random_state=0).fit(values)
    assert np.array_equal(detector.score_samples(images), expected["samples"])
    detector = SubsetScanDetector.load(f"{folder}/detector.safetensors")
    assert np.array_equal(detector.score_samples(images), expected["samples"])
    assert GroupScanner(loaded, restarts=3, random_state=0).scan(images[:250]).score == expected["group"]
    assert len(pickle.dumps(background)) > values.nbytes

def main(method, before, folder):
    with open(f"{folder}/background.pickle", "rb") as file:
        background = pickle.load(file)
    images = np.load(f"{folder}/expected.npz")["images"]
    done = threading.Event()
    def scan_on():
        while not done.is_set():
            background.scan(images)
    busy = threading.Thread(target=scan_on)
    if before == "scan":
        background.scan(images)
    if before == "thread scans":
        busy.start()
    if method == "threads":
        with ThreadPoolExecutor(3) as pool:
            for _ in pool.map(lambda _: work(background, folder), range(3)):
                pass
        return print("alike")
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=work, args=(background, folder)) for _ in range(2)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 20
    for worker in workers:
        worker.join(max(0, deadline - time.monotonic()))
    done.set()
    codes = [worker.exitcode for worker in workers]
    for worker in workers:
        worker.kill()
    print("alike" if codes == [0, 0] else f"exit codes {codes}: None is a worker that waits for ever")

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The program, what it loads, and what it should find."""
    folder = tmp_path_factory.mktemp("fork")
    (folder / "program.py").write_text(PROGRAM)
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=(N_IMAGES, N_NODES)), 0).astype(np.float32)
    images = np.maximum(rng.normal(0.2, size=(N_IMAGES, N_NODES)), 0).astype(np.float32)
    background = Background(values)
    detector = SubsetScanDetector(random_state=0).fit(values)
    detector.save(folder / "detector.safetensors")
    (folder / "background.pickle").write_bytes(pickle.dumps(background))
    np.savez(
        folder / "expected.npz",
        values=values,
        images=images,
        scores=background.scan(images).scores,
        random=background.scan(images, ties="random").scores,
        p_values=background.p_values(images),
        samples=detector.score_samples(images),
        group=GroupScanner(background, restarts=3, random_state=0).scan(images[:250]).score,
    )
    return folder


@pytest.mark.parametrize(
    ("method", "before"),
    [
        ("fork", "load"),
        ("fork", "scan"),
        ("fork", "thread scans"),
        ("spawn", "scan"),
        ("forkserver", "scan"),
        ("threads", "load"),
    ],
)
def test_every_kind_of_worker_works(folder, method, before):
    if method not in ("threads", *multiprocessing.get_all_start_methods()):
        pytest.skip(f"no start method {method} here")
    command = [sys.executable, str(folder / "program.py"), method, before, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "alike\n"), done.stderr
