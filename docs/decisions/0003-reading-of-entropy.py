"""Choose a reading of the local spatial entropy on clean images, then see how much the choice matters on attacked ones.

    python docs/decisions/0003-reading-of-entropy.py FOLDER --mnist FOLDER

prints the tables of the note beside this file; the first FOLDER keeps what takes time, the second has MNIST's IDX files.
"""

import argparse
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from tqdm.auto import tqdm

from subsetscan._tables import text_table
from subsetscan.detectors import LocalSpatialEntropy
from subsetscan.detectors.entropy import DEFAULT_READING, READINGS
from subsetscan.lab import datasets, networks
from subsetscan.lab.adversaries import Job, attack_all
from subsetscan.lab.attacks import predicted
from subsetscan.lab.experiment.images import PAPER_SPLIT, Images, noisy
from subsetscan.lab.experiment.plan import DATASETS
from subsetscan.lab.result_cache import ResultCache, fingerprint
from subsetscan.measures import Auroc, area, auroc
from subsetscan.spaces import ClassifierMargin, FeatureResponse
from subsetscan.spaces.responses import METHODS, TARGETS

LEVELS = (8, 16, 64, 256)
PATCHES = (3, 5, 9)
JOBS = (Job("fgsm", 0.1), Job("bim", 0.03), Job("deepfool", 0.02))
PER_SET = 500  # of the clean images, and of each attack's successes
AT_ONCE = 100
NETWORKS = Path(__file__).parents[2] / "networks"
METHOD, TARGET = "guided", "activations"  # the space's defaults


@dataclass(frozen=True)
class Setting:
    """The parameters of the detector that are in question."""

    reading: str
    normalise: str | float = "max"
    levels: int = 16
    patch: int = 3

    def __str__(self):
        if self.reading == "mass":
            return f"mass, patch {self.patch}"
        normalise = self.normalise if isinstance(self.normalise, str) else "fixed"
        return f"{self.reading}, {normalise}, {self.levels} levels, patch {self.patch}"

    def scores(self, maps):
        """Average the entropy over each map."""
        detector = LocalSpatialEntropy(maps.shape[1:], **asdict(self))
        starts = range(0, len(maps), AT_ONCE)
        return np.concatenate([detector.entropy_map(maps[n : n + AT_ONCE]).mean(axis=(1, 2)) for n in starts])


# In this order the first is taken where another is not clearly better. A fixed number depends on the network, so that none
# can be a default.
MASS = Setting("mass")
CANDIDATES = [MASS] + [
    Setting(*rest)
    for rest in product(
        ("histogram", "cooccurrence"), ("max", "range"), sorted(LEVELS, key=lambda n: (n != 16, n))
    )
]  # fmt: skip


def of_responses(kept, name, model, images, labels, method, target, settings):
    """Score the responses to images by several settings; keep the scores."""
    made_from = {
        "classifier": fingerprint(*model.get_weights()),
        "images": fingerprint(images, labels),
        "space": [method, target],
        "settings": [asdict(setting) for setting in settings],
    }

    def make():
        space = FeatureResponse(model, method, target)
        maps = space.responses(images, labels if target == "true-logit" else None)
        found = {str(setting): setting.scores(maps) for setting in tqdm(settings, desc=name, leave=False)}
        return found | {"99th percentile": np.quantile(np.abs(maps), [0.99]).astype(np.float64)}

    return kept.get_or_make(name, made_from, make)


def of_images(kept, name, images, settings):
    """Score the images themselves."""
    made_from = {"images": fingerprint(images), "settings": [asdict(setting) for setting in settings]}
    return kept.get_or_make(
        name, made_from, lambda: {str(one): one.scores(images) for one in tqdm(settings, desc=name, leave=False)}
    )


def standing(scores, labels, wrong):
    """Replace each score by the share of correctly classified images of the same class that score lower, ties half."""
    found = np.empty(len(scores))
    for label in np.unique(labels):
        own = labels == label
        ordered = np.sort(scores[own & ~wrong])
        both = [np.searchsorted(ordered, scores[own], side) for side in ("left", "right")]
        found[own] = np.add(*both) / (2 * len(ordered))
    return found


