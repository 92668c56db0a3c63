"""Other people's detectors over a Keras classifier's images, to compare with. The test of whole sets is in mmd.py."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline

from .._extras import import_extra
from ..spaces.base import as_rows, check_images
from ..spaces.keras import KerasLayers, NetworkSpace, check_graph, known_shape, logit_tensor

if TYPE_CHECKING:
    import keras

__all__ = ["FeatureSqueezing", "HiddenDensity"]

_FOLDS = 5
_FARTHEST = 10.0  # no attack takes pixels that far; an image of 0 to 255 has some


class FeatureSqueezing:
    """Feature squeezing: how far the class probabilities move when an image loses detail.

    The score is the largest L1 distance, over the squeezers, between the probabilities of the image and of the squeezed
    image: between 0 and 2, higher is more anomalous. Nothing is fitted. Squeezers are those of the Adversarial
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

    Raises
    ------
    TypeError, ValueError
        If the model is no classifier of images, a number is out of range, or there is no squeezer.

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
    ) -> None:
        check_graph(classifier)
        shape = tuple(classifier.inputs[0].shape[1:])
        if len(shape) != 3:
            raise ValueError(f"expected a classifier of images (H, W, C), {classifier.name} takes {shape}")
        self._reader = _Reader(classifier, {"logits": logit_tensor(classifier)})
        if bit_depths is None:
            bit_depths = (1,) if shape[-1] == 1 else (5,)
        bit_depths, windows = _integers("bit_depths", bit_depths, 64), _integers("windows", windows)
        art = _art_preprocessors()
        library = [art.FeatureSqueezing(clip_values=(0, 1), bit_depth=bits) for bits in bit_depths]
        library += [art.SpatialSmoothing(window_size=size, clip_values=(0, 1)) for size in windows]
        self._squeezers = [*map(_images_alone, library), *others]
        if not self._squeezers:
            raise ValueError("no squeezer: give at least one of bit_depths, windows and others")

    def score(self, images: Any) -> np.ndarray:
        """Score images.

        Parameters
        ----------
        images : array-like of shape (n, H, W, C)

        Returns
        -------
        ndarray of shape (n,), float64

        Raises
        ------
        ValueError
            If the images have the wrong shape, a pixel is NaN or infinite, or beyond 10 either way, as in images of 0
            to 255.
        """
        images = check_images(images, self._reader.model.inputs[0].shape[1:])
        farthest = float(np.abs(images).max(initial=0))
        if farthest > _FARTHEST:
            raise ValueError(
                f"images must be in [0, 1], or little beyond after an attack; a pixel is {farthest:g} from 0"
            )
        scores = np.zeros(len(images))
        if not len(images):
            return scores
        probabilities, clipped = self._probabilities(images), np.clip(images, 0, 1)
        for squeeze in self._squeezers:
            distances = np.abs(probabilities - self._probabilities(squeeze(clipped))).sum(axis=1)
            np.maximum(scores, distances, out=scores)
        return scores

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        return softmax(self._reader.transform(images)["logits"], axis=1)


