"""How the graph of a Keras model is read: layers and tensors by name, variables, and which layer is to blame.

No other file uses private attributes of Keras.
"""

from __future__ import annotations

import json
import numbers
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._digest import checksum, digest
from .._extras import import_extra
from .._validation import InvalidTypeError
from .keras_forward import forward_of
from .passes import Comparison, Forward, Passes, compare

if TYPE_CHECKING:
    import keras

__all__ = ["Call", "call_of", "check_graph", "checked_passes", "find_outputs", "graph_nodes", "graph_of", "has_graph",
           "input_dtype", "is_input", "is_keras_model", "known_shape", "lifted", "only_passes_on", "operation_of",
           "outputs_in", "rows_per_sample", "unique_name", "view", "weights_checksum", "weights_digest"]  # fmt: skip

# Layers that hand on the values of another, in a different shape or as they are.
_PASSING = ("InputLayer", "Flatten", "Reshape", "Permute", "RepeatVector", "Dropout", "SpatialDropout1D",
            "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
            "ActivityRegularization", "Identity", "Masking", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D",
            "Cropping1D", "Cropping2D", "Cropping3D", "UpSampling1D", "UpSampling2D", "UpSampling3D")  # fmt: skip


def is_keras_model(model: Any) -> bool:
    """Tell whether this is a Keras model, without importing Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def only_passes_on(layer: Any) -> bool:
    """Tell whether a layer hands on the values of another, in a different shape or as they are."""
    # Upsampling repeats values, or else interpolates: then it computes.
    return type(layer).__name__ in _PASSING and getattr(layer, "interpolation", "nearest") == "nearest"


def is_input(layer: Any) -> bool:
    """Tell whether a layer is where a model's inputs come in."""
    import keras

    return isinstance(layer, keras.layers.InputLayer)


def check_graph(model: Any, several_inputs: bool = False) -> None:
    """Check for a Keras model with a graph and one numeric input, or several. Raises TypeError or ValueError."""
    keras = import_extra("keras", "keras")
    if not isinstance(model, keras.Model):
        raise InvalidTypeError(f"expected a Keras model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise InvalidTypeError(
            "the sequential model is not built: give it a keras.Input, or call model.build(input_shape)"
        )
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise InvalidTypeError(
            f"{type(model).__name__} is a subclassed model without a graph, so its layers' outputs cannot be read: "
            "build it with keras.Model(inputs=..., outputs=...)"
        )
    if len(inputs) != 1 and not several_inputs:
        raise ValueError(f"expected a model with one input, {model.name} has {len(inputs)}")
    if any(one.dtype == "string" for one in inputs):
        raise ValueError(f"expected a model with numeric input, {model.name} takes strings")


def has_graph(layer: Any) -> bool:
    """Tell whether a layer is a model whose layers can be read."""
    import keras

    return isinstance(layer, keras.Model) and bool(getattr(layer, "outputs", None))


def input_dtype(source: keras.KerasTensor) -> np.dtype[Any]:
    """Return the type in which a backend takes an input of a model: JAX has 32 bits where 64 are asked for."""
    dtype = np.dtype(source.dtype)  # bfloat16 is known to NumPy where a backend is loaded
    if dtype.itemsize < 8:
        return dtype
    import keras

    with warnings.catch_warnings(action="ignore"):  # JAX says so at each call
        taken = keras.ops.convert_to_tensor(np.zeros(1, dtype))
    return np.dtype(keras.backend.standardize_dtype(taken.dtype))


def known_shape(name: str, tensor: keras.KerasTensor) -> tuple[int, ...]:
    """Return the shape of one input's nodes. Raises ValueError if the graph leaves it open."""
    shape = tuple(tensor.shape[1:])
    if None in shape:
        raise ValueError(f"the output of {name} has no fixed size: {shape}; rebuild the model with a fixed input shape")
    return shape


