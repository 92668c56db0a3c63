"""`subsetscan --cluster`: the files of a command without it, by the workers of a real cluster."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from subsetscan.detectors import load_detector

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytest.importorskip("typer")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:distributed", "ignore::ResourceWarning")

A_SCAN = ["--tail=two-sided", "--alpha-max=0.2"]


@pytest.fixture(scope="module")
def address():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 24))
    values = (rng.normal(size=(190, 3)) @ mix + rng.normal(size=(190, 24))).astype(np.float32)
    values[160:, :5] += 2
    for name, rows in (("background", values[:120]), ("clean", values[120:160]), ("input", values[160:])):
        np.save(tmp_path / f"{name}.npy", rows.reshape(len(rows), 4, 6))
    return {name: f"--{name}={tmp_path}/{name}.npy" for name in ("background", "clean", "input")}


@pytest.fixture(autouse=True)
def small_chunks():
    with dask.config.set({"array.chunk-size": "2 kiB"}):
        yield


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_results(one, other, exactly, fitted_once=False):
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    summaries = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in (one, other)]
    for summary in summaries:
        del summary["time"], summary["versions"]
    if not (exactly or fitted_once):
        assert summaries[0].pop("fingerprint") != summaries[1].pop("fingerprint")
    assert summaries[0] == summaries[1]
    for name in ("scores.csv", "null_scores.csv"):
        if exactly:
            assert (one / name).read_bytes() == (other / name).read_bytes()
        for row, expected in zip(table(one / name), table(other / name), strict=True):
            assert float(row.pop("score")) == pytest.approx(float(expected.pop("score")), rel=1e-9, abs=1e-9)
            assert row == expected


@pytest.mark.parametrize("options", [[], A_SCAN, [*A_SCAN, "--calibration=none"], ["--calibration=holdout"]], ids=str)
def test_a_scan_writes_what_it_writes_without(options, address, files, run, tmp_path):
    for folder, where in (("here", []), ("there", [f"--cluster={address}"])):
        run("scan", *files.values(), f"--out={tmp_path / folder}", *options, *where)
    if "--calibration=none" in options:
        assert (tmp_path / "there" / "scores.csv").read_bytes() == (tmp_path / "here" / "scores.csv").read_bytes()
    else:
        assert_same_results(tmp_path / "there", tmp_path / "here", exactly="--tail=two-sided" in options)


@pytest.mark.parametrize("options", [[], A_SCAN], ids=str)
def test_fit_and_score_are_those_without(options, address, files, run, tmp_path):
    for folder, where in (("here", []), ("there", [f"--cluster={address}"])):
        run("fit", files["background"], f"--out={tmp_path / folder}", *options, *where)
    if options:
        for path in (tmp_path / "here").iterdir():
            assert (tmp_path / "there" / path.name).read_bytes() == path.read_bytes()
    else:
        null_scores = [
            load_detector(next((tmp_path / folder).glob("*.safetensors"))).null_scores_ for folder in ("here", "there")
        ]
        np.testing.assert_allclose(*null_scores, rtol=1e-9)
    about = json.loads((tmp_path / "there" / "scanner.json").read_text(encoding="utf-8"))
    assert about["inputs"] == json.loads((tmp_path / "here" / "scanner.json").read_text(encoding="utf-8"))["inputs"]
    for folder, where in (("scored", []), ("scored there", [f"--cluster={address}", "--batch-size=8"])):
        run(
            "score",
            f"--fitted={tmp_path / 'here'}",
            files["input"],
            files["clean"],
            f"--out={tmp_path / folder}",
            *where,
        )
    assert_same_results(tmp_path / "scored there", tmp_path / "scored", exactly=bool(options), fitted_once=True)


def test_what_cannot_be_spread_is_refused(address, files, run, tmp_path, monkeypatch):
    monkeypatch.setattr("subsetscan.commands.cluster._SECONDS", 3)
    np.savez(tmp_path / "input.npz", a=np.zeros((3, 24)))
    holed = np.load(tmp_path / "input.npy")
    holed[20, 0, 3] = np.nan
    np.save(tmp_path / "holed.npy", holed)
    there, out = f"--cluster={address}", f"--out={tmp_path / 'out'}"
    both = [files["background"], files["input"]]
    for arguments, message in [
        ((*both, "--cluster=tcp://127.0.0.1:1"), "no scheduler of dask answers at 'tcp://127.0.0.1:1'"),
        ((*both, "--cluster=nonsense://x"), "no scheduler of dask answers at 'nonsense://x'"),
        ((*both, "--cluster=nonsense"), "missing port number in address 'nonsense'"),
        ((*both, "--cluster=127.0.0.1:99999999"), "an address is HOST:PORT"),
        ((*both, there, "--model=m.onnx"), "--cluster is for activations without a model"),
        ((files["background"], f"--input={tmp_path}/input.npz", there), "activations are read from .npy files"),
        ((*both, there, "--tail=upper", "--ties=random"), "ties 'upper' or 'midrank', got 'random'"),
        (
            (files["background"], f"--input={tmp_path}/holed.npy", there),
            "holds NaN, the first one met at input 20, node 3",
        ),
    ]:
        error = run("scan", *arguments, out, code=2).err
        assert message in error.splitlines()[-1], error
        assert "Traceback" not in error
        with pytest.raises(ValueError, match="No clients found"):  # not even one that waits for its scheduler
            distributed.default_client()
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "distributed is not installed: pip install" in run("scan", *both, there, out, code=2).err


def worker(address, tmp_path, **environment):
    """Start a worker of its own; whoever asks stops it."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
    return subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("raise ImportError('it is not here')", "has no subsetscan: it is not here; install"),
        ("", "has subsetscan 0.0.1, here it is"),
        (None, "has no workers"),
    ],
    ids=["none", "another version", "no worker"],
)
def test_workers_need_this_package(package, message, files, run, tmp_path, monkeypatch):
    monkeypatch.setattr("subsetscan.commands.cluster._SECONDS", 20 if package is not None else 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        process = None
        if package is not None:
            (tmp_path / "there" / "subsetscan").mkdir(parents=True)
            (tmp_path / "there" / "subsetscan" / "__init__.py").write_text(package, encoding="utf-8")
            about = tmp_path / "there" / "subsetscan-0.0.1.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(
                "Metadata-Version: 2.1\nName: subsetscan\nVersion: 0.0.1\n", encoding="utf-8"
            )
            process = worker(cluster.scheduler_address, tmp_path, PYTHONPATH=str(tmp_path / "there"))
        try:
            there = f"--cluster={cluster.scheduler_address}"
            error = run("fit", files["background"], there, f"--out={tmp_path / 'out'}", code=2).err
        finally:
            if process is not None:
                process.kill()
                process.wait()
    assert message in error.splitlines()[-1], error


