"""`subsetscan experiment files`: in small, on files of its own; every number against plain recomputation."""

import ast
import base64
import html
import json
import re
import zlib

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

pytest.importorskip("magika")
pytest.importorskip("onnxruntime")
pytest.importorskip("jinja2")
pytest.importorskip("vl_convert")
pytest.importorskip("itables")

from subsetscan.calibration import conformal_p_values
from subsetscan.lab.files import attackers
from subsetscan.lab.files import page as page_module
from subsetscan.lab.files import run as run_module
from subsetscan.lab.files import sample as sample_module
from subsetscan.lab.files.attackers import _changes, pursue, usual_of
from subsetscan.lab.files.cells import ALL, APART, CLEAN, OTHERS, read_cells
from subsetscan.lab.files.edits import EDITS
from subsetscan.lab.files.methods import AUTOMATIC, BOTH, METHODS, Judge
from subsetscan.lab.files.sample import OTHER, Sample, Setting, make_sample, share_out
from subsetscan.lab.files.where import measures
from subsetscan.lab.subjects import found
from subsetscan.lab.subjects.magika_attack import attack
from subsetscan.lab.subjects.magika_network import Magika
from subsetscan.lab.subjects.registry import SUBJECTS

SMALL = Setting(
    n_ending=110, n_background=100, n_test=6, least=106, n_edited=2, n_attacked=2, n_adaptive=1, n_tried=3, budget=4,
    weights=(1.0,),
)  # fmt: skip
WORDS = ["alpha", "beta", "gamma", "delta", "count", "total", "value", "items", "index", "table", "north", "name"]
pytestmark = pytest.mark.filterwarnings("ignore:.*clean inputs equal an earlier one", "ignore:.*have the same value")


def _python(rng):
    lines = ["import os", "import sys", ""]
    for n in range(120):
        a, b, c = rng.choice(WORDS, 3)
        lines += [
            f"def {a}_{n}({b}, {c}=None):",
            f'    """Return {b} of {c}."""',
            f"    return os.path.join({b}, {c})",
            "",
        ]
    return "\n".join(lines)


def _json(rng):
    return json.dumps(
        [{str(rng.choice(WORDS)): int(rng.integers(1000)) for _ in range(4)} for _ in range(150)], indent=2
    )


def _markdown(rng):
    lines = ["# " + " ".join(rng.choice(WORDS, 3)), ""]
    for _ in range(80):
        lines += ["## " + " ".join(rng.choice(WORDS, 2)), "", "* **" + "** and `".join(rng.choice(WORDS, 2)) + "`", ""]
        lines += [" ".join(rng.choice(WORDS, 12)) + ".", ""]
    return "\n".join(lines)


def _html(rng):
    rows = [
        f"<p><b>{rng.choice(WORDS)}</b> <a href='{rng.choice(WORDS)}.html'>{rng.choice(WORDS)}</a></p>"
        for _ in range(120)
    ]
    return "<!DOCTYPE html>\n<html><head><title>x</title></head>\n<body>\n" + "\n".join(rows) + "\n</body></html>\n"


@pytest.fixture(scope="module")
def network():
    return Magika()


@pytest.fixture(scope="module", autouse=True)
def machine(tmp_path_factory):
    """A machine with files enough of two types, and of two others together."""
    folder, rng = tmp_path_factory.mktemp("machine"), np.random.default_rng(0)
    paths = {}
    for ending, (write, n_files) in {
        "py": (_python, 110),
        "json": (_json, 110),
        "md": (_markdown, 60),
        "html": (_html, 60),
    }.items():
        paths[ending] = [str(folder / f"{n}.{ending}") for n in range(n_files)]
        for path in paths[ending]:
            with open(path, "w", encoding="utf-8") as file:
                file.write(write(rng))
    with pytest.MonkeyPatch.context() as patch:
        for module in (found, sample_module):
            patch.setattr(module, "paths_by_ending", lambda: paths)
        patch.setattr(sample_module, "_MOST_A_PACKAGE", 1000)
        patch.setattr(run_module, "_QUICK", SMALL)
        yield


