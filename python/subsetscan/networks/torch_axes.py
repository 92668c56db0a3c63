"""What PyTorch's operations do with axes, seen in one pass, and which axis they have channels at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .axes import KEPT, ChannelAxes, Sizes, axes_kept

if TYPE_CHECKING:
    import torch

__all__ = ["Axes", "watched"]

# Names are those of PyTorch's inner operations, without what comes behind a dot.
_CHANNELS_SECOND = ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "batch_norm", "channel_shuffle", "conv",
                    "cudnn_batch_norm", "cudnn_conv", "fractional_max_pool", "group_norm", "instance_norm", "max_pool",
                    "miopen_conv", "mkldnn_conv", "native_batch_norm", "native_channel_shuffle", "native_group_norm",
                    "pixel_shuffle", "pixel_unshuffle", "thnn_conv")  # fmt: skip
_KEEPING = ("alias", "alpha_dropout", "cat", "chunk", "clone", "concat", "constant_pad_nd", "contiguous", "copy",
            "cumsum", "detach", "dropout", "expand", "expand_as", "feature_alpha_dropout", "feature_dropout", "fill",
            "flip", "floor_divide", "glu", "hardswish", "index_select", "layer_norm", "log_sigmoid", "log_softmax",
            "masked_fill", "narrow", "native_dropout", "native_layer_norm", "pad", "prelu", "reflection_pad1d",
            "reflection_pad2d", "reflection_pad3d", "repeat", "replication_pad1d", "replication_pad2d",
            "replication_pad3d", "rms_norm", "roll", "rrelu", "rsub", "selu", "slice", "softmax", "sort", "split",
            "split_with_sizes", "tensor_split", "tile", "to", "to_copy", "tril", "triu", "type_as",
            "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d",
            "upsample_nearest2d", "upsample_nearest3d", "upsample_trilinear3d", "where")  # fmt: skip
_REDUCING = ("all", "amax", "amin", "any", "linalg_vector_norm", "logsumexp", "max", "mean", "min", "norm", "prod",
             "std", "sum", "var")  # fmt: skip
_VIEWS = ("flatten", "reshape", "squeeze", "unflatten", "unsafe_view", "unsqueeze", "view", "view_as")
_LAST = ("embedding", "gru", "lstm", "mkldnn_rnn_layer", "native_multi_head_attention", "rnn_relu", "rnn_tanh",
         "transformer_encoder_layer_fwd")  # fmt: skip
_PRODUCTS = {"addbmm": 1, "addmm": 1, "baddbmm": 1, "bmm": 0, "linear": 0, "matmul": 0, "mkldnn_linear": 0, "mm": 0}


class Axes:
    """What a pass says of axes.

    Attributes
    ----------
    names : dict of int to str
        Of each tensor that depends on the inputs, by its identity.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self._kept: list[Any] = []  # identities belong to other tensors once these are gone
        self._sizes: dict[str, Sizes] = {}
        self._facts: list[tuple[str, tuple[Any, ...]]] = []

    def see(self, tensor: Any) -> str:
        """Name a tensor."""
        if id(tensor) not in self.names:
            name = self.names[id(tensor)] = str(len(self.names))
            self._sizes[name] = tuple(tensor.shape)
            self._kept.append(tensor)
        return self.names[id(tensor)]

    def found(self) -> dict[str, int]:
        """Tell the axis of channels, from the right, of each name where it is known."""
        axes = ChannelAxes(self.names.values(), self._sizes)
        for what, given in self._facts:
            if what == "link":
                source, target, pairs, repeats = given
                axes.link(source, target, pairs, repeats=repeats)
            else:
                getattr(axes, what)(*given)
        return axes.found()

    def note(self, operation: Any, given: Sequence[Any], options: dict[str, Any], returned: Any) -> None:
        """Take what an operation says, of tensors that depend on the inputs."""
        sources = [one for one in _tensors(given) if id(one) in self.names]
        if not sources:
            return
        import torch

        kind = operation.__name__.partition(".")[0].strip("_")
        targets, source = list(_tensors([returned])), sources[0]
        for target in targets:
            self.see(target)
        rank = source.dim()
        if kind.startswith(_CHANNELS_SECOND):
            self._channels_second(sources[:1], targets, kind)
        elif kind in _PRODUCTS:
            self._product(given[_PRODUCTS[kind] :][:2], targets[0], is_linear="linear" in kind)
        elif kind.startswith("scaled_dot_product"):
            self._link(given[2], targets[0], {-1: -1})
        elif kind in _LAST:
            self._fact("make", targets[0], -1)
        elif kind in ("permute", "transpose", "swapaxes", "swapdims", "t"):
            order = _order(kind, given, rank)
            self._link(source, targets[0], {axis - rank: n - rank for n, axis in enumerate(order)})
        elif kind in ("select", "unbind"):
            axis = _axes(_argument(operation, given, options, "dim"), rank)
            for target in targets:
                self._without(source, target, axis)
        elif kind == "stack":
            axis = _argument(operation, given, options, "dim") % (rank + 1)
            pairs = {n - rank: (n if n < axis else n + 1) - rank - 1 for n in range(rank)}
            for one in sources:
                self._link(one, targets[0], pairs)
        elif kind in _REDUCING:
            self._reduction(source, targets, _argument(operation, given, options, "dim"))
        elif kind in _VIEWS:
            self._link(source, targets[0], axes_kept(tuple(source.shape), tuple(targets[0].shape)))
        elif kind.rstrip("_") in _KEEPING or torch.Tag.pointwise in operation.tags:
            for one in sources:
                for target in targets:
                    self._link(one, target, KEPT, repeats=True)

    def _channels_second(self, sources: Sequence[Any], targets: Sequence[Any], kind: str) -> None:
        axis = 1 - sources[0].dim()
        self._fact("take", sources[0], axis)
        self._fact("make", targets[0], 1 - targets[0].dim())
        if "conv" not in kind and "shuffle" not in kind:
            self._link(sources[0], targets[0], KEPT)

    def _product(self, pair: Sequence[Any], target: Any, *, is_linear: bool) -> None:
        """Take a product of two: a stored one makes units of its columns, or of its rows where it is the first."""
        first, second = pair
        if min(first.dim(), second.dim()) < 2:
            return  # a vector has no columns
        first_varies, second_varies = (id(one) in self.names for one in pair)
        if first_varies and not second_varies:
            self._fact("take", first, -1)
            self._fact("make", target, -1)
        elif second_varies and not first_varies and not is_linear:
            self._fact("take", second, -2)
            self._fact("make", target, -2)
        elif first_varies and second_varies:
            self._link(first, target, {axis: axis for axis in KEPT if axis != -1}, repeats=True)
            self._link(second, target, {axis: axis for axis in KEPT if axis != -2}, repeats=True)

    def _reduction(self, source: Any, targets: Sequence[Any], axes: Any) -> None:
        for target in targets:
            if target.dim() == source.dim():
                self._link(source, target, KEPT)
            elif isinstance(axes, int) or (isinstance(axes, list | tuple) and axes):
                self._without(source, target, _axes(axes, source.dim()))

    def _without(self, source: Any, target: Any, axes: set[int]) -> None:
        left = [n for n in range(source.dim()) if n not in axes]
        self._link(source, target, {n - source.dim(): place - len(left) for place, n in enumerate(left)})

    def _link(self, source: Any, target: Any, pairs: Any, *, repeats: bool = False) -> None:
        if id(source) in self.names and source is not target:
            self._facts.append(("link", (self.names[id(source)], self.names[id(target)], pairs, repeats)))

    def _fact(self, what: str, tensor: Any, axis: int) -> None:
        self._facts.append((what, (self.names[id(tensor)], axis)))


@contextmanager
def watched(axes: Axes) -> Iterator[None]:
    """Note the operations of a pass."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, given: Any = (), options: Any = None) -> Any:
            del types
            returned = operation(*given, **(options or {}))
            axes.note(operation, given, options or {}, returned)
            return returned

    with Watch():
        yield


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    import torch

    for one in values:
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from _tensors(one)


def _argument(operation: Any, given: Sequence[Any], options: dict[str, Any], name: str) -> Any:
    """Find an argument by the name that the operation has for it."""
    for n, one in enumerate(operation._schema.arguments):
        if one.name == name:
            return given[n] if n < len(given) else options.get(name, one.default_value)
    return None


def _axes(given: Any, rank: int) -> set[int]:
    return {axis % rank for axis in ([given] if isinstance(given, int) else given)}


def _order(kind: str, given: Sequence[Any], rank: int) -> list[int]:
    """Tell which axis comes to which place."""
    order = list(range(rank))
    if kind == "permute":
        return [axis % rank for axis in given[1]]
    first, second = (0, 1) if kind == "t" else given[1:3]
    if rank > 1:
        order[first % rank], order[second % rank] = order[second % rank], order[first % rank]
    return order
