"""Does the false positive rate hold? Fresh clean images, many splits, every space, statistic and tail.

    python docs/studies/calibration.py         # Fashion-MNIST's test images; half an hour on two cores

writes calibration.csv, one line a space, statistic, tail, number of clean images and calibration, after each space, and
calibration.md from it. Spaces that are in calibration.csv already are not computed again; `--report` writes calibration.md alone.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from scipy import stats
from tqdm import tqdm

from subsetscan import Background
from subsetscan.calibration import conformal_p_values, plan
from subsetscan.lab.datasets import load
from subsetscan.lab.networks import load_pretrained
from subsetscan.scanning import scan_histograms
from subsetscan.spaces import KerasLayers, Pixels, ReconstructionError

STATISTICS = ("berk-jones", "higher-criticism", "kolmogorov-smirnov")
TAILS = ("upper", "lower", "two-sided")
RATES = (0.01, 0.05, 0.1)
N_CLEAN = (100, 400, 2000, 7000)
N_FRESH = 2000
N_SPLITS = 20
CALIBRATIONS = ("holdout", "leave-one-out", "leave-one-out, own grid", "in-sample")
POOL = 20000  # further images from the training set, so that splits share fewer
HERE = Path(__file__).parent
TABLE = HERE / "calibration.csv"
COLUMNS = ("space", "n_nodes", "statistic", "tail", "n_clean", "calibration", "n_null")
MEASURED = tuple(f"{what}_{rate:g}" for rate in RATES for what in ("expected", "low", "high", "measured", "spread"))


LEAD = """\
# Does the false positive rate hold?

