"""A detector for each class: an image is compared with clean images of its own class only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ..calibration import Plan
from ..scanning import ScanResult
from .base import DTYPES, CalibratedDetector, Calibration, Fit, check_rows, some_at_once, unchanged_on_error
from .persistence import Persistent, State, pack, unpack

__all__ = ["ClassConditionalDetector"]


class ClassConditionalDetector(Persistent, BaseEstimator):
    """Detect images that are anomalous for their class.

    Each class has a background, and null scores, of its own. The label of an image may be the true one or the one that
    a classifier predicts, as long as the clean images' and the test images' labels come from the same source.

    Parameters
    ----------
    detector : detector
        Such as `SubsetScanDetector`; a clone is fitted for each class.
    min_class_size : int, default 100
        Classes with fewer clean images are refused: a quarter of 100 images, held out, can just give a p-value below
        0.05, and p-values of nodes are no finer than 1 / (images of the class).

    Attributes
    ----------
    classes_ : ndarray
        The labels, increasing.
    detectors_ : dict
        The fitted detector of each label.

    Examples
    --------
    >>> import numpy as np
    >>> from subsetscan import SubsetScanDetector
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 400)
    >>> clean = rng.normal(size=(800, 30)) + 3 * labels[:, None]
    >>> detector = ClassConditionalDetector(SubsetScanDetector(random_state=0)).fit(clean, labels)
    >>> image = clean[:1] + 2                             # high for class 0, ordinary for all classes together
    >>> detector.p_values(image, [0]).round(3)
    array([0.01])
    """

    def __init__(self, detector: CalibratedDetector, *, min_class_size: int = 100) -> None:
        self.detector = detector
        self.min_class_size = min_class_size

    def fit(self, X: Any, y: Any) -> ClassConditionalDetector:
        """Fit a detector for each class on clean images.

        Parameters
        ----------
        X : array-like of shape (n, J)
        y : array-like of shape (n,)
            The label of each.

        Raises
        ------
        ValueError
            If a class has fewer than `min_class_size` images, the labels are not as many as the images, or as for the
            detector's own fit.
        """
        with unchanged_on_error(self):
            X, y = validate_data(self, X, check_labels(y), dtype=DTYPES)
            shares = self.plan(len(X), y)
            fit = self.start_fit(shares, y)
            for rows in some_at_once(shares.background):
                fit.add_background(X[rows], y[rows])
            for rows in some_at_once(shares.calibration):
                fit.add_calibration(X[rows], y[rows])
            fit.finish()
            self.warn_of_few_null_scores()
        return self

    def warn_of_few_null_scores(self) -> None:
        """Warn if a class has too few null scores for a p-value of at most the detector's `false_positive_rate`."""
        min(self.detectors_.values(), key=lambda detector: len(detector.null_scores_)).warn_of_few_null_scores()

    def plan(self, n_samples: int, y: Any) -> Plan:
        """Share out the clean images of each class; see `subsetscan.calibration.plan`.

        Raises
        ------
        ValueError
            If a class is too small, or the labels are not `n_samples`.
        """
        y = check_labels(y, n_samples)
        classes, counts = np.unique(y, return_counts=True)
        small = [
            f"{label} ({count})" for label, count in zip(classes, counts, strict=True) if count < self.min_class_size
        ]
        if small:
            raise ValueError(
                f"each class needs at least {self.min_class_size} clean images (min_class_size); these have fewer: "
                f"{', '.join(small)}"
            )
        plans = [
            (np.flatnonzero(y == label), self.detector.plan(int(n))) for label, n in zip(classes, counts, strict=True)
        ]
        return Plan(
            np.sort(np.concatenate([rows[one.background] for rows, one in plans])),
            np.sort(np.concatenate([rows[one.calibration] for rows, one in plans])),
            leave_one_out=plans[0][1].leave_one_out,
        )

    def start_fit(self, shares: Plan, y: Any) -> ClassConditionalFit:
        """Begin a fit whose images come in batches, in the order of the plan.

        Parameters
        ----------
        shares : Plan
            What `plan` returned.
        y : array-like of shape (n,)
            The labels of all clean images.
        """
        return ClassConditionalFit(self, np.asarray(y)[shares.background])

    def scan(self, X: Any, y: Any, return_nodes: bool = False) -> ScanResult:
        """Find the highest-scoring subset of nodes of each image, among its own class.

        Parameters
        ----------
        X : array-like of shape (N, J)
        y : array-like of shape (N,)
            The label of each.
        return_nodes : bool

        Raises
        ------
        ValueError
            If a label has no background, the labels are not as many as the images, or as for the detector's own scan.
        """
        X = check_rows(self, X)
        rows = self._rows(X, y) or {self.classes_.tolist()[0]: np.arange(0)}  # of no image any class gives the result
        found = [self.detectors_[label].scan(X[own], return_nodes=return_nodes) for label, own in rows.items()]
        order = np.argsort(np.concatenate(list(rows.values())))
        return ScanResult.concatenate(found).take(order)

    def anomaly_score(self, X: Any, y: Any) -> np.ndarray:
        """Compute the score of each image among its own class, float64 of shape (N,): higher is more anomalous."""
        X = check_rows(self, X)
        return self._by_class(self._rows(X, y), lambda detector, own: detector.anomaly_score(X[own]))

    def p_values(self, X: Any, y: Any) -> np.ndarray:
        """Compute the p-value of each image, calibrated with clean images of its own class, float64 of shape (N,)."""
        return self.p_values_of(self.anomaly_score(X, y), y)

    def p_values_of(self, scores: np.ndarray, y: Any) -> np.ndarray:
        """Compute the calibrated p-values of scores that this detector gave to images with these labels."""
        return self._by_class(self._rows(scores, y), lambda detector, own: detector.p_values_of(scores[own]))

    def null_p_values(self) -> np.ndarray:
        """Compute the p-value of each image that calibrates, among those of its class, float64 of shape (n,)."""
        check_is_fitted(self)
        rows = self._rows(self.null_labels_, self.null_labels_)
        return self._by_class(rows, lambda detector, _: detector.null_p_values())

    def predict(self, X: Any, y: Any) -> np.ndarray:
        """Flag images whose calibrated p-value is at most `false_positive_rate`: -1 for those, 1 for the others."""
        X = check_rows(self, X)
        return self._by_class(self._rows(X, y), lambda detector, own: detector.predict(X[own])).astype(np.int64)

    def calibrate(self, X: Any, y: Any) -> ClassConditionalDetector:
        """Take the scores of your own clean images, which must not be in the backgrounds, as null scores.

        Raises
        ------
        ValueError
            As for `scan`, and if a class is left without any.
        """
        with unchanged_on_error(self):
            calibration = self.start_calibration()
            calibration.add(X, y)
            calibration.finish()
            self.warn_of_few_null_scores()
        return self

    def start_calibration(self) -> ClassConditionalCalibration:
        """Begin to `calibrate` with images that come in batches, each with its labels."""
        return ClassConditionalCalibration(self)

    def _state(self) -> State:
        check_is_fitted(self)
        description, tensors = pack(list(self.detectors_.values()))
        description |= {
            "kind": self.kind(),
            "min_class_size": self.min_class_size,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
            "classes": self.classes_.tolist(),
            "null_labels": np.searchsorted(self.classes_, self.null_labels_).tolist(),
        }
        return description, tensors

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> ClassConditionalDetector:
        parts = unpack(description, tensors)
        detector = cls(clone(parts[0]), min_class_size=description["min_class_size"])
        labels = np.asarray(description["classes"])
        detector._take_detectors(dict(zip(labels.tolist(), parts, strict=True)), labels[description["null_labels"]])
        if names := description.get("feature_names"):
            detector.feature_names_in_ = np.asarray(names, dtype=object)
        return detector

    def _take_detectors(self, detectors: dict[Any, CalibratedDetector], null_labels: np.ndarray) -> None:
        self.detectors_ = detectors
        self.classes_ = np.asarray(list(detectors))
        self.null_labels_ = null_labels
        self.n_features_in_ = next(iter(detectors.values())).n_features_in_

    def _rows(self, X: Any, y: Any) -> dict[Any, np.ndarray]:
        """Return the rows of each label that occurs."""
        check_is_fitted(self)
        y = check_labels(y, len(X))
        strangers = ~np.isin(y, self.classes_)
        if strangers.any():
            first = int(strangers.argmax())
            raise ValueError(
                f"label {y[first]} of image {first} has no background; there are {', '.join(map(str, self.classes_))}"
            )
        return {label: np.flatnonzero(y == label) for label in self.classes_.tolist() if (y == label).any()}

    def _by_class(self, rows: dict[Any, np.ndarray], compute: Any) -> np.ndarray:
        result = np.empty(sum(map(len, rows.values())))
        for label, own in rows.items():
            result[own] = compute(self.detectors_[label], own)
        return result


