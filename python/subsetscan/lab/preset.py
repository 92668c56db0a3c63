"""The recommended configuration: which spaces to scan, how, and how to combine them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..detectors import Detector, SubsetScanDetector
from ..scanner import ModelScanner
from ..spaces import ClassifierMargin, KerasLayers, Laplacian, Space
from .experiment.scoring import Pair, Scores, combined

if TYPE_CHECKING:
    import keras

__all__ = ["COMBINE", "PRESET", "combined_by_preset", "preset_pairs", "recommended"]

PRESET = Pair("preset")  # the name of the combination
COMBINE = "fisher"


def preset_pairs(
    autoencoder: keras.Model, classifier: keras.Model | None = None, *, random_state: int = 0
) -> dict[Pair, tuple[Space, Detector]]:
    """Pair the recommended spaces with scans; see `recommended`."""
    # Chosen in docs/decisions/0002-recommended-preset.md.
    parts: list[tuple[Space, str, str]] = []
    if classifier is not None:
        parts += [
            (KerasLayers(classifier, ["conv2d_1"], prefix="classifier "), "higher-criticism", "lower"),
            (ClassifierMargin(classifier, name="classifier margin"), "kolmogorov-smirnov", "upper"),
            (KerasLayers(classifier, ["dense_2"], prefix="classifier "), "berk-jones", "upper"),
        ]
    parts += [
        (Laplacian(autoencoder.inputs[0].shape[1:]), "kolmogorov-smirnov", "lower"),
        (KerasLayers(autoencoder, ["conv2d_7"]), "kolmogorov-smirnov", "lower"),
    ]
    return {
        Pair(space.names[0], statistic, tail): (
            space,
            SubsetScanDetector(statistic=statistic, tail=tail, random_state=random_state),
        )
        for space, statistic, tail in parts
    }


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
    pairs = preset_pairs(autoencoder, classifier, random_state=random_state)
    return ModelScanner(
        [space for space, _ in pairs.values()],
        {pair.space: detector for pair, (_, detector) in pairs.items()},
        progress=progress,
    )


def combined_by_preset(scores: Scores) -> Scores:
    """Combine scores of the `preset_pairs` as the preset does, under the pair `PRESET`."""
    return combined(scores, scores.pairs(), COMBINE, PRESET)
