"""Scans within one input: the planted block is found, p-values hold for each length, spans are those of the text."""

import numpy as np
import pytest
from test_transformer import encoder, tokenizer, words_tokenizer  # noqa: F401  # fixtures

from subsetscan import Background, SequenceScanner, scan, scan_group
from subsetscan.networks import Network
from subsetscan.residuals import Residuals, on_grid
from subsetscan.sequence_scan import _evidence
from subsetscan.spaces import Layers, TransformerLayers

FAST = {"n_background": 2000, "random_state": 0}


@pytest.fixture(scope="module")
def mix():
    return np.random.default_rng(3).normal(size=(4, 10))


def drawn(rng, mix, n, sizes=(12, 40)):
    return [rng.normal(size=(t, 4)) @ mix + rng.normal(size=(t, 10)) for t in rng.integers(*sizes, n)]


def test_the_block_is_that_of_residuals_among_clean_positions(rng, mix):
    clean, (odd,) = drawn(rng, mix, 60), drawn(rng, mix, 1, (30, 31))
    odd[4:8, 2:6] += 4
    scanner = SequenceScanner(n_background=10**6, restarts=4, alpha_max=0.05, random_state=2).fit(clean)
    shuffled = np.random.default_rng(2).permutation(60)
    rows = np.concatenate([clean[n] for n in np.sort(shuffled[30:])]).astype(np.float32)
    residuals = Residuals()
    background = Background(on_grid(residuals.fit_transform(rows)))
    p = background.p_values(on_grid(residuals.transform(odd.astype(np.float32))), "two-sided")
    expected = scan_group(p, alpha_max=0.05, restarts=4, random_state=scanner.seed_)
    (found,) = scanner.scan([odd])
    assert found.score == expected.score
    assert found.alpha == expected.alpha
    assert np.array_equal(np.flatnonzero(found.positions), expected.images)
    assert np.array_equal(found.nodes, expected.nodes)
    assert set(range(4, 8)) <= set(expected.images)
    assert np.array_equal(
        found.strength[expected.images], (p[np.ix_(expected.images, expected.nodes)] <= expected.alpha).mean(axis=1)
    )
    null = scanner.scan([clean[n] for n in np.sort(shuffled[:30])])
    assert np.array_equal(scanner.null_scores_, null.score)
    assert np.array_equal(scanner.null_distances_, [one.distances.max() for one in null])
    assert found.p_value == 1 / 31


def test_distances_are_those_from_clean_positions(rng):
    clean = [rng.normal(size=(500, 6)) @ np.diag([1, 2, 3, 4, 5, 6.0]) for _ in range(40)]
    scanner = SequenceScanner(random_state=0).fit(clean)
    (found,) = scanner.scan([np.vstack([np.zeros((499, 6)), [[0, 0, 9, 0, 0, 0]]])])
    assert found.distances.shape == (500,)
    assert found.distances[:499].max() < 0.1
    assert 8 < found.distances[499] < 13  # (9 / 3) squared, a little more as the farthest are left out of the fit


def test_one_strange_position_is_seen_where_no_block_is(rng, mix):
    clean, new = drawn(rng, mix, 400, (60, 61)), drawn(rng, mix, 100, (60, 61))
    for one in new:
        one[30] += 2 * rng.choice([-1, 1], 10)  # on all units a little: none is extreme
    scanner = SequenceScanner(**FAST).fit(clean)
    found = scanner.scan(new)
    by_score = (scanner.null_scores_[:, np.newaxis] >= found.score).mean(axis=0)
    assert np.mean(found.p_value <= 0.05) > np.mean(by_score <= 0.05) + 0.1
    assert np.mean([one.distances.argmax() == 30 for one in found]) > 0.8


def test_p_values_hold_for_each_length(mix):
    rng = np.random.default_rng(8)
    scanner = SequenceScanner(alpha_max=0.2, **FAST).fit(drawn(rng, mix, 800, (3, 120)))
    for sizes in ((3, 10), (50, 60), (100, 120)):
        p_values = scanner.p_values(drawn(rng, mix, 250, sizes))
        for level in (0.05, 0.2):
            assert abs(np.mean(p_values <= level) - level) < 4 * np.sqrt(level / 250)
    assert len(np.unique(scanner.null_sizes_)) > 50


