"""The whole algorithm in plain Python, sort, loop and formula: what the fast core is tested against.

Nothing here is clever, and nothing here is fast. Values are floats without NaN; an image is a list of node values,
and a background a list of images. The core computes the same, bit for bit.
"""

from .groups import best_rows, brute_force_group, coarse_grid, group_upper_bound, scan_group
from .images import (
    brute_force,
    conformal_p_value,
    leave_one_out,
    null_scores,
    p_value,
    p_value_range,
    phi,
    random_ranks,
    rank_histogram,
    scan,
    scan_image,
    scan_ranges,
    steps,
    summary,
    thresholds,
)
from .residuals import ledoit_wolf, left_out_residuals, residuals, within_sample_ranks

__all__ = [
    "best_rows",
    "brute_force",
    "brute_force_group",
    "coarse_grid",
    "conformal_p_value",
    "group_upper_bound",
    "leave_one_out",
    "ledoit_wolf",
    "left_out_residuals",
    "null_scores",
    "p_value",
    "p_value_range",
    "phi",
    "random_ranks",
    "rank_histogram",
    "residuals",
    "scan",
    "scan_group",
    "scan_image",
    "scan_ranges",
    "steps",
    "summary",
    "thresholds",
    "within_sample_ranks",
]
