"""Choose what to scan, how, and how to combine it, on attacked images of the training set.

    python docs/decisions/0002-recommended-preset.py FOLDER

prints the tables of the note beside this file; FOLDER keeps what takes time. The autoencoders of seeds 1 and 2 are in
networks/.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from subsetscan._tables import text_table
from subsetscan.calibration import combined_scores, conformal_p_values, null_p_values, score_threshold
from subsetscan.lab import datasets, networks
from subsetscan.lab.adversaries import attack_all
from subsetscan.lab.evaluation import area
from subsetscan.lab.kept import Kept, fingerprint
from subsetscan.lab.reproduction.plan import FULL, STATISTICS, TAILS, jobs
from subsetscan.lab.reproduction.scores import NULL, scan_everything, spaces_of
from subsetscan.spaces import ClassifierMargin, KerasLayers, Laplacian, Pixels, join

SIZES = {"background": 5250, NULL: 1750, "clean": 2000, "targets": 1000}
DATASET = "fashion-mnist"
SEEDS = (0, 1, 2)
COMBINATIONS = ("min", "fisher", "cauchy")
N_PARTS = 6
NETWORKS = Path(__file__).parents[2] / "networks"


def file_of(network, seed=0):
    """Find a trained network."""
    return networks.find(networks.file_name(network, DATASET, seed), NETWORKS)


def scored(kept):
    """Attack training images, and scan them in every space by every statistic over every tail."""
    images, labels = datasets.load(DATASET, "train")
    shuffled = np.random.default_rng(0).permutation(len(images))
    parts = np.split(shuffled, np.cumsum(list(SIZES.values())))
    rows = dict(zip(SIZES, parts, strict=False))
    asked = jobs("valid", FULL)
    classifier = file_of("classifier")
    with tqdm(total=len(asked) * SIZES["targets"], desc="attacks") as bar:
        made = attack_all(
            classifier, images[rows["targets"]], labels[rows["targets"]], asked, Kept(kept.folder / DATASET),
            on_images=bar.update,
        )  # fmt: skip
    sets = {kind: images[rows[kind]] for kind in (NULL, "clean")}
    sets |= {job.name: found.images[found.successful] for job, found in made.items()}
    background = images[rows["background"]]
    model = networks.load_model(classifier)
    shape = images.shape[1:]
    spaces = {f"autoencoder {seed}": spaces_of(networks.load_model(file_of("autoencoder", seed)))
              for seed in SEEDS}  # fmt: skip
    spaces["classifier"] = join([KerasLayers(model), ClassifierMargin(model)])[0]
    spaces |= {"pixels": Pixels(shape), "laplacian": Laplacian(shape)}
    made_from = {"sets": {kind: fingerprint(array) for kind, array in sets.items()}}
    scores = {}
    for name, space in tqdm(spaces.items(), desc="scans"):
        scores[name] = kept.get_or_make(
            f"{DATASET}/{name}", made_from, lambda space=space: scan_everything(space, background, sets)
        )
    return scores, {kind: len(array) for kind, array in sets.items()}


def candidates(scores):
    """List what can be part of the choice: (source, space, statistic, tail); the seeds' autoencoders are one source."""
    found = []
    for source in dict.fromkeys(name.split()[0] for name in scores):
        first = next(name for name in scores if name.split()[0] == source)
        spaces = dict.fromkeys(key.split("|")[1] for key in scores[first] if key.count("|") == 3)
        found += [(source, *rest) for rest in product(spaces, STATISTICS, TAILS)]
    return found


def p_values(scores, seed, candidate, kinds):
    """Compute the calibrated p-values of one candidate, for each set."""
    source, *rest = candidate
    of = scores[f"{source} {seed}" if source == "autoencoder" else source]
    values = {kind: of["|".join([kind, *rest])] for kind in kinds}
    null = values[NULL]
    return {
        kind: null_p_values(null) if kind == NULL else conformal_p_values(own, null) for kind, own in values.items()
    }


def judged(parts, combine, kinds):
    """Combine p-values; return AUROC and TPR at 5 % false positives for each attack."""
    scores = {kind: combined_scores(np.column_stack([part[kind] for part in parts]), combine) for kind in kinds}
    threshold = score_threshold(scores[NULL], 0.05)
    return {
        kind: (area(scores["clean"], own), float(np.mean(own > threshold)))
        for kind, own in scores.items()
        if kind not in (NULL, "clean")
    }


def quality(parts_of_seeds, combine, kinds):
    """Average AUROC and TPR over attacks and seeds."""
    return np.mean([np.mean(list(judged(parts, combine, kinds).values())) for parts in parts_of_seeds])


def main(folder):
    """Print the tables."""
    scores, counts = scored(Kept(folder))
    kinds = list(counts)
    print(f"{DATASET}: " + ", ".join(f"{kind} {n}" for kind, n in counts.items()))
    known = {one: [p_values(scores, seed, one, kinds) for seed in SEEDS] for one in candidates(scores)}

    def of_all(chosen, combine):
        return quality(list(zip(*(known[one] for one in chosen), strict=True)), combine, kinds)

    alone = sorted(((of_all([one], "min"), one) for one in known), reverse=True)
    print("\nthe best alone: mean of AUROC and TPR at 5 % false positives, over attacks and seeds\n")
    print(text_table(["candidate", "mean"], [[", ".join(one), f"{value:.3f}"] for value, one in alone[:15]]))
    for combine in COMBINATIONS:
        chosen, best = [alone[0][1]], alone[0][0]
        rows = [[", ".join(chosen[0]), f"{best:.4f}"]]
        while len(chosen) < N_PARTS:
            taken = {one[:2] for one in chosen}
            value, one = max((of_all([*chosen, one], combine), one) for one in known if one[:2] not in taken)
            if value < best + 0.002:
                break
            chosen, best = [*chosen, one], value
            rows.append([", ".join(one), f"{value:.4f}"])
        print(f"\ncombined by {combine}, one after the other\n")
        print(text_table(["added", "mean"], rows))
        of_seeds = [judged(parts, combine, kinds) for parts in zip(*(known[one] for one in chosen), strict=True)]
        rows = [
            [attack, *(f"{np.mean([of[attack][n] for of in of_seeds]):.3f}" for n in (0, 1))] for attack in of_seeds[0]
        ]
        print(f"\n{text_table(['attack', 'AUROC', 'TPR at 5 %'], rows)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
