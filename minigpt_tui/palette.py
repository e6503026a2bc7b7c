"""What the palette can find: the actions of `actions.py` that the screen has, the models on this machine, and the
checkpoints of its runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.fuzzy import Matcher

from engine.catalog import CheckpointInfo, list_checkpoints, read_record, run_checkpoint, run_checkpoints
from engine.errors import CheckpointError
from engine.training.runs import list_runs
from minigpt_tui.actions import ACTIONS, Action, Where, places
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.top_line import count_text


class ActionProvider(Provider):
    """Finds actions by their title."""

    def _actions(self) -> list[Action]:
        """Those that the screen has, in their order."""
        here = {*places(self.screen), Where.EVERYWHERE}
        return [action for action in ACTIONS if action.palette and action.where in here]

    async def discover(self) -> Hits:
        """All actions, in their order."""
        for action in self._actions():
            run = partial(self.app.run_action, action.target)
            yield DiscoveryHit(Content(_name(action)), run, _name(action), _literal(action.sentence))

    async def search(self, query: str) -> Hits:
        """The actions that match."""
        matcher = self.matcher(query)
        for action in self._actions():
            if (score := matcher.match(_name(action))) > 0:
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


class CheckpointProvider(Provider):
    """Finds the checkpoints of runs, those of the chosen run first, and the best and the last of each before others."""

    async def startup(self) -> None:
        """Read their directories, beside the loop."""
        chosen = getattr(self.screen, "chosen", None)
        self._found = await asyncio.to_thread(_checkpoints, chosen.name if chosen else "")

    async def discover(self) -> Hits:
        """All checkpoints."""
        for name, facts in self._found:
            yield DiscoveryHit(Content(name), self._choose(name), name, _literal(facts))

    async def search(self, query: str) -> Hits:
        """The checkpoints that match."""
        matcher = self.matcher(query)
        for name, facts in self._found:
            if (score := matcher.match(name)) > 0:
                yield Hit(score, highlighted(matcher, name), self._choose(name), name, _literal(facts))

    def _choose(self, name: str) -> partial[Coroutine[Any, Any, bool]]:
        return partial(self.app.run_action, f"app.play_model({name!r})")


def _checkpoints(first: str) -> list[tuple[str, str]]:
    """The checkpoints of all runs by the name of their model, and what is known of each.

    Args:
        first: The run whose checkpoints come first.
    """
    found = []
    for run in sorted(list_runs(), key=lambda run: run.name != first):
        try:
            paths = run_checkpoints(run.path)
            best = run_checkpoint(run.path, "best")
        except CheckpointError as error:
            found.append((run.name, visible_line(error.message)))
            continue
        if best is None:
            continue
        found += [
            (f"{run.name}:best", _checkpoint_facts(best, at=True)),
            (f"{run.name}:last", _checkpoint_facts(paths[-1], at=True)),
            *((f"{run.name}:{path.name}", _checkpoint_facts(path)) for path in reversed(paths)),
        ]
    return found


def _checkpoint_facts(path: Path, *, at: bool = False) -> str:
    try:
        loss = read_record(path).losses.get("val")
    except CheckpointError as error:
        return visible_line(f"damaged: {error.message}")
    facts = [f"step {path.name.removeprefix('step-')}"] if at else []
    if loss is not None:
        facts.append(f"validation loss {loss:.4f}")
    return " · ".join(facts)


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
