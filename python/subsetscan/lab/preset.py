"""The recommended configuration: which spaces to scan, how, and how to combine them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..calibration import combined_scores
from ..detectors import SubsetScanDetector
from ..scanner import ModelScanner
from ..spaces import ClassifierMargin, KerasLayers, Laplacian, Pixels, ReconstructionError, Space

if TYPE_CHECKING:
    import keras

__all__ = ["COMBINE", "PARTS", "recommended", "score_by_preset"]

# (source, space, statistic, tail): chosen in docs/decisions/0002-recommended-preset.md.
PARTS: tuple[tuple[str, str, str, str], ...] = (
    ("classifier", "conv2d_1", "higher-criticism", "lower"),
    ("classifier", "margin", "kolmogorov-smirnov", "upper"),
    ("classifier", "dense_2", "berk-jones", "upper"),
    ("laplacian", "laplacian", "kolmogorov-smirnov", "lower"),
    ("autoencoder", "conv2d_7", "kolmogorov-smirnov", "lower"),
)
COMBINE = "fisher"


def recommended(
    autoencoder: keras.Model, classifier: keras.Model | None = None, *, random_state: int = 0, progress: bool = False
) -> ModelScanner:
    """Make a scanner of the recommended spaces, each with its own statistic and tail.

    Its p-values are meant to be combined: ``scanner.p_values(images, combine=COMBINE)``.

    Parameters
    ----------
    autoencoder : keras.Model
        That of the experiments, or one whose last convolution has the same name.
    classifier : keras.Model, optional
        The classifier to be guarded, that of the experiments or one whose first convolution and last layer have the
        same names; without it, what needs it is left out.
    random_state : int
        Draws which clean images calibrate.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    ModelScanner
        Not yet fitted.

    Raises
    ------
    ValueError
        If a model lacks one of the layers.
    """
    parts = [part for part in PARTS if part[0] != "classifier" or classifier is not None]
    spaces: list[Space] = []
    for source in dict.fromkeys(source for source, *_ in parts):
        names = [space for of, space, *_ in parts if of == source]
        spaces += _spaces(source, names, autoencoder, classifier)
    detectors = {
        _name(source, space): SubsetScanDetector(statistic=statistic, tail=tail, random_state=random_state)
        for source, space, statistic, tail in parts
    }
    return ModelScanner(spaces, detectors, progress=progress)


def score_by_preset(
    autoencoder: keras.Model,
    classifier: keras.Model,
    background: np.ndarray,
    sets: Mapping[str, np.ndarray],
    on_images: Callable[[int], object] = lambda n_done: None,
    *,
    random_state: int = 0,
) -> dict[str, np.ndarray]:
    """Fit the preset on clean images, a quarter of which calibrate, and score sets of images.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64
        The combined scores by set, as ``clean|preset``; those of the images that calibrate as ``background|preset``.
    """
    scanner = recommended(autoencoder, classifier, random_state=random_state).fit(background)
    on_images(len(background))
    null = np.column_stack([scanner.detectors_[name].null_p_values() for name in scanner.names])
    found = {"background|preset": combined_scores(null, COMBINE)}
    for kind, images in sets.items():
        p_values = scanner.p_values(images)
        own = np.column_stack([p_values[name] for name in scanner.names])
        found[f"{kind}|preset"] = combined_scores(own, COMBINE)
        on_images(len(images))
    return found


def _name(source: str, space: str) -> str:
    return f"classifier {space}" if source == "classifier" else space


def _spaces(source: str, names: list[str], autoencoder: keras.Model, classifier: keras.Model | None) -> list[Space]:
    shape = tuple(autoencoder.inputs[0].shape[1:])
    if source == "pixels":
        return [Pixels(shape)]
    if source == "laplacian":
        return [Laplacian(shape)]
    model, prefix = (autoencoder, "") if source == "autoencoder" else (classifier, "classifier ")
    spaces: list[Space] = []
    layers = []
    for name in names:
        if name == "margin":
            spaces.append(ClassifierMargin(model, name=prefix + name))
        elif name.endswith(" error"):
            spaces.append(ReconstructionError(model, name.removesuffix(" error"), name=prefix + name))
        else:
            layers.append(name)
    return spaces + ([KerasLayers(model, layers, prefix=prefix)] if layers else [])
