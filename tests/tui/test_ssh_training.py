"""Runs that are started on another machine by ssh: from the same form, with that machine's texts, models and names. A
program stands for ssh, and the real worker and the real trainer are behind it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from endless import make_endless
from run_maker import open_training, until
from ssh_stand_in import StandIn
from test_play_screen import shown
from test_train_form import FormApp, own_home, picture, settled  # noqa: F401 - the fixture of the form's tests
from tiny_models import TINY_TEXT

from engine.config import TrainConfig
from engine.errors import CheckpointError, DataError, RunError
from engine.text.path_completion import Completions
from engine.text.sent_texts import MAX_TEXT_BYTES
from engine.training import runs as runs_there
from engine.training.estimate import Measurement, MeasureRequest
from engine.training.run import RunConfig, TextSources
from engine.training.run_making import Sight
from engine.training.run_wish import RunWish, TypedTexts
from engine.training.survey import Survey
from minigpt_tui import engine_care
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.connecting.ssh import SshPlace
from minigpt_tui.connecting.starts_there import StartsThere
from minigpt_tui.connecting.there import There
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.machine import LinkLostError
from minigpt_tui.screens import train_actions, train_form, train_form_cost
from minigpt_tui.screens.train_form import TrainForm
from minigpt_tui.training.run_draft import RunDraft

pytest_plugins = ("play_fixtures", "ssh_fixtures")

pytestmark = pytest.mark.posix  # what stands for ssh is a script of a POSIX shell

WIDE, NARROW = (140, 40), (80, 24)

TINY = TrainConfig(
    n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=2, steps=60, eval_interval=30, sample_tokens=10,
    warmup_steps=1, precision="fp32",
)  # fmt: skip

TEXT = "Maß & Größe.txt"


def of_box(app: MiniGPTApp, name: str):
    """What the list says of a run."""
    return next((run for run in app.train._runs.runs if run.name == name), None)


def told(app: MiniGPTApp) -> str:
    return " ".join(shown(app, "#notice").replace("│", "").split())


@pytest.fixture
def home_of_box(ssh: StandIn):
    """Where relative paths begin there; whatever trains at the end is ended."""
    (ssh.home / "Gedichte alt").mkdir()
    (ssh.home / "Gedichte alt" / TEXT).write_text(TINY_TEXT)
    yield ssh.home
    for lock in ssh.home.glob("data/runs/*/status.json"):
        run = runs_there.read_run(lock.parent)
        if run.is_under_way:
            os.kill(run.status.pid, signal.SIGKILL)


async def test_a_run_is_started_there_and_a_link_that_is_lost_meanwhile_loses_nothing(
    own_home,  # noqa: F811
    ssh,
    there,
    runs,
    home_of_box,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(engine_care, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(train_actions, "LINK_SECONDS", 0.05)
    monkeypatch.setattr(train_form_cost, "SURVEY_SECONDS", 0.0)
    monkeypatch.setattr(train_form_cost, "MEASURE_SECONDS", 3600.0)  # what a step takes is another test's
    there(make_endless)
    there(lambda: runs("far", step=40))
    app = MiniGPTApp(model="endless", precision="fp32", client=EngineClient(place=SshPlace("box")))
    app.session.welcomed = True
    async with app.run_test(size=WIDE) as pilot:
        await open_training(pilot, chosen="far")
        draft = app.train._draft = RunDraft(device="cpu", nproc=1)
        for name in ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "steps", "warmup_steps", "precision"):
            draft.set(name, getattr(TINY, name))
        draft.set("family", "gpt2")
        draft.set("optimizer", "adamw")
        # The texts are that machine's: those with a name, and its folders.
        await pilot.press("a")
        await until(lambda: isinstance(app.screen, TrainForm))
        await settled(pilot, "Start a run on box")
        await settled(pilot, "written for this project")
        await pilot.press(*"nowhere.txt")
        await settled(pilot, "there is no file nowhere.txt")
        await pilot.press("ctrl+s")
        await settled(pilot, "✗ text: there is no file nowhere.txt")
        await pilot.press(*["backspace"] * len("nowhere.txt"), *"Ged")
        await settled(pilot, "folder")
        await pilot.press("tab")
        await settled(pilot, TEXT)
        await pilot.press("down", "tab")
        await settled(pilot, "1 file")
        assert app.screen.draft.text == f"Gedichte alt/{TEXT}"
        # So are names.
        await settled(pilot, "Maß-Größe")
        app.screen.query_one("#input-name").focus()
        await pilot.press(*"far")
        await settled(pilot, "there is a run far already: far-2 is free")
        await pilot.press("minus", "2")
        await until(lambda: not app.screen._rows["name"].problem)
        await pilot.press("ctrl+s")
        await until(lambda: app.screen is app.train)
        # The link goes while the run begins, and nobody knows what has become of it until it is back.
        await until(lambda: (home_of_box / "data" / "runs" / "far-2" / "status.json").exists())
        ssh.lose_the_link()
        await until(lambda: "Whether far-2 has begun is not known yet" in told(app))
        await until(lambda: "far-2 has begun on box" in shown(app, "#status"), 60)
        assert ssh.tries == 2
        await until(lambda: of_box(app, "far-2") is not None and of_box(app, "far-2").state == "finished", 90)
        await until(lambda: app.train._picture is not None and app.train._picture.figures.step == TINY.steps)
        await until(lambda: "✓ finished" in shown(app, "#run"))
        config = of_box(app, "far-2").config
        assert config.text.train == (str(home_of_box / "Gedichte alt" / TEXT),)
        assert config.training.n_embd == TINY.n_embd
        # Another like it begins with all that it had, under a name that is free there.
        await pilot.press("A")
        await until(lambda: isinstance(app.screen, TrainForm) and app.screen.draft.name == "far-2-2")
        assert app.screen.draft.training() == config.training
        assert app.screen.draft.text.endswith(TEXT)
        await pilot.press("escape", "escape")
        # A comparison walks through its checkpoints.
        await until(lambda: app.screen is app.train)
        await pilot.press("f3")
        await until(lambda: app.screen is app._others["compare"])
        compare = app.screen
        await pilot.press("escape")
        compare.action_column_model("far:step-20")
        await compare.action_walk(1)
        assert compare.column.model == "far:step-30"
        await compare.action_walk(1)
        await compare.action_walk(1)
        assert compare.column.model == "far:step-40"
        assert "last of its run" in shown(compare, "#status")


def times_a_step(process: psutil.Process) -> bool:
    try:
        return "engine.training.measure" in process.cmdline()
    except psutil.Error:  # it has ended
        return False


async def test_what_the_form_asks_is_answered_there_and_what_nobody_waits_for_ends(
    own_home,  # noqa: F811
    engine,
    there,
    runs,
    home_of_box,
    tmp_path,
):
    there(lambda: runs("far", step=40))
    await engine.start()
    starter = StartsThere(engine, "box")
    sight = await starter.look(TypedTexts(train=f"Gedichte alt/{TEXT}"))
    assert sight.survey.bytes == len(TINY_TEXT.encode())
    assert (await starter.look(TypedTexts(train="fables, poem.txt"))).survey.problem  # this machine's, not that one's
    assert (await starter.look(TypedTexts(train=" , "))) == Sight()
    assert [entry.name for entry in (await starter.complete("Ged")).entries] == ["Gedichte alt"]
    assert (await starter.free_name("far")) == "far-2"
    with pytest.raises(RunError, match="far-2 is free"):
        await starter.check_name("far")
    with pytest.raises(DataError, match=r"there is no text poem\.txt"):
        await starter.make_config(RunWish(texts=TypedTexts(train="poem.txt"), training=TINY))
    # A text of this machine is sent, once, and never takes another's place.
    (tmp_path / "ein, Lied.TXT").write_text("la la la " * 20)
    sent = home_of_box / "data" / "texts"
    assert await starter.send(tmp_path / "ein, Lied.TXT") == str(sent / "ein- Lied.txt")
    assert await starter.send(tmp_path / "ein, Lied.TXT") == str(sent / "ein- Lied.txt")
    (tmp_path / "ein, Lied.TXT").write_text("lo lo lo " * 20)
    assert await starter.send(tmp_path / "ein, Lied.TXT") == str(sent / "ein- Lied-2.txt")
    assert sorted(path.name for path in sent.iterdir()) == ["ein- Lied-2.txt", "ein- Lied.txt"]
    assert (await starter.look(TypedTexts(train="fables, ein- Lied"))).survey.files == 2
    (tmp_path / "fables.txt").write_text("not those")
    assert await starter.send(tmp_path / "fables.txt") == str(sent / "fables-2.txt")
    with (tmp_path / "long.txt").open("wb") as file:
        file.truncate(MAX_TEXT_BYTES + 1)
    with pytest.raises(DataError, match="copy it with scp"):
        await starter.send(tmp_path / "long.txt")
    with pytest.raises(DataError, match="is no file"):
        await starter.send(tmp_path)
    base = await starter.read_base(next(info.path for info in await starter.list_models() if info.bundled), "it")
    assert base.info.name == "it"
    config = await starter.make_config(
        RunWish(texts=TypedTexts(train=f"Gedichte alt/{TEXT}"), training=TINY, base=base.info.path)
    )
    assert config.base == base.info.path
    assert config.training == TINY
    # The checkpoints of its runs, and of nothing else.
    machine = There(engine, SshPlace("box"))
    assert await machine.next_checkpoint("far:best", -1) == "far:step-30"
    assert await machine.next_checkpoint("far:step-10", -1) is None
    for model in ("endless", "../../far:best", ""):
        with pytest.raises(CheckpointError, match="no checkpoint of a run"):
            await machine.next_checkpoint(model, 1)

    # A step that is timed takes a process of its own; it ends with whoever asked.
    def timing() -> list[psutil.Process]:
        return [child for child in psutil.Process(engine.hello.pid).children() if times_a_step(child)]

    asked = asyncio.create_task(starter.measure(MeasureRequest(training=TINY, model=TINY.model_config(30))))
    await until(lambda: bool(timing()))
    asked.cancel()
    await until(lambda: not timing())
    # And with the worker, even where that is killed.
    asked = asyncio.create_task(starter.measure(MeasureRequest(training=TINY, model=TINY.model_config(30))))
    await until(lambda: bool(timing()))
    [process] = timing()
    os.kill(engine.hello.pid, signal.SIGKILL)
    with pytest.raises(LinkLostError):
        await asked
    await until(lambda: not times_a_step(process), 30)


class FarStarter:
    """Another machine, to which there may be no link."""

    name = "box"

    def __init__(self) -> None:
        self.lost = True
        self.sent: list[Path] = []

    def _check(self) -> None:
        if self.lost:
            raise LinkLostError("the link to box is lost")

    async def list_texts(self):
        self._check()
        return ()

    async def list_models(self):
        self._check()
        return ()

    async def complete(self, begun: str) -> Completions:
        self._check()
        return Completions()

    async def look(self, texts: TypedTexts) -> Sight:
        self._check()
        return Sight(survey=Survey(files=1, bytes=10, read=10, characters=10, alphabet=7), free_name="poem")

    async def measure(self, request: MeasureRequest) -> Measurement:
        self._check()
        return Measurement(step_seconds=0.5, tokens_per_second=4096.0, device="cuda", precision="bf16")

    async def free_name(self, name: str) -> str:
        self._check()
        return f"{name}-2"

    async def send(self, path: Path) -> str:
        self._check()
        self.sent.append(path)
        return "song"

    async def make_config(self, wish: RunWish) -> RunConfig:
        self._check()
        raise RunError("there is a run poem already", "poem-2 is free")


async def test_the_form_outlives_a_link_that_is_lost(own_home, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    for name in ("SURVEY_SECONDS", "MEASURE_SECONDS", "LINK_SECONDS"):
        monkeypatch.setattr(train_form_cost, name, 0.1)
    starter = FarStarter()
    app = FormApp()
    app.form = TrainForm(draft=RunDraft(text="poem.txt"), starter=starter)
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot, "the link to box is lost")
        await settled(pilot, "measuring how long a step takes on box")
        await pilot.press("ctrl+s")
        await settled(pilot, "✗")
        starter.lost = False
        await settled(pilot, "alphabet of 7")
        await settled(pilot, "4,096 tokens/s on cuda bf16")
        await pilot.press("ctrl+s")
        await settled(pilot, "✗ there is a run poem already: poem-2 is free")
        assert app.form.draft.text == "poem.txt"
        assert app.ended == "not yet"


async def test_another_like_a_run_is_filled_in_once_the_link_is_back(own_home, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    for name in ("SURVEY_SECONDS", "MEASURE_SECONDS", "LINK_SECONDS"):
        monkeypatch.setattr(train_form_cost, name, 0.1)
    monkeypatch.setattr(train_form, "LINK_SECONDS", 0.1)
    starter = FarStarter()
    app = FormApp()
    like = RunConfig(name="far", created=1.0, training=TINY, text=TextSources(train=("song",)))
    app.form = TrainForm(like, draft=RunDraft(text="poem.txt"), starter=starter)
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot, "✗ the link to box is lost")
        await pilot.press("ctrl+s")
        starter.lost = False
        await settled(pilot, "far-2")
        await settled(pilot, "4,096 tokens/s on cuda bf16")
        assert "the link to box is lost" not in picture(app)
        assert app.form.draft.text == "song"
        assert app.form.draft.training() == TINY
        assert app.ended == "not yet"


async def test_a_file_with_a_comma_in_its_path_is_sent_and_its_place_alone_is_taken(
    own_home,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(train_form_cost, "SURVEY_SECONDS", 0.0)
    monkeypatch.setattr(train_form_cost, "MEASURE_SECONDS", 0.0)
    (own_home / "x, y").mkdir()
    for name in ("x, y/a,b.txt", "x, y/a"):
        (own_home / name).write_text("la la")
    starter = FarStarter()
    starter.lost = False
    app = FormApp()
    app.form = TrainForm(starter=starter)
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot, "a file of this machine, to be sent to box")
        field = app.form.query_one("#input-text")
        field.value = "here:x, y/a,b.txt, here:x, y/a"
        await settled(pilot, "send a to box")
        await pilot.press("enter")
        await until(lambda: field.value == "here:x, y/a,b.txt, song")
        field.value = "fables, here:./x"
        await settled(pilot, "x, y/")
        await pilot.press("enter")
        await settled(pilot, "a,b.txt")
        await pilot.press("down", "down", "enter")
        await settled(pilot, "send a,b.txt to box")
        assert field.value == "fables, here:./x, y/a,b.txt"
        await pilot.press("ctrl+s")
        await settled(pilot, "here:./x, y/a,b.txt is not sent yet")
        await pilot.press("backspace", "t")
        await settled(pilot, "send a,b.txt to box")
        await pilot.press("enter")
        await until(lambda: field.value == "fables, song")
        assert [path.name for path in starter.sent] == ["a", "a,b.txt"]


async def test_a_file_of_this_machine_is_sent_from_the_form(own_home, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setattr(train_form_cost, "SURVEY_SECONDS", 0.0)
    monkeypatch.setattr(train_form_cost, "MEASURE_SECONDS", 0.0)
    starter = FarStarter()
    starter.lost = False
    app = FormApp()
    app.form = TrainForm(starter=starter)
    async with app.run_test(size=NARROW) as pilot:
        await settled(pilot, "a file of this machine, to be sent to box")
        await pilot.press("down", "enter")
        await settled(pilot, "poem.txt")
        await pilot.press(*"./po")
        await settled(pilot, "1 KB")
        await pilot.press("enter")
        await settled(pilot, "send poem.txt to box")
        await pilot.press("ctrl+s")  # nothing starts before it is there
        await settled(pilot, "is not sent yet")
        assert app.ended == "not yet"
        starter.lost = True
        await pilot.press("enter")
        await settled(pilot, "✗ the link to box is lost")
        starter.lost = False
        await pilot.press("backspace", "t")
        await settled(pilot, "send poem.txt to box")
        await pilot.press("enter")
        await settled(pilot, "alphabet of 7")
        assert [path.name for path in starter.sent] == ["poem.txt"]
        assert app.form.draft.text == "song"


def test_a_name_that_cannot_be_written_down_is_not_offered(tmp_path: Path):
    from engine.text.path_completion import complete

    (tmp_path / "ein Gedicht.txt").write_text("x")
    try:
        (tmp_path / os.fsdecode(b"ein\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert [entry.name for entry in complete(f"{tmp_path}/ein").entries] == ["ein Gedicht.txt"]
