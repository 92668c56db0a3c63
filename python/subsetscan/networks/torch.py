"""PyTorch modules as networks: what their submodules return, caught by hooks."""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from .._digest import digest
from .._several import arrays_of
from .._validation import InvalidTypeError
from ..input_checks import ShapeError, check_counts, check_inputs
from .base import Network, cannot_tell_channels
from .logits import are_probabilities
from .passes import Comparison, Forward, Passes, unchanged
from .rows import by_sample

if TYPE_CHECKING:
    import torch

    from .responses import BackwardPass

__all__ = ["TorchNetwork", "is_torch_module"]

_OUTPUT, _LOGITS = "<output>", "<logits>"
_SAMPLED = 8  # values of a tensor
_LOCKS: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()  # by module
_MAKING = threading.Lock()
# Modules that hand on values as they are, or do nothing after training.
_PASSING = ("Identity", "Flatten", "Unflatten", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout",
            "FeatureAlphaDropout", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d", "PixelShuffle", "PixelUnshuffle",
            "ChannelShuffle")  # fmt: skip
_CHANNELS_LAST = ("Linear", "Embedding", "LSTM", "GRU", "RNN", "MultiheadAttention")
_CHANNELS_FIRST = ("Conv", "BatchNorm", "MaxPool", "AvgPool", "AdaptiveAvg", "AdaptiveMax", "InstanceNorm", "GroupNorm")


