"""Image datasets in the IDX format: where they are looked for, and how they are read.

The sample that travels with the package is read by the same code as the full datasets.
"""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._files import atomic_write, check_expansion, damage_as_value_error
from .._tables import counted
from .._validation import InvalidTypeError

__all__ = [
    "DATA",
    "DATASETS",
    "check_data",
    "folder_in",
    "load",
    "load_from",
    "load_sample",
    "read_idx",
    "write_idx",
    "write_sample",
]

DATA = Path(__file__).parent / "data"  # what travels with the package

_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 32  # that any numpy takes
_CHUNK = 1 << 20
_N_CLASSES = 10
_SPLITS = {"train": "train", "test": "t10k"}
_SAMPLE = "fashion-mnist-sample"


@dataclass(frozen=True)
class Dataset:
    """Where a dataset usually lies, and its name in ``keras.datasets``."""

    keras_module: str
    folders: tuple[Path, ...]


DATASETS = {
    # The first folder is where Debian's package `dataset-fashion-mnist` puts its files.
    "fashion-mnist": Dataset(
        keras_module="fashion_mnist",
        folders=(Path("/usr/share/datasets/fashion-mnist"), Path("/usr/local/share/datasets/fashion-mnist")),
    ),
    "mnist": Dataset(
        keras_module="mnist",
        folders=(Path("/usr/share/datasets/mnist"), Path("/usr/local/share/datasets/mnist")),
    ),
}


def read_idx(path: Path | str) -> np.ndarray:
    """Read one IDX file, gzip-compressed or plain.

    Parameters
    ----------
    path : path-like
        The file. A name that ends in ``.gz`` is decompressed.

    Returns
    -------
    ndarray
        In native byte order, with the shape that the file's header states.

    Raises
    ------
    ValueError
        If the file is not in the IDX format, is shorter or longer than its header says, or would decompress to far more
        than any of its size does.
    """
    path = Path(path)
    is_compressed = path.suffix == ".gz"
    with gzip.open(path, "rb") if is_compressed else path.open("rb") as file:

        def read(n_bytes: int) -> bytes:
            with damage_as_value_error(path, "is not a complete gzip file"):
                return file.read(n_bytes)

        start = read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_DTYPES:
            raise ValueError(f"{path} is not an IDX file: it starts with the bytes {start!r}")
        dtype, ndim = np.dtype(_IDX_DTYPES[start[2]]), start[3]
        header = 4 + 4 * ndim
        if not 1 <= ndim <= _MOST_AXES:
            raise ValueError(f"{path} must have from 1 to {_MOST_AXES} axes, its header says {ndim}")
        if len(lengths := read(4 * ndim)) < 4 * ndim:
            raise ValueError(f"{path} ends within its header: {4 + len(lengths)} of {header} bytes")
        shape = struct.unpack(f">{ndim}I", lengths)
        expected = header + dtype.itemsize * math.prod(shape)
        if is_compressed:
            check_expansion(path, expected)
        received = header if is_compressed else path.stat().st_size
        if is_compressed or received == expected:
            content, received = np.empty(expected - header, np.uint8), header
            while part := read(min(_CHUNK, expected - received)):
                content[received - header :][: len(part)] = np.frombuffer(part, np.uint8)
                received += len(part)
        if received != expected or read(1):
            raise ValueError(
                f"{path} has {'more' if received == expected else received} bytes where its header promises {expected}"
            )
    with damage_as_value_error(path):
        array = content.view(dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def write_idx(path: Path | str, array: np.ndarray) -> None:
    """Write unsigned bytes as a gzip-compressed IDX file whose bytes depend on the array alone."""
    array = np.ascontiguousarray(array)
    if array.dtype != np.uint8:
        raise InvalidTypeError(f"only uint8 arrays are written as IDX, got {array.dtype}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    with atomic_write(path) as temporary:
        temporary.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=9, mtime=0))


