"""The core against the reference in plain Python, and the linear-time scan against every subset there is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DTYPES, SCOPES, STATISTICS, TAILS, cases, layouts, scan_options

from subsetscan import Background, reference, scan
from subsetscan.background import BackgroundBuilder


def assert_same(result, expected, n_nodes):
    """The reference's list of (score, alpha, nodes) and the core's result are the same to the bit."""
    assert result.scores.tolist() == [score for score, _, _ in expected]
    assert result.alphas.tolist() == [alpha for _, alpha, _ in expected]
    assert result.sizes.tolist() == [len(nodes) for _, _, nodes in expected]
    assert result.nodes.shape == (len(expected), n_nodes)
    assert result.nodes.dtype == bool
    for row, (_, _, nodes) in enumerate(expected):
        assert result.nodes.indices[result.nodes.indptr[row] : result.nodes.indptr[row + 1]].tolist() == nodes


@given(cases(), scan_options, st.data())
@settings(max_examples=1000)
def test_scan(case, options, data):
    background, images = case
    result = Background(data.draw(layouts(background))).scan(data.draw(layouts(images)), **options, return_nodes=True)
    expected = [reference.scan_image(image, background.tolist(), **options) for image in images.tolist()]
    assert_same(result, expected, background.shape[1])


@given(cases(max_nodes=6), scan_options)
@settings(max_examples=500)
def test_no_subset_scores_higher(case, options):
    background, images = case
    columns = background.T.tolist()
    grid = reference.thresholds(len(background), options["tail"], options["alpha_max"])
    scores = Background(background).scan(images, **options).scores
    for image, score in zip(images.tolist(), scores, strict=True):
        p_values = [reference.p_value(x, column, options["tail"]) for x, column in zip(image, columns, strict=True)]
        best = reference.brute_force(p_values, grid, options["statistic"], options["scope"])
        assert score == pytest.approx(best, rel=1e-12, abs=0)


@given(cases(), st.sampled_from(TAILS), st.data())
@settings(max_examples=500)
def test_p_values(case, tail, data):
    background, images = case
    fitted = Background(data.draw(layouts(background)))
    ranges = fitted.p_value_ranges(data.draw(layouts(images)), tail)
    columns = background.T.tolist()
    expected = [
        [reference.p_value_range(x, column, tail) for x, column in zip(image, columns, strict=True)]
        for image in images.tolist()
    ]
    assert ranges.shape == (*images.shape, 2)
    assert ranges.tolist() == [[list(pair) for pair in row] for row in expected]
    assert np.array_equal(fitted.p_values(images, tail), ranges[..., 1])


@given(cases(max_images=0), scan_options)
@settings(max_examples=500)
def test_leave_one_out(case, options):
    background, _ = case
    expected = reference.leave_one_out(background.tolist(), **options)
    fitted = Background(background)
    assert_same(fitted.leave_one_out(background, **options, return_nodes=True), expected, background.shape[1])
    last = fitted.leave_one_out(background[-1:], **options)
    assert last.scores[0] == expected[-1][0]


@given(cases(), scan_options)
def test_rank_histogram(case, options):
    background, images = case
    tail, alpha_max = options["tail"], options["alpha_max"]
    histogram = Background(background).rank_histogram(images, tail, alpha_max)
    expected = [reference.rank_histogram(image, background.tolist(), tail, alpha_max) for image in images.tolist()]
    assert histogram.shape == (len(images), len(reference.thresholds(len(background), tail, alpha_max)))
    assert histogram.dtype == np.uint32
    assert histogram.tolist() == expected
    halves = [Background(background[:, half]).rank_histogram(images[:, half], tail, alpha_max)
              for half in (slice(0, 1), slice(1, None)) if background[:, half].size]  # fmt: skip
    assert np.array_equal(sum(halves), histogram)


@given(
    st.lists(st.lists(st.floats(1e-300, 1.0) | st.sampled_from([0.25, 0.5, 1.0]), min_size=5, max_size=5), max_size=4),
    scan_options,
)
@settings(max_examples=500)
def test_scan_of_p_values(p_values, options):
    del options["tail"]
    expected = [reference.scan(row, **options) for row in p_values]
    assert_same(scan(np.reshape(p_values, (-1, 5)), **options, return_nodes=True), expected, 5)


@given(cases(), scan_options)
@settings(max_examples=500)
def test_compact_backgrounds_and_batches(case, options):
    background, images = case
    compact = Background(background, tail=options["tail"], alpha_max=options["alpha_max"])
    whole = Background(background)
    builder = BackgroundBuilder(len(background), options["tail"], options["alpha_max"])
    for row in background:
        builder.add(row[np.newaxis])
    for other in (compact, builder.finish()):
        assert np.array_equal(other.scan(images, **options).scores, whole.scan(images, **options).scores)
        assert np.array_equal(
            other.leave_one_out(background, **options).scores, whole.leave_one_out(background, **options).scores
        )
    assert compact.nbytes <= whole.nbytes == background.nbytes


@given(st.floats(1e-12, 1, exclude_max=True), st.integers(0, 50), st.integers(1, 50), st.sampled_from(STATISTICS))
def test_phi_is_what_the_paper_says(alpha, n_alpha, n, statistic):
    n_alpha = min(n_alpha, n)
    x = n_alpha / n
    if x <= alpha:
        expected = 0.0
    elif statistic == "berk-jones":
        divergence = x * math.log(x) - x * math.log(alpha)
        if x < 1:
            divergence += (1 - x) * (math.log1p(-x) - math.log1p(-alpha))
        expected = n * divergence
    elif statistic == "higher-criticism":
        expected = abs(n_alpha - n * alpha) / math.sqrt(n * alpha * (1 - alpha))
    else:
        expected = abs(n_alpha - n * alpha) / math.sqrt(n)
    assert reference.phi(statistic, alpha, n_alpha, n) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tail", TAILS)
def test_a_relu_layer(dtype, tail, rng):
    background = np.maximum(rng.normal(size=(60, 40)), 0).astype(dtype)
    images = np.maximum(rng.normal(0.5, size=(5, 40)), 0).astype(dtype)
    background[:, 7] = 0  # a dead node
    for statistic in STATISTICS:
        for scope in SCOPES:
            options = {"statistic": statistic, "tail": tail, "scope": scope}
            expected = [reference.scan_image(image, background.tolist(), **options) for image in images.tolist()]
            assert_same(Background(background).scan(images, **options, return_nodes=True), expected, 40)


def test_another_type_is_not_rounded():
    single = np.array([[np.float32(0.1)]])
    just_above = np.array([[np.nextafter(float(single[0, 0]), 1)]])
    background = Background(single)
    assert background.p_values(just_above) == 0.5  # in single precision it would tie
    assert background.p_values(single) == 1.0
    assert Background(just_above).p_values(single) == 1.0
    assert Background(np.float16([[1.0]])).p_values(np.float32([[1.0001]])) == 0.5


def test_integers_and_booleans_are_numbers():
    assert Background([[1], [2], [3]]).p_values(np.array([[2]], np.uint8)) == 0.75
    assert Background([[True], [False]]).p_values([[True]]) == 2 / 3
