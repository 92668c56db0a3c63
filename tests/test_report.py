"""The page of results: what it is made of, what it refuses, and how it behaves in a browser."""

import base64
import csv
import gzip
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from subsetscan import SequenceScanner
from subsetscan._extras import how_to_get
from subsetscan.calibration import conformal_p_values, score_threshold
from subsetscan.plot.report import read_results, sequence_results, write_report
from subsetscan.plot.report.content import RATES, content_of
from subsetscan.plot.report.labels import label
from subsetscan.plot.report.results import most_anomalous
from subsetscan.plot.report.sequences import parts_of
from subsetscan.plot.style import new_figure, save
from subsetscan.sequence_result import SequenceScan, SequenceScans

pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")
pytest.importorskip("itables")

HOSTILE = "</script><script>alert(1)</script><b onclick='x'>&amp; ünï"
SPACES = ("conv", HOSTILE, "combined")


def write_folder(
    folder, rng, n_clean=100, n_input=150, calibrated=True, with_null=True, n_null=200, spaces=SPACES, rate=0.1
):
    """Write results as `subsetscan scan` does; return scores and null scores."""
    null = {space: rng.normal(size=n_null) for space in spaces}
    scores = {
        name: {space: rng.normal(shift, 1, n) for space in spaces}
        for name, n, shift in (("clean", n_clean, 0), ("input", n_input, 1.5))
        if n
    }
    with (folder / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "index", "space", "score", "alpha", "size", "p_value", "flagged"])
        for name, found in scores.items():
            for space, own in found.items():
                p = conformal_p_values(own, null[space])
                for n, score in enumerate(own.tolist()):
                    decision = [p[n], int(p[n] <= 0.05)] if calibrated else ["", ""]
                    writer.writerow([name, n, space, score, 0.1, 3, *decision])
    if with_null:
        with (folder / "null_scores.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("space", "score"), *((s, x) for s in spaces for x in null[s].tolist())])
    summary = {
        "model": HOSTILE,
        "n_background": 200,
        "detector": {"false_positive_rate": rate, "name": None},
        "spaces": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return scores, null


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def unpacked(text, which):
    letters = re.search(rf'id="{which}">([^<]*)<', text).group(1)
    return gzip.decompress(base64.b64decode(letters)).decode()


def written_p_values(content, name, space):
    """Return the p-values of a page as its script makes them."""
    levels = content["levels"][space]
    return [levels[k] if isinstance(levels, list) else k / levels for k in content["pValues"][name][space]]


def test_what_the_page_holds_is_what_the_scan_found(tmp_path, rng):
    scores, null = write_folder(tmp_path, rng)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    content = json.loads(unpacked(text, "data"))
    assert content["sets"] == ["clean", "input"]
    assert content["spaces"] == list(SPACES)
    assert content["primary"] == "combined"
    assert content["rates"][content["start"]] == 0.1
    for space in SPACES:
        assert content["scores"]["input"][space] == pytest.approx(scores["input"][space], rel=1e-4)
        p = {name: conformal_p_values(own[space], null[space]) for name, own in scores.items()}
        for name in ("clean", "input"):
            assert written_p_values(content, name, space) == p[name].tolist()
        for n, rate in enumerate(RATES):
            assert content["flagged"]["clean"][space][n] == pytest.approx(np.mean(p["clean"] <= rate), abs=1e-4)
            threshold = score_threshold(null[space], rate)
            told = content["thresholds"][space][n]
            assert told is None if np.isinf(threshold) else told == pytest.approx(threshold, rel=1e-3, abs=1e-4)
        truth = roc_auc_score(
            np.repeat([0, 1], [100, 150]), np.concatenate([scores["clean"][space], scores["input"][space]])
        )
        assert content["roc"][space][0]["set"] == f"input, AUROC {truth:.3f}"
        for name in ("clean", "input"):
            assert sum(one["share"] for one in content["bins"][space] if one["set"] == name) == pytest.approx(
                1, abs=1e-3
            )
    assert len(content["map"]) == 30 * len(SPACES)
    assert [one["p"] for one in content["map"] if one["space"] == "combined"] == sorted(
        one["p"] for one in content["map"] if one["space"] == "combined"
    )


def test_names_cannot_become_code_and_nothing_is_loaded(tmp_path, rng):
    write_folder(tmp_path, rng)
    text = write_report(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<b onclick" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    outside = re.findall(r'(?:src|href)\s*=\s*"(?!data:)[^"]*"', text)
    assert outside == []


def test_ten_thousand_inputs_stay_small(tmp_path, rng):
    spaces = [*(f"layer_{n}" for n in range(40)), "combined"]
    write_folder(tmp_path, rng, 2000, 8000, n_null=5000, spaces=spaces)
    assert write_report(tmp_path).stat().st_size < 3e6


@pytest.mark.parametrize("with_null", [True, False])
@pytest.mark.parametrize("rate", [0.033, 0.0005, 0.6, 0.05])
def test_verdicts_are_those_of_the_scan(tmp_path, rng, rate, with_null):
    write_folder(tmp_path, rng, n_null=2998, rate=rate, with_null=with_null)
    content = content_of(read_results(tmp_path))
    assert content["rates"][content["start"]] == rate
    assert set(RATES) <= set(content["rates"]) <= {*RATES, rate}
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in ("clean", "input"):
        p = [float(row["p_value"]) for row in rows if (row["set"], row["space"]) == (name, "combined")]
        assert written_p_values(content, name, "combined") == p
        for n, share in enumerate(content["flagged"][name]["combined"]):
            assert share == pytest.approx(np.mean(np.array(p) <= content["rates"][n]), abs=1e-5)


def test_names_are_cut_and_leave_what_is_beside_them(tmp_path, rng):
    long, backwards, hebrew = "L" * 10_000, "turn\u202eed\nline", "\u05d0\u05d1"
    spaces = [long, long + "M", backwards, hebrew, "x" * 60, "combined"]
    write_folder(tmp_path, rng, spaces=spaces)
    content = json.loads(unpacked(write_report(tmp_path).read_text(encoding="utf-8"), "data"))
    cut = f"{'L' * 30}…{'L' * 29}"
    assert content["spaces"] == [
        cut, f"{cut[:-1]}M", "turn·ed·line", "\u2068\u05d0\u05d1\u2069", "x" * 60, "combined",
    ]  # fmt: skip
    assert label("a" * 30 + "b" * 9 + "c" * 30) == label("a" * 30 + "d" * 9 + "c" * 30)
    twins = write_folder(tmp_path, rng, spaces=["a" * 30 + between + "c" * 30 for between in ("b" * 9, "d" * 9)])
    assert twins
    content = json.loads(unpacked(write_report(tmp_path).read_text(encoding="utf-8"), "data"))
    assert content["spaces"] == [(one := label("a" * 30 + "b" * 9 + "c" * 30)), f"{one} (2)"]


@pytest.mark.parametrize(
    ("options", "lacks", "has"),
    [
        ({"calibrated": False, "with_null": False}, "chart-rates", "The scan was not calibrated"),
        ({"n_clean": 0}, "chart-roc", "There is no set of clean inputs"),
    ],
)
def test_results_that_lack_something(tmp_path, rng, options, lacks, has):
    write_folder(tmp_path, rng, **options)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert f'id="{lacks}"' not in text
    assert has in text


def test_scores_that_are_infinite_or_far_out(tmp_path, rng):
    write_folder(tmp_path, rng)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    rows = list(csv.reader(lines))
    rows[1][3] = "inf"
    with (tmp_path / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    content = content_of(read_results(tmp_path))
    json.dumps(content, allow_nan=False)
    assert content["scores"]["clean"]["conv"][0] is None
    last = [one for one in content["bins"]["conv"] if one["set"] == "clean"][-1]
    highest = np.sort([float(row[3]) for row in rows[1:] if (row[0], row[2]) == ("clean", "conv")])
    assert last["share"] == pytest.approx(np.mean(highest >= last["start"]), abs=1e-4)
    assert last["share"] >= 0.01


def test_of_equal_p_values_those_of_clean_inputs_come_last(tmp_path, rng):
    write_folder(tmp_path, rng, n_null=5)
    rows = [one for one in content_of(read_results(tmp_path))["map"] if one["space"] == "combined"]
    assert {one["p"] for one in rows} == {float(f"{1 / 6:.4g}")}
    sets = [one["input"].split()[0] for one in rows]
    assert sets == sorted(sets, reverse=True)
    assert "input" in sets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [["set", "index"], *rows[1:]], "has no column 'space'"),
        (lambda rows: [rows[0], *rows[2:]], "line 2: expected input 0 of set 'clean', got 1"),
        (lambda rows: [*rows[:3], [*rows[3][:3], "high", *rows[3][4:]], *rows[4:]], "line 4: could not convert"),
        (
            lambda rows: [*rows[:3], [*rows[3][:3], "nan", *rows[3][4:]], *rows[4:]],
            "scores must be numbers, got NaN at 2",
        ),
        (
            lambda rows: [*rows[:3], [*rows[3][:6], "1.5", "0"], *rows[4:]],
            r"scores.csv is damaged: p-values must be in",
        ),
        (lambda rows: [*rows[:3], [*rows[3][:6], "", ""], *rows[4:]], "p-values for some inputs but not for others"),
        (lambda rows: rows[:-1], "set 'input' has other spaces, or other numbers of inputs"),
        (lambda rows: rows[:1], "has no scores"),
        (lambda rows: [*rows[:4], rows[4][:5]], "line 5: cells are missing"),
    ],
)
def test_damaged_scores_are_refused(tmp_path, rng, change, message):
    write_folder(tmp_path, rng)
    path = tmp_path / "scores.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(change(rows))
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"set,index\0", b'{"a": ' * 100_000])
@pytest.mark.parametrize("name", ["scores.csv", "null_scores.csv", "summary.json"])
def test_other_bytes_are_refused(name, content, tmp_path, rng):
    write_folder(tmp_path, rng)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is (damaged|not JSON): "):
        write_report(tmp_path)


