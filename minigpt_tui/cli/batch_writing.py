"""`generate --prompt-file`: many prompts, written on from together, each text on stdout as soon as all before it are
there. Progress goes to stderr where that is a terminal; ctrl+c keeps what is finished.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from engine.config import SamplingParams
from engine.worker.protocol import ParamsAt
from minigpt_tui.batch.prompt_lines import Job
from minigpt_tui.cli.failures import INTERRUPTED
from minigpt_tui.cli.options import Common
from minigpt_tui.cli.streams import check_text, say, write_json, write_text
from minigpt_tui.cli.writing import (
    MOST_HELD,
    Interrupt,
    OneText,
    Prompt,
    Written,
    as_json,
    most_together,
    open_writer,
)

if TYPE_CHECKING:
    from engine.checkpoints import LoadedModel

PROGRESS_SECONDS = 0.25
NAMED = 40
"""So many characters that the model has never seen are named."""

Wanted = tuple[Prompt, SamplingParams]


def write_jobs(
    common: Common,
    jobs: Sequence[Job],
    num_samples: int,
    logprobs: int | None,
    as_lines: bool,
    changes: Sequence[ParamsAt],
    keep: Callable[[LoadedModel, Prompt, Written], None],
) -> None:
    """Write on from all prompts, and print the texts in the order of the prompts.

    Args:
        common: The model, and where to compute.
        jobs: The prompts. Those without a seed get one that is drawn for all of them, and said on stderr.
        num_samples: Texts of each; the k-th uses seed + k.
        logprobs: As `writing.as_json`.
        as_lines: Print a JSON object for each text instead of the text.
        changes: Settings of each from a position on.
        keep: Called with each text.

    Raises:
        click.exceptions.Exit: ctrl+c came; what was finished is printed.
    """
    for job in jobs:
        check_text(job.prompt, f"the prompt of line {job.line}")
    drawn = None
    if any(job.params.seed is None for job in jobs):
        from engine.inference.generator import draw_seed

        drawn = draw_seed()
    model = open_writer(common)
    wanted: list[Wanted] = []
    for job, read in zip(jobs, _read_all(model, jobs), strict=True):
        seed = drawn if job.params.seed is None else job.params.seed
        wanted += [(read, job.params.replace(seed=(seed or 0) + k)) for k in range(num_samples)]
    if drawn is not None:
        say(f"seed {drawn}")
    progress = _Progress(len(wanted))
    count = 0
    with Interrupt() as interrupt:
        for (read, _), written in _in_order(model, wanted, logprobs or 0, changes, interrupt, progress):
            keep(model, read, written)
            progress.clear()
            if as_lines:
                write_json(as_json(model, read, written, logprobs))
            else:
                write_text(("\n" if count else "") + written.text + "\n")  # an empty line between texts
            count += 1
    progress.clear()
    if interrupt.pressed and count < len(wanted):
        say(f"stopped: {count} of {len(wanted)} texts are finished")
        raise click.exceptions.Exit(INTERRUPTED)


def _read_all(model: LoadedModel, jobs: Sequence[Job]) -> list[Prompt]:
    """Encode all prompts; what the model has never seen is left out, and said on stderr in one line."""
    found, lacking, never_seen = [], 0, ""
    for job in jobs:
        tokens, read, left_out = model.tokenizer.encode_prompt(job.prompt)
        found.append(Prompt(read, list(tokens)))
        lacking += bool(left_out)
        never_seen += "".join(character for character in left_out if character not in never_seen)
    if lacking:
        names = " ".join(map(repr, never_seen[:NAMED])) + (" …" if len(never_seen) > NAMED else "")
        say(f"left out of {lacking} of {len(jobs)} prompts, {model.name} has never seen it: {names}")
    return found


def _in_order(
    model: LoadedModel,
    wanted: Sequence[Wanted],
    alternatives: int,
    changes: Sequence[ParamsAt],
    interrupt: Interrupt,
    progress: _Progress,
) -> Iterator[tuple[Wanted, Written]]:
    """Write texts that share passes through the model; where one ends, the next begins. Each comes when it has ended
    and all before it have come; after ctrl+c those that have ended, and no others.
    """
    from engine.inference.together import read_together

    at_once = most_together(model)
    waiting = deque(wanted)
    begun: deque[tuple[Wanted, OneText]] = deque()
    held = 0  # tokens of texts that wait for one before them
    while (waiting or begun) and not interrupt.pressed:
        writing = [text for _, text in begun if not text.has_ended]
        while waiting and len(writing) < at_once and held * (1 + alternatives) < MOST_HELD:
            one = waiting.popleft()
            writing.append(OneText(model, *one, alternatives, changes))
            begun.append((one, writing[-1]))
        if writing:
            before = sum(len(text.tokens) for text in writing)
            read_together([text.generation for text in writing])
            for text in writing:
                text.step()
            new = sum(len(text.tokens) for text in writing) - before
            held += new
            progress.add(new, sum(text.has_ended for text in writing))
        while begun and begun[0][1].has_ended:
            one, text = begun.popleft()
            held -= len(text.tokens)
            yield one, text.end(_nowhere)
    for one, text in begun:
        if text.has_ended:
            yield one, text.end(_nowhere)


def _nowhere(_text: str) -> None:
    """A text of many is shown when it is whole."""


class _Progress:
    """A line on stderr that says how far it is, where that is a terminal.

    Args:
        total: How many texts there will be.
    """

    def __init__(self, total: int) -> None:
        self._total, self._ended, self._tokens = total, 0, 0
        self._began = time.perf_counter()
        self._said = 0.0
        self._wanted = sys.stderr.isatty()
        self._stands = False

    def add(self, tokens: int, ended: int) -> None:
        """So many more tokens, and texts that have ended."""
        self._tokens, self._ended = self._tokens + tokens, self._ended + ended
        now = time.perf_counter()
        if self._wanted and now - self._said >= PROGRESS_SECONDS:
            self._said, self._stands = now, True
            rate = self._tokens / max(1e-6, now - self._began)
            sys.stderr.write(f"\r\x1b[K{self._ended:,} of {self._total:,} · {rate:,.0f} tok/s")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away, so that something else can stand there."""
        if self._stands:
            self._stands = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
