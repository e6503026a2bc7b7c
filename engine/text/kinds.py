"""Which kind of tokenizer the library's own object is, by its parts, and what of it cannot be used. Knows nothing of
files.
"""

from __future__ import annotations

from typing import Literal

import tokenizers
from tokenizers import models

from engine.errors import TokenizerError
from engine.text.byte_level import byte_values

TokenizerKind = Literal["char", "byte", "bpe"]

LONGEST_PREFIX = 8
"""Tokens before a text; the models that are known have one or two."""

FRESH_COPY = "take a fresh copy of the model"

READABLE = "models with characters, bytes or byte-level BPE can be read"


def kind_of(backend: tokenizers.Tokenizer, plain: dict[str, int]) -> TokenizerKind:
    """The kind of a tokenizer.

    Args:
        backend: The library's tokenizer.
        plain: Its tokens but the added ones, by their spelling.

    Raises:
        TokenizerError: It is of another kind, such as SentencePiece's or WordPiece.
    """
    if "ByteLevel" in repr(backend.decoder) and isinstance(backend.model, models.BPE):
        return "byte" if len(plain) == 256 and set(plain) == set(byte_values()) else "bpe"
    if plain and backend.normalizer is None and all(len(token) == 1 for token in plain):
        return "char"
    kind = type(backend.model).__name__
    if kind == "Unigram" or getattr(backend.model, "byte_fallback", False) or "Metaspace" in repr(backend.decoder):
        raise of_sentencepiece()
    raise TokenizerError(f"a tokenizer of this kind ({kind}) is not known", READABLE)


def of_sentencepiece() -> TokenizerError:
    """The error to raise for a tokenizer of SentencePiece: its tokens are texts with their own spaces, not bytes."""
    return TokenizerError("the model's tokenizer is one of SentencePiece, which is not known here", READABLE)


def check_ids(kind: TokenizerKind, vocabulary: dict[str, int]) -> None:
    """Every id stands for one token, and in a vocabulary of characters or bytes there is none that stands for none.

    Raises:
        TokenizerError: It is not so.
    """
    ids = set(vocabulary.values())
    if len(ids) < len(vocabulary):
        raise TokenizerError("the tokenizer has one id for several tokens", FRESH_COPY)
    if kind != "bpe" and max(ids) >= len(ids):
        missing = next(id for id in range(len(ids) + 1) if id not in ids)
        raise TokenizerError(f"the tokenizer has no token with the id {missing}", FRESH_COPY)


def prefix_of(backend: tokenizers.Tokenizer) -> tuple[int, ...]:
    """The special tokens that a tokenizer puts before a text.

    Raises:
        TokenizerError: They are too many, or one is no added token of its vocabulary.
    """
    read = backend.encode("a")
    words = next((place for place, special in enumerate(read.special_tokens_mask) if not special), 0)
    prefix = tuple(read.ids[:words])
    if len(prefix) > LONGEST_PREFIX:
        raise TokenizerError(f"the tokenizer puts {len(prefix):,} tokens before a text", FRESH_COPY)
    added = backend.get_added_tokens_decoder()
    if (unknown := next((id for id in prefix if id not in added), None)) is not None:
        raise TokenizerError(
            f"the tokenizer puts the id {unknown} before a text, which is no special token", FRESH_COPY
        )
    return prefix
