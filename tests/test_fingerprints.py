"""A space's fingerprint is that of its weights and of what it reads, whatever file they came from."""

import numpy as np
import pytest

from subsetscan.spaces import (
    ClassifierMargin,
    FeatureResponse,
    KerasLayers,
    Laplacian,
    Pixels,
    ReconstructionError,
    Space,
    join,
)

keras = pytest.importorskip("keras")
layers = keras.layers


def network(dtype="float32"):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((4, 4, 1), dtype=dtype)
    x = layers.BatchNormalization(name="batch")(
        layers.Conv2D(2, 3, padding="same", activation="relu", name="c")(inputs)
    )
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same", name="out")(layers.Dropout(0.5)(x)))


def classifier():
    keras.utils.set_random_seed(4)
    return keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 3, activation="relu"), layers.Dropout(0.5),
                             layers.Flatten(), layers.Dense(3, activation="softmax")])  # fmt: skip


SPACES = {
    "layers": (network, KerasLayers),
    "a layer": (network, lambda m: KerasLayers(m, ["c"])),
    "absolute": (network, ReconstructionError),
    "signed": (network, lambda m: ReconstructionError(m, "signed")),
    "margin": (classifier, ClassifierMargin),
    "all of a classifier": (classifier, KerasLayers),
    "guided": (classifier, FeatureResponse),
    "gradient": (classifier, lambda m: FeatureResponse(m, "gradient")),
    "logit": (classifier, lambda m: FeatureResponse(m, target="top-logit")),
}


@pytest.mark.parametrize("kind", SPACES)
def test_weights_and_files(kind, tmp_path):
    build, make = SPACES[kind]
    model = build()
    first = make(model).fingerprint()
    assert len(first) == 64
    space = make(model)
    space.transform(np.random.default_rng(0).random((3, 4, 4, 1)))
    assert space.fingerprint() == first
    model.save(tmp_path / "model.keras")
    for _ in range(2):
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert make(loaded).fingerprint() == first
    if kind not in ("layers", "a layer", "absolute", "signed"):
        loaded.get_layer(loaded.layers[1].name).seed_generator.state.assign([5, 6])
        assert make(loaded).fingerprint() == first
    kernel = loaded.weights[0]
    kernel.assign(np.nextafter(np.asarray(kernel), np.float32(1)))
    assert make(loaded).fingerprint() != first
    model.set_weights([weight + 1 for weight in model.get_weights()])
    assert space.fingerprint() != first  # of what it computes now


def test_what_is_read():
    found = [make(build()).fingerprint() for build, make in SPACES.values()]
    assert len(set(found)) == len(found)
    model = network()
    assert KerasLayers(model, ["c"]).fingerprint() != KerasLayers(model, ["batch"]).fingerprint()
    assert KerasLayers(model, ["c"]).fingerprint() == KerasLayers(model, ["c"], prefix="mine/").fingerprint()
    assert KerasLayers(model, ["c"]).fingerprint() != KerasLayers(network("float64"), ["c"]).fingerprint()
    assert ReconstructionError(model).fingerprint() == ReconstructionError(model, name="error").fingerprint()
    before = KerasLayers(model, ["c"]).fingerprint()
    model.get_layer("out").bias.assign([1.0])  # nothing that this layer's values depend on
    assert KerasLayers(model, ["c"]).fingerprint() == before
    (joined,) = join([KerasLayers(model), ReconstructionError(model)])
    assert joined.fingerprint() != join([KerasLayers(model), ReconstructionError(model, "signed")])[0].fingerprint()


def test_spaces_without_a_network():
    made = [Pixels((2, 3)), Pixels((3, 2)), Pixels((2, 3, 1)), Laplacian((2, 3)), Laplacian((3, 2))]
    assert len({space.fingerprint() for space in made}) == 5
    assert Pixels([2, 3]).fingerprint() == made[0].fingerprint()
    assert Laplacian((2, 3), name="other").fingerprint() == made[3].fingerprint()

    class Own(Space):
        def transform(self, images):
            return {}

    assert Own().fingerprint() is None


@pytest.mark.parametrize("setting", [{"scale": 2.0}, {"activation": "tanh"}, {"padding": "valid"}])
def test_other_settings_are_another_network(setting):
    def make(scale=1.0, activation="relu", padding="same"):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Rescaling(scale), layers.Conv2D(3, 3, padding=padding)]
        )
        model.add(layers.Activation(activation, name="last"))
        return KerasLayers(model, ["last"]).fingerprint()

    assert make() == make()
    assert make(**setting) != make()
