"""A file can not hurt: detectors and scanners from anybody are loaded whole, or refused by ValueError."""

import json
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from tampering import opened, raw_safetensors, reseal, reseal_folder

from subsetscan import Background, ModelScanner, SequenceScanner
from subsetscan.adapters.pyod import SubsetScan
from subsetscan.detectors import (
    AutomaticDetector,
    CalibratedDetector,
    ClassConditionalDetector,
    CombinedDetector,
    LocalSpatialEntropy,
    MahalanobisDetector,
    NearestNeighborDetector,
    SubsetScanDetector,
    SummaryDetector,
    load_detector,
)
from subsetscan.residuals import Residuals
from subsetscan.spaces import Arrays

CLEAN = np.random.default_rng(0).normal(size=(100, 4))
FITTED = {
    "scan": lambda: SubsetScanDetector(random_state=0).fit(CLEAN),
    "compact": lambda: SubsetScanDetector(alpha_max=0.01, random_state=0).fit(CLEAN),
    "random": lambda: SubsetScanDetector(ties="random", random_state=0).fit(CLEAN),
    "summary": lambda: SummaryDetector(random_state=0).fit(CLEAN),
    "automatic": lambda: AutomaticDetector(random_state=0).fit(CLEAN),
    "nearest": lambda: NearestNeighborDetector(random_state=0).fit(CLEAN),
    "mahalanobis": lambda: MahalanobisDetector(random_state=0).fit(CLEAN),
    "entropy": lambda: LocalSpatialEntropy((8, 8), random_state=0).fit(np.abs(CLEAN.reshape(-1, 1)) ** np.arange(64)),
    "combined": lambda: CombinedDetector([SubsetScanDetector(tail=t) for t in ("upper", "lower")]).fit(CLEAN),
    "conditional": lambda: ClassConditionalDetector(
        SubsetScanDetector(random_state=0), conditional="min", min_class_size=50
    ).fit(CLEAN, np.arange(100) % 2),
    "residuals": lambda: Residuals().fit(CLEAN),
    "background": lambda: Background(CLEAN),
    "sequence": lambda: SequenceScanner(random_state=0).fit(list(CLEAN.reshape(40, 10, 1))),
    "pyod": lambda: SubsetScan().fit(CLEAN),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for name, fit in FITTED.items():
        fit().save(folder / name)
    return folder


@pytest.fixture
def load(saved, tmp_path):
    """Change a saved detector and load it."""

    def changed(name, change, **metadata):
        path = shutil.copy(saved / name, tmp_path / name)
        reseal(path, change, **metadata)
        return load_detector(path)

    return changed


def has(**changes):
    return lambda description, _: description.update(changes)


def within(key, **changes):
    return lambda description, _: description[key].update(changes)


def lacks(key, name):
    return lambda description, _: description[key].__delitem__(name)


def arrays(**changes):
    return lambda _, tensors: tensors.update({name: change(tensors[name]) for name, change in changes.items()})


@pytest.mark.parametrize("name", FITTED)
def test_equal_detectors_have_equal_bytes(name, saved, tmp_path):
    load_detector(saved / name).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (saved / name).read_bytes()


@pytest.mark.parametrize("name", FITTED)
def test_no_bit_changes_without_a_word(name, saved, tmp_path):
    content = (saved / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(8 * len(content), 200, replace=False):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / "flipped").write_bytes(damaged)
        with pytest.raises(ValueError, match="flipped (is damaged|is not a|has format version)"):
            load_detector(tmp_path / "flipped")


@pytest.mark.parametrize("n_samples", [10**12, 3 * 10**8, 2**63, 2**64, -1, 0, True, 75.0, "75", None])
@pytest.mark.parametrize("name", ["scan", "compact", "summary"])
def test_counts_are_held_against_the_arrays(name, n_samples, load):
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load(name, has(n_samples=n_samples))
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


@pytest.mark.parametrize("n_features", [10**12, 2**64, 0, 1, True, -1, 5, 4.0, "4", None])
@pytest.mark.parametrize("name", ["automatic", "nearest", "mahalanobis"])
def test_numbers_of_nodes_are_held_against_the_arrays(name, n_features, load):
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load(name, has(n_features=n_features))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("scan", lambda *_: "[" * 100_000, "maximum recursion depth"),
        ("scan", lambda *_: "[1]", "list indices must be"),
        ("scan", lambda *_: "9" * 5000, "Exceeds the limit"),
        ("scan", lacks("scan_options", "statistic"), "the options of a scan are .*, got "),
        ("scan", within("scan_options", colour="red"), "the options of a scan are .* got .*colour"),
        ("random", lacks("scan_options", "random_state"), "the options of a scan are"),
        ("random", within("scan_options", random_state=-1), "random_state must be from 0"),
        ("scan", within("scan_options", statistic="best"), 'unknown statistic "best"'),
        ("scan", within("scan_options", tail="lower"), "it serves upper scans"),
        ("scan", within("scan_options", alpha_max=1.0), "it serves upper scans with alpha_max up to 0.5"),
        ("compact", within("scan_options", alpha_max="high"), "alpha_max must be a number, got 'high'"),
        ("scan", within("parameters", tail="sideways"), "tail must be one of 'upper', .*, got 'sideways'"),
        ("scan", lacks("parameters", "tail"), "something is missing or unknown"),
        ("scan", has(colour="red"), "something is missing or unknown"),
        ("scan", lambda _, t: t.update(colour=np.ones(3)), "colour is missing or unknown"),
        ("scan", has(kind="SummaryDetector"), "it describes a SummaryDetector, its format is that of a Subset"),
        ("scan", has(feature_names=["a"]), "4 nodes must have as many names"),
        ("scan", arrays(null_scores=np.negative), "no score is below 0, got a null score of -"),
        ("scan", arrays(null_scores=lambda s: s + np.inf), "not a row of finite numbers"),
        ("scan", arrays(background=lambda b: np.where(b == b.max(), np.inf, b)), "infinite values, which no fit takes"),
        ("scan", arrays(background=lambda b: b[:, ::-1]), "the values of node 0 are not sorted"),
        ("nearest", arrays(null_scores=lambda s: -1 - s), "no score is below 0"),
        ("nearest", within("fitted", anomaly_score=1), "no fit sets an attribute 'anomaly_score'"),
        ("nearest", within("fitted", offset_=1), "no fit sets an attribute 'offset_'"),
        ("nearest", arrays(**{"fitted/points_": lambda p: p * np.nan}), "NaN"),
        ("nearest", lambda _, t: t.pop("fitted/points_"), "has no attribute 'points_'"),
        ("automatic", arrays(**{"fitted/part_null_scores_": lambda s: s[:9]}), "different numbers of inputs"),
        ("residuals", arrays(**{"fitted/matrix_": lambda m: m[:0]}), "out of bounds"),
        ("residuals", arrays(**{"fitted/scale_": lambda s: 0 * s}), "the scales and the floor must be above 0"),
        ("combined", has(parts=[]), "index out of range"),
        ("combined", has(combine="sum"), "unknown combination 'sum'"),
        ("conditional", has(parts=[]), "index out of range"),
        ("conditional", has(classes=[0, 0]), "are not the classes of the parts"),
        ("conditional", lambda d, _: d["null_labels"].__setitem__(0, -1), "no negative elements"),
        ("conditional", lambda d, _: d["null_labels"].__setitem__(0, 9), "not those of the parts' null scores"),
        ("conditional", has(false_positive_rate=None), "not supported between"),
        ("entropy", lambda d, _: d["options"].update(levels=10**9), "levels must be a whole number"),
        ("sequence", lambda d, _: d["fitted"]["scan_options_"].update(restarts=10**12), "restarts must be at most"),
        ("sequence", arrays(**{"fitted/null_sizes_": np.negative}), "finite and at least 0"),
    ],
)
def test_what_no_fit_gives_is_refused(name, change, message, load):
    with pytest.raises(ValueError, match=f"{name} is damaged: .*{message}"):
        load(name, change)


