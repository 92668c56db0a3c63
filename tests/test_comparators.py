"""Other people's detectors against slow, direct computations, over small Keras models."""

import itertools

import numpy as np
import pytest
from rounding import assert_same
from scipy import stats
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from subsetscan.detectors import OutlierDetector
from subsetscan.lab import datasets, networks
from subsetscan.lab.comparators import ClassDensity, FeatureSqueezing, HiddenLayer, MeanValue, PixelStatistic
from subsetscan.lab.comparators.mmd import mmd_power, mmd_test

keras = pytest.importorskip("keras")
pytest.importorskip("art")
layers = keras.layers


def build(shape=(8, 8, 1), end="activation", classes=3):
    """An untrained classifier whose logits are far enough apart that it sees every class."""
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input(shape)
    x = layers.Conv2D(4, 3, activation="relu", name="convolution")(x)
    x = layers.Dense(6, activation="relu", name="hidden")(layers.Flatten(name="flat")(x))
    x = layers.Dropout(0.5, name="dropout")(x)
    if end == "activation":
        x = layers.Dense(classes, activation="softmax", name="logits")(x)
    else:
        x = layers.Dense(classes, name="logits")(x)
        x = layers.Softmax(name="softmax")(x) if end == "layer" else x
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def classifier():
    return build()


def centred(classifier, images):
    """Set the logits' bias so that the classes are about as frequent as each other in these images."""
    kernel, bias = classifier.get_layer("logits").get_weights()
    hidden = keras.Model(classifier.inputs, classifier.get_layer("hidden").output).predict(images, verbose=0)
    classifier.get_layer("logits").set_weights([30 * kernel, bias - 30 * (hidden @ kernel).mean(axis=0)])
    return classifier


def reduced(images, bits):
    levels = 2**bits - 1
    return np.round(np.clip(images, 0, 1).astype(np.float64) * levels) / levels


def median_2(images):
    """The larger of the two middle values of each 2 x 2 window whose lower right pixel it is, the border reflected."""
    padded = np.pad(np.clip(images, 0, 1), [(0, 0), (1, 0), (1, 0), (0, 0)], mode="symmetric")
    result = np.empty_like(images)
    for n, i, j, c in np.ndindex(images.shape):
        result[n, i, j, c] = sorted(padded[n, i : i + 2, j : j + 2, c].ravel())[2]
    return result


def squeezed_by(classifier, images, **options):
    """Score images by feature squeezing."""
    (distances,) = FeatureSqueezing(classifier, **options).transform(images).values()
    return distances[:, 0]


def l1(classifier, images, squeezed):
    first, second = (classifier.predict(array, verbose=0) for array in (images, squeezed))
    return np.array([sum(abs(float(p) - float(q)) for p, q in zip(*rows)) for rows in zip(first, second)])  # noqa: B905


@pytest.mark.parametrize(("shape", "bits"), [((8, 8, 1), 1), ((8, 8, 3), 5)])
@pytest.mark.parametrize("end", ["activation", "layer"])
def test_feature_squeezing_is_the_largest_distance(shape, bits, end, rng):
    images = (1.4 * rng.random((9, *shape)) - 0.2).astype(np.float32)  # as an unclipped attack leaves them
    classifier = centred(build(shape, end), images)
    by_bits = l1(classifier, images, reduced(images, bits))
    by_median = l1(classifier, images, median_2(images))
    expected = np.maximum(by_bits, by_median)
    assert expected.max() > 0.1
    assert squeezed_by(classifier, images) == pytest.approx(expected, abs=1e-5)
    assert squeezed_by(classifier, images, windows=()) == pytest.approx(by_bits, abs=1e-5)
    assert squeezed_by(classifier, images, bit_depths=()) == pytest.approx(by_median, abs=1e-5)
    black = squeezed_by(classifier, images, bit_depths=[], windows=[], others=[np.zeros_like])
    assert black == pytest.approx(l1(classifier, images, 0 * images), abs=1e-5)


def test_feature_squeezing_takes_logits(rng):
    images = rng.random((5, 8, 8, 1), dtype=np.float32)
    with_softmax, without = build(end="activation"), build(end="none")
    assert np.array_equal(squeezed_by(without, images), squeezed_by(with_softmax, images))


def test_feature_squeezing_depends_on_no_other_image(classifier, images):
    space = FeatureSqueezing(classifier)
    (scores,) = space.transform(images).values()
    assert space.node_shapes == {"feature squeezing": (1,)}
    assert scores.shape == (90, 1)
    assert scores.dtype == np.float64
    one_by_one = [space.transform(images[n : n + 1])["feature squeezing"] for n in range(90)]
    assert np.concatenate(one_by_one) == pytest.approx(scores, abs=1e-6)
    assert_same(squeezed_by(classifier, images[::-1]), scores[::-1, 0])
    assert squeezed_by(classifier, images[:0]).shape == (0,)


