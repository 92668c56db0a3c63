"""Feature squeezing: how far a classifier's probabilities move when an image loses detail, as a space of one node."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from ..._extras import import_extra
from ...input_checks import check_images
from ...networks import KerasNetwork
from ...networks.keras_graph import check_graph
from ...spaces import Space
from ...spaces.network import NetworkSpace

if TYPE_CHECKING:
    import keras

__all__ = ["FeatureSqueezing"]

_FARTHEST = 10.0  # no attack takes pixels that far; an image of 0 to 255 has some


class FeatureSqueezing(Space):
    """Feature squeezing: how far the class probabilities move when an image loses detail.

    The one node is the largest L1 distance, over the squeezers, between the probabilities of the image and of the
    squeezed image: between 0 and 2, higher is more anomalous. Squeezers are those of the Adversarial
    Robustness Toolbox; its median over an even window is that of the authors' code, the larger of the two middle values
    over the pixel and its neighbours above and to the left.

    An unclipped attack leaves [0, 1]. The classifier gets such an image as it is, but squeezers get it clipped to
    [0, 1], because no image of so many bits has other values.

    Parameters
    ----------
    classifier : keras.Model
        With a graph, from images (H, W, C) in [0, 1] to class probabilities. Outputs that no softmax makes are taken
        as logits, as in `ClassifierMargin`.
    bit_depths : sequence of int, optional
        A squeezer each: pixels rounded to so many bits. By default 1 for images of one channel, else 5.
    windows : sequence of int, default (2,)
        A squeezer each: the median over windows of so many pixels each way.
    others : sequence of callable
        More squeezers, from images in [0, 1] of shape (n, H, W, C) to such images. The paper's best for colour images
        adds non-local means, which needs OpenCV: hand it in here.
    name : str, default "feature squeezing"
        Its name in results.

    Raises
    ------
    TypeError, ValueError
        If the model is not a classifier of images, a number is out of range, or no squeezer is given.

    References
    ----------
    W. Xu, D. Evans, Y. Qi, Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks, NDSS 2018,
    sections 3 and 5. DOI 10.14722/ndss.2018.23198. Code: github.com/mzweilin/EvadeML-Zoo.
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        bit_depths: Sequence[int] | None = None,
        windows: Sequence[int] = (2,),
        others: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
        name: str = "feature squeezing",
    ) -> None:
        check_graph(classifier)
        shape = tuple(classifier.inputs[0].shape[1:])
        if len(shape) != 3:
            raise ValueError(f"expected a classifier of images (H, W, C), {classifier.name} takes {shape}")
        self.node_shapes = {name: (1,)}
        self._logits = _Logits(classifier)
        if bit_depths is None:
            bit_depths = (1,) if shape[-1] == 1 else (5,)
        bit_depths, windows = _integers("bit_depths", bit_depths, 64), _integers("windows", windows)
        art = _art_preprocessors()
        library = [art.FeatureSqueezing(clip_values=(0, 1), bit_depth=bits) for bits in bit_depths]
        library += [art.SpatialSmoothing(window_size=size, clip_values=(0, 1)) for size in windows]
        self._squeezers = [*map(_images_alone, library), *others]
        if not self._squeezers:
            raise ValueError("no squeezers: give at least one of bit_depths, windows and others")

    def transform(self, images: Any) -> dict[str, np.ndarray]:
        """Compute the distance of each image.

        Parameters
        ----------
        images : array-like of shape (n, H, W, C)

        Returns
        -------
        dict of str to ndarray of shape (n, 1), float64
            In double precision, because distances close to 2 would be ties in single precision.

        Raises
        ------
        ValueError
            If the images have the wrong shape, a pixel is NaN or infinite, or beyond 10 either way, as in images of 0
            to 255.
        """
        images = check_images(images, self._logits.model.inputs[0].shape[1:])
        farthest = float(np.abs(images).max(initial=0))
        if farthest > _FARTHEST:
            raise ValueError(
                f"pixels must be in [0, 1], or slightly outside after an attack, got one of size {farthest:g}"
            )
        scores = np.zeros(len(images))
        if len(images):
            probabilities, clipped = self._probabilities(images), np.clip(images, 0, 1)
            for squeeze in self._squeezers:
                distances = np.abs(probabilities - self._probabilities(squeeze(clipped))).sum(axis=1)
                np.maximum(scores, distances, out=scores)
        return dict.fromkeys(self.names, scores[:, np.newaxis])

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        return softmax(self._logits.transform(images)["logits"], axis=1)


class _Logits(NetworkSpace):
    """The logits of a classifier, in double precision."""

    def __init__(self, classifier: keras.Model) -> None:
        network = KerasNetwork(classifier)
        logits = network.logits()
        super().__init__(network, [logits], ["logits"])
        self.node_shapes = {"logits": network.shapes([logits])[logits]}

    def values(self, images: Any, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        del images
        (logits,) = read.values()
        return {"logits": logits.astype(np.float64)}


def _art_preprocessors() -> Any:
    with warnings.catch_warnings():
        # The toolbox warns of every framework that is not installed.
        warnings.filterwarnings("ignore", category=UserWarning, module="art")
        return import_extra("art.defences.preprocessor", "attacks")


def _images_alone(preprocessor: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: preprocessor(images)[0]  # beside them it returns labels


def _integers(name: str, values: Sequence[int], highest: int | None = None) -> list[int]:
    result = [operator.index(value) for value in values]
    if any(value < 1 or (highest is not None and value > highest) for value in result):
        raise ValueError(f"{name} must be at least 1{f', at most {highest}' if highest else ''}, got {values}")
    return result
