"""A background in blocks of nodes is the whole one, to the bit; what is wrong with its folder is told."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SCOPES, STATISTICS, TAILS

from subsetscan import Background
from subsetscan import blocked as blocked_module
from subsetscan.blocked import BlockedBackground

RNG = np.random.default_rng(0)
CLEAN = RNG.integers(-9, 9, (60, 23)).astype(np.float32) / 4
X = CLEAN[:11] + 0.25


def fitted(folder, clean=CLEAN, **options):
    shutil.rmtree(folder, ignore_errors=True)
    return BlockedBackground.fit(clean, folder, **{"memory_limit": 10_000} | options)


def same(one, other):
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("scores", "alphas", "sizes"))
    assert (one.nodes is None) == (other.nodes is None)
    assert one.nodes is None or (one.nodes != other.nodes).nnz == 0


@given(
    st.sampled_from(TAILS), st.sampled_from(STATISTICS), st.sampled_from(SCOPES), st.sampled_from(["upper", "midrank"]),
    st.floats(0.01, 1), st.booleans(), st.integers(6_000, 60_000), st.sampled_from("efd"), st.booleans(),
)  # fmt: skip
def test_blocks_are_the_whole(
    tmp_path_factory, tail, statistic, scope, ties, alpha_max, compact, memory_limit, dtype, nodes
):
    clean, x = CLEAN.astype(dtype), X.astype(np.float32)
    kept = {"tail": tail, "alpha_max": alpha_max} if compact and ties == "upper" else {}
    blocked = fitted(tmp_path_factory.mktemp("blocks") / "out", clean, memory_limit=memory_limit, **kept)
    whole = Background(clean, **kept)
    assert (blocked.n_samples, blocked.n_nodes, blocked.dtype) == (60, 23, whole.dtype)
    assert (blocked.tail, blocked.alpha_max) == (whole.tail, whole.alpha_max)
    how = {"tail": tail, "alpha_max": alpha_max, "ties": ties}
    options = how | {"statistic": statistic, "scope": scope, "return_nodes": nodes}
    same(blocked.scan(x, **options), whole.scan(x, **options))
    for same_grid in (False, True):
        expected = whole.leave_one_out(clean, same_grid=same_grid, **options)
        same(blocked.leave_one_out(clean, same_grid=same_grid, **options), expected)
    assert np.array_equal(blocked.rank_histogram(x, **how), whole.rank_histogram(x, **how))
    if not kept:
        assert np.array_equal(blocked.p_values(x, tail, ties), whole.p_values(x, tail, ties))


def test_arrays_are_read_in_parts(tmp_path):
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    np.save(tmp_path / "clean.npy", CLEAN)
    with h5py.File(tmp_path / "clean.h5", "w") as file:
        file["x"] = CLEAN
        arrays = [
            np.load(tmp_path / "clean.npy", mmap_mode="r"),
            file["x"],
            zarr.create_array(tmp_path / "clean.zarr", data=CLEAN, chunks=(7, 5)),
            np.asfortranarray(CLEAN),
        ]
        expected = Background(CLEAN).leave_one_out(CLEAN, return_nodes=True)
        for array in arrays:
            blocked = fitted(tmp_path / "out", array)
            assert blocked.n_blocks > 2
            same(blocked.leave_one_out(array, return_nodes=True), expected)
    out = np.lib.format.open_memmap(tmp_path / "p.npy", "w+", np.float64, X.shape)
    assert blocked.p_values(X, out=out) is out
    assert np.array_equal(np.load(tmp_path / "p.npy"), Background(CLEAN).p_values(X))
    same(blocked.scan(X[:0], return_nodes=True), Background(CLEAN).scan(X[:0], return_nodes=True))


def test_what_is_wrong_is_said(tmp_path):
    blocked, holed = fitted(tmp_path / "out"), CLEAN.copy()
    holed[50, 20] = np.nan
    for call, error, message in [
        (lambda: fitted(tmp_path / "new", holed), ValueError, "activations holds NaN, .* at input 50, node 20"),
        (lambda: blocked.scan(holed), ValueError, "x holds NaN, the first one met at input 50, node 20"),
        (lambda: blocked.scan(X[:, :4]), ValueError, "have 4 nodes, but the background has 23"),
        (lambda: blocked.scan(X[0]), ValueError, r"2 dimensions \(inputs, nodes\), got shape \(23,\)"),
        (lambda: blocked.scan(X.tolist()), TypeError, "parts can be taken, got list: use numpy.asarray"),
        (lambda: blocked.scan(X, ties="random"), ValueError, "ties 'upper' or 'midrank', got 'random'"),
        (lambda: blocked.scan(X, alpha_max=2), ValueError, r"alpha_max must be in \(0, 1\]"),
        (lambda: blocked.scan(X, tail="up"), ValueError, "unknown tail"),
        (lambda: blocked.p_values(X, out=np.empty((2, 2))), ValueError, r"out must be float64 of shape \(11, 23\)"),
        (lambda: blocked.scan(X, alpha_max=np.nan), ValueError, r"alpha_max must be in \(0, 1\], got nan"),
        (lambda: fitted(tmp_path / "new", memory_limit=1e6), ValueError, "a whole number of bytes, .* got 1000000.0"),
        (lambda: BlockedBackground(tmp_path / "out", None), ValueError, "a whole number of bytes, .* got None"),
        (lambda: fitted(tmp_path / "new", memory_limit=100), ValueError, "one node of 60 inputs needs about"),
        (lambda: fitted(tmp_path / "new", CLEAN[:0]), ValueError, "needs at least 1 input|is empty"),
        (lambda: fitted(tmp_path / "new", CLEAN[:, :0]), ValueError, "at least 1 node"),
        (lambda: BlockedBackground.fit(CLEAN, tmp_path / "out"), FileExistsError, "holds a background already"),
        (lambda: BlockedBackground(tmp_path / "none"), FileNotFoundError, "holds no background in blocks"),
        (lambda: BlockedBackground(tmp_path / "out", 500), ValueError, "need about .* memory_limit is 500: raise it"),
    ]:
        with pytest.raises(error, match=message):
            call()
        assert not (tmp_path / "new" / "background.json").exists()


def test_a_damaged_folder_is_refused(tmp_path):
    blocked = fitted(tmp_path / "out")
    first, second = (tmp_path / "out" / f"block-0000{n}.safetensors" for n in range(2))
    kept = first.read_bytes()
    shutil.copy(second, first)
    with pytest.raises(ValueError, match="block-00000.safetensors is not the file that it was"):
        blocked.scan(X)
    first.unlink()
    with pytest.raises(FileNotFoundError, match="block-00000"):
        blocked.scan(X)
    first.write_bytes(kept[:-1])
    with pytest.raises(ValueError, match=r"block-00000.safetensors is damaged: it has \d+ bytes where"):
        blocked.scan(X)
    first.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(ValueError, match="block-00000.safetensors is damaged: .* checksum"):
            blocked.scan(X[:1])
    first.unlink()
    first.write_bytes(kept)
    same(BlockedBackground(tmp_path / "out").scan(X), Background(CLEAN).scan(X))
    manifest = tmp_path / "out" / "background.json"
    content = json.loads(manifest.read_text())
    for change in ({"n_samples": 61}, {"digests": content["digests"][1:]}, {"width": 1}, {"format": "x"}):
        manifest.write_text(json.dumps(content | change))
        with pytest.raises(
            ValueError, match=r"background.json (is damaged: it has not the digest|is x version 2, not .*: fit)"
        ):
            BlockedBackground(tmp_path / "out")
    manifest.write_text(json.dumps(content | {"format_version": 1}))
    with pytest.raises(ValueError, match=r"is subsetscan.BlockedBackground version 1, not .* version 2: fit anew"):
        BlockedBackground(tmp_path / "out")
    for text in ("", "[]", "{}", "[" * 5000):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=r"background.json is damaged"):
            BlockedBackground(tmp_path / "out")


class Parts:
    """An array that notes how much of it is read at a time."""

    def __init__(self, values):
        self.values, self.shape, self.most = values, values.shape, 0

    def __getitem__(self, where):
        part = self.values[where]
        self.most = max(self.most, part.nbytes)
        return part


def test_a_relative_folder_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocked = fitted("blocks")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert np.array_equal(blocked.scan(X).scores, Background(CLEAN).scan(X).scores)


def test_inputs_are_read_in_parts_that_fit(tmp_path):
    clean = RNG.normal(size=(20, 3000)).astype(np.float32)
    blocked = fitted(tmp_path / "out", clean, memory_limit=500_000)
    x = Parts(RNG.normal(size=(1000, 3000)).astype(np.float32))
    expected = Background(clean).scan(x.values, return_nodes=True)
    same(blocked.scan(x, return_nodes=True), expected)
    assert np.array_equal(blocked.rank_histogram(x), Background(clean).rank_histogram(x.values))
    assert np.array_equal(blocked.p_values(x), Background(clean).p_values(x.values))
    assert x.most < 500_000 / 4
    assert blocked.p_values(X[:0, :1].repeat(3000, axis=1)).shape == (0, 3000)


def test_two_fits_do_not_mix(tmp_path):
    class Slow(Parts):
        n = 0

        def __getitem__(self, where):
            self.n += 1
            if self.n == 3:  # the first is for the type alone
                with pytest.raises(FileExistsError, match="another process is fitting a background in"):
                    BlockedBackground.fit(CLEAN, tmp_path / "out", memory_limit=10_000)
            return super().__getitem__(where)

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "block-00099.safetensors").write_text("of a fit that was stopped")
    array, kept = Slow(CLEAN), {"tail": "upper", "alpha_max": np.float32(0.3)}
    blocked = BlockedBackground.fit(array, tmp_path / "out", **kept, memory_limit=np.int64(10_000))
    assert array.n > 3
    assert len(list((tmp_path / "out").glob("block-*"))) == blocked.n_blocks
    same(blocked.scan(X, alpha_max=0.3), Background(CLEAN).scan(X, alpha_max=0.3))


def test_blocks_are_mapped_once(tmp_path, monkeypatch):
    calls, found = [], []
    read = blocked_module.map_index
    monkeypatch.setattr(blocked_module, "map_index", lambda *how: calls.append(how) or read(*how))
    blocked = fitted(tmp_path / "out")
    for x in (X, X[:1], X.astype(np.float16), X):
        found.append(blocked.scan(x, return_nodes=True))
        same(found[-1], Background(CLEAN).scan(x, return_nodes=True))
    assert len(calls) == blocked.n_blocks > 2
    again = pickle.loads(pickle.dumps(blocked))
    same(again.scan(X, return_nodes=True), found[0])
    assert len(calls) == 2 * blocked.n_blocks
    if os.name == "posix":
        shutil.rmtree(tmp_path / "out")
        same(blocked.scan(X, return_nodes=True), found[0])


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from subsetscan.blocked import BlockedBackground

folder = sys.argv[1]
x = np.load(f"{folder}/x.npy")
blocked = BlockedBackground(f"{folder}/blocks", 8_000_000)
blocked.scan(np.zeros((1, blocked.n_nodes)))  # the threads, and what else is made once
status = Path("/proc/self/status").read_text()
used = 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + 24_000_000, resource.RLIM_INFINITY))
for values in (x, x.astype(np.float16)):
    for _ in range(2):
        np.save(f"{folder}/{values.dtype}.npy", blocked.scan(values).scores)
try:
    bytearray(40_000_000)
except MemoryError:
    print("limited")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts other things elsewhere")
def test_neither_blocks_nor_copies_of_them_take_memory(tmp_path):
    """Blocks of 160 MB, whose values in half precision are 40 MB, under a limit of 24 MB that the system holds."""
    clean, x = RNG.normal(size=(20_000, 1000)), RNG.normal(size=(3, 1000))
    np.save(tmp_path / "x.npy", x)
    blocked = BlockedBackground.fit(clean, tmp_path / "blocks", memory_limit=8_000_000)
    assert sum(path.stat().st_size for path in blocked.folder.iterdir()) > 160e6
    ended = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True)
    assert ended.stdout == "limited\n", ended.stderr
    for values in (x, x.astype(np.float16)):
        assert np.array_equal(np.load(tmp_path / f"{values.dtype}.npy"), Background(clean).scan(values).scores)
