"""Tensors inside an ONNX model: read on a copy in memory, the file and its graph stay as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._extras import import_extra

__all__ = ["OnnxTensors", "Pooled", "batches", "read_rows"]

Pooled = tuple[str, tuple[int, ...]]  # a tensor, and the axes whose mean is taken


class OnnxTensors:
    """Runs an ONNX model on the processor, and returns any of its tensors.

    Parameters
    ----------
    path : path-like
    tensors : sequence of str
        Names of tensors, outputs of the model among them or not.

    Attributes
    ----------
    weights : dict of str to ndarray
        The model's stored arrays.

    Raises
    ------
    ModuleNotFoundError
        If onnx or onnxruntime is not installed.
    ValueError
        If the model has no tensor of that name.
    """

    def __init__(self, path: Path | str, tensors: Sequence[str]) -> None:
        onnx, runtime = import_extra("onnx", "onnx"), import_extra("onnxruntime", "onnx")
        model = onnx.load(str(path))
        made = {name for node in model.graph.node for name in node.output}
        if missing := [name for name in tensors if name not in made]:
            raise ValueError(f"{Path(path).name} has no tensor {missing[0]!r}")
        outputs = {output.name for output in model.graph.output}
        for name in tensors:
            if name not in outputs:
                model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        self.tensors = list(tensors)
        self.weights = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # it warns of tensors whose shapes differ from what the file says
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves processors to others
        self._session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return each tensor for one batch of inputs, which are given by name."""
        return dict(zip(self.tensors, self._session.run(self.tensors, dict(feeds)), strict=True))


def batches(inputs: np.ndarray, size: int) -> Iterable[np.ndarray]:
    """Cut an array into batches along its first axis."""
    return (inputs[start : start + size] for start in range(0, len(inputs), size))


def read_rows(
    network: OnnxTensors, feeds: Iterable[Mapping[str, np.ndarray]], layers: Mapping[str, Pooled]
) -> dict[str, np.ndarray]:
    """Read layers batch by batch, pooled.

    Parameters
    ----------
    network : OnnxTensors
    feeds : iterable of mapping
        The inputs of each batch.
    layers : mapping of str to (str, tuple of int)
        For each layer its tensor, and the axes whose mean is taken.

    Returns
    -------
    dict of str to ndarray of shape (N, J), float32
    """
    rows: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for feed in feeds:
        found: dict[str, Any] = network.run(feed)
        for layer, (tensor, axes) in layers.items():
            values = found[tensor].mean(axis=axes) if axes else found[tensor]
            rows[layer].append(values.reshape(len(values), -1).astype(np.float32, copy=False))
    return {layer: np.concatenate(parts) for layer, parts in rows.items()}
