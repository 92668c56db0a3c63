"""`subsetscan fit`: fit on a background, and keep the detectors."""

from __future__ import annotations

from typing import Any

from .._tables import counted
from . import options
from .cluster import connected
from .console import Console
from .fitted import about_detector, chosen_options, fit_scanner, keep
from .subject import Subject, check_there

__all__ = ["fit"]


def fit(
    background: options.Background,
    out: options.Out,
    model: options.Model = None,
    layers: options.Layers = None,
    reconstruction_error: options.Error = None,
    statistic: options.Statistic = None,
    tail: options.Tail = None,
    alpha_max: options.AlphaMax = None,
    scope: options.Scope = None,
    ties: options.Ties = None,
    calibration: options.Calibration = None,
    false_positive_rate: options.FalsePositiveRate = 0.05,
    combine: options.Combine = None,
    batch_size: options.BatchSize = 256,
    cluster: options.Cluster = None,
    seed: options.Seed = 0,
    unsafe_model: options.UnsafeModel = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Fit on a background, and keep it for score.

    With none of --statistic, --tail, --alpha-max, --scope and --ties the detector is the automatic one.
    """
    console = Console(json, quiet)
    check_there(background)
    chosen = chosen_options(statistic=statistic, tail=tail, alpha_max=alpha_max, scope=scope, ties=ties)
    with connected(cluster, model, background) as kind:
        subject = Subject.to_fit(model, background, layers, reconstruction_error, unsafe_model, automatic=not chosen)
        scanner, n_background = fit_scanner(
            subject,
            background,
            out,
            batch_size=batch_size,
            progress=console.progress,
            scan=chosen,
            combine=combine,
            false_positive_rate=false_positive_rate,
            random_state=seed,
            kind=kind,
            **chosen_options(calibration=calibration),
        )
    keep(scanner, subject, n_background, out)
    kept, given = counted(len(scanner.names), "detector"), counted(n_background, "input")
    console.say(f"kept {kept}, fitted on {given}, in {out}/")
    return console.end(
        {
            "model": None if model is None else str(model),
            "fitted": str(out),
            "n_background": n_background,
            "detector": about_detector(scanner),
            "spaces": {name: {"n_nodes": detector.n_features_in_} for name, detector in scanner.detectors_.items()},
        }
    )
