"""`subsetscan score`: scan with detectors that `subsetscan fit` kept."""

from __future__ import annotations

from typing import Any

from ..plot.report import check_libraries
from . import options
from .cluster import connected
from .console import Console
from .fitted import load_sets, n_background_of, open_fitted
from .results import report_scores
from .subject import check_there

__all__ = ["score"]


def score(
    fitted: options.Fitted,
    input: options.Input,  # noqa: A002 (the option's name)
    out: options.Out,
    model: options.FittedModel = None,
    clean: options.Clean = None,
    false_positive_rate: options.FittedRate = None,
    combine: options.Combine = None,
    batch_size: options.BatchSize = 256,
    cluster: options.Cluster = None,
    unsafe_model: options.UnsafeModel = False,
    report: options.Report = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Scan inputs with what `fit` kept. Writes what `scan` writes."""
    console = Console(json, quiet)
    if report:
        check_libraries()
    check_there(input, clean)
    with connected(cluster, model, input, clean) as kind:
        scanner, subject = open_fitted(
            fitted,
            model,
            unsafe_model=unsafe_model,
            batch_size=batch_size,
            progress=console.progress,
            false_positive_rate=false_positive_rate,
            kind=kind,
        )
        sets = load_sets(subject, kind, clean=clean, input=input)
        about = {
            "model": None if model is None else str(model),
            "fitted": str(fitted),
            "input": str(input),
            "clean": None if clean is None else str(clean),
            "n_background": n_background_of(fitted),
        }
        scanner.combine = scanner.combine if combine is None else combine
        return console.end(report_scores(scanner, sets, about, out, console, with_page=report))
