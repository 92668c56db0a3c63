"""Feature responses of PyTorch modules: autograd's gradient, with hooks on its graph where a ReLU is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validation import InvalidTypeError
from .logits import check_classes
from .passes import Passes
from .responses import BackwardPass, not_plain
from .torch import TorchNetwork, to_numpy, to_tensors

if TYPE_CHECKING:
    import torch

__all__ = ["TorchBackwardPass"]

_RELU = "Relu"
# What passes a backward pass on as it is: linear, or a choice of the largest. Names are those of autograd's graph.
_PLAIN = {
    _RELU, "Add", "Sub", "Rsub", "Neg", "Sum", "Mean", "Cat", "Stack",
    "Alias", "View", "UnsafeView", "ReshapeAlias", "AsStrided", "Clone", "ToCopy", "T", "Transpose", "Permute",
    "Squeeze", "Unsqueeze", "Expand", "Repeat", "Select", "Slice", "Split", "SplitWithSizes", "Unbind", "Flip", "Roll",
    "PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "NativeChannelShuffle", "ConstantPadNd", "Im2Col",
    "ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D", "ReplicationPad1D", "ReplicationPad2D",
    "ReplicationPad3D", "UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D", "UpsampleLinear1D",
    "UpsampleBilinear2D", "UpsampleBicubic2D", "UpsampleTrilinear3D", "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D",
    "AdaptiveAvgPool3D", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D",
    "Amax", "Max",
}  # fmt: skip
_NORMALIZATIONS = {"NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"}
_PRODUCTS = {"Convolution", "CudnnConvolution", "MkldnnConvolution", "Addmm", "Mm", "Linear"}  # plain with weights
_SCALINGS = {"Mul", "Div"}  # plain with numbers, parameters and buffers


class TorchBackwardPass(BackwardPass):
    """A backward pass through a PyTorch module.

    For "deconvnet" and "guided" the graph that autograd makes of a pass is looked at between target and images: each
    `relu` in it gets a hook, whoever called it, and what is not plain is refused. The graph is gone after the pass.
    """

    channels_first = True

    def __init__(self, network: TorchNetwork, method: str, target: str, layer: Any) -> None:
        self.method, self.target = method, target
        self._network = network
        self.dtype = np.dtype(np.float64 if network.tensor(np.zeros(0)).dtype.itemsize > 4 else np.float32)
        if target != "activations":
            self._end = network.logits()
        elif layer is None:
            self._end = _last_convolution(network)
        else:
            self._end = _one_layer(network, layer)
        self._n_classes: int | None = None
        self._passes = network.passes(self._pass, [f"the response of {self._end}"])

    def n_classes(self, images: np.ndarray) -> int:  # noqa: D102 (the base says it, as for those below)
        if self._n_classes is None:
            logits = self._network.read(images[:1], [self._network.output()])[self._network.output()]
            check_classes(self._network.name, logits.shape[1:])
            self._n_classes = logits.shape[1]
        return self._n_classes

    def passes(self) -> Passes:  # noqa: D102
        return self._passes

    def told(self) -> list[str]:  # noqa: D102
        return [self._end, str(self._network.fingerprint([self._end]))]

    def _pass(self, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        import torch

        with torch.inference_mode(False), torch.enable_grad():
            leaf = self._network.tensor(images).requires_grad_()
            start = leaf.clone()  # a module may change its input in place, which must not be a leaf then
            first = start.grad_fn
            with self._watched() as makers:
                values = self._network.called([start], (), [self._end])[self._end]
            if values.grad_fn is None:
                raise self._cut_off()
            if self.target != "activations":
                check_classes(self._network.name, tuple(values.shape[1:]))
                if _kind(values.grad_fn) == "LogSoftmax":
                    raise ValueError(
                        f"the outputs of {self._network.name} are logarithms of probabilities, not logits: leave out "
                        "its log-softmax"
                    )
            seed = self._seed(values.detach(), labels)
            if self.method != "gradient":
                self._set_relus(values.grad_fn, first, makers)
            try:
                (response,) = torch.autograd.grad(values, leaf, seed, allow_unused=True)
            except RuntimeError as error:
                raise ValueError(f"{self._network.name} cannot be differentiated: {error}") from error
        if response is None:
            raise self._cut_off()
        return [to_numpy(response.float())]

    def _seed(self, values: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
        import torch

        if self.target == "activations":
            return values
        which = self._network.tensor(labels) if self.target == "true-logit" else values.argmax(dim=1)
        seed = torch.nn.functional.one_hot(which, values.shape[1]).to(values.dtype)
        if self.target == "log-probability":
            return (seed - (values / self.temperature).softmax(dim=1)) / self.temperature
        return seed * values if self.target == "max-output" else seed

    def _cut_off(self) -> ValueError:
        return ValueError(f"no gradient reaches the image: a module of {self._network.name} cannot be differentiated")

    @contextmanager
    def _watched(self) -> Iterator[dict[Any, str]]:
        """Note which module made what in the graph, for messages: the innermost that returned it."""
        makers: dict[Any, str] = {}

        def note(name: str) -> Any:
            def hook(module: Any, _given: Any, returned: Any) -> None:
                for one in to_tensors(returned):
                    if one.grad_fn is not None:
                        makers.setdefault(one.grad_fn, f"{name} ({type(module).__name__})")

            return hook

        handles = []
        try:
            if self.method != "gradient":
                for name, module in self._network.modules.items():
                    handles.append(module.register_forward_hook(note(name)))
            yield makers
        finally:
            for handle in handles:
                handle.remove()

    def _set_relus(self, last: Any, first: Any, makers: dict[Any, str]) -> None:
        """Give the ReLUs of a graph the gradient of the method. Raises ValueError for what is not plain in it."""
        between, model = _between(last, first), self._network.model
        weights = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
        for node in between:
            kind = _kind(node)
            if not _is_plain(node, kind, between, weights):
                maker = makers.get(node, self._network.name)
                raise not_plain(maker, f"computes {kind}", self.method)
        for node in between:
            if _kind(node) == _RELU:
                node.register_hook(_deconvnet if self.method == "deconvnet" else _guided)


def _deconvnet(below: tuple[Any, ...], above: tuple[Any, ...]) -> tuple[Any, ...]:
    del below
    return (above[0].relu(),)


def _guided(below: tuple[Any, ...], above: tuple[Any, ...]) -> tuple[Any, ...]:
    del above
    return (below[0].relu(),)  # what is below is from above, where the ReLU's input is positive


def _one_layer(network: TorchNetwork, layer: Any) -> str:
    for name, module in network.modules.items():
        if module is layer:
            return name
    if not isinstance(layer, str):
        raise InvalidTypeError(f"a layer must be a name or a module of {network.name}, got {layer!r}")
    names = network.find([layer])
    if len(names) != 1:
        raise ValueError(f"{layer!r} fits {len(names)} layers of {network.name}, expected one: {', '.join(names)}")
    return names[0]


def _last_convolution(network: TorchNetwork) -> str:
    import torch

    found = [name for name, one in network.modules.items() if isinstance(one, torch.nn.modules.conv._ConvNd)]
    if not found:
        raise ValueError(f"{network.name} has no convolutional layer: name a layer to propagate back from")
    return found[-1]


def _kind(node: Any) -> str:
    """Name an operation of autograd's graph: "Relu" for ReluBackward0."""
    return re.sub(r"Backward\d+$", "", str(node.name()).rpartition("::")[2])


