"""Torch computes with as many threads as are right for whoever computes at the moment, and with few beside the passes
that write.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from drafted import torch_alone
from test_decoder import read_in_pieces

from engine.checkpoints import load_model
from engine.inference import choosing
from engine.inference.choosing import choose_threads
from engine.inference.inspection import LayerReader
from engine.inference.native import building
from engine.inference.threads import most_threads, torch_threads
from engine.inference.torch_pass import TorchPass
from engine.worker import inspecting, models, service
from engine.worker.connection import Arrival
from engine.worker.protocol import Event, Inspect, Inspected, Load, Loaded, Request, Score, Scored, Shutdown
from engine.worker.service import Service


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads are allowed, and two are quicker than one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(
        choosing, "token_seconds", lambda decoders, *_: {name: 1 / each.threads for name, each in decoders.items()}
    )
    with torch_threads(2):
        yield


def spied(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[int]:
    """Torch's threads at each call of a function from now on."""
    seen: list[int] = []
    original = getattr(owner, name)

    def counted(*args: object, **more: object) -> object:
        seen.append(torch.get_num_threads())
        return original(*args, **more)

    monkeypatch.setattr(owner, name, counted)
    return seen


class Client:
    """Asks one thing after the other.

    Attributes:
        answers: What it was told.
        beside: Torch's threads before each of its requests.
    """

    def __init__(self, *requests: Request) -> None:
        self.answers: list[Event] = []
        self.beside: list[int] = []
        self._requests = [*requests, Shutdown()]

    def receive(self, timeout: float | None) -> list[Arrival]:
        self.beside.append(torch.get_num_threads())
        return [Arrival(self._requests.pop(0), time.monotonic())]

    def send(self, event: Event) -> None:
        self.answers.append(event)

    def hold(self) -> nullcontext[None]:
        return nullcontext()


def test_a_model_that_torch_reads_has_its_own_threads_whatever_others_have(tiny_model, monkeypatch):
    with torch_alone():
        decoder = load_model("tiny", "cpu", "fp32").decoder
        assert choose_threads(decoder) == 2
    seen = spied(monkeypatch, TorchPass, "_streams")
    torch.set_num_threads(1)  # as a native one leaves it
    by_two = read_in_pieces(decoder, [1, 2, 3], [3])
    decoder.threads = 1
    assert torch.equal(read_in_pieces(decoder, [1, 2, 3], [3]), by_two)
    assert seen == [2, 1]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("wanted", ["99999999999", "0", "-3", "many"])
def test_a_number_of_threads_that_nobody_has_is_none(wanted, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    of_the_machine = most_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert most_threads() == of_the_machine
    with torch_threads(most_threads()):
        assert torch.get_num_threads() == of_the_machine


def test_torch_has_few_threads_beside_passes_and_more_to_load_to_score_and_to_look_inside(tiny_model, monkeypatch):
    loaded, scored = spied(monkeypatch, models, "load_model"), spied(monkeypatch, service, "score")
    read, guessed = spied(monkeypatch, LayerReader, "read"), spied(monkeypatch, inspecting, "lens")
    few = 1 if building.find().library is not None else 2
    client = Client(
        Load(id=1, model="tiny", device="cpu", precision="fp16"),  # torch reads it
        Load(id=2, model="tiny", device="cpu", precision="fp32"),
        Load(id=3, model="tiny", device="cpu", precision="int8"),
        Score(id=4, model="tiny", device="cpu", precision="fp16", text="The fox had said"),
        Score(id=5, model="tiny", device="cpu", precision="fp32", text="The fox had said"),
        Inspect(
            id=6, model="tiny", device="cpu", precision="fp32", tokens=(1, 2, 3), position=3, attention=True, lens=True
        ),
    )
    Service(client).serve()
    assert [type(answer) for answer in client.answers] == [Loaded, Loaded, Loaded, Scored, Scored, Inspected]
    assert client.beside == [2, 2, few, few, few, few, few]
    assert loaded == [2, 2, 2]
    assert scored == [2, 2]
    assert read == guessed == [2]
