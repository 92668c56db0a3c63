"""`subsetscan responses`: from models, arrays and folders of pictures to what is written."""

import csv
import json

import numpy as np
import pytest
from rounding import ROUNDS_ALIKE

from subsetscan.calibration import conformal_p_values
from subsetscan.detectors import LocalSpatialEntropy
from subsetscan.inputs import PictureFolder
from subsetscan.lab.preprocessing import PREPROCESSINGS, with_preprocessing
from subsetscan.measures import auroc
from subsetscan.plot import Response
from subsetscan.plot import responses as draw
from subsetscan.spaces import FeatureResponse

pytest.importorskip("typer")
from subsetscan.commands.responses import responses

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")
PIL = pytest.importorskip("PIL.Image")
layers = keras.layers

SHAPE = (12, 10, 3)
WRITTEN = ["entropy.npy", "maps.npy", "responses.png", "scores.csv", "summary.json"]


def classifier(shape=SHAPE, convolutions=2):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape, name="images")
    x = inputs
    for n in range(convolutions):
        x = layers.Conv2D(6, 3, activation="relu", name=f"conv{n + 1}")(x)
    x = layers.Flatten(name="flat")(x) if convolutions else layers.GlobalAveragePooling2D(name="flat")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="classes")(x), name="small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A classifier, its images as arrays, and the same images as pictures."""
    folder = tmp_path_factory.mktemp("responses")
    classifier().save(folder / "model.keras")
    pixels = np.random.default_rng(3).integers(0, 256, (130, *SHAPE), dtype=np.uint8)
    images = pixels.astype(np.float32) / np.float32(255)
    np.save(folder / "images.npy", images[:70])
    np.save(folder / "clean.npy", images[70:])
    np.save(folder / "labels.npy", np.arange(70) % 4)
    (folder / "pictures" / "b").mkdir(parents=True)
    for n, one in enumerate(pixels[:5]):
        PIL.fromarray(one).save(folder / "pictures" / ("b" if n > 2 else "") / f"{n}.{'PNG' if n % 2 else 'png'}")
    (folder / "pictures" / "notes.txt").write_text("not looked at")
    (folder / "pictures" / "._0.png").write_text("not looked at")
    return folder


