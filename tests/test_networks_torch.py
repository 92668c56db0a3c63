"""PyTorch modules as networks; run where torch is installed: `make test-torch`."""

import collections
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from subsetscan import ModelScanner
from subsetscan.detectors import SubsetScanDetector
from subsetscan.networks import TorchNetwork, as_network, layer_names
from subsetscan.spaces import ClassifierMargin, Layers, ReconstructionError, TorchLayers, join

torch = pytest.importorskip("torch")
nn = torch.nn


class Net(nn.Module):
    """A convolution, a normalization, one activation that is used twice, and a dense layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            collections.OrderedDict(conv=nn.Conv2d(1, 3, 3), norm=nn.BatchNorm2d(3), drop=nn.Dropout(0.5))
        )
        self.act = nn.ReLU()
        self.flat = nn.Flatten()
        self.dense = nn.Linear(48, 4)

    def forward(self, x):
        return self.act(self.dense(self.flat(self.act(self.body(x)))))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Net().train()
    model.body.norm.running_mean += torch.tensor([0.1, 0.2, 0.3])
    return model


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(10, 1, 6, 6)).astype(np.float32)


def own(model, images):
    """The values after the convolution, the normalization and the dense layer, as the module in inference has them."""
    quiet = copy.deepcopy(model).eval()
    with torch.inference_mode():
        conv = quiet.body.conv(torch.from_numpy(images))
        norm = quiet.body.norm(conv)
        return [x.numpy() for x in (conv, norm, quiet.dense(torch.flatten(torch.relu(norm), 1)))]


def test_modules_have_the_values_of_inference(model, images):
    assert layer_names(model) == ("body", "body.conv", "body.norm", "body.drop", "act", "flat", "dense")
    assert isinstance(as_network(model), TorchNetwork)
    space = TorchLayers(model, ["body.conv", "body.norm", "dense"])
    assert space.node_shapes == {}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.body.conv.eval()  # a mode of its own
    random = torch.random.get_rng_state()
    values = space.transform(images)
    for name, expected in zip(space.names, own(model, images), strict=True):
        assert np.allclose(values[name], expected.reshape(10, -1), atol=1e-6), name
    assert space.node_shapes == {"body.conv": (3, 4, 4), "body.norm": (3, 4, 4), "dense": (4,)}
    assert [space.channel_axis(name) for name in space.names] == [0, 0, 0]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [m.training for m in (model, model.body, model.body.conv, model.dense)] == [True, True, False, True]
    assert torch.equal(random, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_and_modes_go_back_where_a_pass_fails(model, images):
    space = TorchLayers(model, "dense")
    with pytest.raises(ValueError, match="Net cannot compute inputs of shape"):
        space.transform(images[..., :3])
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_several_calls_and_outputs(model, images):
    with pytest.warns(UserWarning, match="act of Net gave 2 tensors in a pass, of which act:0 is read; the others are"):
        first = TorchLayers(model, "act").transform(images)["act"]
    both = TorchLayers(model, ["act:0", "act:1"]).transform(images)
    assert np.array_equal(both["act:0"], first)
    _, norm, dense = own(model, images)
    assert np.allclose(both["act:0"], np.maximum(norm, 0).reshape(10, -1), atol=1e-6)
    assert np.allclose(both["act:1"], np.maximum(dense, 0), atol=1e-6)
    with pytest.raises(ValueError, match="act of Net gave 2 tensors in a pass, act:2 is none of them"):
        TorchLayers(model, ["act:2"]).transform(images)
    lstm = nn.LSTM(5, 3, batch_first=True)
    outer = nn.Sequential(collections.OrderedDict(rnn=lstm))
    rows = np.random.default_rng(2).normal(size=(4, 7, 5)).astype(np.float32)
    space = TorchLayers(outer, "rnn:0", pool="mean")
    with torch.inference_mode():
        expected = lstm(torch.from_numpy(rows))[0].numpy()
    assert np.allclose(space.transform(rows)["rnn:0"], expected.mean(axis=1), atol=1e-6)
    with pytest.raises(ValueError, match=r"rnn:1 of Sequential does not have a row for each input: .* \(1, 4, 3\)"):
        TorchLayers(outer, "rnn:1").transform(rows)


def test_values_are_those_before_a_module_that_works_in_place(images):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True))
    with torch.inference_mode():
        expected = model[0](torch.from_numpy(images)).numpy().reshape(10, -1)
    assert expected.min() < 0
    assert np.allclose(TorchLayers(model, "0").transform(images)["0"], expected, atol=1e-6)


class Tagged(dict):
    """As Hugging Face's ModelOutput: a mapping with several tensors."""


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.block = nn.Linear(6, 6)
        self.unused = nn.Linear(2, 2)

    def forward(self, input_ids, attention_mask):
        x = self.block(self.embed(input_ids)) * attention_mask.unsqueeze(-1)
        return Tagged(last=x, pooled=x.mean(1))


