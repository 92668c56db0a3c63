"""Choose what to scan, how, and how to combine it, on attacked images of the training set.

    python docs/decisions/0002-recommended-preset.py FOLDER

prints the tables of the note beside this file; FOLDER keeps what takes time. The autoencoders of seeds 1 and 2 are in
networks/.
"""

import sys
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from subsetscan._tables import text_table
from subsetscan.calibration import conformal_p_values, null_p_values, score_threshold
from subsetscan.combination import combined_scores
from subsetscan.lab import datasets, networks
from subsetscan.lab.adversaries import attack_all
from subsetscan.lab.experiment.scoring import NULL, score_once
from subsetscan.lab.reproduction.attacks import FULL, jobs_of
from subsetscan.lab.reproduction.pairs import scan_pairs, spaces_of
from subsetscan.lab.result_cache import ResultCache
from subsetscan.measures import area
from subsetscan.spaces import ClassifierMargin, KerasLayers, Laplacian, Pixels

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
    asked = jobs_of("valid", FULL)
    classifier = file_of("classifier")
    with tqdm(total=len(asked) * SIZES["targets"], desc="attacks") as bar:
        made = attack_all(
            classifier, images[rows["targets"]], labels[rows["targets"]], asked, ResultCache(kept.folder / DATASET),
            on_images=bar.update,
        )  # fmt: skip
    sets = {kind: images[rows[kind]] for kind in (NULL, "clean")}
    sets |= {job.name: found.images[found.successful] for job, found in made.items()}
    background = images[rows["background"]]
    model = networks.load_model(classifier)
    shape = images.shape[1:]
    autoencoders = {seed: networks.load_model(file_of("autoencoder", seed)) for seed in SEEDS}
    sources = {f"autoencoder {seed}": (spaces_of(network), [network]) for seed, network in autoencoders.items()}
    sources["classifier"] = [KerasLayers(model), ClassifierMargin(model)], [model]
    sources |= {"pixels": ([Pixels(shape)], []), "laplacian": ([Laplacian(shape)], [])}
    scores = {}
    for name, (spaces, models) in tqdm(sources.items(), desc="scans"):
        pairs = scan_pairs(spaces, calibration=None)  # images of their own calibrate
        scores[name] = score_once(
            kept, f"{DATASET}/{name}", lambda pairs=pairs: pairs, background, sets, models=models
        )  # fmt: skip
    return scores, {kind: len(array) for kind, array in sets.items()}


def candidates(scores):
    """List what can be part of the choice: source and pair; the seeds' autoencoders are one source."""
    first = {}
    for name in scores:
        first.setdefault(name.split()[0], name)
    return [(source, pair) for source, name in first.items() for pair in scores[name].pairs()]


def p_values(scores, seed, candidate, kinds):
    """Compute the calibrated p-values of one candidate, for each set."""
    source, pair = candidate
    of = scores[f"{source} {seed}" if source == "autoencoder" else source]
    null = of.of(NULL, pair)
    return {
        kind: null_p_values(null) if kind == NULL else conformal_p_values(of.of(kind, pair), null) for kind in kinds
    }


def named(candidate):
    """Write a candidate."""
    source, pair = candidate
    return ", ".join([source, pair.space, pair.statistic, pair.tail])


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
    scores, counts = scored(ResultCache(folder))
    kinds = list(counts)
    print(f"{DATASET}: " + ", ".join(f"{kind} {n}" for kind, n in counts.items()))
    known = {one: [p_values(scores, seed, one, kinds) for seed in SEEDS] for one in candidates(scores)}

    def of_all(chosen, combine):
        return quality(list(zip(*(known[one] for one in chosen), strict=True)), combine, kinds)

    alone = sorted(((of_all([one], "min"), one) for one in known), reverse=True)
    print("\nthe best alone: mean of AUROC and TPR at 5 % false positives, over attacks and seeds\n")
    print(text_table(["candidate", "mean"], [[named(one), f"{value:.3f}"] for value, one in alone[:15]]))
    for combine in COMBINATIONS:
        chosen, best = [alone[0][1]], alone[0][0]
        rows = [[named(chosen[0]), f"{best:.4f}"]]
        while len(chosen) < N_PARTS:
            taken = {(source, pair.space) for source, pair in chosen}
            value, one = max(
                (of_all([*chosen, one], combine), one) for one in known if (one[0], one[1].space) not in taken
            )
            if value < best + 0.002:
                break
            chosen, best = [*chosen, one], value
            rows.append([named(one), f"{value:.4f}"])
        print(f"\ncombined by {combine}, one after the other\n")
        print(text_table(["added", "mean"], rows))
        of_seeds = [judged(parts, combine, kinds) for parts in zip(*(known[one] for one in chosen), strict=True)]
        rows = [
            [attack, *(f"{np.mean([of[attack][n] for of in of_seeds]):.3f}" for n in (0, 1))] for attack in of_seeds[0]
        ]
        print(f"\n{text_table(['attack', 'AUROC', 'TPR at 5 %'], rows)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
