"""A detector for each class: an input is compared with clean inputs of its own class, or of each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import index
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ..calibration import Plan, check_scores, score_threshold
from ..persistence import State, pack, unpack
from ..scanning import ScanResult
from .base import CalibratedDetector, Detector, check_labels, warn_of_few
from .batches import Calibration, Fit
from .minimum import MinimumOverClasses, pooled_null_p_values

__all__ = ["CONDITIONALS", "ClassConditionalDetector"]

CONDITIONALS = ("label", "min")
_MINIMUM = "null_scores_of_minimum"


class ClassConditionalDetector(Detector):
    """Detect inputs that are anomalous for their class, or for every class.

    Each class has a background, and null scores, of its own. The label of an input may be the true one or the one that
    a classifier predicts, as long as the clean inputs' and the test inputs' labels come from the same source.

    Whoever attacks a classifier chooses the label that it predicts. With ``conditional="min"`` clean inputs alone need
    labels: any other is scored among each class, and the class for which it is least anomalous counts.

    Parameters
    ----------
    detector : detector
        Such as `SubsetScanDetector`; a clone is fitted for each class.
    conditional : {"label", "min"}, default "label"
        Whether an input is compared with the class of its label, or scored by the minimum over all classes: of -log(p),
        where p is its p-value in a class, which goes on below 1 / (n + 1) (see
        `subsetscan.calibration.extrapolated_p_values`). The clean inputs that calibrate the classes calibrate this too.
    min_class_size : int, default 100
        Classes with fewer clean inputs are refused: by the label, a quarter of 100 inputs, held out, can just give a
        p-value below 0.05, and p-values of nodes are no finer than 1 / (inputs of the class).

    Attributes
    ----------
    classes_ : ndarray
        The labels, increasing.
    detectors_ : dict
        The fitted detector of each label.
    minimum_ : detector or None
        With ``conditional="min"`` what scores inputs without labels, with ``null_scores_`` of its own.

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

    needs_labels = True

    def __init__(self, detector: CalibratedDetector, *, conditional: str = "label", min_class_size: int = 100) -> None:
        self.detector = detector
        self.conditional = conditional
        self.min_class_size = min_class_size

    @property
    def scores_by_label(self) -> bool:  # type: ignore[override]  # noqa: D102
        return self.conditional == "label"

    @property
    def calibration(self) -> str | None:  # type: ignore[override]  # no parameter here, as of other detectors
        """That of the detector of each class, as `calibration_fraction` and `false_positive_rate` are."""
        return self.detector.calibration

    @property
    def calibration_fraction(self) -> float:  # type: ignore[override]  # noqa: D102
        return self.detector.calibration_fraction

    @property
    def false_positive_rate(self) -> float:  # type: ignore[override]  # noqa: D102
        return self.detector.false_positive_rate

    @property
    def finds_subsets(self) -> bool:  # noqa: D102
        return self.detector.finds_subsets

    @property
    def is_calibrated(self) -> bool:  # noqa: D102 (the base says it, as for those below)
        return len(self.null_labels_) > 0

    def warn_of_few_null_scores(self) -> None:  # noqa: D102
        parts = self.detectors_.values() if self.minimum_ is None else [self.minimum_]
        warn_of_few(min(len(one.null_scores_) for one in parts), self.false_positive_rate)
        if self.minimum_ is not None and len(null_scores := self.minimum_.null_scores_):
            n_first, n = int((null_scores == null_scores.max()).sum()), len(null_scores)
            if n_first > 1 and n_first + 1 > (rate := self.false_positive_rate) * (n + 1):
                warnings.warn(
                    f"{n_first} of the {n} clean inputs that calibrate have the highest score together: no other input "
                    f"may exceed it and be flagged at a rate of {rate:g}; give more clean inputs of each class, or "
                    "calibrate by leave-one-out",
                    stacklevel=3,
                )

    def plan(self, n_samples: int, y: Any = None) -> Plan:
        """Share out the clean inputs of each class; see `subsetscan.calibration.plan`.

        Raises
        ------
        ValueError
            If a class is too small, the labels are not `n_samples`, or an option is unknown.
        """
        if self.conditional not in CONDITIONALS:
            known = " or ".join(map(repr, CONDITIONALS))
            raise ValueError(f"conditional must be {known}, got {self.conditional!r}")
        if self.conditional == "min" and self.calibration is None:
            raise ValueError(
                'conditional="min" compares p-values: the calibration must be "holdout" or "leave-one-out", got None'
            )
        y = check_labels(y, n_samples)
        classes, counts = np.unique(y, return_counts=True)
        small = [
            f"{label} ({count})" for label, count in zip(classes, counts, strict=True) if count < self.min_class_size
        ]
        if small:
            raise ValueError(
                f"each class needs at least {self.min_class_size} clean inputs (min_class_size); these have fewer: "
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

    def start_fit(self, shares: Plan, y: Any = None) -> Fit:  # noqa: D102
        return _ClassConditionalFit(self, np.asarray(y)[shares.background], shares.leave_one_out)

    def scan(self, X: Any, y: Any = None, *, return_nodes: bool = False) -> ScanResult:
        """Find the highest-scoring subset of nodes of each input, among its own class.

        Parameters
        ----------
        X : array-like of shape (N, J)
        y : array-like of shape (N,)
            The label of each; with ``conditional="min"`` the class is that for which it is least anomalous.
        return_nodes : bool

        Raises
        ------
        ValueError
            If a label has no background, the labels are not as many as the inputs, or as for the detector's own scan.
        """
        return self._scan_by_class(X, y, lambda detector, own: detector.scan(own, return_nodes=return_nodes))

    def leading(self, X: Any, y: Any = None, *, share: float = 0.5) -> ScanResult:
        """Find the smallest subset that carries a share of each input's score, as `SubsetScanDetector.leading` does."""
        return self._scan_by_class(X, y, lambda detector, own: detector.leading(own, share=share))

    def _scan_by_class(self, X: Any, y: Any, scan: Callable[[Any, np.ndarray], ScanResult]) -> ScanResult:
        X = self.check_values(X)
        if self.minimum_ is not None:
            y = self.minimum_.nearest(X)
        rows = self._rows(X, y) or {self.classes_.tolist()[0]: np.arange(0)}  # of no input any class gives the result
        found = [scan(self.detectors_[label], X[own]) for label, own in rows.items()]
        order = np.argsort(np.concatenate(list(rows.values())))
        together = ScanResult.concatenate(found).take(order)
        return (
            together if self.minimum_ is None else replace(together, p_values=None)
        )  # those of a class are not its own

    def anomaly_score(self, X: Any, y: Any = None) -> np.ndarray:
        """Compute the score of each input among its own class, float64 of shape (N,): higher is more anomalous."""
        X = self.check_values(X)
        if self.minimum_ is not None:
            return self.minimum_.anomaly_score(X)
        return self._by_class(self._rows(X, y), lambda detector, own: detector.anomaly_score(X[own]))

    def p_values_of(self, scores: np.ndarray, y: Any = None, *, extrapolate: bool | str = False) -> np.ndarray:
        """Compute the p-values of scores that this detector gave, calibrated with clean inputs of the same class."""
        scores = check_scores(scores)
        if self.minimum_ is not None:
            return self.minimum_.p_values_of(scores, extrapolate=extrapolate)
        return self._by_class(
            self._rows(scores, y), lambda detector, own: detector.p_values_of(scores[own], extrapolate=extrapolate)
        )

    def null_p_values(self, *, extrapolate: bool | str = False) -> np.ndarray:
        """Compute the p-value of each input that calibrates, among those of its class, float64 of shape (n,)."""
        check_is_fitted(self)
        if self.minimum_ is not None:
            return self.minimum_.null_p_values(extrapolate=extrapolate)
        rows = self._rows(self.null_labels_, self.null_labels_)
        return self._by_class(
            rows,
            lambda detector, _: (
                pooled_null_p_values(detector, extrapolate) if extrapolate else detector.null_p_values()
            ),
        )

    def decisions_of(self, scores: np.ndarray, y: Any = None) -> np.ndarray:
        """Compute the threshold of each input's class minus its score, float64 of shape (N,)."""
        if not self.is_calibrated:
            raise ValueError("calibration=None gives scores only; fit with another calibration, or call calibrate")
        rate, scores = self.false_positive_rate, check_scores(scores)
        if self.minimum_ is not None:
            return score_threshold(self.minimum_.null_scores_, rate) - scores
        return self._by_class(
            self._rows(scores, y), lambda detector, own: score_threshold(detector.null_scores_, rate) - scores[own]
        )

    def with_parts(self) -> list[Detector]:  # noqa: D102
        parts = [*self.detectors_.values(), *([] if self.minimum_ is None else [self.minimum_])]
        return [self, *(one for part in parts for one in part.with_parts())]

    def start_calibration(self) -> Calibration:
        """Begin to `calibrate`; with ``conditional="min"`` the classes keep the null scores of the fit."""
        if self.minimum_ is not None:
            return self.minimum_.start_calibration()
        return _ClassConditionalCalibration(self)

    def _state(self) -> State:
        check_is_fitted(self)
        description, tensors = pack(list(self.detectors_.values()))
        description |= {
            "kind": self.kind(),
            "conditional": self.conditional,
            "min_class_size": self.min_class_size,
            "false_positive_rate": self.false_positive_rate,
            "feature_names": list(getattr(self, "feature_names_in_", [])),
            "classes": self.classes_.tolist(),
            "null_labels": np.searchsorted(self.classes_, self.null_labels_).tolist(),
        }
        if self.minimum_ is not None:
            tensors[_MINIMUM] = self.minimum_.null_scores_
        return description, tensors

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> ClassConditionalDetector:
        null_scores = {name: array for name, array in tensors.items() if name == _MINIMUM}
        parts = unpack(description, {name: array for name, array in tensors.items() if name != _MINIMUM})
        template = clone(parts[0])
        template.set_params(false_positive_rate=description.get("false_positive_rate", template.false_positive_rate))
        score_threshold(np.empty(0), template.false_positive_rate)  # it refuses one that is out of range
        conditional = description.get("conditional", "label")
        detector = cls(template, conditional=conditional, min_class_size=index(description["min_class_size"]))
        labels, places = np.asarray(description["classes"]), np.asarray(description["null_labels"], dtype=np.int64)
        if conditional not in CONDITIONALS or len(np.unique(labels)) != len(parts):
            raise ValueError(f"{conditional!r} is unknown, or {labels.tolist()!r:.80} are not the classes of the parts")
        if not (places < len(parts)).all() or np.bincount(places, minlength=len(parts)).tolist() != [
            len(part.null_scores_) for part in parts
        ]:
            raise ValueError("the null labels are not those of the parts' null scores")
        if len({part.n_features_in_ for part in parts}) > 1:
            raise ValueError("the parts have different numbers of nodes")
        detector._take_detectors(dict(zip(labels.tolist(), parts, strict=True)), labels[places])
        if detector.minimum_ is not None:
            detector.minimum_._take_saved_null_scores(null_scores[_MINIMUM])
        detector._take_feature_names(description)
        return detector

    def _take_detectors(self, detectors: dict[Any, CalibratedDetector], null_labels: np.ndarray) -> None:
        self.detectors_ = detectors
        self.classes_ = np.asarray(list(detectors))
        self.null_labels_ = null_labels
        self.n_features_in_ = next(iter(detectors.values())).n_features_in_
        self.minimum_ = MinimumOverClasses(detectors, self.false_positive_rate) if self.conditional == "min" else None

    def _rows(self, X: Any, y: Any) -> dict[Any, np.ndarray]:
        """Return the rows of each label that occurs."""
        check_is_fitted(self)
        y = check_labels(y, len(X))
        strangers = ~np.isin(y, self.classes_)
        if strangers.any():
            first = int(strangers.argmax())
            raise ValueError(
                f"label {y.tolist()[first]!r} of input {first} has no background; there are "
                f"{', '.join(repr(label) for label in self.classes_.tolist())}"
            )
        return {label: np.flatnonzero(y == label) for label in self.classes_.tolist() if (y == label).any()}

    def _by_class(self, rows: dict[Any, np.ndarray], compute: Any) -> np.ndarray:
        result = np.empty(sum(map(len, rows.values())))
        for label, own in rows.items():
            result[own] = compute(self.detectors_[label], own)
        return result


class _ClassConditionalFit:
    """The fits of all classes side by side; each batch comes with its labels.

    Parameters
    ----------
    detector : ClassConditionalDetector
    background_labels : ndarray of shape (n,)
        The labels of all inputs that will make the backgrounds.
    leave_one_out : bool
        Whether these calibrate as well.
    """

    def __init__(self, detector: ClassConditionalDetector, background_labels: np.ndarray, leave_one_out: bool) -> None:
        self._detector = detector
        classes, counts = np.unique(background_labels, return_counts=True)
        self._fits: dict[Any, Fit] = {
            label: clone(detector.detector).start_fit(Plan(np.arange(count), np.arange(0), leave_one_out))
            for label, count in zip(classes.tolist(), counts, strict=True)
        }
        self._null_labels = [background_labels[:0]]
        self._calibrating: list[np.ndarray] = []  # what the minimum over classes is calibrated by

    def add_background(self, X: np.ndarray, y: np.ndarray | None = None) -> None:
        """Add clean inputs to the background of their class."""
        y = check_labels(y, len(X))
        for label in np.unique(y).tolist():
            self._fits[label].add_background(X[y == label])

    def add_calibration(self, X: np.ndarray, y: np.ndarray | None = None) -> None:
        """Score clean inputs against the background of their class."""
        y = check_labels(y, len(X))
        self._null_labels.append(y)
        if self._detector.conditional == "min":
            self._calibrating.append(np.array(X))
        for label in np.unique(y).tolist():
            self._fits[label].add_calibration(X[y == label])

    def finish(self) -> ClassConditionalDetector:
        """Complete the fit and return the detector."""
        detectors = {label: fit.finish() for label, fit in self._fits.items()}
        self._detector._take_detectors(detectors, np.concatenate(self._null_labels))
        if self._detector.minimum_ is not None:
            self._detector.minimum_.take_clean(np.concatenate(self._calibrating), self._detector.null_labels_)
        return self._detector


class _ClassConditionalCalibration:
    """The calibrations of all classes side by side; each batch comes with its labels. See `Calibration`."""

    def __init__(self, detector: ClassConditionalDetector) -> None:
        check_is_fitted(detector)
        self._detector = detector
        self._parts: dict[Any, Calibration] = {}
        self._labels: list[np.ndarray] = []

    def add(self, X: Any, y: Any = None) -> None:
        """Score clean inputs among their own class. Raises ValueError as `ClassConditionalDetector.scan` does."""
        X = self._detector.check_values(X)
        for label, own in self._detector._rows(X, y).items():
            if label not in self._parts:
                self._parts[label] = self._detector.detectors_[label].start_calibration()
            self._parts[label].add(X[own])
        self._labels.append(check_labels(y, len(X)))

    def finish(self) -> None:
        """Take the scores as null scores. Raises ValueError if a class has none."""
        if missing := [str(label) for label in self._detector.classes_.tolist() if label not in self._parts]:
            raise ValueError(f"no input calibrates the classes {', '.join(missing)}")
        for part in self._parts.values():
            part.finish()
        self._detector.null_labels_ = np.concatenate(self._labels)
