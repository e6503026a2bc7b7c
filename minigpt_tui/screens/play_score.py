"""Scoring on the Play screen: any text, typed or pasted where prompts are, becomes a branch whose every token shows how
surprised the model was by it.
"""

from __future__ import annotations

from engine.errors import MiniGPTError
from engine.worker.protocol import ModelInfo, Started
from minigpt_tui.actions import hint, hints
from minigpt_tui.screens.play_cursor import SCORED, model_id
from minigpt_tui.screens.play_inspect import PlayInspect
from minigpt_tui.status_text import sentence


class PlayScore(PlayInspect):
    """How surprised the model is by a text."""

    scoring = False
    """Whether what is sent from the prompt is scored, and not written on from."""

    _borders = ("", "")  # of the prompt, while it takes a text to score
    _draft = ""  # what stood in it

    def action_score(self) -> None:
        """Take a text to score where prompts are typed."""
        if not self.scoring:
            self.scoring, self._draft = True, self._prompt.text
            self._borders = self._prompt.border_title or "", self._prompt.border_subtitle or ""
            self._prompt.border_title = "Score: paste or type the text"
            self._prompt.border_subtitle = " · ".join(
                [hint("generate", "scores it"), hint("new_line"), hint("stop", "leaves")]
            )
            self.add_class("-scoring")
        self._prompt.focus()

    def _leave_scoring(self) -> None:
        self.scoring = False
        self._prompt.border_title, self._prompt.border_subtitle = self._borders
        self._prompt.text = self._draft
        self.remove_class("-scoring")
        self._text.focus()

    def action_stop(self) -> None:
        """Leave scoring first."""
        asking = self._ask is not None and self._ask.is_open
        if self.scoring and not asking:
            self._leave_scoring()
        else:
            super().action_stop()

    def score_text(self, text: str) -> None:
        """Have a text scored.

        Args:
            text: As it was typed or pasted.
        """
        if not text:
            self.say("there is nothing to score yet: paste or type a text")
            return
        self._end_text()
        self._notice.dismiss()
        self.say("scoring it")
        self.run_worker(self._score(text, self.wanted_model, self.model), group="score", exclusive=True)

    async def _score(self, text: str, name: str, model: ModelInfo | None) -> None:
        try:
            await self._engine.start()
            scored = await self._engine.score(text, model=name, device=self.device, precision=self.precision)
        except MiniGPTError as error:
            self.tell("It was not scored", f"{sentence(error)}{self._safe}", hints(["score"]))
            return
        if self.scoring:
            self._leave_scoring()
        self._keep_score(model_id(model), scored)
        self._end_text()
        writing = self.writing
        started = Started(id=0, prompt=scored.text, prompt_tokens=scored.ids, seed=0, left_out=scored.left_out)
        writing.start(started, scored.text, self._session.params)
        writing.seed, writing.finish_reason = None, SCORED
        writing.asked_model, writing.model = name, model
        branch = self.branches.begin(writing)
        self._keep()
        self._show_branch(branch)
        self._branches_change()
        self._show_left_out(scored.left_out)
        self._end_remark()
        if not self.inspecting:
            self._begin_inspecting()
        surprising = min(range(len(scored.tokens)), key=lambda place: scored.tokens[place].logprob)
        self.call_after_refresh(self._walk_to, surprising + 1)

    def _finished_words(self) -> str:
        if self.writing.finish_reason != SCORED:
            return super()._finished_words()
        scored = self._scores.get((self._text_model[1], self.writing.prompt_tokens))
        if scored is None:
            return "a text that was scored"
        return (
            f"scored {len(scored.tokens):,} tokens · loss {scored.loss:.3f} · perplexity {scored.perplexity:,.2f} · "
            f"{scored.bits_per_byte:.3f} bits per byte"
        )
