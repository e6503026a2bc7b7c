"""Streaming generation: token ids in, tokens out, one at a time, for as long as wanted. It knows nothing of pace,
processes or screens; whoever iterates sets the speed, and may change the settings between two tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engine.checkpoints import LoadedModel
from engine.config import ENDLESS, SamplingParams
from engine.errors import DataError
from engine.inference.noise import Noise
from engine.inference.sampling import draw, filter_logits
from engine.inference.stream import Alternative, TextStream, Token


class Generation:
    """One text being written: an iterator of its new tokens.

    The text is a pure function of model, prompt, settings (with the places where they changed) and seed.

    Attributes:
        prompt_tokens: What the text begins with; `<|endoftext|>` alone when it begins with nothing.
        tokens: All ids so far, the prompt's included.
        seed: In use for the whole text.
        finish_reason: None while it runs; then length (`max_new_tokens`), stop (a stop string, or `<|endoftext|>` was
            drawn) or cancelled.
        tail: Text that was held back until the end; it belongs behind the last token's.
    """

    def __init__(
        self, model: LoadedModel, prompt_tokens: Sequence[int], params: SamplingParams, *, alternatives: int = 0
    ) -> None:
        """Prepare; the prompt is read when the first token is asked for.

        Args:
            model: The model.
            prompt_tokens: Ids to write on from, each below the vocabulary's size.
            params: How to draw; without a seed one is drawn here.
            alternatives: How many of the likeliest tokens each token is reported with.

        Raises:
            DataError: An id is not in the vocabulary.
        """
        self.model = model
        self.prompt_tokens = tuple(prompt_tokens) or (model.tokenizer.eot_id,)
        if not all(0 <= token < model.config.vocab_size for token in self.prompt_tokens):
            raise DataError(
                "a prompt token is not in the vocabulary", f"ids go from 0 to {model.config.vocab_size - 1}"
            )
        self.tokens = list(self.prompt_tokens)
        self.seed = draw_seed() if params.seed is None else params.seed
        self.finish_reason: str | None = None
        self.tail = ""
        self._alternatives = min(alternatives, model.config.vocab_size)
        self._params: SamplingParams = params.replace(seed=self.seed)
        self._noise: Noise = Noise(self.seed, model.config.vocab_size, model.decoder.device)
        self._stream = TextStream(params.stop, after=self._open_character())
        self._cache = model.decoder.new_cache()
        self._start = 0
        self._seen: Tensor | None = None

    @property
    def params(self) -> SamplingParams:
        """The settings of the next token."""
        return self._params

    def set_params(self, params: SamplingParams) -> None:
        """Draw from the next token on with other settings; the seed stays what it was."""
        self._params = params.replace(seed=self.seed)
        self._stream.stop = params.stop

    @property
    def position(self) -> int:
        """The next token's index from the start of the prompt."""
        return len(self.tokens)

    @property
    def new_tokens(self) -> int:
        """Tokens written so far."""
        return len(self.tokens) - len(self.prompt_tokens)

    @property
    def context(self) -> int:
        """Tokens in the model's window now."""
        return len(self.tokens) - window_start(len(self.tokens), self.model.config.block_size)

    def cancel(self) -> None:
        """End here; what was written stays."""
        if self.finish_reason is None:
            self._finish("cancelled")

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        limit = self._params.max_new_tokens
        if self.finish_reason is None and limit != ENDLESS and self.new_tokens >= limit:
            self._finish("length")
        if self.finish_reason is not None:
            raise StopIteration
        return self._next()

    @torch.inference_mode()
    def _next(self) -> Token:
        params, position = self._params, self.position
        logits = self._read()
        if torch.isnan(logits).any():
            raise self.model.no_number()
        filtered = filter_logits(logits, params, self._seen_tokens())
        token = draw(filtered, params.temperature, self._noise.at(position))
        if token == self.model.tokenizer.eot_id:
            self._finish("stop")
            raise StopIteration
        logprobs = logits.log_softmax(dim=-1)
        top = self._top(logprobs, filtered) if self._alternatives else ()
        self.tokens.append(token)
        text = self._stream.push(self.model.tokenizer.token_bytes(token))
        if self._stream.stopped:
            self._finish("stop")
        piece = self.model.tokenizer.piece(token)
        return Token(token, position, text, piece, min(float(logprobs[token]), 0.0), top)

    def _read(self) -> Tensor:
        """Logits (V,) of the next token, from what the window holds; only what the cache lacks is computed."""
        start = window_start(len(self.tokens), self.model.config.block_size)
        if start != self._start:
            self._start = start
            self._cache.truncate(0)
        return self.model.decoder.read(self.tokens[start + self._cache.length :], self._cache)

    def _seen_tokens(self) -> Tensor:
        """Which ids are in the text so far, kept up to date only while the repetition penalty asks for it."""
        if self._params.repetition_penalty == 1.0:
            self._seen = None
            return torch.empty(0, dtype=torch.long)
        if self._seen is None:
            self._seen = torch.zeros(self.model.config.vocab_size, dtype=torch.bool, device=self.model.decoder.device)
            self._seen[self.tokens] = True
        self._seen[self.tokens[-1]] = True
        return self._seen.nonzero()[:, 0]

    def _open_character(self) -> bytes:
        """The bytes at the prompt's end that begin a character without ending it, as where a text is taken up again."""
        end = b"".join(self.model.tokenizer.token_bytes(token) for token in self.prompt_tokens[-4:])
        for length in range(1, min(3, len(end)) + 1):
            lead = end[-length]
            if lead >= 0xC0:
                needed = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
                return end[-length:] if needed > length else b""
            if lead < 0x80:
                break
        return b""

    def _top(self, logprobs: Tensor, filtered: Tensor) -> tuple[Alternative, ...]:
        values, ids = logprobs.topk(self._alternatives)
        if self._params.temperature == 0.0:
            drawn = torch.zeros_like(filtered)
            drawn[filtered.argmax()] = 1.0
        else:
            drawn = filtered.softmax(dim=-1)
        piece = self.model.tokenizer.piece
        rows = zip(ids.tolist(), values.tolist(), drawn[ids].tolist(), strict=True)
        return tuple(Alternative(id, piece(id), min(logprob, 0.0), share) for id, logprob, share in rows)

    def _finish(self, reason: str) -> None:
        self.finish_reason = reason
        self.tail = self._stream.close()


def window_start(length: int, block_size: int) -> int:
    """Where the window of a text of `length` tokens begins: a pure function, so that resuming sees the same window.

    It moves in steps of half a block, so a window holds between half a block and a whole one, and reading it anew
    costs each token about one more.
    """
    if length <= block_size:
        return 0
    step = max(1, block_size // 2)
    return -(-(length - block_size) // step) * step


def draw_seed() -> int:
    """A seed that nobody chose, short enough to be read out."""
    return secrets.randbelow(2**31)
