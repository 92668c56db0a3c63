"""What a network is to the rest of the package: names of what can be read in it, and the values under these names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validation import InvalidTypeError

if TYPE_CHECKING:
    from .responses import BackwardPass

__all__ = ["Network", "cannot_tell_channels", "dotted"]

_LISTED = 60  # names in a message


class Network(ABC):
    """A network whose values inside can be read by name.

    One of your own needs no more than the two methods that are abstract here.

    Attributes
    ----------
    name : str
        What messages call it.
    batch_size : int or None
        Of how many inputs each pass must be; None: of any number.

    Examples
    --------
    >>> class Hidden(Network):
    ...     '''One hidden layer, in numpy.'''
    ...     def __init__(self, weights):
    ...         self.weights = weights
    ...     def layer_names(self):
    ...         return ("hidden",)
    ...     def read(self, inputs, names):
    ...         return {"hidden": np.maximum(inputs @ self.weights, 0)}
    >>> from subsetscan.spaces import Layers
    >>> Layers(Hidden(np.array([[1.0], [-1.0]])), "all").transform(np.array([[3.0, 1.0], [1.0, 2.0]]))
    {'hidden': array([[2.],
           [0.]], dtype=float32)}
    """

    name: str = "the network"
    batch_size: int | None = None

    @abstractmethod
    def layer_names(self) -> tuple[str, ...]:
        """List the names of what can be read, from the input on."""

    @abstractmethod
    def read(self, inputs: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Compute what has these names.

        Parameters
        ----------
        inputs : object
            N inputs, in whatever form the network takes them.
        names : sequence of str
            As `find` returned them.

        Returns
        -------
        dict of str to ndarray of shape (N, ...)
        """

    def aliases(self) -> tuple[str, ...]:
        """List further names that `find` understands."""
        return ()

    def input_names(self) -> tuple[str, ...] | None:
        """List the names of the inputs; None, the default, where they are not known."""
        return None

    def order(self, inputs: Any) -> np.ndarray | None:
        """Tell in which order inputs should pass, so that those of a pass are alike; by default as they come."""
        del inputs
        return None

    def trimmed(self, inputs: Any) -> Any:
        """Leave out what all inputs of a pass have in vain, such as padding; by default nothing."""
        return inputs

    def check(self, inputs: Any) -> Any:
        """Take inputs in the form that `read` wants. Raises ValueError or TypeError for those that do not fit."""
        return inputs

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Tell the shape of what one input has under each name, but for those whose shape a pass must show."""
        del names
        return {}

    def channel_axis(self, name: str, shape: tuple[int, ...]) -> int | None:
        """Tell which axis of that shape counts channels: by default the last; the others are positions.

        Returns
        -------
        int or None
            None: there are no channels, all axes are positions.

        Raises
        ------
        ValueError
            If it cannot be told. Only what goes by channels or positions asks for it.
        """
        del name
        return len(shape) - 1

    def fingerprint(self, names: Sequence[str]) -> str | None:
        """Digest what computes the values under these names: weights and settings. None, the default: unknown."""
        del names
        return None

    def stamp(self, names: Sequence[str]) -> str | None:
        """Tell cheaply whether the weights that these names depend on are still the same: another text where not.

        None, the default: there is no cheaper way than the `fingerprint`.
        """
        del names
        return None

    def joined(self, other: Network) -> Network | None:
        """Return a network that reads what either reads, in one pass; None where they are not the same network."""
        return self if other is self else None

    def input_shape(self) -> tuple[int | None, ...] | None:
        """Tell the shape of one input, where there is one of a known shape; by default unknown."""
        return None

    def computing(self) -> tuple[str, ...]:
        """List those names whose values are not merely those of another, in another shape; by default all."""
        return self.layer_names()

    def output(self) -> str:
        """Name the output, where there is one. Raises ValueError where there is none, or are several."""
        raise ValueError(f"{self.name} does not say which is its output")

    def backward(self, method: str, target: str, layer: Any) -> BackwardPass:
        """Make the backward pass of feature responses. Raises TypeError, as by default, where there are no gradients.

        Parameters
        ----------
        method, target : str
            As for `subsetscan.spaces.FeatureResponse`.
        layer : object
            What the target "activations" starts from; None: the last convolutional layer.
        """
        raise InvalidTypeError(
            f"{self.name} computes no gradients ({type(self).__name__}): feature responses need a Keras model or a "
            "PyTorch module, such as that which it was made of"
        )

    def logits(self) -> str:
        """Name a classifier's logits, before a softmax that it ends in. Raises ValueError if it is no classifier."""
        return self.output()

    def find(self, wanted: Any) -> tuple[str, ...]:
        """Find names.

        Parameters
        ----------
        wanted : "all", or str or iterable of str
            Names, or patterns as of files: ``"encoder.*.dense"``, with ``*`` for any text, ``?`` for one character and
            ``[ab]`` for one of some. A name goes before a pattern that looks like it. What frameworks put between the
            parts of a name, a dot or a slash, is one where nothing else is found.

        Raises
        ------
        ValueError
            If nothing has such a name, or nothing is asked for; the message lists what there is.
        TypeError
            If a name is no text.
        """
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(wanted, Iterable):
            raise InvalidTypeError(f'layers must be "all", or names or patterns of them, got {wanted!r}')
        found: list[str] = []
        for one in wanted:
            found += self.layer_names() if isinstance(one, str) and one == "all" else self.find_one(one)
        if not found:
            raise ValueError("no layers requested: name at least one, or all of them")
        return tuple(dict.fromkeys(found))

    def find_one(self, which: Any) -> list[str]:
        """Find what has one name, or matches one pattern."""
        if not isinstance(which, str):
            raise InvalidTypeError(f"a layer must be named by text, got {which!r}")
        names = self.layer_names()
        found = [which] if which in names else [name for name in names if fnmatchcase(name, which)]
        found = found or [name for name in names if fnmatchcase(dotted(name), dotted(which))]
        if not found:
            raise self.no_such(which)
        return found

    def no_such(self, which: Any, hint: str = "") -> ValueError:
        """Make the error for a name that nothing has."""
        names = self.layer_names()
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        listed = ", ".join(names[:_LISTED]) + more
        return ValueError(f"{self.name} has no layer {which!r}{hint}; it has {len(names)} layers: {listed}")


def cannot_tell_channels(name: str, network: str, shape: tuple[int, ...]) -> ValueError:
    """Make the error of `Network.channel_axis` where operations do not tell it."""
    return ValueError(
        f"{name} of {network} has the shape {shape} for an input, and its operations do not tell which axis counts "
        "channels: read each value as a node, without pool, unit and pool_above, pool over tokens, or choose another "
        "layer; SequenceScanner is told by channel_axis, all else by a subclass of the network"
    )


def dotted(name: str) -> str:
    """Write a name with dots between its parts: "/encoder/dense" and "encoder.dense" name one layer."""
    return name.replace("/", ".").strip(".")
