"""Crops of photographs that lie in Debian's packages of desktop backgrounds, and what befalls them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._extras import import_extra
from ..datasets import load_sample
from .corruptions import CORRUPTIONS, corrupted
from .found import debian_files, paths_by_ending
from .lines import line_images

__all__ = ["SIZE", "MakeImages", "photograph_kinds", "photographs_in_crops"]

SIZE = 224  # of a crop, in pixels each way
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
_KINDS = (
    "faint noise", "noise", "salt and pepper", "blur", "coarse", "low contrast", "dark", "inverted", "upside down",
    "patch missing", "scrambled",
)  # fmt: skip

MakeImages = Callable[[], np.ndarray]  # of shape (n, H, W, 1 or 3): uint8, or float32 in [0, 1]


def photographs_in_crops(n: int, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Cut crops at random, and say what they are.

    Returns
    -------
    str
    ndarray of shape (n, 224, 224, 3), uint8

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If a package is missing; the message says which.
    """
    pictures = _pictures()
    return f"crops of {len(pictures)} photographs of Debian's {' and '.join(_FOLDERS)}", _crops(pictures, n, rng)


def photograph_kinds(sources: np.ndarray, rng: np.random.Generator) -> dict[str, tuple[str, MakeImages]]:
    """Name what befalls crops, and as many images from elsewhere.

    Parameters
    ----------
    sources : ndarray of shape (n, 224, 224, 3), float32
        In [0, 1].
    rng : numpy.random.Generator
        Drawn from when images are made.

    Returns
    -------
    dict of str to (str, callable)
        What the images are, and what makes them.
    """
    line_images(1, np.random.default_rng(0))  # fonts or texts that are missing are known before the work
    n_kind = len(sources)
    kinds: dict[str, tuple[str, MakeImages]] = {}
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
    return kinds


def _corrupted(name: str, sources: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    return lambda: corrupted(name, sources, rng)


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
    crops = np.empty((n, SIZE, SIZE, 3), np.uint8)
    for crop in crops:
        picture = pictures[rng.integers(len(pictures))]
        side = int(min(picture.size) * rng.uniform(1 / 3, 1))
        left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
        part = picture.resize((SIZE, SIZE), box=(left, top, left + side, top + side), resample=2)
        crop[:] = np.asarray(part)
    return crops


def _jpeg(image: np.ndarray) -> np.ndarray:
    pillow = import_extra("PIL.Image", "experiment")
    file = io.BytesIO()
    pillow.fromarray(np.uint8(255 * image)).save(file, "JPEG", quality=8)
    return np.asarray(pillow.open(file), np.float32) / 255


def _squares(images: np.ndarray) -> np.ndarray:
    """Enlarge images of any size to the network's."""
    rows, columns = (np.arange(SIZE) * length // SIZE for length in images.shape[1:3])
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
        images.append(np.asarray(coloured.resize((SIZE, SIZE), resample=2), np.float32) / 255)
    return np.stack(images)
