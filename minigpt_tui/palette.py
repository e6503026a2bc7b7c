"""What the palette can find: the actions of `actions.py` that the screen has, the models of the engine's machine, and
the checkpoints of its runs.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.fuzzy import Matcher

from engine.catalog import CheckpointInfo
from engine.errors import MiniGPTError
from minigpt_tui.actions import Action, Where, actions_of, elsewhere, places
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.top_line import count_text

if TYPE_CHECKING:
    from minigpt_tui.app import MiniGPTApp

BEYOND = 0.5
"""What is done on another screen is found behind what is done here."""


class ActionProvider(Provider):
    """Finds actions by their title; of those of other screens, it leads to the screen."""

    def _actions(self) -> list[Action]:
        """Those that the screen has, in their order."""
        here = [*actions_of(*places(self.screen)), *actions_of(Where.EVERYWHERE)]
        return [action for action in here if action.palette]

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
        here = {action.id for action in self._actions()}
        for screen, action in elsewhere(self.app.current_mode):
            name = f"{_name(action)} on {screen.capitalize()}"
            if action.id in here or query.casefold() not in action.title:  # a letter here and there finds too many
                continue
            if (score := matcher.match(name)) > 0:
                run = partial(self.app.run_action, f"app.show({screen!r})")
                yield Hit(score * BEYOND, highlighted(matcher, name), run, name, _literal(action.sentence))


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
    """Finds the models by name, of the machine that the engine runs on."""

    async def startup(self) -> None:
        """Find out, beside the loop."""
        self._models: tuple[CheckpointInfo, ...] = ()
        try:
            self._models = await app_of(self).machine.list_models()
        except MiniGPTError as error:
            app_of(self).remark(str(error))

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
        """Find out, beside the loop."""
        chosen = getattr(self.screen, "chosen", None)
        self._found: tuple[tuple[str, str], ...] = ()
        try:
            found = await app_of(self).machine.list_checkpoints(chosen.name if chosen else "")
            self._found = tuple((name, visible_line(facts)) for name, facts in found)
        except MiniGPTError as error:
            app_of(self).remark(str(error))

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


def app_of(provider: Provider) -> MiniGPTApp:
    """The app that asks."""
    return cast("MiniGPTApp", provider.app)


def model_facts(info: CheckpointInfo) -> str:
    """What is known of a model, on one line."""
    if info.problem:
        return visible_line(f"damaged: {info.problem}")
    facts = [info.family]
    if info.parameters:  # nothing is known of a server's
        facts += [count_text(info.parameters), f"{info.tokenizer} {info.vocab_size or ''}".strip()]
    if info.val_loss is not None:
        facts.append(f"validation loss {info.val_loss:.2f}")
    if info.trained_on:
        facts.append(f"trained on {info.trained_on}")
    return visible_line(" · ".join(fact for fact in facts if fact))
