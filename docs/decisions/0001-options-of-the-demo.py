"""Compare scan options on attacked images of the training set; prints the table of the note beside this file."""

import itertools

import numpy as np

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.lab.attacks import attack
from subsetscan.lab.datasets import load
from subsetscan.lab.networks import load_pretrained
from subsetscan.measures import area
from subsetscan.spaces import KerasLayers, ReconstructionError

images, labels = load("fashion-mnist", "train")
shuffled = np.random.default_rng(0).permutation(len(images))
background, clean, targets, _ = np.split(shuffled, np.cumsum([1000, 1000, 1500]))
attacked = attack(load_pretrained("classifier"), images[targets], labels[targets], "fgsm", eps=0.01).images
autoencoder = load_pretrained("autoencoder")
spaces = [
    KerasLayers(autoencoder, ["conv2d_1", "max_pooling2d_1"]),
    ReconstructionError(autoencoder, "absolute", name="absolute error"),
    ReconstructionError(autoencoder, "binary-crossentropy", name="cross-entropy"),
]
names = [name for space in spaces for name in space.names]
print(f"{len(attacked)} successful attacks; AUROC against 1,000 clean images\n")
print("| scope | statistic | tail |", " | ".join(names), "|")
print("|---" * (3 + len(names)) + "|")
for scope, statistic, tail in itertools.product(
    ("subset", "all"),
    ("berk-jones", "higher-criticism", "kolmogorov-smirnov"),
    ("upper", "lower", "two-sided"),
):
    detector = SubsetScanDetector(scope=scope, statistic=statistic, tail=tail, calibration=None)
    scanner = ModelScanner(spaces, detector).fit(images[background])
    scores = [scanner.scan(pictures) for pictures in (images[clean], attacked)]
    row = [f"{area(*(found[name].scores for found in scores)):.3f}" for name in names]
    print(f"| {scope} | {statistic} | {tail} | {' | '.join(row)} |", flush=True)
