"""The scan as a careful engineer would write it in numba: what a rival without a core of its own can reach.

Columns are sorted, contiguous, and only as long as `alpha_max` needs. Values that can't count are dropped before the
search. The search has no branches. The columns of a block of nodes stay in the second-level cache while all images are
searched, and an image is a histogram of ranks, looked at once with logarithms computed before.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

__all__ = ["score"]

NODES = 32  # a block of columns
IMAGES = 256  # a tile of images whose values are searched together
FEW = 48  # fewer images than this are faster one value at a time


def score(columns: np.ndarray, cutoffs: np.ndarray, logs: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Score images (N, J): a share of the images for each thread, or a share of the nodes where images are few.

    `columns` (J, K) are the largest values of each node, ascending, `cutoffs` (J,) those just below them, which do not
    count, and `logs` the log(1 / alpha) of each rank.
    """
    n_threads = get_num_threads()
    image_parts, node_parts = (n_threads, 1) if len(images) >= 4 * n_threads else (1, n_threads)
    kind = np.uint16 if images.shape[1] < 2**16 else np.uint32
    histograms = np.zeros((node_parts, len(images), len(logs)), dtype=kind)
    count = count_each if len(images) < FEW else count_tiles
    count(columns, cutoffs, images, histograms, image_parts)
    return best(histograms, logs)


@njit(nogil=True, cache=True)
def share(part, n_parts, total):
    return total * part // n_parts, total * (part + 1) // n_parts


@njit(parallel=True, nogil=True, cache=True)
def count_each(columns, cutoffs, images, histograms, image_parts):
    """Search one value after the other."""
    kept, node_parts = columns.shape[1], len(histograms)
    for part in prange(image_parts * node_parts):
        first_image, end_image = share(part // node_parts, image_parts, len(images))
        first_node, end_node = share(part % node_parts, node_parts, len(columns))
        histogram = histograms[part % node_parts]
        for start in range(first_node, end_node, NODES):
            for image in range(first_image, end_image):
                for node in range(start, min(start + NODES, end_node)):
                    x = images[image, node]
                    if x > cutoffs[node]:
                        column = columns[node]
                        place, n = np.uint64(0), np.uint64(kept)
                        while n > np.uint64(1):
                            half = n >> np.uint64(1)
                            place = place + half if column[place + half - np.uint64(1)] < x else place
                            n -= half
                        place += np.uint64(column[place] < x)
                        histogram[image, np.uint64(kept) - place] += 1


@njit(parallel=True, nogil=True, cache=True)
def count_tiles(columns, cutoffs, images, histograms, image_parts):
    """Collect the values of a node that count in a tile of images, and search them side by side."""
    kept, node_parts = columns.shape[1], len(histograms)
    for part in prange(image_parts * node_parts):
        first_image, end_image = share(part // node_parts, image_parts, len(images))
        first_node, end_node = share(part % node_parts, node_parts, len(columns))
        histogram = histograms[part % node_parts]
        values = np.empty((NODES, IMAGES + 1), dtype=images.dtype)
        rows = np.empty((NODES, IMAGES + 1), dtype=np.uint32)
        places = np.empty(IMAGES, dtype=np.uint32)
        sizes = np.empty(NODES, dtype=np.uint32)
        for node in range(first_node, end_node, NODES):
            n_nodes = min(NODES, end_node - node)
            for start in range(first_image, end_image, IMAGES):
                sizes[:] = 0
                for image in range(start, min(start + IMAGES, end_image)):
                    for k in range(n_nodes):
                        x, size = images[image, node + k], sizes[k]
                        values[k, size] = x
                        rows[k, size] = image
                        sizes[k] = size + np.uint32(x > cutoffs[node + k])
                for k in range(n_nodes):
                    search(columns[node + k], values[k], sizes[k], places)
                    for i in range(sizes[k]):
                        histogram[rows[k, i], np.uint32(kept) - places[i]] += 1


@njit(nogil=True, cache=True)
def search(column, values, size, places):
    """Count for each value how many of the column are smaller: level by level, so that it becomes vector code."""
    places[:size] = 0
    n = np.uint32(len(column))
    while n > 1:
        half = n >> np.uint32(1)
        for i in range(size):
            middle = np.uint32(places[i] + half)
            places[i] = middle if column[np.uint32(middle - np.uint32(1))] < values[i] else places[i]
        n = np.uint32(n - half)
    for i in range(size):
        places[i] += np.uint32(column[places[i]] < values[i])


@njit(parallel=True, nogil=True, cache=True)
def best(histograms, logs):
    """Find the highest score of each image: at an empty rank it is never higher than at the last one before."""
    node_parts, n_images, n_ranks = histograms.shape
    scores = np.empty(n_images)
    for image in prange(n_images):
        size, highest = 0, 0.0
        for rank in range(n_ranks):
            for part in range(node_parts):
                size += histograms[part, image, rank]
            highest = max(highest, size * logs[rank])
        scores[image] = highest
    return scores
