"""What the form that starts a run promises: whatever it ends with can be started, wrong input is refused in words at
once, what a run takes stands there before it starts, and what was typed is there the next time.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from run_maker import until
from textual.app import App
from textual.pilot import Pilot

from engine.config import TrainConfig
from engine.errors import DataError, RunError
from engine.presets import PRESETS
from engine.text.batches import Batches
from engine.text.path_completion import Completions, PathEntry, complete
from engine.training.estimate import Measurement, MeasureRequest
from engine.training.run import RunConfig, RunDirectory, TextSources
from engine.training.run_making import make_config, parse_sources
from engine.training.survey import Survey, survey
from engine.validation import fields
from minigpt_tui.screens import train_form_cost
from minigpt_tui.screens.train_form import TrainForm
from minigpt_tui.screens.train_form_view import PLACEHOLDERS
from minigpt_tui.themes import DARK, variable_defaults
from minigpt_tui.training import run_starter
from minigpt_tui.training.form_fields import FIELDS, LABELS, LEFT, RIGHT
from minigpt_tui.training.run_cost import duration_words, steps_of
from minigpt_tui.training.run_draft import RunDraft
from minigpt_tui.training.setting_steps import choices, is_number, range_words, shown, stepped, typed
from minigpt_tui.training.text_paths import last_part, not_sent, put_for, put_in_place, text_choices
from minigpt_tui.widgets.choice_list import ChoiceList
from minigpt_tui.widgets.setting_row import LABEL, VALUE, SettingRow

WIDE, NARROW = (140, 40), (80, 24)

MEASURED = Measurement(
    step_seconds=0.25, tokens_per_second=8192.0, eval_tokens_per_second=40_000.0, device="cpu", precision="fp32"
)


class FormApp(App[None]):
    """The form alone."""

    ended: Any = "not yet"

    def __init__(self, initial: RunConfig | None = None, draft: RunDraft | None = None) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.form = TrainForm(initial, draft=draft)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults(self.current_theme)

    def on_mount(self) -> None:
        self.push_screen(self.form, lambda config: setattr(self, "ended", config))


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poem.txt").write_text("roses are red, violets are blue\n" * 40)
    return tmp_path


class Engine:
    """Answers in place of the processes, and remembers what it was asked."""

    def __init__(self) -> None:
        self.measured: list[MeasureRequest] = []
        self.given_up = 0
        self.answer = MEASURED
        self.seconds = 0.0

    async def ask(self, module: str, request: Any, _kind: type) -> Any:
        if module == "engine.training.survey":
            try:
                return survey(request)
            except DataError as error:
                return Survey(problem=error.message, hint=error.hint)
        self.measured.append(request)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return self.answer


@pytest.fixture
def engine(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine()
    monkeypatch.setattr(run_starter, "ask", found.ask)
    monkeypatch.setattr(train_form_cost, "SURVEY_SECONDS", 0.0)
    monkeypatch.setattr(train_form_cost, "MEASURE_SECONDS", 0.0)
    return found


def picture(app: App[Any]) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def row_of(app: App[Any], key: str) -> str:
    return next((line for line in picture(app).splitlines() if f" {key} " in line), "")


async def settled(pilot: Pilot[Any], words: str = "") -> None:
    """Until everything that was begun is done, and some words are on the screen.

    It sleeps between its looks: a pause of the pilot asks every field of the form whether it has done its work.
    """
    await pilot.pause(0.01)
    for _ in range(500):
        if not words or words in picture(pilot.app):
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError(f"{words!r} is not on the screen:\n{picture(pilot.app)}")
    await pilot.pause()


async def focus(pilot: Pilot[Any], key: str) -> SettingRow:
    row = pilot.app.screen.query_one(f"#field-{key}", SettingRow)
    row.focus()
    await pilot.pause()
    return row


# From the first key to a run


async def test_a_text_and_two_keys_are_enough(engine, own_home):
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "fables")
        await pilot.press(*"poem.txt")
        await settled(pilot, "1 file")
        await pilot.press("ctrl+s")
        await settled(pilot)
    config = app.ended
    assert config.text == TextSources(train=(str(own_home / "poem.txt"),))
    assert config.name == "poem"
    assert config.training == PRESETS["nano"]
    assert (config.device, config.base) == ("auto", "")
    RunDirectory.create(config)


async def test_the_texts_that_have_a_name_are_there_to_choose_and_say_how_to_get_them(engine):
    app = FormApp()
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot, "tinyshakespeare")
        assert "get it: minigpt-tui data get tinyshakespeare" in picture(app)
        await pilot.press("down", "enter")
        await settled(pilot, "alphabet of 62")
        assert app.form.draft.text == "fables"
        assert not app.screen.query_one(ChoiceList).is_open


async def test_a_text_is_chosen_with_the_mouse_too(engine):
    app = FormApp()
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot, "tinyshakespeare")
        await pilot.click("#choices", offset=(6, 1))
        await settled(pilot, "alphabet of 62")
        assert app.form.draft.text == "fables"


async def test_the_mouse_turns_a_value_opens_a_list_and_starts(engine):
    app = FormApp(draft=RunDraft(text="fables"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "alphabet of 62")
        await pilot.click("#field-n_layer", offset=(VALUE + 2, 0))
        await settled(pilot)
        assert app.form.draft.values()["n_layer"] == 5
        await pilot.click("#field-family", offset=(VALUE + 2, 0))
        await settled(pilot, "qwen3")
        await pilot.click("#choices", offset=(6, 3))
        await settled(pilot, "nano: nanochat")
        assert app.form.draft.values()["family"] == "qwen3"
        await pilot.click("#cost", offset=(8, 4))
        await settled(pilot)
    assert app.ended.training.family == "qwen3"


async def test_what_is_wrong_with_a_text_to_validate_with_is_told_there(engine):
    app = FormApp(draft=RunDraft(text="fables", val="nothing.txt"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "there is no file")
        await pilot.press("ctrl+s")
        await settled(pilot, "✗ validation: there is no file")
        assert app.focused.id == "input-val"


async def test_tab_completes_a_path(engine, own_home):
    (own_home / "books").mkdir()
    (own_home / "books" / "one.txt").write_text("some words")
    app = FormApp()
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot, "tinyshakespeare")
        await pilot.press(*"bo")
        await settled(pilot, "books/")
        await pilot.press("tab")
        await settled(pilot, "one.txt")
        await pilot.press("down", "tab")
        await settled(pilot, "10 bytes")
        assert app.form.draft.text == "books/one.txt"


async def test_a_text_that_is_not_there_is_told_and_cannot_be_started(engine):
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "fables")
        await pilot.press(*"nowhere.txt", "tab")
        await settled(pilot, "there is no file nowhere.txt")
        await pilot.press("ctrl+s")
        await settled(pilot, "✗ text: there is no file nowhere.txt")
        assert app.ended == "not yet"
        assert app.focused.id == "input-text"


async def test_a_form_without_a_text_says_what_is_missing(engine):
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "8,192 tokens/s")
        await pilot.press("ctrl+s")
        await settled(pilot, "✗ no text was chosen yet")
        assert app.ended == "not yet"


async def test_enter_on_the_last_panel_starts(engine):
    app = FormApp(draft=RunDraft(text="fables"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "alphabet of 62")
        app.screen.query_one("#cost").focus()
        await pilot.press("enter")
        await settled(pilot)
    assert app.ended.text.train == ("fables",)


# Names


async def test_a_name_that_is_taken_or_none_is_refused_at_once(engine):
    RunDirectory.create(make_config(RunDraft(text="fables").wish(), {"fables": "ready"}))
    app = FormApp(draft=RunDraft(text="fables"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "fables-2")  # the free name
        app.screen.query_one("#input-name").focus()
        await pilot.press(*"fables")
        await settled(pilot, "there is a run fables already: fables-2 is free")
        await pilot.press("slash")
        await settled(pilot, "cannot name a run")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert app.ended == "not yet"
        await pilot.press(*["backspace"] * 7, *"other", "ctrl+s")
        await settled(pilot)
    assert app.ended.name == "other"


# Settings


async def test_what_is_typed_is_checked_at_each_key_against_the_settings_own_range(engine):
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        row = await focus(pilot, "dropout")
        await pilot.press(*"0.95")
        await settled(pilot, "it must be from 0 to 0.9")
        assert "✗" in row_of(app, "dropout")
        assert app.form.draft.values()["dropout"] == 0.0  # 0.9 was taken on the way, and 0.95 was not
        await pilot.press("escape")
        await settled(pilot)
        assert row.typed is None
        assert app.form.draft.values()["dropout"] == 0.0
        await pilot.press(*".25", "tab")
        await settled(pilot)
        assert "0.25" in row_of(app, "dropout")
        assert app.form.draft.values()["dropout"] == 0.25


async def test_a_wrong_value_stays_in_sight_and_keeps_the_run_from_starting(engine):
    app = FormApp(draft=RunDraft(text="fables"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "alphabet of 62")
        await focus(pilot, "n_layer")
        await pilot.press(*"999", "tab")
        await settled(pilot)
        assert "999" in row_of(app, "n_layer")
        await pilot.press("ctrl+s")
        await settled(pilot, "✗ n_layer: it must be from 1 to 256")
        assert app.focused.id == "field-n_layer"
        assert app.ended == "not yet"


async def test_keys_step_numbers_and_choices_and_set_them_back(engine):
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        await focus(pilot, "n_embd")
        await pilot.press("right", "plus")
        await settled(pilot)
        assert app.form.draft.values()["n_embd"] == 384
        assert "•" in row_of(app, "n_embd")
        assert "nano: 192" in row_of(app, "n_embd")
        await pilot.press("backspace")
        await settled(pilot)
        assert app.form.draft.overrides == {}
        assert "•" not in row_of(app, "n_embd")
        await focus(pilot, "family")
        await pilot.press("left", "enter", "down", "enter")
        await settled(pilot)
        assert app.form.draft.values()["family"] == "nanochat"
        await pilot.press("left", "ctrl+r")
        assert app.form.draft.training() == PRESETS["nano"]


async def test_settings_that_do_not_go_together_are_told_where_the_cost_was(engine):
    app = FormApp(draft=RunDraft(text="fables"))
    async with app.run_test(size=WIDE) as pilot:
        await focus(pilot, "n_head")
        await pilot.press("right")
        await settled(pilot, "n_embd must be a multiple of n_head")
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert app.ended == "not yet"


async def test_another_preset_keeps_what_was_changed_by_hand(engine):
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        await focus(pilot, "n_layer")
        await pilot.press(*"8", "tab")
        await focus(pilot, "preset")
        await pilot.press("right")
        await settled(pilot)
        assert app.form.draft.training() == PRESETS["small"].replace(n_layer=8)
        assert "small: 4" in row_of(app, "n_layer")


async def test_all_settings_are_a_key_away_and_each_says_what_it_does(engine):
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        assert not row_of(app, "warmup_steps")
        await pilot.press("ctrl+o")
        await settled(pilot, "warmup_steps")
        for name, field in fields(TrainConfig).items():
            if field.choices or not row_of(app, name):  # there may be more than fit: the form scrolls
                await focus(pilot, name)
                if app.form.place == name:
                    assert field.setting.help in picture(app)
                    assert range_words(field) in picture(app)
            assert row_of(app, name), name
        await focus(pilot, "beta2")
        assert "AdamW's second-moment decay · from 0 to 0.99999" in picture(app)


@pytest.mark.parametrize("width", [80, 108, 140])
async def test_what_stands_in_an_empty_field_is_not_cut(engine, width):
    app = FormApp()
    async with app.run_test(size=(width, 40)) as pilot:
        await focus(pilot, "n_layer")  # the list of texts is closed now
        assert PLACEHOLDERS["text"] in picture(app)
        assert PLACEHOLDERS["val"] in picture(app)


def test_all_values_of_the_form_begin_in_the_same_column():
    assert max(len(LABELS.get(key, key)) for key in FIELDS) <= LABEL - 2


def test_no_setting_is_left_out_of_the_form():
    shown_keys = [key for group in (*LEFT, *RIGHT) for key in (*group.usual, *group.rest)]
    assert len(shown_keys) == len(set(shown_keys))
    assert set(fields(TrainConfig)) < set(shown_keys)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if is_number(field) or choices(field)])
def test_every_step_of_a_setting_is_in_its_range_and_can_be_typed(name):
    field = FIELDS[name]
    for direction in (1, -1):
        value = field.default
        for _ in range(40):
            value = stepped(field, value, direction)
            if value is not None and is_number(field):
                assert typed(field, shown(value)) == value
            elif value is not None and field.choices:
                assert value in field.choices
    up = stepped(field, stepped(field, field.default, 1), -1)
    assert up == field.default or is_number(field)


# What it takes


KNOWN_COST = {"n_embd": 256, "batch_size": 16, "steps": 750, "average": 0.0, "eval_interval": 250, "eval_tokens": 65536}
"""Settings whose cost the tests know, whatever the preset's are."""


