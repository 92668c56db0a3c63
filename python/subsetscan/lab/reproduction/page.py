"""The pages of results: tables in Markdown with the paper's number beside ours, figures, and what it all says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..experiment.cells import Cell
from ..experiment.plan import attack_name
from ..experiment.scoring import Pair
from ..markdown import number, percent, render, table
from ..preset import PRESET
from .attacks import PAPER_STRENGTH
from .lead import ATTACK, lead_table, meaning
from .pairs import ERROR, FIRST, METRICS, PAPER, SVM, TUNED_SVM, error_name, mean_of, paper_scan
from .published import ACCURACY, COLUMNS, TABLE_1, TABLE_2, TEST_LOSS
from .verdicts import Cells, noise, verdicts

__all__ = ["write_pages"]

LOWER = ("higher-criticism", "lower")
FEWEST = 30  # attacked images: with fewer, a table of all detectors says nothing


def write_pages(out: Path, results: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write ``results.md`` and the tables behind it, ``results/details.md``, each whole or not at all."""
    found = Cells(cells)
    render(
        Path(__file__).with_name("results.md.jinja"),
        out / "results.md",
        **results,
        strength=f"{PAPER_STRENGTH[ATTACK]:g}",
        lead_table=lead_table(found),
        meaning=meaning(found),
        verdicts=verdicts(found, results),
        networks_table=networks_table(results["networks"]),
        attacks_table=attacks_table(results["attacks"]),
        table_1=lambda protocol, statistic: table_1(found, protocol, statistic),
        table_2=lambda protocol: table_2(found, protocol),
        groups_table=groups_table(results["groups"]),
        preset_table=lambda dataset: preset_table(found, dataset),
    )
    render(
        Path(__file__).with_name("details.md.jinja"),
        out / "results" / "details.md",
        **results,
        lead=[f"{dataset}: {sentence}" for dataset in found.datasets for sentence in noise(found, dataset)],
        table_1=lambda protocol, statistic: table_1(found, protocol, statistic),
        questions=lambda dataset, attack, eps: questions(found, dataset, attack, eps),
        budgets=lambda dataset: [
            (row["attack"], row["eps"])
            for row in results["attacks"]
            if row["dataset"] == dataset and row["protocol"] == "valid" and not row["masked"] and row["n"] >= FEWEST
        ],
        fewest=FEWEST,
    )


def networks_table(summaries: Sequence[dict[str, Any]]) -> str:
    """Tell how well each network was trained, beside the paper's."""
    rows = []
    for one in summaries:
        accuracy = "test_accuracy" in one
        published = (ACCURACY if accuracy else TEST_LOSS)[one["dataset"]]
        rows.append(
            [
                f"{one['dataset']} {one['network']}",
                str(one["seed"]),
                f"{one.get('poisoned', 0):.0%}",
                str(one["epochs"]),
                f"{one['n_parameters']:,}",
                f"accuracy {one['test_accuracy']:.4f}" if accuracy else f"test loss {one['test_loss']:.4f}",
                "" if one.get("poisoned") else f"{published}",
            ]
        )
    return table(["network", "seed", "poisoned", "epochs", "parameters", "ours", "paper"], rows)


def attacks_table(attacks: Sequence[dict[str, Any]]) -> str:
    """Tell how many images each attack was tried on, and what came of it."""
    rows = [
        [
            ", ".join(
                [row["dataset"], row["protocol"], *["masked"] * row["masked"], attack_name(row["attack"], row["eps"])]
            ),
            str(row["tried"]),
            str(row["n"]),
            percent(row["success_rate"]),
            f"{row['misclassified_before']} of {row['given']}",
            str(row["unchanged"]),
            percent(row["outside"]),
        ]
        for row in attacks
    ]
    header = ["attack", "tried", "n", "success rate", "misclassified before", "left unchanged", "pixels outside [0, 1]"]
    return table(header, rows)


def table_1(found: Cells, protocol: str, statistic: str) -> str:
    """Lay out the paper's table 1: our AUROC with its interval, and the paper's below."""
    layers = list(dict.fromkeys(layer for layer, *_ in TABLE_1))
    columns = [column for column in COLUMNS if found.any(dataset=column[0], poisoned=column[1], protocol=protocol)]
    rows = []
    for layer in layers:
        row = [layer]
        for dataset, poisoned, attack in columns:
            one = found.one(
                dataset=dataset, seed=0, poisoned=poisoned, protocol=protocol, masked=False, attack=attack,
                eps=PAPER_STRENGTH[attack], pair=Pair(layer, statistic, "upper"),
            )  # fmt: skip
            published = f"<br>paper {TABLE_1[layer, dataset, poisoned, attack]:.3f}" if statistic == PAPER[0] else ""
            row.append(f"{value(one)}{published}")
        rows.append(row)
    header = [
        f"{dataset} {attack}{f', {poisoned:.0%} poisoned' if poisoned else ''}" for dataset, poisoned, attack in columns
    ]
    return table(["layer", *header], rows)


