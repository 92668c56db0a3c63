"""A fitted detector as a callable over batches of columns: what Ray Data and Hugging Face datasets map over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._validation import refuse_masked
from ..detectors import load_detector

__all__ = ["ScoreBatches"]


class ScoreBatches:
    """Add score, p-value and verdict to batches of node values.

    Each worker loads the detector once::

        dataset.map_batches(ScoreBatches, fn_constructor_args=("detector.safetensors",), concurrency=2)   # of ray.data
        dataset.map(ScoreBatches("detector.safetensors"), batched=True)                                   # of datasets

    Parameters
    ----------
    detector : path-like or detector
        Fitted and calibrated, or the file that its `save` wrote.
    column : str, default "x"
        The column with the node values of each input; arrays of any shape are taken as rows.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or the detector was not calibrated.

    Examples
    --------
    >>> from subsetscan import SubsetScanDetector
    >>> rng = np.random.default_rng(0)
    >>> detector = SubsetScanDetector(random_state=0).fit(rng.normal(size=(200, 30)))
    >>> ScoreBatches(detector)({"x": rng.normal(2, size=(2, 30))})["flagged"]
    array([ True,  True])
    """

    def __init__(self, detector: Any, column: str = "x") -> None:
        self.detector = load_detector(detector) if isinstance(detector, (str, Path)) else detector
        self.column = column
        check_is_fitted(self.detector)
        if not self.detector.is_calibrated:
            raise ValueError("the detector was not calibrated: fit it with a calibration, or call calibrate")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch with the columns ``score``, ``p_value`` and ``flagged``.

        Raises
        ------
        ValueError
            If the column is not there, or as for the detector's `anomaly_score`.
        """
        if self.column not in batch:
            raise ValueError(f"there is no column {self.column!r}, only {', '.join(map(repr, batch))}")
        column = batch[self.column]
        refuse_masked(column, f"column {self.column!r}")
        if getattr(column, "ndim", 1) == 1:  # a column of arrays or lists
            for row in column:
                refuse_masked(row, f"column {self.column!r}")
        x = np.asarray(column)
        if x.dtype == object:
            x = np.stack(list(x)) if len(x) else np.empty((0, self.detector.n_features_in_))
        rows = x.reshape(len(x), -1) if x.size else np.empty((len(x), self.detector.n_features_in_))
        scores = self.detector.anomaly_score(rows)
        p_values = self.detector.p_values_of(scores)
        return {**batch, "score": scores, "p_value": p_values, "flagged": self.detector.decisions_of(scores) < 0}
