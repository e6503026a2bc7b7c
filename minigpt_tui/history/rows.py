"""An entry as rows of the tables, and back. Knows nothing of connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from engine.config import SamplingParams
from engine.worker.protocol import ParamsAt
from minigpt_tui.history.entry import Entry, Source
from minigpt_tui.history.errors import HistoryError
from minigpt_tui.history.packing import pack, unpack

BEGINNING = 400
"""Characters of a text that a row of a list has at most."""

_SWAPPED = {0: 0xFFFF, 0xFFFF: 0}
"""SQLite's functions end a text at a zero; in the file it changes places with a character that no text has."""

MOST_TAG = 40
"""Characters of a tag."""

INSERT_ENTRY = """
INSERT INTO entries (
    time, source, model, family, parameters, device, precision, finish_reason, prompt_tokens, new_tokens,
    tokens_per_second, time_to_first_token, favourite
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

INSERT_TEXT = """
INSERT INTO texts (
    id, note, tags, prompt_length, body, prompt_ids, ids, params, changes, model_path, sha256, version
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

SELECT_ROWS = f"""
SELECT entries.id, time, source, model, finish_reason, new_tokens, favourite, tags, note != '', prompt_length,
    substr(body, 1, {BEGINNING})
FROM entries JOIN texts USING (id) WHERE entries.id IN ({{places}})
"""  # noqa: S608 (a number of ours)

SELECT_ENTRIES = """
SELECT entries.id, time, source, model, family, parameters, device, precision, finish_reason, tokens_per_second,
    time_to_first_token, favourite, note, tags, prompt_length, body, prompt_ids, ids, params, changes, model_path,
    sha256, version
FROM entries JOIN texts USING (id) WHERE entries.id IN ({places})
"""

INDEX_ENTRY = "INSERT INTO words (rowid, body, note, tags) SELECT id, body, note, tags FROM spoken WHERE id = ?"

UNINDEX_ENTRY = """
INSERT INTO words (words, rowid, body, note, tags) SELECT 'delete', id, body, note, tags FROM spoken WHERE id = ?
"""
"""Before the row changes: the index asks what it had."""

_params_decoder = msgspec.json.Decoder(SamplingParams)


class _Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of settings as it is kept."""

    position: int
    params: SamplingParams
    at: int = -1


_changes_decoder = msgspec.json.Decoder(tuple[_Change, ...])


class Row(msgspec.Struct, frozen=True):
    """What a list shows of an entry.

    Attributes:
        beginning: Of the prompt and the text behind it.
        prompt_length: How many characters of it are the prompt's.
    """

    id: int
    time: float
    source: str
    model: str
    finish_reason: str
    new_tokens: int
    favourite: bool
    tags: tuple[str, ...]
    has_note: bool
    prompt_length: int
    beginning: str


def facts_of(entry: Entry) -> tuple[Any, ...]:
    """The values of `INSERT_ENTRY`."""
    return (
        entry.time,
        entry.source,
        clean(entry.model),
        clean(entry.family),
        entry.parameters,
        clean(entry.device),
        clean(entry.precision),
        clean(entry.finish_reason),
        len(entry.prompt_tokens),
        len(entry.tokens),
        entry.tokens_per_second,
        entry.time_to_first_token,
        entry.favourite,
    )


def text_of(entry: Entry) -> tuple[Any, ...]:
    """The values of `INSERT_TEXT`, without the number."""
    return (
        clean(entry.note),
        " ".join(clean_tags(entry.tags)),
        len(entry.prompt),
        clean(entry.prompt + entry.text).translate(_SWAPPED),
        pack(entry.prompt_tokens),
        pack(entry.tokens),
        msgspec.json.encode(cleaned_params(entry.params)).decode(),
        msgspec.json.encode(_kept_changes(entry)).decode(),
        clean(entry.model_path),
        clean(entry.sha256),
        clean(entry.version),
    )


def _kept_changes(entry: Entry) -> list[_Change]:
    places = entry.change_at if len(entry.change_at) == len(entry.changes) else (-1,) * len(entry.changes)
    return [
        _Change(change.position, cleaned_params(change.params), at)
        for change, at in zip(entry.changes, places, strict=True)
    ]


def row_of(row: tuple[Any, ...]) -> Row:
    """A row of `SELECT_ROWS`."""
    number, began, source, model, reason, tokens, favourite, tags, has_note, prompt_length, beginning = row
    return Row(
        id=number,
        time=began,
        source=source,
        model=model,
        finish_reason=reason,
        new_tokens=tokens,
        favourite=bool(favourite),
        tags=tuple(tags.split()),
        has_note=bool(has_note),
        prompt_length=prompt_length,
        beginning=beginning.translate(_SWAPPED),
    )


def entry_of(row: tuple[Any, ...]) -> Entry:
    """A row of `SELECT_ENTRIES`.

    Raises:
        HistoryError: It makes no sense.
    """
    number, began, source, model, family, parameters, device, precision, finish_reason, speed, first = row[:11]
    favourite, note, tags, prompt_length, body, prompt_ids, ids, params, changes, path, sha256, version = row[11:]
    try:
        body = body.translate(_SWAPPED)
        kept = _changes_decoder.decode(changes)
        known = all(change.at >= 0 for change in kept)
        return Entry(
            id=number,
            time=began,
            source=msgspec.convert(source, Source),
            prompt=body[:prompt_length],
            text=body[prompt_length:],
            prompt_tokens=unpack(prompt_ids),
            tokens=unpack(ids),
            params=_params_decoder.decode(params),
            changes=tuple(ParamsAt(change.position, change.params) for change in kept),
            change_at=tuple(change.at for change in kept) if known else (),
            finish_reason=finish_reason,
            tokens_per_second=speed,
            time_to_first_token=first,
            model=model,
            model_path=path,
            sha256=sha256,
            family=family,
            parameters=parameters,
            device=device,
            precision=precision,
            version=version,
            favourite=bool(favourite),
            note=note,
            tags=tuple(tags.split()),
        )
    except (ValueError, TypeError, AttributeError) as error:  # a file that another program has changed
        raise HistoryError(f"generation {number} cannot be read ({error})", "delete it to go on without it") from None


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are kept: words without commas and leading `#`, each once, in their order."""
    words = (word.lstrip("#")[:MOST_TAG] for tag in tags for word in clean(tag).replace(",", " ").split())
    return tuple(dict.fromkeys(word for word in words if word))


def clean(text: str) -> str:
    """A text that can be written as UTF-8: halves of a surrogate pair become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cleaned_params(params: SamplingParams) -> SamplingParams:
    """Settings whose stop strings can be written as UTF-8."""
    cleaned: SamplingParams = params.replace(stop=tuple(map(clean, params.stop))) if params.stop else params
    return cleaned
