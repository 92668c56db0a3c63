"""The group scan against the reference in plain Python, against every block there is, and where others went wrong."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import STATISTICS, TAILS, cases, scan_options

from subsetscan import Background, GroupScanner, GroupScanResult, _core, reference, scan_group
from subsetscan.lab.experiment.proportions import scan_proportions

EXACT = 1e-12


@st.composite
def groups(draw, max_images=6, max_nodes=7):
    """Draw p-values (N, J), N >= 2: full of ties, or hardly any."""
    n, j = draw(st.integers(2, max_images)), draw(st.integers(1, max_nodes))
    n_ranks = draw(st.sampled_from([2, 5, 8, 100_000]))
    ranks = draw(st.lists(st.integers(1, n_ranks), min_size=n * j, max_size=n * j))
    p_values = np.reshape(ranks, (n, j)) / n_ranks
    if draw(st.booleans()):  # some so small that 1 / p is no float
        scales = draw(st.lists(st.sampled_from([1.0, 1.0, 1e-200, 1e-310, 1e-320]), min_size=n * j, max_size=n * j))
        p_values = np.maximum(p_values * np.reshape(scales, (n, j)), 5e-324)
    return p_values


options = st.fixed_dictionaries(
    {"statistic": st.sampled_from(STATISTICS), "alpha_max": st.sampled_from([0.5, 1.0, 0.3, 0.05])}
)


@st.composite
def limits(draw, n):
    smallest = draw(st.none() | st.integers(1, n))
    return smallest, draw(st.none() | st.integers(smallest or 1, n + 1))


def members(masks):
    return [(np.flatnonzero(mask).tolist(), None) for mask in masks]


@given(groups(), options, st.data())
@settings(max_examples=500)
def test_the_reference_finds_the_same(p_values, options, data):
    n_images, n_nodes = p_values.shape
    masks = data.draw(st.lists(st.lists(st.booleans(), min_size=n_images, max_size=n_images).filter(any), min_size=1))
    image_limits, node_limits = data.draw(limits(n_images)), data.draw(limits(n_nodes))
    from_all_nodes = data.draw(st.booleans())
    found = _core.scan_group(
        p_values,
        np.array(masks),
        from_all_nodes,
        options["statistic"],
        options["alpha_max"],
        image_limits,
        node_limits,
        "quick",
    )
    starts = members(masks)
    if from_all_nodes:
        starts.insert(0, (None, range(n_nodes)))
    arguments = {**options, "image_limits": image_limits, "node_limits": node_limits}
    score, alpha, images, nodes = reference.scan_group(p_values.tolist(), starts, **arguments)
    assert (found[0], found[1], found[2].tolist(), found[3].tolist()) == (score, alpha, images, nodes)
    assert found[4] == pytest.approx(reference.group_upper_bound(p_values.tolist(), **arguments), rel=EXACT)


@given(groups(4, 4), options, st.integers(1, 12))
@settings(max_examples=200)
def test_bound_optimum_ascent(p_values, options, restarts):
    best = reference.brute_force_group(p_values.tolist(), **options)
    found = scan_group(p_values, **options, restarts=restarts, random_state=0)
    assert found.score * (1 - EXACT) <= best <= found.upper_bound * (1 + EXACT)


@given(groups(4, 4), options, st.data())
@settings(max_examples=200)
def test_of_few_images_the_best_block_is_found(p_values, options, data):
    image_limits, node_limits = (data.draw(limits(n)) for n in p_values.shape)
    best = reference.brute_force_group(p_values.tolist(), **options, image_limits=image_limits, node_limits=node_limits)
    sizes = {"images": image_limits, "nodes": node_limits}
    found = scan_group(p_values, **options, restarts=1, sizes=sizes, bound="close")
    assert found.score == found.upper_bound == pytest.approx(best, rel=EXACT)
    block = p_values[np.ix_(found.images, found.nodes)]
    n_alpha = int((block <= found.alpha).sum())
    assert found.score == (reference.phi(options["statistic"], found.alpha, n_alpha, block.size) if best else 0)


def test_how_often_the_ascent_is_optimal(rng):
    """It reports, and it would fail if the ascent became much worse."""
    for statistic in STATISTICS:
        optimal = []
        for _ in range(100):
            p_values = rng.uniform(size=(4, 4))
            best = reference.brute_force_group(p_values.tolist(), statistic)
            optimal.append(scan_group(p_values, statistic, random_state=rng).score >= best * (1 - EXACT))
        print(f"{statistic}: optimal in {np.mean(optimal):.0%} of random 4 x 4 blocks")  # noqa: T201
        assert np.mean(optimal) > 0.85


@given(st.integers(0, 2**32), st.sampled_from(STATISTICS), st.sampled_from([0.5, 1.0]))
@settings(max_examples=60)
def test_never_lower_than_a_coarse_ascent_from_the_same_start(seed, statistic, alpha_max):
    p_values = np.maximum(np.random.default_rng(seed).uniform(size=(8, 25)), 1e-9)
    rows, table = list(range(8)), p_values.tolist()
    assert len(reference.coarse_grid(table, alpha_max)) < np.sum(p_values <= alpha_max)
    for start, masks, from_all_nodes in (
        ((rows, None), np.ones((1, 8), bool), False),
        ((None, range(25)), np.empty((0, 8), bool), True),
    ):
        coarse = reference.scan_group(table, [start], statistic, alpha_max, first_grids=["coarse"])
        found = _core.scan_group(
            p_values, masks, from_all_nodes, statistic, alpha_max, (None, None), (None, None), None
        )
        assert found[0] >= coarse[0]


@pytest.mark.parametrize("shape", [(12, 30), (20, 50), (30, 100), (100, 784)])
def test_one_start_scores_no_lower_than_art(shape):
    art = pytest.importorskip("art.defences.detector.evasion.subsetscanning.scanner")
    for seed in range(20 if shape[0] < 100 else 3):
        rng = np.random.default_rng(seed)
        values = rng.uniform(size=shape)
        values[: shape[0] // 4, : shape[1] // 5] /= 3
        for p_values in (np.ceil(values * 5000) / 5000, np.ceil(values * 8) / 8, np.where(values < 0.4, values, 1.0)):
            theirs = art.Scanner.fgss_for_nets(np.stack([p_values, p_values], axis=-1), restarts=1)[0]
            assert scan_group(p_values, restarts=1).score >= theirs * (1 - EXACT)


def ascend_on_the_grid_of_the_block(p_values, alpha_max=0.5):
    """Ascend from all nodes on a grid that each step draws from its own p-values: what not to do."""
    images, nodes, score = range(len(p_values)), range(p_values.shape[1]), 0.0
    choose_images = True
    while True:
        block = p_values[:, list(nodes)] if choose_images else p_values[list(images)]
        grid = reference.coarse_grid(block.tolist(), alpha_max)
        lines, fixed = (p_values, nodes) if choose_images else (p_values.T, images)
        found = reference.best_rows(lines.tolist(), fixed, grid, floor=score)
        if found is None:
            return score
        score = found[0]
        images, nodes = (found[2], nodes) if choose_images else (images, found[2])
        choose_images = not choose_images


@pytest.mark.parametrize("seed", range(5))
def test_a_grid_that_depends_on_the_block_finds_no_more(seed):
    p_values = np.maximum(np.random.default_rng(seed).uniform(size=(15, 40)), 1e-9)
    p_values[:5, :10] /= 3
    assert scan_group(p_values, restarts=2).score >= ascend_on_the_grid_of_the_block(p_values)


def test_restarts_are_not_capped_by_the_number_of_images(rng, monkeypatch):
    seen = []

    def scan(p_values, starts, from_all_nodes, *rest):
        seen.append((starts, from_all_nodes))
        return 0.0, 0.0, np.empty(0, int), np.empty(0, int), 0.0

    monkeypatch.setattr(_core, "scan_group", scan)
    for restarts in (1, 2, 50):
        scan_group(rng.uniform(size=(3, 5)), restarts=restarts, random_state=0)
    assert [(len(starts), from_all_nodes) for starts, from_all_nodes in seen] == [(0, True), (1, True), (49, True)]
    starts, _ = seen[-1]
    assert starts[0].all()
    assert starts.any(axis=1).all()
    assert (starts[2::2].sum(axis=1) == 1).all()
    assert len(np.unique(starts, axis=0)) > 3


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_close_bound_is_near_the_score(statistic, rng):
    """Where many nodes go with few images, chance alone makes the quick one many times the score."""
    for n_images, limit in ((8, 1.0), (25, 1.5), (100, 2.5)):  # by all subsets, by threes, by pairs
        p_values = np.maximum(rng.uniform(size=(n_images, 600)), 1e-4)
        p_values[:5, :200] **= 3
        for group in (p_values, p_values.T):
            quick, close = (scan_group(group, statistic, random_state=0, bound=bound) for bound in _core.BOUNDS)
            assert quick.score <= close.score <= close.upper_bound
            assert scan_group(group, statistic, random_state=0, bound=None).upper_bound == np.inf
            assert close.upper_bound <= min(quick.upper_bound, limit * close.score)


@pytest.mark.parametrize(("n_small", "score"), [(0, 0.0), (1, np.log(1000)), (2, 2 * np.log(1000))])
def test_a_close_bound_of_hardly_anything_is_found_soon(n_small, score):
    """Every subset of 31 images would take minutes, although none holds anything."""
    p_values = np.ones((31, 40))
    p_values[5, :n_small] = 0.001
    found = scan_group(p_values, random_state=0, bound="close")
    assert found.score == pytest.approx(score)
    assert found.upper_bound == pytest.approx(score)


@given(groups(), options, st.integers(0, 100), st.data())
def test_a_constraint_is_a_scan_of_each_class(p_values, options, seed, data):
    """The ascent within a class goes on until nothing improves there, as in a group of that class alone."""
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=len(p_values), max_size=len(p_values)))
    if len(set(labels)) == 1:
        labels[0] = "d"
    found = scan_group(p_values, **options, restarts=2, random_state=seed, constraint=labels)
    expected, bounds = (0.0, 0.0, [], []), []
    for label in sorted(set(labels)):
        rows = [n for n, other in enumerate(labels) if other == label]
        starts = [(None, range(p_values.shape[1])), (range(len(rows)), None)]
        block = reference.scan_group(p_values[rows].tolist(), starts, **options)
        bounds.append(reference.group_upper_bound(p_values[rows].tolist(), **options))
        if block[0] > expected[0]:
            expected = (block[0], block[1], [rows[n] for n in block[2]], block[3])
    assert (found.score, found.alpha, found.images.tolist(), found.nodes.tolist()) == expected
    assert found.upper_bound == pytest.approx(max(bounds), rel=EXACT)
    assert len({labels[image] for image in found.images}) <= 1


@pytest.mark.parametrize("statistic", STATISTICS)
def test_no_p_value_is_too_small_to_score(statistic):
    p_values = np.ones((3, 4))
    p_values[:2, 1:3] = 1e-310
    found = scan_group(p_values, statistic, random_state=0)
    assert found.score == pytest.approx(reference.phi(statistic, 1e-310, 4, 4), rel=EXACT)
    assert found.upper_bound == pytest.approx(found.score, rel=EXACT)
    assert (found.images.tolist(), found.nodes.tolist()) == ([0, 1], [1, 2])


def test_every_p_value_above_alpha_max():
    for found in (scan_group(np.full((3, 4), 0.9)), scan_group(np.ones((3, 4)), constraint=[0, 0, 1], alpha_max=1.0)):
        assert (found.score, found.alpha, found.upper_bound) == (0, 0, 0)
        assert found.images.dtype == found.nodes.dtype == np.int64
        assert len(found.images) == len(found.nodes) == 0


def test_limits_are_kept(rng):
    p_values = rng.uniform(size=(12, 20))
    p_values[:6, :10] /= 10
    found = scan_group(p_values, random_state=0)
    assert (len(found.images), len(found.nodes)) == (6, 10)
    narrow = scan_group(p_values, random_state=0, sizes={"images": (None, 3), "nodes": (12, 15)})
    assert len(narrow.images) <= 3
    assert 12 <= len(narrow.nodes) <= 15
    assert narrow.score < found.score
    assert narrow.upper_bound <= found.upper_bound
    labels = np.repeat([0, 1], [10, 2])  # the small class has too few images, and is left out
    assert scan_group(p_values, sizes={"images": (3, None)}, constraint=labels).images.max() < 10


@given(cases(max_images=5), scan_options)
def test_a_scanner_scans_as_its_p_values_do(case, options):
    background, images = case
    if len(images) < 2:
        return
    del options["scope"]
    scanner = GroupScanner(Background(background), **options, restarts=3, random_state=0)
    found = scanner.scan(images, bound="close")
    p_values = Background(background).p_values(images, options.pop("tail"))
    expected = scan_group(p_values, **options, restarts=3, random_state=0, bound="close")
    for name in ("score", "alpha", "upper_bound"):
        assert getattr(found, name) == getattr(expected, name)
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.nodes, expected.nodes)


def test_groups_are_compared_with_clean_groups_of_their_size(rng):
    """Scores grow with the group: a large clean group outscores a small anomalous one."""
    clean = rng.normal(size=(1200, 30))
    scanner = GroupScanner(Background(clean[:200]), restarts=2, random_state=0).calibrate(clean[200:], n_groups=39)
    small, large = rng.normal(size=(4, 30)), rng.normal(size=(80, 30))
    small[:, :15] += 1
    assert scanner.scan(large).score > scanner.scan(small).score
    assert scanner.null_scores(80).min() > scanner.null_scores(4).max()
    assert scanner.p_value(small) == 1 / 40
    assert scanner.p_value(large) > 0.1
    assert scanner.null_scores(4) is scanner.null_scores(4)
    assert len(scanner.null_scores(4)) == 39
    again = GroupScanner(Background(clean[:200]), restarts=2, random_state=0).calibrate(clean[200:], n_groups=39)
    assert np.array_equal(again.null_scores(4), scanner.null_scores(4))
    with pytest.raises(
        ValueError, match="groups of 1001 images need at least 2002 clean images to be drawn from, got 1000"
    ):
        scanner.p_value(np.zeros((1001, 30)))
    with pytest.raises(ValueError, match="call calibrate first"):
        GroupScanner(Background(clean)).p_value(small)
    with pytest.raises(ValueError, match="the images have 3 nodes, but the background has 30"):
        scanner.calibrate(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="n_groups must be at least 1, got 0"):
        scanner.calibrate(clean, n_groups=0)


@pytest.mark.parametrize("tail", TAILS)
def test_a_compact_background_serves(tail, rng):
    values = rng.normal(size=(50, 8))
    images = rng.normal(1, size=(6, 8))
    scans = [
        GroupScanner(background, tail=tail, alpha_max=0.2, random_state=0).scan(images)
        for background in (Background(values), Background(values, tail=tail, alpha_max=0.2))
    ]
    assert scans[0].score == scans[1].score > 0
    with pytest.raises(ValueError, match="this background is compact"):
        GroupScanner(Background(values, tail=tail, alpha_max=0.2), tail=tail).scan(images)


def test_random_states(rng):
    p_values = rng.uniform(size=(9, 12))
    np.random.seed(1)  # noqa: NPY002 (the global state is what this is about)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = scan_group(p_values, random_state=3)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert scan_group(p_values, random_state=3).score == first.score
    assert scan_group(p_values, random_state=np.random.default_rng(3)).score == first.score
    scanner = GroupScanner(Background(rng.normal(size=(40, 12))), random_state=5)
    images = rng.normal(size=(9, 12))
    assert scanner.scan(images).score == scanner.scan(images).score
    assert isinstance(first, GroupScanResult)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p_values": np.full((1, 3), 0.1)}, "a group needs at least 2 images, got 1; for single images use scan"),
        ({"p_values": np.empty((0, 3))}, "a group needs at least 2 images, got 0"),
        ({"p_values": np.empty((3, 0))}, "at least 1 node is needed, got 0"),
        ({"p_values": np.full(3, 0.1)}, r"must have 2 dimensions \(inputs, nodes\), got shape \(3,\)$"),
        ({"p_values": [[0.1, 0.2], [0.0, 0.3]]}, r"must be in \(0, 1\], got 0 at input 1, node 0"),
        ({"p_values": [[0.1, np.nan], [0.1, 0.3]]}, r"must be in \(0, 1\], got NaN at input 0, node 1"),
        ({"constraint": [0, 1]}, r"one label for each of the 4 images, got shape \(2,\)"),
        ({"constraint": [[0], [0], [1], [1]]}, r"one label for each of the 4 images, got shape \(4, 1\)"),
        ({"constraint": ["a"] * 4}, "a constraint needs labels of at least 2 classes, all 4 are 'a'"),
        ({"constraint": np.ones(4, int)}, "all 4 are 1$"),
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
        ({"statistic": "x"}, 'unknown statistic "x"; known are berk-jones'),
        ({"bound": "x"}, 'unknown bound "x"; known are quick, close'),
        ({"alpha_max": 0}, r"alpha_max must be in \(0, 1\], got 0"),
        ({"sizes": {"rows": (1, 2)}}, r"unknown sizes \['rows'\]; known are images, nodes"),
        ({"sizes": {"images": 3}}, r"limits of images must be a pair \(smallest, largest\), got 3"),
        ({"sizes": {"images": "23"}}, r"limits of images must be a pair \(smallest, largest\), got '23'"),
        ({"sizes": {"images": (0, 3)}}, "the limits of images must be positive, got 0"),
        ({"sizes": {"nodes": (3, 2)}}, "number of nodes in a block must be limited to .*, got 3 to 2"),
        ({"sizes": {"images": (5, None)}}, "a block must have at least 5 images, but the group has 4"),
        ({"sizes": {"nodes": (4, None)}}, "a block must have at least 4 nodes, but the group has 3"),
        (
            {"sizes": {"images": (3, None)}, "constraint": [0, 0, 1, 1]},
            "a block must have at least 3 images, but the largest class has 2",
        ),
    ],
)
def test_what_is_wrong_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        scan_group(**{"p_values": np.full((4, 3), 0.1)} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p_values": [["a"]] * 2}, "p-values must be float16, float32, float64 or integers, got dtype"),
        ({"restarts": 1.5}, "restarts must be an integer, got 1.5"),
        ({"sizes": {"images": (1.5, 2)}}, "the limits of images must be an integer, got 1.5"),
        ({"sizes": [(1, 2)]}, r"sizes must be a mapping such as \{.*\}, got \[\(1, 2\)\]"),
        ({"bound": True}, "bound must be one of quick, close, got True"),
        ({"statistic": None}, "statistic must be one of berk-jones, .*, got None"),
        ({"alpha_max": "a"}, "alpha_max must be a number, got 'a'"),
        ({"constraint": np.array(["a", 1, 2, 3], object)}, "constraint must be labels of one kind, got int, str"),
    ],
)
def test_types_that_are_wrong(arguments, message):
    with pytest.raises(TypeError, match=message):
        scan_group(**{"p_values": np.full((4, 3), 0.1)} | arguments)


def test_limits_may_be_an_array():
    p_values = np.full((4, 3), 0.1)
    assert len(scan_group(p_values, sizes={"images": np.array([1, 2])}, random_state=0).images) == 2


def test_a_scanner_says_what_is_wrong():
    with pytest.raises(TypeError, match=r"background must be a Background, got ndarray: use Background\(activations\)"):
        GroupScanner(np.zeros((5, 3)))
    scanner = GroupScanner(Background(np.zeros((5, 3))))
    with pytest.raises(ValueError, match="a group needs at least 2 images, got 1; for single images use scan"):
        scanner.scan(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="the inputs have 2 nodes, but the background has 3"):
        scanner.scan(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="1 of the values are NaN, the first at input 1, node 2"):
        scanner.scan([[0, 0, 0], [0, 0, np.nan]])


PRINT_BITS = """
import hashlib, numpy as np
from subsetscan import scan_group
rng = np.random.default_rng(1)
p_values = rng.integers(1, 500, size=(60, 300)) / 500
digest = hashlib.sha256()
for statistic in ("berk-jones", "higher-criticism"):
    for constraint in (None, np.arange(60) % 3):
        found = scan_group(p_values, statistic, random_state=0, constraint=constraint)
        for array in (found.score, found.alpha, found.images, found.nodes, found.upper_bound):
            digest.update(np.asarray(array).tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_threads_makes_no_difference():
    digests = {
        subprocess.run(
            [sys.executable, "-c", PRINT_BITS],
            env={**os.environ, "RAYON_NUM_THREADS": str(n_threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n_threads in (1, 2, 5)
    }
    assert len(digests) == 1


def test_more_anomalous_images_score_higher(rng):
    values = rng.normal(size=(300, 20))
    anomalous = rng.normal(size=(30, 20)) + np.repeat([1.5, 0], 10)
    rows = scan_proportions(
        Background(values[:200]), values[200:], anomalous, size=20, proportions=(0, 0.2, 0.5), n_groups=20, restarts=2
    )
    assert [row.n_anomalous for row in rows] == [0, 4, 10]
    assert np.all(np.diff([np.median(row.scores) for row in rows]) > 0)
    assert rows[2].auroc.value == 1
    assert min(rows[2].precision, rows[2].recall) > 0.8
    assert np.isnan(rows[0].recall)
    with pytest.raises(ValueError, match="groups of 80 images with up to 40 anomalous ones cannot be drawn from 100"):
        scan_proportions(Background(values[:200]), values[200:], anomalous, size=80)
