"""The two small networks of the experiments: how they are built, where the trained ones lie, how any model opens."""

from __future__ import annotations

import logging
import os
import re
import sys
import zipfile
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .._extras import import_extra
from .datasets import DATA

if TYPE_CHECKING:
    import keras

__all__ = [
    "NETWORKS",
    "allow_code_of_models",
    "build_autoencoder",
    "build_classifier",
    "file_name",
    "find",
    "load_model",
    "load_pretrained",
    "start_keras",
]


def start_keras() -> None:
    """Import Keras and start its backend, which greets with notes on the machine that are not ours to show.

    No processes share a progress bar: the semaphore for that would stay where one of them is stopped.
    """
    tqdm.set_lock(RLock())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of every model that is compiled anew
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import_extra("keras", "all").ops.zeros(1)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def allow_code_of_models() -> None:
    """Let Keras copy models that hold code, as it does not by default.

    That holds for the rest of this process, and for files too: `load_model` then refuses none, whatever `safe_mode` is.
    Only a command that was told to trust its one model calls this.
    """
    import keras

    keras.config.enable_unsafe_deserialization()


def build_autoencoder() -> keras.Model:
    """Build the convolutional autoencoder of the paper, uncompiled: 4,385 parameters, thirteen layers.

    Returns
    -------
    keras.Model
        From images (N, 28, 28, 1) in [0, 1] to their reconstructions of the same shape.

    References
    ----------
    Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section A.4 and figure 8.
    """
    keras = import_extra("keras", "keras")
    layers = keras.layers

    def convolution(n: int, filters: int, padding: str = "same", activation: str = "relu") -> Any:
        return layers.Conv2D(filters, 3, padding=padding, activation=activation, name=f"conv2d_{n}")

    images = keras.Input((28, 28, 1), name="images")
    x = images
    for n, filters in enumerate((16, 8, 8), start=1):
        x = convolution(n, filters)(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"max_pooling2d_{n}")(x)
    # The unpadded sixth convolution takes 16 x 16 to 14 x 14, so that the last upsampling ends at 28 x 28.
    for n, (filters, padding) in enumerate(((8, "same"), (8, "same"), (16, "valid")), start=1):
        x = convolution(n + 3, filters, padding)(x)
        x = layers.UpSampling2D(2, name=f"up_sampling2d_{n}")(x)
    return keras.Model(images, convolution(7, 1, activation="sigmoid")(x), name="autoencoder")


