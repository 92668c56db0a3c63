"""A detector for each class: an image is compared with clean images of its own class only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted, check_X_y, column_or_1d

from ..calibration import Plan
from ..scanning import ScanResult
from .base import CalibratedDetector, Fit, some_at_once
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
        X, y = check_X_y(X, y, dtype=[np.float64, np.float32, np.float16])
        shares = self.plan(len(X), y)
        fit = self.start_fit(shares, y)
        for rows in some_at_once(shares.background):
            fit.add_background(X[rows], y[rows])
        for rows in some_at_once(shares.calibration):
            fit.add_calibration(X[rows], y[rows])
        return fit.finish()

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
        rows = self._rows(X, y)
        X = np.asarray(X)
        found = [self.detectors_[label].scan(X[own], return_nodes=return_nodes) for label, own in rows.items()]
        order = np.argsort(np.concatenate(list(rows.values())))
        return ScanResult.concatenate(found).take(order)

    def anomaly_score(self, X: Any, y: Any) -> np.ndarray:
        """Compute the score of each image among its own class, float64 of shape (N,): higher is more anomalous."""
        X = np.asarray(X)
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
        X = np.asarray(X)
        return self._by_class(self._rows(X, y), lambda detector, own: detector.predict(X[own])).astype(np.int64)

    def calibrate(self, X: Any, y: Any) -> ClassConditionalDetector:
        """Take the scores of your own clean images, which must not be in the backgrounds, as null scores.

        Raises
        ------
        ValueError
            As for `scan`, and if a class is left without any.
        """
        rows = self._rows(X, y)
        if missing := [str(label) for label in self.classes_.tolist() if label not in rows]:
            raise ValueError(f"no image calibrates the classes {', '.join(missing)}")
        X = np.asarray(X)
        for label, own in rows.items():
            self.detectors_[label].calibrate(X[own])
        self.null_labels_ = np.asarray(y)
        return self

    def _state(self) -> State:
        check_is_fitted(self)
        description, tensors = pack(list(self.detectors_.values()))
        description |= {
            "kind": type(self).__name__,
            "min_class_size": self.min_class_size,
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


def check_labels(y: Any, n_samples: int) -> np.ndarray:
    """Take labels, one an image. Raises ValueError for another number of them."""
    y = column_or_1d(y)
    if len(y) != n_samples:
        raise ValueError(f"{n_samples} images but {len(y)} labels")
    return y
