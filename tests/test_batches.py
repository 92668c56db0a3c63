"""Detectors mapped over batches give what they give at once."""

import numpy as np
import pytest

from subsetscan import SubsetScanDetector
from subsetscan.adapters.batches import ScoreBatches

RNG = np.random.default_rng(0)
X = RNG.normal(0.3, size=(25, 4, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    detector = SubsetScanDetector(random_state=0).fit(RNG.normal(size=(300, 20)).astype(np.float32))
    path = tmp_path_factory.mktemp("saved") / "detector.safetensors"
    detector.save(path)
    return detector, path


def same(found, detector):
    rows = X.reshape(25, 20)
    assert np.array_equal(found["p_value"], detector.p_values(rows))
    assert np.array_equal(found["score"], detector.anomaly_score(rows))
    assert np.array_equal(found["flagged"], detector.predict(rows) == -1)


def test_batches_are_scored_as_all_at_once(saved):
    detector, path = saved
    score = ScoreBatches(path)
    same(score({"x": X, "n": np.arange(25)}), detector)
    same(score({"x": X.tolist()}), detector)
    column = np.empty(25, object)
    column[:] = list(X)
    same(score({"x": column}), detector)
    parts = [score({"x": X[start : start + 10], "n": np.arange(25)[start : start + 10]}) for start in (0, 10, 20)]
    same({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, detector)
    assert np.array_equal(np.concatenate([part["n"] for part in parts]), np.arange(25))
    assert ScoreBatches(detector)({"x": X[:0]})["p_value"].shape == (0,)


def test_a_hugging_face_dataset_is_mapped(saved):
    datasets = pytest.importorskip("datasets")
    detector, path = saved
    mapped = datasets.Dataset.from_dict({"x": X.reshape(25, 20)}).map(ScoreBatches(path), batched=True, batch_size=7)
    same({name: np.array(list(mapped[name])) for name in ("score", "p_value", "flagged")}, detector)


@pytest.mark.filterwarnings("ignore")  # of ray about itself
def test_a_ray_dataset_is_mapped(saved):
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    detector, path = saved
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        data = ray.data.from_numpy(X.reshape(25, 20)).rename_columns(["x"])
        found = data.map_batches(ScoreBatches, fn_constructor_args=(str(path),), concurrency=2, batch_size=5)
        rows = sorted(found.take_all(), key=lambda row: row["x"].tolist())
    finally:
        ray.shutdown()
    order = np.argsort([row.tolist() for row in X.reshape(25, 20)], axis=0)[:, 0]
    expected = detector.p_values(X.reshape(25, 20))[order]
    assert [row["p_value"] for row in rows] == expected.tolist()


def test_what_is_wrong_is_said(saved):
    detector, _ = saved
    with pytest.raises(ValueError, match="no column 'y', only 'x'"):
        ScoreBatches(detector, "y")({"x": X})
    with pytest.raises(ValueError, match="was not calibrated"):
        ScoreBatches(SubsetScanDetector(calibration=None).fit(X.reshape(25, 20)))
    hidden = np.ma.masked_array(X.reshape(25, 20), X.reshape(25, 20) > 1)
    for column in (hidden, list(hidden)):
        with pytest.raises(ValueError, match="column 'x' must not have masked values"):
            ScoreBatches(detector)({"x": column})
    with pytest.raises(ValueError, match="not fitted"):
        ScoreBatches(SubsetScanDetector())
    with pytest.raises(ValueError, match="20 features"):
        ScoreBatches(detector)({"x": X[:, :2]})
