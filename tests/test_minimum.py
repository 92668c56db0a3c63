"""Class-conditional detection without labels: the minimum over classes, beside a computation by hand."""

import numpy as np
import pytest

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values
from subsetscan.combination import combined
from subsetscan.detectors import AutomaticDetector, ClassConditionalDetector, CombinedDetector, load_detector
from subsetscan.spaces import Arrays

CENTRES = np.random.default_rng(1).normal(scale=3, size=(3, 12))


def drawn(rng, n):
    labels = rng.integers(3, size=n)
    return (rng.normal(size=(n, 12)) + CENTRES[labels]).astype(np.float32), labels


@pytest.fixture(params=["holdout", "leave-one-out", "automatic"])
def detector(request):
    inner = SubsetScanDetector(calibration=request.param, tail="two-sided", random_state=0)
    return AutomaticDetector() if request.param == "automatic" else inner


def test_the_least_anomalous_class_counts(rng, detector):
    (clean, labels), (others, _) = drawn(rng, 600), drawn(rng, 40)
    whole = ClassConditionalDetector(detector, conditional="min").fit(clean, labels)
    by_class = ClassConditionalDetector(detector).fit(clean, labels)
    p = np.column_stack(
        [
            extrapolated_p_values(
                by_class.anomaly_score(others, np.full(40, k)), by_class.detectors_[k].null_scores_, of_few=True
            )
            for k in range(3)
        ]
    )
    scores = whole.anomaly_score(others)
    assert np.array_equal(scores, -np.log(p.max(axis=1)))
    null = whole.minimum_.null_scores_
    assert len(null) == len(by_class.null_labels_)
    assert np.allclose(whole.p_values(others), [(1 + (null >= score).sum()) / (len(null) + 1) for score in scores])
    if whole.finds_subsets:
        assert np.array_equal(whole.scan(others).scores, by_class.scan(others, p.argmax(axis=1)).scores)


def test_null_scores_are_those_of_the_calibrating_inputs(rng):
    clean, labels = drawn(rng, 400)
    inner = SubsetScanDetector(tail="two-sided", random_state=0)
    whole = ClassConditionalDetector(inner, conditional="min").fit(clean, labels)
    rows = whole.plan(400, labels).calibration
    for row, score in zip(rows, whole.minimum_.null_scores_, strict=True):
        p = []
        for k, one in whole.detectors_.items():
            if k == labels[row]:
                place = list(rows[labels[rows] == k]).index(row)
                n = len(one.null_scores_)
                p.append(extrapolated_null_p_values(one.null_scores_, of_few=True)[place] * (n / (n + 1)))
            else:
                own = one.anomaly_score(clean[[row]])
                p.append(extrapolated_p_values(own, one.null_scores_, of_few=True)[0])
        assert score == -np.log(max(p))


def test_rates_hold_and_a_wrong_label_hides_nothing(rng, detector):
    (clean, labels), (others, _) = drawn(rng, 1500), drawn(rng, 1000)
    whole = ClassConditionalDetector(detector, conditional="min").fit(clean, labels)
    assert abs(np.mean(whole.predict(others) == -1) - 0.05) < 0.025
    between = others[:100] * 0.5 + others[100:200] * 0.5 + np.where(np.arange(12) < 4, 4, 0)
    assert np.mean(whole.predict(between.astype(np.float32)) == -1) > 0.8


@pytest.mark.parametrize("calibration", ["holdout", "leave-one-out"])
def test_rates_hold_where_classes_are_many_and_small(calibration):
    """Of 25 held out an input can be first, second ... of 26: 2 / 26 = 7.7 % must not be flagged at 5 %."""
    both, apart, n_fits = [], [], 40
    for seed in range(n_fits):
        rng = np.random.default_rng(seed)
        centres = rng.normal(scale=4, size=(10, 60))
        labels, own = np.repeat(np.arange(10), 100), rng.integers(10, size=300)
        clean, others = (rng.normal(size=(len(y), 60)) + centres[y] for y in (labels, own))
        inner = SubsetScanDetector(calibration=calibration, random_state=seed)
        whole = ClassConditionalDetector(inner, conditional="min").fit(clean, labels)
        apart.append(np.mean(whole.predict(others) == -1))
        halves = Arrays({"a": (30,), "b": (30,)})
        scanner = ModelScanner(halves, ClassConditionalDetector(inner), combine="min")
        scanner.fit({"a": clean[:, :30], "b": clean[:, 30:]}, labels)
        both.append(np.mean(scanner.predict({"a": others[:, :30], "b": others[:, 30:]}, own) == -1))
    assert np.mean(apart) > 0.02
    for flagged in (apart, both):
        assert np.mean(flagged) < 0.05 + 3 * np.std(flagged) / n_fits**0.5


