"""What a fitted scanner finds in sets of images, and its table."""

import csv

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.commands.scanned_sets import scan_sets
from subsetscan.spaces import Pixels


def test_scanned_sets_and_their_table(images, tmp_path):
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.1)
    scanner = ModelScanner(Pixels((8, 8, 1)), detector).fit(images[:60])
    scanned = scan_sets(scanner, {"clean": images[60:], "input": images[60:] + 0.3})
    assert scanned.n_nodes == {"pixels": 64}
    assert scanned.auroc("pixels", "input").value > 0.9
    scanned.write_scores(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["set", "index", "space", "score", "alpha", "size", "p_value", "flagged"]
    assert [row["set"] for row in rows] == ["clean"] * 30 + ["input"] * 30
    assert [float(row["score"]) for row in rows[30:]] == scanned.scans["input"]["pixels"].scores.tolist()
    assert [float(row["p_value"]) for row in rows[30:]] == scanned.p_values["input"]["pixels"].tolist()
