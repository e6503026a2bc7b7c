"""What went wrong, in words: what happened, what is safe, which key goes on. It stays until dismissed."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from minigpt_tui.visible import visible


class NoticePanel(Static):
    """A panel between the text and the prompt; hidden while all is well."""

    DEFAULT_CSS = """
    NoticePanel {
        height: auto;
        max-height: 8;
        display: none;
        border: round $error;
        border-title-color: $text-error;
        border-title-style: bold;
        border-subtitle-color: $quiet;
        padding: 0 1;
        &.-open { display: block; }
    }
    """

    keys = ""
    """Which keys go on, as markup."""

    def tell(self, title: str, sentences: str, keys: str) -> None:
        """Show the panel.

        Args:
            title: A few words.
            sentences: What happened and what is safe; plain text.
            keys: Which keys go on, as markup for the lower border.
        """
        self.border_title = Content(title)
        self.keys = keys
        self.come_from("")
        self.update(Content(visible(sentences)))
        self.add_class("-open")

    def come_from(self, way: str) -> None:
        """Show the keys, after those that lead to where they act.

        Args:
            way: Markup; empty where the keys act already.
        """
        self.border_subtitle = f"{way} · {self.keys}" if way else self.keys

    @property
    def is_open(self) -> bool:
        """Whether something is told."""
        return self.has_class("-open")

    def dismiss(self) -> bool:
        """Hide the panel; False when it was hidden."""
        was_open = self.is_open
        self.remove_class("-open")
        return was_open