def test_p_values_hold_for_few_inputs_of_many_lengths(rng):
    # Of inputs that are alike each is as likely to have each rank: among all others each rank comes once; of equal ones
    # the higher.
    sizes = rng.integers(5, 200, 40)
    scores = np.log(sizes) * (1 + rng.exponential(size=40))
    others = [np.flatnonzero(np.arange(40) != n) for n in range(40)]
    distances = scores**2 * rng.exponential(size=40)
    for lengths in (sizes, np.full(40, 50)):
        ranks = [
            _evidence((scores[n], distances[n]), lengths[n], (scores[rest], distances[rest]), lengths[rest])[1]
            for n, rest in enumerate(others)
        ]
        above = np.sort(ranks) - np.arange(1, 41) / 40
        assert above.min() > -1e-9
        assert above.max() < 0.051


def test_lengths_beyond_those_of_the_fit_are_warned_of(rng, mix):
    alike = SequenceScanner(**FAST).fit(drawn(rng, mix, 60, (30, 31)))
    with pytest.warns(UserWarning, match="1 inputs have other numbers of positions than the clean ones, 30 to 30"):
        alike.scan(drawn(rng, mix, 1, (31, 32)))
    alike.scan(drawn(rng, mix, 5, (30, 31)))


def test_options_are_those_of_the_fit(rng, mix, tmp_path):
    clean, others = drawn(rng, mix, 60), drawn(rng, mix, 9)
    scanner = SequenceScanner(tail="upper", **FAST).fit(clean)
    before = scanner.scan(others)
    scanner.set_params(alpha_max=0.5, tail="lower", statistic="higher-criticism", restarts=1)
    scanner.save(tmp_path / "s.safetensors")
    for one in (scanner, SequenceScanner.load(tmp_path / "s.safetensors")):
        assert np.array_equal(one.scan(others).score, before.score)
    scanner.set_params(false_positive_rate=0.5)
    assert np.array_equal(scanner.predict(others) == -1, before.p_value <= 0.5)
    assert not np.array_equal(scanner.fit(clean).scan(others).score, before.score)


def test_fine_values_are_compared_as_they_are(rng):
    clean, odd = [rng.normal(size=(30, 12)) + 1e9 for _ in range(120)], rng.normal(size=(30, 12))
    odd[9:14, :4] += 5
    scanner = SequenceScanner(random_state=0).fit(clean)
    (found,) = scanner.scan([odd + 1e9])
    assert found.spans == [(9, 14)]
    assert found.p_value == 1 / 61
    with pytest.raises(TypeError, match="was fitted on float64 and cannot compare float32 with it"):
        scanner.scan([odd.astype(np.float32)])
    coarse = SequenceScanner(random_state=0).fit([(own - 1e9).astype(np.float32) for own in clean])
    assert coarse.scan([odd])[0].score == coarse.scan([odd.astype(np.float32)])[0].score


def test_one_position_and_none(rng, mix):
    scanner = SequenceScanner(**FAST).fit(drawn(rng, mix, 60))
    alone = rng.normal(size=(1, 10)) * 3
    with pytest.warns(UserWarning, match="2 inputs have other numbers of positions than the clean ones, 1[0-9] to 3"):
        found, empty = scanner.scan([alone, np.empty((0, 10))])
    p = scanner.background_.p_values(on_grid(scanner.residuals_.transform(alone.astype(np.float32))), "two-sided")
    expected = scan(p, alpha_max=10 / (scanner.background_.n_samples + 1), return_nodes=True)
    assert found.score == expected.scores[0] > 0
    assert np.array_equal(found.nodes, np.flatnonzero(expected.mask(0, (10,))))
    assert found.spans == [(0, 1)]
    assert (empty.score, empty.spans, empty.p_value) == (0.0, [], 1.0)