def find_outputs(model: keras.Model, wanted: str | Iterable[Any]) -> dict[str, keras.KerasTensor]:
    """Find outputs of layers, by their names.

    Parameters
    ----------
    model : keras.Model
    wanted : "all", or iterable of str, int or keras.layers.Layer
        As in `KerasLayers`.

    Raises
    ------
    TypeError
        If a layer is given as something else.
    ValueError
        If a layer does not exist, or no layers are requested.
    """
    import keras

    if isinstance(wanted, str):
        if wanted != "all":
            raise ValueError(f'layers must be "all" or a list of names or indices, got {wanted!r}')
        wanted = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if not isinstance(wanted, Iterable):
        raise InvalidTypeError(f'layers must be "all" or a list of names or indices, got {wanted!r}')
    found: dict[str, keras.KerasTensor] = {}
    for which in wanted:
        found |= _find(model, which)
    if not found:
        raise ValueError("no layers requested: name at least one, or all of them")
    return found


def _find(model: keras.Model, which: Any) -> dict[str, keras.KerasTensor]:
    import keras

    layer = None
    if isinstance(which, str):
        layer = next((layer for layer in model.layers if layer.name == which), None)
        if layer is None:  # one output of several
            name, _, _ = which.rpartition(":")
            outputs = _find(model, name) if any(one.name == name for one in model.layers) else {}
            if which in outputs:
                return {which: outputs[which]}
            if outputs:
                raise ValueError(
                    f"{name} of {model.name} has no output {which!r}; its outputs are {', '.join(outputs)}"
                )
    elif isinstance(which, keras.layers.Layer):
        layer = next((layer for layer in model.layers if layer is which), None)
        which = which.name
    elif isinstance(which, numbers.Integral) and not isinstance(which, bool):
        which = int(which)
        layer = model.layers[which] if -len(model.layers) <= which < len(model.layers) else None
    else:
        raise InvalidTypeError(f"a layer must be a name, an index or a layer of the model, got {which!r}")
    if layer is None:
        names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
        hint = " (another layer of this name)" if which in names else ""
        raise ValueError(f"{model.name} has no layer {which!r}{hint}; it has {len(names)} layers: {', '.join(names)}")
    tensors = outputs_in(model, layer)
    return {layer.name if len(tensors) == 1 else f"{layer.name}:{n}": tensor for n, tensor in enumerate(tensors)}


def graph_of(model: keras.Model) -> Any:
    """Return the functional model that holds a model's graph: a sequential model keeps it beside itself."""
    return getattr(model, "_functional", None) or model


def graph_nodes(model: keras.Model) -> list[Any]:
    """List the calls in a model's graph, from its input on."""
    return [node for _, nodes in sorted(graph_of(model)._nodes_by_depth.items(), reverse=True) for node in nodes]


def operation_of(tensor: keras.KerasTensor) -> Any:
    """Return the layer or operation that a tensor of a graph is an output of."""
    return tensor._keras_history.operation


class Call(NamedTuple):
    """The call of a layer that a tensor of a graph comes from.

    Attributes
    ----------
    layer : keras.layers.Layer or keras.Operation
    position : int
        The tensor's place among the outputs.
    arguments : object
        Of the call: ``args`` and ``kwargs``, and the tensors among them in ``keras_tensors``.
    """

    layer: Any
    position: int
    arguments: Any


def call_of(tensor: keras.KerasTensor) -> Call:
    """Find the call that a tensor of a graph comes from."""
    layer, number, position = tensor._keras_history
    return Call(layer, position, layer._inbound_nodes[number].arguments)


def unique_name(layer: Any, purpose: str) -> str:
    """Make a name for what is made from a layer: names in a graph must differ, also from the user's."""
    import keras

    return f"{layer.name}_{purpose}_{keras.backend.get_uid(purpose)}"


