"""The default scan of groups: what it is made of, that it finds what is shared, and that clean groups stay clean."""

import numpy as np
import pytest

from subsetscan import Background, GroupScanner, scan_group
from subsetscan.calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values, plan
from subsetscan.combination import combined_scores
from subsetscan.detectors import AutomaticDetector
from subsetscan.groups_automatic import AutomaticGroupScanner
from subsetscan.residuals import Residuals, within_sample_ranks


@pytest.fixture(scope="module")
def draw():
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(6, 40))
    return lambda n: (rng.normal(size=(n, 6)) @ mix + rng.normal(size=(n, 40))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(draw):
    clean = draw(400)
    return clean, AutomaticGroupScanner(n_groups=39, random_state=0).fit(clean)


def test_the_scores_are_those_of_its_parts(fitted, draw):
    clean, scanner = fitted
    shares = plan(400, "holdout", 0.5, 0)
    group = draw(30)
    expected = []
    for of in ("ranks", "values"):
        transformer = Residuals()
        values = [within_sample_ranks(x) if of == "ranks" else x for x in (clean[shares.background], group)]
        background, own = transformer.fit_transform(values[0]), transformer.transform(values[1])
        p_values = [Background(sign * background).p_values(sign * own) for sign in (1, -1)]
        expected.append(scan_group(np.concatenate(p_values, axis=1), alpha_max=10 / 201, random_state=0).score)
    detector = AutomaticDetector().fit(clean[shares.background])
    single = extrapolated_p_values(detector.anomaly_score(group), detector.null_scores_)
    expected.append(-np.log(single).sum())
    null = scanner.null_part_scores(30)
    assert null.shape == (39, 3)
    p_values = np.array([[extrapolated_p_values(np.array([s]), null[:, n])[0] for n, s in enumerate(expected)]])
    among = np.column_stack([extrapolated_null_p_values(own) for own in null.T])
    score = combined_scores(p_values, "harmonic")
    found = scanner.scan(group)
    assert found.score == pytest.approx(score[0], rel=1e-9)
    assert found.p_value == conformal_p_values(score, combined_scores(among, "harmonic"))[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_images_nodes_and_directions_are_named(fitted, draw, sign):
    _, scanner = fitted
    group = draw(50)
    group[10:16, 3:8] += 5 * sign
    found = scanner.scan(group)
    assert found.p_value == 1 / 40
    assert set(range(10, 16)) <= set(found.images.tolist())
    assert set(range(3, 8)) <= set(found.nodes.tolist())
    assert (found.directions[np.isin(found.nodes, range(3, 8))] * sign >= 0).all()


def test_clean_groups_are_flagged_as_often_as_is_asked(draw):
    """On average over backgrounds; without the widening of null scores it would be about 0.3."""
    flagged = []
    for seed in range(8):
        scanner = GroupScanner.automatic(draw(300), n_groups=39, random_state=seed)
        flagged += [scanner.scan(draw(40)).p_value <= 0.2 for _ in range(20)]
    assert 0.08 < np.mean(flagged) < 0.27


def test_null_scores_are_widened_about_their_mean(fitted):
    _, scanner = fitted
    rng = np.random.default_rng(0)
    groups = [np.sort(rng.choice(200, 50, replace=False)) for _ in range(39)]
    sums = np.array([scanner._single[rows].sum() for rows in groups])
    expected = sums.mean() + (sums - sums.mean()) * np.sqrt(250 / 150)
    assert scanner.null_part_scores(50)[:, 2] == pytest.approx(expected)


def test_a_seed_gives_the_same(draw):
    clean, group = draw(200), draw(20)
    first, second = (GroupScanner.automatic(clean, n_groups=19, random_state=5).scan(group) for _ in range(2))
    assert (first.score, first.p_value) == (second.score, second.p_value)
    assert np.array_equal(first.images, second.images)


def test_what_cannot_be_scanned_is_refused(fitted, draw):
    _, scanner = fitted
    with pytest.raises(ValueError, match="groups of 101 images need at least 202 clean images"):
        scanner.scan(draw(101))
    with pytest.raises(ValueError, match="features"):
        scanner.scan(draw(30)[:, :5])
    with pytest.raises(ValueError, match="at least 2 images"):
        scanner.scan(draw(1))
    with pytest.raises(ValueError, match="NaN"):
        scanner.scan(np.full((30, 40), np.nan, np.float32))
    with pytest.raises(ValueError, match="n_groups must be at least 1, got 0"):
        GroupScanner.automatic(draw(50), n_groups=0)
    with pytest.raises(ValueError, match="2 dimensions"):
        GroupScanner.automatic(np.zeros(5))
