"""Small models that have a table to guess with, and texts of theirs written down whole."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from tiny_models import TINY_TEXT

from engine.checkpoints import LoadedModel, load_model
from engine.config import SamplingParams
from engine.inference.decoder import Decoder
from engine.inference.draft_table import build_table
from engine.inference.generator import Generation
from engine.inference.native import building
from engine.inference.tempo import Tempo


@contextlib.contextmanager
def torch_alone() -> Iterator[None]:
    """Models that are laid out here are read by torch, as where there is no C compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "find", lambda: building.Native(None, "", "it is left out here"))
        yield


class AnyRows(Tempo):
    """Reads now few rows, now many, however long they take."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def choose(self, choices: Sequence[int], hopes: Sequence[object]) -> int:
        return self._random.choice(choices)


def load_drafted(name: str, precision: str) -> LoadedModel:
    """A model of `make_tiny` on the CPU, with a table of the text that it learned."""
    model = load_model(name, "cpu", precision)
    ids = np.array(model.tokenizer.encode(TINY_TEXT), np.uint32)
    model.draft_table = build_table(ids, model.config.vocab_size)
    model.tempo = AnyRows()
    return model


def count_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each text in every pass from now on."""
    counted: list[int] = []
    original = Decoder.read_once

    def count(self, rows, slots, wanted):
        counted.append(max(map(len, rows)))
        return original(self, rows, slots, wanted)

    monkeypatch.setattr(Decoder, "read_once", count)
    return counted


def write_down(generation: Generation, changes: Mapping[int, SamplingParams] | None = None) -> tuple:
    """All that can be known of a text: its tokens with their logprobs, its end and its last characters.

    Args:
        generation: The text.
        changes: Settings to go on with after so many tokens.
    """
    tokens, later = [], dict(changes or {})
    while True:
        if change := later.pop(len(tokens), None):
            generation.set_params(change)
        token = next(generation, None)
        if token is None:
            return tokens, generation.finish_reason, generation.tail, generation.tokens
        tokens.append(token)