@pytest.mark.parametrize(("dtype", "n_bytes"), [("BF16", 4), ("F8_E4M3", 2), ("F8_E5M2", 2)])
def test_types_that_numpy_has_not(dtype, n_bytes, tmp_path):
    (tmp_path / "d").write_bytes(raw_safetensors(dtype, n_bytes))
    with pytest.raises(ValueError, match="d is not a complete safetensors file"):
        load_detector(tmp_path / "d")


class Fitted(CalibratedDetector):
    """One of another package, with an array in the other order of bytes, and from its end."""

    def __init__(self, calibration=None, calibration_fraction=0.5, false_positive_rate=0.05, random_state=None):
        self.calibration, self.calibration_fraction = calibration, calibration_fraction
        self.false_positive_rate, self.random_state = false_positive_rate, random_state

    def fit_background(self, X):
        self.lowest_ = X.min(axis=0).astype(">f8")[::-1]

    def anomaly_score(self, X, y=None):
        return (self.check_values(X) - self.lowest_[::-1]).max(axis=1)


def test_arrays_in_any_layout(tmp_path):
    fitted = Fitted().fit(CLEAN)
    fitted.save(tmp_path / "d")
    np.testing.assert_array_equal(load_detector(tmp_path / "d").anomaly_score(CLEAN), fitted.anomaly_score(CLEAN))


