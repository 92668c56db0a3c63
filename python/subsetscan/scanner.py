"""Scanning a model: inputs through its spaces once, each space's values straight into a detector of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from . import scanner_files
from ._labels import as_callable
from ._random import RandomState
from ._tables import html_table
from ._validation import InvalidTypeError
from .decisions import JOINT, Decisions, check_combination
from .detectors import AutomaticDetector, Detector, SubsetScanDetector
from .detectors.base import unchanged_on_error
from .detectors.batches import Fit
from .detectors.by_name import detectors_by_name
from .explanation import Explanation, SpaceExplanation
from .fingerprints import NetworkWatch, differing
from .inputs import Inputs, InputSummary, SeenInputs, as_inputs, one_input
from .joint import JointScan, JointScanResult
from .scanner_streams import LabelledStreams, ValuesOf
from .scanning import ScanResult, SpaceScans
from .spaces.arrays import Arrays
from .spaces.automatic import as_spaces
from .spaces.base import Space, check_node_shapes, join

__all__ = ["ModelScanner"]


class ModelScanner(LabelledStreams, Decisions):
    """Scan several spaces of a model at once: its layers, its reconstruction error.

    Inputs pass through the model in batches. Memory holds the backgrounds and one batch, never all activations.

    Parameters
    ----------
    spaces : Space or sequence of Space
        Those over the same network share their forward passes.
    detector : detector or mapping of str to detector, optional
        A `SubsetScanDetector` by default, or any detector of `subsetscan.detectors`: one that is cloned for each name
        of the spaces, or one for each name, with a tail of its own, say. All calibrate alike.
    classifier : callable or classifier, optional
        From a batch of inputs to their labels (n,), to scores of classes (n, K), or to the probability of class 1
        (n, 1): a function, a Keras model, a classifier of scikit-learn or of the Adversarial Robustness Toolbox. It
        gives the labels that a `ClassConditionalDetector` needs where none are handed in.
    joint : bool, default False
        Whether to scan the union of all spaces' nodes as well, under the name "joint".
    combine : str, optional
        How `anomaly_score`, `p_values`, `decision_function` and `predict` combine the spaces, where they are not told:
        see `subsetscan.combination.combined`. By default they answer for each space.
    batch_size : int, default 256
        Inputs that are worked on at once. Results do not depend on it.
    progress : bool, default False
        Whether to show progress bars on standard error.

    Attributes
    ----------
    names : tuple of str
        The names of all spaces.
    node_shapes : dict of str to tuple of int
        The shape in which each name's nodes lie.
    is_calibrated : bool
        Whether the detectors give p-values.
    detectors_ : dict of str to detector
        The fitted detectors. They share the inputs that calibrate.

    Raises
    ------
    ValueError
        If two spaces have the same name, one is named "joint" beside the joint scan, there is none, or the detectors
        calibrate in different ways, or cannot be scanned as one, or if there is no such combination.
    TypeError
        If one of them is no space, a detector is none, or the classifier is none.

    Warns
    -----
    UserWarning
        When inputs are scanned whose range is another than the background's, as 0 to 255 where that is 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from subsetscan.spaces import Pixels
    >>> inputs = np.random.default_rng(0).random((200, 4, 4, 1))
    >>> scanner = ModelScanner(Pixels((4, 4, 1)), SubsetScanDetector(random_state=0)).fit(inputs)
    >>> scanner.p_values(inputs[:2] + 1)
    {'pixels': array([0.01960784, 0.01960784])}
    """

    def __init__(
        self,
        spaces: Space | Sequence[Space],
        detector: Detector | Mapping[str, Detector] | None = None,
        *,
        classifier: Any = None,
        joint: bool = False,
        combine: str | None = None,
        batch_size: int = 256,
        progress: bool = False,
    ) -> None:
        self.spaces = as_spaces(spaces)
        self.detector = SubsetScanDetector() if detector is None else detector
        self.classifier = classifier
        self.joint = joint
        self.combine = combine
        self.batch_size = batch_size
        self.progress = progress
        if not self.spaces:
            raise ValueError("at least one space is needed, got none")
        for space in self.spaces:
            if not isinstance(space, Space):
                raise InvalidTypeError(f"expected spaces of subsetscan.spaces, got {type(space).__name__}")
            check_node_shapes(space)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        check_combination(combine)
        self._passes = join(self.spaces)
        self._joint: JointScan | None = None
        self.detectors = detectors_by_name(self.detector, self.names)
        self._classify = None if classifier is None else as_callable(classifier)
        watched = classifier if self._needs_labels(to_score=True) else None
        self._networks = NetworkWatch(self.spaces, self._passes, watched)
        self._inputs: dict[str, InputSummary] = {}
        self._columns: dict[str, tuple[str, ...]] = {}
        if joint:
            JointScan.check(self.detectors)
            if JOINT in self.names:
                raise ValueError(f'a space is named "{JOINT}", as the joint scan is: give it another name')

    @property
    def names(self) -> tuple[str, ...]:  # noqa: D102 (the class says it)
        return tuple(name for space in self.spaces for name in space.names)

    @property
    def node_shapes(self) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {name: shape for space in self.spaces for name, shape in space.node_shapes.items()}

    @property
    def is_calibrated(self) -> bool:  # noqa: D102
        self._check_fitted()
        return self.detectors_[self.names[0]].is_calibrated

    def _repr_html_(self) -> str:
        fitted = vars(self).get("detectors_")
        rows = [
            [name, " x ".join(map(str, self.node_shapes[name])), type(detector).__name__]
            for name, detector in (fitted or self.detectors).items()
        ]
        combined = f", combined by {self.combine}" if self.combine else ""
        return html_table(["space", "nodes", "detector"], rows, f"{'fitted' if fitted else 'not fitted'}{combined}")

    def fit(self, inputs: Any, labels: Any = None) -> ModelScanner:
        """Fit a detector for each name on clean inputs.

        Parameters
        ----------
        inputs : array-like of shape (n, ...), mapping, tuple, or iterable of batches
            Clean inputs. An array, in memory or in a file, of numbers, text or bytes; a mapping or a tuple of arrays,
            for models of several inputs; a table or a column of pandas, polars or pyarrow; a dataset of Hugging Face;
            a `subsetscan.inputs.PictureFolder`; or whatever gives batches of these, as PyTorch's DataLoader, a
            `tf.data.Dataset`, a `keras.utils.PyDataset` and a generator do, where (x, y) are inputs and labels.

            Inputs of an array pass once through the model; under "leave-one-out" detectors that scan pass them twice.
            Those that come in batches pass once, and their node values wait in temporary files until the last has come:
            which of them calibrate is then drawn as for an array of the same inputs, by the detector's seed.
        labels : array-like of shape (n,), optional
            Their classes, for a `ClassConditionalDetector`; otherwise those that came with batches, or what the
            classifier predicts.

        Returns
        -------
        ModelScanner
            Itself.

        Raises
        ------
        ValueError
            If the inputs have another shape than the model's input, or a batch than that before, a value is not finite,
            there are too few inputs, labels are needed and missing or of another number, or a parameter of a detector
            is invalid. The scanner then is as it was before.
        """
        inputs, seen = as_inputs(inputs), SeenInputs()
        with ExitStack() as files:
            fits, joint = self._fits(*self._clean(inputs, labels, seen, files))
        with unchanged_on_error(self):
            self.detectors_ = {name: fit.finish() for name, fit in fits.items()}
            self._joint = joint
            self._networks.expect(self._networks.now())
            self._inputs = seen.summaries
            self._columns = dict(inputs.columns)
            self._warn_of_few_null_scores()
        return self

    def fit_activations(
        self, activations: Mapping[str, Any], fingerprints: Mapping[str, str] | None = None, labels: Any = None
    ) -> ModelScanner:
        """Fit on what the spaces gave for clean inputs, computed before or elsewhere: no model runs.

        Parameters
        ----------
        activations : mapping of str to array-like of shape (n, ...)
            By the names of the spaces.
        fingerprints : mapping of str to str, optional
            Of the networks that computed them, by the names of the spaces.
        labels : array-like of shape (n,), optional
            As for `fit`.

        Returns
        -------
        ModelScanner
            Itself. It does not know the range of the inputs, and warns of no other.

        Raises
        ------
        ValueError
            If the names or the numbers of nodes are others, the networks are, or as for `fit`.
        """
        shapes = {name: np.shape(array)[1:] for name, array in activations.items()}
        sizes = {name: math.prod(shape) for name, shape in self.node_shapes.items()}
        if set(shapes) != set(self.names) or any(math.prod(shapes[name]) != size for name, size in sizes.items()):
            raise ValueError(f"expected activations of {', '.join(self.names)} with the nodes {sizes}, got {shapes}")
        now = self._networks.now()
        if others := differing(fingerprints or {}, now):
            raise ValueError(
                f"the activations of {', '.join(others)} were computed by another network: take that one, or compute "
                "them anew"
            )
        inner = ModelScanner(
            Arrays({name: shapes[name] for name in self.names}), self.detectors, joint=self.joint,
            batch_size=self.batch_size, progress=self.progress,
        ).fit(activations, labels)  # fmt: skip
        self.detectors_, self._joint = inner.detectors_, inner._joint
        self._networks.expect(now)
        self._inputs, self._columns = {}, {}
        return self

    @classmethod
    def automatic(
        cls,
        model: Any,
        *,
        calibration: str | None = "leave-one-out",
        false_positive_rate: float = 0.05,
        batch_size: int = 256,
        progress: bool = False,
        random_state: RandomState = None,
    ) -> ModelScanner:
        """Make a scanner with nothing to choose: an `AutomaticDetector` for each layer, and one p-value an input.

        Parameters
        ----------
        model : keras.Model, Space or sequence of Space
            Of a model every layer that computes something; one with more than 4,096 nodes is averaged over small blocks
            of positions: see `subsetscan.spaces.automatic`. Of spaces all their names.
        calibration, false_positive_rate, random_state
            As for `AutomaticDetector`.
        batch_size, progress
            As for `ModelScanner`.

        Returns
        -------
        ModelScanner
            It combines its spaces by "fisher+harmonic".

        Raises
        ------
        TypeError
            If the model is neither a Keras model nor a space.

        Examples
        --------
        >>> import numpy as np
        >>> from subsetscan.spaces import Arrays
        >>> rng = np.random.default_rng(0)
        >>> clean = {"conv": rng.normal(size=(400, 60)), "dense": rng.normal(size=(400, 40))}
        >>> scanner = ModelScanner.automatic(Arrays({"conv": (60,), "dense": (40,)})).fit(clean)
        >>> odd = {"conv": rng.normal(size=(2, 60)), "dense": rng.normal(size=(2, 40))}
        >>> odd["dense"][:, :5] += 4
        >>> scanner.p_values(odd).shape, scanner.predict(odd)
        ((2,), array([-1, -1]))
        """
        detector = AutomaticDetector(
            calibration=calibration, false_positive_rate=false_positive_rate, random_state=random_state
        )
        return cls(as_spaces(model), detector, combine="fisher+harmonic", batch_size=batch_size, progress=progress)

    def calibrate(self, inputs: Any, labels: Any = None) -> ModelScanner:
        """Take the scores of your own clean inputs, which must not be in the background, as null scores.

        Parameters
        ----------
        inputs : array-like of shape (n, ...)
        labels : array-like of shape (n,), optional
            As for `fit`.

        Raises
        ------
        ValueError
            As for `scan`.
        """
        self._check_fitted()
        inputs = self._as_inputs(inputs)
        calibrations = {name: detector.start_calibration() for name, detector in self.detectors_.items()}
        joint = self._joint.uncalibrated() if self._joint else None
        for own, values in self._values(inputs, labels, "calibration"):
            for name, array in values.items():
                calibrations[name].add(array, own)
            if joint:
                joint.add_null(values, inside=False)
        with unchanged_on_error(self, *(one for detector in self.detectors_.values() for one in detector.with_parts())):
            for calibration in calibrations.values():
                calibration.finish()
            self._joint = joint
            self._warn_of_few_null_scores()
        return self

    def scan(self, inputs: Any, labels: Any = None, return_nodes: bool = False) -> SpaceScans:
        """Find the highest-scoring subset of nodes of each input in each space.

        Parameters
        ----------
        inputs : array-like of shape (N, ...)
        labels : array-like of shape (N,), optional
            As for `fit`.
        return_nodes : bool
            Whether to return the subsets as well; the joint scan has none.

        Returns
        -------
        dict of str to ScanResult
            A `SpaceScans`, which notebooks show, and whose `to_frame` makes one data frame of all. With ``joint=True``
            also a `JointScanResult` under "joint".

        Raises
        ------
        ValueError
            If the inputs have another shape than the model's input, or a pixel is not finite, or labels are needed and
            missing or of another number.
        TypeError
            If a detector gives scores without a subset.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        self._check_finds_subsets()
        inputs = self._as_inputs(inputs)
        found: dict[str, list[ScanResult]] = {name: [] for name in self.names}
        joint: list[JointScanResult] = []
        for own, values in self._values(inputs, labels, "scan"):
            for name, array in values.items():
                found[name].append(self.detectors_[name].scan(array, own, return_nodes=return_nodes))
            if self._joint:
                joint.append(self._joint.scan(values))
        results = SpaceScans({name: ScanResult.concatenate(parts) for name, parts in found.items()})
        if joint:
            results[JOINT] = JointScanResult.concatenate(joint)
        return results

    def explain(self, sample: Any, label: Any = None) -> Explanation:
        """Tell which layers, channels and positions carry an input's subset.

        Parameters
        ----------
        sample : array-like, mapping, tuple or str
            One input.
        label : optional
            Its class, as for `fit`.

        Returns
        -------
        Explanation
            To be printed, read, or drawn by `subsetscan.plot.explanation`.

        Raises
        ------
        ValueError, TypeError
            As for `scan`.
        """
        self._check_finds_subsets()
        told = {}
        for own, values in self._values(self._as_inputs(one_input(sample)), None if label is None else [label], "scan"):
            # Now a pass has shown the shapes.
            channel_axes = {name: space.channel_axis(name) for space in self.spaces for name in space.names}
            for name, array in values.items():
                detector, shape = self.detectors_[name], self.node_shapes[name]
                found = detector.scan(array, own, return_nodes=True)
                p_value = float(detector.p_values_of(found.scores, own)[0]) if detector.is_calibrated else None
                told[name] = SpaceExplanation(
                    score=float(found.scores[0]),
                    p_value=p_value,
                    is_flagged=None if p_value is None else p_value <= detector.false_positive_rate,
                    alpha=float(found.alphas[0]),
                    nodes=found.mask(0, shape),
                    leading=detector.leading(array, own).mask(0, shape),
                    channel_axis=channel_axes[name],
                )
        return Explanation(told)

    def save(self, folder: Path | str) -> None:
        """Save the fitted detectors in a folder: one safetensors file for each name, and ``scanner.json``.

        The model and the classifier are not saved. ``scanner.json`` is written last: a folder that has it is complete.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        self._check_fitted()
        null_scores = self._joint.null_scores if self._joint else None
        scanner_files.save(
            folder,
            scanner_files.SavedScanner(
                self.detectors_, null_scores, self._networks.fingerprints, self._inputs, self.combine, self._columns
            ),
        )

    @classmethod
    def load(cls, folder: Path | str, spaces: Space | Sequence[Space], **options: Any) -> ModelScanner:
        """Load detectors that `save` wrote, for the same spaces.

        Parameters
        ----------
        folder : path-like
        spaces : Space or sequence of Space
            Spaces with the names and the numbers of nodes that were saved.
        **options
            `classifier`, `batch_size` and `progress`.

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError
            If the folder is not complete, or the spaces are others.

        Warns
        -----
        UserWarning
            If a space's network has other weights than when the scanner was fitted.
        """
        saved = scanner_files.load(folder, as_spaces(spaces))
        unfitted = {name: clone(detector) for name, detector in saved.detectors.items()}
        options = {"combine": saved.combine} | options
        scanner = cls(spaces, unfitted, joint=saved.joint_null_scores is not None, **options)
        scanner.detectors_ = {name: saved.detectors[name] for name in scanner.names}
        scanner._inputs, scanner._columns = dict(saved.inputs), dict(saved.columns)
        scanner._networks.expect(saved.fingerprints)
        scanner._networks.look(f"{folder} was fitted", stacklevel=3)
        if saved.joint_null_scores is not None:
            fitted = scanner.detectors_
            scanner._joint = JointScan(
                {name: detector.background_ for name, detector in fitted.items()},
                {name: detector.scan_options_ for name, detector in fitted.items()},
            )
            scanner._joint.null_scores = saved.joint_null_scores
        return scanner

    def _scores(
        self, inputs: Any, labels: Any, combine: str | None, calibrated: bool = True
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Score inputs for p-values, in each space and as one, and return their labels with the scores."""
        self._check_fitted()
        check_combination(combine)  # an unknown one is refused before the scan, as is
        if calibrated and not self.is_calibrated:
            self.detectors_[self.names[0]].null_p_values()  # what was not calibrated: this raises
        inputs = self._as_inputs(inputs)
        found: list[np.ndarray] = []
        scores: dict[str, list[np.ndarray]] = {name: [] for name in (*self.names, *([JOINT] if self._joint else []))}
        for own, values in self._values(inputs, labels, "scan"):
            found += [] if own is None else [own]
            for name, array in values.items():
                scores[name].append(self.detectors_[name].anomaly_score(array, own))
            if self._joint:
                scores[JOINT].append(self._joint.scan(values).scores)
        joined = {name: np.concatenate(parts) for name, parts in scores.items()}
        return joined, np.concatenate(found) if found else None

    def _as_inputs(self, inputs: Any) -> Inputs:
        """Take inputs for a fitted scanner. Raises ValueError for data frames with other columns than in the fit."""
        inputs = as_inputs(inputs)
        inputs.hold_to(self._columns)
        return inputs

    def _check_fitted(self) -> None:
        if not hasattr(self, "detectors_"):
            raise NotFittedError("this ModelScanner is not fitted yet: call fit with clean inputs first")

    def _check_finds_subsets(self) -> None:
        self._check_fitted()
        for name, detector in self.detectors.items():
            if not detector.finds_subsets:
                raise InvalidTypeError(f"{type(detector).__name__} of {name} finds no subset: ask for p_values")

    def _fits(
        self, n_inputs: int, labels: np.ndarray | None, values_of: ValuesOf
    ) -> tuple[dict[str, Fit], JointScan | None]:
        """Fit a detector for each name, and the joint scan."""
        planner = next((one for one in self.detectors.values() if one.needs_labels), self.detectors[self.names[0]])
        shares = planner.plan(n_inputs, labels)
        fits = {name: clone(detector).start_fit(shares, labels) for name, detector in self.detectors.items()}
        for rows, values in values_of(shares.background, "background"):
            for name, array in values.items():
                fits[name].add_background(array, _of(labels, rows))
        joint = None
        again = self.joint or any(not detector.leaves_one_out for detector in self.detectors.values())
        calibrating = shares.calibration if again or not shares.leave_one_out else shares.calibration[:0]
        for rows, values in values_of(calibrating, "calibration"):
            for name, array in values.items():
                fits[name].add_calibration(array, _of(labels, rows))
            if self.joint:
                joint = joint or JointScan(
                    {name: fit.background for name, fit in fits.items()},
                    {name: fit.options for name, fit in fits.items()},
                )
                joint.add_null(values, shares.leave_one_out)
        return fits, joint


def _of(labels: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if labels is None else labels[rows]
