"""Files that appear whole or not at all."""

import os
import stat
import threading

import pytest

from subsetscan._files import atomic_write


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