def test_named_inputs_and_integers():
    torch.manual_seed(1)
    model = Transformer()
    draws = np.random.default_rng(3)
    inputs = {"input_ids": draws.integers(0, 9, (6, 5)), "attention_mask": np.ones((6, 5), np.float32)}
    space = TorchLayers(model, ["embed", "block"])
    values = space.transform(inputs)
    table = model.embed.weight.detach().numpy()
    assert np.array_equal(values["embed"], table[inputs["input_ids"]].reshape(6, -1))
    assert space.node_shapes == {"embed": (5, 6), "block": (5, 6)}
    assert [space.channel_axis(name) for name in space.names] == [1, 1]
    assert np.array_equal(space.transform(tuple(inputs.values()))["block"], values["block"])
    pooled = TorchLayers(model, "block", pool="max").transform(inputs)["block"]
    assert np.allclose(pooled, values["block"].reshape(6, 5, 6).max(axis=1), atol=1e-6)
    with pytest.raises(ValueError, match="unused of Transformer was not called, or returned no tensor"):
        TorchLayers(model, "unused").transform(inputs)
    with pytest.raises(ValueError, match="numbers of rows differ: input_ids 6, attention_mask 5"):
        space.transform(inputs | {"attention_mask": np.ones((5, 5), np.float32)})
    scanner = ModelScanner(space, SubsetScanDetector(false_positive_rate=0.5, random_state=0))
    many = {"input_ids": draws.integers(0, 9, (40, 5)), "attention_mask": np.ones((40, 5), np.float32)}
    assert scanner.fit(many).p_values(many)["block"].shape == (40,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(model, images, dtype):
    expected = TorchLayers(model, "dense").transform(images)["dense"]
    values = TorchLayers(copy.deepcopy(model).to(dtype), "dense").transform(images)["dense"]
    assert values.dtype == np.float32
    assert np.allclose(values, expected, atol=0.1 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore::DeprecationWarning:torch")
def test_wrapped_modules(model, images):
    expected = TorchLayers(model, "dense").transform(images)["dense"]
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        assert np.array_equal(TorchLayers(wrapped, "dense").transform(images)["dense"], expected)
    with pytest.raises(TypeError, match="a scripted module calls no hooks within itself"):
        TorchLayers(torch.jit.trace(model.eval(), torch.from_numpy(images)), "dense")
    with pytest.raises(TypeError, match="expected a PyTorch module, got int"):
        TorchNetwork(3)


def test_a_scanner_of_all_modules(model, images, tmp_path):
    clean = np.random.default_rng(4).normal(size=(80, 1, 6, 6)).astype(np.float32)
    layers = TorchLayers(model, ["body.conv", "dense"])
    scanner = ModelScanner.automatic(layers, false_positive_rate=0.5).fit(clean)
    assert scanner.predict(images + 6).tolist() == [-1] * 10
    scanner.save(tmp_path / "fitted")
    loaded = ModelScanner.load(tmp_path / "fitted", TorchLayers(model, ["body.conv", "dense"]))
    assert np.array_equal(loaded.p_values(images), scanner.p_values(images))
    with torch.no_grad():
        model.dense.weight += 1
    with pytest.warns(UserWarning, match="another network for body.conv, dense"):
        ModelScanner.load(tmp_path / "fitted", TorchLayers(model, ["body.conv", "dense"]))
    assert as_network(model).computing() == ("body.conv", "body.norm", "act", "dense")


def test_margin_error_and_shared_passes(model, images):
    dense = own(model, images)[2]
    logits = np.sort(np.maximum(dense, 0), axis=1)
    calls = []
    handle = model.dense.register_forward_hook(lambda *_: calls.append(1))
    (joined,) = join([TorchLayers(model, "dense"), ClassifierMargin(model)])
    joined.transform(images)
    calls.clear()
    values = joined.transform(images)
    handle.remove()
    assert calls == [1]
    assert np.allclose(values["margin"][:, 0], logits[:, -2] - logits[:, -1], atol=1e-6)
    assert np.allclose(values["dense"], dense, atol=1e-6)
    with pytest.raises(ValueError, match="the outputs of Sequential are probabilities"):
        ClassifierMargin(nn.Sequential(model, nn.Softmax(dim=1))).transform(images)
    half = nn.Sequential(nn.Identity())
    assert not ReconstructionError(half).transform(images)["reconstruction_error"].any()
    with pytest.raises(ValueError, match="is not an autoencoder"):
        ReconstructionError(model).transform(images)


def test_what_depends_on_more_than_the_input(images):
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean(0, keepdim=True)

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.ones(()))

        def forward(self, x):
            self.count += 1
            return x * self.count

    for kind in (Noisy, Centred):
        with pytest.raises(ValueError, match="the same input has other values elsewhere .* in 0 of Sequential"):
            TorchLayers(nn.Sequential(kind()), "0").transform(images)
    counting = nn.Sequential(Counting())
    space = TorchLayers(counting, "0")
    for _ in range(3):
        assert np.array_equal(space.transform(images)["0"], 2 * images.reshape(10, -1))
    assert counting[0].count == 1


@pytest.mark.parametrize("training", [False, True])
def test_threads(model, images, training):
    model.train(training)
    space = Layers(model, ["body.conv", "dense"])
    batches = [images + n for n in range(8)]
    expected = [space.transform(batch) for batch in batches]

    def others(batch):
        with torch.inference_mode():
            model(torch.from_numpy(batch))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            # In training these would change the statistics of batches.
            calls = [pool.submit(others, batch) for batch in batches if not training]
            found = list(pool.map(space.transform, batches))
            assert all(call.result() is None for call in calls)
            for own, right in zip(found, expected, strict=True):
                assert all(np.allclose(own[name], right[name], atol=1e-5) for name in right)
    assert all(module.training == training for module in model.modules())


def test_copies(model, images):
    space = TorchLayers(model, "dense")
    values = space.transform(images)["dense"]
    for other in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert np.array_equal(other.transform(images)["dense"], values)
        assert other.fingerprint() == space.fingerprint()


def test_one_input_at_a_time(model, images):
    space = TorchLayers(model, ["body.conv", "dense"])
    at_once = space.transform(images)
    for n in range(3):
        alone = space.transform(images[n : n + 1])
        assert all(np.allclose(alone[name], at_once[name][n : n + 1], atol=1e-5) for name in at_once)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("new", [False, True])
def test_the_exported_network_has_the_same_names_and_values(model, images, tmp_path, new):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    quiet = copy.deepcopy(model).eval()
    if new:
        pytest.importorskip("onnxscript")
        options = {"dynamic_shapes": {"x": {0: torch.export.Dim("n")}}}
    else:
        options = {"dynamic_axes": {"x": {0: "n"}}, "do_constant_folding": False}
        options |= {"training": torch.onnx.TrainingMode.PRESERVE}
    torch.onnx.export(quiet, (torch.from_numpy(images),), str(path), dynamo=new, input_names=["x"], **options)
    names = ["body.norm", "dense"] if new else ["body.conv", "body.norm", "dense"]  # the new one merges the first two
    theirs, ours = Layers(path, names).transform(images), TorchLayers(model, names).transform(images)
    for (name, values), expected in zip(theirs.items(), ours.values(), strict=True):
        assert np.allclose(values, expected, atol=1e-5), name


def _scale(model):
    with torch.no_grad():
        model.dense.weight.mul_(2)


def _load(model):
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})


