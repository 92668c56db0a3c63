"""Groups of images: how good the ascent is, how fast, and what a group tells that its images do not.

    python docs/studies/groups.py

writes docs/studies/groups.md and groups.png; about five minutes, the part about attacked images most of it.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about frameworks that are not installed
    from art.defences.detector.evasion.subsetscanning.scanner import Scanner

import numpy as np

from subsetscan import Background, plot, reference, scan_group
from subsetscan._tables import text_table
from subsetscan.lab.attacks import attack
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.experiment.proportions import scan_proportions
from subsetscan.lab.networks import load_pretrained
from subsetscan.spaces import KerasLayers, ReconstructionError

HERE = Path(__file__).parent
STATISTICS = ("berk-jones", "higher-criticism", "kolmogorov-smirnov")


def table(part):
    """Lay a table out as text: its header, then its rows."""
    header, *rows = part
    return "```text\n" + text_table(header, rows) + "\n```\n"


def small_blocks(n_blocks=200):
    """Compare with every block of images and nodes there is."""
    rng = np.random.default_rng(0)
    rows = []
    for statistic in STATISTICS:
        for kind in ("uniform", "few distinct", "planted"):
            optimal, gaps, ratios = {1: [], 10: []}, [], []
            for _ in range(n_blocks):
                p = rng.uniform(size=(4, 4)) if kind != "few distinct" else rng.integers(1, 6, size=(4, 4)) / 5
                p = np.maximum(p, 1e-9)
                if kind == "planted":
                    p[:2, :2] /= 5
                best = reference.brute_force_group(p.tolist(), statistic)
                if best == 0:
                    continue
                for restarts, hits in optimal.items():
                    found = scan_group(p, statistic, restarts=restarts, random_state=rng)
                    hits.append(found.score >= best * (1 - 1e-12))
                gaps.append(1 - found.score / best)
                ratios.append(found.upper_bound / best)
                if not found.score * (1 - 1e-12) <= best <= found.upper_bound * (1 + 1e-12):
                    raise RuntimeError(f"a block scores {best}: {found}")
            rows.append(
                [
                    statistic,
                    kind,
                    str(len(gaps)),
                    f"{np.mean(optimal[1]):.1%}",
                    f"{np.mean(optimal[10]):.1%}",
                    f"{np.mean(gaps):.2%}",
                    f"{np.mean(ratios):.2f}",
                    f"{np.mean(np.array(ratios) < 1 + 1e-9):.0%}",
                ]
            )
    header = [
        "statistic",
        "p-values",
        "blocks",
        "optimal, 1 start",
        "10 starts",
        "mean gap",
        "bound / optimum",
        "tight",
    ]
    return [header, *rows]


def coarse_grids(n_blocks=200):
    """Compare exact ascents with ascents on a coarse grid from the same start."""
    rng = np.random.default_rng(1)
    rows = []
    for statistic in STATISTICS:
        for planted in (False, True):
            lower = {"exact": 0, "both": 0}
            higher = {"exact": 0, "both": 0}
            for _ in range(n_blocks):
                p = np.maximum(rng.uniform(size=(12, 30)), 1e-9)
                if planted:
                    p[:4, :8] /= 4
                p = p.tolist()
                for start in ((list(range(12)), None), (None, list(range(30)))):
                    coarse = reference.scan_group(p, [start], statistic, first_grids=["coarse"])[0]
                    exact = reference.scan_group(p, [start], statistic, first_grids=["exact"])[0]
                    both = reference.scan_group(p, [start], statistic)[0]
                    for kind, score in (("exact", exact), ("both", both)):
                        lower[kind] += score < coarse
                        higher[kind] += score > coarse
            n = 2 * n_blocks
            shares = [f"{counts[kind] / n:.1%}" for kind in ("exact", "both") for counts in (lower, higher)]
            rows.append([statistic, "planted" if planted else "uniform", *shares])
    header = ["statistic", "p-values", "exact lower", "exact higher", "both lower", "both higher"]
    return [header, *rows]


def case(name):
    """Draw p-value ranges of 100 images, 20 of which have a tenth of the nodes shifted, among 7,000 clean ones."""
    rng = np.random.default_rng(0)
    n_nodes = 12544 if name == "a" else 784
    values = rng.standard_normal((7100, n_nodes), dtype=np.float32)
    nodes = rng.choice(n_nodes, n_nodes // 10, replace=False)
    values[np.ix_(np.arange(20), nodes)] += 1
    values = np.maximum(values, 0) if name == "a" else np.exp(values)
    return Background(values[100:]).p_value_ranges(values[:100])


def median_time(call, repeats):
    """Time a call: the median, and what it returned."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - started)
    return float(np.median(times)), result