async def test_the_cost_stands_there_before_the_run_starts(engine):
    app = FormApp(draft=RunDraft(text="fables", overrides=KNOWN_COST))
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot, "8,192 tokens/s on cpu fp32")
        seen = picture(app)
        assert "3.2M parameters (3,177,984)" in seen
        assert "2,048 tokens a step" in seen
        assert "for 750 steps" in seen
        assert "about 3 min 8 s" in seen  # 750 x 0.25 s, and some evaluations
        assert engine.measured[-1].model.vocab_size == 63


async def test_a_change_gives_up_the_step_that_is_being_timed_and_times_another(engine):
    engine.seconds = 30.0
    app = FormApp(draft=RunDraft(text="fables", overrides=KNOWN_COST))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "alphabet of 62")
        await settled(pilot, "measuring how long a step takes")
        await until(lambda: engine.measured)
        before = len(engine.measured)
        await focus(pilot, "batch_size")
        engine.seconds = 0.0
        await pilot.press("right")
        await settled(pilot, "8,192 tokens/s")
        assert engine.given_up >= 1
        assert len(engine.measured) == before + 1
        assert engine.measured[-1].training.batch_size == 24
        await focus(pilot, "steps")
        await pilot.press("right")
        await settled(pilot, "1,000 steps")
        assert len(engine.measured) == before + 1  # a longer run has the same steps


