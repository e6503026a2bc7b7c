"""The models' screen under the keyboard, on real directories of models and runs."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import msgspec
import pytest
from run_maker import until
from test_play_screen import NARROW, WIDE, shown

from engine import catalog, folders
from engine.inference import choosing
from engine.model_folders import added_folders
from engine.training import runs
from minigpt_tui.models import checking, desk, shelf
from minigpt_tui.screens.models import ModelsScreen
from minigpt_tui.wishes import CompareModels, UseModel

pytest_plugins = ("play_fixtures", "run_fixtures")

TALL = (140, 40)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Look more often than a reader needs."""
    monkeypatch.setattr(shelf, "SCAN_SECONDS", 0.05)
    monkeypatch.setattr("minigpt_tui.screens.models.LOOK_SECONDS", 0.05)


@pytest.fixture
def put(own_home, tiny_model):
    """Puts a copy of the tiny model somewhere; by default among one's own."""

    def copy(name: str, folder: Path | None = None, **record: object) -> Path:
        path = (folder or folders.user_checkpoints()) / name
        shutil.copytree(tiny_model, path)
        if record:
            changed = msgspec.structs.replace(catalog.read_record(path), **record)
            (path / "minigpt.json").write_bytes(msgspec.json.encode(changed))
        return path

    return copy


@pytest.fixture
def model_run(make_run, tiny_model):
    """Makes a run whose checkpoints are models."""

    def make(name: str, **how: object):
        run = make_run(name, **how)
        for path in run.path.glob("checkpoints/step-*"):
            fill(path, tiny_model)
        return run

    return make


def fill(checkpoint: Path, tiny_model: Path) -> None:
    """Make a checkpoint of a run of the test's a model, with the losses that it has."""
    record = catalog.read_record(checkpoint)
    for file in tiny_model.iterdir():
        if file.is_file():
            shutil.copy(file, checkpoint)
    own = msgspec.structs.replace(catalog.read_record(tiny_model), step=record.step, losses=record.losses)
    (checkpoint / "minigpt.json").write_bytes(msgspec.json.encode(own))


async def opened(pilot, chosen: str = "") -> ModelsScreen:
    """Go to the screen, and wait until all was read; then to a model by its name."""
    await pilot.press("f6")
    await until(lambda: isinstance(pilot.app.screen, ModelsScreen))
    screen = pilot.app.screen
    await until(lambda: screen._is_whole)
    if chosen:
        await choose(pilot, chosen)
    await pilot.pause()
    return screen


async def choose(pilot, name: str) -> None:
    screen = pilot.app.screen
    await until(lambda: any(row.model and row.model.name == name for row in screen._list.rows))
    there = next(place for place, row in enumerate(screen._list.rows) if row.model and row.model.name == name)
    screen._list.action_move(there - screen._list.index())
    await until(lambda: screen._details is not None and screen._details.model.name == name)
    await pilot.pause()


def listed(screen: ModelsScreen) -> list[str]:
    return [row.model.label if row.model else f"# {row.heading}" for row in screen._list.rows]


def words(app, selector: str) -> str:
    return " ".join(shown(app, selector).replace("│", " ").split())


async def see(app, selector: str, *wanted: str) -> None:
    """Wait until a part of the screen shows all these words."""
    try:
        await until(lambda: all(" ".join(each.split()) in words(app, selector) for each in wanted), 8.0)
    except AssertionError:
        raise AssertionError(f"{wanted} is not in {words(app, selector)}") from None


class Wishes:
    """What the app was asked for."""

    def __init__(self, app, monkeypatch) -> None:
        self.names: list[object] = []

        async def use(event: UseModel) -> None:
            self.names.append(event.name)

        async def compare(event: CompareModels) -> None:
            self.names.append(event.names)

        for name, take in (("on_use_model", use), ("on_compare_models", compare)):
            owner = next(kind for kind in type(app).__mro__ if name in vars(kind))
            monkeypatch.setattr(owner, name, lambda _, event, take=take: take(event))


# The list


