"""Compare `subsetscan.adapters.art.SubsetScanningDetector` with ART's: the scores that both give, and what differs.

    python docs/art/measure.py             # a few minutes for each framework; --report writes the page alone

measures with those of TensorFlow and PyTorch that are installed, writes scores.csv and differences.csv beside itself, where
what was measured with the other one stays, and ../art.md. It lies in a folder of its own: a script named art.py would be
imported in the place of ART.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import itertools
import os
import pickle
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

from subsetscan.lab.markdown import listed, table

HERE = Path(__file__).parent
STATISTICS = ("BerkJones", "HigherCriticism", "KolmarovSmirnov")
LAYERS = ("conv2d_1", "conv2d_2", "dense_1")
N_BACKGROUND, N_SCANNED = 200, 100
EPSILON = 0.05  # of the attack, FGSM
RATE, RATE_LAYER, N_DRAWS, N_CLEAN, N_ATTACKED = 0.05, "max_pooling2d_1", 20, 800, 200
CLEAN_SIZE, ADV_SIZE, RUNS = 5, 5, 200
SCORES = ("classifier", "layer", "statistic", "scores", "largest difference", "largest score", "same flags", "toolbox")
PACKAGE = "adversarial-robustness-toolbox"
DIFFERENCES = ("what", "ART", "here")
WITH_TENSORFLOW, WITH_PYTORCH = (importlib.util.find_spec(name) is not None for name in ("tensorflow", "torch"))
TEXT = """\
# In the place of ART's detector

**Asked.** The Adversarial Robustness Toolbox has a detector that scans one layer, `SubsetScanningDetector`. The one here has its
signatures and attributes. Does it give the same scores, and what is better? Change one import, and keep the rest of the program:

```python
from subsetscan.adapters.art import SubsetScanningDetector  # from art.defences.detector.evasion

detector = SubsetScanningDetector(classifier, bgd_data, layer="dense_1", scoring_function="BerkJones", verbose=False)
clean_scores, adv_scores, auc = detector.scan(clean_x, adv_x)
report, is_adversarial = detector.detect(x)  # report["scores"]
# beyond ART: a rate of false alarms, a seed
SubsetScanningDetector(classifier, bgd_data, "dense_1", false_positive_rate=0.05, random_state=0)
```

**Found.** On the same classifiers the scores of single inputs are those of ART: of {n_scores} scores {differ},
and each decision of `detect` is the same. The largest differences, by classifier, layer and statistic, of scores up to {top}:

{scores}

Where ART is wrong, or stops, each line is what the two classes did with the same call:

{differences}

**For you.** Take it wherever you call ART's: nothing else of the program changes. Give it a `false_positive_rate`: ART's threshold
is the score of one input, and hardly anything exceeds it. Areas for groups are lower than ART's, and to be believed: groups of one
size are compared. Beyond ART's call, a [`ModelScanner`](../README.md) reads several layers in one pass and gives p-values. How fast
the scan is beside ART's is [measured too](performance.md).

**Make it again.** `pip install ".[attacks]"`, then `python docs/art/measure.py`: two minutes, with ART {art}. The
lines of PyTorch come from the same command where PyTorch is installed: after `make test-torch`, `KERAS_BACKEND=torch
.venv-torch/bin/python docs/art/measure.py`. All numbers are in [art/scores.csv](art/scores.csv) and
[art/differences.csv](art/differences.csv); terms in the [glossary](glossary.md). `tests/test_adapter_art.py`
holds the scores against ART's, to 1e-10.

## What was measured on

The classifier is the package's own, of Fashion-MNIST: as it is for Keras, the same layers in a sequential model for TensorFlow, and the
same weights in a sequential module for PyTorch, whose layers are read before their ReLU. The background is {n_background} images; {n_scanned} others
are scanned, and the same attacked by FGSM with an epsilon of {epsilon}.

Thresholds are those of `{rate_layer}` with Berk-Jones, means over {n_draws} draws of the background from {n_clean} images, the rest of which are
the clean ones; {n_attacked} more are attacked. The first lines of the table, up to the passes, are about rows of normal random numbers.
"""


def toolbox(name):
    """Import a part of ART, which warns of the frameworks that are not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"art.{name}")


def both():
    """Return ART's class and ours, by the names of their columns."""
    from subsetscan.adapters.art import SubsetScanningDetector

    return {"ART": toolbox("defences.detector.evasion").SubsetScanningDetector, "here": SubsetScanningDetector}


