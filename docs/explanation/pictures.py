"""Draw the pictures of the pages beside this file, from scans of real images and activations; half a minute.

python docs/explanation/pictures.py
"""

from itertools import combinations
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from subsetscan import Background, SubsetScanDetector, plot, scan
from subsetscan.detectors import AutomaticDetector, SummaryDetector
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained
from subsetscan.plot import COLOURS
from subsetscan.spaces import Layers, ReconstructionError

HERE = Path(__file__).parent
IMAGE = 1020  # of the sample, as in docs/explanation.py
BLUE, RED, GREEN, PINK = COLOURS[:4]


def noisy(image):
    """Put noise on the upper half of an image."""
    changed = image.copy()
    noise = np.random.default_rng(0).normal(0, 0.15, changed[:14].shape)
    changed[:14] = np.clip(changed[:14] + noise, 0, 1)
    return changed


def scan_statistic(background, rows):
    """Draw the p-values of an image's nodes, and the score of each threshold: an image and the same with noise."""
    figure = plot.new_figure(8, 3)
    counts, scores = figure.subplots(1, 2)
    found = background.scan(rows)
    for p_values, colour, name, score, alpha in zip(
        background.p_values(rows), (BLUE, RED), ("clean image", "with noise"), found.scores, found.alphas, strict=True
    ):
        ordered = np.sort(p_values)
        last = np.append(ordered[1:] != ordered[:-1], True)  # of equal p-values
        alphas, sizes = ordered[last], np.flatnonzero(last) + 1
        seen = alphas <= 0.5
        counts.step(alphas, sizes / len(p_values), where="post", color=colour, label=name)
        scores.plot(alphas[seen], (sizes * np.log(1 / alphas))[seen], color=colour, label=name)
        scores.plot(alpha, score, "o", color=colour)
        scores.annotate(
            f"{score:.0f}", (alpha, score), xytext=(6, 2), textcoords="offset points", color=colour, fontsize=9
        )
    counts.plot([0, 1], [0, 1], ":", color="0.5", label="by chance")
    counts.set(xlabel="alpha", ylabel="share of nodes with p <= alpha", xlim=(0, 1), ylim=(0, 1))
    scores.set(xlabel="alpha", ylabel="Berk-Jones score", xlim=(0, 0.5), ylim=(0, 1.12 * found.scores.max()))
    counts.legend(fontsize=8, loc="lower right")
    plot.save(figure, HERE / "scan-statistic.png", dpi=110)


def linear_time(background, row):
    """Draw the score of every subset of twelve nodes, and of those that a scan looks at."""
    p_values = np.sort(background.p_values(row[np.newaxis])[0])[::60][:12]
    sizes, scores = [], []
    for size in range(1, len(p_values) + 1):
        for subset in combinations(range(len(p_values)), size):
            sizes.append(size)
            scores.append(size * np.log(1 / p_values[subset[-1]]))  # all of them have p <= alpha
    looked_at = np.arange(1, len(p_values) + 1) * np.log(1 / p_values)
    np.testing.assert_allclose(max(scores), scan(p_values[np.newaxis], alpha_max=1).scores[0])
    figure = plot.new_figure(6, 3)
    panel = figure.subplots()
    spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(sizes))
    panel.plot(np.array(sizes) + spread, scores, ".", color="0.7", markersize=2, label=f"all {len(scores):,} subsets")
    panel.plot(
        range(1, 13), looked_at, "o-", color=RED, markersize=5, label=f"the {len(looked_at)} that a scan looks at"
    )
    panel.set(xlabel="nodes in the subset", ylabel="Berk-Jones score", xticks=range(1, 13))
    panel.legend(fontsize=8)
    plot.save(figure, HERE / "linear-time.png", dpi=110)


def ties(background, row):
    """Draw the range of the p-value of some nodes of a ReLU layer, and which value of it is used."""
    nodes = np.random.default_rng(0).choice(background.n_nodes, 60, replace=False)
    low, high = background.p_value_ranges(row[np.newaxis])[0, nodes].T
    order = np.lexsort((low, high))
    figure = plot.new_figure(8, 2.8)
    panel = figure.subplots()
    panel.vlines(range(60), low[order], high[order], color=BLUE, linewidth=3, alpha=0.4, label="range of the p-value")
    panel.plot(high[order], "_", color=RED, markersize=6, label='"upper", the default')
    panel.plot((low + high)[order] / 2, ".", color=GREEN, markersize=4, label='"midrank"')
    panel.set(xlabel="60 nodes of a ReLU layer", ylabel="p-value", xticks=[], ylim=(0, 1.02))
    panel.legend(fontsize=8, loc="upper left")
    plot.save(figure, HERE / "ties.png", dpi=110)


def sees(clean, fresh):
    """Draw how well detectors see that some nodes of a layer are raised by two of their standard deviations."""
    rng = np.random.default_rng(0)
    detectors = {
        "automatic": (AutomaticDetector(), RED),
        "the paper's scan": (SubsetScanDetector(calibration=None), BLUE),
        'the same, scope="all"': (SubsetScanDetector(scope="all", calibration=None), GREEN),
        "mean p-value": (SummaryDetector(summary="mean-p", calibration=None), PINK),
    }
    raised = np.unique(np.geomspace(1, clean.shape[1], 12).astype(int))
    figure = plot.new_figure(6, 3.2)
    panel = figure.subplots()
    sets = []
    for size in raised:
        changed = fresh.copy()
        nodes = rng.choice(clean.shape[1], size, replace=False)
        changed[:, nodes] += 2 * clean.std(axis=0)[nodes]
        sets.append(changed)
    for name, (detector, colour) in detectors.items():
        usual = detector.fit(clean).anomaly_score(fresh)
        areas = [roc_auc_score(np.repeat([0, 1], len(fresh)), [*usual, *detector.anomaly_score(own)]) for own in sets]
        print(name, np.round(areas, 3))
        panel.plot(raised, areas, "o-", color=colour, markersize=4, label=name)
    panel.axhline(0.5, color="0.5", linestyle=":")
    panel.set(xscale="log", xlabel=f"raised nodes, of {clean.shape[1]:,}", ylabel="AUROC", ylim=(0.45, 1.02))
    panel.legend(fontsize=8)
    plot.save(figure, HERE / "sees.png", dpi=110)


def main():
    images, _ = load_sample()
    error = ReconstructionError(load_pretrained("autoencoder"))
    background = Background(error.transform(images[:1000])["reconstruction_error"])
    rows = error.transform(np.stack([images[IMAGE], noisy(images[IMAGE])]))["reconstruction_error"]
    scan_statistic(background, rows)
    linear_time(background, rows[1])
    layer = Layers(load_pretrained("classifier"), ["max_pooling2d_2"])
    values = layer.transform(images)["max_pooling2d_2"]
    ties(Background(values[:1000]), values[IMAGE])
    sees(values[:1000], values[1000:1300])


if __name__ == "__main__":
    main()
