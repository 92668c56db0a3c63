"""Feature responses of Keras models: TensorFlow's gradient, of the model or of a clone with other ReLUs."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .keras_axes import KerasAxes
from .keras_graph import (
    call_of,
    check_graph,
    checked_passes,
    find_outputs,
    graph_nodes,
    graph_of,
    has_graph,
    input_dtype,
    known_shape,
    lifted,
    operation_of,
    outputs_in,
    weights_digest,
)
from .logits import logit_tensor
from .passes import Passes
from .responses import BackwardPass, not_plain

if TYPE_CHECKING:
    import keras

__all__ = ["KerasBackwardPass"]

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D",
                 "SeparableConv2D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")  # fmt: skip
# What passes a backward pass on as it is: linear in inference but for its activation, or a choice of the largest.
_PLAIN = (*_CONVOLUTIONS, "Dense", "EinsumDense", "BatchNormalization", "Normalization", "Rescaling", "Add", "Subtract",
          "Average", "Concatenate", "Flatten", "Reshape", "Permute", "RepeatVector", "Identity", "Dropout",
          "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
          "GaussianNoise", "ActivityRegularization", "Activation",
          *(f"{kind}{n}D" for n in (1, 2, 3) for kind in ("MaxPooling", "AveragePooling", "GlobalMaxPooling",
            "GlobalAveragePooling", "ZeroPadding", "Cropping", "UpSampling")))  # fmt: skip
# The identity in inference, whatever they do in training.
_IDENTITIES = ("AugMix", "CutMix", "MixUp", "RandAugment", "Solarization",
               *(f"Random{what}" for what in ("Brightness", "ColorDegeneration", "ColorJitter", "Contrast",
                 "ElasticTransform", "Erasing", "Flip", "GaussianBlur", "Grayscale", "Hue", "Invert", "Perspective",
                 "Posterization", "Rotation", "Saturation", "Sharpness", "Shear", "Translation", "Zoom")))  # fmt: skip
_PLAIN_OPERATIONS = ("Add", "Subtract", "Concatenate", "Reshape", "Transpose")  # as in x + y


class KerasBackwardPass(BackwardPass):
    """A backward pass through a Keras model.

    "deconvnet" and "guided" work on a clone of the model, up to the target, whose ReLUs have another gradient. It has a
    copy of the weights, which `passes` takes anew.

    Attributes
    ----------
    network : keras.Model
        What is differentiated.

    Raises
    ------
    RuntimeError
        If Keras' backend is not TensorFlow.
    """

    def __init__(
        self, model: keras.Model, method: str, target: str, layer: str | int | keras.layers.Layer | None
    ) -> None:
        check_graph(model)
        import keras

        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(f"feature responses need TensorFlow as Keras' backend, not {keras.backend.backend()}")
        source = model.inputs[0]
        if not keras.backend.is_float_dtype(source.dtype):
            raise ValueError(f"the input of {model.name} must be floating-point numbers, got {source.dtype}")
        self.image_shape = known_shape(operation_of(source).name, source)
        self.channels_first = len(self.image_shape) > 1 and KerasAxes(model).of(source, len(self.image_shape)) == 0
        self.dtype = input_dtype(source)
        self.batch_size = source.shape[0]
        self.target = target
        self._name = model.name
        self._end, end = _layer_output(model, layer) if target == "activations" else ("", logit_tensor(model))
        self._view = keras.Model(source, end)  # it shares layers and weights with the model
        self.network = self._view
        self._twins: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        if method != "gradient":
            cloner = _Cloner(method)
            self.network = cloner.clone(self.network)
            self._twins = cloner.twins
        self._passes = checked_passes(model.name, self.network, self._forward)
        self._compiled: Callable[..., Any] | None = None

    def n_classes(self, images: np.ndarray) -> int:  # noqa: D102 (the base says it, as for those below)
        del images
        return self.network.output_shape[1]

    def passes(self) -> Passes:  # noqa: D102
        for layer, twin in self._twins:
            weights: dict[str, Any] = {}
            layer.save_own_variables(weights)
            twin.load_own_variables(weights)
        return self._passes

    def told(self) -> list[str]:  # noqa: D102
        source = self._view.inputs[0]
        return [self._end, str((*source.shape[1:], source.dtype)), weights_digest(self._view)]

    def _forward(self, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        import tensorflow as tf

        if self._compiled is None:
            self._compiled = tf.function(self._backward, autograph=False, reduce_retracing=True)
        return [np.asarray(self._compiled(tf.constant(images), tf.constant(labels)))]

    def _backward(self, images: Any, labels: Any) -> Any:
        """Propagate the target back to a batch of images: what TensorFlow compiles."""
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            values = self.network(images, training=False)
        if self.target == "activations":
            seed = values
        else:
            which = labels if self.target == "true-logit" else tf.argmax(values, axis=1)
            seed = tf.one_hot(which, values.shape[1], dtype=values.dtype)
            if self.target == "max-output":
                seed *= values
            if self.target == "log-probability":
                seed = (seed - tf.nn.softmax(values / self.temperature)) / self.temperature
        response = tape.gradient(values, images, output_gradients=seed)
        if response is None:
            raise ValueError(f"no gradient reaches the image: a layer of {self._name} cannot be differentiated")
        return tf.cast(response, tf.float32)


def _layer_output(model: keras.Model, which: Any) -> tuple[str, keras.KerasTensor]:
    """Find the output of a layer, or of the last convolutional one, by name and as a tensor in this model's graph."""
    import keras

    convolutions = tuple(getattr(keras.layers, name) for name in _CONVOLUTIONS)

    def is_wanted(layer: Any) -> bool:
        return isinstance(layer, convolutions) if which is None else layer is which or layer.name == which

    def path_to(model: keras.Model) -> list[Any] | None:
        """Return the layer behind the models that it lies in."""
        for layer in reversed(model.layers):
            if is_wanted(layer):
                return [layer]
            if has_graph(layer) and (inner := path_to(layer)):
                return [layer, *inner]
        return None

    here = isinstance(which, numbers.Integral) or (which is not None and any(map(is_wanted, model.layers)))
    path = None if here else path_to(model)
    if path is not None:
        return "/".join(layer.name for layer in path), _output_at(model, path)
    if which is None:
        raise ValueError(f"{model.name} has no convolutional layer: name a layer to propagate back from")
    outputs = find_outputs(model, [which])  # it says what there is
    if len(outputs) != 1:
        raise _several(model, next(iter(outputs)).rpartition(":")[0], len(outputs))
    return next(iter(outputs.items()))


