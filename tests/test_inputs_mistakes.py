"""Inputs that are nearly right: either they work, or what was received and what would be right is said."""

import io
import struct
import zlib

import numpy as np
import pytest

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.inputs import PictureFolder, one_input
from subsetscan.sequence_scan import SequenceScanner
from subsetscan.spaces import Arrays, Layers, Pixels

ROWS = np.random.default_rng(0).normal(size=(60, 4))
HOLED = [*ROWS[:5].tolist(), None]
BATCHES = r"each element of an iterable is a batch of inputs, .*DataLoader\(dataset, batch_size=64\), .*\.batch\(64\)"
DETECTOR = SubsetScanDetector(false_positive_rate=0.5, random_state=0)


def library(name):
    return pytest.importorskip(name)


def fitted(inputs=ROWS):
    return ModelScanner(Arrays({"x": (4,)}), DETECTOR).fit(inputs)


def frame(rows=ROWS):
    return library("pandas").DataFrame(rows, columns=list("abcd"))


def masked():
    return np.ma.masked_array(ROWS, mask=ROWS > 1)


def nullable(kind, values):
    pandas = library("pandas")
    return pandas.DataFrame({name: pandas.array(values, dtype=kind) for name in "abcd"})


def hdf5(folder, is_open):
    file = library("h5py").File(folder / "x.h5", "w")
    file["x"], file["group/y"] = ROWS, ROWS
    if not is_open:
        file.close()
    return file


def closed_dataset(folder):
    file = hdf5(folder, True)
    dataset = file["x"]
    file.close()
    return dataset


def npz(folder):
    np.savez(folder / "x.npz", x=ROWS, y=ROWS)
    return np.load(folder / "x.npz")


def hugging_face(rows=ROWS.tolist()):  # noqa: B008 (it is not changed)
    return library("datasets").Dataset.from_dict({"x": rows})