def resampled(found, wrong, n_resamples=1000):
    """Compute the AUROC of each row of `found` on resamples of the images, the same for all rows."""
    rng = np.random.default_rng(0)
    kinds = [np.flatnonzero(~wrong), np.flatnonzero(wrong)]
    areas = np.empty((n_resamples, len(found)))
    for n in range(n_resamples):
        clean, anomalous = (found[:, rng.choice(rows, len(rows))] for rows in kinds)
        areas[n] = [area(*pair) for pair in zip(clean, anomalous, strict=True)]
    return areas


def interval(value, samples):
    """Put a value together with its percentile interval."""
    low, high = np.quantile(samples, [0.025, 0.975])
    return Auroc(float(value), float(low), float(high))


def choose(kept, models, tests):
    """Print what clean validation images tell; return a fixed scale for each dataset."""
    values, samples, beside, scales = [], [], [], {}
    for dataset, model in models.items():
        images, labels = (array[: PAPER_SPLIT.n_background] for array in tests[dataset])
        wrong = predicted(model, images) != labels
        print(f"{dataset}: {len(images)} clean images, of which the classifier gets {wrong.sum()} wrong")
        found = of_responses(kept, f"{dataset}/validation", model, images, labels, METHOD, TARGET, CANDIDATES)
        plain = of_images(kept, f"{dataset}/plain", images, CANDIDATES)
        scales[dataset] = float(found["99th percentile"][0])
        scores = np.array([found[str(one)] for one in CANDIDATES])
        (margins,) = ClassifierMargin(model).transform(images).values()
        doubts = standing(margins[:, 0], labels, wrong)
        standings = np.array([standing(row, labels, wrong) for row in scores])
        values.append([area(row[~wrong], row[wrong]) for row in standings])
        samples.append(
            kept.get_or_make(
                f"{dataset}/resamples",
                {"standings": fingerprint(standings, wrong)},
                lambda standings=standings, wrong=wrong: {"areas": resampled(standings, wrong)},
            )["areas"]
        )
        beside.append(
            [
                [
                    f"{area(row[~wrong], row[wrong]):.3f}",
                    f"{spearmanr(own, doubts).statistic:.2f}",
                    f"{spearmanr(row, plain[str(one)]).statistic:.2f}",
                    f"{row[~wrong].std() / row[~wrong].mean():.2f}",
                ]
                for one, row, own in zip(CANDIDATES, scores, standings, strict=True)
            ]
        )
    for dataset, value, sample, own in zip(models, values, samples, beside, strict=True):
        rows = [
            [str(one), str(interval(value[n], sample[:, n])), *own[n]] for n, one in enumerate(CANDIDATES)
        ]  # fmt: skip
        print(f"\n{dataset}, clean images: wrongly against correctly classified ones\n")
        print(text_table(["setting", "AUROC within class", "plain AUROC", "with doubt", "with image", "spread"], rows))
    value, sample = np.mean(values, axis=0), np.mean(samples, axis=0)
    print("\nboth datasets: mean of AUROC within class, and what the setting has more than the first\n")
    rows = [
        [
            str(one),
            str(interval(value[n], sample[:, n])),
            str(interval(value[n] - value[0], sample[:, n] - sample[:, 0])),
        ]
        for n, one in enumerate(CANDIDATES)
    ]
    print(text_table(["setting", "mean", "difference"], rows))

    def first_not_worse(among):
        """Return the best, and the first whose difference from it may be none."""
        best = max(among, key=lambda n: value[n])
        return best, next(
            n for n in among if n == best or interval(value[best] - value[n], sample[:, best] - sample[:, n]).low <= 0
        )

    print()
    for which in ("all", *READINGS):
        among = [n for n, one in enumerate(CANDIDATES) if which in ("all", one.reading)]
        best, taken = first_not_worse(among)
        print(f"of {which}: best {CANDIDATES[best]}; taken {CANDIDATES[taken]}")
    return scales


@dataclass(frozen=True, eq=False)
class Sets:
    """Clean and attacked images in one array, with the rows of each set."""

    images: np.ndarray
    labels: np.ndarray
    rows: dict[str, np.ndarray]

    def noise(self, job):
        """Give the originals of an attack its changes at random places."""
        return noisy(self.images[self.rows[f"{job.name}, originals"]], self.images[self.rows[job.name]])