def _output_at(model: keras.Model, path: list[Any]) -> keras.KerasTensor:
    layer, *inner = path
    outputs = outputs_in(model, layer)
    if len(outputs) != 1:
        raise _several(model, layer.name, len(outputs))
    if not inner:
        return outputs[0]
    return lifted(call_of(outputs[0]), [_output_at(layer, inner)], f"to_{inner[-1].name}")[0]


def _several(model: keras.Model, name: str, count: int) -> ValueError:
    return ValueError(
        f"{name} has {count} outputs in {model.name}, or is called {count} times: expected a layer with one output"
    )


class _Cloner:
    """Clones a model with another gradient at its ReLUs.

    Attributes
    ----------
    twins : list of pairs of layers
        Layers and their clones, whose weights are still to be set.
    """

    def __init__(self, method: str) -> None:
        import keras
        import tensorflow as tf

        self.method = method
        self.twins: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []
        self._done: dict[int, Any] = {}  # a layer may be used several times
        self._plain = {getattr(keras.layers, name) for name in _PLAIN}
        self._identities = {getattr(keras.layers, name, None) for name in _IDENTITIES}  # as many as this Keras has
        self._relus = (keras.activations.relu, keras.ops.relu, tf.nn.relu)
        self._relu = _relu(method)

    def clone(self, model: keras.Model) -> keras.Model:
        """Clone a model with a graph. Raises ValueError for a layer that is neither linear nor a ReLU."""
        import keras

        # Calls of augmentations say so by default; Keras overrules it in inference.
        for node in graph_nodes(model):
            if node.arguments.kwargs.get("training") and type(node.operation) not in self._identities:
                raise self._refusal(node.operation.name, "is called with training=True")
        return keras.models.clone_model(model, clone_function=self._twin)

    def _twin(self, layer: Any) -> Any:
        if id(layer) not in self._done:
            self._done[id(layer)] = self._new_twin(layer)
        return self._done[id(layer)]

    def _new_twin(self, layer: Any) -> Any:
        import keras

        from .linear_part import LinearPart

        if has_graph(layer):  # a view of it is not compiled, so that nothing is made for its training
            graph = graph_of(layer)
            return self.clone(keras.Model(graph.input, graph.output, name=layer.name))
        if isinstance(layer, LinearPart):  # it shares the weights of the model's layer
            return layer
        if not isinstance(layer, keras.layers.Layer):
            return self._operation(layer)
        if type(layer) is keras.layers.ReLU:
            self._check_relu(layer, layer.name)
            return keras.layers.Activation(self._relu, name=layer.name, dtype=layer.dtype_policy)
        if type(layer) in self._identities:
            return keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy)
        if type(layer) not in self._plain:
            raise self._refusal(layer.name, f"is a {type(layer).__name__} layer")
        is_relu = self._is_relu(getattr(layer, "activation", None), layer.name)
        config = layer.get_config()
        config |= {"activation": "linear"} if is_relu else {}
        # Weights come from the layer itself. To make some at random would take from the user's random numbers.
        config |= {key: "zeros" for key in config if key.endswith("_initializer")}
        config |= {key: None for key in config if key.endswith(("_regularizer", "_constraint"))}
        config |= {"seed": 0} if "seed" in config else {}
        twin = type(layer).from_config(config)
        if is_relu:
            twin.activation = self._relu
        if layer.weights:
            self.twins.append((layer, twin))
        return twin

    def _operation(self, operation: Any) -> Any:
        import keras

        kind = type(operation).__name__
        if kind == "Relu":
            return keras.layers.Activation(self._relu, name=operation.name)
        if kind not in _PLAIN_OPERATIONS:
            raise self._refusal(operation.name, f"is the operation {kind}")
        return type(operation).from_config(operation.get_config())

    def _is_relu(self, function: Any, name: str) -> bool:
        """Tell a ReLU from no activation. Raises ValueError for another one."""
        import keras

        if isinstance(function, keras.layers.ReLU):
            self._check_relu(function, name)
            return True
        if function is None or function is keras.activations.linear:
            return False
        if function not in self._relus:
            raise self._refusal(name, f"has the activation {getattr(function, '__name__', type(function).__name__)}")
        return True

    def _check_relu(self, relu: keras.layers.ReLU, name: str) -> None:
        others = {"max_value": None, "negative_slope": 0, "threshold": 0}
        for parameter, plain in others.items():
            if (value := getattr(relu, parameter)) != plain and not (parameter == "max_value" and value == math.inf):
                raise self._refusal(name, f"is a ReLU with {parameter}={value}")

    def _refusal(self, name: str, what: str) -> ValueError:
        return not_plain(name, what, self.method)


def _relu(method: str) -> Callable[[Any], Any]:
    """Make a ReLU with the gradient of a method."""
    import tensorflow as tf

    def relu(f: Any) -> tuple[Any, Callable[[Any], Any]]:
        def backward(from_above: Any) -> Any:
            positive = tf.nn.relu(from_above)
            return positive if method == "deconvnet" else tf.where(f > 0, positive, tf.zeros_like(positive))

        return tf.nn.relu(f), backward

    return tf.custom_gradient(relu)
