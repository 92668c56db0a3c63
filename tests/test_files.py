"""Files that appear whole or not at all."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from subsetscan import _files
from subsetscan._files import atomic_write
from subsetscan._sealed import read_tensors, write_tensors


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "results.json") as temporary:
            temporary.unlink()
            temporary.write_text("{}")
            temporary.chmod(0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "results.json").stat().st_mode) == 0o666 & ~mask
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_permissions_and_names_are_kept(tmp_path):
    path = tmp_path / f"{'n' * 250}.json"  # names may have 255 bytes
    path.write_text("old")
    path.chmod(0o640)
    write(path)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("content", 0o640)


def test_the_mask_of_the_process_stays_as_it_is(tmp_path, monkeypatch):
    """Another thread's file must not be open to everyone for a moment."""
    asked = []
    monkeypatch.setattr(os, "umask", lambda mask: asked.append(mask) or 0o022)
    threads = [threading.Thread(target=write, args=(tmp_path / f"{n}.txt",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == []
    assert len(list(tmp_path.iterdir())) == 8


def write(path):
    with atomic_write(path) as temporary:
        temporary.write_text("content")


def test_what_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "kept.txt").write_text("old")
    with pytest.raises(TypeError, match="must be str"), atomic_write(tmp_path / "kept.txt") as temporary:
        temporary.write_text(5)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept.txt", "old")]
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "nowhere" / "file.txt"):
        pass


def test_content_and_name_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("rename"), replace(old, new)))
    with atomic_write(tmp_path / "file.txt") as temporary:
        temporary.write_text("content")
    assert done == [str(temporary), "rename", str(tmp_path)]


KILLED = """
import os, signal, sys
from subsetscan._files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def begun(tmp_path):
    """Begin to write a file in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "theirs.txt")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


def test_what_killed_processes_had_begun_is_removed(tmp_path, begun):
    write(tmp_path / "ours.txt")
    assert len(list(tmp_path.iterdir())) == 2  # theirs is being written
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert len(list(tmp_path.iterdir())) == 2
    _files._sweep.cache_clear()  # as in a new process
    write(tmp_path / "ours.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["ours.txt"]


@pytest.fixture
def small_disk():
    """Let no file have more than 100 kB, which fails as a full disk does: halfway, with an error of the system."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_array(path):
    with atomic_write(path) as temporary:
        np.save(temporary, np.zeros(100_000))


def save_text(path):
    with atomic_write(path) as temporary:
        temporary.write_text("x" * 1_000_000)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("save", [lambda path: write_tensors(path, {}, {"a": np.zeros(100_000)}), save_text])
def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path, save):
    write(tmp_path / "file.npy")
    with pytest.raises(OSError, match="File too large: '.*/file.npy'") as caught:
        save(tmp_path / "file.npy")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "file.npy"))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file.npy", "content")]


@pytest.mark.usefixtures("small_disk")
def test_so_is_what_a_library_says_of_it(tmp_path):
    with pytest.raises(OSError, match=r"cannot write .*/file.npy: 100000 requested and \d+ written"):
        save_array(tmp_path / "file.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_disk")
@pytest.mark.filterwarnings("ignore:.* null scores")
def test_a_command_says_in_one_line_what_cannot_be_written(tmp_path, run, rng):
    np.savez_compressed(tmp_path / "clean.npz", activations=rng.integers(0, 9, (200, 400)).astype(float))
    done = run("fit", f"--background={tmp_path / 'clean.npz'}", f"--out={tmp_path / 'out'}", code=2)
    assert re.fullmatch(r"subsetscan: \[Errno 27\] File too large: '.*/out/detector-000.safetensors'\n", done.err), (
        done.err
    )
    assert not (tmp_path / "out").exists()


def test_an_error_of_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-input"), atomic_write(tmp_path / "file.txt"):
        (tmp_path / "no-input").read_text()


def test_tensors_are_written_as_the_library_writes_them(tmp_path):
    from safetensors.numpy import save

    tensors = {
        "z": np.arange(6.0).reshape(2, 3).T,
        "\u00fc": np.zeros((0, 3), np.float16),
        "one": np.array(True),
        "b": np.arange(3, dtype=">u4"),
        "i": np.arange(3, dtype=np.int8),
    }
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"about": "\u00e9"}, tensors)
    native = {name: np.asarray(array, array.dtype.newbyteorder("="), order="C") for name, array in tensors.items()}
    assert path.read_bytes() == save(native, {"about": "\u00e9"})
    write_tensors(path, {"b": "2", "a": "1"}, tensors)
    metadata, arrays = read_tensors(path, "is damaged")
    assert metadata == {"a": "1", "b": "2"}
    assert all(np.array_equal(arrays[name], array) for name, array in tensors.items())


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is swept there")
def test_a_temporary_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    swept, own = [], _files.lock

    def late(descriptor):
        if not swept:
            swept.extend(tmp_path.glob(".subsetscan-*"))
            for left in swept:
                left.unlink()
        return own(descriptor)

    monkeypatch.setattr(_files, "lock", late)
    with _files.atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert swept
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "whole"
