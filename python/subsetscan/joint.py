"""Several spaces scanned as one: rank histograms of disjoint sets of nodes add up to that of their union."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .background import Background
from .detectors import SubsetScanDetector
from .scanning import ScanResult, scan_histograms

__all__ = ["JointScan", "JointScanResult"]

_SHARED = ("statistic", "alpha_max", "scope", "ties")


@dataclass(frozen=True, eq=False)
class JointScanResult(ScanResult):
    """The highest-scoring subset of the nodes of several spaces together.

    Attributes
    ----------
    scores, alphas, sizes
        As in `ScanResult`; `nodes` is None.
    shares : dict of str to ndarray of shape (N,), float64
        The part of each input's subset that lies in each space; 0 for an empty subset.
    """

    shares: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def concatenate(cls, results: Sequence[Any]) -> JointScanResult:
        """Put the results of several batches of inputs, at least one, below each other."""
        both = ScanResult.concatenate(results)
        shares = {name: np.concatenate([result.shares[name] for result in results]) for name in results[0].shares}
        return cls(both.scores, both.alphas, both.sizes, None, shares)


class JointScan:
    """The scan of the union of several spaces' nodes, each ranked by its own tail.

    Parameters
    ----------
    backgrounds : mapping of str to Background
        Of the same inputs.
    options : mapping of str to mapping
        How each space is scanned, as a fitted detector's `scan_options_`: alike, but for the tail and the seed.

    Attributes
    ----------
    null_scores : ndarray of shape (n,), float64
        Scores of the clean inputs that calibrate.
    """

    def __init__(self, backgrounds: Mapping[str, Background], options: Mapping[str, Mapping[str, Any]]) -> None:
        self._backgrounds = dict(backgrounds)
        own = ("tail", "random_state")
        self._own = {name: {key: options[name][key] for key in own if key in options[name]} for name in backgrounds}
        first = next(iter(options.values()))
        self._options = {name: first[name] for name in _SHARED}
        self.null_scores = np.empty(0)

    def uncalibrated(self) -> JointScan:
        """Return the same scan without null scores."""
        other = copy(self)
        other.null_scores = np.empty(0)
        return other

    @staticmethod
    def check(detectors: Mapping[str, Any]) -> None:
        """Refuse detectors that cannot be scanned as one. Raises ValueError."""
        for name, detector in detectors.items():
            if not isinstance(detector, SubsetScanDetector):
                raise ValueError(
                    f"a joint scan needs a SubsetScanDetector for each space, {name} has {type(detector).__name__}"
                )
            if detector.ties == "range":
                raise ValueError('a joint scan uses rank histograms, which ties="range" does not have')
        kinds = {tuple(getattr(detector, name) for name in _SHARED) for detector in detectors.values()}
        if len(kinds) > 1:
            raise ValueError(f"a joint scan needs the same {', '.join(_SHARED)} in all spaces, got {sorted(kinds)}")

    def scan(self, values: Mapping[str, np.ndarray], inside: bool = False) -> JointScanResult:
        """Scan inputs by their node values in each space, or inputs of the backgrounds for null scores."""
        how = {"alpha_max": self._options["alpha_max"], "ties": self._options["ties"]}
        how["membership"] = "calibrating" if inside else "outside"
        histograms = [
            background.rank_histogram(values[name], **how, **self._own[name])
            for name, background in self._backgrounds.items()
        ]
        tails = [own["tail"] for own in self._own.values()]
        n_samples = next(iter(self._backgrounds.values())).n_samples
        n_nodes = sum(background.n_nodes for background in self._backgrounds.values())
        found, counts = scan_histograms(histograms, n_samples, n_nodes, tails, **self._options)
        parts = counts / np.maximum(found.sizes, 1)[:, np.newaxis]
        shares = {name: parts[:, n] for n, name in enumerate(self._backgrounds)}
        return JointScanResult(found.scores, found.alphas, found.sizes, None, shares)

    def add_null(self, values: Mapping[str, np.ndarray], inside: bool) -> None:
        """Scan clean inputs that calibrate; under leave-one-out they are inside the backgrounds."""
        self.null_scores = np.concatenate([self.null_scores, self.scan(values, inside).scores])
