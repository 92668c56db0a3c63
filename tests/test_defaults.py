"""`subsetscan experiment defaults`: on made-up networks, against plain recomputation; resumed; what the page says."""

import csv
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from subsetscan.combination import combined
from subsetscan.detectors import AutomaticDetector, MahalanobisDetector, SubsetScanDetector
from subsetscan.lab.defaults import page as page_module
from subsetscan.lab.defaults import run as defaults
from subsetscan.lab.defaults import times as timing
from subsetscan.lab.defaults.cells import CLEAN, TOGETHER, read_cells, write_cells
from subsetscan.lab.defaults.methods import AUTOMATIC, METHODS, PAPER, PART, RIVALS
from subsetscan.lab.subjects import registry as subjects_module
from subsetscan.lab.subjects.subject import CHOOSE, REPORT, Subject

pytest.importorskip("jinja2")

N_BACKGROUND = 200  # of a quick run
LAYERS = {"first": 12, "last": 30}


def made_up(name, role, seed):
    """Make a network of two layers: one cause in common, and two kinds of anomalies."""
    rng = np.random.default_rng(seed)

    def rows(n, shift=0.0, scale=1.0):
        found = {}
        for layer, width in LAYERS.items():
            values = rng.normal(size=(n, 1)) + scale * rng.normal(size=(n, width))
            values[:, :3] += shift
            found[layer] = values.astype(np.float32)
        return found

    return Subject(
        name=name,
        source=f"{name}, made up",
        role=role,
        clean=rows(260),
        kinds={"some nodes": rows(30, shift=1.5), "all, a little": rows(25, scale=1.1)},
        inputs={"clean": "usual ones", "some nodes": "three nodes higher", "all, a little": "more noise"},
        layers={layer: f"{layer} layer" for layer in LAYERS},
    )


@pytest.fixture
def made(monkeypatch):
    """Put two made-up networks in the place of the real ones, and count how often each is made."""
    counts = dict.fromkeys(("tuned", "aside"), 0)

    def maker(name, role, shift):
        def make(seed, *, n_clean, n_kind):
            assert (n_clean, n_kind) == (300, 30)
            counts[name] += 1
            return made_up(name, role, seed + shift)

        return make

    found = {"tuned": maker("tuned", CHOOSE, 1), "aside": maker("aside", REPORT, 2)}
    monkeypatch.setattr(defaults, "SUBJECTS", found)
    return counts


def ran(folder, **options):
    options = {"subjects": ["tuned", "aside"], "quick": True, "progress": False, "say": lambda _: None} | options
    return defaults.defaults(folder, **options)


@pytest.fixture
def out(made, tmp_path):
    ran(tmp_path)
    return tmp_path


def scores_of(method, background, rows):
    """Score plainly: null scores, and those of rows."""
    automatic = AutomaticDetector().fit(background)
    if method == AUTOMATIC:
        return automatic.null_scores_, automatic.anomaly_score(rows)
    if METHODS[method].role == PART:
        part = [name for name, about in METHODS.items() if about.role == PART].index(method)
        return automatic.part_null_scores_[:, part], automatic.part_scores(rows)[:, part]
    if "neighbour" in method:
        k, metric = int(method.split()[0]), "cosine" if "cosine" in method else "euclidean"
        background, rows = background.astype(float), rows.astype(float)
        search = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(background)
        return search.kneighbors()[0][:, -1], search.kneighbors(rows)[0][:, -1]
    made = {
        "Mahalanobis": MahalanobisDetector(),
        "Mahalanobis of ranks": MahalanobisDetector(of="ranks"),
        PAPER: SubsetScanDetector(calibration="leave-one-out"),
    }
    detector = made[method].fit(background)
    return detector.null_scores_, detector.anomaly_score(rows)


def tail(scores, null_scores):
    """Compute p-values among null scores, with an exponential tail above their 90 % point."""
    n = len(null_scores)
    point = sorted(null_scores)[int(0.9 * n)]
    above = [score - point for score in null_scores if score > point]
    mean = np.mean([min(excess, 8 * np.median(above)) for excess in above])
    return [
        len(above) / (n + 1) * np.exp(-(score - point) / mean)
        if score > point
        else (1 + np.sum(null_scores >= score)) / (n + 1)
        for score in scores
    ]


