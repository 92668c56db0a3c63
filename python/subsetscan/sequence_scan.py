"""Where in one input: the positions and units of a layer that are jointly anomalous, as words, regions or bytes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from ._random import RandomState, as_generator
from ._validation import InvalidTypeError
from .background import Background
from .calibration import conformal_p_values, extrapolated_null_p_values
from .combination import combined_scores
from .detectors.base import warn_of_few
from .fingerprints import NetworkWatch
from .group_scan import scan_group
from .input_checks import InputError
from .inputs import as_inputs, sequence_inputs
from .persistence import Persistent, State, pack_attributes, unpack_attributes
from .residuals import Residuals, on_grid
from .scanning import scan
from .sequence_result import SequenceScan, SequenceScans, spans_of
from .spaces.layers import Layers
from .spaces.positions import Positions, read_positions

__all__ = ["SequenceScanner"]

_AT_ONCE = 64
_LEAST_SPREAD = 0.1  # of the mean spread
_STEPS = 10  # of alpha, at least
_OPTIONS = ("statistic", "tail", "alpha_max", "restarts")
_MOST_RESTARTS = 10_000
_LONGER = 1.25  # than any clean input, or shorter than any: what that does to scores is not known


class SequenceScanner(Persistent, BaseEstimator):
    """Find the positions of one input, and the units of a layer, that are jointly anomalous: where, and what.

    A layer gives C units at each of P positions: the tokens of a text, the places of an input, the steps of a series,
    the bytes of a file. Each position is a row, as if it were an input of its own, and the rows of one input are a
    group. What each unit says that the others at the same position do not (see `subsetscan.residuals.Residuals`) is
    ranked among positions of clean inputs, wherever these lie; the block of positions and units with the highest score
    is then found by `scan_group`. Where one position alone is strange, its Mahalanobis distance from clean positions
    tells more than a block: the p-value is that of both, the block's score and the farthest position's distance.

    Parameters
    ----------
    space : Layers, optional
        One layer: `Layers`, `TransformerLayers` or another of these. Its pooling is not used. Without a space inputs
        are what a layer gave: arrays (P, C) or (H, W, C), which may differ in their numbers of positions. They are
        compared in their own type, float32 or float64.
    channel_axis : int, optional
        Which axis of what the layer gives for an input counts the units; by default as the network says, without a
        space the last.
    statistic : {"berk-jones", "higher-criticism", "kolmogorov-smirnov"}
    tail : {"upper", "lower", "two-sided"}, default "two-sided"
        Which residuals are extreme.
    alpha_max : float in (0, 1], default 0.001
        The largest p-value of a unit at a position that counts; at least 10 / (n_background + 1).
    n_background : int, default 20_000
        Positions of clean inputs to compare with, drawn evenly from them.
    calibration_fraction : float in (0, 1), default 0.5
        The part of the clean inputs that calibrates; the others make the background.
    false_positive_rate : float in (0, 1), default 0.05
    restarts : int, default 3
        As for `scan_group`.
    random_state : int, RandomState, Generator or None
        Draws what calibrates, the positions, and the starts.

    Attributes
    ----------
    null_scores_ : ndarray of shape (n,), float64
        Scores of the clean inputs that calibrate.
    null_distances_ : ndarray of shape (n,), float64
        The distances of their farthest positions.
    null_sizes_ : ndarray of shape (n,), int64
        Their numbers of positions.
    n_features_in_ : int
        Number of units, C.
    scan_options_ : dict
        Statistic, tail, largest p-value and restarts as they were when fitted: later ones count from the next fit on.

    Notes
    -----
    Scores and the logarithms of distances grow with the number of positions, P. How their mean and their spread do is
    fitted by polynomials in log(P + 1), of degree 2 and 1, on the clean inputs that calibrate and the input in
    question, all alike. Each of these inputs gets two p-values, from how many spreads it lies above the mean for its
    length, among all of them; and their Fisher sum. The p-value of the input in question is the share of those whose
    sum is at least its own. So it holds for any number of clean inputs, as that of full conformal prediction does
    (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005). Where the clean inputs have about as
    many positions, within a quarter, scores and distances themselves are compared.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean = [rng.normal(size=(rng.integers(20, 40), 12)) for _ in range(200)]
    >>> odd = rng.normal(size=(30, 12))
    >>> odd[9:14, :4] += 5
    >>> found = SequenceScanner(random_state=0).fit(clean).scan([odd])
    >>> found[0].spans, found[0].nodes, found.p_value
    ([(9, 14)], array([0, 1, 2, 3]), array([0.00990099]))
    """

    def __init__(
        self,
        space: Layers | None = None,
        *,
        channel_axis: int | None = None,
        statistic: str = "berk-jones",
        tail: str = "two-sided",
        alpha_max: float = 0.001,
        n_background: int = 20_000,
        calibration_fraction: float = 0.5,
        false_positive_rate: float = 0.05,
        restarts: int = 3,
        random_state: RandomState = None,
    ) -> None:
        self.space = space
        self.channel_axis = channel_axis
        self.statistic = statistic
        self.tail = tail
        self.alpha_max = alpha_max
        self.n_background = n_background
        self.calibration_fraction = calibration_fraction
        self.false_positive_rate = false_positive_rate
        self.restarts = restarts
        self.random_state = random_state

    def fit(self, inputs: Any) -> SequenceScanner:
        """Learn from clean inputs.

        Parameters
        ----------
        inputs : object
            As for `ModelScanner`; batches of an iterable are put together in memory.

        Returns
        -------
        SequenceScanner
            Itself.

        Raises
        ------
        ValueError
            If there are fewer than 4 inputs or no position, a value is not finite, or an option is out of its range.
        TypeError
            If the space is no `Layers`.

        Warns
        -----
        UserWarning
            If too few inputs calibrate for a p-value of at most the false positive rate.
        """
        self._check_options()
        inputs = self._sized(inputs)
        n = len(inputs)
        if n < 4:
            raise ValueError(f"at least 4 clean inputs are needed, got {n}")
        rng = as_generator(self.random_state)
        shuffled = rng.permutation(n)
        n_calibrating = min(max(round(self.calibration_fraction * n), 1), n - 2)
        calibrating, background = np.sort(shuffled[:n_calibrating]), np.sort(shuffled[n_calibrating:])
        seed = int(rng.integers(2**31))
        most = -(-self.n_background // len(background))
        fitted = SequenceScanner(**self.get_params(deep=False))
        fitted.channel_axis_ = self.channel_axis
        rows = [_drawn(one.values, most, rng) for one in fitted._positions(inputs, background)]
        if len({own.shape[1] for own in rows}) > 1:
            raise ValueError(f"inputs must have as many units, got {sorted({own.shape[1] for own in rows})}")
        values = np.concatenate([own.astype(min(own.dtype for own in rows), copy=False) for own in rows])
        if len(values) < 2:
            raise ValueError(f"the clean inputs must have at least 2 positions, got {len(values)}")
        fitted.scan_options_ = {name: getattr(self, name) for name in _OPTIONS}
        fitted.dtype_ = values.dtype.name
        fitted.residuals_ = Residuals()
        fitted.background_ = Background(on_grid(fitted.residuals_.fit_transform(values)))
        fitted.n_features_in_, fitted.seed_ = values.shape[1], seed
        found = [fitted._scan_one(one) for one in fitted._positions(inputs, calibrating)]
        fitted.null_scores_, fitted.null_distances_, fitted.null_sizes_ = _measured(found)
        fitted.fingerprint_ = None if self.space is None else self.space.fingerprint()
        fitted._watch()
        self.__dict__.update(vars(fitted))
        warn_of_few(len(found), self.false_positive_rate)
        return self

    def scan(self, inputs: Any) -> SequenceScans:
        """Find the block of positions and units of each input, and its p-value.

        Parameters
        ----------
        inputs : object
            As for `fit`.

        Returns
        -------
        SequenceScans
            One `SequenceScan` an input; its attributes are those of all of them.

        Raises
        ------
        ValueError
            If the number of units is another than in the fit, or a value is not finite.
        sklearn.exceptions.NotFittedError
            Before `fit`.

        Warns
        -----
        UserWarning
            If the space's network has other weights or settings than in the fit, or inputs are longer or shorter than
            the clean ones.
        """
        if not hasattr(self, "background_"):
            raise NotFittedError("this SequenceScanner is not fitted yet: call fit with clean inputs first")
        if self._watched is not self.space:
            self._watch()
        self._networks.look("the scanner was fitted", stacklevel=3)
        inputs = self._sized(inputs)
        rows = np.arange(len(inputs))
        found = [self._scan_one(one, text) for one, text in self._with_text(inputs, rows)]
        self._warn_of_lengths([one.positions.size for one in found])
        return SequenceScans(self._judged(found))

    def anomaly_score(self, inputs: Any) -> np.ndarray:
        """Compute -2 log(p q) of each input, float64 of shape (N,), for the p-values of its score and its distance."""
        return self.scan(inputs).anomaly_score

    def p_values(self, inputs: Any) -> np.ndarray:
        """Compute the p-value of each input among clean ones of like length, float64 of shape (N,)."""
        return self.scan(inputs).p_value

    def predict(self, inputs: Any) -> np.ndarray:
        """Flag inputs whose p-value is at most `false_positive_rate`: -1 for those, 1 for the others, (N,)."""
        return np.where(self.p_values(inputs) <= self.false_positive_rate, -1, 1)

    @classmethod
    def load(cls, path: Path | str, space: Layers | None = None) -> SequenceScanner:
        """Load what `save` wrote, for the same space. Nothing in the file is executed.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is damaged, or is no such file.

        Warns
        -----
        UserWarning
            If the space's network has other weights or settings than in the fit.
        """
        scanner: SequenceScanner = super().load(path)
        scanner.space = space
        scanner._watch()
        scanner._networks.look(f"{path} was fitted", stacklevel=3)
        return scanner

    def _watch(self) -> None:
        """Watch the space's network: it should be that of the fit."""
        spaces, fingerprint = [] if self.space is None else [self.space], self.fingerprint_
        self._networks, self._watched = NetworkWatch(spaces, spaces), self.space
        if fingerprint is not None:
            self._networks.expect({name: fingerprint for space in spaces for name in space.names})

    def _check_options(self) -> None:
        if self.space is not None and not isinstance(self.space, Layers):
            raise InvalidTypeError(f"expected Layers, or None for inputs (P, C), got {type(self.space).__name__}")
        if self.space is not None and len(self.space.names) != 1:
            raise ValueError(f"expected a space of one layer, got {len(self.space.names)}: name one")
        for name in ("calibration_fraction", "false_positive_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {getattr(self, name)}")
        if self.n_background < 2:
            raise ValueError(f"n_background must be at least 2, got {self.n_background}")
        if self.restarts > _MOST_RESTARTS:
            raise ValueError(f"restarts must be at most {_MOST_RESTARTS}, got {self.restarts}")
        p_values = np.array([[0.5], [0.5]])
        scan_group(p_values, self.statistic, self.alpha_max, restarts=self.restarts)  # it says what is wrong

    def _sized(self, inputs: Any) -> Any:
        if self.space is None:
            return sequence_inputs(inputs)
        return as_inputs(inputs).collected()

    def _positions(self, inputs: Any, rows: np.ndarray) -> Iterator[Positions]:
        return (one for one, _ in self._with_text(inputs, rows))

    def _with_text(self, inputs: Any, rows: np.ndarray) -> Iterator[tuple[Positions, str | None]]:
        """Read the positions of some inputs, and tell which of these are texts."""
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            batch = [inputs[row] for row in part] if self.space is None else inputs[part]
            texts = batch if isinstance(batch, np.ndarray) and batch.dtype.kind in "OU" else [None] * len(part)
            try:
                found = read_positions(self.space, batch, self.channel_axis_)
            except InputError as error:
                raise InputError(int(part[error.number]), error.why) from None
            yield from zip(found, texts, strict=True)

    def _scan_one(self, positions: Positions, text: str | None = None) -> SequenceScan:
        """Find the block of one input; without a p-value."""
        if positions.values.shape[1] != self.n_features_in_:
            raise ValueError(f"an input has {positions.values.shape[1]} units, the fit had {self.n_features_in_}")
        values, tail = self._of_fit(positions.values), self.scan_options_["tail"]
        mask, strength, distances = np.zeros(len(values), bool), np.zeros(len(values)), np.zeros(len(values))
        score, alpha, nodes = 0.0, 0.0, np.empty(0, np.int64)
        if len(values):
            residuals, distances = self.residuals_.transform_with_distances(values)
            p = self.background_.p_values(on_grid(residuals), tail)
            statistic, alpha_max = self.scan_options_["statistic"], self.scan_options_["alpha_max"]
            alpha_max = min(max(alpha_max, _STEPS / (self.background_.n_samples + 1)), 1.0)
            if len(p) > 1:
                how = {"restarts": self.scan_options_["restarts"], "random_state": self.seed_}
                block = scan_group(p, statistic, alpha_max, bound=None, **how)
                score, alpha, rows, nodes = block.score, block.alpha, block.images, block.nodes
            else:
                alone = scan(p, statistic, alpha_max, return_nodes=True)
                score, alpha, nodes = (
                    float(alone.scores[0]),
                    float(alone.alphas[0]),
                    np.flatnonzero(alone.mask(0, (self.n_features_in_,))),
                )
                rows = np.arange(1 if score > 0 else 0)
            mask[rows] = True
            strength[rows] = (p[np.ix_(rows, nodes)] <= alpha).mean(axis=1) if len(nodes) else 0
        return SequenceScan(
            score=float(score),
            anomaly_score=np.nan,
            p_value=np.nan,
            is_flagged=False,
            alpha=float(alpha),
            positions=mask.reshape(positions.shape),
            strength=strength.reshape(positions.shape),
            distances=np.maximum(distances, 0).reshape(positions.shape),
            nodes=np.asarray(nodes, np.int64),
            spans=spans_of(mask, positions.spans) if len(positions.shape) == 1 else [],
            text=text if isinstance(text, str) else None,
            characters=positions.spans,
        )

    def _of_fit(self, values: np.ndarray) -> np.ndarray:
        """Round values to the type of the fit. Raises TypeError for coarser ones, which would equal no clean value."""
        if values.dtype.itemsize < np.dtype(self.dtype_).itemsize:
            raise InvalidTypeError(
                f"this SequenceScanner was fitted on {self.dtype_} and cannot compare {values.dtype} with it: fit it "
                f"on {values.dtype}"
            )
        return values.astype(self.dtype_, copy=False)

    def _warn_of_lengths(self, sizes: list[int]) -> None:
        """Warn of inputs that are longer or shorter than all that calibrate, by more than a fit over lengths allows."""
        least, most = int(self.null_sizes_.min()), int(self.null_sizes_.max())
        beyond = 1.0 if _are_alike(self.null_sizes_) else _LONGER
        strange = [n for n, size in enumerate(sizes) if not least / beyond <= size <= most * beyond]
        if strange:
            warnings.warn(
                f"{len(strange)} inputs have other numbers of positions than the clean ones, {least} to {most}: their "
                f"p-values do not hold; the first is input {strange[0]} with {sizes[strange[0]]}",
                stacklevel=3,
            )

    def _judged(self, found: list[SequenceScan]) -> list[SequenceScan]:
        """Give blocks their p-values, by how scores and distances of clean inputs depend on their length."""
        null = self.null_scores_, self.null_distances_
        judged = []
        for one, score, distance, size in zip(found, *_measured(found), strict=True):
            own, p_value = _evidence((score, distance), size, null, self.null_sizes_)
            judged.append(one.judged(own, p_value, p_value <= self.false_positive_rate))
        return judged

    def _state(self) -> State:
        if not hasattr(self, "background_"):
            raise NotFittedError("this SequenceScanner is not fitted yet: call fit with clean inputs first")
        parameters = self.get_params(deep=False) | {"space": None}
        if not isinstance(parameters["random_state"], int | np.integer):
            parameters["random_state"] = None
        own, arrays = pack_attributes({name: value for name, value in vars(self).items() if name.endswith("_")})
        return {"kind": self.kind(), "parameters": parameters} | own, arrays

    @classmethod
    def _from_state(cls, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> SequenceScanner:
        scanner = cls(**description["parameters"])
        scanner._take_attributes(unpack_attributes(description, tensors))
        null = [scanner.null_scores_, scanner.null_distances_, scanner.null_sizes_]
        if not null[0].shape == null[1].shape == null[2].shape == (len(null[0]),) != (0,):
            raise ValueError("null scores, distances and sizes do not belong together")
        if not all(np.isfinite(one).all() and (one >= 0).all() for one in null):
            raise ValueError("null scores, distances and sizes must be finite and at least 0")
        if scanner.scan_options_.keys() != set(_OPTIONS):
            raise ValueError(f"the options of a scan are {', '.join(_OPTIONS)}, got {sorted(scanner.scan_options_)}")
        SequenceScanner(**scanner.scan_options_)._check_options()
        scanner._check_options()
        if not scanner.n_features_in_ == scanner.background_.n_nodes == scanner.residuals_.n_features_in_:
            raise ValueError("the background and the residuals have other numbers of units than the fit")
        if not isinstance(scanner.channel_axis_, int | None) or not isinstance(scanner.fingerprint_, str | None):
            raise ValueError(
                f"no axis is {scanner.channel_axis_!r:.80}, or no fingerprint is {scanner.fingerprint_!r:.80}"
            )
        one = np.zeros((2, scanner.n_features_in_), scanner.dtype_)
        scanner._judged([scanner._scan_one(one) for one in read_positions(None, [one], None)])
        scanner._watch()
        return scanner


def _measured(found: list[SequenceScan]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the score, the farthest position's distance and the number of positions of each."""
    return (
        np.array([one.score for one in found]),
        np.array([one.distances.max(initial=0) for one in found]),
        np.array([one.positions.size for one in found], np.int64),
    )


def _evidence(
    own: tuple[float, float], size: int, null: tuple[np.ndarray, np.ndarray], null_sizes: np.ndarray
) -> tuple[float, float]:
    """Return the Fisher sum of an input's score and distance, and its p-value among clean inputs of like length.

    The input is fitted with the clean ones, for theirs to be as well fitted as its own.
    """
    scores, distances = (np.append(clean, one) for clean, one in zip(null, own, strict=True))
    parts = [scores, np.log(np.maximum(distances, np.finfo(np.float64).tiny))]
    if not _are_alike(null_sizes):
        parts = [_above_mean(part, np.append(null_sizes, size)) for part in parts]
    sums = combined_scores(np.column_stack([extrapolated_null_p_values(part) for part in parts]), "fisher")
    p_value = conformal_p_values(sums[-1:], sums[:-1])[0] if size else 1.0
    return float(sums[-1]), float(p_value)


def _are_alike(sizes: np.ndarray) -> bool:
    return bool(sizes.max() <= _LONGER * sizes.min())


def _above_mean(scores: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Tell how many spreads each score lies above the mean for its number of positions."""
    x = np.log1p(sizes)
    distances = scores - Polynomial.fit(x, scores, min(2, len(np.unique(sizes)) - 1))(x)
    spread = Polynomial.fit(x, np.abs(distances), 1)(x)
    least = max(_LEAST_SPREAD * float(np.abs(distances).mean()), np.finfo(np.float64).tiny)
    return distances / np.maximum(spread, least)


def _drawn(values: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw some rows, in their order."""
    if len(values) <= most:
        return values
    return values[np.sort(rng.choice(len(values), most, replace=False))]