async def test_all_models_are_listed_under_where_they_are_from(make_app, put, model_run, tmp_path):
    put("mine")
    put("theirs", tmp_path / "others")
    put("alone", tmp_path)
    model_run("demo")
    add(tmp_path / "others", tmp_path / "alone")
    async with make_app().run_test(size=TALL) as pilot:
        screen = await opened(pilot)
        assert listed(screen) == [
            "# your own", "mine", "# bundled", "shakespeare", "# runs", "demo",
            f"# {tmp_path / 'others'}", "theirs", f"# {tmp_path / 'alone'}", "alone",
        ]  # fmt: skip
        assert "Models" in shown(pilot.app, "#top")
        row = next(row for row in shown(pilot.app, "#list").splitlines() if "mine" in row)
        assert "nanochat" in row
        assert "26.8K" in row
        assert "5 models · 4 checkpoints of runs" in words(pilot.app, "#status")


def add(*paths: Path) -> None:
    folders.config_home().mkdir(parents=True, exist_ok=True)
    quoted = ", ".join(f'"{path}"' for path in paths)
    (folders.config_home() / "config.toml").write_text(f"# by hand\nmodel_folders = [{quoted}]\n")


async def test_a_run_unfolds_to_its_checkpoints_with_the_best_and_the_last(make_app, model_run):
    model_run("demo", loss=lambda step: 1.0 if step == 20 else 2.0)
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "demo")
        await pilot.press("right")
        assert listed(screen)[-4:] == ["step-40", "step-30", "step-20", "step-10"]
        rows = shown(pilot.app, "#list").splitlines()
        assert "last" in next(row for row in rows if "step-40" in row)
        assert "best" in next(row for row in rows if "step-20" in row)
        assert screen.chosen.path.name == "step-20"
        await pilot.press("down", "down", "left")
        assert listed(screen)[-1] == "demo"
        assert screen.chosen.name == "demo"


async def test_the_list_filters_as_one_types(make_app, put, model_run):
    put("fox")
    put("hen", data={"name": "the fables"})
    model_run("demo")
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        await pilot.press("slash", *"fa")
        await pilot.pause()
        assert listed(screen) == ["# your own", "hen"]
        screen._filter.value = "step-3"
        await pilot.pause()
        assert listed(screen) == ["# runs", "step-30"]
        screen._filter.value = "step-3 zzz"
        await pilot.pause()
        await see(pilot.app, "#list", "No model has these words")
        screen._filter.value = "fox"
        await pilot.press("enter")
        assert screen._list.has_focus
        assert screen.chosen.name == "fox"
        await pilot.press("escape")
        assert "hen" in listed(screen)


async def test_a_new_model_and_a_runs_new_checkpoint_come_by_themselves(make_app, put, model_run, make_run, tiny_model):
    put("mine")
    run = model_run("demo", state="running", step=20)
    async with make_app().run_test(size=TALL) as pilot:
        screen = await opened(pilot, "demo")
        await pilot.press("right")
        put("new")
        for step in range(21, 31):
            make_run.take(run, step, 0.5, evaluate=step == 30)
        fill(run.checkpoint(30), tiny_model)
        await until(lambda: "new" in listed(screen) and "step-30" in listed(screen))
        assert screen.chosen.run == "demo"
        await until(lambda: screen.chosen.path.name == "step-30")


async def test_an_empty_place_says_the_keys_that_fill_it(make_app, own_home, monkeypatch, tmp_path):
    monkeypatch.setattr(folders, "bundled_checkpoints", lambda: tmp_path / "none")
    async with make_app().run_test(size=NARROW) as pilot:
        await opened(pilot)
        await see(pilot.app, "#list", "There is no model yet: F4 trains one, a adds a folder that has some")


async def test_the_model_that_writes_is_chosen_at_first_and_bears_a_dot(make_app, put, client):
    path = put("mine")
    put("other")
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: app.play.model is not None)
        app.play.model = msgspec.structs.replace(app.play.model, path=str(path))
        screen = await opened(pilot)
        assert screen.chosen.name == "mine"
        row = next(row for row in shown(app, "#list").splitlines() if "mine" in row)
        assert "●" in row


