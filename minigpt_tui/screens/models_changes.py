"""What changes models on their screen: rename, delete, and the folders in which they are found. All that waits for a
disk waits in a thread; what goes wrong is told in words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from engine import own_models
from engine.errors import CheckpointError, MiniGPTError, RunError
from engine.file_names import is_same_entry
from engine.model_folders import KEY, added_folders
from engine.training import runs
from engine.training.run_names import check_run_name
from minigpt_tui.actions import by_id
from minigpt_tui.columns import size
from minigpt_tui.config_edit import set_value
from minigpt_tui.models.shelf import Model, ModelShelf
from minigpt_tui.screens.models_view import ModelsView
from minigpt_tui.status_text import sentence
from minigpt_tui.visible import visible_line
from minigpt_tui.widgets.ask_line import if_yes


class ModelsChanges(ModelsView):
    """The actions that change a model or the list of folders."""

    _reader: ModelShelf
    """Finds the models; its heir makes it."""

    def _do(self, work: Callable[[], Awaitable[object]], failed: str) -> None:
        """Do something beside the screen; then the models are looked for again.

        Args:
            work: What to do.
            failed: The title where it does not work.
        """

        async def do() -> None:
            try:
                await work()
            except MiniGPTError as error:
                self.tell(failed, sentence(error))
            self._reader.look_again()

        self.run_worker(do(), group="changes")

    def _refuse(self, model: Model, what: str) -> bool:
        """Say why a model cannot be renamed or deleted here; False where it can."""
        if model.kind in ("run", "milestone"):
            return False
        try:
            own_models.check_own(model.path)
        except CheckpointError as error:
            self.tell(f"{model.name} cannot be {what}", sentence(error))
            return True
        return False

    # Rename.

    def action_rename(self) -> None:
        """Ask for another name: of one of the user's own, or of a run."""
        model = self.chosen
        if model is None or self._refuse(model, "renamed"):
            return
        if model.kind == "milestone":
            self.say("a checkpoint is called by its step; rename its run")
            return
        old = model.run or model.path.name

        def take(text: str) -> str:
            name = text.strip()
            try:
                (check_run_name if model.run else own_models.check_model_name)(name)
            except (RunError, CheckpointError) as error:
                return visible_line(f"{error.message}; {error.hint}")
            if name == old:
                return ""
            home = Path(model.key).parent
            if (home / name).exists() and not is_same_entry(home / name, home / old):
                return f"there is a {'run' if model.run else 'model'} {name} already; choose another name"
            self._do(partial(self._rename, model, name, str(home / name)), f"{old} cannot be renamed")
            return ""

        self._open(f"another name for {old}", "enter renames it, esc leaves it", take, old)

    async def _rename(self, model: Model, name: str, key: str) -> None:
        if model.run:
            await asyncio.to_thread(runs.rename_run, model.run, name)
        else:
            await asyncio.to_thread(own_models.rename_model, model.path, name)
        self._list.marked = tuple(key if marked == model.key else marked for marked in self._list.marked)
        if model.key in self._unfolded:
            self._unfolded.add(key)
        self._list.selected = key
        self.say(f"{model.run or model.name} is called {name} now")

    # Delete.

    def action_remove(self) -> None:
        """Ask, with what would go, and delete: one of the user's own, a run with all it has, or a milestone."""
        model = self.chosen
        if model is None or self._refuse(model, "deleted"):
            return
        gone = Path(model.key) if model.kind == "run" else model.path
        self.say(f"looking at what {model.name} takes…")

        async def ask() -> None:
            used = await asyncio.to_thread(runs.disk_use, gone)
            whole = f"the run with all its {model.checkpoints} checkpoints" if model.checkpoints > 1 else "it"
            writes = "; Play writes with it" if self._key_in_use() in (model.key, str(model.path)) else ""
            what = f"y deletes {whole}, {size(used)}{writes}; esc keeps it"
            remove = partial(self._do, partial(self._remove, model), f"{model.name} cannot be deleted")
            self._open(f"delete {model.name}?", what, if_yes(remove, "y deletes it; esc leaves everything as it is"))

        self.run_worker(ask(), group="asking", exclusive=True)

    async def _remove(self, model: Model) -> None:
        if model.kind == "run":
            await asyncio.to_thread(runs.remove_run, model.run)
        elif model.kind == "milestone":
            await asyncio.to_thread(own_models.remove_milestone, model.path)
        else:
            await asyncio.to_thread(own_models.remove_model, model.path)
        self.say(f"{model.name} is deleted")

    # Folders.

    def action_add_folder(self) -> None:
        """Ask for a folder, and have models found there."""

        def take(text: str) -> str:
            if not text.strip():
                return "type the folder's path; ~ is your home folder"
            try:
                folder = Path(text.strip()).expanduser().absolute()
                if not folder.is_dir():
                    return f"there is no folder {visible_line(str(folder))}"
            except (OSError, RuntimeError, ValueError) as error:
                return visible_line(f"that is no folder ({error})")
            if folder in added_folders():
                return "that folder is on the list already"
            self._do(partial(self._set_folders, [*added_folders(), folder]), "The folder cannot be added")
            self.say(f"models are found in {folder} from now on")
            return ""

        self._open("folder of models", "or one model; enter adds it, esc leaves", take)

    def action_forget_folder(self) -> None:
        """Take the chosen model's folder off the list."""
        model = self.chosen
        if model is None or model.kind != "added":
            self.say(f"only a folder that you added can be taken off the list; {by_id('folder_add').shown} adds one")
            return
        left = [folder for folder in added_folders() if str(folder) != model.group]
        self._do(partial(self._set_folders, left), "The folder cannot be taken off the list")
        self.say(f"{model.group} is off the list; its files are untouched")

    async def _set_folders(self, found: list[Path]) -> None:
        names = [str(folder) for folder in found]
        await asyncio.to_thread(set_value, KEY, names or None)