def test_cells_are_what_detectors_give(out):
    with (out / "defaults" / "cells.csv").open(newline="") as file:
        written = {(row["network"], row["layer"], row["kind"]): row for row in csv.DictReader(file)}
    assert len(written) == 2 * (2 + 3) * 3
    for name, role, seed in (("tuned", CHOOSE, 1), ("aside", REPORT, 2)):
        subject = made_up(name, role, seed)
        for method in METHODS:
            p, p_null = [], []
            found = {}
            for layer in LAYERS:
                background = subject.clean[layer][:N_BACKGROUND]
                sets = {CLEAN: subject.clean[layer][N_BACKGROUND:]} | {
                    k: rows[layer] for k, rows in subject.kinds.items()
                }
                null, own = scores_of(method, background, np.concatenate(list(sets.values())))
                found[layer] = null, own
                p.append(tail(own, null))
                p_null.append([tail(null[[n]], np.delete(null, n))[0] for n in range(len(null))])
            for how, layer in TOGETHER.items():
                own, null = combined(np.array(p).T, np.array(p_null).T, how)
                found[layer] = null, own
            for layer, (null, own) in found.items():
                parts = dict(zip((CLEAN, *subject.kinds), np.split(own, [60, 90]), strict=True))
                for kind, scores in parts.items():
                    row = written[name, layer, kind]
                    assert int(row["n"]) == len(scores)
                    flagged = np.mean([(1 + np.sum(null >= score)) / (N_BACKGROUND + 1) <= 0.05 for score in scores])
                    assert float(row[f"{method}: flagged"]) == pytest.approx(flagged, abs=1e-5), (method, layer, kind)
                    if kind == CLEAN:
                        assert row[f"{method}: AUROC"] == ""
                        continue
                    truth = np.repeat([0, 1], [60, len(scores)])
                    auroc = roc_auc_score(truth, np.concatenate([parts[CLEAN], scores]))
                    assert float(row[f"{method}: AUROC"]) == pytest.approx(auroc, abs=1.1e-5), (method, layer, kind)


def test_tables_are_means_of_the_cells(out):
    text = (out / "defaults.md").read_text()
    cells = read_cells(out / "defaults" / "cells.csv")
    for name in ("tuned", "aside"):
        section = text.partition(f"\n### {name}\n")[2].partition("\n#")[0]
        assert f"{name}, made up" in section
        assert ("Looked at when options were chosen" in section) == (name == "tuned")
        assert "Background: 200 clean inputs; judged on 60 others." in section
        table = [line for line in section.splitlines() if line.startswith("| ")]
        rows = {
            line.split(" | ")[0].strip("| "): line.replace("*", "").strip("| ").split(" | ")[1:] for line in table[2:]
        }
        assert list(rows) == list(METHODS)
        for method, row in rows.items():
            own = [c for c in cells if c.network == name and c.kind != CLEAN]
            layers = [c for c in own if c.layer in LAYERS]
            expected = [f"{np.mean([c.auroc[method] for c in layers]):.3f}"]
            expected.append(f"{np.mean([c.flagged[method] for c in layers]):.1%}")
            expected.append(str(sum(c.auroc[method] < 0.45 for c in layers)))
            for view in TOGETHER.values():
                expected.append(f"{np.mean([c.auroc[method] for c in own if c.layer == view]):.3f}")
                expected.append(f"{np.mean([c.flagged[method] for c in own if c.layer == view]):.1%}")
            assert row == expected
        bold = [line for line in table[2:] if "**" in line]
        highest = max(
            METHODS,
            key=lambda m: np.mean([c.auroc[m] for c in cells if c.network == name and c.layer in LAYERS and c.auroc]),
        )
        assert any(line.startswith(f"| {highest} | **") for line in bold)


def test_goals_and_false_positives(out):
    text = (out / "defaults.md").read_text()
    cells = read_cells(out / "defaults" / "cells.csv")

    def mean(name, method, layers):
        return np.mean([c.auroc[method] for c in cells if c.network == name and c.layer in layers and c.auroc])

    leads = {
        n: mean(n, AUTOMATIC, LAYERS) - max(mean(n, rival, LAYERS) for rival in RIVALS) for n in ("tuned", "aside")
    }
    behind = [f"{name} ({lead:+.3f})" for name, lead in leads.items() if lead <= 0]
    goal = f"| ahead of the best other detector on every network, within a layer | on {2 - len(behind)} of 2"
    assert goal + (f"; not on {', '.join(behind)} | **no** |" if behind else " | yes |") in text
    clean = [c for c in cells if c.kind == CLEAN and c.layer in LAYERS]
    low, high = stats.binom.interval(0.95, 60, 0.05)
    outside = sum(not low <= round(60 * c.flagged[AUTOMATIC]) <= high for c in clean)
    assert f"{outside} of 4 outside" in text
    rates = [c.flagged[AUTOMATIC] for c in clean]
    assert f"| automatic | {np.mean(rates):.1%} | {min(rates):.1%} to {max(rates):.1%} | {outside} of 4 |" in text
    few = [c for c in cells if c.layer in LAYERS and c.auroc]
    assert f"{np.mean([c.auroc[AUTOMATIC] for c in few]):.3f} on average, where " in text  # all have few nodes
    assert "A small version" in text
    assert "## Time" not in text


def test_the_page_is_what_saved_data_give(out, tmp_path):
    results = json.loads((out / "defaults" / "results.json").read_text())
    page_module.write_page(out / "again.md", results, read_cells(out / "defaults" / "cells.csv"), [])
    assert (out / "again.md").read_text() == (out / "defaults.md").read_text()
    write_cells(out / "cells.csv", read_cells(out / "defaults" / "cells.csv"))
    assert (out / "cells.csv").read_text() == (out / "defaults" / "cells.csv").read_text()
    assert str(tmp_path) not in (out / "defaults.md").read_text() + json.dumps(results)


