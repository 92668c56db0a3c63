"""Residuals of each node given all others: against the plain reference, against covariances, and in bad cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import NotFittedError

from subsetscan import reference
from subsetscan.persistence import load_detector
from subsetscan.residuals import Residuals, on_grid, within_sample_ranks

SMALL = st.integers(-3, 3).map(float) | st.floats(-4, 4, width=16)


@st.composite
def tables(draw, dtype=np.float64):
    n, width = draw(st.integers(2, 8)), draw(st.integers(1, 6))
    return draw(arrays(dtype, (n, width), elements=SMALL)), draw(arrays(dtype, (3, width), elements=SMALL))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, bool])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_ranks_are_those_of_the_reference(rng, dtype, order):
    x = np.asarray(np.round(rng.normal(size=(40, 30)), 1) * 2, order="C").astype(dtype)
    x = x[::3, ::-2] if order == "strided" else np.asarray(x, order=order)
    ranks = within_sample_ranks(x)
    assert ranks.dtype == np.float64
    assert np.array_equal(ranks, rankdata(x, axis=1))
    assert ranks[0].tolist() == reference.within_sample_ranks(x[0].tolist())


@given(arrays(np.float32, (3, 7), elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 1e-45])))
def test_ties_zeros_and_infinities_are_ranked(x):
    assert within_sample_ranks(x).tolist() == [reference.within_sample_ranks(row) for row in x.tolist()]


def test_many_images_are_ranked_as_few_are(rng):
    x = rng.normal(size=(300, 400)).astype(np.float32)  # enough for several threads
    assert np.array_equal(within_sample_ranks(x), np.concatenate([within_sample_ranks(row[None]) for row in x]))
    assert within_sample_ranks(x[:0]).shape == (0, 400)
    with pytest.raises(ValueError, match="NaN"):
        within_sample_ranks([[0.0, np.nan]])


@settings(max_examples=60)
@given(tables(), st.sampled_from([0.1, 0.5, 1.0]))
def test_residuals_are_those_of_the_reference(table, least):
    """Also of the images of the fit, where the reference makes a covariance without each."""
    clean, images = table
    transformer = Residuals(least_shrinkage=least, trim=0)
    inside = transformer.fit_transform(clean)
    assert inside.dtype == np.float32
    assert inside == pytest.approx(np.array(reference.left_out_residuals(clean.tolist(), least)), rel=1e-4, abs=1e-5)
    expected = [reference.residuals(image, clean.tolist(), least) for image in images.tolist()]
    assert transformer.transform(images) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("shape", [(300, 20), (20, 300), (50, 50)])
def test_shrinkage_is_that_of_scikit_learn(rng, shape):
    z = rng.normal(size=(shape[0], 5)) @ rng.normal(size=(5, shape[1])) + rng.normal(size=shape)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    transformer = Residuals(least_shrinkage=1e-9, trim=0).fit(z)
    theirs = LedoitWolf(assume_centered=True).fit(z)
    assert transformer.shrinkage_ == pytest.approx(theirs.shrinkage_, rel=1e-9)
    precision = theirs.precision_
    expected = z @ precision / np.sqrt(np.diag(precision))
    assert transformer.transform(z) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_residuals_of_new_images_are_like_those_of_the_fit(rng):
    """In-sample residuals would be far too small: three times as many new ones would be beyond them."""
    mix = rng.normal(size=(20, 150))
    clean, new = (rng.normal(size=(n, 20)) @ mix + rng.normal(size=(n, 150)) for n in (200, 2000))
    transformer = Residuals()
    inside, outside = np.abs(transformer.fit_transform(clean)), np.abs(transformer.transform(new))
    share = np.mean(outside > np.quantile(inside, 0.95, axis=0))
    assert 0.04 < share < 0.06
    in_sample = np.abs(transformer.transform(clean))
    assert np.mean(outside > np.quantile(in_sample, 0.95, axis=0)) > 0.12


def test_the_farthest_images_do_not_shape_the_fit(rng):
    clean = rng.normal(size=(200, 10))
    clean[::20, :2] = 30 * rng.choice([-1, 1], size=(10, 1))  # a twentieth, far out, two nodes alike
    trimmed, whole = Residuals().fit(clean), Residuals(trim=0).fit(clean)
    assert trimmed.scale_[0] < 2 < whole.scale_[0]
    inside = Residuals().fit_transform(clean)
    assert np.array_equal(inside[::20], trimmed.transform(clean[::20]))
    kept = np.delete(np.arange(200), np.arange(0, 200, 20))
    assert np.array_equal(inside[kept], Residuals(trim=0).fit_transform(clean[kept]))


def test_a_node_that_never_varies_tells_when_it_does(rng):
    clean = rng.normal(size=(100, 5)).astype(np.float32)
    clean[:, 2] = 0.1  # whose mean over 100 images is rounded
    transformer = Residuals()
    assert (transformer.fit_transform(clean)[:, 2] == 0).all()
    new = clean[:3].copy()
    assert (transformer.transform(new)[:, 2] == 0).all()
    new[1, 2] = np.nextafter(np.float32(0.1), np.float32(1))
    assert transformer.transform(new)[:, 2].tolist()[1] > 0
    none = Residuals()
    assert not none.fit_transform(np.ones((5, 3))).any()
    assert (none.transform(np.full((1, 3), 2.0)) > 0).all()


def test_far_values_stay_numbers(rng):
    transformer = Residuals().fit(rng.normal(size=(50, 4)))
    far = transformer.transform([[1e300, 0, -1e300, 0]])
    assert not np.isnan(far).any()
    assert far[0, 0] > 1e30
    assert far[0, 2] < -1e30


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 3)), r"at least 2 inputs and 1 node are needed, got shape \(1, 3\)"),
        (np.zeros((3, 0)), r"at least 2 inputs and 1 node are needed, got shape \(3, 0\)"),
        ([[0.0, 1.0], [np.inf, 2.0]], "finite, got inf at node 0 of input 1"),
        ([[0.0, 1.0], [0.0, np.nan]], "finite, got nan at node 1 of input 1"),
        ([[0.0, 1e200], [0.0, -1e200]], "those of node 1 range from -1e\\+200 to 1e\\+200"),
        (np.zeros(3), "2 dimensions"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        Residuals().fit(x)


def test_parameters_are_checked():
    x = np.eye(4)
    for least in (0, 1.5, -1):
        with pytest.raises(ValueError, match=r"least_shrinkage must be in \(0, 1\]"):
            Residuals(least_shrinkage=least).fit(x)
    for trim in (1, -0.1):
        with pytest.raises(ValueError, match=r"trim must be in \[0, 1\)"):
            Residuals(trim=trim).fit(x)
    with pytest.raises(NotFittedError):
        Residuals().transform(x)
    with pytest.raises(ValueError, match="expected 4 nodes, got 3"):
        Residuals().fit(x).transform(x[:, :3])
    assert clone(Residuals(trim=0.2)).trim == 0.2


@pytest.mark.parametrize("shape", [(60, 10), (10, 60)])
def test_saved_residuals_are_the_same(rng, tmp_path, shape):
    x = rng.normal(size=shape)
    transformer = Residuals().fit(x)
    transformer.save(tmp_path / "residuals.safetensors")
    loaded = load_detector(tmp_path / "residuals.safetensors", Residuals)
    assert np.array_equal(loaded.transform(x + 1), transformer.transform(x + 1))
    assert loaded.get_params() == transformer.get_params()


@pytest.mark.parametrize("size", [1e-160, 1e-200, 1e-300])
def test_tiny_values_have_the_same_residuals(rng, size):
    clean, new = rng.normal(size=(50, 6)), rng.normal(size=(5, 6))
    expected = Residuals().fit(clean).transform(new)
    assert Residuals().fit(clean * size).transform(new * size) == pytest.approx(expected, rel=1e-4)


def test_residuals_that_differ_by_a_hair_tie():
    values = np.array([1.0, 1.0 + 1e-5, -0.25, 1e30, np.inf, -np.inf, 3.3e38], np.float32)
    assert on_grid(values).tolist() == [1.0, 1.0, -0.25, np.float32(1e30), np.inf, -np.inf, np.float32(3.3e38)]