def table_2(found: Cells, protocol: str) -> str:
    """Lay out the paper's table 2, with the other errors beside the cross-entropy."""
    pairs: list[tuple[str, Pair, str | None]] = [
        ("scan, cross-entropy", paper_scan(ERROR), "scan"),
        ("mean cross-entropy", mean_of(METRICS[0]), "mean"),
        ("one-class SVM, defaults", SVM, "one-class SVM"),
        ("one-class SVM, tuned", TUNED_SVM, None),
        ("scan, absolute", paper_scan(error_name("absolute")), None),
        ("scan, squared", paper_scan(error_name("squared")), None),
        ("scan, signed", paper_scan(error_name("signed")), None),
        ("mean absolute", mean_of("absolute"), None),
        ("mean squared", mean_of("squared"), None),
    ]
    rows = []
    for dataset in found.datasets:
        for attack, eps in PAPER_STRENGTH.items():
            row = [f"{dataset} {attack}"]
            for _, pair, key in pairs:
                one = found.one(
                    dataset=dataset, seed=0, poisoned=0.0, protocol=protocol, masked=False, attack=attack, eps=eps,
                    pair=pair,
                )  # fmt: skip
                published = "" if key is None else f"<br>paper {TABLE_2[key, dataset, attack]:.3f}"
                row.append(f"{value(one)}{published}")
            rows.append(row)
    return table(["", *(title for title, _, _ in pairs)], rows)


def questions(found: Cells, dataset: str, attack: str, eps: float) -> str:
    """Lay out what detectors really see of one attack under ``valid``."""
    where = {"dataset": dataset, "poisoned": 0.0, "protocol": "valid", "attack": attack, "eps": eps}
    rows = []
    for pair, own in found.by_pair(**where, masked=False).items():
        if not shown(pair):
            continue
        one = min(own, key=lambda cell: cell.seed)
        masked = found.one(**{**where, "masked": True}, seed=one.seed, pair=pair)
        seeds = [cell.auroc for cell in own]
        rows.append(
            [
                str(Pair(pair.space, short(pair.statistic), pair.tail)),
                value(one),
                *(number(getattr(one, key)) for key in ("control", "paired", "noise")),
                "" if masked is None else number(masked.auroc),
                *(percent(getattr(one, key)) for key in ("tpr_1", "tpr_5", "fpr_5")),
                f"{min(seeds):.3f} to {max(seeds):.3f}" if len(seeds) > 1 else "",
            ]
        )
    header = ["detector", "AUROC", "control", "paired", "noise", "masked", "TPR at 1 %", "at 5 %", "FPR", "seeds"]
    return table(header, rows)


def shown(pair: Pair) -> bool:
    """Whether a pair is in the tables: the paper's, the first layer's lower tail, and everything that is not a scan.

    Scans whose scores equal another's are not: an upsampling layer repeats the one before it, and squaring keeps the
    order of absolute errors.
    """
    if pair.statistic and (pair.space.startswith("up_sampling") or pair.space == error_name("squared")):
        return False
    return (pair.statistic, pair.tail) == PAPER or not pair.statistic or pair == Pair(FIRST, *LOWER)


def groups_table(groups: dict[str, Any]) -> str:
    """Tell how the scores of groups rise with the share of attacked images."""
    rows = [
        [
            f"{dataset}, {space}",
            *(f"{one['median']:.1f} ({one['auroc']:.3f})" for one in found),
        ]
        for dataset, of_dataset in groups.items()
        for space, found in of_dataset["spaces"].items()
    ]
    if not rows:
        return "Too few attacks succeeded."
    found = next(of_space for of in groups.values() for of_space in of["spaces"].values())
    return table(["space", *(f"{one['share']:.0%}" for one in found)], rows)


def preset_table(found: Cells, dataset: str) -> str:
    """Tell how the recommended preset does on each attack, over the autoencoders' seeds."""
    rows = []
    for (protocol, attack, eps, masked), own in found.by_attack(dataset=dataset, pair=PRESET).items():
        first = min(own, key=lambda cell: cell.seed)
        rows.append(
            [
                f"{protocol}{', masked' if masked else ''}, {attack_name(attack, eps)}",
                str(first.n),
                value(first),
                number(mean(own, "auroc")),
                percent(mean(own, "tpr_1")),
                percent(mean(own, "tpr_5")),
                percent(mean(own, "fpr_5")),
                *(number(mean(own, key)) for key in ("control", "paired", "noise")),
            ]
        )
    header = [
        "attack", "n", "AUROC, seed 0", "mean AUROC", "TPR at 1 %", "at 5 %", "FPR", "control", "paired", "noise"
    ]  # fmt: skip
    return table(header, rows)


def mean(cells: Sequence[Cell], key: str) -> float:
    """Average a value over seeds."""
    return float(np.mean([getattr(one, key) for one in cells]))


def short(statistic: str) -> str:
    """Abbreviate a statistic as the literature does."""
    return {"berk-jones": "BJ", "higher-criticism": "HC", "kolmogorov-smirnov": "KS"}.get(statistic, "")


def value(one: Cell | None) -> str:
    """Write an AUROC with its interval; a dash where there is none."""
    return "—" if one is None or np.isnan(one.auroc) else str(one)
