"""The scan in the place of ART's `SubsetScanningDetector`: the same call, the same scores, and what it gets wrong."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import gen_batches
from tqdm.auto import tqdm

from .._extras import import_extra
from .._random import RandomState, as_generator
from .._validation import InvalidTypeError, refuse_masked, refuse_no_numbers
from ..background import Background
from ..calibration import conformal_p_values, score_threshold
from ..detectors.base import unchanged_on_error, warn_of_few
from ..group_scan import scan_group
from ..input_checks import InputError, as_rows, check_finite
from ..networks import Network, as_network
from ..networks.keras_graph import is_keras_model
from ..networks.torch import is_torch_module

__all__ = ["SubsetScanningDetector"]

with warnings.catch_warnings():
    # The toolbox warns of every framework that is not installed.
    warnings.filterwarnings("ignore", category=UserWarning, module="art")
    EvasionDetector: Any = import_extra("art.defences.detector.evasion", "attacks").EvasionDetector
    BaseEstimator: Any = import_extra("art.estimators", "attacks").BaseEstimator

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
        Whether Keras shows the progress of its passes, and `scan` that of its groups.
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
    threshold : float
        A score that an adversarial input exceeds, as `detect` has it.

    Raises
    ------
    ValueError
        If the layer or the scoring function is unknown, an input or an activation is not finite, the classifier cannot
        read the inputs, there are none, or the rate is outside (0, 1).
    TypeError
        If `layer` is neither a place nor a name, or the inputs, or the rate, are not numbers.

    Notes
    -----
    A detector can be pickled, although ART's classifiers rarely can: what is kept of a classifier is its class and what
    its ``get_params`` returns, of which it is made again. All of that, the model and its loss among it, must be
    something that pickle takes. A PyTorch classifier is made again on ART's default device. Classifiers that are not
    ART's are pickled as they are.

    Scores of single inputs are ART's. Where the two differ:

    | | ART 1.20 | here |
    |---|---|---|
    | layers that are not of rank 2 or 4 | an error | any rank |
    | an input without a p-value of at most 0.5 | an error | a score of 0 |
    | NaN, infinite values | a score like any other | refused, by their place |
    | functional models of TensorFlowV2Classifier, models within a Keras model | an error | read as all others |
    | threshold of `detect` | the highest of in-sample scores | the same, or calibrated for a rate |
    | `scan` of groups | larger groups with attacked inputs than without | groups of one size |
    | random numbers | no seed | `random_state` |
    | passes over the background | two | one |
    | pickle | an error | for Keras, TensorFlow and PyTorch |
    | hooks in a PyTorch model | left there | taken back |
    | one of the two sizes of groups | ignored | refused |
    | `scan` without attacked inputs | an area that is NaN | refused |
    | groups with more inputs than there are clean ones | taken | refused: a clean group has as many |
    | the attribute `scoring_function` | a function | its name |

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
        if not isinstance(scoring_function, str) or scoring_function not in _STATISTICS:
            known = ", ".join(map(repr, _STATISTICS))
            raise ValueError(f"scoring_function must be one of {known}, got {scoring_function!r}")
        if false_positive_rate is not None:
            if not isinstance(false_positive_rate, int | float | np.number):
                raise InvalidTypeError(f"false_positive_rate must be a number, got {false_positive_rate!r}")
            if not 0 < false_positive_rate < 1:
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
        self._network: Network | None = None
        values = self._activations(bgd_data, "bgd_data")
        self._background = Background(values)
        self.bgd_scores = self._scores(values)
        self.null_scores = None
        self.threshold = float(self.bgd_scores.max())
        if false_positive_rate is not None:
            self.null_scores = self._background.leave_one_out(values, **self._options).scores
            self.threshold = score_threshold(self.null_scores, false_positive_rate)
            warn_of_few(len(self.null_scores), false_positive_rate)

    def set_params(self, **kwargs: Any) -> None:
        """Set parameters, and learn from the background anew. Raises as a new detector does, then nothing is set."""
        if unknown := set(kwargs) - set(self.defence_params):
            raise ValueError(
                f"unknown parameters {', '.join(sorted(unknown))}; known are {', '.join(self.defence_params)}"
            )
        with unchanged_on_error(self):
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
            If there are no inputs, too few for a group, only one of the sizes, an input or an activation is not finite,
            or the classifier cannot read the inputs.
        TypeError
            If the inputs are not numbers, or a size is no integer.
        """
        clean, attacked = self._activations(clean_x, "clean_x"), self._activations(adv_x, "adv_x")
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
            Of no inputs there are no scores, as in ART.
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
            If an input or an activation is not finite, or the classifier cannot read the inputs.
        TypeError
            If the inputs are not numbers, or the size is no integer.
        """
        del kwargs
        is_empty = isinstance(x, np.ndarray) and x.ndim > 0 and not len(x)
        scores = np.empty(0) if is_empty else self._scores(self._activations(x, "x", batch_size))
        report = {"scores": scores}
        if self.null_scores is not None:
            report["p_values"] = conformal_p_values(scores, self.null_scores)
        return report, scores > self.threshold

    def fit(self, x: np.ndarray, y: np.ndarray, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> None:
        """Raise NotImplementedError: as in ART, the background is given when the detector is made.

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
            _check_count(name, value)
        size = clean_size + adv_size
        if len(clean) < size or len(attacked) < adv_size:
            raise ValueError(
                f"groups of {size} need {size} clean and {adv_size} attacked inputs, got {len(clean)} and "
                f"{len(attacked)}: a clean group has as many inputs as the other, as scores grow with their number"
            )
        p_clean, p_attacked = (self._background.p_values(values, _UPPER) for values in (clean, attacked))
        scores = np.empty((2, run))
        for n in tqdm(range(run), desc="Subset scanning", disable=not self.verbose):
            first, second = (self._rng.choice(len(clean), one, replace=False) for one in (size, clean_size))
            others = self._rng.choice(len(attacked), adv_size, replace=False)
            for kind, group in enumerate((p_clean[first], np.concatenate([p_clean[second], p_attacked[others]]))):
                seed = int(self._rng.integers(2**31))
                statistic = _STATISTICS[self.scoring_function]
                scores[kind, n] = scan_group(group, statistic, _ALPHA_MAX, _RESTARTS, seed).score
        return scores[0], scores[1]

    def _activations(self, x: Any, what: str, batch_size: int = 128) -> np.ndarray:
        """Read the layer, a row for each input; `what` is what messages call them."""
        inputs = _checked(x, what)
        _check_count("batch_size", batch_size)
        with contextlib.nullcontext() if self.verbose else _silence():
            found = self._read(inputs, what, batch_size)
        if found is None:
            raise ValueError(f"the classifier gave no activations of {self._layer_name}")
        values = np.asarray(found.numpy() if hasattr(found, "numpy") else found)
        if not values.ndim or len(values) != len(inputs):
            raise ValueError(
                f"the classifier must give {self._layer_name} a row for each of {len(inputs)} inputs of {what}, got "
                f"shape {values.shape}"
            )
        values = as_rows(values)
        if not (finite := np.isfinite(values)).all():
            row, node = np.argwhere(~finite)[0]
            raise ValueError(
                f"{what}: {(~finite).any(axis=1).sum()} inputs have NaN or infinite activations in {self._layer_name}, "
                f"the first is input {row}, node {node}: {values[row, node]}"
            )
        return values

    def _read(self, inputs: np.ndarray, what: str, batch_size: int) -> Any:
        """Read the layer as ART does; where it cannot and the model is of Keras, as the rest of this package does."""
        if self._network is not None:
            return _read_network(self._network, self.classifier, self._layer_name, inputs, batch_size)
        try:
            found = self.classifier.get_activations(inputs, self._layer_name, batch_size, framework=False)
        except Exception as error:  # each framework has its own
            if not is_keras_model(model := getattr(self.classifier, "model", None)):
                expected = getattr(self.classifier, "input_shape", "unknown")
                raise ValueError(
                    f"the classifier cannot compute {self._layer_name} of {what}, of shape {inputs.shape} and dtype "
                    f"{inputs.dtype}; its input_shape is {expected}: {error}"
                ) from error
            network = as_network(model)
            found = _read_network(network, self.classifier, self._layer_name, inputs, batch_size)
            self._network = network
        finally:
            _take_back_hooks(self.classifier)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "classifier": _recipe(self.classifier), "_network": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state["classifier"]
        made = kept.kind(**kept.parameters) if isinstance(kept, _Recipe) else kept
        self.__dict__.update({**state, "classifier": made})


