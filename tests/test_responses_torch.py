"""Feature responses of PyTorch modules, against passes written out in numpy; run where torch is: `make test-torch`."""

import collections
import copy
import pickle

import numpy as np
import pytest
from response_reference import FIRST, HIDDEN, IMAGES, LABELS, LOGITS, SECOND, SHAPE, forward, responses, same, steps
from scipy.special import softmax

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.lab.comparators import FeatureSqueezing
from subsetscan.networks import PerturbedNetwork
from subsetscan.spaces import FeatureResponse, Layers, Pixels, TorchLayers, join
from subsetscan.spaces.responses import METHODS, TARGETS

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

TURNED = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))
RELUS = {
    "module": lambda: nn.ReLU(),
    "in place": lambda: nn.ReLU(inplace=True),
    "F.relu": lambda: F.relu,
    "F.relu in place": lambda: lambda x: F.relu(x, inplace=True),
    "torch.relu": lambda: torch.relu,
    "Tensor.relu": lambda: torch.Tensor.relu,
    "Tensor.relu_": lambda: torch.Tensor.relu_,
    "operator": lambda: torch.ops.aten.relu,
}


class Net(nn.Module):
    """The network of response_reference.py, channels first."""

    def __init__(self, relu=None, padding="same", stride=1):
        super().__init__()
        self.relu = relu or nn.ReLU()
        # TensorFlow pads strided convolutions so; PyTorch has no word for it.
        self.pad = nn.ZeroPad2d((1, 1, 0, 1)) if padding == "same" and stride == 1 else nn.Identity()
        self.first, self.pool = nn.Conv2d(2, 3, (3, 2)), nn.MaxPool2d(2)
        self.body = nn.Sequential(collections.OrderedDict(second=nn.Conv2d(3, 4, (2, 3), stride)))
        self.hidden, self.logits = nn.Linear(36, 6), nn.Linear(6, 5)
        self.double()
        dense = HIDDEN[0].reshape(3, 3, 4, 6).transpose(2, 0, 1, 3).reshape(36, 6)  # channels before positions
        with torch.no_grad():
            for module, kernel, bias in (
                (self.first, FIRST[0].transpose(3, 2, 0, 1), FIRST[1]),
                (self.body.second, SECOND[0].transpose(3, 2, 0, 1), SECOND[1]),
                (self.hidden, dense.T, HIDDEN[1]),
                (self.logits, LOGITS[0].T, LOGITS[1]),
            ):
                module.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
                module.bias.copy_(torch.tensor(bias))

    def forward(self, x):
        x = self.pool(self.relu(self.first(x)))
        x = self.relu(self.body(self.pad(x)))
        return self.logits(self.relu(self.hidden(x.flatten(1)))) if x.shape[2:] == (3, 3) else x


def found(model, method, target, **options):
    space = FeatureResponse(model, method, target, **options)
    return space.responses(TURNED, LABELS if target == "true-logit" else None)


def last(maps):
    return maps.transpose(0, 2, 3, 1)


