"""Two runs do not write to one folder; a run that was killed keeps nobody out."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("typer")

from subsetscan.commands.app import app
from subsetscan.lab.options import hold_folder

HOLD = """
import sys
from subsetscan.lab.options import hold_folder
with hold_folder(sys.argv[1], *sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""
# Enough of each command's options for it to begin.
COMMANDS = {
    "demo": [],
    "scan": ["--background=x.npy", "--input=x.npy"],
    "fit": ["--background=x.npy"],
    "score": ["--fitted=x", "--input=x.npy"],
    "explain": ["--fitted=x", "--input=x.npy"],
    "report": [],
    "extract": ["--model=x.onnx", "--input=x.npy"],
    "merge": ["shards"],
    "responses": ["--model=x.keras", "--images=x.npy"],
    "attack": ["--model=x.keras", "--input=x.npy", "--labels=y.npy"],
    "train": ["--network=classifier"],
    "reproduce": [],
    "trace": [],
    "experiment": ["files"],
}


@pytest.fixture
def holder():
    """Hold folders in other processes."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_every_command_is_tried():
    assert sorted(COMMANDS) == sorted(command.callback.__name__ for command in app.registered_commands)


def test_a_second_run_is_refused(holder, run, tmp_path):
    process = holder(tmp_path / "out")
    shard = holder(tmp_path / "out", "-0-of-1")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    for command, options in COMMANDS.items():
        out = tmp_path / "out" if command == "report" else f"--out={tmp_path / 'out'}"
        done = run(command, *options, out, code=2)
        number = shard.pid if command == "extract" else process.pid
        assert f"cannot write results to {tmp_path / 'out'}: process {number} on " in done.err, command
        assert done.err.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


@pytest.mark.filterwarnings("ignore:.* null scores")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_has_ended_keeps_nobody_out(holder, run, tmp_path, rng, how):
    process = holder(tmp_path / "out")
    process.send_signal(how)
    process.wait(60)
    np.save(tmp_path / "x.npy", rng.random((40, 5)))
    run("fit", f"--background={tmp_path / 'x.npy'}", f"--out={tmp_path / 'out'}")
    assert (tmp_path / "out" / "scanner.json").is_file()
    assert not list((tmp_path / "out").glob(".*"))


def test_shards_may_share_a_folder(holder, tmp_path):
    holder(tmp_path / "out", "-0-of-2")
    with hold_folder(tmp_path / "out", "-1-of-2"):
        pass
    with pytest.raises(BlockingIOError, match="is writing there"), hold_folder(tmp_path / "out", "-0-of-2"):
        pass


def test_a_run_that_fails_leaves_no_empty_folders(run, tmp_path):
    run("merge", tmp_path / "nowhere", f"--out={tmp_path / 'a' / 'b'}", code=2)
    assert not list(tmp_path.iterdir())


def test_a_lock_whose_file_was_removed_is_none(tmp_path, monkeypatch):
    """One run ends, and removes the file, while another has opened it and not locked it yet."""
    path, opened = tmp_path / ".run.lock", os.open

    def removed_meanwhile(*arguments):
        monkeypatch.undo()
        descriptor = opened(*arguments)
        path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", removed_meanwhile)
    with hold_folder(tmp_path):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on "), hold_folder(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
