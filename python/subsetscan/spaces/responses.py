"""Feature responses: what a network saw of an image, by a backward pass to its pixels. No scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._digest import digest
from .._validation import InvalidTypeError, refuse_masked
from ..input_checks import as_rows, check_inputs
from ..networks.passes import Batched, parts
from ..networks.wrap import as_network, is_network
from .base import Space

__all__ = ["METHODS", "TARGETS", "FeatureResponse"]

METHODS = ("gradient", "deconvnet", "guided")
TARGETS = ("activations", "top-logit", "true-logit", "max-output")


class FeatureResponse(Batched, Space):
    """The feature response of a network: values deep in it, propagated back to the pixels. Each pixel is a node.

    It shows which parts of an image the network answered to. The methods differ in what the backward pass does at a
    ReLU, with f its input and R what arrives from above: "gradient" passes on (f > 0) R, which is plain
    backpropagation; "deconvnet" (R > 0) R; "guided" backpropagation (f > 0) (R > 0) R. The forward pass is always that
    of the model, in inference. Max-pooling sends back to the maxima of the forward pass; where values tie, to the first
    of them, row by row, in TensorFlow and PyTorch alike, on a processor. Responses of the same weights are the same.

    The model stays as it is, gradients of the user's own among it, and weights that are set later count. "deconvnet"
    and "guided" change the gradient of `relu`, used once or several times, and refuse by name what is neither linear,
    nor a choice of the largest, nor a plain ReLU. Keras: as a layer's activation, `Activation("relu")`, `ReLU`,
    `keras.ops.relu`, also in models within the model; a clone of the model is differentiated. PyTorch: `nn.ReLU`, also
    in place, `torch.relu`, `functional.relu`, whatever calls it: each pass looks at the operations in autograd's graph,
    where a product with a number, a parameter or a buffer is linear, and one with anything else is not. A detached
    branch has no operations there, and cannot be refused.

    Responses are signed, in units of the target per unit of the pixels ("activations" and "max-output": those times the
    target's units). The scale means little; scan with ``tail="two-sided"``.

    Parameters
    ----------
    model : keras.Model, torch.nn.Module, KerasNetwork or TorchNetwork
        Keras: with a graph, one floating-point input of fixed size, and TensorFlow as its backend. PyTorch: called with
        one array, images of which it takes channels first.
    method : {"guided", "deconvnet", "gradient"}, default "guided"
    target : {"activations", "top-logit", "true-logit", "max-output"}, default "activations"
        What is propagated back. "activations": the values of a layer, each at its place; "top-logit": 1 at the largest
        logit, whose gradient this is under "gradient"; "true-logit": 1 at the logit of the image's label, for which
        call `responses`; "max-output": the value of the largest logit, at its place. Logits are read before the softmax
        that a Keras model ends in; a PyTorch module must return logits.
    layer : str, int, keras.layers.Layer or torch.nn.Module, optional
        For "activations", by default the last convolutional layer. Keras: name of a layer or the layer itself, also of
        one in a model within the model, or index in ``model.layers``; "name:0" is the first output of a layer that has
        several. Its output is taken after the activation that it carries; where the ReLU is a layer of its own, name
        that one to take values after it. PyTorch: a name as ``named_modules()`` has it, of which the last convolution
        is the default, or the module itself; "name:1" is its second tensor or call.
    name : str, default "response"
        Its name in results. Spaces that are scanned together need different ones.

    Attributes
    ----------
    node_shapes : dict of str to tuple of int
        The shape of an image, as (H, W, C), or (C, H, W) in PyTorch; of a PyTorch module from the first pass on.
    forward_batch : int or None
        See `subsetscan.networks.passes.Batched`. Passes through a model whose batch size is fixed have that size.

    Raises
    ------
    TypeError
        If the model is neither, or a Keras model without a graph. An ONNX model computes no gradients.
    ValueError
        If the method, the target or the layer is unknown, a layer is named for another target than "activations", or
        the layer has not exactly one output; if the model's input has no fixed size or no floating-point values; for
        logits, if the model is not a classifier; for "deconvnet" and "guided", if a layer on the way to the target is
        neither a ReLU nor linear, as sigmoid, GELU, a leaky or capped ReLU, or a layer of your own, or is called with
        ``training=True``. The message names the layer. "gradient" takes any layer. Of a PyTorch module `transform`
        raises what only a pass shows: all but an unknown method, target or layer.
    RuntimeError
        If the backend of Keras is not TensorFlow.

    References
    ----------
    M. Amirian, F. Schwenker, T. Stadelmann, Trace and Detect Adversarial Attacks on CNNs using Feature Response Maps,
    2018, arXiv:2208.11436. J. T. Springenberg et al., Striving for Simplicity: The All Convolutional Net, 2015, for the
    methods, arXiv:1412.6806. M. Alber et al., iNNvestigate neural networks!, 2019, arXiv:1808.04260, whose deconvnet
    and guided backpropagation start with the value of the largest output.

    Examples
    --------
    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1, 3, 1)), keras.layers.Conv2D(2, 1, use_bias=False),
    ...                           keras.layers.ReLU(name="relu")])
    >>> model.set_weights([np.array([[[[1.0, -2.0]]]])])
    >>> image = np.array([[[[3.0], [0.0], [-1.0]]]])             # the ReLUs give 3, 0, 0 and 0, 0, 2
    >>> FeatureResponse(model, "gradient", layer="relu").transform(image)["response"]
    array([[ 3., 0., -4.]], dtype=float32)
    """

    def __init__(
        self,
        model: Any,
        method: str = "guided",
        target: str = "activations",
        layer: Any = None,
        name: str = "response",
    ) -> None:
        for what, value, known in (("method", method, METHODS), ("target", target, TARGETS)):
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}; known are {', '.join(known)}")
        if layer is not None and target != "activations":
            raise ValueError(f'a layer is for target "activations"; {target!r} reads the logits, got layer {layer!r}')
        if not is_network(model):
            raise InvalidTypeError(
                f"expected a Keras model, got {type(model).__name__}; a PyTorch module will do as well"
            )
        network = as_network(model)
        self.model: Any = getattr(network, "model", network)
        self.method = method
        self.target = target
        self.layer = layer
        self._backward = network.backward(method, target, layer)
        self._name = name
        shape = self._backward.image_shape
        self.node_shapes = {} if shape is None else {name: shape}

    @property
    def names(self) -> tuple[str, ...]:  # noqa: D102 (the base says it, as for those below)
        return (self._name,)

    def channel_axis(self, name: str) -> int | None:  # noqa: D102
        axis = super().channel_axis(name)
        return 0 if self._backward.channels_first and axis is not None else axis

    def transform(self, images: Any) -> dict[str, np.ndarray]:
        """Compute the responses to images, a row of nodes for each.

        Parameters
        ----------
        images : array-like of shape (N, ...)

        Returns
        -------
        dict of str to ndarray of shape (N, J), float32

        Raises
        ------
        ValueError
            If the images have the wrong shape, a pixel is NaN or infinite, the target is "true-logit" (labels are
            needed: see `responses`), no gradient reaches the image, or a layer's values depend on more than the image:
            see `NetworkSpace`.
        """
        return {self._name: as_rows(self.responses(images))}

    def responses(self, images: Any, labels: Any = None) -> np.ndarray:
        """Compute the responses to images, in the images' shape.

        Parameters
        ----------
        images : array-like of shape (N, ...)
        labels : array-like of shape (N,), int, optional
            The classes of the images, counted from 0: for the target "true-logit", and for no other.

        Returns
        -------
        ndarray of shape (N, ...), float32

        Raises
        ------
        ValueError
            If the images have the wrong shape, a pixel is NaN or infinite, labels are missing, not wanted, not one
            for each image or none of the classes, no gradient reaches the image, or a layer's values depend on more
            than the image: see `NetworkSpace`.
        """
        images = check_inputs(images, self.node_shapes.get(self._name, np.shape(images)[1:]), self._backward.dtype)
        labels = self._check_labels(labels, images)
        if not len(images):
            return np.empty(images.shape, np.float32)
        passes, size = self._backward.passes(), self._backward.batch_size or self.forward_batch
        pairs = parts({"images": images, "labels": labels}, size)
        found = np.concatenate([passes.run(list(pair.values()))[0][:n] for pair, n in pairs])
        self.node_shapes = {self._name: images.shape[1:]}
        return found

    def fingerprint(self) -> str | None:  # noqa: D102
        return digest("FeatureResponse", self.method, self.target, *self._backward.told())

    def _check_labels(self, labels: Any, images: np.ndarray) -> np.ndarray:
        n_images = len(images)
        if self.target != "true-logit":
            if labels is not None:
                raise ValueError(f'only target "true-logit" takes labels, got {self.target!r}')
            return np.zeros(n_images, np.int64)
        if labels is None:
            raise ValueError('target "true-logit" needs the labels of the images: call responses(images, labels)')
        refuse_masked(labels, "labels")
        labels = np.asarray(labels)
        if labels.shape != (n_images,) or labels.dtype.kind not in "iu":
            raise ValueError(f"expected {n_images} labels, whole numbers, got {labels.dtype} of shape {labels.shape}")
        n_classes = self._backward.n_classes(images) if n_images else 0
        strangers = (labels < 0) | (labels >= n_classes)
        if strangers.any():
            first = int(strangers.argmax())
            raise ValueError(f"label {labels[first]} of image {first} is not one of the classes 0 to {n_classes - 1}")
        return labels.astype(np.int64)
