"""Answers what a model does at one place of a text. The weights that its layers are read off with are opened when first
asked for, kept while somebody looks, and let go of soon after. Knows nothing of pipes.
"""

from __future__ import annotations

import math
import time

import torch

from engine.allocation import give_back_freed_memory
from engine.checkpoints import LoadedModel, open_checkpoint
from engine.inference.inspection import LayerReader, lens, packed, predict
from engine.inference.stream import Alternative
from engine.inference.window import window_start
from engine.worker.protocol import Inspect, Inspected

WHOLE_VOCABULARY = 512
"""A vocabulary up to this size is told whole where a place is inspected."""

TOP_TOKENS = 50
"""So many of the likeliest tokens of a larger one are."""

LENS_TOKENS = 3
"""So many guesses of each layer are told."""

KEPT_SECONDS = 60.0
"""So long after the last look the weights stay: opening them at each press of a key would make the keys wait."""


class Inspecting:
    """Looks inside one model at a time.

    Attributes:
        rests_at: When the weights can be let go, on the monotonic clock; infinity while there are none.
    """

    def __init__(self) -> None:
        self.rests_at = math.inf
        self._model: LoadedModel | None = None
        self._reader: LayerReader | None = None

    def look(self, model: LoadedModel, request: Inspect) -> Inspected:
        """What the model does at the request's place.

        Raises:
            DataError: An id is not in the vocabulary.
            CheckpointError: The model answers with what is no number, or its files are damaged by now.
        """
        tokens, position, vocab_size = request.tokens, request.position, model.config.vocab_size
        top = request.top or (vocab_size if vocab_size <= WHOLE_VOCABULARY else TOP_TOKENS)
        found = predict(model, tokens, position, request.params, top)
        start = window_start(position, model.config.block_size)
        own, attention = found.own, b""
        guesses: tuple[tuple[Alternative, ...], ...] = ()
        if request.attention or request.lens:
            reader = self._reader_of(model)
            layers = reader.read(tokens[start:position])
            attention = packed(layers.attention) if request.attention else b""
            guesses = lens(model, reader.gpt, layers.streams, LENS_TOKENS) if request.lens else ()
            self.rests_at = time.monotonic() + KEPT_SECONDS
        return Inspected(
            id=request.id,
            position=position,
            entropy=found.entropy,
            distribution=found.likeliest,
            window_start=start,
            token=own.token if own else None,
            logprob=own.logprob if own else None,
            rank=found.rank,
            drawn=own.drawn if own else None,
            attention=attention,
            lens=guesses,
        )

    def rest(self) -> None:
        """Let go of the weights where nobody has looked for a while."""
        if time.monotonic() >= self.rests_at:
            self.let_go()

    def let_go(self) -> None:
        """Let go of the weights now."""
        self._model = self._reader = None
        self.rests_at = math.inf
        give_back_freed_memory()

    def _reader_of(self, model: LoadedModel) -> LayerReader:
        if self._reader is None or self._model is not model:
            self.let_go()  # the old weights are freed before the new ones come
            gpt = open_checkpoint(model.path)[0] if model.path is not None else model.gpt
            self._reader = LayerReader(gpt.to(device=model.device, dtype=torch.float32).eval().requires_grad_(False))
            self._model = model
        return self._reader
