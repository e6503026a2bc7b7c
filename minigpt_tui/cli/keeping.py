"""What the shell writes, kept in the history where that was asked for. A history that cannot be written is said on
stderr, once, and no text is lost for it. Imports SQLite only when a text is to be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import __version__
from minigpt_tui.cli.streams import say
from minigpt_tui.cli.writing import Prompt, Written
from minigpt_tui.config_file import load_config
from minigpt_tui.history.entry import Entry
from minigpt_tui.history.recorder import Recorder

if TYPE_CHECKING:
    from engine.checkpoints import LoadedModel


class Keeping:
    """Keeps texts while it is entered; its end waits until they are on the disk.

    Args:
        wanted: Whether anything is to be kept; None for what `config.toml` says.
    """

    def __init__(self, wanted: bool | None) -> None:
        if wanted is None:
            wanted = load_config().config.history.record_shell
        self._recorder = Recorder(on_problem=say) if wanted else None

    def __enter__(self) -> Keeping:
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorder is not None and not self._recorder.close():
            say("not all texts are in the history: another program keeps it locked")

    def keep(self, model: LoadedModel, prompt: Prompt, written: Written) -> None:
        """Keep a text, if that is wanted."""
        if self._recorder is not None and written.tokens:
            self._recorder.record(entry_of(model, prompt, written))


def entry_of(model: LoadedModel, prompt: Prompt, written: Written) -> Entry:
    """A text as the history has it."""
    return Entry(
        time=written.began,
        source="generate",
        prompt=prompt.text,
        text=written.text,
        prompt_tokens=written.prompt_tokens,
        tokens=tuple(token.token for token in written.tokens),
        params=written.params.replace(seed=written.seed),
        changes=written.changes,
        change_at=tuple(
            sum(len(token.text) for token in written.tokens if token.position < change.position)
            for change in written.changes
        ),
        finish_reason=written.finish_reason,
        tokens_per_second=written.tokens_per_second,
        time_to_first_token=written.time_to_first_token,
        model=model.name,
        model_path=str(model.path or ""),
        sha256=model.sha256,
        family=model.config.family,
        parameters=model.parameters,
        device=model.device,
        precision=model.precision,
        version=__version__,
    )
