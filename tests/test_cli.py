"""The command line, as people call it."""

import csv
import json
import re
import subprocess
import sys
from datetime import datetime, timedelta

import numpy as np
import pytest

import subsetscan
from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan._validation import InvalidTypeError
from subsetscan.detectors import AutomaticDetector
from subsetscan.lab import networks, options
from subsetscan.spaces import KerasLayers, ReconstructionError

pytest.importorskip("typer")
from subsetscan.commands import experiment, memory
from subsetscan.commands import scan as scan_module


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Help is laid out for the terminal that happens to be there."""
    for name, value in {"NO_COLOR": "1", "COLUMNS": "120", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def scan(run, folder):
    def call(*arguments, **options):
        files = [f"--{name}={folder / name}.npy" for name in ("background", "input")]
        return run("scan", f"--model={folder / 'model.keras'}", *files, *arguments, **options)

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory, autoencoder):
    """A model and three arrays of images as a user has them."""
    folder = tmp_path_factory.mktemp("files")
    autoencoder.save(folder / "model.keras")
    images = np.random.default_rng(5).random((130, 8, 8, 1), dtype=np.float32)
    np.save(folder / "background.npy", images[:100])
    np.save(folder / "clean.npy", images[100:115])
    np.save(folder / "input.npy", np.clip(images[115:] + 0.3, 0, 1))
    return folder


def read_scores(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_help(run):
    assert (help_ := run("--help").out) == run().out
    assert all(command in help_ for command in ("demo", "scan", "fit", "score", "train"))
    for option in ("--model", "--background", "--input", "--clean", "--layers", "--calibration", "--out", "--seed"):
        assert option in run("scan", "--help").out


@pytest.mark.parametrize("kind", ["automatic", "paper"])
def test_scan(scan, folder, tmp_path, autoencoder, kind):
    done = scan(
        f"--clean={folder}/clean.npy", "--layers=encode,pool", "--reconstruction-error=absolute",
        f"--out={tmp_path}/out", *(["--tail=upper"] if kind == "paper" else []),
    )  # fmt: skip
    assert "reconstruction_error" in done.out
    assert ("combined" in done.out) == (kind == "automatic")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {name: space["n_nodes"] for name, space in summary["spaces"].items()} == {
        "encode": 192, "pool": 48, "reconstruction_error": 64,
    }  # fmt: skip
    assert ("calibration_fraction" in summary["detector"]) == (kind == "paper")
    for space in summary["spaces"].values():
        assert 0 <= space["auroc_low"] <= space["auroc"] <= space["auroc_high"] <= 1
    rows = read_scores(tmp_path / "out" / "scores.csv")
    assert list(rows[0]) == ["set", "index", "space", "score", "alpha", "size", "p_value", "flagged"]
    assert len(rows) == (3 + (kind == "automatic")) * (15 + 15)
    assert (tmp_path / "out" / "scores.png").read_bytes()[:4] == b"\x89PNG"

    detector = SubsetScanDetector(random_state=0) if kind == "paper" else AutomaticDetector()
    background = np.load(folder / "background.npy")
    detector.fit(KerasLayers(autoencoder, ["pool"]).transform(background)["pool"])
    values = KerasLayers(autoencoder, ["pool"]).transform(np.load(folder / "input.npy"))["pool"]
    found = detector.scan(values)
    mine = [row for row in rows if (row["set"], row["space"]) == ("input", "pool")]
    assert [int(row["index"]) for row in mine] == list(range(15))
    assert [float(row["score"]) for row in mine] == pytest.approx(found.scores, rel=0 if kind == "paper" else 1e-9)
    assert [float(row["alpha"]) for row in mine] == found.alphas.tolist()
    assert [int(row["size"]) for row in mine] == found.sizes.tolist()
    assert [float(row["p_value"]) for row in mine] == detector.p_values(values).tolist()
    assert [row["flagged"] for row in mine] == ["1" if label == -1 else "0" for label in detector.predict(values)]


def test_scan_without_clean_images_and_calibration(scan, tmp_path):
    scan("--calibration=none", "--layers=all", f"--out={tmp_path}", "--quiet")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["spaces"] == {
        "encode": {"n_nodes": 192}, "pool": {"n_nodes": 48}, "up": {"n_nodes": 192}, "decode": {"n_nodes": 64},
    }  # fmt: skip
    rows = read_scores(tmp_path / "scores.csv")
    assert {row["set"] for row in rows} == {"input"}
    assert {(row["p_value"], row["flagged"]) for row in rows} == {("", "")}


def test_options_reach_the_scan(scan, folder, tmp_path, autoencoder):
    options = {"statistic": "higher-criticism", "tail": "lower", "alpha_max": 0.2, "scope": "all"}
    scan(
        *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()),
        "--reconstruction-error=squared", "--calibration=leave-one-out", f"--out={tmp_path}",
    )  # fmt: skip
    space = ReconstructionError(autoencoder, "squared")
    detector = SubsetScanDetector(**options, calibration="leave-one-out")
    detector.fit(space.transform(np.load(folder / "background.npy"))["reconstruction_error"])
    values = space.transform(np.load(folder / "input.npy"))["reconstruction_error"]
    rows = read_scores(tmp_path / "scores.csv")
    assert [float(row["score"]) for row in rows] == detector.anomaly_score(values).tolist()
    assert [float(row["p_value"]) for row in rows] == detector.p_values(values).tolist()
    assert json.loads((tmp_path / "summary.json").read_text())["detector"]["tail"] == "lower"


def test_fit_and_score_are_scan(run, scan, folder, tmp_path):
    options = ["--layers=pool,up", "--reconstruction-error=squared", "--tail=two-sided", "--seed=3", "--quiet"]
    scan(*options, f"--clean={folder}/clean.npy", f"--out={tmp_path}/scan")
    model = f"--model={folder}/model.keras"
    fitted = run("fit", model, f"--background={folder}/background.npy", f"--out={tmp_path}/fitted", *options)
    assert fitted.out == f"kept 3 detectors, fitted on 100 inputs, in {tmp_path}/fitted/\n"
    sets = [f"--input={folder}/input.npy", f"--clean={folder}/clean.npy"]
    run("score", model, f"--fitted={tmp_path}/fitted", *sets, f"--out={tmp_path}/score", "--quiet")
    for name in ("scores.csv", "scores.png"):
        assert (tmp_path / "score" / name).read_bytes() == (tmp_path / "scan" / name).read_bytes()
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("score", "scan")]
    assert summaries[0]["spaces"] == summaries[1]["spaces"]
    for name in ("input", "clean", "n_background", "detector", "fingerprint", "versions"):
        assert summaries[0][name] == summaries[1][name]
    assert summaries[1]["background"] == f"{folder}/background.npy"
    assert summaries[1]["n_background"] == 100
    assert summaries[1]["versions"]["numpy"] == np.__version__
    assert datetime.fromisoformat(summaries[1]["time"]).utcoffset() == timedelta(0)
    assert summaries[1]["detector"]["calibration_fraction"] == 0.25

    arguments = ["score", model, sets[0], f"--out={tmp_path}/out"]
    done = run(*arguments, f"--fitted={tmp_path}", code=2)
    assert "holds nothing that `subsetscan fit` kept: there is no spaces.json" in done.err
    (tmp_path / "fitted" / "spaces.json").write_text("{}")
    assert "spaces.json is damaged" in run(*arguments, f"--fitted={tmp_path}/fitted", code=2).err


def test_what_is_kept_beside_a_scanner_is_of_that_scanner(run, tmp_path):
    rng = np.random.default_rng(0)
    for name, seed in (("a", 0), ("b", 1)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(60, 5)))
        run("fit", f"--background={tmp_path}/{name}.npy", f"--out={tmp_path}/{name}", f"--seed={seed}", "--quiet")
    score = ["score", f"--input={tmp_path}/b.npy", f"--fitted={tmp_path}/a", f"--out={tmp_path}/out", "--quiet"]
    run(*score)
    kept = (tmp_path / "a" / "spaces.json").read_text()
    for other in ((tmp_path / "b" / "spaces.json").read_text(), kept.replace('"columns": null', '"columns": ["x"]')):
        assert other != kept
        (tmp_path / "a" / "spaces.json").write_text(other)
        assert "spaces.json is damaged: it is not what was kept beside this scanner" in run(*score, code=2).err


def test_folders_of_pictures_are_arrays_of_their_pixels(run, folder, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    for kind, part in (("background", pixels[:80]), ("input", pixels[80:])):
        np.save(tmp_path / f"{kind}.npy", part[..., np.newaxis] / np.float32(255))
        (tmp_path / kind).mkdir()
        for n, picture in enumerate(part):
            pillow.fromarray(picture).save(tmp_path / kind / f"{n:02}.png")
    for ending in ("", ".npy"):
        model, out = f"--model={folder}/model.keras", tmp_path / f"out{ending}"
        run("fit", model, f"--background={tmp_path}/background{ending}", f"--out={out}", "--layers=pool")
        given = [model, f"--fitted={out}", f"--input={tmp_path}/input{ending}", f"--clean={tmp_path}/input{ending}"]
        run("score", *given, f"--out={out}")
        run("explain", *given[:3], f"--out={out}", "--index=3")
    for name in ("scores.csv", "summary.json", "explanation.json", "explanation.png"):
        written, expected = (tmp_path / f"out{ending}" / name for ending in ("", ".npy"))
        written, expected = (
            re.sub(r'"time": "[^"]*"', "", path.read_text("latin-1").replace(".npy", ""))
            for path in (written, expected)
        )
        assert written == expected


def test_a_background_beyond_memory_is_refused_before_it_is_read(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 100_000)
    given = [f"--model={folder}/model.keras", f"--background={folder}/background.npy", f"--out={tmp_path}/out"]
    by_hand = "--tail=upper"
    assert "496 nodes x 100 background inputs need about 198 kB" in run("fit", *given, by_hand, code=2).err
    assert "kept 1 detector" in run("fit", *given, by_hand, "--layers=pool").out
    # Without "up", which hands on values; and with what the fit takes, most of all that of the 192 nodes of "encode".
    needed = f"{100 * (304 * 30 + 192 * 60) / 1e6:.3g} MB"
    assert f"304 nodes x 100 background inputs need about {needed}" in run("fit", *given, code=2).err


def write_bad_files(folder):
    images = np.load(folder / "input.npy")
    np.save(folder / "holed.npy", np.where(np.arange(15)[:, None, None, None] == 4, np.nan, images))
    np.save(folder / "narrow.npy", images[:, :4])
    np.save(folder / "words.npy", np.array(["a", "b"]))
    np.save(folder / "objects.npy", np.array([[None]]), allow_pickle=True)
    np.save(folder / "one.npy", images[:1])
    (folder / "cut.npy").write_bytes((folder / "input.npy").read_bytes()[:-100])
    (folder / "text.npy").write_text("something else")
    (folder / "text.keras").write_text("something else")
    (folder / "file").write_text("")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input={}/nowhere.npy"], "no file or folder of inputs at"),
        (["--input={}/text.npy"], "text.npy is not a complete .npy file of numbers"),
        (["--input={}/cut.npy"], "cut.npy is not a complete .npy file of numbers"),
        (["--input={}/objects.npy"], "objects.npy is not a complete .npy file of numbers"),
        (["--input={}/words.npy"], "words.npy must hold numbers of shape (n, ...), got <U1 of shape (2,)"),
        (["--input={}/narrow.npy"], "each input must have shape (8, 8, 1), got (4, 8, 1)"),
        (["--input={}/holed.npy"], "input 4 has NaN or infinite values; it is the first of 1 that have"),
        (["--background={}/one.npy"], "needs at least 2 clean inputs, got 1 sample"),
        (["--model={}/nowhere.keras"], "no model file at"),
        (["--model={}/text.keras"], "cannot open"),
        (["--layers=nowhere"], "has no layer 'nowhere'; it has 4 layers: encode, pool, up, decode"),
        (["--alpha-max=1.5"], "alpha_max must be in (0, 1], got 1.5"),
        (["--out={}/file/out"], "file/out: {}/file is not a folder"),
        (["--layers="], "has no layer ''; it has 4 layers: encode, pool, up, decode"),
        (["--layers=encode,,pool"], "has no layer ''"),
    ],
)
def test_bad_input_is_one_line(scan, folder, tmp_path, arguments, message):
    write_bad_files(folder)
    out = [] if arguments[0].startswith("--out") else [f"--out={tmp_path}/out"]
    done = scan(*(argument.format(folder) for argument in arguments), *out, "--quiet", code=2)
    assert message.replace("{}", str(folder)) in done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("subsetscan: ")
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scan"], "Missing option '--background'"),
        (["nothing"], "No such command 'nothing'"),
        (["scan", "--tail=left"], "'left' is not one of 'upper', 'lower', 'two-sided'"),
        (["demo", "--n-clean=0"], "Invalid value for '--n-clean'"),
        (["train", "--network=gan", "--out=x"], "'gan' is not one of 'autoencoder', 'classifier'"),
        (["demo", "--nothing"], "No such option: --nothing"),
    ],
)
def test_wrong_calls(run, arguments, message):
    error = run(*arguments, code=2).err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("subsetscan: ")


COMMANDS = {
    "demo": [],
    "scan": ["--model=m", "--background=b", "--input=i"],
    "fit": ["--model=m", "--background=b"],
    "score": ["--model=m", "--fitted=f", "--input=i"],
    "explain": ["--model=m", "--fitted=f", "--input=i"],
    "train": ["--network=classifier"],
    "attack": ["--model=m", "--input=i", "--labels=l"],
    "responses": ["--model=m", "--images=i"],
    "reproduce": [],
    "trace": [],
    "experiment": ["defaults"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written_is_found_first(run, tmp_path, command, monkeypatch):
    """Before any file is read, and nothing is left there."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(networks, "start_keras", None)
    done = run(command, *COMMANDS[command], f"--out={tmp_path}/file/in", code=2)
    assert done.err == f"subsetscan: cannot write results to {tmp_path}/file/in: {tmp_path}/file is not a folder\n"
    assert "is a file" in run(command, *COMMANDS[command], f"--out={tmp_path}/file", code=2).err

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(options, "TemporaryFile", refuse)  # permissions do not bind whoever may do everything
    done = run(command, *COMMANDS[command], f"--out={tmp_path}/folder/new", code=2)
    assert f"cannot write results to {tmp_path}/folder/new: Permission denied ({tmp_path}/folder)" in done.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_results_are_those_of_the_last_run_alone(run, scan, folder, tmp_path):
    """Without images there is a header, and no figure of an older run; files of others stay."""
    np.save(tmp_path / "none.npy", np.load(folder / "input.npy")[:0])
    model, none, out = f"--model={folder}/model.keras", f"--input={tmp_path}/none.npy", tmp_path / "out"
    header = "set,index,space,score,alpha,size,p_value,flagged\n"
    scan(f"--out={out}", "--quiet")
    (out / "notes.txt").write_text("the user's own")
    (out / "explanation.json").write_text("of other images")
    done = scan(none, f"--out={out}", "--quiet", "--combine=min")
    assert "wrote scores.csv, summary.json, null_scores.csv to" in done.out
    assert sorted(path.name for path in out.iterdir()) == [
        "notes.txt", "null_scores.csv", "scores.csv", "summary.json",
    ]  # fmt: skip
    assert (out / "scores.csv").read_text() == header

    run("fit", model, f"--background={folder}/background.npy", f"--out={tmp_path}/fitted", "--quiet")
    given = [model, f"--fitted={tmp_path}/fitted"]
    run("score", *given, f"--input={folder}/input.npy", f"--out={tmp_path}/score", "--quiet")
    run("score", *given, none, f"--clean={tmp_path}/none.npy", f"--out={tmp_path}/score", "--quiet")
    assert sorted(path.name for path in (tmp_path / "score").iterdir()) == [
        "null_scores.csv", "scores.csv", "summary.json",
    ]  # fmt: skip
    assert (tmp_path / "score" / "scores.csv").read_text() == header
    assert "holds 0 inputs, there is no input 0" in run("explain", *given, none, f"--out={tmp_path}/e", code=2).err
    done = run("fit", model, f"--background={tmp_path}/none.npy", f"--out={tmp_path}/fitted2", code=2)
    assert "needs at least 2 clean inputs, got 0 sample" in done.err


