"""The screens that are made when they are first shown: the first one does not wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from minigpt_tui.engine_client import EngineClient
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.settings import Session

if TYPE_CHECKING:
    from minigpt_tui.machine import Machine

NAMES = ("compare", "train", "history", "models", "chat", "batch", "settings")
"""What they are called, as modes of the app."""


def make_screen(
    name: str, engine: EngineClient, machine: Machine, session: Session, choice: Callable[[], ModelChoice]
) -> Screen[Any]:
    """Make one.

    Args:
        name: Of `NAMES`.
        engine: Where text comes from.
        machine: Where it runs.
        session: What outlives the app; changed in place.
        choice: Tells the model that is chosen now.
    """
    match name:
        case "compare":
            from minigpt_tui.screens.compare import CompareScreen

            return CompareScreen(engine, session, choice)
        case "history":
            from minigpt_tui.screens.history import HistoryScreen

            return HistoryScreen(session)
        case "models" if machine.name:
            from minigpt_tui.screens.models_elsewhere import ModelsElsewhereScreen

            return ModelsElsewhereScreen(machine, choice)
        case "models":
            from minigpt_tui.screens.models import ModelsScreen

            return ModelsScreen(session, choice)
        case "chat":
            from minigpt_tui.screens.chat import ChatScreen

            return ChatScreen(engine, session, choice)
        case "batch":
            from minigpt_tui.screens.batch import BatchScreen

            return BatchScreen(engine, session, choice)
        case "settings":
            from minigpt_tui.screens.settings import SettingsScreen

            return SettingsScreen(session)
        case _:
            from minigpt_tui.screens.train import TrainScreen

            return TrainScreen(session, machine)