def attacked_sets(kept, dataset, test):
    """Attack images of the test set; what is kept already is not attacked again."""
    split = Images.shared_out(*test, PAPER_SPLIT)
    path = networks.find(networks.file_name("classifier", dataset), NETWORKS)
    attacks = ResultCache(kept.folder / dataset / "attacks")
    with tqdm(total=len(JOBS) * len(split.targets), desc=f"{dataset}, attacks", leave=False) as bar:
        split.attacked.update(attack_all(path, split.targets, split.labels, JOBS, attacks, on_images=bar.update))
    _, labels = test
    parts = [(split.clean[:PER_SET], labels[PAPER_SPLIT.n_background : PAPER_SPLIT.n_background + PER_SET])]
    sources = {job: split.sources(job)[:PER_SET] for job in JOBS}
    targets = np.unique(np.concatenate(list(sources.values())))
    parts.append((split.targets[targets], split.labels[targets]))
    rows = {"clean": np.arange(PER_SET)}
    n = PER_SET + len(targets)
    for job in JOBS:
        parts.append((split.successes(job)[:PER_SET], split.labels[sources[job]]))
        rows[f"{job.name}, originals"] = PER_SET + np.searchsorted(targets, sources[job])
        rows[job.name] = n + np.arange(len(sources[job]))
        n += len(sources[job])
    print(
        f"{dataset}: clean {PER_SET}, "
        + ", ".join(f"{job.name} {len(sources[job])} of {len(split.sources(job))}" for job in JOBS)
    )
    return Sets(np.concatenate([own for own, _ in parts]), np.concatenate([own for _, own in parts]), rows)


HEADER = [f"{job.attack} {job.eps:g}{kind}" for job in JOBS for kind in ("", ", paired")]


def cells(scores, rows):
    """Tell attacked images from clean ones, and from their own originals: AUROC with interval, and without."""
    found = []
    for job in JOBS:
        own = scores[rows[job.name]]
        found += [str(auroc(scores[rows["clean"]], own)), f"{area(scores[rows[f'{job.name}, originals']], own):.3f}"]
    return found


def print_spread(what, tables, default):
    """Print the lowest, the median and the highest AUROC over all rows, and the rows that are the best on the whole."""
    values = {
        dataset: np.array([[float(cell.split()[0]) for cell in row[1:]] for row in table])
        for dataset, table in tables.items()
    }
    rows = [
        [f"{dataset}, {header}", *(f"{value:.3f}" for value in np.quantile(column, [0, 0.5, 1]))]
        for dataset, own in values.items()
        for header, column in zip(HEADER, own.T, strict=True)
    ]
    print(f"\n{what}: spread over all rows\n")
    print(text_table(["", "lowest", "median", "highest"], rows))
    names = [row[0] for row in next(iter(tables.values()))]
    means = np.mean([own[:, ::2].mean(axis=1) for own in values.values()], axis=0)
    order = np.argsort(-means, kind="stable")
    rows = [
        [names[n], f"{means[n]:.3f}", f"{place} of {len(names)}"]
        for place, n in enumerate(order, start=1)
        if place <= 5 or names[n] == default
    ]
    print(f"\n{what}: mean AUROC over datasets and attacks, the best five and the default\n")
    print(text_table(["", "mean", "place"], rows))


def compare_maps(kept, models, sets):
    """Print method x target x reading."""
    settings = [Setting(reading) for reading in READINGS]
    tables = {}
    for dataset, model in models.items():
        own = sets[dataset]
        rows = []
        for method, target in product(METHODS, TARGETS):
            found = of_responses(
                kept, f"{dataset}/{method}-{target}", model, own.images, own.labels, method, target, settings
            )
            rows += [
                [f"{method}, {target}, {one.reading}", *cells(found[str(one)], own.rows)] for one in settings
            ]  # fmt: skip
        tables[dataset] = rows
        print(f"\n{dataset}, by method, target and reading (true-logit is an oracle: it is told the label)\n")
        print(text_table(["response, reading", *HEADER], rows))
    print_spread("method, target, reading", tables, f"{METHOD}, {TARGET}, {DEFAULT_READING}")


