"""What the operations of ONNX do with axes, and which axis they have channels at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .axes import KEPT, ChannelAxes, Sizes, axes_kept, is_same_shape

__all__ = ["channel_axes"]

_BROADCAST = ("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min",
              "Mod", "Mul", "Or", "Pow", "SkipLayerNormalization", "Sub", "Sum", "Where", "Xor")  # fmt: skip
_KEEPING = ("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BiasGelu", "Cast", "CastLike", "Ceil", "Celu",
            "Clip", "Cos", "Cosh", "CumSum", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Elu", "Erf",
            "Exp", "Expand", "FastGelu", "Floor", "GatherElements", "Gelu", "HardSigmoid", "HardSwish", "Hardmax",
            "Identity", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
            "MeanVarianceNormalization", "Mish", "Neg", "Not", "PRelu", "Pad", "QuantizeLinear", "QuickGelu",
            "RMSNormalization", "Reciprocal", "Relu", "Resize", "Round", "ScatterElements", "ScatterND", "Selu",
            "Shrink", "Sigmoid", "Sign", "SimplifiedLayerNormalization", "Sin", "Sinh", "Slice", "Softmax",
            "Softplus", "Softsign", "Split", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK",
            "Trilu", "Upsample")  # fmt: skip
_CONVOLUTIONS = ("Conv", "ConvInteger", "ConvTranspose", "DeformConv", "FusedConv", "QLinearConv")
_CHANNELS_SECOND = ("AveragePool", "BatchNormalization", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool",
                    "GlobalMaxPool", "GridSample", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool",
                    "MaxPool", "MaxRoiPool", "RoiAlign", "SpaceToDepth")  # fmt: skip
_REDUCTIONS = ("ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
               "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")  # fmt: skip
_MATRICES = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}  # which inputs are the two
_STACK = "abcdefgh"  # axes before those of a matrix, in the letters of a product


def channel_axes(
    nodes: Sequence[Any],
    sizes: Mapping[str, Sizes],
    integers: Callable[[str], Sequence[int] | None],
    varying: set[str],
) -> dict[str, int]:
    """Tell which axis counts channels, from the right (-1 is the last), of those tensors where operations tell it.

    Convolutions and pools have channels behind the samples; products with a stored matrix where its columns go;
    recurrent layers and embeddings last. The other operations that are known carry this on, forward and backward. Of
    those that are not known nothing is told.

    Parameters
    ----------
    nodes : sequence of onnx.NodeProto
        Each after those that it needs.
    sizes : mapping of str to tuple
        Of tensors whose rank is known.
    integers : callable
        Finds a short list that is stored under a name; else returns None.
    varying : set of str
        Tensors that depend on the inputs; others are stored.
    """
    graph = _Operations([name for node in nodes for name in (*node.input, *node.output)], sizes, integers, varying)
    for node in nodes:
        if node.domain in ("", "ai.onnx", "com.microsoft") and varying.intersection(node.input):
            graph.add(node)
    return graph.axes.found()


class _Operations:
    """Says of each operation what it does with axes."""

    def __init__(
        self,
        names: Iterable[str],
        sizes: Mapping[str, Sizes],
        integers: Callable[[str], Sequence[int] | None],
        varying: set[str],
    ) -> None:
        self.axes = ChannelAxes([name for name in names if name in varying], sizes)
        self._sizes, self._integers, self._varying = sizes, integers, varying
        self._before: dict[str, str] = {}  # what a tensor was before it was reshaped

    def add(self, node: Any) -> None:
        kind, source, target, sizes = node.op_type, node.input[0], node.output[0], self._sizes
        given: dict[str, Any] = {
            one.name: list(one.ints) or one.s.decode(errors="replace") or one.i for one in node.attribute
        }
        if kind in _BROADCAST or kind in _KEEPING or kind == "Concat":
            for name in node.input[: None if kind in _BROADCAST or kind == "Concat" else 1]:
                for output in node.output:
                    self.axes.link(name, output, KEPT, repeats=kind in (*_BROADCAST, "Expand", "Tile"))
        elif kind in (*_CONVOLUTIONS, *_CHANNELS_SECOND) and not given.get("channels_last"):
            self._add_channels_second(node, given)
        elif kind in (*_MATRICES, "Gemm", "Einsum"):
            self._add_product(node, given)
        elif kind in ("LSTM", "GRU", "RNN") or (kind == "Attention" and node.domain == "com.microsoft"):
            self.axes.take(source, -1)
            for output in node.output if kind != "Attention" else [target]:
                self.axes.make(output, -1)
        elif kind in ("Attention", "MultiHeadAttention"):
            for name in node.input[2:3]:  # the values, of which it makes averages
                self.axes.link(name, target, {-1: -1})
        elif kind == "Gather" and sizes.keys() >= {*node.input}:
            self._add_gather(node, given.get("axis", 0))
        elif kind == "Transpose":
            order = given.get("perm") or range(len(sizes.get(source, ())))[::-1]
            self.axes.link(source, target, {axis - len(order): n - len(order) for n, axis in enumerate(order)})
        elif kind in _REDUCTIONS and given.get("keepdims", 1):
            self.axes.link(source, target, KEPT)
        elif kind in ("Squeeze", "Unsqueeze", *_REDUCTIONS) and source in sizes and (axes := self._list(node, given)):
            rank = len(sizes[source]) + (len(axes) if kind == "Unsqueeze" else 0)
            left = [n for n in range(-rank, 0) if n % rank not in {axis % rank for axis in axes}]
            pairs = [(axis, n - len(left)) for n, axis in enumerate(left)]
            self.axes.link(source, target, {b: a for a, b in pairs} if kind == "Unsqueeze" else dict(pairs))
        elif kind in ("Reshape", "Flatten", "Squeeze") and sizes.keys() >= {source, target}:
            self.axes.link(source, target, axes_kept(sizes[source], sizes[target]))
            whole = self._before.get(source)  # as around a normalization of groups of channels
            if whole is not None and is_same_shape(sizes[whole], sizes[target]):
                self.axes.link(whole, target, KEPT)
            self._before[target] = source

    def _list(self, node: Any, given: Mapping[str, Any]) -> Sequence[int] | None:
        """Find the axes that an operation names."""
        if node.op_type.startswith("Arg"):
            return [given.get("axis", 0)]
        return self._integers(node.input[1]) if len(node.input) > 1 else given.get("axes")

    def _add_channels_second(self, node: Any, given: Mapping[str, Any]) -> None:
        source, target, is_convolution = node.input[0], node.output[0], node.op_type in _CONVOLUTIONS
        ranks = [len(self._sizes[name]) for name in (source, target) if name in self._sizes]
        ranks += [len(given["kernel_shape"]) + 2] if "kernel_shape" in given else []
        ranks += [len(self._sizes[name]) for name in node.input[1:2] if is_convolution and name in self._sizes]
        if ranks and ranks[0] > 1:
            self.axes.take(source, 1 - ranks[0])
            self.axes.make(target, 1 - ranks[0])
        if not is_convolution:
            self.axes.link(source, target, KEPT)
        if node.op_type == "InstanceNormalization" and source in self._before:
            self._before[target] = self._before[source]

    def _add_product(self, node: Any, given: Mapping[str, Any]) -> None:
        """Take a sum of products, its axes named as `numpy.einsum` does."""
        target, names = node.output[0], [node.input[n] for n in _MATRICES.get(node.op_type, range(len(node.input)))]
        if node.op_type == "Einsum":
            *letters, result = given["equation"].replace(" ", "").replace("->", ",").split(",")
        elif node.op_type == "Gemm":
            names, result = names[:2], "ij"
            letters = ["ki" if given.get("transA") else "ik", "jk" if given.get("transB") else "kj"]
        else:
            m, n = (len(self._sizes.get(name, KEPT)) for name in names)
            letters = [(_STACK + "ik")[-m:], (_STACK + "kj")[-n:] if n > 1 else "k"]
            result = _STACK + "i" * (m > 1) + "j" * (n > 1)
        if len(letters) != len(names) or any(len(set(one)) < len(one) for one in (*letters, result)):
            return  # an ellipsis, a diagonal, or no result named
        operands = list(zip(names, letters, strict=True))
        varying = {one for name, own in operands if name in self._varying for one in own}
        stored = {one for name, own in operands if name not in self._varying for one in own}
        units = [n - len(result) for n, one in enumerate(result) if one in stored - varying]
        if len(units) == 1:
            self.axes.make(target, units[0])
        for name, own in operands:
            summed = [n - len(own) for n, one in enumerate(own) if one in stored and one not in result]
            if len(summed) == 1:
                self.axes.take(name, summed[0])
            if not units:
                pairs = {n - len(own): result.index(one) - len(result) for n, one in enumerate(own) if one in result}
                self.axes.link(name, target, pairs, repeats=True)

    def _add_gather(self, node: Any, axis: int) -> None:
        (source, places), target = node.input, node.output[0]
        rank, more = len(self._sizes[source]), len(self._sizes[places]) - 1
        axis = axis % rank - rank
        if source not in self._varying and (axis, rank) == (-2, 2):  # a table of embeddings
            self.axes.make(target, -1)
        self.axes.link(source, target, {n: n - more * (n < axis) for n in range(-rank, 0) if n != axis or not more})
