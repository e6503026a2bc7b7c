"""Prompts from a file or a text field: one per line, or JSON Lines with settings of their own. A line that is wrong is
named by its number. Knows nothing of who writes on from them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.config import ENDLESS, SamplingParams
from engine.errors import DataError, InvalidSettingError
from engine.validation import fields, make, nearest_hint, to_dict

MOST_BYTES = 64 << 20
MOST_PROMPTS = 100_000
SUFFIXES = (".jsonl", ".ndjson")
"""Names of files whose lines are JSON."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Job(NamedTuple):
    """One prompt, and how to write on from it.

    Attributes:
        line: Where it stands, from 1.
        params: With `seed` None where neither its line nor anybody else has said one.
    """

    line: int
    prompt: str
    params: SamplingParams


def read_jobs(path: str, base: SamplingParams) -> list[Job]:
    """Read a file of prompts.

    Args:
        path: A .jsonl file, or a text with a prompt on each line; `-` is stdin, which may be either.
        base: What holds where a line does not say otherwise.

    Raises:
        DataError: It cannot be read, has no prompt, or a line of it is wrong.
    """
    name = "stdin" if path == "-" else Path(path).name
    text = read_text(path, name)
    return parse_jobs(text, base, name, as_json=is_json(path, text))


def is_json(path: str, text: str) -> bool:
    """Whether the lines of a file are JSON: by its name, and on stdin by its first line."""
    return path.lower().endswith(SUFFIXES) or (path == "-" and begins_with_object(text))


def read_text(path: str, name: str) -> str:
    """A file of prompts as it is; raises as `read_jobs` does."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(path).expanduser().open("rb") as file:
                raw = file.read(MOST_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{name} cannot be read ({reason})", "give a text or a .jsonl file") from None
    if len(raw) > MOST_BYTES:
        raise DataError(f"{name} has more than {MOST_BYTES >> 20} MiB", "cut it into several")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 at byte {error.start}", "give a plain text in UTF-8") from None


def parse_jobs(text: str, base: SamplingParams, name: str, *, as_json: bool) -> list[Job]:
    """Prompts from a text; lines without anything are left out.

    Args:
        text: All lines.
        base: As in `read_jobs`.
        name: What the text is called in errors.
        as_json: Whether each line is a JSON object with a `prompt`; else each is a prompt to the letter.

    Raises:
        DataError: There is no prompt, or a line is wrong.
    """
    jobs: list[Job] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        if len(jobs) == MOST_PROMPTS:
            raise DataError(f"{name} has more than {MOST_PROMPTS:,} prompts", "cut it into several")
        try:
            job = _job(line, number, base) if as_json else Job(number, line, base)
            if job.params.max_new_tokens == ENDLESS:
                raise InvalidSettingError("max_new_tokens is endless", "a batch must come to an end: give a number")
        except InvalidSettingError as error:
            raise DataError(f"line {number} of {name}: {error.message}", error.hint) from None
        jobs.append(job)
    if not jobs:
        raise DataError(f"there is no prompt in {name}", "give one on each line")
    return jobs


def _job(line: str, number: int, base: SamplingParams) -> Job:
    """One line of JSON.

    Raises:
        InvalidSettingError: It is none, has no prompt, or a setting is unknown or out of range.
    """
    try:
        given = _decode(line.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSettingError(f"it is no JSON object ({error})", '{"prompt": "…"} is one') from None
    prompt = given.pop("prompt", None)
    if not isinstance(prompt, str):
        raise InvalidSettingError("it has no prompt" if prompt is None else "its prompt is no text", '{"prompt": "…"}')
    if not given:
        return Job(number, prompt, base)
    known = fields(SamplingParams)
    for key in given:
        if key not in known:
            raise InvalidSettingError(f"there is no setting {key}", nearest_hint(key, known))
    stop = given.get("stop")
    if isinstance(stop, str | list):
        given["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return Job(number, prompt, make(SamplingParams, {**to_dict(base), **given}))


def begins_with_object(text: str) -> bool:
    """Whether the first line that says anything is an object with a prompt."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    try:
        return "prompt" in _decode(first.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, RecursionError):
        return False
