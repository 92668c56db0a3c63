"""The figures of the reproduction: what they draw is what they were given."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from subsetscan import plot
from subsetscan.commands.scanned_sets import ScannedSets
from subsetscan.measures import auroc
from subsetscan.scanning import ScanResult

pytest.importorskip("matplotlib")
from matplotlib.text import Text

from subsetscan.lab.reproduction import paper_figures as paper


@pytest.fixture
def drawn(tmp_path):
    """Check a finished figure as a reader sees it: it can be laid out, and none of its text is small."""

    def check(figure):
        plot.save(figure, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 0
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(sizes) >= 7
        return figure

    return check


def scores(rng, *shifts, n=60):
    return dict(zip(("clean", "bim", "fgsm", "deepfool"), (rng.normal(x, 1, n) for x in shifts), strict=False))


def scikit_learns(clean, attacked):
    return roc_auc_score(np.repeat([0, 1], [len(clean), len(attacked)]), np.concatenate([clean, attacked]))


def used(figure):
    return [panel for panel in figure.axes if panel.axison]


def legend(artist):
    found = artist.legends[0] if hasattr(artist, "legends") else artist.get_legend()
    return [text.get_text() for text in found.get_texts()]


def pictures(panels):
    return [np.asarray(panel.images[0].get_array()) for panel in panels]


def test_densities(rng, drawn):
    panels = {f"layer_{n}": scores(rng, 0, n / 4, 1) for n in range(5)}
    figure = drawn(plot.densities(panels, n_columns=3, captions={"layer_1": "8 filters"}))
    assert len(figure.axes) == 6
    assert len(used(figure)) == 5
    assert legend(figure) == ["clean", "BIM", "FGSM"]
    for panel, (name, sets) in zip(used(figure), panels.items(), strict=True):
        title, quality, caption = panel.get_title().split("\n")
        bim, fgsm = (scikit_learns(sets["clean"], sets[kind]) for kind in ("bim", "fgsm"))
        assert (title, quality) == (name, f"AUROC BIM {bim:.2f}, FGSM {fgsm:.2f}")
        assert caption == ("8 filters" if name == "layer_1" else "")
        outlines = [patch.get_data() for patch in panel.patches if not patch.get_fill()]
        assert len(outlines) == 3
        for heights, edges, _ in outlines:
            assert np.sum(heights * np.diff(edges)) == pytest.approx(1)


def test_densities_keep_their_colours(rng):
    figure = plot.densities({"a": {"bim": rng.random(9), "natural": rng.random(9)}, "b": {"bim": rng.random(9)}},
                             first="natural")  # fmt: skip
    assert legend(figure) == ["natural", "BIM"]
    colours = [patch.get_edgecolor() for panel in figure.axes for patch in panel.patches if not patch.get_fill()]
    assert colours[0] == colours[2] != colours[1]
    assert colours_of_legend(figure)[1][:3] == colours[0][:3]


def colours_of_legend(figure):
    return [patch.get_edgecolor() for patch in figure.legends[0].get_patches()]


@pytest.mark.parametrize(
    ("clean", "bim", "quality"),
    [
        (np.zeros(4), np.zeros(3), "AUROC BIM 0.50"),
        (np.full(4, 0.3), np.full(3, 0.1 + 0.2), "AUROC BIM 1.00"),  # one rounding apart
        (np.full(4, 1e20), np.full(3, 1e20), "AUROC BIM 0.50"),
        (np.array([1.0]), np.array([2.0]), "AUROC BIM 1.00"),
        (np.arange(4.0), np.empty(0), ""),
        (np.empty(0), np.arange(4.0), ""),
        (np.empty(0), np.empty(0), ""),
    ],
)
def test_densities_of_hardly_anything(clean, bim, quality, drawn):
    figure = drawn(plot.densities({"layer": {"clean": clean, "bim": bim}}))
    (panel,) = figure.axes
    assert panel.get_title().splitlines() == ["layer", *filter(None, [quality])]
    assert len(panel.patches) == 2 * sum(len(values) > 0 for values in (clean, bim))
    assert legend(figure) == ["clean", "BIM"]


def test_bins_of_whole_numbers_are_equally_full():
    sizes = np.arange(150)  # bins of equal width that are no multiple of one would hold three or four
    figure = plot.densities({"layer": {"clean": sizes}})
    heights, edges, _ = figure.axes[0].patches[0].get_data()
    assert np.array_equal(np.unique(np.diff(edges)), [7])  # at most 24 bins for 150 images
    assert np.array_equal(np.rint(heights * 7 * 150), [7] * 21 + [3])


def test_scanned_sets_are_drawn(rng, drawn):
    def scan(shift):
        n = 30
        return ScanResult(rng.normal(shift, 1, n), rng.random(n), np.ones(n, dtype=np.int64))

    scans = {"clean": {"a": scan(0), "b": scan(0)}, "bim": {"a": scan(1), "b": scan(2)}}
    figure = drawn(plot.densities(ScannedSets({"a": 5, "b": 6}, scans, None).scores()))
    for panel, space in zip(figure.axes, "ab", strict=True):
        value = scikit_learns(scans["clean"][space].scores, scans["bim"][space].scores)
        assert panel.get_title() == f"{space}\nAUROC BIM {value:.2f}"


def test_subset_shapes(rng, drawn):
    sizes = {"clean": rng.integers(1, 300, 50), "bim": rng.integers(100, 500, 40)}
    alphas = {"clean": rng.random(50) / 2, "bim": np.full(40, 0.5)}
    figure = drawn(paper.subset_shapes(sizes, alphas, scores(rng, 0, 1)))
    assert [panel.get_xlabel() for panel in figure.axes] == [
        "nodes in the subset", "alpha that maximises the score", "score of the subset"
    ]  # fmt: skip
    assert legend(figure) == ["clean", "BIM"]
    left, right = figure.axes[0].get_xlim()
    assert left < min(sizes["clean"])
    assert right > max(sizes["bim"])


def test_roc_and_densities(rng, drawn):
    found = scores(rng, 0, 1, 2)
    curves = {kind: (found["clean"], found[kind]) for kind in ("bim", "fgsm")} | {
        "deepfool": (found["clean"], np.empty(0))
    }
    figure = drawn(plot.roc_and_densities(curves, "conv2d_1"))
    left, right = figure.axes
    assert legend(left) == [
        f"BIM: {auroc(found['clean'], found['bim'])}", f"FGSM: {auroc(found['clean'], found['fgsm'])}",
        "DeepFool: no scores",
    ]  # fmt: skip
    assert f"{scikit_learns(found['clean'], found['bim']):.3f}" in legend(left)[0]
    assert legend(figure) == ["clean", "BIM", "FGSM", "DeepFool"]
    x, y = left.lines[0].get_data()
    assert np.trapezoid(y, x) == pytest.approx(scikit_learns(found["clean"], found["bim"]))
    assert len(right.patches) == 2 * 3
    assert left.lines[1].get_color() in {"#009E73"}
    assert colours_of_legend(figure)[2] == right.patches[5].get_edgecolor()
    assert figure.get_suptitle() == "conv2d_1"


@pytest.mark.parametrize("n", [1, 3])
def test_error_maps(rng, drawn, n):
    rows = {kind: [tuple(rng.random((3, 6, 6))) for _ in range(n)] for kind in ("clean", "bim")}
    rows["bim"] = [(image[..., np.newaxis], again, 2 * error) for image, again, error in rows["bim"]]
    means = {"clean": rng.random(20), "bim": np.empty(0)}
    figure = drawn(paper.error_maps(rows, means, title="MNIST"))
    panels = [panel for panel in figure.axes if panel.images]
    expected = [np.squeeze(picture) for examples in rows.values() for example in examples for picture in example]
    assert len(panels) == len(expected) == 6 * n
    for picture, given in zip(pictures(panels), expected, strict=True):
        np.testing.assert_array_equal(picture, given)
    errors = np.concatenate([example[2].ravel() for example in rows["clean"] + rows["bim"]])
    (limits,) = {panel.images[0].get_clim() for panel in panels[2::3]}
    assert limits == pytest.approx((0, np.quantile(errors, 0.995)))
    assert {panel.images[0].get_clim() for panel in panels[::3]} == {(0, 1)}
    assert legend(figure.axes[-1]) == ["clean", "BIM"]
    assert len(figure.axes[-1].patches) == 2  # the outline and the area of the one set that has images
    assert [text.get_text() for panel in panels for text in panel.texts] == ["clean", "BIM"]


def test_error_maps_without_errors(drawn):
    nothing = np.zeros((4, 4))
    figure = drawn(paper.error_maps({"clean": [(nothing,) * 3], "bim": []}, {"clean": np.zeros(3)}, title="none"))
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == 3
    assert panels[2].images[0].get_clim() == (0, 1)


def test_samples(rng, drawn):
    grey, colour = rng.normal(0.5, 1, (5, 5, 1)), rng.random((5, 5, 3))
    rows = {"bim": [(grey, "Sneaker -> Sandal"), (colour, "Bag")], "deepfool": [(grey[..., 0], "Coat")], "fgsm": []}
    figure = drawn(paper.samples(rows))
    panels = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title() for panel in panels] == ["Sneaker →\nSandal", "Bag", "Coat"]
    first, second, third = pictures(panels)
    np.testing.assert_array_equal(first, np.clip(grey[..., 0], 0, 1))
    np.testing.assert_array_equal(second, colour)
    np.testing.assert_array_equal(third, first)
    assert [panel.get_ylabel() for panel in figure.axes[::2]] == ["BIM", "DeepFool", "FGSM"]
    assert figure.axes[4].get_title() == "none"


def test_one_sample(drawn):
    image = np.eye(3)
    (panel,) = drawn(paper.samples({"bim": [(image, "")]})).axes
    np.testing.assert_array_equal(panel.images[0].get_array(), image)


def layer(kind, name, shape, n_parameters, **attributes):
    made = type(kind, (), attributes)()
    made.name, made.output, made.count_params = name, SimpleNamespace(shape=(None, *shape)), lambda: n_parameters
    return made


def relu():
    """Only the name is read."""


def test_architecture(drawn):
    model = SimpleNamespace(
        name="autoencoder",
        layers=[
            layer("InputLayer", "images", (8, 8, 1), 0),
            layer("Conv2D", "encode", (8, 8, 4), 1040, filters=4, kernel_size=(3, 3), activation=staticmethod(relu)),
            layer("MaxPooling2D", "pool", (4, 4, 4), 0, pool_size=(2, 2)),
            layer("UpSampling2D", "up", (8, 8, 4), 0, size=(2, 2)),
            layer("Conv2D", "decode", (8, 8, 1), 37, filters=1, kernel_size=(3, 3)),
        ],
    )
    (panel,) = drawn(paper.architecture(model)).axes
    boxes = {box.get_gid(): box for box in panel.patches}
    assert list(boxes) == ["images", "encode", "pool", "up", "decode"]
    heights = [box.get_height() for box in boxes.values()]
    np.testing.assert_allclose(heights, heights[0] * np.array([1, 1, 0.5, 1, 1]))
    lefts = [box.get_x() for box in boxes.values()]
    assert lefts == sorted(lefts)
    colours = [box.get_edgecolor() for box in boxes.values()]
    assert colours[1] == colours[2]
    assert colours[3] == colours[4]
    assert len(set(colours)) == 3
    written = [text.get_text() for text in panel.texts]
    kernel, window, output = [line.replace("x", "\N{MULTIPLICATION SIGN}") for line in ("3 x 3", "2 x 2", "4 x 4 x 4")]
    for line in (output, f"kernel {kernel}", f"pool {window}", f"factor {window}", "4 filters", "1 filter", "relu",
                 "1,040 parameters", "encoder", "decoder", "autoencoder: 1,077 parameters"):  # fmt: skip
        assert line in written


def test_architecture_of_a_keras_model(autoencoder, drawn):
    (panel,) = drawn(paper.architecture(autoencoder)).axes
    assert [box.get_gid() for box in panel.patches] == [layer.name for layer in autoencoder.layers]
    total = f"{autoencoder.count_params():,} parameters"
    assert any(text.get_text().endswith(total) for text in panel.texts)


def test_architecture_without_images(drawn):
    layers = [layer("Dense", "hidden", (5,), 10, units=5), layer("Dense", "code", (None,), 6, units=1)]
    (panel,) = drawn(paper.architecture(SimpleNamespace(name="dense", layers=layers))).axes
    assert len(panel.patches) == 2
    assert not {"encoder", "decoder"} & {text.get_text() for text in panel.texts}


def test_activation_histograms(rng, drawn):
    values = {
        "conv2d_1": np.maximum(rng.normal(size=(20, 4, 4)).astype(np.float32), 0),
        "dead": np.zeros((3, 2)),
        "sigmoid": rng.random(50),
        "none": np.empty((0, 4)),
    }
    figure = drawn(paper.activation_histograms(values))
    share = np.mean(values["conv2d_1"] == 0)
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[:3] == [f"conv2d_1\n{share:.1%} zeros", "dead\n100.0% zeros", "sigmoid\n0.0% zeros"]
    assert titles[3] == "none\nno activations"
    assert {panel.get_yscale() for panel in figure.axes[:3]} == {"log"}
    for panel, activations in zip(figure.axes, list(values.values())[:3], strict=False):
        assert panel.patches[0].get_data()[0].sum() == activations.size


@pytest.mark.parametrize(
    ("pixels", "drawn_as"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([0, 1], [0, 1]),
        ([51, 255], [0.2, 1]),
        ([3, 102], [3 / 255, 0.4]),
        ([0.0, 1.25], [0, 1]),  # an attack that is not clipped
        ([-1, 1], [0, 1]),
        ([-128.0, 384.0], [0, 1]),
        ([0.0, 0.0], [0, 0]),
        ([7.0, 7.0], [7 / 255, 7 / 255]),
        ([300.0, 300.0], [0, 0]),
    ],
)
def test_images_have_one_scale(pixels, drawn_as):
    for shape in ((3, 4), (3, 4, 1), (3, 4, 3), (3, 4, 2)):
        found = plot.drawable([np.full(shape, pixel) for pixel in pixels])
        assert {image.shape for image in found} == {(3, 4, 3) if shape == (3, 4, 3) else (3, 4)}
        assert [float(image.mean()) for image in found] == pytest.approx(drawn_as)
    rows = {"clean": [plot.Example(np.full((3, 4), p), np.eye(3, 4), np.eye(3, 4) > 0, "") for p in pixels]}
    shown = [panel.images[0] for panel in plot.anomalous_nodes(rows).axes[: len(pixels)]]
    assert [float(np.mean(one.get_array())) for one in shown] == pytest.approx(drawn_as)
    assert {one.get_clim() for one in shown} == {(0, 1)}