def test_only_what_was_asked_for_has_a_column(scan, folder, tmp_path):
    given = ["--layers=pool", f"--out={tmp_path}", "--quiet"]
    everything = ["space", "nodes", "median score", "p <= 0.05", "AUROC [95 %]"]
    for options_, columns in (
        ([], everything[:4]),
        (["--calibration=none"], everything[:3]),
        ([f"--clean={folder}/clean.npy"], everything),
    ):
        header, *_ = scan(*given, *options_).out.splitlines()
        assert re.split(r" {2,}", header) == columns


def test_unexpected_errors_are_told_from_those_of_the_input(run, scan, tmp_path, monkeypatch):
    def fail(*_):
        raise TypeError("unsupported operand")

    monkeypatch.setattr(scan_module, "check_there", fail)
    done = scan(f"--out={tmp_path}", code=1)
    unexpected = "subsetscan: unexpected error (TypeError: unsupported operand): please report it; "
    assert done.err == f"{unexpected}--debug shows where it arose\n"
    traced = scan(f"--out={tmp_path}", "--debug", code=1).err.splitlines()
    assert traced[0] == "Traceback (most recent call last):"
    assert any("in fail" in line for line in traced)
    assert traced[-1].startswith(unexpected)

    def refuse(*_):
        raise InvalidTypeError("images must be numbers, got dtype object")

    monkeypatch.setattr(scan_module, "check_there", refuse)
    assert scan(f"--out={tmp_path}", code=2).err == "subsetscan: images must be numbers, got dtype object\n"
    traced = run("--debug", "scan", code=2).err.splitlines()
    assert traced[0] == "Traceback (most recent call last):"
    assert traced[-1] == "subsetscan: Missing option '--background'."


