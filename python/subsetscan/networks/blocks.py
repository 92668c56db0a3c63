"""Short names for what is in a transformer: which of a network's own names are its blocks, and the parts of these."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["block_names"]

_STACKS = ("layer", "layers", "h", "block", "blocks", "resblocks", "transformer_layer", "encoder_layer",
           "decoder_layer")  # fmt: skip
_BLOCK = re.compile(rf"^((?:.*[./])?(?:{'|'.join(_STACKS)}))[._/](\d+)$")
_PARTS = {"attention": ("attention", "attn", "self_attn", "self_attention", "SelfAttention"),
          "mlp": ("mlp", "feed_forward", "feedforward", "ffn", "ff", "intermediate", "DenseReluDense")}  # fmt: skip
_EMBEDDINGS = ("embeddings", "embedding", "embed_tokens", "token_and_position_embedding")


def block_names(names: Iterable[str], stack: str | None = None) -> dict[str, str]:
    """Give what is in a transformer short names.

    Parameters
    ----------
    names : iterable of str
        The network's own, such as "encoder.layer.0.attention".
    stack : str, optional
        What is before the numbers of the blocks; by default the only one there is.

    Returns
    -------
    dict of str to str
        From "hidden_0" for the embeddings, "hidden_3" for the third block, "attention_3" and "mlp_3" for parts of it,
        to the network's own names. Empty where there are no blocks.

    Raises
    ------
    ValueError
        If there are several stacks, or none of that name.

    Examples
    --------
    >>> block_names(["embeddings", "encoder.layer.0", "encoder.layer.0.attention", "encoder.layer.1"])
    {'hidden_0': 'embeddings', 'hidden_1': 'encoder.layer.0', 'attention_1': 'encoder.layer.0.attention', \
'hidden_2': 'encoder.layer.1'}
    """
    names = list(dict.fromkeys(names))
    stacks: dict[str, dict[int, str]] = {}
    for name in names:
        if found := _BLOCK.match(name):
            stacks.setdefault(found[1], {})[int(found[2])] = name
    blocks = [name for members in stacks.values() for name in members.values()]
    stacks = {name: members for name, members in stacks.items() if not any(_is_within(name, one) for one in blocks)}
    if stack is not None and stack not in stacks:
        raise ValueError(f"there is no stack of blocks {stack!r}; there are {', '.join(stacks) or 'none'}")
    if not stacks:
        return {}
    if stack is None and len(stacks) > 1:
        raise ValueError(f"there are several stacks of blocks, {', '.join(stacks)}: choose one by `blocks`")
    chosen = stacks[stack or next(iter(stacks))]
    short = {}
    embeddings = (name for name in names if _last(name) in _EMBEDDINGS)
    shallow = sorted(embeddings, key=lambda name: (_depth(name), _EMBEDDINGS.index(_last(name))))
    if shallow and not any(shallow[0].startswith(block) for block in chosen.values()):
        short["hidden_0"] = shallow[0]
    for k, block in enumerate((chosen[n] for n in sorted(chosen)), 1):
        short[f"hidden_{k}"] = block
        within = {name: name[len(block) + 1 :] for name in names if _is_within(name, block)}
        for part, known in _PARTS.items():
            own = sorted((name for name, rest in within.items() if _last(rest) in known), key=_depth)
            if own:
                short[f"{part}_{k}"] = own[0]
    return short


def _is_within(name: str, block: str) -> bool:
    return name.startswith((block + ".", block + "/"))


def _last(name: str) -> str:
    return re.split(r"[./]", name)[-1]


def _depth(name: str) -> int:
    return len(re.split(r"[./]", name))
