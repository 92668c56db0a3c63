"""Which axis of a PyTorch module's values counts channels: by tables of fragments, beside marks put in a bias."""

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from subsetscan import SequenceScanner  # noqa: E402
from subsetscan.networks import as_network  # noqa: E402
from subsetscan.spaces import Layers  # noqa: E402


class Then(nn.Module):
    """A convolution or a linear layer, then a function; what that returns is read by "end"."""

    def __init__(self, first, function):
        super().__init__()
        self.first, self.function, self.end = first, function, nn.Identity()
        with torch.no_grad():
            for name, values in self.first.named_parameters():
                values.copy_(10.0 ** torch.arange(len(values)) if name.endswith("bias") else torch.zeros(()))

    def forward(self, x):
        return self.end(self.function(self.first(x)))


def conv():
    return nn.Conv2d(2, 5, 3, padding=1)


def keep(x):
    return x


IMAGE, ROW, TOKENS = (2, 8, 9), (2, 11), (7, 4)
# What comes first, what is done to it, the shape of an input, and the axis; None: it cannot be told.
KNOWN = [
    (conv, keep, IMAGE, 0),
    (conv, torch.relu, IMAGE, 0),
    (conv, nn.GELU(), IMAGE, 0),
    (conv, lambda x: x * torch.sigmoid(x), IMAGE, 0),
    (conv, lambda x: x * x.mean((2, 3), keepdim=True), IMAGE, 0),
    (conv, lambda x: x + torch.ones(5, 1, 1), IMAGE, 0),
    (conv, nn.BatchNorm2d(5, affine=False), IMAGE, 0),
    (conv, nn.GroupNorm(1, 5), IMAGE, 0),
    (conv, nn.Dropout2d(), IMAGE, 0),
    (conv, nn.MaxPool2d(2), IMAGE, 0),
    (conv, nn.AdaptiveAvgPool2d(2), IMAGE, 0),
    (conv, lambda x: nn.functional.interpolate(x, scale_factor=2), IMAGE, 0),
    (conv, lambda x: nn.functional.pad(x, (1, 1, 2, 2)), IMAGE, 0),
    (conv, lambda x: torch.cat([x, x], 1), IMAGE, 0),
    (conv, lambda x: torch.cat([x, x], 3), IMAGE, 0),
    (conv, lambda x: x.split(2, 1)[0], IMAGE, 0),
    (conv, lambda x: x.chunk(2, 3)[1], IMAGE, 0),
    (conv, lambda x: x[:, :, 2], IMAGE, 0),
    (conv, lambda x: x[:, :, ::2, 1:4], IMAGE, 0),
    (conv, lambda x: x.permute(0, 2, 3, 1), IMAGE, 2),
    (conv, lambda x: x.transpose(1, 3), IMAGE, 2),
    (conv, lambda x: x.permute(0, 3, 1, 2).relu(), IMAGE, 1),
    (conv, lambda x: x.flatten(2), IMAGE, 0),
    (conv, lambda x: x.flatten(2).transpose(1, 2), IMAGE, 1),
    (conv, lambda x: x.mean(2), IMAGE, 0),
    (conv, lambda x: x.amax(3), IMAGE, 0),
    (conv, lambda x: x.unsqueeze(1), IMAGE, 1),
    (conv, lambda x: torch.stack([x, x], 1), IMAGE, 1),
    (conv, lambda x: x.unbind(2)[0], IMAGE, 0),
    (conv, lambda x: x.softmax(1), IMAGE, 0),
    (conv, lambda x: torch.linalg.vector_norm(x, 1, dim=3), IMAGE, 0),
    (conv, lambda x: x.norm(dim=2), IMAGE, 0),
    (conv, lambda x: torch.where(x > 0, x, 0.1 * x), IMAGE, 0),
    (lambda: nn.Conv1d(2, 5, 3), nn.ReLU(), ROW, 0),
    (lambda: nn.Conv1d(2, 5, 3), nn.MaxPool1d(2), ROW, 0),
    (lambda: nn.Conv1d(2, 5, 3), lambda x: x.relu().transpose(1, 2), ROW, 1),
    (lambda: nn.Conv3d(2, 5, 3), nn.ReLU(), (2, 4, 5, 6), 0),
    (lambda: nn.ConvTranspose2d(2, 5, 3), torch.tanh, IMAGE, 0),
    (lambda: nn.Linear(4, 5), keep, TOKENS, 1),
    (lambda: nn.Linear(4, 5), nn.GELU(), TOKENS, 1),
    (lambda: nn.Linear(4, 5), nn.LayerNorm(5), TOKENS, 1),
    (lambda: nn.Linear(4, 5), nn.functional.relu, (3, 6, 4), 2),
    (lambda: nn.Linear(4, 5), lambda x: x.permute(0, 3, 1, 2) * 2, (3, 6, 4), 0),
    (lambda: nn.Linear(4, 5), lambda x: x.softmax(1) @ torch.ones(5, 3), TOKENS, 1),
]
UNKNOWN = [
    (conv, lambda x: x.reshape(len(x), 8, 45), IMAGE),
    (conv, lambda x: x.flatten(1, 2), IMAGE),
    (conv, lambda x: x.mean(1), IMAGE),
    (lambda: nn.Linear(4, 6), lambda x: x.unflatten(2, (2, 3)), TOKENS),
    (lambda: nn.Linear(4, 5), lambda x: x @ x.transpose(1, 2), TOKENS),
    (lambda: nn.Linear(4, 5), lambda x: x @ torch.ones(5), (3, 6, 4)),
    (lambda: nn.Conv1d(2, 5, 3), lambda x: torch.stack([x, x], 3).norm(dim=1), ROW),
]