def test_results_do_not_depend_on_what_is_beside(rng, mix):
    clean, new = drawn(rng, mix, 60), drawn(rng, mix, 70)
    scanner = SequenceScanner(**FAST).fit(clean)
    together = scanner.scan(new)
    assert np.array_equal(together.score, [scanner.scan([one]).score[0] for one in new])
    assert np.array_equal(together[3:5].p_value, together.p_value[3:5])
    assert np.array_equal(SequenceScanner(**FAST).fit(iter(clean)).scan(iter(new)).p_value, together.p_value)
    assert np.array_equal(scanner.predict(new) == -1, together.p_value <= 0.05)
    assert np.array_equal(scanner.predict(new) == -1, together.is_flagged)
    assert [len(one) for one in (together.spans, together.nodes, together.positions)] == [70] * 3


class Grid(Network):
    """A network whose layer has channels first."""

    def layer_names(self):
        return ("grid",)

    def read(self, inputs, names):
        return {"grid": np.moveaxis(np.asarray(inputs, np.float32), -1, 1)}

    def channel_axis(self, name, shape):
        return 0


def test_regions_of_images(rng):
    clean = rng.normal(size=(120, 8, 6, 5))
    new = rng.normal(size=(3, 8, 6, 5))
    new[1, 2:5, 1:4, :3] += 6
    scanner = SequenceScanner(Layers(Grid(), "all"), **FAST).fit(clean)
    found = scanner.scan(new)[1]
    expected = np.zeros((8, 6), bool)
    expected[2:5, 1:4] = True
    assert np.array_equal(found.positions, expected)
    assert found.nodes.tolist() == [0, 1, 2]
    assert found.spans == []
    assert found.p_value == 1 / 61
    bare = SequenceScanner(**FAST).fit(list(clean))  # the same without a network
    assert np.array_equal(bare.scan(list(new)).score, scanner.scan(new).score)
    last = SequenceScanner(Layers(Grid(), "all"), channel_axis=-1, **FAST).fit(np.moveaxis(clean, -1, 1))
    assert last.n_features_in_ == 8


def test_words_of_texts(encoder, tokenizer, tmp_path):  # noqa: F811
    draw = np.random.default_rng(5)
    clean = ["\n".join(draw.choice(list("abcdefg"), draw.integers(5, 30))) for _ in range(300)]
    scanner = SequenceScanner(TransformerLayers(encoder, tokenizer, ["mlp_1"]), **FAST).fit(clean)
    found = scanner.scan(["a b c d", "a b\tc hjh h d e f"])
    assert [one.positions.size for one in found] == [4, 8]  # the token for the start is no part of the text
    odd = found[1]
    assert odd.text == "a b\tc hjh h d e f"
    for (start, end), word in zip(odd.spans, odd.words(), strict=True):
        assert odd.text[start:end] == word
    assert any(start <= 8 < end or start <= 6 < end for start, end in odd.spans)
    lines = str(odd).splitlines()
    assert lines[1] == "a b c hjh h d e f"
    assert {lines[2][n] for start, end in odd.spans for n in range(start, end)} == {"^"}
    scanner.save(tmp_path / "s.safetensors")
    again = SequenceScanner.load(tmp_path / "s.safetensors", TransformerLayers(encoder, tokenizer, ["mlp_1"]))
    assert np.array_equal(again.scan(clean[:9]).p_value, scanner.scan(clean[:9]).p_value)
    another = TransformerLayers(encoder, tokenizer, ["mlp_2"])
    with pytest.warns(UserWarning, match=r"s.safetensors was fitted with another network for mlp_2"):
        SequenceScanner.load(tmp_path / "s.safetensors", another)
    scanner.space = another
    with pytest.warns(UserWarning, match="the scanner was fitted with another network for mlp_2"):
        scanner.scan(clean[:2])


def test_a_network_that_has_changed_is_warned_of(rng):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((9, 4)), keras.layers.Conv1D(5, 3, name="conv")])
    inputs = rng.normal(size=(60, 9, 4)).astype(np.float32)
    scanner = SequenceScanner(Layers(model, ["conv"]), **FAST).fit(inputs)
    scanner.scan(inputs[:3])
    model.get_layer("conv").set_weights([array + 1 for array in model.get_layer("conv").get_weights()])
    with pytest.warns(UserWarning, match="the scanner was fitted with another network for conv"):
        scanner.scan(inputs[:3])
    scanner.scan(inputs[:3])  # once


