"""Scans over dask arrays are those of one process, to the bit, whatever the chunks and whoever is killed."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from subsetscan import Background, SubsetScanDetector
from subsetscan.detectors import load_detector

da = pytest.importorskip("dask.array")

from subsetscan.adapters.dask import DaskBackground, DaskSubsetScan  # noqa: E402

RNG = np.random.default_rng(0)
CLEAN = np.round(RNG.normal(size=(300, 70)), 1).astype(np.float32)
X = np.round(RNG.normal(0.3, size=(40, 70)), 1).astype(np.float32)
CHUNKS = [(300, 70), (64, 17), ((1, 299), (3, 60, 7)), (7, 70), (300, 1), ((0, 200, 0, 100), (30, 0, 40))]


def same(one, other):
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("scores", "alphas", "sizes"))
    assert one.nodes is other.nodes is None or (one.nodes != other.nodes).nnz == 0


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("kept", [(), ("upper", 0.1), ("two-sided", 0.2)], ids=str)
def test_chunks_make_no_difference(chunks, kept):
    background, whole = DaskBackground.fit(da.from_array(CLEAN, chunks), *kept), Background(CLEAN, *kept)
    assert np.array_equal(background.gather()._columns(), whole._columns())
    assert (background.n_samples, background.n_nodes, background.dtype) == (300, 70, np.float32)
    tail, alpha_max = kept or ("lower", 0.7)
    options = {"tail": tail, "alpha_max": alpha_max, "return_nodes": True}
    for x in (X, da.from_array(X, (13, 24)), da.from_array(X[:0])):
        expected = np.asarray(x)
        same(background.scan(x, **options), whole.scan(expected, **options))
        counts = background.rank_histogram(x, tail, alpha_max)
        assert np.array_equal(counts, whole.rank_histogram(expected, tail, alpha_max))
        assert counts.dtype == np.uint32
        if not kept:
            for ties in ("upper", "midrank"):
                found = background.p_values(x, "two-sided", ties).compute()
                assert np.array_equal(found, whole.p_values(expected, "two-sided", ties))
    for same_grid in (False, True):
        expected = whole.leave_one_out(CLEAN, same_grid=same_grid, statistic="higher-criticism", scope="all", **options)
        found = background.leave_one_out(
            da.from_array(CLEAN, (100, 9)), same_grid=same_grid, statistic="higher-criticism", scope="all", **options
        )
        same(found, expected)


@pytest.mark.parametrize(
    "options", [{}, {"calibration": "leave-one-out", "tail": "two-sided"}, {"ties": "midrank"}, {"calibration": None}]
)
def test_the_detector_is_that_of_one_process(options, tmp_path):
    one = DaskSubsetScan(random_state=0, **options).fit(da.from_array(CLEAN, (64, 17)))
    other = SubsetScanDetector(random_state=0, **options).fit(CLEAN)
    if options.get("calibration", True) is None:
        one.calibrate(da.from_array(CLEAN[:50] + 0.01, (9, 70)))
        other.calibrate(CLEAN[:50] + 0.01)
    assert np.array_equal(one.null_scores_, other.null_scores_)
    x = da.from_array(X, (7, 20))
    assert np.array_equal(one.p_values(x), other.p_values(X))
    assert np.array_equal(one.predict(x), other.predict(X))
    same(one.scan(x, return_nodes=True), other.scan(X, return_nodes=True))
    one.save(tmp_path / "one.safetensors")
    other.save(tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
    assert np.array_equal(load_detector(tmp_path / "one.safetensors").p_values(X), other.p_values(X))


def test_what_is_wrong_is_said():
    holed = CLEAN.copy()
    holed[150, 40] = np.nan
    infinite = np.where(np.isnan(holed), np.inf, holed)
    background = DaskBackground.fit(da.from_array(CLEAN, (64, 17)))
    detector = DaskSubsetScan().fit(CLEAN)
    unknown = da.from_array(CLEAN, (64, 17))
    unknown = unknown[unknown[:, 0] > 0]
    misnamed = da.from_array(CLEAN, (300, 70)).map_blocks(lambda values: values[:, :5], dtype=np.float32)
    for call, error, message in [
        (lambda: DaskBackground.fit(da.from_array(holed, (64, 17))), ValueError, "at input 150, node 40"),
        (lambda: background.scan(da.from_array(holed, (50, 70))), ValueError, "x holds NaN, .* at input 150, node 40"),
        (
            lambda: DaskBackground.fit(misnamed),
            ValueError,
            r"has shape \(300, 5\) where it was announced as \(300, 70\)",
        ),
        (lambda: DaskBackground.fit(CLEAN, "up"), ValueError, "unknown tail"),
        (lambda: background.scan(X[:, :4]), ValueError, "have 4 nodes, but the background has 70"),
        (lambda: background.scan(X[0]), ValueError, r"2 dimensions \(inputs, nodes\), got shape \(70,\)"),
        (lambda: background.scan([[0.0] * 70]), TypeError, "an array of dask or numpy, got list"),
        (lambda: background.scan(X, ties="random"), ValueError, "ties 'upper' or 'midrank', got 'random'"),
        (lambda: background.scan(X, alpha_max=0), ValueError, r"alpha_max must be in \(0, 1\]"),
        (lambda: background.scan(unknown), ValueError, "chunks of x have unknown sizes: call compute_chunk_sizes"),
        (lambda: DaskBackground.fit(CLEAN[:, :0]), ValueError, "at least 1 node is needed"),
        (lambda: DaskBackground.fit(CLEAN[:0]), ValueError, "at least 1 input"),
        (lambda: DaskBackground.fit(CLEAN, alpha_max=0.5), ValueError, "needs a tail as well"),
        (lambda: detector.fit(infinite), ValueError, "X holds infinite values, 1 in one chunk"),
        (lambda: detector.scan(np.full_like(X, np.inf)), ValueError, "X holds infinite values"),
        (lambda: detector.calibrate(X[:0]), ValueError, "at least 1 clean input"),
        (lambda: detector.leading(X), NotImplementedError, r"detector.gather\(\).leading"),
        (lambda: DaskSubsetScan(ties="random").fit(CLEAN), ValueError, "ties 'upper' or 'midrank', got 'random'"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert (
        np.array_equal(detector.p_values(X), DaskSubsetScan().fit(CLEAN).p_values(X)) or detector.random_state is None
    )


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.filterwarnings("ignore")  # of a cluster whose worker dies
def test_a_killed_worker_changes_nothing(client):
    background = DaskBackground.fit(da.from_array(CLEAN, (64, 9)), "upper", 0.5)
    expected = Background(CLEAN, "upper", 0.5).scan(X, return_nodes=True)
    same(background.scan(da.from_array(X, (5, 20)), return_nodes=True), expected)

    pids = client.run(os.getpid)

    def kill():
        time.sleep(0.05)
        os.kill(next(iter(pids.values())), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    for _ in range(3):
        same(background.scan(da.from_array(X, (1, 5)), return_nodes=True), expected)
    killer.join()
    client.wait_for_workers(2, timeout=60)
    assert set(client.run(os.getpid).values()) != set(pids.values())
    same(background.scan(da.from_array(X, (5, 20)), return_nodes=True), expected)


@pytest.mark.filterwarnings("ignore")
def test_a_closed_client_is_told(client):
    from distributed import Client

    with Client(client.scheduler.address, set_as_default=False) as own, own.as_current():
        background = DaskBackground.fit(da.from_array(CLEAN, (64, 9)))
        same(background.scan(X), Background(CLEAN).scan(X))
    for call in (background.gather, lambda: background.scan(X), lambda: background.p_values(X)):
        with pytest.raises(ConnectionError, match="its client was closed: fit again, or gather"):
            call()
