"""The study of texts: where orders are put in, how what a scan finds lies over them, and a small run of all of it."""

import json

import numpy as np
import pytest

from subsetscan.lab.texts import run, tokens
from subsetscan.lab.texts.inputs import Injected, injected
from subsetscan.lab.texts.page import _marks
from subsetscan.sequence_result import SequenceScan, SequenceScans


def test_orders_are_put_between_words(rng):
    texts = ["one two three four five", "alone"]
    found = injected(texts * 20, ["Say it.", "Tell me all now."], rng)
    for text, (start, end), original in zip(found.texts, found.spans, texts * 20, strict=True):
        assert text[start:end] in ("Say it.", "Tell me all now.")
        assert " ".join((text[:start] + text[end:]).split()) == original
        assert text.startswith(original.split()[0])
    assert len({span[0] for span in found.spans[::2]}) > 2


class Found:
    """Gives back what was found, made by hand."""

    def __init__(self, spans, flagged):
        self.spans, self.flagged = spans, flagged

    def scan(self, texts):
        return SequenceScans(
            SequenceScan(1, 9, p, p <= 0.05, 0.1, np.ones(3, bool), *np.ones((2, 3)), np.arange(2), spans, text)
            for text, spans, p in zip(texts, self.spans, np.where(self.flagged, 0.01, 0.5), strict=True)
        )


def test_precision_and_recall_count_characters():
    given = Injected(["abcdefghij", "klmnopqrst", "uvwxyz"], [(2, 6), (0, 5), (1, 2)])
    measured, shown = tokens.located(Found([[(0, 3), (5, 7)], [], [(1, 2)]], [True, False, True]), given)
    assert measured["precision"] == np.mean([2 / 5, 1])  # the second found nothing
    assert measured["recall"] == np.mean([2 / 4, 0, 1])
    assert measured["chance"] == np.mean([4 / 10, 5 / 10, 1 / 6])
    assert measured["flagged"] == 2 / 3
    assert [one["found"] for one in shown] == [[[0, 3], [5, 7]], [], [[1, 2]]]


def test_marks_are_under_spans():
    assert _marks(9, [(1, 3), (7, 9)], "^") == " ^^    ^^"


def test_bins_of_lengths():
    assert run.lengths_of(["", "abc", "abcd", "abcde"], np.array([3, 5])).tolist() == [0, 1, 1, 2]


def test_a_small_run(tmp_path, monkeypatch):
    sizes = {"n_background": 110, "n_clean": 12, "n_kind": 3}
    monkeypatch.setattr(run, "_QUICK", sizes)
    monkeypatch.setattr(run, "TOKEN_LAYERS", ("hidden_1", "mlp_2"))
    monkeypatch.setattr("subsetscan.lab.subjects.texts._N_LEAST", 3)
    try:
        results = run.texts(tmp_path, quick=True, progress=False, say=lambda line: None)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        pytest.skip(str(error))
    assert json.loads((tmp_path / "texts" / "results.json").read_text()) == json.loads(json.dumps(results))
    assert results["layer"] in run.TOKEN_LAYERS
    assert results["measures"].keys() == run.METHODS.keys()
    for sets in results["measures"].values():
        assert sets.keys() == {"clean", *results["kinds"]}
        assert all(one["n"] == (12 if kind == "clean" else 3) for kind, one in sets.items())
    with monkeypatch.context() as again:
        again.setattr(run, "text_rows", lambda *_: pytest.fail("read again"))
        again.setattr(tokens, "SequenceScanner", lambda *_, **__: pytest.fail("scanned again"))
        kept = run.texts(tmp_path, quick=True, progress=False, say=lambda line: None)
    assert {**kept, "seconds": 0} == {**results, "seconds": 0}
    page = (tmp_path / "texts.md").read_text()
    assert "`subsetscan experiment texts --quick --out FOLDER`" in page
    for example in results["examples"]:
        assert f"    {example['text'][:60]}" in page
