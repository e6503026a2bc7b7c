"""Several texts of one model, a token further each in as few passes as can be: rows of all of them are read together,
and behind each text's last token some guesses are read along, so that a pass may bring several. What is drawn is what
each text alone, token by token, would draw. It knows nothing of pace, processes or screens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from engine.inference.decoder import CHUNK
from engine.inference.generator import Drawn, Generation, Wanted
from engine.inference.sampling import draw, entropies, filter_logits

MOST_TOGETHER = 64
"""Texts in one pass; more take turns."""

WIDEST_GAP = 2
"""Texts share a pass when their slots lie at most so many times as far apart as there are texts."""


@torch.inference_mode()
def read_together(generations: Sequence[Generation]) -> None:
    """Bring texts further, so that each has its next token ready, or has read a piece of its prompt.

    Whoever takes all that is ready of each, before it asks again, has the fewest passes: what one text has ahead saves
    none as long as another one lacks its own.

    Args:
        generations: Texts of one model; those that have ended, or are ready, stay as they are.

    Raises:
        CheckpointError: The model answers with what is no number.
    """
    waiting = [generation for generation in generations if generation.is_waiting]
    steady = []
    for generation in waiting:
        behind = generation.behind()
        if len(behind) > 1:  # a prompt, or a window that has moved on
            logits = generation.decoder.read([behind[:CHUNK]], [generation.slot], last=True)
            if len(behind) <= CHUNK:
                _draw([(generation, [])], logits)
        else:
            steady.append(generation)
    steady.sort(key=lambda generation: generation.slot.index)
    for start in range(0, len(steady), MOST_TOGETHER):
        together = steady[start : start + MOST_TOGETHER]
        apart = together[-1].slot.index - together[0].slot.index + 1
        for group in [together] if apart <= WIDEST_GAP * len(together) else [[each] for each in together]:
            _pass(group)


def _pass(generations: Sequence[Generation]) -> None:
    """One pass over texts that each lack one token."""
    decoder, tempo = generations[0].decoder, generations[0].tempo
    choices = _choices(generations)
    rows = tempo.choose(choices, [generation.hope for generation in generations])
    began = time.perf_counter()
    guesses = [generation.guesses(min(rows, generation.room) - 1) for generation in generations]
    ids = [[generation.tokens[-1], *guessed] for generation, guessed in zip(generations, guesses, strict=True)]
    logits = decoder.read(ids, [generation.slot for generation in generations])
    _draw(list(zip(generations, guesses, strict=True)), logits)
    read = next(each for each in choices if each >= logits.shape[1])  # there may be fewer guesses than were asked for
    tempo.see(read, time.perf_counter() - began, len(generations))


def _choices(generations: Sequence[Generation]) -> list[int]:
    """How many rows of each text can be read."""
    if not all(generation.speculates for generation in generations):
        return [1]
    room = max(generation.room for generation in generations)
    few = [4, 8] if len(generations) == 1 else [1, 4, 8]  # of one alone, four take as long as one
    return [rows for rows in few if rows <= room] or [1]


def _draw(texts: Sequence[tuple[Generation, list[int]]], logits: Tensor) -> None:
    """Draw behind each row of each text that may count, and hand every text what comes true.

    Args:
        texts: With their guesses.
        logits: (S, R, V) behind the last token and each guess.
    """
    wanted = [generation.wanted(guessed) for generation, guessed in texts]
    if len(texts) == 1:
        texts[0][0].take(len(texts[0][1]), _drawn(wanted, logits)[0])
        return
    drawn: list[list[Drawn]] = [[] for _ in texts]
    order = sorted(range(len(texts)), key=lambda text: wanted[text].key)
    for _, group in groupby(order, key=lambda text: wanted[text].key):
        members = list(group)
        for text, found in zip(members, _drawn([wanted[text] for text in members], logits[members]), strict=True):
            drawn[text] = found
    for (generation, guessed), found in zip(texts, drawn, strict=True):
        generation.take(len(guessed), found)


def _drawn(wanted: Sequence[Wanted], logits: Tensor) -> list[list[Drawn]]:
    """What is drawn in the rows of texts whose settings are alike."""
    params, most = wanted[0].params, max(each.rows for each in wanted)
    S, V = len(wanted), logits.shape[-1]
    flat = logits[:, :most].reshape(S * most, V)
    noise = torch.stack([each.noise(most) for each in wanted]).view(S * most, V) if S > 1 else wanted[0].noise(most)
    seen = None
    if params.repetition_penalty != 1.0:
        seen = torch.stack([each.seen(most) for each in wanted]).view(S * most, V)
    filtered = filter_logits(flat, params, seen)
    ids = draw(filtered, params.temperature, noise)  # (S R,)
    logprobs = flat.log_softmax(dim=-1)
    own = logprobs.gather(1, ids[:, None])  # (S R, 1)
    drawn, chosen = ids.tolist(), own[:, 0].tolist()
    ranks, spread = [0] * len(drawn), [0.0] * len(drawn)
    if any(each.alternatives for each in wanted):
        ranks = ((logprobs > own).sum(dim=-1) + 1).tolist()
        spread = entropies(logprobs).tolist()
    found = []
    for text, each in enumerate(wanted):
        first = text * most
        rows = slice(first, first + each.come_true(drawn[first : first + each.rows]) + 1)
        tops = each.top(logprobs[rows], filtered[rows])
        told = zip(drawn[rows], chosen[rows], tops, ranks[rows], spread[rows], strict=True)
        if each.alternatives:
            found.append([Drawn(*row) for row in told])
        else:
            found.append([Drawn(token, logprob, ()) for token, logprob, *_ in told])
    return found
