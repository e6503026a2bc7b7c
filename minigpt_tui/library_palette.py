"""Presets and named prompts in the palette of the Play screen."""

from __future__ import annotations

import asyncio
from functools import partial

from textual.command import Hit, Hits, Provider

from minigpt_tui.library import presets, prompts
from minigpt_tui.library.named_tables import LibraryError
from minigpt_tui.palette import highlighted
from minigpt_tui.visible import visible_line


class LibraryProvider(Provider):
    """Finds presets and prompts by their names; a search alone brings them, the actions come first."""

    async def startup(self) -> None:
        """Read the two files, beside the loop."""
        self._found = await asyncio.to_thread(_all)

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for title, about, action in self._found:
            if (score := matcher.match(title)) > 0:
                run = partial(self.app.run_action, action)
                yield Hit(score, highlighted(matcher, title), run, title, about.replace("[", r"\["))


def _all() -> list[tuple[str, str, str]]:
    """The title, the words and the action of each; where a file is damaged, of those that ship."""
    try:
        known = presets.read_presets()
    except LibraryError:
        known = presets.SHIPPED
    try:
        named = prompts.read_prompts()
    except LibraryError:
        named = prompts.SHIPPED
    return [
        *(_found("Preset", preset.name, preset.words, "use_preset") for preset in known),
        *(_found("Prompt", prompt.name, prompt.words, "take_prompt") for prompt in named),
    ]


def _found(kind: str, name: str, words: str, action: str) -> tuple[str, str, str]:
    return f"{kind}: {visible_line(name)}", visible_line(words), f"screen.{action}({name!r})"