MISTAKES = {
    "text": (lambda _: "x.npy", TypeError, r"got one str: put it in a list; if .* read that first: .*numpy.load\(path"),
    "path": (lambda path: path, TypeError, "expected several inputs, got path .*numpy.load"),
    "path by name": (lambda _: {"x": "x.npy"}, TypeError, "expected an array as x, got one str: .*numpy.load"),
    "paths": (lambda _: ["x.npy", "y.npy"], TypeError, "the first that is no number is str '[xy].npy'"),
    "open file": (lambda _: io.BytesIO(b"x"), TypeError, r"got an open file \(BytesIO\): read it first"),
    "nothing": (lambda _: None, TypeError, "expected several inputs, got None"),
    "function": (lambda _: hugging_face, TypeError, "got function hugging_face: call it, and give what it returns"),
    "class": (lambda _: np.ndarray, TypeError, "got the class ndarray: create an instance"),
    "set": (lambda _: {1.0, 2.0}, TypeError, "got a set, which has no order: give a list"),
    "number": (lambda _: 3, ValueError, r"must have a first axis that counts them, got shape \(\) \(int\)"),
    "one input": (lambda _: ROWS[0], ValueError, r"expected 4 nodes an input, shape \(n, 4\), got \([34],\)"),
    "sparse": (lambda _: library("scipy.sparse").csr_matrix(ROWS), TypeError, r"csr_matrix of .* give x.toarray\(\)"),
    "sparse by name": (lambda _: {"x": library("scipy.sparse").coo_array(ROWS)}, TypeError, "as x, got a coo_array"),
    "sparse batch": (lambda _: iter([library("scipy.sparse").csr_matrix(ROWS)]), TypeError, "as batch 0 .* is sparse"),
    "ragged tensor": (
        lambda _: library("tensorflow").ragged.constant([[1.0, 2.0], [3.0]]),
        TypeError,
        r"RaggedTensor: .*to_tensor\(",
    ),
    "nested tensor": (
        lambda _: library("torch").nested.nested_tensor(
            [library("torch").ones(2), library("torch").ones(3)], layout=library("torch").jagged
        ),
        TypeError,
        "got a nested tensor, .*to_padded_tensor",
    ),
    "sparse tensor": (lambda _: library("torch").eye(4).to_sparse(), TypeError, r"sparse_coo\): give x.to_dense\(\)"),
    "ragged list": (lambda _: [np.ones(2), np.ones(3)], ValueError, r"one shape, got \(2,\), \(3,\): pad them to one"),
    "ragged rows": (lambda _: [[[1, 2], [3]], [[1], [2]]], ValueError, "one shape, got list of different shapes"),
    "ragged objects": (lambda _: np.array([np.ones(2), np.ones(3)], object), ValueError, r"got \(2,\), \(3,\): pad"),
    "masked list": (lambda _: list(masked()), ValueError, "number 1 of inputs must not have masked values, got 1"),
    "masked batch": (lambda _: iter([masked()]), ValueError, "batch 0 of the inputs must not have masked values"),
    "complex": (lambda _: ROWS + 1j, TypeError, "got dtype complex128: give real and imaginary parts"),
    "times": (lambda _: np.zeros((3, 4), "M8[s]"), TypeError, r"got dtype datetime64\[s\]: give times as numbers"),
    "spans": (lambda _: np.zeros((3, 4), "m8[s]"), TypeError, r"got dtype timedelta64\[s\]: give times as numbers"),
    "fields": (lambda _: np.zeros(3, "f8, f8"), TypeError, "give its fields as columns, .*structured_to_unstructured"),
    "objects": (lambda _: ROWS.astype(object), TypeError, r"got dtype object: give numbers, as x.astype\(float\)"),
    "missing": (
        lambda _: [[1.0, 2.0, 3.0, None]] * 2,
        TypeError,
        r"the first that is no number is NoneType None at \[3\] of an input",
    ),
    "rows in a tuple": (lambda _: tuple(ROWS), TypeError, "got a tuple of 60 arrays: .* rows of one go in a list"),
    "Int64": (lambda _: nullable("Int64", [1, 2, None]), ValueError, "input 2 has NaN or infinite values"),
    "Float64": (lambda _: nullable("Float64", [1.5, None]), ValueError, "input 1 has NaN or infinite values"),
    "boolean": (
        lambda _: nullable("boolean", [True, None]),
        ValueError,
        "input 1 is null in column 'a' of inputs; it is",
    ),
    "null in pandas": (
        lambda _: library("pandas").Series(HOLED),
        ValueError,
        "input 5 is null in inputs; it is the first of 1",
    ),
    "null in a frame": (
        lambda _: library("pandas").DataFrame({"e": HOLED}),
        ValueError,
        "input 5 is null in column 'e' of inp",
    ),
    "null in polars": (lambda _: library("polars").Series(HOLED), ValueError, "input 5 is null in inputs; it is the"),
    "null in pyarrow": (lambda _: library("pyarrow").array(HOLED), ValueError, "input 5 is null in inputs; it is the"),
    "null in datasets": (lambda _: hugging_face(HOLED), ValueError, "input 5 is null in x; it is the first of 1"),
    "null in a batch": (
        lambda _: iter([ROWS[:9], library("pandas").Series(HOLED)]),
        ValueError,
        "input 14 is null in batch 1 of the inputs",
    ),
    "null in a list": (
        lambda _: [*ROWS[:2], None],
        ValueError,
        "input 2 is null in inputs; it is the first of 1 that are: fill",
    ),
    "lazy": (lambda _: library("polars").DataFrame(ROWS).lazy(), TypeError, r"got a LazyFrame: give x.collect\(\)"),
    "text beside numbers": (
        lambda _: library("pandas").DataFrame({"a": ["t"] * 2, "b": 1, "c": 2, "d": 3}),
        TypeError,
        r"the first that is no number is str 't' at \[0\] of an input",
    ),
    "embeddings beside numbers": (
        lambda _: library("pandas").DataFrame({"e": list(ROWS), "n": 1}),
        ValueError,
        r"column 'e' of inputs holds arrays of shape \(4,\), beside other columns: give it alone, as table\['e'\]",
    ),
    "HDF5 group": (lambda path: hdf5(path, True), TypeError, "as group, got a Group of y: name one of them"),
    "closed HDF5 file": (lambda path: hdf5(path, False), ValueError, "got File of a file that is closed: use it while"),
    "closed HDF5 dataset": (closed_dataset, ValueError, "got Dataset of a file that is closed"),
    "npz": (npz, ValueError, "expected the arrays x, got x, y"),
    "npz inside": (lambda path: {"x": npz(path)}, TypeError, "as x, got a NpzFile of x, y: name one of them"),
    "parts of a dataset": (
        lambda _: library("datasets").DatasetDict(train=hugging_face()),
        TypeError,
        r"of train: .* as x\['train'\]",
    ),
    "streamed column": (lambda _: hugging_face().to_iterable_dataset()["x"], TypeError, "give dataset.select_columns"),
    "one at a time": (lambda _: iter(ROWS), ValueError, rf"taken as inputs \(4,\); {BATCHES}"),
    "one number at a time": (lambda _: iter(ROWS[0]), ValueError, rf"a first axis that counts them, .*; {BATCHES}"),
    "one pair at a time": (lambda _: iter([(ROWS[0], 1)]), ValueError, rf"the labels of batch 0 .*; {BATCHES}"),
    "one text at a time": (
        lambda _: iter(["a", "b"]),
        TypeError,
        "as batch 0 of the inputs, got one str: put it in a li",
    ),
    "dataset without batches": (
        lambda _: library("tensorflow").data.Dataset.from_tensor_slices(ROWS),
        ValueError,
        BATCHES,
    ),
    "two inputs": (lambda _: iter([[ROWS[0], ROWS[1]]]), ValueError, rf"a list of 2, taken as \(x, y\): .*; {BATCHES}"),
    "many inputs": (lambda _: iter([list(ROWS)]), ValueError, r"is a list of 60: .* one array, np.stack\(them\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_nearly_an_input(name, tmp_path):
    make, error, message = MISTAKES[name]
    scanner = fitted()
    expected = scanner.p_values(ROWS)["x"]
    for call in (scanner.fit, scanner.calibrate, scanner.p_values, scanner.scan):
        with pytest.raises(error, match=message):
            call(make(tmp_path))
    assert np.array_equal(scanner.p_values(ROWS)["x"], expected)


def test_one_input_where_several_are_expected():
    for scanner in (fitted(), ModelScanner(Pixels((4,)), DETECTOR).fit(ROWS)):
        with pytest.raises(ValueError, match=r"; for one input use x\[np.newaxis\]$"):
            scanner.p_values(ROWS[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: hugging_face()["x"],
        lambda: hugging_face().with_format("numpy")["x"],
        lambda: frame().astype("Float64"),
        lambda: library("pandas").DataFrame({"e": list(ROWS)}),
        lambda: library("polars").DataFrame({"e": ROWS.tolist()}),
        lambda: library("pyarrow").table({"e": ROWS.tolist()}),
        lambda: np.array([None, *ROWS], object)[1:],
        lambda: library("xarray").DataArray(ROWS),
        lambda: np.ma.masked_array(ROWS),
        lambda: list(library("torch").tensor(ROWS, requires_grad=True)),
    ],
)
def test_what_is_an_array_though_it_does_not_look_it(make):
    assert np.array_equal(fitted().p_values(make())["x"], fitted().p_values(ROWS)["x"])


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("form", ["alone", "pairs", "names"])
def test_columns_of_batches_are_those_of_the_fit(kind, form):
    def table(order, rows=slice(None)):
        columns = {name: ROWS[rows, "abcd".index(name)] for name in order}
        return library("pyarrow").table(columns) if kind == "pyarrow" else library(kind).DataFrame(columns)

    def batches(*orders):
        for k, order in enumerate(orders):
            one = table(order, slice(30 * k, 30 * k + 30))
            yield {"alone": one, "pairs": (one, np.zeros(30)), "names": {"x": one}}[form]

    expected = fitted().p_values(ROWS)["x"]
    scanner = fitted(batches("abcd", "abcd"))
    assert np.array_equal(scanner.p_values(batches("abcd", "abcd"))["x"], expected)
    assert np.array_equal(scanner.p_values(iter([ROWS]))["x"], expected)
    whole = {"x": table("bacd")} if form == "names" else table("bacd")
    where = " in x" if form == "names" else ""
    for call in (scanner.calibrate, scanner.p_values, scanner.scan):
        with pytest.raises(
            ValueError, match=f"must be those of the fit{where}, in the same order, but column 0 is 'b'"
        ):
            call(whole)
        for n, orders in enumerate([("bacd", "abcd"), ("abcd", "bacd")]):
            with pytest.raises(
                ValueError, match=f"batch {n} of the inputs: the columns must be those of the fit{where}"
            ):
                call(batches(*orders))
    with pytest.raises(ValueError, match="batch 1 of the inputs: the columns must be those of the batches before"):
        scanner.fit(batches("abcd", "abdc"))
    assert np.array_equal(scanner.p_values(ROWS)["x"], expected)


def test_one_input_to_explain():
    table = frame()
    scanner = fitted(table)
    expected = scanner.explain(ROWS[3]).spaces["x"]
    polars = library("polars").DataFrame(ROWS, schema=list("abcd"))
    for one in (table.iloc[3], table[3:4], polars[3], ROWS[3].tolist()):
        assert scanner.explain(one).spaces["x"].score == expected.score
    for one, error, message in [
        (table[list("dcba")].iloc[3], ValueError, "the columns must be those of the fit, .* column 0 is 'd'"),
        (polars[list("dcba")][3], ValueError, "the columns must be those of the fit, .* column 0 is 'd'"),
        (ROWS[3:4], ValueError, r"got \(1, 1, 4\); what is explained is one input, without an axis that counts"),
        (["a text"], TypeError, "expected one input, got a list of one text: give the text itself"),
        (np.array(["a text"]), TypeError, "expected one input, got a ndarray of one text"),
        (masked()[1], ValueError, "the input must not have masked values"),
        (None, TypeError, "got None"),
        (library("scipy.sparse").csr_matrix(ROWS[:1]), TypeError, "which is sparse"),
    ]:
        with pytest.raises(error, match=message):
            scanner.explain(one)


def test_one_array_is_not_several_by_name():
    with pytest.raises(TypeError, match="inputs must be one array, got a dict of 1 arrays, x: give the one"):
        ModelScanner(Pixels((4,)), DETECTOR).fit({"x": ROWS})


def test_inputs_that_a_module_does_not_take():
    torch = library("torch")

    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 3)

        def forward(self, x, mask):
            return self.linear(x * mask)

    rows, ones = ROWS.astype(np.float32), np.ones((60, 4), np.float32)
    scanner = ModelScanner(Layers(Masked(), ["linear"]), DETECTOR).fit({"x": rows, "mask": ones})
    for given, told in [
        ({"ids": rows, "mask": ones}, "ids, mask"),
        ({"x": rows}, "x"),
        (rows, "1 by their order"),
        ((rows, ones, ones), "3 by their order"),
    ]:
        with pytest.raises(ValueError, match=f"its forward takes x, mask, got {told}$"):
            scanner.p_values(given)
    with pytest.raises(ValueError, match=r"mat1 and mat2 shapes cannot be multiplied \(60x2 and 4x3\)$"):
        scanner.p_values((rows[:, :2], ones[:, :2]))
    convolution = ModelScanner(Layers(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3)), ["0"]), DETECTOR)
    images = torch.rand(20, 3, 6, 6)
    convolution.fit(images)
    with pytest.raises(ValueError, match=rf"a list of 2, taken as \(x, y\): inputs \(3, 6, 6\).*; {BATCHES}"):
        convolution.p_values(iter([[images[0], images[1]]]))


