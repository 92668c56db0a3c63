"""`--cluster`: fits and scans of activations by the workers of a dask cluster, each of which reads the files itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._extras import import_extra
from ..adapters.dask_files import spread_file
from ..detectors import AutomaticDetector
from ..inputs import InputSummary, ScaleWatch
from ..inputs.arrays import ArrayInputs
from ..inputs.base import SizedInputs
from ..scanner import ModelScanner
from ..scanning import ScanResult, SpaceScans

__all__ = ["ClusterScanner", "SharedFile", "connected"]

_SECONDS = 10  # to answer, and to have a worker


def _check_address(address: str) -> None:
    """Refuse what no client should be made for: one that fails at once takes long to go. Raises ValueError."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    scheme, location = parse_address(address)
    get_backend(scheme)
    host, port = parse_host_port(location)
    if not host or not 0 < int(port) < 1 << 16:
        raise ValueError("an address is HOST:PORT, or tcp://HOST:PORT")


@contextmanager
def connected(address: str | None, model: Path | None, *paths: Path | None) -> Iterator[type[ModelScanner]]:
    """Work with a cluster, if there is an address, and lend the kind of scanner to work with.

    Parameters
    ----------
    address : str or None
        Of its scheduler.
    model, *paths : Path or None
        What the command was given.

    Raises
    ------
    ValueError
        If there is a model, a path is not of an ``.npy`` file, or the workers have another version of this package.
    OSError
        If nothing answers, there is no worker, or the cluster is lost meanwhile.
    ModuleNotFoundError
        If dask is missing here, or this package there.
    """
    if address is None:
        yield ModelScanner
        return
    if model is not None:
        raise ValueError("--cluster is for activations without a model: leave out one of --cluster and --model")
    for path in paths:
        if path is not None and path.suffix.lower() != ".npy":
            raise ValueError(f"with --cluster, activations are read from .npy files, got {path}")
    distributed = import_extra("distributed", "dask")
    try:
        _check_address(address)
        # As the default, one that finds no scheduler would stay so, and let all that is computed later wait for ever.
        client = distributed.Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConnectionError(f"no scheduler of dask answers at {address!r}: {error}") from error
    with client, client.as_current():
        try:
            client.wait_for_workers(1, timeout=_SECONDS)
        except TimeoutError as error:
            raise ConnectionError(f"the cluster at {address} has no workers") from error
        _check_versions(client, address)
        try:
            yield ClusterScanner
        except distributed.KilledWorker as error:
            size = import_extra("dask", "dask").config.get("array.chunk-size")
            raise MemoryError(
                f"workers of {address} died over and over, most likely for want of memory: give them more, or let "
                f"array.chunk-size of dask's configuration be less than {size}"
            ) from error
        except CancelledError as error:
            raise ConnectionError(f"the cluster at {address} was lost: {error}") from error


class SharedFile(ArrayInputs):
    """The activations of an ``.npy`` file that the workers see as well.

    Parameters
    ----------
    inputs : SizedInputs
        What was read of it here.
    path : Path
    """

    def __init__(self, inputs: SizedInputs, path: Path) -> None:
        super().__init__(inputs[:])
        self.path = path


class ClusterScanner(ModelScanner):
    """A `ModelScanner` of one array of activations that gives `SharedFile` to the current client's workers.

    What is fitted is gathered, as it is to be kept.
    """

    _spread: Any = None

    def fit(self, inputs: Any, labels: Any = None) -> ModelScanner:
        """Fit as `ModelScanner.fit` does, by the workers."""
        from ..adapters.dask import DaskSubsetScan
        from ..adapters.dask_automatic import DaskAutomatic

        del labels
        ((name, detector),) = self.detectors.items()
        array = spread_file(inputs.path, _client())
        kind = DaskAutomatic if isinstance(detector, AutomaticDetector) else DaskSubsetScan
        self._spread = kind(**detector.get_params()).fit(array)
        self.detectors_ = {name: self._spread.gather()}
        self._networks.expect(self._networks.now())
        self._inputs, self._columns = _summary(array), {}
        return self

    def scan(self, inputs: Any, labels: Any = None, return_nodes: bool = False) -> SpaceScans:
        """Scan as `ModelScanner.scan` does, by the workers."""
        if not isinstance(inputs, SharedFile):
            return super().scan(inputs, labels, return_nodes)
        ((name, detector),) = self.detectors_.items()
        array = spread_file(inputs.path, _client())
        ScaleWatch(self._inputs)(_summary(array))
        if self._spread is not None:
            return SpaceScans({name: self._spread.scan(array, return_nodes=return_nodes)})
        dask = import_extra("dask", "dask")
        everywhere = _client().scatter(detector, broadcast=True)
        scan = dask.delayed(_scan)
        rows = array.rechunk((self.batch_size, -1), method="tasks").to_delayed().ravel() if len(array) else [inputs[:]]
        parts = dask.compute(*[scan(everywhere, some, return_nodes) for some in rows])
        return SpaceScans({name: ScanResult.concatenate(parts)})


def _client() -> Any:
    return import_extra("distributed", "dask").default_client()


def _summary(array: Any) -> dict[str, InputSummary]:
    if not array.size:
        return {}
    low, high = import_extra("dask", "dask").compute(array.min(), array.max())
    return {"": InputSummary(array.dtype.name, array.shape[1:], float(low), float(high))}


def _scan(detector: Any, rows: np.ndarray, return_nodes: bool) -> ScanResult:
    found: ScanResult = detector.scan(rows, return_nodes=return_nodes)
    return found


def _check_versions(client: Any, address: str) -> None:
    """Refuse workers without this package, or with another version of it."""
    package = __name__.partition(".")[0]
    own = importlib.metadata.version(package)
    # A lambda goes to workers as it is; a function of this module would have to be there to say that nothing is.
    told = client.run(
        lambda name: (__import__(name) and None) or __import__("importlib.metadata").metadata.version(name),
        package,
        on_error="return",
    )
    for worker, version in sorted(told.items()):
        if isinstance(version, ImportError):
            raise ModuleNotFoundError(
                f"the worker {worker} of {address} has no {package}: {version}; install {own} there"
            )
        if isinstance(version, BaseException):
            raise ConnectionError(f"the worker {worker} of {address} cannot be asked for its version: {version}")
        if version != own:
            raise ValueError(f"the worker {worker} of {address} has {package} {version}, here it is {own}: install one")
