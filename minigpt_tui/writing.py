"""One text as the engine writes it: its document, its tokens, its settings and its figures, brought up to date by the
engine's events. Plain data: it knows nothing of the screen, nor of how the events arrive.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from engine.config import SamplingParams
from engine.inference.stream import Alternative, Token
from engine.worker.protocol import Done, ModelInfo, ParamsAt, ParamsChanged, Started, Tokens
from minigpt_tui.parameters import changes
from minigpt_tui.text_document import Kind, TextDocument
from minigpt_tui.text_part import Part
from minigpt_tui.token_trace import TokenTrace

GenerationEvent = Started | Tokens | ParamsChanged | Done

HALF = "\ufffd"
"""What is shown for half a character, at the end of a text alone."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a text beside its characters and tokens; `Writing` has the same attributes."""

    prompt: str = ""
    text_start: int = 0
    seed: int | None = None
    model: ModelInfo | None = None
    asked_model: str = ""
    began: float = 0.0
    run_position: int = 0
    run_start: int = 0
    new_tokens: int = 0
    context: int = 0
    tokens_per_second: float = 0.0
    first_token_seconds: float = 0.0
    finish_reason: str = ""
    stepping: bool = False


class Writing:
    """A text. What was written from one start or continuation to its end is a run.

    Attributes:
        document: The text with its marks, wrapped.
        trace: What was known of each new token.
        prompt_tokens: What stands before the trace: the prompt, or all of a text that another model reads anew.
        text_start: The offset in the document where the text of the trace begins.
        prompt: The prompt as it was asked for; what `again` starts from.
        seed: The seed in use, or None before the first text.
        params: The settings that the next token is drawn with.
        settings: Which settings hold from which position on, in order; positions count from the start of the prompt.
        model: The model that wrote the last run, as far as it is known.
        asked_model: The name by which it was asked for.
        began: When the last run began, in seconds since 1970.
        run_position: The position of its first token.
        run_start: The offset of its first character.
        stepping: Whether it is written step by step.
        new_tokens: Tokens written in it.
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
        self.model: ModelInfo | None = None
        self.asked_model = ""
        self._reset(())

    def _reset(self, prompt_tokens: tuple[int, ...]) -> None:
        self.document.clear()
        self.prompt_tokens = prompt_tokens
        self.text_start = 0
        self.trace = TokenTrace(len(prompt_tokens))
        self.latest: tuple[Alternative, ...] = ()
        self.settings: list[ParamsAt] = []
        self._drawn_with = self.params  # how the last token was drawn
        self._begin_run()

    def _begin_run(self, *, stepping: bool = False) -> None:
        self.began, self.stepping = time.time(), stepping
        self.run_position, self.run_start = self.length, self.document.length
        self.new_tokens = self.context = 0
        self.tokens_per_second = self.first_token_seconds = 0.0
        self.finish_reason = ""

    def clear(self) -> None:
        """Forget the text; the prompt stays, so that it can be written again."""
        self._reset(())
        self.seed = None

    @property
    def length(self) -> int:
        """Tokens so far, the prompt's and the new ones."""
        return len(self.prompt_tokens) + len(self.trace)

    def tokens(self) -> tuple[int, ...]:
        """All token ids so far, the prompt's and the new ones."""
        return (*self.prompt_tokens, *self.trace.ids())

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to continue or copy."""
        return self.document.length == 0 and not self.prompt_tokens and not len(self.trace)

    # Settings.

    def params_at(self, position: int) -> SamplingParams:
        """The settings that the token at a position was drawn with; for one of the prompt those of the first token."""
        place = bisect_right(self.settings, position, key=lambda setting: setting.position)
        return self.settings[max(0, place - 1)].params if self.settings else self.params

    @property
    def first_params(self) -> SamplingParams:
        """The settings of the run's first token, with the seed in use."""
        params: SamplingParams = self.params_at(self.run_position).replace(seed=self.seed)
        return params

    @property
    def changes(self) -> tuple[ParamsAt, ...]:
        """The settings from a position on, where they were changed behind the run's first token."""
        return tuple(setting for setting in self.settings if setting.position > self.run_position)

    def _set(self, params: SamplingParams) -> int:
        """Go on with these settings from here on.

        Returns:
            The first row of the document that is now another: several changes at one place make one mark.
        """
        while self.settings and self.settings[-1].position >= self.length:
            self.settings.pop()
        self.params = params
        # Each run says its settings; a step of it only where they are others.
        if self.length == self.run_position or not self.settings or self.settings[-1].params != params:
            self.settings.append(ParamsAt(self.length, params))
        first, mark = self.document.row_count, self.document.trailing_mark()
        if mark is not None:
            first = self.document.truncate(mark)
        if said := changes(self._drawn_with, params):
            first = min(first, self.document.append(f"⟨{said}⟩", Kind.MARK))
        return first

    # How a text begins.

    def start(self, event: Started, prompt: str, params: SamplingParams) -> None:
        """A new text begins in place of the one that was here."""
        self._reset(event.prompt_tokens)
        self.prompt, self.seed = prompt, event.seed
        self.document.append(event.prompt, Kind.PROMPT)
        self.text_start = self.document.length
        self.params = self._drawn_with = params
        self._begin_run()
        self._set(params)

    def resume_anew(self, event: Started, params: SamplingParams) -> None:
        """The text that is here goes on with another model, which has encoded it anew."""
        self.prompt_tokens, self.trace = event.prompt_tokens, TokenTrace(len(event.prompt_tokens))
        self.text_start, self.settings = self.document.length, []
        self.resume(event, params)

    def resume(
        self, event: Started, params: SamplingParams, *, forced: Token | None = None, stepping: bool = False
    ) -> None:
        """The text that is here goes on.

        Args:
            event: Its beginning.
            params: How it goes on.
            forced: A token that somebody chose, behind which it goes on.
            stepping: Whether a step is taken: steps one after another are one run.
        """
        self.seed = event.seed
        self._show_what_is_read(event.prompt)
        if not len(self.trace):
            self.text_start = self.document.length
        if forced is not None:
            self.trace.append(forced, self.document.length)
        self.trace.show_held()
        if forced is not None or not (stepping and self.stepping):
            self._begin_run(stepping=stepping)
        self.finish_reason = ""
        self._set(params)

    def _show_what_is_read(self, prompt: str) -> None:
        """Show the tokens of a stop string, which were drawn and not shown: the model reads them now, and so does the
        reader. Half a character, which stood at the end, becomes a whole one with the next tokens.
        """
        if (mark := self.document.trailing_mark()) is not None:
            self.document.truncate(mark)  # it is made again where it still holds
        end = self.offset_at(self.length)
        if self.document.text_between(end, self.document.length).endswith(HALF):
            self.document.truncate(end)
        text = self.document.text()
        if prompt.startswith(text):
            self.document.append(prompt[len(text) :].rstrip(HALF), Kind.GENERATED)
        if not len(self.trace):
            self.text_start = self.document.length

    def offset_at(self, position: int) -> int:
        """The offset in the document where the text of the tokens before `position` ends.

        Args:
            position: From the length of `prompt_tokens` to `length`.
        """
        index = position - len(self.prompt_tokens)
        return self.trace.end(index - 1) if index > 0 else self.text_start

    def truncate(self, position: int) -> None:
        """Keep the tokens before `position` alone, with their text and marks, as if no more had been written."""
        self.document.truncate(self.offset_at(position))
        self.trace.truncate(position - len(self.prompt_tokens))
        self.settings = [setting for setting in self.settings if setting.position < position]
        self._catch_up()
        self._begin_run()

    def _catch_up(self) -> None:
        """Bring what belongs to the last token up to date."""
        if self.settings:
            self.params, self._drawn_with = self.settings[-1].params, self.params_at(self.length - 1)
        self.latest = self.trace.token(-1).top if len(self.trace) else ()

    # How it goes on.

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
                    first = min(first, self._set(params))
                case Done():
                    first = min(first, self.document.append(event.text, Kind.GENERATED))
                    self.finish_reason = event.finish_reason
                    self.seed = event.seed
                    if self.stepping:  # each step has a `Done` of its own
                        self.finish_reason = "stop" if event.finish_reason == "stop" else "cancelled"
                        continue
                    self.new_tokens = event.new_tokens
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
        self.context, self._drawn_with = event.context, self.params
        if not self.stepping:
            self.tokens_per_second = event.tokens_per_second
        if event.tokens and event.tokens[-1].top:
            self.latest = event.tokens[-1].top
        return first

    # At rest.

    @property
    def facts(self) -> Facts:
        """What is known of it beside its characters and tokens."""
        return Facts(**{name: getattr(self, name) for name in Facts.__struct_fields__})

    def part(self, position: int, offset: int, *, alternatives: bool = True) -> Part:
        """What stands from a position on.

        Args:
            position: Of its first token; at least the length of `prompt_tokens`.
            offset: Of its first character.
            alternatives: Whether to keep what could have come in the place of each token, which is most of it.
        """
        return Part(
            texts=tuple((text, int(kind)) for text, kind in self.document.runs_between(offset, self.document.length)),
            trace=self.trace.part(position - len(self.prompt_tokens), offset, alternatives=alternatives),
            settings=tuple(
                # Before the trace there is nobody else whose they could be.
                setting
                for setting in self.settings
                if setting.position >= position or position == len(self.prompt_tokens)
            ),
        )

    def load(self, base: tuple[int, ...], parts: Iterable[tuple[Part, int | None, int | None]], facts: Facts) -> None:
        """Show a text that was at rest in place of the one that is here.

        Args:
            base: What stands before its trace.
            parts: Its stretches in order; of each, how many characters count (None for all), and how many tokens: none
                of those before `base` ends.
            facts: What else is known of it.
        """
        self._reset(base)
        place = 0
        for part, characters, tokens in parts:
            begins = place
            for text, kind in part.texts:
                room = len(text) if characters is None else begins + characters - place
                self.document.append(text[: max(0, room)], Kind(kind))
                place = self.document.length
            if tokens == 0 and characters is not None:
                continue
            last = self.length + (len(part.trace) if tokens is None else tokens)
            self.trace.extend(part.trace, begins, tokens)
            self.settings += [setting for setting in part.settings if tokens is None or setting.position < last]
        for name in Facts.__struct_fields__:
            setattr(self, name, getattr(facts, name))
        self.stepping = False
        self._catch_up()
