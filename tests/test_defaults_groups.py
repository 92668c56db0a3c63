"""`subsetscan experiment groups`: on made-up networks, against plain recomputation; resumed; what the page says."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from subsetscan import Background, GroupScanner
from subsetscan.calibration import extrapolated_p_values
from subsetscan.detectors import AutomaticDetector, NearestNeighborDetector
from subsetscan.lab.defaults import run as defaults
from subsetscan.lab.defaults.groups import page as page_module
from subsetscan.lab.defaults.groups import run as groups
from subsetscan.lab.defaults.groups.cells import read_cells, write_cells
from subsetscan.lab.defaults.groups.methods import CLEAN, Setting, draw_groups
from subsetscan.lab.subjects.subject import CHOOSE, REPORT, Subject

pytest.importorskip("jinja2")

ATTACK = "z attack"
KINDS = ("a shift", "b noise", "c both", "d more")


def made_up(name, role, seed):
    rng = np.random.default_rng(seed)

    def rows(n, shift=0.0, scale=1.0):
        values = rng.normal(size=(n, 1)) + scale * rng.normal(size=(n, 16))
        values[:, :3] += shift
        return {"last": values.astype(np.float32)}

    kinds = {ATTACK: rows(30, 3.0), KINDS[1]: rows(25, 0, 1.3), KINDS[0]: rows(30, 2.0)}
    kinds |= {KINDS[3]: rows(20, 0, 1.6), KINDS[2]: rows(20, 1.0, 1.2)}
    return Subject(
        name=name,
        source=f"{name}, made up",
        role=role,
        clean=rows(260),
        kinds=kinds,
        inputs={"clean": "usual ones"} | {kind: f"about {kind}" for kind in kinds},
        layers={"last": "the last layer"},
    )


@pytest.fixture
def made(monkeypatch):
    found = {
        "tuned": lambda seed, **_: made_up("tuned", CHOOSE, seed + 1),
        "aside": lambda seed, **_: made_up("aside", REPORT, seed + 2),
        "no layer": lambda seed, **_: pytest.fail("made"),
    }
    monkeypatch.setattr(defaults, "SUBJECTS", found)
    monkeypatch.setattr(groups, "SUBJECTS", found)
    monkeypatch.setattr(groups, "LAYERS", {"tuned": ("last",), "aside": ("last",)})
    monkeypatch.setattr(groups, "LOOKED_AT", {("tuned", "last")})
    monkeypatch.setattr(groups, "ATTACKS", {"tuned": (ATTACK,)})


def ran(folder, **options):
    options = {"subjects": ["tuned", "aside"], "quick": True, "progress": False, "say": lambda _: None} | options
    return groups.groups(folder, **options)


@pytest.fixture
def out(made, tmp_path):
    ran(tmp_path)
    return tmp_path


def p_value(score, null):
    return (1 + np.sum(np.asarray(null) >= score)) / (len(null) + 1)


def test_cells_are_what_scanners_give(out):
    with (out / "campaigns" / "cells.csv").open(newline="") as file:
        written = {(r["network"], r["kind"], int(r["k"]), int(r["split"])): r for r in csv.DictReader(file)}
    assert len(written) == 2 * (2 + 2 * 3) + 2 - 0 - (2 if ATTACK in groups.every_nth([*KINDS, ATTACK], 3) else 0)
    setting, subject = groups._QUICK, made_up("tuned", CHOOSE, 1)
    clean = subject.clean["last"]
    order = np.random.default_rng([0, 0]).permutation(260)
    fit, test = clean[order[:200]], clean[order[200:]]
    automatic = GroupScanner.automatic(fit, n_groups=39, n_folds=3, restarts=2, random_state=0)
    upper = GroupScanner(Background(fit), restarts=2, random_state=0)
    order, rng, null = np.random.RandomState(0).permutation(200), np.random.default_rng(0), []
    for n in range(3):
        fold = np.sort(order[n::3])
        beside = GroupScanner(Background(np.delete(fit, fold, axis=0)), restarts=2, random_state=0)
        draws = [rng.choice(len(fold), 20, replace=False) for _ in range(13)]
        null += [beside.scan(fit[fold][rows]).score for rows in draws]
    nearest = NearestNeighborDetector(n_neighbors=1, metric="cosine", scale=False).fit(fit)
    alone = AutomaticDetector().fit(fit)
    kinds = {kind: subject.kinds[kind]["last"] for kind in (KINDS[0], KINDS[2], ATTACK)}
    drawn = draw_groups(setting, 60, {kind: len(rows) for kind, rows in kinds.items()}, (ATTACK,), 0, 0)
    found = {}
    for group in drawn:
        rows = np.empty((20, 16), np.float32)
        rows[~group.mask] = test[group.clean]
        rows[group.mask] = kinds[group.kind][group.odd] if group.k else rows[:0]
        scan, block = automatic.scan(rows), upper.scan(rows)
        odd = set(np.flatnonzero(group.mask))
        single = alone.anomaly_score(rows)
        found.setdefault((group.kind, group.k), []).append(
            {
                "automatic": scan.score,
                "automatic flagged": scan.p_value <= 0.05,
                "upper": block.score,
                "upper flagged": p_value(block.score, null) <= 0.05,
                "nearest": -np.log(extrapolated_p_values(nearest.anomaly_score(rows), nearest.null_scores_)).sum(),
                "precision": len(odd & set(scan.images)) / max(len(scan.images), 1),
                "recall": len(odd & set(scan.images)) / max(group.k, 1),
                "named": len(scan.images) / 20,
                "alone": any(p_value(single[place], alone.null_scores_) <= 0.005 for place in odd),
                "all": extrapolated_p_values(single, alone.null_scores_).min() <= 0.05 / 20,
            }
        )
    for (kind, k), of in found.items():
        row = written["tuned", kind, k, 0]
        means = {what: np.mean([one[what] for one in of]) for what in of[0]}
        assert int(row["n"]) == len(of) == (6 if kind == CLEAN else 4 if kind == ATTACK else 3)
        assert float(row["automatic: flagged"]) == pytest.approx(means["automatic flagged"], abs=1e-5)
        assert float(row["plain scan, upper tail: flagged"]) == pytest.approx(means["upper flagged"], abs=1e-5)
        assert float(row["automatic: named"]) == pytest.approx(means["named"], abs=1e-5)
        assert float(row["any_of_all"]) == pytest.approx(means["all"], abs=1e-5)
        if kind == CLEAN:
            continue
        assert float(row["automatic: precision"]) == pytest.approx(means["precision"], abs=1e-5)
        assert float(row["automatic: recall"]) == pytest.approx(means["recall"], abs=1e-5)
        assert float(row["any_alone"]) == pytest.approx(means["alone"], abs=1e-5)
        truth = np.repeat([0, 1], [6, len(of)])
        names = {"automatic": "automatic", "upper": "plain scan, upper tail", "nearest": "Fisher, nearest neighbour"}
        for short, name in names.items():
            scores = [one[short] for one in (*found[CLEAN, 0], *of)]
            assert float(row[f"{name}: auroc"]) == pytest.approx(roc_auc_score(truth, scores), abs=1e-5), name


def test_the_story_is_of_the_group_drawn_first(out):
    results = json.loads((out / "campaigns" / "results.json").read_text())
    (told,) = results["stories"]
    assert (told["network"], told["layer"], told["kind"], told["k"]) == ("tuned", "last", ATTACK, 2)
    subject = made_up("tuned", CHOOSE, 1)
    order = np.random.default_rng([0, 0]).permutation(260)
    fit, test = (subject.clean["last"][rows] for rows in (order[:200], order[200:]))
    group = draw_groups(groups._QUICK, 60, {ATTACK: 30}, (ATTACK,), 0, 0)[6]
    rows = np.concatenate([test, subject.kinds[ATTACK]["last"]])[group.rows({ATTACK: 60})]
    found = GroupScanner.automatic(fit, n_groups=39, n_folds=3, restarts=2, random_state=0).scan(rows)
    assert told["anomalous"] == np.flatnonzero(group.mask).tolist()
    assert told["named"] == found.images.tolist()
    assert told["n_nodes"] == len(found.nodes)
    assert told["p_value"] == pytest.approx(found.p_value)
    alone = AutomaticDetector().fit(fit).p_values(rows)
    assert told["alone"] == pytest.approx(alone[group.mask], abs=1e-5)
    assert told["clean_flagged_alone"] == np.sum(alone[~group.mask] <= 0.005)
    text = (out / "campaigns.md").read_text()
    assert f"the group's p-value is {found.p_value:.2f}" in text
    hits = len(set(found.images) & set(np.flatnonzero(group.mask)))
    assert f"{len(found.images)} files are named, {hits} of the 2 attacked ones" in text


def test_tables_are_means_of_the_cells(out):
    text = (out / "campaigns.md").read_text()
    cells = read_cells(out / "campaigns" / "cells.csv")
    chosen = groups.every_nth([*KINDS, ATTACK], 3)
    assert chosen == ["a shift", "c both", "z attack"]

    def auroc(name, k, kinds):
        return np.mean([c.auroc["automatic"] for c in cells if c.network == name and c.k == k and c.kind in kinds])

    expected = [
        f"{auroc(*asked):.3f}"
        for k in (2, 4)
        for asked in (("tuned", k, chosen), ("aside", k, chosen), ("tuned", k, [ATTACK]))
    ]
    expected.append(f"{np.mean([c.flagged['automatic'] for c in cells if c.kind == CLEAN]):.1%}")
    row = next(line for line in text.splitlines() if line.startswith("| automatic | "))
    assert row.replace("*", "").strip("| ").split(" | ")[1:] == expected
    assert 'were chosen on tuned "last"' in text
    assert 'Not looked at: aside "last"' in text
    assert "A small version" in text


def test_the_page_is_what_saved_data_give(out, tmp_path):
    results = json.loads((out / "campaigns" / "results.json").read_text())
    page_module.write_page(out / "again.md", results, read_cells(out / "campaigns" / "cells.csv"))
    assert (out / "again.md").read_text() == (out / "campaigns.md").read_text()
    write_cells(out / "cells.csv", read_cells(out / "campaigns" / "cells.csv"))
    assert (out / "cells.csv").read_text() == (out / "campaigns" / "cells.csv").read_text()
    assert str(tmp_path) not in (out / "campaigns.md").read_text() + json.dumps(results)


def test_what_is_kept_is_not_made_again(out, monkeypatch):
    before = (out / "campaigns" / "cells.csv").read_text()
    scored = []
    plain = groups.score_groups
    monkeypatch.setattr(groups, "score_groups", lambda *all_: scored.append(1) or plain(*all_))
    ran(out)
    assert not scored
    assert (out / "campaigns" / "cells.csv").read_text() == before
    (out / "kept" / "groups" / "aside" / "last" / "1.safetensors").write_bytes(b"cut off")
    ran(out)
    assert len(scored) == 1


def test_groups_of_a_kind_are_the_same_whatever_other_kinds_there_are():
    setting = Setting(size=10, ks=(3,), n_clean=2, n_kind=2)
    one, two = (draw_groups(setting, 50, dict.fromkeys(kinds, 9), (), 0, 0) for kinds in ("b", "ab"))
    for own, other in zip(one[2:], two[4:], strict=True):
        assert own.kind == other.kind == "b"
        assert all(np.array_equal(a, b) for a, b in zip(own[2:], other[2:], strict=True))
        assert own.mask.sum() == len(set(own.odd)) == 3
        assert len(set(own.clean)) == 7
    assert {group.kind for group in draw_groups(setting, 50, {"b": 9}, (), 0, 1)} == {CLEAN}


def test_what_goes_wrong(made, tmp_path, run):
    with pytest.raises(ValueError, match="expected some of tuned, aside, no layer, got lines"):
        ran(tmp_path, subjects=["lines"])
    with pytest.raises(ValueError, match="expected some of tuned, aside, got none"):
        ran(tmp_path, subjects=["no layer"])
    asked = ["experiment", "groups", f"--out={tmp_path}", "--quick"]
    assert "no times are measured of groups" in run(*asked, "--subjects=aside", "--times", code=2).err
    said = json.loads(run(*asked, "--subjects=aside,no layer", "--json").out)
    assert list(said["subjects"]) == ["aside"]
    assert said["stories"] == []
    assert "none of these" in (tmp_path / "campaigns.md").read_text()
