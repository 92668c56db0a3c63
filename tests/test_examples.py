"""The examples: what the scripts print, and what the service answers."""

import asyncio
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from subsetscan import ModelScanner
from subsetscan.spaces import Arrays

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "says"),
    [("pipeline", "AutomaticDetector: AUROC 0."), ("monitoring", "batch 2"), ("monitoring", "from then on: ")],
)
def test_scripts_run(name, says):
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any(line.startswith(says) for line in done.stdout.splitlines()), done.stdout


@pytest.fixture(scope="module")
def scanner():
    clean = np.random.default_rng(0).normal(size=(200, 4, 5)).astype(np.float32)
    return ModelScanner.automatic(Arrays({"rows": (4, 5)})).fit(clean)


@pytest.fixture(scope="module")
def client(scanner):
    pytest.importorskip("httpx2")
    testing = pytest.importorskip("fastapi.testclient")
    specification = util.spec_from_file_location("service_app", EXAMPLES / "service" / "app.py")
    module = util.module_from_spec(specification)
    sys.modules["service_app"] = module
    specification.loader.exec_module(module)
    with testing.TestClient(module.make_app(scanner)) as started:
        yield started


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


JSON = {"content-type": "application/json"}


def claiming(shape):
    """Make the file of an array of 4 x 5 whose header claims another shape, in as many letters."""
    content = npy(np.ones((4, 5), np.float32))
    header = content[10:128].replace(b"(4, 5)", shape.encode()).rstrip()
    return content[:10] + header.ljust(117) + b"\n" + content[128:]


def test_the_service_answers_as_the_scanner_does(client, scanner):
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(40, 4, 5)) * rng.choice([1, 3], (40, 1, 1))).astype(np.float32)
    expected = scanner.p_values(rows)
    with ThreadPoolExecutor(16) as pool:  # together: in batches of any size
        replies = list(pool.map(lambda row: client.post("/scan?rate=0.1", content=npy(row)).json(), rows))
    assert [reply["p_value"] for reply in replies] == expected.tolist()
    assert [reply["flagged"] for reply in replies] == (expected <= 0.1).tolist()
    reply = client.post("/scan?explain=true", json={"input": rows[3].tolist()}).json()
    assert reply["p_value"] == expected[3]
    assert reply["rate"] == 0.05
    assert reply["explanation"]["rows"]["size"] == scanner.explain(rows[3]).spaces["rows"].size
    body = {
        "content": json.dumps({"input": rows[3].tolist()}),
        "headers": {"content-type": "Application/JSON; charset=x"},
    }
    assert client.post("/scan", **body).json()["p_value"] == expected[3]
    assert client.post("/scan", content=npy(np.asfortranarray(rows[3]))).json()["p_value"] == expected[3]
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/about").json()["layers"] == ["rows"]


def test_a_wrong_input_spoils_no_other(client, scanner):
    good, bad = np.ones((4, 5), np.float32), np.full((4, 5), np.nan, np.float32)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda row: client.post("/scan", content=npy(row)), [good, bad] * 4))
    assert [reply.status_code for reply in replies] == [200, 422] * 4
    assert replies[0].json()["p_value"] == scanner.p_values(good[np.newaxis])[0]
    assert "NaN" in replies[1].json()["detail"]


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ({"content": b"not an array"}, 422, "expected a .npy file, or JSON"),
        ({"content": b"\x93NUMPY\x01\x00"}, 422, "expected a .npy file"),
        (
            {"content": npy(np.ones((3, 5), np.float32))},
            422,
            "expected 20 nodes an input, shape (n, 20), got (1, 3, 5)",
        ),
        ({"json": {"inputs": [1]}}, 422, 'there is no "input"'),
        ({"json": {}}, 422, 'there is no "input"'),
        ({"json": [1]}, 422, 'there is no "input"'),
        ({"content": b'{"input": [' + b"9" * 400 + b"]}", "headers": JSON}, 422, "expected a .npy file, or JSON"),
        ({"content": b'{"input":' + b"[" * 200_000, "headers": JSON}, 422, "expected a .npy file, or JSON"),
        ({"content": b"PK\x03\x04" + b"0" * 50}, 422, "a complete .npy file, whose header can be read"),
        ({"content": b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16}, 422, "a complete .npy file, whose header can be read"),
        ({"content": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"0" * 80}, 422, "whose header can be read"),
        ({"content": claiming("(10**12,)")}, 422, "whose header can be read"),
        ({"content": claiming("(1000000000000,)")}, 422, "expected 4000000000128 bytes"),
        ({"content": claiming("(2500000000,)")}, 422, "expected 10000000128 bytes"),
        ({"content": claiming(f"({10**30},)")}, 422, f"shape ({10**30},), got 208"),
        ({"content": claiming("(-4, -5)")}, 422, "of numbers, got float32 of shape (-4, -5)"),
        ({"content": npy(np.array(["a"]))}, 422, "of numbers, got <U1"),
        ({"content": npy(np.zeros(3, [("a", "f4")]))}, 422, "of numbers"),
        ({"content": npy(np.ones((4, 5), np.complex64))}, 422, "of numbers, got complex64"),
        ({"json": {"input": "words"}}, 422, "expected a .npy file, or JSON"),
        ({"content": b"x" * 17_000_000}, 413, "at most 16000000 bytes"),
    ],
)
def test_wrong_requests_are_told_why(client, how, status, told):
    reply = client.post("/scan", **how)
    assert reply.status_code == status
    assert "allow_pickle" not in reply.text
    assert told in reply.json()["detail"]


def test_a_wrong_rate_is_told(client):
    assert (
        client.post("/scan?rate=2", content=npy(np.ones((4, 5)))).json()["detail"] == "rate must be in (0, 1), got 2.0"
    )


def test_who_goes_away_leaves_no_traceback(client):
    messages = iter([{"type": "http.request", "body": b"part", "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/scan", "query_string": b"", "headers": []}
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 400
