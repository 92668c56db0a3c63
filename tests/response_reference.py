"""A small network, and its feature responses by a forward and backward pass written out in numpy."""

import numpy as np

# The network of these tests: convolution, ReLU, pooling, convolution, ReLU, dense, ReLU, dense; images of 9 x 8 x 2.
SHAPE = (9, 8, 2)
RNG = np.random.default_rng(7)
FIRST = RNG.normal(size=(3, 2, 2, 3)), RNG.normal(size=3)
SECOND = RNG.normal(size=(2, 3, 3, 4)), RNG.normal(size=4)
HIDDEN = RNG.normal(size=(36, 6)) / 4, RNG.normal(size=6)
LOGITS = RNG.normal(size=(6, 5)), RNG.normal(size=5)
IMAGES = RNG.normal(size=(7, *SHAPE)).astype(np.float32)
LABELS = np.array([4, 0, 3, 3, 1, 2, 0])


def margins(size, kernel, stride, padding):
    """The size of a convolution's output along one axis, and the zeros before the image there."""
    if padding == "valid":
        return (size - kernel) // stride + 1, 0
    outputs = -(-size // stride)
    return outputs, max((outputs - 1) * stride + kernel - size, 0) // 2


def windows(image_shape, kernel_shape, stride, padding):
    """For each output pixel of a convolution, and each place in the kernel, the input pixel if there is one."""
    (height, width), (k, m) = image_shape[:2], kernel_shape[:2]
    (rows, top), (columns, left) = margins(height, k, stride, padding), margins(width, m, stride, padding)
    for row in range(rows):
        for column in range(columns):
            for i in range(k):
                for j in range(m):
                    y, x = row * stride + i - top, column * stride + j - left
                    if 0 <= y < height and 0 <= x < width:
                        yield (row, column), (i, j), (y, x)


class Conv:
    def __init__(self, weights, stride=1, padding="valid"):
        self.kernel, self.bias = weights
        self.how = stride, padding

    def forward(self, f):
        rows, columns = (margins(f.shape[n], self.kernel.shape[n], *self.how)[0] for n in (0, 1))
        out = np.zeros((rows, columns, len(self.bias))) + self.bias
        for output, place, pixel in windows(f.shape, self.kernel.shape, *self.how):
            out[output] += f[pixel] @ self.kernel[place]
        return out

    def backward(self, f, above, method):
        below = np.zeros(f.shape)
        for output, place, pixel in windows(f.shape, self.kernel.shape, *self.how):
            below[pixel] += self.kernel[place] @ above[output]
        return below


class Pool:
    """Largest of 2 x 2 pixels, the first where several are; what is left at the border is dropped."""

    def blocks(self, f):
        for row in range(f.shape[0] // 2):
            for column in range(f.shape[1] // 2):
                for channel in range(f.shape[2]):
                    block = f[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
                    i, j = np.unravel_index(block.argmax(), block.shape)
                    yield (row, column, channel), (2 * row + i, 2 * column + j, channel)

    def forward(self, f):
        out = np.zeros((f.shape[0] // 2, f.shape[1] // 2, f.shape[2]))
        for output, pixel in self.blocks(f):
            out[output] = f[pixel]
        return out

    def backward(self, f, above, method):
        below = np.zeros(f.shape)
        for output, pixel in self.blocks(f):
            below[pixel] += above[output]
        return below


class Relu:
    def forward(self, f):
        return np.where(f > 0, f, 0)

    def backward(self, f, above, method):
        """As the slides have it."""
        return {"gradient": (f > 0) * above, "deconvnet": (above > 0) * above,
                "guided": (f > 0) * (above > 0) * above}[method]  # fmt: skip


class Flat:
    def forward(self, f):
        return f.reshape(-1)

    def backward(self, f, above, method):
        return above.reshape(f.shape)


class Dense:
    def __init__(self, weights):
        self.kernel, self.bias = weights

    def forward(self, f):
        return f @ self.kernel + self.bias

    def backward(self, f, above, method):
        return self.kernel @ above


def steps(padding="same", stride=1):
    return [Conv(FIRST), Relu(), Pool(), Conv(SECOND, stride, padding), Relu(), Flat(), Dense(HIDDEN), Relu(),
            Dense(LOGITS)]  # fmt: skip


def forward(image, steps):
    """The inputs of all steps, and what comes out of the last."""
    inputs = [image.astype(np.float64)]
    for step in steps:
        inputs.append(step.forward(inputs[-1]))
    return inputs


def response(image, steps, method, target, label):
    *inputs, out = forward(image, steps)
    if target == "activations":
        above = out
    else:
        at = label if target == "true-logit" else out.argmax()
        above = np.zeros(out.shape)
        above[at] = out[at] if target == "max-output" else 1
    for f, step in zip(inputs[::-1], steps[::-1], strict=True):
        above = step.backward(f, above, method)
    return above


def responses(steps, method, target):
    return np.array(
        [response(image, steps, method, target, label) for image, label in zip(IMAGES, LABELS, strict=True)]
    )


def same(values, expected):
    assert values.dtype == np.float32
    assert values.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0.01
    assert np.allclose(values, expected, rtol=1e-5, atol=1e-6 * scale)
