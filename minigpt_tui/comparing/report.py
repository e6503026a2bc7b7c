"""A comparison as a file: Markdown to read, JSON for programs. Plain data in, text out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from engine.validation import to_dict
from minigpt_tui.comparing import words
from minigpt_tui.comparing.column import Column
from minigpt_tui.comparing.distinct import SIZES, Unit


def as_json(columns: Sequence[Column], prompt: str, seed: int, unit: Unit) -> str:
    """All that is known, as one JSON object with a list of columns."""
    record = {"prompt": prompt, "seed": seed, "distinct_of": unit, "columns": [_record(c, seed, unit) for c in columns]}
    return json.dumps(record, ensure_ascii=False, indent=2) + "\n"


def _record(column: Column, seed: int, unit: Unit) -> dict[str, Any]:
    info, writing, parting = column.info, column.writing, column.parting
    shares = column.distinct.shares(unit)
    return {
        "model": column.name,
        "path": info.path if info else "",
        "sha256": info.sha256 if info else "",
        "device": info.device if info else "",
        "precision": info.precision if info else "",
        "params": {**to_dict(column.params), "seed": seed},
        "text": column.text,
        "tokens": writing.new_tokens,
        "finish_reason": writing.finish_reason,
        "loss": _rounded(column.loss),
        "loss_on_first_text": _rounded(column.scored),
        "tokens_per_second": round(writing.tokens_per_second, 3),
        **{f"distinct_{size}": round(share, 6) for size, share in zip(SIZES, shares, strict=True)},
        "parts_at": None if parting is None or parting.first is None else parting.place,
        "compared_by": None if parting is None else "token" if parting.by_token else "character",
        "problem": str(column.problem) if column.problem else "",
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def as_markdown(columns: Sequence[Column], prompt: str, seed: int, unit: Unit) -> str:
    """The texts one after the other, each with its figures."""
    lines = ["# Comparison", "", f"Seed {seed}, the same for all. Distinct-n counts {unit}.", "", "Prompt:", ""]
    lines += _fenced(prompt)
    for number, (column, title) in enumerate(zip(columns, words.titles(columns), strict=True), 1):
        facts = [words.came_to(column, unit), words.parting_words(number, column)]
        facts.append(f"model {column.info.path}" if column.info else "")
        lines += ["", f"## {title}", "", *[f"- {fact}" for fact in facts if fact], ""]
        lines += _fenced(column.text)
    return "\n".join(lines) + "\n"


def _fenced(text: str) -> list[str]:
    """A text to the letter: the fence is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, text, fence]