@pytest.mark.parametrize("continues", [True, False])
def test_ctrl_c_is_one_line_that_says_whether_the_command_continues(run, tmp_path, monkeypatch, continues):
    def interrupted(out, *, kept=None, quick=False, seed=0, progress=True, say=print):
        raise KeyboardInterrupt

    if continues:
        monkeypatch.setitem(experiment._EXPERIMENTS, "files", interrupted)
        output = run("experiment", "files", f"--out={tmp_path / 'out'}", code=130)
        hint = ": the same command continues where it was stopped"
    else:
        np.save(tmp_path / "x.npy", np.zeros((30, 2)))
        monkeypatch.setattr(scan_module, "check_there", lambda *_: interrupted(tmp_path))
        files = [f"--{name}={tmp_path / 'x.npy'}" for name in ("background", "input")]
        output = run("scan", *files, f"--out={tmp_path / 'out'}", code=130)
        hint = ""
    assert output.err == f"subsetscan: interrupted{hint}\n"
    assert output.out == ""


def test_version(run):
    assert run("--version").out == f"subsetscan {subsetscan.__version__}\n"


def test_models_that_hold_code(run, folder, tmp_path):
    """They are refused, unless they are trusted by name."""
    keras = pytest.importorskip("keras")
    pixels = keras.Input((8, 8, 1))
    doubled = keras.layers.Lambda(lambda images: images * 2.0, name="doubled")(pixels)
    keras.Model(pixels, keras.layers.Flatten(name="flat")(doubled)).save(tmp_path / "model.keras")
    asked = ["fit", f"--model={tmp_path}/model.keras", f"--background={folder}/background.npy", f"--out={tmp_path}/out"]
    assert "Lambda" in run(*asked, code=2).err
    # In a process of its own: what Keras is allowed once it is allowed for good.
    command = [sys.executable, "-m", "subsetscan", *asked, "--unsafe-model", "--quiet"]
    kept = "kept 1 detector,"  # "flat" hands on the values of "doubled"
    assert kept in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for command, needed in COMMANDS.items():
        assert ("--unsafe-model" in run(command, "--help").out) == ("--model=m" in needed or command == "trace")


