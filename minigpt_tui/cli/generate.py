"""`minigpt-tui generate`: the new text on stdout as it is written, all else on stderr. Imports torch only when a
model is opened, after the settings were checked.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from engine.config import SamplingParams
from engine.worker.protocol import ParamsAt
from minigpt_tui.cli.failures import INTERRUPTED
from minigpt_tui.cli.keeping import Keeping
from minigpt_tui.cli.options import Common, Pace, engine_options, pass_common, sampling_options, sampling_params
from minigpt_tui.cli.streams import check_text, read_prompt, say, write_json, write_text
from minigpt_tui.cli.writing import as_json, open_writer, read_by, write_all
from minigpt_tui.setting_changes import parse_changes

SAMPLE_TOKENS = 300
"""Length of the sample that `minigpt-tui` writes where there is no terminal."""


@click.command()
@click.argument("prompt", required=False)
@sampling_options
@click.option("--num-samples", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="How many texts; the k-th uses seed + k.")  # fmt: skip
@click.option("--pace", type=Pace(), default=0.0, metavar="N",
              help="Tokens per second at most; 0 is full speed.  [default: 0]")  # fmt: skip
@click.option("--logprobs", type=click.IntRange(0), metavar="K",
              help="With --json: each token's logprob, and the K likeliest there.")  # fmt: skip
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per text.")
@click.option("--change", "change_words", multiple=True, metavar="POSITION:KEY=VALUE,...",
              help="Other settings from a token on, counted from the prompt's start.")  # fmt: skip
@click.option("--prompt-file", metavar="FILE",
              help="Many prompts: one on each line, or .jsonl with settings of their own; - is stdin.")  # fmt: skip
@click.option("--record/--no-record", default=None,
              help="Keep the texts in the history.  [default: history.record_shell, off]")  # fmt: skip
@click.option("--interactive", is_flag=True, help="Ask for prompts until ctrl+d; /help there says more.")
@engine_options
@pass_common
def generate(
    common: Common,
    /,
    prompt: str | None,
    num_samples: int,
    pace: float,
    logprobs: int | None,
    as_lines: bool,
    change_words: tuple[str, ...],
    prompt_file: str | None,
    record: bool | None,
    interactive: bool,
    **given: Any,
) -> None:
    """Write on from PROMPT and stream the new text to stdout.

    Without PROMPT the model starts from nothing, or from stdin when that is not a terminal. The same seed gives
    the same text; without --seed one is drawn and said on stderr. On a terminal, control characters that a model
    wrote are shown as symbols; into a pipe or file the text goes to the letter. ctrl+c ends the text and keeps
    what was written.

    With --prompt-file the texts share passes through the model, and come in the order of the prompts. A line of a
    .jsonl file is {"prompt": "…"}, with temperature, seed, stop and so on where they differ; ctrl+c keeps the
    texts that are finished.
    """
    params = sampling_params(given)
    changes = parse_changes((check_text(word, "--change") for word in change_words), params)
    if logprobs is not None and not as_lines:
        raise click.UsageError("--logprobs is part of the JSON: add --json")
    if interactive:
        if num_samples > 1:
            raise click.UsageError("--num-samples is not for --interactive, where each prompt has one text")
        if prompt_file is not None:
            raise click.UsageError("--prompt-file is not for --interactive")
        if changes:
            raise click.UsageError("--change is not for --interactive, where /SETTING VALUE changes the next text")
        from minigpt_tui.cli.interactive import converse

        with Keeping(record) as keeping:
            converse(common, params, prompt=prompt, pace=pace, logprobs=logprobs, as_lines=as_lines, keep=keeping.keep)
        return
    if prompt_file is not None:
        if prompt is not None:
            raise click.UsageError("--prompt-file and PROMPT are two ways to say it: give one")
        if pace > 0:
            raise click.UsageError("--pace is not for --prompt-file, whose texts are shown when they are whole")
        from minigpt_tui.batch.prompt_lines import read_jobs
        from minigpt_tui.cli.batch_writing import write_jobs

        with Keeping(record) as keeping:
            write_jobs(common, read_jobs(prompt_file, params), num_samples, logprobs, as_lines, changes, keeping.keep)
        return
    if prompt is None:
        prompt = "" if sys.stdin.isatty() else read_prompt()
    check_text(prompt, "the prompt")
    with Keeping(record) as keeping:
        _write_samples(common, prompt, params, num_samples, pace, logprobs, as_lines, changes, keeping)


def write_sample(common: Common) -> None:
    """What `minigpt-tui` does where there is no terminal: stream a sample as plain text and say how to get more."""
    say("stdout is not a terminal, so here is a sample as plain text; for more: minigpt-tui generate --help")
    _write_samples(common, "", SamplingParams(max_new_tokens=SAMPLE_TOKENS), 1, 0.0, None, False, (), Keeping(False))


def _write_samples(
    common: Common,
    prompt: str,
    params: SamplingParams,
    num_samples: int,
    pace: float,
    logprobs: int | None,
    as_lines: bool,
    changes: Sequence[ParamsAt],
    keeping: Keeping,
) -> None:
    if params.seed is None:
        from engine.inference.generator import draw_seed

        seed = draw_seed()
    else:
        seed = params.seed
    each = [params.replace(seed=seed + k) for k in range(num_samples)]
    model = open_writer(common)
    read = read_by(model, prompt)
    if params.seed is None:
        say(f"seed {seed}")
    texts = write_all(
        model,
        read,
        each,
        (lambda _: None) if as_lines else write_text,
        pace=pace,
        alternatives=logprobs or 0,
        changes=changes,
    )
    for k, written in enumerate(texts, start=1):
        keeping.keep(model, read, written)
        if as_lines:
            write_json(as_json(model, read, written, logprobs))
        else:
            write_text("\n")
        if written.finish_reason == "cancelled":
            raise click.exceptions.Exit(INTERRUPTED)
        if k < num_samples and not as_lines:
            write_text("\n")  # an empty line between texts
