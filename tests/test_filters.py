"""The Laplacian against loops over pixels."""

import numpy as np
import pytest

from subsetscan.spaces import Laplacian, Pixels, join


def loops(images):
    """Neighbours minus the pixel, one by one; a neighbour beyond the border is the pixel itself."""
    result = np.zeros(images.shape)
    height, width = images.shape[1:3]
    for at in np.ndindex(images.shape):
        n, i, j, *c = at
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= k < height and 0 <= m < width:
                result[at] += float(images[(n, k, m, *c)]) - float(images[at])
    return result


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3), (5, 7), (1, 1), (1, 1, 2), (1, 4, 2), (4, 1), (2, 2, 1)])
def test_the_laplacian_is_that_of_loops(rng, shape):
    space = Laplacian(shape)
    assert space.node_shapes == {"laplacian": shape}
    images = rng.normal(size=(6, *shape)).astype(np.float32)
    values = space.transform(images)["laplacian"]
    assert values.dtype == np.float32
    assert values.shape == (6, np.prod(shape))
    assert np.allclose(values, loops(images).reshape(6, -1), rtol=1e-6, atol=1e-5)


def test_whole_numbers_are_exact(rng):
    images = rng.integers(0, 256, size=(4, 6, 5, 3), dtype=np.uint8)
    assert np.array_equal(Laplacian((6, 5, 3)).transform(images)["laplacian"], loops(images).reshape(4, -1))


def test_what_is_constant_vanishes():
    images = np.full((3, 6, 5, 2), 0.1)
    images[:, :, :, 1] = 255.3
    assert not Laplacian((6, 5, 2)).transform(images)["laplacian"].any()
    assert not Laplacian((1, 1)).transform([[[7.0]]])["laplacian"].any()


def test_ramps_vanish_but_at_the_border():
    ramp = np.add.outer(np.arange(6), 2 * np.arange(5))
    values = Laplacian((6, 5)).transform(ramp[np.newaxis])["laplacian"].reshape(6, 5)
    assert not values[1:-1, 1:-1].any()
    assert values[0, 0] == 3
    assert values[-1, -1] == -3
    assert (values[1:-1, 0] == 2).all()


def test_batches_make_no_difference(images):
    space = Laplacian((8, 8, 1))
    at_once = space.transform(images)["laplacian"]
    one_by_one = [space.transform(images[n : n + 1])["laplacian"] for n in range(len(images))]
    assert np.array_equal(at_once, np.concatenate(one_by_one))
    assert np.array_equal(at_once[::-2], space.transform(images[::-2])["laplacian"])
    assert space.transform(images[:0])["laplacian"].shape == (0, 64)


def test_the_images_stay_as_they_are(images):
    before = images.copy()
    Laplacian((8, 8, 1)).transform(images)
    assert np.array_equal(images, before)


@pytest.mark.parametrize("shape", [(), (8,), (8, 8, 1, 1)])
def test_shapes_that_are_no_images(shape):
    with pytest.raises(ValueError, match=r"image_shape must be \(H, W\) or \(H, W, C\), got \("):
        Laplacian(shape)


def test_images_that_do_not_fit(images):
    with pytest.raises(ValueError, match=r"each input must have shape \(8, 8\), got \(8, 8, 1\)"):
        Laplacian((8, 8)).transform(images)
    with pytest.raises(ValueError, match="input 0 has NaN or infinite values; it is the first of 1 that have"):
        Laplacian((1, 2)).transform([[[0.0, np.nan]]])


def test_names_must_differ():
    twice = [Laplacian((8, 8, 1)), Laplacian((8, 8, 1))]
    with pytest.raises(ValueError, match="several spaces are named laplacian"):
        join(twice)
    assert len(join([twice[0], Laplacian((8, 8, 1), name="other"), Pixels((8, 8, 1))])) == 3
