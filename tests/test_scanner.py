"""Scanning a model: streamed in batches, the same as by hand."""

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from subsetscan import Background, ModelScanner, SubsetScanDetector, scan
from subsetscan._labels import predicted_labels
from subsetscan.calibration import conformal_p_values, extrapolated_null_p_values, extrapolated_p_values, plan
from subsetscan.combination import COMBINATIONS, combined
from subsetscan.detectors import ClassConditionalDetector, CombinedDetector, SummaryDetector
from subsetscan.spaces import KerasLayers, Pixels, ReconstructionError, Space
from subsetscan.spaces.base import as_rows
from subsetscan.tails import choose_tails


@pytest.mark.parametrize("calibration", ["holdout", "leave-one-out", None])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_streaming_is_fitting_by_hand(autoencoder, images, calibration, batch_size):
    spaces = [KerasLayers(autoencoder), ReconstructionError(autoencoder)]
    detector = SubsetScanDetector(calibration=calibration, false_positive_rate=0.1, random_state=0)
    scanner = ModelScanner(spaces, detector, batch_size=batch_size).fit(images[:60])
    found = scanner.scan(images[60:], return_nodes=True)
    assert scanner.names == ("encode", "pool", "up", "decode", "reconstruction_error") == tuple(found)
    for space in spaces:
        values = space.transform(images)
        for name in space.names:
            alone = SubsetScanDetector(**detector.get_params()).fit(values[name][:60])
            assert np.array_equal(scanner.detectors_[name].null_scores_, alone.null_scores_)
            expected = alone.scan(values[name][60:], return_nodes=True)
            assert np.array_equal(found[name].scores, expected.scores)
            assert np.array_equal(found[name].alphas, expected.alphas)
            assert np.array_equal(found[name].nodes.toarray(), expected.nodes.toarray())
    if calibration:
        p_values = scanner.p_values(images[60:])
        assert np.array_equal(p_values["pool"], scanner.detectors_["pool"].p_values_of(found["pool"].scores))


def test_each_image_passes_once(images):
    class Counting(Space):
        node_shapes = {"counted": (64,)}  # noqa: RUF012
        seen = 0

        def transform(self, images):
            self.seen += len(images)
            return {"counted": np.reshape(images, (len(images), -1))}

    space = Counting()
    ModelScanner(space, SubsetScanDetector(random_state=0, false_positive_rate=0.1), batch_size=16).fit(images)
    assert space.seen == len(images)


def test_spaces_share_the_images_that_calibrate(images):
    np.random.seed(0)  # noqa: NPY002 (what scikit-learn draws from without a random_state)
    scanner = ModelScanner(Pixels((8, 8, 1)), SubsetScanDetector(random_state=5, false_positive_rate=0.1)).fit(images)
    assert scanner.detectors_["pixels"].background_.n_samples == len(plan(90, "holdout", 0.25, 5).background)


def test_images_from_a_file(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.1)
    mapped = ModelScanner(Pixels((8, 8, 1)), detector).fit(np.load(tmp_path / "images.npy", mmap_mode="r"))
    assert mapped.scan(images)["pixels"].scores.tolist() == (
        ModelScanner(Pixels((8, 8, 1)), detector).fit(images).scan(images)["pixels"].scores.tolist()
    )


def test_no_image_is_an_answer(images):
    scanner = ModelScanner(Pixels((8, 8, 1)), SubsetScanDetector(calibration=None)).fit(images)
    assert len(scanner.scan(images[:0])["pixels"]) == 0


def test_save_and_load(images, tmp_path):
    detector = SubsetScanDetector(random_state=0, tail="two-sided", false_positive_rate=0.1)
    scanner = ModelScanner(Pixels((8, 8, 1)), detector).fit(images[:60])
    scanner.save(tmp_path / "saved")
    loaded = ModelScanner.load(tmp_path / "saved", Pixels((8, 8, 1)), batch_size=10)
    assert np.array_equal(loaded.p_values(images)["pixels"], scanner.p_values(images)["pixels"])
    assert loaded.detectors["pixels"].get_params() == detector.get_params()

    with pytest.raises(ValueError, match=r"was saved for spaces with the nodes \{'pixels': 64\}, got \{'pixels': 16\}"):
        ModelScanner.load(tmp_path / "saved", Pixels((4, 4, 1)))
    with pytest.raises(FileNotFoundError, match="holds no saved scanner"):
        ModelScanner.load(tmp_path, Pixels((8, 8, 1)))
    manifest = tmp_path / "saved" / "scanner.json"
    content = json.loads(manifest.read_text())
    for damaged in ("", "[]", json.dumps({**content, "format_version": 99})):
        manifest.write_text(damaged)
        with pytest.raises(ValueError, match=r"scanner\.json is"):
            ModelScanner.load(tmp_path / "saved", Pixels((8, 8, 1)))


