"""The scan in the place of ART's `SubsetScanningDetector`: the same call, the same scores, and what it gets wrong."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from .._extras import import_extra
from .._random import RandomState, as_generator
from .._validation import InvalidTypeError
from ..background import Background
from ..calibration import conformal_p_values, score_threshold
from ..detectors.base import warn_of_few
from ..group_scan import scan_group

__all__ = ["SubsetScanningDetector"]

with warnings.catch_warnings():
    # The toolbox warns of every framework that is not installed.
    warnings.filterwarnings("ignore", category=UserWarning, module="art")
    EvasionDetector: Any = import_extra("art.defences.detector.evasion", "attacks").EvasionDetector

# ART's names, its misspelling among them.
_STATISTICS = {
    "BerkJones": "berk-jones",
    "HigherCriticism": "higher-criticism",
    "KolmarovSmirnov": "kolmogorov-smirnov",
    "KolmogorovSmirnov": "kolmogorov-smirnov",
}
_ALPHA_MAX, _RESTARTS = 0.5, 10  # ART's
_UPPER = "upper"


class SubsetScanningDetector(EvasionDetector):
    """Detect adversarial inputs by a scan of one layer, as ART's class of this name does; change the import alone.

    Parameters
    ----------
    classifier : art.estimators.classification classifier
        One that has ``layer_names`` and ``get_activations``: of Keras, TensorFlow or PyTorch.
    bgd_data : ndarray of shape (M, ...)
        Clean inputs, better not those that the classifier was trained on.
    layer : int or str
        Which of ``classifier.layer_names``.
    scoring_function : str, default "BerkJones"
        Or "HigherCriticism", or "KolmogorovSmirnov", also in ART's spelling, "KolmarovSmirnov".
    verbose : bool, default True
        Whether Keras shows the progress of its passes.
    false_positive_rate : float in (0, 1), optional
        Which share of clean inputs `detect` may flag: its threshold is then calibrated by the background, each input
        left out. By default the threshold is ART's, the background's highest score, which depends on one input.
    random_state : int, RandomState, Generator or None
        Draws the groups of `scan`, and the starts of its searches.

    Attributes
    ----------
    bgd_scores : ndarray of shape (M,), float64
        The scores of the background, each input scanned against all of it, itself included, as in ART.
    null_scores : ndarray of shape (M,), float64
        The same, each input left out; None without a `false_positive_rate`.

    Raises
    ------
    ValueError
        If the layer or the scoring function is unknown, a value is not finite, or the rate is outside (0, 1).

    Notes
    -----
    Scores of single inputs are ART's. Where the two differ:

    ============================================  ===========================  =====================================
    ..                                            ART 1.20                     here
    ============================================  ===========================  =====================================
    layers that are not of rank 2 or 4            an error, or wrong scores    any rank
    an input without a p-value of at most 0.5     an error                     a score of 0
    NaN                                           a score like any other       refused, by its place
    threshold of `detect`                         the highest of in-sample     the same, or calibrated for a rate
                                                  scores
    `scan` of groups                              larger groups with attacked  groups of one size
                                                  inputs than without
    random numbers                                no seed                      `random_state`
    passes over the background                    two                          one
    ============================================  ===========================  =====================================

    References
    ----------
    E. McFowland, S. Speakman, D. B. Neill, Fast generalized subset scan for anomalous pattern detection, JMLR 14, 2013.
    """

    defence_params = ("classifier", "bgd_data", "layer", "scoring_function", "verbose", "false_positive_rate",
                      "random_state")  # fmt: skip

    def __init__(
        self,
        classifier: Any,
        bgd_data: np.ndarray,
        layer: int | str,
        scoring_function: str = "BerkJones",
        verbose: bool = True,
        *,
        false_positive_rate: float | None = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        if scoring_function not in _STATISTICS:
            known = ", ".join(map(repr, _STATISTICS))
            raise ValueError(f"scoring_function must be one of {known}, got {scoring_function!r}")
        if false_positive_rate is not None and not 0 < false_positive_rate < 1:
            raise ValueError(f"false_positive_rate must be in (0, 1), got {false_positive_rate}")
        self._layer_name = _layer_name(classifier, layer)
        self.classifier = classifier
        self.bgd_data = bgd_data
        self.layer = layer
        self.scoring_function = scoring_function
        self.verbose = verbose
        self.false_positive_rate = false_positive_rate
        self.random_state = random_state
        self._rng = as_generator(random_state)
        values = self._activations(bgd_data, 128)
        self._background = Background(values)
        self.bgd_scores = self._scores(values)
        self.null_scores = None
        if false_positive_rate is not None:
            self.null_scores = self._background.leave_one_out(values, **self._options).scores
            warn_of_few(len(self.null_scores), false_positive_rate)

    def set_params(self, **kwargs: Any) -> None:
        """Set parameters, and learn from the background anew. Raises ValueError for unknown ones."""
        if unknown := set(kwargs) - set(self.defence_params):
            raise ValueError(
                f"unknown parameters {', '.join(sorted(unknown))}; known are {', '.join(self.defence_params)}"
            )
        self.__init__(**{**self.get_params(), **kwargs})  # type: ignore[misc]

    def scan(
        self,
        clean_x: np.ndarray,
        adv_x: np.ndarray,
        clean_size: int | None = None,
        adv_size: int | None = None,
        run: int = 10,
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Score clean and attacked inputs one by one; or groups of clean ones, and of clean and attacked ones.

        Parameters
        ----------
        clean_x, adv_x : ndarray of shape (n, ...)
        clean_size, adv_size : int, optional
            With both: how many clean and attacked inputs a group with attacked ones has. A group without has as many
            clean ones as both together.
        run : int, default 10
            How many groups of each kind are drawn.

        Returns
        -------
        clean_scores, adv_scores : ndarray, float64
            Of shape (n,), or (run,) for groups.
        detection_power : float
            The area under the ROC curve.

        Raises
        ------
        ValueError
            If there are no inputs, too few for a group, only one of the sizes, or a value is not finite.
        """
        for name, inputs in (("clean_x", clean_x), ("adv_x", adv_x)):
            if not len(inputs):
                raise ValueError(f"{name} holds no inputs")
        clean, attacked = (self._activations(inputs, 128) for inputs in (clean_x, adv_x))
        if clean_size is None and adv_size is None:
            scores = self._scores(clean), self._scores(attacked)
        elif clean_size is None or adv_size is None:
            raise ValueError(f"groups need both sizes, got clean_size {clean_size} and adv_size {adv_size}")
        else:
            scores = self._group_scores(clean, attacked, clean_size, adv_size, run)
        labels = np.repeat([0, 1], list(map(len, scores)))
        return *scores, float(roc_auc_score(labels, np.concatenate(scores)))

    def detect(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Tell which inputs are adversarial.

        Parameters
        ----------
        x : ndarray of shape (n, ...)
        batch_size : int, default 128
            Inputs of a pass.

        Returns
        -------
        report : dict
            ``"scores"``, of shape (n,); and ``"p_values"`` where there is a `false_positive_rate`.
        is_adversarial : ndarray of shape (n,), bool

        Raises
        ------
        ValueError
            If a value is not finite.
        """
        del kwargs
        scores = self._scores(self._activations(x, batch_size))
        report = {"scores": scores}
        if self.null_scores is None or self.false_positive_rate is None:
            return report, scores > self.bgd_scores.max()
        report["p_values"] = conformal_p_values(scores, self.null_scores)
        return report, scores > score_threshold(self.null_scores, self.false_positive_rate)

    def fit(self, x: np.ndarray, y: np.ndarray, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> None:
        """Do nothing: as in ART, the background is given when the detector is made.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError("the detector learns from bgd_data when it is made")

    @property
    def _options(self) -> dict[str, Any]:
        return {"statistic": _STATISTICS[self.scoring_function], "tail": _UPPER, "alpha_max": _ALPHA_MAX}

    def _scores(self, values: np.ndarray) -> np.ndarray:
        return self._background.scan(values, **self._options).scores

    def _group_scores(
        self, clean: np.ndarray, attacked: np.ndarray, clean_size: int, adv_size: int, run: int
    ) -> tuple[np.ndarray, np.ndarray]:
        for name, value in (("clean_size", clean_size), ("adv_size", adv_size), ("run", run)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        size = clean_size + adv_size
        if len(clean) < size or len(attacked) < adv_size:
            raise ValueError(
                f"groups of {size} need {size} clean and {adv_size} attacked inputs, got {len(clean)} and "
                f"{len(attacked)}: a clean group has as many inputs as the other, as scores grow with their number"
            )
        p_clean, p_attacked = (self._background.p_values(values, _UPPER) for values in (clean, attacked))
        scores = np.empty((2, run))
        for n in range(run):
            first, second = (self._rng.choice(len(clean), one, replace=False) for one in (size, clean_size))
            others = self._rng.choice(len(attacked), adv_size, replace=False)
            for kind, group in enumerate((p_clean[first], np.concatenate([p_clean[second], p_attacked[others]]))):
                seed = int(self._rng.integers(2**31))
                statistic = _STATISTICS[self.scoring_function]
                scores[kind, n] = scan_group(group, statistic, _ALPHA_MAX, _RESTARTS, seed).score
        return scores[0], scores[1]

    def _activations(self, x: np.ndarray, batch_size: int) -> np.ndarray:
        with contextlib.nullcontext() if self.verbose else _silence():
            found = self.classifier.get_activations(np.asarray(x), self._layer_name, batch_size, framework=False)
        if found is None:
            raise ValueError(f"the classifier gave no activations of {self._layer_name}")
        values = np.asarray(found.numpy() if hasattr(found, "numpy") else found)
        return values.reshape(len(values), -1)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Let Keras show no bars: the classifier's own passes cannot be told to."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _layer_name(classifier: Any, layer: int | str) -> str:
    """Name a layer. Raises ValueError if there is no such layer, TypeError if it is neither a place nor a name."""
    names = getattr(classifier, "layer_names", None)
    if not names:
        raise ValueError(f"{type(classifier).__name__} has no layer_names: a classifier of art.estimators is needed")
    if isinstance(layer, bool) or not isinstance(layer, int | np.integer | str):
        raise InvalidTypeError(f"layer must be a place in layer_names or a name, got {layer!r}")
    if isinstance(layer, str):
        if layer not in names:
            raise ValueError(f"there is no layer {layer!r}; layers are {', '.join(names)}")
        return layer
    if not 0 <= layer < len(names):
        raise ValueError(f"layer must be from 0 to {len(names) - 1}, got {layer}; layers are {', '.join(names)}")
    return str(names[layer])
