"""`subsetscan trace`: the slides' attacks and tables, on a few images; and on a user's own model and pictures."""

import csv
import json
import math

import numpy as np
import pytest

from subsetscan.detectors import LocalSpatialEntropy
from subsetscan.lab import attacks, datasets, networks
from subsetscan.lab.attacks import ATTACKS
from subsetscan.lab.datasets import DATA, load_sample
from subsetscan.lab.experiment import scoring
from subsetscan.lab.experiment.scoring import NULL, Pair
from subsetscan.lab.result_cache import ResultCache
from subsetscan.lab.tracing import run as tracing
from subsetscan.lab.tracing.attacks import STRENGTHS, jobs_of, strengths_of
from subsetscan.lab.tracing.overall import FEWEST
from subsetscan.lab.tracing.pairs import DETECTORS, ENTROPY, pairs_of, with_random_weights
from subsetscan.lab.tracing.published import METHODS, TABLE_1
from subsetscan.lab.tracing.subject import of_model
from subsetscan.measures import area, auroc, mean_auroc
from subsetscan.spaces import FeatureResponse, Pixels

keras = pytest.importorskip("keras")

CLASSIFIER = DATA / "fashion-mnist-classifier.keras"


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_the_slides_report():
    assert list(TABLE_1) == list(STRENGTHS)
    assert set(STRENGTHS) <= set(ATTACKS)
    # Rates rise with the false positives; the slides' own method has the highest AUROC.
    assert all(row.tpr_1 < row.tpr_5 < row.tpr_10 for row in TABLE_1.values())
    assert max(METHODS, key=lambda one: one.auroc or 0).method == "Feature response"
    found = {job.attack: job.n_images for job in jobs_of("valid", STRENGTHS, None, 7)}
    assert found == {"fgsm": None, "gradient": None, "one-pixel": 7, "deepfool": None, "boundary": 7}


def test_attacks_with_their_strengths():
    assert strengths_of("fgsm=0.03, boundary,bim") == {"fgsm": 0.03, "boundary": 0.01, "bim": 0.01}
    assert strengths_of("fgsm") == {"fgsm": STRENGTHS["fgsm"]}
    for text, message in (
        ("magic", "unknown attack 'magic'"),
        ("fgsm=much", "the strength of fgsm must be a number, got 'much'"),
        ("fgsm=-1", "eps must be positive, got -1.0"),
        ("fgsm=", "the strength of fgsm must be a number, got ''"),
        ("fgsm=inf", "eps must be positive and finite, got inf"),
        ("fgsm=nan", "eps must be positive, got nan"),
        ("fgsm=0.03,bim,fgsm=.1", "fgsm is given twice, with strengths 0.03 and 0.1: run once for each strength"),
        ("fgsm,fgsm=0.1", "fgsm is given twice, with strengths 0.1 and 0.1"),
        ("", "expected names of attacks, comma-separated, of fgsm, .*; got ''"),
        ("fgsm,,bim", "got 'fgsm,,bim'"),
        ("=0.1", "got '=0.1'"),
    ):
        with pytest.raises(ValueError, match=message):
            strengths_of(text)


def test_scores_are_those_of_spaces_and_detectors():
    pytest.importorskip("art")
    images, _ = load_sample()
    classifier = networks.load_pretrained("classifier")
    background, sets = images[:300], {"clean": images[300:340], "none": images[:0]}
    done = []
    scores = scoring.score(pairs_of(classifier), background, sets, on_images=done.append)
    assert sum(done) == 2 * 300 + 40
    assert set(scores.pairs()) == set(DETECTORS)
    assert scores.sets() == [NULL, "clean", "none"]
    assert all(len(scores.of("clean", pair)) == 40 for pair in DETECTORS)
    assert all(len(scores.of("none", pair)) == 0 for pair in DETECTORS)
    # Thresholds come from images that no detector was fitted to, or each among the others.
    counts = {str(pair): len(scores.of(NULL, pair)) for pair in DETECTORS}
    assert counts["density of the last hidden layer"] == counts["entropy and upper scan of the response"] == 75
    assert counts[str(ENTROPY)] == counts["feature squeezing"] == 300
    entropy = LocalSpatialEntropy((28, 28, 1))
    for space, name in (
        (FeatureResponse(classifier), ENTROPY),
        (Pixels((28, 28, 1)), Pair("entropy of the image")),
        (FeatureResponse(with_random_weights(classifier)), Pair("entropy of a random network's response")),
    ):
        (values,) = space.transform(sets["clean"]).values()
        assert np.allclose(scores.of("clean", name), entropy.entropy_map(values).mean(axis=(1, 2)), atol=1e-12)


def test_random_weights_are_the_same_ones_in_another_order():
    classifier = networks.load_pretrained("classifier")
    other = with_random_weights(classifier)
    for ours, theirs in zip(classifier.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(np.sort(ours, axis=None), np.sort(theirs, axis=None))
        assert not np.array_equal(ours, theirs)
    again = with_random_weights(classifier).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), again, strict=True))


