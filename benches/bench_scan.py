"""The scan beside the same scan in vectorised numpy, on the same arrays; ratios, not seconds, are the result."""

import numpy as np
import pytest

from subsetscan import Background


@pytest.fixture(scope="module")
def layer():
    """ReLU-like activations, about half exact zeros: background (2000, 1024) and images (256, 1024)."""
    rng = np.random.default_rng(0)
    return tuple(np.maximum(rng.normal(size=(n, 1024)), 0).astype(np.float32) for n in (2000, 256))


def numpy_scan(columns, images, alpha_max=0.5):
    """Berk-Jones scores by searchsorted and sort, as one would write it without a core of one's own."""
    m = columns.shape[1]
    counts = [m - np.searchsorted(column, x, side="left") for column, x in zip(columns, images.T, strict=True)]
    p = np.sort((np.stack(counts, axis=1) + 1) / (m + 1), axis=1)
    k = np.arange(1, p.shape[1] + 1)
    return np.where(p <= alpha_max, -k * np.log(p), 0).max(axis=1)


@pytest.mark.benchmark(group="fit")
def test_fit(benchmark, layer):
    benchmark(Background, layer[0], "upper", 0.5)


@pytest.mark.benchmark(group="fit")
def test_fit_numpy(benchmark, layer):
    benchmark(lambda: np.sort(layer[0].T, axis=1))


@pytest.mark.benchmark(group="scan 256 images")
def test_scan(benchmark, layer):
    benchmark(Background(layer[0], "upper", 0.5).scan, layer[1])


@pytest.mark.benchmark(group="scan 256 images")
def test_scan_numpy(benchmark, layer):
    columns = np.sort(layer[0].T, axis=1)
    scores = benchmark(numpy_scan, columns, layer[1])
    assert np.allclose(scores, Background(layer[0]).scan(layer[1]).scores, rtol=1e-12)


@pytest.mark.benchmark(group="scan 1 image")
def test_scan_one(benchmark, layer):
    benchmark(Background(layer[0], "upper", 0.5).scan, layer[1][:1])


@pytest.mark.benchmark(group="scan 1 image")
def test_scan_one_numpy(benchmark, layer):
    columns = np.sort(layer[0].T, axis=1)
    benchmark(numpy_scan, columns, layer[1][:1])