async def test_leaving_gives_up_the_step_that_is_being_timed(engine):
    engine.seconds = 30.0
    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: engine.measured)
        await pilot.press("escape", "escape")
        await settled(pilot)
        assert app.ended is None
        assert engine.given_up == len(engine.measured)


async def test_what_cannot_be_measured_is_said_and_does_not_keep_a_run_from_starting(engine):
    engine.answer = Measurement(problem="it takes about 42 GB of memory, and 6 GB are free", hint="choose less")
    app = FormApp(draft=RunDraft(text="fables"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "not measured: it takes about 42 GB of memory, and 6 GB are free: choose less")
        await pilot.press("ctrl+s")
        await settled(pilot)
    assert app.ended.name == "fables"


async def test_a_step_is_really_timed(own_home):
    draft = RunDraft(text="poem.txt", device="cpu")
    for name, value in {"n_layer": 1, "n_head": 2, "n_embd": 32, "block_size": 16, "batch_size": 2}.items():
        draft.set(name, value)
    app = FormApp(draft=draft)
    async with app.run_test(size=WIDE):
        for _ in range(300):
            await asyncio.sleep(0.2)
            if "tokens/s on cpu" in picture(app):
                break
        assert f"for {PRESETS['nano'].steps:,} steps (at " in picture(app)


async def test_whoever_leaves_ends_the_process_that_times_a_step(own_home):
    def of_ours() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [child for child in children if "engine.training.measure" in child.cmdline()]

    app = FormApp()
    async with app.run_test(size=WIDE) as pilot:
        await until(of_ours, 60)
        await pilot.press("escape", "escape")
        await until(lambda: not of_ours())
        assert app.ended is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "250 ms"), (59.6, "1 min"), (190, "3 min 10 s"), (7500, "2 h 5 min"), (90_000, "1 day 1 h")],
)
def test_a_time_is_said_in_its_two_largest_units(seconds, words):
    assert duration_words(seconds) == words


