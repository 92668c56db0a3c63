"""Nodes as features: which are found anomalous most often, and what subsets have in common, beside counts by hand."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from subsetscan import NodeSelector, SubsetScanDetector, overlaps
from subsetscan.detectors import MahalanobisDetector


@pytest.fixture
def data(rng):
    X, y = rng.normal(size=(400, 50)), np.arange(400) % 5 == 0
    X[np.ix_(np.flatnonzero(y), [4, 7, 30])] -= 4
    return X, y


@pytest.mark.parametrize("as_labels", [lambda y: y, lambda y: y.astype(int), lambda y: np.where(y, -1, 1)])
def test_the_most_frequent_nodes_are_selected(data, as_labels):
    X, y = data
    detector = SubsetScanDetector(tail="lower", calibration=None)
    selector = NodeSelector(detector, n_features_to_select=3, share=0.7).fit(X, as_labels(y))
    found = detector.fit(X[~y]).leading(X[y], share=0.7)
    counts = sum(found.mask(n, (50,)).astype(int) for n in range(y.sum()))
    assert np.array_equal(selector.frequencies_, counts / y.sum())
    assert np.array_equal(selector.get_support(indices=True), [4, 7, 30])
    assert np.array_equal(selector.transform(X), X[:, [4, 7, 30]])


def test_as_a_step_of_a_pipeline(data):
    X, y = data
    pipeline = make_pipeline(NodeSelector(n_features_to_select=0.06), LogisticRegression()).fit(X, y)
    assert pipeline.score(X, y) > 0.95
    assert list(pipeline[0].get_feature_names_out()) == ["x4", "x7", "x30"]


def test_fewer_than_asked_for(rng):
    X, y = rng.normal(size=(200, 6)), np.arange(200) >= 198
    X[198:, 2] += 50
    with pytest.warns(UserWarning, match="nodes are in any subset, 6 were asked for"):
        selector = NodeSelector(n_features_to_select=6, share=0.1).fit(X, y)
    assert selector.get_support()[2]
    assert np.array_equal(selector.get_support(), selector.frequencies_ > 0)


def test_where_nothing_is_anomalous(rng):
    X, y = rng.normal(size=(300, 6)), np.arange(300) >= 290
    X[290:] = X[:10].mean(axis=0)
    with pytest.warns(UserWarning, match="0 nodes are in any subset, 2 were asked for: none is selected"):
        selector = NodeSelector(SubsetScanDetector(calibration=None, alpha_max=1e-3), n_features_to_select=2).fit(X, y)
    assert not selector.get_support().any()


class OfAnyLabels(NodeSelector):
    """Takes the labels of scikit-learn's checks, which are of many kinds: the smallest is clean."""

    def fit(self, X, y):
        return super().fit(X, y if y is None else np.asarray(y) != np.min(np.asarray(y)))


@parametrize_with_checks([OfAnyLabels()])
@pytest.mark.filterwarnings("ignore:.* nodes are in any subset", "ignore:No features were selected", "ignore:X is an")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_what_does_not_fit(data):
    X, y = data
    for wrong in (0, 51, -1, 0.0, 1.5, 3.0, True, np.True_, np.float32(1.5), "all"):
        with pytest.raises(ValueError, match="n_features_to_select must be an int from 1 to 50, or a share"):
            NodeSelector(n_features_to_select=wrong).fit(X, y)
    for labels in (np.ones(400), np.zeros(400), np.arange(400) % 3, np.where(y, "odd", "clean")):
        with pytest.raises(ValueError, match="y must say which inputs are anomalous"):
            NodeSelector().fit(X, labels)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        NodeSelector().fit(X, None)
    with pytest.raises(NotFittedError):
        clone(NodeSelector().fit(X, y)).transform(X)
    with pytest.raises(TypeError, match="MahalanobisDetector finds no subsets"):
        NodeSelector(MahalanobisDetector()).fit(X, y)


def test_overlaps_are_counted(rng):
    masks = {name: rng.random((4, 25)) < 0.3 for name in ("a", "b", "c")}
    found = overlaps(masks)
    for n in (1, 2, 3):
        for names in combinations(masks, n):
            just = np.all([mask == (name in names) for name, mask in masks.items()], axis=0).sum()
            assert found.counts.get(names, 0) == just
    assert list(found.counts.values()) == sorted(found.counts.values(), reverse=True)
    assert found.sizes == {name: mask.sum() for name, mask in masks.items()}
    both = (masks["a"] & masks["c"]).sum() / (masks["a"] | masks["c"]).sum()
    assert found.jaccard[0, 2] == found.jaccard[2, 0] == both
    assert np.isnan(overlaps({"none": np.zeros(3, bool)}).jaccard[0, 0])
    with pytest.raises(ValueError, match=r"masks of the same shape, got a \(2,\), b \(3,\)"):
        overlaps({"a": np.ones(2, bool), "b": np.ones(3, bool)})
    with pytest.raises(ValueError, match="masks of the same shape, got none"):
        overlaps({})
    with pytest.raises(TypeError, match=r"must be named by a string, got \('fgsm', 1\)"):
        overlaps({("fgsm", 1): np.ones(2, bool)})
    with pytest.raises(ValueError, match="subset a must not have masked values, got 1"):
        overlaps({"a": np.ma.array([True, False], mask=[True, False])})
    with pytest.raises(TypeError, match="a has dtype int64"):
        overlaps({"a": [0, 1]})


def test_overlaps_are_compared_and_hashed_as_objects():
    found, other = (overlaps({"a": [True], "b": [True]}) for _ in range(2))
    assert found == found
    assert found != other
    assert len({found, other}) == 2


def test_overlaps_of_pandas_have_one_index():
    pd = pytest.importorskip("pandas")
    a, b = pd.Series([True, False], index=["x", "y"]), pd.Series([False, True], index=["y", "x"])
    with pytest.raises(ValueError, match="subsets a and b have different indexes: align them first"):
        overlaps({"plain": [True, False], "a": a, "b": b})
    assert overlaps({"plain": [True, False], "a": a, "b": b[a.index]}).counts == {("plain", "a", "b"): 1}


def test_a_share_of_numpy_is_a_share(data):
    X, y = data
    plain = NodeSelector(n_features_to_select=0.06).fit(X, y).get_support()
    for share in (np.float32(0.06), np.float64(0.06)):
        assert np.array_equal(NodeSelector(n_features_to_select=share).fit(X, y).get_support(), plain)
