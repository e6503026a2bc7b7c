"""The tokens that a piece of a server's text is made of: what each says, its logprob, and what could have come, in
either of the shapes in which servers tell them. Knows nothing of HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from engine.inference.stream import UNTOLD
from minigpt_tui.connecting.server_api import Choice, Logprobs, ToldToken

Told = tuple[str, float, tuple[tuple[str, float], ...]]


def tokens_of(choice: Choice, *, textless: bool = False) -> list[Told]:
    """The tokens of a piece of text: what each says, its logprob, and what could have come, the likeliest first.

    Where a server does not tell them, or tells others than the text is made of (half characters have no text), the
    piece counts as one token of which nothing is known.

    Args:
        choice: The piece.
        textless: Whether tokens without text are told too, such as one that stands before each text.
    """
    text = choice.text or ""
    if choice.logprobs is not None:
        told = _told(choice.logprobs)
        if told and "".join(piece for piece, _, _ in told) == text:
            return [one for one in told if one[0] or textless]
    return [(text, UNTOLD, ())] if text else []


def _told(logprobs: Logprobs) -> list[Told]:
    if logprobs.content is not None:
        return [_told_token(one) for one in logprobs.content]
    tokens = logprobs.tokens or []
    own = logprobs.token_logprobs or [None] * len(tokens)
    tops = logprobs.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(own) == len(tops):
        return []
    return [
        (token, _logprob(one), _sorted((top or {}).items())) for token, one, top in zip(tokens, own, tops, strict=True)
    ]


def _told_token(one: ToldToken) -> Told:
    """One as chat completions have it.

    llama.cpp's server has it so for all texts. What it held back, half a character or what could have begun a stop
    string, comes with the token that ends it, under that one's figures: these are of no use then.
    """
    tops = one.top_logprobs or []
    own = next((top.token for top in tops if one.id is not None and top.id == one.id), one.token)
    if own != one.token:
        return one.token, UNTOLD, ()
    return one.token, _logprob(one.logprob), _sorted((top.token, top.logprob) for top in tops)


def _logprob(value: float | None) -> float:
    """At most 0, or that it was not told."""
    return UNTOLD if value is None or math.isnan(value) else max(-1e4, min(0.0, value))


def _sorted(tops: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """The likeliest first, each text once; what has no text, such as half a character, cannot be written on from."""
    known: dict[str, float] = {}
    for text, value in sorted((top for top in tops if not math.isnan(top[1])), key=lambda top: -top[1]):
        if text:
            known.setdefault(text, _logprob(value))
    return tuple(known.items())
