"""What scan, fit, score and explain share: fitting a scanner, keeping it in a folder, and opening it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .._digest import digest
from .._files import damage_as_value_error
from ..detectors import AutomaticDetector, CalibratedDetector, SubsetScanDetector
from ..inputs.base import SizedInputs
from ..lab.experiment.files import write_json
from ..lab.options import start_writing
from ..scanner import ModelScanner
from ..scanner_files import digest_beside
from .cluster import ClusterScanner, SharedFile
from .memory import AUTOMATIC
from .subject import Subject

__all__ = [
    "about_detector",
    "about_run",
    "chosen_options",
    "false_positive_rate_of",
    "fingerprint_of",
    "fit_scanner",
    "keep",
    "load_sets",
    "n_background_of",
    "open_fitted",
]

_SPACES = "spaces.json"
# Whose numbers results are made of, by their modules.
_LIBRARIES = {
    "subsetscan": "subsetscan",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "keras": "keras",
    "torch": "torch",
    "onnxruntime": "onnxruntime",
}


def chosen_options(**options: Any) -> dict[str, Any]:
    """Return the options that were chosen, those that are not None; a calibration of "none" becomes None."""
    return {name: None if value == "none" else value for name, value in options.items() if value is not None}


def fit_scanner(
    subject: Subject,
    background: Path,
    out: Path,
    *,
    scan: Mapping[str, Any],
    combine: str | None,
    batch_size: int,
    progress: bool,
    kind: type[ModelScanner] = ModelScanner,
    **options: Any,
) -> tuple[ModelScanner, int]:
    """Fit on a background.

    Parameters
    ----------
    subject : Subject
    background : Path
        Clean inputs or activations.
    out : Path
        Folder for the results: it is made before the work.
    scan : mapping
        Options that a `SubsetScanDetector` alone has, as `chosen_options` returns them. Without any it is the
        automatic detector.
    combine : str or None
        As for `ModelScanner`; by default the automatic detector combines by "fisher+harmonic", where it is calibrated.
    batch_size, progress
        As for `ModelScanner`.
    kind : type
        `ModelScanner`, or what `cluster.connected` lends.
    **options
        Parameters that both detectors have.

    Returns
    -------
    ModelScanner
        It is fitted.
    int
        The number of background inputs.

    Raises
    ------
    OSError, ValueError, MemoryError
        If the background cannot be read, does not fit, or an option is invalid.
    """
    detector: CalibratedDetector
    if scan:
        detector = SubsetScanDetector(**scan, **options)
    else:
        detector = AutomaticDetector(**options)
        combine = combine or ("fisher+harmonic" if detector.calibration is not None else None)
    if combine is not None and detector.calibration is None:
        raise ValueError("combining needs p-values: choose a calibration")
    scanner = kind(subject.spaces, detector, combine=combine, batch_size=batch_size, progress=progress)
    if subject.extracted is not None:
        about = subject.extracted.about
        out.mkdir(parents=True, exist_ok=True)
        return scanner.fit_activations(subject.extracted.arrays, about["fingerprints"]), about["n_inputs"]
    sizes = {} if scan else AUTOMATIC
    if kind is ClusterScanner:  # what is gathered is kept here, the fit takes place elsewhere
        sizes = {name: size for name, size in sizes.items() if name == "item_size"}
    inputs = subject.load_background(background, **sizes)
    if kind is ClusterScanner:
        inputs = SharedFile(inputs, background)
    out.mkdir(parents=True, exist_ok=True)
    return scanner.fit(inputs), len(inputs)


def load_sets(subject: Subject, kind: type[ModelScanner], **paths: Path | None) -> dict[str, SizedInputs]:
    """Load what is to be scanned by such a scanner, under its names. Raises OSError or ValueError as `Subject.load`."""
    sets = {name: (subject.load(path), path) for name, path in paths.items() if path is not None}
    return {name: SharedFile(*one) if kind is ClusterScanner else one[0] for name, one in sets.items()}


def keep(scanner: ModelScanner, subject: Subject, n_background: int, out: Path) -> None:
    """Keep a fitted scanner in a folder, with what makes its spaces again. Raises OSError if that fails."""
    start_writing(out, _SPACES)
    scanner.save(out)
    options = {**subject.options, "n_background": n_background}
    write_json(out / _SPACES, options | {"digest": digest_beside(out, options)})


def open_fitted(
    fitted: Path,
    model: Path | None,
    *,
    unsafe_model: bool,
    batch_size: int,
    progress: bool,
    false_positive_rate: float | None,
    kind: type[ModelScanner] = ModelScanner,
) -> tuple[ModelScanner, Subject]:
    """Open what `keep` wrote, over the spaces it was fitted on.

    Raises
    ------
    OSError, ValueError
        If the folder or the model cannot be read, or they do not belong together.

    Warns
    -----
    UserWarning
        If there are too few null scores for the false positive rate.
    """
    kept = fitted / _SPACES
    if not kept.is_file():
        raise FileNotFoundError(f"{fitted} holds nothing that `subsetscan fit` kept: there is no {_SPACES}")
    with damage_as_value_error(kept):
        options = json.loads(kept.read_text(encoding="utf-8"))
        if options.pop("digest", None) != digest_beside(fitted, options):
            raise ValueError("it is not what was kept beside this scanner; copy the folder again, or fit anew")
        if "arrays" in options:
            shapes = {str(name): tuple(map(int, shape)) for name, shape in options["arrays"].items()}
            columns = None if options["columns"] is None else list(map(str, options["columns"]))
            options = {"arrays": shapes, "columns": columns}
        else:
            automatic = bool(options.get("automatic"))
            options = {name: options[name] for name in ("layers", "reconstruction_error")} | {"automatic": automatic}
    subject = Subject.of(model, options, unsafe_model)
    scanner = kind.load(fitted, subject.spaces, batch_size=batch_size, progress=progress)
    if false_positive_rate is not None:
        for detector in (*scanner.detectors.values(), *scanner.detectors_.values()):
            detector.set_params(false_positive_rate=false_positive_rate)
    scanner.detectors_[scanner.names[0]].warn_of_few_null_scores()  # or nobody knows why nothing is flagged
    return scanner, subject


def n_background_of(fitted: Path) -> int | None:
    """Return the number of background inputs of what `keep` kept; None where an earlier version did not say."""
    kept = fitted / _SPACES
    with damage_as_value_error(kept):
        n_background = json.loads(kept.read_text(encoding="utf-8")).get("n_background")
        return None if n_background is None else int(n_background)


def about_detector(scanner: ModelScanner) -> dict[str, Any]:
    """Return the name and the parameters of the detector that each space of a scanner has, for a summary.

    The part that is held out is left out where none is.
    """
    detector = next(iter(scanner.detectors.values()))
    parameters = detector.get_params()
    if parameters["calibration"] != "holdout":
        del parameters["calibration_fraction"]
    return {"name": type(detector).__name__, **parameters}


def about_run(*scanners: ModelScanner) -> dict[str, Any]:
    """Return what tells one run from another, for a summary: the background's fingerprint, versions, the time."""
    versions = {name: version(name) for module, name in _LIBRARIES.items() if module in sys.modules}
    return {
        "fingerprint": fingerprint_of(*scanners),
        "versions": versions,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def fingerprint_of(*scanners: ModelScanner) -> str:
    """Compute a digest of what scanners were fitted on: of the arrays that their detectors hold."""
    parts: list[str | np.ndarray] = []
    for name, detector in sorted(one for scanner in scanners for one in scanner.detectors_.items()):
        _, arrays = detector._state()
        parts += [name, *(part for key in sorted(arrays) for part in (key, np.asarray(arrays[key])))]
    return digest(*parts)


def false_positive_rate_of(scanner: ModelScanner) -> float:
    """Return the false positive rate that the detectors of a scanner have in common."""
    return scanner.detectors_[scanner.names[0]].false_positive_rate