def test_the_mean_of_several_areas(rng):
    clean, sets = rng.normal(size=50), [rng.normal(mean, size=30) for mean in (0, 1, 3)]
    found = mean_auroc(clean, sets)
    assert found.value == pytest.approx(np.mean([area(clean, own) for own in sets]))
    assert found.low < found.value < found.high
    assert mean_auroc(clean, sets[1:2]) == auroc(clean, sets[1])
    assert mean_auroc(clean, [sets[1]] * 2).value == pytest.approx(auroc(clean, sets[1]).value)
    with pytest.raises(ValueError, match="got 50 clean and 30, 0 anomalous"):
        mean_auroc(clean, [sets[0], np.empty(0)])
    with pytest.raises(ValueError, match="got 50 clean and 0 anomalous"):
        mean_auroc(clean, [])


@pytest.mark.usefixtures("attack_here")
def test_trace_of_a_users_model(tmp_path, monkeypatch):
    """What is written is what the scores say, nothing is done twice, and sources keep their labels."""
    pytest.importorskip("art")
    pytest.importorskip("skimage")
    images, labels = (array[:200] for array in load_sample())
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    asked = {
        "model": CLASSIFIER, "images": tmp_path / "images.npy", "labels": tmp_path / "labels.npy", "n_images": 16,
        "attacks": {"fgsm": 0.1, "one-pixel": 1, "deepfool": 0.02}, "n_slow": 1,
        "n_processes": 1, "progress": False, "say": lambda line: None,
    }  # fmt: skip
    results = tracing.trace(tmp_path / "out", **asked)
    folder = tmp_path / "out" / "tracing"
    (name,) = results["subjects"]
    assert name == CLASSIFIER.name
    assert json.loads((folder / "results.json").read_text())["protocols"] == ["valid", "paper"]
    for protocol, of in results["subjects"][name]["protocols"].items():
        rows = {row["attack"]: row for row in of["attacks"]}
        assert {attack: row["tried"] for attack, row in rows.items()} == {"fgsm": 16, "one-pixel": 1, "deepfool": 16}
        for row in rows.values():
            assert row["protocol"] == protocol
            assert row["n"] == round(row["tried"] * row["success_rate"])
            if row["n"]:
                assert 0 <= row["true_confidence"] < row["target_confidence"] <= 1
        assert rows["fgsm"]["n"] >= FEWEST
        power = {(one["space"], one["set"]): one["10"] for one in of["mmd"]}
        assert power["pixels", "clean"] <= 0.2  # 5 % of 100 tests, more or less
        assert math.isnan(power["pixels", f"{protocol}-one-pixel-1"])  # too few for a set
        drawn = {path.name for path in folder.glob(f"*-{protocol}-*.png")}
        assert drawn == {f"{name}-{protocol}-{what}.png" for what in ["entropy", *(a for a in rows if rows[a]["n"])]}

    cells, overall = rows_of(folder / "cells.csv"), rows_of(folder / "overall.csv")
    assert len(cells) == 2 * 3 * len(DETECTORS)
    assert [(one["protocol"], one["detector"]) for one in overall] == [
        (protocol, detector) for protocol in ("valid", "paper") for detector in map(str, DETECTORS)
    ]
    for one in overall:
        own = [
            c
            for c in cells
            if (c["protocol"], c["space"]) == (one["protocol"], one["detector"]) and int(c["n"]) >= FEWEST
        ]
        for mine, theirs in (("auroc", "auroc"), ("recall", "tpr_5"), ("paired", "paired"), ("noise", "noise")):
            values = [float(c[theirs]) for c in own]
            assert float(one[mine]) == pytest.approx(np.mean(values), abs=2e-6, nan_ok=True)
        recall, false = float(one["recall"]), float(own[0]["fpr_5"])
        expected = recall / (recall + false) if recall + false else math.nan
        assert float(one["precision"]) == pytest.approx(expected, abs=1e-5, nan_ok=True)
    page = (tmp_path / "out" / "tracing.md").read_text()
    assert "slides 95.4%" in page
    assert all(str(pair) in page for pair in DETECTORS)
    assert all((tmp_path / "out" / link).exists() for link in _links(page))

    monkeypatch.setattr(scoring, "score", None)  # all is kept: neither attacked nor scored again
    monkeypatch.setattr(attacks.Attacker, "perturb", None)
    again = tracing.trace(tmp_path / "out", **asked | {"protocol": ["valid"]})
    assert not list(folder.glob("*-paper-*.png"))  # of the run before
    before, after = (repr(one["subjects"][name]["protocols"]["valid"]) for one in (results, again))  # NaN included
    assert before == after


def _links(page):
    return [part.split(")")[0] for part in page.split("](")[1:]]


