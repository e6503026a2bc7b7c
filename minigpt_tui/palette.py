"""What the palette can find: every action of `actions.py`, and the models on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.fuzzy import Matcher

from engine.catalog import CheckpointInfo, list_checkpoints
from minigpt_tui.actions import ACTIONS, Action
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.top_line import count_text


class ActionProvider(Provider):
    """Finds actions by their title."""

    async def discover(self) -> Hits:
        """All actions, in their order."""
        for action in ACTIONS:
            if action.palette:
                run = partial(self.app.run_action, action.target)
                yield DiscoveryHit(Content(_name(action)), run, _name(action), _literal(action.sentence))

    async def search(self, query: str) -> Hits:
        """The actions that match."""
        matcher = self.matcher(query)
        for action in ACTIONS:
            score = matcher.match(_name(action)) if action.palette else 0
            if score > 0:
                run = partial(self.app.run_action, action.target)
                yield Hit(score, highlighted(matcher, _name(action)), run, _name(action), _literal(action.sentence))


def _literal(text: str) -> str:
    """Markup that shows a text as it is: the palette takes all help for markup, and a model's name is anybody's."""
    return text.replace("[", r"\[")


def highlighted(matcher: Matcher, text: str) -> Content:
    """A text with the letters that match; unlike the matcher's own way, brackets in it are no markup."""
    content = Content(text)
    for offset in matcher.fuzzy_search.match(matcher.query, text)[1]:
        if not text[offset].isspace():
            content = content.stylize(matcher.match_style, offset, offset + 1)
    return content


def _name(action: Action) -> str:
    return f"{action.title[:1].upper()}{action.title[1:]}" + (f"  ({action.shown})" if action.shown else "")


class ModelProvider(Provider):
    """Finds the models on this machine by name."""

    async def startup(self) -> None:
        """Read their directories, beside the loop."""
        self._models = await asyncio.to_thread(list_checkpoints)

    async def discover(self) -> Hits:
        """All models, the default first."""
        for info in self._models:
            name = visible_line(info.name)
            yield DiscoveryHit(Content(name), self._choose(info), name, _literal(model_facts(info)))

    async def search(self, query: str) -> Hits:
        """The models that match."""
        matcher = self.matcher(query)
        for info in self._models:
            name = visible_line(info.name)
            if (score := matcher.match(name)) > 0:
                yield Hit(score, highlighted(matcher, name), self._choose(info), name, _literal(model_facts(info)))

    def _choose(self, info: CheckpointInfo) -> partial[Coroutine[Any, Any, bool]]:
        return partial(self.app.run_action, f"app.use_model({info.name!r})")


def model_facts(info: CheckpointInfo) -> str:
    """What is known of a model, on one line."""
    if info.problem:
        return visible_line(f"damaged: {info.problem}")
    facts = [info.family, count_text(info.parameters), f"{info.tokenizer} {info.vocab_size}".strip()]
    if info.val_loss is not None:
        facts.append(f"validation loss {info.val_loss:.2f}")
    if info.trained_on:
        facts.append(f"trained on {info.trained_on}")
    return visible_line(" · ".join(fact for fact in facts if fact))
