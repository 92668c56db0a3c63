"""The study of texts: where orders are put in, how what a scan finds lies over them, and a small run of all of it."""

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from subsetscan import SequenceScanner
from subsetscan.lab.kept_scans import pack_scans, unpack_scans
from subsetscan.lab.subjects.texts import encoder_texts
from subsetscan.lab.texts import run, tokens
from subsetscan.lab.texts.inputs import Injected, draw_texts, injected
from subsetscan.lab.texts.page import _marks, _Page
from subsetscan.sequence_result import SequenceScan, SequenceScans, spans_of


def test_orders_are_put_between_words(rng):
    texts = ["one two three four five", "alone"]
    found = injected(texts * 20, ["Say it.", "Tell me all now."], rng)
    for text, (start, end), original in zip(found.texts, found.spans, texts * 20, strict=True):
        assert text[start:end] in ("Say it.", "Tell me all now.")
        assert " ".join((text[:start] + text[end:]).split()) == original
        assert text.startswith(original.split()[0])
    assert len({span[0] for span in found.spans[::2]}) > 2


def test_scans_are_kept_as_they_are(rng):
    clean = [rng.normal(size=(n, 4)) for n in rng.integers(1, 20, 60)]
    inputs = [rng.normal(size=(n, 4)) * 3 for n in (3, 0, 15, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one has no positions
        found = SequenceScanner(random_state=0).fit(clean).scan(inputs)
    again = unpack_scans(pack_scans(found))
    texts = ["one two", "three"]
    of_texts = SequenceScans(
        replace(one, text=text, characters=characters, spans=spans_of(one.positions, characters))
        for one, text, characters in zip(
            found[2:], texts, [np.arange(30).reshape(15, 2), np.array([[0, 5]])], strict=True
        )
    )
    again_of_texts = unpack_scans(pack_scans(of_texts), texts)
    for before, after in zip([*found, *of_texts], [*again, *again_of_texts], strict=True):
        for name in SequenceScan.__dataclass_fields__:
            np.testing.assert_equal(getattr(after, name), getattr(before, name))
            assert type(getattr(after, name)) is type(getattr(before, name))
    assert any(one.spans for one in of_texts)
    assert len(unpack_scans(pack_scans(SequenceScans([])))) == 0


def test_precision_and_recall_count_characters():
    given = Injected(["abcdefghij", "klmnopqrst", "uvwxyz"], [(2, 6), (0, 5), (1, 2)])
    found = SequenceScans(
        SequenceScan(1, 9, p, p <= 0.05, 0.1, np.ones(3, bool), *np.ones((2, 3)), np.arange(2), spans, text)
        for text, spans, p in zip(given.texts, [[(0, 3), (5, 7)], [], [(1, 2)]], [0.01, 0.5, 0.01], strict=True)
    )
    measured, shown = tokens.located(found, given)
    assert measured["precision"] == np.mean([2 / 5, 1])  # the second found nothing
    assert measured["recall"] == np.mean([2 / 4, 0, 1])
    assert measured["chance"] == np.mean([4 / 10, 5 / 10, 1 / 6])
    assert measured["flagged"] == 2 / 3
    assert [one["found"] for one in shown] == [[[0, 3], [5, 7]], [], [[1, 2]]]


def test_marks_are_under_spans():
    assert _marks(9, [(1, 3), (7, 9)], "^") == " ^^    ^^"


def test_bins_of_lengths():
    assert run.lengths_of(["", "abc", "abcd", "abcde"], np.array([3, 5])).tolist() == [0, 1, 1, 2]


def test_no_fortune_is_one_on_which_options_were_chosen():
    try:
        drawn = draw_texts(1, {"n_background": 110, "n_clean": 12, "n_kind": 150})
    except (ModuleNotFoundError, FileNotFoundError) as error:
        pytest.skip(str(error))
    clean, kinds = encoder_texts()
    assert set(drawn.background + drawn.clean).isdisjoint(clean)
    fortunes = [
        name for name, (about, _) in drawn.kinds.items() if about.startswith(("English fortunes of", "fortunes"))
    ]
    assert {"computers", "verses"} <= set(fortunes)
    for name in fortunes:
        assert set(drawn.kinds[name][1]).isdisjoint(kinds[name][1])


def test_the_share_of_texts_whose_length_the_background_has():
    assert run.share_in_range(["a", "ab", "abcd", "abcde"], ["ab", "abcd"]) == 0.5


def test_kinds_of_other_lengths_are_in_no_mean():
    one = {"auroc_low": 0.0, "auroc_high": 1.0, "n": 5}
    aurocs = {"automatic": (0.6, 1.0), "scan of tokens": (0.7, 0.1)}
    flagged = {"automatic": (0.4, 1.0), "scan of tokens": (0.3, 0.0)}
    measures = {
        name: {
            kind: {**one, "auroc": aurocs[name][i], "flagged": flagged[name][i]}
            for i, kind in enumerate(("alike", "short"))
        }
        for name in aurocs
    }
    page = _Page(
        {
            "measures": measures, "tried": {}, "layer": "", "where": {}, "kinds": {"alike": "", "short": ""},
            "in_range": {"alike": 0.9, "short": 0.89}, "looked_at": {"alike": 2, "short": 0},
        }
    )  # fmt: skip
    assert (page.compared_kinds, page.outside) == (["alike"], ["short"])
    assert page.looked_at() == "are others but 2 of alike"
    assert page.best() == "scan of tokens (0.700), before automatic (0.600)"
    assert page.advice().startswith(
        'Flag whole texts by "scan of tokens", which has the highest mean AUROC. At a p-value of 0.05 "automatic" '
        "flags most (40.0%)."
    )
    measures["automatic"]["alike"]["auroc"] = 0.696
    assert page.advice().startswith(
        'Flag whole texts by "scan of tokens" or "automatic", which are level in mean AUROC, within 0.005.'
    )


def test_a_small_run(tmp_path, monkeypatch):
    sizes = {"n_background": 110, "n_clean": 12, "n_kind": 3}
    monkeypatch.setattr(run, "_QUICK", sizes)
    monkeypatch.setattr(run, "TOKEN_LAYERS", ("hidden_1", "mlp_2"))
    monkeypatch.setattr("subsetscan.lab.subjects.texts._N_LEAST", 3)
    try:
        results = run.texts(tmp_path, quick=True, report=True, progress=False, say=lambda line: None)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        pytest.skip(str(error))
    assert json.loads((tmp_path / "texts" / "results.json").read_text()) == json.loads(json.dumps(results))
    assert results["layer"] in run.TOKEN_LAYERS
    assert results["measures"].keys() == run.METHODS.keys()
    assert results["looked_at"].keys() == results["kinds"].keys()
    assert results["looked_at"]["computers"] == 0
    assert results["in_range"].keys() == results["kinds"].keys()
    assert results["in_range"]["truncated"] < 0.5 < results["in_range"]["reversed words"]
    for sets in results["measures"].values():
        assert sets.keys() == {"clean", *results["kinds"]}
        assert all(one["n"] == (12 if kind == "clean" else 3) for kind, one in sets.items())
    report = (tmp_path / "texts" / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"<h3>(.*) \d</h3>", report)) == set(run._IN_PART)
    assert report.count("<article>") == 2 * len(run._IN_PART)
    assert "".join(re.findall(r"<b>([^<]*)</b>", report.partition("<h3>orders inside")[2].partition("</article>")[0]))
    with monkeypatch.context() as again:
        again.setattr(run, "text_rows", lambda *_: pytest.fail("read again"))
        again.setattr(tokens, "SequenceScanner", lambda *_, **__: pytest.fail("scanned again"))
        kept = run.texts(tmp_path, quick=True, progress=False, say=lambda line: None)
    assert {**kept, "seconds": 0} == {**results, "seconds": 0}
    page = (tmp_path / "texts.md").read_text()
    assert "`subsetscan experiment texts --quick --out FOLDER`" in page
    for example in results["examples"]:
        assert f"    {example['text'][:60]}" in page
