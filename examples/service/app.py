"""A detector behind a web service: p-value, verdict and explanation; what arrives together is scanned together.

    SUBSETSCAN_MODEL=model.onnx SUBSETSCAN_FITTED=fitted uvicorn app:from_environment --factory

`fitted` is what ``ModelScanner.automatic("model.onnx").fit(clean).save("fitted")`` wrote.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from starlette.requests import ClientDisconnect

from subsetscan import ModelScanner
from subsetscan.inputs import array_from_bytes

MAX_BYTES = 16_000_000  # of a request
MAX_BATCH = 64
WAIT = 0.002  # seconds, for others to arrive


class Batcher:
    """Scan inputs that arrive within a moment of each other in one pass, on one thread.

    The package's results do not depend on what is beside an input, so that nobody can tell.
    """

    def __init__(self, scanner: ModelScanner) -> None:
        self._scanner = scanner
        self._waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future[float]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def p_value(self, values: np.ndarray) -> float:
        """Wait for the p-value of one input. Raises what the scanner raises for it."""
        found: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        await self._waiting.put((values, found))
        return await found

    async def explain(self, values: np.ndarray) -> dict[str, Any]:
        """Explain one input."""
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(self._thread, self._scanner.explain, values)).as_dict()

    async def run(self) -> None:
        """Scan for ever."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            until = loop.time() + WAIT
            while len(batch) < MAX_BATCH and (left := until - loop.time()) > 0:
                try:
                    batch.append(await asyncio.wait_for(self._waiting.get(), left))
                except TimeoutError:
                    break
            found = await loop.run_in_executor(self._thread, self._scan, [values for values, _ in batch])
            for (_, future), one in zip(batch, found, strict=True):
                if future.cancelled():  # whoever asked is gone
                    continue
                future.set_exception(one) if isinstance(one, Exception) else future.set_result(one)

    def _scan(self, inputs: list[np.ndarray]) -> list[float | Exception]:
        try:
            return self._scanner.p_values(np.stack(inputs)).tolist()
        except Exception as error:
            if len(inputs) == 1:
                return [error]
            return [one for values in inputs for one in self._scan([values])]  # one of them is wrong, not all


def make_app(scanner: ModelScanner) -> FastAPI:
    """Make the service of a fitted scanner that combines its layers, as `ModelScanner.automatic` does."""
    batcher = Batcher(scanner)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    app = FastAPI(title="subsetscan", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/about")
    async def about() -> dict[str, Any]:
        return {"version": version("subsetscan"), "layers": list(scanner.names), "false_positive_rate": _rate(scanner)}

    @app.post("/scan")
    async def scan(request: Request, rate: float | None = None, explain: bool = False) -> dict[str, Any]:
        """Scan one input: a .npy file as the body, or JSON, ``{"input": [[...]]}``."""
        rate = _rate(scanner) if rate is None else rate
        if not 0 < rate < 1:
            raise HTTPException(422, f"rate must be in (0, 1), got {rate}")
        values = _parsed(await _body(request), request.headers.get("content-type", ""))
        try:
            p_value = await batcher.p_value(values)
            told = {"explanation": await batcher.explain(values)} if explain else {}
        except (ValueError, TypeError) as error:  # the package's own words about the input
            raise HTTPException(422, str(error)) from None
        return {"p_value": p_value, "flagged": p_value <= rate, "rate": rate, **told}

    return app


def from_environment() -> FastAPI:
    """Make the service of the model and the folder that the environment names."""
    automatic = ModelScanner.automatic(os.environ["SUBSETSCAN_MODEL"])
    return make_app(ModelScanner.load(os.environ["SUBSETSCAN_FITTED"], automatic.spaces))


def _rate(scanner: ModelScanner) -> float:
    return float(next(iter(scanner.detectors_.values())).false_positive_rate)


async def _body(request: Request) -> bytes:
    """Read the body, and stop where it is too long, whatever its header says."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                raise HTTPException(413, f"at most {MAX_BYTES} bytes are taken")
    except ClientDisconnect:
        raise HTTPException(400, "the request ended before its body did") from None  # which nobody reads
    return bytes(body)


def _parsed(body: bytes, kind: str) -> np.ndarray:
    try:
        if kind.partition(";")[0].strip().lower() != "application/json":
            return array_from_bytes(body)
        content = json.loads(body)
        if not isinstance(content, dict) or "input" not in content:
            raise ValueError('there is no "input"')
        return np.asarray(content["input"], np.float32)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise HTTPException(422, f'expected a .npy file, or JSON as {{"input": [...]}}: {error}') from None