def test_older_files_have_no_digest(saved, tmp_path):
    with safe_open(saved / "scan", framework="numpy") as file:
        metadata = file.metadata()
    _, tensors = opened(saved / "scan")

    def loaded(**changed):
        said = {name: value for name, value in (metadata | changed).items() if value is not None}
        save_file(tensors, tmp_path / "d", said)
        return load_detector(tmp_path / "d")

    older = loaded(format_version="1", digest=None)
    np.testing.assert_array_equal(older.p_values(CLEAN), load_detector(saved / "scan").p_values(CLEAN))
    for changed in ({"digest": None}, {"format_version": "1"}, {"digest": "0" * 64}):
        with pytest.raises(ValueError, match="not the digest that it was saved with; copy it again"):
            loaded(**changed)
    with pytest.raises(ValueError, match="format version '3'; .* load it with the version that saved it"):
        loaded(format_version="3")
    with pytest.raises(ValueError, match="format is 'SubsetScanDetector'"):
        loaded(format="SubsetScanDetector")


SPACES = Arrays({"a": (4,), "b": (4,)})


@pytest.fixture(scope="module")
def scanner():
    detector = SubsetScanDetector(random_state=0)
    return ModelScanner(SPACES, detector, joint=True).fit({"a": CLEAN, "b": -CLEAN})


@pytest.fixture
def folder(scanner, tmp_path):
    scanner.save(tmp_path / "scanner")
    return tmp_path / "scanner"


def swap(folder):
    (folder / "detector-000.safetensors").rename(folder / "aside")
    (folder / "detector-001.safetensors").rename(folder / "detector-000.safetensors")
    (folder / "aside").rename(folder / "detector-001.safetensors")


def of_another_fit(folder):
    SubsetScanDetector(random_state=1).fit(CLEAN).save(folder / "detector-000.safetensors")


def another_joint_scan(folder):
    other = ModelScanner(SPACES, SubsetScanDetector(random_state=1), joint=True)
    other.fit({"a": CLEAN, "b": -CLEAN}).save(folder.parent / "other")
    shutil.copy(folder.parent / "other" / "joint.safetensors", folder)


def says(**changes):
    return lambda folder: reseal_folder(folder, lambda content: content.update(changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, "000.safetensors is another detector than was saved in its place"),
        (of_another_fit, "000.safetensors is another detector than was saved in its place"),
        (another_joint_scan, "is another joint scan than was saved in its place"),
        (says(detectors=dict.fromkeys("ab", "detector-000.safetensors")), "one file in the folder for each detector"),
        (says(detectors={"a": 1, "b": 2}), "scanner.json is damaged: "),
        (says(detectors={"a": "../a", "b": "b"}), "one file in the folder for each detector"),
        (says(detectors={"a": "x" * 5000, "b": "b.safetensors"}), "one file in the folder for each detector"),
        (says(joint=5), "scanner.json is damaged: "),
        (says(joint=None), "it has digests of .*joint"),
        (says(combine="sum"), "scanner.json is damaged: unknown combination 'sum'"),
        (says(fingerprints={"a": 5}), "fingerprints are text"),
        (says(inputs={"a": {"dtype": "f4", "shape": [float("inf")], "low": 0, "high": 1}}), "cannot convert float"),
        (says(inputs={"a": {"dtype": "O", "shape": [4], "low": 0, "high": 1}}), "are numbers, got object"),
        (says(format_version=4), "version 4; expected .* load it with the version that saved it"),
        (lambda folder: (folder / "scanner.json").write_text("[" * 100_000), "maximum recursion depth"),
        (lambda folder: (folder / "scanner.json").write_text("[]"), "scanner.json is damaged: "),
    ],
)
def test_folders_with_something_else(change, message, folder):
    change(folder)
    with pytest.raises(ValueError, match=message):
        ModelScanner.load(folder, SPACES)


