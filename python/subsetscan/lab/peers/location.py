"""Where in a file: the scan of positions beside the nearest neighbour and Mahalanobis' distance of each position."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from ... import SequenceScanner
from ...calibration import score_threshold
from ...spaces import OnnxLayers
from ...spaces.positions import read_positions
from ..defaults.cells import RATE
from ..files.where import BYTES, measures, over_changes
from ..subjects.found import file_of_package
from ..subjects.magika_attack import attack
from ..subjects.magika_network import Magika, as_tokens

__all__ = [
    "AS_MANY",
    "BYTES",
    "METHODS",
    "OF_FILES",
    "RULES",
    "SCAN",
    "TENSOR",
    "draw_files",
    "locate",
    "located",
    "model_file",
]

TENSOR = "jax2tf_get_logits_/pjit_get_logits_/MagikaV2/LayerNorm_0/AddV2_1:0"
_CONFIDENCE = 0.95  # in another type, that attacks are to reach
_SMALLEST = 4096  # bytes of a file
_RIDGE = 0.01  # as PaDiM adds to each covariance
_RESAMPLES = 1000
_N_BACKGROUND = 20_000  # positions, as the scanner draws

SCAN = "scan of positions"
METHODS: Mapping[str, str] = {
    SCAN: "`SequenceScanner()`",
    "nearest neighbour": f"the distance to the nearest of {_N_BACKGROUND:,} positions of clean files, as in PatchCore",
    "Mahalanobis, each position": "by mean and covariance of clean files at the same position, as in PaDiM",
    "Mahalanobis, all positions": "by one mean and covariance of positions of clean files",
}
AS_MANY, OF_FILES, OF_POSITIONS = "as many", "5% of files", "5% of positions"
RULES: Mapping[str, str] = {
    AS_MANY: "as many positions of each file as the scan finds, flagged or not",
    OF_FILES: "at a threshold that 5% of clean files exceed somewhere; of the scan where p is at most 0.05",
    OF_POSITIONS: "at a threshold that 5% of the positions of clean files exceed",
}


class Files(NamedTuple):
    """Files as tokens: clean ones, those that were attacked, before and after."""

    clean: np.ndarray
    originals: np.ndarray
    attacked: np.ndarray


def draw_files(n_clean: int, n_attacked: int, seed: int = 0) -> Files:
    """Draw files of Python's own library that Magika sees as such, and attack some.

    Parameters
    ----------
    n_clean, n_attacked : int
        Fewer than `n_attacked` succeed.
    seed : int, default 0

    Returns
    -------
    Files
        The originals are those whose attack succeeded, in the same order.
    """
    network = Magika()
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    paths = [path for path in library if path.stat().st_size >= _SMALLEST and "site-packages" not in path.parts]
    order = np.random.default_rng(seed).permutation(len(paths))
    tokens = np.stack([as_tokens(paths[n].read_bytes()) for n in order])
    tokens = tokens[network.logits(tokens).argmax(axis=1) == network.types.index("python")]
    originals, clean = tokens[:n_attacked], tokens[n_attacked : n_attacked + n_clean]
    attacked = attack(network, originals, (_CONFIDENCE,))[_CONFIDENCE]
    return Files(clean, originals[attacked.sources], attacked.tokens)


def model_file() -> Path:
    """Find Magika's ONNX file."""
    return file_of_package("magika", "models/standard_v3_3/model.onnx", "magika")


