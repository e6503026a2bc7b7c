"""Chat templates: how a model wants a conversation written down, in the jinja that the field has agreed on, rendered as
transformers renders it. Knows nothing of torch, nor of token ids.

A template is a program that a stranger wrote. The sandbox keeps it from everything but its messages, and its text is
bounded; what bounds its time and memory is a process of its own, which `python -m engine.text.chat` is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec

from engine.errors import CheckpointError, DataError, MiniGPTError
from engine.system_modules import find
from engine.text.special_tokens import as_words

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

T = TypeVar("T")

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE, TOKENIZER_FILE = "tokenizer_config.json", "tokenizer.json"

MAX_TEMPLATE = 1 << 20
"""Characters of a template."""

MAX_FILE_BYTES = 1 << 27
"""Bytes of a file that is read for it."""

MAX_TEXT = 1 << 23
"""Characters of a rendered conversation."""

MAX_MEMORY = 1 << 29
"""Bytes that a rendering process may take."""

WITHOUT = "use the model without its template"


class SpecialTokens(msgspec.Struct, frozen=True):
    """The names of a model's special tokens.

    Attributes:
        bos: What a text begins with; None where the model names none.
        eos: What a turn or a text ends with; None where the model names none.
        names: Of all of them.
    """

    bos: str | None = None
    eos: str | None = None
    names: tuple[str, ...] = ()


class Rendering(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -m engine.text.chat` is asked for; the fields are the arguments of `render`."""

    template: str
    messages: list[dict[str, str]]
    bos_token: str | None = None
    eos_token: str | None = None
    add_generation_prompt: bool = True
    special: tuple[str, ...] = ()


class Rendered(msgspec.Struct, frozen=True):
    """Its answer: a text, or the error that there is instead."""

    text: str = ""
    kind: str = ""
    problem: str = ""
    hint: str = ""


# Reading.


class _Named(msgspec.Struct):
    name: str = ""
    template: str = ""


class _AddedToken(msgspec.Struct):
    content: str = ""
    special: bool = False


class _TokenizerConfig(msgspec.Struct):
    chat_template: str | list[_Named] | None = None
    bos_token: str | _AddedToken | None = None
    eos_token: str | _AddedToken | None = None
    added_tokens_decoder: dict[str, _AddedToken] = {}


class _TokenizerFile(msgspec.Struct):
    added_tokens: list[_AddedToken] = []


def read_chat_template(path: Path) -> str | None:
    """The chat template of a model's folder, or None where it has none.

    It is `chat_template.jinja`, or what `tokenizer_config.json` says: one template, or several by name, of which
    `default` is taken, and the first where none is called that.

    Raises:
        CheckpointError: It cannot be read, or is too long to be one.
    """
    if (path / TEMPLATE_FILE).is_file():
        template: str | None = _read(path / TEMPLATE_FILE).decode("utf-8", "replace")
    else:
        found = _decoded(path / CONFIG_FILE, _TokenizerConfig).chat_template
        if isinstance(found, list):
            template = next((each.template for each in found if each.name == "default"), None)
            template = template or next((each.template for each in found), None)
        else:
            template = found
    if template and len(template) > MAX_TEMPLATE:
        raise CheckpointError(f"the chat template in {path} has {len(template):,} characters", WITHOUT)
    return template or None


def read_special_tokens(path: Path) -> SpecialTokens:
    """The special tokens of a model's folder.

    Raises:
        CheckpointError: Its tokenizer's files cannot be read.
    """
    config = _decoded(path / CONFIG_FILE, _TokenizerConfig)
    added = [*config.added_tokens_decoder.values(), *_decoded(path / TOKENIZER_FILE, _TokenizerFile).added_tokens]
    bos, eos = _name(config.bos_token), _name(config.eos_token)
    names = [*(token.content for token in added if token.special), bos, eos]
    return SpecialTokens(bos, eos, tuple(dict.fromkeys(filter(None, names))))


