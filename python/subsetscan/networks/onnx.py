"""ONNX models as networks: any tensor of the graph, read by onnxruntime from a copy in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._digest import digest
from .._extras import import_extra
from .._several import arrays_of
from .._validation import InvalidTypeError
from ..input_checks import check_arrays
from .base import Network, cannot_tell_channels
from .onnx_graph import Graph
from .passes import Comparison, Passes
from .rows import by_sample

__all__ = ["OnnxNetwork", "is_onnx_model"]

_LOGITS_AFTER = ("Softmax", "LogSoftmax")


def is_onnx_model(model: Any) -> bool:
    """Tell whether this is the path of an ONNX file, or an ONNX model, without importing onnx."""
    if isinstance(model, str | os.PathLike):
        return Path(model).suffix.lower() in (".onnx", ".ort")
    onnx = sys.modules.get("onnx")
    return onnx is not None and isinstance(model, onnx.ModelProto)


class OnnxNetwork(Network):
    """An ONNX model, of which any tensor of floating-point numbers can be read.

    A tensor has the name that the file gives it. The name of a node stands for its output, and that of a scope, in
    names such as "/encoder/layer.0/dense/Gemm", for the last tensor that is made in it: "encoder.layer.0.dense", or
    "encoder/layer.0/dense". So a network that was exported has the names that it had in its framework, where the
    exporter writes them. An exporter that merges a normalization into the convolution before it leaves one of their
    names, with the values after both.

    Parameters
    ----------
    model : path-like or onnx.ModelProto
        Weights may lie in files beside it. Neither the file nor the model is changed.
    providers : sequence of str, optional
        What computes, as onnxruntime names them; by default the processor.

    Raises
    ------
    ModuleNotFoundError
        If onnx or onnxruntime is not installed.
    TypeError
        If it is no model; a session does not tell its graph.
    ValueError
        If the file is no ONNX model, or takes something else than numbers.
    OSError
        If it cannot be read.
    """

    def __init__(self, model: Any, *, providers: Sequence[str] | None = None) -> None:
        onnx, _ = import_extra("onnx", "onnx"), import_extra("onnxruntime", "onnx")
        if hasattr(model, "get_inputs"):
            raise InvalidTypeError("a session of onnxruntime does not tell its graph: give the path of its .onnx file")
        if not isinstance(model, str | os.PathLike | onnx.ModelProto):
            raise InvalidTypeError(
                f"expected the path of an .onnx file or an onnx.ModelProto, got {type(model).__name__}"
            )
        self.graph = Graph.read(model)
        self.name = self.graph.name
        self.providers = ("CPUExecutionProvider",) if providers is None else tuple(providers)
        self.batch_size = self.graph.batch_size
        self._readers: dict[tuple[str, ...], _Reader] = {}

    def layer_names(self) -> tuple[str, ...]:  # noqa: D102 (the base says it, as for those below)
        return self.graph.tensors

    def aliases(self) -> tuple[str, ...]:
        """List the names of nodes and of scopes, these with dots between."""
        return self.graph.aliases

    def input_names(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(self.graph.inputs)

    def computing(self) -> tuple[str, ...]:
        """List the results of nodes with weights, each after its bias and a simple activation."""
        return self.graph.computing() or self.layer_names()

    def find_one(self, which: Any) -> list[str]:  # noqa: D102
        if isinstance(which, str) and which not in self.graph.tensors and (found := self.graph.alias(which)):
            return [found]
        return super().find_one(which)

    def check(self, inputs: Any) -> Any:  # noqa: D102
        return check_arrays(inputs, self.graph.inputs)

    def read(self, inputs: Any, names: Sequence[str]) -> dict[str, np.ndarray]:  # noqa: D102
        if (key := tuple(names)) not in self._readers:
            self._readers[key] = _Reader(self.graph, key, self.session(key))
        return self._readers[key].read(arrays_of(inputs))

    def session(self, names: Sequence[str]) -> Any:
        """Open a session of onnxruntime that can give these tensors, on a copy of the model.

        For runs of one's own: `read` checks that a row of each array belongs to one input, a session does not.

        Parameters
        ----------
        names : sequence of str
            As `find` returned them.

        Returns
        -------
        onnxruntime.InferenceSession

        Raises
        ------
        ValueError
            If there is no such provider, or onnxruntime cannot load the model.
        """
        runtime = import_extra("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised; it warns of shapes that differ from what the file says
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves processors to others
        known = runtime.get_available_providers()
        if unknown := set(self.providers) - set(known):
            raise ValueError(
                f"onnxruntime has no provider {', '.join(sorted(unknown))} here; it has {', '.join(known)}"
            )
        model = self.graph.with_outputs(names)
        try:
            return runtime.InferenceSession(model, options, providers=list(self.providers))
        except Exception as error:  # onnxruntime has a class of its own for each
            raise ValueError(f"{self.name} cannot be loaded by onnxruntime: {error}") from error

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {name: shape for name in names if (shape := self.graph.shape(name)) is not None}

    def channel_axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Tell it from the operations that make the tensor and that take it: see `onnx_axes.channel_axes`."""
        if len(shape) < 2:
            return len(shape) - 1
        axis = len(shape) + self.graph.channel_axes.get(name, -len(shape) - 1)
        if axis < 0:
            raise cannot_tell_channels(name, self.name, shape)
        return axis

    def fingerprint(self, names: Sequence[str]) -> str | None:  # noqa: D102
        return digest("onnx", self.graph.digest, *names)

    def stamp(self, names: Sequence[str]) -> str | None:
        """Return the fingerprint: the copy in memory does not change."""
        return self.fingerprint(names)

    def joined(self, other: Network) -> Network | None:  # noqa: D102
        if isinstance(other, OnnxNetwork) and (other.providers, other.graph.digest) == (
            self.providers,
            self.graph.digest,
        ):
            return self
        return None

    def input_shape(self) -> tuple[int | None, ...] | None:  # noqa: D102
        shapes = [tuple(shape) for shape, _ in self.graph.inputs.values()]
        return shapes[0] if len(shapes) == 1 and None not in shapes[0] else None

    def output(self) -> str:  # noqa: D102
        outputs = self.graph.outputs
        if len(outputs) != 1:
            raise ValueError(f"expected a model with one output, {self.name} has {len(outputs)}: {', '.join(outputs)}")
        return outputs[0]

    def logits(self) -> str:  # noqa: D102
        return self.graph.before(self.output(), _LOGITS_AFTER)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_readers": {}}


