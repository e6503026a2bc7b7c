"""Tables of characters as tutorials and nanoGPT keep them, made into a tokenizer that gives every character the id that
it had. A table is JSON, or a pickle of plain values such as nanoGPT's `meta.pkl`. Knows nothing of weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken, decoders, models

from engine.errors import TokenizerError
from engine.formats.plain_pickle import MAX_BYTES, read_pickle
from engine.text.tokenizers import END_OF_TEXT, Tokenizer

META = "meta.pkl"
TO_INTEGER = ("stoi", "char_to_integer", "char_to_int", "char_to_idx", "char2idx", "char_to_id", "token_to_id", "vocab")
TO_CHARACTER = (
    "itos", "integer_to_char", "int_to_char", "idx_to_char", "idx2char", "id_to_char", "id_to_token", "chars",
    "characters",
)  # fmt: skip
"""What the two directions of a table are called."""

NO_PICKLE = "give the table as JSON: --chars FILE.json"
NO_TABLE = 'give a list of the characters by id, or an object {"stoi": {"a": 0, …}}'
LONGEST = 64
"""Characters of a token that is no character, such as <unk>."""


class Characters(NamedTuple):
    """A tokenizer of a table of characters.

    Attributes:
        lacks_end: Whether the table has no `<|endoftext|>`; the tokenizer's is one id more then.
    """

    tokenizer: Tokenizer
    lacks_end: bool


def read_characters(path: Path) -> Characters:
    """The tokenizer of a table in a file.

    Args:
        path: A JSON file, a pickle, or a folder with a `meta.pkl`.

    Raises:
        TokenizerError: It cannot be read, or is no table that gives each id one character.
        CheckpointError: It is a pickle, and holds what is no plain value.
    """
    path = path / META if path.is_dir() else path
    return from_table(_read(path), path)


def from_table(value: Any, path: Path) -> Characters:
    """`read_characters`, of a table that was in a file.

    Raises:
        TokenizerError: It is no table that gives each id one character.
    """
    tokens = _tokens(value, path)
    return Characters(_tokenizer(tokens, path), END_OF_TEXT not in tokens)


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror})", "say where the table is: --chars") from None
    if data[:1] == b"\x80":
        return read_pickle(data, str(path), NO_PICKLE)
    if len(data) > MAX_BYTES:
        raise TokenizerError(f"{path} is too long for a table of characters", NO_TABLE)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is no JSON ({error})", NO_TABLE) from None


def _tokens(value: Any, path: Path) -> list[str]:
    """The tokens by id."""
    if isinstance(value, dict):
        there = next((value[name] for name in TO_INTEGER if isinstance(value.get(name), dict)), None)
        back = next((value[name] for name in TO_CHARACTER if isinstance(value.get(name), (dict, list, str))), None)
        if there is None and back is None:  # the object is one of the two itself
            there, back = (value, None) if all(type(id) is int for id in value.values()) else (None, value)
    else:
        there, back = None, value
    tables = [_by_id(table, path) for table in (there, back) if table is not None]
    if len(tables) == 2 and tables[0] != tables[1]:
        raise TokenizerError(f"{path} has two tables that differ", "leave one of them out")
    ids = tables[0]
    if sorted(ids) != list(range(len(ids))) or not ids:
        missing = next(id for id in range(len(ids) + 1) if id not in ids)
        raise TokenizerError(f"{path} has no character for the id {missing}", NO_TABLE)
    return [ids[id] for id in range(len(ids))]


def _by_id(table: Any, path: Path) -> dict[int, str]:
    """One direction of a table, either of them, as tokens by id."""
    if isinstance(table, (list, str)):
        pairs = list(enumerate(table))
    elif isinstance(table, Mapping):
        turned = all(type(value) is int for value in table.values())
        pairs = [(value, key) if turned else (_number(key, path), value) for key, value in table.items()]
    else:
        raise TokenizerError(f"{path} is no table of characters", NO_TABLE)
    by_id: dict[int, str] = {}
    for id, token in pairs:
        if not isinstance(token, str) or not 0 < len(token) <= LONGEST or not _is_text(token):
            raise TokenizerError(f"{path} has {ascii(token)[:40]} for the id {id}, which is no character", NO_TABLE)
        if id in by_id:
            raise TokenizerError(f"{path} has two characters with the id {id}", NO_TABLE)
        by_id[id] = token
    if len(set(by_id.values())) < len(by_id):
        raise TokenizerError(f"{path} has one character for two ids", NO_TABLE)
    return by_id


def _number(key: Any, path: Path) -> int:
    if type(key) is int:
        return key
    if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10:
        return int(key)
    raise TokenizerError(f"{path} has {ascii(key)[:40]} where an id belongs", NO_TABLE)


def _is_text(token: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in token)


def _tokenizer(tokens: list[str], path: Path) -> Tokenizer:
    if not any(len(token) == 1 for token in tokens):
        raise TokenizerError(f"{path} has no character in it", NO_TABLE)
    backend = tokenizers.Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=[]))
    backend.decoder = decoders.Fuse()
    added = [token for token in tokens if len(token) > 1]  # such as <unk>: never of a text
    if END_OF_TEXT not in added:
        added.append(END_OF_TEXT)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    return Tokenizer(backend, [*tokens, END_OF_TEXT].index(END_OF_TEXT))