def exported(classifier, shape, channels_first):
    """The same classifier in ONNX, but for its shape of images."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node, (height, width, channels) = onnx.helper.make_node, shape
    kernel, *others = (np.asarray(one) for one in classifier.get_weights())
    arrays = [np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), *others]
    names = ("kernel", "bias", "dense", "dense_bias", "last", "last_bias")
    nodes = [
        *([] if channels_first else [node("Transpose", ["images"], ["turned"], perm=[0, 3, 1, 2])]),
        node("Conv", ["images" if channels_first else "turned", "kernel", "bias"], ["convolved"]),
        node("Relu", ["convolved"], ["active"]),
        node("Transpose", ["active"], ["back"], perm=[0, 2, 3, 1]),
        node("Flatten", ["back"], ["row"]),
        node("Gemm", ["row", "dense", "dense_bias"], ["hidden"]),
        node("Relu", ["hidden"], ["hidden_active"]),
        node("Gemm", ["hidden_active", "last", "last_bias"], ["logits"]),
        node("Softmax", ["logits"], ["out"]),
    ]
    given = ["n", channels, height, width] if channels_first else ["n", height, width, channels]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [value("images", onnx.TensorProto.FLOAT, given)],
        [value("out", onnx.TensorProto.FLOAT, ["n", arrays[-1].size])],
        [onnx.numpy_helper.from_array(array, name) for name, array in zip(names, arrays, strict=True)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("shape", [(8, 7, 1), (8, 7, 3), (8, 7, 5)])
def test_feature_squeezing_is_the_same_in_onnx(shape, rng):
    images = rng.random((9, *shape), dtype=np.float32)
    turned = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    classifier = centred(build(shape), images)
    expected = squeezed_by(classifier, images)
    assert expected.min() < expected.max()
    assert expected.max() > 0.1
    last, first = exported(classifier, shape, False), exported(classifier, shape, True)
    if shape[2] < 5:
        options = ({}, {})
    else:
        for model, given in ((last, shape), (first, turned.shape[1:])):
            with pytest.raises(
                ValueError, match=f"axis of the images .{str(given)[1:-1]}. of net counts channels cannot"
            ):
                FeatureSqueezing(model)
        options = ({"channel_axis": 2}, {"channel_axis": 0})
    assert squeezed_by(last, images, **options[0]) == pytest.approx(expected, abs=1e-5)
    assert squeezed_by(first, turned, **options[1]) == pytest.approx(expected, abs=1e-5)


def test_which_axis_counts_channels():
    """What the layers of a Keras model say, where the sizes do not say otherwise."""
    for shape, axis in (((9, 7, 8), 2), ((3, 3, 3), 2), ((8, 8, 1), 2)):
        assert FeatureSqueezing(build(shape))._axis == axis
    with pytest.raises(
        ValueError, match=r"axis of the images \(3, 8, 9\) of .* cannot be told: give channel_axis=0 or"
    ):
        FeatureSqueezing(build((3, 8, 9)))
    images = keras.Input((3, 8, 9))
    x = layers.Conv2D(4, 3, data_format="channels_first")(images)
    first = keras.Model(images, layers.Dense(3)(layers.Flatten()(x)))
    assert FeatureSqueezing(first)._axis == 0
    assert FeatureSqueezing(first, channel_axis=2)._axis == 2


def test_feature_squeezing_that_is_none(classifier, images):
    for options, message in (
        ({"bit_depths": [0]}, r"bit_depths must be at least 1, at most 64, got \[0\]"),
        ({"bit_depths": [65]}, r"bit_depths must be at least 1, at most 64, got \[65\]"),
        ({"windows": (2, -1)}, r"windows must be at least 1, got \(2, -1\)"),
        ({"bit_depths": [], "windows": []}, "no squeezers: give at least one of bit_depths, windows and others"),
    ):
        with pytest.raises(ValueError, match=message):
            FeatureSqueezing(classifier, **options)
    with pytest.raises(TypeError, match="expected the path of an .onnx file, got 'classifier.keras'"):
        FeatureSqueezing("classifier.keras")
    with pytest.raises(ValueError, match="channel_axis must be 0 or 2, got 1"):
        FeatureSqueezing(classifier, channel_axis=1)
    flat = keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="softmax")])
    with pytest.raises(ValueError, match=r"expected a classifier of images \(H, W, C\), .* takes \(5,\)"):
        FeatureSqueezing(flat)
    space = FeatureSqueezing(classifier)
    with pytest.raises(ValueError, match=r"pixels must be in \[0, 1\], .* got one of size 255"):
        space.transform(np.full((1, 8, 8, 1), 255))
    with pytest.raises(ValueError, match=r"each input must have shape \(8, 8, 1\), got \(8, 8, 3\)"):
        space.transform(np.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="input 0 has NaN or infinite values; it is the first of 1 that have"):
        space.transform(np.full((1, 8, 8, 1), np.nan))


class Density:
    """The hidden layer and the density of its classes, used together."""

    def __init__(self, classifier, layer=None, **options):
        self.space = HiddenLayer(classifier, layer=layer)
        self.estimator = ClassDensity(self.space.n_classes, **options)

    def fit(self, images):
        (values,) = self.space.transform(images).values()
        self.estimator.fit(values)
        return self

    def score(self, images):
        (values,) = self.space.transform(images).values()
        return -self.estimator.score_samples(values)


def log_density(values, at, bandwidth):
    """Of a Gaussian kernel density, kernel by kernel."""
    return logsumexp([stats.norm.logpdf(at, row, bandwidth).sum() for row in values]) - np.log(len(values))


@pytest.fixture(scope="module")
def seeing():
    """A classifier, 120 images as a background, 20 others, and the hidden values and classes of both."""
    images = np.random.default_rng(5).random((140, 8, 8, 1), dtype=np.float32)
    classifier = centred(build(), images)
    hidden = keras.Model(classifier.inputs, classifier.get_layer("hidden").output).predict(images, verbose=0)
    classes = classifier.predict(images, verbose=0).argmax(axis=1)
    assert np.bincount(classes[:120], minlength=3).min() >= 20
    assert set(classes[120:]) == {0, 1, 2}
    return classifier, images, hidden.astype(np.float64), classes


def test_the_density_is_that_of_the_predicted_class(seeing):
    classifier, images, hidden, classes = seeing
    detector = Density(classifier, bandwidths=[0.4]).fit(images[:120])
    assert detector.estimator.pooled_classes_ == []
    expected = []
    for values, label in zip(hidden[120:], classes[120:], strict=True):
        own = hidden[:120][classes[:120] == label]
        unit = np.sqrt(np.mean([np.var(column) for column in own.T]))
        expected.append(-log_density(own, values, 0.4 * unit))
    assert detector.score(images[120:]) == pytest.approx(expected, rel=1e-5)


def test_the_bandwidth_is_the_likeliest(seeing):
    classifier, images, hidden, _ = seeing
    detector = Density(classifier, min_class_size=120, bandwidths=[0.05, 0.4, 4]).fit(images[:120])
    unit = np.sqrt(hidden[:120].var(axis=0).mean())
    chosen = detector.estimator.densities_[0]["density"].bandwidth / unit
    likelihoods = []
    order = np.random.RandomState(0).permutation(120)
    for bandwidth in (0.05, 0.4, 4):
        likelihoods.append(0)
        for held_out in np.array_split(order, 5):
            kept = np.setdiff1d(order, held_out)
            likelihoods[-1] += sum(log_density(hidden[kept], hidden[n], bandwidth * unit) for n in held_out)
    assert chosen == pytest.approx((0.05, 0.4, 4)[int(np.argmax(likelihoods))], rel=1e-5)
    assert chosen == pytest.approx(0.4, rel=1e-5)  # and so neither end


def test_small_classes_have_the_density_of_all(seeing):
    classifier, images, hidden, classes = seeing
    counts = np.bincount(classes[:120])
    n = int(counts.max())
    detector = Density(classifier, bandwidths=[1], min_class_size=n).fit(images[:120])
    assert detector.estimator.pooled_classes_ == np.flatnonzero(counts < n).tolist() != []
    rows = 120 + np.flatnonzero(np.isin(classes[120:], detector.estimator.pooled_classes_))
    unit = np.sqrt(hidden[:120].var(axis=0).mean())
    expected = [-log_density(hidden[:120], hidden[row], unit) for row in rows]
    assert detector.score(images[rows]) == pytest.approx(expected, rel=1e-5)


def test_the_density_depends_on_no_other_image(seeing):
    classifier, images, _, _ = seeing
    detector = Density(classifier).fit(images[:120])
    scores = detector.score(images)
    assert scores.dtype == np.float64
    one_by_one = [detector.score(images[n : n + 1]) for n in range(140)]
    assert np.concatenate(one_by_one) == pytest.approx(scores, abs=1e-5)
    assert np.array_equal(Density(classifier).fit(images[:120]).score(images), scores)
    assert detector.score(images[:0]).shape == (0,)
    assert detector.score(images[:120]).mean() < detector.score(1 - 2 * images[:120]).mean()


def test_the_hidden_layer(seeing):
    classifier, images, _, _ = seeing
    expected = Density(classifier).fit(images[:120]).score(images)
    for layer in ("hidden", "dropout", classifier.layers.index(classifier.get_layer("hidden"))):
        assert np.array_equal(Density(classifier, layer=layer).fit(images[:120]).score(images), expected)
    assert Density(classifier, layer="convolution", preprocessing=PCA(5, whiten=True)).fit(images).score(
        images
    ).shape == (140,)
    nested = keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1.0), classifier])
    head = keras.Sequential([keras.Input((6,)), layers.Dense(3), layers.Softmax()])
    with_head = keras.Model(classifier.inputs, head(classifier.get_layer("hidden").output))
    head.layers[0].set_weights(classifier.get_layer("logits").get_weights())
    for model in (nested, with_head, keras.Sequential([keras.Input((8, 8, 1)), *classifier.layers[1:]])):
        assert Density(model).fit(images[:120]).score(images) == pytest.approx(expected, rel=1e-4)
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    two = keras.Model(inputs, layers.Add(name="sum")([layers.Dense(3)(x), layers.Dense(3)(x)]))
    with pytest.raises(ValueError, match="sum has no weights and 2 inputs; name the layer"):
        Density(two)
    with pytest.raises(ValueError, match="has no layer 'last'; it has 5 layers: convolution, flat, hidden"):
        Density(classifier, layer="last")


def test_densities_that_are_none(seeing):
    classifier, images, _, _ = seeing
    for options, message in (
        ({"bandwidths": []}, r"bandwidths must be a list of positive numbers, got \[\]"),
        ({"bandwidths": [1, 0]}, r"bandwidths must be a list of positive numbers, got \[1, 0\]"),
        ({"min_class_size": 4}, "min_class_size must be at least 5, the number of folds, got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            Density(classifier, **options).fit(images)
    detector = Density(classifier)
    with pytest.raises(NotFittedError):
        detector.score(images)
    with pytest.raises(ValueError, match=r"expected at least 20 clean inputs \(min_class_size\), got 19"):
        detector.fit(images[:19])
    with pytest.raises(ValueError, match="all 30 background images of .* have the same values in the layer"):
        detector.fit(np.zeros((30, 8, 8, 1)))


def test_the_density_is_calibrated_as_other_estimators(seeing):
    classifier, images, _, _ = seeing
    space = HiddenLayer(classifier)
    (values,) = space.transform(images).values()
    detector = OutlierDetector(ClassDensity(space.n_classes), random_state=0).fit(values)
    plan = detector.plan(len(values))
    alone = Density(classifier).fit(images[plan.background])
    assert np.array_equal(detector.null_scores_, alone.score(images[plan.calibration]))
    assert np.array_equal(space.hidden(images), values[:, :-3].astype(float))


def test_mean_values(rng):
    values = rng.normal(size=(200, 3)).astype(np.float32)
    detector = MeanValue().fit(values)
    assert np.array_equal(detector.null_scores_, values.mean(axis=1, dtype=np.float64))
    assert np.array_equal(detector.anomaly_score(values), detector.null_scores_)
    assert len(MeanValue(calibration=None).fit(values).null_scores_) == 0
    assert len(MeanValue(calibration="holdout", random_state=0).fit(values).null_scores_) == 50


def test_statistics_of_pixels():
    images = np.zeros((3, 2, 2, 1), np.float32)
    images[1, 0, 0] = 0.5
    space = PixelStatistic((2, 2, 1), lambda pixels: (pixels > 0).mean(axis=1), "share of light pixels")
    assert space.transform(images)["share of light pixels"].tolist() == [[0], [0.25], [0]]
    with pytest.raises(ValueError, match=r"each input must have shape \(2, 2, 1\), got \(2, 2\)"):
        space.transform(images[..., 0])


def slow_mmd(x, y):
    """The unbiased squared MMD and its bandwidth, pair by pair."""
    both = [*x, *y]
    bandwidth = np.median([np.sqrt(sum((a - b) ** 2)) for a, b in itertools.combinations(both, 2)])

    def mean(pairs):
        return np.mean([np.exp(-sum((a - b) ** 2) / (2 * bandwidth**2)) for a, b in pairs])

    within = mean(itertools.permutations(x, 2)) + mean(itertools.permutations(y, 2))
    return within - 2 * mean(itertools.product(x, y)), bandwidth


@pytest.mark.parametrize(("m", "n"), [(2, 2), (7, 12), (20, 5)])
def test_mmd_pair_by_pair(m, n, rng):
    x, y = rng.normal(size=(m, 4)), rng.normal(0.5, size=(n, 4))
    result = mmd_test(x, y, n_permutations=20)
    assert (result.statistic, result.bandwidth) == pytest.approx(slow_mmd(x, y), abs=1e-9)
    assert mmd_test(x.reshape(m, 2, 2, 1), y.reshape(n, 2, 2, 1), n_permutations=20) == result


@pytest.mark.parametrize("values", ["continuous", "ties"])
def test_the_p_value_is_that_of_all_divisions(values, rng):
    pooled = rng.normal(size=(7, 2)) if values == "continuous" else rng.integers(0, 2, (7, 2)).astype(float)
    result = mmd_test(pooled[:3], pooled[3:], n_permutations=20_000)
    divisions = [(pooled[list(rows)], np.delete(pooled, rows, axis=0)) for rows in itertools.combinations(range(7), 3)]
    statistics = np.array([slow_mmd(*division)[0] for division in divisions])
    exact = np.mean(statistics >= statistics[0] - 1e-9)
    assert result.p_value == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(20_000))


def test_level_and_power(rng):
    p_values = [mmd_test(*rng.normal(size=(2, 8, 3)), n_permutations=19, seed=n).p_value for n in range(600)]
    # Exactly uniform over 1/20 ... 1: 4 standard errors.
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 600))
    assert np.mean(p_values) == pytest.approx(21 / 40, abs=4 * 0.29 / np.sqrt(600))
    clean, others = rng.normal(size=(2, 3000, 3))
    assert mmd_power(clean, others, 10, n_repeats=400, n_permutations=39) == pytest.approx(0.05, abs=0.045)
    powers = [mmd_power(clean, others + shift, 10, n_repeats=50, n_permutations=39) for shift in (0.5, 1, 3)]
    assert powers == sorted(powers)
    assert powers[-1] == 1
    assert mmd_power(clean, others + 0.5, 60, n_repeats=50, n_permutations=39) > powers[0]
    assert mmd_power(clean, others + 1, 10, n_repeats=50, n_permutations=39) == powers[1]
    assert mmd_power(clean, others + 1, 10, n_repeats=50, n_permutations=39, level=0.2) >= powers[1]


def test_mmd_of_what_is_all_alike():
    assert mmd_test(np.zeros((3, 2)), np.zeros((4, 2))).p_value == 1
    mostly = np.zeros((20, 1))
    mostly[:2] = [[1], [3]]
    assert mmd_test(mostly[:10], mostly[10:]).bandwidth == 2  # of 18 ones, a two and 18 threes


def test_mmds_that_are_none(rng):
    x = rng.normal(size=(5, 3))
    for arguments, message in (
        ((x, x[:, :2]), r"expected two sets of rows of one shape, got \(5, 3\) and \(5, 2\)"),
        ((x[:, 0], x[:, 0]), r"expected two sets of rows of one shape, got \(5,\) and \(5,\)"),
        ((x, x[:0]), "each set needs at least 2 rows, got 5 and 0"),
        ((x, x * np.nan), "it is the first of 5 that have"),
    ):
        with pytest.raises(ValueError, match=message):
            mmd_test(*arguments)
        with pytest.raises(ValueError, match=message):
            mmd_power(*arguments, 2)
    with pytest.raises(ValueError, match="n_permutations must be at least 1, got 0"):
        mmd_test(x, x, n_permutations=0)
    for size in (1, 6):
        with pytest.raises(ValueError, match=f"size must be from 2 to 5, the smaller set, got {size}"):
            mmd_power(x, x, size)
    with pytest.raises(ValueError, match="n_repeats must be at least 1, got 0"):
        mmd_power(x, x, 2, n_repeats=0)
    with pytest.raises(ValueError, match=r"level must be from 0.1, the lowest p-value of 9 permutations, .* got 0.05"):
        mmd_power(x, x, 2, n_permutations=9)


def test_on_the_packaged_classifier():
    """More noise than any of the images has is told from them."""
    images = datasets.load_sample()[0][::20]
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 0.5, images.shape), 0, 1)
    classifier = networks.load_pretrained("classifier")
    density = Density(classifier, min_class_size=50).fit(images)
    assert np.isfinite(density.score(noisy)).all()
    assert squeezed_by(classifier, noisy).mean() > squeezed_by(classifier, images).mean()
    assert mmd_test(images[:50], noisy[50:]).p_value == 0.001