def quiet(function, *arguments, **options):
    """Call without what Keras prints."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        return function(*arguments, **options)


def of_keras(model):
    """Make ART's classifier of Keras."""
    model.compile(loss="categorical_crossentropy")
    return toolbox("estimators.classification").KerasClassifier(model, clip_values=(0, 1))


def keras_classifier():
    """Make ART's classifier of the functional Keras model."""
    from subsetscan.lab.networks import load_pretrained

    return of_keras(load_pretrained("classifier"))


def of_tensorflow(model):
    """Make ART's classifier of TensorFlow."""
    import keras

    loss = keras.losses.CategoricalCrossentropy()
    kind = toolbox("estimators.classification").TensorFlowV2Classifier
    return kind(model, 10, (28, 28, 1), loss_object=loss, clip_values=(0, 1))


def tensorflow_classifier():
    """Make ART's classifier of TensorFlow of the same layers, in a sequential model."""
    import keras

    from subsetscan.lab.networks import load_pretrained

    return of_tensorflow(keras.Sequential(load_pretrained("classifier").layers))


def pytorch_classifier():
    """Make ART's classifier of a PyTorch module with the same weights."""
    import torch

    from subsetscan.lab.networks import load_pretrained

    trained = load_pretrained("classifier")
    nn = torch.nn
    layers = {
        "conv2d_1": nn.Conv2d(1, 32, 3), "relu_1": nn.ReLU(), "pool_1": nn.MaxPool2d(2),
        "conv2d_2": nn.Conv2d(32, 64, 3), "relu_2": nn.ReLU(), "pool_2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(), "dense_1": nn.Linear(1600, 128), "relu_3": nn.ReLU(), "dense_2": nn.Linear(128, 10),
    }  # fmt: skip
    for name in (*LAYERS, "dense_2"):
        kernel, bias = (torch.from_numpy(np.array(weight)) for weight in trained.get_layer(name).get_weights())
        if name == "dense_1":  # its inputs go by channels first
            kernel = kernel.reshape(5, 5, 64, 128).permute(2, 0, 1, 3).reshape(1600, 128)
        layers[name].weight.data = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T.contiguous()
        layers[name].bias.data = bias
    module = nn.Sequential()
    for name, layer in layers.items():
        module.add_module(name, layer)
    kind = toolbox("estimators.classification").PyTorchClassifier
    return kind(module, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu")


def classifiers():
    """Make the classifiers that the installed frameworks allow, by name."""
    made = {}
    if WITH_TENSORFLOW:
        made |= {"KerasClassifier": keras_classifier(), "TensorFlowV2Classifier": tensorflow_classifier()}
    if WITH_PYTORCH:
        made["PyTorchClassifier"] = pytorch_classifier()
    return made


def images_for(classifier):
    """Load the images, channels where the classifier has them."""
    from subsetscan.lab.datasets import load_sample

    images, _ = load_sample()
    return images.transpose(0, 3, 1, 2).copy() if classifier.channels_first else images


def attacked(classifier, images):
    """Attack images."""
    attack = toolbox("attacks.evasion").FastGradientMethod(classifier, eps=EPSILON)
    return quiet(attack.generate, images)


def compare(name, classifier):
    """Compare the scores of the two, for each layer and statistic."""
    images = images_for(classifier)
    background, clean = images[:N_BACKGROUND], images[N_BACKGROUND : N_BACKGROUND + N_SCANNED]
    bad = attacked(classifier, clean)
    for layer, statistic in itertools.product(LAYERS, STATISTICS):
        scores, flags = {}, {}
        for column, kind in both().items():
            detector = quiet(kind, classifier, background, layer, statistic, verbose=False)
            *found, _ = quiet(detector.scan, clean, bad)
            report, flags[column] = quiet(detector.detect, bad)
            scores[column] = np.concatenate([detector.bgd_scores, *found, report["scores"]])
        difference = np.abs(scores["ART"] - scores["here"]).max()
        same = np.array_equal(flags["ART"], flags["here"])
        largest = f"{scores['ART'].max():.6g}"
        yield name, layer, statistic, len(scores["ART"]), f"{difference:.2g}", largest, same, version(PACKAGE)


class Given:
    """A classifier whose one layer is its input; it counts what it sees."""

    layer_names = ("inputs",)

    def __init__(self):
        self.n_seen = 0

    def get_activations(self, x, *_, **__):
        """Return the inputs."""
        self.n_seen += len(x)
        return x


def ask(function, *arguments):
    """Return what a function tells, or the error that it raises."""
    try:
        return quiet(function, *arguments)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def flat_scores(kind, rows, shape):
    """Tell whether activations of a shape have the scores of the same values in a row."""
    shaped = rows.reshape(len(rows), *shape)
    found, expected = (kind(Given(), x[:60], 0, verbose=False).detect(x[60:])[0]["scores"] for x in (shaped, rows))
    return "the scores of the same values in a row" if np.array_equal(found, expected) else "other scores"


def score_of(kind, rows, one):
    """Tell the score of one input."""
    return f"the score {kind(Given(), rows, 0, verbose=False).detect(one[np.newaxis])[0]['scores'][0]:.1f}"


def with_value(rows, value):
    """Return a row with that value among its nodes."""
    one = rows[0].copy()
    one[3] = value
    return one


def rates(kind, clean, bad, **options):
    """Tell the shares of clean and attacked inputs that are flagged: means over draws of the background."""
    shares = []
    for seed in range(N_DRAWS):
        order = np.random.default_rng(seed).permutation(len(clean))
        detector = kind(Given(), clean[order[:N_BACKGROUND]], 0, verbose=False, **options)
        shares.append([detector.detect(x)[1].mean() for x in (clean[order[N_BACKGROUND:]], bad)])
    of_clean, of_bad = np.mean(shares, axis=0)
    return f"{of_clean:.1%} of clean images flagged, {of_bad:.1%} of attacked ones"


def groups(kind, rows, **options):
    """Tell the area for groups of clean inputs and of clean inputs again: nothing differs."""
    detector = kind(Given(), rows[:100], 0, verbose=False, **options)
    return f"an area of {detector.scan(rows[100:300], rows[300:], CLEAN_SIZE, ADV_SIZE, RUNS)[2]:.2f}"


def twice(kind, rows, **options):
    """Tell whether two detectors that are made alike give groups the same scores."""
    one, other = (
        kind(Given(), rows[:100], 0, verbose=False, **options).scan(rows[100:300], rows[300:], 5, 5, 10)[0]
        for _ in range(2)
    )
    return "the same scores" if np.array_equal(one, other) else "other scores"


def without_attacked(kind, rows):
    """Tell the area beside no attacked inputs."""
    return f"an area of {kind(Given(), rows[:100], 0, verbose=False).scan(rows[100:], rows[:0])[2]}"


def too_few_clean(kind, rows):
    """Tell how many scores groups have that are larger than the set of clean inputs."""
    scores, _, _ = kind(Given(), rows[:100], 0, verbose=False).scan(rows[100:108], rows[300:], 5, 5, 10)
    return f"{len(scores)} scores"


def seen(kind, rows):
    """Tell how often the background is read."""
    classifier = Given()
    kind(classifier, rows, 0, verbose=False)
    return f"{classifier.n_seen // len(rows)} pass{'es' if classifier.n_seen > len(rows) else ''}"


def detected(kind, classifier, layer, images):
    """Tell that there are scores."""
    scores = kind(classifier, images[:40], layer, verbose=False).detect(images[40:60])[0]["scores"]
    return f"a score for each of {len(scores)} images"


def pickled(kind, classifier, images):
    """Tell whether a pickled detector gives the same scores."""
    detector = kind(classifier, images[:40], "dense_1", verbose=False)
    again = pickle.loads(pickle.dumps(detector))  # noqa: S301 (our own)
    one, other = (one.detect(images[40:60])[0]["scores"] for one in (detector, again))
    return "the same scores after it" if np.array_equal(one, other) else "other scores after it"


def hooks_left(kind, classifier):
    """Tell how many hooks stay in the module."""
    kind(classifier, images_for(classifier)[:40], 0, verbose=False)
    return f"{sum(len(one._forward_hooks) for one in classifier.model.modules())} left"


def differ(made):
    """Make the same calls to both classes: what is asked, what ART does, what ours does."""
    rows = np.random.default_rng(0).normal(size=(500, 30)).astype(np.float32)
    ours = {"here": {"random_state": 0}, "ART": {}}
    calls = {}
    if WITH_TENSORFLOW:
        import keras

        from subsetscan.lab.networks import load_pretrained

        calls = {
            "activations of rank 3": lambda kind, _: flat_scores(kind, rows, (6, 5)),
            "activations of rank 5": lambda kind, _: flat_scores(kind, rows, (5, 1, 3, 2)),
            "an input below the whole background": lambda kind, _: score_of(kind, rows, np.full(30, -9, np.float32)),
            "NaN": lambda kind, _: score_of(kind, rows, with_value(rows, np.nan)),
            "an infinite value": lambda kind, _: score_of(kind, rows, with_value(rows, np.inf)),
            "groups where nothing differs": lambda kind, column: groups(kind, rows, **ours[column]),
            "groups, made twice alike": lambda kind, column: twice(kind, rows, **ours[column]),
            "`scan` without attacked inputs": lambda kind, _: without_attacked(kind, rows),
            "groups of 10 of 8 clean inputs": lambda kind, _: too_few_clean(kind, rows),
            "the attribute `scoring_function`": lambda kind, _: (
                f"a {type(kind(Given(), rows, 0, verbose=False).scoring_function).__name__}"
            ),
            "the background is read in": lambda kind, _: seen(kind, rows),
        }
        classifier = made["KerasClassifier"]
        images = images_for(classifier)
        sets = images[:N_CLEAN], attacked(classifier, images[N_CLEAN : N_CLEAN + N_ATTACKED])
        clean, bad = (quiet(classifier.get_activations, x, RATE_LAYER) for x in sets)
        calls["the threshold"] = lambda kind, _: rates(kind, clean, bad)
        calls[f"the threshold for {RATE:.0%}"] = lambda kind, column: (
            "cannot be asked for" if column == "ART" else rates(kind, clean, bad, false_positive_rate=RATE)
        )
        functional = of_tensorflow(load_pretrained("classifier"))
        base = load_pretrained("classifier")
        nested_input = keras.Input((28, 28, 1))
        nested = keras.Model(nested_input, keras.layers.Dense(10, name="head")(base(nested_input)))
        within = of_keras(nested)
        calls["a functional model of TensorFlowV2Classifier"] = lambda kind, _: detected(
            kind, functional, "conv2d_1", images
        )
        calls["a model within a model"] = lambda kind, _: detected(kind, within, base.name, images)
    for name, classifier in made.items():
        calls[f"pickle, {name}"] = lambda kind, _, classifier=classifier: pickled(
            kind, classifier, images_for(classifier)
        )
    if WITH_PYTORCH:
        calls["hooks in the PyTorch module"] = lambda kind, _: hooks_left(kind, pytorch_classifier())
    for what, call in calls.items():
        # ART's leaves hooks, with which nothing can be pickled any more: ours is first.
        told = {column: ask(call, both()[column], column) for column in ("here", "ART")}
        yield what, told["ART"], told["here"]


def keep(path, header, rows, key):
    """Write rows in the place of those that have the same key; the others stay."""
    kept = {}
    if path.exists():
        with path.open(encoding="utf-8") as file:
            kept = {tuple(row[:key]): row for row in list(csv.reader(file))[1:]}
    kept |= {tuple(map(str, row[:key])): row for row in rows}
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *kept.values()])


