"""The core against the reference in plain Python, and the linear-time scan against every subset there is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import rel_entr
from strategies import DTYPES, SCOPES, STATISTICS, TAILS, TIES, cases, layouts, scan_options

from subsetscan import Background, _core, reference, scan, scan_group
from subsetscan.builder import BackgroundBuilder
from subsetscan.scanning import scan_histograms

SCAN = ("berk-jones", "upper")


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


any_p_value = st.floats(5e-324, 1.0) | st.floats(5e-324, 1e-300) | st.sampled_from([0.25, 0.5, 1.0, 1e-310, 5e-324])


@given(st.lists(st.lists(any_p_value, min_size=5, max_size=5), max_size=4), scan_options)
@settings(max_examples=500)
def test_scan_of_p_values(p_values, options):
    del options["tail"]
    expected = [reference.scan(row, **options) for row in p_values]
    assert_same(scan(np.reshape(p_values, (-1, 5)), **options, return_nodes=True), expected, 5)


@pytest.mark.parametrize("p", [5e-324, 1e-310, 2.0**-1024, 2.0**-1022])
def test_no_p_value_is_too_small_to_score(p):
    row = [p, 1.0, p, 0.9]
    for statistic in STATISTICS:
        for scope, n in (("subset", 2), ("all", 4)):
            score = scan([row], statistic, scope=scope).scores
            assert np.isfinite(score)
            assert score == pytest.approx(reference.phi(statistic, p, 2, n), rel=1e-14)
    assert scan([row]).scores == pytest.approx(-2 * math.log(p), rel=1e-14)
    assert scan([[1e-310, 0.9]]).scores == -math.log(1e-310)
    assert reference.summary("minimum-p", row) == -math.log(p)
    assert reference.summary("fisher", row) == pytest.approx(-4 * math.log(p) - 2 * math.log(0.9), rel=1e-14)


@pytest.mark.parametrize(
    ("histogram", "error", "message"),
    [
        ([[0.5, 1.0]], TypeError, "histogram 1 must hold counts, as integers, got dtype float64"),
        ([[True, False]], TypeError, "as integers, got dtype bool"),
        ([[1, -1]], ValueError, "from 0 to 4294967295, got -1 at input 0, threshold 1"),
        ([[2**32, 0]], ValueError, "from 0 to 4294967295, got 4294967296 at input 0, threshold 0"),
        ([1, 0], ValueError, r"must have 2 dimensions \(inputs, thresholds\), got shape \(2,\)"),
        ([[1, 1]], ValueError, "the histograms of input 0 count 4 nodes, but there are only 3"),
        ([[1, 0, 0]], ValueError, r"1 inputs and 2 thresholds, got shape \(1, 3\)"),
    ],
)
def test_histograms_that_are_none(histogram, error, message):
    with pytest.raises(error, match=message):
        scan_histograms([np.array([[2, 0]]), np.array(histogram)], 3, 3, ["upper", "lower"])


@pytest.mark.parametrize(
    ("n_samples", "n_nodes", "message"),
    [
        (-1, 3, "n_samples must be from 0 to 2.64 - 1, got -1"),
        (2**70, 3, f"n_samples must be from 0 to 2.64 - 1, got {2**70}"),
        (2**64 - 1, 3, f"a background has at most {2**52 - 1} inputs, got {2**64 - 1}"),
        (10**12, 3, r"1 inputs and 500000000000 thresholds, got shape \(1, 2\)"),
        (0, 3, r"1 inputs and 0 thresholds, got shape \(1, 2\)"),
        (3, -1, "n_nodes must be from 0 to 2.64 - 1, got -1"),
        (3, 0, "at least 1 node is needed, got 0"),
    ],
)
def test_sizes_of_histograms_that_are_wrong(n_samples, n_nodes, message):
    with pytest.raises(ValueError, match=message):
        scan_histograms([np.array([[2, 0]])], n_samples, n_nodes, ["upper"])


def test_histograms_of_any_integers_are_scanned():
    expected = scan_histograms([np.array([[2, 1]], np.uint32)], 3, 3, ["upper"])[0].scores
    for dtype in (np.int8, np.uint64, np.int64, ">u4"):
        assert scan_histograms([np.array([[2, 1]], dtype)], 3, 3, ["upper"])[0].scores == expected


@pytest.mark.parametrize(
    ("n_samples", "message"),
    [
        (-1, "n_samples must be from 0 to 2.64 - 1, got -1"),
        (0, "at least 1 input is needed, got 0"),
        (3 * 10**8, "2 values a node where {} of 300000000 inputs are kept"),
        (10**12, "at most 4294967295 values of a node can be handled at once, got {}"),
        (2**63, f"a background has at most {2**52 - 1} inputs, got {2**63}"),
        (2**64 - 1, f"a background has at most {2**52 - 1} inputs, got {2**64 - 1}"),
        (2**64, f"n_samples must be from 0 to 2.64 - 1, got {2**64}"),
    ],
)
def test_columns_of_another_number_of_images(n_samples, message):
    columns = np.array([[0.0, 1.0]])
    for kept in ((), ("upper",), ("two-sided", 0.3), ("lower", 1.0)):
        with pytest.raises(ValueError, match=message.format(r"\d+")):
            _core.Background.from_columns(columns, n_samples, *kept)
    if n_samples <= 0 or n_samples >= 2**52:
        with pytest.raises(ValueError, match=message):
            _core.BackgroundBuilder(n_samples, 2, "float32")


def test_columns_of_a_compact_background_of_any_size():
    columns = np.array([[0.0, 1.0]])  # one threshold, and the value that tells who is beyond it
    background = _core.Background.from_columns(columns, 10**12, "upper", 1e-12)
    assert background.scan(np.array([[2.0], [0.5]]), "outside", *SCAN, 1e-12, "subset", "upper", 0, False)[
        1
    ].tolist() == [
        1 / (10**12 + 1),
        0,
    ]


def test_numbers_that_are_negative():
    background, one = _core.Background(np.array([[0.0], [1.0]])), np.array([[0.5]])
    seed = "random_state must be from 0 to 2.64 - 1, got -1"
    for call in (
        lambda: background.p_values(one, "upper", "random", -1),
        lambda: background.rank_histogram(one, "outside", "upper", 0.5, "random", -1),
        lambda: background.summarise(one, "outside", "fisher", "upper", "random", -1),
        lambda: background.scan(one, "outside", *SCAN, 0.5, "subset", "random", -1, False),
    ):
        with pytest.raises(ValueError, match=seed):
            call()
    starts, no = np.ones((1, 1), bool), (None, None)
    for limits, message in (((-1, None), "got -1"), ((None, 2**70), f"got {2**70}")):
        with pytest.raises(ValueError, match=f"the limits of images must be from 0 to 2.64 - 1, {message}"):
            _core.scan_group(one, starts, True, "berk-jones", 0.5, limits, no, None)
    with pytest.raises(ValueError, match="n_nodes must be from 0 to 2.64 - 1, got -1"):
        _core.BackgroundBuilder(1, -1, "float32")
    with pytest.raises(MemoryError, match="not enough memory for an array of shape"):
        _core.BackgroundBuilder(2**31, 2**30, "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reference.phi("foo", 0.1, 0, 1), 'unknown statistic "foo"; known are berk-jones, higher-criticism'),
        (lambda: reference.steps(0.0, [], "left"), 'unknown tail "left"; known are upper, lower, two-sided'),
        (lambda: reference.p_value(0.0, [], ties="low"), 'unknown treatment of ties "low"; known are upper, midrank'),
        (lambda: reference.p_value(0.0, [], ties="range"), 'ties "range" leave every node a range'),
        (lambda: reference.p_value_range(0.0, [], "left"), 'unknown tail "left"'),
        (lambda: reference.thresholds(3, "left"), 'unknown tail "left"'),
        (lambda: reference.thresholds(3, ties="low"), 'unknown treatment of ties "low"'),
        (lambda: reference.scan([0.9], "foo"), 'unknown statistic "foo"'),
        (lambda: reference.scan([0.9], scope="one"), 'unknown scope "one"; known are subset, all'),
        (lambda: reference.scan_ranges([], 2, "foo"), 'unknown statistic "foo"'),
        (lambda: reference.scan_ranges([], 2, scope="one"), 'unknown scope "one"'),
        (lambda: reference.scan_image([0.0], [[1.0]], ties="low"), 'unknown treatment of ties "low"'),
        (lambda: reference.null_scores([[1.0]], tail="left"), 'unknown tail "left"'),
        (lambda: reference.rank_histogram([0.0], [[1.0]], ties="range"), 'ties "range" leave every node a range'),
        (lambda: reference.summary("median", [0.1]), 'unknown summary "median"; known are mean-p, minimum-p, fisher'),
        (lambda: reference.brute_force([], [], "foo"), 'unknown statistic "foo"'),
        (lambda: reference.brute_force([], [], scope="one"), 'unknown scope "one"'),
        (lambda: reference.best_rows([[0.1]], [0], [], "foo"), 'unknown statistic "foo"'),
        (lambda: reference.scan_group([[0.1]], [], "foo"), 'unknown statistic "foo"'),
        (lambda: reference.scan_group([[0.1]], [], first_grids=["fine"]), 'unknown grid "fine"; known are exact'),
        (lambda: reference.group_upper_bound([[0.9]], "foo"), 'unknown statistic "foo"'),
        (lambda: reference.brute_force_group([[0.9]], "foo"), 'unknown statistic "foo"'),
    ],
)
def test_the_reference_refuses_names_it_does_not_know(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (_core.STATISTICS, "statistic"),
        (_core.TAILS, "tail"),
        (_core.SCOPES, "scope"),
        (_core.TIES, "treatment of ties"),
        (_core.SUMMARIES, "summary"),
    ],
)
def test_core_and_reference_know_the_same_names(names, what):
    assert names == reference.images._NAMES[what]


# The paper, table 3, where k of n p-values, more than n alpha, are at most alpha.
PHI = {
    "berk-jones": lambda alpha, k, n: n * (rel_entr(k / n, alpha) + rel_entr(1 - k / n, 1 - alpha)),
    "higher-criticism": lambda alpha, k, n: (k - n * alpha) / math.sqrt(n * alpha * (1 - alpha)),
    "kolmogorov-smirnov": lambda alpha, k, n: (k - n * alpha) / math.sqrt(n),
}


@given(st.floats(1e-12, 1, exclude_max=True), st.integers(0, 50), st.integers(1, 50), st.sampled_from(list(PHI)))
def test_phi_is_what_the_paper_says(alpha, n_alpha, n, statistic):
    n_alpha = min(n_alpha, n)
    expected = PHI[statistic](alpha, n_alpha, n) if n_alpha > n * alpha else 0
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


def test_many_images_are_drawn_for_as_each_alone(rng):
    background = Background(np.maximum(rng.normal(size=(50, 4000)), 0).astype(np.float32))
    images = np.maximum(rng.normal(size=(21, 4000)), 0).astype(np.float32)  # more than are scanned on one thread
    options = {"ties": "random", "random_state": 3}
    p_values, scores = background.p_values(images, **options), background.scan(images, **options).scores
    histograms = background.rank_histogram(images, **options)
    assert np.array_equal(scores, scan(p_values).scores)
    for n in range(len(images)):
        assert np.array_equal(p_values[n], background.p_values(images[n : n + 1], **options)[0])
        assert np.array_equal(histograms[n], background.rank_histogram(images[n : n + 1], **options)[0])
        assert scores[n] == background.scan(images[n : n + 1], **options).scores[0]
    starts = np.ones((1, 21), bool)
    by_values = background._core.scan_group(
        images, starts, True, *SCAN, 0.5, "random", 3, (None, None), (None, None), "quick"
    )
    by_p_values = _core.scan_group(p_values, starts, True, "berk-jones", 0.5, (None, None), (None, None), "quick")
    assert by_values[0] == by_p_values[0]
    assert by_values[3].tolist() == by_p_values[3].tolist()


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


@given(cases(), scan_options, st.sampled_from(["outside", "inside", "calibrating"]))
def test_nodes_within_are_those_of_the_scan(case, options, membership):
    background, images = case
    if membership != "outside":
        images = background
    how = {name: options[name] for name in ("tail", "alpha_max", "ties", "random_state") if name in options}
    whole = Background(background)
    if how.get("ties") == "range":
        with pytest.raises(ValueError, match='ties "range" leave every node a range'):
            whole.nodes_within(images, np.zeros(len(images)), **how)
        return
    if membership == "outside":
        found = whole.scan(images, **options, return_nodes=True)
    else:
        found = whole.leave_one_out(images, **options, return_nodes=True, same_grid=membership == "calibrating")
    nodes = whole.nodes_within(images, found.alphas, **how, membership=membership)
    assert (nodes != found.nodes).nnz == 0
    counts = whole.rank_histogram(images, **how, membership=membership)
    all_of_them = whole.nodes_within(images, np.full(len(images), how["alpha_max"]), **how, membership=membership)
    assert np.array_equal(np.diff(all_of_them.indptr), counts.sum(axis=1))


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ([0.1], "expected 2 thresholds from 0 to 0.5, one for each input, got 1 of them"),
        ([0.1, 0.6], "got 0.6 at input 1"),
        ([0.1, np.nan], "got NaN at input 1"),
        ([-0.1, 0.2], "got -0.1 at input 0"),
    ],
)
def test_thresholds_that_are_none(alphas, message):
    with pytest.raises(ValueError, match=message):
        Background([[0.0], [1.0]]).nodes_within([[0.0], [1.0]], alphas)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Background(np.broadcast_to(np.float32(0), (1, 2**31))), "at most 2147483647 nodes .* got 2147483648"),
        (
            lambda: Background(np.broadcast_to(np.float32(0), (2**32, 1))),
            "4294967295 values of a node .* got 4294967296",
        ),
        (lambda: scan(np.broadcast_to(0.5, (1, 2**31))), "at most 2147483647 nodes .* got 2147483648"),
        (lambda: scan_group(np.broadcast_to(0.5, (2, 2**31))), "at most 2147483647 nodes .* got 2147483648"),
    ],
)
def test_more_than_numbers_count_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
