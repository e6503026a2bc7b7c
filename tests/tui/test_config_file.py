"""config.toml: what is right in it counts, what is wrong is told with its line, a change leaves the rest as it was."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidSettingError
from minigpt_tui.config_edit import ConfigError, set_value
from minigpt_tui.config_file import Config, config_path, load_config, options, value_of, with_value

pytest_plugins = ("play_fixtures",)

MINE = """\
# my machine is old
model = "fables"   # I wrote these
theme = 'nord'

# what is kept
[history]
record_app = false  # not on this machine

[keys]
again = "ctrl+g"
"""


@pytest.fixture
def file(own_home):
    config_path().parent.mkdir(parents=True)
    return config_path()


def test_without_a_file_everything_is_as_it_ships(own_home):
    loaded = load_config()
    assert (loaded.config, loaded.problems, loaded.said) == (Config(), (), frozenset())
    assert not config_path().exists()


def test_what_the_file_says_counts(file):
    file.write_text(MINE)
    loaded = load_config()
    assert loaded.problems == ()
    assert (loaded.config.model, loaded.config.theme) == ("fables", "nord")
    assert not loaded.config.history.record_app
    assert loaded.config.keymap == {"again": "ctrl+g"}
    assert loaded.said == {"model", "theme", "history.record_app", "keys.again"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("pase = 3", "there is no setting 'pase': did you mean pace?"),
        ("pace = -4", "pace is -4: it must be from 0 to 1e+06"),
        ("pace = nan", "it must be from 0 to 1e+06"),
        ("new_tokens = 0", "it must be from 1 to 2,147,483,648 or -1"),
        ("device = 'gpu'", "choose one of auto, cpu, cuda, mps"),
        ("bell = 'loud'", "it must be true or false or none"),
        ("mouse = 1", "mouse is 1: it must be true or false"),
        ("model_folders = ['/a', 3]", "it must be a list of texts"),
        ("history.recrd_app = true", "did you mean history.record_app?"),
        ("history = 3", "there is no setting 'history'"),
        ("keys.again = 3", 'write keys in quotes, such as "f2,1"'),
        ("copy_limit = 2026-01-01", "it must be a whole number"),
    ],
)
def test_a_wrong_line_is_told_and_the_others_count(file, line, says):
    file.write_text(f"theme = 'nord'\n\n{line}\nprecision = 'fp32'\n")
    loaded = load_config()
    assert (loaded.config.theme, loaded.config.precision) == ("nord", "fp32")
    [problem] = loaded.problems
    assert problem.startswith(f"{file}, line 3: ")
    assert says in problem
    assert not loaded.damaged


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"theme = 'nord'\nmodel = \n", ", line 2:"),
        (b"theme = 'nord'\nmodel = 'x", ", line 2:"),
        (b"theme = 'nord'\n\nmodel = '\xff'", ", line 3: it is not UTF-8"),
        (b"\xff\xfe", ", line 1: it is not UTF-8"),
        (b"a = " + b"[" * 20_000, ""),
        (b"#" * (1 << 20) + b"#", ": it is longer than 1 MiB"),
    ],
)
def test_a_damaged_file_is_told_in_one_line_and_never_touched(file, content, line):
    file.write_bytes(content)
    loaded = load_config()
    assert (loaded.config, loaded.damaged) == (Config(), True)
    [problem] = loaded.problems
    assert problem.startswith(f"{file}{line}")
    assert "\n" not in problem
    with pytest.raises(ConfigError, match="mend it first"):
        set_value("theme", "nord")
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_a_folder_in_the_files_place_is_told(file):
    file.mkdir()
    loaded = load_config()
    assert "directory" in loaded.problems[0]
    with pytest.raises(ConfigError):
        set_value("theme", "nord")


def test_comments_and_order_survive_a_change(file):
    file.write_text(MINE)
    set_value("theme", "gruvbox")
    set_value("history.record_app", True)
    set_value("keys.help", "f12")
    assert file.read_text() == MINE.replace("'nord'", '"gruvbox"').replace("= false", "= true") + 'help = "f12"\n'
    set_value("keys.help", None)
    set_value("theme", None)
    set_value("history.record_shell", None)  # which it never said
    assert file.read_text() == MINE.replace("theme = 'nord'\n", "").replace("= false", "= true")


def test_what_is_written_is_read_again(file):
    values = {
        "model": 'a "b" \\ c', "device": "cpu", "model_folders": ("/a", "b c"), "pace": 12.5, "new_tokens": -1,
        "bell": True, "mouse": False, "history.record_shell": True,
    }  # fmt: skip
    for key, value in values.items():
        set_value(key, value)
    loaded = load_config()
    assert {key: value_of(loaded.config, key) for key in values} == values
    assert loaded.problems == ()


@pytest.mark.posix
def test_a_link_to_the_file_stays_a_link(file, tmp_path):
    elsewhere = tmp_path / "dotfiles.toml"
    elsewhere.write_text("# mine\n")
    file.symlink_to(elsewhere)
    set_value("theme", "nord")
    assert file.is_symlink()
    assert elsewhere.read_text() == '# mine\ntheme = "nord"\n'


def test_changes_at_the_same_time_are_all_kept(file):
    threads = [threading.Thread(target=set_value, args=(f"keys.action{n}", f"f{n}")) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_config().config.keymap == {f"action{n}": f"f{n}" for n in range(1, 9)}


def test_every_setting_says_what_it_does_and_ships_with_a_value_that_it_takes():
    for key, option in options().items():
        assert option.help
        assert with_value(Config(), key, value_of(Config(), key)) == Config()
    grouped = {key.partition(".")[0] for key in options()}
    assert grouped == {*Config.__struct_fields__} - {"keys"}


def test_a_value_out_of_its_range_is_never_held():
    with pytest.raises(InvalidSettingError, match="must be from 0"):
        with_value(Config(), "copy_limit", -1)


@given(st.text(alphabet="[]=\"'#.\n ab1-theme", max_size=60))
def test_whatever_stands_in_the_file_there_is_a_configuration(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text)
    loaded = load_config(path)
    assert isinstance(loaded.config, Config)
    assert not any("\n" in problem for problem in loaded.problems)
