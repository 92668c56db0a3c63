"""What every command shares: JSON, progress, completion, choices, and what would not fit in memory."""

import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from subsetscan.spaces import Arrays

pytest.importorskip("typer")
from subsetscan.combination import COMBINATIONS
from subsetscan.commands import app, memory
from subsetscan.detectors.entropy import NORMALISATIONS, READINGS
from subsetscan.lab.attacks import ATTACKS, PROTOCOLS
from subsetscan.lab.datasets import DATASETS
from subsetscan.lab.preprocessing import PREPROCESSINGS
from subsetscan.lab.training import RECIPES
from subsetscan.scanning import SCOPES, STATISTICS, TAILS, TIES
from subsetscan.spaces.reconstruction import METRICS
from subsetscan.spaces.responses import METHODS, TARGETS

COMMANDS = {command.callback.__name__: command.callback for command in app.app.registered_commands}
CHOICES = {
    "statistic": STATISTICS, "tail": TAILS, "scope": SCOPES, "ties": TIES, "combine": COMBINATIONS,
    "reconstruction_error": METRICS, "method": METHODS, "target": TARGETS, "reading": READINGS,
    "normalise": NORMALISATIONS, "preprocessing": PREPROCESSINGS, "attack": ATTACKS, "network": RECIPES,
    "calibration": ("holdout", "leave-one-out", "none"),
}  # fmt: skip


@pytest.fixture
def files(tmp_path):
    values = np.random.default_rng(0).normal(size=(150, 30))
    np.save(tmp_path / "background.npy", values[:120])
    np.save(tmp_path / "input.npy", values[120:] + 1)
    return [f"--background={tmp_path}/background.npy", f"--input={tmp_path}/input.npy", f"--out={tmp_path}/out"]


def test_commands_are_listed_in_the_order_of_the_app(run):
    listed = run("--help").out
    places = [listed.index(f" {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_every_command_gives_json_and_can_be_quiet():
    for name, command in COMMANDS.items():
        options = {"json", "quiet"} if name == "report" else {"json", "quiet", "out"}  # it writes to a results folder
        assert options <= set(inspect.signature(command).parameters)


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_what_there_is(name, run):
    """Each name is taken, and no other."""
    commands = [own for own, command in COMMANDS.items() if name in inspect.signature(command).parameters]
    assert commands
    option = f"--{name.replace('_', '-')}"
    for command in commands:
        error = run(command, f"{option}=nothing", code=2).err
        assert f"'nothing' is not one of {', '.join(map(repr, CHOICES[name]))}." in error
        for choice in CHOICES[name]:
            assert "Missing option" in run(command, f"{option}={choice}", code=2).err


@pytest.mark.parametrize(
    ("command", "name", "known"), [("attack", "protocol", PROTOCOLS), ("train", "dataset", DATASETS)]
)
def test_choices_of_one_command(command, name, known, run):
    assert f"is not one of {', '.join(map(repr, known))}." in run(command, f"--{name}=nothing", code=2).err


@pytest.mark.parametrize("rate", ["0", "1", "-0.1", "nan"])
def test_false_positive_rates_that_are_out_of_range(rate, run, files):
    assert "is not between 0 and 1" in run("scan", *files, f"--false-positive-rate={rate}", code=2).err


@pytest.mark.filterwarnings("always:.* null scores")
def test_json_alone_is_printed(run, files, tmp_path):
    done = run("scan", *files, "--json")
    summary = json.loads(done.out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["spaces"]["activations"]["n_nodes"] == 30
    assert done.err == ""
    fitted = [files[0], f"--out={tmp_path}/fitted"]
    assert json.loads(run("fit", *fitted, "--json").out)["fitted"] == f"{tmp_path}/fitted"
    given = [f"--fitted={tmp_path}/fitted", *files[1:]]
    assert json.loads(run("score", *given, "--json").out)["n_input"] == 30
    told = json.loads(run("explain", *given, "--json", "--most-anomalous=2").out)
    assert len(told["inputs"]) == 2
    np.save(tmp_path / "few.npy", np.load(tmp_path / "background.npy")[:10])
    done = run("scan", f"--background={tmp_path}/few.npy", *files[1:], "--json")
    assert json.loads(done.out)["n_background"] == 10
    assert "warning: 10 null scores cannot give" in done.err  # on standard error


@pytest.mark.skipif(os.name != "posix", reason="no terminals to be had")
@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_shown_on_a_terminal_only(files, tmp_path, watched):
    termios = pytest.importorskip("termios")
    command = [sys.executable, "-m", "subsetscan", "scan", *files, "--batch-size=4"]
    controller, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))  # bars fill the width, which is none by default
    with (tmp_path / "log").open("w+b") as log:
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal if watched else log)
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(controller, 4096):
                shown += part
        except OSError:  # Linux's word for the end
            pass
        assert run.wait() == 0
        log.seek(0)
        logged = log.read()
    os.close(controller)
    assert (b"background" in shown) == watched
    assert logged == b""


