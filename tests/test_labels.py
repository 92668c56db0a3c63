"""Labels from whatever a classifier gives, and classifiers of several packages as functions."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from subsetscan._labels import as_callable, predicted_labels


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ([3, 0, 2], [3, 0, 2]),
        ([[3], [0]], [3, 0]),
        ([[0.2, 0.8], [0.9, 0.1]], [1, 0]),
        ([[-5.0, -7.0, -6.0]], [0]),
        ([[0, 1, 0], [1, 0, 0]], [1, 0]),
        ([[-np.inf, 0.0]], [1]),
        ([0.4, 0.6], [0, 1]),
        ([[0.5], [0.500001], [0.0], [1.0]], [0, 1, 0, 1]),
        ([0.0, 2.0, -1.0], [0, 2, -1]),
        (np.array([0.25, 1], np.float16), [0, 1]),
        (np.empty((0, 3)), []),
        (np.empty((0, 1)), []),
    ],
)
def test_labels_of_outputs(outputs, labels):
    found = predicted_labels(outputs)
    assert (found.tolist(), found.dtype, found.ndim) == (labels, np.int64, 1)


def test_labels_that_are_no_numbers():
    assert predicted_labels([["cat"], ["dog"]]).tolist() == ["cat", "dog"]
    assert predicted_labels(np.array(["cat", "dog"], object)).tolist() == ["cat", "dog"]
    assert predicted_labels([True, False]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        ([0.5, 1.5], ValueError, r"got 0.5 to 1.5, outside \[0, 1\]: return labels, or a score for each class"),
        ([[-0.5], [0.5]], ValueError, r"got -0.5 to 0.5, outside \[0, 1\]"),
        ([0.5, np.inf], ValueError, "got 0.5 to inf, outside"),
        ([0.5, np.nan, np.nan], ValueError, "outputs are NaN for 2 inputs, the first is input 1"),
        ([[0.5, 0.5], [0.1, np.nan]], ValueError, "outputs are NaN for 1 inputs, the first is input 1"),
        (np.zeros((2, 3, 3)), ValueError, r"got float64 of shape \(2, 3, 3\)"),
        (np.zeros((2, 0)), ValueError, r"got float64 of shape \(2, 0\)"),
        (5, ValueError, r"got int64 of shape \(\)"),
        ([["a", "b"]], TypeError, r"a score for each class must be a number, got dtype <U1 of shape \(1, 2\)"),
        ([1j], TypeError, "labels must be integers, booleans or strings, got dtype complex128"),
        ([None], TypeError, "got dtype object"),
    ],
)
def test_outputs_that_are_no_labels(outputs, error, message):
    with pytest.raises(error, match=message):
        predicted_labels(outputs)


@pytest.fixture
def data(images):
    """Images and their classes: the half that is brighter on the left, and the other."""
    return images, (images[:, :, :4].mean(axis=(1, 2, 3)) < images[:, :, 4:].mean(axis=(1, 2, 3))).astype(int)


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(),
        LinearSVC(),
        make_pipeline(PCA(10), LogisticRegression()),
        GridSearchCV(LogisticRegression(), {"C": [1, 2]}),
    ],
)
def test_scikit_learn_gets_rows(data, classifier):
    images, labels = data
    classifier.fit(images.reshape(len(images), -1), labels)
    expected = classifier.predict(images.reshape(len(images), -1))
    assert np.array_equal(predicted_labels(as_callable(classifier)(images)), expected)
    names = np.array(["left", "right"])
    classifier.fit(images.reshape(len(images), -1), names[labels])
    assert np.array_equal(predicted_labels(as_callable(classifier)(images)), names[expected])


def test_classifiers_of_the_toolbox(data):
    estimators = pytest.importorskip("art.estimators.classification")
    images, labels = data
    rows = images.reshape(len(images), -1)
    model = LogisticRegression().fit(rows, labels)
    found = as_callable(estimators.SklearnClassifier(model, clip_values=(0, 1)))(rows)
    assert found.shape == (len(images), 2)
    assert np.array_equal(predicted_labels(found), model.predict(rows))
    black_box = estimators.BlackBoxClassifierNeuralNetwork(
        lambda x: model.predict_proba(x.reshape(len(x), -1)), (8, 8, 1), 2, channels_first=False
    )
    assert np.array_equal(predicted_labels(as_callable(black_box)(images)), model.predict(rows))


def test_keras_models_and_functions(data, rng):
    keras = pytest.importorskip("keras")
    images, _ = data
    layers = keras.layers
    for n in (1, 3):
        head = layers.Dense(n, activation="sigmoid" if n == 1 else "softmax")
        model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), head])
        kernel = rng.normal(size=(64, n))
        head.set_weights([kernel, -(images.mean(axis=0).ravel() @ kernel)])  # so that every class is seen
        scores = model.predict(images, verbose=0)
        expected = scores[:, 0] > 0.5 if n == 1 else scores.argmax(axis=1)
        assert len(set(expected.tolist())) > 1
        assert np.array_equal(predicted_labels(as_callable(model)(images)), expected)
    assert predicted_labels(as_callable(lambda own: np.arange(len(own)))(images[:3])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (LinearRegression(), "got LinearRegression: a scikit-learn estimator that predicts no classes"),
        (KMeans(), "got KMeans: a scikit-learn estimator that predicts no classes"),
        (IsolationForest(), "got IsolationForest: a scikit-learn estimator that predicts no classes"),
        (make_pipeline(PCA(2), LinearRegression()), "got Pipeline: a scikit-learn estimator that predicts no classes"),
        (LogisticRegression, "got the class LogisticRegression: create an instance"),
        ("model.keras", "got str, which can neither be called nor predict"),
        (np.zeros(3), "got ndarray, which can neither be called nor predict"),
    ],
)
def test_what_is_no_classifier(classifier, message):
    with pytest.raises(TypeError, match=message):
        as_callable(classifier)
