"""What the tensors of a GPT from elsewhere are, by their names: nanoGPT's, and those of the usual tutorials. A name
that is not known is refused, and so is a part that is missing. Knows nothing of what is in the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from engine.errors import CheckpointError

WHAT_IS_KNOWN = "nanoGPT's models, and tutorials' GPTs that norm before each half of a block, can be imported"

LONGEST_NAME = 200
"""Of a tensor; a longer one is no model's, and would take long to look through."""

_WRAPPERS = re.compile(r"^(?:_orig_mod|module|model|transformer|gpt|net)\.(?=.)")
"""What a name begins with where the model was compiled, spread over devices, or is a part of something."""

_ATTENTION = r"(?:sa|sa_heads?|attn|attention|self_attn|self_attention|mha|sa_layer|csa|multi_?head_attention)"
_MLP = r"(?:ffwd|ffw|ffn|ff|mlp|feed_forward|feedforward)"
_LN = r"(?:ln|norm|layer_?norm)"
_QUERY, _KEY, _VALUE = (rf"(?:{word}|{word[0]}|{word[0]}_proj|[wW]_?{word[0]}|to_{word[0]})" for word in (
    "query", "key", "value",
))  # fmt: skip

_WHOLE = {
    "embedding": r"(?:token_embedding_table|token_embeddings?|tok_embeddings?|tok_emb|token_emb|wte|embeddings?|embed)",
    "positions": r"(?:position_embedding_table|position_embeddings?|positional_embedding|pos_embeddings?|pos_embed|"
    r"pos_emb|position_emb|wpe)",
    "table": r"(?:pe|positional_encoding(?:\.pe)?|pos_encoding(?:\.pe)?|position_encoding(?:\.pe)?|pos_enc(?:\.pe)?)",
    "final_norm": rf"(?:{_LN}(?:_?f|_final)?|final_{_LN})",
    "head": r"(?:lm_head|head|fc_out|out_head|unembed|to_logits|"
    r"(?:output|final)(?:_(?:layer|head|proj|projection|linear))?)",
}
_IN_BLOCK = {
    "attention_norm": rf"(?:{_LN}_?1|attention_norm|attn_norm|input_layernorm)",
    "mlp_norm": rf"(?:{_LN}_?2|mlp_norm|ffn_norm|ff_norm|post_attention_layernorm)",
    "attention.query": rf"{_ATTENTION}\.{_QUERY}",
    "attention.key": rf"{_ATTENTION}\.{_KEY}",
    "attention.value": rf"{_ATTENTION}\.{_VALUE}",
    "attention.fused": rf"{_ATTENTION}\.(?:c_attn|qkv|qkv_proj|[wW]qkv|to_qkv|in_proj)",
    "attention.out": rf"{_ATTENTION}\.(?:proj|c_proj|out_proj|output_proj|o_proj|out|projection|[wW]_?o|to_out)",
    "mlp.up": rf"{_MLP}\.(?:c_fc|fc1|fc_1|up|up_proj|linear1|linear_1|lin1|w1|fc)",
    "mlp.down": rf"{_MLP}\.(?:c_proj|fc2|fc_2|down|down_proj|linear2|linear_2|lin2|w2|proj)",
    "mlp.numbered": rf"{_MLP}(?:\.(?:net|network|layers|seq|sequential|model))?\.(\d)",
}
_BLOCK = re.compile(r"(?:.+?\.)??(?:blocks?|h|(?:transformer_|decoder_)?(?:blocks|layers))\.(\d{1,3})\.(.+)")
_ONE_HEAD = re.compile(rf"{_ATTENTION}\.(?:heads|attention_heads|attn_heads)\.(\d{{1,3}})\.(.+)")
_HEADS_PART = {
    part: re.compile(rf"{pattern}\.(weight|bias)")
    for part, pattern in {"attention.query": _QUERY, "attention.key": _KEY, "attention.value": _VALUE}.items()
}
_ALL_WHOLE = {part: re.compile(rf"{pattern}(?:\.(weight|bias))?") for part, pattern in _WHOLE.items()}
_ALL_IN_BLOCK = {part: re.compile(rf"{pattern}[._](weight|bias)") for part, pattern in _IN_BLOCK.items()}
_MASKS = re.compile(r"(?:.+\.)?(?:tril|mask|causal_mask|attn_mask|masked_bias|trius?|position_ids|inv_freq)")
_OLD_MASK = re.compile(rf".*\b{_ATTENTION}\.bias")  # nanoGPT's and minGPT's


@dataclass
class Block:
    """One block's tensors, by their part and kind ("attention.query.weight"), each as the name that it has in the file.

    Attributes:
        whole: Those that are there once.
        heads: Those of each head, where heads are apart.
    """

    whole: dict[str, str] = field(default_factory=dict)
    heads: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Parts:
    """A model's tensors by what they are, each as the name that it has in the file.

    Attributes:
        whole: `embedding.weight`, `positions.weight` or `table.weight`, `final_norm.weight` and so on.
        blocks: First to last.
        is_numbered: Whether the MLP is a sequence with numbers for names, as in the tutorials.
        longest: Tokens that the masks of attention have room for; 0 where the file has none.
    """

    whole: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    is_numbered: bool = False
    longest: int = 0


