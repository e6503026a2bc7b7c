"""`minigpt-tui generate`: the new text on stdout as it is written, all else on stderr. Imports torch only when a
model is opened, after the settings were checked.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from engine.config import SamplingParams
from minigpt_tui.cli.failures import INTERRUPTED
from minigpt_tui.cli.options import Common, Pace, engine_options, pass_common, sampling_options, sampling_params
from minigpt_tui.cli.streams import check_text, read_prompt, say, write_json, write_text
from minigpt_tui.cli.writing import as_json, open_model, read_by, write_all

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
    interactive: bool,
    **given: Any,
) -> None:
    """Write on from PROMPT and stream the new text to stdout.

    Without PROMPT the model starts from nothing, or from stdin when that is not a terminal. The same seed gives
    the same text; without --seed one is drawn and said on stderr. On a terminal, control characters that a model
    wrote are shown as symbols; into a pipe or file the text goes to the letter. ctrl+c ends the text and keeps
    what was written.
    """
    params = sampling_params(given)
    if logprobs is not None and not as_lines:
        raise click.UsageError("--logprobs is part of the JSON: add --json")
    if interactive:
        if num_samples > 1:
            raise click.UsageError("--num-samples is not for --interactive, where each prompt has one text")
        from minigpt_tui.cli.interactive import converse

        converse(common, params, prompt=prompt, pace=pace, logprobs=logprobs, as_lines=as_lines)
        return
    if prompt is None:
        prompt = "" if sys.stdin.isatty() else read_prompt()
    check_text(prompt, "the prompt")
    _write_samples(common, prompt, params, num_samples, pace, logprobs, as_lines)


def write_sample(common: Common) -> None:
    """What `minigpt-tui` does where there is no terminal: stream a sample as plain text and say how to get more."""
    say("stdout is not a terminal, so here is a sample as plain text; for more: minigpt-tui generate --help")
    _write_samples(common, "", SamplingParams(max_new_tokens=SAMPLE_TOKENS), 1, 0.0, None, False)


def _write_samples(
    common: Common,
    prompt: str,
    params: SamplingParams,
    num_samples: int,
    pace: float,
    logprobs: int | None,
    as_lines: bool,
) -> None:
    if params.seed is None:
        from engine.inference.generator import draw_seed

        seed = draw_seed()
    else:
        seed = params.seed
    each = [params.replace(seed=seed + k) for k in range(num_samples)]
    model = open_model(common)
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
    )
    for k, written in enumerate(texts, start=1):
        if as_lines:
            write_json(as_json(model, read, written, logprobs))
        else:
            write_text("\n")
        if written.finish_reason == "cancelled":
            raise click.exceptions.Exit(INTERRUPTED)
        if k < num_samples and not as_lines:
            write_text("\n")  # an empty line between texts
