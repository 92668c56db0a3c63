"""`subsetscan explain` with models of any shape."""

import json

import numpy as np
import pytest

SHAPES = {
    "dense": ((6,), lambda layers: [layers.Dense(5)]),
    "series": ((12, 3), lambda layers: [layers.Conv1D(4, 3)]),
    "volume": ((4, 4, 4, 1), lambda layers: [layers.Conv3D(2, 2)]),
    "two-channels": ((8, 8, 2), lambda layers: [layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()]),
    "five-channels": ((8, 8, 5), lambda layers: [layers.Conv2D(3, 3), layers.Flatten()]),
    "no-channel": ((8, 8), lambda layers: [layers.Reshape((8, 8, 1)), layers.Conv2D(2, 3)]),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_explain_images_and_layers_of_any_shape(run, tmp_path, kind, rng):
    keras = pytest.importorskip("keras")
    shape, make = SHAPES[kind]
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input(shape), *make(keras.layers)]).save(tmp_path / "model.keras")
    images = rng.random((90, *shape), np.float32)
    np.save(tmp_path / "clean.npy", images[:80])
    np.save(tmp_path / "input.npy", images[80:] + 0.5)
    model = f"--model={tmp_path}/model.keras"
    run("fit", model, f"--background={tmp_path}/clean.npy", f"--out={tmp_path}/fitted", "--quiet")
    done = run(
        "explain", model, f"--fitted={tmp_path}/fitted", f"--input={tmp_path}/input.npy", f"--out={tmp_path}/out"
    )
    told = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert sum(bool(space["size"]) for space in told.values()) > 0
    has_grid = any(len(space["densest_position"]) == 2 for space in told.values())
    assert has_grid == (kind in ("two-channels", "five-channels", "no-channel"))
    assert (tmp_path / "out" / "explanation.png").exists() == has_grid
    assert ("no figure, because no space has positions in a grid" in done.out) == (not has_grid)