class ClassConditionalFit:
    """The fits of all classes side by side; each batch comes with its labels.

    Parameters
    ----------
    detector : ClassConditionalDetector
    background_labels : ndarray of shape (n,)
        The labels of all images that will make the backgrounds.
    """

    def __init__(self, detector: ClassConditionalDetector, background_labels: np.ndarray) -> None:
        self._detector = detector
        classes, counts = np.unique(background_labels, return_counts=True)
        self._fits: dict[Any, Fit] = {
            label: clone(detector.detector).start_fit(int(count))
            for label, count in zip(classes.tolist(), counts, strict=True)
        }
        self._null_labels = [background_labels[:0]]

    def add_background(self, X: np.ndarray, y: np.ndarray) -> None:
        """Add clean images to the background of their class."""
        for label in np.unique(y).tolist():
            self._fits[label].add_background(X[y == label])

    def add_calibration(self, X: np.ndarray, y: np.ndarray) -> None:
        """Score clean images against the background of their class."""
        self._null_labels.append(y)
        for label in np.unique(y).tolist():
            self._fits[label].add_calibration(X[y == label])

    def finish(self) -> ClassConditionalDetector:
        """Complete the fit and return the detector."""
        detectors = {label: fit.finish() for label, fit in self._fits.items()}
        self._detector._take_detectors(detectors, np.concatenate(self._null_labels))
        return self._detector