def test_saved_calibrated_and_scanned(rng, tmp_path):
    (clean, labels), (others, _) = drawn(rng, 600), drawn(rng, 50)
    inner = SubsetScanDetector(tail="two-sided", random_state=0)
    whole = ClassConditionalDetector(inner, conditional="min").fit(clean, labels)
    whole.save(tmp_path / "d.safetensors")
    again = load_detector(tmp_path / "d.safetensors")
    assert again.conditional == "min"
    assert np.array_equal(again.p_values(others), whole.p_values(others))
    scanner = ModelScanner(Arrays({"a": (12,)}), ClassConditionalDetector(inner, conditional="min"), batch_size=37)
    scanner.fit({"a": clean}, labels)
    assert np.array_equal(scanner.p_values({"a": others})["a"], whole.p_values(others))
    assert scanner.explain({"a": others[0]}).spaces["a"].score >= 0
    own, _ = drawn(rng, 80)
    again.calibrate(own)
    assert np.array_equal(again.minimum_.null_scores_, whole.anomaly_score(own))
    again.set_params(detector__false_positive_rate=0.5)
    assert np.array_equal(again.predict(others) == -1, again.p_values(others) <= 0.5)


def test_what_does_not_fit(rng):
    clean, labels = drawn(rng, 400)
    with pytest.raises(ValueError, match="conditional must be 'label' or 'min', got 'max'"):
        ClassConditionalDetector(SubsetScanDetector(), conditional="max").fit(clean, labels)
    with pytest.raises(ValueError, match=r'the calibration must be "holdout" or "leave-one-out", got None'):
        ClassConditionalDetector(SubsetScanDetector(calibration=None), conditional="min").fit(clean, labels)
    scanner = ModelScanner(Arrays({"a": (12,)}), ClassConditionalDetector(SubsetScanDetector(), conditional="min"))
    with pytest.raises(ValueError, match="needs labels, or a classifier"):
        scanner.fit({"a": clean})


@pytest.mark.filterwarnings("ignore:.* have the highest score together")  # of some seeds, with the smallest classes
@pytest.mark.parametrize("sizes", [(100,), (100, 100), (100, 100, 100), (400, 100, 24), (30,) * 10], ids=str)
def test_few_inputs_of_each_class_are_enough(sizes):
    # Held out, 25 inputs of a class: where p-values ended at 1 / 26, those that are first in a class tied with others.
    flagged = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        centres = 3 * rng.normal(size=(len(sizes), 60))
        labels = np.repeat(np.arange(len(sizes)), sizes)
        clean = centres[labels] + rng.normal(size=(len(labels), 60))
        inner = SubsetScanDetector(random_state=seed)
        detector = ClassConditionalDetector(inner, conditional="min", min_class_size=min(sizes)).fit(clean, labels)
        others = centres[rng.choice(labels, 100)] + rng.normal(size=(100, 60))
        flagged.append([(detector.p_values(others + shift) <= 0.05).mean() for shift in (0, 100)])
    flagged = np.mean(flagged, axis=0)
    assert flagged[0] <= 0.06
    assert flagged[1] > 0.8  # where scores tie all the same, it warns


@pytest.mark.parametrize("combine", ["min", "fisher", "fisher+harmonic"])
@pytest.mark.parametrize("n", [*range(2, 13), 20, 30, *range(57, 66), 80])
def test_clean_inputs_have_the_tail_that_new_ones_have(n, combine, rng):
    # One of 61 had a tail beside a new input, none beside the 60 others; of 5 likewise, where few are enough.
    few, flagged = combine == "min", []
    for _ in range(60):
        null, new = rng.normal(size=(n, 4)), rng.normal(size=(100, 4))
        p = np.column_stack([extrapolated_p_values(new[:, k], null[:, k], of_few=few) for k in range(4)])
        p_null = np.column_stack([extrapolated_null_p_values(null[:, k], of_few=few) for k in range(4)])
        flagged.append((conformal_p_values(*combined(p, p_null, combine)) <= 0.05).mean())
    assert np.mean(flagged) <= 0.05 + 4 * np.std(flagged) / np.sqrt(60)


@pytest.mark.parametrize("n", [80, 100, 160, 244])
def test_the_minimum_of_detectors_flags_as_many_as_asked(n):
    # Of 20 null scores the first had 1 / 20 in its part, and a new input 1 / 21: 10 % were flagged.
    flagged = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        parts = [SubsetScanDetector(tail="upper"), SubsetScanDetector(tail="lower")]
        detector = CombinedDetector(parts, random_state=0).fit(rng.normal(size=(n, 40)))
        new = rng.normal(size=(100, 40))
        flagged.append([(detector.predict(new + shift) < 0).mean() for shift in (0, 1)])
    assert np.mean(flagged, axis=0)[0] <= 0.055
    assert np.mean(flagged, axis=0)[1] >= 0.95


@pytest.mark.filterwarnings("default")
def test_scores_that_end_in_a_tie_are_told():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(50), 24)
    clean = 3 * rng.normal(size=(50, 20))[labels] + rng.normal(size=(1200, 20))
    detector = ClassConditionalDetector(SubsetScanDetector(random_state=0), conditional="min", min_class_size=24)
    with pytest.warns(UserWarning, match="of the 300 clean inputs that calibrate have the highest score together"):
        detector.fit(clean, labels)
