"""What the numbers say, in sentences: each is written from the cells, whichever way they fall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..._tables import counted
from ..experiment.cells import Cell
from ..experiment.scoring import Pair
from ..preset import PRESET
from .attacks import PAPER_STRENGTH
from .pairs import (
    ERROR,
    FIRST,
    MARGIN,
    METRICS,
    NEARLY_BLACK,
    OUTSIDE,
    PAPER,
    SVM,
    TUNED_SVM,
    error_name,
    mean_of,
    paper_scan,
)
from .published import TABLE_1, TABLE_2

__all__ = ["Cells", "verdicts"]

_AGAINST = ("auroc", "paired")  # clean images, and the attacked ones' own originals
NEAR = 0.05  # an AUROC that differs from the paper's by at most this agrees with it
# For FGSM and BIM below 0.03, and for all else: the least AUROC, and the least TPR at 5 % false positives.
GOALS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "fashion-mnist": ((0.96, 0.80), (0.98, 0.0)),
    "mnist": ((0.99, 0.0), (0.99, 0.0)),
}


class Cells:
    """Cells, to be found by what they are of."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = [cell for cell in cells if cell.n]
        self._by_attack = _grouped(self.cells, lambda cell: (cell.dataset, cell.attack))

    @property
    def datasets(self) -> list[str]:
        """The datasets that there are, in their order."""
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    def all(self, **where: Any) -> list[Cell]:
        """Return the cells with these values."""
        some = self.cells
        if "dataset" in where and "attack" in where:
            some = self._by_attack.get((where["dataset"], where["attack"]), [])
        return [cell for cell in some if all(getattr(cell, key) == value for key, value in where.items())]

    def any(self, **where: Any) -> bool:
        """Tell whether there is such a cell."""
        return bool(self.all(**where))

    def one(self, **where: Any) -> Cell | None:
        """Return the cell with these values, or None if there is none."""
        return next(iter(self.all(**where)), None)

    def by_pair(self, **where: Any) -> dict[Pair, list[Cell]]:
        """Group the cells with these values by their pair."""
        return _grouped(self.all(**where), lambda cell: cell.pair)

    def by_attack(self, **where: Any) -> dict[tuple[str, str, float, bool], list[Cell]]:
        """Group the cells with these values by protocol, attack, strength and mask."""
        return _grouped(self.all(**where), lambda cell: (cell.protocol, cell.attack, cell.eps, cell.masked))


