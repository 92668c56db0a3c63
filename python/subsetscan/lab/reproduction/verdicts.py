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

    @property
    def datasets(self) -> list[str]:
        """The datasets that there are, in their order."""
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    def all(self, **where: Any) -> list[Cell]:
        """Return the cells with these values."""
        return [cell for cell in self.cells if all(getattr(cell, key) == value for key, value in where.items())]

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
            *in_short(found, dataset),
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


def in_short(found: Cells, dataset: str) -> list[str]:
    """Say what holds and what does not, in two or three sentences."""
    where = {"dataset": dataset, "poisoned": 0.0, "masked": False, "attack": "bim", "eps": PAPER_STRENGTH["bim"]}
    first = where | {"pair": paper_scan(FIRST)}
    unclipped = [cell.auroc for cell in found.all(**first, protocol="paper")]
    clipped = [cell.auroc for cell in found.all(**first, protocol="valid")]
    chosen = found.all(**where, protocol="valid", pair=PRESET)
    if not unclipped or not clipped or not chosen:
        return []
    published = TABLE_1[FIRST, dataset, 0.0, "bim"]
    high, low = max(unclipped), min(unclipped)
    holds = "comes out" if high >= published - NEAR else "does not come out"
    eps = PAPER_STRENGTH["bim"]
    text = f"**In short** (BIM, {eps}): the paper's {published:.2f} in the first layer {holds} on its kind of images"
    if len(unclipped) > 1:
        text += f", where the training seed alone moves it from {low:.2f} to {high:.2f}"
    text += f"; of images clipped to [0, 1] the same scan gives {min(clipped):.2f}"
    text += f" to {max(clipped):.2f}. " if len(clipped) > 1 else ". "
    auroc, of_noise = (np.mean([getattr(cell, key) for cell in chosen]) for key in ("auroc", "noise"))
    text += f"The recommended preset gives {auroc:.3f} there, and {of_noise:.3f} for random noise of the same size"
    return [text + (": what is seen is noise, more than the attack." if of_noise > auroc - 0.05 else ".")]


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
    table_2 = {}
    for detector, pair in {
        "scan": paper_scan(ERROR),
        "mean": mean_of(METRICS[0]),
        "one-class SVM": SVM,
        "the same, tuned": TUNED_SVM,
    }.items():
        ours = [
            f"{one.auroc:.2f}" + (f" (paper {TABLE_2[known]:.2f})" if known in TABLE_2 else "")
            for attack, eps in PAPER_STRENGTH.items()
            for known in [(detector, dataset, attack)]
            for one in found.all(
                dataset=dataset, seed=0, poisoned=0.0, protocol="paper", masked=False, attack=attack, eps=eps,
                pair=pair,
            )
        ]  # fmt: skip
        table_2[detector] = ", ".join(ours)
    return [
        f"**Table 1.** On the paper's own kind of images {_near(first)} cells of the first convolution and "
        f"its pooling are within {NEAR} of the paper's with seed 0 (mean difference {first.mean():+.3f}), "
        f"{_near(np.array(nearest))} with the nearest seed, and {_near(others)} of the other layers' with seed 0 (mean "
        f"absolute difference {np.abs(others).mean():.3f}).",
        f"**Table 2** ({', '.join(PAPER_STRENGTH)}): "
        + "; ".join(f"{detector} {text}" for detector, text in table_2.items())
        + ".",
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
            f"{attack} {PAPER_STRENGTH[attack]}: {unclipped.auroc:.3f} unclipped, {upper:.3f} clipped; the lower tail "
            f"of the clipped images gives {lower:.3f}, with Higher Criticism {criticism:.3f}"
        )
    return [f"**Clipping**, in the first layer, upper tail: {'; '.join(text)}."] if text else []


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
        "they come from which images are attacked with success, not from the attack"
        if np.abs(shift).mean() < 0.05
        else "selection explains a part of them only"
    )
    return [
        f"**Below chance.** {counted(len(below), 'cell')} of `valid` images at the paper's budgets "
        f"{'is' if len(below) == 1 else 'are'} below 0.45. The "
        f"clean originals of the attacked images have a mean AUROC of {np.mean([cell.control for cell in below]):.3f} "
        f"there, the attacked ones {np.mean([cell.auroc for cell in below]):.3f} (against their own originals: "
        f"{paired.mean():.3f}): {meaning}."
    ]


