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
from subsetscan.lab.networks import load_model
from subsetscan.measures import auroc
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

**Asked.** An attack makes some activations larger and some smaller. Should a scan look for large values (*upper* tail), for small ones
(*lower*), or for both (*two-sided*)?

**Found.** AUROC (0.5 is chance, 1 is best) of {name} on {dataset}, by {statistic}:

| space | upper | lower | two-sided | combined |
|---|---|---|---|---|
{lead}

* No tail is the best everywhere. In {n} lines of the tables below, that is spaces, attacks and statistics, the upper tail is better by 0.05 or more in {n_upper}, the lower in {n_lower}.
* Two-sided is better than both in {n_two_sided}; the smaller p-value of both tails, *combined*, is at most 0.05 worse than the better tail in {n_combined}.
* Random noise on clean images chooses well: of the {n_decided} lines where it matters it chose the better tail in {n_right}. No attacked image is needed for that.

**For you:** choose the tail of each space with `subsetscan.tails.choose_tails`. To combine both tails costs something; the wrong tail alone often does worse than chance.

**Make it again.** `python docs/studies/tails.py --mnist FOLDER` takes a quarter of an hour; `--report` writes this page alone. Every number, and the share
of attacked images that is flagged at 5 % false positives, is in [tails.csv](tails.csv).

## How it was measured

AUROC [95 %] of the calibrated p-values. [Protocol `valid`](../glossary.md#attacks): images in [0, 1], originals classified correctly, the prediction
changes. 4,000 clean images to fit on, 1,500 others to tell from. *Combined*: the smaller p-value of upper and lower tail, calibrated again. *Chosen on
noise*: the tail that detects random noise of +-0.01 on clean images best. *All*: every space by that tail, the p-values
[combined](../glossary.md#calibration) and calibrated again, or all nodes scanned as one (joint).
"""
LEAD = ("fashion-mnist", "bim 0.01", "higher-criticism"), ("conv2d_1", "conv2d_7", "reconstruction_error")
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


def text(rows):
    """Fill in what the page leads with."""
    by_line = {}
    for row in rows:
        by_line.setdefault((row["dataset"], row["attack"], row["statistic"], row["space"]), {})[row["tail"]] = row
    by_line = {line: tails for line, tails in by_line.items() if "upper" in tails}
    areas = {line: {tail: float(row["auroc"]) for tail, row in tails.items()} for line, tails in by_line.items()}
    n_better = {"upper": 0, "lower": 0}
    n_right = 0
    for of in areas.values():
        if abs(of["upper"] - of["lower"]) >= 0.05:
            better = max(("upper", "lower"), key=of.__getitem__)
            n_better[better] += 1
            n_right += f"{better}, chosen" in of
    best = [max(of["upper"], of["lower"]) for of in areas.values()]
    about, spaces = LEAD
    dataset, name, statistic = about
    lines = [
        f"| {space} | {' | '.join(cell(by_line[(*about, space)][tail]).split()[0] for tail in TAILS)} |"
        for space in spaces
    ]
    return TEXT.format(
        dataset=dataset,
        name=name,
        statistic=statistic,
        lead="\n".join(lines),
        n=len(areas),
        n_upper=n_better["upper"],
        n_lower=n_better["lower"],
        n_decided=sum(n_better.values()),
        n_right=n_right,
        n_two_sided=sum(of["two-sided"] > most for of, most in zip(areas.values(), best, strict=True)),
        n_combined=sum(of["combined"] >= most - 0.05 for of, most in zip(areas.values(), best, strict=True)),
    )


def write_report(rows):
    """Summarise tails.csv."""
    lines = []
    for dataset, name, statistic in dict.fromkeys((row["dataset"], row["attack"], row["statistic"]) for row in rows):
        own = [row for row in rows if (row["dataset"], row["attack"], row["statistic"]) == (dataset, name, statistic)]
        successes = f"{own[0]['n_successful']} of {own[0]['n_tried']} attacks succeeded"
        lines += ["", f"## {dataset}, {name} ({successes}), {statistic}", "", *table(own)]
    (HERE / "tails.md").write_text(text(rows) + "\n".join(lines) + "\n", encoding="utf-8")


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