@pytest.fixture(scope="module")
def sample(network):
    return make_sample(network, SMALL, 0)


@pytest.fixture(scope="module")
def judge(network, sample):
    return Judge(network, sample)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    said = []
    run_module.files(out, quick=True, report=True, progress=False, say=said.append)
    (out / "said.txt").write_text("\n".join(said))
    return out


def test_files_are_shared_out(network, sample):
    assert sample.types == ["json", "python", OTHER]
    assert sample.n_of_types == [(100, 6), (100, 6), (100, 6)]
    every = np.concatenate([sample.background, sample.test])
    assert len(np.unique(every, axis=0)) == len(every) == 318
    seen = [network.types[n] for n in network.logits(sample.test).argmax(axis=1)]
    assert seen[:12] == ["json"] * 6 + ["python"] * 6
    assert set(seen[12:]) <= {"markdown", "html"}
    again = Sample.unpack(sample.pack())
    assert again.names == sample.names
    assert again.edited.keys() == sample.edited.keys()
    assert np.array_equal(again.test_types, sample.test_types)


def test_too_few_files_are_refused():
    with pytest.raises(
        ValueError,
        match=r"two types with 106 files each, and as many of others, are needed: found a \(200\), b \(50\), and 50",
    ):
        share_out(["a"] * 200 + ["b"] * 50, SMALL, np.random.default_rng(0))


def test_tried_alone_a_change_is_that_of_the_plain_attack(network, sample, judge):
    tokens = sample.test[[0, 1, 6, 7]]
    plain = attack(network, tokens, (0.5,), most_changes=12)[0.5]
    own = pursue(judge, tokens, n_tried=1, budget=12)
    assert np.flatnonzero(own.reached >= 0).tolist() == plain.sources.tolist()
    assert own.reached[plain.sources].tolist() == plain.n_changed.tolist()
    assert np.array_equal(own.tokens[plain.sources], plain.tokens)
    p_values = judge.judge(own.tokens).p_values[:, 0]
    np.testing.assert_allclose(own.p_values, p_values)
    assert np.array_equal(own.undetected, np.where(p_values > 0.05, own.reached, -1))


def test_one_step_is_the_best_of_those_tried(network, sample, judge):
    """Against scores of every file that one step can lead to."""
    tokens = sample.test[[0, 6]]
    usual = usual_of(judge, sample.background_types)
    labels = network.logits(tokens).argmax(axis=1)
    places, values = _changes(judge, tokens, labels, tokens != 256, 5, usual)
    assert places.shape == values.shape == (2, 5)
    for weight, against in ((0.0, AUTOMATIC), (0.3, AUTOMATIC), (0.3, BOTH), (1e6, AUTOMATIC)):
        own = pursue(judge, tokens, n_tried=5, budget=1, weight=weight, usual=usual, against=against)
        for n, one in enumerate(tokens):
            own_places, own_values = places[n], values[n]
            if not weight:
                (own_places,), (own_values,) = _changes(
                    judge, one[np.newaxis], labels[n : n + 1], one[np.newaxis] != 256, 5, None
                )
            tried = np.repeat(one[np.newaxis], 5, axis=0)
            tried[np.arange(5), own_places] = own_values
            logits = network.logits(tried).astype(np.float64)
            shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            shares[:, labels[n]] = 0
            odds = np.log(shares.max(axis=1) / (1 - shares.max(axis=1)))
            aim = (
                np.minimum(odds, 0) - weight * judge.judge(tried).scores[:, list(METHODS).index(against)]
                if weight
                else odds
            )
            assert np.array_equal(own.tokens[n], tried[aim.argmax()])