class ClassConditionalCalibration:
    """The calibrations of all classes side by side; each batch comes with its labels. See `Calibration`."""

    def __init__(self, detector: ClassConditionalDetector) -> None:
        check_is_fitted(detector)
        self._detector = detector
        self._parts: dict[Any, Calibration] = {}
        self._labels: list[np.ndarray] = []

    def add(self, X: Any, y: Any) -> None:
        """Score clean images among their own class. Raises ValueError as `ClassConditionalDetector.scan` does."""
        X = check_rows(self._detector, X)
        for label, own in self._detector._rows(X, y).items():
            if label not in self._parts:
                self._parts[label] = self._detector.detectors_[label].start_calibration()
            self._parts[label].add(X[own])
        self._labels.append(check_labels(y, len(X)))

    def finish(self) -> None:
        """Take the scores as null scores. Raises ValueError if a class has none."""
        if missing := [str(label) for label in self._detector.classes_.tolist() if label not in self._parts]:
            raise ValueError(f"no image calibrates the classes {', '.join(missing)}")
        for part in self._parts.values():
            part.finish()
        self._detector.null_labels_ = np.concatenate(self._labels)


def check_labels(y: Any, n_samples: int | None = None) -> np.ndarray:
    """Take labels, one an image. Raises ValueError for another number of them, or one that is missing."""
    y = column_or_1d(y)
    if n_samples is not None and len(y) != n_samples:
        raise ValueError(f"{n_samples} images but {len(y)} labels")
    missing = y != y  # NaN, alone or among objects
    if np.any(missing):
        raise ValueError(f"each image needs a label, that of image {int(np.argmax(missing))} is NaN")
    return y
