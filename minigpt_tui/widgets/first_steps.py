"""Three short steps for whoever is here for the first time, one after the other. It shows the one that it is told."""

from __future__ import annotations

from typing import NamedTuple

from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from minigpt_tui.actions import by_id, hint


class Step(NamedTuple):
    """What can be done next.

    Attributes:
        title: A word or two.
        sentences: Markup; each key stands in braces, by the id of its action.
    """

    title: str
    sentences: str


STEPS = (
    Step(
        "write",
        "Type how a text begins and press {generate}. Or let go of the prompt with {stop} and press {from_nothing}: "
        "it begins with nothing.",
    ),
    Step(
        "turn",
        "While it writes, {raise_temperature} makes it wilder, {lower_temperature} safer. Each change acts at the "
        "next letter and leaves a mark. {full_speed} is full speed, {stop} stops.",
    ),
    Step(
        "look inside, make your own",
        "{inspect} shows how sure the model was of each letter, and what it nearly wrote. {show_train} trains a model "
        "on a text of yours. {help} has every key.",
    ),
)


class FirstSteps(Static):
    """A panel between the text and the prompt."""

    DEFAULT_CSS = """
    FirstSteps {
        height: auto;
        max-height: 6;
        border: round $accent;
        border-title-color: $accent;
        border-subtitle-color: $quiet;
        padding: 0 1;
        link-style: none;
        link-background: transparent;
    }
    """

    step: reactive[int] = reactive(0)
    """Which one is shown, from 0."""

    def watch_step(self, step: int) -> None:
        """Say what can be done."""
        title, sentences = STEPS[step]
        self.border_title = Content(f"{step + 1} of {len(STEPS)} · {title}")
        self.border_subtitle = hint("next_step", "next" if step + 1 < len(STEPS) else "done")
        self.update(Content.from_markup(sentences.format_map(_Keys())))


class _Keys(dict[str, str]):
    """The key of an action, by its id."""

    def __missing__(self, action_id: str) -> str:
        return f"[$key]{by_id(action_id).shown}[/]"