def test_what_a_layer_gave(rng):
    several = rng.normal(size=(40, 10, 5))
    scanner = SequenceScanner(random_state=0).fit(several)
    expected = scanner.scan(several).score
    turned = np.moveaxis(several, -1, 1)
    for axis in (0, -2):
        other = SequenceScanner(channel_axis=axis, random_state=0).fit(turned)
        assert np.array_equal(other.scan(list(turned)).score, expected)
    for given, error, message in [
        (several[0], ValueError, r"got one array of shape \(10, 5\): for one input give \[x\]"),
        (np.ma.masked_array(several, several > 1), ValueError, "must not have masked values"),
        ([np.ma.masked_array(several[0], several[0] > 1)], ValueError, "input 0 must not have masked values"),
        ({"x": several}, TypeError, r"expected an array \(P, C\) for each input, in a list, got a dict"),
        (frame(), TypeError, "in a list, got a DataFrame"),
        (None, TypeError, "in a list, got None"),
        (3.0, TypeError, "in a list, got a float"),
        ("x.npy", TypeError, "got one str"),
        ([library("scipy.sparse").csr_matrix(several[0])], TypeError, "as input 0, got a csr_matrix"),
    ]:
        for call in (scanner.fit, scanner.scan, scanner.p_values):
            with pytest.raises(error, match=message):
                call(given)
    with pytest.raises(ValueError, match=r"input \d+ has the shape \(10, 5\): no axis 2, which is to count units"):
        SequenceScanner(channel_axis=2).fit(several)
    assert np.array_equal(scanner.scan(several).score, expected)


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_pictures_are_turned_as_they_say(orientation, rng, tmp_path):
    pillow = library("PIL.Image")
    pixels = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    exif = pillow.Exif()
    exif[0x0112] = orientation
    pillow.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    expected = TURNED[orientation](pixels)
    assert np.array_equal(PictureFolder(tmp_path, expected.shape)[:][0], expected / np.float32(255))


