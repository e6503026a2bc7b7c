"""`generate --interactive`: a prompt per line, the text after it, settings changed by lines that begin with a slash.
ctrl+c ends a text and not the program, ctrl+d ends the program.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.config import SamplingParams
from engine.errors import DataError, InvalidSettingError, MiniGPTError
from engine.system_modules import find
from engine.validation import Field as SettingField
from engine.validation import Setting, fields, nearest_hint, parse_text, to_dict
from minigpt_tui.cli.options import Common
from minigpt_tui.cli.streams import check_text, say, write_json, write_text
from minigpt_tui.cli.writing import Prompt, Written, as_json, open_writer, read_by, write

if TYPE_CHECKING:
    from engine.checkpoints import LoadedModel

HELP = """a line is a prompt, and an empty one starts from nothing; a prompt that begins with / is written //
/SETTING VALUE changes a setting, such as /temperature 0.5, /seed 3, /seed none, /stop . or /pace 30
/settings shows them all, /quit or ctrl+d ends; ctrl+c ends the text that is being written"""

_PACE = SettingField("pace", float, Setting("tokens per second at most; 0 is full speed", 0.0), (), 0.0)


class Conversation:
    """What `--interactive` remembers between its lines: the settings in force.

    Args:
        params: The settings to begin with.
        pace: Tokens per second at most; 0 for no limit.
    """

    def __init__(self, params: SamplingParams, pace: float) -> None:
        self.params = params
        self.pace = pace
        self.ended = False

    def command(self, line: str) -> str:
        """Obey a line that begins with a slash, and return what there is to say about it.

        Raises:
            InvalidSettingError: There is no such command or setting, or the value is out of its range.
        """
        name, _, value = line[1:].strip().partition(" ")
        name, value = name.replace("-", "_"), value.strip()
        if name in ("quit", "exit"):
            self.ended = True
            return ""
        if name in ("help", ""):
            return HELP
        if name == "settings":
            return "\n".join(f"/{key} {_shown(held)}" for key, held in self._settings().items())
        known = {**fields(SamplingParams), "pace": _PACE}
        if name not in known:
            raise InvalidSettingError(f"there is no /{name}", nearest_hint(name, {**known, "help": None, "quit": None}))
        if value:
            self._change(name, parse_text(known[name], value))
        return f"{name} {_shown(self._settings()[name])}"

    def _settings(self) -> dict[str, Any]:
        return {**to_dict(self.params), "pace": self.pace}

    def _change(self, name: str, value: Any) -> None:
        if name == "pace":
            self.pace = value
        else:
            self.params = self.params.replace(**{name: value})


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    return "none" if value is None else str(value)


def converse(
    common: Common,
    params: SamplingParams,
    *,
    prompt: str | None,
    pace: float,
    logprobs: int | None,
    as_lines: bool,
    keep: Callable[[LoadedModel, Prompt, Written], None],
) -> None:
    """Read prompts from stdin until its end, and write on from each.

    Args:
        common: Which model, and where it computes.
        params: The settings to begin with.
        prompt: Written on from before the first line is read; None for none.
        pace: Tokens per second at most; 0 for no limit.
        logprobs: As `writing.as_json`.
        as_lines: Print a JSON object for each text instead of the text.
        keep: Called with each text that has ended.
    """
    from engine.inference.generator import draw_seed

    model = open_writer(common)
    talk = Conversation(params, pace)
    if sys.stdin.isatty():
        _remember_lines()
        say(f"{model.name} on {model.device}: enter a prompt; /help says more, ctrl+d ends")
    waiting = prompt
    while not talk.ended:
        try:
            line = waiting if waiting is not None else _next_line()
            waiting = None
            if line is None:
                return
            if line.startswith("/") and not line.startswith("//"):
                for answer in talk.command(line).splitlines():
                    say(answer)
                continue
            text = check_text(line.removeprefix("/") if line.startswith("//") else line, "the prompt")
            seed = talk.params.seed
            if seed is None:
                seed = draw_seed()
                say(f"seed {seed}")
            read = read_by(model, text)
            written = write(
                model,
                read,
                talk.params.replace(seed=seed),
                (lambda _: None) if as_lines else write_text,
                pace=talk.pace,
                alternatives=logprobs or 0,
            )
            keep(model, read, written)
            if as_lines:
                write_json(as_json(model, read, written, logprobs))
            else:
                write_text("\n")
        except MiniGPTError as error:  # a wrong line is no reason to leave
            say(f"error: {error}")
        except KeyboardInterrupt:  # what was typed, or was being written, is dropped
            say("")


def _next_line() -> str | None:
    """The next line of stdin without its end; None at its end.

    Raises:
        DataError: It is of another encoding; what was read with it is passed over.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        try:
            return input("> ")
        except EOFError:
            say("")
            return None
    if sys.stdin.isatty():
        say("> ", end="")
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError as error:
        raise DataError(
            f"stdin is not {sys.stdin.encoding} at byte {error.start}", "give a plain text in that encoding"
        ) from None
    return line.rstrip("\n") if line else None


def _remember_lines() -> None:
    """Let the arrow keys edit a line and recall earlier ones, where Python was built with readline."""
    if readline := find("readline"):
        readline.set_auto_history(True)
