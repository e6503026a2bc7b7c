"""Generations as they leave the history: Markdown, JSON lines, CSV or plain text. Texts go to the letter; pieces are
made one entry at a time, so that any number of them leaves.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from engine.safe_writing import new_file
from engine.validation import to_dict
from minigpt_tui.history.dates import local, time_text
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.shell_line import shell_line
from minigpt_tui.parameters import PARAMETERS
from minigpt_tui.saving import place_to_save

Format = Literal["md", "json", "csv", "txt"]
FORMATS: tuple[Format, ...] = ("md", "json", "csv", "txt")


def as_json(entry: Entry) -> dict[str, Any]:
    """An entry by the names that `generate --json` has, and more."""
    return {
        "id": entry.id,
        "time": local(entry.time).isoformat(timespec="seconds"),
        "source": entry.source,
        "prompt": entry.prompt,
        "text": entry.text,
        "tokens": len(entry.tokens),
        "finish_reason": entry.finish_reason,
        "seed": entry.params.seed,
        "tokens_per_second": round(entry.tokens_per_second, 3),
        "time_to_first_token": round(entry.time_to_first_token, 6),
        "model": entry.model,
        "model_path": entry.model_path,
        "sha256": entry.sha256,
        "family": entry.family,
        "parameters": entry.parameters,
        "device": entry.device,
        "precision": entry.precision,
        "params": to_dict(entry.params),
        "changes": [{"position": change.position, "params": to_dict(change.params)} for change in entry.changes],
        "favourite": entry.favourite,
        "note": entry.note,
        "tags": list(entry.tags),
        "version": entry.version,
        "prompt_ids": list(entry.prompt_tokens),
        "token_ids": list(entry.tokens),
    }


def pieces(entries: Iterable[Entry], format_: Format) -> Iterator[str]:
    """Entries as text, one after the other.

    Args:
        entries: In the order in which they are wanted.
        format_: json is one object per line.
    """
    if format_ == "csv":
        yield _csv_line(CSV_COLUMNS)
    write: dict[Format, Callable[[Entry], str]] = {
        "md": _markdown,
        "json": lambda entry: json.dumps(as_json(entry), ensure_ascii=False) + "\n",
        "csv": lambda entry: _csv_line(list(_csv_values(entry))),
        "txt": _plain,
    }
    for place, entry in enumerate(entries):
        if place and format_ in ("md", "txt"):
            yield "\n"
        yield write[format_](entry)


def export(entries: Iterable[Entry], format_: Format, path: Path, *, overwrite: bool = False) -> int:
    """Write entries to a file, whole or not at all.

    Returns:
        How many they were.

    Raises:
        FileThereError: There is a file, and `overwrite` is False.
        SaveError: It is no place for a file, or cannot be written.
        HistoryError: An entry cannot be read.
    """
    count = 0

    def counted() -> Iterator[Entry]:
        nonlocal count
        for entry in entries:
            count += 1
            yield entry

    with (
        place_to_save(path, overwrite=overwrite) as place,
        new_file(place) as temporary,
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        file.writelines(pieces(counted(), format_))
    return count


def format_of(path: Path) -> Format | None:
    """The format that a file's name asks for, if any."""
    ending = path.suffix.lower().removeprefix(".")
    return _ENDINGS.get(ending)


_ENDINGS: dict[str, Format] = {
    "md": "md",
    "markdown": "md",
    "json": "json",
    "jsonl": "json",
    "csv": "csv",
    "txt": "txt",
    "text": "txt",
}


def settings_text(entry: Entry) -> str:
    """The settings in words, such as `temperature 0.80 · top-k 40 · seed 7`."""
    return " · ".join(
        f"{each.name} {each.shown(entry.params)}"
        for each in PARAMETERS
        if each.field in ("temperature", "seed") or not each.is_default(entry.params)
    )


def facts_text(entry: Entry) -> str:
    """What wrote it and how, in words, such as `shakespeare · cpu int8 · 412 tokens at 60/s · length`."""
    speed = f" at {entry.tokens_per_second:,.0f}/s" if entry.tokens_per_second else ""
    where = f"{entry.device} {entry.precision}".strip()
    words = [entry.model, where, f"{len(entry.tokens):,} tokens{speed}", entry.finish_reason]
    return " · ".join(word for word in words if word)


def _markdown(entry: Entry) -> str:
    text = entry.prompt + entry.text
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    lines = [f"## {entry.id} · {time_text(entry.time)}{' ★' if entry.favourite else ''}", ""]
    lines += [f"{_one_line(facts_text(entry))}  ", _one_line(settings_text(entry))]
    if entry.tags:
        lines += ["", " ".join(f"#{tag}" for tag in entry.tags)]
    if entry.note:
        lines += ["", *(f"> {line}" for line in entry.note.splitlines())]
    lines += ["", f"{fence}text", text, fence, "", f"{fence}sh", shell_line(entry), fence, ""]
    return "\n".join(lines)


def _plain(entry: Entry) -> str:
    head = f"=== {entry.id} · {time_text(entry.time)} · {_one_line(facts_text(entry))} ==="
    return f"{head}\n{entry.prompt}{entry.text}\n"


CSV_COLUMNS = (
    "id", "time", "source", "model", "sha256", "device", "precision", "tokens", "finish_reason", "tokens_per_second",
    "time_to_first_token", "repetition_penalty", "temperature", "top_k", "top_p", "min_p",
    "max_new_tokens", "seed", "stop", "changes", "favourite", "tags", "note", "prompt", "text",
)  # fmt: skip


def _csv_values(entry: Entry) -> Iterator[Any]:
    values = {**to_dict(entry.params), **as_json(entry)}
    for column in CSV_COLUMNS:
        value = values[column]
        if column == "tags":
            yield " ".join(value)
        else:
            yield json.dumps(value, ensure_ascii=False) if isinstance(value, (list, tuple)) else value


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _one_line(text: str) -> str:
    return " ".join(text.split())
