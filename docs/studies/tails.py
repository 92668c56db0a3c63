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
from subsetscan.lab.experiment.measures import auroc
from subsetscan.lab.networks import load_model
from subsetscan.spaces import KerasLayers, ReconstructionError
from subsetscan.tails import choose_tails

HERE = Path(__file__).parent
TABLE = HERE / "tails.csv"
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
COLUMNS = (
    "dataset", "attack", "n_successful", "n_tried", "space", "statistic", "tail", "auroc", "low", "high",
    "flagged_at_5_percent",
)  # fmt: skip


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
    """Return the rows of one dataset."""
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
    rows = []

    def add(name, space, statistic, tail, clean_p_values, p_values):
        about = [dataset, name, *counts[name], space, statistic, tail]
        rows.append(dict(zip(COLUMNS, about + judge(clean_p_values, p_values), strict=True)))

    for statistic in STATISTICS:
        chosen = choose_tails(spaces, background, noisy, SubsetScanDetector(statistic=statistic))
        for tail in TAILS:
            scanner = ModelScanner(spaces, detector(statistic, tail), progress=True).fit(background)
            p_clean = scanner.p_values(clean)
            for name, those in attacked.items():
                p_values = scanner.p_values(those)
                for space in scanner.names:
                    add(name, space, statistic, tail, p_clean[space], p_values[space])
                    if chosen[space] == tail:
                        add(name, space, statistic, f"{tail}, chosen", p_clean[space], p_values[space])
        by_noise = {space: detector(statistic, tail) for space, tail in chosen.items()}
        scanner = ModelScanner(spaces, by_noise, joint=True, progress=True).fit(background)
        p_clean = scanner.p_values(clean)
        for name, those in attacked.items():
            p_values = scanner.p_values(those)
            for how in COMBINATIONS:
                add(name, f"all, {how}", statistic, "chosen", *(scanner.combine(p, how) for p in (p_clean, p_values)))
            add(name, "all, joint", statistic, "chosen", p_clean["joint"], p_values["joint"])
    return rows


def table(rows):
    """Lay the rows of one attack and statistic out: a line a space, a column a tail."""
    lines = ["| space | upper | lower | two-sided | combined | tail chosen on noise |", "|---|---|---|---|---|---|"]
    for space in dict.fromkeys(row["space"] for row in rows):
        own = {row["tail"]: row for row in rows if row["space"] == space}
        ((chosen, numbers),) = ((tail, row) for tail, row in own.items() if tail.endswith("chosen"))
        last = f"{chosen.removesuffix(', chosen')}: {float(numbers['auroc']):.2f}" if "," in chosen else cell(numbers)
        lines.append(f"| {space} | {' | '.join(cell(own[tail]) if tail in own else '' for tail in TAILS)} | {last} |")
    return lines


def cell(row):
    """Print an AUROC and its interval."""
    return f"{float(row['auroc']):.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]"


def agreement(rows):
    """Say how often the tail that was chosen on noise is the better one on attacked images."""
    own = {}
    for row in rows:
        own.setdefault((row["dataset"], row["attack"], row["space"], row["statistic"]), {})[row["tail"]] = row
    n, n_better = 0, 0
    for tails in own.values():
        if "upper" in tails and abs(float(tails["upper"]["auroc"]) - float(tails["lower"]["auroc"])) >= 0.05:
            better = max(("upper", "lower"), key=lambda tail, tails=tails: float(tails[tail]["auroc"]))
            n += 1
            n_better += f"{better}, chosen" in tails
    return f"Where the areas of upper and lower tail differ by 0.05 or more, noise chose the larger one in {n_better} of {n} lines."


def write_report(rows):
    """Summarise tails.csv."""
    lines = ["", agreement(rows)]
    for dataset, name, statistic in dict.fromkeys((row["dataset"], row["attack"], row["statistic"]) for row in rows):
        own = [row for row in rows if (row["dataset"], row["attack"], row["statistic"]) == (dataset, name, statistic)]
        successes = f"{own[0]['n_successful']} of {own[0]['n_tried']} attacks succeeded"
        lines += ["", f"## {dataset}, {name} ({successes}), {statistic}", "", *table(own)]
    (HERE / "tails.md").write_text(TEXT + "\n".join(lines) + "\n", encoding="utf-8")


def main():
    """Study both datasets, or take tails.csv as it is, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's four IDX files")
    parser.add_argument("--report", action="store_true", help="write tails.md from tails.csv alone")
    asked = parser.parse_args()
    if not asked.report:
        if asked.mnist is None:
            parser.error("--mnist is needed")
        rows = study("fashion-mnist", None) + study("mnist", asked.mnist)
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    with TABLE.open() as file:
        write_report(list(csv.DictReader(file)))


if __name__ == "__main__":
    main()