def drawn(shape, n=3):
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def ends(first, function, shape):
    torch.manual_seed(0)
    model = Then(first(), function).eval()
    network = as_network(model)
    values = network.read(drawn(shape), ("end",))["end"]
    return network, values


@pytest.mark.parametrize(("first", "function", "shape", "axis"), KNOWN)
def test_known(first, function, shape, axis):
    network, values = ends(first, function, shape)
    assert network.channel_axis("end", values.shape[1:]) == axis
    assert values.shape[1:][axis] % 5 in (0, 2, 3)  # halves of five, or three units of another layer
    pooled = Layers(network, ["end"], pool="mean").transform(drawn(shape))["end"]
    others = tuple(n + 1 for n in range(values.ndim - 1) if n != axis)
    assert np.allclose(pooled, values.mean(axis=others), atol=1e-4)


@pytest.mark.parametrize(
    ("first", "function", "shape", "axis"),
    [row for row in KNOWN if row[1] in (keep, torch.relu, nn.functional.relu)] + KNOWN[19:25],
)
def test_marks_of_the_bias_lie_along_it(first, function, shape, axis):
    _, values = ends(first, function, shape)
    along = np.moveaxis(values, axis + 1, -1)
    assert np.allclose(along, 10.0 ** np.arange(5))


@pytest.mark.parametrize(("first", "function", "shape"), UNKNOWN)
def test_unknown(first, function, shape):
    network, values = ends(first, function, shape)
    with pytest.raises(ValueError, match="end of Then has the shape .* do not tell which axis counts channels"):
        Layers(network, ["end"], pool="mean").transform(drawn(shape))
    plain = Layers(network, ["end"]).transform(drawn(shape))["end"]
    assert np.array_equal(plain, values.reshape(len(values), -1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(5, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.norm(self.conv(x)) + x)


def test_blocks_and_what_is_not_a_module(rng):
    model = nn.Sequential(nn.Conv2d(2, 5, 3), Residual(), nn.Sequential(Residual(), nn.Hardswish()))
    pooled = Layers(model, "all", pool="max").transform(drawn(IMAGE))
    assert {values.shape for values in pooled.values()} == {(3, 5)}
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(drawn(IMAGE))).amax((2, 3))
    assert np.allclose(pooled["2"], expected, atol=1e-5)


def test_transformers_and_recurrent_layers():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(layer, nn.LayerNorm(8))
    found = Layers(model, ["0", "1", "0.linear1", "0.norm1"], pool="mean").transform(drawn((7, 8)))
    assert {name: values.shape[1] for name, values in found.items()} == {"0": 8, "1": 8, "0.linear1": 16, "0.norm1": 8}

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.act = nn.GRU(4, 6, batch_first=True), nn.Tanh()

        def forward(self, x):
            return self.act(self.gru(x)[0])

    assert Layers(Recurrent(), ["act"], pool="mean").transform(drawn(TOKENS))["act"].shape == (3, 6)


class Conv1D(nn.Module):
    """Linear, in spite of its name, as that of GPT-2; it counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x @ self.weight


def test_names_do_not_decide_and_nothing_is_left_behind():
    model = nn.Sequential(Conv1D(), nn.GELU())
    inputs = drawn(TOKENS)
    space = Layers(model, ["0", "1"], pool="mean")
    assert {values.shape for values in space.transform(inputs).values()} == {(3, 6)}
    assert model[0].calls == 0
    assert inputs[0].tobytes() not in pickle.dumps(space)


def test_positions_of_a_scan_are_not_its_units():
    model = nn.Sequential(nn.Conv1d(2, 5, 3, padding=1), nn.ReLU())
    scanner = SequenceScanner(Layers(model, ["1"]), random_state=0).fit(drawn((2, 30), 60))
    assert scanner.n_features_in_ == 5
    assert scanner.scan(drawn((2, 30), 1))[0].positions.shape == (30,)
