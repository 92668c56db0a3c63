"""Inputs in every form give what an array of the same inputs gives; what is none is refused."""

import numpy as np
import pytest

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.detectors import AutomaticDetector, ClassConditionalDetector
from subsetscan.inputs import PictureFolder, as_inputs
from subsetscan.networks import Network
from subsetscan.spaces import Arrays, Layers, Pixels

DETECTORS = {
    "holdout": SubsetScanDetector(random_state=3),
    "leave-one-out": SubsetScanDetector(calibration="leave-one-out"),
    "automatic": AutomaticDetector(random_state=0),
}


@pytest.fixture
def clean(rng):
    return rng.random((150, 4, 3, 1), dtype=np.float32)


@pytest.fixture
def new(rng):
    return rng.random((23, 4, 3, 1), dtype=np.float32) + np.float32(0.2)


def scanned(clean, new, detector, **options):
    scanner = ModelScanner(Pixels((4, 3, 1)), detector, batch_size=64).fit(clean, **options)
    return scanner, scanner.p_values(new)["pixels"], scanner.anomaly_score(new)["pixels"]


def in_batches(array, *sizes):
    ends = np.cumsum(sizes)
    return (part for part in np.split(array, ends) if len(part))


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("sizes", [(1,) * 20, (64, 64), (149,), (7, 80, 3)])
def test_batches_of_any_size_are_one_array(clean, new, name, sizes):
    _, p_values, scores = scanned(clean, new, DETECTORS[name])
    scanner, own_p_values, own_scores = scanned(in_batches(clean, *sizes), new, DETECTORS[name])
    assert np.array_equal(own_p_values, p_values)
    assert np.array_equal(own_scores, scores)
    assert np.array_equal(scanner.p_values(in_batches(new, 1, 5))["pixels"], p_values)
    assert np.array_equal(scanner.scan(in_batches(new, 9))["pixels"].scores, scanner.scan(new)["pixels"].scores)
    own = scanner.calibrate(in_batches(new, 4)).p_values(new)["pixels"]
    assert np.array_equal(own, ModelScannerOf(scanner).calibrate(new).p_values(new)["pixels"])


def ModelScannerOf(scanner):  # noqa: N802 (a copy that is calibrated by itself)
    other = ModelScanner(Pixels((4, 3, 1)), scanner.detector, batch_size=64)
    other.detectors_, other._inputs = scanner.detectors_, scanner._inputs
    return other


def test_the_joint_scan_of_batches(clean, new):
    spaces = [Arrays({"a": (3,), "b": (5,)})]
    rows = clean.reshape(150, 12)[:, :8].astype(np.float64)
    arrays = {"a": rows[:, :3], "b": rows[:, 3:]}
    expected = ModelScanner(spaces, DETECTORS["leave-one-out"], joint=True).fit(arrays).p_values(arrays)
    batches = [{name: array[start : start + 50] for name, array in arrays.items()} for start in (0, 50, 100)]
    found = ModelScanner(spaces, DETECTORS["leave-one-out"], joint=True).fit(iter(batches)).p_values(iter(batches))
    assert found.keys() == {"a", "b", "joint"}
    for name in found:
        assert np.array_equal(found[name], expected[name])


@pytest.mark.parametrize("form", ["pairs", "one-hot", "column", "triples", "given", "classifier"])
def test_labels_of_batches(clean, new, form):
    labels = (clean[:, 0, 0, 0] > 0.5).astype(np.int64)
    detector = ClassConditionalDetector(SubsetScanDetector(false_positive_rate=0.1, random_state=1), min_class_size=20)
    scanner = ModelScanner(Pixels((4, 3, 1)), detector).fit(clean, labels)
    expected = scanner.p_values(new, (new[:, 0, 0, 0] > 0.5).astype(np.int64))["pixels"]

    def pairs(images):
        y = (images[:, 0, 0, 0] > 0.5).astype(np.int64)
        for start in range(0, len(images), 40):
            x, own = images[start : start + 40], y[start : start + 40]
            yield {
                "pairs": (x, own),
                "one-hot": [x, np.eye(2, dtype=np.float32)[own]],
                "column": (x, own[:, np.newaxis]),
                "triples": (x, own, np.ones(len(x))),
                "given": x,
                "classifier": x,
            }[form]

    def classify(images):
        return (images[:, 0, 0, 0] > 0.5).astype(np.int64)

    given = {"labels": labels} if form == "given" else {}
    other = ModelScanner(Pixels((4, 3, 1)), detector, classifier=classify if form == "classifier" else None)
    other.fit(pairs(clean), **given)
    given = {"labels": classify(new)} if form == "given" else {}
    assert np.array_equal(other.p_values(pairs(new), **given)["pixels"], expected)


