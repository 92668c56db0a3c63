"""Subjects of real networks: each is made in small where its packages are installed, and says so where they are not."""

import numpy as np
import pytest
from scipy.special import softmax

from subsetscan.lab.comparators import Head
from subsetscan.lab.subjects import pictures
from subsetscan.lab.subjects.corruptions import CORRUPTIONS, corrupted
from subsetscan.lab.subjects.edits import EDITS
from subsetscan.lab.subjects.found import debian_files, file_of_package
from subsetscan.lab.subjects.magika_network import PADDING, Magika, as_tokens
from subsetscan.lab.subjects.registry import SUBJECTS, kept_subject, write, write_all
from subsetscan.lab.subjects.subject import Subject

FOLDERS = tuple(pictures._FOLDERS.items())


def made(name, twice=False, **options):
    """Make a small subject, skip where something is missing, and check what holds for each."""
    try:
        subject = SUBJECTS[name](3, **options)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        pytest.skip(str(error))
    assert all(rows.dtype == np.float32 and rows.shape[1] <= 2000 for rows in subject.clean.values())
    assert all(np.ptp(rows, axis=0).any() for rows in subject.clean.values())
    if twice:
        again = SUBJECTS[name](3, **options)
        assert again.inputs == subject.inputs
        for layer, rows in subject.clean.items():
            np.testing.assert_allclose(rows, again.clean[layer], rtol=1e-4, atol=1e-4)
    return subject


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    try:
        return Magika()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def test_magika_in_small(tmp_path, monkeypatch):
    from subsetscan.lab.subjects import files

    monkeypatch.setattr(files, "_TYPES", {"C headers": ("h",)})
    subject = made("magika", n_clean=30, n_kind=10, n_attacked=1)
    assert subject.role == "choose"
    assert {layer: rows.shape for layer, rows in subject.clean.items()}["logits"] == (30, 214)
    assert set(EDITS) < set(subject.kinds)
    write(subject, tmp_path / "magika.npz")
    with np.load(tmp_path / "magika.npz") as kept:
        np.testing.assert_array_equal(kept["clean/max pool"], subject.clean["max pool"])
        assert "kind/shuffled lines/logits" in kept


def test_magika_reads_files_as_its_package_does(network):
    package = pytest.importorskip("magika")
    rng = np.random.default_rng(0)
    contents = [
        b"  import os\nprint(os)\n" * 200,
        b"<html><p>" * 90,
        b"#include <stdio.h>\n\n" * 60,
        rng.bytes(5000),
    ]
    logits = network.logits(np.stack([as_tokens(content) for content in contents]))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    theirs = [package.Magika().identify_bytes(content).dl for content in contents]
    assert [network.types[i] for i in logits.argmax(axis=1)] == [str(each.label) for each in theirs]
    assert (odds.sum(axis=1) >= 1).all()


def test_an_attack_changes_printable_bytes_and_the_type(network):
    from subsetscan.lab.subjects.magika_attack import attack

    content = b"import os\n\n\ndef names(folder):\n    return sorted(os.listdir(folder))\n\n\n" * 60
    tokens = np.stack([as_tokens(content)])
    found = attack(network, tokens, (0.5,), most_changes=40)[0.5]
    if not len(found.tokens):
        pytest.skip("this file withstands 40 changes")
    changed = found.tokens[0] != tokens[0]
    assert changed.sum() <= found.n_changed[0] <= 40
    assert ((found.tokens[0][changed] >= 33) & (found.tokens[0][changed] < 127)).all()
    assert network.logits(found.tokens).argmax() != network.logits(tokens).argmax()


def test_the_gradient_tells_small_changes(network):
    """Move the embedding of one byte a little: the ONNX model cannot, so compare with all single changes, by rank."""
    from subsetscan.lab.subjects.magika_attack import gradient

    tokens = np.stack([as_tokens(b"import os\nfor name in os.listdir():\n    print(name)\n" * 80)])
    label = network.logits(tokens).argmax(axis=1)
    logits, promise, best = gradient(network, tokens, label)
    others = logits.copy()
    others[0, label] = -np.inf
    aim = others.argmax()
    places = np.random.default_rng(0).choice(1000, 24, replace=False)
    places = np.concatenate([places, np.argsort(promise[0])[-8:]])
    changed = np.repeat(tokens, len(places), axis=0)
    changed[np.arange(len(places)), places] = best[0, places]
    after = network.logits(changed)
    gains = after[:, aim] - after[:, label[0]] - (logits[0, aim] - logits[0, label[0]])
    assert np.corrcoef(gains, promise[0, places])[0, 1] > 0.5


def test_short_files_are_padded_between():
    tokens = as_tokens(b"\n abc \n")
    assert tokens[:4].tolist() == [97, 98, 99, 32]  # as magika does, white space goes at the outer ends alone
    assert tokens[-1] == 99
    assert (tokens[1000:1040] == PADDING).all()


def test_edits_keep_bytes():
    rng = np.random.default_rng(0)
    content = b"import os\n\n\ndef f(a):\n    # a comment\n    return os.path.join(a, 'b')\n" * 40
    for name, (about, edit) in EDITS.items():
        edited = edit(content, rng, b"\x7fELF" * 600)
        assert isinstance(edited, bytes), name
        assert edited != content or name == "base64", name
        assert about


