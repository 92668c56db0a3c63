"""Is the scan worth an import? `subsetscan.adapters.pyod.SubsetScan` beside five detectors of PyOD, all with their default options.

    python docs/pyod/measure.py             # about a minute; --report writes the page alone

writes cells.csv beside itself, and ../pyod.md. It needs the package subsetscan[pyod], and lies in a folder of its own: a
script named pyod.py would be imported in the place of PyOD.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from subsetscan.lab.markdown import listed, table

HERE = Path(__file__).parent
N_DRAWS, N_GENERATED, N_COLUMNS, SHARE = 20, 500, 10, 0.05
GENERATED = ("one cloud", "clusters")
REAL = {"breast cancer": load_breast_cancer, "wine": load_wine, "digits": load_digits}
SETS = (*GENERATED, *REAL)
SCAN, AUTOMATIC = "SubsetScan()", "SubsetScan(detector=AutomaticDetector())"
EVEN = 0.001  # of an area
COLUMNS = ("scaled", "raw")  # each column to a standard deviation of 1, or as it comes
MEASURES = {"ROC AUC": roc_auc_score, "average precision": average_precision_score}
TEXT = """\
# In the place of a detector of PyOD

**Asked.** PyOD's detectors find outliers in rows without labels, with the outliers among them. `SubsetScan` is one of them by its
methods and attributes. How good is it beside others? Change one import, and keep the rest of the program:

```python
from subsetscan.adapters.pyod import SubsetScan as ECOD  # from pyod.models.ecod import ECOD

detector = ECOD(contamination=0.05).fit(X)  # each row is scanned against all the others
detector.labels_, detector.decision_scores_, detector.threshold_
detector.predict(new), detector.predict_proba(new), detector.decision_function(new)
detector.detector_.scan(new, return_nodes=True).nodes  # beyond PyOD: which columns make a row odd
detector.save("detector.safetensors")  # and SubsetScan.load: no pickle, nothing in the file is executed
```

**Found.** Default options throughout; ROC AUC / average precision, means over {n_draws} draws; {percent} of the rows are outliers, and each
column is scaled to a standard deviation of 1, for the sake of those that go by distances:

{scaled}

* {place}
* Beside ECOD, which adds up tails by column, `{scan}` is {scan_beside_ecod}.
* Beside KNN, which goes by distances, it is {scan_beside_knn}.
* `{automatic}` beside `{scan}` is {automatic_beside_scan}.

**For you.** The scan is worth its place where ECOD is: each column tells something by itself, and you want to know which ones did. Where
rows lie in groups, or only many columns together tell, as the pixels of a digit, take KNN or IForest. `AutomaticDetector` is made
for clean rows: with outliers among them keep the default. With clean rows to fit on, use the [detectors themselves](../README.md), which give
p-values. No option was chosen by these numbers.

**Make it again.** `pip install ".[pyod]"`, then `python docs/pyod/measure.py`: about a minute, with PyOD 3.6. All cells are in
[pyod/cells.csv](pyod/cells.csv); terms in the [glossary](glossary.md).

## Columns as they come

{raw}

