"""Feature squeezing: how far a classifier's probabilities move when an image loses detail, as a space of one node."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from ..._extras import import_extra
from ..._validation import integer
from ...input_checks import check_inputs
from ...networks import KerasNetwork, Network, as_network
from ...networks.logits import check_classes
from ...spaces import Space
from ...spaces.network import NetworkSpace

__all__ = ["FeatureSqueezing"]

_MOST_CHANNELS = 4  # of an image: grey, colour, with transparency
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
    classifier : keras.Model, torch.nn.Module, path of an ONNX file, or Network
        From images in [0, 1], of shape (H, W, C) or (C, H, W), to class probabilities. Outputs that no softmax makes
        are taken as logits, as in `ClassifierMargin`; a PyTorch module must return logits.
    bit_depths : sequence of int, optional
        A squeezer each: pixels rounded to so many bits. By default 1 for images of one channel, else 5.
    windows : sequence of int, default (2,)
        A squeezer each: the median over windows of so many pixels each way.
    others : sequence of callable
        More squeezers, from images in [0, 1] of shape (n, H, W, C) to such images. The paper's best for colour images
        adds non-local means, which needs OpenCV: hand it in here.
    channel_axis : 0, 2 or None, default None
        Which axis of an image counts channels. None: the one that the layers of a Keras model say; else the only one of
        these two of size 1 to 4. Where that does not tell, or the two disagree, it must be given.
    name : str, default "feature squeezing"
        Its name in results.

    Raises
    ------
    TypeError, ValueError
        If the model is not a classifier of images, a number is out of range, no squeezer is given, or channels cannot
        be told from positions. Of a model that does not tell its shapes `transform` raises it.

    References
    ----------
    W. Xu, D. Evans, Y. Qi, Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks, NDSS 2018,
    sections 3 and 5. DOI 10.14722/ndss.2018.23198. Code: github.com/mzweilin/EvadeML-Zoo.
    """

    def __init__(
        self,
        classifier: Any,
        *,
        bit_depths: Sequence[int] | None = None,
        windows: Sequence[int] = (2,),
        others: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
        channel_axis: int | None = None,
        name: str = "feature squeezing",
    ) -> None:
        if channel_axis not in (0, 2, None):
            raise ValueError(f"channel_axis must be 0 or 2, got {channel_axis!r}")
        self.node_shapes = {name: (1,)}
        self._logits = _Logits(as_network(classifier))
        self._axis = channel_axis
        self._bit_depths = None if bit_depths is None else _integers("bit_depths", bit_depths, 64)
        self._windows, self._others = _integers("windows", windows), others
        if not (bit_depths is None or self._bit_depths or self._windows or others):
            raise ValueError("no squeezers: give at least one of bit_depths, windows and others")
        self._shape = self._logits.network.input_shape()
        if self._shape is not None:
            self._axis = self._channel_axis(self._shape)

    def transform(self, images: Any) -> dict[str, np.ndarray]:
        """Compute the distance of each image.

        Parameters
        ----------
        images : array-like of shape (n, H, W, C), or (n, C, H, W)

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
        images = check_inputs(images, np.shape(images)[1:] if self._shape is None else self._shape)
        axis = self._channel_axis(images.shape[1:])
        farthest = float(np.abs(images).max(initial=0))
        if farthest > _FARTHEST:
            raise ValueError(
                f"pixels must be in [0, 1], or slightly outside after an attack, got one of size {farthest:g}"
            )
        scores = np.zeros(len(images))
        if len(images):
            probabilities = self._probabilities(images)
            clipped = np.moveaxis(np.clip(images, 0, 1), 1 + axis, -1)
            for squeeze in self._squeezers(clipped.shape[-1]):
                squeezed = self._probabilities(np.moveaxis(squeeze(clipped), -1, 1 + axis))
                distances = np.abs(probabilities - squeezed).sum(axis=1)
                np.maximum(scores, distances, out=scores)
        return dict.fromkeys(self.names, scores[:, np.newaxis])

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        return softmax(self._logits.transform(images)["logits"], axis=1)

    def _squeezers(self, n_channels: int) -> list[Callable[[np.ndarray], np.ndarray]]:
        bit_depths = self._bit_depths
        if bit_depths is None:
            bit_depths = [1] if n_channels == 1 else [5]
        if not (bit_depths or self._windows):
            return [*self._others]
        art = _art_preprocessors()
        library = [art.FeatureSqueezing(clip_values=(0, 1), bit_depth=bits) for bits in bit_depths]
        library += [art.SpatialSmoothing(window_size=size, clip_values=(0, 1)) for size in self._windows]
        return [*map(_images_alone, library), *self._others]

    def _channel_axis(self, shape: tuple[int | None, ...]) -> int:
        """Tell which axis of an image counts channels. Raises ValueError where nothing tells."""
        network = self._logits.network
        if len(shape) != 3:
            raise ValueError(f"expected a classifier of images (H, W, C), or (C, H, W), {network.name} takes {shape}")
        if self._axis is not None:
            return self._axis
        told = {axis for axis in (_of_layers(network), _of_sizes(shape)) if axis is not None}
        if len(told) != 1:
            raise ValueError(
                f"which axis of the images {shape} of {network.name} counts channels cannot be told: give "
                "channel_axis=0 or channel_axis=2"
            )
        return told.pop()


class _Logits(NetworkSpace):
    """The logits of a classifier, in double precision."""

    def __init__(self, network: Network) -> None:
        logits = network.logits()
        super().__init__(network, [logits], ["logits"])
        if (shape := network.shapes([logits]).get(logits)) is not None:
            check_classes(network.name, shape)

    def values(self, images: Any, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        del images
        (logits,) = read.values()
        check_classes(self.network.name, logits.shape[1:])
        return {"logits": logits.astype(np.float64)}


def _of_layers(network: Network) -> int | None:
    """Tell the axis from the data format of the layers; None for networks whose layers do not tell of their input."""
    if not isinstance(network, KerasNetwork):
        return None
    return network.input_channel_axis()


def _of_sizes(shape: tuple[int | None, ...]) -> int | None:
    few = [axis for axis in (0, 2) if (shape[axis] or _MOST_CHANNELS + 1) <= _MOST_CHANNELS]
    return few[0] if len(few) == 1 else None


def _art_preprocessors() -> Any:
    with warnings.catch_warnings():
        # The toolbox warns of every framework that is not installed.
        warnings.filterwarnings("ignore", category=UserWarning, module="art")
        return import_extra("art.defences.preprocessor", "attacks")


def _images_alone(preprocessor: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: preprocessor(images)[0]  # beside them it returns labels


def _integers(name: str, values: Sequence[int], highest: int | None = None) -> list[int]:
    result = [integer(value, name) for value in values]
    if any(value < 1 or (highest is not None and value > highest) for value in result):
        raise ValueError(f"{name} must be at least 1{f', at most {highest}' if highest else ''}, got {values}")
    return result