class _Reader:
    """Reads some tensors in one pass."""

    def __init__(self, graph: Graph, names: Sequence[str], session: Any) -> None:
        self._graph, self._names, self._session = graph, list(names), session
        self._passes = Passes(self._forward, lambda: ([], []), graph.dtypes, self._refusal, graph.batch_size is None)

    def read(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._passes.run(arrays), strict=True))

    def _forward(self, *arrays: np.ndarray) -> list[np.ndarray]:
        try:
            outputs = self._session.run(self._names, dict(zip(self._graph.inputs, arrays, strict=True)))
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(self._graph.inputs, arrays, strict=True))
            raise ValueError(f"{self._graph.name} cannot compute inputs of shapes {shapes}: {error}") from error
        pairs = zip(self._names, outputs, strict=True)
        return [
            by_sample(np.asarray(output), len(arrays[0]), f"{name} of {self._graph.name}") for name, output in pairs
        ]

    def _refusal(self, batch: Sequence[np.ndarray], comparison: Comparison, tolerance: float) -> ValueError:
        del batch, tolerance
        names = ", ".join(self._names[n] for n in comparison.differing)
        return ValueError(
            f"the same input has other values elsewhere in a batch, beside others, in {names} of {self._graph.name}: a "
            "value must depend on the input alone; leave it out"
        )