def _grouped(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> dict[Any, list[Cell]]:
    found: dict[Any, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found


def verdicts(found: Cells, results: dict[str, Any]) -> dict[str, list[str]]:
    """Say for each dataset what holds of the paper and what does not; nothing where cells were not asked for."""
    said = {}
    for dataset in found.datasets:
        said[dataset] = [
            *agreement(found, dataset),
            *clipping(found, dataset),
            *selection(found, dataset),
            *errors(found, dataset),
            *seeds(found, dataset),
            *poisoned(found, dataset),
            *shortcuts(found, dataset),
            *preset(found, dataset),
            *noise(found, dataset),
        ]
        if dataset in results["groups"]:
            said[dataset] += groups(results["groups"][dataset])
    return said


def agreement(found: Cells, dataset: str) -> list[str]:
    """How many of the paper's cells are met, on its own kind of images."""
    differences: dict[bool, list[float]] = {True: [], False: []}
    nearest = []  # over the seeds, in the first layers
    for (layer, of, poisoned, attack), published in TABLE_1.items():
        own = found.all(
            dataset=of, poisoned=poisoned, protocol="paper", masked=False, attack=attack, eps=PAPER_STRENGTH[attack],
            pair=paper_scan(layer),
        )  # fmt: skip
        if of == dataset and own:
            is_first = layer in (FIRST, "max_pooling2d_1")
            differences[is_first] += [one.auroc - published for one in own if one.seed == 0]
            if is_first:
                nearest.append(min((one.auroc - published for one in own), key=abs))
    if not differences[False]:
        return []
    first, others = (np.array(differences[kind]) for kind in (True, False))
    return [
        f"**Table 1.** On `paper` images, {_near(first)} cells of the first convolution and its pooling are within "
        f"{NEAR} of the paper's with seed 0 (mean difference {first.mean():+.3f}), {_near(np.array(nearest))} with the "
        f"nearest seed, and {_near(others)} of the other layers' with seed 0 (mean absolute difference "
        f"{np.abs(others).mean():.3f}).",
        *table_2(found, dataset),
    ]


def table_2(found: Cells, dataset: str) -> list[str]:
    """How far each detector of table 2 is from the paper's, and how well one does that is tuned."""

    def own(pair: Pair) -> list[Cell]:
        return [
            cell
            for attack, eps in PAPER_STRENGTH.items()
            for cell in found.all(
                dataset=dataset, seed=0, poisoned=0.0, protocol="paper", masked=False, attack=attack, eps=eps, pair=pair
            )
        ]

    text = []
    for detector, pair in {"scan": paper_scan(ERROR), "mean": mean_of(METRICS[0]), "one-class SVM": SVM}.items():
        if cells := own(pair):
            most = max(abs(cell.auroc - TABLE_2[detector, dataset, cell.attack]) for cell in cells)
            text.append(f"{detector} {most:.3f}")
    tuned = [cell.auroc for cell in own(TUNED_SVM)]
    if not text or not tuned:
        return []
    return [
        f"**Table 2.** Largest difference from the paper's AUROC over {', '.join(PAPER_STRENGTH)}: {', '.join(text)}. "
        f"A tuned one-class SVM reaches {_span(tuned)}."
    ]


def _near(differences: np.ndarray) -> str:
    return f"{int((np.abs(differences) <= NEAR).sum())} of {len(differences)}"


def clipping(found: Cells, dataset: str) -> list[str]:
    """Say what clipping to [0, 1] does to the first layer, and which tail sees the attack then."""
    where = {"dataset": dataset, "seed": 0, "poisoned": 0.0, "masked": False}
    text = []
    for attack in ("fgsm", "bim"):
        of = where | {"attack": attack, "eps": PAPER_STRENGTH[attack]}
        unclipped = found.one(**of, protocol="paper", pair=paper_scan(FIRST))
        clipped = [
            found.one(**of, protocol="valid", pair=Pair(FIRST, statistic, tail))
            for statistic, tail in (PAPER, (PAPER[0], "lower"), ("higher-criticism", "lower"))
        ]
        if unclipped is None or any(one is None for one in clipped):
            continue
        upper, lower, criticism = (one.auroc for one in clipped if one is not None)
        text.append(
            f"{attack} {PAPER_STRENGTH[attack]} from {unclipped.auroc:.3f} to {upper:.3f} (lower tail of the clipped "
            f"images: {lower:.3f}, with Higher Criticism {criticism:.3f})"
        )
    if not text:
        return []
    return [f"**Clipping to [0, 1]** takes the first layer's AUROC (Berk-Jones, upper tail) of {'; of '.join(text)}."]


def selection(found: Cells, dataset: str) -> list[str]:
    """Whether layers below chance are so because of the attack, or because of which images it succeeds on."""
    below = [
        cell
        for attack, eps in PAPER_STRENGTH.items()
        for cell in found.all(
            dataset=dataset, seed=0, poisoned=0.0, protocol="valid", masked=False, attack=attack, eps=eps,
            statistic=PAPER[0], tail=PAPER[1],
        )
        if cell.auroc < 0.45
    ]  # fmt: skip
    if not below:
        return []
    shift = np.array([cell.auroc - cell.control for cell in below])
    paired = np.array([cell.paired for cell in below])
    meaning = (
        "that comes from which images are attacked with success, not from the attack"
        if np.abs(shift).mean() < 0.05
        else "which images are attacked with success explains a part of that only"
    )
    return [
        f"**Below chance.** {counted(len(below), 'cell')} of table 1 with `valid` images "
        f"{'is' if len(below) == 1 else 'are'} below 0.45. There the attacked images have a mean AUROC of "
        f"{np.mean([cell.auroc for cell in below]):.3f} against clean images and {paired.mean():.3f} against their own "
        f"originals, and those originals have {np.mean([cell.control for cell in below]):.3f} against clean images: "
        f"{meaning}."
    ]


def errors(found: Cells, dataset: str) -> list[str]:
    """Whether the absolute error detects better than the cross-entropy."""
    text = []
    for protocol in ("paper", "valid"):
        gains = []
        for attack, eps in PAPER_STRENGTH.items():
            where = {"dataset": dataset, "seed": 0, "poisoned": 0.0, "protocol": protocol, "masked": False}
            absolute, entropy = (
                found.one(**where, attack=attack, eps=eps, pair=paper_scan(error_name(metric)))
                for metric in ("absolute", "binary-crossentropy")
            )
            if absolute is not None and entropy is not None:
                gains.append(f"{absolute.auroc - entropy.auroc:+.3f} ({attack})")
        if gains:
            text.append(f"on `{protocol}` images {', '.join(gains)}")
    if not text:
        return []
    return [f"**Absolute error instead of cross-entropy** changes the AUROC of the scan {'; '.join(text)}."]


def seeds(found: Cells, dataset: str) -> list[str]:
    """How far the autoencoder's training seed moves the first layer."""
    text = []
    for protocol, tail, statistic in (("paper", "upper", PAPER[0]), ("valid", "lower", "higher-criticism")):
        for attack, eps in PAPER_STRENGTH.items():
            own = found.all(
                dataset=dataset, poisoned=0.0, protocol=protocol, masked=False, attack=attack, eps=eps,
                pair=Pair(FIRST, statistic, tail),
            )  # fmt: skip
            if len(own) > 1:
                values = [cell.auroc for cell in own]
                text.append(f"{attack}, {protocol} ({statistic}, {tail}): {min(values):.3f} to {max(values):.3f}")
    return [f"**Training seeds** move the first layer's AUROC: {'; '.join(text)}."] if text else []


def poisoned(found: Cells, dataset: str) -> list[str]:
    """How much it matters that the autoencoder was trained on attacked images as well."""
    where = {"dataset": dataset, "protocol": "paper", "masked": False, "attack": "bim", "eps": PAPER_STRENGTH["bim"]}
    own = found.all(**where, pair=paper_scan(FIRST))
    clean = [cell.auroc for cell in own if not cell.poisoned]
    others = [cell for cell in own if cell.poisoned]
    if not clean or not others:
        return []
    values = ", ".join(
        f"{cell.poisoned:.0%} {cell.auroc:.3f} (paper {TABLE_1[FIRST, dataset, cell.poisoned, 'bim']:.3f})"
        for cell in others
    )
    within = all(min(clean) <= cell.auroc <= max(clean) for cell in others)
    return [
        f"**Poisoned training** in the first layer (bim): {values}; without, {min(clean):.3f} to {max(clean):.3f} by "
        f"the seed (paper {TABLE_1[FIRST, dataset, 0.0, 'bim']:.3f}). "
        + ("The seed alone moves it further than the poison." if within else "That is more than the seed alone does.")
    ]


def shortcuts(found: Cells, dataset: str) -> list[str]:
    """Say what does as well and hardly looks at the image."""
    text = []
    for pair in (OUTSIDE, NEARLY_BLACK, MARGIN):
        spans = []
        for protocol in ("paper", "valid"):
            own = [
                cell.auroc
                for attack, eps in PAPER_STRENGTH.items()
                for cell in found.all(
                    dataset=dataset, protocol=protocol, masked=False, attack=attack, eps=eps, pair=pair
                )
            ]
            if own:
                spans.append(f"{_span(own)} on `{protocol}` images")
        if spans:
            text.append(f"{pair}: {', '.join(spans)}")
    return [f"**Detectors that hardly look at the image**, AUROC over the attacks: {'; '.join(text)}."] if text else []


def _span(values: Sequence[float]) -> str:
    low, high = (f"{value:.3f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def preset(found: Cells, dataset: str) -> list[str]:
    """Whether the recommended preset meets its goals."""
    text = []
    of_attack = found.by_attack(dataset=dataset, pair=PRESET, protocol="valid", masked=False)
    for (_, attack, eps, _), own in of_attack.items():
        small = attack in ("fgsm", "bim") and eps < 0.03
        least, rate = GOALS[dataset][0 if small else 1]
        auroc = float(np.mean([cell.auroc for cell in own]))
        tpr = float(np.mean([cell.tpr_5 for cell in own]))
        met = auroc >= least and tpr >= rate
        goal = f"AUROC >= {least}" + (f", TPR >= {rate:.0%}" if rate else "")
        text.append(f"{attack} {eps:g} {auroc:.3f}, {tpr:.1%} ({goal}: {'met' if met else 'missed'})")
    masked = found.by_attack(dataset=dataset, pair=PRESET, protocol="valid", masked=True).values()
    if not text:
        return []
    sentence = (
        f"**The recommended preset** on `valid` images, AUROC and TPR at 5 % false positives beside our "
        f"goals: {'; '.join(text)}."
    )
    if masked:
        spans = (_span([float(np.mean([getattr(cell, key) for cell in own])) for own in masked]) for key in _AGAINST)
        sentence += " Masked attacks: {} against clean images, {} against their own originals.".format(*spans)
    return [sentence]


def noise(found: Cells, dataset: str) -> list[str]:
    """Whether what is detected is the attack, or noise of its size."""
    text = []
    for pair in (Pair(FIRST, "higher-criticism", "lower"), PRESET):
        own = [
            cell
            for cell in found.all(
                dataset=dataset, poisoned=0.0, protocol="valid", masked=False, pair=pair,
            )
            if not np.isnan(cell.noise)
        ]  # fmt: skip
        if own:
            attacked, of_noise = (np.mean([getattr(cell, key) for cell in own]) for key in ("auroc", "noise"))
            seen = "does not tell them apart" if of_noise > attacked - 0.05 else "does tell them apart"
            text.append(
                f"{pair} has {attacked:.3f} for attacks and {of_noise:.3f} for noise of the same size: it {seen}"
            )
    return [f"**Attack or noise**, mean AUROC over all `valid` attacks: {'; '.join(text)}."] if text else []


def groups(of_dataset: dict[str, Any]) -> list[str]:
    """Whether a higher share of attacked images gives higher group scores."""
    text = []
    shares = ""
    for space, rows in of_dataset["spaces"].items():
        medians = [row["median"] for row in rows]
        shares = ", ".join(f"{row['share']:.0%}" for row in rows)
        rising = "yes" if all(low <= high for low, high in pairwise(medians)) else "not at every step"
        text.append(f"{space}: {rising}")
    if not text:
        return []
    return [
        f"**A higher share of attacked images gives higher scores**, in groups of {of_dataset['size']} "
        f"({of_dataset['attack']}; shares {shares}): {'; '.join(text)}."
    ]