def locate(n_clean: int, n_attacked: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Let every method of `METHODS` say where files were changed.

    Parameters
    ----------
    n_clean, n_attacked, seed
        As for `draw_files`. Half of the clean files fit, half calibrate.

    Returns
    -------
    dict of str to ndarray
        ``"changed"`` (n, 2048), bool: the bytes that an attack changed. ``"METHOD/RULE"`` (n, P), bool: the positions
        that are returned of each attacked file, and ``"METHOD/RULE/clean"`` of its original.
    """
    files = draw_files(n_clean, n_attacked, seed)
    space = OnnxLayers(model_file(), [TENSOR])
    scanner = SequenceScanner(space, random_state=seed).fit(files.clean)
    scans = {"": scanner.scan(files.attacked), "/clean": scanner.scan(files.originals)}
    found = {"changed": files.attacked != files.originals}
    for which, scan in scans.items():
        blocks = np.array(scan.positions)
        found[f"{SCAN}/{AS_MANY}{which}"] = blocks
        found[f"{SCAN}/{OF_FILES}{which}"] = blocks & scan.is_flagged[:, np.newaxis]
    n_fit = len(files.clean) // 2
    clean = _positions(space, files.clean)
    values = {"": _positions(space, files.attacked), "/clean": _positions(space, files.originals)}
    for method, fit in _FITS.items():
        score = fit(clean[:n_fit], np.random.default_rng(seed))
        null = score(clean[n_fit:])
        thresholds = {
            OF_FILES: score_threshold(null.max(axis=1), RATE),
            OF_POSITIONS: score_threshold(null.ravel(), RATE),
        }
        for which, own in values.items():
            scores = score(own)
            sizes = found[f"{SCAN}/{AS_MANY}{which}"].sum(axis=1, keepdims=True)
            ranks = (-scores).argsort(axis=1, kind="stable").argsort(axis=1)
            found[f"{method}/{AS_MANY}{which}"] = ranks < sizes
            found |= {f"{method}/{rule}{which}": scores > threshold for rule, threshold in thresholds.items()}
    return found


def located(found: Mapping[str, np.ndarray]) -> list[dict[str, str | float]]:
    """Measure what `locate` found, by method and rule.

    Precision is the share of the returned positions that lie over changed bytes, a mean over files of which any is
    returned; recall the share of changed bytes under them, a mean over all files: with 95 % intervals, by bootstrap
    over files. Pooled: the precision over the positions of all files together. Attacked, clean: the shares of
    attacked and of original files of which any is returned.
    """
    changed = found["changed"]
    over = over_changes(changed)
    rows: list[dict[str, str | float]] = []
    for method in METHODS:
        for rule in RULES:
            if f"{method}/{rule}" not in found:
                continue
            returned, of_clean = found[f"{method}/{rule}"], found[f"{method}/{rule}/clean"]
            some = returned.any(axis=1)
            n_right, n_returned = (returned & over).sum(axis=1), returned.sum(axis=1)
            precision, recall, _ = measures(returned, changed)
            rows.append(
                {
                    "method": method,
                    "rule": rule,
                    **_mean("precision", precision[some]),
                    **_mean("recall", recall),
                    "pooled": float(n_right.sum() / max(1, n_returned.sum())),
                    "positions": float(n_returned.mean()),
                    "attacked": float(some.mean()),
                    "clean": float(of_clean.any(axis=1).mean()),
                }
            )
    return rows


def _mean(what: str, values: np.ndarray) -> dict[str, float]:
    """Return the mean over files and its interval; NaN of none."""
    if not len(values):
        return dict.fromkeys((what, f"{what}_low", f"{what}_high"), np.nan)
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return {what: float(values.mean()), f"{what}_low": float(low), f"{what}_high": float(high)}


Score = Callable[[np.ndarray], np.ndarray]  # from (n, P, C) to (n, P)


def _positions(space: OnnxLayers, tokens: np.ndarray) -> np.ndarray:
    return np.stack([one.values for one in read_positions(space, tokens)])


def _drawn(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw positions, as many of each file."""
    each = min(-(-_N_BACKGROUND // len(clean)), clean.shape[1])
    return np.concatenate([one[rng.choice(len(one), each, replace=False)] for one in clean])


def _nearest(clean: np.ndarray, rng: np.random.Generator) -> Score:
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(_drawn(clean, rng))
    return lambda values: search.kneighbors(values.reshape(-1, values.shape[2]))[0].reshape(values.shape[:2])


def _each_position(clean: np.ndarray, rng: np.random.Generator) -> Score:
    del rng
    means = clean.mean(axis=0)
    precisions = np.linalg.inv(
        np.stack([np.cov(clean[:, place].T) + _RIDGE * np.eye(clean.shape[2]) for place in range(clean.shape[1])])
    )

    def score(values: np.ndarray) -> np.ndarray:
        return np.stack([_quadratic(one, means, precisions) for one in values])

    return score


def _quadratic(values: np.ndarray, means: np.ndarray, precisions: np.ndarray) -> np.ndarray:
    """Compute the squared distance at each position of one file."""
    centred = (values - means)[:, np.newaxis]
    squares: np.ndarray = (centred @ precisions @ centred.transpose(0, 2, 1))[:, 0, 0]
    return squares


def _all_positions(clean: np.ndarray, rng: np.random.Generator) -> Score:
    covariance = LedoitWolf().fit(_drawn(clean, rng))
    return lambda values: covariance.mahalanobis(values.reshape(-1, values.shape[2])).reshape(values.shape[:2])


_FITS: Mapping[str, Callable[[np.ndarray, np.random.Generator], Score]] = dict(
    zip(list(METHODS)[1:], (_nearest, _each_position, _all_positions), strict=True)
)