def test_combined_p_values(run, scan, folder, tmp_path, autoencoder):
    output = scan(f"--out={tmp_path}", "--layers=encode,decode", "--combine=fisher", "--ties=midrank", "--quiet")
    assert "combined" in output.out
    with (tmp_path / "scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["space"] == "combined"]
    detector = SubsetScanDetector(ties="midrank", random_state=0)
    scanner = ModelScanner(KerasLayers(autoencoder, ["encode", "decode"]), detector)
    scanner.fit(np.load(folder / "background.npy"))
    expected = scanner.p_values(np.load(folder / "input.npy"), combine="fisher")
    assert [float(row["p_value"]) for row in rows] == expected.tolist()
    refused = "subsetscan: combining needs p-values: choose a calibration\n"
    options = ["--combine=min", "--calibration=none", "--quiet"]
    assert scan(f"--out={tmp_path}", *options, code=2).err == refused
    given = [f"--model={folder}/model.keras", f"--background={folder}/background.npy", f"--out={tmp_path}/fitted"]
    assert run("fit", *given, *options, code=2).err == refused
    assert not (tmp_path / "fitted").exists()


def test_without_options_all_layers_are_combined(run, scan, folder, tmp_path, autoencoder):
    """scores.csv holds what a scanner of the package's users gives; fit and score write the same, or combine anew."""
    scanner = ModelScanner.automatic(autoencoder).fit(np.load(folder / "background.npy"))
    images = np.load(folder / "input.npy")
    alone = scanner.p_values(images, combine=None)
    assert list(alone) == ["encode", "pool", "decode"]
    expected = alone | {"combined": scanner.p_values(images)}
    scores = scanner.anomaly_score(images, combine=None) | {"combined": scanner.anomaly_score(images)}
    model = f"--model={folder}/model.keras"
    scan(f"--out={tmp_path}/scan", "--quiet")
    run("fit", model, f"--background={folder}/background.npy", f"--out={tmp_path}/fitted", "--quiet")
    given = [model, f"--fitted={tmp_path}/fitted", f"--input={folder}/input.npy", "--quiet"]
    run("score", *given, f"--out={tmp_path}/score")
    rows = read_scores(tmp_path / "scan" / "scores.csv")
    assert rows == read_scores(tmp_path / "score" / "scores.csv")
    assert [row["space"] for row in rows] == [name for name in expected for _ in images]
    assert [float(row["p_value"]) for row in rows] == pytest.approx(np.concatenate(list(expected.values())), rel=1e-9)
    assert [float(row["score"]) for row in rows] == pytest.approx(np.concatenate(list(scores.values())), rel=1e-9)
    assert [row["flagged"] for row in rows] == [str(int(float(row["p_value"]) <= 0.05)) for row in rows]
    assert {(row["alpha"], row["size"]) for row in rows if row["space"] == "combined"} == {("", "")}

    run("score", *given, f"--out={tmp_path}/score", "--combine=cauchy")
    combined = [row for row in read_scores(tmp_path / "score" / "scores.csv") if row["space"] == "combined"]
    assert [float(row["p_value"]) for row in combined] == scanner.p_values(images, combine="cauchy").tolist()


@pytest.mark.parametrize(
    "option",
    ["statistic=berk-jones", "tail=upper", "alpha-max=0.5", "scope=subset", "ties=upper"],
)
def test_any_option_of_a_scan_means_that_of_the_paper(run, folder, tmp_path, autoencoder, option):
    """All options given are the paper's: with any of them the result is that of a detector with none changed."""
    files = [f"--{name}={folder}/{name}.npy" for name in ("background", "input")]
    run("scan", f"--model={folder}/model.keras", *files, f"--out={tmp_path}", f"--{option}", "--quiet")
    scanner = ModelScanner(KerasLayers(autoencoder), SubsetScanDetector(random_state=0))
    expected = scanner.fit(np.load(folder / "background.npy")).p_values(np.load(folder / "input.npy"))
    assert list(expected) == ["encode", "pool", "up", "decode"]
    rows = read_scores(tmp_path / "scores.csv")
    assert {row["space"] for row in rows} == set(expected)
    for name, p_values in expected.items():
        assert [float(row["p_value"]) for row in rows if row["space"] == name] == p_values.tolist()


@pytest.mark.parametrize("calibration", ["leave-one-out", "holdout", "none"])
def test_a_calibration_alone_is_that_of_the_automatic_detector(run, folder, tmp_path, autoencoder, calibration):
    files = [f"--{name}={folder}/{name}.npy" for name in ("background", "input")]
    given = [f"--model={folder}/model.keras", *files, f"--calibration={calibration}", "--seed=3", "--quiet"]
    run("scan", *given, f"--out={tmp_path}")
    own = None if calibration == "none" else calibration
    scanner = ModelScanner.automatic(autoencoder, calibration=own, random_state=3)
    scanner.fit(np.load(folder / "background.npy"))
    scores = scanner.anomaly_score(np.load(folder / "input.npy"), combine=None)
    rows = read_scores(tmp_path / "scores.csv")
    assert list(dict.fromkeys(row["space"] for row in rows)) == [*scores, *(["combined"] if own else [])]
    for name, expected in scores.items():
        found = [float(row["score"]) for row in rows if row["space"] == name]
        assert found == pytest.approx(expected, rel=1e-9)
    if own:
        expected = scanner.p_values(np.load(folder / "input.npy"))
        assert [float(row["p_value"]) for row in rows if row["space"] == "combined"] == expected.tolist()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["detector"]["name"] == "AutomaticDetector"
    assert summary["detector"]["calibration"] == own


def test_wide_layers_are_averaged_without_options(run, tmp_path, rng):
    """Also where they are named, and when the scanner is opened again; their values are averages of blocks of 2 x 2."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    wide = keras.layers.Conv2D(6, 3, padding="same", name="wide")
    model = keras.Sequential([keras.Input((30, 30, 1)), wide, keras.layers.Flatten(name="flat")])
    model.save(tmp_path / "model.keras")
    images = rng.random((70, 30, 30, 1), np.float32)
    np.save(tmp_path / "background.npy", images[:60])
    np.save(tmp_path / "input.npy", images[60:])
    files = [f"--model={tmp_path}/model.keras", f"--background={tmp_path}/background.npy"]
    values = model.layers[0](images).numpy().reshape(70, 15, 2, 15, 2, 6).mean(axis=(2, 4)).reshape(70, -1)
    expected = AutomaticDetector().fit(values[:60]).p_values(values[60:])
    for n, named in enumerate(([], ["--layers=wide"])):
        told = json.loads(run("fit", *files, *named, f"--out={tmp_path}/fitted{n}", "--json").out)
        assert told["spaces"] == {"wide": {"n_nodes": 15 * 15 * 6}}
        given = [files[0], f"--fitted={tmp_path}/fitted{n}", f"--input={tmp_path}/input.npy", f"--out={tmp_path}/out"]
        run("score", *given, "--quiet")
        rows = [row for row in read_scores(tmp_path / "out" / "scores.csv") if row["space"] == "wide"]
        assert [float(row["p_value"]) for row in rows] == pytest.approx(expected, abs=1.5 / 61)
    told = json.loads(
        run("fit", *files, "--tail=upper", "--calibration=leave-one-out", f"--out={tmp_path}/paper", "--json").out
    )
    assert told["spaces"] == {"wide": {"n_nodes": 5400}, "flat": {"n_nodes": 5400}}


def test_explain(run, folder, tmp_path, autoencoder):
    model = f"--model={folder / 'model.keras'}"
    run("fit", model, f"--background={folder / 'background.npy'}", f"--out={tmp_path / 'fitted'}", "--quiet")
    asked = ["explain", model, f"--fitted={tmp_path / 'fitted'}", f"--input={folder / 'input.npy'}"]
    output = run(*asked, "--index=2", f"--out={tmp_path / 'out'}")
    assert "leading channels (nodes)" in output.out
    told = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert list(told) == ["encode", "pool", "decode"]
    assert all(sum(space["channels"]) == space["size"] for space in told.values())
    assert (tmp_path / "out" / "explanation.png").read_bytes().startswith(b"\x89PNG")
    scanner = ModelScanner.automatic(autoencoder).fit(np.load(folder / "background.npy"))
    image = np.load(folder / "input.npy")[2]
    explanation = scanner.explain(image)
    for name, space in explanation.spaces.items():
        assert told[name]["nodes"] == np.flatnonzero(space.nodes).tolist()
        assert told[name]["p_value"] == space.p_value
    assert f"p = {scanner.p_values(image[np.newaxis])[0]:.3g}\n" in output.out
    output = run(*asked, "--index=15", f"--out={tmp_path / 'out'}", code=2)
    assert output.err.endswith("input.npy holds 15 inputs, there is no input 15\n")


def test_demo(run, tmp_path):
    out = tmp_path / "demo"
    done = run("demo", f"--out={out}", "--n-background=200", "--n-clean=60", "--n-attacked=60", "--seed=1",
               "--false-positive-rate=0.1")  # fmt: skip
    assert "conv2d_1" in done.out
    assert done.err == ""  # no progress bars in files
    assert sorted(path.name for path in out.iterdir()) == [
        "anomalous_nodes.png", "null_scores.csv", "roc.png", "scores.csv", "scores.png", "summary.json",
    ]  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["spaces"])[-1] == "reconstruction_error"
    assert summary["detector"]["false_positive_rate"] == 0.1
    assert summary["detector"]["tail"] == {"layers": "lower", "reconstruction_error": "upper"}
    assert len(summary["fingerprint"]) == 64
    assert len(summary["spaces"]) == len(summary["paper"]) == 13 + 1
    rows = read_scores(out / "scores.csv")
    for name in ("fgsm", "bim"):
        n_successful = summary["attacks"][name]["n_successful"]
        assert n_successful > 0
        assert len([row for row in rows if row["set"] == name]) == 14 * n_successful
        for configuration in ("spaces", "paper"):
            assert 0 <= summary[configuration]["conv2d_1"][name]["auroc"] <= 1
        assert 0 <= summary["baseline"]["mean reconstruction error"][name]["auroc"] <= 1


@pytest.mark.filterwarnings("always:.* null scores")
def test_a_warning_of_many_detectors_is_one(run, tmp_path):
    done = run("demo", f"--out={tmp_path}", "--n-background=40", "--n-clean=20", "--n-attacked=20", "--quiet")
    assert done.err.count("null scores cannot give a p-value") == 1


def test_demo_asks_for_no_more_images_than_there_are(run, tmp_path):
    done = run("demo", f"--out={tmp_path}", "--n-clean=2000", "--quiet", code=2)
    assert "asked for 3600 images, there are 2000" in done.err


def test_train(run, tmp_path, rng):
    from subsetscan.lab import datasets

    for split in ("train", "t10k"):
        datasets.write_idx(
            tmp_path / f"{split}-images-idx3-ubyte.gz", rng.integers(0, 255, (40, 28, 28), dtype=np.uint8)
        )
        datasets.write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", rng.integers(0, 10, 40, dtype=np.uint8))
    out = tmp_path / "out"
    command = ["train", "--network=autoencoder", "--dataset=mnist", f"--data={tmp_path}", "--epochs=1", f"--out={out}"]
    done = run(*command)
    assert "val_loss" in done.out
    assert "n_parameters: 4385" in done.out
    assert "val_loss" not in run(*command).out  # it is trained
    assert json.loads(run(*command, "--json").out)["n_parameters"] == 4385
    (out / "mnist-autoencoder.json").unlink()
    assert json.loads(run(*command, "--json").out)["n_parameters"] == 4385  # and says nothing else where it trains
    done = run(*command[:3], f"--data={out}", f"--out={out}", code=2)
    assert "found no mnist (train); looked for" in done.err


def test_a_process_of_its_own_says_what_it_does_and_no_more(folder, tmp_path):
    """The backend's notes on the machine stay away; few null scores are warned of in a line."""
    np.save(tmp_path / "few.npy", np.load(folder / "background.npy")[:10])
    command = [
        sys.executable, "-m", "subsetscan", "scan", f"--model={folder}/model.keras", f"--background={tmp_path}/few.npy",
        f"--input={folder}/input.npy", f"--out={tmp_path}/out", "--layers=pool", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "subsetscan: warning: 10 null scores cannot give a p-value of at most 0.05: the smallest is "
        "1 / (10 + 1) = 0.0909; calibrate with at least 19 clean inputs, or ask for a higher false_positive_rate; "
        "predict will flag nothing"
    ]
    assert (
        done.stdout.splitlines()[-1]
        == f"wrote scores.csv, summary.json, null_scores.csv, scores.png to {tmp_path}/out/"
    )