def stops(template: str, special: SpecialTokens) -> tuple[str, ...]:
    """What ends the model's turn: its end token, and every special token that the template itself writes."""
    written = [name for name in special.names if name in template and name != special.eos]
    return tuple(filter(None, [special.eos, *written]))


def _name(token: str | _AddedToken | None) -> str | None:
    return (token.content if isinstance(token, _AddedToken) else token) or None


def _decoded(path: Path, kind: type[T]) -> T:
    """A JSON file's contents; the kind's own defaults where there is none."""
    if not path.is_file():
        return kind()
    try:
        return msgspec.json.decode(_read(path), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error})", "take a fresh copy of the model") from None


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB", "take a fresh copy of the model")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error})", "take a fresh copy of the model") from None


# Rendering.


class _RefusedError(Exception):
    """The template itself says that it cannot render a conversation."""


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    bos_token: str | None = None,
    eos_token: str | None = None,
    add_generation_prompt: bool = True,
    special: Sequence[str] = (),
) -> str:
    """A conversation as the model wants it written down.

    Args:
        template: As `read_chat_template` gives it.
        messages: Each with its `role` and `content`, the first one first.
        bos_token: The name of the token that a text begins with, if the model has one.
        eos_token: The same of its end.
        add_generation_prompt: Whether the text ends where the model's turn begins.
        special: Names of special tokens that are to stay words where somebody wrote them in a message; the text is
            then for `Tokenizer.encode_prompt(..., special=True)`, which alone knows how they are marked.

    Raises:
        CheckpointError: The template is damaged, does what it may not, or writes without an end.
        DataError: It refuses this conversation, such as two turns of one role.
    """
    told: dict[str, Any] = {"bos_token": bos_token, "eos_token": eos_token}
    conversation = [{key: as_words(value, special) for key, value in message.items()} for message in messages]
    text, length = [], 0
    try:
        for part in (
            _environment()
            .from_string(template)
            .generate(
                messages=conversation,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{name: value for name, value in told.items() if value is not None},
            )
        ):
            text.append(part)
            length += len(part)
            if length > MAX_TEXT:
                raise CheckpointError(f"the chat template writes more than {MAX_TEXT:,} characters", WITHOUT)
    except MiniGPTError:
        raise
    except _RefusedError as error:
        raise DataError(f"the chat template refuses this conversation ({_line(error)})", "change its turns") from None
    except Exception as error:  # it is a program, and fails as any program may
        raise CheckpointError(f"the chat template does not work ({_line(error)})", WITHOUT) from None
    return "".join(text)


def _line(error: Exception) -> str:
    """What an error says, in one line that is not long."""
    said = " ".join(str(error).split()) or type(error).__name__
    place = getattr(error, "lineno", None)
    return (f"line {place}: " if place else "") + (said if len(said) <= 200 else f"{said[:199]}…")


def _environment() -> ImmutableSandboxedEnvironment:
    """What templates are written for: the sandbox as transformers sets it up."""
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The mark of what a model is trained to say, `{% generation %}`, which is nothing here."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    def raise_exception(message: str) -> NoReturn:
        raise _RefusedError(message)

    def strftime_now(format: str) -> str:
        return datetime.now().strftime(format)

    def tojson(  # jinja's own escapes what HTML would take amiss
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment


def main() -> int:
    """Answer one request; what goes wrong with the template is an answer too."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Rendering)
    _limit_memory()
    try:
        answer = Rendered(text=render(**msgspec.structs.asdict(request)))
    except MiniGPTError as error:
        answer = Rendered(kind=type(error).__name__, problem=error.message, hint=error.hint)
    with answers:
        answers.write(msgspec.json.encode(answer) + b"\n")
    return 0


def _limit_memory() -> None:
    """Take no more than MAX_MEMORY, where the system can be told so."""
    resource = find("resource")
    if resource is None:
        return
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, hard))


if __name__ == "__main__":
    sys.exit(main())
