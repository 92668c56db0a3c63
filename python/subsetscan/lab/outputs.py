"""What a classifier's outputs mean: probabilities or logits, of K classes or of one neuron that tells two apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._extras import import_extra
from .._labels import predicted_labels
from ..networks.keras_graph import check_graph

if TYPE_CHECKING:
    import keras

__all__ = ["Outputs", "find_outputs", "last_step", "raw_outputs"]

_SUM_TOLERANCE = 1e-2  # of probabilities in half precision
_LINEAR = {"BiasAdd", "AddV2", "Add", "MatMul"}
_SQUASHING = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Outputs:
    """What the outputs of a classifier are.

    Attributes
    ----------
    n_neurons : int
        One for each class; or a single one, which tells class 1 from class 0.
    from_logits : bool
        Whether they are logits, rather than probabilities.
    why : str
        How that is known.
    from_graph : bool
        Whether it is known from what the network ends in, whatever the images.
    """

    n_neurons: int
    from_logits: bool
    why: str
    from_graph: bool = False

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return max(2, self.n_neurons)

    @property
    def made_from(self) -> dict[str, Any]:
        """What a kept attack depends on besides the network: nothing, where it ends in a softmax over its classes."""
        known = self.from_graph and not self.from_logits and self.n_neurons >= 2
        return {} if known else {"from_logits": self.from_logits, "n_neurons": self.n_neurons}

    def labels(self, values: np.ndarray) -> np.ndarray:
        """Return the label of each row of outputs, int64 of shape (N,)."""
        if self.n_neurons == 1 and self.from_logits:
            return predicted_labels(np.concatenate([np.zeros_like(values), values], axis=1))
        return predicted_labels(values)

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Return the probability of each class for each row of outputs, of shape (N, n_classes)."""
        from scipy.special import expit, softmax

        if self.n_neurons == 1:
            ones = expit(values) if self.from_logits else values
            return np.concatenate([1 - ones, ones], axis=1)
        return softmax(values, axis=1) if self.from_logits else values

    def __str__(self) -> str:
        kind = "logit" if self.from_logits else "probability"
        if self.n_neurons == 1:
            return f"the classifier's one output is taken for the {kind} of class 1, because {self.why}"
        kind = "logits" if self.from_logits else "probabilities"
        return f"the classifier's {self.n_neurons} outputs are taken for {kind}, because {self.why}"


def find_outputs(classifier: keras.Model, images: np.ndarray, from_logits: bool | None = None) -> Outputs:
    """Find out what a classifier's outputs are: from its graph, or else from its outputs for all of the images.

    Parameters
    ----------
    classifier : keras.Model
        With a graph, one input, and one output of shape (None, K).
    images : ndarray of shape (N, ...)
        They are read only where the graph does not tell.
    from_logits : bool, optional
        Whether the outputs are logits, where that is known already.

    Raises
    ------
    TypeError
        If the model is not a Keras model, or has no graph.
    ValueError
        If the outputs are of another shape, NaN, or neither probabilities nor logits, or not what `from_logits` says.
    """
    check_graph(classifier)
    n_neurons = _count_neurons(classifier)
    operation = _last_operation(classifier)
    if (end := _SQUASHING.get(operation)) is not None:
        if (end == "softmax") == (n_neurons == 1):
            raise ValueError(_NO_CLASSES[end].format(classifier.name, n_neurons))
        if from_logits:
            raise ValueError(
                f"{classifier.name} ends in a {end}: its outputs are probabilities, from_logits must not be True"
            )
        return Outputs(n_neurons, False, f"the network ends in a {end}", from_graph=True)
    if from_logits:
        return Outputs(n_neurons, True, "that was asked for")
    values = raw_outputs(classifier, images)
    if not np.isfinite(values).all():
        rows = ~np.isfinite(values).all(axis=1)
        raise ValueError(f"{classifier.name} gives NaN or infinite outputs, first for image {rows.argmax()}")
    if from_logits is False:
        _check_probabilities(classifier, values)
        return Outputs(n_neurons, False, "that was asked for")
    return _from_values(classifier, values, linear=operation in _LINEAR)


