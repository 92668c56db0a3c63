"""The subject ``lines``: a network that reads lines of text, on lines set in the fonts of matplotlib; kept aside."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..._extras import import_extra
from ...spaces import OnnxLayers
from ..datasets import load_sample
from .corruptions import CORRUPTIONS, corrupted
from .found import file_of_package, version_of
from .subject import REPORT, Subject, make_subject, read_rows
from .texts import FORTUNES, english, fortunes

__all__ = ["line_images", "lines"]

_HEIGHT, _WIDTH, _BATCH = 48, 320, 16
_N_CLEAN, _N_KIND = 1400, 200
_TEXT_FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSans-Bold", "DejaVuSerif-Italic")

_TENSORS = {
    "block 2": "p2o.Mul.11",
    "block 4": "p2o.Mul.27",
    "block 6": "p2o.Mul.51",
    "block 9": "p2o.Mul.91",
    "block 12": "p2o.Mul.141",
    "end of the convolutions": "p2o.AveragePool.1",
    "between": "swish_12.tmp_0",
    "last": "swish_17.tmp_0",
}
_LAYERS = {
    "block 2": "a convolution of 32 channels, mean of each channel",
    "block 4": "a convolution of 64 channels, mean of each channel",
    "block 6": "a convolution of 128 channels, mean of each channel",
    "block 9": "a convolution of 240 channels, mean of each channel",
    "block 12": "a convolution of 480 channels, mean of each channel",
    "end of the convolutions": "pooled map of 480 channels, mean of each channel",
    "between": "120 channels before the attention, mean of each channel",
    "last": "120 channels after the attention, mean of each channel",
}
_CORRUPTED = (
    "faint noise", "noise", "salt and pepper", "blur", "low contrast", "inverted", "upside down", "mirrored",
    "patch missing", "scrambled",
)  # fmt: skip


def lines(seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND) -> Subject:
    """Make the subject ``lines``.

    Parameters
    ----------
    seed : int, default 0
    n_clean, n_kind : int
        Numbers of clean lines, and of lines of each kind.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If a package is missing; the message says which.
    """
    rng = np.random.default_rng(seed)
    path = file_of_package(
        "rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", "rapidocr-onnxruntime", alone=True
    )
    space = OnnxLayers(path, _TENSORS.values(), pool="mean")
    images = line_images(n_clean + n_kind, rng)
    sources, clean = images[:n_kind], images[n_kind:]
    kinds = {name: (f"English lines: {CORRUPTIONS[name][0]}", corrupted(name, sources, rng)) for name in _CORRUPTED}
    kinds["struck through"] = "English lines with a line through the middle", _struck(sources)
    kinds["upper half"] = "English lines, the lower half of the letters white", _halved(sources)
    kinds["two lines"] = "two English lines, one above the other, each at half its height", _stacked(sources)
    kinds["stretched"] = "English lines, the first half at twice its width", sources[:, :, np.arange(_WIDTH) // 2]
    kinds["typewriter"] = "English lines, DejaVu Sans Mono", line_images(n_kind, rng, fonts=("DejaVuSansMono",))
    kinds["mathematics"] = (
        "English lines in fonts of formulas",
        line_images(n_kind, rng, fonts=("cmsy10", "cmmi10")),
    )
    kinds["digits"] = "random numbers in the fonts of the clean lines", line_images(n_kind, rng, texts=_numbers(rng))
    if russian := fortunes(sorted(p for p in (Path(FORTUNES) / "ru").glob("*") if p.suffix not in (".dat", ".u8"))):
        kinds["Russian"] = "lines of Russian fortunes (Debian fortunes-ru)", line_images(n_kind, rng, texts=russian)
    kinds["clothes"] = "seven Fashion-MNIST images in a row", _clothes(n_kind, rng)
    return make_subject(
        "lines",
        f"the recognition network of PP-OCRv4 (PyPI {version_of('rapidocr-onnxruntime')}, Apache-2.0, ONNX)",
        REPORT,
        layers=_LAYERS,
        read=lambda images: read_rows(space, _TENSORS, images, _BATCH, _prepared),
        clean=("lines of English fortunes, set in DejaVu Sans and Serif at several sizes and shades of grey", clean),
        kinds=kinds,
    )


def _prepared(images: np.ndarray) -> np.ndarray:
    coloured = np.broadcast_to(2 * images - 1, (*images.shape[:3], 3))
    return np.ascontiguousarray(coloured.transpose(0, 3, 1, 2), np.float32)


def line_images(
    n: int, rng: np.random.Generator, *, texts: list[str] | None = None, fonts: tuple[str, ...] = _TEXT_FONTS
) -> np.ndarray:
    """Set lines of text.

    Parameters
    ----------
    n : int
    rng : numpy.random.Generator
        What draws text, font, size and shades of each line.
    texts : list of str, optional
        What lines are taken from; by default English fortunes.
    fonts : tuple of str
        Names of files among the fonts that matplotlib carries.

    Returns
    -------
    ndarray of shape (n, 48, 320, 1), float32 in [0, 1]
    """
    pillow, drawing = import_extra("PIL.Image", "experiment"), import_extra("PIL.ImageDraw", "experiment")
    texts = english() if texts is None else texts
    images = np.empty((n, _HEIGHT, _WIDTH, 1), np.float32)
    for image in images:
        paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 90))
        words = texts[rng.integers(len(texts))].split()
        text = " ".join(words[rng.integers(max(len(words) - 5, 1)) :])
        picture = pillow.new("L", (_WIDTH, _HEIGHT), paper)
        font = _font(fonts[rng.integers(len(fonts))], int(rng.integers(20, 33)))
        left = int(rng.integers(2, 12))
        drawing.Draw(picture).text((left, _HEIGHT / 2), text[:60], fill=ink, font=font, anchor="lm")
        image[..., 0] = np.asarray(picture, np.float32) / 255
    return images


@cache
def _font(name: str, size: int) -> Any:
    fonts = import_extra("PIL.ImageFont", "experiment")
    path = file_of_package("matplotlib", f"mpl-data/fonts/ttf/{name}.ttf", "matplotlib")
    return fonts.truetype(str(path), size)


def _numbers(rng: np.random.Generator) -> list[str]:
    return [" ".join(str(n) for n in rng.integers(0, 10**7, 8)) for _ in range(500)]


def _struck(images: np.ndarray) -> np.ndarray:
    images = images.copy()
    images[:, _HEIGHT // 2 : _HEIGHT // 2 + 3] = 0.2
    return images


def _halved(images: np.ndarray) -> np.ndarray:
    images = images.copy()
    images[:, _HEIGHT // 2 :] = images.max(axis=(1, 2), keepdims=True)
    return images


def _stacked(images: np.ndarray) -> np.ndarray:
    small = (images[:, ::2] + images[:, 1::2]) / 2
    return np.concatenate([small, small[::-1]], axis=1)


def _clothes(n: int, rng: np.random.Generator) -> np.ndarray:
    clothes = load_sample()[0]
    rows = np.arange(_HEIGHT) * 28 // _HEIGHT
    images = np.ones((n, _HEIGHT, _WIDTH, 1), np.float32)
    for image in images:
        some = clothes[rng.integers(len(clothes), size=7)][:, rows][:, :, np.arange(45) * 28 // 45]
        image[:, : 7 * 45] = 1 - np.concatenate(list(some), axis=1)
    return images
