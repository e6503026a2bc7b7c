"""GPT-2's way of writing bytes as characters, for tokenizers that can encode any text."""

from __future__ import annotations

import functools

import tokenizers
from tokenizers import decoders, pre_tokenizers, processors


def make_byte_level(backend: tokenizers.Tokenizer) -> None:
    """GPT-2's way of reading: text is cut into words by its pattern, and words into bytes."""
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.decoder = decoders.ByteLevel()


@functools.cache
def byte_values() -> dict[str, int]:
    """GPT-2's table of printable characters that stand for the 256 bytes, turned round."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + n): value for n, value in enumerate(others)}