def find_parts(shapes: Mapping[str, tuple[int, ...]]) -> Parts:
    """What each tensor of a model is.

    Args:
        shapes: The shape of each by its name.

    Raises:
        CheckpointError: A tensor is none of those that are known, or one is missing.
    """
    parts, blocks = Parts(), dict[int, Block]()
    numbered: dict[int, dict[int, dict[str, str]]] = {}
    for name, shape in shapes.items():
        bare = _bare(name) if len(name) <= LONGEST_NAME else _unknown(name, shape)
        if _MASKS.fullmatch(bare) or (_OLD_MASK.fullmatch(bare) and len(shape) > 1):
            if len(shape) > 1 and shape[-1] == shape[-2]:
                parts.longest = shape[-1]
            continue
        if in_block := _BLOCK.fullmatch(bare):
            number, rest = int(in_block[1]), in_block[2]
            _put_in_block(blocks.setdefault(number, Block()), numbered.setdefault(number, {}), name, rest, shape)
            continue
        part, kind = _matched(_ALL_WHOLE, bare.rpartition("decoder.")[2]) or _unknown(name, shape)
        _put(parts.whole, f"{part}.{kind}", name)
    for number, layers in numbered.items():
        parts.is_numbered = parts.is_numbered or bool(layers)
        _place_numbered(blocks[number], layers, number)
    if sorted(blocks) != list(range(len(blocks))):
        missing = next(number for number in range(len(blocks) + 1) if number not in blocks)
        raise CheckpointError(f"the weights have no block {missing}", "the file is not whole; save it again")
    parts.blocks = [blocks[number] for number in range(len(blocks))]
    _check_whole(parts)
    return parts


def _bare(name: str) -> str:
    while match := _WRAPPERS.match(name):
        name = name[match.end() :]
    return name


def _put_in_block(
    block: Block, numbered: dict[int, dict[str, str]], name: str, rest: str, shape: tuple[int, ...]
) -> None:
    if one_head := _ONE_HEAD.fullmatch(rest):
        part, kind = _matched(_HEADS_PART, one_head[2]) or _unknown(name, shape)
        head = int(one_head[1])
        block.heads += [{} for _ in range(head + 1 - len(block.heads))]
        _put(block.heads[head], f"{part}.{kind}", name)
        return
    part, kind = _matched(_ALL_IN_BLOCK, rest) or _unknown(name, shape)
    if part == "mlp.numbered":
        place = next(int(letter) for letter in reversed(rest) if letter.isdigit())
        _put(numbered.setdefault(place, {}), kind, name)
        return
    _put(block.whole, f"{part}.{kind}", name)


def _matched(patterns: Mapping[str, re.Pattern[str]], name: str) -> tuple[str, str] | None:
    """The part that a name is, and whether it is its weight or its bias; None where it is none of these."""
    for part, pattern in patterns.items():
        if match := pattern.fullmatch(name):
            return part, match[match.lastindex or 0] if match[match.lastindex or 0] == "bias" else "weight"
    return None


def _put(parts: dict[str, str], part: str, name: str) -> None:
    if part in parts:
        raise CheckpointError(f"{parts[part]} and {name} seem to be the same part", WHAT_IS_KNOWN)
    parts[part] = name


def _place_numbered(block: Block, layers: Mapping[int, Mapping[str, str]], number: int) -> None:
    """A sequence's linear layers: the first widens, the second comes back."""
    if not layers:
        return
    if len(layers) != 2:
        raise CheckpointError(f"the MLP of block {number} has {len(layers)} layers where 2 belong", WHAT_IS_KNOWN)
    for part, place in zip(("mlp.up", "mlp.down"), sorted(layers), strict=True):
        for kind, name in layers[place].items():
            _put(block.whole, f"{part}.{kind}", name)


def _check_whole(parts: Parts) -> None:
    if "positions.weight" not in parts.whole and "table.weight" not in parts.whole:
        raise CheckpointError(
            "the weights have no table of positions",
            "only learned positions, and others that are saved with the weights, can be imported",
        )
    _check_there(parts.whole, ("embedding.weight", "final_norm.weight"), "the weights have")
    if not parts.blocks:
        raise CheckpointError("the weights have no blocks", WHAT_IS_KNOWN)
    for number, block in enumerate(parts.blocks):
        wanted = ["attention_norm.weight", "mlp_norm.weight", "mlp.up.weight", "mlp.down.weight"]
        thirds = [f"attention.{part}.weight" for part in ("query", "key", "value")]
        if not block.heads and "attention.fused.weight" not in block.whole:
            wanted += thirds
        _check_there(block.whole, wanted, f"block {number} has")
        for head, names in enumerate(block.heads):
            _check_there(names, thirds, f"head {head} of block {number} has")


def _check_there(names: Mapping[str, str], wanted: Iterable[str], who: str) -> None:
    for part in wanted:
        if part not in names:
            raise CheckpointError(f"{who} no {part.removesuffix('.weight')}", WHAT_IS_KNOWN)


def _unknown(name: str, shape: tuple[int, ...]) -> NoReturn:
    raise CheckpointError(f"the tensor {name[:80]} of shape {shape} is no part of a GPT that is known", WHAT_IS_KNOWN)
