"""Attackers who try several changes at each step: one who knows the network, and one who knows the detector too.

The second sees the fitted detector and its background: every change that it tries is scored by the detector itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from ..subjects.magika_attack import PRINTABLE, margin_aim, promises, slopes
from ..subjects.magika_network import PADDING
from .methods import AUTOMATIC, RATE, Judge

__all__ = ["Pursued", "Usual", "pursue", "seen_by", "usual_of"]

_BATCH = 16
_LAYER = "layer norm"  # the last before the logits


@dataclass(frozen=True, eq=False)
class Pursued:
    """How attacks ended.

    Attributes
    ----------
    tokens : ndarray of shape (n, 2048), int32
        The files as they were in the end.
    reached, undetected : ndarray of shape (n,), int64
        After how many changes another type had a probability of 0.5 for the first time, and after how many this was so
        with a p-value above 5 %; -1 for never.
    p_values : ndarray of shape (n,), float64
        In the end, by what the attacker aims at.
    """

    tokens: np.ndarray
    reached: np.ndarray
    undetected: np.ndarray
    p_values: np.ndarray


class Usual(NamedTuple):
    """Where the last layer of a type's background lies: means (K, 512) and inverse covariances (K, 512, 512)."""

    means: np.ndarray
    inverses: np.ndarray


def usual_of(judge: Judge, background_types: np.ndarray) -> Usual:
    """Learn what is usual of each type; the covariances are shrunk by Ledoit and Wolf's amount."""
    fits = [
        LedoitWolf().fit(judge.background[_LAYER][background_types == kind].astype(np.float64))
        for kind in range(len(judge.types))
    ]
    return Usual(np.array([one.location_ for one in fits]), np.array([one.precision_ for one in fits]))


def pursue(
    judge: Judge,
    tokens: np.ndarray,
    *,
    n_tried: int,
    budget: int,
    weight: float = 0.0,
    usual: Usual | None = None,
    against: str = AUTOMATIC,
) -> Pursued:
    """Change printable bytes one by one, of several changes always the one that helps most.

    What is to be largest is min(log-odds of the strongest other type, 0) - weight * (score of the detector).
    With a weight of 0 the detector is never asked, and an attack ends when the other type has a probability of 0.5;
    otherwise it ends when, besides, the p-value is above 5 %, or the budget is spent. No byte is changed twice.

    Parameters
    ----------
    judge : Judge
    tokens : ndarray of shape (n, 2048)
    n_tried : int
        Changes that are tried at each step. Without a weight, those that promise most for the other type by the
        gradient, each in another place: of one alone the attack is that of `subjects.magika_attack.attack`. With a
        weight half of them are those that promise most to bring the last layer near what is usual for the type that is
        aimed at.
    budget : int
        The most changes.
    weight : float, default 0
    usual : Usual, optional
        Of `usual_of`; needed with a weight.
    against : {"automatic", "automatic and margin"}, default "automatic"
        The detector: of `methods.METHODS`.
    """
    if weight and usual is None:
        raise ValueError("with a weight the attack needs to know what is usual: usual_of(judge, background_types)")
    current, rows, every = tokens.astype(np.int32), np.arange(len(tokens)), np.arange(len(tokens))
    labels = judge.network.logits(current).argmax(axis=1)
    free = current != PADDING
    reached, undetected = np.full(len(tokens), -1), np.full(len(tokens), -1)
    odds, _, p_values = _looked(judge, current, labels, against if weight else None)
    for n_changed in range(budget + 1):
        there = odds[rows] >= 0
        reached[rows[there & (reached[rows] < 0)]] = n_changed
        ends = there & (p_values[rows] > RATE) if weight else there
        undetected[rows[ends]] = n_changed
        rows = rows[~ends]
        if n_changed == budget or not len(rows):
            break
        places, values = _changes(judge, current[rows], labels[rows], free[rows], n_tried, usual if weight else None)
        tried = np.repeat(current[rows], places.shape[1], axis=0)
        tried[np.arange(len(tried)), places.ravel()] = values.ravel()
        found = _looked(judge, tried, np.repeat(labels[rows], places.shape[1]), against if weight else None)
        own_odds, scores, own_p = (one.reshape(places.shape) for one in found)
        # Without a weight what is beyond 0 counts too: the attack that looks one step ahead ends there anyway.
        best = (np.minimum(own_odds, 0) - weight * scores if weight else own_odds).argmax(axis=1)
        mine = every[: len(rows)]
        current[rows, places[mine, best]] = values[mine, best]
        free[rows, places[mine, best]] = False
        odds[rows], p_values[rows] = own_odds[mine, best], own_p[mine, best]
    ended = Pursued(current, reached, undetected, p_values)
    return ended if weight else seen_by(judge, ended, against)


def seen_by(judge: Judge, ended: Pursued, against: str) -> Pursued:
    """Tell of attacks that never asked a detector which of them it flags."""
    rows = judge.network.rows(ended.tokens)
    _, p_values = judge.looked(against, rows, judge.nearest(rows["logits"].astype(np.float64)))
    return replace(ended, undetected=np.where(p_values > RATE, ended.reached, -1), p_values=p_values)


def _looked(
    judge: Judge, tokens: np.ndarray, labels: np.ndarray, against: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the log-odds of the strongest type but `labels`, and scores and p-values; these only of a detector."""
    rows = judge.network.rows(tokens)
    logits = rows["logits"].astype(np.float64)
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    share = others.max(axis=1) - logsumexp(logits, axis=1)
    odds = share - np.log(-np.expm1(np.minimum(share, -1e-12)))
    if against is None:
        return odds, np.zeros(len(tokens)), np.full(len(tokens), np.nan)
    return odds, *judge.looked(against, rows, judge.nearest(logits))


def _changes(
    judge: Judge, tokens: np.ndarray, labels: np.ndarray, free: np.ndarray, n_tried: int, usual: Usual | None
) -> tuple[np.ndarray, np.ndarray]:
    """Choose what to try: places and bytes, each of shape (n, n_tried)."""
    places, values = [], []
    for start in range(0, len(tokens), _BATCH):
        batch, wrong, may = (one[start : start + _BATCH] for one in (tokens, labels, free))
        found = judge.network.forward(batch)
        aims = [margin_aim(judge.network, found["logits"], wrong)]
        if usual is not None:
            aims.append(_towards(judge, usual, found, wrong))
        chosen = []
        for n, aim in enumerate(aims):
            promise = promises(judge.network, batch, slopes(judge.network, aim, found))
            best = np.where(may, promise.max(axis=2), -np.inf)
            n_own = n_tried // len(aims) + (n < n_tried % len(aims))
            where = np.argsort(-best, axis=1, kind="stable")[:, :n_own]
            what = PRINTABLE[np.take_along_axis(promise.argmax(axis=2), where, axis=1)]
            chosen.append((where, what))
        places.append(np.concatenate([where for where, _ in chosen], axis=1))
        values.append(np.concatenate([what for _, what in chosen], axis=1))
    return np.concatenate(places), np.concatenate(values)


def _towards(judge: Judge, usual: Usual, found: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Return the slopes, by the last layer, of minus half the squared distance from what is usual, (n, 512)."""
    others = found["logits"].copy()
    others[np.arange(len(labels)), labels] = -np.inf
    kinds = judge.nearest(others)
    away = found[_LAYER] - usual.means[kinds]
    return -np.einsum("nij,nj->ni", usual.inverses[kinds], away)
