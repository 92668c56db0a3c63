"""How close a classifier's decision is: the margin between its two largest logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..networks.keras import check_graph
from ..networks.logits import logit_tensor
from .keras import NetworkSpace

if TYPE_CHECKING:
    import keras

__all__ = ["ClassifierMargin"]


class ClassifierMargin(NetworkSpace):
    """How close a classifier's decision is: one node for each image.

    Its value is the second largest logit minus the largest: 0 where two classes tie, else negative. An image that an
    attack has just taken across a decision boundary lies near it, so that the upper tail is the suspicious one.

    The logits are read before the softmax that the model ends in, because its probabilities round to 0 and 1 where
    logits are far apart. A model that ends in no softmax gives its outputs as they are: they are taken as logits.

    Parameters
    ----------
    model : keras.Model
        A classifier: one output of shape (N, K), with K >= 2 classes. It may end in a softmax: as a layer, as the
        activation of a dense layer, or either of these in a model within the model.
    name : str, default "margin"
        Its name in results. Spaces that are scanned together need different ones.

    Raises
    ------
    TypeError
        If the model is not a Keras model, or has no graph.
    ValueError
        If the model has another output, or ends in a softmax that cannot be left out.

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

    def __init__(self, model: keras.Model, name: str = "margin") -> None:
        check_graph(model)
        super().__init__(model, {"logits": logit_tensor(model)}, {name: (1,)})

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        (name,) = self.names
        second, first = np.partition(read["logits"].astype(np.float64), -2, axis=1)[:, -2:].T
        return {name: (second - first).astype(np.float32)[:, np.newaxis]}

    def _options(self) -> list[str]:
        return []