@pytest.fixture
def go(folder, tmp_path, capsys):
    """Call the function on the files of the folder, and read what it writes."""

    def call(images="images.npy", clean=None, **options):
        out = tmp_path / "out"
        files = {"images": folder / images} | ({} if clean is None else {"clean": folder / clean})
        capsys.readouterr()
        summary = responses(**({"model": folder / "model.keras"} | files | options), out=out, quiet=True)
        assert sorted(path.name for path in out.iterdir()) == WRITTEN
        assert json.loads((out / "summary.json").read_text()) == summary
        assert "responses.png" in capsys.readouterr().out.splitlines()[-1]
        with (out / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        return np.load(out / "maps.npy"), np.load(out / "entropy.npy"), rows, summary

    return call


def of_set(rows, kind, column):
    own = [row for row in rows if row["set"] == kind]
    assert [int(row["index"]) for row in own] == list(range(len(own)))
    return np.array([float(row[column]) for row in own])


@pytest.mark.parametrize(
    ("options", "entropy_options"),
    [
        ({}, {}),
        ({"method": "gradient", "layer": "conv1"}, {"reading": "cooccurrence", "patch": 5, "levels": 8}),
        ({"method": "deconvnet", "target": "top-logit"}, {"reading": "histogram", "normalise": "range"}),
    ],
)
def test_files_hold_what_space_and_detector_give(go, folder, options, entropy_options):
    if entropy_options.get("reading") == "histogram":
        pytest.importorskip("skimage")
    images, clean = np.load(folder / "images.npy"), np.load(folder / "clean.npy")
    space = FeatureResponse(keras.models.load_model(folder / "model.keras"), **options)
    detector = LocalSpatialEntropy(SHAPE, **entropy_options)
    maps = space.responses(images)
    detector.fit(space.responses(clean).reshape(60, -1))

    found, entropy, rows, summary = go(clean="clean.npy", **options, **entropy_options)
    assert (found.dtype, entropy.dtype) == (np.float32, np.float64)
    assert np.array_equal(found, maps)
    assert np.array_equal(entropy, detector.entropy_map(maps))
    assert list(rows[0]) == ["set", "index", "score", "p_value", "flagged"]
    assert len(rows) == 60 + 70
    scores, null_scores = of_set(rows, "images", "score"), of_set(rows, "clean", "score")
    assert np.array_equal(scores, detector.anomaly_score(maps.reshape(70, -1)))
    assert np.array_equal(null_scores, detector.null_scores_)
    assert np.array_equal(of_set(rows, "images", "p_value"), detector.p_values(maps.reshape(70, -1)))
    flagged = detector.predict(maps.reshape(70, -1)) == -1
    assert np.array_equal(of_set(rows, "images", "flagged"), flagged)
    left_out = [conformal_p_values(null_scores[[n]], np.delete(null_scores, n))[0] for n in range(60)]
    assert of_set(rows, "clean", "p_value") == pytest.approx(left_out)
    assert summary["n_images"] == 70
    assert summary["n_clean"] == 60
    assert summary["median_score"] == {"clean": np.median(null_scores), "images": np.median(scores)}
    assert summary["auroc"] == auroc(null_scores, scores).value
    assert summary["auroc_low"] <= summary["auroc"] <= summary["auroc_high"]
    assert summary.items() >= {"method": "guided", "patch": 3, "layer": None, **options, **entropy_options}.items()


def test_without_clean_images_there_are_no_p_values(go):
    _, _, rows, summary = go(shown=1)
    assert {(row["p_value"], row["flagged"]) for row in rows} == {("", "")}
    assert {row["set"] for row in rows} == {"images"}
    assert list(summary["median_score"]) == ["images"]
    assert not {"auroc", "n_clean", "clean"} & set(summary)


@pytest.mark.parametrize("batch_size", [64, 69])
def test_results_do_not_depend_on_the_batch_size(go, batch_size):
    expected, entropy, rows, _ = go(clean="clean.npy")
    found = go(clean="clean.npy", batch_size=batch_size)
    if ROUNDS_ALIKE or batch_size == 64:  # the usual size
        assert np.array_equal(found[0], expected)
        assert np.array_equal(found[1], entropy)
        assert found[2] == rows
    else:
        assert np.allclose(found[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert np.allclose(found[1], entropy, rtol=0, atol=1e-3)


def test_small_batches_change_them_by_rounding(go):
    expected, entropy, *_ = go()
    maps, found, *_ = go(batch_size=3)
    assert np.allclose(maps, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.allclose(found, entropy, rtol=0, atol=1e-3)


def test_labels(go, folder):
    maps, *_ = go(target="true-logit", labels=folder / "labels.npy", batch_size=64)
    space = FeatureResponse(keras.models.load_model(folder / "model.keras"), target="true-logit")
    assert np.array_equal(maps, space.responses(np.load(folder / "images.npy"), np.load(folder / "labels.npy")))


def test_a_folder_is_the_array_of_its_pixels(go, folder, tmp_path):
    images = np.load(folder / "images.npy")[:5]
    assert np.array_equal(PictureFolder(folder / "pictures", SHAPE)[:], images)
    assert np.array_equal(PictureFolder(folder / "pictures" / "0.png", SHAPE)[:], images[:1])
    np.save(tmp_path / "five.npy", images)
    few = r"5 clean images cannot give .* at most 0\.05: the smallest is 1 / \(5 \+ 1\) = 0\.167; give at least 19"
    with pytest.warns(UserWarning, match=few):
        from_folder = go("pictures", clean="pictures", batch_size=64)
    with pytest.warns(UserWarning, match=few):
        from_array = go(tmp_path / "five.npy", clean=tmp_path / "five.npy")
    for one, other in zip(from_folder[:3], from_array[:3], strict=True):
        assert np.array_equal(one, other)


def test_pictures_are_brought_to_the_models_size(tmp_path):
    across = np.repeat(np.linspace(0, 255, 40).astype(np.uint8)[np.newaxis], 30, axis=0)
    PIL.fromarray(across).save(tmp_path / "grey.png")
    PIL.fromarray(across).convert("P").save(tmp_path / "palette.png")
    PIL.fromarray(np.stack([across] * 3, axis=2)).save(tmp_path / "rgb.jpg", quality=100)
    PIL.fromarray(np.stack([across] * 3 + [np.full_like(across, 9)], axis=2)).save(tmp_path / "transparent.PNG")
    pictures = PictureFolder(tmp_path, (6, 8, 3))
    assert [file.name for file in pictures.files] == ["grey.png", "palette.png", "rgb.jpg", "transparent.PNG"]
    assert pictures.shape == (4, 6, 8, 3)
    assert len(pictures[1:3]) == 2
    colours = pictures[:]
    assert colours.dtype == np.float32
    assert np.allclose(colours, ((5 * np.arange(8) + 2) / 39)[:, np.newaxis], atol=0.02)
    assert np.allclose(PictureFolder(tmp_path, (6, 8, 1))[:], colours[..., :1], atol=0.005)
    assert np.array_equal(PictureFolder(tmp_path, (6, 8))[:], PictureFolder(tmp_path, (6, 8, 1))[:][..., 0])


def test_pictures_that_are_none(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of pictures at .*nowhere"):
        PictureFolder(tmp_path / "nowhere", SHAPE)[:]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no pictures \(\.png, \.jpg, \.jpeg\), but no files"):
        PictureFolder(tmp_path / "empty", SHAPE)[:]
    (tmp_path / "gifs" / "in").mkdir(parents=True)
    for name in ("a.gif", "b.webp"):
        (tmp_path / "gifs" / "in" / name).write_text("")
    with pytest.raises(ValueError, match=r"gifs has no pictures .*, but 2 other files, the first is in.a\.gif"):
        PictureFolder(tmp_path / "gifs", SHAPE)[:]
    with pytest.raises(ValueError, match=r"or \(3, H, W\), but it takes \(8, 8, 2\); give it an \.npy file"):
        PictureFolder(folder / "pictures", (8, 8, 2))[:]
    with pytest.raises(ValueError, match=r"no fixed size: it takes \(None, None, 3\); give it an \.npy file"):
        PictureFolder(folder / "pictures", (None, None, 3))[:]
    (tmp_path / "text.png").write_text("something else")
    with pytest.raises(ValueError, match=r"text\.png is not a readable PNG or JPEG picture"):
        PictureFolder(tmp_path, SHAPE)[:]
    PIL.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "text.png")
    with pytest.raises(ValueError, match=r"text\.png has more than 8 bits for each channel: save it with 8"):
        PictureFolder(tmp_path, SHAPE)[:]
    whole = (folder / "pictures" / "0.png").read_bytes()
    (tmp_path / "text.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"text\.png is damaged: "):
        PictureFolder(tmp_path, SHAPE)[:]


@pytest.mark.parametrize("mode", PREPROCESSINGS)
def test_preprocessing_is_that_of_keras(mode, rng, tmp_path):
    images = rng.random((2, *SHAPE), dtype=np.float32)
    inputs = keras.Input(SHAPE)
    same = keras.Model(inputs, layers.Identity()(inputs), name="same")
    expected = {"none": images, "0-255": 255 * images}.get(mode)
    if expected is None:
        expected = keras.applications.imagenet_utils.preprocess_input(255 * images, data_format=None, mode=mode)
    found = with_preprocessing(same, mode)
    assert np.allclose(found.predict_on_batch(images), expected, rtol=1e-6, atol=1e-5)
    assert (found is same) == (mode == "none")
    assert not found.trainable_weights
    found.save(tmp_path / "found.keras")
    again = keras.models.load_model(tmp_path / "found.keras")
    assert np.array_equal(again.predict_on_batch(images), found.predict_on_batch(images))


@pytest.mark.parametrize("mode", ["0-255", "tf"])
def test_preprocessing_of_any_number_of_channels(mode, rng):
    images = rng.random((2, 3, 4, 2), dtype=np.float32)
    inputs = keras.Input((3, 4, 2))
    found = with_preprocessing(keras.Model(inputs, layers.Flatten()(inputs)), mode).predict_on_batch(images)
    assert np.allclose(found, (255 * images if mode == "0-255" else 2 * images - 1).reshape(2, -1), rtol=1e-6)


def test_responses_through_a_preprocessing(go, folder):
    """They are those of the model to the prepared image, carried on through a linear layer."""
    images = np.load(folder / "images.npy")
    model = keras.models.load_model(folder / "model.keras")
    prepared = keras.applications.imagenet_utils.preprocess_input(255 * images, data_format=None, mode="caffe")
    expected = 255 * FeatureResponse(model).responses(prepared)[..., ::-1]
    for layer in (None, "conv2"):
        maps, *_ = go(preprocessing="caffe", layer=layer)
        assert np.allclose(maps, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    prepared = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = FeatureResponse(model, target="top-logit").responses(prepared) / [0.229, 0.224, 0.225]
    maps, *_ = go(preprocessing="torch", target="top-logit")
    assert np.allclose(maps, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_preprocessing_is_no_convolutional_layer():
    wrapped = with_preprocessing(classifier(convolutions=0), "caffe")
    with pytest.raises(ValueError, match="small has no convolutional layer"):
        FeatureResponse(wrapped)
    sequential = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(2, 3, name="own"), layers.Flatten()])
    images = np.random.default_rng(0).random((2, 6, 6, 3))
    found, own = (FeatureResponse(with_preprocessing(sequential, "tf"), layer=name) for name in (None, "own"))
    assert np.array_equal(found.responses(images), own.responses(images))


def test_vgg19(go, tmp_path):
    """From keras.applications, with a folder of pictures that are larger than what it takes."""
    keras.utils.set_random_seed(0)
    keras.applications.VGG19(weights=None, input_shape=(32, 32, 3), classes=10).save(tmp_path / "vgg19.keras")
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for n in range(3):
        PIL.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{n}.png")
    options = {"model": tmp_path / "vgg19.keras", "preprocessing": "caffe", "batch_size": 4}
    maps, entropy, rows, _ = go(tmp_path / "pictures", **options)
    assert maps.shape == (3, 32, 32, 3)
    assert entropy.shape == (3, 32, 32)
    assert len(rows) == 3
    assert np.abs(maps).max() > 0
    assert np.array_equal(go(tmp_path / "pictures", layer="block5_conv4", **options)[0], maps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "nowhere"}, "no file of images at .*nowhere"),
        ({"clean": "none.npy"}, "needs at least 2 clean inputs, got 0 sample"),
        ({"images": "narrow.npy"}, r"each image of .*narrow\.npy must have shape \(12, 10, 3\), got \(12, 5, 3\)"),
        ({"images": "holed.npy"}, "input 66 has NaN or infinite values; it is the first of 1 that have"),
        ({"clean": "one.npy"}, "needs at least 2 clean inputs, got 1 sample"),
        ({"images": "bytes.npy", "preprocessing": "tf"}, r'"tf" expects pixels in \[0, 1\], .* range from 0 to 255'),
        ({"preprocessing": "imagenet"}, "unknown preprocessing 'imagenet'; known are none, 0-255, tf, torch, caffe"),
        ({"preprocessing": "tf", "layer": "conv3"}, "small has no layer 'conv3'; it has 4 layers: conv1, conv2"),
        ({"method": "lrp"}, "unknown method 'lrp'"),
        ({"target": "loss"}, "unknown target 'loss'"),
        ({"reading": "entropy"}, "unknown reading 'entropy'"),
        ({"patch": 4}, "patch must be an odd number"),
        ({"shown": 0}, "shown and batch_size must be at least 1, got 0 and 64"),
        ({"target": "true-logit"}, 'target "true-logit" needs the labels of the images'),
        ({"labels": "labels.npy"}, "only target \"true-logit\" takes labels, got 'activations'"),
        ({"labels": "labels.npy", "clean": "clean.npy", "target": "true-logit"}, "cannot be used with clean images"),
        ({"labels": "images.npy", "target": "true-logit"}, r"images\.npy must hold 70 integers, got float32 of shape"),
        ({"labels": "nowhere.npy", "target": "true-logit"}, "no file of labels at .*nowhere"),
        (
            {"labels": "far.npy", "target": "true-logit"},
            "label 4 of image 68 is not one of the classes 0 to 3",
        ),
        ({"model": "free.keras"}, r"the output of images has no fixed size: \(None, None, 3\)"),
        ({"model": "free.keras", "preprocessing": "tf"}, r"the output of images has no fixed size"),
        ({"model": "grey.keras", "preprocessing": "caffe"}, r'"caffe" is for images .*; small takes \(12, 10, 1\)'),
        ({"model": "nowhere.keras"}, "no model file at"),
    ],
)
def test_what_does_not_fit(folder, tmp_path, options, message):
    images = np.load(folder / "images.npy")
    np.save(folder / "none.npy", images[:0])
    np.save(folder / "one.npy", images[:1])
    np.save(folder / "narrow.npy", images[:, :, :5])
    np.save(folder / "bytes.npy", np.rint(255 * images).astype(np.uint8))
    np.save(folder / "holed.npy", np.where(np.arange(70)[:, None, None, None] == 66, np.nan, images))
    np.save(folder / "far.npy", np.arange(70) // 17)
    classifier((None, None, 3), convolutions=0).save(folder / "free.keras")
    classifier((12, 10, 1)).save(folder / "grey.keras")
    options = {"model": "model.keras", "images": "images.npy", "batch_size": 64} | options
    files = {name: folder / value for name, value in options.items() if name in ("model", "images", "clean", "labels")}
    if options["model"] == "free.keras":
        files["layer"] = "classes"
    with pytest.raises((ValueError, OSError), match=message):
        responses(**options | files, out=tmp_path / "out", quiet=True)
    assert not list(tmp_path.rglob("*.*"))  # nothing, and no part of a file


def test_no_images(go, folder, tmp_path):
    """A header, empty maps, and nothing of an older run, of this command or another that looks at images."""
    np.save(tmp_path / "none.npy", np.load(folder / "images.npy")[:0])
    go()
    for name in ("scores.png", "explanation.json", "explanation-3.png"):
        (tmp_path / "out" / name).write_text("of other images")
    files = {"model": folder / "model.keras", "images": tmp_path / "none.npy"}
    summary = responses(**files, out=tmp_path / "out", quiet=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "entropy.npy", "maps.npy", "scores.csv", "summary.json",
    ]  # fmt: skip
    assert (tmp_path / "out" / "scores.csv").read_text() == "set,index,score,p_value,flagged\n"
    assert np.load(tmp_path / "out" / "maps.npy").shape == (0, *SHAPE)
    assert (summary["n_images"], summary["median_score"]) == (0, {"images": None})
    maps, _, rows, summary = go(tmp_path / "none.npy", clean="clean.npy")
    assert len(maps) == 0
    assert len(rows) == 60
    assert "auroc" not in summary


def test_figure(rng):
    def examples(n, shape=(6, 8, 3)):
        return [(rng.random(shape), rng.normal(size=shape), rng.random(shape[:2]), f"caption {k}") for k in range(n)]

    figure = draw({"clean": examples(3), "fgsm": [Response(*one) for one in examples(2, (6, 8))], "none": []})
    above, below = figure.subfigs
    assert [part.get_suptitle() for part in figure.subfigs] == ["clean", "FGSM"]
    panels = [panel for panel in above.axes if panel.images and panel.get_visible()]
    assert len(panels) == 9
    assert [panel.get_title() for panel in panels[:3]] == ["caption 0", "caption 1", "caption 2"]
    assert sum(panel.get_visible() and len(panel.images) > 0 for panel in below.axes) == 6
    scales = {panel.images[0].get_clim() for part in figure.subfigs for panel in part.axes if panel.images}
    assert len(scales) == 2  # from 0 to 1, and that of all entropy maps
    shown = [(np.full((6, 8, 3), value, np.uint8), np.zeros((6, 8, 3)), np.zeros((6, 8)), "") for value in (51, 255)]
    (part,) = draw({"clean": shown}).subfigs
    dark, light = [np.asarray(panel.images[0].get_array()) for panel in part.axes if panel.images][:2]
    assert (dark == 0.2).all()
    assert (light == 1).all()
    still = np.zeros((6, 8, 1))
    draw({"clean": [(255 + still, still, still[..., 0], "")]}).canvas.draw()
    with pytest.raises(ValueError, match="there are no images to draw"):
        draw({"clean": []})


def test_command(run, folder, tmp_path):
    arguments = [f"--model={folder}/model.keras", f"--images={folder}/images.npy", f"--out={tmp_path}/out"]
    options = ["--method=gradient", "--reading=cooccurrence", "--patch=5", "--layer=conv1", "--shown=2"]
    done = run("responses", *arguments, *options, f"--clean={folder}/clean.npy", "--preprocessing=0-255")
    assert done.err == ""  # no progress bars in files
    assert "AUROC [95 %]" in done.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == WRITTEN
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    expected = {"method": "gradient", "reading": "cooccurrence", "patch": 5, "layer": "conv1", "preprocessing": "0-255"}
    assert summary.items() >= expected.items()
    done = run("responses", *arguments, f"--labels={folder}/labels.npy", "--target=true-logit", "--quiet")
    assert done.err == ""
    done = run("responses", *arguments, "--json")
    assert json.loads(done.out) == json.loads((tmp_path / "out" / "summary.json").read_text())
    done = run("responses", *arguments, f"--clean={tmp_path}/nowhere", "--quiet", code=2)
    assert done.err == f"subsetscan: no file of images at {tmp_path}/nowhere\n"
