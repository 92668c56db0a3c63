"""A file can not hurt: arrays, pictures and datasets from anybody are read whole, or refused by ValueError."""

import gzip
import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from tampering import raw_safetensors

from subsetscan.commands.arrays import read_arrays
from subsetscan.inputs import PictureFolder
from subsetscan.lab import datasets
from subsetscan.lab.array_files import load_array
from subsetscan.lab.result_cache import ResultCache


def npy_of(header, content=b"\0" * 16):
    header = header if isinstance(header, bytes) else header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


SHAPED = "{'descr': '<f8', 'fortran_order': False, 'shape': %s}\n"
HEADERS = [
    SHAPED[:-2] % "(2,)",  # one lost brace
    SHAPED % "(-2,)",
    SHAPED % "(9000000000000000000, 4)",
    SHAPED % ("9" * 30,),
    SHAPED % f"({'9' * 30},)",
    SHAPED % "(True,)",
    SHAPED % ("(" * 300),
    SHAPED % ("(" * 3000),
    SHAPED % f"({'1, ' * 70})",
    "\0",
    "",
]


@contextmanager
def refused_if_at_all(path):
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(f"{path} "):
            raise


@pytest.fixture
def peak():
    """What was allocated since the test began, at most."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("header", HEADERS)
def test_npy_files_with_any_header(header, tmp_path, peak):
    (tmp_path / "x.npy").write_bytes(npy_of(header))
    with pytest.raises(ValueError, match=r"x\.npy is not a complete \.npy file of numbers: "):
        load_array(tmp_path / "x.npy", "images")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy_of(header))
    with pytest.raises(ValueError, match=r"x\.npz is not a complete \.npz file of numbers: "):
        read_arrays(tmp_path / "x.npz", "a")
    assert peak() < 1e7


def test_the_length_of_a_header_is_held_against_the_file(tmp_path, peak):
    np.lib.format.write_array(file := io.BytesIO(), np.arange(3.0), version=(2, 0))
    (tmp_path / "x.npy").write_bytes(file.getvalue())
    np.testing.assert_array_equal(load_array(tmp_path / "x.npy", "images"), np.arange(3.0))
    for version in (b"\x02", b"\x03"):
        content = file.getvalue()[:6] + version + b"\0\xf0\xff\xff\xff" + file.getvalue()[12:]
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"x\.npy is not a complete \.npy file of numbers: its header is of 4294967280"
        ):
            load_array(tmp_path / "x.npy", "images")
    assert peak() < 1e7


def test_one_lost_brace_ends_a_command_with_a_message(tmp_path):
    np.save(tmp_path / "good.npy", np.zeros((4, 3)))
    content = (tmp_path / "good.npy").read_bytes()
    (tmp_path / "bad.npy").write_bytes(content.replace(b"}", b" ", 1))
    arguments = ["scan", "--input", "bad.npy", "--background", "good.npy", "--out", "out"]
    ended = subprocess.run(
        [sys.executable, "-m", "subsetscan", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "bad.npy is not a complete .npy file of numbers" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_header_of_an_archive_is_held_against_the_archive(tmp_path, peak):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy_of(SHAPED % "(1000000, 1000000)"))
    with pytest.raises(ValueError, match=r"a\.npy has \d+ bytes where its header promises 8000000000\d+"):
        read_arrays(tmp_path / "x.npz", "a")
    assert peak() < 1e7


def test_archives_with_any_byte_changed(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.arange(40.0), b=np.eye(3))
    content = (tmp_path / "x.npz").read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "x.npz").write_bytes(damaged)
        with refused_if_at_all(tmp_path / "x.npz"):
            read_arrays(tmp_path / "x.npz", "a")


def test_archives_are_read_as_numpy_reads_them(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b": np.zeros((0, 3), "f2"),
        "c": np.int64(3),
        "d": np.ones(2, ">i4"),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    found = read_arrays(tmp_path / "x.npz", "a")
    assert found.keys() == arrays.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)


@pytest.mark.parametrize(("dtype", "n_bytes"), [("BF16", 4), ("F8_E4M3", 2), ("F8_E5M2", 2)])
def test_types_that_numpy_has_not(dtype, n_bytes, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(raw_safetensors(dtype, n_bytes))
    with pytest.raises(ValueError, match=r"x\.safetensors is damaged, or holds numbers that numpy has no type for: "):
        read_arrays(tmp_path / "x.safetensors", "a")


def test_a_kept_result_with_such_a_type_is_made_anew(tmp_path):
    cache = ResultCache(tmp_path, "by a test")
    about = json.dumps({"made_by": "by a test"})
    (tmp_path / "x.safetensors").write_bytes(raw_safetensors("F8_E4M3", 2, {"made_from": about}))
    assert cache.get("x", {}) is None


def zeros(n_bytes):
    while n_bytes > 0:
        yield bytes(min(n_bytes, 1 << 20))
        n_bytes -= 1 << 20


def write_idx_bomb(path, n):
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(struct.pack(">BBBBI", 0, 0, 8, 1, n))
        file.writelines(zeros(n))


def write_npz_bomb(path, n):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (n,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        file.write(header.getvalue())
        file.writelines(zeros(n))


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("x.gz", write_idx_bomb, datasets.read_idx),
        ("x.npz", write_npz_bomb, lambda path: read_arrays(path, "a")["a"]),
    ],
)
def test_decompression_is_bounded(name, write, read, tmp_path, peak):
    path = tmp_path / name
    write(path, 60 << 20)  # much from little, but little
    assert read(path).nbytes == 60 << 20
    assert peak() < 150 << 20
    write(path, 100 << 20)
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match=rf"{name} has \d+ bytes and would decompress to .* decompress it yourself"):
        read(path)
    assert peak() < 10 << 20


def test_a_parquet_file_of_one_value(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    from subsetscan.commands.activations import read_activations

    table = pyarrow.table({"a": np.zeros(20_000_000)})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet has \d+ bytes and would decompress to 7[5-9]\d{6}; at most"):
        read_activations(tmp_path / "x.parquet")


def test_a_picture_of_one_colour(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (6000, 6000)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png has \d+ bytes and would decompress to 108000000"):
        PictureFolder(tmp_path, (8, 8, 3))[:]


@pytest.mark.parametrize(
    ("header", "content", "message"),
    [
        (struct.pack(">BBBB", 0, 0, 8, 0), b"\0", "must have from 1 to 32 axes, its header says 0"),
        (struct.pack(">BBBB70I", 0, 0, 8, 70, *[1] * 70), b"\0", "must have from 1 to 32 axes, its header says 70"),
        (
            struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 4),
            b"",
            "has 16 bytes where its header promises 18446744073",
        ),
        (struct.pack(">BBBB4I", 0, 0, 8, 4, 2**31, 2**31, 2**31, 0), b"", "damaged: cannot reshape"),
        (struct.pack(">BBBB1I", 0, 0, 8, 1, 2), b"\0\0\0", "bytes where its header promises 10"),
    ],
)
def test_idx_headers(header, content, message, tmp_path):
    (tmp_path / "x").write_bytes(header + content)
    with pytest.raises(ValueError, match=message):
        datasets.read_idx(tmp_path / "x")
    (tmp_path / "x.gz").write_bytes(gzip.compress(header + content))
    with pytest.raises(ValueError, match=rf"x\.gz .*({message}|would decompress to)"):
        datasets.read_idx(tmp_path / "x.gz")


def test_gzip_files_with_any_byte_changed(tmp_path):
    datasets.write_idx(tmp_path / "x.gz", np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    content = (tmp_path / "x.gz").read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "x.gz").write_bytes(damaged)
        with refused_if_at_all(tmp_path / "x.gz"):
            assert datasets.read_idx(tmp_path / "x.gz").shape == (3, 4, 5)


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">f4", ">f8", "i1", "u1"])
def test_idx_files_of_every_type(dtype, tmp_path):
    array = np.arange(-3 if dtype != "u1" else 0, 9).astype(dtype)
    code = {"u1": 8, "i1": 9, ">i2": 0xB, ">i4": 0xC, ">f4": 0xD, ">f8": 0xE}[dtype]
    (tmp_path / "x").write_bytes(struct.pack(">BBBBI", 0, 0, code, 1, len(array)) + array.tobytes())
    found = datasets.read_idx(tmp_path / "x")
    np.testing.assert_array_equal(found, array.astype(array.dtype.newbyteorder("=")), strict=True)
    found[0] = 1  # it is the caller's own


IMAGES = struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 28, 28) + bytes(2 * 784)
LABELS = struct.pack(">BBBBI2B", 0, 0, 8, 1, 2, 7, 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, struct.pack(">BBBBI2b", 0, 0, 9, 1, 2, -5, 3), "from 0 to 9, got -5 to 3"),
        (IMAGES, struct.pack(">BBBBI2B", 0, 0, 8, 1, 2, 7, 77), "from 0 to 9, got 7 to 77"),
        (IMAGES, struct.pack(">BBBBI2f", 0, 0, 0xD, 1, 2, np.nan, 3), "must be integers, got float32"),
        (
            IMAGES,
            struct.pack(">BBBBII4B", 0, 0, 8, 2, 2, 2, 1, 2, 3, 4),
            r"must be integers, got uint8 of shape \(2, 2\)",
        ),
        (
            struct.pack(">BBBBII", 0, 0, 8, 2, 2, 28) + bytes(56),
            LABELS,
            r"bytes of shape \(n, 28, 28\), got .* \(2, 28\)",
        ),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 5, 5) + bytes(50), LABELS, r"bytes of shape \(n, 28, 28\), got uint8"),
        (struct.pack(">BBBB3I", 0, 0, 9, 3, 2, 28, 28) + bytes(1568), LABELS, r"got int8 of shape \(2, 28, 28\)"),
    ],
)
def test_datasets_of_something_else(images, labels, message, tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(ValueError, match=f"t10k-images-idx3-ubyte .*{message}"):
        datasets.load("mnist", "test", tmp_path)