def load(name: str, split: str = "test", folder: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Load a dataset from the first place that has it.

    The places, in order: `folder` (and nowhere else, if it is given), known system folders, and ``keras.datasets``,
    which has a cache and downloads what is not there.

    Parameters
    ----------
    name : {"fashion-mnist", "mnist"}
    split : {"train", "test"}
    folder : path-like, optional
        A folder with the four IDX files under their usual names, compressed or not.

    Returns
    -------
    images : ndarray of shape (N, 28, 28, 1), float32 in [0, 1]
    labels : ndarray of shape (N,), int64

    Raises
    ------
    ValueError
        If the name or the split is unknown, or a file is damaged.
    FileNotFoundError
        If the dataset is not found; the message lists the places that were searched.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; known are {', '.join(DATASETS)}")
    if split not in _SPLITS:
        raise ValueError(f"unknown split {split!r}; known are {', '.join(_SPLITS)}")
    dataset = DATASETS[name]
    folders = dataset.folders if folder is None else (Path(folder),)
    for place in folders:
        if (pair := _find_pair(place, split)) is not None:
            return _as_images(read_idx(pair[0]), read_idx(pair[1]), str(pair[0]))
    tried = [str(place) for place in folders]
    if folder is None:
        try:
            return _load_by_keras(dataset, split)
        except Exception as error:  # Keras raises a bare Exception when a download fails
            tried.append(f"keras.datasets.{dataset.keras_module} ({error})")
    raise FileNotFoundError(
        f"found no {name} ({split}); looked for {_SPLITS[split]}-images-idx3-ubyte[.gz] and its labels in: "
        + "; ".join(tried)
    )


def load_from(data: Path | str | None, name: str, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Load a dataset from the folder of its name within `data`, or as `load` does where there is none.

    Raises
    ------
    ValueError, FileNotFoundError
        As for `load`.
    """
    try:
        return load(name, split, folder_in(data, name))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; give --data a folder that has them in a folder {name}, or leave {name} out of --dataset"
        ) from error


def folder_in(data: Path | str | None, name: str) -> Path | None:
    """Return the folder of a dataset's IDX files within `data`, where one is given and has it.

    Raises
    ------
    FileNotFoundError
        If `data` holds a folder of no dataset at all.
    """
    check_data(data)
    folder = None if data is None else Path(data) / name
    return folder if folder is not None and folder.is_dir() else None


def check_data(data: Path | str | None) -> None:
    """Raise FileNotFoundError for a folder that holds none of a dataset."""
    if data is not None and not any((Path(data) / known).is_dir() for known in DATASETS):
        raise FileNotFoundError(f"{data} holds no folder of a dataset: expected {' or '.join(DATASETS)} in it")


def load_sample() -> tuple[np.ndarray, np.ndarray]:
    """Load the 2,000 Fashion-MNIST test images that travel with the package: 200 of each class, mixed.

    Returns
    -------
    images : ndarray of shape (2000, 28, 28, 1), float32 in [0, 1]
    labels : ndarray of shape (2000,), int64
    """
    images, labels = (DATA / f"{_SAMPLE}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    return _as_images(read_idx(images), read_idx(labels), str(images))


def write_sample(folder: Path | str = DATA, n_per_class: int = 200) -> None:
    """Write the sample of `load_sample`: the first images of each class of the test set, in their order there."""
    images, labels = load("fashion-mnist", "test")
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:n_per_class] for label in range(10)]))
    pixels = np.rint(images[chosen, :, :, 0] * 255).astype(np.uint8)
    write_idx(Path(folder) / f"{_SAMPLE}-images-idx3-ubyte.gz", pixels)
    write_idx(Path(folder) / f"{_SAMPLE}-labels-idx1-ubyte.gz", labels[chosen].astype(np.uint8))


def _find_pair(folder: Path, split: str) -> tuple[Path, Path] | None:
    found = []
    for kind in ("images-idx3", "labels-idx1"):
        stem = folder / f"{_SPLITS[split]}-{kind}-ubyte"
        path = next((p for p in (stem.with_name(stem.name + ".gz"), stem) if p.is_file()), None)
        if path is None:
            return None
        found.append(path)
    return found[0], found[1]


def _load_by_keras(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    import keras

    train, test = getattr(keras.datasets, dataset.keras_module).load_data()
    images, labels = train if split == "train" else test
    return _as_images(images, labels, f"keras.datasets.{dataset.keras_module}")


def _as_images(pixels: np.ndarray, labels: np.ndarray, origin: str) -> tuple[np.ndarray, np.ndarray]:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (28, 28):
        raise ValueError(f"{origin} must hold bytes of shape (n, 28, 28), got {pixels.dtype} of shape {pixels.shape}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise ValueError(f"the labels of {origin} must be integers, got {labels.dtype} of shape {labels.shape}")
    if len(pixels) != len(labels):
        raise ValueError(f"{origin}: {counted(len(pixels), 'image')} but {counted(len(labels), 'label')}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < _N_CLASSES:
        raise ValueError(
            f"the labels of {origin} must be from 0 to {_N_CLASSES - 1}, got {labels.min()} to {labels.max()}"
        )
    return (pixels.astype(np.float32) / np.float32(255))[..., np.newaxis], labels.astype(np.int64)