@pytest.mark.parametrize("against", ["automatic", "automatic and margin"])
@pytest.mark.parametrize("rate", [0.05, 0.001])  # the second is below any p-value: all that is reached is undetected
def test_what_an_attacker_who_knows_the_detector_says_is_so(network, sample, judge, rate, against, monkeypatch):
    monkeypatch.setattr(attackers, "RATE", rate)
    tokens = sample.test[[0, 6]]
    usual = usual_of(judge, sample.background_types)
    own = pursue(judge, tokens, n_tried=4, budget=12, weight=0.02, usual=usual, against=against)
    changed = own.tokens != tokens
    assert (changed.sum(axis=1) <= 12).all()
    assert ((own.tokens[changed] >= 33) & (own.tokens[changed] < 127)).all()
    found = judge.judge(own.tokens)
    np.testing.assert_allclose(own.p_values, found.p_values[:, list(METHODS).index(against)])
    other = found.seen != network.logits(tokens).argmax(axis=1)
    past = own.undetected >= 0
    assert (other & (own.p_values > rate))[past].all()
    assert (own.undetected >= own.reached)[past].all()
    assert (changed.sum(axis=1) <= own.undetected)[past].all()
    if rate == 0.001:
        assert past.any()
        assert np.array_equal(own.undetected, own.reached)


def test_an_attacker_who_knows_the_detector_must_be_told_what_is_usual(sample, judge):
    with pytest.raises(ValueError, match="with a weight the attack needs to know what is usual"):
        pursue(judge, sample.test[:1], n_tried=2, budget=1, weight=1.0)


def test_p_values_are_those_of_the_background(network, sample, judge):
    """Of the methods without a detector, by counting; of both together, by Bonferroni."""
    found = judge.judge(sample.test)
    column = list(METHODS).index
    logits, background = (
        np.sort(network.logits(t).astype(np.float64), axis=1) for t in (sample.test, sample.background)
    )
    own, null = logits[:, -2] - logits[:, -1], background[:, -2] - background[:, -1]
    known = sample.background_types < 2
    np.testing.assert_allclose(found.p_values[:, column("margin")], conformal_p_values(own, null[known]))
    for n, kind in enumerate(found.types):
        mine = null[sample.background_types == kind]
        assert found.p_values[n, column("margin, by type")] == pytest.approx(
            (1 + (mine >= own[n]).sum()) / (1 + len(mine))
        )
    two = found.p_values[:, [column("automatic"), column("margin, by type")]]
    np.testing.assert_allclose(found.p_values[:, column("automatic and margin")], np.minimum(2 * two.min(axis=1), 1))
    pooled = found.p_values[:, column("automatic, rare types pooled")]
    assert np.array_equal(pooled[:12], found.p_values[:12, 0])  # files of types with a background
    assert (pooled[12:] >= found.p_values[12:, 0]).all()
    assert np.array_equal(found.types[:12], sample.test_types[:12])