def test_what_is_no_scanner(images):
    with pytest.raises(ValueError, match="at least one space"):
        ModelScanner([])
    with pytest.raises(TypeError, match="expected spaces of subsetscan.spaces, got str"):
        ModelScanner(["conv2d_1"])
    with pytest.raises(TypeError, match="expected a SubsetScanDetector or another of subsetscan.detectors, got int"):
        ModelScanner(Pixels((8, 8, 1)), 5)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ModelScanner(Pixels((8, 8, 1)), batch_size=0)
    scanner = ModelScanner(Pixels((8, 8, 1)))
    for ask in (scanner.scan, scanner.p_values):
        with pytest.raises(NotFittedError):
            ask(images)
    with pytest.raises(ValueError, match="needs at least 2 clean inputs, got 1 sample"):
        scanner.fit(images[:1])
    with pytest.raises(ValueError, match=r"each input must have shape \(8, 8, 1\), got \(64,\)"):
        scanner.fit(images.reshape(90, -1))
    holed = images.copy()
    holed[80, 3] = np.nan
    with pytest.raises(ValueError, match="input 80 has NaN or infinite values; it is the first of 1 that have"):
        ModelScanner(Pixels((8, 8, 1)), batch_size=7).fit(holed)
    with pytest.raises(ValueError, match=r"inputs must have a first axis that counts them, got shape \(\)"):
        scanner.fit(np.float32(0))


def test_combined_p_values_are_calibrated_again(autoencoder, images):
    spaces = [KerasLayers(autoencoder, ["encode", "decode"]), ReconstructionError(autoencoder)]
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.1, calibration_fraction=0.5)
    scanner = ModelScanner(spaces, detector).fit(images[:60])
    apart = scanner.p_values(images[60:])
    scores = scanner.anomaly_score(images[60:])
    for combine in COMBINATIONS:
        together = scanner.p_values(images[60:], combine=combine)
        assert together.shape == (30,)
        of = [scanner.detectors_[name].null_scores_ for name in scanner.names]
        few = {"of_few": combine == "min"}
        null = np.column_stack([extrapolated_null_p_values(null_scores, **few) for null_scores in of])
        pairs = zip(scores.values(), of, strict=True)
        own = np.column_stack([extrapolated_p_values(own, null_scores, **few) for own, null_scores in pairs])
        assert np.array_equal(together, conformal_p_values(*combined(own, null, combine)))
        assert np.array_equal(combined(own, null, combine)[0], scanner.anomaly_score(images[60:], combine=combine))
    one = {"decode": scores["decode"]}
    excess = scanner.combined_p_values_of(one, None, "min") - apart["decode"]  # never too small, one step too large
    assert ((excess >= 0) & (excess <= 1 / 31 + 1e-12)).all()
    with pytest.raises(ValueError, match="unknown combination 'max'"):
        scanner.p_values(images, combine="max")
    with pytest.raises(ValueError, match="nothing to combine: scores of encode, decode, reconstruction_error"):
        scanner.combined_p_values_of({}, None, "min")


