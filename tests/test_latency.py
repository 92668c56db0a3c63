"""What a scan costs, in what can be counted: passes of a network, digests of its weights. Times are in benches/."""

import warnings

import numpy as np
import pytest

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan._digest import checksum
from subsetscan.networks import keras_forward
from subsetscan.spaces import ClassifierMargin, KerasLayers, Laplacian, ReconstructionError

keras = pytest.importorskip("keras")


@pytest.fixture
def passes(monkeypatch):
    """The number of inputs of each pass."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("counts passes through TensorFlow")
    sizes, own = [], keras_forward._Traced.__call__

    def counted(self, *arrays):
        sizes.append(len(arrays[0]))
        return own(self, *arrays)

    monkeypatch.setattr(keras_forward._Traced, "__call__", counted)
    return sizes


def test_a_batch_is_one_pass_however_many_spaces_read_it(autoencoder, images, passes):
    classifier = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    spaces = [KerasLayers(autoencoder, ["encode"]), KerasLayers(autoencoder, ["pool", "up"]),
              ReconstructionError(autoencoder), ClassifierMargin(classifier), Laplacian((8, 8, 1))]  # fmt: skip
    scanner = ModelScanner(spaces, SubsetScanDetector(random_state=0), combine="fisher").fit(images)
    passes.clear()
    scanner.p_values(images[:60])
    assert passes == [60, 60]  # one of each network
    passes.clear()
    scanner.scan(images[:1])
    scanner.explain(images[0])
    assert passes == [1, 1, 1, 1]
    passes.clear()
    ModelScanner(KerasLayers(autoencoder), SubsetScanDetector(random_state=0)).fit(images)
    assert passes == [64, 64, 4, 22]  # the second to compare with the first; 68 inputs of the background, 22 others
    passes.clear()
    ModelScanner.automatic(autoencoder, random_state=0).fit(np.concatenate([images, 1 - images]))
    assert passes == [64, 64, 64, 52]


def test_weights_are_digested_where_they_have_changed(autoencoder, images, monkeypatch):
    model = keras.models.clone_model(autoencoder)
    space = KerasLayers(model, ["encode"])
    scanner = ModelScanner(space, SubsetScanDetector(random_state=0)).fit(images)
    digests, own = [], space.network.fingerprint
    monkeypatch.setattr(space.network, "fingerprint", lambda names: digests.append(names) or own(names))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            scanner.p_values(images[:2])
    assert len(digests) <= 1
    weights = model.get_weights()
    changed = [array.copy() for array in weights]
    changed[0].ravel()[:2] = changed[0].ravel()[1::-1]  # two change places
    model.set_weights(changed)
    with pytest.warns(UserWarning, match="with another network for encode"):
        scanner.p_values(images[:2])
    model.set_weights(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scanner.p_values(images[:2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8])
@pytest.mark.parametrize("n", [1, 3, 1000, 4097, 70_001])
def test_a_checksum_tells_what_changed(rng, dtype, n):
    values = (rng.normal(size=n) * 50).astype(dtype)
    first = checksum([values])
    assert checksum([values.copy()]) == first
    assert checksum([values[::-1][::-1]]) == first
    assert checksum([values.reshape(-1, 1)]) != first
    for place in {0, n // 2, n - 1}:
        other = values.copy()
        other[place] += 1
        assert checksum([other]) != first
    for a, b in rng.integers(0, n, (50, 2)):
        other = values.copy()
        other[[a, b]] = other[[b, a]]
        assert (checksum([other]) == first) == np.array_equal(other, values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_checksum_sees_signs_that_flip_together(rng, dtype):
    kernel = rng.normal(size=(3, 3, 64, 64)).astype(dtype)
    first = checksum([kernel])
    assert checksum([-kernel]) != first
    for channel in range(64):
        other = kernel.copy()
        other[..., channel] *= -1
        assert checksum([other]) != first, channel


def test_a_channel_of_another_sign_is_warned_of(images):
    keras.utils.set_random_seed(0)
    source = keras.Input((8, 8, 1))
    wide = keras.layers.Conv2D(64, 3, name="wide")(keras.layers.Conv2D(64, 3)(source))
    model = keras.Model(source, wide)
    scanner = ModelScanner(KerasLayers(model, ["wide"]), SubsetScanDetector(random_state=0)).fit(images)
    scanner.p_values(images[:2])
    kernel, bias = model.get_layer("wide").get_weights()
    kernel[..., 1] *= -1
    model.get_layer("wide").set_weights([kernel, bias])
    with pytest.warns(UserWarning, match="with another network for wide"):
        scanner.p_values(images[:2])