def _between(last: Any, first: Any) -> dict[Any, None]:
    """Collect what lies in the graph on a way from the last operation to the first, beginning with this."""
    users: dict[Any, list[Any]] = {last: []}
    todo = [last]
    while todo:
        node = todo.pop()
        for below, _ in node.next_functions:
            if below is None:
                continue
            if below not in users:
                users[below] = []
                todo.append(below)
            users[below].append(node)
    found: dict[Any, None] = {}  # in an order, so that messages name the same operation each time
    todo = [first] if first in users else []
    while todo:
        node = todo.pop()
        if node not in found:
            found[node] = None
            todo += users[node]
    return found


def _is_plain(node: Any, kind: str, between: dict[Any, None], weights: set[int]) -> bool:
    """Tell whether an operation is linear in what comes from the images, a choice of the largest, or a ReLU."""
    ways = [n for n, (below, _) in enumerate(node.next_functions) if below in between]
    if kind in _NORMALIZATIONS:
        return ways == [0] and not getattr(node, "_saved_training", False)
    if kind in _PRODUCTS:
        return len(ways) <= 1
    if kind in _SCALINGS:
        if len(ways) > 1 or (kind == "Div" and ways == [1]):
            return False
        factor = node._saved_self if ways == [1] else node._saved_other
        return factor.ndim == 0 or factor.untyped_storage().data_ptr() in weights
    return kind in _PLAIN