def _see_nothing(wanted):
    """Have files be missing to the worker that runs this: those of a test are on one machine with all workers."""
    from pathlib import Path

    if wanted:
        Path.kept_open, Path.open = Path.open, lambda *_: open("/nowhere")  # noqa: SIM115
    else:
        Path.open = Path.kept_open


def test_workers_need_the_files(address, files, tmp_path):
    from subsetscan.adapters.dask_files import spread_file

    path = Path(files["background"].partition("=")[2])
    with distributed.Client(address) as client:
        found = spread_file(path, client)
        assert found.numblocks > (1, 1)
        assert np.array_equal(found.compute(), np.load(path).reshape(120, 24))
        later = spread_file(path, client)
        np.save(path, np.zeros((120, 4, 6), np.float32))
        with pytest.raises(OSError, match="was changed while it was read"):
            later.compute()

        one = sorted(client.scheduler_info()["workers"])[0]
        client.run(_see_nothing, True, workers=[one])
        with pytest.raises(FileNotFoundError, match=f"the worker {one} sees no such file as .*background.npy"):
            spread_file(path, client)
        client.run(_see_nothing, False, workers=[one])
        assert not spread_file(path, client).compute().any()


def test_the_command_itself(address, files, tmp_path):
    command = [sys.executable, "-m", "subsetscan", "scan", files["background"], files["input"], f"--cluster={address}"]
    environment = os.environ | {"DASK_ARRAY__CHUNK_SIZE": "2kiB"}
    done = subprocess.run(
        [*command, f"--out={tmp_path}/out", "--json"], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["n_background"] == 120
    assert not done.stderr