def test_epochs_are_as_many_steps_as_the_text_has_windows_for():
    config = TrainConfig(epochs=2.0, block_size=10, batch_size=5)
    text = Survey(files=1, bytes=1112, read=1112, characters=1112, alphabet=9)  # 1001 tokens to learn from
    batches = Batches(np.zeros(1001, np.uint8), 10, 5, 0, 0)
    assert steps_of(config, config.model_config(10), text) == round(2.0 * batches.batches_per_epoch) == 40


# Fine-tuning, and another like it


async def test_going_on_from_a_model_takes_its_shape_and_its_tokenizer(engine):
    app = FormApp(draft=RunDraft(text="fables"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "alphabet of 62")
        await focus(pilot, "base")
        await until(lambda: app.form._models)
        await pilot.press("enter")
        await settled(pilot, "3.2M · char")
        await pilot.press("down", "enter")
        await settled(pilot, "the model's")
        assert "finetune" in row_of(app, "preset")
        assert app.screen.query_one("#field-n_layer", SettingRow).locked
        assert app.screen.query_one("#field-tokenizer", SettingRow).locked
        assert not app.screen.query_one("#field-dropout", SettingRow).locked
        await pilot.press("ctrl+s")
        await settled(pilot)
    assert Path(app.ended.base).name == "shakespeare"
    assert app.ended.training.learning_rate == PRESETS["finetune"].learning_rate


async def test_another_like_a_run_begins_with_all_that_it_had(engine, own_home):
    training = PRESETS["small"].replace(n_layer=3, trackers=("tensorboard",), sample_prompt="Once")
    text = TextSources(train=("fables",), val=str(own_home / "poem.txt"))
    before = RunConfig(name="first", created=1.0, training=training, text=text, device="cpu")
    RunDirectory.create(before)
    app = FormApp(before)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "first-2")
        await focus(pilot, "n_layer")
        await pilot.press("right")
        await settled(pilot)
        assert "that run's: 3" in row_of(app, "n_layer")
        await pilot.press("ctrl+s")
        await settled(pilot)
    assert app.ended.training == training.replace(n_layer=4)
    assert app.ended.text == text
    assert (app.ended.name, app.ended.device) == ("first-2", "cpu")


