"""Backgrounds and scans as objects: what they refuse, how they are copied, threads, Ctrl-C."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subsetscan import Background, ScanResult, _core, scan
from subsetscan.builder import BackgroundBuilder

VALUES = np.arange(12.0).reshape(4, 3)


def holed(*places):
    values = VALUES.copy()
    for place in places:
        values[place] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.empty((0, 3)), "the background is empty: at least 1 input is needed, got 0"),
        (np.empty((3, 0)), "at least 1 node is needed, got 0"),
        (np.zeros(3), r"must have 2 dimensions \(inputs, nodes\), got shape \(3,\); for one input use x.reshape"),
        (np.zeros((2, 2, 2)), r"must have 2 dimensions \(inputs, nodes\), got shape \(2, 2, 2\)"),
        (5.0, r"must have 2 dimensions \(inputs, nodes\), got shape \(\)"),
        (holed((1, 2), (3, 0)), "2 of the values are NaN, the first at input 1, node 2"),
    ],
)
def test_a_background_that_is_none(values, message):
    with pytest.raises(ValueError, match=message):
        Background(values)


@pytest.mark.parametrize("values", [[["a"]], [[1j]], [[None]], np.zeros((2, 2), np.longdouble)])
def test_values_that_are_no_numbers(values):
    with pytest.raises(TypeError, match="must be float16, float32, float64 or integers, got dtype"):
        Background(values)


@pytest.mark.parametrize("method", ["scan", "leave_one_out", "p_values", "p_value_ranges", "rank_histogram"])
def test_images_that_do_not_fit(method):
    ask = getattr(Background(VALUES), method)
    with pytest.raises(ValueError, match="the inputs have 2 nodes, but the background has 3"):
        ask(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="1 of the values are NaN, the first at input 2, node 1"):
        ask(holed((2, 1)))
    with pytest.raises(ValueError, match='unknown tail "left"; known are upper, lower, two-sided'):
        ask(VALUES, tail="left")


@pytest.mark.parametrize("alpha_max", [0.0, -1.0, 1.5, np.nan, np.inf])
def test_alpha_max_out_of_range(alpha_max):
    for ask in (
        lambda: Background(VALUES).scan(VALUES, alpha_max=alpha_max),
        lambda: Background(VALUES).rank_histogram(VALUES, alpha_max=alpha_max),
        lambda: Background(VALUES, tail="upper", alpha_max=alpha_max),
        lambda: scan([[0.5]], alpha_max=alpha_max),
    ):
        with pytest.raises(ValueError, match=r"alpha_max must be in \(0, 1\], got"):
            ask()


@pytest.mark.parametrize(("name", "known"), [("statistic", "berk-jones, higher-criticism"), ("scope", "subset, all")])
def test_unknown_names_list_the_known(name, known):
    for ask in (lambda: Background(VALUES).scan(VALUES, **{name: "x"}), lambda: scan([[0.5]], **{name: "x"})):
        with pytest.raises(ValueError, match=f'unknown {name} "x"; known are {known}'):
            ask()


@pytest.mark.parametrize("p", [0.0, -0.1, 1.5, np.nan, np.inf])
def test_p_values_that_are_none(p):
    with pytest.raises(ValueError, match=r"p-values must be in \(0, 1\], got .* at input 1, node 1"):
        scan([[0.5, 1.0], [0.5, p]])
    with pytest.raises(ValueError, match="at least 1 node"):
        scan(np.empty((2, 0)))


def test_a_compact_background_refuses_what_it_did_not_keep():
    compact = Background(VALUES, tail="upper", alpha_max=0.3)
    compact.scan(VALUES, alpha_max=0.3)
    compact.scan(VALUES, alpha_max=0.1)
    for ask in (
        lambda: compact.scan(VALUES, alpha_max=0.5),
        lambda: compact.scan(VALUES, tail="lower", alpha_max=0.3),
        lambda: compact.p_values(VALUES),
    ):
        with pytest.raises(
            ValueError, match="this background is compact: it serves upper scans with alpha_max up to 0.3"
        ):
            ask()
    with pytest.raises(ValueError, match="needs a tail as well"):
        Background(VALUES, alpha_max=0.3)


def test_leave_one_out_refuses_strangers():
    with pytest.raises(ValueError, match="input 1 is not in the background: no background value of node 0"):
        Background(VALUES).leave_one_out(VALUES[:2] + [[0], [99]])


def test_infinities_have_their_place():
    background = Background([[-np.inf], [0.0], [np.inf]])
    assert background.p_values([[np.inf], [-np.inf]]).tolist() == [[0.5], [1.0]]


def test_too_little_memory_is_an_error():
    """Both of a petabyte: arrays that repeat one row take no memory themselves."""
    many = np.broadcast_to(VALUES[:1].astype(np.float32), (2**46, 3))
    wide = np.broadcast_to(np.float32(0), (2**30, 2**16))  # 2**18 gigabytes
    with pytest.raises(MemoryError, match=r"not enough memory for an array of shape \[65536, 1073741824\]"):
        Background(wide)
    with pytest.raises(MemoryError, match=r"not enough memory for an array of shape \[70368744177664, 3, 1\]"):
        Background(VALUES).p_values(many)


def test_no_image_is_an_answer():
    background = Background(VALUES)
    result = background.scan(np.empty((0, 3)), return_nodes=True)
    assert len(result) == len(result.alphas) == len(result.sizes) == 0
    assert result.nodes.shape == (0, 3)
    assert background.p_values(np.empty((0, 3))).shape == (0, 3)
    assert background.rank_histogram(np.empty((0, 3))).shape == (0, 2)


def test_nothing_extreme_scores_nothing():
    result = Background(np.zeros((5, 3))).scan(np.zeros((2, 3)), return_nodes=True)
    assert result.scores.tolist() == result.alphas.tolist() == result.sizes.tolist() == [0, 0]
    assert result.nodes.nnz == 0


def test_attributes():
    background = Background(VALUES.astype(np.float32))
    assert (background.n_samples, background.n_nodes, background.dtype) == (4, 3, np.float32)
    # A line of keys, and the table.
    assert (background.nbytes, background.tail, background.alpha_max) == (3 * (64 + 80), None, None)
    with pytest.raises(AttributeError):
        background.n_samples = 5


@pytest.mark.parametrize("kept", [{}, {"tail": "two-sided", "alpha_max": 0.2}])
def test_copies(kept, rng):
    background = Background(rng.normal(size=(30, 5)).astype(np.float32), **kept)
    images = rng.normal(size=(6, 5)).astype(np.float32)
    options = {"tail": "two-sided", "alpha_max": 0.2}
    for other in (copy.deepcopy(background), pickle.loads(pickle.dumps(background))):
        assert repr(other) == repr(background)
        assert np.array_equal(other.scan(images, **options).scores, background.scan(images, **options).scores)


def test_the_callers_array_stays_as_it_is(rng):
    values = rng.normal(size=(20, 6))
    before = values.copy()
    background = Background(values)
    background.scan(values)
    assert np.array_equal(values, before)
    first = background.p_values(before)
    values[:] = 0
    assert np.array_equal(background.p_values(before), first)


def test_a_bad_batch_does_not_count():
    builder = BackgroundBuilder(4)
    builder.add(VALUES[:2])
    with pytest.raises(ValueError, match="1 of the values are NaN, the first at input 3, node 0"):
        builder.add(holed((3, 0))[2:])
    with pytest.raises(ValueError, match="was to hold 4 inputs, but 6 were given"):
        builder.add(VALUES)
    with pytest.raises(TypeError, match="the first batch was float64, this one is float32"):
        builder.add(VALUES[2:].astype(np.float32))
    builder.add(VALUES[2:])
    background = builder.finish()
    assert np.array_equal(background.p_values(VALUES), Background(VALUES).p_values(VALUES))
    with pytest.raises(ValueError, match="finished"):
        builder.add(VALUES)


def test_an_unfinished_background():
    builder = BackgroundBuilder(4)
    with pytest.raises(ValueError, match="was to hold 4 inputs, but none were given"):
        builder.finish()
    builder.add(VALUES[:1])
    with pytest.raises(ValueError, match="was to hold 4 inputs, but 1 were given"):
        builder.finish()


@given(
    st.integers(1, 700), st.sampled_from([None, *_core.TAILS]), st.floats(0.01, 1), st.sampled_from("efd"), st.data()
)
def test_parts_of_a_background_are_merged(n, tail, alpha_max, dtype, data):
    values = np.random.default_rng(n).integers(-50, 50, (n, 3)).astype(dtype)
    kept = (None, None) if tail is None else (tail, alpha_max)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, n), max_size=4))), n]
    parts = []
    for start, end in pairwise(cuts):
        parts.append(BackgroundBuilder(n, *kept))
        parts[-1].add(values[start:end])
    order = data.draw(st.permutations(parts))
    whole = pickle.loads(pickle.dumps(order[0]))
    for part in order[1:]:
        whole.merge(pickle.loads(pickle.dumps(part)) if data.draw(st.booleans()) else part)
    assert whole.n_seen == n
    expected = Background(values, *kept)
    assert np.array_equal(whole.finish()._columns(), expected._columns())
    if tail is None:
        first, *others = [Background(values[start:end]) for start, end in pairwise(cuts) if start < end]
        assert np.array_equal(first.merge(*others)._columns(), expected._columns())


def test_only_parts_of_one_background_are_merged():
    builder = BackgroundBuilder(4, "upper", 0.5)
    builder.add(VALUES[:3])
    for kept in ((5, "upper", 0.5), (4, "lower", 0.5), (4, "upper", 0.4), (4,)):
        with pytest.raises(
            ValueError, match=r"n_samples, tail and alpha_max are \(4, 'upper', 0.5\) here and \(.* there"
        ):
            builder.merge(BackgroundBuilder(*kept))
    for other, error, message in [
        (VALUES[:1].astype(np.float32), TypeError, "of this builder are float64, those of the other float32"),
        (VALUES[:1, :1], ValueError, "the inputs have 1 nodes, but the background has"),
        (VALUES[:2], ValueError, "was to hold 4 inputs, but 5 were given"),
    ]:
        part = BackgroundBuilder(4, "upper", 0.5)
        part.add(other)
        with pytest.raises(error, match=message):
            builder.merge(part)
    with pytest.raises(TypeError, match="merged with a BackgroundBuilder, got Background"):
        builder.merge(Background(VALUES))
    with pytest.raises(ValueError, match="cannot be merged with itself"):
        builder.merge(builder)
    builder.merge(BackgroundBuilder(4, "upper", 0.5))  # nothing has come to it
    assert builder.n_seen == 3
    assert np.array_equal(builder.finish(early=True)._columns(), Background(VALUES[:3], "upper", 0.5)._columns())

    with pytest.raises(ValueError, match="is compact, and has dropped .*: merge builders"):
        Background(VALUES).merge(Background(VALUES, "upper", 0.5))
    for other in (VALUES.astype(np.float32), VALUES[:, :1]):
        with pytest.raises(ValueError, match="only backgrounds of the same nodes and type can be merged"):
            Background(VALUES).merge(Background(other))


def test_a_builder_that_is_not_finished_goes_on():
    builder = BackgroundBuilder(4)
    with pytest.raises(ValueError, match="2 of the values are NaN"):
        builder.add(np.full((1, 2), np.nan))  # which does not say how many nodes there are
    builder.add(VALUES[:3])
    with pytest.raises(ValueError, match="was to hold 4 inputs, but 3 were given"):
        builder.finish()
    assert builder.n_seen == 3
    assert np.array_equal(builder.finish(early=True)._columns(), Background(VALUES[:3])._columns())
    empty = BackgroundBuilder(4)
    empty.add(VALUES[:0])
    with pytest.raises(ValueError, match="but none were given"):
        empty.finish(early=True)
    empty.add(VALUES)
    assert empty.finish().n_samples == 4
    assert Background(VALUES, "upper").alpha_max == 0.5
    builder = BackgroundBuilder(4, "upper")
    builder.merge(BackgroundBuilder(4, "upper", 0.5))


def test_a_builder_knows_the_names_of_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2, 3, 4], "b": [100.0, 200, 300, 400]})
    builder = BackgroundBuilder(4)
    builder.add(frame[:2])
    other = BackgroundBuilder(4)
    other.add(frame[2:][["b", "a"]])
    for call in (lambda: builder.add(frame[2:][["b", "a"]]), lambda: builder.merge(other)):
        with pytest.raises(ValueError, match="the columns must be those of .*, but column 0 is 'b'"):
            call()
    part = BackgroundBuilder(4)
    part.add(frame[2:])
    builder.merge(part)
    background = builder.finish()
    with pytest.raises(ValueError, match="column 0 is 'b'"):
        background.p_values(pandas.DataFrame({"b": [250.0], "a": [2.5]}))
    assert np.array_equal(background.p_values([[2.5, 250]]), [[0.6, 0.6]])


def test_a_compact_builder_holds_little_more_than_it_keeps():
    values = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
    builder = BackgroundBuilder(len(values), "upper", 0.05)
    for batch in np.array_split(values, 50):
        builder.add(batch)
    background = builder.finish()
    assert np.array_equal(background._columns(), Background(values, "upper", 0.05)._columns())
    builder = BackgroundBuilder(len(values), "upper", 0.05)
    builder.add(values[:100])
    assert values[:100].nbytes < sys.getsizeof(builder) < values[:120].nbytes
    builder.add(values[100:])
    assert sys.getsizeof(builder) - 1000 < builder.nbytes < 0.065 * values.nbytes
    assert background.nbytes < sys.getsizeof(background) < background.nbytes + 1000


def test_results_are_put_together():
    background = Background(VALUES)
    parts = [background.scan(VALUES[:1] + 5, return_nodes=True), background.scan(VALUES[1:] + 5, return_nodes=True)]
    together, at_once = ScanResult.concatenate(parts), background.scan(VALUES + 5, return_nodes=True)
    assert np.array_equal(together.scores, at_once.scores)
    assert np.array_equal(together.nodes.toarray(), at_once.nodes.toarray())


def test_a_subset_is_laid_out(rng):
    result = Background(rng.normal(size=(30, 6))).scan(rng.normal(1, size=(3, 6)), return_nodes=True)
    for image in (0, 2, -1):
        assert np.array_equal(result.mask(image, (2, 3)).ravel(), result.nodes.toarray()[image])
    with pytest.raises(IndexError, match="there is no input 3 among 3"):
        result.mask(3, (2, 3))
    with pytest.raises(ValueError, match="cannot reshape"):
        result.mask(0, (2, 2))
    with pytest.raises(ValueError, match="the subsets were not kept"):
        Background(VALUES).scan(VALUES).mask(0, (3,))


def test_several_threads_at_once(rng):
    background = Background(rng.normal(size=(200, 50)))
    images = rng.normal(size=(40, 50))
    expected = background.scan(images).scores
    with ThreadPoolExecutor(8) as pool:
        for scores in pool.map(lambda _: background.scan(images).scores, range(40)):
            assert np.array_equal(scores, expected)


PRINT_BITS = """
import hashlib, numpy as np
from subsetscan import Background
rng = np.random.default_rng(1)
values = np.maximum(rng.normal(size=(900, 700)), 0).astype(np.float32)
digest = hashlib.sha256()
for options in ({}, {"tail": "two-sided", "scope": "all", "statistic": "higher-criticism"}):
    for rows in (slice(0, 1), slice(0, 500)):
        result = Background(values[400:]).scan(values[rows], return_nodes=True, **options)
        for array in (result.scores, result.alphas, result.sizes, result.nodes.indices, result.nodes.indptr):
            digest.update(array.tobytes())
