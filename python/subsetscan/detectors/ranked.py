"""What the detectors over a background of ranked values share: the streamed fit, the compact background, the file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from .._random import draw_seed
from .._validation import refuse_masked
from ..background import Background
from ..builder import BackgroundBuilder
from ..calibration import Plan
from ..persistence import State
from .base import DTYPES, CalibratedDetector, unchanged_on_error

__all__ = ["BackgroundDetector", "StreamedFit"]


def _can_grow(detector: Any) -> bool:
    """Tell whether a fit may go on with more inputs. Raises AttributeError if it may not, with the reason."""
    if not detector.can_grow:
        raise AttributeError(f"{type(detector).__name__} takes all inputs as one array: put them together")
    if detector.calibration is not None:
        raise AttributeError(
            f"calibration={detector.calibration!r} needs all clean inputs together, so that a fit cannot go on with "
            "more: use calibration=None, and calibrate with clean inputs of your own; or ModelScanner.fit, which takes "
            "batches"
        )
    return True


class BackgroundDetector(CalibratedDetector):
    """A detector that ranks inputs among the values of one background.

    Attributes
    ----------
    background_ : Background
    scan_options_ : dict
        The options of the score, as they were when fitted.
    can_grow : bool
        Whether there is a `partial_fit`, without calibration.
    """

    can_grow: ClassVar[bool] = True
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

    @available_if(_can_grow)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def partial_fit(self, X: Any, y: None = None) -> Self:
        """Add clean inputs to the background: any number of calls, with any number of inputs, as `fit` on all of them.

        Only with ``calibration=None``. Hold-out draws the inputs that calibrate from all there are, and leave-one-out
        scores each against all others: neither is known before the last input has come. Call `calibrate` after the
        last, with clean inputs that are not among them; null scores are dropped when the background grows.

        Where more inputs may come all values must be kept, not only those that a scan looks at, and each call sorts
        them again: give as many inputs as you can. Where the number of inputs is known, `BackgroundBuilder` keeps less.

        Parameters
        ----------
        X : array-like of shape (n, J)
            Of the nodes, and of the type, of the call before.
        y : None
            Ignored.

        Returns
        -------
        object
            Itself.

        Raises
        ------
        ValueError
            As for `fit`, and if `fit` has dropped values that may count among more inputs, as it does with ties
            "upper".
        AttributeError
            With another calibration.
        """
        del y
        refuse_masked(X, "node values")
        with unchanged_on_error(self):
            background = vars(self).get("background_")
            if background is not None and background.tail is not None:
                raise ValueError(
                    f"fit kept what scans of the {background.tail} tail need among {background.n_samples} inputs, and "
                    "more of it may count among others: begin with partial_fit, on a new detector"
                )
            X = validate_data(self, X, dtype=DTYPES, reset=background is None)
            options = StreamedFit(self, len(X)).options
            if background is not None and options["ties"] == self.scan_options_["ties"] == "random":
                options["random_state"] = self.scan_options_["random_state"]
            more = Background(X)
            self._take_background(more if background is None else background.merge(more), options)
            self._take_null_scores(np.empty(0))
        return self

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
        smallest = Background(np.zeros((1, 1), np.float32))
        detector._score(smallest, np.zeros((0, 1), np.float32), self.options, False)  # refuses what no score will take
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
