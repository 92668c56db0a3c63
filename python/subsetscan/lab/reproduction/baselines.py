"""What a scan has to beat: one-class SVMs as in the paper's table 2, and detectors that hardly look at the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from ...background import Background
from ...spaces import ClassifierMargin, KerasLayers, ReconstructionError, join
from ...spaces.base import as_rows
from ..kept import Arrays
from .plan import ERROR, FIRST
from .scores import NULL

if TYPE_CHECKING:
    import keras

__all__ = ["BASELINES", "ONE_CLASS_SVMS", "score_baselines"]

# Over the cross-entropy error. The default is the paper's: scikit-learn's own parameters.
ONE_CLASS_SVMS = {
    "one-class SVM": OneClassSVM,
    "one-class SVM, tuned": lambda: make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)),
}
_GREY = 0.015  # a pixel between black and this is nearly black: clean black ground has few of them
_MARGIN = "classifier margin"


def _share_nearly_black(images: np.ndarray) -> np.ndarray:
    return as_rows((images > 0) & (images < _GREY)).mean(axis=1)


def _outside(images: np.ndarray) -> np.ndarray:
    return as_rows((images < 0) | (images > 1)).any(axis=1).astype(float)


_OF_IMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    f"share of pixels in (0, {_GREY})": _share_nearly_black,
    "any pixel outside [0, 1]": _outside,
}
_MEAN_P = "mean p of "
BASELINES = (*ONE_CLASS_SVMS, _MARGIN, *_OF_IMAGES, _MEAN_P + FIRST, _MEAN_P + ERROR)


def score_baselines(
    autoencoder: keras.Model,
    classifier: keras.Model,
    background: np.ndarray,
    sets: Mapping[str, np.ndarray],
    on_images: Callable[[int], object] = lambda n_done: None,
) -> Arrays:
    """Score sets of images by every baseline, and the background by those that are not fitted to it.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64
        By set and baseline, as ``clean|classifier margin``; higher is more anomalous.
    """
    margin = ClassifierMargin(classifier)
    errors = ReconstructionError(autoencoder, "binary-crossentropy", name=ERROR)
    (space,) = join([KerasLayers(autoencoder, [FIRST]), errors])
    values = space.transform(background)
    svms = {name: make().fit(values[ERROR]) for name, make in ONE_CLASS_SVMS.items()}
    backgrounds = {name: Background(array) for name, array in values.items()}
    found = {}
    for kind, images in ({NULL: background} | dict(sets)).items():
        (margins,) = margin.transform(images).values()
        values = space.transform(images)
        found[f"{kind}|{_MARGIN}"] = margins[:, 0].astype(np.float64)
        for name, score in _OF_IMAGES.items():
            found[f"{kind}|{name}"] = score(images)
        membership = "calibrating" if kind == NULL else "outside"
        for name, fitted in backgrounds.items():
            found[f"{kind}|{_MEAN_P}{name}"] = fitted.summarise(values[name], "mean-p", membership=membership)
        for name, svm in svms.items():
            if kind != NULL:  # it was fitted to the background, whose scores would be too low for a threshold
                found[f"{kind}|{name}"] = -svm.decision_function(values[ERROR]) if len(images) else np.empty(0)
        on_images(len(images))
    return found