def test_labels_of_another_number(clean):
    detector = ClassConditionalDetector(SubsetScanDetector(false_positive_rate=0.1, random_state=1), min_class_size=20)
    scanner = ModelScanner(Pixels((4, 3, 1)), detector)
    with pytest.raises(ValueError, match="there are more inputs than the 60 labels"):
        scanner.fit(in_batches(clean, 50, 50), np.arange(60) % 2)
    with pytest.raises(ValueError, match="150 inputs but 151 labels"):
        scanner.fit(in_batches(clean, 50, 50), np.arange(151) % 2)
    with pytest.raises(ValueError, match="needs labels, or a classifier that predicts them; got neither"):
        scanner.fit(in_batches(clean, 50, 50))
    with pytest.raises(ValueError, match="batch 0 has 50 inputs and 49 labels"):
        scanner.fit(iter([(clean[:50], np.zeros(49))]))


def test_targets_that_are_no_labels_are_left_out(clean, new):
    _, expected, _ = scanned(clean, new, DETECTORS["holdout"])
    _, found, _ = scanned(((part, part) for part in in_batches(clean, 30)), new, DETECTORS["holdout"])
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda x: iter([]), "there are no inputs: the iterable gave none"),
        (lambda x: iter([x[:9], x[:9, :3]]), r"batch 1 of the inputs has inputs of shape \(3, 3, 1\) \(float32\)"),
        (lambda x: iter([x[:9], x[:9].astype(np.float64)]), r"shape \(4, 3, 1\) \(float64\) without labels, those bef"),
        (lambda x: iter([(x[:9], np.arange(9)), x[:9]]), "without labels, those before it have .* with labels"),
        (lambda x: iter([[x[:9], x[:9], x[:9], x[:9]]]), "batch 0 of the inputs is a list of 4: expected an array"),
        (lambda x: iter([np.float32(3)]), r"batch 0 of the inputs must have a first axis that counts them"),
        (lambda x: iter([{"a": x[:3], "b": x[:4]}]), "the arrays of batch 0 of the inputs must have one row for each"),
        (lambda x: iter([(np.arange(6).reshape(2, 3), np.ones((2, 3), int))]), "a pair of whole numbers, both of shap"),
    ],
)
def test_batches_that_do_not_fit(clean, new, batches, message):
    scanner, expected, _ = scanned(clean, new, DETECTORS["holdout"])
    for call in (scanner.fit, scanner.calibrate, scanner.p_values, scanner.scan):
        with pytest.raises(ValueError, match=message):
            call(batches(clean))
    assert np.array_equal(scanner.p_values(new)["pixels"], expected)


def test_a_generator_that_dies(clean, new):
    scanner, expected, _ = scanned(clean, new, DETECTORS["holdout"])

    def dying():
        yield clean[:50]
        raise OSError("the disk is gone")

    for call in (scanner.fit, scanner.calibrate, scanner.p_values):
        with pytest.raises(OSError, match="the disk is gone") as caught:
            call(dying())
        assert caught.value.__notes__ == ["raised by the iterable of inputs, after 1 batches"]
    assert np.array_equal(scanner.p_values(new)["pixels"], expected)
    spent = iter([new])
    scanner.p_values(spent)
    with pytest.raises(ValueError, match="an iterator can be gone through only once"):
        scanner.p_values(spent)


def test_not_finite_in_a_batch_is_told_by_its_number(clean):
    clean[120, 2] = np.nan
    with pytest.raises(ValueError, match="input 120 has NaN or infinite values; it is the first of 1 that have"):
        scanned(in_batches(clean, 50, 50), clean, DETECTORS["holdout"])