def test_pictures_of_other_kinds(rng, tmp_path):
    pillow = library("PIL.Image")
    pixels = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)

    def read(path, shape=(6, 8, 3)):
        return PictureFolder(path, shape)[:][0] * 255

    palette = pillow.fromarray(pixels).quantize(16)
    colours = np.array(palette.getpalette()).reshape(-1, 3)[np.asarray(palette)]
    for name, options in (("palette", {}), ("transparent", {"transparency": bytes([0, 128, *[255] * 14])})):
        palette.save(tmp_path / f"{name}.png", **options)
        assert np.allclose(read(tmp_path / f"{name}.png"), colours)
    pillow.fromarray(np.dstack([pixels, pixels[..., :1]])).save(tmp_path / "alpha.png")
    assert np.allclose(read(tmp_path / "alpha.png"), pixels)
    inks = np.array([10, 200, 30, 40])
    pillow.merge("CMYK", [pillow.new("L", (16, 16), int(ink)) for ink in inks]).save(tmp_path / "cmyk.jpg", quality=95)
    expected = (255 - inks[:3]) * (255 - inks[3]) / 255
    assert np.allclose(read(tmp_path / "cmyk.jpg", (16, 16, 3)), expected, atol=2)

    rows = b"".join(b"\0" + row.tobytes() for row in (pixels.astype(">u2") * 257))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    png = [struct.pack(">I", len(own)) + kind + own + struct.pack(">I", zlib.crc32(kind + own)) for kind, own in chunks]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png))
    first = pillow.fromarray(pixels)
    first.save(tmp_path / "moving.png", save_all=True, append_images=[pillow.fromarray(pixels[::-1])])
    for name, message in [("deep", "has more than 8 bits for each channel"), ("moving", "is animated, of 2 pictures")]:
        with pytest.raises(ValueError, match=rf"{name}\.png {message}"):
            PictureFolder(tmp_path / f"{name}.png", (6, 8, 3))


def test_an_index_of_pandas_is_one_row():
    pandas = pytest.importorskip("pandas")
    assert np.array_equal(one_input(pandas.Index([1.0, 2.0]))[:], [[1.0, 2.0]])