def test_where_is_counted_position_by_position():
    rng = np.random.default_rng(0)
    positions, changed = rng.random((5, 16)) < 0.3, rng.random((5, 64)) < 0.1
    changed[:, 7] = True
    positions[4] = False
    precision, recall, chance = measures(positions, changed)
    for n in range(5):
        over = [changed[n, 4 * place : 4 * place + 4].any() for place in range(16)]
        hits = [hit for hit, one in zip(over, positions[n], strict=True) if one]
        bytes_found = [positions[n, byte // 4] for byte in np.flatnonzero(changed[n])]
        assert recall[n] == np.mean(bytes_found)
        assert chance[n] == np.mean(over)
        assert precision[n] == np.mean(hits) if hits else np.isnan(precision[n])


def test_edits_do_what_they_say():
    rng = np.random.default_rng(0)
    source, table = _python(rng).encode(), _json(rng).encode()

    def edited(name, content, kind):
        return EDITS[name].change(content, rng, kind, b"\x7fELF" * 600)

    for name in ("spaces at ends of lines", "a blank line", "a comment"):
        assert edited(name, source, "python") != source
        assert ast.dump(ast.parse(edited(name, source, "python"))) == ast.dump(ast.parse(source))
        assert edited(name, source, "elf") is None
    for name in ("written anew", "minified"):
        assert edited(name, table, "json") != table
        assert json.loads(edited(name, table, "json")) == json.loads(table)
        assert edited(name, b"{", "json") is None
    assert edited("minified", b"int a;\n\n   int b;\n", "c") == b"int a;\nint b;\n"
    packed = edited("packed", source, "python")
    (within,) = re.findall(rb'"(.*)"', packed)
    assert zlib.decompress(base64.b64decode(within)) == source
    assert zlib.decompress(base64.b64decode(edited("base64", source, "python"))) == source
    assert edited("library appended", source, "python") == source + (b"\x7fELF" * 600)[:2048]
    appended = edited("base64 appended", source, "python")
    assert base64.b64decode(appended.splitlines()[-1][2:]) == (b"\x7fELF" * 600)[:600]


def _kept(out, name):
    return load_file(out / "kept" / "files" / f"{name}.safetensors")


def test_cells_are_what_plain_recomputation_gives(out):
    cells = {(cell.kind, cell.type): cell for cell in read_cells(out / "files" / "cells.csv")}
    clean = _kept(out, f"scores/{CLEAN}")
    assert cells[CLEAN, ALL].n == 12
    kinds = {kind for kind, _ in cells}
    assert {"attack to 0.5", "a comment", "base64", "random as attack to 0.5"} <= kinds
    for (kind, name), cell in cells.items():
        if (name == ALL and not kind.endswith("bytes")) or (kind == OTHERS and name == APART):
            n_clean = 6 if name == APART else 12  # the Python files come last
            own = _kept(out, f"scores/{kind}")
            assert cell.n == len(own["scores"])
            for n, method in enumerate(METHODS):
                assert cell.flagged[method] == pytest.approx(np.mean(own["p_values"][:, n] <= 0.05), abs=1e-5)
                if kind != CLEAN:
                    truth = np.repeat([0, 1], [n_clean, cell.n])
                    expected = roc_auc_score(truth, np.concatenate([clean["scores"][:n_clean, n], own["scores"][:, n]]))
                    assert cell.auroc[method] == pytest.approx(expected, abs=1e-5)
                    assert cell.low[method] <= cell.auroc[method] <= cell.high[method]


def test_counts_and_places_are_those_of_the_tokens(out, sample):
    results = json.loads((out / "files" / "results.json").read_text())
    attacks = _kept(out, "attacks/0")
    tokens, sources = attacks["0.5/tokens"], attacks["0.5/sources"]
    originals = sample.test[sample.first_of_each(2)][sources]
    n_changed = (tokens != originals).sum(axis=1)
    assert results["changes"]["attack to 0.5"]["n_changed"] == n_changed.tolist()
    where, positions = _kept(out, "where/attacked"), results["where"]
    tokens, sources = attacks["0.95/tokens"], attacks["0.95/sources"]
    changed = tokens != sample.test[sample.first_of_each(2)][sources]
    found = where["positions"].reshape(len(changed), -1)
    precision, recall, _ = measures(found, changed)
    assert [one["recall"] for one in positions] == pytest.approx(recall, abs=1e-5)
    assert [np.nan if one["precision"] is None else one["precision"] for one in positions] == pytest.approx(
        precision, abs=1e-5, nan_ok=True
    )
    over = changed.reshape(len(changed), -1, 4).any(axis=2)
    assert [one["n_right"] for one in positions] == (found & over).sum(axis=1).tolist()
    plain = next(one for one in results["pursued"] if not one["weight"] and one["n_tried"] == 1)
    assert len(plain["reached"]) == 2
    assert all(-1 <= n <= SMALL.budget for n in plain["reached"])


def test_the_page_and_what_is_said(out, tmp_path):
    page = (out / "files.md").read_text()
    assert "A small version" in page
    assert "`subsetscan experiment files --quick --out FOLDER`" in page
    said = (out / "said.txt").read_text()
    assert re.search(r"^file +seen before +after +p-value +flagged +positions found", said, re.MULTILINE)
    assert "wrote files.md and files/" in said
    results = json.loads((out / "files" / "results.json").read_text())
    (out / "again").mkdir()
    page_module.write_page(out / "again" / "files.md", results, read_cells(out / "files" / "cells.csv"))
    assert (out / "again" / "files.md").read_text() == page
    assert str(out) not in page + json.dumps(results)


def test_the_report_marks_the_bytes_that_were_found(out, sample):
    page = (out / "files" / "report.html").read_text(encoding="utf-8")
    attacks, where = _kept(out, "attacks/0"), _kept(out, "where/attacked")
    tokens, sources = attacks["0.95/tokens"], sample.first_of_each(2)[attacks["0.95/sources"]]
    originals, found = sample.test[sources], where["positions"].reshape(len(tokens), -1)
    articles = dict(re.findall(r"<h3>([^<]*)</h3>(.*?)</article>", page, re.DOTALL))
    assert len(articles) == len(tokens) > 0
    for n, source in enumerate(sources):
        article = articles[f"{sample.type_names([source])[0]}, {sample.names[source]}"]
        assert f"<p>p = {where['p_value'][n]:.3g}, score {where['anomaly_score'][n]:.4g}</p>" in article
        written = re.search(r"<pre[^>]*>(.*)</pre>", article, re.DOTALL).group(1)
        marked = "".join(re.findall(r"<mark[^>]*>(?:<b>)?([^<]*)", written))
        is_found = np.repeat(found[n], 4)
        if is_found.sum() > 48:  # some may be left out
            n_left_out = sum(map(int, re.findall(r"bytes, (\d+) of them found", written)))
            assert len(html.unescape(marked)) == is_found.sum() - n_left_out
            continue
        plain = [chr(t) if 32 <= t < 127 or t == 10 else "·" for t in tokens[n][is_found]]
        assert html.unescape(marked) == "".join(plain)
        changed = tokens[n][(tokens[n] != originals[n]) & is_found]
        in_marks = re.findall(r"<mark[^>]*><b>([^<]*)</b>", written)
        assert html.unescape("".join(in_marks)) == "".join(map(chr, changed))


def test_what_is_kept_is_not_made_again(out, monkeypatch):
    for name in ("attack", "pursue", "make_sample", "usual_of"):
        monkeypatch.setattr(run_module, name, lambda *_, name=name, **__: pytest.fail(f"{name} again"))
    monkeypatch.setattr(Judge, "judge", lambda *_: pytest.fail("judged again"))
    before = (out / "files" / "cells.csv").read_text()
    run_module.files(out, quick=True, progress=False, say=lambda _: None)
    assert (out / "files" / "cells.csv").read_text() == before
    assert not (out / "files" / "report.html").exists()  # an older one would pass for that of this run


def test_what_the_experiment_does_not_take_is_refused_by_name(tmp_path, run):
    asked = ["experiment", "files", f"--out={tmp_path}", "--quick"]
    (tmp_path / "mnist").mkdir()
    for option in ("--subjects=magika", f"--data={tmp_path}", "--times"):
        error = run(*asked, option, code=2).err
        assert f"leave out {option.partition('=')[0]}" in error
    assert "leave out --report" in run("experiment", "defaults", f"--out={tmp_path}", "--report", code=2).err
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


def test_a_run_that_is_refused_leaves_nothing(tmp_path, run):
    for command in (
        ["peers", "--data", str(tmp_path / "digits")],
        ["files", "--seed=-1"],
        ["peers", "--subjects=lines"],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SUBJECTS, "lines", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("no lines")))
            error = run("experiment", *command, f"--out={tmp_path / 'out'}", code=2).err
        expected = "expected fashion-mnist or mnist in it|--seed.* greater than or equal to 0|no lines"
        assert re.search(expected, error)
        assert not list(tmp_path.iterdir())