class _Recipe(NamedTuple):
    """What a classifier is made of again: ART's hold functions that cannot be pickled."""

    kind: type
    parameters: dict[str, Any]


def _recipe(classifier: Any) -> Any:
    """Make the recipe of one of ART's classifiers; anything else is kept as it is."""
    if not isinstance(classifier, BaseEstimator):
        return classifier
    taken = inspect.signature(type(classifier)).parameters
    return _Recipe(type(classifier), {name: one for name, one in classifier.get_params().items() if name in taken})


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidTypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def _checked(x: Any, what: str) -> np.ndarray:
    """Take inputs as an array of finite numbers. Raises ValueError or TypeError, by what they are called."""
    refuse_masked(x, what)
    inputs = np.asarray(x)
    refuse_no_numbers(inputs, what)
    if not inputs.ndim or not len(inputs):
        raise ValueError(f"{what} holds no inputs: its shape is {inputs.shape}")
    try:
        check_finite(inputs)
    except InputError as error:
        raise ValueError(f"{what}: {error}") from None
    return inputs


def _read_network(network: Network, classifier: Any, layer: str, inputs: np.ndarray, batch_size: int) -> np.ndarray:
    """Read a layer of a Keras model behind the classifier's own preprocessing."""
    prepared = network.check(classifier._apply_preprocessing(inputs, None, fit=False)[0])
    names = network.find([classifier.model.get_layer(layer)])
    if len(names) > 1:
        raise ValueError(f"{layer} has {len(names)} outputs, {', '.join(names)}: choose a layer that has one")
    return np.concatenate(
        [network.read(prepared[batch], names)[names[0]] for batch in gen_batches(len(prepared), batch_size)]
    )


def _take_back_hooks(classifier: Any) -> None:
    """Remove the hooks that ART's classifiers of PyTorch leave in the model, and the activations that these hold."""
    if not is_torch_module(getattr(classifier, "model", None)):
        return
    for name in classifier.__dict__.pop("_features", ()):
        hooks = classifier.model.get_submodule(name)._forward_hooks
        for key in [key for key, hook in hooks.items() if hook.__module__.startswith("art.estimators.")]:
            del hooks[key]


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
