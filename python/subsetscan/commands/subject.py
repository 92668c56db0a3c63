"""What is scanned: spaces of a network, whose inputs come from files, or activations that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..input_checks import check_finite
from ..inputs import PictureFolder, as_inputs
from ..inputs.base import SizedInputs
from ..inputs.pictures import is_channels_first, is_pictures
from ..networks import KerasNetwork, Network
from ..shards import Extracted, is_extracted, read_extracted
from ..spaces import Arrays, Layers, ReconstructionError, Space
from ..spaces.automatic import WIDEST
from .activations import read_activations
from .arrays import ARRAY_FILES, check_rows, read_arrays
from .memory import check_memory, show_shapes
from .network_files import open_network

__all__ = ["Subject", "check_there"]


@dataclass(frozen=True)
class Subject:
    """What is scanned.

    Attributes
    ----------
    spaces : list of Space
    options : dict
        What makes the same spaces again, with the model: see `of`.
    open : callable
        From the path of a file or folder to its inputs, or its activations; pictures are not yet read.
    extracted : Extracted, optional
        The background's activations, where `subsetscan merge` wrote them.
    """

    spaces: list[Space]
    options: dict[str, Any]
    open: Callable[[Path], SizedInputs]
    extracted: Extracted | None = None

    @classmethod
    def of(cls, model: Path | None, options: Mapping[str, Any], unsafe_model: bool = False) -> Subject:
        """Take a network's layers and reconstruction error, or activations.

        Parameters
        ----------
        model : Path or None
            File of a network.
        options : mapping
            With a model "layers" and "reconstruction_error", as the command line has them, and "automatic": whether
            wide layers are averaged, and layers that compute nothing are left out of all. Without one "arrays": the
            shapes of the activations by their names, and "columns": the names of the nodes, or None.
        unsafe_model : bool
            Whether to run the code that the model file holds.

        Raises
        ------
        OSError, ValueError
            If the model cannot be read, or does not have such layers or such an error; if the options are for a model
            and there is none, or the other way around.
        """
        if "arrays" in options:
            if model is not None:
                raise ValueError(f"this was fitted on activations, without a model: leave out --model {model}")
            space = Arrays(options["arrays"])
            return cls([space], dict(options), partial(_stacked, space, options["columns"]))
        if model is None:
            raise ValueError("layers and reconstruction errors need a model: name it with --model")
        network = open_network(model, unsafe_model)
        layers, error = options["layers"], options["reconstruction_error"]
        spaces: list[Space] = []
        if layers is not None or error is None:
            names = _layers_of(network, layers, options["automatic"])
            spaces.append(Layers(network, names, pool_above=WIDEST if options["automatic"] else None))
        if error is not None:
            spaces.append(ReconstructionError(network, error))
        return cls(spaces, dict(options), partial(_inputs_of, network))

    @classmethod
    def to_fit(
        cls,
        model: Path | None,
        background: Path,
        layers: str | None,
        reconstruction_error: str | None,
        unsafe_model: bool = False,
        automatic: bool = False,
    ) -> Subject:
        """Take a network's layers and reconstruction error, or the background's activations where no model is named.

        Raises
        ------
        OSError, ValueError
            As for `of`.
        """
        options = {"layers": layers, "reconstruction_error": reconstruction_error, "automatic": automatic}
        if model is not None and is_extracted(background):
            return cls._of_extracted(model, background, options, unsafe_model)
        if model is not None or layers is not None or reconstruction_error is not None:
            return cls.of(model, options, unsafe_model)
        found = read_activations(background)
        shapes = {name: array.shape[1:] for name, array in found.arrays.items()}
        return cls.of(None, {"arrays": shapes, "columns": found.columns})

    @classmethod
    def _of_extracted(cls, model: Path, background: Path, options: Mapping[str, Any], unsafe_model: bool) -> Subject:
        """Take the spaces whose activations were extracted. Raises ValueError if others are asked for."""
        extracted = read_extracted(background)
        own = dict(extracted.about["spaces"])
        for name in ("layers", "reconstruction_error"):
            if options[name] is not None and options[name] != own[name]:
                raise ValueError(
                    f"{background} holds activations of {name.replace('_', ' ')} {own[name]!r}, not of "
                    f"{options[name]!r}: leave the option out, or extract anew"
                )
        return replace(cls.of(model, own, unsafe_model), extracted=extracted)

    def load(self, path: Path) -> SizedInputs:
        """Load inputs or activations. Raises OSError or ValueError if they cannot be read or do not fit."""
        return _read(self.open(path))

    def load_background(self, path: Path, **sizes: int) -> SizedInputs:
        """Load the inputs to fit on. Raises MemoryError if what is made of their node values would not fit in memory.

        `sizes` are those of `check_memory`, by default what a scan takes.
        """
        inputs = self.open(path)
        show_shapes(self.spaces, inputs)
        check_memory(self.spaces, len(inputs), **sizes)  # before pictures are read
        return _read(inputs)


def _layers_of(network: Network, layers: str | None, automatic: bool) -> str | Sequence[str]:
    """Read names of layers, or choose some where none are named."""
    if layers is not None:
        return [name.strip() for name in layers.split(",")]
    # The paper scans all layers. Many tensors of an ONNX graph belong to none.
    return "all" if isinstance(network, KerasNetwork) and not automatic else network.computing()


def _sized(arrays: Any) -> SizedInputs:
    return as_inputs(arrays).collected()


def _read(inputs: SizedInputs) -> SizedInputs:
    """Read pictures; the array of an .npy file stays mapped."""
    return _sized(inputs[:])


def _inputs_of(network: Network, path: Path) -> SizedInputs:
    """Open inputs of a network. Raises OSError or ValueError for files that cannot be, or hold other inputs."""
    if is_pictures(path):
        return _sized(_pictures(network, path))
    if path.suffix.lower() not in ARRAY_FILES:
        raise ValueError(
            f"inputs of a network are read from {', '.join(ARRAY_FILES)} files, and from folders of PNG and JPEG "
            f"files, got {path}"
        )
    names = network.input_names() or ()
    given = f"{network.name} takes {', '.join(names)}"
    if path.suffix.lower() == ".npy" and len(names) > 1:
        raise ValueError(f"{given}: give an .npz or .safetensors file, with an array for each, got {path}")
    arrays = read_arrays(path, names[0] if names else "inputs")
    check_rows(arrays, path, "(n, ...)", fewest_axes=1)
    if names and set(arrays) != set(names):
        raise ValueError(f"{given}: {path} must hold an array for each, by its name, and has {', '.join(arrays)}")
    if len(arrays) == 1:
        return _sized(next(iter(arrays.values())))
    for array in arrays.values():
        if array.dtype.kind == "f":
            check_finite(array)
    return _sized(arrays)


def _pictures(network: Network, path: Path) -> PictureFolder:
    """Open pictures as a network takes images: with channels first or last, as its shape tells."""
    shape = network.input_shape()
    if shape is None:
        raise ValueError(
            f"the pictures of {path} are brought to the size that the network takes, but {network.name} tells none, or "
            "takes several inputs: give it an .npy or .npz file"
        )
    pictures = PictureFolder(path, shape)
    if len(shape) == 3 and is_channels_first(pictures.image_shape) is None:
        raise ValueError(
            f"{network.name} takes {shape}, which does not tell whether the channels of a picture come first or last: "
            f"give an .npy file instead of {path}"
        )
    try:
        network.check(np.full((1, *pictures.image_shape), 0.5, np.float32))
    except ValueError as error:
        raise ValueError(
            f"the pictures of {path} are read as pixels in [0, 1], which {network.name} does not take ({error}): give "
            "an .npy file"
        ) from error
    return pictures


def _stacked(space: Arrays, columns: list[str] | None, path: Path) -> SizedInputs:
    arrays = read_activations(path).in_order_of(columns, path)
    try:
        return _sized(space.stack(arrays))
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from None


def check_there(*paths: Path | None) -> None:
    """Refuse files and folders that are not there, before a model is started. Raises FileNotFoundError."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"no file or folder of inputs at {path}")
