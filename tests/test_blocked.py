"""A background in blocks of nodes is the whole one, to the bit; what is wrong with its folder is told."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SCOPES, STATISTICS, TAILS

from subsetscan import Background
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
    with pytest.raises(ValueError, match="files were swapped"):
        blocked.scan(X)
    first.unlink()
    with pytest.raises(FileNotFoundError, match="block-00000"):
        blocked.scan(X)
    first.write_bytes(kept[:-1])
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        blocked.scan(X)
    manifest = tmp_path / "out" / "background.json"
    content = json.loads(manifest.read_text())
    for change in ({"n_samples": 61}, {"digests": content["digests"][1:]}, {"width": 1}, {"format": "x"}):
        manifest.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=r"background.json is damaged: it (has not the digest|is x version)"):
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
