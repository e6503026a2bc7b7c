"""What the form's run takes: its text is looked at and one of its steps is timed where it shall be trained. Both are
given up when what was asked no longer stands.
"""

from __future__ import annotations

import asyncio
from functools import partial

from engine.config import ModelConfig, TrainConfig
from engine.errors import InvalidSettingError, MiniGPTError
from engine.training.estimate import Measurement, MeasureRequest, estimate
from engine.training.survey import Survey
from minigpt_tui.machine import LinkLostError
from minigpt_tui.screens.train_form_view import AFTER_THE_TEXT, TrainFormView
from minigpt_tui.training.run_cost import length_words, size_words, survey_words, time_words
from minigpt_tui.training.run_draft import RunDraft
from minigpt_tui.training.run_starter import RunStarter
from minigpt_tui.training.text_paths import not_sent
from minigpt_tui.visible import visible_line

TEXT_KEYS = ("text", "val", "test")

SURVEY_SECONDS, MEASURE_SECONDS = 0.3, 0.8
"""How long after the last change a text is looked at, and a step is timed."""

LINK_SECONDS = 1.0
"""How long after a question for which there was no link to another machine it is asked again."""

SENDS = "enter on it sends it"
"""What to do about a file of this machine."""

PATIENCE_SECONDS = 60.0
"""A step that was not timed by then takes too long to wait for."""


class TrainFormCost(TrainFormView):
    """The form, with what its run takes."""

    def __init__(self, draft: RunDraft, starter: RunStarter) -> None:
        """Make the form.

        Args:
            draft: What was chosen so far; changed in place.
            starter: Where the run is started.
        """
        super().__init__(draft, starter.name)
        self._starter = starter
        self._survey: Survey | None = None
        self._problem = ""  # what is wrong with the text
        self._measured: dict[str, Measurement] = {}
        self._refused = ""  # why the run could not be started when that was last wanted

    def _look_at_text(self, seconds: float = SURVEY_SECONDS) -> None:
        _ = self.run_worker(partial(self._look, seconds), group="survey", exclusive=True)

    async def _look(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        name = ""
        found: Survey | None = None
        try:
            if unsent := self._unsent():
                found = Survey(problem=f"{unsent} is not sent yet", hint=SENDS)
            else:
                sight = await self._starter.look(self.draft.texts)
                found, name = sight.survey, sight.free_name
        except MiniGPTError as error:
            found = Survey(problem=error.message, hint=error.hint)
            if isinstance(error, LinkLostError):
                self.set_timer(LINK_SECONDS, partial(self._look_at_text, 0.0))
        if found is None:
            self._survey, self._problem = None, ""
            self._tell_text("")
        else:
            self._survey = None if found.problem else found
            self._problem = sentence(found.problem, found.hint)
            self._tell_text("" if found.problem else survey_words(found))
        self._text_row("name").input.placeholder = name or AFTER_THE_TEXT
        self.show_values()
        self._reckon()
        self.show_place()

    def _unsent(self) -> str:
        """The first of the texts that is a file of this machine still, where those are another's; empty for none."""
        return not_sent(self.draft.text, self.draft.val, self.draft.test) if self._starter.name else ""

    def _tell_text(self, found: str) -> None:
        """Say what the text is; what is wrong with one that is still being typed can wait."""
        problem = "" if self._choices.owner in TEXT_KEYS else self._problem
        wrong = next(
            (key for key in TEXT_KEYS[1:] if (typed := getattr(self.draft, key).strip()) and typed in problem), "text"
        )
        for key in TEXT_KEYS:
            self._text_row(key).problem = problem if key == wrong else ""
        self._text_row("text").tell(visible_line(problem or found), wrong=bool(problem))

    def _vocab_size(self) -> int:
        return self.draft.vocab_size(self._survey)

    def _reckon(self) -> None:
        """Show what the run takes; where a step of it was not timed yet, time one."""
        draft = self.draft
        try:
            training, model = draft.training(), draft.model(self._survey)
        except InvalidSettingError as error:
            self.workers.cancel_group(self, "measure")
            self.show_cost([(f"✗ {error.message}", "bold $text-error"), (error.hint, "$text-error")])
            return
        key = _measure_key(training, model, draft.device)
        measured = self._measured.get(key)
        half = (measured.precision if measured else training.precision) in ("bf16", "fp16")
        takes = estimate(training, model, half=half, on_cpu=measured is None or measured.device != "cuda")
        size = size_words(takes, draft.nproc)
        length = length_words(training, model, self._survey, measured)
        lines = [(size, ""), (length, "$quiet")]
        if measured is None:
            _ = self.run_worker(
                partial(self._measure, key, training, model, draft.device), group="measure", exclusive=True
            )
            lines.insert(1, (f"measuring how long a step takes{self._there} …", "$quiet"))
        elif measured.problem:
            self.workers.cancel_group(self, "measure")
            lines.insert(1, (f"not measured: {sentence(measured.problem, measured.hint)}", "$text-error"))
        else:
            self.workers.cancel_group(self, "measure")
            lines.insert(1, (time_words(training, model, self._survey, draft.nproc, measured), "bold"))
        if self._refused:
            lines[2] = (f"✗ {self._refused}", "bold $text-error")
        self.show_cost(lines)

    async def _measure(self, key: str, training: TrainConfig, model: ModelConfig, device: str) -> None:
        await asyncio.sleep(MEASURE_SECONDS)
        request = MeasureRequest(training=training, model=model, device=device)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                self._measured[key] = await self._starter.measure(request)
        except TimeoutError:
            where = self._there or " here"
            self._measured[key] = Measurement(problem=f"a part of a step takes more than {PATIENCE_SECONDS:g} s{where}")
        except LinkLostError:
            self.set_timer(LINK_SECONDS, self._reckon)
            return
        except MiniGPTError as error:
            self._measured[key] = Measurement(problem=error.message, hint=error.hint)
        self.call_later(self._reckon)


def sentence(message: str, hint: str) -> str:
    """An error's message and hint, as `str` of the error has them."""
    return f"{message}: {hint}" if hint else message


def _measure_key(training: TrainConfig, model: ModelConfig, device: str) -> str:
    """What decides how long a step takes."""
    parts = (training.batch_size, training.accumulation, training.optimizer, training.precision, model, device)
    return repr(parts)