_NO_CLASSES = {
    "softmax": "{} ends in a softmax over {} neuron, which always gives 1: use a sigmoid, or a neuron for each class",
    "sigmoid": "{} ends in {} sigmoid neurons, which give an image several labels: attacks need a classifier "
    "that gives it one, with a softmax over the classes, or logits",
}


def _count_neurons(classifier: keras.Model) -> int:
    shapes = [tuple(output.shape) for output in classifier.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or not shapes[0][1]:
        received = ", ".join(map(str, shapes))
        raise ValueError(
            f"{classifier.name} is not a classifier: expected one output of shape (None, K), a score for each of K "
            f"classes or one that tells two apart, got {received}"
        )
    return int(shapes[0][1])


def _from_values(classifier: keras.Model, values: np.ndarray, *, linear: bool) -> Outputs:
    """Tell by the outputs themselves, and by whether they come out of a linear layer."""
    n_neurons = values.shape[1]
    of_images = f"for {'all ' * (len(values) > 1)}{len(values)} images"
    if not len(values):
        return Outputs(n_neurons, linear, "there are no images to tell by")
    if n_neurons == 1 and linear and _in_unit(values):
        raise ValueError(
            f"{classifier.name} ends in one linear neuron, but its outputs lie in [0, 1] {of_images}: say whether "
            "they are logits or probabilities (from_logits=True or False; --from-logits or --from-probabilities)"
        )
    if _are_probabilities(values):
        what = "it lies in [0, 1]" if n_neurons == 1 else "they lie in [0, 1] and sum to 1"
        return Outputs(n_neurons, False, f"{what} {of_images}")
    if linear:
        return Outputs(n_neurons, True, "the network ends in a linear layer")
    if _in_unit(values):
        raise ValueError(
            f"{classifier.name} has {n_neurons} outputs that lie in [0, 1] and do not sum to 1 {of_images}: a "
            "classifier that gives an image several labels cannot be attacked; if they are logits after all, say so "
            "(from_logits=True, --from-logits)"
        )
    return Outputs(
        n_neurons,
        True,
        f"{'it ranges' if n_neurons == 1 else 'they range'} from {values.min():.3g} to {values.max():.3g}",
    )


def _in_unit(values: np.ndarray) -> bool:
    return bool((values >= 0).all() and (values <= 1 + 1e-6).all())


def _are_probabilities(values: np.ndarray) -> bool:
    sums = values.sum(axis=1)
    return _in_unit(values) and (values.shape[1] == 1 or bool(np.abs(sums - 1).max(initial=0) <= _SUM_TOLERANCE))


def _check_probabilities(classifier: keras.Model, values: np.ndarray) -> None:
    if len(values) and not _are_probabilities(values):
        sums = values.sum(axis=1)
        summed = f", with sums from {sums.min():.3g} to {sums.max():.3g}" if values.shape[1] > 1 else ""
        raise ValueError(
            f"the outputs of {classifier.name} are not probabilities: they range from {values.min():.3g} to "
            f"{values.max():.3g}{summed}; if they are logits, say so (from_logits=True, --from-logits)"
        )


def raw_outputs(classifier: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return a classifier's outputs as they are, float32 or float64 of shape (N, K)."""
    if not len(images):
        return np.empty((0, _count_neurons(classifier)), np.float32)
    keras = import_extra("keras", "keras")
    # Of a model whose output was given as a list of one there comes such a list.
    (values,) = keras.tree.flatten(classifier.predict(images, verbose=0))
    values = np.asarray(values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def last_step(traced: Any) -> tuple[str, Any]:
    """Return the type of the TensorFlow operation that ends in a traced tensor, and what goes into it, if anything."""
    while traced.op.type in ("Identity", "Cast"):
        traced = traced.op.inputs[0]
    return traced.op.type, traced.op.inputs[0] if len(traced.op.inputs) else None


def _last_operation(classifier: keras.Model) -> str:
    """Trace a network, however deep its layers are nested, and say in which operation it ends."""
    import keras
    import tensorflow as tf

    view = keras.Model(classifier.inputs[0], classifier.outputs[0])
    images = tf.TensorSpec(view.inputs[0].shape, view.inputs[0].dtype)
    traced = tf.function(lambda x: view(x, training=False)).get_concrete_function(images)
    return last_step(traced.outputs[0])[0]