@pytest.mark.parametrize("calibration", ["holdout", "leave-one-out", None])
@pytest.mark.parametrize("ties", ["upper", "midrank"])
def test_layers_are_scanned_as_one(autoencoder, images, calibration, ties, tmp_path):
    space = KerasLayers(autoencoder, ["encode", "decode"])
    shared = {"calibration": calibration, "random_state": 0, "false_positive_rate": 0.1, "ties": ties}
    detectors = {"encode": SubsetScanDetector(tail="lower", **shared), "decode": SubsetScanDetector(**shared)}
    scanner = ModelScanner(space, detectors, joint=True, batch_size=16).fit(images[:60])
    found = scanner.scan(images[60:])["joint"]
    rows = plan(60, calibration, 0.25, 0).background
    values = space.transform(images)
    p = np.concatenate(
        [
            Background(values[name][rows]).p_values(values[name][60:], detector.tail, ties)
            for name, detector in detectors.items()
        ],
        axis=1,
    )
    expected = scan(p)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.sizes, expected.sizes)
    n_encoded = values["encode"].shape[1]
    first = (p[:, :n_encoded] <= expected.alphas[:, np.newaxis]).sum(axis=1) / expected.sizes
    assert found.shares["encode"] == pytest.approx(first)
    assert sum(found.shares.values()) == pytest.approx(np.ones(30))

    scanner.save(tmp_path)
    loaded = ModelScanner.load(tmp_path, space)
    assert np.array_equal(loaded.scan(images[60:])["joint"].scores, found.scores)
    if calibration:
        assert len(scanner.p_values(images[60:])["joint"]) == 30
        assert np.array_equal(loaded.p_values(images)["joint"], scanner.p_values(images)["joint"])
    if calibration == "leave-one-out":
        own = np.concatenate(
            [Background(values[n][:60]).p_values(values[n][:60], d.tail) for n, d in detectors.items()], 1
        )
        assert len(scanner._joint.null_scores) == len(own)


