"""Results that are kept between runs, and attacks that are."""

from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES

import numpy as np
import pytest

from subsetscan.lab import result_cache
from subsetscan.lab.adversaries import Job, attack_all
from subsetscan.lab.attacks import ATTACKS, Attacker, attack, predicted
from subsetscan.lab.datasets import DATA, load_sample
from subsetscan.lab.networks import load_pretrained
from subsetscan.lab.result_cache import ResultCache, code_version, fingerprint, fingerprint_of_model

CLASSIFIER = DATA / "fashion-mnist-classifier.keras"


def test_fingerprints_tell_arrays_apart():
    array = np.arange(6, dtype=np.float32)
    different = [array, array[::-1], array.reshape(2, 3), array.astype(np.float64), array + 1, array[:5]]
    assert len({fingerprint(one) for one in different}) == len(different)
    assert fingerprint(array[::2]) == fingerprint(array[::2].copy())
    assert fingerprint(array, array) != fingerprint(array)


def test_results_are_kept(tmp_path):
    cache = ResultCache(tmp_path / "kept")
    arrays = {"scores": np.arange(5.0)[::2], "none": np.empty((0, 3), np.float32), "one": np.array(3)}
    calls = []

    def make():
        calls.append(1)
        return arrays

    for _ in range(2):
        found = cache.get_or_make("a/b", {"seed": 1}, make)
        assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
            name: (one.dtype, one.shape) for name, one in arrays.items()
        }
        assert np.array_equal(found["scores"], [0, 2, 4])
    assert len(calls) == 1
    assert cache.get("a/b", {"seed": 2}) is None
    cache.get_or_make("a/b", {"seed": 2}, make)
    assert len(calls) == 2
    assert cache.get("a/b", {"seed": 1}) is None


def test_results_are_made_again_by_other_code(tmp_path, monkeypatch):
    """A constant in a source, a library's version: what is kept knows both, whoever keeps it."""
    source = tmp_path / "made_here.py"
    monkeypatch.syspath_prepend(tmp_path)
    caches = {}
    for step, text in (("first", "STEPS = 100\n"), ("edited", "STEPS = 101\n")):
        source.write_text(text)
        code_version.cache_clear()
        caches[step] = ResultCache(tmp_path / "kept", code_version("made_here"))
    caches["first"].put("x", {"seed": 1}, {"scores": np.arange(3.0)})
    assert caches["first"].get("x", {"seed": 1}) is not None
    assert caches["edited"].get("x", {"seed": 1}) is None

    ours = ResultCache(tmp_path / "kept")
    ours.put("y", {}, {"scores": np.arange(3.0)})
    assert ours.get("y", {}) is not None
    versions = result_cache.version
    monkeypatch.setattr(result_cache, "version", lambda name: "0.0" if name == "scipy" else versions(name))
    code_version.cache_clear()
    assert ResultCache(tmp_path / "kept").get("y", {}) is None
    monkeypatch.undo()
    code_version.cache_clear()
    assert ResultCache(tmp_path / "kept").get("y", {}) is not None


def test_the_version_of_a_package_is_that_of_every_source_and_of_the_extension(tmp_path, monkeypatch):
    package = tmp_path / "made_there"
    (package / "inner").mkdir(parents=True)
    files = [package / "__init__.py", package / "inner" / "__init__.py", package / f"_core{EXTENSION_SUFFIXES[-1]}"]
    for file in files:
        file.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = {code_version("made_there")}
    for file in files:
        file.write_text("# changed")
        code_version.cache_clear()
        found.add(code_version("made_there"))
    assert len(found) == 4
    (package / "notes.txt").write_text("no code")
    code_version.cache_clear()
    assert code_version("made_there") in found


