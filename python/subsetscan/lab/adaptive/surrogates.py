"""Smooth stand-ins for a detector's score, which an attacker can follow downhill: soft counts, distances, neighbours.

Each part of a score is made smooth, and brought to one scale by the attacker's own clean images: roughly minus the
logarithm of its p-value. Parts and layers are then combined as the detector combines them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..._validation import InvalidTypeError
from ...detectors import AutomaticDetector, SubsetScanDetector
from ...residuals import Residuals
from ...scanner import ModelScanner
from .views import Values, differentiable

__all__ = ["Evidence", "SoftScan", "Surrogate", "matching"]

Part = Callable[[Any], Any]  # values (n, J) to scores (n,)

_ALPHAS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
_MOST_NODES = 3000  # of a soft scan: the others say the same
_WIDTH = 0.1  # how far behind a threshold a node counts a half, in its standard deviations
_SHARPNESS = 50.0  # of the softest maximum
_SHARED = 0.05  # of the mean standard deviation, for nodes that hardly vary


class SoftScan:
    """The scan of one layer with soft counts: of how many nodes lie beyond a quantile of the background, and how far.

    A node that lies u widths beyond counts u / (1 + u). Unlike a sigmoid that is 0 where values equal the quantile, as
    zeros often do, and far beyond it still has a slope.

    Parameters
    ----------
    rows : ndarray of shape (M, J)
        Values of clean images.
    statistic, tail, alpha_max
        As for `SubsetScanDetector`, under its scope "subset".
    seed : int
        Draws the nodes that are counted, where there are more than 3,000.
    """

    def __init__(self, rows: np.ndarray, statistic: str, tail: str, alpha_max: float, seed: int = 0) -> None:
        import tensorflow as tf

        n_nodes = rows.shape[1]
        kept = np.arange(n_nodes)
        if n_nodes > _MOST_NODES:
            kept = np.sort(np.random.default_rng(seed).choice(n_nodes, _MOST_NODES, replace=False))
        self._kept = None if len(kept) == n_nodes else tf.constant(kept)
        rows = rows[:, kept].astype(np.float64)
        deviations = rows.std(axis=0)
        self._width = tf.constant(_WIDTH * (deviations + _SHARED * (deviations.mean() or 1.0)), tf.float32)
        self._signs = {"upper": (1,), "lower": (-1,), "two-sided": (1, -1)}[tail]
        smallest = len(self._signs) / (len(rows) + 1)
        self.alphas = [smallest, *(alpha for alpha in _ALPHAS if smallest < alpha <= alpha_max)]
        self._thresholds = [
            [tf.constant(_beyond(sign * rows, alpha / len(self._signs))) for sign in self._signs]
            for alpha in self.alphas
        ]
        self._score = _STATISTICS[statistic]
        # In units of the largest score that there can be, a maximum is as soft for few nodes as for many.
        self._unit = max(float(self._score(np.float64(len(kept) * alpha), alpha)) for alpha in self.alphas)
        self._share = n_nodes / len(kept)

    def counts(self, values: Any) -> list[Any]:
        """Count nodes softly at each alpha."""
        import tensorflow as tf

        if self._kept is not None:
            values = tf.gather(values, self._kept, axis=1)
        found = []
        for thresholds in self._thresholds:
            parts = zip(self._signs, thresholds, strict=True)
            widths = [tf.nn.relu(sign * values - threshold) / self._width for sign, threshold in parts]
            found.append(self._share * sum(tf.reduce_sum(beyond / (1 + beyond), axis=1) for beyond in widths))
        return found

    def __call__(self, values: Any) -> Any:
        """Score values (n, J): the soft maximum over alphas."""
        import tensorflow as tf

        scores = [self._score(count, alpha) for count, alpha in zip(self.counts(values), self.alphas, strict=True)]
        sharpness = _SHARPNESS / self._unit / len(self.alphas)
        return tf.reduce_logsumexp(sharpness * tf.stack(scores), axis=0) / sharpness


# The score of a subset of n nodes, all of whose p-values are at most alpha.
_STATISTICS: Mapping[str, Callable[[Any, float], Any]] = {
    "berk-jones": lambda n, alpha: n * np.log(1 / alpha),
    "higher-criticism": lambda n, alpha: (n + 1e-6) ** 0.5 * ((1 - alpha) / alpha) ** 0.5,
    "kolmogorov-smirnov": lambda n, alpha: (n + 1e-6) ** 0.5 * (1 - alpha),
}


def _beyond(rows: np.ndarray, alpha: float) -> np.ndarray:
    """Find the value of each node above which p-values are at most alpha."""
    n_above = max(alpha * (len(rows) + 1) - 1, 0.0)
    return np.quantile(rows, 1 - n_above / len(rows), axis=0).astype(np.float32)


class Evidence:
    """A part's score as roughly minus the logarithm of its p-value, by its median and its rarest twentieth.

    Parameters
    ----------
    part : callable
        From values (n, J) to scores (n,).
    rows : ndarray of shape (m, J)
        Of clean images that are not in the background.
    """

    def __init__(self, part: Part, rows: np.ndarray) -> None:
        import tensorflow as tf

        self._part = part
        scores = np.concatenate([np.asarray(part(tf.constant(rows[n : n + 100]))) for n in range(0, len(rows), 100)])
        self.median, rare = (float(value) for value in np.quantile(scores.astype(np.float64), (0.5, 0.95)))
        self.unit = max(rare - self.median, 1e-6 * max(abs(self.median), 1.0)) / np.log(10)

    def __call__(self, values: Any) -> Any:
        """Weigh values (n, J): log 2 at the median, log 20 at the rarest twentieth, and on in a straight line."""
        import tensorflow as tf

        return tf.nn.softplus(np.log(2) + (self._part(values) - self.median) / self.unit)


class Surrogate:
    """A smooth stand-in for the score of a fitted scanner.

    Parameters
    ----------
    scanner : ModelScanner
        Whose spaces are of Keras models, with detectors that are `SubsetScanDetector` or `AutomaticDetector`.
    background, own : ndarray of shape (M, ...) and (m, ...)
        The images that the scanner was fitted to, and other clean ones.

    Raises
    ------
    TypeError
        If there is no such stand-in for a space or a detector.
    """

    def __init__(self, scanner: ModelScanner, background: np.ndarray, own: np.ndarray) -> None:
        self._read = differentiable(scanner.spaces)
        known: dict[str, np.ndarray] = {}
        fresh: dict[str, np.ndarray] = {}
        for space in scanner.spaces:
            known |= space.transform(background)
            fresh |= space.transform(own)
        self._parts: dict[str, Sequence[tuple[float, Part]]] = {}
        for name, detector in scanner.detectors_.items():
            if isinstance(detector, SubsetScanDetector):
                options = {key: detector.scan_options_[key] for key in ("statistic", "tail", "alpha_max")}
                parts: list[tuple[float, Part]] = [(1.0, SoftScan(known[name], **options))]
            elif isinstance(detector, AutomaticDetector):
                parts = _parts_of(detector, fresh[name])
            else:
                raise InvalidTypeError(
                    f"expected SubsetScanDetector or AutomaticDetector for {name}, got {type(detector).__name__}"
                )
            self._parts[name] = [(weight, Evidence(part, fresh[name])) for weight, part in parts]

    def __call__(self, images: Any) -> Any:
        """Score images (n, ...): the sum over spaces of what their parts say, the loudest first."""
        import tensorflow as tf

        values: Values = self._read(images)
        return sum(
            tf.reduce_logsumexp([np.log(weight) + part(values[name]) for weight, part in parts], axis=0)
            for name, parts in self._parts.items()
        )


def _parts_of(detector: AutomaticDetector, fresh: np.ndarray) -> list[tuple[float, Part]]:
    """Make the smooth parts of an automatic detector: those of values. Ranks follow where values go."""
    import tensorflow as tf

    model = _SoftResiduals(detector.value_scan_.residuals_)
    residuals = detector.value_scan_.residuals_.transform(fresh)
    scan = SoftScan(residuals, "berk-jones", "two-sided", 0.1)
    scale = tf.constant(detector.nearest_.scale_.astype(np.float32))
    points = tf.constant(detector.nearest_.points_.T.astype(np.float32))

    def nearest(values: Any) -> Any:
        alike = tf.nn.l2_normalize(values / scale, axis=1) @ points
        return -tf.reduce_logsumexp(_SHARPNESS * alike, axis=1) / _SHARPNESS

    return [
        (1.0, lambda values: scan(model.residuals(values))),
        (1.0, model.distances),
        (1.0, nearest),
    ]


class _SoftResiduals:
    """`Residuals` in TensorFlow."""

    def __init__(self, fitted: Residuals) -> None:
        import tensorflow as tf

        def single(values: np.ndarray) -> Any:
            return tf.constant(values.astype(np.float32))

        self._mean, self._scale = single(fitted.mean_), single(fitted.scale_)
        self._matrix, self._floor = single(fitted.matrix_), fitted.floor_
        self._errors = single(np.sqrt(fitted.precision_))
        self._is_square = len(fitted.matrix_) == fitted.n_features_in_

    def _solved(self, values: Any) -> tuple[Any, Any]:
        z = (values - self._mean) / self._scale
        if self._is_square:
            return z, z @ self._matrix
        import tensorflow as tf

        return z, (z - tf.matmul(z, self._matrix, transpose_b=True) @ self._matrix) / self._floor

    def residuals(self, values: Any) -> Any:
        return self._solved(values)[1] / self._errors

    def distances(self, values: Any) -> Any:
        import tensorflow as tf

        z, y = self._solved(values)
        return tf.reduce_sum(z * y, axis=1)


def matching(read: Callable[[Any], Values], targets: np.ndarray, clean: np.ndarray) -> Part:
    """Make the distance of images from others in all spaces, each node in its own units, each space alike.

    Parameters
    ----------
    read : callable
        From images to the values of spaces.
    targets : ndarray of shape (n, ...)
        Which image each image is to look like.
    clean : ndarray of shape (m, ...)
        By which units are chosen.
    """
    import tensorflow as tf

    values = read(tf.constant(clean))
    wanted = read(tf.constant(targets))
    units = {name: tf.math.reduce_std(own, axis=0) + tf.reduce_mean(tf.math.reduce_std(own, axis=0)) for name, own in
             values.items()}  # fmt: skip

    def distance(images: Any) -> Any:
        return sum(
            tf.reduce_mean(((own - wanted[name]) / units[name]) ** 2, axis=1) for name, own in read(images).items()
        )

    return distance