def test_what_is_not_scanned_as_one(autoencoder):
    space = KerasLayers(autoencoder, ["encode", "decode"])
    for detectors, message in [
        ({"encode": SubsetScanDetector(), "decode": SummaryDetector()}, "decode has SummaryDetector"),
        ({"encode": SubsetScanDetector(), "decode": SubsetScanDetector(scope="all")}, "needs the same statistic"),
        (SubsetScanDetector(ties="range"), 'which ties="range" does not have'),
        ({"encode": SubsetScanDetector()}, "detectors are given for encode; the spaces are encode, decode"),
        (
            {"encode": SubsetScanDetector(), "decode": SubsetScanDetector(calibration=None)},
            "must calibrate on the same inputs",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            ModelScanner(space, detectors, joint=True)


def test_other_detectors_give_p_values(images):
    detector = SummaryDetector(random_state=0, false_positive_rate=0.1)
    scanner = ModelScanner(Pixels((8, 8, 1)), detector, batch_size=7).fit(images[:60])
    alone = SummaryDetector(random_state=0, false_positive_rate=0.1).fit(images[:60].reshape(60, -1))
    assert np.array_equal(scanner.p_values(images)["pixels"], alone.p_values(images.reshape(90, -1)))
    with pytest.raises(TypeError, match="SummaryDetector of pixels finds no subset: ask for p_values"):
        scanner.scan(images)


def test_classes_have_backgrounds_of_their_own(images, tmp_path):
    labels = np.arange(90) % 2
    images = images + labels[:, np.newaxis, np.newaxis, np.newaxis]
    values = images.reshape(90, -1)
    base = SubsetScanDetector(random_state=0, false_positive_rate=0.2)
    detector = ClassConditionalDetector(base, min_class_size=20)
    alone = ClassConditionalDetector(base, min_class_size=20).fit(values[:60], labels[:60])

    def classify(batch):
        return np.stack([np.mean(batch, axis=(1, 2, 3)) < 1, np.mean(batch, axis=(1, 2, 3)) >= 1], axis=1)

    given = ModelScanner(Pixels((8, 8, 1)), detector, batch_size=7).fit(images[:60], labels[:60])
    predicted = ModelScanner(Pixels((8, 8, 1)), detector, classifier=classify, batch_size=7).fit(images[:60])
    expected = alone.p_values(values, labels)
    assert np.array_equal(given.p_values(images, labels)["pixels"], expected)
    assert np.array_equal(predicted.p_values(images)["pixels"], expected)
    own = predicted.anomaly_score(images)
    p_values = predicted.combined_p_values_of(own, predicted_labels(classify(images)), "min")
    assert np.array_equal(predicted.p_values(images, combine="min"), p_values)
    assert predicted.explain(images[3]).spaces["pixels"].p_value == expected[3]
    found = given.scan(images, labels, return_nodes=True)["pixels"]
    assert np.array_equal(found.nodes.toarray(), alone.scan(values, labels, return_nodes=True).nodes.toarray())

    given.save(tmp_path)
    loaded = ModelScanner.load(tmp_path, Pixels((8, 8, 1)), classifier=classify)
    assert np.array_equal(loaded.p_values(images)["pixels"], expected)

    with pytest.raises(ValueError, match="needs labels, or a classifier that predicts them; got neither"):
        given.p_values(images)
    with pytest.raises(ValueError, match="90 inputs but 89 labels"):
        given.scan(images, labels[1:])
    with pytest.raises(ValueError, match=r"these have fewer: 0 \(19\), 1 \(19\)"):
        ModelScanner(Pixels((8, 8, 1)), detector).fit(images[:38], labels[:38])


def test_your_own_images_calibrate(autoencoder, images):
    space = KerasLayers(autoencoder, ["encode", "decode"])
    scanner = ModelScanner(space, SubsetScanDetector(calibration=None), joint=True).fit(images[:40])
    assert not scanner.is_calibrated
    with pytest.raises(ValueError, match="or call calibrate"):
        scanner.p_values(images)
    scanner.calibrate(images[40:60])
    assert scanner.is_calibrated
    assert len(scanner._joint.null_scores) == 20
    p = scanner.p_values(images[60:])
    assert p["joint"].min() >= 1 / 21
    values = space.transform(images)
    alone = SubsetScanDetector(calibration=None).fit(values["encode"][:40]).calibrate(values["encode"][40:60])
    assert np.array_equal(p["encode"], alone.p_values(values["encode"][60:]))


def test_an_explanation_tells_where(images):
    altered = images[70].copy()
    altered[2:4, 5, 0] += 3
    detector = SubsetScanDetector(random_state=0, scope="all", false_positive_rate=0.1)
    scanner = ModelScanner(Pixels((8, 8, 1)), detector).fit(images[:60])
    explanation = scanner.explain(altered)
    space = explanation.spaces["pixels"]
    found = scanner.scan(altered[np.newaxis], return_nodes=True)["pixels"]
    assert np.array_equal(space.nodes, found.mask(0, (8, 8, 1)))
    assert space.nodes[2:4, 5, 0].all()
    assert space.size == found.sizes[0] == space.channels().sum() == space.positions().sum()
    assert space.positions().shape == (8, 8)
    told = explanation.as_dict()["pixels"]
    assert told["n_nodes"] == 64
    assert "pixels" in str(explanation)
    assert explanation.ranked() == ["pixels"]
    leading = scanner.detectors_["pixels"].leading(altered.reshape(1, -1))
    assert np.array_equal(space.leading.ravel(), leading.mask(0, (64,)))
    assert space.is_flagged == (space.p_value <= 0.1)
    assert told["leading_nodes"] == np.flatnonzero(space.leading).tolist()
    assert told["leading_places"] == np.argwhere(space.leading).tolist()
    assert space.of_leading().size == leading.sizes[0] <= space.size
    nodes, counts = scanner.scan(np.stack([altered] * 3), return_nodes=True)["pixels"].frequent_nodes(2)
    assert counts.tolist() == [3, 3]
    assert nodes.tolist() == np.flatnonzero(space.nodes)[:2].tolist()
    with pytest.raises(ValueError, match="the subsets were not kept"):
        scanner.scan(images)["pixels"].frequent_nodes()


def test_tails_are_chosen_on_harmless_alterations(images):
    class Both(Space):
        node_shapes = {"values": (8, 8, 1), "negated": (8, 8, 1)}  # noqa: RUF012

        def transform(self, images):
            return {"values": as_rows(images), "negated": -as_rows(images)}

    assert choose_tails(Both(), images, images + 0.3) == {"values": "upper", "negated": "lower"}
    assert choose_tails(Both(), images, images - 0.3, batch_size=9) == {"values": "lower", "negated": "upper"}
    with pytest.raises(ValueError, match=r"must have one shape, got \(90, 8, 8, 1\) and \(89, 8, 8, 1\)"):
        choose_tails(Both(), images, images[1:])


class Named(Space):
    """A space of a user's own, which returns what it is told."""

    def __init__(self, transform, **node_shapes):
        self.node_shapes = node_shapes or {"own": (64,)}
        self.make = transform

    def transform(self, images):
        return self.make(images)


def test_a_space_is_held_against_what_it_says_of_itself(images):
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.1)
    for made, message in [
        (lambda x: {"other": as_rows(x)}, "Named.transform must return the arrays own, got other"),
        (lambda x: {}, "must return the arrays own, got none"),
        (lambda x: as_rows(x), "must return the arrays own, got ndarray"),
        (lambda x: {"own": as_rows(x), "more": as_rows(x)}, "must return the arrays own, got own, more"),
        (lambda x: {"own": as_rows(x)[:, 1:]}, r"own \(Named\) must have one row an .* 64 nodes, .* got \(68, 63\)"),
        (lambda x: {"own": as_rows(x)[1:]}, r"shape \(68, 64\), got \(67, 64\)"),
        (lambda x: {"own": x}, r"shape \(68, 64\), got \(68, 8, 8, 1\)"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ModelScanner(Named(made), detector).fit(images)
    with pytest.raises(TypeError, match=r"own \(Named\) must be real numbers, got dtype <U1"):
        ModelScanner(Named(lambda x: {"own": np.full(as_rows(x).shape, "a")}), detector).fit(images)
    assert len(ModelScanner(Named(lambda x: {"own": as_rows(x)}), detector).fit(images).p_values(images)["own"]) == 90


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_told_by_image_and_layer(images, bad):
    def holed(x):
        values = as_rows(x).copy()
        values[values[:, 0] > 5, 7] = bad
        return {"first": as_rows(x), "second": values}

    space = Named(holed, first=(64,), second=(8, 8, 1))
    for row in (3, 50, 89):
        marked = images.copy()
        marked[row, 0, 0] = 6
        message = f"1 inputs have NaN or infinite values in second, the first is input {row}, node 7: {bad}"
        scanner = ModelScanner(space, SubsetScanDetector(random_state=0, false_positive_rate=0.1), batch_size=7)
        with pytest.raises(ValueError, match=message):
            scanner.fit(marked)
        scanner.fit(images)
        for ask in (scanner.scan, scanner.p_values, scanner.calibrate):
            with pytest.raises(ValueError, match=message):
                ask(marked)


def test_no_image_reaches_a_space(images):
    def never_empty(x):
        assert len(x)
        return {"own": as_rows(x)}

    labels = np.arange(90) % 2
    base = SubsetScanDetector(random_state=0, false_positive_rate=0.2)
    for detector in (base, SummaryDetector(false_positive_rate=0.2), ClassConditionalDetector(base, min_class_size=2)):
        scanner = ModelScanner(Named(never_empty), detector, joint=detector is base).fit(images, labels)
        p_values = scanner.p_values(images[:0], labels[:0])
        assert {name: p.shape for name, p in p_values.items()} == dict.fromkeys(p_values, (0,))
        assert scanner.p_values(images[:0], labels[:0], combine="min").shape == (0,)
        if detector is base:
            found = scanner.scan(images[:0], return_nodes=True)
            assert found["own"].nodes.shape == (0, 64)
            assert len(found["joint"]) == 0
        with pytest.raises(ValueError, match=r"at least 1 clean input|calibrates the classes"):
            scanner.calibrate(images[:0], labels[:0])


def test_a_calibration_that_fails_changes_nothing(images):
    class Failing(Space):
        node_shapes = {"one": (64,), "two": (64,)}  # noqa: RUF012
        batches = 0

        def transform(self, batch):
            self.batches += 1
            if self.batches == 25:
                raise ValueError("out of order")
            return {"one": as_rows(batch), "two": -as_rows(batch)}

    space = Failing()
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0, false_positive_rate=0.1), joint=True, batch_size=5)
    scanner.fit(images)
    before, space.batches = scanner.p_values(images[:10]), 21
    with pytest.raises(ValueError, match="out of order"):
        scanner.calibrate(images[:60] + 1)
    after = scanner.p_values(images[:10])
    assert {name: p.tolist() for name, p in after.items()} == {name: p.tolist() for name, p in before.items()}
    scanner.calibrate(images[:60] + 1)
    assert scanner.p_values(images[:10])["joint"].tolist() != before["joint"].tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_joint_scans_draw_random_ties_by_the_seed(images, seed):
    coarse = np.round(images * 4)
    detector = SubsetScanDetector(random_state=seed, ties="random", false_positive_rate=0.1)
    scanner = ModelScanner(Pixels((8, 8, 1)), detector, joint=True).fit(coarse[:60])
    found = scanner.scan(coarse[60:])
    assert np.array_equal(found["joint"].scores, found["pixels"].scores)
    other = ModelScanner(Pixels((8, 8, 1)), clone(detector).set_params(random_state=2), joint=True).fit(coarse[:60])
    assert not np.array_equal(found["joint"].scores, other.scan(coarse[60:])["joint"].scores)


def test_a_space_cannot_take_the_name_of_the_joint_scan():
    space = Named(lambda x: {"joint": as_rows(x)}, joint=(64,))
    with pytest.raises(ValueError, match='a space is named "joint", as the joint scan is: give it another name'):
        ModelScanner(space, joint=True)
    assert ModelScanner(space).names == ("joint",)


def test_a_narrower_fit_leaves_no_older_detector(images, tmp_path):
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.1)
    both = Named(lambda x: {"one": as_rows(x), "two": as_rows(x)}, one=(64,), two=(64,))
    ModelScanner(both, detector, joint=True).fit(images).save(tmp_path)
    ModelScanner(Pixels((8, 8, 1)), detector).fit(images).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detector-000.safetensors", "scanner.json"]
    assert ModelScanner.load(tmp_path, Pixels((8, 8, 1))).names == ("pixels",)


