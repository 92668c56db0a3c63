"""A mapped background is the one in memory, to the bit, in all processes; what is wrong with its file is told."""

import copy
import multiprocessing
import os
import pickle
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel, delayed
from safetensors import safe_open
from strategies import SCOPES, STATISTICS, TAILS, TIES, cases

from subsetscan import Background, GroupScanner, _core, _index_file, _sealed
from subsetscan._digest import digest
from subsetscan.coarse import CoarseBackground

RNG = np.random.default_rng(0)
CLEAN = RNG.integers(-9, 9, (300, 23)).astype(np.float32) / 4
X = CLEAN[:11] + 0.25


def mapped(background, folder, **options):
    background.write_index(folder / "index.safetensors")
    return Background.map_index(folder / "index.safetensors", **options)


def same(one, other):
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("scores", "alphas", "sizes"))
    assert (one.nodes is None) == (other.nodes is None)
    assert one.nodes is None or (one.nodes != other.nodes).nnz == 0


def answers_alike(one, other, clean, x, tail, ties, alpha_max, **options):
    """Ask both backgrounds for everything: the results are the same, or the messages of errors are."""
    how = {"tail": tail, "ties": ties, "random_state": 3}

    def both(ask, compare=np.testing.assert_array_equal):
        try:
            expected = ask(other)
        except ValueError as error:
            with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
                ask(one)
        else:
            compare(ask(one), expected)

    scan = how | {"alpha_max": alpha_max, "return_nodes": True} | options
    both(lambda b: b.scan(x, **scan), same)
    for grid in (False, True):
        both(lambda b, grid=grid: b.leave_one_out(clean[:1], same_grid=grid, **scan), same)
    for membership, rows in (("outside", x), ("inside", clean[:1]), ("calibrating", clean[:1])):
        both(lambda b, m=membership, r=rows: b.rank_histogram(r, alpha_max=alpha_max, membership=m, **how))
        within = {"alpha_max": alpha_max, "membership": membership} | how
        both(lambda b, r=rows, w=within: b.nodes_within(r, [alpha_max / 2] * len(r), **w).toarray())
        for summary in ("mean-p", "minimum-p", "fisher"):
            both(lambda b, m=membership, r=rows, s=summary: b.summarise(r, s, membership=m, **how))
    both(lambda b: b.p_values(x, **how))
    both(lambda b: b.p_value_ranges(x, tail))
    both(lambda b: b._columns())
    scanner = {"restarts": 2, "random_state": 0, "tail": tail, "ties": ties, "alpha_max": alpha_max}
    both(lambda b: [getattr(GroupScanner(b, **scanner).scan(x), name) for name in ("score", "alpha")])


@given(
    cases(max_samples=40), st.sampled_from(TAILS), st.sampled_from(TIES), st.sampled_from(STATISTICS),
    st.sampled_from(SCOPES), st.floats(0.01, 1), st.booleans(), st.booleans(),
)  # fmt: skip
def test_every_answer_is_that_of_the_background_in_memory(
    tmp_path_factory, case, tail, ties, statistic, scope, alpha_max, compact, verify
):
    clean, x = case
    whole = Background(clean, *((tail, alpha_max) if compact else ()))
    one = mapped(whole, tmp_path_factory.mktemp("index"), verify=verify)
    assert (one.n_samples, one.n_nodes, one.dtype, one.nbytes) == (*clean.shape, clean.dtype, whole.nbytes)
    assert (one.tail, one.alpha_max) == (whole.tail, whole.alpha_max)
    answers_alike(one, whole, clean, x, tail, ties, alpha_max, statistic=statistic, scope=scope)


@pytest.mark.parametrize("dtype", "efd")
@pytest.mark.parametrize("n_samples", [1, 15, 16, 17, 255, 256, 257, 300])
def test_every_number_of_levels_is_mapped(n_samples, dtype, tmp_path):
    clean = CLEAN[:n_samples].astype(dtype)
    for kept in ((), ("upper", 0.3), ("two-sided", 0.2)):
        whole = Background(clean, *kept)
        one = mapped(whole, tmp_path)
        tail, alpha_max = kept or ("lower", 0.5)
        for x in (X.astype(dtype), X[:1], X.repeat(60, axis=0)):
            answers_alike(one, whole, clean, x, tail, "upper", alpha_max)
    one_node = Background(clean[:, :1])
    answers_alike(mapped(one_node, tmp_path), one_node, clean[:, :1], X[:, :1], "upper", "upper", 0.5)