def beside_art():
    """Time both on the same p-values; a process of its own for each number of threads."""
    rows = []
    for name in ("a", "b"):
        ranges = case(name)
        np.save(HERE / f"ranges_{name}.npy", ranges)
        for restarts in (1, 10):
            np.random.seed(0)  # noqa: NPY002 (what ART draws from)
            art_time, found = median_time(lambda: Scanner.fgss_for_nets(ranges, restarts=restarts), 3)  # noqa: B023
            for n_threads in (1, 2):
                done = subprocess.run(  # noqa: S603
                    [sys.executable, __file__, "time", name, str(restarts)],
                    env={**os.environ, "RAYON_NUM_THREADS": str(n_threads)},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                ours = json.loads(done.stdout)
                rows.append(
                    [
                        name,
                        str(restarts),
                        str(n_threads),
                        f"{1e3 * art_time:.0f} ms",
                        f"{1e3 * ours['time']:.1f} ms",
                        f"{art_time / ours['time']:.0f}x",
                        f"{found[0]:.2f}",
                        f"{ours['score']:.2f}",
                        f"{ours['upper_bound']:.0f}",
                    ]
                )
        (HERE / f"ranges_{name}.npy").unlink()
    return [["case", "restarts", "threads", "ART", "scan_group", "ratio", "ART score", "score", "bound"], *rows]


def time_ours(name, restarts):
    """Time the group scan in this process."""
    p_values = np.ascontiguousarray(np.load(HERE / f"ranges_{name}.npy")[:, :, 1])
    taken, found = median_time(lambda: scan_group(p_values, restarts=restarts, random_state=0), 9)
    print(json.dumps({"time": taken, "score": found.score, "upper_bound": found.upper_bound}))


def attacked_groups(n_groups=100):
    """Scan groups with more and more attacked images, and draw how their scores rise."""
    images, labels = load_sample()
    shuffled = np.random.default_rng(0).permutation(len(images))
    background, clean, targets = np.split(shuffled, [1000, 1400])
    autoencoder, classifier = load_pretrained("autoencoder"), load_pretrained("classifier")
    spaces = {
        "conv2d_1": (KerasLayers(autoencoder, ["conv2d_1"]), "lower"),
        "reconstruction_error": (ReconstructionError(autoencoder, "binary-crossentropy"), "upper"),
    }
    sets = {}
    for name in ("fgsm", "bim"):
        result = attack(classifier, images[targets], labels[targets], name, eps=0.01, protocol="valid")
        sets[name] = result.images
    sets[f"before {name}"] = images[targets][result.sources]
    rows, curves = [], {}
    for space, (network, tail) in spaces.items():
        values = {kind: network.transform(pictures)[space] for kind, pictures in sets.items()}
        fitted = Background(network.transform(images[background])[space])
        values["clean"] = network.transform(images[clean])[space]
        for kind, anomalous in values.items():
            for size in (40, 100):
                if kind == "clean":
                    continue
                found = scan_proportions(
                    fitted, values["clean"], anomalous, size=size, n_groups=n_groups, tail=tail,
                    statistic="higher-criticism", restarts=4,
                )  # fmt: skip
                curves.setdefault(f"{space}, groups of {size}", {})[kind] = (
                    [100 * row.n_anomalous / size for row in found],
                    [row.scores for row in found],
                )
                rows += [
                    [
                        space, str(size), kind, f"{row.n_anomalous / size:.0%}", f"{np.median(row.scores):.1f}",
                        str(row.auroc), f"{row.precision:.2f}", f"{row.recall:.2f}", f"{row.n_returned:.1f}",
                    ]
                    for row in found
                ]  # fmt: skip
    plot.save(plot.proportions(curves), HERE / "groups.png")
    counts = ", ".join(f"{name}: {len(sets[name])} of {len(targets)} tried" for name in ("fgsm", "bim"))
    header = [
        "space",
        "size",
        "images",
        "share",
        "median score",
        "AUROC [95 % interval]",
        "precision",
        "recall",
        "found",
    ]
    return counts, [header, *rows]


TEXT = """# Groups of images

**Asked.** A few attacked images among many may not stand out one by one. A [group scan](../glossary.md#scanning) searches a group for the images and nodes that
are jointly unusual. Does it find the best block, how long does it take, and from which share of attacked images on does it help?

**Found.** Fashion-MNIST, groups of 100 images, {attack} in {space}; AUROC: how often such a group scores higher than one of clean images.

| attacked images | AUROC [95 %] | share of the returned images that are attacked | share of the attacked images that are returned |
|---|---|---|---|
{lead}

* In blocks small enough to try every subset, a scan with 10 starts finds the best one in {least_optimal} to {most_optimal} of them; the score is never above the best
  and the upper bound never below it.
* ART's group scan takes {least_ratio} to {most_ratio} as long, and its score is {higher} higher.

**For you:** use `GroupScanner` where a tenth or more of the images may be anomalous; below that, look at single images. Let the group be large.

**Make it again.** `python docs/studies/groups.py` takes about five minutes. Other terms are in the [glossary](../glossary.md).

## How often the ascent is optimal

Random blocks of 4 images and 4 nodes, small enough to look at every block of images and nodes: p-values uniform, of
five distinct values, or uniform with those of 2 x 2 divided by 5. "Gap" is how far the best of 10 starts stays
below the optimum; "tight" is how often the upper bound is the optimum.

{small_blocks}
The bound only knows how many small p-values each
image and each node has, not how they meet: in large groups, where chance alone gives many, it is far above what
there is (last column of the third table). It proves the result optimal only for small groups and strong blocks;
`bound="close"` finds the best block of small groups, and bounds larger ones more closely.

## Exact steps and a coarse grid

Blocks of 12 images and 30 nodes (about 180 distinct p-values up to 0.5, every fourth of them on the coarse grid),
ascents from all images and from all nodes. An exact step is never lower than a coarse one, but an ascent of exact
steps can end in a lower optimum: "exact lower" is how often. `scan_group` therefore climbs twice from each start, and
"both" is what it returns (from all nodes also a third time, as ART does with one restart, which is not shown here).

{coarse_grids}
## Beside ART

`Scanner.fgss_for_nets` of the Adversarial Robustness Toolbox on the same p-values: 7,000 background images, 100
images of which 20 have a tenth of the nodes shifted by one standard deviation. Case a: 12,544 nodes, normal values
cut off at zero, so that half are ties. Case b: 784 nodes, log-normal values. Berk-Jones, alpha up to 0.5. Medians
of 3 (ART, one thread) and 9 runs, on two cores that did nothing else; `scan_group` computes its bound as well.

{beside_art}
## What a group shows

Fashion-MNIST, protocol `valid`, eps 0.01, seed 0 ({counts}; these succeeded). 1,000 background images, groups of a
fixed size drawn from 400 clean images and the attacked ones, {n_groups} groups for each row and as many clean ones
to compare with; higher criticism, lower tail for conv2d_1, upper tail for the reconstruction error, 4 starts.
"Before bim" are the same images before the attack: they are not a random choice of images, and what they score
above clean groups is not due to the attack. Precision and recall are those of the returned images. Groups of a row
share images, so that the interval is about which groups were drawn, not about other images or networks.

{groups}
![Group scores against the share of anomalous images](groups.png)

A higher share of attacked images gives higher scores at a fixed size of the group, from 10 % on in groups of 100 and from
25 % on in groups of 40. At 5 % (2 and 5 images) the block that is returned is one of clean images, as in clean groups. In the
reconstruction error a part of the rise is due to the choice of images: before the attack they already score above clean
groups, at 25 and 50 % in groups of 100.
"""


LEAD = ("conv2d_1", "100", "bim")


def page(parts, counts, n_groups):
    """Fill in the page: each part is a header and rows."""
    optimal = [float(row[4].rstrip("%")) for row in parts["small_blocks"][1:]]
    ratios = [int(row[5].rstrip("x")) for row in parts["beside_art"][1:]]
    higher = any(float(row[6]) > float(row[7]) for row in parts["beside_art"][1:])
    return TEXT.format(
        attack=LEAD[2],
        space=LEAD[0],
        lead="\n".join(
            f"| {row[3]} | {row[5]} | {row[6]} | {row[7]} |"
            for row in parts["groups"][1:]
            if tuple(row[:3]) == LEAD and row[3] != "0%"
        ),
        least_optimal=f"{min(optimal):.1f}%",
        most_optimal=f"{max(optimal):.1f}%",
        least_ratio=f"{min(ratios)}x",
        most_ratio=f"{max(ratios)}x",
        higher="sometimes" if higher else "never",
        counts=counts,
        n_groups=n_groups,
        **{name: table(part) for name, part in parts.items()},
    )


def main():
    """Write the study."""
    n_groups = 100
    parts = {"small_blocks": small_blocks(), "coarse_grids": coarse_grids(), "beside_art": beside_art()}
    counts, parts["groups"] = attacked_groups(n_groups)
    (HERE / "groups.md").write_text(page(parts, counts, n_groups), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["time"]:
        time_ours(sys.argv[2], int(sys.argv[3]))
    else:
        main()
