"""Our tokenizers as llama.cpp reads them from a GGUF file: every token spelled in GPT-2's letters for bytes, and the
merges that put tokens together. What llama.cpp would read differently is refused. Knows nothing of weights.

llama.cpp cuts a text into words by a pattern that the file names, begins with the bytes of each word, and merges them.
So a character of several bytes, which is one token of ours, is merged from its bytes; a byte that is no token by itself
falls away, as an unknown character does when ours reads a prompt. The words are the same but for letters and digits
newer than Unicode 15, which llama.cpp does not know as such.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tokenizers import pre_tokenizers

from engine.errors import TokenizerError
from engine.text.tokenizers import Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's kinds of tokens: of any text; never of a text; whole wherever it stands; of nothing."""

QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
NO_MERGE = ("ÿ", "ÿ")
"""llama.cpp wants one merge at least. This one never comes about: no text has a byte of 255."""


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


WAYS_OF_CUTTING: tuple[tuple[str, list[dict[str, Any]], bool], ...] = (
    ("gpt-2", [], True),
    ("qwen2", [_split(QWEN2_WORDS)], False),
    ("llama-bpe", [_split(LLAMA3_WORDS)], False),
    ("smollm", [{"type": "Digits", "individual_digits": True}], True),
)
"""llama.cpp's name, what cuts a text first, and whether GPT-2's pattern cuts what is left."""

TAKES_WHOLE_WORDS = "llama-bpe"
"""Where llama.cpp does not merge a word that is a token."""


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        tokens: The spelling of each id, V of them, none twice.
        kinds: Of each id: `NORMAL`, `CONTROL`, `USER_DEFINED` or `UNUSED`.
        merges: Pairs of spellings, the first that is made first.
        words: llama.cpp's name for the pattern that cuts a text into words.
        bos_id: Id of the token that a text begins with.
        eot_id: Id of the token that ends a text.
        has_prefix: Whether that which it begins with stands before every prompt.
        remark: What is read differently all the same, for the user to know; mostly empty.
    """

    tokens: list[str]
    kinds: list[int]
    merges: list[tuple[str, str]]
    words: str
    bos_id: int
    eot_id: int
    has_prefix: bool
    remark: str = field(default="")


def to_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """A tokenizer for llama.cpp.

    Args:
        tokenizer: Ours, or a foreign one that cuts a text as GPT-2's, Qwen's, Llama 3's or SmolLM's does.
        vocab_size: Rows of the model's embedding, V; at least the tokenizer's.

    Raises:
        TokenizerError: llama.cpp would read a text differently.
    """
    description = _description(tokenizer)
    added = {token["id"]: token for token in description.get("added_tokens", ())}
    words, remark = ("gpt-2", "") if tokenizer.kind == "char" else _words(description)
    plain = {id: token for token, id in description["model"]["vocab"].items() if id not in added}
    if tokenizer.kind == "char":
        plain = {id: _spelled(token) for id, token in plain.items()}
        merges = _merges_of_characters(plain.values())
    else:
        _check_model(description["model"], set(plain.values()), words)
        merges = [_pair(merge) for merge in description["model"]["merges"]]
    # A plain space is in no token's spelling, so these can be no other's.
    tokens = [f"[unused {id}]" for id in range(vocab_size)]
    kinds = [UNUSED] * vocab_size
    for id, token in plain.items():
        tokens[id], kinds[id] = token, NORMAL
    for id, token in added.items():
        tokens[id], kinds[id] = token["content"], CONTROL
        if not token["special"] and tokenizer.kind != "char" and id != tokenizer.eot_id:
            kinds[id] = _kind_of_added(token)
    spelling, ids = Counter(tokens).most_common(1)[0]
    if ids > 1:
        raise TokenizerError(
            f"{ids} tokens are spelled {spelling!r}", "llama.cpp could not tell them apart; use --to hf"
        )
    prefix = tokenizer.prefix
    if len(prefix) > 1:
        _refuse(f"puts {len(prefix)} tokens before a prompt")
    return Vocabulary(
        tokens, kinds, merges or [NO_MERGE], words, tokenizer.bos_id, tokenizer.eot_id, bool(prefix), remark
    )


def _description(tokenizer: Tokenizer) -> dict[str, Any]:
    """What its `tokenizer.json` says, also where it came from older files."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        description: dict[str, Any] = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    return description


def _spelled(text: str) -> str:
    """A text in GPT-2's letters, one for each of its UTF-8 bytes."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(part for part, _ in byte_level.pre_tokenize_str(text))


def _merges_of_characters(spellings: Iterable[str]) -> list[tuple[str, str]]:
    """Merges that make each character of its bytes, one more byte at a time.

    Their order is of no matter: a character's beginning is never part of another's rest.
    """
    return list(dict.fromkeys((letters[:end], letters[end]) for letters in spellings for end in range(1, len(letters))))


def _pair(merge: Any) -> tuple[str, str]:
    """A merge, which older files write as one string."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _words(description: dict[str, Any]) -> tuple[str, str]:
    """llama.cpp's name for how a byte-level tokenizer cuts a text, and what it does differently."""
    normalizer, cutting = description.get("normalizer"), description.get("pre_tokenizer") or {}
    if normalizer and normalizer != {"type": "NFC"}:
        _refuse(f"changes a text with {normalizer.get('type')} before it reads it")
    remark = "llama.cpp does not compose characters (NFC) as this tokenizer does" if normalizer else ""
    parts = cutting.get("pretokenizers", ()) if cutting.get("type") == "Sequence" else (cutting,)
    *before, last = parts or ({},)
    rest = last.get("use_regex", True)
    name = next((name for name, words, cuts_too in WAYS_OF_CUTTING if words == before and cuts_too == rest), "")
    if not name or last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        _refuse("does not cut a text as GPT-2's, Qwen's, Llama 3's or SmolLM's")
    return name, remark


def _check_model(model: dict[str, Any], plain: set[str], words: str) -> None:
    """Refuse what llama.cpp's merging does not have."""
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            _refuse(f"merges with {name}")
    if bool(model.get("ignore_merges")) != (words == TAKES_WHOLE_WORDS):
        _refuse(f"{'takes' if model.get('ignore_merges') else 'does not take'} whole words without merging")
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    if model.get("unk_token") and not letters <= plain:
        _refuse("has a token for bytes that it does not know")
    if strange := next((token for token in plain if not letters.issuperset(token)), None):
        _refuse(f"has the token {strange!r}, which stands for no bytes")


def _kind_of_added(token: dict[str, Any]) -> int:
    if token.get("lstrip") or token.get("rstrip") or token.get("single_word"):
        _refuse(f"finds {token['content']!r} in a text by what stands beside it")
    return USER_DEFINED


def _refuse(what: str) -> NoReturn:
    raise TokenizerError(f"the tokenizer {what}, and llama.cpp does not", "use --to hf")