@pytest.mark.posix
async def test_five_hundred_models_hold_no_key_up(make_app, own_home, tiny_model):
    home = folders.user_checkpoints()
    home.mkdir(parents=True)
    for place in range(500):
        (home / f"m{place:03}").symlink_to(tiny_model)
    beats = 0
    async with make_app().run_test(size=WIDE) as pilot:

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        await pilot.press("f6")
        await until(lambda: isinstance(pilot.app.screen, ModelsScreen) and pilot.app.screen._is_whole)
        beating.cancel()
        assert len(pilot.app.screen._models) == 501
        assert beats > 5  # others had their turn while the folders were read
        await pilot.press("end", "home", "pagedown")


# What is known of one


async def test_all_that_is_known_of_a_model_stands_beside_the_list(make_app, put, monkeypatch):
    history = [(step, 3.0 - step / 50, 3.1 - step / 50 if step % 20 == 0 else None) for step in range(1, 101)]
    data = {"name": "fables", "sha256": "ab" * 32, "train_tokens": 12_000}
    path = put("mine", history=history, data=data, tokens_seen=64_000, seconds=75.0)
    sha256 = catalog.read_record(path).files["model.safetensors"]
    folders.private(folders.cache_home())
    known = {f"a cpu, torch 1.0, {sha256}": choosing.Measured("bf16")}
    (folders.cache_home() / choosing.REMEMBERED).write_bytes(msgspec.json.encode(known))
    assert desk.PRECISIONS == choosing.REMEMBERED
    async with make_app().run_test(size=TALL) as pilot:
        await opened(pilot, "mine")
        await see(
            pilot.app, "#facts", "family nanochat, 2 layers, 4 heads, width 32", "context 64 tokens",
            "parameters 26,752", "tokenizer char, 34 tokens", "data fables, 12.0K tokens", "ab" * 32,
            "steps 100, 64.0K tokens seen, 1:15", "losses val", "on disk", "date 20", "auto takes bf16 here", sha256,
        )  # fmt: skip
        assert "".join(str(path).split()) in "".join(shown(pilot.app, "#facts").replace("│", " ").split())
        await see(pilot.app, "#curve", "validation", "best 1.1000")


async def test_a_runs_model_shows_the_runs_curve(make_app, model_run):
    model_run("demo")
    async with make_app().run_test(size=TALL) as pilot:
        await opened(pilot, "demo")
        await see(pilot.app, "#curve", "train", "validation", "best 1.1750")
        await see(pilot.app, "#facts", "demo, a run with 4 checkpoints", "losses val 1.1750")


async def test_a_damaged_model_says_what_is_wrong_with_it_and_names_are_data(make_app, put, monkeypatch):
    (put("broken") / "model.safetensors").write_bytes(b"x" * 100)
    put("odd", data={"name": "[red]x[/] \x1b[31m"})
    async with make_app().run_test(size=WIDE) as pilot:
        wishes = Wishes(pilot.app, monkeypatch)
        await opened(pilot, "broken")
        assert "damaged" in next(row for row in shown(pilot.app, "#list").splitlines() if "broken" in row)
        await see(pilot.app, "#facts", "damaged", "D removes it")
        await pilot.press("enter")
        await see(pilot.app, "#notice", "broken is damaged")
        assert wishes.names == []
        assert "1 damaged" in words(pilot.app, "#status")
        await choose(pilot, "odd")
        await see(pilot.app, "#facts", "[red]x[/] ␛[31m")


async def test_on_a_narrow_terminal_the_list_and_the_model_take_turns(make_app, put):
    put("mine")
    async with make_app().run_test(size=(60, 20)) as pilot:
        screen = await opened(pilot, "mine")
        assert not screen.query_one("#model").display
        await pilot.press("tab")
        await pilot.pause()
        assert not screen.query_one("#shelf").display
        await see(pilot.app, "#facts", "nanochat, 2 layers")
        await see(pilot.app, "#model", "tab list")
        await pilot.press("escape")
        await pilot.pause()
        assert screen.query_one("#shelf").display
        assert screen._list.has_focus


