"""`subsetscan experiment adaptive`: budgets hold, surrogates follow the score, gradients and shares are recomputed."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from subsetscan.detectors import AutomaticDetector
from subsetscan.lab.adaptive import run as adaptive_run
from subsetscan.lab.adaptive.attackers import Descent, nearest_of_class
from subsetscan.lab.adaptive.cells import Cell, cell_of, half_budget, interval, read_cells, write_cells
from subsetscan.lab.adaptive.page import _Page
from subsetscan.lab.adaptive.surrogates import SoftScan, Surrogate, matching
from subsetscan.lab.adaptive.trials import ANY, ATTACKERS, DETECTORS, Setting, Trials, best_of
from subsetscan.lab.adaptive.views import differentiable, logits_of
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained
from subsetscan.lab.result_cache import ResultCache
from subsetscan.scanner import ModelScanner
from subsetscan.spaces import ClassifierMargin, Laplacian, Layers, Pixels, ReconstructionError

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
tf = pytest.importorskip("tensorflow")

TINY = Setting(n_background=150, n_own=100, n_clean=60, n_attacked=8, eps=(0.02, 0.05), weights=(0.5,), steps=8)


@pytest.fixture(scope="module")
def networks():
    return load_pretrained("classifier"), load_pretrained("autoencoder")


@pytest.fixture(scope="module")
def sample():
    return load_sample()


@pytest.fixture(scope="module")
def trials(networks, sample, tmp_path_factory):
    return Trials(*sample, *networks, TINY, 0, ResultCache(tmp_path_factory.mktemp("kept"), "test"))


@pytest.fixture(scope="module")
def noised(sample):
    """Clean images, and others with more and more noise."""
    rng = np.random.default_rng(0)
    images = sample[0][-120:]
    sizes = np.repeat([0, 0.01, 0.02, 0.05], 30)[:, np.newaxis, np.newaxis, np.newaxis]
    return np.clip(images + sizes * rng.normal(size=images.shape), 0, 1).astype(np.float32)


def test_views_give_what_the_spaces_give(networks, sample):
    classifier, autoencoder = networks
    errors = [ReconstructionError(autoencoder, m, m) for m in ("absolute", "squared", "signed", "binary-crossentropy")]
    for space in (
        Layers(classifier, "all", pool_above=4096),
        Layers(classifier, ["conv2d_1"], prefix="whole "),
        ClassifierMargin(classifier),
        Laplacian((28, 28, 1)),
        *errors,
    ):
        images = sample[0][:5]
        seen = differentiable([space])(tf.constant(images))
        for name, values in space.transform(images).items():
            np.testing.assert_allclose(np.asarray(seen[name]), values, atol=2e-6)


def test_other_spaces_and_detectors_are_refused_by_name(networks, sample):
    with pytest.raises(TypeError, match="got Pixels"):
        differentiable([Pixels((28, 28, 1))])
    scanner = ModelScanner(Layers(networks[0], ["dense_1"]), AutomaticDetector()).fit(sample[0][:60])
    scanner.detectors_["dense_1"] = object()
    with pytest.raises(TypeError, match="for dense_1, got object"):
        Surrogate(scanner, sample[0][:60], sample[0][60:90])
    with pytest.raises(TypeError, match="leave out pool"):
        differentiable([Layers(networks[0], ["conv2d_1"], pool="mean")])


def test_soft_counts_are_the_counts_where_steps_are_steep():
    rng = np.random.default_rng(0)
    rows, values = rng.normal(size=(199, 40)).astype(np.float32), 100 * rng.normal(size=(5, 40)).astype(np.float32)
    scan = SoftScan(rows, "berk-jones", "upper", 0.5)
    for alpha, counts in zip(scan.alphas, scan.counts(tf.constant(values)), strict=True):
        p_values = (1 + (rows[np.newaxis] >= values[:, np.newaxis]).sum(axis=1)) / 200
        np.testing.assert_allclose(np.asarray(counts), (p_values <= alpha).sum(axis=1), atol=1.0)
    assert not np.asarray(scan.counts(tf.constant(rows.min(axis=0)[np.newaxis]))).any()


@pytest.fixture(scope="module")
def surrogates(trials):
    return {detector: Surrogate(trials.scanner(detector), trials.background, trials.own) for detector in DETECTORS}


@pytest.mark.parametrize(("detector", "least"), [("paper", 0.85), ("preset", 0.7), ("automatic", 0.8)])
def test_a_surrogate_ranks_images_as_the_score_does(trials, surrogates, noised, detector, least):
    scanner, surrogate = trials.scanner(detector), surrogates[detector]
    assert spearmanr(scanner.anomaly_score(noised), np.asarray(surrogate(tf.constant(noised))))[0] > least


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_surrogate_has_the_gradient_of_finite_differences(surrogates, noised, detector):
    surrogate = surrogates[detector]
    # Not at a kink: in flat regions many values equal the background's quantile.
    jitter = np.random.default_rng(1).uniform(-0.02, 0.02, noised[-4:].shape)
    images = tf.constant(np.float32(0.1 + 0.8 * noised[-4:] + jitter))
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = surrogate(images)
    gradient = tape.gradient(score, images)
    # Along the gradient, where the difference is far above the rounding of single precision.
    step = 5e-5 * gradient / tf.reduce_max(abs(gradient), axis=(1, 2, 3), keepdims=True)
    expected = np.asarray(tf.reduce_sum(gradient * step, axis=(1, 2, 3)))
    ahead, behind = np.asarray(surrogate(images + step) - score), np.asarray(score - surrogate(images - step))
    # Where a node meets its threshold there is a kink, and the slope is that of one side, if no other is near.
    off = np.minimum(abs(ahead - expected), abs(behind - expected)) / expected
    assert (expected > 0).all()
    assert np.median(off) < 0.02
    assert off.max() < 0.1


def test_without_weight_the_adaptive_attack_is_the_plain_one(trials, surrogates):
    logits, surrogate = logits_of(load_pretrained("classifier")), surrogates["paper"]
    plain = Descent(logits)(trials.images, trials.labels, 0.05, steps=8)
    adaptive = Descent(logits, surrogate)
    np.testing.assert_array_equal(adaptive(trials.images, trials.labels, 0.05, weight=0.0, steps=8), plain)
    assert (adaptive(trials.images, trials.labels, 0.05, weight=1.0, steps=8) != plain).any()


def test_the_plain_attack_raises_the_lead_and_a_mask_holds(trials):
    logits = logits_of(load_pretrained("classifier"))

    def lead(images):
        found = np.asarray(logits(tf.constant(images)))
        is_true = np.arange(10) == trials.labels[:, np.newaxis]
        return np.where(is_true, -np.inf, found).max(axis=1) - found[is_true]

    mask = trials.images > 0.5
    attacked = Descent(logits)(trials.images, trials.labels, 0.03, steps=10, mask=mask)
    assert (lead(attacked) > lead(trials.images)).all()
    np.testing.assert_array_equal(attacked[~mask], trials.images[~mask])


def test_the_hidden_attack_comes_nearer_to_its_target(trials, networks):
    classifier = networks[0]
    read = differentiable([Layers(classifier, ["conv2d_2", "dense_1"])])
    plain = trials.blind(0.05)["plain"]
    wrong = classifier.predict(plain, verbose=0).argmax(axis=1)
    targets = nearest_of_class(trials.images, wrong, trials.own, trials._own_labels)
    distance = matching(read, targets, trials.own)
    hidden = Descent(logits_of(classifier), distance)(
        trials.images, trials.labels, 0.05, weight=1.0, steps=12, start=plain
    )
    fooled = wrong != trials.labels
    assert fooled.any()
    assert (np.asarray(distance(hidden)) <= np.asarray(distance(plain)))[fooled].all()
    assert (classifier.predict(hidden, verbose=0).argmax(axis=1) != trials.labels)[fooled].all()


def test_the_nearest_of_a_class_is_found():
    clean = np.array([0.0, 0.2, 0.9, 1.0], np.float32)[:, np.newaxis]
    images, classes = np.array([[0.8], [0.1]], np.float32), np.array([0, 1])
    found = nearest_of_class(images, classes, clean, np.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(found, np.array([[0.2], [0.9]], np.float32))
    with pytest.raises(ValueError, match="no clean image of class 5"):
        nearest_of_class(images, np.array([0, 5]), clean, np.array([0, 0, 1, 1]))


@pytest.mark.parametrize("detector", DETECTORS)
def test_attacks_keep_their_budget_and_shares_are_recomputed(trials, networks, detector):
    found = trials.attacked(detector, 0.05)
    images = found["images"].astype(np.float64)
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.abs(images - trials.images).max() <= 0.05 + 1e-7
    classifier, scanner = networks[0], trials.scanner(detector)
    is_undetected = []
    for n, attacker in enumerate(ATTACKERS):
        wrong = classifier.predict(found["images"][n], verbose=0).argmax(axis=1) != trials.labels
        p_values = scanner.p_values(found["images"][n])
        cell = cell_of(detector, attacker, 0.05, found["misclassified"][n].astype(bool), found["p_values"][n])
        assert (cell.n, cell.misclassified) == (8, wrong.sum())
        assert cell.undetected == sum(is_wrong and p > 0.05 for is_wrong, p in zip(wrong, p_values, strict=True))
        if wrong.any():
            assert cell.median_p == np.median(p_values[wrong])
        is_undetected.append(wrong & (p_values > 0.05))
    smaller = trials.attacked(detector, 0.02)
    before = smaller["misclassified"][-1].astype(bool) & (smaller["p_values"][-1] > 0.05)
    np.testing.assert_array_equal(is_undetected[-1], np.any([*is_undetected[:-1], before], axis=0))
    adaptive = is_undetected[list(ATTACKERS).index("adaptive")]
    assert (adaptive >= is_undetected[0]).all()
    assert (adaptive >= is_undetected[1]).all()  # the masked one


def test_clean_images_are_flagged_at_about_the_rate(trials):
    for detector in DETECTORS:
        found = trials.unattacked(detector)
        np.testing.assert_array_equal(found["originals"], trials.scanner(detector).p_values(trials.images))
        assert len(found["clean"]) == 60
        assert np.mean(found["clean"] <= 0.05) < 0.2


def test_the_best_is_misclassified_before_it_is_hidden():
    misclassified = np.array([[True, False, False], [True, True, False]])
    p_values = np.array([[0.2, 0.9, 0.5], [0.1, 0.01, 0.7]])
    assert best_of(misclassified, p_values).tolist() == [0, 1, 0]


def test_half_budgets_lie_on_straight_lines(tmp_path):
    cells = [Cell("d", ANY, eps, 10, n + 1, n, 0.5) for eps, n in ((0.1, 2), (0.2, 4), (0.4, 8))]
    assert half_budget(cells, "undetected") == pytest.approx(0.25)
    assert half_budget(cells[:2], "undetected") == float("inf")
    assert half_budget(cells[:2], "misclassified") == pytest.approx(0.2)
    write_cells(tmp_path / "cells.csv", cells)
    assert read_cells(tmp_path / "cells.csv") == cells
    assert interval(0, 10) == pytest.approx((0, 1 - 0.025**0.1))


def test_too_few_images_are_refused(networks, sample, tmp_path):
    with pytest.raises(ValueError, match="310 that are not attacked and 8"):
        Trials(sample[0][:311], sample[1][:311], *networks, TINY, 0, ResultCache(tmp_path, "test"))


def test_the_experiment_writes_page_numbers_and_figure(tmp_path, monkeypatch, sample):
    monkeypatch.setattr(adaptive_run, "_QUICK", TINY)
    monkeypatch.setattr(adaptive_run, "load_from", lambda *_: sample)
    monkeypatch.setattr(adaptive_run, "DETECTORS", {"paper": DETECTORS["paper"]})
    options = {"quick": True, "progress": False}
    said = []
    results = adaptive_run.adaptive(tmp_path, say=said.append, **options)
    cells = read_cells(tmp_path / "adaptive" / "cells.csv")
    assert len(cells) == len(ATTACKERS) * len(TINY.eps)
    assert (tmp_path / "adaptive" / "success.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "adaptive.md").read_text(encoding="utf-8")
    assert "**A small version" in page
    for detector, about in results["detectors"].items():
        assert f"{about['flagged']['clean']:.1%}" in page
        assert f"**{detector}**" in page
    again = adaptive_run.adaptive(tmp_path, say=said.append, **options)
    assert again["detectors"] == results["detectors"]
    assert again["seconds"]["all"] < results["seconds"]["all"]


@pytest.mark.parametrize(("clean", "said"), [(0.068, True), (0.054, False)])
def test_the_page_says_whose_lead_is_partly_false_alarms(clean, said):
    counts = {"strict": 10, "other": 60}
    cells = [
        Cell(name, attacker, eps, 100, 90, undetected, 0.1)
        for name, undetected in counts.items()
        for attacker in ATTACKERS
        for eps in (0.01, 0.02)
    ]
    flagged = {"strict": clean, "other": 0.055}
    detectors = {name: {"flagged": {"clean": share}} for name, share in flagged.items()}
    last = _Page({"detectors": detectors, "seconds": {"all": 60}}, cells).findings()[-1]
    assert ("The detector strict, which lets least through, flags most of them (6.8%; other 5.5%)" in last) == said


def test_missing_data_names_what_to_install(tmp_path, monkeypatch):
    def missing(*_):
        raise FileNotFoundError("found no fashion-mnist (test)")

    monkeypatch.setattr(adaptive_run, "load_from", missing)
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        adaptive_run.adaptive(tmp_path, progress=False, say=lambda _: None)
