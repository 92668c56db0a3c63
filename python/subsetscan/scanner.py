"""Scanning a model: images through its spaces once, each space's values straight into a detector of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tqdm.auto import tqdm

from ._files import whole
from .calibration import plan
from .detector import StreamedFit, SubsetScanDetector
from .scanning import ScanResult
from .spaces.base import Space, check_finite, join

__all__ = ["ModelScanner"]

_FORMAT = "subsetscan.ModelScanner"
_FORMAT_VERSION = 1
_MANIFEST = "scanner.json"


class ModelScanner:
    """Scan several spaces of a model at once: its layers, its reconstruction error.

    Images pass through the model in batches. Memory holds the backgrounds and one batch, never all activations.

    Parameters
    ----------
    spaces : Space or sequence of Space
        Those over the same network share their forward passes.
    detector : SubsetScanDetector, optional
        Cloned for each name of the spaces.
    batch_size : int, default 256
        Images that are worked on at once. Results do not depend on it.
    progress : bool, default False
        Whether to show progress bars on standard error.

    Attributes
    ----------
    names : tuple of str
        The names of all spaces.
    node_shapes : dict of str to tuple of int
        The shape in which each name's nodes lie.
    detectors_ : dict of str to SubsetScanDetector
        The fitted detectors. They share the images that calibrate.

    Raises
    ------
    ValueError
        If two spaces have the same name, or there is none.
    TypeError
        If one of them is no space, or the detector is no SubsetScanDetector.

    Examples
    --------
    >>> import numpy as np
    >>> from subsetscan.spaces import Pixels
    >>> images = np.random.default_rng(0).random((200, 4, 4, 1))
    >>> scanner = ModelScanner(Pixels((4, 4, 1)), SubsetScanDetector(random_state=0)).fit(images)
    >>> scanner.p_values(images[:2] + 1)
    {'pixels': array([0.01960784, 0.01960784])}
    """

    def __init__(
        self,
        spaces: Space | Sequence[Space],
        detector: SubsetScanDetector | None = None,
        *,
        batch_size: int = 256,
        progress: bool = False,
    ) -> None:
        self.spaces = [spaces] if isinstance(spaces, Space) else list(spaces)
        self.detector = SubsetScanDetector() if detector is None else detector
        self.batch_size = batch_size
        self.progress = progress
        if not self.spaces:
            raise ValueError("at least one space is needed, got none")
        for space in self.spaces:
            if not isinstance(space, Space):
                raise TypeError(f"expected spaces of subsetscan.spaces, got {type(space).__name__}")
        if not isinstance(self.detector, SubsetScanDetector):
            raise TypeError(f"expected a SubsetScanDetector, got {type(self.detector).__name__}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._passes = join(self.spaces)

    @property
    def names(self) -> tuple[str, ...]:  # noqa: D102 (the class says it)
        return tuple(self.node_shapes)

    @property
    def node_shapes(self) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {name: shape for space in self.spaces for name, shape in space.node_shapes.items()}

    def fit(self, images: Any) -> ModelScanner:
        """Fit a detector for each name on clean images.

        Parameters
        ----------
        images : array-like of shape (n, ...)
            Clean images, in memory or mapped from a file. Each passes once through the model; under "leave-one-out"
            each passes twice.

        Returns
        -------
        ModelScanner
            Itself.

        Raises
        ------
        ValueError
            If the images have another shape than the model's input, a pixel is not finite, there are too few images,
            or a parameter of the detector is none of its kind.
        """
        images = self._check_images(images)
        options = self.detector
        shares = plan(len(images), options.calibration, options.calibration_fraction, options.random_state)
        fits: dict[str, StreamedFit] = {name: clone(options).start_fit(len(shares.background)) for name in self.names}
        for values in self._values(images, shares.background, "background"):
            for name, array in values.items():
                fits[name].add_background(array)
        for values in self._values(images, shares.calibration, "calibration"):
            for name, array in values.items():
                fits[name].add_calibration(array)
        self.detectors_ = {name: fit.finish() for name, fit in fits.items()}
        return self

    def scan(self, images: Any, return_nodes: bool = False) -> dict[str, ScanResult]:
        """Find the highest-scoring subset of nodes of each image in each space.

        Parameters
        ----------
        images : array-like of shape (N, ...)
        return_nodes : bool
            Whether to return the subsets as well.

        Returns
        -------
        dict of str to ScanResult

        Raises
        ------
        ValueError
            If the images have another shape than the model's input, or a pixel is not finite.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        self._check_fitted()
        images = self._check_images(images)
        found: dict[str, list[ScanResult]] = {name: [] for name in self.names}
        for values in self._values(images, np.arange(len(images)), "scan"):
            for name, array in values.items():
                found[name].append(
                    self.detectors_[name].background_.scan(
                        array, **self.detectors_[name].scan_options_, return_nodes=return_nodes
                    )
                )
        return {name: ScanResult.concatenate(results) for name, results in found.items()}

    def p_values(self, images: Any) -> dict[str, np.ndarray]:
        """Compute the calibrated p-value of each image in each space.

        Parameters
        ----------
        images : array-like of shape (N, ...)

        Returns
        -------
        dict of str to ndarray of shape (N,), float64

        Raises
        ------
        ValueError
            As for `scan`, and if the detectors were not calibrated.
        """
        return {name: self.detectors_[name].p_values_of(result.scores) for name, result in self.scan(images).items()}

    def save(self, folder: Path | str) -> None:
        """Save the fitted detectors in a folder: one safetensors file for each name, and ``scanner.json``.

        The model is not saved. ``scanner.json`` is written last: a folder that has it is complete.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        self._check_fitted()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / _MANIFEST
        manifest.unlink(missing_ok=True)
        files = {name: f"detector-{n:03}.safetensors" for n, name in enumerate(self.names)}
        for name, file in files.items():
            self.detectors_[name].save(folder / file)
        content = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "detectors": files}
        with whole(manifest) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str, spaces: Space | Sequence[Space], **options: Any) -> ModelScanner:
        """Load detectors that `save` wrote, for the same spaces.

        Parameters
        ----------
        folder : path-like
        spaces : Space or sequence of Space
            Spaces with the names and the numbers of nodes that were saved.
        **options
            `batch_size` and `progress`.

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError
            If the folder is not complete, or the spaces are others.
        """
        manifest = Path(folder) / _MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(f"{folder} holds no saved scanner: there is no {_MANIFEST}")
        try:
            content: Mapping[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            kind, version, files = content["format"], content["format_version"], dict(content["detectors"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{manifest} is damaged: {error!r}") from error
        if (kind, version) != (_FORMAT, _FORMAT_VERSION):
            raise ValueError(f"{manifest} is {kind} version {version}; expected {_FORMAT} version {_FORMAT_VERSION}")
        detectors = {name: SubsetScanDetector.load(Path(folder) / Path(file).name) for name, file in files.items()}
        scanner = cls(spaces, clone(next(iter(detectors.values()))) if detectors else None, **options)
        saved = {name: detector.n_features_in_ for name, detector in detectors.items()}
        given = {name: int(np.prod(shape)) for name, shape in scanner.node_shapes.items()}
        if saved != given:
            raise ValueError(f"{folder} was saved for spaces with the nodes {saved}, got {given}")
        scanner.detectors_ = {name: detectors[name] for name in scanner.names}
        return scanner

    def _check_fitted(self) -> None:
        if not hasattr(self, "detectors_"):
            raise NotFittedError("this ModelScanner is not fitted yet: call fit with clean images first")

    def _check_images(self, images: Any) -> np.ndarray:
        """Look at all images before the first passes, so that the number of a bad one is the caller's."""
        images = np.asanyarray(images)
        if not images.ndim:
            raise ValueError(f"images must have a first axis that counts them, got shape {images.shape}")
        for start in range(0, len(images) if images.dtype.kind == "f" else 0, self.batch_size):
            check_finite(images[start : start + self.batch_size], start)
        return images

    def _values(self, images: np.ndarray, rows: np.ndarray, what: str) -> Iterator[dict[str, np.ndarray]]:
        """Yield the node values of these images, batch by batch; one empty batch if there are none."""
        starts = range(0, max(len(rows), 1), self.batch_size)
        for start in tqdm(starts, desc=what, unit="batch", disable=not self.progress, leave=False):
            batch = images[rows[start : start + self.batch_size]]
            yield {name: array for space in self._passes for name, array in space.transform(batch).items()}
