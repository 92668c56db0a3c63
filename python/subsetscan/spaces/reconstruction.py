"""The reconstruction error of an autoencoder, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..networks.keras import check_graph, known_shape
from .base import as_rows
from .keras import NetworkSpace

if TYPE_CHECKING:
    import keras

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
    model : keras.Model
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
        If the model is not a Keras model, or has no graph.
    ValueError
        If the metric is unknown, or the output is not of the input's shape.

    References
    ----------
    Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section 4.
    """

    def __init__(self, model: keras.Model, metric: str = "absolute", name: str = "reconstruction_error") -> None:
        if metric not in METRICS:
            raise ValueError(f"unknown reconstruction error {metric!r}; known are {', '.join(METRICS)}")
        check_graph(model)
        if len(model.outputs) != 1 or model.outputs[0].shape != model.inputs[0].shape:
            shapes = ", ".join(str(output.shape) for output in model.outputs)
            raise ValueError(
                f"{model.name} is not an autoencoder: its input is {model.inputs[0].shape}, its output {shapes}"
            )
        self.metric = metric
        super().__init__(model, {"output": model.outputs[0]}, {name: known_shape(name, model.outputs[0])})

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        (name,) = self.names
        pair = (
            array.astype(np.promote_types(array.dtype, np.float32), copy=False) for array in (images, read["output"])
        )
        return {name: as_rows(METRICS[self.metric](*pair)).astype(np.float32, copy=False)}

    def _options(self) -> list[str]:
        return [self.metric]