def test_models_with_the_same_weights_are_told_apart(tmp_path):
    keras = pytest.importorskip("keras")
    from subsetscan.lab.preprocessing import with_preprocessing

    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    found = {fingerprint_of_model(with_preprocessing(model, mode)) for mode in ("none", "0-255", "tf")}
    assert len(found) == 3
    model.save(tmp_path / "model.keras")
    opened = [keras.models.load_model(tmp_path / "model.keras", compile=False) for _ in range(2)]
    assert len({fingerprint_of_model(one) for one in opened}) == 1


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-3], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"", lambda b: b[9:]]
)
def test_damaged_results_are_made_again(tmp_path, damage):
    cache = ResultCache(tmp_path)
    cache.put("x", {}, {"scores": np.linspace(0, 1, 7)})
    path = tmp_path / "x.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("x", {}) is None


def test_attacks_in_chunks_are_those_in_one(tmp_path, monkeypatch):
    """In chunks, on two processes, after a stop: the same images, and nothing twice."""
    pytest.importorskip("art")
    monkeypatch.setitem(ATTACKS, "fgsm", replace(ATTACKS["fgsm"], chunk=16))
    images, labels = (array[:40] for array in load_sample())
    classifier = load_pretrained("classifier")
    asked = [Job("fgsm", 0.05), Job("fgsm", 0.05, "paper"), Job("fgsm", 0.05, masked=True)]
    cache = ResultCache(tmp_path)
    done = []
    made = attack_all(CLASSIFIER, images, labels, asked, cache, n_processes=2, on_images=done.append)
    assert sum(done) == 3 * len(images)
    correct = predicted(classifier, images) == labels
    for job, found in made.items():
        sources = np.flatnonzero(correct) if job.protocol == "valid" else np.arange(len(images))
        assert np.array_equal(found.sources, sources)
        whole = Attacker(classifier).perturb(
            images[sources], labels[sources], "fgsm", eps=0.05, protocol=job.protocol, masked=job.masked
        )
        assert np.abs(found.images - whole).max() < 1e-6
        assert np.array_equal(found.labels, labels[sources])
        assert np.array_equal(found.predictions, predicted(classifier, found.images))
        assert np.array_equal(found.successful, found.predictions != found.labels)
    one = attack(classifier, images, labels, "fgsm", eps=0.05)
    assert np.array_equal(one.sources, made[asked[0]].sources[made[asked[0]].successful])
    masked = made[asked[2]]
    assert not masked.images[images[masked.sources] == 0].any()

    paths = sorted(tmp_path.rglob("*.safetensors"))
    assert len(paths) == 9
    (few,) = attack_all(CLASSIFIER, images, labels, [replace(asked[1], n_images=16)], cache, n_processes=1).values()
    assert np.array_equal(few.images, made[asked[1]].images[:16])
    assert sorted(tmp_path.rglob("*.safetensors")) == paths
    paths[4].unlink()
    before = {path: path.stat().st_mtime_ns for path in paths if path.is_file()}
    again = attack_all(CLASSIFIER, images, labels, asked, cache, n_processes=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert paths[4].is_file()
    for job, found in again.items():
        assert np.array_equal(found.images, made[job].images)


def test_names_of_jobs():
    names = [Job("bim", 0.01).name, Job("deepfool", 1e-6, "paper").name, Job("fgsm", 0.1, masked=True).name]
    assert names == ["valid-bim-0.01", "paper-deepfool-1e-06", "valid-masked-fgsm-0.1"]


def test_attacks_that_are_none(tmp_path):
    images, labels = (array[:2] for array in load_sample())
    for job, message in (
        (Job("cw", 1.0), "unknown attack 'cw'; known are fgsm, bim, gradient, deepfool"),
        (Job("fgsm", 0.0), "eps must be positive, got 0.0"),
        (Job("fgsm", 0.1, "clean"), "unknown protocol 'clean'; known are valid, paper"),
        (Job("deepfool", 0.1, masked=True), "deepfool cannot be masked"),
    ):
        with pytest.raises(ValueError, match=message):
            attack_all(CLASSIFIER, images, labels, [job], ResultCache(tmp_path))
    assert not list(tmp_path.iterdir())