# What can be done


async def test_enter_and_l_ask_for_the_model_by_the_name_that_finds_it(make_app, put, model_run, tmp_path, monkeypatch):
    put("mine")
    theirs = put("mine", tmp_path / "others")
    model_run("demo")
    add(tmp_path / "others")
    async with make_app().run_test(size=WIDE) as pilot:
        wishes = Wishes(pilot.app, monkeypatch)
        await opened(pilot, "demo")
        await pilot.press("enter", "right", "down", "l")
        await choose(pilot, str(theirs))
        await pilot.press("l")
        await until(lambda: len(wishes.names) == 3)
        assert wishes.names == ["demo", "demo:step-40", str(theirs)]
        assert [catalog.find_checkpoint(name).is_dir() for name in wishes.names] == [True] * 3


async def test_marked_models_are_compared_in_the_order_of_their_marks(make_app, put, monkeypatch):
    for name in "abcde":
        put(name)
    async with make_app().run_test(size=WIDE) as pilot:
        wishes = Wishes(pilot.app, monkeypatch)
        screen = await opened(pilot, "c")
        await pilot.press("c")
        await see(pilot.app, "#status", "mark 2 to 4 models")
        await pilot.press("space", "home", "space")
        assert "2 marked" in shown(pilot.app, "#shelf")
        await pilot.press("c")
        await until(lambda: wishes.names == [("c", "a")])
        await pilot.press("space", "down", "space", "space")  # b, d, and e, for which there is no room
        await see(pilot.app, "#status", "4 models can be compared at once")
        assert [Path(key).name for key in screen._list.marked] == ["c", "a", "b", "d"]


async def test_ones_own_model_is_renamed(make_app, put):
    put("mine")
    put("other")
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "mine")
        await pilot.press("r")
        field = screen._ask.query_one("Input")
        for wrong, said in (("a/b", "cannot name a model"), ("other", "there is a model other already")):
            field.value = wrong
            await pilot.press("enter")
            await see(pilot.app, "#ask", said)
        field.value = "better"
        await pilot.press("enter")
        await until(lambda: "better" in listed(screen) and "mine" not in listed(screen))
        assert screen.chosen.name == "better"
        assert catalog.find_checkpoint("better").is_dir()


async def test_a_run_is_renamed_through_its_run_and_deleted_with_all_it_has(make_app, model_run):
    model_run("demo")
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "demo")
        await pilot.press("r")
        screen._ask.query_one("Input").value = "tale"
        await pilot.press("enter")
        await until(lambda: "tale" in listed(screen))
        assert runs.find_run("tale").is_dir()
        await choose(pilot, "tale")
        await pilot.press("D")
        await see(pilot.app, "#ask", "delete tale?", "all its 4 checkpoints")
        await pilot.press("n", "enter")
        assert runs.find_run("tale").is_dir()
        await pilot.press("backspace", "y", "enter")
        await until(lambda: "tale" not in listed(screen))
        assert runs.list_runs() == []


async def test_a_run_that_is_under_way_is_not_deleted(make_app, model_run):
    run = model_run("demo", state="running")
    async with make_app().run_test(size=WIDE) as pilot:
        await opened(pilot, "demo")
        await pilot.press("D")
        await see(pilot.app, "#ask", "delete demo?")
        await pilot.press("y", "enter")
        await see(pilot.app, "#notice", "The run demo is under way and cannot be removed")
        assert run.path.is_dir()


async def test_a_milestone_is_deleted_and_the_last_is_not(make_app, model_run):
    run = model_run("demo")
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "demo")
        await pilot.press("right")
        await choose(pilot, "demo:step-20")
        await pilot.press("D")
        await see(pilot.app, "#ask", "delete demo:step-20?")
        await pilot.press("y", "enter")
        await until(lambda: "step-20" not in listed(screen))
        await choose(pilot, "demo:step-40")
        await pilot.press("D")
        await see(pilot.app, "#ask", "delete demo:step-40?")
        await pilot.press("y", "enter")
        await see(pilot.app, "#notice", "it goes with its run alone")
        assert run.checkpoint(40).is_dir()