**Asked.** If you flag inputs whose [calibrated p-value](../glossary.md#calibration) is at most 5 %, are 5 % of fresh clean inputs flagged? It
depends on where the [null scores](../glossary.md#calibration) come from: *hold-out* takes a part of the clean images away from the background,
*leave-one-out* scores each background image against the others, *in-sample* scores the background against itself.

**Found.** Fashion-MNIST, {n_lead} clean images, {n_cells} combinations of a space, a statistic and a tail. Share of fresh clean images that is flagged
at 5 %, mean over {n_splits} random splits:

| calibration | median over the combinations | lowest and highest | from split to split |
|---|---|---|---|
{lead}

* Hold-out, the default, flags at most the rate that was asked for, apart from chance, in every space, statistic and tail. Where many images have the
  very same score (Higher Criticism of one or two nodes at the smallest p-value, in layers of 128 nodes) it flags fewer.
* Leave-one-out does so too, as the package computes it, and varies less from split to split, because all images give null scores.
* In-sample, as in public code, flags too many, in some layers several times the rate.

**For you:** keep hold-out if you must promise a rate; take leave-one-out if you have few clean images. One fit has one set of null scores, so its
own rate differs from 5 % by about the last column; more clean images make that smaller.

**Make it again.** `python docs/studies/calibration.py` takes half an hour on two cores. Every number is in [calibration.csv](calibration.csv). Other terms
are in the [glossary](../glossary.md).
"""
CONCLUSION = """
*Own grid* flags too many for Higher Criticism alone. The score of one node at the smallest p-value is sqrt(M - 1) for a background image and sqrt(M)
for a new one, so that every new image with such a node exceeds every background image with one. Dependence between nodes is not the cause, and the
grid of M images removes the error; see [a simulation](leave_one_out.md) with dependent nodes, and beside K folds, which remove a part of it.

The splits are drawn from 30,000 images and share some, so that a few more means than 5 % lie outside their interval.
"""
N_LEAD = 400


def scores(background, images, tail, membership="outside"):
    """Scan for all three statistics, from one histogram."""
    histogram = background.rank_histogram(images, tail, membership=membership)
    n_samples = background.n_samples - (membership == "inside")
    return [
        scan_histograms([histogram], n_samples, background.n_nodes, [tail], statistic)[0].scores
        for statistic in STATISTICS
    ]


def flagged(clean, fresh, seed):
    """Measure the share of fresh images at or below each rate: {(calibration, statistic, tail): (n_null, shares)}."""
    shares = plan(len(clean), "holdout", 0.25, seed)
    whole, part = Background(clean), Background(clean[shares.background])
    found = {}
    for tail in TAILS:
        of_fresh, of_fresh_in_part = scores(whole, fresh, tail), scores(part, fresh, tail)
        null = {
            "holdout": scores(part, clean[shares.calibration], tail),
            "leave-one-out": scores(whole, clean, tail, "calibrating"),
            "leave-one-out, own grid": scores(whole, clean, tail, "inside"),
            "in-sample": scores(whole, clean, tail),
        }
        for n, statistic in enumerate(STATISTICS):
            for calibration in CALIBRATIONS:
                own = (of_fresh_in_part if calibration == "holdout" else of_fresh)[n]
                p_values = conformal_p_values(own, null[calibration][n])
                found[calibration, statistic, tail] = (
                    len(null[calibration][n]),
                    [float(np.mean(p_values <= rate)) for rate in RATES],
                )
    return found


def interval(n_null, rate, rng):
    """Expect the mean of the shares of all splits, where scores are exchangeable, and where 95 % of such means lie."""
    k = int(np.searchsorted(np.arange(1, n_null + 1) / (n_null + 1), rate, side="right"))
    if k == 0:
        return 0.0, 0.0, 0.0
    draws = rng.binomial(N_FRESH, rng.beta(k, n_null + 1 - k, (4000, N_SPLITS))).mean(axis=1) / N_FRESH
    low, high = np.quantile(draws, [0.025, 0.975])
    return k / (n_null + 1), low, high


def study(name, values):
    """Return the rows of one space."""
    rng = np.random.default_rng(0)
    rows = []
    for n_clean in N_CLEAN:
        collected = {}
        for seed in tqdm(range(N_SPLITS), desc=f"{name}, {n_clean} clean images"):
            order = np.random.default_rng(seed).permutation(len(values))
            found = flagged(values[order[:n_clean]], values[order[-N_FRESH:]], seed)
            for key, one in found.items():
                collected.setdefault(key, []).append(one)
        for (calibration, statistic, tail), splits in collected.items():
            n_null = splits[0][0]
            numbers = []
            for n, rate in enumerate(RATES):
                own = [shares[n] for _, shares in splits]
                numbers += [*interval(n_null, rate, rng), np.mean(own), np.std(own)]
            row = [name, values.shape[1], statistic, tail, n_clean, calibration, n_null]
            rows.append(row + [f"{number:.5f}" for number in numbers])
    return rows


def measured_rates(rows, rate):
    """Take the mean rates over the splits from rows of the table."""
    return np.array([float(row[f"measured_{rate:g}"]) for row in rows])


def median(rates):
    """Write the median of rates."""
    return f"{np.median(rates):.2%}"


def span(rates):
    """Write the range of rates."""
    return f"{rates.min():.2%} to {rates.max():.2%}"


def spread(rows):
    """Take the median of how far the rate of 5 % differs from split to split."""
    return np.median([float(row["spread_0.05"]) for row in rows])


def lead(rows):
    """Lay out what matters most: the rate of 5 % with a few hundred images, by calibration."""
    lines = []
    for calibration in ("holdout", "leave-one-out", "in-sample"):
        own = [row for row in rows if row["n_clean"] == str(N_LEAD) and row["calibration"] == calibration]
        rates = measured_rates(own, 0.05)
        lines.append(f"| {calibration} | {median(rates)} | {span(rates)} | {spread(own):.2%} |")
    return "\n".join(lines)


def write_report():
    """Summarise calibration.csv."""
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    spaces = list(dict.fromkeys(row["space"] for row in rows))
    lines = [
        LEAD.format(
            n_lead=N_LEAD, n_cells=len(spaces) * len(STATISTICS) * len(TAILS), n_splits=N_SPLITS, lead=lead(rows)
        ),
        "## All numbers of clean images",
        "",
        f"{N_SPLITS} random splits of Fashion-MNIST's test images and {POOL:,} of its training images: *clean images* to",
        f"fit on, and {N_FRESH:,} *fresh* clean ones to be judged. {len(spaces)} spaces",
        f"({', '.join(spaces)})",
        "x 3 statistics x 3 tails. Upsampling layers repeat the nodes before them and are left out. *Own grid*:",
        "leave-one-out with p-values on the grid of M - 1 images, as if the background had never held the image",
        "(`Background.leave_one_out`); the package calibrates on the grid of M (`same_grid=True`).",
        "",
        '"Asked" is the rate that the null scores can give, k / (n + 1), at most the nominal one. "Measured" is the',
        'median of the mean rates over the splits, and their range. "Within" is the share of means within the 95 %',
        'interval that exchangeable scores would give (beta-binomial), "above" the share of those that lie above it: 95 %',
        "and 2.5 % were to be expected of independent splits.",
        "",
        "| clean images | calibration | null scores | nominal | asked | measured (range) | within | above |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n_clean in N_CLEAN:
        for calibration in CALIBRATIONS:
            own = [row for row in rows if row["n_clean"] == str(n_clean) and row["calibration"] == calibration]
            for rate in RATES:
                measured = measured_rates(own, rate)
                low, high = (np.array([float(row[f"{end}_{rate:g}"]) for row in own]) for end in ("low", "high"))
                within = np.mean((low <= measured) & (measured <= high))
                lines.append(
                    f"| {n_clean:,} | {calibration} | {own[0]['n_null']} | {rate:.0%} "
                    f"| {float(own[0][f'expected_{rate:g}']):.2%} | {median(measured)} ({span(measured)}) | {within:.0%} | {np.mean(measured > high):.0%} |"
                )
    lines += ["", "Spread of the 5 % rate from split to split (standard deviation, median over the cells):", ""]
    lines += [
        "| clean images | " + " | ".join(CALIBRATIONS) + " | leave-one-out, by chance alone |",
        "|" + "---|" * (len(CALIBRATIONS) + 2),
    ]
    for n_clean in N_CLEAN:
        own = [row for row in rows if row["n_clean"] == str(n_clean)]
        spreads = [spread([row for row in own if row["calibration"] == calibration]) for calibration in CALIBRATIONS]
        k = int(0.05 * (n_clean + 1))
        chance = stats.betabinom(N_FRESH, k, n_clean + 1 - k).std() / N_FRESH
        lines.append(f"| {n_clean:,} | " + " | ".join(f"{spread:.2%}" for spread in [*spreads, chance]) + " |")
    (HERE / "calibration.md").write_text("\n".join(lines) + "\n" + CONCLUSION, encoding="utf-8")


def main():
    """Compute what is missing, then write the report."""
    if "--report" in sys.argv[1:]:
        write_report()
        return
    images = np.concatenate([load("fashion-mnist", "test")[0], load("fashion-mnist", "train")[0][:POOL]])
    autoencoder = load_pretrained("autoencoder")
    layers = [layer.name for layer in autoencoder.layers[1:] if not layer.name.startswith("up_sampling")]
    spaces = [Pixels(images.shape[1:]), ReconstructionError(autoencoder)]
    spaces += [KerasLayers(autoencoder, [name]) for name in reversed(layers)]
    done = set()
    if TABLE.is_file():
        with TABLE.open() as file:
            done = {row["space"] for row in csv.DictReader(file)}
    else:
        TABLE.write_text(",".join(COLUMNS + MEASURED) + "\n", encoding="utf-8")
    for space in spaces:
        (name,) = space.names
        if name not in done:
            rows = study(name, space.transform(images)[name])
            with TABLE.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
    write_report()


if __name__ == "__main__":
    main()
