"""How fast a loaded model writes and reads, measured through `Generation`, as the app gets it. Each measure warms up
first, and takes rounds until its time is over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np

from engine.benchmarking.figures import Figure, figure
from engine.checkpoints import LoadedModel
from engine.config import SamplingParams
from engine.inference.generator import Generation
from engine.inference.together import read_together

ROUNDS = 5
"""Rounds of writing, which last as long as one gives them, beside the one that warms up."""

MOST_ROUNDS = 25
"""Rounds of what takes its own time."""

TEXTS = 8
"""Texts that are written together."""

PROMPT_CHARACTERS = 200
"""Length of the prompt whose first token is waited for, where the context has room for it."""

Round = Callable[[int], float]
"""Measures once; what it is given is another number each time."""


def decode_speed(model: LoadedModel, seconds: float) -> Figure:
    """Tokens per second of one text, from nothing to the end of the context, and then of another one."""
    return figure("decode", model.precision, _write(model, 1, seconds), guesses=model.decoder.rows_alike)


def unguessed_speed(model: LoadedModel, seconds: float) -> Figure | None:
    """The same with no guesses read along; None where there are none anyway."""
    if not model.decoder.rows_alike:
        return None
    return figure("unguessed", model.precision, _write(model, 1, seconds, speculate=False))


def together_speed(model: LoadedModel, seconds: float) -> Figure:
    """Tokens per second of several texts in all, where a new one begins as soon as one ends."""
    return figure("together", model.precision, _write(model, TEXTS, seconds), texts=TEXTS)


def prefill_speed(model: LoadedModel, seconds: float) -> Figure:
    """Tokens per second of reading a prompt of half a context, and drawing what follows."""
    length = max(1, model.config.block_size // 2)

    def read(number: int) -> float:
        # Any ids are read equally fast; others each time, so that nothing that was read before can help.
        prompt = np.random.default_rng(number).integers(model.tokenizer.vocab_size, size=length).tolist()
        began = time.perf_counter()
        next(Generation(model, prompt, _one_token(number)), None)
        return length / (time.perf_counter() - began)

    return figure("prefill", model.precision, _rounds(read, seconds), tokens=length)


def first_token_time(model: LoadedModel, seconds: float) -> Figure:
    """Milliseconds from a prompt as text to the first token."""
    text = _own_words(model, seconds / 2)

    def wait(number: int) -> float:
        turn = number % len(text) if text else 0
        began = time.perf_counter()
        prompt = model.tokenizer.encode_prompt(text[turn:] + text[:turn])[0]  # another one each time, as above
        next(Generation(model, prompt, _one_token(number)), None)
        return 1000 * (time.perf_counter() - began)

    return figure("first-token", model.precision, _rounds(wait, seconds / 2), characters=len(text))


def _rounds(measure: Round, seconds: float) -> list[float]:
    """What rounds give until the time is over, one at least; the first one warms up and counts in the time alone."""
    end = time.perf_counter() + seconds
    measure(0)
    values = [measure(1)]
    while len(values) < MOST_ROUNDS and time.perf_counter() < end:
        values.append(measure(len(values) + 1))
    return values


def _write(model: LoadedModel, texts: int, seconds: float, *, speculate: bool = True) -> list[float]:
    """Tokens per second of so many texts at once in each of the rounds; a step is the least that a round takes."""
    seeds = itertools.count()

    def begin() -> Generation:
        params = SamplingParams(seed=next(seeds), max_new_tokens=max(1, model.config.block_size - 1))
        return Generation(model, (), params, speculate=speculate)

    speeds, running = [], [begin() for _ in range(texts)]
    for _ in range(ROUNDS + 1):
        written, began = 0, time.perf_counter()
        end = began + seconds / (ROUNDS + 1)
        while not written or time.perf_counter() < end:
            read_together(running)
            for place, generation in enumerate(running):
                written += sum(1 for _ in generation.ready())
                written += generation.finish_reason == "stop"  # <|endoftext|> is drawn as any other token is
                if generation.finish_reason is not None:
                    running[place] = begin()
        speeds.append(written / (time.perf_counter() - began))
    return speeds[1:]


def _own_words(model: LoadedModel, seconds: float) -> str:
    """A prompt that the model wrote itself: 200 characters, or what the context has room for.

    What it cannot write in time is what it wrote again; of a model that writes nothing, it is empty.
    """
    text, most = "", max(1, model.config.block_size - 1)
    end = time.perf_counter() + seconds
    for seed in range(PROMPT_CHARACTERS):  # a text may end at once
        generation = Generation(model, (), SamplingParams(seed=seed, max_new_tokens=most))
        for token in generation:
            text += token.text
            if len(text) >= PROMPT_CHARACTERS or time.perf_counter() >= end:
                generation.cancel()
        if len(text) >= PROMPT_CHARACTERS or time.perf_counter() >= end:
            break
    text = (text * PROMPT_CHARACTERS)[:PROMPT_CHARACTERS]
    while (length := len(model.tokenizer.encode(text))) > most:
        text = text[: len(text) * most // length]
    return text


def _one_token(seed: int) -> SamplingParams:
    return SamplingParams(seed=seed, max_new_tokens=1)