def state(model):
    """All that a pass could leave behind."""
    return (
        [(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()],
        {name: value.clone() for name, value in model.state_dict().items()},
        [(one.requires_grad, one.grad is None, one._backward_hooks) for one in model.parameters()],
        torch.random.get_rng_state(),
        torch.is_grad_enabled(),
    )


def assert_unchanged(model, before):
    after = state(model)
    assert (before[0], before[2], before[4]) == (after[0], after[2], after[4])
    assert all(torch.equal(value, after[1][name]) for name, value in before[1].items())
    assert torch.equal(before[3], after[3])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_each_method_and_target_is_that_of_numpy(method, target, dtype):
    """As it is of Keras in test_responses.py; there the last convolution carries its ReLU."""
    model = Net().to(dtype).train()
    model.body.eval()  # a mode of its own
    model.first.weight.requires_grad_(False)
    before = state(model)
    values = found(model, method, target)
    expected = responses(steps()[:4] if target == "activations" else steps(), method, target)
    if dtype == torch.float64:
        same(last(values), expected)
    else:
        np.testing.assert_allclose(last(values), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert_unchanged(model, before)


@pytest.mark.parametrize("style", RELUS)
@pytest.mark.parametrize("method", METHODS)
def test_every_way_to_say_relu(style, method):
    model = Net(RELUS[style]())
    same(last(found(model, method, "true-logit")), responses(steps(), method, "true-logit"))
    # The last convolution's own output, also where a ReLU in place follows.
    same(last(found(model, method, "activations")), responses(steps()[:4], method, "activations"))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_layers_by_name_and_other_convolutions(stride, method):
    model = Net(padding="valid", stride=stride)
    own = steps("valid", stride)
    for layer, n in (("first", 1), ("relu:0", 2), ("pool", 3), ("body.second", 4), (model.body, 4), ("relu:1", 5)):
        expected = responses(own[:n], method, "activations")
        same(last(found(model, method, "activations", layer=layer)), expected)
    for layer, n in (("hidden", 7), ("relu:2", 8), ("logits", 9), ("log*", 9)):
        same(last(found(Net(), method, "activations", layer=layer)), responses(steps()[:n], method, "activations"))


def test_layers_that_are_none():
    model = Net()
    with pytest.raises(ValueError, match="Net has no layer 'nowhere'; it has 8 layers: relu, pad, first"):
        FeatureResponse(model, layer="nowhere")
    with pytest.raises(ValueError, match="'[*]' fits 8 layers of Net, expected one: relu, pad"):
        FeatureResponse(model, layer="*")
    with pytest.raises(TypeError, match="a layer must be a name or a module of Net, got 3"):
        FeatureResponse(model, layer=3)
    with pytest.warns(UserWarning, match="relu of Net gave 3 tensors in a pass, of which relu:0 is read"):
        values = found(model, "guided", "activations", layer="relu")
    assert np.array_equal(values, found(model, "guided", "activations", layer="relu:0"))
    with pytest.raises(ValueError, match="Sequential has no convolutional layer: name a layer"):
        FeatureResponse(nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(ValueError, match="Sequential is not a classifier: expected one output of shape"):
        FeatureResponse(nn.Sequential(nn.Conv2d(2, 3, 3)), "gradient", "top-logit").transform(TURNED)
    with pytest.raises(TypeError, match="expected a Keras model, got int; a PyTorch module will do as well"):
        FeatureResponse(3)
    for end in (nn.Softmax(1), nn.LogSoftmax(1)):
        with pytest.raises(ValueError, match="of Sequential are .*probabilities, .*leave out its .*softmax"):
            FeatureResponse(nn.Sequential(model, end), "gradient", "top-logit").transform(TURNED)


def test_maxima_that_tie_are_taken_as_tensorflow_takes_them():
    """The first of them; between ReLU and pooling a deconvnet shows it, as nothing is set to zero there."""
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        model[0].bias.fill_(-50)  # all are zero after it
        model[3].weight.fill_(0.5)  # what comes back to the pooling is positive: a deconvnet keeps it
        model[3].bias.fill_(1)
    values = found(model, "deconvnet", "activations")
    assert values[:, :, :8:2, ::2].any()
    rest = values.copy()
    rest[:, :, :8:2, ::2] = 0
    assert not rest.any()


def differences(model, objective, step=1e-5):
    """Central differences of a number that the model gives for each image, by each pixel."""
    moves = torch.from_numpy(step * np.eye(TURNED[0].size).reshape(-1, *TURNED.shape[1:]))
    with torch.no_grad():
        images = map(torch.from_numpy, TURNED.astype(np.float64))
        rows = [objective(model(image + moves)) - objective(model(image - moves)) for image in images]
    return (torch.stack(rows) / (2 * step)).numpy().reshape(TURNED.shape)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.GELU, nn.Sigmoid, nn.LeakyReLU, nn.SiLU])
def test_the_gradient_is_that_of_finite_differences(kind):
    model = Net(kind())
    for target, objective in (("top-logit", lambda x: x.amax(1)), ("max-output", lambda x: x.amax(1) ** 2 / 2)):
        expected = differences(model, objective)
        np.testing.assert_allclose(found(model, "gradient", target), expected, rtol=1e-4, atol=1e-5)
        assert np.abs(expected).max() > 0.001


class Linears(nn.Module):
    """What passes a backward pass on as it is, with an activation in between."""

    def __init__(self, relu):
        super().__init__()
        self.relu = relu
        self.register_buffer("mean", torch.tensor([0.1, 0.4]))
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.one = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Identity())
        self.side = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1, groups=2))
        self.up = nn.Sequential(nn.ReflectionPad2d(1), nn.Upsample(scale_factor=2), nn.AvgPool2d(2), nn.MaxPool2d(2))
        self.back = nn.ConvTranspose2d(8, 8, 2)
        self.shuffle = nn.Sequential(nn.ChannelShuffle(2), nn.PixelShuffle(2), nn.Dropout2d(0.5))
        self.end = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 3, bias=False))

    def forward(self, x):
        x = x * 2.0 - 1
        x = self.scale * (x - self.mean[:, None, None]) / self.mean[:, None, None]
        x = self.relu(self.one(x))
        x = self.relu(x + self.side(x))
        x = self.up(torch.cat([x, -x], 1)) + x.mean((2, 3)).sum(1)[:, None, None, None]
        return self.end(self.shuffle(self.relu(self.back(x))))


