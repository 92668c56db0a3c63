"""The reconstruction error of an autoencoder, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..input_checks import as_rows
from ..networks import as_network
from .network import NetworkSpace

__all__ = ["METRICS", "ReconstructionError"]

_SMALLEST_PROBABILITY = np.float32(1e-7)  # Keras' epsilon: keeps the logarithms finite


def _absolute(images: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    return np.abs(images - reconstructions)


def _squared(images: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    return np.square(images - reconstructions)


def _binary_crossentropy(images: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    p = np.clip(reconstructions, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return -(images * np.log(p) + (1 - images) * np.log(1 - p))


def _signed(images: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    return images - reconstructions


METRICS = {"absolute": _absolute, "squared": _squared, "binary-crossentropy": _binary_crossentropy, "signed": _signed}


class ReconstructionError(NetworkSpace):
    """The error of each pixel of an autoencoder's reconstruction: each pixel is a node.

    Parameters
    ----------
    model : keras.Model, torch.nn.Module, path of an ONNX file, or Network
        An autoencoder: its output has the shape of its input.
    metric : {"absolute", "squared", "binary-crossentropy", "signed"}, default "absolute"
        The paper's error is the binary cross-entropy; the absolute error tells attacked images from clean ones better.
        The signed error is the image minus its reconstruction, positive where the image is brighter. The tail then
        matters: the upper one sees pixels that are too bright, the lower one pixels that are too dark.
    name : str, default "reconstruction_error"
        Its name in results. Spaces that are scanned together need different ones.

    Raises
    ------
    TypeError
        If the model is none, or has no graph.
    ValueError
        If the metric is unknown, or the output is not of the input's shape.

    References
    ----------
    Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section 4.
    """

    def __init__(self, model: Any, metric: str = "absolute", name: str = "reconstruction_error") -> None:
        if metric not in METRICS:
            raise ValueError(f"unknown reconstruction error {metric!r}; known are {', '.join(METRICS)}")
        network = as_network(model)
        output = network.output()
        super().__init__(network, [output], [name])
        self.metric = metric
        expected, shape = network.input_shape(), network.shapes([output]).get(output)
        if shape is not None:
            if expected is not None and shape != expected:
                raise _no_autoencoder(network.name, expected, shape)
            self.node_shapes = {name: shape}

    def values(self, images: Any, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        (name,), (output,) = self.names, read.values()
        if isinstance(images, Mapping) or images.shape != output.shape:
            given = [*images] if isinstance(images, Mapping) else images.shape[1:]
            raise _no_autoencoder(self.network.name, given, output.shape[1:])
        self.node_shapes = {name: output.shape[1:]}
        pair = (array.astype(np.promote_types(array.dtype, np.float32), copy=False) for array in (images, output))
        return {name: as_rows(METRICS[self.metric](*pair)).astype(np.float32, copy=False)}

    def _options(self) -> list[str]:
        return [self.metric]


def _no_autoencoder(name: str, given: Any, output: Any) -> ValueError:
    return ValueError(f"{name} is not an autoencoder: its input is {given}, its output {output}, for each sample")
