"""Answers on the Chat screen: it has the engine and the model made ready, writes down what was said, takes in what
comes, ends the answer with the model's turn, and says what goes wrong. It knows nothing of which keys lead here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from engine.config import SamplingParams
from engine.errors import MiniGPTError, WorkerError
from engine.worker.protocol import ModelInfo
from minigpt_tui.chat import asking
from minigpt_tui.chat.asking import Question, Voice, ask
from minigpt_tui.chat.script import Script, TurnEnd
from minigpt_tui.chat.turns import Turn
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.making import entry_of
from minigpt_tui.live_writing import LiveWriting
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.screens.chat_keeping import ChatKeeping
from minigpt_tui.settings import Session
from minigpt_tui.status_text import sentence, short_name
from minigpt_tui.visible import visible_line
from minigpt_tui.wishes import Written
from minigpt_tui.writing import Writing

READ_SECONDS = 1.0
"""A model that is chosen elsewhere is looked for so often: how it wants to be spoken to is shown before it answers."""


class ChatAnswering(ChatKeeping):
    """Answers that are written."""

    def __init__(self, engine: EngineClient, session: Session, choice: Callable[[], ModelChoice]) -> None:
        """Make the screen.

        Args:
            engine: Where text comes from.
            session: What outlives the app; changed in place.
            choice: Tells the model that is chosen on Play.
        """
        super().__init__(session, choice)
        self._engine = engine
        self.writing = Writing()  # the answer that was written last, with what stands before it
        self._live = LiveWriting(
            engine, self.writing, on_begin=self._begun, on_change=self._changed, on_end=self._ended
        )
        self._preparing: asyncio.Task[None] | None = None
        self._voices: dict[str, Voice] = {}  # by the folders of models
        self._hearing = asyncio.Lock()
        self._to: int | None = None  # the turn that is answered
        self._stop: tuple[str, ...] = ()
        self._end = TurnEnd(self.script, ())
        self._script = self.script
        self._before = ""  # what the answer said before it was read anew
        self._run_from = 0  # the characters of the answer that stood there before this run

    # How the model wants to be spoken to.

    async def hear(self) -> None:
        """Find out how the model that answers next wants to be spoken to."""
        if (info := self.info) is not None:
            await self._hear(info)

    async def _hear(self, info: ModelInfo) -> None:
        async with self._hearing:
            if info.path not in self._voices:
                self._voices[info.path] = await asking.hear(info.path)
        if self.voice != self._voices[info.path]:
            self.voice = self._voices[info.path]
            self.show_chat()

    # Asking.

    def answer(self, to: Turn, seed: int | None) -> None:
        """Have a turn answered, in a branch of its own where there is an answer already.

        Args:
            to: What is answered: a turn of the reader's.
            seed: What to draw with; None for a new one.
        """
        self._begin(to, None, seed)

    def go_on(self, turn: Turn) -> None:
        """Have an answer that was cut written on."""
        if turn.parent is not None:
            self._begin(self.chat[turn.parent], turn, turn.seed)

    def _begin(self, to: Turn, begun: Turn | None, seed: int | None) -> None:
        self.end_answer()
        self._notice.dismiss()
        self._to = to.id
        self._doing = "starting the engine"
        self._preparing = asyncio.create_task(self._prepare(to, begun, seed), name="an answer that begins")
        self.show_chat()
        self.show_status()

    async def _prepare(self, to: Turn, begun: Turn | None, seed: int | None) -> None:
        """Have all that an answer needs, and ask for it."""
        choice = self._choice()
        try:
            await self._engine.start()
            self._do(f"loading {visible_line(short_name(choice.name)) or 'the model'}")
            info = (await self._engine.load(choice.name, choice.device, choice.precision)).model
            self.model = info
            await self._hear(info)
            self._do("reading what was said")
            script = self.script
            resumes = begun is not None and self._can_resume(begun, info)
            question = await ask(
                script, self.voice, self.chat.system, self.chat.path(to.id), begun.text if begun else ""
            )
        except MiniGPTError as error:
            self._doing, self._preparing = "", None
            self.show_chat()
            self._tell_problem(error, "chat_continue" if begun else "chat_again")
            return
        self._preparing = None
        self._write(question, script, begun, seed, resumes, choice._replace(info=info))

    def _do(self, what: str) -> None:
        self._doing = what
        self.show_status()

    def _can_resume(self, turn: Turn, info: ModelInfo) -> bool:
        """Whether the tokens of an answer are still there, so that it goes on to the letter."""
        writing, model = self.writing, self.writing.model
        return self._written is turn and model is not None and model.sha256 == info.sha256 and len(writing.trace) > 0

    _written: Turn | None = None
    """The answer that `writing` holds."""

    def _write(
        self,
        question: Question,
        script: Script,
        begun: Turn | None,
        seed: int | None,
        resumes: bool,
        choice: ModelChoice,
    ) -> None:
        self._script, self._stop = script, question.stop
        self._end = TurnEnd(script, question.names)
        if begun is None:
            self._before, self._run_from = "", 0
        else:
            self._before = self._before if resumes else begun.text
            self._run_from = len(begun.text)
        self._live_turn = begun
        self._live.write(
            question.prompt,
            self._params.replace(seed=seed),
            self._session.effective_pace,
            model=choice.name,
            device=choice.device,
            precision=choice.precision,
            info=choice.info,
            tokens=self.writing.tokens() if resumes else None,
            resume=self.writing.resume if resumes else None,
            template=question.template,
        )
        self.show_status()

    @property
    def _params(self) -> SamplingParams:
        """The session's settings, and what ends the model's turn."""
        params = self._session.params
        stop = tuple(dict.fromkeys([*self._stop, *params.stop]))
        made: SamplingParams = params.replace(stop=stop)
        return made

    # What comes.

    def _begun(self, left_out: str) -> None:
        """The engine has begun: the answer has a place among the turns."""
        writing = self.writing
        if self._live_turn is None:
            name = "" if self._script.kind == "model" else self._script.model
            self._live_turn = self.chat.add(self._to, "assistant", name)
        turn = self._live_turn
        self._written = turn
        self._doing = ""
        self._speed = 0.0
        turn.model = writing.model.name if writing.model else writing.asked_model
        turn.seed, turn.finish_reason, turn.left_out = writing.seed, "", left_out
        if not self._before and not self._run_from:
            turn.prompt_tokens = len(writing.prompt_tokens)
        turn.new_tokens = max(0, writing.length - turn.prompt_tokens)
        self.keep_soon()
        self.show_chat()
        self.show_status()

    @property
    def _said(self) -> str:
        """What the model has said of its turn."""
        document = self.writing.document
        new = document.text_between(self.writing.text_start, document.length)
        said = self._before + new
        return said if self._script.kind == "model" else said.lstrip(" ")

    def _changed(self, _first_row: int) -> None:
        """Show what can be shown; where the model's turn is over, the answer is."""
        turn = self._live_turn
        if turn is None:
            return
        said = self._said
        turn.text = said[: self._end.look(said)]
        turn.new_tokens = max(0, self.writing.length - turn.prompt_tokens)
        self._speed = self.writing.tokens_per_second
        self._figures_stale = True
        self.keep_soon()
        if self._end.found:
            self.call_later(self._live.abandon, "stop")
        self.show_answer(turn)

    def _ended(self, error: MiniGPTError | None) -> None:
        """Keep what was said, and say what went wrong."""
        turn, writing = self._live_turn, self.writing
        self._live_turn, self._doing = None, ""
        if turn is not None and self._written is turn and not turn.finish_reason:
            said = self._said
            turn.text = said[: self._end.look(said, whole=True)]
            ended = "stop" if self._end.found else writing.finish_reason or "lost"
            turn.finish_reason = ended
            self._speed = writing.tokens_per_second
            if writing.new_tokens:
                entry = self._entry(turn)
                turn.new_tokens = max(0, len(entry.prompt_tokens) + len(entry.tokens) - turn.prompt_tokens)
                self.post_message(Written(entry))
            elif not turn.text and ended != "stop" and turn in self.chat.turns:
                self.chat.drop(turn)  # nothing has come of it
                self._written = None
        self.chat.touch()
        self.keep_now()
        self.show_chat()
        self.show_status()
        if error is not None:
            has_words = turn is not None and bool(turn.text)
            self._tell_problem(error, "chat_continue" if has_words else "chat_again")

    def _entry(self, turn: Turn) -> Entry:
        """The run that has ended; what came behind the end of the turn is no part of it."""
        writing, entry = self.writing, entry_of(self.writing, "chat")
        if not self._end.found:
            return entry
        room = max(0, len(turn.text) - self._run_from)
        if len(entry.text.rstrip()) <= room:
            return msgspec.structs.replace(entry, finish_reason="stop")
        lead = len(entry.text) - len(entry.text.lstrip(" ")) if not self._run_from else 0
        first = writing.run_position - len(writing.prompt_tokens)
        ends = [writing.trace.end(place) for place in range(first, len(writing.trace))]
        count = sum(end <= writing.run_start + room + lead for end in ends)
        return msgspec.structs.replace(
            entry, text=entry.text[: room + lead], tokens=entry.tokens[:count], finish_reason="stop"
        )

    def _tell_problem(self, error: MiniGPTError, key: str) -> None:
        """What happened, that nothing is lost, and the key that goes on."""
        safe = " What was said is safe."
        if isinstance(error, WorkerError):
            self.tell("The engine stopped", f"{sentence(error)}{safe}", [key])
        else:
            self.tell("No answer", f"{sentence(error)}{safe}", [key, "chat_template", "chat_model"])
        self.show_status()

    # Ending.

    def end_answer(self) -> None:
        """End what is being written, with what has come of it."""
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None
        self._doing = ""
        if self._live.running:
            self._live.abandon("cancelled")

    def stop_answer(self) -> None:
        """End it at its next token; at once where it has not begun."""
        if self._preparing is not None or not self._live.running:
            self.end_answer()
            self.show_chat()
            self.show_status()
        else:
            self._live.stop()

    def turn_settings(self, params: SamplingParams) -> None:
        """Draw otherwise from now on, also the answer that is being written."""
        if params == self._session.params:
            return
        seed_alone = params.replace(seed=self._session.params.seed) == self._session.params
        self._session.params = params
        self._chips.params = params
        self.session_changed()
        if not seed_alone and self._live.running:
            self._live.set_params(self._params)

    def set_pace(self) -> None:
        """Go on at the session's pace."""
        self._live.set_pace(self._session.effective_pace)
        self.session_changed()
        self.show_borders()
