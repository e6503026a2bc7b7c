"""Several texts of one model, a token further each in as few passes as can be: rows of all of them are read together,
and behind each text's last token some guesses are read along, so that a pass may bring several. What is drawn is what
each text alone, token by token, would draw. It knows nothing of pace, processes or screens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from engine.inference.decoder import CHUNK
from engine.inference.generator import Drawn, Generation, Wanted
from engine.inference.native.drawing import draw as native_draw
from engine.inference.native.guessing import guess
from engine.inference.sampling import draw, entropies, filter_logits

MOST_TOGETHER = 64
"""Texts in one pass; more take turns."""

WIDEST_GAP = 2
"""By torch, texts share a pass when their slots lie at most so many times as far apart as there are texts."""


class Prompt(NamedTuple):
    """What a pass reads of a text's prompt, or of a window that has moved on.

    Attributes:
        is_last: Whether nothing of it is left then, so that the text's next token can be drawn.
    """

    generation: Generation
    ids: list[int]
    is_last: bool


@torch.inference_mode()
def read_together(generations: Sequence[Generation]) -> None:
    """Bring texts further, so that each has its next token ready, or more of its prompt is read.

    Whoever takes all that is ready of each, before it asks again, has the fewest passes: what one text has ahead saves
    none as long as another one lacks its own.

    Args:
        generations: Texts of one model; those that have ended, or are ready, stay as they are. Where their prompts are
            more than a pass reads, the first ones are read first; a beginning that several share is read once.

    Raises:
        CheckpointError: The model answers with what is no number.
    """
    steady, prompts, left = [], list[Prompt](), CHUNK
    for generation in generations:
        if not generation.is_waiting or (prompts and not generation.has_begun and _gains(generation, prompts, left)):
            continue
        behind = generation.behind()
        if len(behind) == 1:
            steady.append(generation)
        elif not generation.decoder.is_native:
            _pass([], [_prompt(generation, behind, CHUNK)])
        elif left:
            prompts.append(_prompt(generation, behind, left))
            left -= len(prompts[-1].ids)
    for group in _groups(steady) or [[]]:
        if group or prompts:
            _pass(group, prompts)
        prompts = []


def _gains(generation: Generation, prompts: Sequence[Prompt], left: int) -> bool:
    """Whether a text had better begin in a later pass, as there is more then that it can copy, or no room in this."""
    return not left or any(generation.will_share(prompt.generation) for prompt in prompts)


def _prompt(generation: Generation, behind: list[int], most: int) -> Prompt:
    return Prompt(generation, behind[:most], len(behind) <= most)


def _groups(steady: list[Generation]) -> list[list[Generation]]:
    """Texts that share a pass."""
    is_native = not steady or steady[0].decoder.is_native
    if not is_native:
        steady.sort(key=lambda generation: generation.slot.index)
    groups = []
    for start in range(0, len(steady), MOST_TOGETHER):
        group = steady[start : start + MOST_TOGETHER]
        apart = group[-1].slot.index - group[0].slot.index + 1
        groups += [group] if is_native or apart <= WIDEST_GAP * len(group) else [[each] for each in group]
    return groups


def _pass(steady: Sequence[Generation], prompts: Sequence[Prompt]) -> None:
    """One pass over texts that each lack one token, and over prompts."""
    began, choices = time.perf_counter(), _choices(steady)
    texts = _guessed(steady, choices)
    prompts = sorted(prompts, key=lambda prompt: not prompt.is_last)  # those behind which is drawn come first
    ids = [[generation.tokens[-1], *guesses] for generation, guesses in texts]
    most, own = max(map(len, ids), default=0), sum(map(len, ids))
    wanted = [*map(len, ids), *(int(prompt.is_last) for prompt in prompts)]
    ids += [prompt.ids for prompt in prompts]
    read = [*steady, *(prompt.generation for prompt in prompts)]
    logits = read[0].decoder.read_once(ids, [generation.slot for generation in read], wanted)
    texts += [(prompt.generation, []) for prompt in prompts if prompt.is_last]
    if texts:
        _draw(texts, logits[: len(texts)])
    if steady:
        rows = next(each for each in choices if each >= most)  # there may be fewer guesses than were asked for
        seconds = (time.perf_counter() - began) * own / sum(map(len, ids))
        steady[0].tempo.see(rows, seconds, len(steady))


def _guessed(steady: Sequence[Generation], choices: Sequence[int]) -> list[tuple[Generation, list[int]]]:
    """Texts, each with the guesses that are read along."""
    if not steady:
        return []
    rows = steady[0].tempo.choose(choices, [generation.hope for generation in steady])
    counts = [min(rows, generation.room) - 1 for generation in steady]
    drafts = [generation.ask_draft(count) for generation, count in zip(steady, counts, strict=True)]
    library = steady[0].decoder.library
    if library is not None and (asked := [draft for draft in drafts if draft]):
        guess(library, asked)
    return [
        (generation, draft.guesses if draft else generation.guesses(count))
        for generation, draft, count in zip(steady, drafts, counts, strict=True)
    ]


def _choices(generations: Sequence[Generation]) -> list[int]:
    """How many rows of each text can be read."""
    if not generations or not all(generation.speculates for generation in generations):
        return [1]
    room = max(generation.room for generation in generations)
    possible = [1, 2, 4, 8]
    if not generations[0].decoder.is_native:  # of one text alone, four take as long as one
        possible = [4, 8] if len(generations) == 1 else [1, 4, 8]
    return [rows for rows in possible if rows <= room] or [1]


def _draw(texts: Sequence[tuple[Generation, list[int]]], logits: Tensor) -> None:
    """Draw behind each row of each text that may count, and hand every text what comes true.

    Args:
        texts: With their guesses.
        logits: (S, R, V) behind the last token and each guess.
    """
    wanted = [generation.wanted(guessed) for generation, guessed in texts]
    if all(each.key == wanted[0].key for each in wanted):
        drawn = _drawn(wanted, logits)
    else:
        drawn = [[] for _ in texts]
        order = sorted(range(len(texts)), key=lambda text: wanted[text].key)
        for _, group in groupby(order, key=lambda text: wanted[text].key):
            members = list(group)
            for text, found in zip(members, _drawn([wanted[text] for text in members], logits[members]), strict=True):
                drawn[text] = found
    for (generation, guessed), found in zip(texts, drawn, strict=True):
        generation.take(len(guessed), found)


def _drawn(wanted: Sequence[Wanted], logits: Tensor) -> list[list[Drawn]]:
    """What is drawn in the rows of texts that can be drawn together, of (S, R, V) logits."""
    most = max(each.rows for each in wanted)
    logits, native, filtered = logits[:, :most], None, None
    if library := wanted[0].library:
        noise = [each.generation.noise_address(most) for each in wanted]
        native = native_draw(library, logits, [each.params.temperature for each in wanted], noise)
        drawn, chosen = native.ids, native.logprobs
    else:
        filtered = _filtered(wanted, logits)
        drawn, chosen = _drawn_by_torch(wanted, logits, filtered)
    found = []
    for text, each in enumerate(wanted):
        first = text * most
        count = each.come_true(drawn[first : first + each.rows]) + 1
        rows = list(zip(drawn[first : first + count], chosen[first : first + count], strict=True))
        if not each.alternatives:
            found.append([Drawn(token, logprob, ()) for token, logprob in rows])
            continue
        own = logits[text, :count]
        logprobs = native.all_logprobs(own, first) if native else own.log_softmax(dim=-1)
        others = filtered[text] if filtered is not None else _filtered([each], logits[text : text + 1])[0]
        found.append(_beside(each, rows, logprobs, others[:count]))
    return found


def _filtered(wanted: Sequence[Wanted], logits: Tensor) -> Tensor:
    """The logits that texts whose settings are alike are drawn from, of (S, R, V) logits: (S, R, V)."""
    params, (S, R, V) = wanted[0].params, logits.shape
    seen = None
    if params.repetition_penalty != 1.0:
        seen = torch.stack([each.seen(R) for each in wanted]).view(S * R, V)
    return filter_logits(logits.reshape(S * R, V), params, seen).view(S, R, V)


def _drawn_by_torch(wanted: Sequence[Wanted], logits: Tensor, filtered: Tensor) -> tuple[list[int], list[float]]:
    """Ids and logprobs of S R rows, of (S, R, V) logits."""
    temperature, noise = wanted[0].params.temperature, None
    if temperature:
        noise = torch.stack([each.noise(logits.shape[1]) for each in wanted])
    ids = draw(filtered, temperature, noise)  # (S, R)
    own = logits.log_softmax(dim=-1).gather(2, ids[..., None])
    return ids.flatten().tolist(), own.flatten().tolist()


def _beside(wanted: Wanted, rows: Sequence[tuple[int, float]], logprobs: Tensor, filtered: Tensor) -> list[Drawn]:
    """Drawn tokens with what could have come in their places, of (R, V) logprobs and filtered logits."""
    own = logprobs.gather(1, torch.tensor([[token] for token, _ in rows], device=logprobs.device))
    ranks = ((logprobs > own).sum(dim=-1) + 1).tolist()
    told = zip(rows, wanted.top(logprobs, filtered), ranks, entropies(logprobs).tolist(), strict=True)
    return [Drawn(token, logprob, top, rank, entropy) for (token, logprob), top, rank, entropy in told]