def build_classifier() -> keras.Model:
    """Build the convolutional classifier that the attacks aim at, uncompiled.

    Returns
    -------
    keras.Model
        From images (N, 28, 28, 1) in [0, 1] to probabilities (N, 10).
    """
    keras = import_extra("keras", "keras")
    layers = keras.layers
    images = keras.Input((28, 28, 1), name="images")
    x = layers.Conv2D(32, 3, activation="relu", name="conv2d_1")(images)
    x = layers.MaxPooling2D(2, name="max_pooling2d_1")(x)
    x = layers.Conv2D(64, 3, activation="relu", name="conv2d_2")(x)
    x = layers.MaxPooling2D(2, name="max_pooling2d_2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.25, name="dropout_1")(x)
    x = layers.Dense(128, activation="relu", name="dense_1")(x)
    x = layers.Dropout(0.5, name="dropout_2")(x)
    return keras.Model(images, layers.Dense(10, activation="softmax", name="dense_2")(x), name="classifier")


NETWORKS = {"autoencoder": build_autoencoder, "classifier": build_classifier}


def file_name(network: str, dataset: str, seed: int = 0, poisoned: float = 0.0) -> str:
    """Name the file of a trained network: ``fashion-mnist-autoencoder-seed1.keras``, without the seed where it is 0."""
    parts = [dataset, network, f"seed{seed}" if seed else "", f"poisoned{100 * poisoned:g}" if poisoned else ""]
    return "-".join(filter(None, parts)) + ".keras"


def find(name: str, folder: Path | str) -> Path | None:
    """Look for the file of a trained network in a folder, then among those that travel with the package."""
    return next((path for path in (Path(folder) / name, DATA / name) if path.is_file()), None)


def load_pretrained(network: str) -> keras.Model:
    """Open a network that travels with the package, trained on the Fashion-MNIST training set.

    Parameters
    ----------
    network : {"autoencoder", "classifier"}

    Raises
    ------
    ModuleNotFoundError
        If Keras, or the backend that it works with, is not installed.
    ValueError
        If there is no such network.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; known are {', '.join(NETWORKS)}")
    return load_model(DATA / f"fashion-mnist-{network}.keras")


def load_model(path: Path | str, safe_mode: bool = True) -> keras.Model:
    """Open a Keras model file (``.keras`` or ``.h5``, Keras 2 files included) for reading its activations.

    The model is opened without its training configuration.

    Parameters
    ----------
    path : path-like
    safe_mode : bool, default True
        Whether to refuse a file that holds code, as in a Lambda layer, rather than to run it. Only for files that you
        trust: False.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If Keras cannot read it; the message says what can be done.
    ModuleNotFoundError
        If Keras, or the backend that it works with, is not installed.
    """
    keras = import_extra("keras", "keras")
    path = Path(path)
    _check_file(path)
    try:
        return keras.models.load_model(path, compile=False, safe_mode=safe_mode)
    except Exception as error:  # Keras raises nearly every type, depending on what the file holds
        if safe_mode and "safe_mode=False" in str(error):
            raise ValueError(
                f"{path} holds Python code, in a Lambda layer, say, which would run: open it with safe_mode=False "
                "(--unsafe-model) if you trust where it comes from"
            ) from error
        raise ValueError(
            f"Keras {keras.__version__} cannot open {path}: {_reason(error)} "
            "(if the file was written by another version of Keras: build the network in code, call "
            "model.load_weights(file), and save it again as .keras; custom layers must be registered with "
            "keras.saving.register_keras_serializable before loading)"
        ) from error


def _reason(error: Exception) -> str:
    """Return the line of Keras' message that says what is wrong: behind a first one on where it was found, if any."""
    lines = [line.strip() for line in re.sub("\x1b\\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].startswith("Exception encountered") else lines[0]


_FORMATS = "models are read from .keras files (zip archives) and .h5 files (HDF5) that Keras wrote"
_OTHERS = {
    "PyTorch": (".pt", ".pth", ".ckpt"),
    "ONNX": (".onnx",),
    "TensorFlow Lite": (".tflite",),
    "TensorFlow": (".pb",),
    "safetensors": (".safetensors",),
    "pickle": (".pkl", ".pickle", ".joblib"),
}


def _check_file(path: Path) -> None:
    """Refuse what Keras does not read, for which it has no name. Raises OSError or ValueError."""
    if path.is_dir():
        what = "a SavedModel of TensorFlow" if (path / "saved_model.pb").is_file() else "a folder"
        raise ValueError(f"cannot open {path}: it is {what}; {_FORMATS}; save the model with model.save('model.keras')")
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    suffix = path.suffix.lower()
    if (kind := next((kind for kind, own in _OTHERS.items() if suffix in own), None)) is not None:
        raise ValueError(f"cannot open {path}: by its name it is a file of {kind}; {_FORMATS}")
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise ValueError(f"cannot open {path}: it is empty; {_FORMATS}")
    if start.startswith(b"PK"):
        found, suffixes = "a zip archive", [".keras"]
        if not zipfile.is_zipfile(path):
            raise ValueError(f"cannot open {path}: it is a zip archive that is not complete; copy or save it again")
    elif start == b"\x89HDF\r\n\x1a\n":
        found, suffixes = "an HDF5 file", [".h5", ".hdf5"]
    else:
        raise ValueError(f"cannot open {path}: it is neither a zip archive nor an HDF5 file; {_FORMATS}")
    if path.suffix not in suffixes:
        raise ValueError(f"{path} is {found}, whose name should end in {suffixes[0]}: {_FORMATS}")