def _replace(model):
    model.act = nn.Tanh()  # which has no weights


def _write_data(model):
    model.dense.weight.data.mul_(2)


def _write_array(model):
    model.dense.weight.detach().numpy()[...] += 1


@pytest.mark.parametrize("change", [_scale, _load, _replace, _write_data, _write_array])
def test_what_has_changed_is_warned_of_at_the_next_scan(model, images, change):
    many = np.concatenate([images + shift for shift in np.linspace(0, 1, 9, dtype=np.float32)])
    scanner = ModelScanner(Layers(model, ["dense"]), SubsetScanDetector(random_state=0)).fit(many)
    scanner.p_values(images)
    change(model)
    with pytest.warns(UserWarning, match="with another network for dense"):
        scanner.p_values(images)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("writable", [True, False])
def test_a_module_that_writes_to_its_input_leaves_the_images(dtype, writable):
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(12, 3)).to(torch.float64 if dtype == np.float64 else None)
    images = np.random.default_rng(0).normal(size=(5, 12)).astype(dtype)
    before = images.copy()
    images.flags.writeable = writable
    found = Layers(module, ["1"]).transform(images)["1"]
    np.testing.assert_array_equal(images, before)
    weights, bias = (parameter.detach().numpy() for parameter in module[1].parameters())
    np.testing.assert_allclose(found, np.maximum(before, 0) @ weights.T + bias, rtol=1e-5, atol=1e-6)
    tensor = torch.tensor(before)
    np.testing.assert_array_equal(Layers(module, ["1"]).transform(tensor)["1"], found)
    np.testing.assert_array_equal(tensor.numpy(), before)
