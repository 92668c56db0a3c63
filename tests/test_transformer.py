"""Transformers read from texts: short names, pooling by the mask, what is cut; beside numpy, text by text."""

import numpy as np
import pytest

from subsetscan import ModelScanner, SubsetScanDetector
from subsetscan.networks import TextNetwork
from subsetscan.networks.blocks import block_names
from subsetscan.spaces import ClassifierMargin, Layers, TransformerLayers, join
from subsetscan.spaces.positions import read_positions

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
helper, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

WORDS = ["[PAD]", "[CLS]", *"abcdefghij"]
rng = np.random.default_rng(0)
TABLE = rng.normal(size=(len(WORDS), 4)).astype(np.float32)
MIX, WIDE, BACK = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 4), (4, 6), (6, 4)))
TEXTS = ["a b c", "d", "e f g h i j a", "", "b b", "j i h g f"]


def words_tokenizer():
    vocabulary = {word: n for n, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 1)]
    )
    return tokenizer


@pytest.fixture
def tokenizer():
    return words_tokenizer()


@pytest.fixture
def encoder(tmp_path):
    """Two blocks, each of which mixes all tokens by the mask, widens, and narrows; names as exporters write them."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"], "/embeddings/word/Gather"),
        helper.make_node("Cast", ["attention_mask"], ["real"], "/Cast", to=FLOAT),
        helper.make_node("Unsqueeze", ["real", "last"], ["column"], "/Unsqueeze"),
        helper.make_node("ReduceSum", ["real", "last"], ["count"], "/ReduceSum", keepdims=1),
        helper.make_node("Unsqueeze", ["count", "last"], ["counts"], "/Unsqueeze_1"),
    ]
    hidden = "embedded"
    for n in range(2):
        scope = f"/encoder/layer.{n}"
        nodes += [
            helper.make_node("Mul", [hidden, "column"], [f"kept{n}"], f"{scope}/attention/Mul"),
            helper.make_node("ReduceSum", [f"kept{n}", "tokens"], [f"sum{n}"], f"{scope}/attention/ReduceSum"),
            helper.make_node("Div", [f"sum{n}", "counts"], [f"mean{n}"], f"{scope}/attention/Div"),
            helper.make_node("MatMul", [hidden, "mix"], [f"mixed{n}"], f"{scope}/attention/MatMul"),
            helper.make_node("Add", [f"mixed{n}", f"mean{n}"], [f"attended{n}"], f"{scope}/attention/Add"),
            helper.make_node("MatMul", [f"attended{n}", "wide"], [f"widened{n}"], f"{scope}/intermediate/MatMul"),
            helper.make_node("Relu", [f"widened{n}"], [f"active{n}"], f"{scope}/intermediate/Relu"),
            helper.make_node("MatMul", [f"active{n}", "back"], [f"hidden{n}"], f"{scope}/output/MatMul"),
        ]
        hidden = f"hidden{n}"
    nodes.append(helper.make_node("ReduceMean", [hidden], ["logits"], "/pool/ReduceMean", axes=[1], keepdims=0))
    constants = {
        "table": TABLE,
        "mix": MIX,
        "wide": WIDE,
        "back": BACK,
        "last": np.array([-1]),
        "tokens": np.array([1]),
    }
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(name, INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "encoder.onnx")
    return str(tmp_path / "encoder.onnx")


def by_hand(text):
    """The values of one text, (T, H) each, without padding."""
    hidden = TABLE[[1, *(WORDS.index(word) for word in text.split())]]
    found = {"hidden_0": hidden}
    for n in (1, 2):
        attended = hidden @ MIX + hidden.mean(axis=0)
        inner = np.maximum(attended @ WIDE, 0)
        hidden = inner @ BACK
        found |= {f"attention_{n}": attended, f"mlp_{n}": inner, f"hidden_{n}": hidden}
    return found


@pytest.mark.parametrize("pool", ["mean", "max", "first", "last"])
def test_each_text_has_the_values_that_it_has_alone(encoder, tokenizer, pool):
    space = TransformerLayers(encoder, tokenizer, "all", pool)
    assert set(space.names) == set(by_hand("a"))
    pooled = {"mean": lambda x: x.mean(axis=0), "max": lambda x: x.max(axis=0), "first": lambda x: x[0],
              "last": lambda x: x[-1]}[pool]  # fmt: skip
    for texts in (TEXTS, TEXTS[::-1], TEXTS[1:2], TEXTS * 30):
        values = space.transform(texts)
        for name in space.names:
            expected = np.array([pooled(by_hand(text)[name]) for text in texts])
            assert values[name].shape == expected.shape
            assert np.allclose(values[name], expected, rtol=1e-4, atol=1e-4), name
    assert space.transform([])["mlp_1"].shape == (0, 6)
    assert space.node_shapes["mlp_1"] == (6,)


def test_each_token_is_kept(encoder, tokenizer):
    space = TransformerLayers(encoder, tokenizer, ["hidden_2"], None, max_length=9)
    values = space.transform(TEXTS)["hidden_2"].reshape(-1, 9, 4)
    assert space.node_shapes == {"hidden_2": (9, 4)}
    for text, own in zip(TEXTS, values, strict=True):
        expected = by_hand(text)["hidden_2"]
        assert np.allclose(own[: len(expected)], expected, atol=1e-4)
    with pytest.raises(ValueError, match="pad_to_max_length needs a max_length"):
        TransformerLayers(encoder, tokenizer, ["hidden_2"], None)


def test_longer_texts_are_cut_and_warned_of_once(encoder, tokenizer):
    space = TransformerLayers(encoder, tokenizer, ["hidden_2"], max_length=4)
    with pytest.warns(UserWarning, match="2 of 6 texts have more than 4 tokens: what is behind these is not seen"):
        values = space.transform(TEXTS)["hidden_2"]
    assert np.allclose(values[2], by_hand("e f g")["hidden_2"].mean(axis=0), atol=1e-4)
    assert np.array_equal(space.transform(TEXTS)["hidden_2"], values)
    assert tokenizer.truncation is None  # the user's own is as it was


def test_padded_texts_have_the_same_bits(encoder, tokenizer):
    network = TextNetwork(encoder, tokenizer, max_length=8, pad_to_max_length=True)
    space = Layers(network, ["hidden_2", "mlp_1"], pool="mean", over="tokens")
    space.forward_batch = 16
    together = space.transform(TEXTS)
    for n, text in enumerate(TEXTS):
        for name, values in space.transform([text]).items():
            assert np.array_equal(values[0], together[name][n])


def test_scanners_take_texts(encoder, tokenizer, tmp_path):
    draw = np.random.default_rng(5)
    clean = [" ".join(draw.choice(list("abcdefg"), draw.integers(3, 9))) for _ in range(500)]
    odd = [" ".join(draw.choice(list("hij"), draw.integers(3, 9))) for _ in range(40)]
    spaces = [TransformerLayers(encoder, tokenizer), ClassifierMargin(TextNetwork(encoder, tokenizer))]
    assert len(join(spaces)) == 1
    scanner = ModelScanner(spaces, SubsetScanDetector(tail="two-sided", random_state=0), combine="fisher")
    scanner.fit(clean[:450])
    assert np.mean(scanner.predict(odd) == -1) > 0.3 > 0.15 > np.mean(scanner.predict(clean[450:]) == -1)
    assert scanner.explain(odd[0]).spaces.keys() == {"hidden_0", "hidden_1", "hidden_2", "margin"}
    scanner.save(tmp_path)
    new = [TransformerLayers(encoder, tokenizer), ClassifierMargin(TextNetwork(encoder, tokenizer))]
    assert ModelScanner.load(tmp_path, new).p_values([]).shape == (0,)  # shapes are not known yet
    told = ModelScanner.load(tmp_path, new).explain(odd[0])
    assert told.spaces["hidden_1"].channel_axis == 0
    assert told.spaces["hidden_1"].score == scanner.explain(odd[0]).spaces["hidden_1"].score
    again = ModelScanner.load(tmp_path, spaces)
    assert np.array_equal(again.p_values(odd), scanner.p_values(odd))
    other = words_tokenizer()
    other.normalizer = tokenizers.normalizers.Lowercase()
    with pytest.warns(UserWarning, match="hidden_0"):
        ModelScanner.load(tmp_path, [TransformerLayers(encoder, other), *spaces[1:]])
    tokenizer.enable_padding()
    ModelScanner.load(tmp_path, [TransformerLayers(encoder, tokenizer), *spaces[1:]])  # how it pads is no part of it
    tokenizer.enable_truncation(200)
    with pytest.warns(UserWarning, match="was fitted with another network for hidden_0"):
        ModelScanner.load(tmp_path, [TransformerLayers(encoder, tokenizer), *spaces[1:]])


def test_tokenizers_that_cut_otherwise_are_others(encoder):
    by_side = {}
    for side in ("left", "right"):
        tokenizer = words_tokenizer()
        tokenizer.enable_truncation(4, direction=side)
        by_side[side] = [
            TransformerLayers(encoder, tokenizer, ["hidden_1"], prefix=f"{side}{n}", max_length=n) for n in (None, 3)
        ]
    spaces = [space for pair in by_side.values() for space in pair]
    assert len(join(spaces)) == 4
    assert len({space.fingerprint() for space in spaces}) == 4
    assert len({space.stamp() for space in spaces}) == 4
    texts = ["e f g h i j a", "a b c d e"]
    with pytest.warns(UserWarning, match="2 of 2 texts have more than"):
        values = [space.transform(texts)[space.names[0]] for space in spaces]
    for own, kept in zip(values, ("i j a|c d e", "j a|d e", "e f g|a b c", "e f|a b"), strict=True):
        assert np.allclose(own, [by_hand(text)["hidden_1"].mean(axis=0) for text in kept.split("|")], atol=1e-4)


def test_ids_and_their_mask_are_taken_as_well(encoder, tokenizer):
    space = Layers(encoder, ["encoder.layer.1", "/encoder/layer.0/intermediate"], pool="mean", over="tokens")
    ids, mask = np.zeros((2, len(TEXTS), 9), np.int64)
    for n, text in enumerate(TEXTS):
        own = tokenizer.encode(text).ids
        ids[n, : len(own)], mask[n, : len(own)] = own, 1
    expected = TransformerLayers(encoder, tokenizer, ["hidden_2", "mlp_1"]).transform(TEXTS)
    for given in ({"input_ids": ids, "attention_mask": mask}, (ids, mask)):
        values = space.transform(given)
        assert np.allclose(values["hidden1"], expected["hidden_2"], atol=1e-4)
        assert np.allclose(values["active0"], expected["mlp_1"], atol=1e-4)
    mask[3] = 0
    values = space.transform({"input_ids": ids, "attention_mask": mask})
    assert np.isnan(values["hidden1"][3]).all()
    with pytest.raises(ValueError, match="NaN or infinite values in hidden1, the first is .* 3"):
        ModelScanner(space).fit({"input_ids": ids, "attention_mask": mask})


@pytest.mark.parametrize("name", ["input_ids", "x"])
def test_padding_does_not_count_where_a_network_takes_no_mask(tokenizer, tmp_path, name):
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", name], ["hidden"])],
        "embedding",
        [helper.make_tensor_value_info(name, INT64, ["n", "t"])],
        [helper.make_tensor_value_info("hidden", FLOAT, ["n", "t", 4])],
        [onnx.numpy_helper.from_array(TABLE, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ValueError, match="embedding takes no mask of padding: it needs a max_length"):
        TextNetwork(model, tokenizer)
    network = TextNetwork(model, tokenizer, max_length=9)
    for pool, by_pool in (("mean", np.mean), ("last", lambda x, axis: x[-1]), ("max", np.max)):
        values = Layers(network, ["hidden"], pool=pool, over="tokens").transform(TEXTS)["hidden"]
        expected = [by_pool(by_hand(text)["hidden_0"], axis=0) for text in TEXTS]
        assert np.allclose(values, expected, atol=1e-6)
    for text, own in zip(TEXTS, read_positions(Layers(network, ["hidden"]), TEXTS), strict=True):
        assert np.allclose(own.values, by_hand(text)["hidden_0"][1:])  # without [CLS]
        assert [text[start:end] for start, end in own.spans] == text.split()


def test_texts_for_a_network_of_one_length(tokenizer):
    keras = pytest.importorskip("keras")
    ids = keras.Input((9,), dtype="int32")
    embedded = keras.layers.Embedding(len(WORDS), 4, name="embedded")(ids)
    model = keras.Model(ids, keras.layers.Conv1D(2, 3, padding="same", name="mixed")(embedded))
    model.get_layer("embedded").set_weights([TABLE])
    space = Layers(TextNetwork(model, tokenizer), ["embedded", "mixed"], pool="mean", over="tokens")
    together = space.transform(TEXTS)
    for n, text in enumerate(TEXTS):
        assert np.allclose(together["embedded"][n], by_hand(text)["hidden_0"].mean(axis=0), atol=1e-6)
        assert np.allclose(together["mixed"][n], space.transform([text])["mixed"][0], atol=1e-6)
    with pytest.warns(UserWarning, match="1 of 1 texts have more than 9 tokens"):
        space.transform(["a b c d e f g h i j"])


def test_what_does_not_fit(encoder, tokenizer):
    with pytest.raises(ValueError, match=r"has no layer 'hidden_9'; it has 7 layers: hidden_0, hidden_1, attention_1"):
        TransformerLayers(encoder, tokenizer, ["hidden_9"])
    with pytest.raises(TypeError, match="expected a tokenizer of Hugging Face, .* got str"):
        TransformerLayers(encoder, "bert-base-uncased")
    with pytest.raises(TypeError, match="expected texts, input 1 is int"):
        TransformerLayers(encoder, tokenizer).transform(["a", 5])
    with pytest.raises(ValueError, match="over tokens, pool must be one of 'mean', 'max', 'first', 'last', got 'sum'"):
        TransformerLayers(encoder, tokenizer, pool="sum")
    with pytest.raises(ValueError, match="no stack of blocks 'decoder'; there are encoder.layer"):
        TransformerLayers(encoder, tokenizer, blocks="decoder")
    with pytest.raises(ValueError, match="over must be 'positions' or 'tokens', got 'words'"):
        Layers(encoder, "all", pool="mean", over="words")
    with pytest.raises(ValueError, match="have no axis of tokens"):
        Layers(encoder, ["logits"], pool="mean", over="tokens").transform((np.ones((2, 3), int), np.ones((2, 3), int)))


def test_blocks_by_the_names_of_known_families():
    gpt = ["transformer", "transformer.wte", "transformer.h"]
    gpt += [f"transformer.h.{n}{part}" for n in range(12) for part in ("", ".attn", ".attn.c_attn", ".mlp", ".mlp.act")]
    short = block_names(gpt)
    assert (short["hidden_12"], short["attention_1"], short["mlp_3"]) == (
        "transformer.h.11",
        "transformer.h.0.attn",
        "transformer.h.2.mlp",
    )
    assert "hidden_0" not in short
    llama = ["model.embed_tokens", "model.layers.0", "model.layers.0.self_attn", "model.layers.0.mlp", "model.norm"]
    assert block_names(llama) == {
        "hidden_0": "model.embed_tokens",
        "hidden_1": "model.layers.0",
        "attention_1": "model.layers.0.self_attn",
        "mlp_1": "model.layers.0.mlp",
    }
    both = [f"{side}.block.{n}" for side in ("encoder", "decoder") for n in range(2)]
    with pytest.raises(ValueError, match="several stacks of blocks, encoder.block, decoder.block: choose one"):
        block_names(both)
    assert block_names(both, "decoder.block") == {"hidden_1": "decoder.block.0", "hidden_2": "decoder.block.1"}
    nested = ["encoder.layer.0", "encoder.layer.0.mlp.layers.0", "encoder.layer.0.mlp.layers.1", "encoder.layer.1"]
    assert block_names(nested) == {"hidden_1": "encoder.layer.0", "hidden_2": "encoder.layer.1"}
    assert block_names(["conv1", "dense"]) == {}