def is_torch_module(model: Any) -> bool:
    """Tell whether this is a PyTorch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


class TorchNetwork(Network):
    """A PyTorch module, whose submodules' outputs can be read.

    Names are those of ``named_modules()``. Of a module that returns several tensors, in a tuple, a mapping or a
    ``ModelOutput``, or that is called several times, they are "name:0", "name:1" ... in the order in which they come;
    the name alone stands for the first, and you are warned that there are more.

    A pass runs in evaluation and inference mode, on the module's device and in its type. What it changes, modes and
    buffers among it, is put back, and hooks are removed, whatever happens. Values in half precision are handed out in
    single. Passes in several threads take turns. Other threads may call the module meanwhile, and are in evaluation
    mode then.

    Parameters
    ----------
    model : torch.nn.Module
        Called with one array as a tensor, a tuple as positional arguments, a mapping as keyword arguments. Of a
        compiled module, and of one in `DataParallel`, the module itself is read: its weights are the same.
    device : str or torch.device, optional
        Where inputs go; by default where the first parameter is.

    Raises
    ------
    TypeError
        If it is no module, or is scripted: hooks within a scripted module are not called.
    """

    def __init__(self, model: torch.nn.Module, *, device: Any = None) -> None:
        if not is_torch_module(model):
            raise InvalidTypeError(f"expected a PyTorch module, got {type(model).__name__}")
        import torch

        model = getattr(model, "_orig_mod", model)  # of a compiled module
        if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            model = model.module
        if isinstance(model, torch.jit.ScriptModule):
            raise InvalidTypeError(
                "a scripted module calls no hooks within itself, so that its values cannot be read: give the module "
                "that it was made of, or an ONNX file"
            )
        self.model = model
        self.name = type(model).__name__
        self.device = device
        self.modules: dict[str, Any] = {name: module for name, module in model.named_modules() if name}
        self._readers: dict[tuple[str, ...], Passes] = {}
        self._warned: set[str] = set()
        self._axes: dict[tuple[str, int], int] = {}  # of channels, by name and rank
        self._last: tuple[tuple[str, ...], tuple[str, ...], list[np.ndarray]] = (), (), []  # of what was read

    def layer_names(self) -> tuple[str, ...]:  # noqa: D102 (the base says it, as for those below)
        return tuple(self.modules) or (_OUTPUT,)

    def input_names(self) -> tuple[str, ...] | None:
        """List what ``forward`` takes; None where it takes something by choice, as it does of Hugging Face's models."""
        taken = inspect.signature(self.model.forward).parameters.values()
        if any(one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in taken):
            return None
        return tuple(one.name for one in taken)

    def computing(self) -> tuple[str, ...]:
        """List the modules that have no module within them, and compute something."""
        found = [
            name
            for name, module in self.modules.items()
            if not next(module.children(), None) and type(module).__name__ not in _PASSING
        ]
        return tuple(found) or self.layer_names()

    def find_one(self, which: Any) -> list[str]:  # noqa: D102
        if which in (_OUTPUT, _LOGITS) or (isinstance(which, str) and _base(which) in self.modules):
            return [which]
        return super().find_one(which)

    def check(self, inputs: Any) -> Any:
        """Take arrays or tensors: floats of the module's type, integers as they are."""
        if isinstance(inputs, tuple):
            inputs = {str(n): one for n, one in enumerate(inputs)}
        if isinstance(inputs, Mapping):
            arrays = {name: self._array(one) for name, one in inputs.items()}
            check_counts(arrays)
            return arrays
        return self._array(inputs)

    def read(self, inputs: Any, names: Sequence[str]) -> dict[str, np.ndarray]:  # noqa: D102
        keys = tuple(inputs) if isinstance(inputs, Mapping) else ()
        if (key := (*names, "", *keys)) not in self._readers:
            self._readers[key] = self.passes(partial(self._forward, keys, tuple(names)), names)
        self._last = keys, tuple(names), [array[:1].copy() for array in arrays_of(inputs)]
        return dict(zip(names, self._readers[key].run(arrays_of(inputs)), strict=True))

    def channel_axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Tell it by the module's kind, or from the operations of a pass: see `torch_axes.Axes`."""
        kind = type(self.modules.get(_base(name), self.model))
        is_pytorchs = kind.__module__.startswith("torch.nn.modules.")
        if len(shape) < 2 or (is_pytorchs and kind.__name__ in _CHANNELS_LAST):
            return len(shape) - 1
        if is_pytorchs and kind.__name__.startswith(_CHANNELS_FIRST):
            return 0
        if (place := (name, len(shape))) not in self._axes:
            self._axes |= self._traced(name)
        if place not in self._axes:
            raise cannot_tell_channels(name, self.name, shape)
        return self._axes[place]

    def _traced(self, name: str) -> dict[tuple[str, int], int]:
        """Tell the axes of all that the last pass read, by one more pass over its first sample."""
        import torch

        from .torch_axes import Axes, watched

        keys, names, arrays = self._last
        axes = Axes()
        tensors = [self.tensor(array) for array in arrays]
        for tensor in tensors:
            axes.see(tensor)
        try:
            with unchanged(self._states()[0]), torch.inference_mode(), watched(axes):
                caught = self.called(tensors, keys, [*{*names, name}])
        except Exception:  # what cannot be watched, whatever its error is, tells nothing
            return {}
        found = axes.found()
        known = {(key, one.dim() - 1): found.get(axes.see(one), -one.dim()) for key, one in caught.items()}
        return {(key, rank): rank + axis for (key, rank), axis in known.items() if rank + axis >= 0}

    def fingerprint(self, names: Sequence[str]) -> str | None:  # noqa: D102
        state = self.model.state_dict()
        return digest(
            "torch", *names, *map(str, state), *(to_numpy(tensor) for tensor in state.values()), *self._kinds()
        )

    def stamp(self, names: Sequence[str]) -> str | None:
        """Tell where tensors lie, how often each was written to, and the modules; None where PyTorch counts no writes.

        It does not count what is written through ``.data``, or an array over the same memory; so some values of each
        tensor are told as well. Other values alone that are written so are not noticed.
        """
        del names
        tensors = [*self.model.parameters(), *self.model.buffers()]
        if any(tensor.is_inference() for tensor in tensors):
            return None
        return str([*((tensor.data_ptr(), tensor._version, _some(tensor)) for tensor in tensors), *self._kinds()])

    def joined(self, other: Network) -> Network | None:  # noqa: D102
        same = isinstance(other, TorchNetwork) and (other.model, other.device) == (self.model, self.device)
        return self if same else None

    def output(self) -> str:  # noqa: D102
        return _OUTPUT

    def logits(self) -> str:
        """Name the output. To read it raises ValueError if it is probabilities."""
        return _LOGITS

    def backward(self, method: str, target: str, layer: Any) -> BackwardPass:  # noqa: D102
        from .torch_responses import TorchBackwardPass

        return TorchBackwardPass(self, method, target, layer)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_readers": {}, "_last": ((), (), [])}

    def _kinds(self) -> list[str]:
        """Describe each module that has none within it, as PyTorch prints it: kind and settings."""
        return [repr(module) for module in self.model.modules() if not next(module.children(), None)]

    def _array(self, values: Any) -> np.ndarray:
        array = np.asarray(to_numpy(values) if is_tensor(values) else values)
        if array.dtype.kind in "iub":
            return array
        return check_inputs(array, array.shape[1:], np.float64 if array.dtype == np.float64 else np.float32)

    def _place(self) -> tuple[Any, Any]:
        """Tell where inputs go, and in which type floats."""
        import torch

        first = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        device = self.device if self.device is not None else (first.device if first is not None else "cpu")
        return torch.device(device), torch.float32 if first is None else first.dtype

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """Put an array where inputs go, floats in the module's type."""
        import torch

        device, dtype = self._place()
        tensor = torch.from_numpy(np.array(array, order="C")).to(device)  # a copy: the module may write to it
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def called(self, tensors: Sequence[Any], keys: Sequence[str], names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Call the module, and return the tensors that have these names."""
        import torch

        caught: dict[str, list[Any]] = {_base(name): [] for name in names}
        with self._alone(), self._hooked(caught), _evaluating(self.model), torch.random.fork_rng([]):
            try:
                named = dict(zip(keys, tensors, strict=False))
                named = {} if keys[:1] == ("0",) else named
                output = self.model(**named) if named else self.model(*tensors)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                shapes = ", ".join(f"{tuple(one.shape)} {_dtype(one)}" for one in tensors)
                told = self._misfit(tensors, named) if isinstance(error, TypeError) else ""
                raise ShapeError(f"{self.name} cannot compute inputs of shape {shapes}: {error}{told}") from error
        caught |= {name: list(to_tensors(output)) for name in (_OUTPUT, _LOGITS) if name in caught}
        return {name: self._chosen(name, caught[_base(name)]) for name in names}

    def _misfit(self, tensors: Sequence[Any], named: Mapping[str, Any]) -> str:
        """Tell what ``forward`` takes, where it takes other inputs than these."""
        signature = inspect.signature(self.model.forward)
        try:
            signature.bind(**named) if named else signature.bind(*tensors)
        except TypeError:
            given = ", ".join(named) or f"{len(tensors)} by their order"
            return f"; its forward takes {', '.join(signature.parameters) or 'nothing'}, got {given}"
        return ""

    def passes(self, forward: Forward, names: Sequence[str]) -> Passes:
        """Make passes that leave the module's buffers as they were, and whose error tells these names."""
        return Passes(
            forward,
            self._states,
            [_dtype(one) for one in self.model.parameters()],
            partial(self._refusal, names),
            guard=self._alone,
        )

    def _alone(self) -> threading.RLock:
        """Return the lock of the module: its modes and buffers are those of one pass at a time."""
        with _MAKING:
            return _LOCKS.setdefault(self.model, threading.RLock())

    def _forward(self, keys: Sequence[str], names: Sequence[str], *arrays: np.ndarray) -> list[np.ndarray]:
        import torch

        with torch.inference_mode():
            found = self.called([self.tensor(array) for array in arrays], keys, names)
        n_samples = len(arrays[0])
        return [by_sample(to_numpy(found[name]), n_samples, f"{name} of {self.name}") for name in names]

    def _chosen(self, name: str, found: list[Any]) -> torch.Tensor:
        base, place = _base(name), name.removeprefix(_base(name)).removeprefix(":")
        if not found:
            raise ValueError(f"{base} of {self.name} was not called, or returned no tensor: leave it out")
        if not place and len(found) > 1 and base not in (*self._warned, _OUTPUT, _LOGITS):
            self._warned.add(base)
            warnings.warn(
                f"{base} of {self.name} gave {len(found)} tensors in a pass, of which {base}:0 is read; the others are "
                f"{base}:1 to {base}:{len(found) - 1}",
                stacklevel=2,
            )
        if (n := int(place or 0)) >= len(found):
            raise ValueError(f"{base} of {self.name} gave {len(found)} tensors in a pass, {name} is none of them")
        if name == _LOGITS and are_probabilities(to_numpy(found[n])):
            raise ValueError(
                f"the outputs of {self.name} are probabilities, from which logits cannot be told exactly: leave out "
                "its softmax"
            )
        return found[n]

    @contextmanager
    def _hooked(self, caught: Mapping[str, list[Any]]) -> Iterator[None]:
        """Have what modules return put into lists, by their names."""
        own = threading.get_ident()

        def hook(into: list[Any]) -> Any:
            def catch(_module: Any, _given: Any, returned: Any) -> None:
                if threading.get_ident() == own:  # others may call the module too
                    # A module after it may work in place, as nn.ReLU(inplace=True).
                    into.extend(one.clone() for one in to_tensors(returned))

            return catch

        handles = [
            self.modules[name].register_forward_hook(hook(into))
            for name, into in caught.items()
            if name not in (_OUTPUT, _LOGITS)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _states(self) -> tuple[list[Any], list[Any]]:
        return [_Buffer(one) for one in self.model.buffers()], []

    def _refusal(
        self, names: Sequence[str], batch: Sequence[np.ndarray], comparison: Comparison, tolerance: float
    ) -> ValueError:
        del batch, tolerance
        told = ", ".join(names[n] for n in comparison.differing)
        return ValueError(
            f"the same input has other values elsewhere in a batch, beside others, in {told} of {self.name}: a value "
            "must depend on the input alone. It does not where a module draws random numbers, keeps a state, or puts "
            "the samples on another axis than the first; leave it out"
        )


class _Buffer:
    """A buffer of a module, as `Passes` wants variables."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del dtype, copy
        return to_numpy(self._tensor)

    def assign(self, value: np.ndarray) -> None:
        import torch

        with torch.no_grad():
            self._tensor.copy_(torch.from_numpy(value))


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and each module within it back into its own mode."""
    before = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in before:
            module.training = training


def is_tensor(value: Any) -> bool:
    """Tell whether this is a tensor of PyTorch, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_tensors(returned: Any) -> Iterator[Any]:
    """Yield the tensors in what a module returned."""
    if is_tensor(returned):
        yield returned
    elif isinstance(returned, Mapping):
        for one in returned.values():
            yield from to_tensors(one)
    elif isinstance(returned, tuple | list):
        for one in returned:
            yield from to_tensors(one)


def to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
        tensor = tensor.float()
    return tensor.numpy()


def _some(tensor: Any) -> bytes:
    """Take some values of a tensor, from all over it."""
    return to_numpy(tensor.detach().reshape(-1)[:: max(tensor.numel() // _SAMPLED, 1)]).tobytes()


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _base(name: str) -> str:
    base, _, place = name.rpartition(":")
    return base if base and place.isdigit() else name
