"""One column of a comparison: who writes it and how, its text, and the figures of that. Plain data: it knows nothing of
the engine, nor of how it is shown.
"""

from __future__ import annotations

import math
from typing import Literal

from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.worker.protocol import ModelInfo
from minigpt_tui.comparing.distinct import DistinctGrams
from minigpt_tui.comparing.parting import Parting
from minigpt_tui.writing import Writing

State = Literal["empty", "loading", "waiting", "writing", "ended", "failed"]
"""What becomes of a column: loading is its model, waiting is the text for its beginning, failed is what was asked."""

MOST = 4
"""Columns beside each other; a sweep has more."""

LEAST = 2


class Column:
    """A text, and what it is made with.

    Attributes:
        model: By which name the engine is asked for it; empty for the default.
        params: How it is drawn; the seed is the comparison's, and this one's is ignored.
        info: What is known of the model, once it was loaded.
        tokenizer: What tells its tokenizer from others; empty where that is not known.
        writing: The text.
        state: What becomes of it.
        problem: Why it failed.
        start: The offset in the document where the new text begins.
        left_out: Characters of the prompt that its model has never seen.
        parting: Where it parts from the first column; None for that one.
        is_kept: Whether its text, as far as it is there, has gone into the history.
        scored: Its model's loss on the first column's text, in nats per token; None where it was not asked for.
    """

    def __init__(self, model: str, params: SamplingParams, info: ModelInfo | None = None) -> None:
        self.model, self.params, self.info = model, params, info
        self.tokenizer = ""
        self.writing = Writing()
        self.state: State = "empty"
        self.problem: MiniGPTError | None = None
        self.start = 0
        self.left_out = ""
        self.parting: Parting | None = None
        self.is_kept = True
        self.scored: float | None = None
        self._reset()

    def _reset(self) -> None:
        self.distinct = DistinctGrams()
        self._surprisal = 0.0
        self._counted = 0  # tokens, and characters of the document
        self._read = 0

    @property
    def name(self) -> str:
        """What its model is called."""
        return self.model or (self.info.name if self.info else "")

    @property
    def is_busy(self) -> bool:
        """Whether it was asked for and has not ended."""
        return self.state in ("loading", "waiting", "writing")

    @property
    def loss(self) -> float | None:
        """Mean surprisal of what it wrote itself, in nats per token; None where there is nothing yet."""
        return self._surprisal / self._counted if self._counted else None

    @property
    def perplexity(self) -> float | None:
        """The same as a perplexity."""
        return None if self.loss is None else math.exp(min(700.0, self.loss))

    @property
    def text(self) -> str:
        """The new text alone."""
        document = self.writing.document
        return document.text_between(self.start, document.length)

    def begin(self, left_out: str) -> None:
        """Its text has begun: the prompt stands there."""
        self.state, self.problem, self.left_out = "writing", None, left_out
        self.start = self._read = self.writing.document.length
        self.scored, self.is_kept = None, False
        read = self._read
        self._reset()
        self._read = read

    def take(self) -> None:
        """Bring the figures up to date with the text."""
        trace, document = self.writing.trace, self.writing.document
        for index in range(self._counted, len(trace)):
            self._surprisal -= trace.figures(index)[0]
        self._counted = len(trace)
        self.distinct.add(document.text_between(self._read, document.length))
        self._read = document.length

    def end(self) -> None:
        """Nothing more comes."""
        self.take()
        self.distinct.end()
        self.state = "ended"

    def fail(self, problem: MiniGPTError) -> None:
        """It was not written, or no further; what is there stays."""
        self.state, self.problem = "failed", problem

    def clear(self) -> None:
        """Forget the text: it is another column's now, or none."""
        self.writing.clear()
        self.state, self.problem, self.start, self.left_out, self.scored = "empty", None, 0, "", None
        self.parting = None
        self._reset()


def share_tokens(one: Column, other: Column) -> bool:
    """Whether two columns are known to have the same tokenizer."""
    if one.info is None or other.info is None:
        return False
    same_model = (one.info.sha256 or one.info.path) == (other.info.sha256 or other.info.path)
    return same_model or (bool(one.tokenizer) and one.tokenizer == other.tokenizer)
