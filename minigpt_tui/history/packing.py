"""Token ids as bytes: seven bits in each, the lowest first, the eighth bit where more follow. A text of characters
takes a byte for each token. Knows nothing of what the ids mean.
"""

from __future__ import annotations

from collections.abc import Iterable


def pack(tokens: Iterable[int]) -> bytes:
    """Token ids, each 0 or more, as bytes."""
    ids = tuple(tokens)
    if max(ids, default=0) < 0x80:
        return bytes(ids)
    packed = bytearray()
    for token in ids:
        while token >= 0x80:
            packed.append(token & 0x7F | 0x80)
            token >>= 7
        packed.append(token)
    return bytes(packed)


def unpack(packed: bytes) -> tuple[int, ...]:
    """The token ids that `pack` was given.

    Raises:
        ValueError: The bytes end within an id.
    """
    if packed.isascii():
        return tuple(packed)
    tokens, token, shift = [], 0, 0
    for byte in packed:
        token |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            tokens.append(token)
            token = shift = 0
    if shift:
        raise ValueError("the bytes end within a token id")
    return tuple(tokens)
