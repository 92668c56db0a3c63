"""What Keras' layers and operations do with axes, and which axis they have channels at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .axes import KEPT, ChannelAxes, Sizes, axes_kept
from .keras_graph import graph_nodes, graph_of, has_graph

if TYPE_CHECKING:
    import keras

__all__ = ["KerasAxes"]

_KEEPING = {"Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "Concatenate", "Divide",
            "Dropout", "ELU", "GaussianDropout", "GaussianNoise", "GroupNormalization", "Identity",
            "LayerNormalization", "LeakyReLU", "Masking", "Maximum", "Minimum", "Multiply", "Negative", "Normalization",
            "PReLU", "Pad", "Power", "RMSNormalization", "ReLU", "Rescaling", "Softmax", "Sqrt", "Square", "Subtract",
            "TrueDivide", "UnitNormalization",
            # as operations
            "Abs", "Absolute", "Cast", "Clip", "Elu", "Exp", "Gelu", "GetItem", "HardSigmoid", "HardSilu", "LeakyRelu",
            "Log", "LogSoftmax", "Mod", "Relu", "Relu6", "Rsqrt", "Selu", "Sigmoid", "Silu", "Softplus", "Split",
            "StopGradient", "Tanh", "Where"}  # fmt: skip
_KEEPING_KINDS = ("Cropping", "GlobalAveragePooling", "GlobalMaxPooling", "Random", "SpatialDropout", "UpSampling",
                  "ZeroPadding")  # fmt: skip
_LAST = {"AdditiveAttention", "Attention", "Bidirectional", "ConvLSTM1D", "Dense", "Embedding", "GRU",
         "GroupQueryAttention", "GroupedQueryAttention", "LSTM", "MultiHeadAttention", "RNN", "SimpleRNN"}  # fmt: skip
_MOVING = {"Dot", "Einsum", "Matmul", "Moveaxis", "Swapaxes", "Tensordot"}  # whatever the shape
_REDUCING = {"Amax", "Amin", "Max", "Mean", "Min", "Prod", "Std", "Sum", "Var"}


class KerasAxes:
    """The axes of channels in a model's graph, models within it among it.

    Attributes
    ----------
    is_told : bool
        Whether anything in the graph speaks of channels beside positions: where nothing does, they are last, as is
        usual in Keras.
    """

    def __init__(self, model: keras.Model) -> None:
        self.is_told = False
        self._calls = list(_calls(model, set()))
        sizes: dict[str, Sizes] = {}
        for _, given, returned in self._calls:
            for tensor in (*given, *returned):
                sizes[_name(tensor)] = ("samples", *tensor.shape[1:])
        self._axes = ChannelAxes(sizes, sizes)
        for operation, given, returned in self._calls:
            self._add(operation, given, returned)
        self._found = self._axes.found()

    def of(self, tensor: keras.KerasTensor, rank: int) -> int | None:
        """Tell the axis of channels of one sample's values, of so many axes; None where it cannot be told."""
        axis = self._found.get(_name(tensor))
        if axis is None or rank + axis < 0:
            return None if self.is_told else rank - 1
        return rank + axis

    def _add(self, operation: Any, given: Sequence[Any], returned: Sequence[Any]) -> None:
        kind = type(operation).__name__
        if has_graph(operation):
            for outer, inner in zip(given, graph_of(operation).inputs, strict=False):
                self._link(outer, inner, KEPT)
            for inner, outer in zip(graph_of(operation).outputs, returned, strict=False):
                self._link(inner, outer, KEPT)
            return
        if kind == "TimeDistributed":
            operation, kind = operation.layer, type(operation.layer).__name__
        if not given:
            return
        rank = len(given[0].shape)
        positions = re.search(r"(\d)D", kind)  # as many axes of them
        first = positions is not None and getattr(operation, "data_format", None) == "channels_first"
        axis = -1 - int(positions[1]) if positions is not None and first else -1
        if "Conv" in kind or ("Pooling" in kind and not kind.startswith("Global")):
            self._take(given[0], axis)
            for one in returned:
                self._make(one, axis)
        elif kind.startswith("Global") and "Pooling" in kind:
            self._take(given[0], axis)
            self._make(returned[0], axis if operation.keepdims else -1)
        elif kind in ("BatchNormalization", "GroupNormalization") and isinstance(operation.axis, int):
            self._take(given[0], operation.axis % rank - rank)
            self._make(returned[0], operation.axis % rank - rank)
        elif kind in _LAST:
            self._make(returned[0], -1)
        elif kind == "EinsumDense":
            self._add_einsum(operation.equation, returned[0])
        elif kind in ("Permute", "Transpose"):
            order = (0, *operation.dims) if kind == "Permute" else operation.axes or range(rank)[::-1]
            self._link(given[0], returned[0], {axis % rank - rank: n - rank for n, axis in enumerate(order)})
        elif kind in ("ExpandDims", "Flatten", "Reshape", "Squeeze"):
            self._link(
                given[0], returned[0], axes_kept(*(("samples", *one.shape[1:]) for one in (given[0], returned[0])))
            )
        elif kind == "RepeatVector":
            self._link(given[0], returned[0], {-1: -1})
        elif kind in _REDUCING and operation.axis is not None:
            axes = [operation.axis] if isinstance(operation.axis, int) else operation.axis
            left = [n for n in range(rank) if n not in {axis % rank for axis in axes}]
            kept = {n - rank: n - rank if operation.keepdims else k - len(left) for k, n in enumerate(left)}
            self._link(given[0], returned[0], kept)
        elif kind in _KEEPING or kind.startswith(_KEEPING_KINDS):
            for one in given:
                for other in returned:
                    if kind != "GetItem" or len(one.shape) == len(other.shape):
                        self._link(one, other, KEPT, repeats=True)
        elif kind not in _MOVING and all(tuple(one.shape) == tuple(given[0].shape) for one in returned):
            for one in returned:  # as of a layer of one's own that weighs or shifts
                self._link(given[0], one, KEPT)

    def _take(self, tensor: Any, axis: int) -> None:
        self.is_told |= len(tensor.shape) > 2
        self._axes.take(_name(tensor), axis)

    def _make(self, tensor: Any, axis: int) -> None:
        self.is_told |= len(tensor.shape) > 2
        self._axes.make(_name(tensor), axis)

    def _add_einsum(self, equation: str, returned: Any) -> None:
        letters = equation.replace(" ", "").replace("...", "").replace("->", ",").split(",")
        if len(letters) == 3:
            given, kernel, result = letters
            units = [n - len(result) for n, one in enumerate(result) if one in kernel and one not in given]
            if len(units) == 1:
                self._make(returned, units[0])

    def _link(self, source: Any, target: Any, pairs: Any, *, repeats: bool = False) -> None:
        self._axes.link(_name(source), _name(target), pairs, repeats=repeats)


def _calls(model: keras.Model, seen: set[int]) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """Yield each call in a graph: what is called, what it is given, and what it returns; models within once."""
    seen.add(id(model))
    for node in graph_nodes(model):
        operation = node.operation
        yield operation, list(node.input_tensors), list(node.output_tensors)
        if has_graph(operation) and id(operation) not in seen:
            yield from _calls(operation, seen)


def _name(tensor: Any) -> str:
    return str(id(tensor))
