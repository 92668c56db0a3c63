"""A coarse background: p-values never too small, and too large by no more than is promised."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TAILS

from subsetscan import Background, GroupScanner
from subsetscan.coarse import CoarseBackground
from subsetscan.detectors import load_detector

RNG = np.random.default_rng(0)
CLEAN = np.round(RNG.normal(size=(700, 6)), 2).astype(np.float32)
X = np.round(RNG.normal(size=(50, 6)), 2).astype(np.float32)


@given(
    st.integers(1, 900), st.integers(1, 300), st.sampled_from(TAILS), st.sampled_from([1, 3, 30, 1000]),
    st.sampled_from("efd"), st.integers(0, 99),
)  # fmt: skip
def test_p_values_are_never_too_small(n, n_edges, tail, n_distinct, dtype, seed):
    rng = np.random.default_rng(seed)
    clean, x = (rng.integers(0, n_distinct, (size, 3)).astype(dtype) for size in (n, 40))
    coarse = CoarseBackground(clean, tail, n_edges)
    assert coarse.n_samples == min(n, n_edges)
    off = coarse.p_values(x) - Background(clean).p_values(x, tail)
    most = 0 if n <= n_edges else (2 if tail == "two-sided" else 1) / (n_edges + 1)
    assert off.min() >= -1e-12
    assert off.max() <= most + 1e-12


def test_it_is_a_quarter_of_the_memory_and_scans():
    clean = RNG.normal(size=(2000, 30)).astype(np.float32)
    coarse, whole = CoarseBackground(clean), Background(clean)
    assert 4 * coarse.nbytes < whole.nbytes
    x = RNG.normal(size=(20, 30)).astype(np.float32)
    x[:10, :12] += 2
    found = coarse.scan(x, return_nodes=True)
    assert found.scores[:10].min() > found.scores[10:].max()
    assert (coarse.nodes_within(x, found.alphas) != found.nodes).nnz == 0
    assert np.array_equal(coarse.rank_histogram(x).sum(axis=1), (coarse.p_values(x) <= 0.5).sum(axis=1))
    assert np.allclose(coarse.summarise(x, "mean-p"), 1 - coarse.p_values(x).mean(axis=1))


def test_it_is_saved_and_pickled(tmp_path):
    coarse = CoarseBackground(Background(CLEAN), "two-sided", 100)
    coarse.save(tmp_path / "coarse.safetensors")
    for other in (
        pickle.loads(pickle.dumps(coarse)),
        CoarseBackground.load(tmp_path / "coarse.safetensors"),
        load_detector(tmp_path / "coarse.safetensors"),
    ):
        assert type(other) is CoarseBackground
        assert (
            repr(other)
            == repr(coarse)
            == ("<CoarseBackground of 700 inputs x 6 nodes, float32, 100 edges for tail='two-sided'>")
        )
        assert np.array_equal(other.p_values(X), coarse.p_values(X))


def test_what_it_cannot_know_is_refused():
    coarse = CoarseBackground(CLEAN)
    for call, message in [
        (lambda: coarse.leave_one_out(CLEAN), "has no inputs to leave out"),
        (lambda: coarse.rank_histogram(CLEAN, membership="inside"), "inputs that are outside, got membership='inside'"),
        (lambda: coarse.nodes_within(X, np.zeros(50), membership="calibrating"), "inputs that are outside"),
        (lambda: coarse.summarise(X, "fisher", membership="inside"), "inputs that are outside"),
        (lambda: coarse.p_values(X, "lower"), "is for tail='upper', got 'lower'"),
        (lambda: coarse.scan(X, tail="two-sided"), "is for tail='upper', got 'two-sided'"),
        (lambda: coarse.scan(X, ties="midrank"), "ties must be 'upper', got 'midrank'"),
        (lambda: GroupScanner(coarse, tail="lower").scan(X), "is for tail='upper', got 'lower'"),
        (lambda: GroupScanner(coarse, ties="midrank").scan(X), "ties must be 'upper', got 'midrank'"),
        (lambda: coarse.p_value_ranges(X), "does not know the range"),
        (lambda: coarse.merge(coarse), "cannot be merged"),
        (lambda: Background(CLEAN).merge(coarse), "only whole backgrounds can be merged, got <CoarseBackground"),
        (lambda: CoarseBackground(Background(CLEAN, "upper", 0.5)), "is made of a whole one, got <Background"),
        (lambda: CoarseBackground(coarse), "is made of a whole one, got <CoarseBackground"),
        (lambda: CoarseBackground(CLEAN, "up"), "unknown tail 'up'"),
        (lambda: CoarseBackground(CLEAN, n_edges=0), "n_edges must be a whole number, at least 1, got 0"),
        (lambda: CoarseBackground(CLEAN, n_edges=2.5), "n_edges must be a whole number, at least 1, got 2.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
