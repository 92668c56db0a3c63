"""Inputs of a scanner with their labels and their node values, batch by batch, for fits and for scans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ._labels import predict_labels, predicted_labels
from .detectors import Detector
from .detectors.base import check_labels
from .fingerprints import NetworkWatch
from .inputs import Batch, Inputs, InputSummary, ScaleWatch, SeenInputs
from .inputs.base import SizedInputs
from .spaces.base import Space
from .streaming import KeptValues, Values, stream

__all__ = ["LabelledStreams", "ValuesOf"]

ValuesOf = Callable[[np.ndarray, str], Iterator[tuple[np.ndarray, Values]]]  # from rows, and what they are for


class LabelledStreams:
    """The part of `subsetscan.ModelScanner` that streams inputs through its spaces, with their labels.

    Attributes
    ----------
    batch_size : int
    progress : bool
    detectors_ : dict of str to detector
        Of a fitted scanner.
    """

    batch_size: int
    progress: bool
    detectors_: dict[str, Detector]
    _passes: Sequence[Space]
    _classify: Callable[[Any], Any] | None
    detectors: dict[str, Detector]
    _networks: NetworkWatch
    _inputs: dict[str, InputSummary]

    def _clean(
        self, inputs: Inputs, labels: Any, seen: SeenInputs, files: ExitStack
    ) -> tuple[int, np.ndarray | None, ValuesOf]:
        """Return the number of inputs to fit on, their labels, and what streams the node values of some of them."""
        if isinstance(inputs, SizedInputs):
            labels = None if labels is None and not self._needs_labels() else self._all_labels(inputs, labels)

            def streamed(rows: np.ndarray, what: str) -> Iterator[tuple[np.ndarray, Values]]:
                return ((batch.rows, values) for batch, values in self._stream(inputs, what, seen, rows))

            return len(inputs), labels, streamed
        values = self._stream(inputs, "inputs", seen)
        kept = KeptValues(self._labelled(inputs, values, labels, self._needs_labels()), files)
        return kept.n, kept.labels, lambda rows, _what: kept.of(rows, self.batch_size)

    def _all_labels(self, inputs: SizedInputs, labels: Any) -> np.ndarray:
        """Return the given labels, or those that the classifier predicts."""
        if labels is None:
            labels = predict_labels(self._classifier(), inputs, self.batch_size)
        return check_labels(labels, len(inputs))

    def _needs_labels(self, *, to_score: bool = False) -> bool:
        """Tell whether clean inputs need labels, or others do."""
        return any(one.needs_labels and (one.scores_by_label or not to_score) for one in self.detectors.values())

    def _classifier(self) -> Callable[[Any], Any]:
        if self._classify is None:
            raise ValueError("a ClassConditionalDetector needs labels, or a classifier that predicts them; got neither")
        return self._classify

    def _labelled(
        self, inputs: Inputs, batches: Iterable[tuple[Batch, Values]], labels: Any, needed: bool
    ) -> Iterator[tuple[np.ndarray | None, Values]]:
        """Yield the labels of each batch with its node values: given, come with it, or predicted; None if not needed.

        Raises
        ------
        ValueError
            If labels are needed and missing, or of another number than the inputs.
        """
        if labels is not None:
            labels = check_labels(labels, len(inputs) if isinstance(inputs, SizedInputs) else None)
        n = 0
        for batch, values in batches:
            n += len(batch.rows)
            if labels is not None and n > len(labels):
                raise ValueError(f"there are more inputs than the {len(labels)} labels")
            if labels is not None:
                yield labels[n - len(batch.rows) : n], values
            elif not needed:
                yield None, values
            elif batch.labels is not None:
                yield check_labels(batch.labels), values
            else:
                yield check_labels(predicted_labels(self._classifier()(batch.inputs)), len(batch.rows)), values
        if labels is not None and len(labels) != n:
            raise ValueError(f"{n} inputs but {len(labels)} labels")

    def _values(self, inputs: Inputs, labels: Any, what: str) -> Iterator[tuple[np.ndarray | None, Values]]:
        """Yield labels and node values of inputs to scan, batch by batch; networks that have changed are warned of."""
        self._networks.look("the scanner was fitted", stacklevel=5)
        return self._labelled(inputs, self._stream(inputs, what), labels, self._needs_labels(to_score=True))

    def _stream(
        self, inputs: Inputs, what: str, seen: SeenInputs | None = None, rows: np.ndarray | None = None
    ) -> Iterator[tuple[Batch, Values]]:
        """Stream inputs through the spaces; those that look unlike the inputs of the fit, `seen`, are warned of."""
        see = ScaleWatch(self._inputs) if seen is None else seen
        progress = what if self.progress else None
        widths = {name: one.n_features_in_ for name, one in getattr(self, "detectors_", {}).items()}
        return stream(self._passes, inputs, self.batch_size, see=see, rows=rows, widths=widths, progress=progress)
