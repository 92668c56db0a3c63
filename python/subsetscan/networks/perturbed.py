"""A classifier whose inputs are perturbed before it reads them: a step that makes its own answer more certain."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._digest import digest
from .._validation import InvalidTypeError
from .base import Network
from .wrap import as_network

__all__ = ["PerturbedNetwork"]


class PerturbedNetwork(Network):
    """A classifier that perturbs each input before it is read: by a small step along the gradient of its own answer.

    The step is x + magnitude * sign(d log(p) / dx), with p the largest probability under a temperature. It makes the
    classifier more certain, and of clean inputs more than of others, whose activations then lie further apart.

    Parameters
    ----------
    model : keras.Model, torch.nn.Module, KerasNetwork or TorchNetwork
        A classifier that `subsetscan.spaces.FeatureResponse` takes.
    magnitude : float, default 0.002
        How far each value moves, in the inputs' units. What suits is found by trying: see the references.
    temperature : float, default 1000.0
        What logits are divided by. A high one looks at how all classes differ from the largest.
    clip : (float, float), optional
        The smallest and the largest value that an input may have.

    Raises
    ------
    TypeError
        If the model computes no gradients.
    ValueError
        If an option is out of its range, or the model is no classifier.

    References
    ----------
    S. Liang, Y. Li, R. Srikant, Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks,
    2018, arXiv:1706.02690, whose perturbation it is. H. Kim et al., Out-of-Distribution Detection in Dermatology using
    Input Perturbation and Subset Scanning, 2021, arXiv:2105.11160, where a scan follows it.

    Examples
    --------
    >>> import keras
    >>> from subsetscan.spaces import Layers
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="first"),
    ...                           keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> Layers(PerturbedNetwork(model), ["first"]).node_shapes
    {'first': (6, 6, 4)}
    """

    def __init__(
        self,
        model: Any,
        *,
        magnitude: float = 0.002,
        temperature: float = 1000.0,
        clip: tuple[float, float] | None = None,
    ) -> None:
        for name, value in (("magnitude", magnitude), ("temperature", temperature)):
            if not _is_number(value) or not 0 < value < np.inf:
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        if clip is not None:
            ends = list(clip) if isinstance(clip, Sequence | np.ndarray) else []
            if not (len(ends) == 2 and all(map(_is_number, ends)) and ends[0] < ends[1]):
                raise ValueError(f"clip must be two numbers, the smallest and the largest value, got {clip!r}")
        self.network = as_network(model)
        self.name = self.network.name
        self.batch_size = self.network.batch_size
        self.magnitude = float(magnitude)
        self.temperature = float(temperature)
        self.clip = None if clip is None else (float(clip[0]), float(clip[1]))
        self._backward = self.network.backward("gradient", "log-probability", None)
        self._backward.temperature = self.temperature

    def perturbed(self, inputs: Any) -> np.ndarray:
        """Perturb inputs.

        Parameters
        ----------
        inputs : ndarray of shape (N, ...)
            As `check` returned them.

        Returns
        -------
        ndarray of the same shape, of the type that the model computes in
        """
        if not isinstance(inputs, np.ndarray):
            raise InvalidTypeError(f"expected one array of inputs to perturb, got {type(inputs).__name__}")
        images = inputs.astype(self._backward.dtype, copy=False)
        if not len(images):
            return images
        (gradients,) = self._backward.passes().run([images, np.zeros(len(images), np.int64)])
        moved = images + np.sign(gradients) * images.dtype.type(self.magnitude)
        return moved if self.clip is None else moved.clip(*self.clip)

    def read(self, inputs: Any, names: Sequence[str]) -> dict[str, np.ndarray]:  # noqa: D102 (as those below)
        return self.network.read(self.network.check(self.perturbed(inputs)), names)

    def fingerprint(self, names: Sequence[str]) -> str | None:  # noqa: D102
        own = self.network.fingerprint([*names, self.network.logits()])
        return None if own is None else digest(own, str((self.magnitude, self.temperature, self.clip)))

    def stamp(self, names: Sequence[str]) -> str | None:  # noqa: D102
        return self.network.stamp([*names, self.network.logits()])

    def check(self, inputs: Any) -> Any:  # noqa: D102
        return self.network.check(inputs)

    def layer_names(self) -> tuple[str, ...]:  # noqa: D102
        return self.network.layer_names()

    def aliases(self) -> tuple[str, ...]:  # noqa: D102
        return self.network.aliases()

    def input_names(self) -> tuple[str, ...] | None:  # noqa: D102
        return self.network.input_names()

    def find_one(self, which: Any) -> list[str]:  # noqa: D102
        return self.network.find_one(which)

    def computing(self) -> tuple[str, ...]:  # noqa: D102
        return self.network.computing()

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return self.network.shapes(names)

    def channel_axis(self, name: str, shape: tuple[int, ...]) -> int | None:  # noqa: D102
        return self.network.channel_axis(name, shape)

    def input_shape(self) -> tuple[int | None, ...] | None:  # noqa: D102
        return self.network.input_shape()

    def output(self) -> str:  # noqa: D102
        return self.network.output()

    def logits(self) -> str:  # noqa: D102
        return self.network.logits()


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
