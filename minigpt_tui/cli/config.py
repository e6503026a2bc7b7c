"""`minigpt-tui config`: what was decided, from the shell: settings and keys in `config.toml`."""

from __future__ import annotations

from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from engine import folders
from engine.errors import InvalidSettingError
from engine.validation import nearest_hint, parse_text
from minigpt_tui.cli.streams import say, write_json, write_line
from minigpt_tui.columns import columns
from minigpt_tui.config_edit import ConfigError, set_value
from minigpt_tui.config_file import Config, Loaded, Option, config_path, load_config, options, value_of


class SettingName(click.types.StringParamType):
    """The name of a setting; a shell completes it."""

    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The settings whose name begins so."""
        return [
            CompletionItem(key, help=option.help) for key, option in options().items() if key.startswith(incomplete)
        ]


@click.group()
def config() -> None:
    """Show and change what you have decided.

    It stands in config.toml, which you can edit as well: comments and order stay as they are. What is given on the
    command line comes before it; what it leaves out is as the last session left it.
    """


@config.command()
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per setting.")
def show(as_lines: bool) -> None:
    """Print every setting with its value; * marks those that config.toml says. What is wrong there goes to stderr."""
    loaded = load_config()
    _tell(loaded)
    for problem in _further_problems(loaded):
        say(problem)
    if as_lines:
        for option in options().values():
            write_json(_facts(option, loaded))
        for action_id, keys in loaded.config.keys:
            write_json({"key": f"keys.{action_id}", "value": keys, "set": True})
        return
    rows = [
        (
            "* " if option.key in loaded.said else "  ",
            option.key,
            text_of(value_of(loaded.config, option.key)),
            option.help,
        )
        for option in options().values()
    ]
    rows += [("* ", f"keys.{action_id}", keys, "") for action_id, keys in loaded.config.keys]
    for line in columns([(mark + key, value, help) for mark, key, value, help in rows]):
        write_line(line)
    say(f"* is said by {config_path()}")


@config.command()
@click.argument("key", type=SettingName())
def get(key: str) -> None:
    """Print the value of one setting; that of keys.ACTION are the keys in force."""
    loaded = load_config()
    _tell(loaded)
    if key.startswith("keys."):
        write_line(_keys_in_force(loaded)[_action(key)])
    else:
        write_line(text_of(value_of(loaded.config, _option(key).key)))


@config.command("set")
@click.argument("key", type=SettingName())
@click.argument("value")
def set_(key: str, value: str) -> None:
    r"""Set one setting.

    \b
    minigpt-tui config set theme nord
    minigpt-tui config set history.record_shell on
    minigpt-tui config set keys.again "ctrl+g"
    """
    parsed: Any
    if key.startswith("keys."):
        parsed = _free_keys(_action(key), value)
    else:
        parsed = parse_text(_option(key).field, value)
        if key == "theme":
            _check_theme(value)
    _write(key, parsed)


@config.command()
@click.argument("key", type=SettingName())
def unset(key: str) -> None:
    """Take one setting out of config.toml: what holds where nothing is decided holds again."""
    if key.startswith("keys."):
        _action(key)
    elif key not in load_config().said:  # also one that is wrong, or not known, may go
        _known_or_there(key)
    _write(key, None)


@config.command()
def path() -> None:
    """Print where config.toml is, or would be."""
    write_line(str(config_path()))


@config.command()
def edit() -> None:
    """Open config.toml in $VISUAL or $EDITOR, and say what is wrong with it afterwards."""
    file = config_path()
    folders.private(file.parent)
    click.edit(filename=str(file))
    _tell(load_config())


@config.command()
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per action.")
def keys(as_lines: bool) -> None:
    """Print every action by its id, with the keys in force and what it does."""
    from minigpt_tui.actions import all_actions, use_keys
    from minigpt_tui.keymap import resolve, shown_keys

    loaded = load_config()
    resolved = resolve(loaded.config.keymap)
    _tell(loaded._replace(problems=(*loaded.problems, *resolved.problems)))
    use_keys(resolved.keymap)
    actions = [action for action in all_actions() if action.keys]
    if as_lines:
        for action in actions:
            facts = {"id": action.id, "keys": action.keys.split(","), "place": action.where.value}
            write_json({**facts, "title": action.title, "sentence": action.sentence})
        return
    rows = [(action.id, shown_keys(action.keys), action.where.value, action.sentence) for action in actions]
    for line in columns(rows):
        write_line(line)


def text_of(value: Any) -> str:
    """A value as `config set` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _facts(option: Option, loaded: Loaded) -> dict[str, Any]:
    value, default = value_of(loaded.config, option.key), value_of(Config(), option.key)
    facts = {"key": option.key, "value": value, "default": default, "set": option.key in loaded.said}
    return {**facts, "group": option.group, "help": option.help, "range": option.range_text}


def _tell(loaded: Loaded) -> None:
    for problem in loaded.problems:
        say(problem)


def _further_problems(loaded: Loaded) -> list[str]:
    """What is wrong with what the file names: keys, the theme, and one's own themes."""
    from minigpt_tui.keymap import resolve
    from minigpt_tui.user_themes import ThemeError, known_themes, read_theme, theme_files

    problems = list(resolve(loaded.config.keymap).problems)
    for path in theme_files():
        try:
            read_theme(path)
        except ThemeError as error:
            problems.append(str(error))
    if loaded.config.theme not in (known := known_themes()):
        hint = nearest_hint(loaded.config.theme, dict.fromkeys(known))
        problems.append(f"there is no theme {loaded.config.theme!r}: {hint}")
    return problems


def _option(key: str) -> Option:
    known = options()
    if key not in known:
        _unknown(key)
    return known[key]


def _unknown(key: str) -> NoReturn:
    raise InvalidSettingError(f"there is no setting {key!r}", nearest_hint(key, options()))


def _known_or_there(key: str) -> None:
    """Whether a key is a setting, or stands in the file all the same."""
    if key not in options() and not any(f"{key!r}" in problem for problem in load_config().problems):
        _unknown(key)


def _action(key: str) -> str:
    """The id of the action whose keys a key names."""
    from minigpt_tui.actions import by_id
    from minigpt_tui.keymap import nearest_action

    action_id = key.removeprefix("keys.")
    try:
        return by_id(action_id).id
    except KeyError:
        raise InvalidSettingError(f"there is no action {action_id!r}", nearest_action(action_id)) from None


def _keys_in_force(loaded: Loaded) -> dict[str, str]:
    from minigpt_tui.actions import shipped
    from minigpt_tui.keymap import resolve

    return {action.id: action.keys for action in shipped()} | resolve(loaded.config.keymap).keymap


def _free_keys(action_id: str, text: str) -> str:
    """Keys for an action, where nothing is in their way."""
    from minigpt_tui.actions import by_id
    from minigpt_tui.keymap import clashes, readable_keys, resolve

    keymap = {**resolve(load_config().config.keymap).keymap, action_id: readable_keys(by_id(action_id), text)}
    if found := clashes(action_id, keymap):
        raise InvalidSettingError(found[0].words, f"give {found[0].other.id} another first, or take another here")
    return keymap[action_id]


def _check_theme(name: str) -> None:
    from minigpt_tui.user_themes import known_themes

    known = known_themes()
    if name not in known:
        raise InvalidSettingError(f"there is no theme {name!r}", nearest_hint(name, dict.fromkeys(known)))


def _write(key: str, value: Any) -> None:
    try:
        set_value(key, value)
    except ConfigError as error:
        hint = "" if error.hint.startswith("the setting holds") else error.hint
        raise ConfigError(error.message, hint) from None
