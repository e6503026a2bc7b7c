"""The Batch screen: many prompts written on from at once, and what its keys do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.binding import BindingType
from textual.command import CommandPalette
from textual.widget import Widget
from textual.widgets import TextArea

from engine.config import ENDLESS, SamplingParams
from engine.errors import DataError, MiniGPTError
from minigpt_tui.actions import Where, bindings, by_id
from minigpt_tui.batch.prompt_lines import Job, begins_with_object, is_json, parse_jobs, read_text
from minigpt_tui.batch.results import Result, as_csv, as_jsonl, entry_of
from minigpt_tui.batch.run import BatchRun
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.history.entry import Entry
from minigpt_tui.model_choice import ModelChoice
from minigpt_tui.screens.batch_view import BatchView
from minigpt_tui.settings import Session, drawn_seed
from minigpt_tui.status_text import sentence, short_name
from minigpt_tui.visible import visible_line
from minigpt_tui.wishes import OpenEntry, Written

SHOWN_CHARACTERS = 200_000
"""A file with more is not shown in the field: it is written from all the same."""


class BatchScreen(BatchView):
    """Write on from many prompts."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Where.BATCH, Where.SETTINGS)]

    def __init__(self, engine: EngineClient, session: Session, choice: Callable[[], ModelChoice]) -> None:
        """Make the screen.

        Args:
            engine: Where text comes from.
            session: What outlives the app.
            choice: Tells the model that is chosen on Play.
        """
        params = session.params
        if params.max_new_tokens == ENDLESS:
            params = params.replace(max_new_tokens=SamplingParams().max_new_tokens)
        super().__init__(params)
        self._engine, self._choice = engine, choice
        self._model: str | None = None  # chosen here; else Play's
        self._file: tuple[str, str, bool] | None = None  # its name, its text, whether that is JSON
        self._save_name = "batch.jsonl"
        self._file_name = "prompts.jsonl"
        self._texts_closed = False  # the app leaves, and has taken what there was

    def on_unmount(self) -> None:
        """Let the texts go."""
        if self._run is not None:
            self._run.stop()

    def close_texts(self) -> list[Entry]:
        """End what is being written, with what has come of it. The app leaves.

        Returns:
            What belongs into the history and is not on its way there yet.
        """
        run, self._texts_closed = self._run, True
        if run is None or run.info is None or not run.running:
            return []
        run.stop()
        return [entry_of(each, run.model, run.info) for each in self.results if each.state == "writing" and each.tokens]

    # Prompts.

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """What is typed counts, and no more what a file said."""
        event.stop()
        if self._file is not None and event.text_area.text != self._shown_of(self._file[1]):
            self._file, self._from_file = None, ""
        if self._file is None:
            self._wanted = sum(1 for line in event.text_area.text.split("\n") if line.strip())
        self._show_borders()

    def _shown_of(self, text: str) -> str:
        return text if len(text) <= SHOWN_CHARACTERS else ""

    def action_file(self) -> None:
        """Ask for a file of prompts, and show them."""

        def take(typed: str) -> str:
            try:
                path = Path(typed.strip()).expanduser()
                if path.exists() and not path.is_file():
                    raise DataError(f"{path.name} is no file", "give a text or a .jsonl file")
                text = read_text(str(path), path.name)
                jobs = parse_jobs(text, self.params, path.name, as_json=is_json(str(path), text))
            except (DataError, OSError, RuntimeError, ValueError) as error:  # too long, ~somebody, a zero byte
                return visible_line(str(error))
            self._file_name = typed
            self._file, self._from_file = (path.name, text, is_json(str(path), text)), path.name
            self._prompts.load_text(self._shown_of(text))
            self._wanted = len(jobs)
            self._show_borders()
            self.say(f"{len(jobs):,} prompts of {path.name}")
            return ""

        self._open("prompts of", "one per line, or .jsonl", take, self._file_name)

    def _jobs(self) -> list[Job]:
        """The prompts that are wanted; raises DataError where a line is wrong."""
        if self._file is not None:
            name, text, as_json = self._file
            return parse_jobs(text, self.params, name, as_json=as_json)
        text = self._prompts.text
        return parse_jobs(text, self.params, "the prompts", as_json=begins_with_object(text))

    # Writing.

    def action_run(self) -> None:
        """Write on from all prompts."""
        if self.running:
            self.say(f"it is being written; {by_id('batch_stop').shown} stops it")
            return
        try:
            jobs = self._jobs()
        except DataError as error:
            self.tell("That cannot be written", sentence(error), ["batch_prompts"])
            return
        self._notice.dismiss()
        seed = drawn_seed() if self.params.seed is None else self.params.seed
        self.results = [
            Result(job if job.params.seed is not None else job._replace(params=job.params.replace(seed=seed)))
            for job in jobs
        ]
        self._run = BatchRun(self._engine, self.results, self._result_ended)
        self._table.show(self.results)
        self._table.focus()
        self.show_results()
        self.run_worker(self._write(self._run), group="batch")

    async def _write(self, run: BatchRun) -> None:
        choice = self._choice()
        try:
            await run.write(self.model, choice.device, choice.precision)
        except MiniGPTError as error:
            safe = " What is written is safe." if run.tokens else ""
            self.tell("The batch was not written", f"{sentence(error)}{safe}", ["batch_run", "batch_model"])
        if run is self._run:
            self.show_results()

    def _result_ended(self, result: Result) -> None:
        """Keep what was written."""
        if self._run is not None and self._run.info is not None and not self._texts_closed:
            self.post_message(Written(entry_of(result, self._run.model, self._run.info)))

    @property
    def model(self) -> str:
        """The name of the model that writes; empty for the default."""
        return self._choice().name if self._model is None else self._model

    def show_model(self) -> None:
        """Name it on top, with what is known of it."""
        run, info = self._run, self._choice().info if self._model is None else None
        if run is not None and run.model == self.model:
            info = run.info or info
        self._top.model, self._top.note = info, "" if info is not None else short_name(self.model)

    @property
    def turned_params(self) -> SamplingParams:
        """How all prompts are written on from, but those that say otherwise."""
        return self.params

    def turn(self, params: SamplingParams) -> None:
        """Write the next ones otherwise."""
        if params.max_new_tokens == ENDLESS:
            self.say("a batch must come to an end")
            return
        self.params = params
        self.fit()

    # Actions.

    async def action_stop(self) -> None:
        """Close the question; else stop writing; else dismiss a notice; else leave the prompts."""
        if self.close_open():
            return
        if self._run is not None and self._run.running:
            self._run.stop()
            self.show_status()
        else:
            self.clear_selection()
            self._table.focus()

    def action_move(self, rows: int) -> None:
        """Choose a result so many rows further down."""
        self._table.choose(self._table.selected + rows)

    def action_page(self, pages: int) -> None:
        """Choose a result a page further down."""
        self.action_move(pages * max(1, self._table.size.height - 1))

    def action_panel(self, direction: int) -> None:
        """Go to the next panel."""
        order: list[Widget] = [self._prompts, self._table, self._whole]
        here = order.index(self.focused) if self.focused in order else 0
        order[(here + direction) % len(order)].focus()

    def action_focus_prompts(self) -> None:
        """Go to the prompts."""
        self._prompts.focus()

    def action_choose_model(self) -> None:
        """Choose the model that writes."""
        from minigpt_tui.compare_palette import ColumnCheckpoints, ColumnModels

        self.app.push_screen(
            CommandPalette(providers=[ColumnModels, ColumnCheckpoints], placeholder="Choose the model that writes")
        )

    def action_column_model(self, name: str) -> None:
        """Write the next batch with another model."""
        self._model = name
        self.show_model()
        self.say(f"{visible_line(name)} writes the next batch")

    def action_copy(self) -> None:
        """Copy what is selected, or the chosen text."""
        result = self.chosen
        text = self.get_selected_text() or (result.prompt + result.text if result is not None else "")
        if not text:
            self.say("there is nothing to copy yet")
            return
        self.app.copy_to_clipboard(text)

    def action_open_in_play(self) -> None:
        """Show the chosen text on the Play screen."""
        result = self.chosen
        if result is None or not result.tokens or self._run is None or self._run.info is None:
            self.say("this prompt has no text yet")
        elif result.state == "writing":
            self.say(f"it is being written; {by_id('batch_stop').shown} stops it")
        else:
            self.post_message(OpenEntry(entry_of(result, self._run.model, self._run.info)))

    def action_save(self) -> None:
        """Ask for a file's name and save the results there."""
        run = self._run
        if run is None or run.info is None or not run.tokens:
            self.say("there is nothing to save yet")
            return
        info, results = run.info, self.results

        def text_of(name: str) -> str:
            return (as_csv if name.endswith(".csv") else as_jsonl)(results, info)

        self._ask_to_save(".jsonl, or .csv for tables", text_of)