def test_what_does_not_fit(encoder, tokenizer, rng, mix, tmp_path):  # noqa: F811
    clean = drawn(rng, mix, 60)
    with pytest.raises(TypeError, match=r"expected Layers, or None for inputs \(P, C\), got str"):
        SequenceScanner("hidden_1").fit(clean)
    with pytest.raises(ValueError, match="expected a space of one layer, got 3: name one"):
        SequenceScanner(TransformerLayers(encoder, tokenizer)).fit(["a b"] * 9)
    with pytest.raises(ValueError, match="no positions beside units of axis 0"):
        SequenceScanner(Layers(encoder, ["logits"])).fit((np.ones((9, 3), int), np.ones((9, 3), int)))
    with pytest.raises(ValueError, match="at least 4 clean inputs are needed, got 3"):
        SequenceScanner().fit(clean[:3])
    with pytest.raises(ValueError, match=r"calibration_fraction must be in \(0, 1\), got 1"):
        SequenceScanner(calibration_fraction=1).fit(clean)
    with pytest.raises(ValueError, match="unknown tail|tail"):
        SequenceScanner(tail="both").fit(clean)
    with pytest.raises(ValueError, match=r"input 1 must have positions and units, .* got \(3,\)"):
        SequenceScanner().fit([clean[0], np.ones(3), *clean])
    clean[7][2, 3] = np.nan
    with pytest.raises(ValueError, match="input 7 has NaN or infinite values at its positions"):
        SequenceScanner().fit(clean)
    clean[7] = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"as many units, got \[3, 10\]|an input has 3 units, the fit had 10"):
        SequenceScanner().fit(clean)
    with pytest.raises(ValueError, match="not fitted yet"):
        SequenceScanner().scan(clean)
    with pytest.warns(UserWarning, match="5 null scores cannot give a p-value of at most 0.05"):
        SequenceScanner(random_state=0).fit(drawn(rng, mix, 10))


def test_figures_mark_what_is_anomalous(encoder, tokenizer, rng):  # noqa: F811
    pytest.importorskip("matplotlib")
    from subsetscan import plot

    draw = np.random.default_rng(5)
    clean = [" ".join(draw.choice(list("abcdefg"), draw.integers(5, 30))) for _ in range(100)]
    found = (
        SequenceScanner(TransformerLayers(encoder, tokenizer, ["mlp_1"]), **FAST).fit(clean).scan(["a b c h j d e f"])
    )
    panel = plot.sequence(found[0]).axes[0]
    assert "".join(text.get_text() for text in panel.texts) == "a b c h j d e f"
    marked = {int(area.get_paths()[0].vertices[:, 0].min()): area.get_alpha() for area in panel.collections}
    tokens = zip(found[0].characters, found[0].strength, strict=True)
    strengths = {n: strength for (start, end), strength in tokens if strength > 0 for n in range(start, end)}
    assert marked.keys() == strengths.keys()
    assert np.array_equal(np.argsort(list(marked.values())), np.argsort([strengths[n] for n in marked]))
    grid = SequenceScanner(**FAST).fit(list(rng.normal(size=(60, 4, 6, 5)))).scan([rng.normal(size=(4, 6, 5)) * 2])[0]
    shown = plot.sequence(grid, rng.random((8, 12, 1))).axes[0].images[-1]
    assert np.array_equal(shown.get_array()[..., 3] > 0, grid.positions)
    line = SequenceScanner(**FAST).fit(list(rng.normal(size=(60, 9, 5)))).scan([rng.normal(size=(9, 5)) * 3])[0]
    bars = plot.sequence(line, rng.normal(size=90)).axes[0].patches
    assert [round(bar.get_x()) for bar in bars] == [10 * n for n in np.flatnonzero(line.positions)]
    volume = SequenceScanner(**FAST).fit(list(rng.normal(size=(60, 2, 3, 4, 5)))).scan([rng.normal(size=(2, 3, 4, 5))])
    with pytest.raises(ValueError, match="positions of 3 axes cannot be drawn"):
        plot.sequence(volume[0])
