"""What the detectors over a background of ranked values share: the streamed fit, the compact background, the file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._random import draw_seed
from ..background import Background
from ..builder import BackgroundBuilder
from ..calibration import Plan
from ..persistence import State
from .base import CalibratedDetector

__all__ = ["BackgroundDetector", "StreamedFit"]


class BackgroundDetector(CalibratedDetector):
    """A detector that ranks inputs among the values of one background.

    Attributes
    ----------
    background_ : Background
    scan_options_ : dict
        The options of the score, as they were when fitted.
    """

    least_score = 0.0
    tail: str
    ties: str

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Return the options of the score, but for the seed of random ties."""

    @abstractmethod
    def _kept(self) -> tuple[str, float] | tuple[()]:
        """Return the tail and the threshold that a compact background serves, or nothing for a whole one."""

    @staticmethod
    @abstractmethod
    def _score(background: Background, X: np.ndarray, options: Mapping[str, Any], inside: bool) -> np.ndarray:
        """Score inputs, or rows of the background among the others, as null scores."""

    def start_fit(self, shares: Plan, y: Any = None) -> StreamedFit:  # noqa: D102 (the base says it)
        del y
        return StreamedFit(self, len(shares.background))

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:  # noqa: D102
        del y
        X = self.check_values(X)
        return self._score(self.background_, X, self.scan_options_, False)

    def _state(self) -> State:
        description, tensors = self._common_state()
        background = self.background_
        description |= {
            "scan_options": self.scan_options_,
            "n_samples": background.n_samples,
            "kept": [] if background.tail is None else [background.tail, background.alpha_max],
        }
        return description, tensors | {"background": background._columns()}

    @classmethod
    def _new(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> CalibratedDetector:
        detector = cls(**description["parameters"])
        tail, alpha_max = description["kept"] or (None, None)
        columns, options = tensors["background"], description["scan_options"]
        background = Background._from_columns(columns, description["n_samples"], tail, alpha_max)
        if not np.isfinite(columns).all():
            raise ValueError("the background has infinite values, which no fit takes")
        expected = {*detector._options(), *(["random_state"] if options["ties"] == "random" else [])}
        if options.keys() != expected:
            raise ValueError(
                f"the options of a scan are {', '.join(sorted(expected))}, got {', '.join(sorted(options))}"
            )
        detector._take_background(background, options)
        return detector

    def _take_background(self, background: Background, options: dict[str, Any]) -> None:
        self.background_ = background
        self.scan_options_ = options
        self.n_features_in_ = background.n_nodes


class StreamedFit:
    """A fit of a detector with one background, batch by batch; see `Fit`.

    Parameters
    ----------
    detector : BackgroundDetector
        The detector to be fitted; it changes in `finish` only.
    n_background : int
        How many inputs will make the background.

    Attributes
    ----------
    options : dict
        Those of the score, with the seed of random ties.
    """

    def __init__(self, detector: BackgroundDetector, n_background: int) -> None:
        self._detector = detector
        self.options = detector._options()
        if detector.ties == "random":
            self.options["random_state"] = draw_seed(detector.random_state)
        self._builder = BackgroundBuilder(n_background, *detector._kept())
        self._background: Background | None = None
        self._null_scores: list[np.ndarray] = []

    def add_background(self, X: np.ndarray, y: Any = None) -> None:  # noqa: D102 (as in Fit)
        del y
        self._builder.add(X)

    def add_calibration(self, X: np.ndarray, y: Any = None) -> None:  # noqa: D102
        del y
        inside = self._detector.calibration == "leave-one-out"
        self._null_scores.append(self._detector._score(self.background, X, self.options, inside))

    def finish(self) -> BackgroundDetector:  # noqa: D102
        self._detector._take_background(self.background, self.options)
        self._detector._take_null_scores(np.concatenate([*self._null_scores, np.empty(0)]))
        return self._detector

    @property
    def background(self) -> Background:
        """The background, complete once it is asked for."""
        if self._background is None:
            self._background = self._builder.finish()
        return self._background
