"""One text as the engine writes it: its document, its tokens and its figures, brought up to date by the engine's
events. Plain data: it knows nothing of the screen, nor of how the events arrive.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.config import SamplingParams
from engine.inference.stream import Alternative
from engine.worker.protocol import Done, ParamsChanged, Started, Tokens
from minigpt_tui.parameters import changes
from minigpt_tui.text_document import Kind, TextDocument
from minigpt_tui.token_trace import TokenTrace

GenerationEvent = Started | Tokens | ParamsChanged | Done


class Writing:
    """The text on the Play screen.

    Attributes:
        document: The text with its marks, wrapped.
        trace: What was known of each new token.
        prompt: The prompt as it was asked for; what `again` starts from.
        seed: The seed in use, or None before the first text.
        params: The settings that the next token is drawn with.
        new_tokens: Tokens written since the last start or continuation.
        context: Tokens in the model's window.
        tokens_per_second: Speed so far; 0 while unknown.
        first_token_seconds: Time to the first token as the engine measured it; 0 while unknown.
        finish_reason: length, stop, cancelled or lost (the engine died); empty while it is written.
    """

    def __init__(self, document: TextDocument | None = None) -> None:
        self.document = document or TextDocument()
        self.params = SamplingParams()
        self.seed: int | None = None
        self.prompt = ""
        self._reset(())

    def _reset(self, prompt_tokens: tuple[int, ...]) -> None:
        self.document.clear()
        self.prompt_tokens = prompt_tokens
        self.trace = TokenTrace(len(prompt_tokens))
        self.latest: tuple[Alternative, ...] = ()
        self._begin_run()

    def _begin_run(self) -> None:
        self.new_tokens = self.context = 0
        self.tokens_per_second = self.first_token_seconds = 0.0
        self.finish_reason = ""
        self._params_before_mark = self.params

    def clear(self) -> None:
        """Forget the text; the prompt stays, so that it can be written again."""
        self._reset(())
        self.seed = None

    def tokens(self) -> tuple[int, ...]:
        """All token ids so far, the prompt's and the new ones."""
        return (*self.prompt_tokens, *self.trace.ids())

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to continue or copy."""
        return self.document.length == 0 and not self.prompt_tokens and not len(self.trace)

    def start(self, event: Started, prompt: str, params: SamplingParams) -> None:
        """A new text begins in place of the one that was here."""
        self.params = params
        self._reset(event.prompt_tokens)
        self.prompt, self.seed = prompt, event.seed
        self.document.append(event.prompt, Kind.PROMPT)

    def resume_anew(self, event: Started, params: SamplingParams) -> None:
        """The text that is here goes on with another model, which has encoded it anew."""
        self.prompt_tokens, self.trace = event.prompt_tokens, TokenTrace(len(event.prompt_tokens))
        self.resume(event, params)

    def resume(self, event: Started, params: SamplingParams) -> None:
        """The text that is here goes on."""
        before = self.params
        self.params = params
        self._begin_run()
        self._params_before_mark = before
        self.seed = event.seed
        # Tokens of a stop string were drawn and not shown; the model reads them now, so the reader does too.
        text = self.document.text()
        if event.prompt.startswith(text):
            self.document.append(event.prompt[len(text) :], Kind.GENERATED)
        self._mark(before, params)

    def apply(self, events: Iterable[Tokens | ParamsChanged | Done]) -> int:
        """Take in events in their order.

        Returns:
            The first row of the document that is now another (its row count when none is).
        """
        first = self.document.row_count
        for event in events:
            match event:
                case Tokens():
                    first = min(first, self._add_tokens(event))
                case ParamsChanged(params=params):
                    before, self.params = self.params, params
                    first = min(first, self._mark(before, params))
                case Done():
                    first = min(first, self.document.append(event.text, Kind.GENERATED))
                    self.finish_reason = event.finish_reason
                    self.new_tokens, self.seed = event.new_tokens, event.seed
                    self.tokens_per_second = event.tokens_per_second
                    self.first_token_seconds = event.time_to_first_token
        return first

    def _add_tokens(self, event: Tokens) -> int:
        end = self.document.length
        for token in event.tokens:
            end += len(token.text)
            self.trace.append(token, end)
        # One append for the batch: the last row is wrapped once.
        first = self.document.append("".join([token.text for token in event.tokens]), Kind.GENERATED)
        self.new_tokens += len(event.tokens)
        self.context, self.tokens_per_second = event.context, event.tokens_per_second
        if event.tokens and event.tokens[-1].top:
            self.latest = event.tokens[-1].top
        return first

    def _mark(self, before: SamplingParams, after: SamplingParams) -> int:
        """Say in the text what changed here; several changes at one place make one mark."""
        first = self.document.row_count
        mark = self.document.trailing_mark()
        if mark is None:
            self._params_before_mark = before
        else:
            first = self.document.truncate(mark)
        if said := changes(self._params_before_mark, after):
            first = min(first, self.document.append(f"⟨{said}⟩", Kind.MARK))
        return first