@pytest.mark.parametrize(
    ("background", "other", "why"),
    [
        (lambda x: x, lambda x: x * 255, r"range from .* to 2.* \(float32\), the background from 0.* to "),
        (lambda x: x * 255, lambda x: x, r"the background from 0.* to 2.* \(float32\)"),
        (lambda x: x, lambda x: (x * 255).astype(np.uint8), r"\(uint8\), the background from"),
        (lambda x: (x * 255).astype(np.uint8), lambda x: x, r"\(float32\), the background from 0 to 2.* \(uint8\)"),
        (lambda x: x, lambda x: x * 16, r"to 1.* \(float32\), the background from"),
        (lambda x: x, lambda x: (x > 0.5).astype(np.uint8), r"from 0 to 1 \(uint8\), the background from"),
        (lambda x: x, lambda x: 2 * x - 1, r"from -0.* to 0.* \(float32\), the background from 0"),
        (lambda x: (x * 255).astype(np.uint8), lambda x: x * 16, r"the background from 0 to 2.* \(uint8\)"),
    ],
)
def test_images_of_another_scale_are_warned_of(images, tmp_path, background, other, why):
    images = np.clip(np.abs(images), 0, 1).astype(np.float32)
    space, detector = Pixels((8, 8, 1)), SubsetScanDetector(random_state=0, false_positive_rate=0.1)
    scanner = ModelScanner(space, detector, batch_size=16).fit(background(images[:60]))
    scanner.save(tmp_path)
    for one in (scanner, ModelScanner.load(tmp_path, space, batch_size=16)):
        for ask in (one.scan, one.p_values, one.calibrate):
            with pytest.warns(UserWarning, match=f"do not match the background: they .*{why}") as warned:
                ask(other(images))
            assert len(warned) == 1
    scanner.p_values(
        background(images) * (images.mean(axis=(1, 2, 3), keepdims=True) > 0.3)
    )  # dark images are in order