def test_no_character_of_a_folder_changes_without_a_word(folder):
    text = (folder / "scanner.json").read_text()
    changed = text.replace('"low": -', '"low": ', 1)
    assert changed != text
    (folder / "scanner.json").write_text(changed)
    with pytest.raises(ValueError, match="scanner.json is damaged: it has not the digest"):
        ModelScanner.load(folder, SPACES)


@pytest.mark.parametrize("null_scores", [[], [np.nan] * 25, [-1.0] * 25, [np.inf] * 25, [1.0], [[1.0]], [1] * 25])
def test_joint_null_scores_are_those_of_a_joint_scan(null_scores, folder):
    """In a folder of an older version, which has no digests."""
    save_file({"null_scores": np.array(null_scores)}, folder / "joint.safetensors")
    content = {"format_version": 2, "digests": None}
    reseal_folder(folder, lambda said: said.update(content))
    path = folder / "scanner.json"
    path.write_text(path.read_text().replace('"digest"', '"_"'))
    with pytest.raises(ValueError, match="joint.safetensors is damaged: the null scores must be numbers of at least 0"):
        ModelScanner.load(folder, SPACES)
    save_file({"null_scores": np.arange(25.0)}, folder / "joint.safetensors")
    assert ModelScanner.load(folder, SPACES).p_values({"a": CLEAN, "b": CLEAN})["joint"].shape == (100,)


def test_saving_twice_gives_the_same_bytes(scanner, folder):
    scanner.save(folder.parent / "again")
    ModelScanner.load(folder, SPACES).save(folder.parent / "loaded")
    names = [path.name for path in sorted(folder.iterdir())]
    assert names == ["detector-000.safetensors", "detector-001.safetensors", "joint.safetensors", "scanner.json"]
    for name in names:
        assert (folder / name).read_bytes() == (folder.parent / "again" / name).read_bytes(), name
        assert (folder / name).read_bytes() == (folder.parent / "loaded" / name).read_bytes(), name


def test_recursion_in_a_file_leaves_the_limit_as_it_is(load):
    before = sys.getrecursionlimit()
    with pytest.raises(ValueError, match="maximum recursion depth"):
        load("scan", lambda *_: "[" * 100_000)
    assert sys.getrecursionlimit() == before


@pytest.mark.parametrize("n_samples", [10**12, 2**63, -1])
def test_a_command_ends_with_a_message(n_samples, tmp_path):
    run = [sys.executable, "-m", "subsetscan"]
    np.save(tmp_path / "x.npy", CLEAN)
    fit = [*run, "fit", "--background", "x.npy", "--tail", "upper", "--out", "fitted", "--quiet"]
    subprocess.run(fit, cwd=tmp_path, check=True, capture_output=True)
    path = tmp_path / "fitted" / "detector-000.safetensors"
    reseal(path, has(n_samples=n_samples), format_version="2")
    content = json.loads((tmp_path / "fitted" / "scanner.json").read_text())
    content |= {"format_version": 2, "digest": None, "digests": None}
    (tmp_path / "fitted" / "scanner.json").write_text(json.dumps(content))
    kept = json.loads((tmp_path / "fitted" / "spaces.json").read_text())
    (tmp_path / "fitted" / "spaces.json").write_text(json.dumps(kept | {"digest": None}))
    score = [*run, "score", "--fitted", "fitted", "--input", "x.npy", "--out", "out"]
    ended = subprocess.run(score, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "detector-000.safetensors is damaged" in ended.stderr
    assert "Traceback" not in ended.stderr