def page(scores, differences):
    """Write the page from the rows. Raises ValueError if the decisions are not those of ART."""
    if not all(row["same flags"] == "True" for row in scores):
        raise ValueError("some decisions are not those of ART: the page says that all are")
    cells = {(row["classifier"], row["layer"], row["statistic"]): row["largest difference"] for row in scores}
    lines = [
        [f"`{name}`, `{layer}`", *(cells[name, layer, statistic] for statistic in STATISTICS)]
        for name, layer in dict.fromkeys((row["classifier"], row["layer"]) for row in scores)
    ]
    told = [
        ["`" + one.replace("`", "'") + "`" if "Error: " in one else one for one in map(row.get, DIFFERENCES)]
        for row in differences
    ]
    largest = max((row["largest difference"] for row in scores), key=float)
    return TEXT.format(
        n_scores=f"{sum(int(row['scores']) for row in scores):,}",
        differ=f"none differs by more than {largest}" if float(largest) else "none differs by a single bit",
        top=f"{max(float(row['largest score']) for row in scores):,.0f}",
        scores=table(["classifier, layer", *STATISTICS], lines),
        differences=table(DIFFERENCES, told),
        art=listed(sorted({row["toolbox"] for row in scores})),
        n_background=N_BACKGROUND,
        n_scanned=N_SCANNED,
        epsilon=EPSILON,
        rate_layer=RATE_LAYER,
        n_draws=N_DRAWS,
        n_clean=N_CLEAN,
        n_attacked=N_ATTACKED,
    )


def read(path):
    """Read rows."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="write the page from what was measured before")
    scores, differences = HERE / "scores.csv", HERE / "differences.csv"
    if not parser.parse_args().report:
        made = classifiers()
        keep(scores, SCORES, [row for name, one in made.items() for row in compare(name, one)], 3)
        keep(differences, DIFFERENCES, differ(made), 1)
    HERE.with_suffix(".md").write_text(page(read(scores), read(differences)), encoding="utf-8")


if __name__ == "__main__":
    main()
