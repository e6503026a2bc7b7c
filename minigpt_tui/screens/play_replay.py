"""Recorded texts on the Play screen: shown as a branch, or written again to the letter."""

from __future__ import annotations

from typing import NamedTuple, cast, get_args

from engine.config import Device, Precision, SamplingParams
from engine.errors import DeviceError, MiniGPTError, ModelNotFoundError
from engine.worker.protocol import ModelInfo, Started
from minigpt_tui.actions import hints
from minigpt_tui.history.entry import Entry
from minigpt_tui.recorded import load_entry, to_write_again
from minigpt_tui.screens.play_keeping import PlayKeeping
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line


class _How(NamedTuple):
    """How a text is written again: with which model, and how it computes."""

    name: str
    device: Device
    precision: Precision
    info: ModelInfo


class PlayReplay(PlayKeeping):
    """What comes from the history."""

    _replayed: Entry | None = None  # what is being written again

    def open_entry(self, entry: Entry, *, replay: bool) -> None:
        """Show a text of the history as a branch of its own.

        Args:
            entry: The text.
            replay: Whether it is written again, to the letter.
        """
        self._end_text()
        self._text.focus()
        if replay:
            self.run_worker(self._replay(entry), group="replay", exclusive=True)
        else:
            self._show_recorded(entry)

    def _show_recorded(self, entry: Entry) -> None:
        load_entry(entry, self.writing)
        branch = self.branches.begin(self.writing)
        self._keep()
        self._show_branch(branch)
        self._branches_change()

    async def _replay(self, entry: Entry) -> None:
        """Write a text again with the model that wrote it; where there is none, show it as it was."""
        name = visible_line(entry.model) or "the default model"
        self.say(f"writing it again with {name}")
        try:
            await self._engine.start()
            how = await self._ready_for(entry)
        except MiniGPTError as error:
            self._show_recorded(entry)
            why = f"{sentence(error)} The text is shown as it was recorded."
            self.tell("It cannot be written again", why, hints(["choose_model"]))
            return
        if self._live.running:
            self.say("another text is being written: it was not written again")
            return
        if entry.sha256 and how.info.sha256 != entry.sha256:
            why = f"{name} has other weights now than when it wrote this text, so it may write another."
            self.tell("The model has changed", why, hints(["choose_model"]))
        params, changes = to_write_again(entry)

        def begin(event: Started, used: SamplingParams) -> None:
            self._begin(entry.prompt, event, used)
            self._replayed = entry

        self._live.write(
            entry.prompt,
            params,
            self._session.effective_pace,
            model=how.name,
            info=how.info,
            device=how.device,
            precision=how.precision,
            tokens=entry.prompt_tokens,
            changes=changes,
            resume=begin,
        )
        self._show_state()
        self._show_progress()

    async def _ready_for(self, entry: Entry) -> _How:
        """Have the model loaded as it was when it wrote a text, or as near to that as this machine comes.

        Raises:
            MiniGPTError: It cannot be.
        """
        device = cast(Device, entry.device) if entry.device in get_args(Device) else self.device
        precision = cast(Precision, entry.precision) if entry.precision in get_args(Precision) else self.precision
        name = entry.model
        try:
            loaded = await self._engine.load(name, device, precision)
        except ModelNotFoundError:
            if not entry.model_path:
                raise
            name = entry.model_path
            loaded = await self._engine.load(name, device, precision)
        except DeviceError:
            device, precision = self.device, self.precision
            loaded = await self._engine.load(name, device, precision)
        return _How(name, device, precision, loaded.model)

    def _text_ends(self, error: MiniGPTError | None) -> None:
        entry, self._replayed = self._replayed, None
        super()._text_ends(error)
        if entry is None:
            return
        written, recorded = self.writing.tokens()[self.writing.run_position :], entry.tokens
        same = next((place for place, pair in enumerate(zip(written, recorded)) if pair[0] != pair[1]), None)  # noqa: B905
        if same is not None:
            self.say(f"it is another text from token {same + 1:,} on")
        elif len(written) == len(recorded):
            self.say("the same text, to the letter")
