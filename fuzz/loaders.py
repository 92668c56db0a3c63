"""What reads files: each target makes a file that is wrong somewhere, reads it, and uses what was read."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutate import as_json, mutate_array, mutate_json, mutated_bytes
from safetensors import safe_open
from safetensors.numpy import save, save_file

from subsetscan import Background, ModelScanner, SequenceScanner, _index_file, _sealed
from subsetscan._digest import digest
from subsetscan.adapters.pyod import SubsetScan
from subsetscan.commands.activations import read_activations
from subsetscan.commands.arrays import read_arrays
from subsetscan.detectors import (
    AutomaticDetector,
    ClassConditionalDetector,
    CombinedDetector,
    LocalSpatialEntropy,
    MahalanobisDetector,
    NearestNeighborDetector,
    SubsetScanDetector,
    SummaryDetector,
    load_detector,
)
from subsetscan.inputs import PictureFolder, array_from_bytes
from subsetscan.lab.array_files import load_images, load_labels
from subsetscan.lab.datasets import load as load_dataset
from subsetscan.lab.datasets import read_idx
from subsetscan.lab.result_cache import ResultCache
from subsetscan.plot.report.page import write_report
from subsetscan.residuals import Residuals
from subsetscan.spaces import Arrays

CLEAN = np.random.default_rng(0).normal(size=(24, 3))
ODD = np.array([[0.0, 5.0, -5.0], [1.0, 1.0, 1.0]])
SPACES = Arrays({"a": (3,), "b": (3,)})
SEQUENCES = list(np.random.default_rng(1).normal(size=(12, 5, 2)))
RATE = {"false_positive_rate": 0.3, "random_state": 0}


@cache
def folder_of_seeds(folder: Path) -> dict[str, Path]:
    """Save a detector of each kind, once."""
    scan = SubsetScanDetector(**RATE)
    labels = np.arange(len(CLEAN)) % 2
    fitted = {
        "scan": scan.fit(CLEAN),
        "whole": SubsetScanDetector(ties="random", **RATE).fit(CLEAN),
        "compact": SubsetScanDetector(alpha_max=0.1, tail="two-sided", **RATE).fit(CLEAN),
        "summary": SummaryDetector(**RATE).fit(CLEAN),
        "automatic": AutomaticDetector(**RATE).fit(CLEAN),
        "nearest": NearestNeighborDetector(**RATE).fit(CLEAN),
        "mahalanobis": MahalanobisDetector(**RATE).fit(CLEAN),
        "entropy": LocalSpatialEntropy((3, 3), **RATE).fit(np.abs(np.repeat(CLEAN, 3, axis=1))),
        "combined": CombinedDetector([SubsetScanDetector(tail=t) for t in ("upper", "lower")], **RATE).fit(CLEAN),
        "conditional": ClassConditionalDetector(scan, min_class_size=4).fit(CLEAN, labels),
        "minimum": ClassConditionalDetector(scan, conditional="min", min_class_size=4).fit(CLEAN, labels),
        "residuals": Residuals().fit(CLEAN),
        "background": Background(CLEAN),
        "sequence": SequenceScanner(**RATE).fit(SEQUENCES),
        "pyod": SubsetScan().fit(CLEAN),
    }
    folder.mkdir(exist_ok=True)
    for name, detector in fitted.items():
        detector.save(folder / name)
    return {name: folder / name for name in fitted}


def use(detector: Any) -> None:
    """Ask a loaded detector for what it is loaded for: whatever was in its file, it answers, or raises ValueError."""
    try:
        _use(detector)
    except ValueError as error:
        if not str(error):
            raise AssertionError("there is no message") from error


def _use(detector: Any) -> None:
    if isinstance(detector, Background):
        p_values = (
            detector.p_values(ODD[:, :1].repeat(detector.n_nodes, axis=1)) if detector.tail is None else np.ones(1)
        )
    elif isinstance(detector, SequenceScanner):
        p_values = detector.p_values([np.ones((2, detector.n_features_in_))])
    elif isinstance(detector, Residuals):
        detector.transform(np.ones((2, detector.n_features_in_)))
        return
    elif isinstance(detector, SubsetScan):
        detector.predict(np.ones((2, detector.detector_.n_features_in_)))
        return
    elif detector.n_features_in_ < 1e6:  # an entropy keeps nothing of a map, however large
        X = np.ones((2, detector.n_features_in_))
        labels = detector.classes_[[0, 0]] if detector.needs_labels else None
        p_values = detector.p_values(X, labels)
    else:
        return
    if not ((p_values > 0) & (p_values <= 1)).all():
        raise AssertionError(f"p-values outside (0, 1]: {p_values}")


def detector_bytes(folder: Path, random: Random) -> Path:
    """Change bytes of a file, of either format version: that of older ones has no digest to find it by."""
    source = random.choice(list(folder_of_seeds(folder / "seeds").values()))
    content = older(source) if random.random() < 0.7 else source.read_bytes()
    path = folder / "detector"
    path.write_bytes(mutated_bytes(content, random))
    return path


@cache
def parts_of(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@cache
def older(path: Path) -> bytes:
    metadata, tensors = parts_of(path)
    return save(tensors, {name: text for name, text in metadata.items() if name != "digest"} | {"format_version": "1"})


def detector_content(folder: Path, random: Random) -> Path:
    """Change the description or an array, and seal the file anew."""
    metadata, tensors = parts_of(random.choice(list(folder_of_seeds(folder / "seeds").values())))
    metadata, tensors = dict(metadata), dict(tensors)
    description = json.loads(metadata["description"])
    for _ in range(random.choice((1, 1, 2))):
        if random.random() < 0.6:
            description = mutate_json(description, random)
        else:
            name = random.choice(list(tensors))
            kind = random.random()
            if kind < 0.8:
                tensors[name] = mutate_array(tensors[name], random)
            elif kind < 0.9 and len(tensors) > 1:
                del tensors[name]
            else:
                tensors[random.choice(("x", name + "x", "0/" + name, name.partition("/")[2] or "y"))] = tensors[name]
    try:
        metadata["description"] = as_json(description)
        if random.random() < 0.7:
            metadata["description"] = _sealed.as_text(json.loads(metadata["description"]))
        kind = metadata["format"].removeprefix("subsetscan.")
        metadata["digest"] = _sealed._digest(kind, metadata["format_version"], metadata["description"], tensors)
        save_file({name: tensor.copy(order="C") for name, tensor in tensors.items()}, folder / "detector", metadata)
    except (UnicodeEncodeError, TypeError):  # half a pair of surrogates, or keys of two types: no file holds that
        return detector_bytes(folder, random)
    return folder / "detector"


def read_detector(path: Path) -> None:
    use(load_detector(path))


@cache
def scanner_seed(folder: Path) -> Path:
    ModelScanner(SPACES, SubsetScanDetector(**RATE), joint=True, combine="fisher").fit({"a": CLEAN, "b": -CLEAN}).save(
        folder
    )
    return folder


def scanner_folder(folder: Path, random: Random) -> Path:
    """Change ``scanner.json``, sealed anew, or bytes of one of the files, or swap two."""
    seed, changed = scanner_seed(folder / "scanner-seed"), folder / "scanner"
    shutil.rmtree(changed, ignore_errors=True)
    shutil.copytree(seed, changed)
    manifest = changed / "scanner.json"
    kind = random.random()
    if kind < 0.6:
        content = json.loads(manifest.read_text())
        del content["digest"]
        if random.random() < 0.5:
            content["format_version"] = 2
        content = mutate_json(content, random)
        if isinstance(content, dict) and content.get("format_version") != 2:
            content["digest"] = digest(_sealed.as_text(json.loads(as_json(content))))
        manifest.write_text(as_json(content))
    elif kind < 0.9:
        path = random.choice(sorted(changed.iterdir()))
        path.write_bytes(mutated_bytes(path.read_bytes(), random))
    else:
        one, other = random.sample(sorted(changed.iterdir()), 2)
        shutil.copy(one, other)
    return changed


def read_scanner(path: Path) -> None:
    scanner = ModelScanner.load(path, SPACES)
    p_values = scanner.p_values({"a": ODD, "b": ODD}, combine=None)
    for own in (*p_values.values(), scanner.combined_of(scanner.anomaly_score({"a": ODD, "b": ODD}, combine=None))[1]):
        if not ((own > 0) & (own <= 1)).all():
            raise AssertionError(f"p-values outside (0, 1]: {own}")


def _written(save: Callable[[Any], None]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


ARRAYS = {"a": np.arange(12.0).reshape(4, 3), "b": np.eye(4, dtype=np.float32), "c": np.arange(4)}
NPY = [_written(lambda file, array=array: np.save(file, array)) for array in ARRAYS.values()]
NPZ = [_written(lambda file: np.savez(file, **ARRAYS)), _written(lambda file: np.savez_compressed(file, **ARRAYS))]
IDX = [
    struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 3, 4) + bytes(range(24)),
    struct.pack(">BBBBI", 0, 0, 0xD, 1, 3) + np.arange(3, dtype=">f4").tobytes(),
]
SAFETENSORS = [save(ARRAYS), save({"a": ARRAYS["a"].astype(np.float16), "b": np.ones(3, bool)})]
HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n"


def changed_file(name: str, seeds: list[bytes]) -> Callable[[Path, Random], Path]:
    def make(folder: Path, random: Random) -> Path:
        path = folder / name
        path.write_bytes(mutated_bytes(random.choice(seeds), random))
        return path

    return make


def npy(folder: Path, random: Random) -> Path:
    """Change bytes of a whole file, or of its header alone, whose length is right then."""
    path, content = folder / "x.npy", mutated_bytes(random.choice(NPY), random)
    if random.random() < 0.5:
        header = mutated_bytes(HEADER, random)[:65_000]
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(48)
    path.write_bytes(content)
    return path


def idx_gz(folder: Path, random: Random) -> Path:
    """Change bytes of what is compressed, or of the compressed file."""
    path, content = folder / "x.gz", random.choice(IDX)
    if random.random() < 0.5:
        path.write_bytes(gzip.compress(mutated_bytes(content, random), 1))
    else:
        path.write_bytes(mutated_bytes(gzip.compress(content, 1), random))
    return path


def dataset(folder: Path, random: Random) -> Path:
    """Change the labels, or the header of the images."""
    images = struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 28, 28)
    labels = struct.pack(">BBBBI2B", 0, 0, 8, 1, 2, 7, 3)
    if random.random() < 0.5:
        images = mutated_bytes(images, random)
    else:
        labels = mutated_bytes(labels, random)
    (folder / "t10k-images-idx3-ubyte").write_bytes(images + bytes(2 * 784))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(labels)
    return folder


def read_dataset(folder: Path) -> None:
    images, labels = load_dataset("mnist", "test", folder)
    if not (images.shape[1:] == (28, 28, 1) and set(labels.tolist()) <= set(range(10))):
        raise AssertionError(f"images of shape {images.shape}, labels {labels}")


def kept_result(folder: Path, random: Random) -> Path:
    """Change bytes of a kept result."""
    cache = ResultCache(folder, "a fuzzer")
    cache.put("kept", {}, ARRAYS)
    path = folder / "kept.safetensors"
    path.write_bytes(mutated_bytes(path.read_bytes(), random))
    return path


def read_kept_result(path: Path) -> None:
    found = ResultCache(path.parent, "a fuzzer").get("kept", {})
    if found is not None and not all(np.array_equal(found[name], array) for name, array in ARRAYS.items()):
        raise AssertionError("a changed result was taken")


@cache
def pictures() -> list[bytes]:
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    grey, palette = image.convert("L"), image.convert("P")
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        _written(lambda file: image.save(file, "PNG")),
        _written(lambda file: grey.save(file, "PNG")),
        _written(lambda file: palette.save(file, "PNG", transparency=0)),
        _written(lambda file: image.save(file, "JPEG", exif=exif)),
    ]


def picture(folder: Path, random: Random) -> Path:
    """Change bytes of a PNG or JPEG file."""
    content = random.choice(pictures())
    path = folder / ("x.png" if content.startswith(b"\x89PNG") else "x.jpg")
    path.write_bytes(mutated_bytes(content, random))
    return path


def read_picture(path: Path) -> None:
    found = PictureFolder(path, (8, 8, 3))[:]
    if not (found.shape == (1, 8, 8, 3) and (found >= 0).all() and (found <= 1).all()):
        raise AssertionError(f"shape {found.shape}")


@cache
def parquet_seed() -> bytes:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"a": ARRAYS["a"][:, 0], "b": ARRAYS["c"]})
    return _written(lambda file: pyarrow.parquet.write_table(table, file))


def parquet(folder: Path, random: Random) -> Path:
    """Change bytes of a file of two columns."""
    path = folder / "x.parquet"
    path.write_bytes(mutated_bytes(parquet_seed(), random))
    return path


SCORES = b"set,index,space,score,alpha,size,p_value,flagged\nx,0,a,1.5,0.1,3,0.25,False\nx,1,a,2.5,0.1,3,0.5,True\n"
RESULTS = {
    "scores.csv": SCORES,
    "summary.json": b'{"detector": {"name": "SubsetScanDetector"}, "n_background": 5, "sets": {"x": {"n": 2}}}',
    "null_scores.csv": b"space,score\na,1.0\na,2.0\n",
    "gallery/gallery.json": b'{"inputs": [{"title": "t", "p_value": 1, "picture": null, "text": null, "spaces": []}]}',
}


def results(folder: Path, random: Random) -> Path:
    """Change one of the files of a results folder."""
    changed = folder / "results"
    (changed / "gallery").mkdir(parents=True, exist_ok=True)
    other = random.choice(list(RESULTS))
    for name, content in RESULTS.items():
        (changed / name).write_bytes(mutated_bytes(content, random) if name == other else content)
    return changed


def labels(folder: Path, random: Random) -> Path:
    """Write labels of any type and shape."""
    path = folder / "labels.npy"
    np.save(path, mutate_array(np.arange(4) % 3, random))
    return path


def read_npy_bytes(path: Path) -> Any:
    try:
        return array_from_bytes(path.read_bytes())
    except ValueError as error:  # what has no path names none
        raise ValueError(f"{path}: {error}") from error


@cache
def indexes(folder: Path) -> list[Path]:
    """Write indexes of all types, of one level and of several, whole and compact."""
    backgrounds = [
        Background(np.random.default_rng(n).normal(size=(n, 3)).astype(dtype), *kept)
        for n in (20, 300)
        for dtype in ("e", "f", "d")
        for kept in ((), ("upper", 0.1), ("two-sided", 0.3))
    ]
    folder.mkdir(exist_ok=True)
    for n, background in enumerate(backgrounds):
        background.write_index(folder / f"{n}")
    return sorted(folder.iterdir())


def _header_and_content(path: Path) -> tuple[dict[str, str], bytes]:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end])["__metadata__"], content[end:]


def index_bytes(folder: Path, random: Random) -> Path:
    """Change bytes of an index file, most of the time: hardly a change passes its checksums."""
    path = folder / "index"
    content = random.choice(indexes(folder / "indexes")).read_bytes()
    path.write_bytes(content if random.random() < 0.05 else mutated_bytes(content, random))
    return path


def index_content(folder: Path, random: Random) -> Path:
    """Change the description, or what is searched, under a right digest and a right checksum."""
    path = folder / "index"
    metadata, content = _header_and_content(random.choice(indexes(folder / "indexes")))
    text, size = metadata["description"], len(content)
    if random.random() < 0.3:
        text = as_json(mutate_json(json.loads(text), random))
    else:
        content = (mutated_bytes(content, random) + bytes(size))[:size]
    try:
        header, _, _ = _index_file._header(text, metadata["checksum"])
        path.write_bytes(header + content)
        checksum = _index_file.map_index(path, verify=False)[0].checksum()
        path.write_bytes(_index_file._header(text, checksum)[0] + content)
    except Exception:  # no background has such a description: another part of the package would not have sealed it
        return index_bytes(folder, random)
    return path


def read_index(path: Path) -> None:
    """Search a file that is checked, and the same one trusted."""
    trusted = Background.map_index(path, verify=False)
    values = np.array([[0.3], [-2.0]]).repeat(trusted.n_nodes, axis=1).astype(trusted.dtype)
    for x in (values[:1], values.repeat(20, axis=0)):
        for tail in ("upper", "lower", "two-sided"):
            for ties in ("upper", "midrank", "range"):
                try:
                    trusted.scan(x, tail=tail, ties=ties, alpha_max=trusted.alpha_max or 1.0, return_nodes=True)
                    trusted.leave_one_out(x, tail=tail, ties=ties, alpha_max=trusted.alpha_max or 0.5)
                except ValueError:  # it is compact, or does not hold such an input
                    continue
    use(trusted)
    Background.map_index(path)._columns()


READ: Mapping[str, tuple[Callable[[Path, Random], Path], Callable[[Path], Any]]] = {
    "detector-bytes": (detector_bytes, read_detector),
    "detector-content": (detector_content, read_detector),
    "scanner-folder": (scanner_folder, read_scanner),
    "npy": (npy, load_images),
    "npy-bytes": (npy, read_npy_bytes),
    "npz": (changed_file("x.npz", NPZ), lambda path: read_arrays(path, "x")),
    "safetensors": (changed_file("x.safetensors", SAFETENSORS), lambda path: read_arrays(path, "x")),
    "idx": (changed_file("x-ubyte", IDX), read_idx),
    "idx.gz": (idx_gz, read_idx),
    "dataset": (dataset, read_dataset),
    "labels": (labels, lambda path: load_labels(path, 4, 3)),
    "parquet": (parquet, read_activations),
    "picture": (picture, read_picture),
    "kept-result": (kept_result, read_kept_result),
    "results-folder": (results, write_report),
    "index-bytes": (index_bytes, read_index),
    "index-content": (index_content, read_index),
}
