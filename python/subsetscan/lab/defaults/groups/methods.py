"""What is compared on groups of inputs, how groups are drawn, and what every method says of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ....background import Background
from ....detectors import AutomaticDetector, CalibratedDetector, NearestNeighborDetector
from ....group_scan import GroupScanResult
from ....groups import GroupScanner
from ....groups_automatic import share_out, widened

__all__ = [
    "AUTOMATIC", "CLEAN", "LAYERS", "METHODS", "NAMING", "PARTS", "RIVALS", "Group", "GroupScores", "Setting",
    "draw_groups", "score_groups",
]  # fmt: skip

# The most informative late layer, by what the network does with it; chosen without looking at results.
LAYERS: Mapping[str, tuple[str, ...]] = {
    "magika": ("max pool", "activation"),
    "encoder": ("layer 6",),
    "classifier": ("dense_1",),
    "photographs": ("stage 4, early",),
    "lines": ("last",),
    "speech": ("recurrent",),
}

CLEAN = "clean"
AUTOMATIC = "automatic"

_PARTS = {
    "scan of ranks": "the group scan of the residuals of within-sample ranks, alone",
    "scan of values": "the group scan of the residuals of values, alone",
    "Fisher, automatic": "Fisher's sum over the inputs of their p-values by `AutomaticDetector()`, alone",
    "Fisher, Mahalanobis of ranks": "Fisher's sum of their p-values by `MahalanobisDetector(of='ranks')`, alone",
}
_FISHER: Mapping[str, tuple[Callable[[], CalibratedDetector], str]] = {
    "Fisher, nearest neighbour": (
        lambda: NearestNeighborDetector(n_neighbors=1, metric="cosine", scale=False),
        "`NearestNeighborDetector(n_neighbors=1, metric='cosine', scale=False)`",
    ),
}
_SMALLEST = "smallest p-value"
_PLAIN = {"plain scan, upper tail": "upper", "plain scan, two-sided": "two-sided"}
_WHAT_ART_DOES = {"upper": ", which is what ART does", "two-sided": ""}

PARTS = tuple(_PARTS)
METHODS: Mapping[str, str] = {
    AUTOMATIC: "`GroupScanner.automatic`: the four parts below, combined",
    **_PARTS,
    **{name: f"Fisher's sum over the inputs of their p-values by {about}" for name, (_, about) in _FISHER.items()},
    _SMALLEST: "the smallest of the inputs' p-values by `AutomaticDetector()`: each input on its own",
    **{name: f"`GroupScanner(tail='{tail}')` of raw values{_WHAT_ART_DOES[tail]}" for name, tail in _PLAIN.items()},
}
RIVALS = tuple(name for name in METHODS if name != AUTOMATIC)
NAMING = (AUTOMATIC, *_PLAIN)  # which inputs are anomalous


@dataclass(frozen=True)
class Setting:
    """How many of what.

    Attributes
    ----------
    size : int
        Inputs in a group.
    ks : tuple of int
        How many of them are anomalous.
    n_fit : int
        Clean rows to fit on.
    n_clean, n_kind, n_attacked : int
        Groups of clean rows; of each kind of anomalies, and of the attacks that the story is about, for each k.
    n_null : int
        Groups of clean rows of the fit, to calibrate by.
    restarts : int
    n_folds : int
        In how many shares the fit's rows are for that, each beside a background of the others.
    n_splits : int
        How often clean rows are shared out between the fit and groups; anomalous groups are drawn for the first alone.
    most_kinds : int
        How many kinds of anomalies a network has at most.
    """

    size: int = 100
    ks: tuple[int, ...] = (4, 10)
    n_fit: int = 1000
    n_clean: int = 30
    n_kind: int = 8
    n_attacked: int = 20
    n_null: int = 99
    n_folds: int = 5
    restarts: int = 5
    n_splits: int = 8
    most_kinds: int = 12


class Group(NamedTuple):
    """A group: which of the clean test rows, and which rows of a kind, are at the places that the mask tells."""

    kind: str
    k: int
    clean: np.ndarray
    odd: np.ndarray
    mask: np.ndarray  # of shape (size,): which places hold anomalous ones

    def rows(self, starts: Mapping[str, int]) -> np.ndarray:
        """Tell the group's rows in an array of all, where the rows of each kind start as given, the clean ones at 0."""
        found = np.empty(len(self.mask), np.int64)
        found[~self.mask] = self.clean
        if self.k:
            found[self.mask] = starts[self.kind] + self.odd
        return found


def draw_groups(
    setting: Setting, n_test: int, kinds: Mapping[str, int], attacks: tuple[str, ...], seed: int, split: int
) -> list[Group]:
    """Draw clean groups and, for the first split, groups with anomalies, alike whatever other kinds there are.

    Parameters
    ----------
    setting : Setting
    n_test : int
        How many clean rows there are to draw from.
    kinds : mapping of str to int
        How many rows each kind has.
    attacks : tuple of str
        The kinds of which `Setting.n_attacked` groups are drawn.
    seed, split : int
    """
    asked = [(CLEAN, 0, 0, setting.n_clean)]
    if split == 0:
        asked += [
            (kind, k, n, setting.n_attacked if kind in attacks else setting.n_kind)
            for k in setting.ks
            for kind, n in kinds.items()
        ]
    groups = []
    for kind, k, n_odd, n_groups in asked:
        rng = np.random.default_rng([seed, split, k, *kind.encode()])
        for _ in range(n_groups):
            mask = np.zeros(setting.size, bool)
            mask[rng.choice(setting.size, k, replace=False)] = True
            clean = rng.choice(n_test, setting.size - k, replace=False)
            odd = rng.choice(n_odd, k, replace=False) if k else np.empty(0, np.int64)
            groups.append(Group(kind, k, clean, odd, mask))
    return groups


