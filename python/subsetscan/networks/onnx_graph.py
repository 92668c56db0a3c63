"""How the graph of an ONNX model is read: tensors, nodes and scopes by name, shapes, and what makes what."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .._digest import digest
from .._extras import import_extra
from .axes import Sizes
from .base import dotted
from .onnx_axes import channel_axes

__all__ = ["Graph"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "LayerNormalization",
             "BatchNormalization", "InstanceNormalization", "GroupNormalization", "Attention",
             "MultiHeadAttention")  # fmt: skip
# What follows such a node and belongs to it: its bias, and an activation.
_FOLLOWING = ("Add", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish",
              "Tanh", "Clip", "Softplus", "Mish", "ThresholdedRelu")  # fmt: skip
_BETWEEN = ("Cast", "Identity", "Transpose")


class Graph:
    """The graph of an ONNX model.

    Parameters
    ----------
    model : onnx.ModelProto
        With its weights.
    name : str

    Attributes
    ----------
    inputs : dict of str to (tuple, dtype)
        What the model takes: the shape of one input, None where it is open, and the type.
    outputs : tuple of str
    tensors : tuple of str
        Those of floating-point numbers that depend on the inputs, in the graph's order.
    batch_size : int or None
        Where the model fixes it.
    """

    def __init__(self, model: Any, name: str) -> None:
        onnx = import_extra("onnx", "onnx")
        self._model = model
        self.name = name
        constants = {array.name for array in (*model.graph.initializer, *model.graph.sparse_initializer)}
        given = [value for value in model.graph.input if value.name not in constants]
        self.inputs = {value.name: (_dims(value)[1:], _dtype(onnx, value, name)) for value in given}
        if not self.inputs or any(not _dims(value) for value in given):
            raise ValueError(f"{name} has no input whose first axis counts samples")
        self.batch_size = _dims(given[0])[0]
        self.outputs = tuple(value.name for value in model.graph.output)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except Exception:  # operators of their own, or more than a message may hold: a pass shows the shapes
            inferred = model
        known = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
        self._values = {value.name: value for value in known if value.type.HasField("tensor_type")}
        self._nodes = list(model.graph.node)
        self._made_by = {output: node for node in self._nodes for output in node.output if output}
        self._stored = {array.name: array for array in model.graph.initializer}
        self._sizes: dict[str, Sizes] = {name: tuple(array.dims) for name, array in self._stored.items()}
        shaped = [value for value in self._values.values() if value.type.tensor_type.HasField("shape")]
        self._sizes |= {value.name: _sizes(value) for value in shaped}
        self._varying = set(self.inputs)  # what depends on them
        self.tensors = tuple(self._readable(onnx))

    @classmethod
    def read(cls, model: Any) -> Graph:
        """Take a model, or read a file. Raises OSError if it cannot be read, ValueError if it holds no ONNX model."""
        onnx = import_extra("onnx", "onnx")
        if not isinstance(model, str | os.PathLike):
            return cls(model, model.graph.name or "the model")
        path = Path(model)
        if path.suffix.lower() == ".ort":
            raise ValueError(
                f"{path.name} is in onnxruntime's own format, which does not tell its graph: give the .onnx"
            )
        try:
            return cls(onnx.load(str(path)), path.name)
        except OSError:
            raise
        except Exception as error:  # protobuf has a class of its own
            if isinstance(error, ValueError) and str(error).startswith(path.name):
                raise
            raise ValueError(f"{path.name} is no ONNX model: {error}") from error

    def with_outputs(self, names: Sequence[str]) -> bytes:
        """Return the model with these tensors as outputs, beside its own."""
        onnx = import_extra("onnx", "onnx")
        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        for name in names:
            if name not in self.outputs:
                copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        return copy.SerializeToString()

    def alias(self, name: str) -> str | None:
        """Find the tensor that a node or a scope stands for; None where there is none."""
        return self._aliases.get(name) or self._aliases.get(dotted(name))

    @property
    def aliases(self) -> tuple[str, ...]:
        """What `alias` knows."""
        return tuple(self._aliases)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Tell the shape of what one input has in a tensor; None where the file leaves it open."""
        dims = _dims(self._values[name]) if name in self._values else ()
        return dims[1:] if dims and None not in dims[1:] else None  # type: ignore[return-value]

    def computing(self) -> tuple[str, ...]:
        """List the results of nodes that have weights, each after its bias and a simple activation."""
        readable = set(self.tensors)
        found = [self._end(node.output[0]) for node in self._nodes if self._has_weights(node)]
        return tuple(dict.fromkeys(name for name in found if name in readable))

    def before(self, name: str, kinds: Sequence[str]) -> str:
        """Return what a node of some kinds is given, if the tensor is its output; else the tensor."""
        node = self._made_by.get(name)
        return str(node.input[0]) if node is not None and node.op_type in kinds else name

    @cached_property
    def channel_axes(self) -> dict[str, int]:
        """By tensor, from the right, the axis that counts channels, where operations tell it: see `channel_axes`."""
        return channel_axes(self._nodes, self._sizes, self._integers, self._varying)

    @property
    def dtypes(self) -> list[str]:
        """Types of the weights."""
        onnx = import_extra("onnx", "onnx")
        kinds = {array.data_type for array in self._model.graph.initializer}
        return [np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name for kind in kinds]

    @cached_property
    def digest(self) -> str:
        """A digest of the graph and its weights."""
        onnx = import_extra("onnx", "onnx")
        arrays = [onnx.numpy_helper.to_array(array) for array in self._model.graph.initializer]
        nodes = [f"{node.op_type} {[*node.input]} {[*node.output]} {node.attribute}" for node in self._nodes]
        return digest(*nodes, *arrays)

    @cached_property
    def _aliases(self) -> dict[str, str]:
        """By the names of nodes, and of scopes with dots between."""
        found: dict[str, str] = {}
        readable = set(self.tensors)
        for node in self._nodes:
            if not node.output or node.output[0] not in readable:
                continue
            if node.name:
                found[node.name] = node.output[0]
            for scope in _scopes(node):
                found[scope] = node.output[0]
        return found

    @cached_property
    def _consumers(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for node in self._nodes:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def _end(self, name: str) -> str:
        """Follow a result to its bias and its activation, of whatever type and with whatever order of axes."""
        end = name
        while len(users := self._consumers.get(name, [])) == 1 and users[0].op_type in (*_FOLLOWING, *_BETWEEN):
            if self._varying.intersection(users[0].input) - {name}:
                break  # the sum of two results
            name = users[0].output[0]
            end = name if users[0].op_type in _FOLLOWING else end
        return end

    def _integers(self, name: str) -> list[int] | None:
        """Read what a short list of integers stores, or a node that is a constant; None of anything else."""
        onnx = import_extra("onnx", "onnx")
        stored, node = self._stored.get(name), self._made_by.get(name)
        if node is not None and node.op_type == "Constant":
            stored = onnx.helper.get_attribute_value(node.attribute[0])
        found = np.ravel(onnx.numpy_helper.to_array(stored) if isinstance(stored, onnx.TensorProto) else stored or [])
        return found.tolist() if found.dtype.kind == "i" else None

    def _has_weights(self, node: Any) -> bool:
        return node.op_type in _WEIGHTED and any(one and one not in self._varying for one in node.input)

    def _readable(self, onnx: Any) -> Iterator[str]:
        """Yield tensors that depend on the inputs, are floating-point numbers and may count samples."""
        floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}
        for node in self._nodes:
            if not self._varying.intersection(node.input):
                continue
            self._varying.update(filter(None, node.output))
            for name in node.output:
                value = self._values.get(name)
                if not name or (value is not None and not self._may_be_read(value, floats)):
                    continue
                yield name

    def _may_be_read(self, value: Any, floats: set[int]) -> bool:
        kind = value.type.tensor_type.elem_type
        if kind and kind not in floats:
            return False
        if not value.type.tensor_type.HasField("shape"):
            return True
        dims = _dims(value)
        return len(dims) > 0 and not (self.batch_size is None and dims[0] == 1)


def _scopes(node: Any) -> list[str]:
    """List the scopes that a node lies in, with dots between, as PyTorch's exporters have written them."""
    written = {one.key: one.value for one in getattr(node, "metadata_props", ())}.get("pkg.torch.onnx.name_scopes")
    if written is not None:  # a list of text, such as ['', 'encoder', 'encoder.dense', 'linear']
        return [name for name in re.findall(r"'([^']*)'", written)[:-1] if name]
    scopes = [part for part in node.name.split("/")[:-1] if part]
    return [".".join(scopes[: n + 1]) for n in range(len(scopes))]


def _dims(value: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in _sizes(value))


def _sizes(value: Any) -> Sizes:
    """Tell the size of each axis; of an open one the name, None where it has none."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in dims)


def _dtype(onnx: Any, value: Any, name: str) -> np.dtype[Any]:
    kind = value.type.tensor_type.elem_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)) if kind else np.dtype(object)
    if dtype.kind not in "biuf":
        raise ValueError(f"expected a model of numbers, the input {value.name} of {name} takes something else")
    return dtype
