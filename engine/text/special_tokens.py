"""The special tokens of a chat: which names in a rendered text are commands to the model, and which are somebody's
words. Knows nothing of models, nor of templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

AS_WORDS = "\ufdd1"
"""Stands behind the name of a special token that somebody wrote: their words are text to the letter. Unicode keeps this
character for a program's own use, so that no text has it."""


class Added(Protocol):
    """A token beside the vocabulary, as the `tokenizers` library describes it."""

    @property
    def content(self) -> str:
        """Its name."""

    @property
    def special(self) -> bool:
        """Whether it is a command rather than a word."""

    @property
    def lstrip(self) -> bool:
        """Whether it takes the space before it with it."""

    @property
    def rstrip(self) -> bool:
        """Whether it takes the space after it with it."""


def as_words(text: str, names: Iterable[str]) -> str:
    """Somebody's words for a template: no name of a special token in them will be read as one.

    Args:
        text: What somebody wrote.
        names: Of the special tokens.
    """
    text = text.replace(AS_WORDS, "")
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = text.replace(name, name + AS_WORDS)
    return text


def cut_at_names(text: str, added: Mapping[int, Added]) -> list[str | int]:
    """Cut a rendered text at the names of special tokens, which become their ids; the marks of `as_words` go.

    Args:
        text: The text.
        added: The tokens beside the vocabulary, by their ids.
    """
    patterns, ids = [], []
    for id, token in sorted(added.items(), key=lambda item: len(item[1].content), reverse=True):
        if token.special and token.content:
            before, after = r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else ""
            patterns.append(f"({before}{re.escape(token.content)}(?!{AS_WORDS}){after})")
            ids.append(id)
    parts: list[str | int] = []
    place = 0
    for found in re.finditer("|".join(patterns) or "(?!)", text):
        parts += [text[place : found.start()], ids[(found.lastindex or 1) - 1]]
        place = found.end()
    parts.append(text[place:])
    return [part if isinstance(part, int) else part.replace(AS_WORDS, "") for part in parts if part != ""]