def test_other_damage_is_refused(tmp_path, rng):
    with pytest.raises(FileNotFoundError, match=f"no scan's results in {tmp_path}: scan, score and demo"):
        write_report(tmp_path)
    write_folder(tmp_path, rng)
    null = (tmp_path / "null_scores.csv").read_text(encoding="utf-8")
    (tmp_path / "null_scores.csv").write_text(null + "conv,nan\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"null_scores\.csv is damaged: null scores must be numbers, got NaN at 200"):
        write_report(tmp_path)
    (tmp_path / "null_scores.csv").write_text(null, encoding="utf-8")
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(ValueError, match="holds a list where an object is expected"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        write_report(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "gallery").mkdir()
    one = {"title": "a", "p_value": None, "picture": "../secret.png", "text": None, "spaces": []}
    cases = (
        ([{"title": "a"}], "is not a gallery"),
        ([one], "lies outside the folder"),
        ([one | {"picture": 5}], "does not hold what `subsetscan scan` writes: "),
        ([one | {"picture": None, "p_value": {}, "spaces": 5}], "does not hold what `subsetscan scan` writes: "),
    )
    for inputs, message in cases:
        (tmp_path / "gallery" / "gallery.json").write_text(json.dumps({"inputs": inputs}))
        with pytest.raises(ValueError, match=message):
            write_report(tmp_path)


def test_the_command_and_its_gallery(tmp_path, rng, run):
    np.save(tmp_path / "clean.npy", rng.normal(size=(120, 8, 8)).astype(np.float32))
    odd = rng.normal(size=(20, 8, 8)).astype(np.float32)
    odd[3, 2:4, 2:5] += 9
    np.save(tmp_path / "odd.npy", odd)
    asked = [f"--background={tmp_path / 'clean.npy'}", f"--input={tmp_path / 'odd.npy'}", f"--out={tmp_path / 'out'}"]
    assert "report.html" in run("scan", *asked, "--report").out
    gallery = json.loads((tmp_path / "out" / "gallery" / "gallery.json").read_text())["inputs"]
    assert gallery[0]["title"] == "input 3"
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Nodes that are anomalous for input 3" in text
    assert "data:image/png;base64," in text
    run("report", str(tmp_path / "out"))
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == text
    run("scan", *asked)  # an older page or gallery would pass for that of the new scores
    assert not (tmp_path / "out" / "report.html").exists()
    assert not list((tmp_path / "out" / "gallery").iterdir())
    rows = list(csv.DictReader((tmp_path / "out" / "null_scores.csv").read_text().splitlines()))
    assert [row["space"] for row in rows] == ["activations"] * 120 + ["combined"] * 120


@pytest.mark.parametrize("missing", ["jinja2", "vl_convert", "itables"])
def test_what_is_missing_is_named_before_the_work(tmp_path, rng, run, monkeypatch, missing):
    np.save(tmp_path / "clean.npy", rng.normal(size=(30, 4)))
    monkeypatch.setitem(sys.modules, missing, None)
    asked = [f"--background={tmp_path / 'clean.npy'}", f"--input={tmp_path / 'clean.npy'}", f"--out={tmp_path / 'out'}"]
    told = run("scan", *asked, "--report", code=2).err
    assert f"{missing} is not installed: {how_to_get('report')}" in told
    assert not (tmp_path / "out").exists()


# Scans within inputs.


def scans_of(rng, n_clean=20, n_odd=10, n_positions=100):
    """Scan clean inputs and odd ones, of which each has four odd positions; return the scans, and those positions."""
    clean = list(rng.normal(size=(100 + n_clean, n_positions, 8)).astype(np.float32))
    odd = rng.normal(size=(n_odd, n_positions, 8)).astype(np.float32)
    starts = rng.integers(0, n_positions - 4, n_odd)
    for own, start in zip(odd, starts, strict=True):
        own[start : start + 4, :3] += 8
    scanner = SequenceScanner(n_background=2000, restarts=1, random_state=0).fit(clean[:100])
    return {"clean": scanner.scan(clean[100:]), "odd": scanner.scan(list(odd))}, starts


def test_scans_within_inputs_become_a_page(tmp_path, rng):
    sets, starts = scans_of(rng)
    files = [bytes(rng.integers(97, 123, 400).astype(np.uint8)) for _ in range(10)]
    known = [range(4 * start, 4 * start + 3) for start in starts]
    results = sequence_results(
        sets, {"odd": files}, space="layer", known={"odd": known}, titles={"odd": [f"file {n}" for n in range(10)]},
        about={"detector": {"false_positive_rate": 0.05}}, n_shown=3,
    )  # fmt: skip
    order = sorted(range(10), key=lambda n: (sets["odd"].p_value[n], -sets["odd"].anomaly_score[n]))[:3]
    assert [one["title"] for one in results.gallery] == [f"file {n}" for n in order]
    for n, one in zip(order, results.gallery, strict=True):
        assert (one["p_value"], one["score"]) == (sets["odd"][n].p_value, sets["odd"][n].anomaly_score)
        assert one["spaces"][0]["size"] == len(sets["odd"][n].nodes)
        places = re.match(r"bytes ([^;]*)", one["spaces"][0]["where"]).group(1).partition(" and ")[0].split(", ")
        ends = [tuple(map(int, place.split("-"))) for place in places]
        runs = sets["odd"][n].runs()
        assert len(ends) == min(len(runs), 5)
        assert set(ends) <= {(4 * start, 4 * end - 1) for start, end in runs}
        strongest = [sets["odd"][n].strength[first // 4 : last // 4 + 1].max() for first, last in ends]
        assert strongest == sorted(strongest, reverse=True)
        assert strongest[0] == sets["odd"][n].strength.max()
        weights = np.concatenate([np.full(len(part), strength) for part, strength, _ in one["text"]])
        assert np.array_equal(weights, np.repeat(sets["odd"][n].strength, 4))
        changed = np.concatenate([np.full(len(part), is_known) for part, _, is_known in one["text"]])
        assert np.flatnonzero(changed).tolist() == list(known[n])
        assert "".join(part for part, _, _ in one["text"]).encode() == files[n]
    text = write_report(results, tmp_path / "page.html").read_text(encoding="utf-8")
    content = json.loads(unpacked(text, "data"))
    assert written_p_values(content, "odd", "layer") == sets["odd"].p_value.tolist()
    assert content["scores"]["clean"]["layer"] == pytest.approx(sets["clean"].anomaly_score, rel=1e-4)
    truth = roc_auc_score(np.repeat([0, 1], [20, 10]), np.concatenate([one.anomaly_score for one in sets.values()]))
    assert content["roc"]["layer"][0]["set"] == f"odd, AUROC {truth:.3f}"


def test_each_set_has_its_most_anomalous_inputs_shown():
    scores = {"clean": np.array([99.0]), "a": np.array([5.0, 9.0, 7.0]), "b": np.array([1.0, 2.0])}
    p_values = {"clean": np.array([0.0]), "a": np.array([0.1, 0.1, 0.01]), "b": np.array([0.5, 0.5])}
    assert most_anomalous(scores, p_values, 4) == [("a", 2), ("b", 1), ("a", 1), ("b", 0)]
    assert most_anomalous(scores, None, 3) == [("a", 1), ("b", 1), ("a", 2)]


def test_long_texts_are_cut_to_what_is_around_the_marks(rng):
    sets, _ = scans_of(rng, 2, 1)
    found, n = sets["odd"][0], 40  # characters of a position
    text = "".join(chr(97 + k % 26) for k in range(100 * n))
    parts = parts_of(found, text)
    place, n_shown = 0, 0
    for part, strength, known in parts:
        assert not known
        if strength is None:
            told = re.fullmatch(r" … ([\d,]+) characters(?:, ([\d,]+) of them found)? … ", part)
            n_left_out, n_found = (int((group or "0").replace(",", "")) for group in told.groups())
            assert n_left_out >= 30
            assert n_found == np.count_nonzero(np.repeat(found.strength, n)[place : place + n_left_out])
            place += n_left_out
        else:
            assert text[place : place + len(part)] == part
            assert np.repeat(found.strength, n)[place] == strength
            place, n_shown = place + len(part), n_shown + len(part)
    assert place == len(text)
    assert n_shown <= 1700
    strongest = int(found.strength.argmax())
    assert text[strongest * n : strongest * n + 9] in "".join(part for part, strength, _ in parts if strength)
    nothing = replace(found, strength=np.zeros(100), positions=np.zeros(100, bool), spans=[])
    assert parts_of(nothing, text) == [(text[:1500], 0.0, False), (" … 2,500 characters … ", None, False)]
    (_, none, _), (shown, _, known), *_ = parts_of(nothing, text, [2000])
    assert (none, shown, known) == (None, text[1940:2000], False)
    assert parts_of(nothing, "") == []
    assert parts_of(nothing, b"a\x00\n\xff") == [("a·\n·", 0.0, False)]


def test_texts_that_were_scanned_are_marked_by_their_tokens():
    tokens, text = np.array([[0, 3], [4, 9], [10, 12]]), "one <b>>> \u202exy"
    strength = np.array([0.0, 1.0, 0.25])
    found = SequenceScan(
        9.0, 12.0, 0.01, True, 0.1, strength > 0, strength, np.ones(3), np.arange(9), [(4, 12)], text, tokens
    )
    (one,) = sequence_results({"new": SequenceScans([found])}).gallery
    assert one["text"] == [
        ("one ", 0.0, False),
        ("<b>>>", 1.0, False),
        (" ", 0.0, False),
        ("·x", 0.25, False),
        ("y", 0.0, False),
    ]
    assert one["spaces"][0]["where"] == "characters 4-11; units 0, 1, 2, 3, 4 and 4 more"
    (other,) = sequence_results({"new": SequenceScans([found])}, {"new": ["abcdefg"]}).gallery  # of which a third each
    assert other["text"] == [("abc", 0.0, False), ("de", 1.0, False), ("fg", 0.25, False)]
    assert other["spaces"][0]["where"] == "characters 3-6; units 0, 1, 2, 3, 4 and 4 more"
    grid = replace(found, positions=np.ones((2, 3), bool), spans=[], text=None, characters=None)
    (region,) = sequence_results({"new": SequenceScans([grid])}).gallery
    assert (region["text"], region["spaces"][0]["where"]) == (None, "units 0, 1, 2, 3, 4 and 4 more")


def test_marks_may_begin_and_end_a_text(tmp_path):
    strength = np.array([0.5, 1.0, 0.0, 0.25])
    found = SequenceScan(9.0, 12.0, 0.01, True, 0.1, strength > 0, strength, np.ones(4), np.arange(4), [(0, 2), (3, 4)])
    results = sequence_results({"new": SequenceScans([found])}, {"new": [b"<b&c"]})
    text = write_report(results, tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall(
        r'<mark class="([^"]*)" style="--strength: ([\d.]+)" title="([^;]*);[^>]*>([^<]*)</mark>', text
    ) == [
        ("from", "0.50", "50 % of the units found", "&lt;"),
        (" to", "1.00", "100 % of the units found", "b"),
        ("from to", "0.25", "25 % of the units found", "c"),
    ]


def test_ten_thousand_files_stay_small(tmp_path, rng):
    sets, _ = scans_of(rng, 10, 10)
    many = {name: SequenceScans([*own] * 500) for name, own in sets.items()}
    files = [bytes(rng.integers(0, 256, 100_000).astype(np.uint8)) for _ in range(10)] * 500
    results = sequence_results(many, {"odd": files})
    assert sum(results.counts.values()) == 10_000
    assert write_report(results, tmp_path / "page.html").stat().st_size < 3e6


def test_what_does_not_belong_to_the_scans_is_refused(rng):
    sets, _ = scans_of(rng, 2, 3)
    with pytest.raises(ValueError, match="set 'odd' has 2 inputs, and 3 scans"):
        sequence_results(sets, {"odd": ["a", "b"]})
    with pytest.raises(ValueError, match="set 'new' has 1 titles, and no scans"):
        sequence_results(sets, titles={"new": ["a"]})
    with pytest.raises(ValueError, match="at least one set"):
        sequence_results({})


# In a browser.

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    with playwright.sync_playwright() as started:
        own = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield own
        own.close()


def opened(browser, path, **options):
    """Open a page; return it and what went wrong."""
    context = browser.new_context(**options)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(("file:", "blob:", "data:")) or wrong.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=20_000)
    return page, wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(tmp_path, rng, browser, scheme):
    scores, null = write_folder(tmp_path, rng)
    page, wrong = opened(browser, write_report(tmp_path), color_scheme=scheme)

    def told(rate, space):
        p = {name: conformal_p_values(own[space], null[space]) for name, own in scores.items()}
        return [f"{np.sum(p[name] <= rate)} of {len(p[name])} inputs of set {name}" for name in p]

    def cells(column):
        return page.locator(f"#inputs tbody tr td:nth-child({column})").all_inner_texts()

    for part in told(0.1, "combined"):
        assert part in page.inner_text("#sentence")
    # The slider by keyboard, as the range that it is.
    page.focus("#rate")
    page.keyboard.press("Home")
    for _ in range(RATES.index(0.02)):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#rate-told") == "2 %"
    assert page.get_attribute("#rate", "aria-valuetext") == "2 %"
    for part in told(0.02, "combined"):
        assert part in page.inner_text("#sentence")
    # The space.
    page.select_option("#space", index=1)
    for part in told(0.02, HOSTILE):
        assert part in page.inner_text("#sentence")
    # The table: sorted by p-value, then by score; filtered; turned.
    values = [float(cell) for cell in cells(4)]
    assert values == sorted(values)
    page.locator("#inputs thead th", has_text="score").click()
    page.locator("#inputs thead th", has_text="score").click()
    first = float(cells(5)[0])
    everything = np.concatenate([own[HOSTILE] for own in scores.values()])
    assert first in (pytest.approx(everything.max(), rel=1e-4), pytest.approx(everything.min(), rel=1e-4))
    page.fill("input[type=search]", "flagged")
    p = np.concatenate([conformal_p_values(own[HOSTILE], null[HOSTILE]) for own in scores.values()])
    assert f"of {np.sum(p <= 0.02)} inputs" in page.inner_text(".dt-info")
    page.fill("input[type=search]", "")
    page.locator(".dt-paging button", has_text="2").first.click()
    assert "11 to 20 of 250" in page.inner_text(".dt-info")
    assert {"flagged"} >= set(cells(3)) - {"no"}
    # What is written can be read: dark on light, or light on dark, all the way up.
    shades = page.evaluate(
        """() => ['#inputs tbody td:nth-child(1)', '.dt-search label', '#sentence'].map((place) => {
          const parts = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
          const light = (colour) => parts(colour).reduce((sum, part) => sum + part, 0) / 765;
          let at = document.querySelector(place), ground;
          const ink = light(getComputedStyle(at).color);
          for (; at && ground === undefined; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (!colour.endsWith(', 0)') && !/, 0\\.0/.test(colour) && colour !== 'transparent') ground = light(colour);
          }
          return [ink, ground ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 0.07 : 1)];
        })"""
    )
    assert all(abs(ink - ground) > 0.5 for ink, ground in shades), shades
    # Charts are drawn, described, and have no text of another's markup.
    for name in ("scores", "rates", "roc", "map"):
        assert page.locator(f"#chart-{name} svg").count() == 1
    assert page.locator("#chart-scores [aria-label]").count() > 0
    assert page.locator("b[onclick]").count() == 0
    assert wrong == []


def test_without_calibration_in_a_browser(tmp_path, rng, browser):
    write_folder(tmp_path, rng, calibrated=False, with_null=False)
    page, wrong = opened(browser, write_report(tmp_path))
    assert page.locator("#inputs tbody tr").count() == 10
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_marks_in_a_browser(tmp_path, rng, browser, scheme, width):
    sets, starts = scans_of(rng)
    files = [(HOSTILE + "</pre><img src=x onerror=alert(1)>").encode() * 9 for _ in range(10)]
    known = [
        range(len(one) * start // 100, len(one) * (start + 1) // 100) for one, start in zip(files, starts, strict=True)
    ]
    results = sequence_results(sets, {"odd": files}, known={"odd": known}, about={"model": HOSTILE}, n_shown=4)
    path = write_report(results, tmp_path / "page.html")
    page, wrong = opened(browser, path, color_scheme=scheme, viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    order = sorted(range(10), key=lambda n: (sets["odd"].p_value[n], -sets["odd"].anomaly_score[n]))
    for n, one in zip(order, page.locator("article").all(), strict=False):
        text = one.locator("pre").text_content()
        assert text == "".join(part for part, _, _ in parts_of(sets["odd"][n], files[n], known[n]))
        assert one.locator("pre *:not(mark, b, i)").count() == 0
        told = one.locator("mark").first.get_attribute("title")
        assert re.fullmatch(rf"\d+ % of the units found; p = {sets['odd'].p_value[n]:.3g}, score [\d.]+", told)
    # Marked by more than colour, the more where the scan is surer; and said to those who do not see it.
    marks = page.evaluate(
        """() => [...document.querySelectorAll('article mark')].map((mark) => {
          const style = getComputedStyle(mark);
          const thickness = parseFloat(style.textDecorationThickness);
          return [Number(mark.title.split(' ')[0]), style.textDecorationLine, thickness];
        })"""
    )
    assert {line for _, line, _ in marks} == {"underline"}
    assert len({strength for strength, _, _ in marks}) > 1
    for strength, _, thickness in marks:
        assert thickness == pytest.approx(1 + 3 * strength / 100, abs=0.5)
    assert "[anomalous: " in page.locator("article pre").first.aria_snapshot()
    page.locator("article pre").first.focus()
    assert page.evaluate("document.activeElement.tagName") == "PRE"
    assert wrong == []


SPECIAL = ("constructor", "__proto__", "a'\"&<b>\\n", "turn\u202eed \u05d0", "L" * 10_000, "dot.ted[0]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("n_input", [1, 5])
def test_few_inputs_and_names_of_any_kind_in_a_browser(tmp_path, rng, browser, scheme, width, n_input):
    write_folder(tmp_path, rng, 0, n_input, spaces=[*SPECIAL, "combined"], rate=0.033)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    page, wrong = opened(browser, write_report(tmp_path), **options)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.inner_text("#rate-told") == "3.3 %"
    # The map: rows that can be seen and a square for each space, in their order.
    squares = page.evaluate(
        """() => [...document.querySelectorAll('#chart-map .mark-rect path[aria-roledescription]')].map((one) => {
          const box = one.getBoundingClientRect();
          return [box.top, box.left, box.height];
        })"""
    )
    assert len(squares) == n_input * (len(SPECIAL) + 1)
    assert {round(height) for _, _, height in squares} == {14}
    assert len({round(left) for _, left, _ in squares}) == len(SPECIAL) + 1
    names = page.locator("#chart-map .role-axis-label text").all_text_contents()
    assert {"constructor", "__proto__", "combined", "dot.ted[0]", f"input {n_input - 1}"} <= set(names)
    page.fill("input[type=search]", "no such")
    assert page.inner_text(".dt-info").startswith("no inputs")
    assert wrong == []


def test_on_paper_dark_is_light(tmp_path, rng, browser):
    write_folder(tmp_path, rng)
    page, wrong = opened(browser, write_report(tmp_path), color_scheme="dark")
    ground = "() => getComputedStyle(document.querySelector('#inputs tbody td')).backgroundColor"
    ink = "() => getComputedStyle(document.querySelector('#inputs tbody td')).color"
    letters = "() => getComputedStyle(document.querySelector('#chart-scores svg text')).fill"
    assert page.evaluate("document.documentElement.classList.contains('dark')")
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function("!document.documentElement.classList.contains('dark')")
    for place in (ink, letters):
        assert sum(map(float, re.findall(r"[\d.]+", page.evaluate(place))[:3])) < 300
    assert page.evaluate(ground) in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")
    assert wrong == []


def test_pictures_are_enlarged_in_a_browser(tmp_path, rng, browser):
    write_folder(tmp_path, rng)
    (tmp_path / "gallery").mkdir()
    figure = new_figure(8.5, 2.5)
    figure.subplots().imshow(rng.random((9, 9)))
    save(figure, tmp_path / "gallery" / "0.png", dpi=100, colours=64)
    one = {"title": "input 0", "p_value": 0.1, "picture": "0.png", "text": None, "spaces": []}
    (tmp_path / "gallery" / "gallery.json").write_text(json.dumps({"inputs": [one, one]}))
    page, wrong = opened(browser, write_report(tmp_path), viewport={"width": 1280, "height": 900})
    button = page.locator("article button").first
    shown = button.bounding_box()["width"]
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("article img").first.bounding_box()["width"] == 850 > 1.3 * shown
    button.click()
    assert button.bounding_box()["width"] == shown
    assert wrong == []
