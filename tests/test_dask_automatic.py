"""The automatic detector over dask arrays gives what that of one process does, but for the rounding of sums."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from subsetscan.detectors import AutomaticDetector, load_detector

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

from subsetscan.adapters import dask_automatic  # noqa: E402
from subsetscan.adapters.dask_automatic import DaskAutomatic  # noqa: E402

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def inputs(n_samples, n_nodes, n=20, dtype=np.float32, seed=0):
    """Make clean inputs whose nodes depend on each other, and as many clean and odd ones."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(4, n_nodes))
    values = rng.normal(size=(n_samples + n, 4)) @ mix + rng.normal(size=(n_samples + n, n_nodes))
    values[n_samples + n // 2 :, : n_nodes // 5] += 2
    return values[:n_samples].astype(dtype), values[n_samples:].astype(dtype)


def assert_same(spread, whole, x, chunks):
    """Compare a fit over dask arrays, and what it says of inputs, with those of one process."""
    given = da.from_array(x, chunks)
    np.testing.assert_allclose(spread.part_null_scores_, whole.part_null_scores_, **CLOSE)
    np.testing.assert_allclose(spread.null_scores_, whole.null_scores_, **CLOSE)
    np.testing.assert_allclose(spread.part_scores(given), whole.part_scores(x), **CLOSE)
    found, expected = spread.scan(given, return_nodes=True), whole.scan(x, return_nodes=True)
    np.testing.assert_allclose(found.scores, expected.scores, **CLOSE)
    assert np.array_equal(found.p_values, expected.p_values)
    assert (found.nodes != expected.nodes).nnz == 0
    assert np.array_equal(spread.predict(given), whole.predict(x))


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        *[((150, 40), chunks) for chunks in [(-1, -1), (33, 17), ((1, 149), (3, 30, 7)), (20, -1), (-1, 9)]],
        *[((40, 90), chunks) for chunks in [(-1, -1), (33, 17), ((1, 39), (3, 80, 7)), (20, -1)]],
        ((100, 97), (50, -1)),  # more nodes than inputs once some are trimmed
    ],
    ids=str,
)
def test_chunks_make_no_difference_but_for_rounding(shape, chunks, monkeypatch):
    monkeypatch.setattr(dask_automatic, "_LEAST", 0)  # or all of it would be in one piece
    clean, x = inputs(*shape)
    assert_same(DaskAutomatic().fit(da.from_array(clean, chunks)), AutomaticDetector().fit(clean), x, (9, 31))


@pytest.mark.parametrize("options", [{"calibration": "holdout"}, {"calibration": None}, {"false_positive_rate": 0.2}])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_options_are_those_of_one_process(options, dtype, tmp_path):
    clean, x = inputs(120, 30, dtype=dtype)
    spread = DaskAutomatic(random_state=0, **options).fit(da.from_array(clean, (50, 11)))
    whole = AutomaticDetector(random_state=0, **options).fit(clean)
    if options.get("calibration", True) is None:
        assert not spread.is_calibrated
        spread.calibrate(da.from_array(x, (5, 7)))
        whole.calibrate(x)
    assert_same(spread, whole, x, (7, 20))
    spread.save(tmp_path / "spread.safetensors")
    loaded = load_detector(tmp_path / "spread.safetensors")
    assert type(loaded) is AutomaticDetector
    assert loaded.get_params() == whole.get_params()
    assert_same(spread, loaded, x, (7, 20))
    for name in ("residuals_", "background_", "distances_", "scan_options_", "of_", "dtype_"):
        assert type(getattr(loaded.rank_scan_, name)) is type(getattr(whole.rank_scan_, name))
    np.testing.assert_allclose(loaded.nearest_.points_, whole.nearest_.points_, **CLOSE)
    np.testing.assert_allclose(loaded.value_scan_.residuals_.matrix_, whole.value_scan_.residuals_.matrix_, **CLOSE)


def test_dead_nodes_zeros_and_tiny_values_are_as_in_one_process():
    clean, x = inputs(150, 30, dtype=np.float64)
    clean, x = np.maximum(clean, 0), np.maximum(x, 0)
    clean[:, 3], x[:, 3] = 0.1, 0.1  # the rounded mean of equal values is not always that value
    clean[:, 4] *= 1e-200
    x[:, 4] *= 1e-200
    clean[5:7] = 0
    x[0] = 0
    assert_same(DaskAutomatic().fit(da.from_array(clean, (40, 7))), AutomaticDetector().fit(clean), x, (7, 20))


