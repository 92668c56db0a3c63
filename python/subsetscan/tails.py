"""Which tail to scan in each space, chosen without a look at any attacked input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from .detectors import SubsetScanDetector
from .scanner import ModelScanner
from .spaces.base import Space

__all__ = ["choose_tails"]

_TAILS = ("upper", "lower")


def choose_tails(
    spaces: Space | Sequence[Space],
    images: Any,
    altered: Any,
    detector: SubsetScanDetector | None = None,
    *,
    fraction: float = 0.25,
    random_state: int = 0,
    **options: Any,
) -> dict[str, str]:
    """Choose for each space the tail in which harmless alterations of clean inputs show most.

    A ReLU's large values may say little where its small ones say much, or the reverse; and which it is shows on clean
    inputs with a little noise as well as on attacked ones.

    Parameters
    ----------
    spaces : Space or sequence of Space
    images : array-like of shape (n, ...)
        Clean inputs.
    altered : array-like of the same shape
        The same inputs, altered as you expect inputs to be: with random noise of an attack's size, say.
    detector : SubsetScanDetector, optional
        How to scan, but for the tail.
    fraction : float in (0, 1), default 0.25
        The part of the inputs that is scanned, as they are and altered; the others make the background.
    random_state : int
        Draws that part.
    **options
        `batch_size` and `progress` of `ModelScanner`.

    Returns
    -------
    dict of str to str
        "upper" or "lower" for each space: that of the larger area under the ROC curve, "upper" if both are equal.

    Raises
    ------
    ValueError
        If `images` and `altered` differ in shape, or as for `ModelScanner.fit`.

    Examples
    --------
    >>> from subsetscan.spaces import Pixels
    >>> images = np.random.default_rng(0).random((200, 4, 4, 1))
    >>> choose_tails(Pixels((4, 4, 1)), images, images - 0.2)
    {'pixels': 'lower'}
    """
    images, altered = np.asanyarray(images), np.asanyarray(altered)
    if images.shape != altered.shape:
        raise ValueError(f"inputs and altered ones must have one shape, got {images.shape} and {altered.shape}")
    splitter = SubsetScanDetector(calibration_fraction=fraction, random_state=random_state)
    shares = splitter.plan(len(images))
    truth = np.repeat([0, 1], len(shares.calibration))
    areas: dict[str, dict[str, float]] = {}
    for tail in _TAILS:
        template = clone(SubsetScanDetector() if detector is None else detector)
        scanner = ModelScanner(spaces, template.set_params(tail=tail, calibration=None), **options)
        scanner.fit(images[shares.background])
        clean, noisy = (scanner.scan(some[shares.calibration]) for some in (images, altered))
        for name in scanner.names:
            scores = np.concatenate([clean[name].scores, noisy[name].scores])
            areas.setdefault(name, {})[tail] = float(roc_auc_score(truth, scores))
    return {name: max(_TAILS, key=lambda tail, own=own: own[tail]) for name, own in areas.items()}  # type: ignore[misc]