@pytest.mark.usefixtures("attack_here")
def test_pictures_with_what_the_model_expects(tmp_path):
    """A folder of PNGs, no labels, pixels that are prepared before the network, which gives logits."""
    pytest.importorskip("art")
    from PIL import Image

    images, _ = load_sample()
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, image in enumerate(images[:170]):
        Image.fromarray(np.rint(255 * image[..., 0]).astype(np.uint8)).save(folder / f"{n:03}.png")
    trained = networks.load_pretrained("classifier")
    logits = keras.layers.Dense(10, name="logits")
    inner = keras.Model(trained.inputs, logits(trained.layers[-2].output))
    logits.set_weights(trained.layers[-1].get_weights())
    pixels = keras.Input((28, 28, 1))
    model = keras.Model(pixels, inner(keras.layers.Rescaling(1 / 255)(pixels)))
    model.save(tmp_path / "own.keras")
    lines = []
    results = tracing.trace(
        tmp_path / "out", model=tmp_path / "own.keras", images=folder, preprocessing="0-255", protocol=["valid"],
        attacks={"fgsm": 0.1, "boundary": 0.01}, n_images=6, n_slow=1, n_processes=1, progress=False, say=lines.append,
    )  # fmt: skip
    (found,) = results["subjects"]["own.keras"]["protocols"]["valid"]["attacks"][:1]
    assert (found["given"], found["tried"], found["misclassified_before"]) == (43, 6, 0)
    assert found["n"] > 0
    assert 0 < found["true_confidence"] < found["target_confidence"] < 1
    assert lines[-1].startswith("wrote tracing.md and tracing/ to ")


def test_a_users_model_is_no_dataset_and_no_other_model(tmp_path):
    """Whatever its file is called, and whatever is put before the same weights."""
    images, _ = load_sample()
    np.save(tmp_path / "images.npy", images[:160])
    asked = [("a", "none", 0), ("a", "tf", 0), ("b", "none", 1)]
    subjects = []
    for folder, preprocessing, seed in asked:
        keras.utils.set_random_seed(seed)
        (tmp_path / folder).mkdir(exist_ok=True)
        networks.build_classifier().save(tmp_path / folder / "mnist.keras")
        subjects.append(
            of_model(
                tmp_path / folder / "mnist.keras", tmp_path / "images.npy", None, preprocessing, ResultCache(tmp_path)
            )
        )
    assert {one.name for one in subjects} == {"mnist.keras"}
    assert {one.autoencoder for one in subjects} == {None}
    assert len({one.cache_folder for one in subjects}) == len(asked)
    assert not any(one.cache_folder.startswith("mnist") for one in subjects)


def test_wrong_calls(run, tmp_path):
    images, labels = load_sample()
    np.save(tmp_path / "images.npy", images[:160])
    np.save(tmp_path / "few.npy", images[:159])
    np.save(tmp_path / "narrow.npy", images[:160, :14])
    np.save(tmp_path / "bytes.npy", 255 * images[:160])
    np.save(tmp_path / "labels.npy", labels[:159])
    out, model, of = f"--out={tmp_path / 'out'}", f"--model={CLASSIFIER}", f"--images={tmp_path / 'images.npy'}"
    for options, message in (
        (["--dataset=cifar"], "expected some of fashion-mnist, mnist, got cifar"),
        (["--attacks=magic"], "unknown attack 'magic'"),
        (["--protocol=clipped"], "expected some of valid, paper, got clipped"),
        ([model], "a model and its images go together: got no images"),
        ([of], "a model and its images go together: got no model"),
        ([model, f"--images={tmp_path / 'few.npy'}"], "at least 160 images are needed"),
        ([model, f"--images={tmp_path / 'bytes.npy'}"], "pixels must be in [0, 1]"),
        ([model, of, f"--labels={tmp_path / 'labels.npy'}"], "must hold 160 integers, got int64 of shape (159,)"),
        ([model, of, "--preprocessing=caffe"], 'preprocessing "caffe" is for images of shape (H, W, 3)'),
        ([model, of, "--n-slow=0"], "Invalid value for '--n-slow'"),
        ([model, of, "--n-images=0"], "Invalid value for '--n-images'"),
        (["--protocol=valid,,paper"], "expected names, comma-separated, of valid, paper; got 'valid,,paper'"),
        (["--dataset="], "expected names, comma-separated, of fashion-mnist, mnist; got ''"),
        ([model, f"--images={tmp_path / 'narrow.npy'}"], "must have shape (28, 28, 1), got (14, 28, 1)"),
    ):
        assert message in run("trace", *options, out, code=2).err
    assert not (tmp_path / "out").exists()
    for wrong in ({"n_images": 0}, {"n_slow": 0}, {"n_processes": 0}):
        with pytest.raises(ValueError, match="must be at least 1, got 0"):
            tracing.trace(tmp_path / "out", **wrong)


def test_a_classifier_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: load_sample())
    with pytest.raises(FileNotFoundError, match=r"there is no mnist-classifier\.keras in .*subsetscan train"):
        tracing.trace(tmp_path, dataset=["mnist"], networks_folder=tmp_path)
