"""The default scan of groups: what it is made of, that it finds what is shared, and that clean groups stay clean."""

import numpy as np
import pytest

from subsetscan import Background, GroupScanner, scan_group
from subsetscan.calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values
from subsetscan.detectors import AutomaticDetector, MahalanobisDetector
from subsetscan.groups_automatic import AutomaticGroupScanner
from subsetscan.residuals import Residuals, on_grid, within_sample_ranks


@pytest.fixture(scope="module")
def draw():
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(6, 40))
    return lambda n: (rng.normal(size=(n, 6)) @ mix + rng.normal(size=(n, 40))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(draw):
    clean = draw(400)
    return clean, AutomaticGroupScanner(n_groups=39, n_folds=3, random_state=0).fit(clean)


def parts_of(clean, group):
    """The four scores of a group beside clean rows."""
    scores = []
    for of in ("ranks", "values"):
        transformer = Residuals()
        values = [within_sample_ranks(x) if of == "ranks" else x for x in (clean, group)]
        background, own = (on_grid(x) for x in (transformer.fit_transform(values[0]), transformer.transform(values[1])))
        p_values = [Background(sign * background).p_values(sign * own) for sign in (1, -1)]
        alpha_max = 10 / (len(clean) + 1)
        scores.append(scan_group(np.concatenate(p_values, axis=1), alpha_max=alpha_max, random_state=0).score)
    for detector in (AutomaticDetector(), MahalanobisDetector(of="ranks")):
        p_values = extrapolated_p_values(detector.fit(clean).anomaly_score(group), detector.null_scores_)
        scores.append(-np.log(p_values).sum())
    return scores


def combined_of(p_values):
    """Fisher's sum of the harmonic mean of the first two and of the others."""
    return -2 * np.log([2 / (1 / p_values[:, :2]).sum(axis=1), p_values[:, 2], p_values[:, 3]]).sum(axis=0)


def test_the_scores_are_those_of_its_parts(fitted, draw):
    clean, scanner = fitted
    group = draw(30)
    expected = parts_of(clean, group)
    found = scanner.scan(group)
    assert found.part_scores == pytest.approx(expected, rel=1e-9)
    null = scanner.null_part_scores(30)
    assert null.shape == (39, 4)
    p_values = np.array([[extrapolated_p_values(np.array([s]), null[:, n])[0] for n, s in enumerate(expected)]])
    among = np.column_stack([extrapolated_null_p_values(own) for own in null.T])
    assert found.score == pytest.approx(combined_of(p_values)[0], rel=1e-9)
    assert scanner.null_scores(30) == pytest.approx(combined_of(among), rel=1e-9)
    assert found.p_value == conformal_p_values(combined_of(p_values), combined_of(among))[0]


def test_clean_groups_are_scored_beside_the_other_folds_and_widened_about_their_mean(fitted):
    clean, scanner = fitted
    order, rng = np.random.RandomState(0).permutation(400), np.random.default_rng(0)
    scores = []
    for n in range(6):
        fold = np.sort(order[n % 3 :: 3])
        rows = np.sort(rng.choice(len(fold), 50, replace=False))
        scores.append(parts_of(np.delete(clean, fold, axis=0), clean[fold[rows]]))
    with pytest.warns(UserWarning, match="6 clean groups"):
        scanner = AutomaticGroupScanner(n_groups=6, n_folds=3, random_state=0).fit(clean)
    mean = np.mean(scores, axis=0)
    assert scanner.null_part_scores(50) == pytest.approx(mean + (scores - mean) * np.sqrt(450 / 350), rel=1e-9)


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
        scanner = GroupScanner.automatic(draw(300), n_groups=39, n_folds=3, random_state=seed)
        flagged += [scanner.scan(draw(40)).p_value <= 0.2 for _ in range(20)]
    assert 0.08 < np.mean(flagged) < 0.27


def test_a_seed_gives_the_same(draw):
    clean, group = draw(200), draw(20)
    first, second = (GroupScanner.automatic(clean, n_groups=19, random_state=5).scan(group) for _ in range(2))
    assert (first.score, first.p_value) == (second.score, second.p_value)
    assert np.array_equal(first.images, second.images)


def test_what_cannot_be_scanned_is_refused(fitted, draw):
    _, scanner = fitted
    with pytest.raises(ValueError, match="groups of 101 images need at least 202 clean images in each of the 3 folds"):
        scanner.scan(draw(101))
    with pytest.raises(ValueError, match="features"):
        scanner.scan(draw(30)[:, :5])
    with pytest.raises(ValueError, match="at least 2 images"):
        scanner.scan(draw(1))
    with pytest.raises(ValueError, match="NaN"):
        scanner.scan(np.full((30, 40), np.nan, np.float32))
    with pytest.raises(ValueError, match="n_groups must be at least 1, got 0"):
        GroupScanner.automatic(draw(50), n_groups=0)
    with pytest.raises(ValueError, match="n_folds must be at least 2, got 1"):
        GroupScanner.automatic(draw(50), n_folds=1)
    with pytest.raises(ValueError, match="5 folds need at least 20 clean images, got 19"):
        GroupScanner.automatic(draw(19))
    with pytest.raises(ValueError, match="2 dimensions"):
        GroupScanner.automatic(np.zeros(5))


def test_frames_with_other_columns_are_refused(draw):
    pandas = pytest.importorskip("pandas")
    names = [f"n{n}" for n in range(40)]
    scanner = GroupScanner.automatic(pandas.DataFrame(draw(60), columns=names), n_groups=19, n_folds=2, random_state=0)
    group = pandas.DataFrame(draw(10), columns=names)
    assert scanner.scan(group).score == scanner.scan(group.to_numpy()).score
    with pytest.raises(
        ValueError, match="the columns must be those of the fit, in the same order, but column 0 is 'n39'"
    ):
        scanner.scan(group[names[::-1]])
    with pytest.raises(ValueError, match="masked"):
        scanner.scan(np.ma.masked_greater(group.to_numpy(), 1))


def test_few_clean_groups_are_warned_of(draw):
    with pytest.warns(UserWarning, match=r"18 clean groups give no p-value below 0.053.*take at least 19"):
        GroupScanner.automatic(draw(60), n_groups=18, n_folds=2, random_state=0)