def compare_settings(kept, models, sets, scales):
    """Print reading x normalise x levels x patch, for the default method and target."""
    tables = {}
    for dataset, model in models.items():
        own = sets[dataset]
        settings = [Setting("mass", patch=patch) for patch in PATCHES] + [
            Setting(reading, normalise, levels, patch)
            for reading in READINGS[1:]
            for normalise in ("max", "range", scales[dataset])
            for patch in PATCHES
            for levels in LEVELS
        ]
        found = of_responses(kept, f"{dataset}/settings", model, own.images, own.labels, METHOD, TARGET, settings)
        rows = [[str(one), *cells(found[str(one)], own.rows)] for one in settings]
        tables[dataset] = rows
        print(f"\n{dataset}, by setting; fixed is {scales[dataset]:.3g}, the 99th percentile of clean responses\n")
        print(text_table(["setting", *HEADER], rows))
    print_spread("setting", tables, str(Setting(DEFAULT_READING)))


def explain(kept, models, sets):
    """Print what moves the entropy, for the default method and target: the attack, or any change of its size."""
    settings = [Setting(reading) for reading in READINGS]
    for dataset, model in models.items():
        own = sets[dataset]
        name = f"{dataset}/{METHOD}-{TARGET}"
        found = of_responses(kept, name, model, own.images, own.labels, METHOD, TARGET, settings)
        rows = []
        for job in JOBS:
            labels = own.labels[own.rows[job.name]]
            noise = of_responses(kept, f"{name}-{job.name}", model, own.noise(job), labels, METHOD, TARGET, settings)
            for one in settings:
                clean, originals, attacked = (
                    found[str(one)][own.rows[kind]] for kind in ("clean", f"{job.name}, originals", job.name)
                )
                noisy_ones = noise[str(one)]
                bits = [f"{scores.mean():.3f}" for scores in (clean, originals, attacked, noisy_ones)]
                areas = [str(auroc(clean, scores)) for scores in (originals, attacked, noisy_ones)]
                rows.append([f"{job.attack} {job.eps:g}, {one.reading}", *bits, *areas])
        header = ["", "clean", "originals", "attacked", "noise", "AUROC, originals", "AUROC, attacked", "AUROC, noise"]
        print(f"\n{dataset}, mean score in bits, and AUROC against clean; noise is as large as the attack\n")
        print(text_table(header, rows))


def where_noise_counts(kept, models, sets):
    """Print what noise in the black ground alone, or off it alone, does to the default's score of clean images."""
    rows = []
    for dataset, model in models.items():
        own = sets[dataset]
        clean, labels = own.images[own.rows["clean"]], own.labels[own.rows["clean"]]
        signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), clean.shape)

        def score(images, model=model, labels=labels, dataset=dataset):
            name = f"{dataset}/noise-{fingerprint(images)[:12]}"
            return of_responses(kept, name, model, images, labels, METHOD, TARGET, [MASS])[str(MASS)]

        for eps in (0.01, 0.1):
            moved = [np.where(where, np.clip(clean + eps * signs, 0, 1), clean) for where in (clean == 0, clean > 0)]
            rows.append([f"{dataset}, {eps:g}", *(str(auroc(score(clean), score(images))) for images in moved)])
    print(f"\n{MASS}: AUROC of clean images with noise against those without\n")
    print(text_table(["noise", "at black pixels", "at others"], rows))


def main(folder, mnist):
    """Print the tables."""
    kept = ResultCache(folder)
    networks.start_keras()
    models = {
        dataset: networks.load_model(networks.find(networks.file_name("classifier", dataset), NETWORKS))
        for dataset in DATASETS
    }
    tests = {dataset: datasets.load(dataset, "test", mnist if dataset == "mnist" else None) for dataset in DATASETS}
    scales = choose(kept, models, tests)
    print("\nfrom here on attacked images\n")
    sets = {dataset: attacked_sets(kept, dataset, tests[dataset]) for dataset in models}
    compare_maps(kept, models, sets)
    compare_settings(kept, models, sets, scales)
    explain(kept, models, sets)
    where_noise_counts(kept, models, sets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mnist", type=Path)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.mnist)
