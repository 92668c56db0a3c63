"""Whose images are attacked: a dataset's classifier, or a model and a folder of images of the user's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import datasets, networks
from ..kept import Kept
from ..pictures import open_images
from ..preprocessing import with_preprocessing
from ..reproduction.images import Images
from ..reproduction.plan import FULL, QUICK, Size
from ..scan_files import check_in_unit, load_labels

__all__ = ["Subject", "of_dataset", "of_model"]

# Half of them are background, and a quarter of those calibrate: 20, for thresholds at 5 % false positives.
_FEWEST = 160


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier and its images.

    Attributes
    ----------
    name : str
    classifier : Path
        Keras model file.
    images : Images
    """

    name: str
    classifier: Path
    images: Images


def of_dataset(name: str, networks_folder: Path, data: Path | None, *, quick: bool) -> Subject:
    """Take a dataset's test images, split as in the paper's experiments, and its classifier.

    Raises
    ------
    FileNotFoundError
        If the dataset or the classifier is nowhere.
    """
    file = networks.file_name("classifier", name)
    if (classifier := networks.find(file, networks_folder)) is None:
        raise FileNotFoundError(
            f"there is no {file} in {networks_folder}: `subsetscan train --network classifier --dataset {name} "
            f"--out {networks_folder}` makes it"
        )
    folder = None if data is None or not (data / name).is_dir() else data / name
    return Subject(name, classifier, Images.split(*datasets.load(name, "test", folder), QUICK if quick else FULL))


def of_model(model: Path, pictures: Path, labels: Path | None, preprocessing: str, kept: Kept) -> Subject:
    """Take a user's model and images: half of them are background, a quarter stays clean, a quarter is attacked.

    Parameters
    ----------
    model : Path
        Keras model file: a classifier.
    pictures : Path
        ``.npy`` file of images in [0, 1], or folder of PNG and JPEG files. They are shuffled, by a fixed seed.
    labels : Path or None
        ``.npy`` file of their classes; what the classifier sees where there is none.
    preprocessing : str
        What the model expects of its pixels: see `with_preprocessing`.
    kept : Kept
        Where the model is kept with that before it.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read, or there are too few images, or they do not fit, or leave [0, 1].
    """
    network = with_preprocessing(networks.load_model(model), preprocessing)
    shape = tuple(network.inputs[0].shape[1:])
    opened = open_images(pictures, shape)
    if len(opened) < _FEWEST:
        raise ValueError(f"at least {_FEWEST} images are needed, {pictures} has {len(opened)}")
    images = np.asarray(opened[:], dtype=np.float32)
    check_in_unit(images, pictures)
    if labels is None:
        truth = np.asarray(network.predict(images, verbose=0)).argmax(axis=1).astype(np.int64)
    else:
        truth = load_labels(labels, len(images), network.output_shape[1])
    classifier = model
    if preprocessing != "none":
        classifier = kept.folder / model.stem / "classifier.keras"
        classifier.parent.mkdir(parents=True, exist_ok=True)
        partial = classifier.with_name("partial.keras")
        network.save(partial)
        os.replace(partial, classifier)
    n = len(images)
    order = np.random.default_rng(0).permutation(n)
    size = Size(n // 2, 3 * n // 4, n, seeds=(), poisoned=(), larger=False)
    return Subject(model.stem, classifier, Images.split(images[order], truth[order], size))
