"""Measure the service on loopback: requests a second and how long one takes, beside the network alone.

python load_test.py          # two minutes; writes the table to README.md
"""

from __future__ import annotations

import asyncio
import io
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from subsetscan import ModelScanner

HERE = Path(__file__).parent
SIDE, SECONDS, CLIENTS = 32, 6.0, (1, 8, 32)
START, END = "<!-- measured -->", "<!-- end -->"


def make_network(path: Path, rng: np.random.Generator) -> None:
    """Write a small classifier of images, two convolutions and a dense layer, with random weights."""
    shapes = {"a": (16, 3, 3, 3), "b": (32, 16, 3, 3), "c": (32, 10)}
    weights = [
        numpy_helper.from_array((rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["images", "a"], ["first"], strides=[2, 2]),
        helper.make_node("Relu", ["first"], ["second"]),
        helper.make_node("Conv", ["second", "b"], ["third"], strides=[2, 2]),
        helper.make_node("Relu", ["third"], ["fourth"]),
        helper.make_node("GlobalAveragePool", ["fourth"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "c"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "classifier", [images], [logits], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


async def ask(url: str, bodies: list[bytes], n_clients: int) -> tuple[float, np.ndarray]:
    """Ask for some seconds from several clients; return requests a second, and how long each took."""
    taken: list[float] = []
    until = time.perf_counter() + SECONDS

    async def client(n: int) -> None:
        async with httpx.AsyncClient() as http:
            while (started := time.perf_counter()) < until:
                reply = await http.post(url, content=bodies[n % len(bodies)])
                reply.raise_for_status()
                taken.append(time.perf_counter() - started)
                n += 1

    started = time.perf_counter()
    await asyncio.gather(*map(client, range(n_clients)))
    return len(taken) / (time.perf_counter() - started), np.array(taken)


def main() -> None:
    """Measure, print and write."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        model, fitted = Path(folder) / "model.onnx", Path(folder) / "fitted"
        make_network(model, rng)
        images = rng.random((700, 3, SIDE, SIDE)).astype(np.float32)
        ModelScanner.automatic(model).fit(images[:500]).save(fitted)
        bodies = []
        for image in images[500:]:
            file = io.BytesIO()
            np.save(file, image)
            bodies.append(file.getvalue())
        session = onnxruntime.InferenceSession(str(model))
        alone = []
        until = time.perf_counter() + SECONDS
        while (started := time.perf_counter()) < until:
            session.run(None, {"images": images[:1]})
            alone.append(time.perf_counter() - started)
        rows = [("the network alone, no web", 1, 1 / np.mean(alone), np.array(alone))]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = os.environ | {"SUBSETSCAN_MODEL": str(model), "SUBSETSCAN_FITTED": str(fitted)}
        asked = [sys.executable, "-m", "uvicorn", "app:from_environment", "--factory", f"--port={port}"]
        server = subprocess.Popen([*asked, "--log-level=warning"], cwd=HERE, env=environment)
        try:
            for _ in range(600):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                        break
                except httpx.ConnectError:
                    time.sleep(0.1)
            asyncio.run(ask(f"http://127.0.0.1:{port}/scan", bodies, 1))  # warm
            for n_clients in CLIENTS:
                rate, taken = asyncio.run(ask(f"http://127.0.0.1:{port}/scan", bodies, n_clients))
                rows.append(("the service", n_clients, rate, taken))
        finally:
            server.terminate()
            server.wait()
    lines = ["| | clients | requests/s | p50, ms | p99, ms |", "|---|---:|---:|---:|---:|"]
    for name, n_clients, rate, taken in rows:
        p50, p99 = 1e3 * np.quantile(taken, [0.5, 0.99])
        lines.append(f"| {name} | {n_clients} | {rate:,.0f} | {p50:.2f} | {p99:.2f} |")
    table = "\n".join([*lines, "", f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors."])
    print(table)
    page = HERE / "README.md"
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(START)[0], text.partition(END)[2]
    page.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