def test_what_is_kept_is_not_made_again(out, made, monkeypatch):
    before = {name: (out / "defaults" / name).read_text() for name in ("cells.csv",)}
    scored = []
    plain = defaults.score_layer
    monkeypatch.setattr(defaults, "score_layer", lambda *rows: scored.append(1) or plain(*rows))
    ran(out)
    assert made == {"tuned": 1, "aside": 1}
    assert not scored
    assert before == {name: (out / "defaults" / name).read_text() for name in before}
    (out / "kept" / "scores" / "aside" / "last.safetensors").write_bytes(b"cut off")
    ran(out)
    assert len(scored) == 1
    ran(out, seed=1, subjects=["aside"])
    assert made == {"tuned": 1, "aside": 2}
    assert len(scored) == 3


def test_a_kept_subject_is_the_same(tmp_path):
    subject = made_up("tuned", CHOOSE, 0)
    first = subjects_module.kept_subject(tmp_path, "tuned", lambda: subject, {"seed": 0})
    again = subjects_module.kept_subject(tmp_path, "tuned", lambda: pytest.fail("made again"), {"seed": 0})
    for kept in (first, again):
        assert (kept.name, kept.source, kept.role) == (subject.name, subject.source, subject.role)
        assert list(kept.inputs.items()) == list(subject.inputs.items())
        assert list(kept.layers.items()) == list(subject.layers.items())
        for kind, rows in {"clean": subject.clean, **subject.kinds}.items():
            own = kept.clean if kind == "clean" else kept.kinds[kind]
            assert all(np.array_equal(own[layer], rows[layer]) for layer in LAYERS)


def test_what_goes_wrong(made, tmp_path, monkeypatch, run):
    def missing(*_, **__):
        raise ModuleNotFoundError("no x.onnx of lost: pip install lost", name="lost")

    monkeypatch.setitem(defaults.SUBJECTS, "tuned", missing)
    earlier = tmp_path / "defaults.md"
    earlier.write_text("earlier")
    with pytest.raises(ModuleNotFoundError, match="tuned cannot be made: no x.onnx .*; --subjects aside leaves it out"):
        ran(tmp_path)
    assert earlier.read_text() == "earlier"  # a run that is refused takes nothing away
    with pytest.raises(ValueError, match="expected some of tuned, aside, got lines"):
        ran(tmp_path, subjects=["lines"])
    monkeypatch.setattr(defaults, "N_QUICK_BACKGROUND", 260)
    with pytest.raises(ValueError, match="aside has 260 clean inputs, where 260 are the background"):
        ran(tmp_path, subjects=["aside"])
    error = run("experiment", "nothing", f"--out={tmp_path}", code=2).err
    assert "'nothing' is not one of 'defaults', 'groups', 'files'" in error
    asked = ["experiment", "defaults", f"--out={tmp_path}", "--quick"]
    assert "expected some of tuned, aside, got nothing" in run(*asked, "--subjects=nothing", code=2).err
    assert "pip install lost" in run(*asked, "--subjects=tuned", code=2).err


def test_the_command(made, tmp_path, run):
    said = json.loads(run("experiment", "defaults", f"--out={tmp_path}", "--quick", "--subjects=aside", "--json").out)
    assert list(said["subjects"]) == ["aside"]
    assert said == json.loads((tmp_path / "defaults" / "results.json").read_text())
    text = (tmp_path / "defaults.md").read_text()
    assert "none of these were looked at" in text
    said = run("experiment", "defaults", f"--out={tmp_path}", "--quick", "--subjects=aside").out
    assert "aside: scores: 0 s" in said
    assert "wrote defaults.md and defaults/" in said


def test_times_are_measured_when_asked_for(made, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "SHAPES", ((5, 60), (80, 50)))
    monkeypatch.setattr(timing.measure, "__defaults__", (timing.SHAPES, 20, timing.DETECTORS))
    ran(tmp_path, times=True)
    times = timing.read_times(tmp_path / "defaults" / "times.csv")
    assert [(one.n_nodes, one.n_background, one.n_new) for one in times] == [(5, 60, 20)] * 3 + [(80, 50, 20)] * 3
    assert [one.detector for one in times] == 2 * list(timing.DETECTORS)
    assert all(one.fit >= 0 and one.score >= 0 for one in times)
    text = (tmp_path / "defaults.md").read_text()
    assert text.count("no slower than scikit-learn's two, 5 nodes x 60 rows") == 2
    assert timing.processor() in text
    ran(tmp_path)
    assert timing.read_times(tmp_path / "defaults" / "times.csv") == times  # they stay
    assert (tmp_path / "defaults.md").read_text().count("## Time") == 1
