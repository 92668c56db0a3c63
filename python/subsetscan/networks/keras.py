"""Keras models as networks: layers by name, also those of models within the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._digest import digest
from .._several import arrays_of
from ..input_checks import check_arrays
from .base import Network, cannot_tell_channels
from .keras_axes import KerasAxes
from .keras_forward import forward_of
from .keras_graph import (
    call_of,
    check_graph,
    checked_passes,
    find_outputs,
    has_graph,
    input_dtype,
    is_input,
    lifted,
    only_passes_on,
    operation_of,
    outputs_in,
    rows_per_sample,
    view,
    weights_checksum,
    weights_digest,
)
from .logits import logit_tensor
from .rows import by_sample

if TYPE_CHECKING:
    import keras

    from .responses import BackwardPass

__all__ = ["KerasNetwork"]

_OUTPUT, _LOGITS = "<output>", "<logits>"


class _Place(NamedTuple):
    """Where a tensor is: a layer behind the models that it lies in, and which of its outputs."""

    path: tuple[Any, ...]
    position: int


class KerasNetwork(Network):
    """A Keras model, whose layers' outputs can be read.

    A layer of a model within the model is named with a slash, "inner/layer"; one with several outputs, or that is used
    several times, has ":0", ":1" ... behind its name.

    Parameters
    ----------
    model : keras.Model
        Functional, sequential and built, or subclassed with ``inputs`` and ``outputs``. It stays as it is: what is read
        shares its layers and weights, and its variables are after a pass what they were before it.

    Raises
    ------
    TypeError
        If it is no Keras model, or has no graph.
    ValueError
        If it takes strings.
    """

    def __init__(self, model: keras.Model) -> None:
        check_graph(model, several_inputs=True)
        self.model = model
        self.name = model.name
        self.batch_size = model.inputs[0].shape[0]
        self._places = dict(_places(model))
        self._tensors: dict[str, keras.KerasTensor] = {}  # what has a name and is no layer's output
        self._readers: dict[tuple[str, ...], _Reader] = {}

    def layer_names(self) -> tuple[str, ...]:  # noqa: D102 (the base says it, as for those below)
        return tuple(self._places)

    def input_names(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(source.name for source in self.model.inputs)

    def computing(self) -> tuple[str, ...]:  # noqa: D102
        found = tuple(
            name for name, (path, _) in self._places.items() if not has_graph(path[-1]) and not only_passes_on(path[-1])
        )
        return found or self.layer_names()

    def find_one(self, which: Any) -> list[str]:
        """Find a layer by its name, a pattern, its index in ``model.layers``, or itself."""
        if not isinstance(which, str):
            found = find_outputs(self.model, [which])
            self._tensors |= {name: tensor for name, tensor in found.items() if name not in self._places}
            return list(found)
        if which in self._tensors or which in (_OUTPUT, _LOGITS) or which in self._places:
            return [which]
        if outputs := [name for name in self._places if which and name.rpartition(":")[0] == which]:
            return outputs
        layer, colon, _ = which.rpartition(":")
        if outputs := [name for name in self._places if colon and layer in (name, name.rpartition(":")[0])]:
            raise ValueError(f"{layer} of {self.name} has no output {which!r}; its outputs are {', '.join(outputs)}")
        return super().find_one(which)

    def check(self, inputs: Any) -> Any:  # noqa: D102
        return check_arrays(
            inputs, {source.name: (tuple(source.shape[1:]), input_dtype(source)) for source in self.model.inputs}
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"])  # type: ignore[misc]  # a copied model has layers of its own

    def read(self, inputs: Any, names: Sequence[str]) -> dict[str, np.ndarray]:  # noqa: D102
        return self._reader(names).read(arrays_of(inputs))

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {name: shape for name, shape in self._reader(names).shapes.items() if None not in shape}

    def channel_axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Tell it from the layers of the graph; the last, also of a series (T, C), where no layer speaks of another."""
        if len(shape) < 2:
            return len(shape) - 1
        tensor = _tensor_at(self.model, self._places[name]) if name in self._places else self._tensor(name)
        if (axis := self._axes.of(tensor, len(shape))) is None:
            raise cannot_tell_channels(name, self.name, shape)
        return axis

    def input_channel_axis(self) -> int | None:
        """Tell which axis of the first input counts channels; None where it cannot be told."""
        source = self.model.inputs[0]
        return self._axes.of(source, len(source.shape) - 1)

    @cached_property
    def _axes(self) -> KerasAxes:
        return KerasAxes(self.model)

    def fingerprint(self, names: Sequence[str]) -> str | None:  # noqa: D102
        shapes = [str((*source.shape[1:], source.dtype)) for source in self.model.inputs]
        return digest(*shapes, weights_digest(self._reader(names).model))

    def stamp(self, names: Sequence[str]) -> str | None:  # noqa: D102
        return weights_checksum(self._reader(names).weights)

    def joined(self, other: Network) -> Network | None:  # noqa: D102
        if not isinstance(other, KerasNetwork) or other.model is not self.model:
            return None
        both = KerasNetwork(self.model)
        both._tensors = self._tensors | other._tensors
        return both

    def input_shape(self) -> tuple[int | None, ...] | None:  # noqa: D102
        return tuple(self.model.inputs[0].shape[1:]) if len(self.model.inputs) == 1 else None

    def output(self) -> str:  # noqa: D102
        if len(self.model.outputs) != 1:
            shapes = ", ".join(str(output.shape) for output in self.model.outputs)
            raise ValueError(f"expected a model with one output, {self.name} has {len(self.model.outputs)}: {shapes}")
        return _OUTPUT

    def backward(self, method: str, target: str, layer: Any) -> BackwardPass:  # noqa: D102
        from .keras_responses import KerasBackwardPass

        return KerasBackwardPass(self.model, method, target, layer)

    def logits(self) -> str:  # noqa: D102
        self._tensors[_LOGITS] = logit_tensor(self.model)
        return _LOGITS

    def named(self, purpose: str, tensor: keras.KerasTensor) -> str:
        """Give a tensor of the model's graph, or one made of it, a name by which it can be read."""
        name = f"<{purpose} of {operation_of(tensor).name}>"
        self._tensors[name] = tensor
        return name

    def _tensor(self, name: str) -> keras.KerasTensor:
        """Return a tensor that is no layer's output, or of a layer that `layer_names` does not list."""
        if name == _OUTPUT:
            return self.model.outputs[0]
        if name == _LOGITS and name not in self._tensors:
            self.logits()
        return self._tensors[name]

    def _reader(self, names: Sequence[str]) -> _Reader:
        if (key := tuple(names)) not in self._readers:
            asked = {name: self._places[name] for name in key if name in self._places}
            found = _tensors(self.model, asked) | {name: self._tensor(name) for name in key if name not in asked}
            self._readers[key] = _Reader(self.model, {name: found[name] for name in key})
        return self._readers[key]


