"""`subsetscan attack`, as people call it: what it says and writes, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from subsetscan.lab import adversaries, networks
from subsetscan.lab.adversaries import Job, attack_all
from subsetscan.lab.datasets import DATA, load_sample
from subsetscan.lab.result_cache import ResultCache

pytest.importorskip("typer")
pytest.importorskip("art")
keras = pytest.importorskip("keras")


def test_attack(run, tmp_path):
    pytest.importorskip("art")
    images, labels = (array[:30] for array in load_sample())
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    options = [
        f"--model={DATA / 'fashion-mnist-classifier.keras'}", f"--input={tmp_path / 'images.npy'}",
        f"--labels={tmp_path / 'labels.npy'}", f"--out={tmp_path / 'out'}", "--eps=0.1", "--processes=1", "--quiet",
    ]  # fmt: skip
    assert "valid-fgsm-0.1" in run("attack", *options).out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    attacked, sources, truth, predictions = (
        np.load(tmp_path / "out" / f"{name}.npy") for name in ("images", "sources", "labels", "predictions")
    )
    assert summary["successful"] == len(attacked) == len(sources) > 0
    assert np.array_equal(truth, labels[sources])
    assert (predictions != truth).all()
    assert 0.09 < np.abs(attacked - images[sources]).max() <= 0.1 + 1e-6
    assert "of 5 attacks" in run("attack", *options, "--n-images=5").out
    np.save(tmp_path / "labels.npy", labels[:-1])
    assert "30 images but 29 labels" in run("attack", *options, code=2).err
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "images.npy", 255 * images)
    assert "pixels must be in [0, 1]" in run("attack", *options, code=2).err
    np.save(tmp_path / "images.npy", (255 * images).astype(np.uint8))
    assert "images.npy: pixels must be floats in [0, 1], got uint8 0 to 255: divide by 255" in (
        run("attack", *options, code=2).err
    )
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "labels.npz", labels=labels)
    assert "must hold one array of labels, got an archive" in (
        run("attack", *options, f"--labels={tmp_path / 'labels.npz'}", code=2).err
    )


@pytest.mark.usefixtures("attack_here")
def test_a_folder_of_pictures(run, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    images, labels = (array[:12] for array in load_sample())
    (tmp_path / "pictures").mkdir()
    for n, image in enumerate(images):
        pillow.fromarray(np.rint(255 * image[..., 0]).astype(np.uint8)).save(tmp_path / "pictures" / f"{n:02}.png")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    given = [f"--model={DATA / 'fashion-mnist-classifier.keras'}", f"--labels={tmp_path}/labels.npy", "--eps=0.1",
             "--processes=1"]  # fmt: skip
    told = [
        json.loads(run("attack", *given, f"--input={tmp_path}/{name}", f"--out={tmp_path}/{name}-out", "--json").out)
        for name in ("pictures", "images.npy")
    ]
    assert told[0] == told[1]
    assert told[0] == json.loads((tmp_path / "pictures-out" / "summary.json").read_text())
    found, expected = (np.load(tmp_path / f"{name}-out" / "images.npy") for name in ("pictures", "images.npy"))
    assert len(found)
    assert np.array_equal(found, expected)


@pytest.fixture
def attack_model(run, tmp_path):
    """Save a model with images and labels, and attack it."""

    def call(model, images, labels, *options, code=0):
        model.save(tmp_path / "model.keras")
        np.save(tmp_path / "images.npy", images)
        np.save(tmp_path / "labels.npy", labels)
        files = f"--model={tmp_path / 'model.keras'}", f"--input={tmp_path / 'images.npy'}"
        out = f"--labels={tmp_path / 'labels.npy'}", f"--out={tmp_path / 'out'}"
        return run("attack", *files, *out, "--processes=1", "--quiet", *options, code=code)

    return call


def with_logits():
    classifier = networks.load_pretrained("classifier")
    logits = keras.layers.Dense(10, name="logits")
    model = keras.Model(classifier.inputs, logits(classifier.layers[-2].output))
    logits.set_weights(classifier.layers[-1].get_weights())
    return model


@pytest.mark.usefixtures("attack_here")
def test_a_classifier_that_gives_logits(attack_model, tmp_path):
    images, labels = (array[:40] for array in load_sample())
    done = attack_model(with_logits(), images, labels[:, None], "--eps=0.1")
    assert done.out.splitlines()[0] == (
        "the classifier's 10 outputs are taken for logits, because the network ends in a linear layer"
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["success_rate"] > 0.5
    assert summary["outputs"]["from_logits"] is True
    assert done.err == ""
    # Another assumption is another attack: what is kept from the first is not taken for it.
    assert "are not probabilities: they range from -" in (
        attack_model(with_logits(), images, labels, "--eps=0.1", "--from-probabilities", code=2).err
    )
    done = attack_model(networks.load_pretrained("classifier"), images, labels, "--from-logits", code=2)
    assert "classifier ends in a softmax: its outputs are probabilities" in done.err


def test_a_model_that_holds_code(attack_model, tmp_path):
    """It is refused unless it is trusted, by the processes that attack as well."""
    images, labels = (array[:10] for array in load_sample())
    logits = with_logits()
    model = keras.Model(logits.inputs, keras.layers.Lambda(lambda z: z / 2)(logits.outputs[0]))
    assert "open it with safe_mode=False (--unsafe-model)" in attack_model(model, images, labels, code=2).err
    (job,) = jobs = [Job("deepfool", 0.02)]
    cache = ResultCache(tmp_path / "kept")
    found = attack_all(tmp_path / "model.keras", images, labels, jobs, cache, n_processes=1, safe_mode=False)[job]
    assert len(found.sources) > 5
    assert found.successful.all()
    assert found.outputs.from_logits


@pytest.mark.filterwarnings("default:valid-fgsm-1e-09")
@pytest.mark.usefixtures("attack_here")
def test_attacks_of_which_none_succeeds(attack_model):
    images, labels = (array[:20] for array in load_sample())
    classifier = networks.load_pretrained("classifier")
    done = attack_model(classifier, images, labels, "--eps=1e-9")
    assert "warning: valid-fgsm-1e-09: none of 20 attacks succeeded" in done.err
    assert "eps 1e-09 may be too small, or the outputs may be something else: the classifier's 10 outputs" in done.err
    done = attack_model(classifier, images, (labels + 5) % 10, code=2)
    assert "the model classifies none of the 20 images in" in done.err
    assert "do the labels belong to these images, in this order and counted from 0" in done.err


# It answers SIGINT even if a shell started it in the background, which is inherited.
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from subsetscan.__main__ import main; main()"
)


def children_of(process):
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in tasks.read_text().split()]


def is_alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_for(what):
    for _ in range(1200):
        if found := what():
            return found
        time.sleep(0.1)
    raise TimeoutError


@pytest.fixture
def long_attack(tmp_path):
    """Start an attack of some minutes on two processes, in a process group of its own."""
    images, labels = (array[:400] for array in load_sample())
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    started = []

    def start(attack):
        command = [
            sys.executable, "-c", START, "attack", f"--model={DATA / 'fashion-mnist-classifier.keras'}",
            f"--input={tmp_path / 'images.npy'}", f"--labels={tmp_path / 'labels.npy'}", f"--out={tmp_path / 'out'}",
            f"--attack={attack}", "--processes=2", "--quiet",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to look for processes in")


@needs_proc
@pytest.mark.parametrize("to", ["group", "first process"])
@pytest.mark.parametrize("when", ["at the start", "at work"])
def test_ctrl_c_ends_every_process(long_attack, to, when):
    process = long_attack("boundary")
    wait_for(lambda: len(children_of(process)) >= 3)  # two that attack, and one of the standard library's
    if when == "at work":
        time.sleep(12)
    children = children_of(process)
    if to == "group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(is_alive, children)))


@needs_proc
def test_ctrl_c_waits_while_processes_start():
    end, reached = threading.Event(), []

    def interrupted():
        with adversaries._interrupts_held_back():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            reached.append(True)

    other = threading.Thread(target=end.wait)  # which does not block it
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        end.set()
        other.join()
    assert reached
    with adversaries._interrupts_held_back():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@needs_proc
def test_what_was_finished_before_ctrl_c_is_kept(long_attack, tmp_path):
    process = long_attack("bim")
    wait_for(lambda: list((tmp_path / "out").rglob("[!.]*.safetensors")))  # whole: hidden while it is written
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "leaked" not in errors  # semaphores, as those of progress bars
    kept = [path.name for path in (tmp_path / "out" / "kept").rglob("*") if path.is_file()]
    assert kept
    assert all(name[0] != "." and name.endswith(".safetensors") for name in kept)  # each whole


@needs_proc
def test_a_process_that_is_killed_ends_the_command(long_attack):
    process = long_attack("boundary")
    wait_for(lambda: len(children_of(process)) >= 3)
    time.sleep(8)
    children = children_of(process)
    os.kill(children[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "subsetscan: a process that attacks images ended before its work was done" in errors
    wait_for(lambda: not any(map(is_alive, children)))