def test_labels_come_from_any_kind_of_classifier(images):
    labels = np.arange(90) % 2
    images = images + labels[:, np.newaxis, np.newaxis, np.newaxis]
    detector = ClassConditionalDetector(SubsetScanDetector(random_state=0, false_positive_rate=0.2), min_class_size=20)
    expected = ModelScanner(Pixels((8, 8, 1)), detector).fit(images, labels).p_values(images, labels)["pixels"]

    def is_bright(batch):
        return np.mean(batch, axis=(1, 2, 3)) > 1

    regression = LogisticRegression().fit(as_rows(images), labels)
    for classifier in (
        lambda batch: is_bright(batch)[:, np.newaxis] * 0.8 + 0.1,  # one column: the probability of class 1
        lambda batch: is_bright(batch)[:, np.newaxis].astype(np.int64),  # one column of labels
        lambda batch: np.where(is_bright(batch), 1.0, 0.0),
        lambda batch: np.stack([~is_bright(batch), is_bright(batch)], axis=1),
        regression,
    ):
        scanner = ModelScanner(Pixels((8, 8, 1)), detector, classifier=classifier, batch_size=7).fit(images)
        assert np.array_equal(scanner.p_values(images)["pixels"], expected)
    with pytest.raises(ValueError, match="outputs are NaN for 90 inputs"):
        ModelScanner(Pixels((8, 8, 1)), detector, classifier=lambda x: np.full((len(x), 1), np.nan)).fit(images)
    outputs = np.linspace(-3, 5.5, 90)
    with pytest.raises(ValueError, match=r"must be probabilities, got -3 to 5.5"):
        ModelScanner(Pixels((8, 8, 1)), detector, classifier=lambda _: outputs).fit(images)
    with pytest.raises(TypeError, match="expected a classifier: a function of inputs"):
        ModelScanner(Pixels((8, 8, 1)), detector, classifier=5)


