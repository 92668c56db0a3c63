"""Attacks on Magika: printable bytes of a file changed, few of them, until another type is seen with confidence.

After each change the gradient says which byte to change next, and to what. Forward passes are those of the ONNX model;
its gradient is worked out here, layer by layer, for there is no other framework at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import logsumexp

from .magika_network import PADDING, Magika, gelu_slope

__all__ = ["PRINTABLE", "Attacked", "attack", "changed_at_random", "gradient", "margin_aim", "promises", "slopes"]

PRINTABLE = np.arange(33, 127)
_BATCH = 32
_EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class Attacked:
    """Files whose type is seen as another one.

    Attributes
    ----------
    tokens : ndarray of shape (n, 2048), int32
    sources : ndarray of shape (n,), int64
        The row of each among those that were attacked.
    n_changed : ndarray of shape (n,), int64
        How many bytes were changed.
    confidences : ndarray of shape (n,), float64
        The probability of the type that is seen now.
    """

    tokens: np.ndarray
    sources: np.ndarray
    n_changed: np.ndarray
    confidences: np.ndarray


def attack(
    network: Magika, tokens: np.ndarray, confidences: Sequence[float], most_changes: int = 40
) -> dict[float, Attacked]:
    """Change printable bytes one by one, each where the gradient promises most, and keep what succeeds.

    The aim is whatever other type is nearest after each change. No byte is changed twice.

    Parameters
    ----------
    network : Magika
    tokens : ndarray of shape (n, 2048)
    confidences : sequence of float
        The probabilities that the other type must reach.
    most_changes : int, default 40

    Returns
    -------
    dict of float to Attacked
        For each of `confidences` the files as they were when they first reached it.

    References
    ----------
    arXiv 2510.01676, whose attack substitutes bytes in the same manner.
    """
    current, rows = tokens.astype(np.int32), np.arange(len(tokens))
    labels = network.logits(current).argmax(axis=1)
    free = current != PADDING
    found: dict[float, dict[int, tuple[np.ndarray, int, float]]] = {least: {} for least in confidences}
    for n_changed in range(most_changes + 1):
        logits, promise, best = gradient(network, current[rows], labels[rows])
        others = logits.copy()
        others[np.arange(len(rows)), labels[rows]] = -np.inf
        reached = np.exp(others.max(axis=1) - logsumexp(logits, axis=1))
        for least, files in found.items():
            for row, confidence in zip(rows.tolist(), reached, strict=True):
                if confidence >= least:
                    files.setdefault(row, (current[row].copy(), n_changed, confidence))
        left = reached < max(confidences)
        if not left.any():
            break
        rows, promise, best = rows[left], promise[left], best[left]
        where = np.where(free[rows], promise, -np.inf).argmax(axis=1)
        current[rows, where] = best[np.arange(len(rows)), where]
        free[rows, where] = False
    return {least: _as_attacked(files) for least, files in found.items()}


def _as_attacked(files: dict[int, tuple[np.ndarray, int, float]]) -> Attacked:
    sources = sorted(files)
    return Attacked(
        tokens=np.array([files[row][0] for row in sources], np.int32),
        sources=np.array(sources, np.int64),
        n_changed=np.array([files[row][1] for row in sources], np.int64),
        confidences=np.array([files[row][2] for row in sources]),
    )


def gradient(network: Magika, tokens: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, what a change at each place promises, and the printable byte that promises it.

    Returns
    -------
    logits : ndarray of shape (n, 214)
    promise : ndarray of shape (n, 2048)
        The largest first-order change of (largest logit of another type - logit of `labels`).
    best : ndarray of shape (n, 2048), int64
        The byte.
    """
    parts = []
    for start in range(0, len(tokens), _BATCH):
        batch, wrong = tokens[start : start + _BATCH], labels[start : start + _BATCH]
        found = network.forward(batch)
        promise = promises(network, batch, slopes(network, margin_aim(network, found["logits"], wrong), found))
        parts.append((found["logits"], promise.max(axis=2), PRINTABLE[promise.argmax(axis=2)]))
    logits, promise, best = (np.concatenate(each) for each in zip(*parts, strict=True))
    return logits, promise, best


def promises(network: Magika, tokens: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the first-order change that each printable byte in each place makes, of shape (n, 2048, 94).

    Parameters
    ----------
    network : Magika
    tokens : ndarray of shape (n, 2048)
    own : ndarray of shape (n, 2048, 64)
        Of `slopes`.
    """
    found = own @ network.embedding[PRINTABLE].T
    found -= (own * network.embedding[tokens]).sum(axis=2, keepdims=True)
    return found


def margin_aim(network: Magika, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the slopes of (largest logit of another type - logit of `labels`) by the last layer, (n, 512)."""
    others = logits.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return network.head.weights[:, others.argmax(axis=1)].T - network.head.weights[:, labels].T


def slopes(network: Magika, aim: np.ndarray, found: dict[str, np.ndarray]) -> np.ndarray:
    """Take slopes back from the last layer to the embedding of each byte.

    Parameters
    ----------
    network : Magika
    aim : ndarray of shape (n, 512)
        Slopes by the layer "layer norm".
    found : dict of str to ndarray
        What `Magika.forward` gave for these files.

    Returns
    -------
    ndarray of shape (n, 2048, 64)
    """
    n, every = len(aim), np.arange(len(aim))
    pooled = _through_normalisation(found["max pool"], aim * network.scale_1)
    # Each channel's maximum comes from one position of the convolution, where alone its slope is not 0.
    before = found["convolution"]  # (n, 508, 512) before its activation
    where = found["activation"].argmax(axis=1)  # (n, 512)
    pooled *= gelu_slope(np.take_along_axis(before, where[:, np.newaxis], axis=1)[:, 0])
    n_positions, n_channels = before.shape[1:]
    at = (every[:, np.newaxis] * n_positions + where).ravel(), np.tile(np.arange(n_channels), n)
    sparse = csr_array((pooled.ravel(), at), shape=(n * n_positions, n_channels))
    spread = (sparse @ network.kernel.reshape(n_channels, -1)).reshape(n, n_positions, *network.kernel.shape[1:])
    inputs = np.zeros_like(found["normalised"])  # (n, 512, 256)
    for offset in range(spread.shape[2]):
        inputs[:, offset : offset + n_positions] += spread[:, :, offset]
    groups = _through_normalisation(found["groups"], inputs * network.scale_0[:, np.newaxis])
    return groups.reshape(n, -1, network.embedding.shape[1])


def _through_normalisation(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Take slopes with respect to normalised values back to the values, layer normalisation along axis 1."""
    spread = np.sqrt(values.var(axis=1, keepdims=True) + _EPSILON)
    normal = (values - values.mean(axis=1, keepdims=True)) / spread
    along = (slopes * normal).mean(axis=1, keepdims=True)
    return (slopes - slopes.mean(axis=1, keepdims=True) - normal * along) / spread


def changed_at_random(originals: np.ndarray, attacked: Attacked, rng: np.random.Generator) -> np.ndarray:
    """Change as many bytes as the attacks did, to random printable ones at random places of the same files."""
    changed = originals[attacked.sources].copy()
    for tokens, n in zip(changed, attacked.n_changed, strict=True):
        places = rng.choice(len(tokens), n, replace=False)
        tokens[places] = rng.integers(33, 127, n)
    return changed