@pytest.mark.parametrize("kind", ["h5py", "zarr", "memmap", "pandas", "polars", "pyarrow", "datasets", "list", "torch"])
def test_arrays_of_other_libraries(clean, new, kind, tmp_path):
    space = Arrays({"x": (12,)})
    rows = clean.reshape(150, 12).astype(np.float64)
    expected = ModelScanner(space, DETECTORS["holdout"], batch_size=32).fit(rows)
    if kind == "memmap":
        np.save(tmp_path / "x.npy", rows)
        given = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "list":
        given = rows.tolist()
    else:
        library = pytest.importorskip(kind)
        if kind == "h5py":
            given = library.File(tmp_path / "x.h5", "w").create_dataset("x", data=rows, chunks=(7, 5))
        elif kind == "zarr":
            given = library.create_array(str(tmp_path / "x.zarr"), data=rows, chunks=(7, 5))
        elif kind == "torch":
            given = library.from_numpy(rows).requires_grad_()
        elif kind == "datasets":
            given = library.Dataset.from_dict({"x": rows.tolist()})
        else:
            columns = {f"c{n}": column for n, column in enumerate(rows.T)}
            given = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table"}[kind]
            given = getattr(library, given)(columns)
    scanner = ModelScanner(space, DETECTORS["holdout"], batch_size=32).fit(given)
    assert np.array_equal(scanner.p_values(given)["x"], expected.p_values(rows)["x"])
    if kind in ("pandas", "polars", "pyarrow"):
        others = given.rename_columns([*"abcdefghijkl"]) if kind == "pyarrow" else given[given.columns[::-1]]
        with pytest.raises(ValueError, match="the columns must be those of the fit, in the same order"):
            scanner.p_values(others)


def test_rows_of_a_file_are_read_in_slices(rng):
    class Slices:
        """What takes slices alone, and counts the rows that were read."""

        shape, dtype, read = (1000, 2), np.dtype(np.float64), 0

        def __getitem__(self, part):
            assert isinstance(part, slice)
            rows = np.arange(2000.0).reshape(1000, 2)[part]
            self.read += len(rows)
            return rows

    stored = Slices()
    inputs = as_inputs(stored)
    for rows in (np.arange(10), np.array([3, 500, 501, 999]), np.flatnonzero(rng.random(1000) < 0.3), np.arange(0)):
        assert inputs[rows][:, 0].tolist() == (2 * rows).tolist()
    assert stored.read < 10 + 4 + 1100


def test_columns_of_embeddings(rng):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    rows = rng.normal(size=(90, 5))
    space, detector = Arrays({"e": (5,)}), DETECTORS["holdout"]
    expected = ModelScanner(space, detector).fit({"e": rows}).p_values({"e": rows})["e"]
    frame = pandas.DataFrame({"text": ["a"] * 90, "e": list(rows)})
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), 5)
    for column in (frame["e"], fixed, pyarrow.array(rows.tolist()), pyarrow.chunked_array([rows.tolist()])):
        assert np.array_equal(ModelScanner(space, detector).fit({"e": column}).p_values({"e": column})["e"], expected)
    assert as_inputs(frame["text"])[:3].tolist() == ["a"] * 3


class Lengths(Network):
    """A network of one's own that takes text or bytes."""

    def layer_names(self):
        return ("counts",)

    def read(self, inputs, names):
        return {"counts": np.array([[len(one), sum(map(int, one.encode() if isinstance(one, str) else one))]
                                    for one in inputs], dtype=np.float32)}  # fmt: skip


@pytest.mark.parametrize("kind", [str, bytes])
def test_text_and_bytes(rng, kind):
    texts = [bytes(rng.integers(0, 128, n % 17).astype(np.uint8)) + b"\0" for n in range(120)]
    texts = [one.decode() for one in texts] if kind is str else texts
    space = Layers(Lengths(), "all")
    assert space.transform(np.array(texts, object))["counts"][:3, 0].tolist() == [1, 2, 3]  # the zero byte counts
    scanner = ModelScanner(space, DETECTORS["holdout"], batch_size=50).fit(texts)
    expected = scanner.p_values(texts)["counts"]
    for given in (iter([texts[:70], texts[70:]]), tuple(texts), np.array(texts, object)):
        if not isinstance(given, tuple):
            assert np.array_equal(scanner.p_values(given)["counts"], expected)
    paired = iter([(texts[:70], np.zeros(70)), (tuple(texts[70:]), np.ones(50))])
    assert np.array_equal(scanner.p_values(paired)["counts"], expected)
    assert scanner.explain(texts[3]).spaces["counts"].p_value == expected[3]
    with pytest.raises(TypeError, match=f"inputs must be all text, or all bytes, but the first are {kind.__name__}"):
        scanner.p_values([*texts[:3], 5])
    with pytest.raises(TypeError, match=f"expected several inputs, got one {kind.__name__}: put it in a list"):
        scanner.p_values(texts[0])


