"""The scan as a careful engineer would write it in PyTorch, on the CPU: all nodes are searched at once.

Slow to import, so only where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Columns", "fit", "score"]

NODES = 64  # sorted at once: torch.sort also returns places, of eight bytes each
BYTES = 8 << 20  # of the histograms of the images that are scored at once


@dataclass(frozen=True)
class Columns:
    """What scans up to alpha_max need: the largest values of each node, ascending, and the log(1 / alpha) of each rank.

    The least of them is the cutoff: what is not above it has place 0, and does not count.
    """

    values: torch.Tensor
    logs: torch.Tensor


def fit(background: np.ndarray, logs: np.ndarray) -> Columns:
    """Sort each node's values, contiguously."""
    rows, n_nodes = torch.from_numpy(background), background.shape[1]
    values = torch.empty((n_nodes, len(logs)), dtype=rows.dtype)
    for start in range(0, n_nodes, NODES):
        columns = rows[:, start : start + NODES].T.contiguous()
        values[start : start + NODES] = columns.sort(dim=1).values[:, -len(logs) :]
    return Columns(values, torch.from_numpy(logs))


def score(state: Columns, images: np.ndarray) -> np.ndarray:
    """Search all nodes at once for as many images as have their histograms in the cache."""
    n_ranks = len(state.logs)
    width = n_ranks + 1  # the last is for values that do not count
    step = max(1, BYTES // (8 * width))
    scores = []
    for block in torch.from_numpy(images).split(step):
        places = torch.searchsorted(state.values, block.T.contiguous(), out_int32=True)
        first = torch.arange(len(block), dtype=torch.int32) * width
        ranks = places.neg_().add_(first + n_ranks).view(-1)
        sizes = torch.bincount(ranks, minlength=len(block) * width).view(-1, width)[:, :n_ranks].cumsum(dim=1)
        scores.append((sizes * state.logs).amax(dim=1))
    return torch.cat(scores).numpy()
