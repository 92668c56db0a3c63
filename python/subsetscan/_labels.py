"""Labels from whatever a classifier gives: labels themselves, a score for each class, or one probability."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import gen_batches

from ._validation import InvalidTypeError, refuse_masked

__all__ = ["as_callable", "fingerprint_of_classifier", "predict_labels", "predicted_labels"]


_ROUNDING = 1e-6  # how far beyond [0, 1] a sum of probabilities may round


def predicted_labels(outputs: Any) -> np.ndarray:
    """Turn a classifier's outputs into the label of each input.

    Parameters
    ----------
    outputs : array-like of shape (n,), (n, 1) or (n, K)
        A score for each of K >= 2 classes, probability or logit, whose largest is the label; or one column: integers,
        booleans and strings are labels, and so are floats that are whole numbers; other floats in [0, 1] are the
        probability of class 1, which is the label where it exceeds 0.5.

    Returns
    -------
    ndarray of shape (n,)
        int64, but for labels that are booleans or strings.

    Raises
    ------
    TypeError
        If the outputs are neither numbers nor labels.
    ValueError
        If the shape is another one, a score is NaN, or one column of scores leaves [0, 1].

    Examples
    --------
    >>> predicted_labels([[0.1, 0.7, 0.2], [2.0, -1.0, 0.5]]).tolist()
    [1, 0]
    >>> predicted_labels([[0.3], [0.8]]).tolist()
    [0, 1]
    """
    refuse_masked(outputs, "a classifier's outputs")
    array = np.asarray(outputs)
    if array.ndim not in (1, 2) or 0 in array.shape[1:]:
        raise ValueError(
            "a classifier's outputs must be labels of shape (n,) or scores of shape (n, K), "
            f"got {array.dtype} of shape {array.shape}"
        )
    if array.ndim == 2 and array.shape[1] >= 2:
        return _largest(array)
    column = array.ravel()
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    if column.dtype.kind in "bU" or (column.dtype == object and all(isinstance(label, str) for label in column)):
        return column
    return _from_scores(column)


def _largest(scores: np.ndarray) -> np.ndarray:
    if scores.dtype.kind not in "biuf":
        raise InvalidTypeError(
            f"a score for each class must be a number, got dtype {scores.dtype} of shape {scores.shape}"
        )
    _refuse_nan(scores)
    return scores.argmax(axis=1).astype(np.int64)


def _from_scores(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind != "f":
        raise InvalidTypeError(f"labels must be integers, booleans or strings, got dtype {column.dtype}")
    _refuse_nan(column)
    if (np.isfinite(column) & (column == np.rint(column))).all():
        return column.astype(np.int64)
    if column.min() < -_ROUNDING or column.max() > 1 + _ROUNDING:
        raise ValueError(
            f"a single column of scores must be probabilities, got {column.min():.8g} to {column.max():.8g}, outside "
            "[0, 1]: return labels, or a score for each class"
        )
    return (column > 0.5).astype(np.int64)


def _refuse_nan(scores: np.ndarray) -> None:
    rows = np.isnan(scores) if scores.ndim == 1 else np.isnan(scores).any(axis=1)
    if rows.any():
        raise ValueError(
            f"the classifier's outputs are NaN for {rows.sum()} inputs, the first is input {rows.argmax()}"
        )


def as_callable(classifier: Any) -> Callable[[np.ndarray], Any]:
    """Take a classifier of any kind as a function from inputs to outputs that `predicted_labels` reads.

    Parameters
    ----------
    classifier : callable, or object with a method predict
        A function or a Keras model is called with inputs (n, ...) as they are; so is the ``predict`` of a classifier of
        the Adversarial Robustness Toolbox. A scikit-learn classifier, or a pipeline that ends in one, gets rows (n, J).

    Raises
    ------
    TypeError
        If it is something else, such as a class instead of an object, or an estimator that is not a classifier.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> images = np.zeros((3, 8, 8, 1))
    >>> classify = as_callable(DummyClassifier().fit(images.reshape(3, -1), [4, 4, 2]))
    >>> predicted_labels(classify(images)).tolist()
    [4, 4, 4]
    """
    kind = type(classifier).__name__
    if isinstance(classifier, type):
        raise InvalidTypeError(
            f"expected a classifier, got the class {classifier.__name__}: create an instance and train it"
        )
    if isinstance(classifier, BaseEstimator) or hasattr(classifier, "__sklearn_tags__"):
        if not is_classifier(classifier):
            raise InvalidTypeError(
                f"expected a classifier, got {kind}: a scikit-learn estimator that predicts no classes"
            )
        return lambda images: classifier.predict(np.asarray(images).reshape(len(images), -1))
    if callable(classifier):
        return classifier
    if callable(predict := getattr(classifier, "predict", None)):
        return predict
    raise InvalidTypeError(
        "expected a classifier: a function of inputs, a Keras model, an ART or a scikit-learn classifier; "
        f"got {kind}, which can neither be called nor predict"
    )


def predict_labels(classify: Callable[[Any], Any], images: Any, batch_size: int) -> np.ndarray:
    """Ask a classifier, as `as_callable` returned it, for the labels of inputs, batch by batch."""
    if not len(images):
        return np.empty(0, np.int64)
    outputs = [np.asarray(classify(images[batch])) for batch in gen_batches(len(images), batch_size)]
    return predicted_labels(np.concatenate(outputs))


def fingerprint_of_classifier(classifier: Any) -> str | None:
    """Return a digest of a classifier's weights, where it is a Keras model or an ART classifier of one; else None."""
    weights = getattr(getattr(classifier, "model", classifier), "get_weights", None)
    if not callable(weights):
        return None
    digest = hashlib.sha256()
    for array in map(np.asarray, weights()):
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
