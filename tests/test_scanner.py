"""Scanning a model: streamed in batches, the same as by hand."""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.calibration import plan
from subsetscan.spaces import KerasLayers, Pixels, ReconstructionError, Space


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
    assert loaded.detector.get_params() == detector.get_params()

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
    with pytest.raises(TypeError, match="expected a SubsetScanDetector, got int"):
        ModelScanner(Pixels((8, 8, 1)), 5)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ModelScanner(Pixels((8, 8, 1)), batch_size=0)
    scanner = ModelScanner(Pixels((8, 8, 1)))
    for ask in (scanner.scan, scanner.p_values):
        with pytest.raises(NotFittedError):
            ask(images)
    with pytest.raises(ValueError, match="needs at least 2 clean images, got 1 sample"):
        scanner.fit(images[:1])
    with pytest.raises(ValueError, match=r"each image must have shape \(8, 8, 1\), got \(64,\)"):
        scanner.fit(images.reshape(90, -1))
    holed = images.copy()
    holed[80, 3] = np.nan
    with pytest.raises(ValueError, match="1 images have NaN or infinite pixels, the first is image 80"):
        ModelScanner(Pixels((8, 8, 1)), batch_size=7).fit(holed)
    with pytest.raises(ValueError, match=r"images must have a first axis that counts them, got shape \(\)"):
        scanner.fit(np.float32(0))