class HiddenDensity:
    """Kernel density in the last hidden layer: how rare an image's values are in the class that it is taken for.

    The score is minus the log-density (natural logarithm) of the values, under a Gaussian kernel density of those clean
    images in which the classifier sees the same class; higher is more anomalous.

    As in the authors' code, the values are used as they are: log-densities stay finite in hundreds of dimensions, so
    that nothing asks for fewer. `preprocessing` is for those who want another metric, such as ``PCA(0.99,
    whiten=True)``, which is no longer the published detector. Unlike the authors', the bandwidth is chosen for each
    class, by 5-fold cross-validation of the likelihood, and the classes are the predicted ones for the background too.

    Parameters
    ----------
    classifier : keras.Model
        With a graph and one output of shape (N, K), with or without a softmax.
    layer : str or int, optional
        Whose output to read: name, or index in ``classifier.layers``. By default what the last layer with weights gets.
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

    Raises
    ------
    TypeError, ValueError
        If the model is no classifier with a graph, there is no such layer, or a number is out of range.

    References
    ----------
    R. Feinman, R. R. Curtin, S. Shintre, A. B. Gardner, Detecting Adversarial Samples from Artifacts, 2017,
    arXiv:1703.00410. Code: github.com/rfeinman/detecting-adversarial-samples.
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        layer: str | int | None = None,
        bandwidths: Sequence[float] | None = None,
        preprocessing: Any = None,
        min_class_size: int = 20,
    ) -> None:
        check_graph(classifier)
        logits = logit_tensor(classifier)
        hidden = _last_hidden(classifier.outputs[0]) if layer is None else _output_of(classifier, layer)
        self._reader = _Reader(classifier, {"logits": logits, "hidden": hidden})
        self.bandwidths = np.geomspace(0.1, 4.5, 12) if bandwidths is None else np.asarray(bandwidths, np.float64)
        if self.bandwidths.ndim != 1 or not len(self.bandwidths) or not (self.bandwidths > 0).all():
            raise ValueError(f"bandwidths must be a list of positive numbers, got {bandwidths}")
        if min_class_size < _FOLDS:
            raise ValueError(f"min_class_size must be at least {_FOLDS}, the number of folds, got {min_class_size}")
        self.preprocessing = preprocessing
        self.min_class_size = min_class_size

    def fit(self, images: Any) -> HiddenDensity:
        """Estimate the densities from clean images, array-like of shape (M, H, W, C).

        Raises
        ------
        ValueError
            If there are fewer than `min_class_size` images, or the values of a class are all alike.
        """
        hidden, classes = self._read(images)
        if len(hidden) < self.min_class_size:
            raise ValueError(
                f"expected at least {self.min_class_size} clean images (min_class_size), got {len(hidden)}"
            )
        counts = np.bincount(classes, minlength=self._reader.node_shapes["logits"][0])
        self.pooled_classes_ = np.flatnonzero(counts < self.min_class_size).tolist()
        pooled = self._density(hidden, "the whole background") if self.pooled_classes_ else None
        self.densities_ = [
            pooled if label in self.pooled_classes_ else self._density(hidden[classes == label], f"class {label}")
            for label in range(len(counts))
        ]
        return self

    def score(self, images: Any) -> np.ndarray:
        """Score images, array-like of shape (n, H, W, C): float64 of shape (n,). Raises ValueError before `fit`."""
        if not hasattr(self, "densities_"):
            raise ValueError("no densities yet: call fit with clean images first")
        hidden, classes = self._read(images)
        scores = np.empty(len(hidden))
        for label in np.unique(classes).tolist():
            own = classes == label
            scores[own] = -self.densities_[label].score_samples(hidden[own])
        return scores

    def hidden(self, images: Any) -> np.ndarray:
        """Read the hidden layer, array-like of shape (n, H, W, C) to float64 of shape (n, J). No fit is needed."""
        return self._read(images)[0]

    def _read(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        read = self._reader.transform(images)
        return read["hidden"], read["logits"].argmax(axis=1)

    def _density(self, values: np.ndarray, of: str) -> Pipeline:
        before = "passthrough" if self.preprocessing is None else clone(self.preprocessing)
        density = Pipeline([("preprocessing", before), ("density", KernelDensity())])
        unit = np.sqrt(np.var(density[:1].fit_transform(values), axis=0).mean())
        if not unit > 0:
            raise ValueError(f"the {len(values)} background images of {of} have all the same values in the layer")
        # Shuffled, because images may come in an order that means something.
        folds = KFold(_FOLDS, shuffle=True, random_state=0)
        return (
            GridSearchCV(density, {"density__bandwidth": unit * self.bandwidths}, cv=folds).fit(values).best_estimator_
        )


class _Reader(NetworkSpace):
    """Tensors of a classifier, a row for each image, in batches of one size."""

    def __init__(self, classifier: keras.Model, tensors: Mapping[str, keras.KerasTensor]) -> None:
        super().__init__(classifier, tensors, {name: known_shape(name, tensor) for name, tensor in tensors.items()})

    def values(self, images: np.ndarray, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        del images
        return {name: as_rows(array).astype(np.float64) for name, array in read.items()}


def _art_preprocessors() -> Any:
    with warnings.catch_warnings():
        # The toolbox warns of every framework that is not installed.
        warnings.filterwarnings("ignore", category=UserWarning, module="art")
        return import_extra("art.defences.preprocessor", "attacks")


def _images_alone(preprocessor: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: preprocessor(images)[0]  # beside them it returns labels


def _output_of(model: keras.Model, layer: str | int) -> keras.KerasTensor:
    tensors = KerasLayers(model, [layer]).tensors
    if len(tensors) != 1:
        raise ValueError(f"layer {layer!r} must have one output, it has {', '.join(tensors)}")
    return next(iter(tensors.values()))


def _last_hidden(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Walk back to the last layer that has weights, also into a model within the model, and return its input."""
    import keras

    layer, call, position = tensor._keras_history
    arguments = layer._inbound_nodes[call].arguments
    if len(arguments.keras_tensors) != 1:
        raise ValueError(
            "cannot tell what the last hidden layer is: on the way back from the output, "
            f"{layer.name} has no weights and {len(arguments.keras_tensors)} inputs; name the layer"
        )
    (before,) = arguments.keras_tensors
    if not getattr(layer, "weights", None):
        return _last_hidden(before)
    if not (isinstance(layer, keras.Model) and getattr(layer, "outputs", None)):
        return before
    inner = _last_hidden(layer.outputs[position])
    if inner is layer.inputs[0]:
        return before
    name = f"{layer.name}_hidden_{keras.backend.get_uid('hidden')}"  # names in a graph must differ
    return keras.Model(layer.inputs, inner, name=name)(before)


def _integers(name: str, values: Sequence[int], highest: int | None = None) -> list[int]:
    result = [operator.index(value) for value in values]
    if any(value < 1 or (highest is not None and value > highest) for value in result):
        raise ValueError(f"{name} must be at least 1{f', at most {highest}' if highest else ''}, got {values}")
    return result
