"""Every action of the app, declared once: its id, keys, title and sentence. Bindings, the hints in borders and footer,
the help and the palette are all made from these lists. Knows nothing of what an action does.

Each screen has a list of its own, which is read when its keys, or all keys, are first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from importlib import import_module

from textual.binding import Binding

from minigpt_tui.actions.action import Action, Where

__all__ = [
    "PRIORITY",
    "Action",
    "Where",
    "actions_of",
    "all_actions",
    "bindings",
    "by_id",
    "elsewhere",
    "hint",
    "hints",
    "places",
    "shipped",
    "use_keys",
]

_LISTS: dict[str, tuple[Where, ...]] = {
    "of_app": (Where.EVERYWHERE,),
    "of_play": (Where.PLAY, Where.PROMPT, Where.TEXT, Where.SAMPLING, Where.SETTINGS),
    "of_inspect": (Where.INSPECT, Where.HEADS, Where.PLAY),
    "of_branches": (Where.BRANCHES, Where.PLAY),
    "of_library": (Where.PLAY, Where.LIBRARY),
    "of_chat": (Where.CHAT, Where.TURN, Where.CHATS, Where.CHAT_FORM),
    "of_compare": (Where.COMPARE, Where.COLUMN),
    "of_batch": (Where.BATCH,),
    "of_train": (Where.TRAIN, Where.RUNS, Where.FORM, Where.FIELD),
    "of_history": (Where.HISTORY, Where.ENTRIES, Where.SEARCH),
    "of_models": (Where.MODELS, Where.MODEL_LIST),
    "of_elsewhere": (Where.MODELS_ELSEWHERE,),
    "of_settings": (Where.SETTINGS_SCREEN,),
}
"""The lists, in the order in which the palette has them, and whose keys each holds."""

_ON_PLAY = ("of_play", "of_inspect", "of_branches", "of_library")
_OF_NO_SCREEN = ("of_app", "of_elsewhere")


@functools.cache
def _list(name: str) -> tuple[Action, ...]:
    actions: tuple[Action, ...] = import_module(f"{__name__}.{name}").ACTIONS
    return actions


def shipped() -> list[Action]:
    """Every action with the keys that it ships with."""
    return [action for name in _LISTS for action in _list(name)]


_CHOSEN: dict[str, str] = {}  # the keys that the reader gave to actions, by their ids: there is one keyboard


def use_keys(keymap: Mapping[str, str]) -> None:
    """Let actions be shown with other keys from now on; the app lets them act.

    Args:
        keymap: The ids of actions, and their keys as `Action.keys` has them.
    """
    _CHOSEN.clear()
    _CHOSEN.update(keymap)


def _in_force(action: Action) -> Action:
    return action.with_keys(_CHOSEN[action.id]) if action.id in _CHOSEN else action


def all_actions() -> list[Action]:
    """Every action."""
    return [_in_force(action) for action in shipped()]


def actions_of(*places: Where) -> list[Action]:
    """The actions whose keys act in these places."""
    return [_in_force(action) for action in _shipped_of(*places)]


def _shipped_of(*places: Where) -> list[Action]:
    lists = [name for name, has in _LISTS.items() if not {*has}.isdisjoint(places)]
    return [action for name in lists for action in _list(name) if action.where in places]


def elsewhere(screen: str) -> list[tuple[str, Action]]:
    """What the palette lists on other screens, each with the name of its screen.

    Args:
        screen: The name of the screen that is shown.
    """
    of = {
        name: "play" if name in _ON_PLAY else name.removeprefix("of_") for name in _LISTS if name not in _OF_NO_SCREEN
    }
    found = [(other, _in_force(action)) for name, other in of.items() if other != screen for action in _list(name)]
    return [(other, action) for other, action in found if action.palette]


def by_id(action_id: str) -> Action:
    """The action of that id.

    Raises:
        KeyError: There is none.
    """
    return _in_force(_by_id(action_id))


@functools.cache
def _by_id(action_id: str) -> Action:
    for name in _LISTS:
        for action in _list(name):
            if action.id == action_id:
                return action
    raise KeyError(action_id)


PRIORITY = frozenset({"quit", "palette", "help", "copy_or_quit"})
"""Those whose keys act before whatever has the focus."""


def places(screen: object) -> tuple[Where, ...]:
    """Where keys act on a screen, those of what has the focus first.

    Args:
        screen: Any screen. Its class says where as `PLACES`, by the ids of its widgets, with "" for itself; one that
            does not say has no keys of its own.
    """
    declared: dict[str, Where] = getattr(screen, "PLACES", {})
    focused = getattr(getattr(screen, "focused", None), "id", None) or ""
    here = declared.get(focused)
    return tuple(dict.fromkeys([*([here] if here else []), *declared.values()]))


def bindings(*places: Where) -> list[Binding]:
    """The bindings of the actions whose keys act in these places, on the keys that they ship with."""
    return [
        Binding(action.keys, action.call, action.title, id=action.id, show=False, priority=action.id in PRIORITY)
        for action in _shipped_of(*places)
        if action.keys
    ]


def hint(action_id: str, title: str | None = None) -> str:
    """`key title` as markup, for a border or the footer; a click runs what the palette could run."""
    action = by_id(action_id)
    shown = action.shown.replace("[", r"\[")
    said = f"[$key]{shown}[/] {action.title if title is None else title}"
    runs = action.palette or action.where is Where.EVERYWHERE
    return f'[@click="{action.target}"]{said}[/]' if runs else said


def hints(action_ids: Iterable[str]) -> str:
    """Several hints on one line."""
    return " · ".join(hint(action_id) for action_id in action_ids)