async def test_what_was_typed_is_there_the_next_time(engine):
    draft = RunDraft()
    app = FormApp(draft=draft)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "fables")
        await pilot.press(*"poem.txt")
        await focus(pilot, "steps")
        await pilot.press(*"321", "tab", "escape")
        await settled(pilot)
        assert app.ended is None
        app.push_screen(TrainForm(draft=draft))
        await settled(pilot, "321")
        assert "poem.txt" in picture(app)
        assert "•" in row_of(app, "steps")


# What it is made of


def test_the_form_imports_neither_torch_nor_numpy():
    heavy = "{'torch', 'numpy', 'safetensors', 'tokenizers'}"
    code = f"import sys, minigpt_tui.screens.train_form; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Texts as they are typed


def test_several_texts_are_parted_by_commas_or_as_a_shell_writes_them(own_home):
    (own_home / "with space.txt").write_text("x")
    (own_home / "a, b.txt").write_text("x")
    assert parse_sources("poem.txt") == ("poem.txt",)
    assert parse_sources("with space.txt") == ("with space.txt",)
    assert parse_sources("a, b.txt") == ("a, b.txt",)
    assert parse_sources("poem.txt, with space.txt") == ("poem.txt", "with space.txt")
    assert parse_sources("poem.txt 'with space.txt'") == ("poem.txt", "with space.txt")
    assert parse_sources("fables, poem.txt", {"fables": "ready"}) == ("fables", "poem.txt")
    assert parse_sources("not there.txt") == ("not there.txt",)
    assert parse_sources(" ") == ()


def test_a_text_that_is_yet_to_be_downloaded_is_told_how_to_get():
    with pytest.raises(DataError, match="minigpt-tui data get tinyshakespeare"):
        make_config(RunDraft(text="tinyshakespeare").wish(), {"tinyshakespeare": "to download"})
    with pytest.raises(RunError, match="cannot name a run"):
        make_config(RunDraft(text="fables", name="../x").wish(), {"fables": "ready"})


def test_only_the_last_of_several_texts_is_completed(own_home):
    found, is_begun = text_choices("fables, po", [], complete("po"))
    assert [choice.value for choice in found] == ["poem.txt"]
    assert is_begun
    assert put_in_place("fables, po", "poem.txt") == "fables, poem.txt"
    assert complete("~nobody-here/x").entries == ()


def test_a_file_of_this_machine_reaches_over_commas_as_far_as_it_is_there(own_home):
    (own_home / "a,b.txt").write_text("x")
    (own_home / "c, d").mkdir()
    assert last_part("here:a,b.txt") == "here:a,b.txt"
    assert last_part("fables, here:c, d/po") == "here:c, d/po"
    assert last_part("here:a,b.txt,c") == "c"
    assert last_part("here:poem.txt, fables") == "fables"
    assert last_part("a,b.txt") == "b.txt"  # another machine's: nothing is known of it
    assert put_in_place("x,here:a,b.txt", "song") == "x, song"
    assert not_sent("x, y", "here:a,b.txt, z") == "here:a,b.txt"
    assert put_for("here:p.txt, here:p", "here:p", "song") == "here:p.txt, song"
    assert put_for("here:p, x", "here:p", "song") == "song, x"
    assert put_for("here:pa", "here:p", "song") == "here:pa"


def test_a_path_of_another_system_is_completed_with_its_own_separators():
    entries = (PathEntry(name="old", is_folder=True), PathEntry(name="poem.txt", size=3))
    found, is_begun = text_choices("x, C:\\me\\", [], Completions(folder="C:\\me\\", entries=entries))
    assert [choice.value for choice in found] == ["C:\\me\\old/", "C:\\me\\poem.txt"]
    assert not is_begun
