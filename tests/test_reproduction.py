"""`subsetscan reproduce`, in small."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
from in_process import attacks_in_this_process
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from subsetscan import Background
from subsetscan.lab import datasets
from subsetscan.lab.adversaries import Adversaries, Job
from subsetscan.lab.datasets import DATA, load_sample
from subsetscan.lab.experiment.cells import Cell, attack_rows
from subsetscan.lab.experiment.cells import cells as cells_of
from subsetscan.lab.experiment.images import PAPER_SPLIT, SMALL_SPLIT, Images, noisy
from subsetscan.lab.experiment.plan import Network
from subsetscan.lab.experiment.scoring import score
from subsetscan.lab.networks import load_pretrained
from subsetscan.lab.outputs import Outputs
from subsetscan.lab.reproduction import run
from subsetscan.lab.reproduction.attacks import FULL, jobs_of
from subsetscan.lab.reproduction.pairs import BASELINES, baseline_pairs
from subsetscan.lab.reproduction.published import TABLE_1, TABLE_2
from subsetscan.lab.reproduction.verdicts import Cells, verdicts
from subsetscan.spaces import KerasLayers

pytest.importorskip("art")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The sample as a test set: all that the small version needs."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "fashion-mnist").mkdir()
    for kind in ("images-idx3", "labels-idx1"):
        source = DATA / f"fashion-mnist-sample-{kind}-ubyte.gz"
        shutil.copy(source, folder / "fashion-mnist" / f"t10k-{kind}-ubyte.gz")
    return folder


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """The small version, once."""
    out = tmp_path_factory.mktemp("out")
    said = []
    reproduce_small(out, data, said.append)
    return out, said


def reproduce_small(out, data, say):
    options = {"dataset": ["fashion-mnist"], "networks": out / "none", "quick": True, "progress": False}
    with attacks_in_this_process():
        run.reproduce(out, data=data, say=say, **options)


def cells(out, **where):
    with (out / "results" / "cells.csv").open() as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in where.items())]


def test_what_is_written(done):
    out, said = done
    names = sorted(path.name for path in (out / "results").iterdir())
    figures = {f"fashion-mnist-figure-{n}-paper.png" for n in range(1, 8)}
    figures |= {f"fashion-mnist-figure-{n}-valid.png" for n in (1, 2, 3, 6)}
    figures |= {f"fashion-mnist-figure-{n}.png" for n in (8, 9)}
    assert figures | {"details.md", "cells.csv", "attacks.csv", "results.json"} <= set(names)
    page = (out / "results.md").read_text()
    assert "A try, not a result" in page
    for published in ("paper 0.964", "paper 0.698", "paper 0.478"):
        assert published in page
    assert all(f"results/{name}" in page for name in figures)
    assert "nan" not in page + (out / "results" / "details.md").read_text()
    assert "| first layer, as printed in the paper | 0.964 |" in page
    assert json.loads((out / "results" / "results.json").read_text())["quick"]
    assert said[-1].startswith("wrote results.md")
    assert any("min left" in line for line in said)


def test_numbers_are_those_of_the_images(done):
    """A cell of table 1 again: from the images that are kept, by scikit-learn."""
    out, _ = done
    images, _ = load_sample()
    job = Job("bim", 0.01, "paper")
    chunks = [load_file(path) for path in sorted((out / "kept" / "fashion-mnist" / "attacks" / job.name).iterdir())]
    attacked = np.concatenate([chunk["images"] for chunk in chunks])
    predictions = np.concatenate([chunk["predictions"] for chunk in chunks])
    labels = load_sample()[1][SMALL_SPLIT.first_target : SMALL_SPLIT.end]
    space = KerasLayers(load_pretrained("autoencoder"), ["conv2d_1"])
    values = [
        space.transform(some)["conv2d_1"]
        for some in (
            images[: SMALL_SPLIT.n_background],
            images[SMALL_SPLIT.n_background : SMALL_SPLIT.first_target],
            attacked[predictions != labels],
        )
    ]
    background = Background(values[0])
    for statistic in ("berk-jones", "higher-criticism"):
        clean, found = (background.scan(some, statistic=statistic, tail="lower").scores for some in values[1:])
        (cell,) = cells(
            out, protocol="paper", attack="bim", space="conv2d_1", statistic=statistic, tail="lower", masked="False"
        )
        truth = np.repeat([0, 1], [len(clean), len(found)])
        assert float(cell["auroc"]) == pytest.approx(roc_auc_score(truth, np.concatenate([clean, found])), abs=1e-6)
        assert int(cell["n"]) == len(found)


def test_a_second_run_computes_nothing(done, data, monkeypatch):
    out, _ = done
    kept = {path: path.stat().st_mtime_ns for path in (out / "kept").rglob("*.safetensors")}
    page = _without_time(out / "results.md")
    before = cells(out)
    older = out / "results" / "mnist-figure-1-paper.png"
    older.write_text("of a run before")
    damaged = next(path for path in kept if "deepfool" in str(path))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    reproduce_small(out, data, lambda _: None)
    changed = [path for path, when in kept.items() if path.stat().st_mtime_ns != when]
    assert changed == [damaged]
    assert not older.exists()
    assert cells(out) == before
    assert _without_time(out / "results.md") == page


def _without_time(page):
    return [line for line in page.read_text().splitlines() if " minute" not in line]


def test_wrong_calls(tmp_path, data):
    for options, message in (
        ({"dataset": ["cifar"]}, "expected some of fashion-mnist, mnist, got cifar"),
        ({"dataset": []}, "expected some of fashion-mnist, mnist, got none"),
        ({"images": ["clean"]}, "expected some of paper, valid, got clean"),
        ({"n_processes": 0}, "n_processes must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            run.reproduce(tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="10000 test images are needed, there are 2000"):
        run.reproduce(tmp_path / "out", dataset=["fashion-mnist"], data=data, progress=False, say=lambda _: None)


def test_what_is_missing_is_missed_before_the_work(data, tmp_path, monkeypatch):
    """A second dataset that is nowhere; a network that cannot be trained because its images are nowhere."""
    said = []

    def fail(*_):
        raise OSError("no network")

    monkeypatch.setattr(datasets, "_load_by_keras", fail)
    monkeypatch.setitem(datasets.DATASETS, "mnist", datasets.Dataset("mnist", (tmp_path / "nowhere",)))
    options = {"data": data, "quick": True, "progress": False, "say": said.append}
    expected = "found no mnist .test.*give --data a folder that has them in a folder mnist, or leave mnist out"
    with pytest.raises(FileNotFoundError, match=expected):
        run.reproduce(tmp_path / "out", **options)
    (data / "mnist").mkdir()
    for path in (data / "fashion-mnist").iterdir():
        shutil.copy(path, data / "mnist")
    with pytest.raises(FileNotFoundError, match="found no mnist .train.*give --data"):
        run.reproduce(tmp_path / "out", dataset=["mnist"], networks=tmp_path / "none", **options)
    shutil.rmtree(data / "mnist")
    assert not said
    assert not (tmp_path / "out").exists()


def test_published_numbers():
    assert len(TABLE_1) == 13 * 8
    assert len(TABLE_2) == 18
    assert TABLE_1["max_pooling2d_1", "fashion-mnist", 0.09, "bim"] == 0.850
    assert TABLE_1["conv2d_7", "mnist", 0.0, "deepfool"] == 0.848
    assert TABLE_2["one-class SVM", "mnist", "deepfool"] == 0.637


def test_noise_has_the_size_of_the_attack(rng):
    originals = rng.uniform(0.3, 0.7, (5, 4, 4, 1)).astype(np.float32)
    changes = rng.choice(np.float32([-0.1, 0, 0.1]), originals.shape)
    noise = noisy(originals, originals + changes) - originals
    for own, changed in zip(noise, changes, strict=True):
        assert np.sort(np.abs(own).ravel()) == pytest.approx(np.sort(np.abs(changed).ravel()), abs=1e-6)
    assert np.abs(noise - changes).max() > 0.05
    black = np.zeros_like(originals)
    assert noisy(black, black + changes).min() == 0


def test_the_split():
    images = np.arange(10000, dtype=np.float32).reshape(-1, 1, 1, 1)
    split = Images.shared_out(images, np.arange(10000), PAPER_SPLIT)
    assert (split.background[0, 0], split.background[-1, 0]) == (0, 6999)
    assert (split.clean[0, 0], split.clean[-1, 0]) == (7000, 8499)
    assert (split.targets[0, 0], split.targets[-1, 0], split.labels[0]) == (8500, 9999, 8500)
    assert [job.name for job in jobs_of("paper", FULL)][:3] == [
        "paper-fgsm-0.01",
        "paper-bim-0.01",
        "paper-deepfool-1e-06",
    ]
    assert len(jobs_of("valid", FULL)) == 12


def test_an_attack_that_never_succeeds():
    """Sets without images, as MNIST has at small budgets."""
    images, labels = load_sample()
    job = Job("fgsm", 0.01)
    outputs = Outputs(10, False, "it is assumed")
    failed = Adversaries(4, np.arange(4), images[60:64], *[labels[60:64]] * 3, outputs)
    found = Images(images[:40], images[40:60], images[60:64], labels[60:64], {job: failed})
    sets = found.sets()
    assert [len(sets[kind]) for kind in sets] == [20, 4, 0, 0]
    pairs = baseline_pairs(load_pretrained("autoencoder"), load_pretrained("classifier"))
    assert set(pairs) == set(BASELINES)
    scores = score(pairs, images[:40], sets)
    assert all(len(scores.of(f"{job.name}{kind}", pair)) == 0 for kind in ("", " noise") for pair in BASELINES)
    (row,) = attack_rows("fashion-mnist", found)
    assert (row["n"], row["success_rate"], row["unchanged"]) == (0, 0, 4)
    assert math.isnan(row["outside"])
    for one in cells_of(found, [job], Network("fashion-mnist"), scores, BASELINES):
        assert one.n == 0
        assert math.isnan(one.auroc)


def test_verdicts_say_what_the_numbers_say():
    def cell(**values):
        base = dict.fromkeys(
            ("auroc", "low", "high", "control", "paired", "noise", "tpr_1", "tpr_5", "tpr_10", "fpr_5"), math.nan
        )
        about = {"dataset": "fashion-mnist", "seed": 0, "poisoned": 0.0, "protocol": "valid", "masked": False, "n": 50}
        return Cell(
            **{**base, **about, "attack": "bim", "eps": 0.01, "space": "preset", "statistic": "", "tail": "", **values}
        )

    met = verdicts(Cells([cell(auroc=0.97, tpr_5=0.9), cell(auroc=0.97, tpr_5=0.8, seed=1)]), {"groups": {}})
    missed = verdicts(Cells([cell(auroc=0.97, tpr_5=0.9), cell(auroc=0.93, tpr_5=0.8, seed=1)]), {"groups": {}})
    assert "bim 0.01 0.970, 85.0% (AUROC >= 0.96, TPR >= 80%: met)" in met["fashion-mnist"][0]
    assert "bim 0.01 0.950, 85.0% (AUROC >= 0.96, TPR >= 80%: missed)" in missed["fashion-mnist"][0]
    scan = {"space": "conv2d_5", "statistic": "berk-jones", "tail": "upper", "auroc": 0.3}
    (selection,) = verdicts(Cells([cell(**scan, control=0.31, paired=0.5)]), {"groups": {}})["fashion-mnist"]
    assert "not from the attack" in selection
    (attack,) = verdicts(Cells([cell(**scan, control=0.5, paired=0.3)]), {"groups": {}})["fashion-mnist"]
    assert "a part of that only" in attack

    scan |= {"protocol": "paper", "attack": "bim", "space": "conv2d_1"}
    for auroc, expected in ((0.9, "The seed alone moves it further"), (0.6, "That is more than the seed alone does")):
        own = [cell(**scan | {"auroc": value, "seed": n}) for n, value in enumerate((0.7, 0.98))]
        said = verdicts(Cells([*own, cell(**scan | {"auroc": auroc, "poisoned": 0.01})]), {"groups": {}})
        (poisoned,) = (line for line in said["fashion-mnist"] if line.startswith("**Poisoned"))
        assert (
            f"1% {auroc:.3f} (paper 0.909); without, 0.700 to 0.980 by the seed (paper 0.964). {expected}" in poisoned
        )
