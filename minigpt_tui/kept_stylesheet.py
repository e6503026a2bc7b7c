"""A stylesheet that reads each source once. Textual reads all of them anew, two or three times, when a screen is shown
for the first time: it is told the colours again, and forgets what it has read although they are the same.
"""

from __future__ import annotations

from typing import Any

from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet

SOURCES = 1024
"""So many sources are kept as they were read: all screens together have about a hundred, Textual would keep 64."""


class KeptStylesheet(Stylesheet):
    """Styles whose sources are read again only where a colour has changed."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._read_with = dict(variables or {})
        # A Textual that keeps them elsewhere does not look here, and reads as often as it does by itself.
        self._parse_cache: LRUCache[tuple[Any, ...], Any] = LRUCache(SOURCES)

    def set_variables(self, variables: dict[str, str]) -> None:
        """Take other colours; with the same ones nothing that was read is forgotten."""
        if variables != self._read_with:
            super().set_variables(variables)
            self._read_with = dict(variables)

    def reparse(self) -> None:
        """Read what has not been read with these colours. After an error the rules are as they were.

        Raises:
            StylesheetError: A source cannot be read.
        """
        self._invalid_css = set()  # what could not be read is tried again, and told again
        self.parse()