def test_a_mapped_background_does_what_others_do(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(CLEAN, columns=[f"node {n}" for n in range(23)])
    whole = Background(frame)
    one = mapped(whole, tmp_path)
    with pytest.raises(ValueError, match="column 0 is 'node 22'"):
        one.scan(frame[frame.columns[::-1]])
    same(one.scan(X.astype(np.float16)), whole.scan(X.astype(np.float16)))  # coarser than the background
    same(one.merge(Background(frame[:50])).scan(X), whole.merge(Background(frame[:50])).scan(X))
    for background, name in ((one, "mapped"), (whole, "own")):
        background.save(tmp_path / name)
        background.write_index(tmp_path / f"{name}.safetensors")
    for suffix in ("", ".safetensors"):
        assert (tmp_path / f"mapped{suffix}").read_bytes() == (tmp_path / f"own{suffix}").read_bytes()
    assert CoarseBackground(one).scan(X).scores.tolist() == CoarseBackground(whole).scan(X).scores.tolist()
    assert sys.getsizeof(one) < 1000 < sys.getsizeof(whole)
    assert repr(one).endswith(f"float32, mapped from {tmp_path / 'index.safetensors'}>")
    with pytest.raises(ValueError, match="only a Background has an index file, got <Coarse.*: use save"):
        CoarseBackground(whole).write_index(tmp_path / "coarse")


@pytest.mark.parametrize("kept", [(), ("upper", 0.3)])
@pytest.mark.parametrize("dtype", "efd")
def test_the_file_is_a_safetensors_file_of_lines(dtype, kept, tmp_path):
    whole = Background(CLEAN.astype(dtype), *kept)
    whole.write_index(tmp_path / "index")
    content = (tmp_path / "index").read_bytes()
    assert (8 + int.from_bytes(content[:8], "little")) % 64 == 0
    with safe_open(tmp_path / "index", framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert file.metadata()["format"] == "subsetscan.BackgroundIndex"
    assert sum(tensor.nbytes for tensor in tensors.values()) == whole.nbytes
    assert len(content) - whole.nbytes == 8 + int.from_bytes(content[:8], "little")
    assert tensors["columns"].dtype == f"u{np.dtype(dtype).itemsize}"
    assert tensors["table"].size == (0 if dtype != "f" else 23 * 20 if kept else 23 * 68)


def damaged(content):
    """Make damaged files of every kind, and what is said of each when it is mapped; None if not before it is used."""
    header = 8 + int.from_bytes(content[:8], "little")
    whole = "is not a safetensors file, or not a complete one"
    yield "empty", b"", "is damaged: Expecting value"
    yield "header cut off", content[: header // 2], whole
    yield "length cut off", content[:5], whole
    yield "data cut off", content[:-1], r"is damaged: it has \d+ bytes where \d+ were written"
    yield "header alone", content[:header], r"is damaged: it has \d+ bytes where \d+ were written"
    yield "longer", content + b"\0", r"is damaged: it has \d+ bytes where \d+ were written"
    yield "huge header", b"\xff" * 8 + content[8:], whole
    yield "no safetensors", b"PK\3\4" * 100, whole
    yield "no text", (2).to_bytes(8, "little") + b"\xff\xfe" + content[10:], "is damaged"
    yield "no metadata", (2).to_bytes(8, "little") + b"{}", "is damaged: '__metadata__' is missing"
    yield "deep", (99_000).to_bytes(8, "little") + b"[" * 99_000, "is damaged"
    for place in {*range(0, header, 7)}:
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        yield f"bit of byte {place}", bytes(flipped), "(is damaged|is not a|has format version)"
    for place in range(header, len(content), 977):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        yield f"bit of byte {place}", bytes(flipped), None


def test_damage_is_told_of(tmp_path):
    Background(CLEAN).write_index(tmp_path / "index")
    for kind, content, message in damaged((tmp_path / "index").read_bytes()):
        path = tmp_path / kind
        path.write_bytes(content)
        if message is not None:
            for verify in (True, False):
                with pytest.raises(ValueError, match=f"{kind} {message}"):
                    Background.map_index(path, verify)
            continue
        one = Background.map_index(path)
        for ask in (Background.p_values, Background.scan, Background._columns) * 2:
            for x in ((X,), (X[:1],)) if ask is not Background._columns else ((),):
                with pytest.raises(ValueError, match=f"{kind} is damaged: its content has not the checksum"):
                    ask(one, *x)
        with pytest.raises(ValueError, match="is damaged: its content has not the checksum"):
            one.write_index(tmp_path / "again")
        assert not (tmp_path / "again").exists()
        assert Background.map_index(path, verify=False).scan(X).scores.shape == (11,)  # who trusts it


def test_other_files_are_told_apart(tmp_path, monkeypatch):
    Background(CLEAN).save(tmp_path / "saved")
    with pytest.raises(ValueError, match="saved is not an index .*: its format is 'subsetscan.Background'; .* by load"):
        Background.map_index(tmp_path / "saved")
    Background(CLEAN).write_index(tmp_path / "index")
    with pytest.raises(ValueError, match="index is not a file of Background: its format is 'subsetscan.BackgroundInd"):
        Background.load(tmp_path / "index")
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="no index of a background at"):
            Background.map_index(missing)
    with pytest.raises(FileNotFoundError) as error:
        Background(CLEAN).write_index(tmp_path / "none" / "index")
    assert error.value.filename == str(tmp_path / "none" / "index")
    if os.name == "posix" and os.getuid():
        (tmp_path / "index").chmod(0)
        with pytest.raises(PermissionError) as error:
            Background.map_index(tmp_path / "index")
        assert error.value.filename == str(tmp_path / "index")
        (tmp_path / "index").chmod(0o600)
    monkeypatch.setattr(_index_file, "_FORMAT_VERSION", "3")
    with pytest.raises(ValueError, match="index has format version '2'; this subsetscan maps '3': write it anew"):
        Background.map_index(tmp_path / "index")
    monkeypatch.setattr(sys, "byteorder", "big")
    for call in (Background.map_index, Background(CLEAN).write_index):
        with pytest.raises(RuntimeError, match="little-endian processors alone"):
            call(tmp_path / "index")


DESCRIPTION = {"dtype": "float32", "kept": [], "n_nodes": 3, "n_samples": 20, "names": None}


def size_of(dtype, n_samples):
    keys, table = _core.Background.index_shape(n_samples, dtype)
    return 3 * (keys * np.dtype(dtype).itemsize + 4 * table)


def forged(path, content, **changes):
    """Write an index file of somebody's making, with a right digest and a right checksum."""
    text = _sealed.as_text(DESCRIPTION | changes)
    header, _, _ = _index_file._header(text, "0" * 32)
    path.write_bytes(header + content)
    checksum = _index_file.map_index(path, verify=False)[0].checksum()
    header, _, _ = _index_file._header(text, checksum)
    path.write_bytes(header + content)


@pytest.mark.parametrize("byte", [b"\0", b"\x01", b"\x7f", b"\xff", b"\xff\0\0\0", None])
def test_content_of_somebodys_making_is_harmless(byte, tmp_path):
    for dtype, n_samples in (("float32", 20), ("float32", 300), ("float16", 40), ("float64", 40)):
        n_bytes = size_of(dtype, n_samples)
        content = RNG.bytes(n_bytes) if byte is None else (byte * n_bytes)[:n_bytes]
        forged(tmp_path / "index", content, dtype=dtype, n_samples=n_samples)
        one = Background.map_index(tmp_path / "index")
        x = RNG.normal(size=(70, 3)).astype(dtype)
        for tail in TAILS:
            assert ((p := one.p_values(x, tail)) > 0).all()
            assert (p <= 1).all()
            for part in (x[:1], x):
                found = one.scan(part, tail=tail, return_nodes=True)
                assert (found.sizes <= 3).all()
                assert not np.isnan(found.scores).any()
                one.scan(part, tail=tail, ties="range", alpha_max=1.0)
                one.summarise(part, "fisher", tail, ties="midrank")
            GroupScanner(one, tail=tail, restarts=1, random_state=0).scan(x)
        if byte == b"\xff":
            with pytest.raises(ValueError, match="NaN"):
                one.merge(one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_nodes": 10**12}, r"it has \d+ bytes where"),
        ({"n_nodes": -3}, r"it has \d+ bytes where"),
        ({"n_nodes": 0}, "at least 1 node|it has"),
        ({"n_nodes": "3"}, ""),
        ({"n_samples": 0}, "the background is empty"),
        ({"n_samples": 2**70}, "n_samples must be from 0"),
        ({"n_samples": 20.0}, ""),
        ({"dtype": "float99"}, "not float99"),
        ({"dtype": "uint8"}, "not uint8"),
        ({"kept": ["up", 0.5]}, "unknown tail"),
        ({"kept": ["upper", 7]}, "alpha_max must be in"),
        ({"kept": ["upper", 0.5, 1]}, ""),
        ({"names": ["a"]}, "3 nodes must have as many names"),
        ({"names": [1, 2, 3]}, "3 nodes must have as many names"),
        ({"colour": "red"}, "its description is of .*colour"),
    ],
)
def test_a_description_of_somebodys_making_is_refused(changes, message, tmp_path):
    text = _sealed.as_text(DESCRIPTION | changes)
    own = digest("subsetscan.BackgroundIndex", "2", text, "0" * 32)
    metadata = {"description": text, "checksum": "0" * 32, "digest": own}
    metadata |= {"format": "subsetscan.BackgroundIndex", "format_version": "2"}
    n_nodes = changes["n_nodes"] if isinstance(changes.get("n_nodes"), int) else 3
    tensors = {"columns": ("uint32", (n_nodes, 32)), "table": ("uint32", (n_nodes, 20))}
    header, _ = _sealed.header_of(metadata, tensors)
    (tmp_path / "index").write_bytes(header + bytes(size_of("float32", 20)))
    with pytest.raises(ValueError, match=f"index is damaged: .*{message}"):
        Background.map_index(tmp_path / "index")


def test_pickles_are_the_path_and_the_digest(tmp_path):
    whole = Background(CLEAN)
    one = mapped(whole, tmp_path)
    text = pickle.dumps(one)
    assert len(text) < 1000
    for again in (pickle.loads(text), copy.copy(one), copy.deepcopy(one)):
        same(again.scan(X), whole.scan(X))
    Background(CLEAN[:-1]).write_index(tmp_path / "index.safetensors")
    with pytest.raises(ValueError, match=r"index.safetensors is not the file that it was: its digest is"):
        pickle.loads(text)
    same(one.scan(X), whole.scan(X))  # it has the file that was replaced
    (tmp_path / "index.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no index of a background at"):
        pickle.loads(text)


def test_a_relative_path_is_the_same_for_others(tmp_path, monkeypatch):
    Background(CLEAN).write_index(tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    text = pickle.dumps(Background.map_index("index"))
    monkeypatch.chdir(tmp_path.parent)
    same(pickle.loads(text).scan(X), Background(CLEAN).scan(X))


def scores_of(background):
    return background.scan(X).scores, background.scan(X[:1]).scores


@pytest.mark.parametrize(
    ("method", "is_known"), [(method, False) for method in multiprocessing.get_all_start_methods()] + [("fork", True)]
)
def test_processes_find_the_same(method, is_known, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("no such processes here")
    one, expected = mapped(Background(CLEAN), tmp_path), scores_of(Background(CLEAN))
    if is_known:
        one.scan(X)  # what was checked before the fork
    with multiprocessing.get_context(method).Pool(3) as pool:
        for found in pool.map(scores_of, [one] * 4, chunksize=1):
            assert all(map(np.array_equal, found, expected))


def test_joblib_maps_the_file_in_its_workers(tmp_path):
    one, expected = mapped(Background(CLEAN), tmp_path), scores_of(Background(CLEAN))
    for found in Parallel(n_jobs=2)(delayed(scores_of)(one) for _ in range(3)):
        assert all(map(np.array_equal, found, expected))


def test_threads_look_for_the_first_time_together(tmp_path):
    one, expected = mapped(Background(CLEAN), tmp_path), scores_of(Background(CLEAN))
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(scores_of, [one] * 16):
            assert all(map(np.array_equal, found, expected))


@pytest.mark.skipif(os.name != "posix", reason="a file that is mapped has a name on Windows")
def test_a_file_that_lost_its_name_is_read_on(tmp_path):
    one = mapped(Background(CLEAN), tmp_path)
    (tmp_path / "index.safetensors").unlink()
    same(one.scan(X), Background(CLEAN).scan(X))


def test_a_folder_that_is_read_only_is_enough(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    Background(CLEAN).write_index(folder / "index")
    (folder / "index").chmod(0o400)
    folder.chmod(0o500)
    try:
        same(Background.map_index(folder / "index").scan(X), Background(CLEAN).scan(X))
        assert [path.name for path in folder.iterdir()] == ["index"]
    finally:
        folder.chmod(0o700)


def test_a_copy_is_as_good(tmp_path):
    mapped(Background(CLEAN), tmp_path)
    shutil.copy(tmp_path / "index.safetensors", tmp_path / "copy")
    same(Background.map_index(tmp_path / "copy").scan(X), Background(CLEAN).scan(X))
