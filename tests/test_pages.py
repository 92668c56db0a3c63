"""What the pages say, recomputed plainly from the numbers that are kept beside them."""

import csv
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from subsetscan.lab.markdown import percent
from subsetscan.lab.peers.page import _beside, _methods_table

DOCS = Path(__file__).parent.parent / "docs"


def _page(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def _rows(name):
    with (DOCS / name / "cells.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(text):
    return float(text) if text else np.nan


@pytest.fixture(scope="module")
def files():
    return {(row["kind"], row["type"]): row for row in _rows("files")}


HARMLESS = ("spaces at ends of lines", "a blank line", "a comment", "written anew", "minified")


def test_the_worst_harmless_edits_of_files_stand_beside_the_mean(files):
    page = _page("files")
    types = json.loads((DOCS / "files" / "results.json").read_text())["types"][:-1]
    for method in ("automatic", "automatic and margin"):
        own = {
            (kind, of): (_number(files[kind, of][f"{method}: flagged"]), int(files[kind, of]["n"]))
            for kind in HARMLESS
            for of in types
            if of != "python" and (kind, of) in files
        }
        (kind, of), (share, n) = max(own.items(), key=lambda one: one[1][0] if one[1][1] >= 10 else -1)
        assert re.search(rf"of {of} files, {kind}, {method} flags {share:.1%} \[\d+, \d+\] of {n}[;.]", page)
    assert files["minified", "json"]["automatic: flagged"] == "0.47368"  # 9 of 19
    n = sum(int(files[kind, "all but python"]["n"]) for kind in HARMLESS)
    assert f"Of {n} files with harmless edits" in page
    assert "| minified, of these json | harmless | 19 |" in page
    assert re.search(r"\| written anew: [^|]*\(json alone\) \|", page)


def test_looking_at_both_has_a_price(files):
    page = _page("files")
    for kind, alone in (("attack to 0.5", "margin, by type"), ("attack to 0.95", "automatic")):
        row = files[kind, "all but python"]
        both, one = (row[f"{method}: flagged"] for method in ("automatic and margin", alone))
        assert f'it flags {float(both):.1%}, where "{alone}" flags {float(one):.1%}' in page
        assert float(both) < float(one)


def test_the_caption_counts_the_files_that_are_flagged():
    drawn = json.loads((DOCS / "files" / "results.json").read_text())["figure"]
    flagged = [sum(one[which] <= 0.05 for one in drawn) for which in ("after", "before")]
    assert flagged == [1, 0]
    assert "Of the 3 attacked files here it flags 1, of the same files as they were 0." in _page("files")


def test_the_averages_of_campaigns():
    means = defaultdict(lambda: defaultdict(list))
    for row in _rows("campaigns"):
        if row["kind"] != "clean" and not row["kind"].startswith("attack"):
            for name, value in row.items():
                if name.endswith(": auroc"):
                    means[name[: -len(": auroc")]][row["network"], row["layer"], row["k"], row["kind"]].append(
                        _number(value)
                    )
    averages = {}
    for method, cells in means.items():
        layers = defaultdict(list)
        for (*place, _), values in cells.items():
            layers[tuple(place)].append(np.mean(values))
        averages[method] = np.mean([np.mean(of) for of in layers.values()])
    mine = averages.pop("automatic")
    best = max(averages, key=averages.get)
    assert abs(mine - averages[best]) < 0.005
    assert (
        f"over the 7 layers and both k, the automatic scan ({mine:.4f}) is level with the best other line, {best} "
        f"({averages[best]:.4f}); its options were chosen on 3 of these layers." in _page("campaigns")
    )


def test_a_method_that_flags_too_many_clean_inputs_is_never_the_best():
    method = "automatic by class seen"
    (clean,) = (
        row
        for row in _rows("peers")
        if (row["network"], row["layer"], row["kind"]) == ("imagenet", "all layers", "clean")
    )
    assert float(clean[f"{method}: flagged"]) * int(clean["n"]) > binom.interval(0.95, int(clean["n"]), 0.05)[1]
    table = _page("peers").partition("### Flagged, all layers")[2].partition("###")[0]
    header = next(line for line in table.splitlines() if line.startswith("|  |")).split("|")
    row = next(line for line in table.splitlines() if line.startswith(f"| {method} |")).split("|")
    assert row[header.index(" imagenet ")].endswith("% † ")
    assert "**" not in row[header.index(" imagenet ")]


def test_what_is_marked_is_not_bold():
    table = _methods_table(["", "a"], {"loud": [0.9], "calm": [0.5]}, percent, {"loud": [True], "calm": [False]})
    assert table.splitlines()[2:] == ["| loud | 90.0% † |", "| calm | **50.0%** |"]


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ((0.67, 0.62, 0.72), (0.66, 0.61, 0.71), "level with"),
        ((0.67, 0.62, 0.72), (0.50, 0.40, 0.60), "ahead of"),
        ((0.50, 0.40, 0.60), (0.67, 0.62, 0.72), "behind"),
    ],
)
def test_measures_are_level_within_an_interval(one, other, how):
    one, other = (dict(zip(("recall", "recall_low", "recall_high"), values, strict=True)) for values in (one, other))
    assert _beside(one, other, "recall") == how


def test_no_page_calls_bytes_of_a_library_code():
    for name in ("files", "defaults", "peers", "campaigns"):
        assert not re.search(r"machine code|code inside|code appended", _page(name))
