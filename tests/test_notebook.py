"""What notebooks show, and data frames: the numbers of the results, and no markup but ours."""

import re

import numpy as np
import pytest

from subsetscan import GroupScanner, ModelScanner, SequenceScanner, SubsetScanDetector, overlaps, scan, scan_group
from subsetscan.detectors import AutomaticDetector, ClassConditionalDetector
from subsetscan.groups_automatic import AutomaticGroupScanner
from subsetscan.sequence_result import SequenceScan, SequenceScans
from subsetscan.spaces import Arrays

EVIL = "<script>alert('x')</script>"


def cells(html):
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]


def explained():
    rng = np.random.default_rng(0)
    space = Arrays({EVIL: (4, 5, 3), "dense": (9,)})
    clean = {name: rng.normal(size=(100, *shape)) for name, shape in space.node_shapes.items()}
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0)).fit(clean)
    return scanner.explain({name: np.abs(own[0]) + 2 for name, own in clean.items()})


def test_an_explanation_is_a_table_of_text():
    explanation = explained()
    html = explanation._repr_html_()
    assert "<script" not in html
    header, *rows = cells(html)
    assert header[:3] == ["space", "p-value", "score"]
    assert [row[0] for row in rows] == [
        name.replace(EVIL, "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;") for name in explanation.ranked()
    ]
    assert [row[2] for row in rows] == [f"{explanation.spaces[name].score:.1f}" for name in explanation.ranked()]
    assert "* flagged" in html


def test_an_explanation_as_a_data_frame():
    pytest.importorskip("pandas")
    explanation = explained()
    frame = explanation.to_frame()
    assert frame["space"].tolist() == explanation.ranked()
    first = explanation.spaces[frame["space"][0]]
    assert frame.loc[0, ["p_value", "score", "alpha", "size", "n_nodes"]].tolist() == [
        first.p_value, first.score, first.alpha, first.size, first.nodes.size,
    ]  # fmt: skip
    assert frame["flagged"].tolist() == [explanation.spaces[name].is_flagged for name in frame["space"]]


@pytest.mark.parametrize("n", [0, 3, 25])
def test_scans(n):
    found = scan(np.random.default_rng(0).uniform(size=(n, 20)))
    header, *rows = cells(found._repr_html_())
    assert header == ["input", "score", "alpha", "size"]
    assert len(rows) == (11 if n == 25 else n)
    assert [row[1] for row in rows[:10]] == [f"{score:.4g}" for score in found.scores[:10]]


def test_texts_have_marks_and_stay_text():
    text = f"usual {EVIL} words & more"
    spans = [(6, 6 + len(EVIL)), (len(text) - 4, len(text))]
    one = SequenceScan(2, 9, 0.01, True, 0.1, np.ones(3, bool), *np.ones((2, 3)), np.arange(2), spans, text)
    html = one._repr_html_()
    assert "<script" not in html
    assert re.findall("<mark>(.*?)</mark>", html) == ["&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;", "more"]
    assert "words &amp; <mark>" in html
    assert "p = 0.01 *" in html
    many = SequenceScans([one] * 12)._repr_html_()
    assert many.count("<pre") == 10
    assert "and 2 more" in many


def test_sequences_as_a_data_frame():
    pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    clean = [rng.normal(size=(30, 6)) for _ in range(60)]
    odd = clean[0].copy()
    odd[3:6] += 8
    found = SequenceScanner(random_state=0).fit(clean).scan([odd, clean[1]])
    frame = found.to_frame()
    assert frame["p_value"].tolist() == found.p_value.tolist()
    assert frame["anomaly_score"].tolist() == found.anomaly_score.tolist()
    assert frame["n_found"].tolist() == [int(one.positions.sum()) for one in found]
    assert frame["spans"].tolist() == found.spans
    assert "<pre" not in found[0]._repr_html_()
    assert "3-6" in found[0]._repr_html_()


def test_groups(rng):
    p_values = rng.uniform(size=(30, 40))
    p_values[:25, 5:9] = 0.001
    found = scan_group(p_values, random_state=0)
    told = dict(cells(found._repr_html_()))
    assert told["score"] == f"{found.score:.4g}, of at most {found.upper_bound:.4g}"
    assert told["inputs"] == f"25: {', '.join(map(str, range(20)))} ..."
    assert told["nodes"] == "4: 5, 6, 7, 8"
    group = rng.normal(size=(20, 12))
    group[:4, 2:5] += [6, 6, -6]
    found = GroupScanner.automatic(rng.normal(size=(200, 12)), random_state=0).scan(group)
    told = dict(cells(found._repr_html_()))
    assert told["p-value"] == f"{found.p_value:.3g}"
    signs = ["-±+"[way + 1] for way in found.directions]
    *_, nodes = told.values()
    assert nodes == f"{len(signs)}: " + ", ".join(
        f"{node} {sign}" for node, sign in zip(found.nodes, signs, strict=True)
    )


