"""`subsetscan experiment peers`: each method against a plain computation, the groups of kinds, the page's sentences."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pyod.models.ecod import ECOD
from scipy.special import logsumexp, softmax
from scipy.stats import chi2, combine_pvalues
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from subsetscan.background import Background
from subsetscan.calibration import extrapolated_null_p_values, extrapolated_p_values, has_tail
from subsetscan.combination import combined
from subsetscan.detectors import AutomaticDetector, OutlierDetector
from subsetscan.lab.comparators import Head, LocalDimension, RelativeMahalanobis, TailSum, VirtualLogit
from subsetscan.lab.comparators.outputs import energy, margin, uncertainty
from subsetscan.lab.defaults import run as defaults
from subsetscan.lab.defaults import times as timing
from subsetscan.lab.defaults.cells import CLEAN, read_cells
from subsetscan.lab.defaults.methods import score_layer
from subsetscan.lab.peers import kinds, location, methods
from subsetscan.lab.peers import page as page_module
from subsetscan.lab.peers import run as peers
from subsetscan.lab.subjects.subject import CHOOSE, REPORT, Subject

pytest.importorskip("jinja2")

SQUEEZING = "feature squeezing"  # of the inputs themselves: a subject has its scores
OF_NETWORK = [name for name in methods.NETWORK_METHODS if name != SQUEEZING]
DEFAULTS = Path(__file__).parent.parent / "docs" / "defaults" / "results.json"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def head(rng):
    return Head(rng.normal(size=(12, 3)), rng.normal(size=3))


# Within a layer.


def test_lid_is_the_estimate_and_finds_the_dimension(rng):
    clean, own = rng.normal(size=(60, 5)), rng.normal(size=(4, 5))
    detector = LocalDimension(n_neighbors=7).fit(clean)
    for score, x in zip(detector.anomaly_score(own), own, strict=True):
        near = np.sort(np.linalg.norm(clean - x, axis=1))[:7]
        assert score == pytest.approx(-1 / np.mean(np.log(near / near[-1])))
    others = np.sort(np.linalg.norm(np.delete(clean, 3, axis=0) - clean[3], axis=1))[:7]
    assert detector.null_scores_[3] == pytest.approx(-1 / np.mean(np.log(others / others[-1])))
    # The estimate with k neighbours is k / (k - 1) too large on average, as the last is counted with log 1.
    for dimensions in (1, 4):
        even = rng.uniform(size=(4000, dimensions)) @ np.linalg.qr(rng.normal(size=(9, 9)))[0][:dimensions]
        found = np.median(LocalDimension(n_neighbors=50).fit(even).null_scores_)
        assert found == pytest.approx(dimensions, rel=0.15)


def test_lid_of_copies_and_of_equal_distances():
    copies = np.zeros((30, 2))
    assert (LocalDimension().fit(copies).null_scores_ == 0).all()
    corners = LocalDimension().fit(np.eye(30))
    assert corners.null_scores_ == pytest.approx(1e12)
    with pytest.raises(ValueError, match="20 neighbors need at least 21 inputs, got 20"):
        LocalDimension().fit(copies[:20])


def test_fisher_is_that_of_scipy(rng):
    clean, own = rng.normal(size=(50, 6)), rng.normal(size=(5, 6))
    detector = methods.LAYER_METHODS["Fisher, all nodes"].make().fit(clean)
    p_values = Background(clean).p_values(own, tail="two-sided")
    for score, p in zip(detector.anomaly_score(own), p_values, strict=True):
        assert score == pytest.approx(combine_pvalues(p, "fisher").statistic)
        assert chi2.sf(score, 12) == pytest.approx(combine_pvalues(p, "fisher").pvalue)


@pytest.mark.parametrize("digits", [9, 0])
def test_ecod_is_that_of_pyod_one_row_at_a_time(rng, digits):
    clean, own = rng.normal(size=(80, 6)).round(digits), rng.normal(0, 2, size=(8, 6)).round(digits)
    detector = TailSum().fit(clean)
    assert detector.anomaly_score(own) == pytest.approx([ECOD().fit(clean).decision_function(x[None])[0] for x in own])
    left_out = [ECOD().fit(np.delete(clean, n, axis=0)).decision_function(clean[[n]])[0] for n in range(5)]
    assert detector.null_scores_[:5] == pytest.approx(left_out)


def test_ecod_orders_as_fisher_does_where_nothing_ties(rng):
    clean, own = rng.normal(size=(79, 6)), rng.normal(0, 2, size=(40, 6))
    fisher = methods.LAYER_METHODS["Fisher, all nodes"].make().fit(clean).anomaly_score(own)
    assert 2 * TailSum().fit(clean).anomaly_score(own) - 2 * 6 * np.log(2) == pytest.approx(fisher)


def test_those_of_scikit_learn_are_calibrated_by_what_is_held_out(rng):
    clean, own = rng.normal(size=(200, 4)), rng.normal(5, size=(3, 4))
    for name in ("Isolation Forest", "One-class SVM"):
        detector = methods.LAYER_METHODS[name].make().fit(clean)
        assert len(detector.null_scores_) == 50
        assert (detector.p_values(own) == 1 / 51).all()


# With the last layer.


def test_scores_of_logits(rng):
    logits = rng.normal(size=(20, 5))
    assert energy(logits) == pytest.approx([-np.log(np.exp(row).sum()) for row in logits])
    assert uncertainty(logits) == pytest.approx(-np.log(softmax(logits, axis=1).max(axis=1)))
    assert margin(logits) == pytest.approx([np.sort(row)[-2] - np.sort(row)[-1] for row in logits])


def test_a_head(rng, head):
    values = rng.normal(size=(7, 12)).astype(np.float32)
    assert head.logits(values) == pytest.approx(values.astype(float) @ head.weights + head.bias)
    assert head.labels(values).tolist() == head.logits(values).argmax(axis=1).tolist()


def test_relative_mahalanobis_is_one_distance_less_another(rng, head):
    clean, own = rng.normal(size=(300, 12)), rng.normal(size=(6, 12))
    labels = head.labels(clean)
    found = RelativeMahalanobis(head).fit(clean)
    means = [clean[labels == label].mean(axis=0) for label in range(3)]
    within, whole = found.within_.covariance_, found.whole_.covariance_
    centred = clean - np.array(means)[labels]
    assert within == pytest.approx(ledoit_wolf(centred, assume_centered=True)[0])
    for score, x in zip(found.score_samples(own), own, strict=True):
        to_class = min((x - mean) @ np.linalg.inv(within) @ (x - mean) for mean in means)
        to_all = (x - clean.mean(axis=0)) @ np.linalg.inv(whole) @ (x - clean.mean(axis=0))
        assert score == pytest.approx(to_all - to_class)
    with pytest.raises(ValueError, match=r"expected clean inputs of at least 2 classes, the classifier sees class \d"):
        RelativeMahalanobis(head).fit(clean[labels == labels[0]])


def test_vim_is_a_projection_and_the_energy(rng, head):
    clean, own = rng.normal(size=(300, 12)), rng.normal(size=(6, 12))
    found = VirtualLogit(head, n_directions=5).fit(clean)
    origin = np.linalg.lstsq(head.weights.T, -head.bias, rcond=None)[0]
    assert np.abs(head.logits(origin[None])).max() < 1e-9
    _, _, axes = np.linalg.svd(clean - origin, full_matrices=False)
    main = axes[:5].T @ axes[:5]

    def off(values):
        return np.linalg.norm((values - origin) - (values - origin) @ main, axis=1)

    assert found.residual(own) == pytest.approx(off(own))
    scale = head.logits(clean).max(axis=1).mean() / off(clean).mean()
    assert found.score_samples(own) == pytest.approx(logsumexp(head.logits(own), axis=1) - scale * off(own))
    for n in (0, 12):
        with pytest.raises(ValueError, match=f"n_directions must be between 1 and 11, got {n}"):
            VirtualLogit(head, n_directions=n).fit(clean)
    with pytest.raises(ValueError, match="lie along 6 directions: there is no residual"):
        VirtualLogit(Head(head.weights, np.zeros(3))).fit(np.zeros((50, 12)))


@pytest.fixture
def network(rng, head):
    """Two layers of 12 and 5 nodes, clean rows and others, and the scores of all methods."""
    backgrounds = {"first": rng.normal(size=(150, 5)), "last": rng.normal(size=(150, 12))}
    rows = {"first": rng.normal(0.5, 1, size=(20, 5)), "last": rng.normal(0.5, 1, size=(20, 12))}
    layers = {layer: score_layer(backgrounds[layer], rows[layer], methods.LAYER_METHODS) for layer in backgrounds}
    return backgrounds, rows, layers, methods.over_network(layers, backgrounds, rows, ("last", head))


def test_methods_over_a_network(network, head):
    backgrounds, rows, layers, found = network
    assert list(found) == [*methods.LAYER_METHODS, *OF_NETWORK]
    assert all(np.isfinite(scores.own).all() and len(scores.own) == 20 for scores in found.values())
    for name, within in (("deep kNN, ranks", "10 neighbours, cosine"), ("LID, summed", "LID")):
        p = [[(1 + np.sum(of[within].null >= score)) / 151 for score in of[within].own] for of in layers.values()]
        assert found[name].own == pytest.approx(-np.sum(p, axis=0))
        p = [[np.sum(of[within].null >= score) / 151 for score in of[within].null] for of in layers.values()]
        assert found[name].null == pytest.approx(-np.sum(p, axis=0))
    labels, own = head.labels(backgrounds["last"]), head.labels(rows["last"])
    counts = np.zeros(20)
    for layer in layers:
        unit, others = (of[layer] / np.linalg.norm(of[layer], axis=1, keepdims=True) for of in (rows, backgrounds))
        nearest = np.argsort(-unit @ others.T, axis=1)[:, :50]
        counts += (labels[nearest] != own[:, None]).sum(axis=1)
    assert found["deep kNN, classes"].own.tolist() == counts.tolist()
    assert found["energy"].null == pytest.approx(energy(head.logits(backgrounds["last"])))
    vim = OutlierDetector(VirtualLogit(head), random_state=0).fit(backgrounds["last"])
    assert found["ViM"].own.tolist() == vim.anomaly_score(rows["last"]).tolist()
    assert found["ViM"].null.tolist() == vim.null_scores_.tolist()


def as_coarse_as_new_ones(null_scores, **options):
    p_values = extrapolated_null_p_values(null_scores, **options)
    counted = options.get("of_few") and not has_tail(null_scores, of_few=True)
    return p_values if counted else p_values * (len(null_scores) / (len(null_scores) + 1))


def test_a_detector_for_each_class_that_is_seen(network, head):
    backgrounds, rows, _, found = network
    labels, own = head.labels(backgrounds["last"]), head.labels(rows["last"])
    p, p_null = np.empty((20, 2)), np.empty((150, 2))
    for label in range(3):
        assert np.sum(labels == label) >= 20
        for n, layer in enumerate(backgrounds):
            detector = AutomaticDetector().fit(backgrounds[layer][labels == label])
            scores = detector.anomaly_score(rows[layer][own == label])
            p[own == label, n] = extrapolated_p_values(scores, detector.null_scores_)
            p_null[labels == label, n] = as_coarse_as_new_ones(detector.null_scores_)
    scores, null_scores = combined(p, p_null, "fisher+harmonic")
    assert found[methods.BY_CLASS].own == pytest.approx(scores)
    assert found[methods.BY_CLASS].null == pytest.approx(null_scores)
    few = labels != 0
    few[np.flatnonzero(labels == 0)[:19]] = True
    less = {layer: values[few] for layer, values in backgrounds.items()}
    layers = {layer: score_layer(less[layer], rows[layer], methods.LAYER_METHODS) for layer in less}
    of = methods.over_network(layers, less, rows, ("last", head))[methods.BY_CLASS]
    assert of.own[own == 0].min() > of.null.max()  # 19 inputs cannot say what is usual
    assert len(of.null) == np.sum(labels != 0)


def test_the_class_for_which_an_input_is_least_anomalous(network, head):
    backgrounds, rows, _, found = network
    labels = head.labels(backgrounds["last"])
    p, p_null = np.empty((20, 2)), np.empty((150, 2))
    for n, layer in enumerate(backgrounds):
        of_classes, null_of_classes = np.empty((20, 3)), np.empty((150, 3))
        for label in range(3):
            detector = AutomaticDetector().fit(backgrounds[layer][labels == label])
            own = detector.anomaly_score(rows[layer])
            of_classes[:, label] = extrapolated_p_values(own, detector.null_scores_, of_few=True)
            own = detector.anomaly_score(backgrounds[layer])
            null_of_classes[:, label] = extrapolated_p_values(own, detector.null_scores_, of_few=True)
            null_of_classes[labels == label, label] = as_coarse_as_new_ones(detector.null_scores_, of_few=True)
        null = -np.log(null_of_classes.max(axis=1))
        p[:, n], p_null[:, n] = (
            extrapolated_p_values(-np.log(of_classes.max(axis=1)), null),
            extrapolated_null_p_values(null),
        )
    scores, null_scores = combined(p, p_null, "fisher+harmonic")
    assert found[methods.LEAST_CLASS].own == pytest.approx(scores)
    assert found[methods.LEAST_CLASS].null == pytest.approx(null_scores)


def test_networks_that_lack_something_lack_methods(network, head):
    backgrounds, rows, layers, _ = network
    assert list(methods.over_network(layers, backgrounds, rows)) == [
        *methods.LAYER_METHODS, "deep kNN, ranks", "LID, summed",
    ]  # fmt: skip
    one_class = Head(head.weights * 0, np.array([1.0, 0, 0]))
    found = methods.over_network(layers, backgrounds, rows, ("last", one_class))
    assert {methods.BY_CLASS, methods.LEAST_CLASS, "relative Mahalanobis"} == set(OF_NETWORK) - set(found)


# Kinds.


def test_every_kind_of_every_network_is_in_one_group():
    subjects = json.loads(DEFAULTS.read_text())["subjects"]
    assert set(subjects) == set(kinds.KINDS)
    for name, about in subjects.items():
        all_of = [kind for group in kinds.KINDS[name].values() for kind in group]
        assert len(set(all_of)) == len(all_of)
        assert set(kinds.KINDS[name]) <= set(kinds.GROUPS)
        for kind in about["inputs"]:
            if kind != CLEAN:
                assert kinds.group_of(name, kind) in kinds.GROUPS
        for attack, noise in kinds.PAIRS.get(name, {}).items():
            assert kinds.group_of(name, attack) == kinds.ATTACKS
            assert kinds.group_of(name, noise) == kinds.NOISE
            assert {attack, noise} <= set(about["inputs"])
    with pytest.raises(ValueError, match="'fog' of lines is in no group: put it in one of attacks, "):
        kinds.group_of("lines", "fog")


# Location.


def test_what_is_measured_of_locations():
    changed = np.zeros((2, 16), bool)
    changed[0, [0, 1, 9]] = True
    changed[1, 4] = True
    found = {"changed": changed}
    for method in location.METHODS:
        for rule in location.RULES:
            found[f"{method}/{rule}"] = np.array([[True, True, False, False], [False] * 4])
            found[f"{method}/{rule}/clean"] = np.array([[False] * 4, [False, True, False, False]])
    rows = location.located(found)
    assert len(rows) == 12
    assert rows[0] == {
        "method": location.SCAN, "rule": "as many", "precision": 0.5, "precision_low": 0.5, "precision_high": 0.5,
        "recall": (2 / 3 + 0) / 2, "recall_low": 0.0, "recall_high": 2 / 3, "pooled": 0.5, "positions": 1.0,
        "attacked": 0.5, "clean": 0.5,
    }  # fmt: skip


def test_positions_are_scored_plainly(rng):
    clean, own = rng.normal(size=(30, 6, 4)), rng.normal(size=(2, 6, 4))
    scores = {name: fit(clean, np.random.default_rng(0))(own) for name, fit in location._FITS.items()}
    rows = clean.reshape(-1, 4)  # fewer than are drawn: all of them
    nearest = np.linalg.norm(own[:, :, None] - rows, axis=3).min(axis=2)
    assert scores["nearest neighbour"] == pytest.approx(nearest, abs=1e-6)
    for place in range(6):
        precision = np.linalg.inv(np.cov(clean[:, place].T) + 0.01 * np.eye(4))
        centred = own[:, place] - clean[:, place].mean(axis=0)
        each = np.einsum("nc,cd,nd->n", centred, precision, centred)
        assert scores["Mahalanobis, each position"][:, place] == pytest.approx(each)
    assert scores["Mahalanobis, all positions"].shape == (2, 6)
    far = own.copy()
    far[0, 3] += 20
    assert all(fit(clean, np.random.default_rng(0))(far)[0].argmax() == 3 for fit in location._FITS.values())


# The command, on made-up networks.

LAYERS = {"first": 6, "last": 12}


HEAD = Head(np.random.default_rng(3).normal(size=(12, 3)), np.zeros(3))
COUNTS = {"clean": 260, "hit": 30, "noise": 25, "elsewhere": 25}


def made_up(name, role, seed, **options):
    rng = np.random.default_rng(seed)

    def rows(n, shift=0.0):
        return {layer: rng.normal(shift, size=(n, width)).astype(np.float32) for layer, width in LAYERS.items()}

    return Subject(
        name=name,
        source=f"{name}, made up",
        role=role,
        clean=rows(260),
        kinds={"hit": rows(30, 1.0), "noise": rows(25, 0.5), "elsewhere": rows(25, -1.0)},
        inputs={"clean": "usual", "hit": "shifted", "noise": "shifted less", "elsewhere": "the other way"},
        layers={layer: f"{layer} layer" for layer in LAYERS},
        **options,
    )


@pytest.fixture
def made(monkeypatch):
    squeezed = {SQUEEZING: {kind: np.linspace(0, 2 if kind == "hit" else 1, n) for kind, n in COUNTS.items()}}
    monkeypatch.setattr(
        defaults,
        "SUBJECTS",
        {
            "tuned": lambda seed, **_: made_up("tuned", CHOOSE, seed + 1, head=("last", HEAD), scores=squeezed),
            "aside": lambda seed, **_: made_up("aside", REPORT, seed + 2),
        },
    )
    monkeypatch.setattr(peers, "SUBJECTS", defaults.SUBJECTS)
    groups = {kinds.ATTACKS: ("hit",), kinds.NOISE: ("noise",), kinds.OTHER_SOURCES: ("elsewhere",)}
    monkeypatch.setattr(kinds, "KINDS", {"tuned": groups, "aside": groups})
    monkeypatch.setattr(peers, "PAIRS", {"tuned": {"hit": "noise"}})


def ran(folder, **options):
    options = {"subjects": ["tuned", "aside"], "quick": True, "progress": False, "say": lambda _: None} | options
    return peers.peers(folder, **options)


def test_the_page_and_what_is_kept(made, tmp_path, monkeypatch):
    results = ran(tmp_path)
    text = (tmp_path / "peers.md").read_text()
    cells = read_cells(tmp_path / "peers" / "cells.csv")
    assert len(cells) == 2 * 3 * 4
    assert results["subjects"]["tuned"]["groups"] == {
        "hit": "attacks", "noise": "noise and changes", "elsewhere": "other sources",
    }  # fmt: skip
    whole = [cell for cell in cells if cell.layer == page_module.NETWORK and cell.kind == "hit"]
    assert set(whole[0].auroc) == {*methods.LAYER_METHODS, *methods.NETWORK_METHODS}
    clean, hit = np.linspace(0, 1, 260)[200:], np.linspace(0, 2, 30)
    truth = roc_auc_score(np.repeat([0, 1], [60, 30]), np.concatenate([clean, hit]))
    assert whole[0].auroc[SQUEEZING] == pytest.approx(truth, abs=1e-5)
    assert set(whole[1].auroc) == {*methods.LAYER_METHODS, "deep kNN, ranks", "LID, summed"}
    for cell in whole:
        assert all(cell.low[m] <= cell.auroc[m] <= cell.high[m] for m in cell.auroc)
    # One number, all the way: a layer's cell, by a plain computation.
    subject = made_up("aside", REPORT, 2)
    detector = LocalDimension().fit(subject.clean["last"][:200])
    scores = [detector.anomaly_score(x["last"]) for x in ({"last": subject.clean["last"][200:]}, subject.kinds["hit"])]
    truth = roc_auc_score(np.repeat([0, 1], [60, 30]), np.concatenate(scores))
    cell = next(c for c in cells if (c.network, c.layer, c.kind) == ("aside", "last", "hit"))
    assert cell.auroc["LID"] == pytest.approx(truth, abs=1e-5)
    # Losses: those that the cells have.
    for view, layers in ((page_module.WITHIN, tuple(LAYERS)), (page_module.NETWORK, (page_module.NETWORK,))):
        for name in ("tuned", "aside"):
            own = [c for c in cells if c.network == name and c.layer in layers and c.kind != CLEAN]
            means = {m: np.mean([c.auroc[m] for c in own]) for m in own[0].auroc}
            best = max((m for m in means if m not in methods.OURS), key=means.get)
            lead = means["automatic"] - means[best]
            how = "behind" if lead < -0.005 else ("ahead of" if lead > 0 else "close to")
            assert re.search(
                rf"{view} {how} {re.escape(best)}, {means['automatic']:.3f}( \[.*?\])? to {means[best]:.3f}", text
            )
    assert "A small version" in text
    assert "## Attacks beside as much random change" in text
    # Kept: nothing is scored again, and the page is what saved numbers give.
    monkeypatch.setattr(defaults, "score_layer", lambda *_: pytest.fail("scored again"))
    monkeypatch.setattr(peers, "over_network", lambda *_: pytest.fail("scored again"))
    ran(tmp_path)
    saved = json.loads((tmp_path / "peers" / "results.json").read_text())
    page_module.write_page(tmp_path / "again.md", saved, cells, [])
    assert (tmp_path / "again.md").read_text() == (tmp_path / "peers.md").read_text()


def test_the_command_and_its_times(made, tmp_path, monkeypatch, run):
    monkeypatch.setattr(peers, "SHAPES", ((5, 100), (8, 100)))
    asked = ["experiment", "peers", f"--out={tmp_path}", "--quick", "--subjects=aside", "--times", "--json"]
    said = json.loads(run(*asked).out)
    assert list(said["subjects"]) == ["aside"]
    times = timing.read_times(tmp_path / "peers" / "times.csv")
    assert [one.detector for one in times] == 2 * list(methods.LAYER_METHODS)
    assert "## Time and memory" in (tmp_path / "peers.md").read_text()


def test_a_kind_without_a_group_is_refused_before_the_scores(made, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "KINDS", {})
    monkeypatch.setattr(defaults, "score_layer", lambda *_: pytest.fail("scored"))
    with pytest.raises(ValueError, match="'hit' of tuned is in no group"):
        ran(tmp_path)
