"""Whose turn it is in the worker where texts want more read than a pass holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from types import SimpleNamespace

from engine.config import SamplingParams
from engine.inference import together
from engine.worker import service
from engine.worker.connection import Arrival
from engine.worker.protocol import Done, Event, Generate, Shutdown, Tokens
from engine.worker.service import Service


class Client:
    """Asks for texts, each at a turn of the worker's, and leaves when all have ended.

    Attributes:
        turns: How many there were.
        told: All that it was told.
    """

    def __init__(self, texts: Mapping[int, list[Generate]]) -> None:
        self.turns = 0
        self.told: list[Event] = []
        self._texts = texts
        self._left = sum(map(len, texts.values()))

    def receive(self, timeout: float | None) -> list[Arrival]:
        messages = self._texts.get(self.turns, []) if self._left else [Shutdown()]
        self.turns += 1
        return [Arrival(message, time.monotonic()) for message in messages]

    def send(self, event: Event) -> None:
        self.told.append(event)
        self._left -= isinstance(event, Done)

    def hold(self) -> nullcontext[None]:
        return nullcontext()

    def release(self) -> None:
        """Nothing is held here."""


def text(id: int, prompt: str, tokens: int) -> Generate:
    params = SamplingParams(seed=1, temperature=1.5, max_new_tokens=tokens)
    return Generate(id=id, model="tiny", device="cpu", precision="fp32", prompt=prompt, params=params)


def test_a_text_that_comes_last_is_not_kept_waiting_by_those_whose_windows_move_on(tiny_model, monkeypatch):
    monkeypatch.setattr(together, "CHUNK", 4)  # and each of eight has one to read anew for each that it writes
    client = Client({0: [text(id, f"{id} fox", 300) for id in range(8)], 80: [text(8, "a dog", 4)]})
    Service(client).serve()
    assert next(event.id for event in client.told if isinstance(event, Done)) == 8


def test_what_was_written_is_told_while_a_window_that_has_moved_on_is_read(tiny_model, monkeypatch):
    for module in (together, service):
        monkeypatch.setattr(module, "CHUNK", 1)
    client = Client({0: [text(1, "a dog", 80)]})
    monkeypatch.setattr("engine.worker.writer.time", SimpleNamespace(monotonic=lambda: client.turns / 1000))
    Service(client).serve()
    last = [event.tokens[-1].position for event in client.told if isinstance(event, Tokens)]
    assert 64 in last  # the window holds so many, and this one has no place in it
