"""Kernel density in a hidden layer: the layer as a space, and the density of the predicted class as an estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ...input_checks import as_rows
from ...networks import KerasNetwork
from ...networks.keras_graph import call_of, check_graph, find_outputs, has_graph, known_shape, lifted
from ...networks.logits import logit_tensor
from ...spaces.network import NetworkSpace

if TYPE_CHECKING:
    import keras

__all__ = ["ClassDensity", "HiddenLayer"]

_FOLDS = 5


class HiddenLayer(NetworkSpace):
    """The values of a classifier's hidden layer and, in the last K columns, its logits: what `ClassDensity` takes.

    Parameters
    ----------
    classifier : keras.Model
        With a graph and one output of shape (N, K), with or without a softmax.
    layer : str or int, optional
        Whose output to read: name, or index in ``classifier.layers``. By default what the last layer with weights gets.
    name : str, default "hidden layer"
        Its name in results.

    Attributes
    ----------
    n_classes : int
        K.

    Raises
    ------
    TypeError, ValueError
        If the model is not a classifier with a graph, or has no such layer.
    """

    def __init__(self, classifier: keras.Model, *, layer: str | int | None = None, name: str = "hidden layer") -> None:
        check_graph(classifier)
        logits = logit_tensor(classifier)
        hidden = _last_hidden(classifier.outputs[0]) if layer is None else _output_of(classifier, layer)
        (self.n_classes,) = known_shape("logits", logits)
        n_values = int(np.prod(known_shape(name, hidden)))
        network = KerasNetwork(classifier)
        super().__init__(network, [network.named("hidden", hidden), network.named("logits", logits)], [name])
        self.node_shapes = {name: (n_values + self.n_classes,)}

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:  # noqa: D102
        del images
        (name,), (hidden, logits) = self.names, (read[one] for one in self.reads)
        return {name: np.concatenate([as_rows(hidden), logits], axis=1)}

    def hidden(self, images: Any) -> np.ndarray:
        """Read the layer alone, array-like of shape (n, H, W, C) to float64 of shape (n, J)."""
        (values,) = self.transform(images).values()
        return values[:, : -self.n_classes].astype(np.float64)


class ClassDensity(BaseEstimator):
    """Kernel density in a hidden layer: how rare an image's values are in the class that it is taken for.

    An estimator for `OutlierDetector`. The score of a sample is the log-density (natural logarithm) of its values,
    under a Gaussian kernel density of those clean images in which the classifier sees the same class; lower is more
    anomalous.

    As in the authors' code, the values are used as they are: log-densities stay finite in hundreds of dimensions, so
    that nothing asks for fewer. `preprocessing` is for those who want another metric, such as ``PCA(0.99,
    whiten=True)``, which is no longer the published detector. Unlike the authors', the bandwidth is chosen for each
    class, by 5-fold cross-validation of the likelihood, and the classes are the predicted ones for the background too.

    Parameters
    ----------
    n_classes : int
        The last columns of X, so many, are the classifier's logits; the others are the values. See `HiddenLayer`.
    bandwidths : sequence of float, optional
        What to choose from, in units of the root mean variance of the class' values, after preprocessing. By default 12
        from 0.1 to 4.5, evenly on the logarithm.
    preprocessing : transformer, optional
        A clone is fitted for each class on its background alone, and within each fold. Its matrix products may round
        differently in sets of another size; without it an image's score depends on no other image.
    min_class_size : int, default 20
        A class with fewer background images gets the density of the whole background.

    Attributes
    ----------
    densities_ : list of Pipeline
        The fitted density of each class.
    pooled_classes_ : list of int
        The classes with too few images, whose density is that of the whole background.

    References
    ----------
    R. Feinman, R. R. Curtin, S. Shintre, A. B. Gardner, Detecting Adversarial Samples from Artifacts, 2017,
    arXiv:1703.00410. Code: github.com/rfeinman/detecting-adversarial-samples.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        bandwidths: Sequence[float] | None = None,
        preprocessing: Any = None,
        min_class_size: int = 20,
    ) -> None:
        self.n_classes = n_classes
        self.bandwidths = bandwidths
        self.preprocessing = preprocessing
        self.min_class_size = min_class_size

    def fit(self, X: np.ndarray, y: None = None) -> ClassDensity:
        """Estimate the densities from clean images, ndarray of shape (M, J + n_classes).

        Raises
        ------
        ValueError
            If a parameter is out of range, there are fewer than `min_class_size` images, or the values of a class are
            all alike.
        """
        del y
        bandwidths = np.geomspace(0.1, 4.5, 12) if self.bandwidths is None else np.asarray(self.bandwidths, np.float64)
        if bandwidths.ndim != 1 or not len(bandwidths) or not (bandwidths > 0).all():
            raise ValueError(f"bandwidths must be a list of positive numbers, got {self.bandwidths}")
        if self.min_class_size < _FOLDS:
            raise ValueError(
                f"min_class_size must be at least {_FOLDS}, the number of folds, got {self.min_class_size}"
            )
        hidden, classes = self._divided(X)
        if len(hidden) < self.min_class_size:
            raise ValueError(
                f"expected at least {self.min_class_size} clean inputs (min_class_size), got {len(hidden)}"
            )
        counts = np.bincount(classes, minlength=self.n_classes)
        self.pooled_classes_ = np.flatnonzero(counts < self.min_class_size).tolist()
        pooled = self._density(hidden, bandwidths, "the whole background") if self.pooled_classes_ else None
        self.densities_ = [
            pooled
            if label in self.pooled_classes_
            else self._density(hidden[classes == label], bandwidths, f"class {label}")
            for label in range(len(counts))
        ]
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        """Compute the log-density of each sample, ndarray of shape (n, J + n_classes) to float64 of shape (n,)."""
        check_is_fitted(self)
        hidden, classes = self._divided(X)
        scores = np.empty(len(hidden))
        for label in np.unique(classes).tolist():
            own = classes == label
            scores[own] = self.densities_[label].score_samples(hidden[own])
        return scores

    def _divided(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        X = np.asarray(X, np.float64)
        return X[:, : -self.n_classes], X[:, -self.n_classes :].argmax(axis=1)

    def _density(self, values: np.ndarray, bandwidths: np.ndarray, of: str) -> Pipeline:
        before = "passthrough" if self.preprocessing is None else clone(self.preprocessing)
        density = Pipeline([("preprocessing", before), ("density", KernelDensity())])
        unit = np.sqrt(np.var(density[:1].fit_transform(values), axis=0).mean())
        if not unit > 0:
            raise ValueError(f"all {len(values)} background images of {of} have the same values in the layer")
        # Shuffled, because images may come in an order that means something.
        folds = KFold(_FOLDS, shuffle=True, random_state=0)
        return GridSearchCV(density, {"density__bandwidth": unit * bandwidths}, cv=folds).fit(values).best_estimator_


def _output_of(model: keras.Model, layer: str | int) -> keras.KerasTensor:
    tensors = find_outputs(model, [layer])
    if len(tensors) != 1:
        raise ValueError(f"layer {layer!r} must have one output, it has {', '.join(tensors)}")
    return next(iter(tensors.values()))


def _last_hidden(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Walk back to the last layer that has weights, also into a model within the model, and return its input."""
    call = call_of(tensor)
    layer, position, arguments = call
    if len(arguments.keras_tensors) != 1:
        raise ValueError(
            "cannot tell what the last hidden layer is: on the way back from the output, "
            f"{layer.name} has no weights and {len(arguments.keras_tensors)} inputs; name the layer"
        )
    (before,) = arguments.keras_tensors
    if not getattr(layer, "weights", None):
        return _last_hidden(before)
    if not has_graph(layer):
        return before
    inner = _last_hidden(layer.outputs[position])
    return before if inner is layer.inputs[0] else lifted(call, [inner], "hidden")[0]
