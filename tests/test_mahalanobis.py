"""Mahalanobis' distance: against scikit-learn's estimate of the covariance, left out one by one, saved and loaded."""

import warnings

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.covariance import LedoitWolf
from sklearn.utils.estimator_checks import check_estimator

from subsetscan.calibration import conformal_p_values
from subsetscan.detectors import MahalanobisDetector, load_detector


@pytest.fixture(params=[(300, 20), (80, 120)], ids=["more images", "more nodes"])
def clean(request, rng):
    n, width = request.param
    return rng.normal(size=(n, 6)) @ rng.normal(size=(6, width)) + rng.normal(2, 0.5, size=(n, width))


def standardised(of, clean, images):
    """Return rows as the detector reads them."""
    if of == "ranks":
        clean, images = rankdata(clean, axis=1), rankdata(images, axis=1)
    mean, scale = clean.mean(axis=0), clean.std(axis=0)
    return (clean - mean) / scale, (images - mean) / scale


@pytest.mark.parametrize("of", ["values", "ranks"])
def test_distances_are_those_of_scikit_learn(clean, rng, of):
    images = clean[:7] + rng.normal(size=(7, clean.shape[1]))
    detector = MahalanobisDetector(of=of).fit(clean)
    z, z_images = standardised(of, clean, images)
    theirs = LedoitWolf(assume_centered=True).fit(z)
    assert detector.residuals_.shrinkage_ == pytest.approx(theirs.shrinkage_)
    assert detector.anomaly_score(images) == pytest.approx(theirs.mahalanobis(z_images), rel=1e-6)
    p_values = conformal_p_values(detector.anomaly_score(images), detector.null_scores_)
    assert np.array_equal(detector.p_values(images), p_values)


def test_null_scores_are_distances_by_a_fit_and_a_scale_without_the_image(clean):
    detector = MahalanobisDetector().fit(clean)
    shrinkage, n = detector.residuals_.shrinkage_, len(clean)
    scale_of_all, off, moved = clean.std(axis=0), [], []
    for i in range(n):
        others = np.delete(clean, i, axis=0)
        found = []
        for scale in (others.std(axis=0), scale_of_all):
            z = (others - others.mean(axis=0)) / scale
            covariance = (1 - shrinkage) * z.T @ z / n + shrinkage * np.eye(z.shape[1])
            own = (clean[i] - others.mean(axis=0)) / scale
            found.append(own @ np.linalg.solve(covariance, own))
        off.append(detector.null_scores_[i] - found[0])
        moved.append(found[0] - found[1])
    assert np.mean(moved) > 0
    assert np.abs(off).mean() < 0.2 * np.abs(moved).mean()  # it is a first order


@pytest.mark.parametrize("of", ["values", "ranks"])
@pytest.mark.parametrize("n_nodes", [90, 400])
def test_the_rate_holds_where_there_are_many_nodes(of, n_nodes):
    """By the scale of all inputs 6 to 13 % were flagged."""
    flagged, n_fits = [], 20
    for seed in range(n_fits):
        rng = np.random.default_rng(seed)
        mixed = np.eye(n_nodes) + 0.3 * rng.normal(size=(n_nodes, n_nodes)) / n_nodes**0.5
        clean, others = (rng.normal(size=(n, n_nodes)) @ mixed for n in (100, 400))
        flagged.append(np.mean(MahalanobisDetector(of=of).fit(clean).predict(others) == -1))
    assert 0.02 < np.mean(flagged) < 0.05 + 3 * np.std(flagged) / n_fits**0.5


@pytest.mark.parametrize("of", ["values", "ranks"])
def test_saved_and_loaded(clean, tmp_path, of):
    detector = MahalanobisDetector(of=of).fit(clean)
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector")
    assert isinstance(loaded, MahalanobisDetector)
    assert np.array_equal(loaded.p_values(clean[:9]), detector.p_values(clean[:9]))


def test_nodes_that_do_not_vary_and_ones_that_are_alike(rng):
    clean = np.repeat(rng.normal(size=(50, 3)), 2, axis=1)
    clean[:, 5] = 1
    detector = MahalanobisDetector().fit(clean)
    assert np.isfinite(detector.null_scores_).all()
    assert detector.anomaly_score([[0, 3, 0, 0, 0, 1]])[0] > detector.null_scores_.max()


def test_what_is_refused(clean):
    with pytest.raises(ValueError, match="of must be one of 'ranks', 'values', got 'pixels'"):
        MahalanobisDetector(of="pixels").fit(clean)


def test_the_contract_of_scikit_learn():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*null scores cannot give a p-value")
        warnings.filterwarnings("ignore", message="Skipping check check_array_api_input")
        results = check_estimator(MahalanobisDetector())
    assert {result["status"] for result in results} <= {"passed", "skipped"}
