"""A mask that would be lost, and scores that are NaN, are refused: what is behind a mask is no value."""

import numpy as np
import pytest

from subsetscan import SequenceScanner, SubsetScanDetector, scan, scan_group
from subsetscan._labels import predicted_labels
from subsetscan.calibration import (
    conformal_p_values,
    extrapolated_null_p_values,
    extrapolated_p_values,
    null_p_values,
    score_threshold,
    select,
)
from subsetscan.combination import combined, combined_scores
from subsetscan.detectors import CalibratedDetector, ClassConditionalDetector, LocalSpatialEntropy
from subsetscan.measures import auroc, shares_above
from subsetscan.scanning import scan_histograms
from subsetscan.selection import overlaps

CLEAN = np.random.default_rng(0).normal(size=(60, 4))
NULL = np.arange(20.0)


def masked(values):
    """Mask the first of the values."""
    values = np.asarray(values)
    mask = np.zeros(values.shape, bool)
    mask.flat[0] = True
    return np.ma.masked_array(values, mask)


class Farthest(CalibratedDetector):
    """Scores that are masked."""

    def __init__(self, calibration="holdout", calibration_fraction=0.5, false_positive_rate=0.05, random_state=0):
        self.calibration, self.calibration_fraction = calibration, calibration_fraction
        self.false_positive_rate, self.random_state = false_positive_rate, random_state

    def fit_background(self, X):
        self.center_ = X.mean(axis=0)

    def anomaly_score(self, X, y=None):
        scores = np.abs(self.check_values(X) - self.center_).max(axis=1)
        return masked(scores) if len(scores) == 3 else scores


@pytest.fixture(scope="module")
def detector():
    return SubsetScanDetector(random_state=0, false_positive_rate=0.1).fit(CLEAN)


@pytest.fixture(scope="module")
def conditional():
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.2)
    return ClassConditionalDetector(detector, min_class_size=10).fit(CLEAN, np.arange(60) % 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda v, *_: conformal_p_values(v([1.0, 2.0]), NULL),
        lambda v, *_: conformal_p_values([1.0], v(NULL)),
        lambda v, *_: extrapolated_p_values(v([1.0, 2.0]), NULL),
        lambda v, *_: extrapolated_p_values([1.0], v(NULL)),
        lambda v, *_: null_p_values(v(NULL)),
        lambda v, *_: extrapolated_null_p_values(v(NULL)),
        lambda v, *_: score_threshold(v(NULL), 0.1),
        lambda v, *_: select(v([0.1, 0.2])),
        lambda v, *_: combined_scores(v([[0.1, 0.2]]), "fisher"),
        lambda v, *_: combined([[0.1, 0.2]], v([[0.1, 0.2]]), "min"),
        lambda v, *_: auroc(v([1.0, 2.0]), np.array([1.0])),
        lambda v, *_: auroc(np.array([1.0]), v([1.0, 2.0])),
        lambda v, *_: shares_above(NULL, v([1.0, 2.0]), [0.1]),
        lambda v, *_: predicted_labels(v([[0.1, 0.9]])),
        lambda v, *_: scan(v([[0.1, 0.9]])),
        lambda v, *_: scan_group(v([[0.1, 0.9], [0.2, 0.3]])),
        lambda v, *_: scan_group([[0.1, 0.9], [0.2, 0.3]], constraint=v([0.0, 1.0])),
        lambda v, *_: LocalSpatialEntropy((3, 3)).entropy_map(v(np.ones((1, 3, 3)))),
        lambda v, *_: SequenceScanner(random_state=0).fit([v(np.ones((9, 2))) for _ in range(9)]),
        lambda v, d, _: d.p_values_of(v([1.0, 2.0])),
        lambda v, d, _: d.decisions_of(v([1.0, 2.0])),
        lambda v, d, _: d.scan(v(CLEAN[:2])),
        lambda v, _, c: c.p_values_of(v([1.0, 2.0]), [0, 1]),
        lambda v, _, c: c.decisions_of(v([1.0, 2.0]), [0, 1]),
        lambda v, _, c: c.p_values(CLEAN[:2], v([0.0, 1.0])),
    ],
)
def test_masked_values_and_nan_are_refused(call, detector, conditional):
    with pytest.raises(ValueError, match="must not have masked values, got 1: fill them first"):
        call(masked, detector, conditional)

    def with_nan(values):
        values = np.array(values, np.float64)
        values.flat[0] = np.nan
        return values

    with pytest.raises(ValueError, match=r"NaN|nan"):
        call(with_nan, detector, conditional)


def test_masked_counts_masks_and_scores_are_refused():
    with pytest.raises(ValueError, match="histogram 0 must not have masked values"):
        scan_histograms([masked([[2, 0]])], 3, 2, ["upper"])
    with pytest.raises(ValueError, match="subset fgsm must not have masked values"):
        overlaps({"fgsm": masked([True, False])})
    with pytest.raises(ValueError, match="scores must not have masked values"):
        Farthest().fit(CLEAN).p_values(CLEAN[:3])


def test_a_mask_that_hides_nothing_is_no_mask():
    scores = np.ma.masked_array([1.0, 2.0], [False, False])
    np.testing.assert_array_equal(conformal_p_values(scores, NULL), conformal_p_values(np.array(scores), NULL))


def test_scores_are_a_row():
    with pytest.raises(ValueError, match=r"scores must have 1 dimension, got shape \(1, 2\)"):
        conformal_p_values([[1.0, 2.0]], NULL)