class GroupScores(NamedTuple):
    """What every method says of G groups in one layer.

    Attributes
    ----------
    own : ndarray of shape (G, K), float64
        Scores by each of `METHODS`.
    null : ndarray of shape (n_null, K), float64
        Scores of clean groups of the fit.
    named : ndarray of shape (G, len(NAMING), size), bool
        Which inputs are named.
    n_nodes : ndarray of shape (G,), int64
        How many nodes the automatic scan names.
    alone : ndarray of shape (G, size), float64
        The p-value of each input on its own, by `AutomaticDetector` fitted on all rows of the fit.
    alone_extrapolated : ndarray of shape (G, size), float64
        The same with the exponential tail.
    """

    own: np.ndarray
    null: np.ndarray
    named: np.ndarray
    n_nodes: np.ndarray
    alone: np.ndarray
    alone_extrapolated: np.ndarray


def score_groups(fit: np.ndarray, rows: np.ndarray, groups: np.ndarray, setting: Setting, seed: int) -> GroupScores:
    """Fit every method on the same clean rows, calibrate it in the same folds, and score groups.

    Parameters
    ----------
    fit : ndarray of shape (M, J)
        Clean rows.
    rows : ndarray of shape (N, J)
    groups : ndarray of shape (G, size), int64
        Which rows are in each group.
    setting : Setting
    seed : int
        Draws folds, clean groups and starts.
    """
    folds = share_out(len(fit), setting.n_folds, seed)
    rng = np.random.default_rng(seed)
    drawn = [
        [rng.choice(len(fold), setting.size, replace=False) for _ in range(n, setting.n_null, setting.n_folds)]
        for n, fold in enumerate(folds)
    ]
    own: dict[str, np.ndarray] = {}
    null: dict[str, np.ndarray] = {}
    named: dict[str, np.ndarray] = {}

    automatic = GroupScanner.automatic(
        fit, n_groups=setting.n_null, n_folds=setting.n_folds, restarts=setting.restarts, random_state=seed
    )
    found = automatic.scan_groups(rows, list(groups))
    own[AUTOMATIC], null[AUTOMATIC] = np.array([one.score for one in found]), automatic.null_scores(setting.size)
    named[AUTOMATIC] = _masks([one.images for one in found], setting.size)
    null_parts = automatic.null_part_scores(setting.size)
    for n, part in enumerate(PARTS):
        own[part], null[part] = np.array([one.part_scores[n] for one in found]), null_parts[:, n]

    def by_input(name: str, make: Callable[[], CalibratedDetector]) -> None:
        """Sum -log p over the inputs of each group, and of each clean group, or take the largest."""
        together = np.max if name == _SMALLEST else np.sum

        def surprise(detector: CalibratedDetector, x: np.ndarray) -> np.ndarray:
            return -np.log(detector.p_values_of(detector.anomaly_score(x), extrapolate=True))

        own[name] = together(surprise(make().fit(fit), rows)[groups], axis=1)
        clean = [surprise(make().fit(np.delete(fit, fold, axis=0)), fit[fold]) for fold in folds]
        scores = [together(one[chosen]) for one, draws in zip(clean, drawn, strict=True) for chosen in draws]
        null[name] = np.array(scores) if name == _SMALLEST else widened(np.array(scores), len(fit), setting.size)

    for name, (make, _) in _FISHER.items():
        by_input(name, make)
    by_input(_SMALLEST, AutomaticDetector)

    for name, tail in _PLAIN.items():

        def plain(background: np.ndarray, x: list[np.ndarray], tail: str = tail) -> list[GroupScanResult]:
            scanner = GroupScanner(Background(background), tail=tail, restarts=setting.restarts, random_state=seed)
            return [scanner.scan(group) for group in x]

        blocks = plain(fit, [rows[group] for group in groups])
        own[name] = np.array([block.score for block in blocks])
        named[name] = _masks([block.images for block in blocks], setting.size)
        clean = [
            plain(np.delete(fit, fold, axis=0), [fit[fold][chosen] for chosen in draws])
            for fold, draws in zip(folds, drawn, strict=True)
        ]
        null[name] = np.array([block.score for blocks in clean for block in blocks])

    single = AutomaticDetector().fit(fit)
    scores = single.anomaly_score(rows)
    alone, extrapolated = (single.p_values_of(scores, extrapolate=tail)[groups] for tail in (False, True))
    return GroupScores(
        own=np.column_stack([own[name] for name in METHODS]),
        null=np.column_stack([null[name] for name in METHODS]),
        named=np.stack([named[name] for name in NAMING], axis=1),
        n_nodes=np.array([len(one.nodes) for one in found]),
        alone=alone,
        alone_extrapolated=extrapolated,
    )


def _masks(images: list[np.ndarray], size: int) -> np.ndarray:
    return np.array([np.isin(np.arange(size), chosen) for chosen in images])
