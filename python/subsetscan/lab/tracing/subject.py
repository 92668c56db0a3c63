"""Whose images are attacked: a dataset's classifier, or a model and a folder of images of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..._files import atomic_write
from .. import datasets, networks
from ..array_files import check_in_unit, load_labels, open_images
from ..attacks import predicted
from ..experiment.images import PAPER_SPLIT, SMALL_SPLIT, Images, Split
from ..preprocessing import with_preprocessing
from ..result_cache import ResultCache, fingerprint_of_model

if TYPE_CHECKING:
    import keras

__all__ = ["Subject", "of_dataset", "of_model"]

# Half of them are background, and a quarter of those calibrate: 20, for thresholds at 5 % false positives.
_FEWEST = 160


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier and its images.

    Attributes
    ----------
    name : str
        A dataset's, or that of the model's file, with its ending, so that no model is taken for a dataset.
    classifier : Path
        Keras model file.
    images : Images
    cache_folder : str
        The folder of what is kept of it, which no other subject has.
    autoencoder : Path or None
        Keras model file of the autoencoder that the recommended preset takes; there are such for the datasets only.
    safe_mode : bool
        As for `subsetscan.lab.networks.load_model`.
    """

    name: str
    classifier: Path
    images: Images
    cache_folder: str
    autoencoder: Path | None = None
    safe_mode: bool = True

    def load_classifier(self) -> keras.Model:
        """Open the classifier."""
        return networks.load_model(self.classifier, self.safe_mode)


def of_dataset(name: str, networks_folder: Path, data: Path | None, *, quick: bool) -> Subject:
    """Take a dataset's test images, split as in the paper's experiments, and its classifier.

    Raises
    ------
    FileNotFoundError
        If the dataset or the classifier cannot be found.
    """
    file = networks.file_name("classifier", name)
    if (classifier := networks.find(file, networks_folder)) is None:
        raise FileNotFoundError(
            f"there is no {file} in {networks_folder}: `subsetscan train --network classifier --dataset {name} "
            f"--out {networks_folder}` makes it"
        )
    images = Images.shared_out(*datasets.load_from(data, name), SMALL_SPLIT if quick else PAPER_SPLIT)
    autoencoder = networks.find(networks.file_name("autoencoder", name), networks_folder)
    return Subject(name, classifier, images, cache_folder=name, autoencoder=autoencoder)


def of_model(
    model: Path, pictures: Path, labels: Path | None, preprocessing: str, cache: ResultCache, *, safe_mode: bool = True
) -> Subject:
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
    cache : ResultCache
        Where the model is kept with that before it.
    safe_mode : bool
        As for `subsetscan.lab.networks.load_model`.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read, or there are too few images, or they do not fit, or leave [0, 1].
    """
    network = with_preprocessing(networks.load_model(model, safe_mode), preprocessing)
    shape = tuple(network.inputs[0].shape[1:])
    opened = open_images(pictures, shape)
    if len(opened) < _FEWEST:
        raise ValueError(f"at least {_FEWEST} images are needed, {pictures} has {len(opened)}")
    images = np.asarray(opened[:], dtype=np.float32)
    check_in_unit(images, pictures)
    truth = predicted(network, images) if labels is None else load_labels(labels, len(images), network.output_shape[1])
    cache_folder = f"models/{model.stem}-{fingerprint_of_model(network)[:16]}"
    classifier = model
    if preprocessing != "none":
        classifier = cache.folder / cache_folder / "classifier.keras"
        classifier.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(classifier) as temporary:
            network.save(temporary)
    n = len(images)
    order = np.random.default_rng(0).permutation(n)
    shared_out = Images.shared_out(images[order], truth[order], Split(n // 2, 3 * n // 4, n))
    return Subject(model.name, classifier, shared_out, cache_folder, safe_mode=safe_mode)