def lifted(call: Call, tensors: list[keras.KerasTensor], purpose: str) -> list[keras.KerasTensor]:
    """Return tensors of a model within a model, which `call` calls, as tensors of the outer graph."""
    import keras

    inner = keras.Model(call.layer.inputs, tensors, name=unique_name(call.layer, purpose))
    inner.lifted_from = call.layer.name  # for messages
    outputs = inner(*call.arguments.args, **call.arguments.kwargs)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def outputs_in(model: keras.Model, layer: keras.layers.Layer) -> list[keras.KerasTensor]:
    """Collect a layer's outputs in this model's graph: the layer may serve other models as well."""
    in_graph = {id(node) for node in graph_nodes(model)}
    return [tensor for node in layer._inbound_nodes if id(node) in in_graph for tensor in node.output_tensors]


def rows_per_sample(network: keras.Model) -> list[int]:
    """Tell how many rows each output of a functional model has for one sample.

    That is 1 where the first axis counts the samples, and k where positions or frames are folded into it. Where the
    graph leaves the size of that axis open it is taken for 1: the pass itself shows.

    Raises
    ------
    ValueError
        If the first axis of an output does not grow with the number of samples, or there is none.
    """
    rows = _rows(network)
    for output, count in zip(network.outputs, rows, strict=True):
        if isinstance(count, str):
            raise ValueError(f"the output of {operation_of(output).name} {count}; leave it out")
    return [int(count) for count in rows]


def _rows(network: keras.Model) -> list[int | str]:
    """Do the work of `rows_per_sample`, with what is wrong in place of a number."""
    import keras

    fixed = network.inputs[0].shape[0]
    sizes = (5, 7) if fixed is None else (fixed,)

    def computed_for(size: int) -> list[keras.KerasTensor]:
        given = [keras.KerasTensor((size, *source.shape[1:]), source.dtype) for source in network.inputs]
        return keras.tree.flatten(network.compute_output_spec(given if len(given) > 1 else given[0]))

    try:
        computed = [computed_for(size) for size in sizes]
    except Exception:  # a layer of the user's own may raise anything: it need not work without inputs
        computed, sizes = [network.outputs], sizes[:1]
    return [_rows_of([output.shape for output in outputs], sizes) for outputs in zip(*computed, strict=True)]


def _rows_of(shapes: Sequence[tuple[int | None, ...]], sizes: Sequence[int]) -> int | str:
    if not all(shapes):
        return "has no rows for samples: it is one number"
    leading = [shape[0] for shape in shapes]
    counts = [size / batch for size, batch in zip(leading, sizes, strict=False) if size is not None]
    if len(counts) < len(leading):
        return 1
    if counts[0] < 1 or counts[0] % 1 or len(set(counts)) > 1:
        return f"does not have a row for each sample: its first axis has size {leading[0]} for {sizes[0]} samples"
    return int(counts[0])


def checked_passes(name: str, network: keras.Model, forward: Forward) -> Passes:
    """Make passes whose error names the layer of a functional model to blame; `name` is what the user calls it."""
    dtypes = [layer.compute_dtype for layer in _all_layers(network)]
    any_number = network.inputs[0].shape[0] is None
    return Passes(forward, partial(_states, network), dtypes, partial(_refusal, name, network), any_number)


def _refusal(
    name: str, network: keras.Model, batch: Sequence[np.ndarray], comparison: Comparison, tolerance: float
) -> ValueError:
    blamed = _first_differing(network, batch[: len(network.inputs)], tolerance)
    if blamed is None:
        names = {operation_of(network.outputs[n]).name for n in comparison.differing}
    else:
        inside = _all_layers(blamed) if hasattr(blamed, "_flatten_layers") else []
        changed = {id(variable) for variable in comparison.changed}
        names = {layer.name for layer in inside if changed & {id(one) for one in _own_variables(layer)}}
        names.add(getattr(blamed, "lifted_from", blamed.name))
    return ValueError(
        f"the same sample has other values elsewhere in a batch, beside others, after {', '.join(sorted(names))} of "
        f"{name}: a value must depend on the sample alone. It does not where a layer draws random numbers, starts from "
        "a state that an earlier call left, normalizes over the batch (training=True), or puts the rows of a sample "
        "apart; leave out that layer and those after it"
    )


