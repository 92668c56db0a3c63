"""Does a step along the gradient before the scan help? `networks.PerturbedNetwork` on the package's own classifier.

    python docs/studies/perturbation.py --mnist FOLDER   # about a minute; FOLDER has MNIST's IDX files

writes perturbation.csv and perturbation.md.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from tqdm import tqdm

from subsetscan.detectors import AutomaticDetector, NearestNeighborDetector, SubsetScanDetector
from subsetscan.lab.markdown import table
from subsetscan.lab.networks import load_pretrained, start_keras
from subsetscan.lab.subjects.images import _of_fashion
from subsetscan.measures import area
from subsetscan.networks import PerturbedNetwork
from subsetscan.spaces import Layers

HERE = Path(__file__).parent
CELLS = HERE / "perturbation.csv"
LAYERS = ("max_pooling2d_2", "dense_1")
MAGNITUDES = (0.0, 0.001, 0.003, 0.01, 0.03)
N_BACKGROUND, N_CLEAN, N_KIND, SEED = 700, 400, 200, 7
DETECTORS = {
    "automatic": AutomaticDetector,
    "scan, both tails": lambda: SubsetScanDetector(tail="two-sided", calibration=None),
    "1 neighbour, cosine": lambda: NearestNeighborDetector(n_neighbors=1, metric="cosine", scale=False),
}
GROUPS = {"attacks": ("FGSM", "BIM"), "noise as attacks": ("noise as",), "digits": ("digits",), "other changes": ("",)}
TEXT = """\
# Perturbing inputs before the scan

**Asked.** A small step along the gradient that makes a classifier more certain moves clean inputs more than others, and a scan of the activations of
perturbed inputs was reported to see strange ones better (Kim et al., 2021, arXiv:2105.11160). `subsetscan.networks.PerturbedNetwork` does it. Does it
help here?

**Found.** The classifier for Fashion-MNIST, layers {layers}; mean AUROC over {n_kinds} kinds and the layers:

{means}

* {sentence}
* The best step was picked by these very kinds: without them nobody could know it, and a detector with a fixed step would gain less.

**For you:** {advice}

**Make it again.** `python docs/studies/perturbation.py --mnist FOLDER` takes about a minute. All cells are in [perturbation.csv](perturbation.csv); terms
in the [glossary](../glossary.md).

## By group of kinds

{groups}

{n_background} clean test images make the background, {n_clean} others are judged beside {n_kind} images of each kind; the step goes by the sign of the gradient,
with temperature 1000, and is not clipped. Backgrounds are perturbed as the images are.
"""


def measure(mnist):
    """Measure the AUROC of every kind, by magnitude, layer and detector."""
    start_keras()
    clean, kinds = _of_fashion(SEED, N_BACKGROUND + N_CLEAN, N_KIND, mnist)
    model = load_pretrained("classifier")
    rows = []
    for magnitude in tqdm(MAGNITUDES, desc="steps"):
        network = PerturbedNetwork(model, magnitude=magnitude) if magnitude else model
        space = Layers(network, LAYERS)
        of_clean = space.transform(clean)
        of_kinds = {kind: space.transform(images) for kind, (_, images) in kinds.items()}
        for layer in LAYERS:
            background, judged = np.split(of_clean[layer], [N_BACKGROUND])
            for name, make in DETECTORS.items():
                detector = make().fit(background)
                scores = detector.anomaly_score(judged)
                for kind, values in of_kinds.items():
                    auroc = area(scores, detector.anomaly_score(values[layer]))
                    rows.append((magnitude, layer, name, kind, round(float(auroc), 4)))
    return rows


def group_of(kind):
    """Name the group of a kind: the first whose beginning fits."""
    return next(group for group, starts in GROUPS.items() if kind.startswith(starts))


def page(rows):
    """Write the page from the cells."""

    def mean(magnitude, name, group=None):
        return np.mean([
            auroc
            for step, by, kind, auroc in rows
            if (step, by) == (magnitude, name) and group in (None, group_of(kind))
        ])  # fmt: skip

    def gain(name, group=None):
        return max(mean(step, name, group) for step in MAGNITUDES[1:]) - mean(0.0, name, group)

    told, of_attacks = (
        ", ".join(f"{gain(name, group):+.3f} for {name}" for name in DETECTORS) for group in (None, "attacks")
    )
    advice = (
        "leave it out: what it may gain is small beside what the choice of a detector does."
        if gain("automatic") < 0.01
        else "try it, and measure on anomalies of your own."
    )
    head = ["step", *DETECTORS]
    means = [[f"{step:g}", *(f"{mean(step, name):.3f}" for name in DETECTORS)] for step in MAGNITUDES]
    grouped = [
        [name, group, *(f"{mean(step, name, group):.3f}" for step in MAGNITUDES)]
        for name in DETECTORS
        for group in GROUPS
    ]
    return TEXT.format(
        layers=" and ".join(LAYERS),
        n_kinds=len({kind for _, _, kind, _ in rows}),
        means=table(head, means),
        sentence=f"The best step of each detector, beside none: {told}; of attacks alone: {of_attacks}.",
        advice=advice,
        groups=table(["detector", "kinds", *(f"step {step:g}" for step in MAGNITUDES)], grouped),
        n_background=N_BACKGROUND,
        n_clean=N_CLEAN,
        n_kind=N_KIND,
    )


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--mnist", type=Path, help="folder with MNIST's IDX files")
    what.add_argument("--report", action="store_true", help="write perturbation.md from perturbation.csv")
    arguments = parser.parse_args()
    if not arguments.report:
        with CELLS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("step", "layer", "detector", "kind", "auroc"), *measure(arguments.mnist)])
    with CELLS.open(encoding="utf-8") as file:
        rows = [(float(row["step"]), row["detector"], row["kind"], float(row["auroc"])) for row in csv.DictReader(file)]
    (HERE / "perturbation.md").write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
