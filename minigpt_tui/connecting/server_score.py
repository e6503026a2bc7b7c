"""How surprising a text is to a model behind a server, where that tells the logprobs of a prompt that it echoes. Knows
nothing of the app's protocol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from engine.errors import DataError, InvalidSettingError, MiniGPTError
from engine.inference.stream import UNTOLD
from minigpt_tui.connecting.server_api import Piece
from minigpt_tui.connecting.server_text import MOST_LOGPROBS
from minigpt_tui.connecting.server_tokens import Told, tokens_of

UNKNOWN, KNOWN_BY = "the server does not tell how likely a given text is", "one that has `echo` with `logprobs` does"


class Api(Protocol):
    """What completes as a whole."""

    async def complete(self, body: dict[str, Any]) -> Piece:
        """One completion."""


@dataclass(frozen=True)
class Surprise:
    """What a text was to a model: nats per token, and each token with its share; the first has none.

    Where a server scores the first token of the text too, one without text stands before it.
    """

    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: tuple[Told, ...]
    ends: tuple[int, ...]


async def score(api: Api, model: str, text: str, alternatives: int) -> Surprise:
    """Have a server read a text.

    Raises:
        MiniGPTError: It refuses; InvalidSettingError where it does not tell, DataError where the text is too short.
    """
    wanted = min(MOST_LOGPROBS, max(1, alternatives))
    body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": wanted}
    try:
        piece = await api.complete(body)
    except MiniGPTError as error:
        if "echo" in error.message:  # llama.cpp's server fails by it
            raise InvalidSettingError(UNKNOWN, KNOWN_BY) from None
        raise
    tokens: list[Told] = []
    for one in tokens_of((piece.choices or [])[0], textless=True) if piece.choices else []:
        if sum(len(known) for known, _, _ in tokens) >= len(text):
            break  # what it wrote itself
        tokens.append(one)
    if "".join(known for known, _, _ in tokens) != text or any(logprob == UNTOLD for _, logprob, _ in tokens[1:]):
        raise InvalidSettingError(UNKNOWN, KNOWN_BY)
    if tokens and tokens[0][1] != UNTOLD:
        tokens.insert(0, ("", UNTOLD, ()))
    if len(tokens) < 2:
        raise DataError("the text is too short to score", "it needs at least two tokens")
    total = -sum(logprob for _, logprob, _ in tokens[1:])
    loss = total / (len(tokens) - 1)
    size = len(text.encode()) - len(tokens[0][0].encode())
    return Surprise(
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),
        bits_per_byte=total / math.log(2) / max(1, size),
        tokens=tuple(tokens),
        ends=tuple(accumulate(len(known) for known, _, _ in tokens)),
    )
