"""The science: datasets, networks, training, attacks, measures."""

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from subsetscan._extras import how_to_get
from subsetscan.commands import experiment
from subsetscan.lab import attacks, datasets, networks, progress, training
from subsetscan.lab.attacks import attack
from subsetscan.lab.checkpoints import Checkpoints
from subsetscan.lab.files import run as files
from subsetscan.lab.reproduction import run as reproduction
from subsetscan.lab.tracing import run as tracing
from subsetscan.measures import auroc
from subsetscan.spaces import KerasLayers, ReconstructionError


@pytest.fixture
def digits(tmp_path, rng):
    """A dataset of 64 + 32 images in the four files of MNIST: bright squares, whose place tells the class."""
    for split, n in (("train", 64), ("t10k", 32)):
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        images = rng.integers(0, 30, (n, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 8, 10:18] = 250
        datasets.write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", images)
        datasets.write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_the_sample():
    images, labels = datasets.load_sample()
    assert images.shape == (2000, 28, 28, 1)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert np.bincount(labels).tolist() == [200] * 10


def test_the_sample_is_of_the_test_set():
    if not datasets.DATASETS["fashion-mnist"].folders[0].is_dir():
        pytest.skip("Fashion-MNIST is not installed here")
    images, labels = datasets.load("fashion-mnist", "test", datasets.DATASETS["fashion-mnist"].folders[0])
    sample, sample_labels = datasets.load_sample()
    for label in range(10):
        assert np.array_equal(sample[sample_labels == label], images[labels == label][:200])


def test_datasets_come_from_a_folder(digits):
    images, labels = datasets.load("mnist", "train", digits)
    assert images.shape == (64, 28, 28, 1)
    assert labels.dtype == np.int64
    for path in digits.glob("train-*"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert np.array_equal(datasets.load("mnist", "train", digits)[0], images)


def test_a_dataset_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=f"found no mnist .* in: {tmp_path}"):
        datasets.load("mnist", "test", tmp_path)
    keras_datasets = pytest.importorskip("keras").datasets

    def fail():
        raise OSError("no network")

    monkeypatch.setattr(keras_datasets.mnist, "load_data", fail)
    monkeypatch.setitem(datasets.DATASETS, "mnist", datasets.Dataset("mnist", (tmp_path / "a", tmp_path / "b")))
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/a; {tmp_path}/b; keras.datasets.mnist \(no network\)"):
        datasets.load("mnist")
    with pytest.raises(ValueError, match="unknown dataset 'cifar'; known are fashion-mnist, mnist"):
        datasets.load("cifar")
    with pytest.raises(ValueError, match="unknown split 'all'; known are train, test"):
        datasets.load("mnist", "all")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n", "is not an IDX file"),
        (b"", "is not an IDX file"),
        (b"\0\0\x08\x03\0\0", "ends within its header: 6 of 16 bytes"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "has 11 bytes where its header promises 13"),
    ],
)
def test_files_that_are_no_idx(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        datasets.read_idx(tmp_path / "file")
    (tmp_path / "file.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=message):
        datasets.read_idx(tmp_path / "file.gz")


def test_a_truncated_gzip_file(digits):
    path = digits / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is not a complete gzip file"):
        datasets.load("mnist", "train", digits)


def test_the_networks_of_the_paper():
    autoencoder = networks.build_autoencoder()
    assert autoencoder.count_params() == 4385
    kinds = [layer.name.rpartition("_")[0] for layer in autoencoder.layers[1:]]
    assert kinds == ["conv2d", "max_pooling2d"] * 3 + ["conv2d", "up_sampling2d"] * 3 + ["conv2d"]
    assert autoencoder.output_shape == (None, 28, 28, 1)
    assert networks.build_classifier().output_shape == (None, 10)


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_pretrained_networks_do_their_work(network):
    """What the log says of the whole test set holds, nearly, for the sample of it."""
    summary = json.loads((datasets.DATA / f"fashion-mnist-{network}.json").read_text())
    with (datasets.DATA / f"fashion-mnist-{network}.csv").open() as file:
        log = list(csv.DictReader(file))
    assert len(log) == summary["epochs"] == training.RECIPES[network].epochs
    assert float(log[-1]["val_loss"]) == pytest.approx(summary["test_loss"], rel=1e-3)
    images, labels = datasets.load_sample()
    outputs = networks.load_pretrained(network).predict(images, verbose=0)
    if network == "autoencoder":
        loss = -np.mean(images * np.log(outputs) + (1 - images) * np.log(1 - outputs))
        assert loss == pytest.approx(summary["test_loss"], rel=0.03)
    else:
        assert np.mean(outputs.argmax(axis=1) == labels) == pytest.approx(summary["test_accuracy"], abs=0.02)


def test_model_files_that_do_not_open(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
    zipped, hdf5 = ((tmp_path / name).read_bytes() for name in ("model.keras", "model.h5"))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no model file at"):
        networks.load_model(tmp_path / "nowhere.keras")
    for name, content, message in (
        (
            "a.keras",
            b"something else",
            "a.keras: it is neither a zip archive nor an HDF5 file; models are read from .keras",
        ),
        ("a.h5", b"something else", "a.h5: it is neither a zip archive nor an HDF5 file"),
        ("a.txt", b"something else", "a.txt: it is neither a zip archive nor an HDF5 file"),
        ("b.keras", b"", "b.keras: it is empty; models are read from"),
        ("c.keras", zipped[:-100], "c.keras: it is a zip archive that is not complete"),
        ("d.keras", hdf5, r"d.keras is an HDF5 file, whose name should end in \.h5"),
        ("d.h5", zipped, r"d.h5 is a zip archive, whose name should end in \.keras"),
        ("d", zipped, r"is a zip archive, whose name should end in \.keras"),
        ("e.pt", zipped, "e.pt: by its name it is a file of PyTorch; models are read from"),
        ("e.onnx", b"ir", "e.onnx: by its name it is a file of ONNX"),
        ("f.h5", hdf5[: len(hdf5) // 2], "cannot open .*f.h5: .*build the network in code"),
        ("saved", None, "saved: it is a SavedModel of TensorFlow; .*; save the model with"),
        (".", None, "it is a folder; models are read from"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            networks.load_model(tmp_path / name)


@pytest.mark.parametrize("missing", ["keras", "tensorflow"])
def test_networks_without_keras_say_how_to_get_it(missing):
    """In a process of its own: here Keras is imported already."""
    calls = "build_classifier()", "build_autoencoder()", "load_pretrained('classifier')", "load_model('model.keras')"
    code = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Blocked())
from subsetscan.lab.networks import *
for call in {calls}:
    try:
        eval(call)
    except ModuleNotFoundError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{missing} is not installed: {how_to_get('keras')}"] * len(calls)


def test_autoencoders_of_keras_2_open():
    """The file was written by tf_keras 2.21: the autoencoder of conftest.py, compiled and trained for an epoch."""
    model = networks.load_model(Path(__file__).parent / "data" / "keras2-autoencoder.h5")
    assert KerasLayers(model).node_shapes == {
        "encode": (8, 8, 3),
        "pool": (4, 4, 3),
        "up": (8, 8, 3),
        "decode": (8, 8, 1),
    }
    assert ReconstructionError(model).transform(np.zeros((2, 8, 8, 1)))["reconstruction_error"].shape == (2, 64)


def test_no_code_from_a_model_file_is_executed(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        with pytest.raises(ValueError, match=r"holds Python code, .* open it with safe_mode=False \(--unsafe-model\)"):
            networks.load_model(tmp_path / name)
        trusted = networks.load_model(tmp_path / name, safe_mode=False)
        assert trusted.predict(np.ones((1, 2)), verbose=0).tolist() == [[2, 2]]
    numbers = keras.Input((2,))
    keras.Model(numbers, keras.layers.Lambda(lambda x: x * len(csv.__name__))(numbers)).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"Lambda.call\(\). We could not automatically infer the shape"):  # without csv
        networks.load_model(tmp_path / "model.keras", safe_mode=False)


class Stopped(Exception):
    pass


@pytest.fixture
def stop_after(monkeypatch):
    """Stop a training as a kill does, right after the checkpoint of an epoch."""

    def call(n_epochs, *arguments, **options):
        save = Checkpoints.save

        def save_and_stop(checkpoints, model, log):
            save(checkpoints, model, log)
            if len(log) == n_epochs:
                raise Stopped

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "save", save_and_stop)
            with pytest.raises(Stopped):
                training.train(*arguments, **options)

    return call


@contextmanager
def one_warning(match):
    """As pytest.warns, which would raise what the libraries tell each other."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    (warning,) = caught
    assert re.search(match, str(warning.message))


def weights_of(path):
    return networks.load_model(path).get_weights()


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("network", ["autoencoder", "classifier"])
def test_training_is_resumed(digits, tmp_path, network, stop_after):
    """A training that was stopped ends in the same network, bit for bit, as one that was not."""
    out = tmp_path / "out"
    asked, options = (network, "mnist", out), {"data": digits, "epochs": 4, "verbose": 0}
    stop_after(2, *asked, **options)
    assert [path.name for path in out.iterdir()] == [f"mnist-{network}-backup"]
    summary = training.train(*asked, **options)
    assert (summary["epochs"], summary["seed"], summary["dataset"]) == (4, 0, "mnist")
    assert sorted(path.name for path in out.iterdir()) == [f"mnist-{network}.{end}" for end in ("csv", "json", "keras")]
    written = (out / f"mnist-{network}.keras").stat().st_mtime_ns
    assert training.train(*asked, **options) == summary
    assert (out / f"mnist-{network}.keras").stat().st_mtime_ns == written
    model = networks.load_model(out / f"mnist-{network}.keras")
    assert model.count_params() == summary["n_parameters"]

    assert training.train(network, "mnist", tmp_path / "straight", **options) == summary
    assert same(weights_of(tmp_path / "straight" / f"mnist-{network}.keras"), model.get_weights())
    logs = [(folder / f"mnist-{network}.csv").read_text() for folder in (out, tmp_path / "straight")]
    assert logs[0] == logs[1]
    rows = list(csv.DictReader(logs[0].splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[-1]["val_loss"]) == pytest.approx(summary["test_loss"], rel=1e-6)


@pytest.mark.parametrize("left", [["0.safetensors", "1.safetensors"], ["1.safetensors"], []])
def test_what_a_kill_after_the_summary_left_is_removed(digits, tmp_path, monkeypatch, left):
    out = tmp_path / "out"
    asked, options = ("classifier", "mnist", out), {"data": digits, "epochs": 2, "verbose": 0}

    def stop(poison, backup):
        for path in backup.iterdir():
            if path.name not in left:
                path.unlink()
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(training, "_remove", stop)
        with pytest.raises(Stopped):
            training.train(*asked, **options)
    assert sorted(path.name for path in (out / "mnist-classifier-backup").iterdir()) == left
    training.train(*asked, **options)
    assert sorted(path.name for path in out.iterdir()) == [
        f"mnist-classifier.{end}" for end in ("csv", "json", "keras")
    ]


def test_a_summary_does_not_speak_of_another_network(digits, tmp_path, monkeypatch):
    """A training into the same folder is stopped between its network and its summary."""

    def stop(*_):
        raise Stopped

    asked, options = ("classifier", "mnist", tmp_path / "out"), {"data": digits, "verbose": 0}
    first = training.train(*asked, epochs=1, **options)
    weights = weights_of(tmp_path / "out" / "mnist-classifier.keras")
    with monkeypatch.context() as patched:
        patched.setattr(training, "write_json", stop)
        with one_warning("made from other epochs"), pytest.raises(Stopped):
            training.train(*asked, epochs=2, **options)
    assert not same(weights_of(tmp_path / "out" / "mnist-classifier.keras"), weights)
    with one_warning("backup/0.safetensors and .*backup/1.safetensors cannot be used"):
        assert training.train(*asked, epochs=1, **options) == first
    assert same(weights_of(tmp_path / "out" / "mnist-classifier.keras"), weights)


@pytest.mark.parametrize(("damaged", "warned"), [(["0"], "from the checkpoint before"), (["0", "1"], "starts again")])
def test_damaged_checkpoints_are_passed_over(digits, tmp_path, stop_after, damaged, warned):
    asked, options = ("classifier", "mnist", tmp_path / "out"), {"data": digits, "epochs": 3, "verbose": 0}
    stop_after(2, *asked, **options)
    for name in damaged:
        path = tmp_path / "out" / "mnist-classifier-backup" / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
    with one_warning(f"0.safetensors.* cannot be used: .*{warned}"):
        summary = training.train(*asked, **options)
    assert summary == training.train("classifier", "mnist", tmp_path / "straight", **options)
    paths = [tmp_path / folder / "mnist-classifier.keras" for folder in ("out", "straight")]
    assert same(*map(weights_of, paths))


def test_a_network_of_something_else_is_not_taken_for_this_one(digits, tmp_path, rng, stop_after):
    """Nor is its checkpoint: the folder and the options are the same, the data are not."""
    other = tmp_path / "other"
    other.mkdir()
    for path in digits.glob("*-labels-*"):
        (other / path.name).write_bytes(path.read_bytes())
    for split, n in (("train", 64), ("t10k", 32)):
        datasets.write_idx(other / f"{split}-images-idx3-ubyte.gz", rng.integers(0, 9, (n, 28, 28), dtype=np.uint8))
    asked = ("classifier", "mnist", tmp_path / "out")
    first = training.train(*asked, data=digits, epochs=1, verbose=0)
    before = (tmp_path / "out" / "mnist-classifier.keras").read_bytes()
    with one_warning("made from other epochs and data: it is trained again and then replaced"):
        stop_after(1, *asked, data=other, epochs=2, verbose=0)
    assert (tmp_path / "out" / "mnist-classifier.keras").read_bytes() == before
    assert training.train(*asked, data=digits, epochs=1, verbose=0) == first
    shutil.rmtree(tmp_path / "out" / "mnist-classifier-backup")
    with one_warning(r"mnist-classifier.keras was made from other data: it is trained again"):
        second = training.train(*asked, data=other, epochs=1, verbose=0)
    assert second["test_loss"] != first["test_loss"]
    assert second == training.train("classifier", "mnist", tmp_path / "fresh", data=other, epochs=1, verbose=0)

    stop_after(1, "classifier", "mnist", tmp_path / "stopped", data=digits, epochs=2, verbose=0)
    with one_warning(r"1.safetensors cannot be used: .* starts again"):
        found = training.train("classifier", "mnist", tmp_path / "stopped", data=other, epochs=2, verbose=0)
    assert found == training.train("classifier", "mnist", tmp_path / "fresh2", data=other, epochs=2, verbose=0)


@pytest.mark.usefixtures("attack_here")
def test_training_on_poisoned_images(digits, tmp_path, monkeypatch):
    pytest.importorskip("art")
    keras = pytest.importorskip("keras")
    seen = []
    fit = keras.Model.fit

    def spy(model, images, targets, **options):
        seen.append((images, targets))
        return fit(model, images, targets, **options)

    monkeypatch.setattr(keras.Model, "fit", spy)
    options = {"data": digits, "epochs": 1, "seed": 3, "verbose": 0, "n_processes": 1}
    classifier = datasets.DATA / "fashion-mnist-classifier.keras"
    summary = training.train("autoencoder", "mnist", tmp_path, poisoned=0.25, classifier=classifier, **options)
    assert summary["poisoned"] == 0.25
    stem = "mnist-autoencoder-seed3-poisoned25"
    assert sorted(path.name for path in tmp_path.iterdir() if stem in path.name) == [
        f"{stem}.{end}" for end in ("csv", "json", "keras")
    ]
    images, targets = seen[0]
    clean = datasets.load("mnist", "train", digits)[0]
    changed = (images != clean).any(axis=(1, 2, 3))
    assert changed.sum() == 16
    assert 0.009 < np.abs(images - clean).max() <= 0.01 + 1e-6
    assert targets is images
    keras.utils.set_random_seed(1)
    networks.build_classifier().save(tmp_path / "other.keras")
    with one_warning(rf"{stem}.keras was made from other poison: it is trained again"):
        training.train("autoencoder", "mnist", tmp_path, poisoned=0.25, classifier=tmp_path / "other.keras", **options)
    assert not np.array_equal(seen[1][0], images)
    for wrong, message in (
        ({"poisoned": 1.0, "classifier": classifier}, r"poisoned must be a share in \[0, 1\), got 1.0"),
        ({"poisoned": 0.1}, "need the classifier that they are aimed at"),
    ):
        with pytest.raises(ValueError, match=message):
            training.train("autoencoder", "mnist", tmp_path, **wrong)
    with pytest.raises(ValueError, match="poisoned images are for an autoencoder"):
        training.train("classifier", "mnist", tmp_path, poisoned=0.1, classifier=classifier)


def test_training_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="unknown network 'gan'; known are autoencoder, classifier"):
        training.train("gan", "mnist", tmp_path)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        training.train("autoencoder", "mnist", tmp_path, epochs=0)


@pytest.mark.parametrize(("name", "eps"), [("fgsm", 0.05), ("bim", 0.05), ("gradient", 2), ("deepfool", None)])
def test_attacks_under_both_protocols(name, eps):
    pytest.importorskip("art")
    images, labels = (array[:60] for array in datasets.load_sample())
    classifier = networks.load_pretrained("classifier")
    weights = classifier.get_weights()
    predictions = classifier.predict(images, verbose=0).argmax(axis=1)
    done = []
    valid = attack(classifier, images, labels, name, eps=eps, on_batch=done.append)
    assert sum(done) == 60
    assert valid.n_tried == np.sum(predictions == labels)
    assert 0 < len(valid.images) <= valid.n_tried
    assert valid.success_rate == len(valid.images) / valid.n_tried
    assert valid.images.min() >= 0
    assert valid.images.max() <= 1
    assert np.array_equal(predictions[valid.sources], labels[valid.sources])
    assert np.array_equal(valid.labels, labels[valid.sources])
    assert np.array_equal(classifier.predict(valid.images, verbose=0).argmax(axis=1), valid.predictions)
    assert np.all(valid.predictions != valid.labels)
    changes = (valid.images - images[valid.sources]).reshape(len(valid.images), -1)
    assert np.linalg.norm(changes, 2 if name == "gradient" else np.inf, axis=1).max() <= (eps or 0.5) + 1e-5

    paper = attack(classifier, images, labels, name, eps=eps, protocol="paper")
    assert paper.n_tried == 60
    assert paper.images.min() < 0
    if name != "deepfool":  # which takes what was wrong to the nearest other class, often the right one
        assert set(np.flatnonzero(predictions != labels)) <= set(paper.sources)
    assert all(np.array_equal(a, b) for a, b in zip(classifier.get_weights(), weights, strict=True))


def test_the_gradient_step_is_the_shortest_that_works():
    pytest.importorskip("art")
    images, labels = (array[:40] for array in datasets.load_sample())
    classifier = networks.load_pretrained("classifier")
    found = attack(classifier, images, labels, "gradient", eps=2, protocol="paper")
    changes = found.images - images[found.sources]
    lengths = np.linalg.norm(changes.reshape(len(changes), -1), axis=1)
    steps = lengths / 0.02  # a hundredth of the longest
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert len(set(np.rint(steps))) > 5
    longer = np.rint(steps) > 1.5
    shorter = images[found.sources] + changes * ((np.rint(steps) - 1) / np.rint(steps))[:, None, None, None]
    seen = classifier.predict(shorter, verbose=0).argmax(axis=1)
    assert np.array_equal(seen[longer], found.labels[longer])


@pytest.mark.parametrize("protocol", ["valid", "paper"])
@pytest.mark.parametrize("name", ["boundary", "one-pixel"])
def test_attacks_that_draw(name, protocol, monkeypatch):
    """The same for each image, whatever is attacked beside it and whatever was drawn before."""
    pytest.importorskip("art")
    monkeypatch.setattr(attacks, "BOUNDARY_STEPS", 15)
    images, labels = datasets.load_sample()
    classifier = networks.load_pretrained("classifier")
    probabilities = np.sort(classifier.predict(images[:300], verbose=0), axis=1)
    near = np.argsort(probabilities[:, -1] - probabilities[:, -2])[:3]
    images, labels = images[near], classifier.predict(images[near], verbose=0).argmax(axis=1)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    found = attacks.Attacker(classifier).perturb(images, labels, name, protocol=protocol)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    alone = attacks.Attacker(classifier).perturb(images[1:2], labels[1:2], name, protocol=protocol)
    assert np.array_equal(found[1:2], alone)
    assert (attacks.predicted(classifier, found) != labels).all()
    assert found.min() >= 0
    assert found.max() <= 1
    changes = (found - images).reshape(3, -1)
    if name == "one-pixel":
        assert np.count_nonzero(changes, axis=1).tolist() == [1, 1, 1]
    else:
        assert np.linalg.norm(changes, axis=1).max() < 8  # noise, from which it starts, is at a distance of 12


def test_attacks_that_are_none():
    images, labels = (array[:3] for array in datasets.load_sample())
    for options, message in (
        ({"name": "magic"}, "unknown attack 'magic'; known are fgsm, bim, gradient, deepfool, boundary, one-pixel"),
        ({"name": "one-pixel", "eps": 1.5}, "eps is a number of pixels for one-pixel, got 1.5"),
        ({"protocol": "both"}, "unknown protocol 'both'; known are valid, paper"),
        ({"eps": 0}, "eps must be positive, got 0"),
        ({"eps": float("inf")}, "eps must be positive and finite, got inf"),
        ({"name": "one-pixel", "eps": float("inf")}, "eps must be positive and finite, got inf"),
        ({"labels": labels[:2]}, "3 images but 2 labels"),
    ):
        with pytest.raises(ValueError, match=message):
            attack(None, images, **{"labels": labels, "name": "fgsm", **options})


def test_auroc_is_scikit_learns(rng):
    clean, anomalous = rng.integers(0, 9, 80).astype(float), rng.integers(2, 11, 50).astype(float)
    result = auroc(clean, anomalous)
    truth = np.repeat([0, 1], [80, 50])
    assert result.value == pytest.approx(roc_auc_score(truth, np.concatenate([clean, anomalous])), abs=1e-12)
    assert result.low < result.value < result.high
    # The interval of Hanley and McNeil is about as wide.
    assert result.high - result.low == pytest.approx(2 * 1.96 * 0.037, rel=0.4)
    assert auroc(clean, anomalous) == result
    assert auroc(np.zeros(5), np.ones(5)).as_dict() == {"auroc": 1.0, "auroc_low": 1.0, "auroc_high": 1.0}
    with pytest.raises(ValueError, match="an AUROC needs scores of both kinds, got 0 clean and 5 anomalous"):
        auroc(np.empty(0), np.ones(5))


# Long work.


def _told(monkeypatch, stages, taken):
    """Return what is said after stages that take so many seconds by the clock."""
    clock = [0.0]
    said = []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stages.say = said.append
    for name, seconds in taken.items():
        with stages.stage(name, 1):
            clock[0] += seconds
    return said


@pytest.mark.parametrize(("quick", "left"), [(False, 50), (True, 5)])
def test_a_small_version_has_a_tenth_of_the_time_left(monkeypatch, quick, left):
    stages = progress.Progress(progress=False, say=print, quick=quick)
    stages.expect("kept", 1000)
    stages.expect("long", 3000)
    assert _told(monkeypatch, stages, {"kept": 0.1}) == [f"kept: 0 s, about {left} min left"]


def test_the_small_study_of_files_has_estimates_of_its_own(monkeypatch):
    """On a busy machine its stages took 266, 59, 556, 541 and then 38 s."""
    stages = progress.Progress(progress=False, say=print)
    for name, seconds in files._QUICK_SECONDS.items():
        stages.expect(name, seconds)
    assert files._QUICK_SECONDS.keys() == files._SECONDS.keys()
    told = _told(monkeypatch, stages, {"files": 266, "attacks": 59, "scores": 556, "where": 541})
    assert told[-1] == "where: 541 s, about 1 min left"


# What pages and figures need.

PAGES = {**experiment._EXPERIMENTS, "trace": tracing.trace, "reproduce": reproduction.reproduce}
FIGURES = ("files", "adaptive", "trace", "reproduce")


@pytest.mark.parametrize(
    ("name", "missing"),
    [*((name, "jinja2") for name in PAGES), *((name, "matplotlib.figure") for name in FIGURES)],
)
def test_what_a_page_needs_is_known_to_be_missing_before_the_work(name, missing, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=f"{missing} is not installed: pip install"):
        PAGES[name](tmp_path / "out", progress=False, say=lambda _: None)
    assert not (tmp_path / "out").exists()