def test_linear_modules_pass_a_backward_pass_on():
    """Without a ReLU all methods are plain backpropagation."""
    for relu in (nn.Identity(), nn.ReLU()):
        torch.manual_seed(0)
        model = Linears(relu).double()
        model.one[1].running_mean += torch.tensor([0.1, 0.2, 0.3, -0.1])
        gradient = found(model, "gradient", "top-logit")
        np.testing.assert_allclose(gradient, differences(model.eval(), lambda x: x.amax(1)), rtol=1e-4, atol=1e-5)
        for method in ("guided", "deconvnet"):
            same_values = np.allclose(found(model, method, "top-logit"), gradient, rtol=1e-4, atol=1e-6)
            assert same_values == isinstance(relu, nn.Identity)


def masked(x):
    return x * (x > 0)


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, above):
        return 2 * ctx.saved_tensors[0] * above


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (nn.Sigmoid(), r"odd \(Sigmoid\) computes Sigmoid"),
        (nn.Tanh(), r"odd \(Tanh\) computes Tanh"),
        (nn.GELU(), r"odd \(GELU\) computes Gelu"),
        (nn.SiLU(), r"odd \(SiLU\) computes Silu"),
        (nn.ELU(), r"odd \(ELU\) computes Elu"),
        (nn.LeakyReLU(), r"odd \(LeakyReLU\) computes LeakyRelu"),
        (nn.PReLU(), r"odd \(PReLU\) computes PreluKernel"),
        (nn.ReLU6(), r"odd \(ReLU6\) computes Hardtanh"),
        (nn.Threshold(0.5, 0), r"odd \(Threshold\) computes Threshold"),
        (nn.Hardswish(), r"odd \(Hardswish\) computes Hardswish"),
        (nn.Softmax(1), r"odd \(Softmax\) computes Softmax"),
        (nn.GroupNorm(1, 3), r"odd \(GroupNorm\) computes NativeGroupNorm"),
        (nn.InstanceNorm2d(3), "Net computes NativeBatchNorm"),
        (nn.LayerNorm(3), "Net computes NativeLayerNorm"),
        (lambda x: x.clamp(min=0), "Outer computes Clamp"),
        (lambda x: torch.maximum(x, torch.zeros_like(x)), "Outer computes Maximum"),
        (lambda x: x.abs(), "Outer computes Abs"),
        (lambda x: torch.where(x > 0, x, 0), "Outer computes Where"),
        (masked, "Outer computes Mul"),
        (lambda x: x * x, "Outer computes Mul"),
        (lambda x: 1 / x, "Outer computes "),
        (lambda x: x / (1 + x.detach().abs()), "Outer computes Div"),
        (lambda x: F.conv2d(x, x[:1, :, :2, :2]), "Outer computes Convolution"),
        (lambda x: torch.einsum("nchw,nchv->ncwv", x, x), "Outer computes Bmm"),
        (lambda x: F.dropout(x, 0.5, True), "Outer computes Mul"),
        (Squared.apply, "Outer computes SquaredBackward"),
    ],
)
def test_other_nonlinearities_are_refused(odd, message):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.early, self.flat, self.odd = nn.Conv2d(2, 3, 3), nn.LazyLinear(2), odd

        def forward(self, x):
            early = torch.relu(self.early(x))
            if isinstance(self.odd, nn.LayerNorm):
                early = early.permute(0, 2, 3, 1)
            return self.flat(self.odd(early).flatten(1))

    torch.manual_seed(0)
    model = Outer()
    model(torch.from_numpy(TURNED))
    before = state(model)
    for method in ("deconvnet", "guided"):
        expected = f'{message.replace("Net", "(odd .*|Outer)")}.*: "{method}" is defined for plain ReLUs between linear'
        with pytest.raises(ValueError, match=expected):
            found(model, method, "top-logit")
    # What comes after the target does not matter.
    assert found(model, "guided", "activations", layer="early").any()
    assert_unchanged(model, before)