def test_overlaps():
    found = overlaps({EVIL: [True, True, False], "b": [True, False, False]})
    header, *rows = cells(found._repr_html_())
    assert header == ["in just these subsets", "nodes"]
    assert [row[1] for row in rows] == ["1", "1"]
    assert "<script" not in found._repr_html_()


def test_a_scanner():
    space = Arrays({EVIL: (4, 5), "dense": (9,)})
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0), combine="fisher")
    assert "<caption>not fitted, combined by fisher</caption>" in scanner._repr_html_()
    scanner.fit(
        {name: np.random.default_rng(0).normal(size=(100, *shape)) for name, shape in space.node_shapes.items()}
    )
    html = scanner._repr_html_()
    assert "<caption>fitted, combined by fisher</caption>" in html
    assert cells(html)[2] == ["dense", "9", "SubsetScanDetector"]
    assert cells(html)[1][1] == "4 x 5"
    assert "<script" not in html


def test_scans_of_spaces():
    rng = np.random.default_rng(0)
    space = Arrays({EVIL: (4, 5), "dense": (9,)})
    clean = {name: rng.normal(size=(100, *shape)) for name, shape in space.node_shapes.items()}
    new = {name: own[:7] * 2 for name, own in clean.items()}
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0)).fit(clean)
    found = scanner.scan(new)
    assert isinstance(found, dict)
    assert list(found) == [EVIL, "dense"]
    p_values = scanner.p_values(new)
    for name, own in found.items():
        assert own.p_values.tolist() == p_values[name].tolist()
    header, *rows = cells(found._repr_html_())
    assert header == ["space", "inputs", "highest score", "of input", "its p-value"]
    n = found["dense"].scores.argmax()
    assert rows[1] == ["dense", "7", f"{found['dense'].scores[n]:.4g}", str(n), f"{p_values['dense'][n]:.3g}"]
    assert "<script" not in found._repr_html_()
    assert cells(found["dense"]._repr_html_())[1][4] == f"{p_values['dense'][0]:.3g}"
    pytest.importorskip("pandas")
    frame = found.to_frame()
    assert list(frame.columns) == ["space", "input", "score", "alpha", "size", "p_value"]
    dense = frame[frame["space"] == "dense"]
    assert dense["input"].tolist() == list(range(7))
    assert dense["p_value"].tolist() == p_values["dense"].tolist()


@pytest.mark.parametrize(
    "detector",
    [
        SubsetScanDetector(random_state=0),
        AutomaticDetector(),
        ClassConditionalDetector(AutomaticDetector()),
        ClassConditionalDetector(AutomaticDetector(), conditional="min"),
    ],
    ids=["scan", "automatic", "by class", "least of classes"],
)
def test_scans_of_detectors_have_their_p_values(rng, detector):
    pytest.importorskip("pandas")
    clean, labels, new = rng.normal(size=(200, 12)), np.arange(200) % 2, rng.normal(size=(30, 12)) * 1.3
    by_class = isinstance(detector, ClassConditionalDetector)
    found = detector.fit(clean, labels).scan(new, labels[:30]) if by_class else detector.fit(clean).scan(new)
    if by_class and detector.conditional == "min":
        assert found.p_values is None
        assert "p_value" not in found.to_frame()
        return
    expected = detector.p_values(new, labels[:30]) if by_class else detector.p_values(new)
    assert found.to_frame()["p_value"].tolist() == expected.tolist()
    assert found.take([3, 1]).p_values.tolist() == expected[[3, 1]].tolist()


def test_group_scanners(rng):
    pytest.importorskip("pandas")
    scanner = AutomaticGroupScanner(n_groups=19, n_folds=2, random_state=0)
    assert "<caption>not fitted</caption>" in scanner._repr_html_()
    group = rng.normal(size=(10, 6))
    group[:4, 1:3] += 6
    found = scanner.fit(rng.normal(size=(80, 6))).scan(group)
    told = dict(cells(scanner._repr_html_()))
    assert (told["n_groups"], told["n_features_in_"]) == ("19", "6")
    (row,) = found.to_frame().to_dict("records")
    assert (row["p_value"], row["score"]) == (found.p_value, found.score)
    assert row["nodes"].tolist() == found.nodes.tolist()