def test_networks_of_several_inputs_take_tuples(rng):
    class Sum(Network):
        def layer_names(self):
            return ("sum",)

        def read(self, inputs, names):
            a, b = inputs
            return {"sum": np.asarray(a + b, np.float32)}

    a, b = rng.normal(size=(2, 90, 4))
    scanner = ModelScanner(Layers(Sum(), "all"), DETECTORS["holdout"], batch_size=32).fit((a, b))
    expected = scanner.p_values((a, b))["sum"]
    batches = (((a[start : start + 20], b[start : start + 20]), np.zeros(len(a[start : start + 20])))
               for start in range(0, 90, 20))  # fmt: skip
    assert np.array_equal(scanner.p_values(batches)["sum"], expected)
    assert scanner.explain((a[5], b[5])).spaces["sum"].p_value == expected[5]
    assert ModelScanner(Layers(Sum(), "all", pool=None), DETECTORS["holdout"]).fit((a, b)).node_shapes == {"sum": (4,)}


def test_what_is_no_input(tmp_path):
    for value, message in [
        (tmp_path, "expected several inputs, got path .*: map an .npy file with numpy.load"),
        (type("Items", (), {"__getitem__": None, "__len__": None})(), "Items gives one item at a time: expected batch"),
    ]:
        with pytest.raises(TypeError, match=message):
            as_inputs(value)
    with pytest.raises(ValueError, match=r"inputs must have one shape, got \(2,\), \(3,\): .*; batches of several"):
        as_inputs([[1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="differ in their number: input 0 2, input 1 3"):
        as_inputs((np.ones(2), np.ones(3)))


def test_pictures_with_channels_first(tmp_path, rng):
    pillow = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (5, 6, 8, 3)).astype(np.uint8)
    for n, picture in enumerate(pixels):
        pillow.fromarray(picture).save(tmp_path / f"{n}.png")
    last, first = PictureFolder(tmp_path, (6, 8, 3)), PictureFolder(tmp_path, (3, 6, 8))
    assert first.shape == (5, 3, 6, 8)
    assert np.array_equal(first[:], np.moveaxis(last[:], -1, 1))
    assert np.array_equal(as_inputs(last)[np.array([1, 4])], pixels[[1, 4]] / np.float32(255))


def test_datasets_of_keras_and_tensorflow(clean, new):
    keras, tf = pytest.importorskip("keras"), pytest.importorskip("tensorflow")

    class Data(keras.utils.PyDataset):
        num_batches = 4

        def __getitem__(self, n):
            return clean[n * 40 : n * 40 + 40], np.zeros(len(clean[n * 40 : n * 40 + 40]))

    _, expected, _ = scanned(clean, new, DETECTORS["holdout"])
    for given in (Data(), tf.data.Dataset.from_tensor_slices(clean).batch(33)):
        assert np.array_equal(scanned(given, new, DETECTORS["holdout"])[1], expected)
    Data.num_batches = None
    with pytest.raises(ValueError, match="the dataset is endless"):
        scanned(Data(), new, DETECTORS["holdout"])


def test_ranges_of_several_inputs_are_watched(rng):
    arrays = {"a": rng.random((90, 4)), "b": rng.random((90, 2))}
    scanner = ModelScanner(Arrays({"a": (4,), "b": (2,)}), DETECTORS["holdout"]).fit(arrays)
    with pytest.warns(UserWarning, match="the values of b do not match the background: they range from .* to 25"):
        scanner.p_values(arrays | {"b": arrays["b"] * 255})


def test_masked_values_are_refused(clean):
    rows = np.ma.masked_array(clean.reshape(150, 12), mask=clean.reshape(150, 12) > 0.9)
    for given in (rows, {"x": rows}):
        with pytest.raises(ValueError, match=f"must not have masked values, got {rows.mask.sum()}: fill them first"):
            ModelScanner(Arrays({"x": (12,)}), DETECTORS["holdout"]).fit(given)
