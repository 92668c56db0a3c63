"""Which tail tells attacked images from clean ones? Every layer, both datasets, on images that stay in [0, 1].

    python docs/studies/tails.py --mnist FOLDER      # the folder with MNIST's four IDX files; a quarter of an hour

writes tails.csv and tails.md.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from tqdm import tqdm

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.detectors import CombinedDetector
from subsetscan.lab.attacks import attack
from subsetscan.lab.datasets import DATA, load
from subsetscan.lab.evaluation import auroc
from subsetscan.lab.networks import load_model
from subsetscan.spaces import KerasLayers, ReconstructionError
from subsetscan.tails import choose_tails

HERE = Path(__file__).parent
NETWORKS = {"fashion-mnist": DATA, "mnist": HERE.parent.parent / "networks"}
# Attacks that succeed often enough; MNIST's classifier resists smaller ones.
ATTACKS = {
    "fashion-mnist": [("bim", 0.01), ("fgsm", 0.03)],
    "mnist": [("fgsm", 0.1), ("bim", 0.05)],
}
STATISTICS = ("berk-jones", "higher-criticism")
TAILS = ("upper", "lower", "two-sided", "combined")
COMBINATIONS = ("min", "fisher", "cauchy")
NOISE = 0.01
TEXT = """\
# Which tail tells attacked images from clean ones?

Written by `python docs/studies/tails.py --mnist FOLDER`; every number, and the share of attacked images that is flagged
at 5 % false positives, is in [tails.csv](tails.csv).

AUROC [95 %] of the calibrated p-values. Protocol valid: images in [0, 1], originals classified correctly, the
prediction changes. 4,000 clean images to fit on, 1,500 others to tell from. *Combined*: the smaller p-value of upper
and lower tail, calibrated again. *Chosen on noise*: the tail that sees random noise of +-0.01 on clean images best; no
attacked image was looked at. *All*: every space by that tail, the p-values combined and calibrated again, or all nodes
scanned as one (joint).
"""
COLUMNS = ("dataset", "attack", "space", "statistic", "tail", "auroc", "low", "high", "flagged_at_5_percent")


def detector(statistic, tail):
    """Make the detector of a column."""
    one = SubsetScanDetector(statistic=statistic, random_state=0)
    if tail == "combined":
        both = [SubsetScanDetector(statistic=statistic, tail=tail) for tail in ("upper", "lower")]
        return CombinedDetector(both, random_state=0)
    return one.set_params(tail=tail)


def judge(clean, attacked):
    """Turn p-values of clean and of attacked images into numbers: AUROC with its interval, and who is flagged."""
    area = auroc(1 - clean, 1 - attacked)
    return [f"{x:.4f}" for x in (area.value, area.low, area.high, np.mean(attacked <= 0.05))]


def study(dataset, data):
    """Return the rows of one dataset, the tails chosen on noise, and how many attacks succeeded."""
    images, labels = load(dataset, "test", data)
    autoencoder, classifier = (
        load_model(NETWORKS[dataset] / f"{dataset}-{network}.keras") for network in ("autoencoder", "classifier")
    )
    background, clean = images[:4000], images[7000:8500]
    attacked, counts = {}, {}
    for name, eps in ATTACKS[dataset]:
        with tqdm(total=1500, desc=f"{dataset}: {name} {eps}") as bar:
            found = attack(classifier, images[8500:], labels[8500:], name, eps=eps, on_batch=bar.update)
        attacked[f"{name} {eps}"] = found.images
        counts[f"{name} {eps}"] = (len(found.images), found.n_tried)

    layers = [layer.name for layer in autoencoder.layers[1:] if not layer.name.startswith("up_sampling")]
    spaces = [KerasLayers(autoencoder, layers), ReconstructionError(autoencoder)]
    signs = np.random.default_rng(0).choice(np.float32([-NOISE, NOISE]), size=background.shape)
    noisy = np.clip(background + signs, 0, 1)
    rows, chosen = [], {}
    for statistic in STATISTICS:
        for tail in TAILS:
            scanner = ModelScanner(spaces, detector(statistic, tail), progress=True).fit(background)
            p_clean = scanner.p_values(clean)
            for name, those in attacked.items():
                p_values = scanner.p_values(those)
                rows += [
                    [dataset, name, space, statistic, tail, *judge(p_clean[space], p_values[space])]
                    for space in scanner.names
                ]
        chosen[statistic] = choose_tails(spaces, background, noisy, SubsetScanDetector(statistic=statistic))
        by_noise = {space: detector(statistic, tail) for space, tail in chosen[statistic].items()}
        scanner = ModelScanner(spaces, by_noise, joint=True, progress=True).fit(background)
        p_clean = scanner.p_values(clean)
        for name, those in attacked.items():
            p_values = scanner.p_values(those)
            together = {
                f"all, {how}": (scanner.combine(p_clean, how), scanner.combine(p_values, how)) for how in COMBINATIONS
            }
            together["all, joint"] = p_clean["joint"], p_values["joint"]
            rows += [[dataset, name, space, statistic, "by noise", *judge(*both)] for space, both in together.items()]
    return rows, chosen, counts


def table(rows, dataset, attack_name, statistic, chosen):
    """Lay one attack's rows out: a line a space, a column a tail."""
    own = {
        (row[2], row[4]): row[5:] for row in rows if tuple(row[:2]) == (dataset, attack_name) and row[3] == statistic
    }
    lines = ["| space | upper | lower | two-sided | combined | tail chosen on noise |", "|---|---|---|---|---|---|"]
    for space in dict.fromkeys(space for space, _ in own):
        if (space, "upper") in own:
            cells = " | ".join(cell(own[space, tail]) for tail in TAILS)
            lines.append(f"| {space} | {cells} | {chosen[space]}: {float(own[space, chosen[space]][0]):.2f} |")
        else:
            lines.append(f"| {space} | | | | | {cell(own[space, 'by noise'])} |")
    return lines


def cell(numbers):
    """Print an AUROC and its interval."""
    value, low, high = (float(x) for x in numbers[:3])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def main():
    """Study both datasets and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="folder with MNIST's four IDX files")
    folder = parser.parse_args().mnist
    rows, lines = [], []
    for dataset, data in (("fashion-mnist", None), ("mnist", folder)):
        found, chosen, counts = study(dataset, data)
        rows += found
        for attack_name, (n, n_tried) in counts.items():
            for statistic in STATISTICS:
                heading = f"## {dataset}, {attack_name} ({n} of {n_tried} attacks succeeded), {statistic}"
                lines += ["", heading, "", *table(rows, dataset, attack_name, statistic, chosen[statistic])]
    with (HERE / "tails.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    (HERE / "tails.md").write_text(TEXT + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
