"""One text of the history in full: the text with its prompt in another colour and marks where settings changed, and
what is known of it below. It shows what it is given.
"""

from __future__ import annotations

import re
from functools import reduce
from itertools import islice

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive

from minigpt_tui.actions import by_id
from minigpt_tui.history.dates import local
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.export import facts_text, settings_text
from minigpt_tui.history.searching import pieces
from minigpt_tui.history.shell_line import shell_line
from minigpt_tui.parameters import changes
from minigpt_tui.visible import visible, visible_line
from minigpt_tui.widgets.reading_pane import ReadingPane
from minigpt_tui.wrapping import wrapped

LABEL = 10
"""Cells of a fact's name."""

MOST_MARKED = 200
"""Places where a piece that was looked for is underlined."""

MOST_SHOWN = 12_000
"""Characters of a prompt, and of a text, that are shown here: more would hold the keyboard up."""


class HistoryEntry(Vertical):
    """A text and its facts."""

    DEFAULT_CSS = """
    HistoryEntry {
        & > #entry-text { height: 1fr; padding: 0 1; }
        & > #entry-facts { height: auto; max-height: 45%; padding: 0 1; border-top: solid $line; }
        &.-none > #entry-facts { display: none; }
    }
    """

    entry: reactive[Entry | None] = reactive(None)
    """What is shown."""

    words: reactive[str] = reactive("")
    """What was looked for, which is marked in the text."""

    empty_text: reactive[str] = reactive("")
    """What stands here while there is none."""

    def __init__(self, *, id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=f"{classes} -none")
        self._text = ReadingPane(id="entry-text")
        self._facts = ReadingPane(id="entry-facts")
        self._facts.can_focus = False

    def compose(self) -> ComposeResult:
        """The text above its facts."""
        yield self._text
        yield self._facts

    def watch_entry(self) -> None:
        """Show another."""
        self.fit()

    def watch_words(self) -> None:
        """Mark others."""
        self.fit()

    def watch_empty_text(self) -> None:
        """Say so."""
        self.fit()

    def on_resize(self) -> None:
        """Wrap anew."""
        self.fit()

    def fit(self) -> None:
        """Show it in the room that there is."""
        self.set_class(self.entry is None, "-none")
        if not self.is_mounted:
            return
        if self.entry is None:
            self._text.show(Content.from_markup(self.empty_text).stylize_before("$quiet"))
            return
        self._text.show(text_content(self.entry, self.words))
        self._facts.show(facts_content(self.entry, self.size.width - LABEL - 4))  # with padding and scrollbar

    def focus_text(self) -> None:
        """Go to the text, to scroll there."""
        self._text.focus()


def text_content(entry: Entry, words: str = "") -> Content:
    """The text with its prompt and its marks.

    Args:
        entry: The text.
        words: What was looked for: each piece is underlined.
    """
    parts: list[Content] = [Content.styled(visible(entry.prompt[:MOST_SHOWN]), "$prompt-text")]
    text, place = entry.text[:MOST_SHOWN], 0
    for at, mark in _marks(entry):
        if at <= len(text):
            parts += [Content(visible(text[place:at])), Content.styled(f"⟨{mark}⟩", "italic $quiet")]
            place = at
    parts.append(Content(visible(text[place:])))
    if (more := max(0, len(entry.prompt) - MOST_SHOWN) + max(0, len(entry.text) - MOST_SHOWN)) > 0:
        parts.append(
            Content.styled(f"\n… {more:,} more characters: {by_id('entry_open').shown} shows them in Play", "$quiet")
        )
    content = Content("").join(parts)
    for piece in pieces(words):
        found = islice(re.finditer(re.escape(piece), content.plain, re.IGNORECASE), MOST_MARKED)
        content = reduce(lambda text, match: text.stylize("underline", match.start(), match.end()), found, content)
    return content


def _marks(entry: Entry) -> list[tuple[int, str]]:
    """What changed, and after how many characters of the new text, where that is known."""
    places = list(entry.change_at)
    if len(places) != len(entry.changes):
        if len(entry.tokens) != len(entry.text):  # a token is no character
            return []
        places = [max(0, change.position - len(entry.prompt_tokens)) for change in entry.changes]
    found, before = [], entry.params
    for at, change in zip(places, entry.changes, strict=True):
        if said := changes(before, change.params):
            found.append((at, visible_line(said)))
        before = change.params
    return found


def facts_content(entry: Entry, width: int) -> Content:
    """What is known of a text, a name and a value on each line.

    Args:
        entry: The text.
        width: Cells of a value.
    """
    facts = [("written by", facts_text(entry)), ("settings", settings_text(entry))]
    before = entry.params
    for change in entry.changes:
        facts.append((f"from {change.position:,}", changes(before, change.params)))
        before = change.params
    first = f" · first token after {1000 * entry.time_to_first_token:,.0f} ms" if entry.time_to_first_token else ""
    facts += [
        ("when", f"{local(entry.time):%Y-%m-%d %H:%M:%S} · {entry.source}{first}"),
        ("weights", entry.sha256[:16]),
        ("tags", " ".join(f"#{tag}" for tag in entry.tags)),
        ("note", entry.note),
        ("in a shell", shell_line(entry)),
    ]
    lines = []
    for name, value in facts:
        if value:
            # Line breaks stay: in the line for a shell they are part of what it says.
            parts = [part for line in visible(value).split("\n") for part in wrapped(line, width)]
            for place, part in enumerate(parts):
                lines.append(Content.assemble((("" if place else name).ljust(LABEL), "$quiet"), " ", part))
    return Content("\n").join(lines)