def test_inputs_may_be_of_a_finer_type_or_none():
    clean, x = inputs(100, 30)
    spread = DaskAutomatic().fit(clean)
    assert np.array_equal(spread.part_scores(x.astype(np.float64) + 1e-12), spread.part_scores(x))
    assert spread.part_scores(x[:0]).shape == (0, 5)
    assert len(spread.p_values(da.from_array(x[:0]))) == 0
    whole = DaskAutomatic().fit(np.round(clean * 9).astype(int))
    assert whole.dtype_ == "float64"


def test_the_order_of_bytes_makes_no_difference():
    clean, x = inputs(60, 30)
    found = DaskAutomatic().fit(da.from_array(clean.astype(">f4"), (20, 10))).part_scores(x.astype(">f4"))
    np.testing.assert_allclose(found, AutomaticDetector().fit(clean).part_scores(x), **CLOSE)


@pytest.mark.parametrize("chunks", [(100, 30), (9, 7)], ids=str)
def test_odd_clean_inputs_are_warned_of(chunks):
    clean, _ = inputs(100, 30)
    copied = np.concatenate([clean[:90], clean[:10]])
    with pytest.warns(UserWarning, match="10 of 100 clean inputs equal an earlier one"):
        DaskAutomatic().fit(da.from_array(copied, chunks))
    rare = np.zeros_like(clean)
    rare[np.arange(100), np.arange(100) % 30] = clean[:, 0]
    with pytest.warns(UserWarning, match="30 of 30 nodes have the same value in all but at most 5 of 100"):
        DaskAutomatic().fit(da.from_array(rare, chunks))


def test_what_is_wrong_is_said():
    clean, x = inputs(100, 30)
    holed, infinite = clean.copy(), clean.copy()
    holed[70, 20], infinite[70, 20] = np.nan, np.inf
    misnamed = da.from_array(clean, (100, 30)).map_blocks(lambda values: values[:, :5], dtype=np.float32)
    huge = clean.astype(np.float64)
    huge[:, 12] *= 1e200
    spread = DaskAutomatic().fit(clean)
    before = dict(vars(spread))
    for call, error, message in [
        (lambda: spread.fit(da.from_array(holed, (40, 9))), ValueError, "X holds NaN, .* at input 70, node 20"),
        (lambda: spread.fit(da.from_array(infinite, (40, 9))), ValueError, "X holds infinite values"),
        (lambda: spread.fit(misnamed), ValueError, r"has shape \(100, 5\) where it was announced as \(100, 30\)"),
        (lambda: spread.fit(da.from_array(huge, (40, 9))), ValueError, "small enough to be squared, those of node 12"),
        (lambda: spread.fit(clean[:1]), ValueError, "at least 2 clean inputs"),
        (lambda: DaskAutomatic(calibration=None).fit(clean[:1]), ValueError, "at least 2 inputs and 1 node"),
        (lambda: spread.fit(clean[:, :0]), ValueError, "at least 1 node is needed, got 0"),
        (lambda: spread.fit(clean[0]), ValueError, r"2 dimensions \(inputs, nodes\)"),
        (lambda: spread.fit(clean.tolist()), TypeError, "an array of dask or numpy, got list"),
        (lambda: spread.fit(clean.astype(complex)), TypeError, "float16, float32, float64 or integers, got .* complex"),
        (lambda: DaskAutomatic(calibration="none").fit(clean), ValueError, "unknown calibration 'none'"),
        (lambda: spread.p_values(x[:, :4]), ValueError, "X has 4 nodes, but the background has 30"),
        (lambda: spread.p_values(x.astype(np.float16)), TypeError, "fitted on float32 and cannot compare float16"),
        (lambda: spread.calibrate(x[:0]), ValueError, "at least 1 clean input"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert vars(spread) == before


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    # 15 s after a worker was lost a cluster closes the one of that name, if it is lost again just then.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
    ):
        yield cluster


@pytest.mark.filterwarnings("ignore")  # of a cluster whose worker dies
@pytest.mark.parametrize("shape", [(150, 40), (40, 90)], ids=str)
def test_a_killed_worker_changes_nothing(cluster, shape):
    from distributed import Client

    clean, x = inputs(*shape)
    whole = AutomaticDetector().fit(clean)
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        pids = client.run(os.getpid)

        def kill():
            time.sleep(0.5)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        spread = DaskAutomatic().fit(da.from_array(clean, (40, 9)))
        killer.join()
        assert_same(spread, whole, x, (7, 20))
        client.wait_for_workers(2, timeout=60)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)  # what it held is made again
        assert_same(spread, whole, x, (7, 20))
        gathered = spread.gather()
    np.testing.assert_allclose(gathered.part_scores(x), whole.part_scores(x), **CLOSE)
    for call in (lambda: spread.p_values(x), spread.gather):
        with pytest.raises(ConnectionError, match="its client was closed: fit again, or gather"):
            call()
