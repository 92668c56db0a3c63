"""The scan as a scikit-learn outlier detector: fitted on clean images, calibrated, saved and loaded."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ._files import whole
from .background import Background, BackgroundBuilder
from .calibration import conformal_p_values, plan, score_threshold
from .scanning import ScanResult

__all__ = ["StreamedFit", "SubsetScanDetector"]

_FORMAT = "subsetscan.SubsetScanDetector"
_FORMAT_VERSION = "1"
_DTYPES = (np.float64, np.float32, np.float16)
_ROWS_AT_ONCE = 1024


class SubsetScanDetector(OutlierMixin, BaseEstimator):
    """Detect images whose nodes are jointly more extreme than those of clean images.

    Scores are those of the exact scan over all subsets of nodes; decisions come from the scores of clean images that
    are not in the background, so that the share of clean images that are flagged is known.

    Parameters
    ----------
    statistic : {"berk-jones", "higher-criticism", "kolmogorov-smirnov"}, default "berk-jones"
        What a subset is scored by.
    tail : {"upper", "lower", "two-sided"}, default "upper"
        Which node values are extreme.
    alpha_max : float in (0, 1], default 0.5
        The largest threshold to consider.
    scope : {"subset", "all"}, default "subset"
        Hold the small p-values against the subset alone, as in the paper, or against all nodes.
    calibration : {"holdout", "leave-one-out", None}, default "holdout"
        Where null scores come from. "holdout" keeps a part of the clean images out of the background; the false
        positive rate is then guaranteed. "leave-one-out" scans each background image against all the others, which
        wastes no image, but its guarantee is weaker. None gives scores only. All of X is background in the last two.
    calibration_fraction : float in (0, 1), default 0.25
        The part of the clean images that "holdout" keeps out.
    false_positive_rate : float in (0, 1), default 0.05
        The share of clean images that `predict` may flag. It is no guess at the share of outliers.
    random_state : int, RandomState or None, default None
        Draws the part that is held out.

    Attributes
    ----------
    background_ : Background
        Compact: it serves scans of `tail` up to `alpha_max`.
    null_scores_ : ndarray of shape (n,), float64
        Scores of clean images, increasing; empty without calibration.
    offset_ : float
        `decision_function` is `score_samples` minus this.
    scan_options_ : dict
        The options of the scan, as they were when fitted.
    n_features_in_ : int
        Number of nodes.
    feature_names_in_ : ndarray of str
        Names of the nodes, where `X` was a data frame with such.

    References
    ----------
    Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> clean, attacked = rng.normal(size=(400, 50)), rng.normal(1, size=(3, 50))
    >>> detector = SubsetScanDetector(random_state=0).fit(clean)
    >>> detector.predict(attacked)
    array([-1, -1, -1])
    """

    def __init__(
        self,
        *,
        statistic: str = "berk-jones",
        tail: str = "upper",
        alpha_max: float = 0.5,
        scope: str = "subset",
        calibration: str | None = "holdout",
        calibration_fraction: float = 0.25,
        false_positive_rate: float = 0.05,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.statistic = statistic
        self.tail = tail
        self.alpha_max = alpha_max
        self.scope = scope
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state

    def fit(self, X: Any, y: None = None) -> SubsetScanDetector:
        """Build the background from clean images, and calibrate.

        Parameters
        ----------
        X : array-like of shape (n, J)
            Node values of clean images: all of them, there is no share of outliers to be guessed.
        y : None
            Ignored.

        Returns
        -------
        SubsetScanDetector
            Itself.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, there are too few images, or a parameter is none of those listed.
        """
        X = validate_data(self, X, dtype=_DTYPES)
        shares = plan(len(X), self.calibration, self.calibration_fraction, self.random_state)
        fit = self.start_fit(len(shares.background))
        for rows in _some_at_once(shares.background):
            fit.add_background(X[rows])
        for rows in _some_at_once(shares.calibration):
            fit.add_calibration(X[rows])
        return fit.finish()

    def start_fit(self, n_background: int) -> StreamedFit:
        """Begin a fit whose images come in batches.

        Parameters
        ----------
        n_background : int
            How many of them will make the background.
        """
        return StreamedFit(self, n_background)

    def scan(self, X: Any, return_nodes: bool = False) -> ScanResult:
        """Find the highest-scoring subset of nodes of each image.

        Parameters
        ----------
        X : array-like of shape (N, J)
        return_nodes : bool
            Whether to return the subsets as well.

        Returns
        -------
        ScanResult

        Raises
        ------
        ValueError
            If a value is NaN or infinite, or the number of nodes is not that of the background.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        return self.background_.scan(X, **self.scan_options_, return_nodes=return_nodes)

    def anomaly_score(self, X: Any) -> np.ndarray:
        """Compute the scan score of each image, float64 of shape (N,): higher is more anomalous."""
        return self.scan(X).scores

    def p_values(self, X: Any) -> np.ndarray:
        """Compute the calibrated p-value of each image, float64 of shape (N,): the share of clean images like it.

        Raises
        ------
        ValueError
            As for `scan`, and if the detector was not calibrated.
        """
        return self.p_values_of(self.anomaly_score(X))

    def p_values_of(self, scores: np.ndarray) -> np.ndarray:
        """Compute the calibrated p-values of scores that this detector gave.

        Parameters
        ----------
        scores : ndarray of shape (N,)

        Returns
        -------
        ndarray of shape (N,), float64

        Raises
        ------
        ValueError
            If the detector was not calibrated.
        """
        check_is_fitted(self)
        self._check_calibrated()
        return conformal_p_values(np.asarray(scores), self.null_scores_)

    def score_samples(self, X: Any) -> np.ndarray:
        """Compute the opposite of the anomaly score, float64 of shape (N,): in scikit-learn lower is worse."""
        return -self.anomaly_score(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute `score_samples` minus `offset_`, float64 of shape (N,): negative for what `predict` flags."""
        scores = self.score_samples(X)
        self._check_calibrated()
        return scores - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Flag images whose calibrated p-value is at most `false_positive_rate`.

        Returns
        -------
        ndarray of shape (N,), int
            -1 for those, 1 for the others.

        Raises
        ------
        ValueError
            As for `p_values`.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def save(self, path: Path | str) -> None:
        """Save the fitted detector as a safetensors file, whole or not at all.

        A `random_state` that is not a number is not saved.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        background = self.background_
        parameters = self.get_params()
        if not isinstance(parameters["random_state"], int | np.integer):
            parameters["random_state"] = None
        description = {
            "parameters": parameters,
            "scan_options": self.scan_options_,
            "n_samples": background.n_samples,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
        }
        metadata = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "description": json.dumps(description, default=lambda number: number.item()),
        }
        with whole(path) as temporary:
            save_file(
                {"background": background._columns(), "null_scores": self.null_scores_}, temporary, metadata=metadata
            )

    @classmethod
    def load(cls, path: Path | str) -> SubsetScanDetector:
        """Load a detector that `save` wrote. Nothing in the file is executed.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is damaged, or is no such file, or was written by a later version.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no detector file at {path}")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a complete safetensors file: {error}") from error
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{path} is not a file of {cls.__name__}: its format is {metadata.get('format')!r}")
        if metadata.get("format_version") != _FORMAT_VERSION:
            raise ValueError(
                f"{path} has format version {metadata.get('format_version')!r}; this subsetscan reads {_FORMAT_VERSION}"
            )
        try:
            description = json.loads(metadata["description"])
            detector = cls(**description["parameters"])
            options = description["scan_options"]
            detector.background_ = Background._from_columns(
                tensors["background"], description["n_samples"], options["tail"], options["alpha_max"]
            )
            null_scores = tensors["null_scores"]
            if null_scores.ndim != 1 or not (np.diff(null_scores) >= 0).all():
                raise ValueError("the null scores are not in increasing order")
            detector._take_null_scores(null_scores, options)
            if description["feature_names"]:
                detector.feature_names_in_ = np.asarray(description["feature_names"], dtype=object)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        return detector

    def _take_null_scores(self, null_scores: np.ndarray, options: dict[str, Any]) -> None:
        self.null_scores_ = null_scores
        self.scan_options_ = options
        self.n_features_in_ = self.background_.n_nodes
        # The threshold is a score that a flagged image exceeds; scikit-learn's signs turn it round.
        self.offset_ = -score_threshold(null_scores, self.false_positive_rate)

    def _check_calibrated(self) -> None:
        if not len(self.null_scores_):
            raise ValueError("calibration=None gives scores only; fit with 'holdout' or 'leave-one-out' to decide")


class StreamedFit:
    """A fit whose images come in batches: first those of the background, then those that calibrate.

    Parameters
    ----------
    detector : SubsetScanDetector
        The detector to be fitted; it changes in `finish` only.
    n_background : int
        How many images will make the background.
    """

    def __init__(self, detector: SubsetScanDetector, n_background: int) -> None:
        self._detector = detector
        self._options = {name: getattr(detector, name) for name in ("statistic", "tail", "alpha_max", "scope")}
        self._builder = BackgroundBuilder(n_background, detector.tail, detector.alpha_max)
        self._background: Background | None = None
        self._null_scores: list[np.ndarray] = []

    def add_background(self, X: np.ndarray) -> None:
        """Add clean images to the background. Raises ValueError for a NaN or another number of nodes."""
        self._builder.add(X)

    def add_calibration(self, X: np.ndarray) -> None:
        """Score clean images against the background, which is complete with the first of them.

        Under "leave-one-out" these are the images of the background once more.
        """
        background = self._finished_background()
        scan = background.leave_one_out if self._detector.calibration == "leave-one-out" else background.scan
        self._null_scores.append(scan(X, **self._options).scores)

    def finish(self) -> SubsetScanDetector:
        """Complete the fit and return the detector."""
        detector = self._detector
        detector.background_ = self._finished_background()
        null_scores = np.sort(np.concatenate([*self._null_scores, np.empty(0)]))
        detector._take_null_scores(null_scores, self._options)
        if len(null_scores) and np.isinf(detector.offset_):
            warnings.warn(
                f"{len(null_scores)} null scores cannot give a p-value of at most {detector.false_positive_rate}: "
                f"the smallest is {1 / (len(null_scores) + 1):.3g}. predict will flag nothing; "
                "give more clean images, or a higher false_positive_rate",
                stacklevel=3,
            )
        return detector

    def _finished_background(self) -> Background:
        if self._background is None:
            self._background = self._builder.finish()
        return self._background


def _some_at_once(rows: np.ndarray) -> list[np.ndarray]:
    """Split row numbers so that picking them copies little at a time."""
    return [rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE)]