def errors(found: Cells, dataset: str) -> list[str]:
    """Whether the absolute error detects better than the cross-entropy."""
    text = []
    for protocol in ("paper", "valid"):
        for attack, eps in PAPER_STRENGTH.items():
            pair = [
                found.one(
                    dataset=dataset, seed=0, poisoned=0.0, protocol=protocol, masked=False, attack=attack, eps=eps,
                    pair=paper_scan(error_name(metric)),
                )
                for metric in ("absolute", "binary-crossentropy")
            ]  # fmt: skip
            if pair[0] is not None and pair[1] is not None:
                text.append(f"{attack}, {protocol}: {pair[0].auroc:.3f} against {pair[1].auroc:.3f}")
    return [f"**Absolute error against cross-entropy** (scan): {'; '.join(text)}."] if text else []


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
    for protocol in ("paper", "valid"):
        for pair in (OUTSIDE, NEARLY_BLACK, MARGIN):
            own = [
                cell
                for attack, eps in PAPER_STRENGTH.items()
                for cell in found.all(
                    dataset=dataset, protocol=protocol, masked=False, attack=attack, eps=eps, pair=pair
                )
            ]
            if own:
                text.append(f"{pair}, {protocol}: " + ", ".join(f"{cell.attack} {cell.auroc:.3f}" for cell in own))
    return [f"**Detectors that hardly look at the image**: {'; '.join(text)}."] if text else []


def preset(found: Cells, dataset: str) -> list[str]:
    """How the recommended preset does, and whether it meets its goals."""
    text = []
    of_attack = found.by_attack(dataset=dataset, pair=PRESET, protocol="valid", masked=False)
    for (_, attack, eps, _), own in of_attack.items():
        small = attack in ("fgsm", "bim") and eps < 0.03
        least, rate = GOALS[dataset][0 if small else 1]
        auroc = float(np.mean([cell.auroc for cell in own]))
        tpr = float(np.mean([cell.tpr_5 for cell in own]))
        met = auroc >= least and tpr >= rate
        goal = f"AUROC >= {least}" + (f", TPR >= {rate:.0%}" if rate else "")
        n = own[0].n
        text.append(f"{attack} {eps:g} (n {n}) {auroc:.3f}, {tpr:.1%} ({goal}: {'met' if met else 'missed'})")
    masked = [
        f"{attack} {eps:g} {np.mean([cell.auroc for cell in own]):.3f}, paired "
        f"{np.mean([cell.paired for cell in own]):.3f}"
        for (_, attack, eps, _), own in found.by_attack(
            dataset=dataset, pair=PRESET, protocol="valid", masked=True
        ).items()
    ]
    if not text:
        return []
    return [
        f"**The recommended preset** on `valid` images, AUROC and TPR at 5 % false positives, averaged over "
        f"the seeds: {'; '.join(text)}. Masked: {'; '.join(masked) or 'none'}."
    ]


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
            seen = "noise, not attacks" if of_noise > attacked - 0.05 else "more than noise"
            text.append(f"{pair} {attacked:.3f} for attacks, {of_noise:.3f} for noise of the same size: it sees {seen}")
    return [f"**Attack or noise**, mean AUROC over all `valid` attacks: {'; '.join(text)}."] if text else []


def groups(of_dataset: dict[str, Any]) -> list[str]:
    """Whether a higher share of attacked images gives higher group scores."""
    text = []
    shares = ""
    for space, rows in of_dataset["spaces"].items():
        medians = [row["median"] for row in rows]
        shares = ", ".join(f"{row['share']:.0%}" for row in rows)
        rising = "yes" if all(low <= high for low, high in pairwise(medians)) else "not at every step"
        text.append(f"{space}: {rising} (medians {', '.join(f'{median:.0f}' for median in medians)})")
    if not text:
        return []
    return [
        f"**A higher share of attacked images gives higher scores**, in groups of {of_dataset['size']} "
        f"({of_dataset['attack']}; shares {shares}): {'; '.join(text)}."
    ]
