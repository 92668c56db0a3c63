"""`subsetscan scan`: fit on a background and scan, in one go."""

from __future__ import annotations

from typing import Any

from ..plot.report import check_libraries
from . import options
from .cluster import connected
from .console import Console
from .fitted import chosen_options, fit_scanner, load_sets
from .results import report_scores
from .subject import Subject, check_there

__all__ = ["scan"]


def scan(
    background: options.Background,
    input: options.Input,  # noqa: A002 (the option's name)
    out: options.Out,
    model: options.Model = None,
    clean: options.Clean = None,
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
    report: options.Report = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> dict[str, Any]:
    """Scan inputs of a network, or activations of any network.

    With none of --statistic, --tail, --alpha-max, --scope and --ties the detector is the automatic one, which combines
    all layers; with any of them it is a scan of each layer, with the paper's options for the rest.

    Writes scores.csv (set, index, space, score, alpha, size, p_value, flagged), null_scores.csv (of the clean inputs
    that calibrate), summary.json (for each space the number of nodes and, with --clean, the AUROC with a 95 % interval)
    and scores.png.

    Alpha and size are those of the subset that scored highest. The automatic detector does not score by it: its subset
    comes from a scan that only points at nodes: of the values, two-sided, by Higher Criticism, at small alphas.
    """
    console = Console(json, quiet)
    if report:
        check_libraries()
    check_there(background, input, clean)
    chosen = chosen_options(statistic=statistic, tail=tail, alpha_max=alpha_max, scope=scope, ties=ties)
    with connected(cluster, model, background, input, clean) as kind:
        subject = Subject.to_fit(model, background, layers, reconstruction_error, unsafe_model, automatic=not chosen)
        sets = load_sets(subject, kind, clean=clean, input=input)
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
        about = {
            "model": None if model is None else str(model),
            "background": str(background),
            "input": str(input),
            "clean": None if clean is None else str(clean),
            "n_background": n_background,
        }
        return console.end(report_scores(scanner, sets, about, out, console, with_page=report))
