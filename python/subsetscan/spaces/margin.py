"""How close a classifier's decision is: the margin between its two largest logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..networks import as_network
from ..networks.logits import check_classes
from .network import NetworkSpace

__all__ = ["ClassifierMargin"]


class ClassifierMargin(NetworkSpace):
    """How close a classifier's decision is: one node for each input.

    Its value is the second largest logit minus the largest: 0 where two classes tie, else negative. An input that an
    attack has just taken across a decision boundary lies near it, so that the upper tail is the suspicious one.

    The logits are read before the softmax that the model ends in, because its probabilities round to 0 and 1 where
    logits are far apart. A model that ends in no softmax gives its outputs as they are: they are taken as logits.

    Parameters
    ----------
    model : keras.Model, torch.nn.Module, path of an ONNX file, or Network
        A classifier: one output of shape (N, K), with K >= 2 classes. A Keras model may end in a softmax: as a layer,
        as the activation of a dense layer, or either of these in a model within the model; an ONNX model in a node. A
        PyTorch module must return logits.
    name : str, default "margin"
        Its name in results. Spaces that are scanned together need different ones.

    Raises
    ------
    TypeError
        If the model is none, or has no graph.
    ValueError
        If the model has another output, or ends in a softmax that cannot be left out; of a PyTorch module `transform`
        raises it, where its outputs are probabilities.

    References
    ----------
    N. Carlini and D. Wagner, Towards Evaluating the Robustness of Neural Networks, 2017, whose attack makes this
    difference of logits its objective (f6). DOI 10.1109/SP.2017.49

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])
    >>> ClassifierMargin(model).transform(np.array([[0.0, 500.0, 200.0]]))["margin"]
    array([[-300.]], dtype=float32)
    """

    def __init__(self, model: Any, name: str = "margin") -> None:
        network = as_network(model)
        logits = network.logits()
        if (shape := network.shapes([logits]).get(logits)) is not None:
            check_classes(network.name, shape)
        super().__init__(network, [logits], [name])
        self.node_shapes = {name: (1,)}

    def values(self, images: Any, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        del images
        (name,), (logits,) = self.names, read.values()
        check_classes(self.network.name, logits.shape[1:])
        second, first = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:].T
        return {name: (second - first).astype(np.float32)[:, np.newaxis]}

    def _options(self) -> list[str]:
        return []