def test_explanations_tell_positions_from_channels(images):
    shapes = {"dense": (64,), "grid": (8, 8), "image": (4, 4, 4), "volume": (2, 2, 2, 8)}
    space = Named(lambda x: dict.fromkeys(shapes, as_rows(x)), **shapes)
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0, false_positive_rate=0.1)).fit(images[:60])
    altered = images[70].copy()
    altered[2, 3:5] += 5
    told = scanner.explain(altered)
    axes = {"dense": (64, ()), "grid": (0, (8, 8)), "image": (4, (4, 4)), "volume": (8, (2, 2, 2))}
    for name, (n_channels, positions) in axes.items():
        one = told.spaces[name]
        assert one.channels().shape == (n_channels,)
        assert one.positions().shape == positions
        assert one.positions().sum() == one.size
        assert n_channels == 0 or one.channels().sum() == one.size
    content = told.as_dict()
    assert content["dense"]["densest_position"] == []
    assert content["grid"]["channels"] == []
    assert len(content["volume"]["densest_position"]) == 3
    lines = {line.split()[0]: line for line in str(told).splitlines()[2:]}
    assert " node " in lines["dense"]
    assert " position (" in lines["grid"]


@pytest.mark.parametrize("combine", [None, "min", "fisher"])
def test_predictions_are_p_values_at_the_rate(images, combine):
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.2)
    space = Named(lambda x: {"one": as_rows(x), "two": -as_rows(x)}, one=(64,), two=(64,))
    scanner = ModelScanner(space, detector, joint=True).fit(images[:60])
    tested = np.concatenate([images[60:], images[:10] + 1])
    p_values = scanner.p_values(tested, combine=combine)
    flagged, decisions = scanner.predict(tested, combine=combine), scanner.decision_function(tested, combine=combine)
    if combine:
        p_values, flagged, decisions = {"": p_values}, {"": flagged}, {"": decisions}
    assert set(flagged) == set(decisions) == set(p_values)
    for name, p in p_values.items():
        assert np.array_equal(flagged[name] == -1, p <= 0.2)
        assert np.array_equal(decisions[name] < 0, p <= 0.2)
        assert 0 < np.mean(p <= 0.2) < 1


def test_a_pixel_that_no_float32_holds_is_told_by_the_number_of_its_image(images):
    huge = images.astype(np.float64)
    huge[83, 2, 2] = 1e300
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.1)
    with pytest.raises(ValueError, match=r"input 83 has the value 1e\+300, which float32 cannot hold"):
        ModelScanner(Pixels((8, 8, 1)), detector, batch_size=7).fit(huge)


def test_channels_of_layers(images):
    keras = pytest.importorskip("keras")
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, name="conv"),
            layers.MaxPooling2D(2, data_format="channels_first", name="first"),
            layers.Reshape((6, 3), name="series"),
            layers.Flatten(name="flat"),
        ]
    )
    space = KerasLayers(model)
    assert {name: space.channel_axis(name) for name in space.names} == {"conv": 2, "first": 0, "series": 0, "flat": 0}
    told = ModelScanner(space, SubsetScanDetector(calibration=None)).fit(images[:40]).explain(images[50] + 1)
    assert [len(told.spaces[name].channels()) for name in space.names] == [3, 6, 6, 18]
    assert [told.spaces[name].positions().shape for name in space.names] == [(6, 6), (3, 1), (3,), ()]


