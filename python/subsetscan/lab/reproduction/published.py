"""What the paper reports: Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder."""

from __future__ import annotations

__all__ = ["ACCURACY", "COLUMNS", "TABLE_1", "TABLE_2", "TEST_LOSS"]

# Section 5: test accuracy of the classifiers, test reconstruction error of the autoencoders.
ACCURACY = {"fashion-mnist": 0.921, "mnist": 0.992}
TEST_LOSS = {"fashion-mnist": 0.284, "mnist": 0.095}

# Columns: dataset, share of poisoned training images, attack.
COLUMNS = (
    ("fashion-mnist", 0.0, "bim"),
    ("fashion-mnist", 0.0, "fgsm"),
    ("fashion-mnist", 0.0, "deepfool"),
    ("mnist", 0.0, "bim"),
    ("mnist", 0.0, "fgsm"),
    ("mnist", 0.0, "deepfool"),
    ("fashion-mnist", 0.01, "bim"),
    ("fashion-mnist", 0.09, "bim"),
)

# Table 1: detection power (AUROC) of the Berk-Jones scan, layer by layer.
_TABLE_1 = {
    "conv2d_1": (0.964, 0.974, 0.965, 1.0, 1.0, 0.999, 0.909, 0.823),
    "max_pooling2d_1": (0.972, 0.979, 0.965, 1.0, 1.0, 0.999, 0.928, 0.850),
    "conv2d_2": (0.519, 0.530, 0.686, 0.975, 0.941, 0.953, 0.441, 0.700),
    "max_pooling2d_2": (0.500, 0.513, 0.634, 0.855, 0.809, 0.837, 0.424, 0.693),
    "conv2d_3": (0.500, 0.507, 0.481, 0.382, 0.384, 0.443, 0.470, 0.469),
    "max_pooling2d_3": (0.473, 0.478, 0.479, 0.374, 0.373, 0.423, 0.451, 0.450),
    "conv2d_4": (0.403, 0.406, 0.483, 0.270, 0.271, 0.261, 0.472, 0.410),
    "up_sampling2d_1": (0.403, 0.406, 0.483, 0.270, 0.271, 0.261, 0.472, 0.410),
    "conv2d_5": (0.413, 0.419, 0.474, 0.228, 0.228, 0.193, 0.356, 0.388),
    "up_sampling2d_2": (0.413, 0.419, 0.474, 0.228, 0.228, 0.193, 0.346, 0.388),
    "conv2d_6": (0.342, 0.350, 0.483, 0.259, 0.261, 0.285, 0.306, 0.323),
    "up_sampling2d_3": (0.342, 0.350, 0.483, 0.259, 0.261, 0.285, 0.306, 0.323),
    "conv2d_7": (0.594, 0.597, 0.506, 0.693, 0.688, 0.848, 0.613, 0.603),
}

# (layer, dataset, share of poisoned images, attack) -> AUROC
TABLE_1 = {
    (layer, *column): value for layer, values in _TABLE_1.items() for column, value in zip(COLUMNS, values, strict=True)
}

# Table 2: (dataset, attack) -> AUROC of the scan over the reconstruction error, its mean, and a one-class SVM over it.
_TABLE_2_DETECTORS = ("scan", "mean", "one-class SVM")
_TABLE_2 = {
    ("fashion-mnist", "bim"): (0.698, 0.641, 0.478),
    ("fashion-mnist", "fgsm"): (0.672, 0.630, 0.497),
    ("fashion-mnist", "deepfool"): (0.599, 0.477, 0.534),
    ("mnist", "bim"): (0.998, 0.751, 0.624),
    ("mnist", "fgsm"): (0.983, 0.725, 0.624),
    ("mnist", "deepfool"): (0.992, 0.574, 0.637),
}
TABLE_2 = {
    (detector, *row): value
    for row, values in _TABLE_2.items()
    for detector, value in zip(_TABLE_2_DETECTORS, values, strict=True)
}