class _Reader:
    """Reads some tensors of a model in one pass.

    Attributes
    ----------
    model : keras.Model
        Another view of the same graph.
    weights : list of keras.Variable
    shapes : dict of str to tuple
        Of what one input has under each name; None in it where the graph leaves a size open.
    """

    def __init__(self, model: keras.Model, tensors: Mapping[str, keras.KerasTensor]) -> None:
        distinct = {id(tensor): tensor for tensor in tensors.values()}
        self._positions = {name: list(distinct).index(id(tensor)) for name, tensor in tensors.items()}
        self._name = model.name
        self.model = view(model, list(distinct.values()))
        own = [
            (rows, *output.shape[1:]) if rows > 1 else tuple(output.shape[1:])
            for rows, output in zip(rows_per_sample(self.model), self.model.outputs, strict=True)
        ]
        self.shapes = {name: own[position] for name, position in self._positions.items()}
        self.weights = list(self.model.weights)  # which Keras collects anew each time
        self._compute = forward_of(self.model)
        self._passes = checked_passes(model.name, self.model, self._forward)

    def read(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self._passes.run(arrays)
        return {name: outputs[position] for name, position in self._positions.items()}

    def _forward(self, *arrays: np.ndarray) -> list[np.ndarray]:
        try:
            outputs = self._compute(*arrays)
        except Exception as error:  # each backend has its own, of many lines
            raise ValueError(
                f"{self._name} cannot compute inputs {', '.join(map(_told, arrays))}: {_reason(error)}"
            ) from error
        return [
            by_sample(output, len(arrays[0]), f"{operation_of(tensor).name} of {self._name}")
            for output, tensor in zip(outputs, self.model.outputs, strict=True)
        ]


def _places(model: keras.Model, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, _Place]]:
    """List the outputs of a model's layers by name, and those within models that it calls once."""
    for layer in model.layers:
        if is_input(layer):
            continue
        here = (*path, layer)
        name, n_outputs = "/".join(one.name for one in here), len(outputs_in(model, layer))
        for n in range(n_outputs):
            yield (name if n_outputs == 1 else f"{name}:{n}"), _Place(here, n)
        if has_graph(layer) and n_outputs == len(layer.outputs):
            yield from _places(layer, here)


def _tensor_at(model: keras.Model, place: _Place) -> keras.KerasTensor:
    """Find an output of a layer, in the graph of the model that it lies in."""
    *outer, layer = place.path
    return outputs_in(outer[-1] if outer else model, layer)[place.position]


def _tensors(model: keras.Model, places: Mapping[str, _Place]) -> dict[str, keras.KerasTensor]:
    """Find tensors in a model's graph; those of models within it are computed there as one."""
    found: dict[str, keras.KerasTensor] = {}
    inside: dict[int, dict[str, _Place]] = {}
    for name, ((layer, *inner), position) in places.items():
        if inner:
            inside.setdefault(id(layer), {})[name] = _Place((layer, *inner), position)
        else:
            found[name] = outputs_in(model, layer)[position]
    for within in inside.values():
        (layer, *_), _ = next(iter(within.values()))
        deeper = _tensors(layer, {name: _Place(path[1:], position) for name, (path, position) in within.items()})
        call = call_of(outputs_in(model, layer)[0])
        found |= dict(zip(deeper, lifted(call, list(deeper.values()), "read"), strict=True))
    return found


def _told(array: np.ndarray) -> str:
    values = f" from {array.min():g} to {array.max():g}" if array.size else ""
    return f"of shape {array.shape}{values} ({array.dtype})"


def _reason(error: Exception) -> str:
    """Pick the line of a backend's message that says what is wrong: the last that names no node of a graph."""
    text = str(error)
    bold = re.search(r"\x1b\[1m(.*)\x1b\[0m", text, re.DOTALL)  # Keras' own message lists arguments behind it
    lines = [line.strip() for line in (bold[1] if bold else text).splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith("[[")), type(error).__name__)