print(digest.hexdigest())
"""


def print_bits(**environment):
    """Run the scan in a process of its own; its output, and what it said if it failed."""
    command = [sys.executable, "-c", PRINT_BITS]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


def test_the_number_of_threads_makes_no_difference():
    digests = {print_bits(RAYON_NUM_THREADS=str(n_threads)) for n_threads in (1, 2, 5)}
    assert len(digests) == 1


def test_the_instruction_set_makes_no_difference():
    found = [print_bits(SUBSETSCAN_SIMD=name) for name in ("plain", "avx2", "avx512")]
    assert found[0] == print_bits()
    for (digest, error), name in zip(found, ("plain", "avx2", "avx512"), strict=True):
        missing = f"SUBSETSCAN_SIMD asks for {name}, which this processor does not have"
        assert digest == found[0][0] or missing in error
    assert 'unknown instruction set "sse"; known are plain, avx2, avx512' in print_bits(SUBSETSCAN_SIMD="sse")[1]


FORK = """
import os, sys
import numpy as np
from subsetscan import Background
values = np.random.default_rng(0).normal(size=(400, 200))
background = Background(values)

def scan():  # many images on all threads, and few on this one
    return [background.scan(values[:n] + 1, ties=ties).scores for n in (400, 5) for ties in ("upper", "range")]

expected = scan()
for generation in range(2):  # a child, and a child of the child
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert all(map(np.array_equal, scan(), expected))
print("alike", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork to try")
def test_forked_processes_scan_too():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "alike\n"), done.stderr


# An hour of work in little memory: every image is the same one.
LONG_WORK = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
import numpy as np
from subsetscan import Background
rng = np.random.default_rng(0)
background = Background(rng.normal(size=(2000, 2000)))
images = np.broadcast_to(rng.normal(size=(1, 2000)), (100_000_000, 2000))
print("started", flush=True)
try:
    background.scan(images, alpha_max=1.0)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_ctrl_c_ends_long_work():
    with subprocess.Popen([sys.executable, "-c", LONG_WORK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert output == "interrupted\n"
    assert process.returncode == 0