def test_other_weights_are_warned_of(autoencoder, images, tmp_path):
    keras = pytest.importorskip("keras")
    detector = SubsetScanDetector(random_state=0, false_positive_rate=0.1)
    spaces = [KerasLayers(autoencoder, ["encode"]), ReconstructionError(autoencoder)]
    scanner = ModelScanner(spaces, detector).fit(images[:60])
    scanner.save(tmp_path / "fitted")
    autoencoder.save(tmp_path / "model.keras")
    same, other = (keras.models.load_model(tmp_path / "model.keras", compile=False) for _ in range(2))
    loaded = ModelScanner.load(
        tmp_path / "fitted", [KerasLayers(same, ["encode"]), ReconstructionError(same)]
    )  # no warning: they are errors here
    assert np.array_equal(loaded.p_values(images)["encode"], scanner.p_values(images)["encode"])
    last = other.get_layer("decode")
    last.set_weights([weights + 0.25 for weights in last.get_weights()])
    with pytest.warns(UserWarning, match="fitted with another network for reconstruction_error: its weights"):
        ModelScanner.load(tmp_path / "fitted", [KerasLayers(other, ["encode"]), ReconstructionError(other)])
    with pytest.warns(UserWarning, match="fitted with another network for reconstruction_error"):
        ModelScanner.load(
            tmp_path / "fitted", [KerasLayers(same, ["encode"]), ReconstructionError(same, "binary-crossentropy")]
        )
    loaded.save(tmp_path / "again")  # what it was fitted with is kept
    assert (tmp_path / "again" / "scanner.json").read_text() == (tmp_path / "fitted" / "scanner.json").read_text()


def test_weights_that_change_after_the_fit_are_warned_of_once(images):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv")])
    scanner = ModelScanner(KerasLayers(model), SubsetScanDetector(random_state=0, false_positive_rate=0.1)).fit(images)
    scanner.p_values(images)
    model.set_weights([3 * weights for weights in model.get_weights()])
    with pytest.warns(UserWarning, match="the scanner was fitted with another network for conv: its weights"):
        scanner.p_values(images)
    scanner.p_values(images)
    scanner.fit(images).p_values(images)


def test_another_classifier_is_warned_of(images, tmp_path):
    keras = pytest.importorskip("keras")

    def classifier(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])

    base = SubsetScanDetector(calibration="leave-one-out", false_positive_rate=0.3)
    detector = ClassConditionalDetector(base, min_class_size=4)
    first, other = classifier(0), classifier(1)
    ModelScanner(Pixels((8, 8, 1)), detector, classifier=first).fit(images).save(tmp_path)
    ModelScanner.load(tmp_path, Pixels((8, 8, 1)), classifier=first).p_values(images)
    with pytest.warns(UserWarning, match="was fitted with another network for the classifier"):
        ModelScanner.load(tmp_path, Pixels((8, 8, 1)), classifier=other)


def test_few_null_scores_are_warned_of_once(images):
    space = Named(lambda x: {"one": as_rows(x), "two": as_rows(x)}, one=(64,), two=(64,))
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0))
    for ask in (
        lambda: scanner.fit(images[:40]),
        lambda: scanner.predict(images),
        lambda: scanner.calibrate(images[:9]),
    ):
        with pytest.warns(UserWarning, match="null scores cannot give a p-value of at most 0.05") as warned:
            ask()
        assert len(warned) == 1
    with pytest.warns(UserWarning, match="9 null scores cannot give") as warned:
        scanner.predict(images, combine="min")
    assert len(warned) == 1


def test_a_calibration_that_a_warning_ends_changes_nothing(images):
    detector = CombinedDetector([SubsetScanDetector(), SummaryDetector()], random_state=0, false_positive_rate=0.1)
    scanner = ModelScanner(Pixels((8, 8, 1)), detector).fit(images[:60])
    before = scanner.p_values(images)["pixels"]
    with pytest.raises(UserWarning, match="5 null scores cannot give"):
        scanner.calibrate(images[:5])
    assert np.array_equal(scanner.p_values(images)["pixels"], before)


@pytest.mark.parametrize("shapes", [{}, {"own": 24}, {"own": (-4, -6)}, {"own": ()}, None])
def test_node_shapes_that_are_none(shapes):
    space = Named(lambda x: {"own": as_rows(x)})
    space.node_shapes = shapes
    with pytest.raises(ValueError, match="Named.node_shapes must "):
        ModelScanner(space)