def test_shell_completion(tmp_path):
    def complete(**environment):
        command = [sys.executable, "-m", "subsetscan", *environment.pop("arguments", [])]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment).stdout

    script = complete(arguments=["--show-completion", "bash"], _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "complete -o default -F _subsetscan_completion subsetscan" in script
    asked = {"_SUBSETSCAN_COMPLETE": "complete_bash"}
    assert complete(**asked, COMP_WORDS="subsetscan ex", COMP_CWORD="1").split() == ["explain", "extract", "experiment"]
    found = complete(**asked, COMP_WORDS="subsetscan scan --tail ", COMP_CWORD="3").split()
    assert found == list(TAILS)
    assert complete(**asked, COMP_WORDS="subsetscan scan --statistic h", COMP_CWORD="3").split() == ["higher-criticism"]


def test_a_background_beyond_memory_is_refused(monkeypatch):
    spaces = [Arrays({"a": (10, 10), "b": (100,)}), Arrays({"c": (50,)})]
    needed = 250 * 40 * 4
    for total, advice in ((needed - 1, MemoryError), (needed, UserWarning), (2 * needed - 1, UserWarning)):
        monkeypatch.setattr(memory, "total_memory", lambda total=total: total)
        with (pytest.raises if advice is MemoryError else pytest.warns)(advice) as told:
            memory.check_memory(spaces, 40)
        message = str(told.value if advice is MemoryError else told[0].message)
        assert "250 nodes x 40 background inputs need about 40 kB, and this machine has " in message
        assert "name fewer layers with --layers, or give fewer background inputs" in message
    for total in (2 * needed, None):
        monkeypatch.setattr(memory, "total_memory", lambda total=total: total)
        memory.check_memory(spaces, 40)


def test_memory_that_the_fit_of_the_widest_space_takes(monkeypatch):
    spaces = [Arrays({"a": (10, 10), "b": (100,)}), Arrays({"c": (50,)})]
    needed = 40 * (250 * 30 + 100 * 60)
    monkeypatch.setattr(memory, "total_memory", lambda: 2 * needed)
    memory.check_memory(spaces, 40, **memory.AUTOMATIC)
    monkeypatch.setattr(memory, "total_memory", lambda: needed - 1)
    with pytest.raises(MemoryError, match="250 nodes x 40 background inputs need about 540 kB"):
        memory.check_memory(spaces, 40, **memory.AUTOMATIC)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the largest memory of a process is asked of Linux")
def test_the_automatic_detector_takes_the_memory_that_is_looked_at(tmp_path):
    """In a process of its own, of which the largest memory is told."""
    code = """
import numpy as np
from subsetscan.detectors import AutomaticDetector
values = np.random.default_rng(0).standard_normal((600, 6000), dtype=np.float32)
AutomaticDetector().fit(values[:50, :50])
def largest():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
before = largest()
AutomaticDetector().fit(values)
print((largest() - before) / values.size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 50 < float(done.stdout) < sum(memory.AUTOMATIC.values()) * 1.2


@pytest.mark.filterwarnings("always:.* nodes x")
def test_memory_is_looked_at_before_the_work(run, files, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "total_memory", lambda: 10_000)
    assert "30 nodes x 120 background inputs need about 324 kB" in run("fit", files[0], files[2], code=2).err
    done = run("fit", files[0], files[2], "--tail=upper", code=2)
    assert done.err == (
        "subsetscan: 30 nodes x 120 background inputs need about 14.4 kB, and this machine has 10 kB of memory: name "
        "fewer layers with --layers, or give fewer background inputs\n"
    )
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(memory, "total_memory", lambda: 20_000)
    done = run("fit", files[0], files[2], "--tail=upper")
    assert done.err.startswith("subsetscan: warning: 30 nodes x 120 background inputs need")


def test_memory_of_this_machine():
    assert memory.total_memory() is None or memory.total_memory() > 2**27
