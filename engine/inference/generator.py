"""Streaming generation: token ids in, tokens out, one at a time, for as long as wanted. It knows nothing of pace,
processes or screens; whoever iterates sets the speed, and may change the settings between two tokens.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from ctypes import CDLL
from typing import NamedTuple

import torch
from torch import Tensor

from engine.checkpoints import LoadedModel
from engine.config import ENDLESS, SamplingParams
from engine.errors import DataError
from engine.inference.decoder import Decoder
from engine.inference.draft import Draft
from engine.inference.native.guessing import NativeDraft, fits
from engine.inference.noise import Noise
from engine.inference.sampling import shares
from engine.inference.slots import WORTH_COPYING, Slot
from engine.inference.stream import Alternative, TextStream, Token
from engine.inference.tempo import Hope, Tempo
from engine.inference.window import window_start

NO_FILTERS = (0, 1.0, 0.0, 1.0)
"""Top-k, top-p, min-p and repetition penalty that change nothing."""


class Drawn(NamedTuple):
    """A token that comes next, its logprob and, where they are asked for, the likeliest ones in its place, its rank and
    the entropy of all.
    """

    token: int
    logprob: float
    top: tuple[Alternative, ...]
    rank: int = 0
    entropy: float = 0.0


class Wanted(NamedTuple):
    """What is to be drawn for a text: behind its last token and behind each guess.

    Attributes:
        key: Equal for texts that can be drawn together; empty for those that the library draws.
    """

    generation: Generation
    params: SamplingParams
    key: tuple[float, ...]
    guesses: list[int]
    alternatives: int

    @property
    def rows(self) -> int:
        """How many rows count."""
        return 1 + len(self.guesses)

    @property
    def library(self) -> CDLL | None:
        """What draws: the library that reads, for settings that filter nothing; None for torch."""
        return None if self.key else self.generation.decoder.library

    def noise(self, rows: int) -> Tensor:
        """The noise of the next positions, (rows, V)."""
        return self.generation.noise.rows(self.generation.position, rows)

    def seen(self, rows: int) -> Tensor:
        """Which ids each row's text has, (rows, V)."""
        seen = self.generation.seen().repeat(rows, 1)
        for place, guess in enumerate(self.guesses[: rows - 1]):
            seen[place + 1 :, guess] = True
        return seen

    def top(self, logprobs: Tensor, filtered: Tensor) -> list[tuple[Alternative, ...]]:
        """The likeliest tokens of each row, of (rows, V) logprobs, with their shares after the filters."""
        values, ids = logprobs.topk(self.alternatives)
        piece = self.generation.model.tokenizer.piece
        drawn = shares(filtered, self.params.temperature).gather(1, ids).tolist()
        return [
            tuple(Alternative(id, piece(id), min(logprob, 0.0), share) for id, logprob, share in zip(*row, strict=True))
            for row in zip(ids.tolist(), values.tolist(), drawn, strict=True)
        ]

    def come_true(self, ids: Sequence[int]) -> int:
        """How many of the guesses are what was drawn, up to the first that is not."""
        came_true = 0
        while came_true < len(self.guesses) and ids[came_true] == self.guesses[came_true]:
            came_true += 1
        return came_true


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
        self,
        model: LoadedModel,
        prompt_tokens: Sequence[int],
        params: SamplingParams,
        *,
        alternatives: int = 0,
        speculate: bool = True,
    ) -> None:
        """Prepare; the prompt is read when the first token is asked for.

        Args:
            model: The model.
            prompt_tokens: Ids to write on from, each below the vocabulary's size.
            params: How to draw; without a seed one is drawn here.
            alternatives: How many of the likeliest tokens each token is reported with.
            speculate: Whether guesses may be read along; the text is the same.

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
        self._end = self._end_with(params)
        self.noise = Noise(self.seed, model.config.vocab_size, model.decoder.device)
        self.hope = Hope(self.tempo.hope)
        self.speculates = speculate and model.decoder.rows_alike
        self._stream = TextStream(params.stop, after=self._open_character())
        self._draft = self._new_draft() if self.speculates else None
        self._ahead: deque[Drawn] = deque()
        self._slot: Slot | None = None
        self._begin = self._held = 0  # where its window begins, and how many of its tokens the slot surely holds
        self._seen: Tensor | None = None
        self._seen_to = 0

    @property
    def params(self) -> SamplingParams:
        """The settings of the next token."""
        return self._params

    def set_params(self, params: SamplingParams) -> None:
        """Draw from the next token on with other settings; the seed stays what it was."""
        if _draws(params) != _draws(self._params):
            self._ahead.clear()  # what was drawn ahead was drawn as before
        self._params = params.replace(seed=self.seed)
        self._end = self._end_with(params)
        self._stream.stop = params.stop

    def _end_with(self, params: SamplingParams) -> float:
        """How many tokens the text has when it is full."""
        limit = params.max_new_tokens
        return math.inf if limit == ENDLESS else len(self.prompt_tokens) + limit

    @property
    def position(self) -> int:
        """The next token's index from the start of the prompt."""
        return len(self.tokens)

    @property
    def new_tokens(self) -> int:
        """Tokens written so far."""
        return len(self.tokens) - len(self.prompt_tokens)

    @property
    def _is_full(self) -> bool:
        return len(self.tokens) >= self._end

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
        if self.finish_reason is None and self._is_full:
            self._finish("length")
        if self.finish_reason is not None:
            raise StopIteration
        return self._next()

    def ready(self) -> Iterator[Token]:
        """The tokens that were drawn already; the text ends with them where nothing more comes."""
        while self.finish_reason is None and (self._ahead or self._is_full):
            if (token := next(self, None)) is not None:
                yield token

    def ready_text(self) -> str:
        """Take what was drawn already, all at once or a first token, and return the text that it releases. Whoever asks
        goes on until the text waits or has ended.
        """
        ahead, tokenizer = self._ahead, self.model.tokenizer
        ids = [drawn.token for drawn in ahead if drawn.logprob == drawn.logprob]
        data = b"".join(map(tokenizer.token_bytes, ids))
        plain = 0 < len(ids) == len(ahead) <= self._end - len(self.tokens) and tokenizer.eot_id not in ids
        if not plain or self._stream.stops_in(data):
            token = next(self, None)  # the text ends here, or soon
            return "" if token is None else token.text
        ahead.clear()
        self.tokens += ids
        return self._stream.push(data)

    def _next(self) -> Token:
        if not self._ahead:
            self.read()
        token, logprob, top, rank, entropy = self._ahead.popleft()
        if logprob != logprob:  # NaN
            raise self.model.no_number()
        if token == self.model.tokenizer.eot_id:
            self._finish("stop")
            raise StopIteration
        position = self.position
        self.tokens.append(token)
        text = self._stream.push(self.model.tokenizer.token_bytes(token))
        if self._stream.stopped:
            self._finish("stop")
        piece = self.model.tokenizer.piece(token)
        return Token(token, position, text, piece, min(logprob, 0.0), top, rank, entropy)

    def read(self) -> None:
        """Have the next token drawn, unless it is there."""
        if not self.is_waiting:
            return
        from engine.inference.together import read_together  # which knows of this module

        while self.is_waiting:
            read_together([self])

    # What `engine.inference.together` asks for, and brings.

    @property
    def decoder(self) -> Decoder:
        """What reads the text."""
        return self.model.decoder

    @property
    def tempo(self) -> Tempo:
        """What passes of its model cost."""
        return self.model.tempo

    @property
    def is_waiting(self) -> bool:
        """Whether its next token is yet to be drawn."""
        return self.finish_reason is None and not self._ahead and not self._is_full

    @property
    def slot(self) -> Slot:
        """Where its keys and values are."""
        if self._slot is None:
            self._slot, self._held = self.decoder.slots.take(self, self._window()), 0
        return self._slot

    @property
    def has_begun(self) -> bool:
        """Whether it has a slot."""
        return self._slot is not None

    def will_share(self, other: Generation) -> bool:
        """Whether more of its beginning can be copied from another text when that has been read further."""
        end = len(other.slot.held) + WORTH_COPYING
        beginning = self._window(end)
        return len(beginning) == end and beginning == other._window(end)

    @property
    def room(self) -> int:
        """How many rows fit behind what the slot holds."""
        return self.model.config.block_size - len(self.slot.held)

    def behind(self) -> list[int]:
        """The tokens of the window that the slot does not hold, the last one always among them."""
        slot, begin = self.slot, window_start(len(self.tokens), self.model.config.block_size)
        if begin != self._begin:
            self._begin, self._held = begin, 0
        self._held = slot.keep(self.tokens[begin + self._held : -1], self._held)
        return self.tokens[begin + self._held :]

    def noise_address(self, rows: int) -> int:
        """Where the noise of the next positions lies, (rows, V), or 0 for a greedy text, which needs none."""
        return self.noise.address(self.position, rows) if self._params.temperature else 0

    def ask_draft(self, count: int) -> NativeDraft | None:
        """What is to guess at most so many tokens that may come next, with others; None where `guesses` does."""
        if not count or not isinstance(self._draft, NativeDraft):
            return None
        self._draft.want(self.tokens, self.noise_address(count), self._params.temperature, count)
        return self._draft

    def guesses(self, count: int) -> list[int]:
        """At most so many tokens that may come next."""
        if not count or not isinstance(self._draft, Draft):
            return []
        temperature = self._params.temperature
        noise = self.noise.plain_rows(self.position, count) if temperature else []
        return self._draft.guess(self.tokens, noise, temperature, count)

    def wanted(self, guesses: list[int]) -> Wanted:
        """What is to be drawn when these guesses are read along."""
        key = _draws(self._params)
        if key[1:] == NO_FILTERS and self.decoder.is_native:
            key = ()
        return Wanted(self, self._params, key, guesses, self._alternatives)

    def seen(self) -> Tensor:
        """Which ids are in the text so far, (V,)."""
        if self._seen is None:
            self._seen = torch.zeros(self.model.config.vocab_size, dtype=torch.bool, device=self.decoder.device)
        self._seen[self.tokens[self._seen_to :]] = True
        self._seen_to = len(self.tokens)
        return self._seen

    def take(self, guessed: int, drawn: Sequence[Drawn]) -> None:
        """Take what was drawn behind the last token and behind each guess that came true, of so many guesses."""
        if guessed:
            self.hope.see(len(drawn) - 1, guessed)
        self._ahead.extend(drawn)

    def _new_draft(self) -> Draft | NativeDraft:
        table, library = self.model.draft_table, self.decoder.library
        if table is not None and library is not None and fits(table):
            return NativeDraft(library, table, self.model.config.vocab_size)
        return Draft(table, self.tokens)

    def _window(self, most: int | None = None) -> list[int]:
        """The tokens that the model sees, or so many of the first."""
        begin = window_start(len(self.tokens), self.model.config.block_size)
        return self.tokens[begin : None if most is None else begin + most]

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

    def _finish(self, reason: str) -> None:
        self.finish_reason = reason
        self.tail = self._stream.close()
        self._ahead.clear()
        if self._slot is not None:
            self.decoder.slots.release(self._slot)
            self._slot = None


def _draws(params: SamplingParams) -> tuple[float, ...]:
    """The settings that say which token comes next."""
    return params.temperature, params.top_k, params.top_p, params.min_p, params.repetition_penalty


def draw_seed() -> int:
    """A seed that nobody chose, short enough to be read out."""
    return secrets.randbelow(2**31)
