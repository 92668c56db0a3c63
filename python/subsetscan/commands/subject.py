"""What is scanned: the spaces of a model, whose images come from files, or activations that were computed elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..inputs.pictures import PictureFolder, is_pictures
from ..lab.array_files import load_images
from ..lab.networks import load_model
from ..lab.options import names_in
from ..spaces import Arrays, KerasLayers, ReconstructionError, Space
from ..spaces.automatic import WIDEST, as_spaces
from .activations import read_activations
from .memory import AUTOMATIC, check_memory
from .options import start_keras

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
        From the path of a file or folder to its images, or its activations.
    """

    spaces: list[Space]
    options: dict[str, Any]
    open: Callable[[Path], np.ndarray | PictureFolder]

    @classmethod
    def of(cls, model: Path | None, options: Mapping[str, Any], unsafe_model: bool = False) -> Subject:
        """Take a model's layers and reconstruction error, or activations.

        Parameters
        ----------
        model : Path or None
            Keras model file.
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
        start_keras(unsafe_model)
        network = load_model(model, not unsafe_model)
        layers, error = options["layers"], options["reconstruction_error"]
        spaces: list[Space] = []
        if layers is not None or error is None:
            names = names_in("all" if layers is None else layers, ["all", *(layer.name for layer in network.layers)])
            if options["automatic"] and layers is None:
                spaces += as_spaces(network)
            else:
                widest = WIDEST if options["automatic"] else None
                spaces.append(KerasLayers(network, "all" if names == ["all"] else names, pool_above=widest))
        if error is not None:
            spaces.append(ReconstructionError(network, error))
        shape = tuple(network.inputs[0].shape[1:])
        return cls(
            spaces, dict(options), lambda path: PictureFolder(path, shape) if is_pictures(path) else load_images(path)
        )

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
        """Take a model's layers and reconstruction error, or the activations of the background where no model is named.

        Raises
        ------
        OSError, ValueError
            As for `of`.
        """
        if model is not None or layers is not None or reconstruction_error is not None:
            options = {"layers": layers, "reconstruction_error": reconstruction_error, "automatic": automatic}
            return cls.of(model, options, unsafe_model)
        found = read_activations(background)
        shapes = {name: array.shape[1:] for name, array in found.arrays.items()}
        return cls.of(None, {"arrays": shapes, "columns": found.columns})

    def load(self, path: Path) -> np.ndarray:
        """Load images or activations. Raises OSError or ValueError if they cannot be read or do not fit."""
        images = self.open(path)
        return images[:] if isinstance(images, PictureFolder) else images

    def load_background(self, path: Path, whole: bool = False) -> np.ndarray:
        """Load the images to fit on. Raises MemoryError if what is made of their node values would not fit in memory.

        `whole` tells that the automatic detector is fitted, which needs a space's values all at once.
        """
        images = self.open(path)
        check_memory(self.spaces, len(images), **(AUTOMATIC if whole else {}))  # before pictures are read
        return images[:] if isinstance(images, PictureFolder) else images


def _stacked(space: Arrays, columns: list[str] | None, path: Path) -> np.ndarray:
    arrays = read_activations(path).in_order_of(columns, path)
    try:
        return space.stack(arrays)
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from None


def check_there(*paths: Path | None) -> None:
    """Refuse files and folders that are not there, before a model is started. Raises FileNotFoundError."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"no file of images at {path}")