def test_what_cannot_be_differentiated():
    class Rounding(nn.Module):
        def __init__(self, how):
            super().__init__()
            self.how, self.end = how, nn.Linear(18, 2)

        def forward(self, x):
            return self.end(self.how(x).flatten(1)[:, :18])

    for how in (lambda x: x.detach(), lambda x: x.argmax(1).float(), lambda x: torch.from_numpy(x.detach().numpy())):
        for method in METHODS:
            with pytest.raises(ValueError, match="no gradient reaches the image: a module of Rounding cannot be diff"):
                found(Rounding(how), method, "top-logit")


def test_hooks_and_modes_go_back_where_a_pass_fails():
    model = Net()

    def fail(*_):
        raise RuntimeError("no more")

    handle = model.logits.register_forward_hook(fail)
    before = state(model)
    for method in METHODS:
        with pytest.raises(ValueError, match=r"Net cannot compute inputs of shape \(7, 2, 9, 8\) float64: no more"):
            found(model, method, "top-logit")
        assert_unchanged(model, before)
    handle.remove()
    with torch.no_grad(), torch.inference_mode():
        same(last(found(model, "guided", "top-logit")), responses(steps(), "guided", "top-logit"))


def test_the_users_own_gradients_stay():
    model = Net()
    model(torch.from_numpy(TURNED).double()).sum().backward()
    grads = [one.grad.clone() for one in model.parameters()]
    for method in METHODS:
        found(model, method, "max-output")
    assert all(torch.equal(one.grad, kept) for one, kept in zip(model.parameters(), grads, strict=True))


def test_what_depends_on_more_than_the_image():
    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean(0, keepdim=True)

    model = nn.Sequential(Centred(), nn.Conv2d(2, 3, 3))
    with pytest.raises(ValueError, match="the same input has other values elsewhere in a batch, .* the response of 1"):
        FeatureResponse(model).transform(TURNED)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore::DeprecationWarning:torch")
def test_wrapped_modules():
    model = Net()
    expected = found(model, "guided", "top-logit")
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        assert np.array_equal(found(wrapped, "guided", "top-logit"), expected)


def test_labels():
    space = FeatureResponse(Net(), "guided", "true-logit")
    with pytest.raises(ValueError, match='"true-logit" needs the labels of the images'):
        space.transform(TURNED)
    with pytest.raises(ValueError, match="label 5 of image 0 is not one of the classes 0 to 4"):
        space.responses(TURNED, LABELS + 1)
    assert space.responses(TURNED[:0], LABELS[:0]).shape == (0, 2, 9, 8)
    same(last(space.responses(TURNED, LABELS)), responses(steps(), "guided", "true-logit"))


