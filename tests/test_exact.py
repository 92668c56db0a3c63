"""The core against the reference in plain Python, and the linear-time scan against every subset there is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import DTYPES, SCOPES, STATISTICS, TAILS, TIES, cases, layouts, scan_options

from subsetscan import Background, reference, scan
from subsetscan.background import BackgroundBuilder
from subsetscan.scanning import scan_histograms


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


@given(cases(), scan_options, st.sampled_from(TIES), st.integers(0, 2**64 - 1), st.data())
@settings(max_examples=1000)
def test_scan_with_ties(case, options, ties, random_state, data):
    background, images = case
    options = options | {"ties": ties, "random_state": random_state}
    result = Background(data.draw(layouts(background))).scan(data.draw(layouts(images)), **options, return_nodes=True)
    expected = [reference.scan_image(image, background.tolist(), **options) for image in images.tolist()]
    assert_same(result, expected, background.shape[1])


@given(cases(), st.sampled_from(TAILS), st.sampled_from(TIES[:-1]), st.integers(0, 2**64 - 1))
@settings(max_examples=500)
def test_p_values_with_ties(case, tail, ties, random_state):
    background, images = case
    columns = background.T.tolist()
    expected = []
    for image in images.tolist():
        draws = reference.random_ranks(image, random_state)
        expected.append(
            [reference.p_value(*node, tail, ties, u) for *node, u in zip(image, columns, draws, strict=True)]
        )
    p_values = Background(background).p_values(images, tail, ties, random_state)
    assert p_values.tolist() == expected
    for summary in ("mean-p", "minimum-p", "fisher"):
        scores = Background(background).summarise(images, summary, tail, ties, random_state)
        assert scores == pytest.approx([reference.summary(summary, row) for row in expected], rel=1e-12, abs=1e-12)


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


@given(cases(max_images=0), scan_options, st.sampled_from(TIES))
@settings(max_examples=500)
def test_leave_one_out(case, options, ties):
    background, _ = case
    options = options | {"ties": ties}
    expected = reference.leave_one_out(background.tolist(), **options)
    fitted = Background(background)
    assert_same(fitted.leave_one_out(background, **options, return_nodes=True), expected, background.shape[1])
    last = fitted.leave_one_out(background[-1:], **options)
    assert last.scores[0] == expected[-1][0]


@given(cases(max_images=0), scan_options, st.sampled_from(TIES))
@settings(max_examples=500)
def test_null_scores_give_ranks_the_p_values_they_have_outside(case, options, ties):
    background, _ = case
    options = options | {"ties": ties}
    expected = reference.null_scores(background.tolist(), **options)
    found = Background(background).leave_one_out(background, **options, same_grid=True)
    assert found.scores.tolist() == expected


@given(cases(), scan_options, st.sampled_from(TIES[:-1]))
def test_rank_histogram(case, options, ties):
    background, images = case
    grid = options["tail"], options["alpha_max"], ties
    histogram = Background(background).rank_histogram(images, *grid)
    expected = [reference.rank_histogram(image, background.tolist(), *grid) for image in images.tolist()]
    assert histogram.shape == (len(images), len(reference.thresholds(len(background), *grid)))
    assert histogram.dtype == np.uint32
    assert histogram.tolist() == expected
    left_out = Background(background).rank_histogram(background, *grid, membership="inside")
    others = [background.tolist()[:n] + background.tolist()[n + 1 :] for n in range(len(background))]
    expected = [reference.rank_histogram(*both, *grid) for both in zip(background.tolist(), others, strict=True)]
    assert left_out.tolist() == expected


@given(cases(), scan_options, st.lists(st.sampled_from(TAILS), min_size=2, max_size=2), st.sampled_from(TIES[:2]))
@settings(max_examples=300)
def test_parts_are_scanned_as_one(case, options, tails, ties):
    background, images = case
    del options["tail"]
    halves = [half for half in (slice(0, 1), slice(1, None)) if background[:, half].size]
    tails = tails[: len(halves)]
    backgrounds = [Background(background[:, half]) for half in halves]
    counts, p_values = [], []
    for one, half, tail in zip(backgrounds, halves, tails, strict=True):
        counts.append(one.rank_histogram(images[:, half], tail, options["alpha_max"], ties))
        p_values.append(one.p_values(images[:, half], tail, ties))
    result, shares = scan_histograms(counts, *background.shape, tails, **options, ties=ties)
    expected = scan(np.concatenate(p_values, axis=1), **options)
    assert np.array_equal(result.scores, expected.scores)
    assert np.array_equal(result.alphas, expected.alphas)
    assert np.array_equal(shares.sum(axis=1), expected.sizes)
    for n, p in enumerate(p_values):
        assert np.array_equal(shares[:, n], (p <= expected.alphas[:, np.newaxis]).sum(axis=1))


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
    assert background.nbytes <= whole.nbytes
    assert compact.nbytes <= whole.nbytes


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


def test_random_ties_depend_on_the_image_alone(rng):
    background = Background(np.zeros((99, 500)))
    images = np.zeros((3, 500))
    images[1:, 0] = 1, 2
    p = background.p_values(images, ties="random", random_state=7)
    assert np.array_equal(p[1:2], background.p_values(images[1:2], ties="random", random_state=7))
    assert np.array_equal(p[0], background.p_values(np.float16(-images[:1]), ties="random", random_state=7)[0])
    assert not np.array_equal(p[0, 1:], p[1, 1:])
    assert not np.array_equal(p[0], background.p_values(images[:1], ties="random", random_state=8)[0])
    assert stats.kstest(p[0] - rng.uniform(0, 0.01, 500), "uniform").pvalue > 0.01


@pytest.mark.parametrize("ties", TIES)
def test_what_ties_mean_at_the_zeros_of_a_relu(ties):
    zeros_then_one = np.array([[0.0], [0.0], [0.0], [1.0]])
    background = Background(zeros_then_one)
    if ties == "range":
        with pytest.raises(ValueError, match='ties "range" leave every node a range of p-values; this needs one'):
            background.p_values([[0.0]], ties=ties)
        # a fifth of the range (1/5, 1] lies within [0, 2/5]: less than a share of 2/5
        assert background.scan([[0.0]], ties=ties).scores == 0
        assert background.scan([[0.0]], ties=ties, tail="lower").scores == pytest.approx(
            max(reference.phi("berk-jones", step / 5, step / 4, 1) for step in (1, 2))
        )
        return
    upper, lower = (background.p_values([[0.0]], tail, ties)[0, 0] for tail in ("upper", "lower"))
    expected = {"upper": (1.0, 0.8), "midrank": (0.6, 0.4)}
    if ties in expected:
        assert (upper, lower) == expected[ties]
    else:
        assert upper in (0.4, 0.6, 0.8, 1.0)
        assert lower in (0.2, 0.4, 0.6, 0.8)


def test_compact_backgrounds_do_not_know_the_ties():
    background = Background([[0.0], [1.0]], tail="upper")
    with pytest.raises(ValueError, match='build it whole for ties "midrank"'):
        background.scan([[0.0]], ties="midrank")


def test_integers_and_booleans_are_numbers():
    assert Background([[1], [2], [3]]).p_values(np.array([[2]], np.uint8)) == 0.75
    assert Background([[True], [False]]).p_values([[True]]) == 2 / 3