*One cloud* and *clusters* are PyOD's `generate_data` and `generate_data_clusters`, {n_generated} rows of {n_columns} columns. The other rows come
with scikit-learn: all of one class are the inliers, each class in turn, and rows of another class, drawn by the seed, the outliers.
The scores are `decision_scores_`, those of the rows that were fitted.
"""


def drawn(name, seed):
    """Draw the rows of one set, and which of them are outliers."""
    from pyod.utils.data import generate_data, generate_data_clusters

    if name == "one cloud":
        return generate_data(N_GENERATED, n_features=N_COLUMNS, contamination=SHARE, train_only=True, random_state=seed)
    if name == "clusters":
        options = {"n_features": N_COLUMNS, "contamination": SHARE, "random_state": seed}
        rows, _, labels, _ = generate_data_clusters(N_GENERATED, **options)
        return rows, labels
    rows, classes = REAL[name](return_X_y=True)
    rng = np.random.default_rng(seed)
    inlying, *others = np.roll(np.unique(classes), -seed)
    inliers, outliers = rows[classes == inlying], rows[classes == rng.choice(others)]
    n_outliers = round(SHARE / (1 - SHARE) * len(inliers))
    chosen = rng.choice(len(outliers), n_outliers, replace=False)
    return np.vstack([inliers, outliers[chosen]]), np.repeat([0, 1], [len(inliers), n_outliers])


def detectors(seed):
    """Make the detectors, by name."""
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from pyod.models.lof import LOF

    from subsetscan.adapters.pyod import SubsetScan
    from subsetscan.detectors import AutomaticDetector

    ours = {SCAN: SubsetScan(), AUTOMATIC: SubsetScan(detector=AutomaticDetector())}
    return ours | {"ECOD": ECOD(), "COPOD": COPOD(), "IForest": IForest(random_state=seed), "KNN": KNN(), "LOF": LOF()}


def measure():
    """Measure each detector on each draw of each set."""
    for name in SETS:
        for seed in range(N_DRAWS):
            rows, labels = drawn(name, seed)
            for columns, values in zip(COLUMNS, (StandardScaler().fit_transform(rows), rows), strict=True):
                for detector, made in detectors(seed).items():
                    scores = made.fit(values).decision_scores_
                    judged = (f"{judge(labels, scores):.6f}" for judge in MEASURES.values())
                    yield (name, seed, columns, detector, *judged)


def page(cells):
    """Write the page from the cells."""
    names = list(dict.fromkeys(cell["detector"] for cell in cells))
    found = {}
    for measure in MEASURES:
        for columns in COLUMNS:
            for name in names:
                own = [cell for cell in cells if (cell["detector"], cell["columns"]) == (name, columns)]
                of_sets = [np.mean([float(cell[measure]) for cell in own if cell["rows"] == one]) for one in SETS]
                found[measure, columns, name] = np.array([*of_sets, np.mean(of_sets)])

    def tabled(columns):
        of_all = {name: [found[measure, columns, name] for measure in MEASURES] for name in names}
        lines = [
            [f"`{name}`", *(f"{area:.3f} / {precision:.3f}" for area, precision in zip(*both, strict=True))]
            for name, both in of_all.items()
        ]
        return table(["detector", *SETS, "mean"], lines)

    areas = {name: found["ROC AUC", "scaled", name] for name in names}

    def place(measure):
        means = {name: found[measure, "scaled", name][-1] for name in names}
        ranked = sorted(names, key=means.get, reverse=True)
        ours = (f"`{name}` is number {ranked.index(name) + 1}" for name in (SCAN, AUTOMATIC))
        return f"y the mean {measure}, {' and '.join(ours)} of {len(names)}; the first is `{ranked[0]}`"

    def beside(name, other):
        gains = dict(zip(SETS, (areas[name] - areas[other])[:-1], strict=True))
        sides = {
            "ahead on": [f"{one} ({gain:+.3f})" for one, gain in gains.items() if gain >= EVEN],
            "behind on": [f"{one} ({gain:+.3f})" for one, gain in gains.items() if gain <= -EVEN],
            "even on": [one for one, gain in gains.items() if abs(gain) < EVEN],
        }
        return ", ".join(f"{side} {listed(which)}" for side, which in sides.items() if which)

    return TEXT.format(
        n_draws=N_DRAWS,
        percent=f"{SHARE:.0%}",
        scan=SCAN,
        automatic=AUTOMATIC,
        scaled=tabled("scaled"),
        raw=tabled("raw"),
        place=f"B{'. B'.join(map(place, MEASURES))}.",
        scan_beside_ecod=beside(SCAN, "ECOD"),
        scan_beside_knn=beside(SCAN, "KNN"),
        automatic_beside_scan=beside(AUTOMATIC, SCAN),
        n_generated=N_GENERATED,
        n_columns=N_COLUMNS,
    )


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="write the page from cells.csv")
    path = HERE / "cells.csv"
    if not parser.parse_args().report:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("rows", "draw", "columns", "detector", *MEASURES), *measure()])
    with path.open(encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    HERE.with_suffix(".md").write_text(page(cells), encoding="utf-8")


if __name__ == "__main__":
    main()