async def test_a_bundled_model_stays_as_it_is_with_the_reason(make_app, own_home):
    async with make_app().run_test(size=WIDE) as pilot:
        await opened(pilot, "shakespeare")
        for key, what in (("D", "deleted"), ("r", "renamed")):
            await pilot.press(key)
            await see(pilot.app, "#notice", f"shakespeare cannot be {what}", "ships with minigpt-tui", "esc dismiss")
            assert not pilot.app.screen.query_one("#ask").display


async def test_verify_finds_a_changed_byte_and_says_when_all_is_well(make_app, put):
    put("good")
    bad = put("worse")
    data = bytearray((bad / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (bad / "model.safetensors").write_bytes(data)
    async with make_app().run_test(size=TALL) as pilot:
        await opened(pilot, "good")
        await pilot.press("v")
        await see(pilot.app, "#facts", "verified", "files are as they were written")
        await choose(pilot, "worse")
        await pilot.press("v")
        await see(pilot.app, "#notice", "worse is damaged", "Model.safetensors is not what was written")
        await see(pilot.app, "#facts", "verified damaged: model.safetensors is not what was written")


async def test_verifying_says_how_far_it_is_and_esc_stops_it(make_app, put, monkeypatch):
    put("large")
    halfway = threading.Event()
    whole = checking.Checking._hashed

    def slow(self, size: int) -> None:
        whole(self, size)
        halfway.wait(10)
        whole(self, 0)

    monkeypatch.setattr(checking.Checking, "_hashed", slow)
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot, "large")
        await pilot.press("v")
        await until(lambda: screen._checking is not None and screen._checking.share > 0)
        await see(pilot.app, "#status", "verifying large", "%", "esc stops")
        await pilot.press("down", "up", "escape")  # the list goes on
        halfway.set()
        await see(pilot.app, "#status", "large was not verified to the end")
        assert screen._checking is None


async def test_p_copies_the_path(make_app, put):
    path = put("mine")
    async with make_app().run_test(size=WIDE) as pilot:
        await opened(pilot, "mine")
        await pilot.press("p")
        await until(lambda: pilot.app.clipboard == str(path))


async def test_a_folder_is_added_and_taken_off_the_list_again(make_app, put, tmp_path):
    theirs = put("theirs", tmp_path / "others")
    folders.config_home().mkdir(parents=True)
    config = folders.config_home() / "config.toml"
    config.write_text("# by hand\nbell = true\n")
    async with make_app().run_test(size=WIDE) as pilot:
        screen = await opened(pilot)
        await pilot.press("a")
        field = screen._ask.query_one("Input")
        field.value = str(tmp_path / "gone")
        await pilot.press("enter")
        await see(pilot.app, "#ask", "there is no folder")
        field.value = str(tmp_path / "others")
        await pilot.press("enter")
        await until(lambda: "theirs" in listed(screen))
        assert added_folders() == [tmp_path / "others"]
        assert "# by hand\nbell = true\n" in config.read_text()
        assert catalog.find_checkpoint("theirs") == theirs

        await choose(pilot, "theirs")
        await pilot.press("D")
        await see(pilot.app, "#notice", "is not in your folder of models")
        await pilot.press("escape", "A")
        await until(lambda: "theirs" not in listed(screen))
        assert added_folders() == []
        assert theirs.is_dir()


async def test_a_folder_without_models_and_one_that_is_gone_say_so(make_app, own_home, tmp_path):
    (tmp_path / "empty").mkdir()
    add(tmp_path / "empty", tmp_path / "gone")
    async with make_app().run_test(size=TALL) as pilot:
        await opened(pilot, str(tmp_path / "empty"))
        await see(pilot.app, "#facts", "there is no model in it", "A takes the folder off the list")
        await choose(pilot, str(tmp_path / "gone"))
        await see(pilot.app, "#facts", "the folder is not there")
        await pilot.press("v")
        await see(pilot.app, "#status", "there is no model to verify")