def test_a_space_among_others():
    model = Net().float()
    images = np.random.default_rng(1).normal(size=(70, 2, 9, 8)).astype(np.float32)
    space = FeatureResponse(model, name="guided")
    assert space.names == ("guided",)
    assert space.node_shapes == {}
    values = space.transform(images)["guided"]
    assert values.shape == (70, 144)
    assert values.dtype == np.float32
    assert space.node_shapes == {"guided": (2, 9, 8)}
    assert space.channel_axis("guided") == 0
    for n in (0, 69):
        assert np.allclose(space.transform(images[n : n + 1])["guided"], values[n], rtol=1e-4, atol=1e-4)
    space.forward_batch = 9
    assert np.allclose(space.transform(images)["guided"], values, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"each input must have shape \(2, 9, 8\), got \(2, 9, 7\)"):
        space.transform(images[..., :7])
    for other in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert np.array_equal(other.transform(images)["guided"], space.transform(images)["guided"])
        assert other.fingerprint() == space.fingerprint()
    spaces = [TorchLayers(model, "pool"), FeatureResponse(model), Pixels((2, *SHAPE[:2]))]
    assert [one.names for one in join(spaces)] == [("pool",), ("response",), ("pixels",)]
    scanner = ModelScanner(spaces, SubsetScanDetector(tail="two-sided", false_positive_rate=0.5, random_state=0))
    assert scanner.fit(images).p_values(TURNED)["response"].shape == (7,)


def test_fingerprints():
    model = Net()
    made = [
        FeatureResponse(model, method, target).fingerprint()
        for method in METHODS
        for target in ("activations", "top-logit")
    ]
    made += [FeatureResponse(model, layer="first").fingerprint(), TorchLayers(model, "body.second").fingerprint()]
    assert len(set(made)) == len(made)
    space = FeatureResponse(model)
    before, values = space.fingerprint(), space.responses(TURNED)
    with torch.no_grad():
        model.first.weight += 0.125
    assert space.fingerprint() != before  # of what it computes now
    assert not np.allclose(space.responses(TURNED), values, rtol=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    values = found(Net().to(dtype), "guided", "max-output")
    expected = found(Net(), "guided", "max-output")
    assert values.dtype == np.float32
    assert np.allclose(values, expected, rtol=0.1, atol=0.1 * np.abs(expected).max())


def halves(images):
    """Squeeze images (n, H, W, C): each channel to 0 and 1, by a threshold of its own."""
    return (images > [0.3, 0.6]).astype(images.dtype)


def blurred(images):
    """The mean of each pixel and its left neighbour."""
    return (images + np.roll(images, 1, axis=2)) / 2


def squeezed(images):
    clipped = np.clip(images, 0, 1)
    return halves(clipped), blurred(clipped)


def test_feature_squeezing_is_that_of_numpy():
    """Squeezers get channels last, as those of the toolbox want them; test_comparators.py has these."""
    images = 1.4 * np.random.default_rng(2).random((6, *SHAPE)) - 0.2
    odds = [softmax([forward(one, steps())[-1] for one in x], axis=1) for x in (images, *squeezed(images))]
    expected = np.max([np.abs(odds[0] - other).sum(axis=1) for other in odds[1:]], axis=0)
    assert expected.min() > 0.01
    space = FeatureSqueezing(Net(), bit_depths=(), windows=(), others=[halves, blurred])
    (values,) = space.transform(images.transpose(0, 3, 1, 2)).values()
    assert np.allclose(values[:, 0], expected, atol=1e-5)
    for end, message in ((nn.Softmax(1), "probabilities"), (nn.Unflatten(1, (5, 1)), "is not a classifier")):
        with pytest.raises(ValueError, match=message):
            FeatureSqueezing(nn.Sequential(Net(), end), others=[halves], bit_depths=(), windows=()).transform(
                images.transpose(0, 3, 1, 2)
            )
    with pytest.raises(ValueError, match=r"axis of the images \(2, 9, 4\) of Net counts channels cannot be told"):
        space.transform(images.transpose(0, 3, 1, 2)[..., :4])


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_inputs_are_perturbed_along_the_gradient(temperature):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4)).eval()
    images = np.random.default_rng(2).random((7, 2, 6, 6)).astype(np.float32)
    given = torch.from_numpy(images).requires_grad_()
    (model(given) / temperature).log_softmax(dim=1).max(dim=1).values.sum().backward()
    network = PerturbedNetwork(model, magnitude=0.01, temperature=temperature)
    moved = network.perturbed(images)
    clear = np.abs(given.grad.numpy()) > 1e-4 * np.abs(given.grad.numpy()).max()
    assert clear.mean() > 0.5
    assert np.array_equal(np.sign(moved - images)[clear], np.sign(given.grad.numpy())[clear])
    assert np.array_equal(Layers(network, ["0"]).transform(images)["0"], Layers(model, ["0"]).transform(moved)["0"])
