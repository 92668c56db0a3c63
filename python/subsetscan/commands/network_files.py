"""Networks from files: ONNX and Keras. Nothing in a file is executed, unless that is asked for."""

from __future__ import annotations

from pathlib import Path

from ..lab.networks import load_model
from ..networks import KerasNetwork, Network, OnnxNetwork
from .options import start_keras

__all__ = ["open_network"]

_KERAS = (".keras", ".h5", ".hdf5")
_ONNX = (".onnx", ".ort")
# Pickles; and .pt2, an archive whose parts torch.export.load unpickles where they are not weights alone.
_TORCH = (".pt", ".pth", ".pt2", ".ckpt", ".bin")


def open_network(path: Path, unsafe_model: bool = False) -> Network:
    """Open the network of a file. Keras is started only for files of its own.

    Parameters
    ----------
    path : Path
        ``.onnx``, ``.keras`` or ``.h5``.
    unsafe_model : bool
        Whether to run the code that a Keras file holds.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is of another kind, or damaged; the message says what can be done.
    ModuleNotFoundError
        If what reads it is not installed.
    """
    if not path.exists():
        raise FileNotFoundError(f"no model file at {path}")
    suffix = path.suffix.lower()
    if suffix in _ONNX:
        return OnnxNetwork(path)
    if suffix in _TORCH:
        raise ValueError(
            f"cannot open {path}: by its name it is a file of PyTorch, and reading one may run code that it holds; "
            f"export the module, torch.onnx.export(module.eval(), (inputs,), 'model.onnx'), and give --model model.onnx"
        )
    if suffix not in _KERAS and not path.is_dir():
        raise ValueError(f"cannot open {path}: networks are read from .onnx files, and from .keras and .h5 files")
    start_keras(unsafe_model)
    return KerasNetwork(load_model(path, not unsafe_model))
