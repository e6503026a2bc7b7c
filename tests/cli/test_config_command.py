"""`minigpt-tui config`: what was decided is shown, changed and explained from the shell."""

from __future__ import annotations

import json

import pytest

from minigpt_tui.actions import use_keys
from minigpt_tui.config_file import Config, config_path, load_config, options


@pytest.fixture(autouse=True)
def here(own_home):
    yield
    use_keys({})


def test_every_setting_is_shown_with_its_value_and_meaning(cli):
    result = cli("config", "show")
    assert result.status == 0
    for option in options().values():
        assert any(option.key in line and option.help in line for line in result.out.splitlines())
    assert not config_path().exists()  # showing decides nothing


def test_json_has_what_a_program_needs(cli):
    cli("config", "set", "pace", "12")
    lines = [json.loads(line) for line in cli("config", "show", "--json").out.splitlines()]
    assert [line["key"] for line in lines] == list(options())
    [pace] = [line for line in lines if line["key"] == "pace"]
    assert (pace["value"], pace["default"], pace["set"]) == (12.0, None, True)
    assert pace["range"] == "from 0 to 1e+06"


@pytest.mark.parametrize(
    ("key", "text", "value", "shown"),
    [
        ("theme", "nord", "nord", "nord"),
        ("mouse", "off", False, "off"),
        ("pace", "7.5", 7.5, "7.5"),
        ("pace", "none", None, "none"),
        ("new_tokens", "-1", -1, "-1"),
        ("model_folders", "/a, /b", ["/a", "/b"], "/a,/b"),
        ("history.record_shell", "on", True, "on"),
        ("keys.again", "Ctrl+G", "ctrl+g", "ctrl+g"),
    ],
)
def test_what_is_set_is_got_and_unset(cli, key, text, value, shown):
    assert cli("config", "set", "--", key, text).status == 0
    assert cli("config", "get", key).out.strip() == shown
    loaded = load_config()
    assert loaded.problems == ()
    assert (key in loaded.said) is (value is not None)
    assert cli("config", "unset", key).status == 0
    assert load_config().config == Config()
    assert cli("config", "get", key).out.strip() != shown or value is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("set", "thme", "nord"), "did you mean theme?"),
        (("get", "thme"), "did you mean theme?"),
        (("unset", "thme"), "did you mean theme?"),
        (("set", "theme", "norf"), "there is no theme 'norf': did you mean nord?"),
        (("set", "pace", "fast"), "it must be a number"),
        (("set", "pace", "1e9"), "it must be from 0 to 1e+06"),
        (("set", "device", "gpu"), "choose one of auto, cpu, cuda, mps"),
        (("set", "keys.agian", "g"), "did you mean again?"),
        (("set", "keys.again", "y2"), "is no key"),
        (("set", "keys.again", "c"), "c is the key of 'continue'"),
        (("get", "keys.agian"), "did you mean again?"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(cli, words, says):
    result = cli("config", *words)
    assert (result.status, result.is_one_error_line) == (2, True)
    assert says in result.err
    assert not config_path().exists()


def test_a_wrong_line_can_be_taken_out(cli):
    config_path().parent.mkdir(parents=True)
    config_path().write_text("# mine\npase = 3\ndevice = 'gpu'\n")
    assert cli("config", "unset", "pase").status == 0
    assert cli("config", "unset", "device").status == 0
    assert config_path().read_text() == "# mine\n"


def test_a_damaged_file_is_told_and_left_alone(cli):
    config_path().parent.mkdir(parents=True)
    config_path().write_text("model = \n")
    shown = cli("config", "show")
    assert shown.status == 0
    assert f"{config_path()}, line 1: invalid value" in shown.err
    changed = cli("config", "set", "mouse", "off")
    assert (changed.status, changed.is_one_error_line) == (1, True)
    assert "minigpt-tui config edit" in changed.err
    assert config_path().read_text() == "model = \n"


def test_all_that_the_app_would_complain_of_is_told(cli):
    (config_path().parent / "themes").mkdir(parents=True)
    (config_path().parent / "themes" / "mine.toml").write_text("primary = 'blau'\n")
    config_path().write_text("theme = 'norf'\n[keys]\nagain = 'c'\n")
    told = cli("config", "show").err
    assert "keys.again: c is the key of 'continue'" in told
    assert "there is no theme 'norf': did you mean nord?" in told
    assert "mine.toml: primary is 'blau'" in told


def test_keys_are_listed_with_those_in_force(cli):
    cli("config", "set", "keys.again", "ctrl+g")
    lines = cli("config", "keys").out.splitlines()
    assert any(line.split()[:2] == ["again", "^g"] for line in lines)
    [again] = [entry for line in cli("config", "keys", "--json").out.splitlines()
               if (entry := json.loads(line))["id"] == "again"]  # fmt: skip
    assert again["keys"] == ["ctrl+g"]


@pytest.mark.posix
def test_an_editor_is_opened_and_what_is_wrong_afterwards_is_told(cli, tmp_path, monkeypatch):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho 'pase = 3' >> \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(editor))
    result = cli("config", "edit")
    assert result.status == 0
    assert "line 1: there is no setting 'pase': did you mean pace?" in result.err
    assert config_path().parent.stat().st_mode & 0o077 == 0


def test_the_path_is_among_all_paths(cli):
    assert cli("config", "path").out.strip() == str(config_path())
    assert str(config_path()) in cli("paths").out


def test_other_commands_begin_with_what_was_decided_and_the_command_line_comes_first(
    cli, tiny_model, home, monkeypatch
):
    monkeypatch.setenv("MINIGPT_HOME", str(home))  # where the model is
    try:
        assert cli("config", "set", "model", "tiny").status == 0
        generate = ("generate", "a", "-n", "1", "--seed", "1", "--json", "--device", "cpu", "--precision", "fp32")
        assert json.loads(cli(*generate).out)["model"] == "tiny"
        assert "no-such" in cli(*generate, "--model", "no-such").err
        cli("config", "set", "model", "no-such")
        assert "no-such" in cli(*generate).err
        assert json.loads(cli(*generate, "--model", "tiny").out)["model"] == "tiny"
    finally:
        config_path().unlink()