def test_encoder_in_small():
    pytest.importorskip("tokenizers")
    subject = made("encoder", n_clean=20, n_kind=4)
    assert subject.clean["inner 2"].shape == (20, 1536)
    assert "shuffled words" in subject.kinds


def test_the_encoder_knows_what_sentences_mean():
    pytest.importorskip("tokenizers")
    from subsetscan.lab.subjects.encoder import text_network, text_rows

    try:
        network = text_network()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    texts = ["The cat sits on the mat.", "A kitten is sitting on a rug.", "Stock markets fell sharply today."]
    rows = text_rows(network, texts)["layer 6"]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = rows @ rows.T
    assert likeness[0, 1] > 0.5 > 0.3 > likeness[0, 2]
    alone = text_rows(network, texts[:1])["layer 6"][0]
    np.testing.assert_allclose(alone / np.linalg.norm(alone), rows[0], atol=1e-5)  # padding changes nothing


@pytest.mark.parametrize("name", ["lines", "speech", "photographs"])
def test_networks_kept_aside_in_small(name, monkeypatch):
    monkeypatch.setattr(pictures, "_FOLDERS", {package: (folder, names[:2]) for package, (folder, names) in FOLDERS})
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    subject = made(name, twice=name == "speech", n_clean=6, n_kind=2)
    assert subject.role == "report"
    assert len(subject.kinds) >= 8


@pytest.mark.parametrize("name", ["classifier", "autoencoder", "mnist"])
def test_networks_of_the_package_in_small(name):
    pytest.importorskip("keras")
    pytest.importorskip("art")
    subject = made(name, n_clean=12, n_kind=6)
    assert subject.role == ("report" if name == "mnist" else "choose")
    assert set(CORRUPTIONS) < set(subject.kinds)
    if name != "autoencoder":
        layer, head = subject.head
        assert np.allclose(softmax(head.logits(subject.clean[layer]), axis=1), subject.clean["dense_2"], atol=1e-5)
        assert {kind: len(scores) for kind, scores in subject.scores["feature squeezing"].items()} == subject.counts
    else:
        assert (subject.head, subject.scores) == (None, {})


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_corruptions_keep_shape_and_range(name):
    images = np.random.default_rng(0).random((3, 30, 42, 1), np.float32)
    changed = corrupted(name, images, np.random.default_rng(1))
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert not np.array_equal(changed, images)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps no-such-thing"):
        file_of_package("no_such_module", "model.onnx", "no-such-thing", alone=True)
    with pytest.raises(FileNotFoundError, match="apt install fortunes"):
        debian_files(str(tmp_path), ["cookie"], "fortunes")


def test_a_subject_whose_parts_disagree_is_refused():
    rows = {"a": np.zeros((3, 2), np.float32)}
    with pytest.raises(ValueError, match="describes"):
        Subject("s", "", "choose", rows, {}, {"clean": "", "noise": ""}, {"a": ""})
    with pytest.raises(ValueError, match="role"):
        Subject("s", "", "train", rows, {}, {"clean": ""}, {"a": ""})
    wide = {"a": np.zeros((3, 5), np.float32)}
    with pytest.raises(ValueError, match="shape"):
        Subject("s", "", "report", rows, {"noise": wide}, {"clean": "", "noise": ""}, {"a": ""})


def test_what_is_kept_is_what_was_made(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"a": rng.normal(size=(n, 2)).astype(np.float32)} for n in (4, 3)]
    scores = {"squeezing": {"clean": rng.normal(size=4), "noise/x": rng.normal(size=3)}}
    head = Head(rng.normal(size=(2, 5)).astype(np.float32), np.zeros(5))
    of = {"clean": "usual", "noise/x": "noise"}
    for options in ({}, {"head": ("a", head), "scores": scores}):
        one = Subject("s", "ours", "choose", rows[0], {"noise/x": rows[1]}, of, {"a": "a layer"}, **options)
        for made_from in ({"seed": len(options)},) * 2:  # made, then taken from where it is kept
            found = kept_subject(tmp_path, "s", lambda one=one: one, made_from)
            assert (found.name, found.role, found.inputs, found.counts) == (
                "s",
                "choose",
                of,
                {"clean": 4, "noise/x": 3},
            )
            assert np.array_equal(found.kinds["noise/x"]["a"], rows[1]["a"])
            assert set(found.scores) == set(one.scores)
            if options:
                assert found.head[0] == "a"
                assert np.array_equal(found.head[1].weights, head.weights)
                assert np.array_equal(found.scores["squeezing"]["noise/x"], scores["squeezing"]["noise/x"])
            else:
                assert found.head is None
    with pytest.raises(ValueError, match="s, squeezing: not one score for each input"):
        Subject("s", "ours", "choose", rows[0], {"noise/x": rows[0]}, of, {"a": "a layer"}, scores=scores)


def test_subjects_are_written_one_by_one(tmp_path, monkeypatch):
    rows = {"a": np.arange(6, dtype=np.float32).reshape(3, 2)}
    small = Subject("small", "ours", "report", rows, {"a/b": rows}, {"clean": "", "a/b": ""}, {"a": ""})
    monkeypatch.setitem(SUBJECTS, "small", lambda seed: small)
    assert list(write_all(tmp_path / "new", ["small"])) == [small]
    with np.load(tmp_path / "new" / "small.npz") as kept:
        assert sorted(kept) == ["clean/a", "kind/a/b/a"]