def view(model: keras.Model, tensors: list[keras.KerasTensor]) -> keras.Model:
    """Make a second view of a model's graph: it shares layers and weights with the model, which stays as it is."""
    import keras

    return keras.Model(model.inputs if len(model.inputs) > 1 else model.inputs[0], tensors)


def _first_differing(network: keras.Model, batch: Sequence[np.ndarray], tolerance: float) -> Any:
    """Find the first operation whose output for a sample depends on more than the sample."""
    tensors = [tensor for node in graph_nodes(network) if not node.is_input for tensor in node.output_tensors]
    rows = _rows(view(network, tensors)) if tensors else []
    tensors = [tensor for tensor, count in zip(tensors, rows, strict=True) if count == 1]
    if not tensors:
        return None
    whole = view(network, tensors)
    compute = forward_of(whole)

    def forward(*arrays: np.ndarray) -> list[np.ndarray]:
        outputs = compute(*arrays)
        return [output if output.shape[:1] == arrays[0].shape[:1] else arrays[0] for output in outputs]

    differing = compare(forward, batch, *_states(whole), tolerance).differing
    return operation_of(tensors[differing[0]]) if differing else None


def _states(network: keras.Model) -> tuple[list[Any], list[Any]]:
    """Collect all variables of a network, and apart from them the states of its random number generators."""
    weights = {id(variable): variable for variable in network.weights}
    draws = {id(variable): variable for variable in network.variables if id(variable) not in weights}
    for layer in _all_layers(network):
        weights |= {id(one): one for one in _own_variables(layer) if id(one) not in draws}
    return list(weights.values()), list(draws.values())


def _all_layers(layer: Any) -> list[Any]:
    return list(layer._flatten_layers())


def _own_variables(layer: Any) -> Iterator[Any]:
    """Yield a layer's own variables, also those that Keras does not list, as the states of recurrent layers."""
    import keras

    for generator in layer._seed_generators:
        yield generator.state
    for value in list(vars(layer).values()):
        for one in keras.tree.flatten(value) if isinstance(value, list | tuple | dict) else [value]:
            if hasattr(one, "assign") and hasattr(one, "shape"):
                yield one


# What says how a layer is made or trained, not what it computes.
_NOT_COMPUTED = ("name", "registered_name", "build_config", "seed", "trainable", "inbound_nodes", "dtype", "module")


def _settings(network: keras.Model) -> list[str]:
    """List the class of each operation of a network's graph and its settings, in the network's order."""
    found = []
    for operation in graph_of(network).operations:
        found.append(type(operation).__name__)
        if has_graph(operation):
            found += _settings(operation)
            continue
        try:
            config = operation.get_config()
        except (NotImplementedError, TypeError, ValueError):  # a layer of one's own that cannot be saved
            continue
        found.append(json.dumps(_computed(config), sort_keys=True, default=lambda value: type(value).__name__))
    return found


def _computed(config: Any) -> Any:
    if isinstance(config, dict):
        return {
            key: _computed(value)
            for key, value in config.items()
            if key not in _NOT_COMPUTED and not key.endswith(("_initializer", "_regularizer", "_constraint"))
        }
    return [_computed(value) for value in config] if isinstance(config, list | tuple) else config


def weights_checksum(weights: Sequence[keras.Variable]) -> str:
    """Tell cheaply whether weights are still the same: see `checksum`."""
    return checksum(map(_in_place, weights))


def _in_place(weight: Any) -> np.ndarray:
    """Return a weight's values, without a copy where its backend allows that."""
    variable = weight.value
    if not hasattr(variable, "handle"):
        return np.asarray(weight)
    import tensorflow as tf

    read = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)  # a fifth of read_value's time
    return np.frombuffer(memoryview(read), np.uint8)


def weights_digest(network: keras.Model) -> str:
    """Digest what a network computes: its weights and the settings of its layers, in its order.

    Names and the states of random number generators do not count. A network that is read in the same way of the same
    model, saved and loaded, has the same digest.
    """
    return digest(*_settings(network), *(np.asarray(weight) for weight in network.weights))
