"""An engine on another machine by ssh: with a program that stands for ssh, and the real worker behind it."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from endless import make_endless
from run_maker import open_training, until
from test_play_screen import shown

from engine import folders
from engine.errors import InvalidSettingError, RunNotFoundError, WorkerError
from engine.training import control
from engine.worker.answers import ModelsListed, RunPart, RunsListed
from engine.worker.questions import ListModels, ListRuns, ReadRun
from minigpt_tui import engine_care
from minigpt_tui.app import MiniGPTApp
from minigpt_tui.comparing.checkpoints import RunFacts, runs_told
from minigpt_tui.connecting.ssh import SshPlace, remote_command
from minigpt_tui.engine_client import EngineClient

pytest_plugins = ("play_fixtures", "ssh_fixtures")

pytestmark = pytest.mark.posix  # what stands for ssh is a script of a POSIX shell

WIDE = (120, 36)


def told(app: MiniGPTApp) -> str:
    """The notice's words, wherever it wraps."""
    return " ".join(shown(app, "#notice").replace("│", "").split())


async def test_a_session_on_another_machine_whose_link_is_lost_and_found(
    own_home, ssh, there, runs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine_care, "FIRST_WAIT", 0.05)
    there(make_endless)
    run = there(lambda: runs("far", "running", step=40, steps=100))
    app = MiniGPTApp(model="endless", precision="fp32", client=EngineClient(place=SshPlace("box")))
    app.session.params = app.session.params.replace(max_new_tokens=-1, seed=3)
    app.session.full_speed, app.session.pace, app.session.welcomed = False, 50.0, True
    async with app.run_test(size=WIDE) as pilot:
        play, writing = app.play, app.play.writing
        # The runs of the other machine are there before its torch is.
        await open_training(pilot, chosen="far")
        await until(lambda: app.train._picture.figures.step == 40 and app.train._picture.samples)
        assert "Runs of box" in shown(app, "#runs")
        assert "● running" in shown(app, "#run")
        assert "validation" in shown(app, "#chart")
        assert app.train._picture.checkpoints == (10, 20, 30, 40)
        await pilot.press("space")
        await until(lambda: control.read_control(run.path).wanted == "pause")
        runs.take(run, 41, 1.5)
        run.close()
        await until(lambda: app.train._picture.figures.step == 41)
        # Its models, and a text of one of them.
        await pilot.press("f6")
        await until(lambda: "endless" in shown(app, "#there"))
        assert "Models of box" in shown(app, "#there")
        await pilot.press("enter")
        await until(lambda: play.model is not None and play.loading_model is None, 60)
        assert play.model.path.startswith(str(ssh.home))
        await pilot.press("escape", "e", "z")
        await until(lambda: writing.new_tokens > 5)
        ssh.lose_the_link()
        await until(lambda: not play._live.running)
        kept = writing.document.text()
        assert writing.finish_reason == "lost"
        assert len(kept) > 5
        await until(lambda: "The link to box is lost (Timeout, server box not responding.)" in told(app))
        assert "is safe" in told(app)
        await until(lambda: "there again" in shown(app, "#notice"), 60)
        assert ssh.tries == 2
        await pilot.press("c")
        await until(lambda: play._live.streaming and writing.new_tokens > 5)
        assert writing.document.text().startswith(kept)
        await pilot.press("f4")
        await until(lambda: app.train.chosen is not None and "● running" in shown(app, "#run"))
        copies = app.machine._folder
        assert copies.is_dir()
    assert app.engine.state == "stopped"


async def test_what_is_asked_about_the_other_machine_is_of_its_folders_alone(engine, there, runs, tmp_path):
    run = there(lambda: runs("far", step=40))
    await engine.start()
    assert [info.name for info in (await engine.ask(ListRuns(), RunsListed)).runs] == ["far"]
    [bundled] = [info for info in (await engine.ask(ListModels(), ModelsListed)).models if info.name == "shakespeare"]
    assert bundled.bundled
    with pytest.raises(RunNotFoundError):
        await engine.ask(ReadRun(name="../../etc"), RunPart)
    part = await engine.ask(ReadRun(name="far"), RunPart)
    assert part.metrics == (run.path / "metrics.jsonl").read_bytes()
    assert not part.more
    # A line that is being written is told when it is whole.
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 41, "half')
    known = len(part.metrics)
    again = await engine.ask(ReadRun(name="far", metrics=known, log=part.log_size), RunPart)
    assert (again.metrics, again.log, again.replaced) == (b"", None, False)
    shorter = await engine.ask(ReadRun(name="far", metrics=known + 1000), RunPart)
    assert shorter.replaced
    assert ssh_arguments(engine)[-2:] == ("box", remote_command())


def ssh_arguments(engine: EngineClient) -> tuple[str, ...]:
    return engine.place.command


@pytest.mark.parametrize(
    ("mode", "said", "may_pass"),
    [
        ("refuse", "box cannot be reached (ssh: connect to host box port 22: Connection refused)", True),
        ("unknown", "there is no host box", True),
        ("key", "run once: ssh box", False),
        ("password", "the app has no terminal for ssh's questions: add your key to the agent", False),
        ("missing", "minigpt-tui was not found on box: install minigpt-tui there, or name a Python", False),
        ("old", "the engine speaks version 1 of the protocol", False),
    ],
)
async def test_a_link_that_does_not_come_about_is_told_in_words(engine, ssh, mode, said, may_pass):
    ssh.mode(mode)
    await engine.start()
    with pytest.raises(WorkerError) as error:
        await engine.wait_ready()
    assert said in str(error.value)
    assert engine.may_pass is may_pass
    assert "BatchMode=yes" in ssh.arguments
    assert ssh.arguments[ssh.arguments.index("--") + 1] == "box"


async def test_a_machine_that_is_not_there_is_tried_again_until_it_is(own_home, ssh, monkeypatch):
    monkeypatch.setattr(engine_care, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(engine_care.EngineCare, "_wait", 0.05)
    ssh.mode("refuse")
    app = MiniGPTApp(client=EngineClient(place=SshPlace("box")))
    app.session.welcomed = True
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: (ssh.folder / "tries").exists() and ssh.tries >= 3)
        await until(lambda: "box cannot be reached" in told(app))
        assert "It is tried again in" in told(app)
        ssh.mode("password")
        await until(lambda: "not tried again unasked" in told(app))
        assert "no link to box" in shown(app, "#status")
        await pilot.pause()
        tries = ssh.tries
        await pilot.press("escape", "escape", "g")
        await until(lambda: ssh.tries == tries + 1)


async def test_ssh_that_is_not_installed_is_one_line(own_home, tmp_path):
    client = EngineClient(place=SshPlace("box", ssh=str(tmp_path / "no-ssh")))
    with pytest.raises(WorkerError, match="no-ssh cannot be run"):
        await client.start()
    await client.close()


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "two words", "line\nend"])
def test_a_host_that_is_none_is_refused(host):
    with pytest.raises(InvalidSettingError, match="is no host"):
        SshPlace(host)


def test_options_of_ones_own_come_before_the_host_and_another_python_is_quoted():
    place = SshPlace("me@box", ssh="ssh -p 2222 -i 'my key'", python="~/my env/bin/python")
    assert place.command[:5] == ("ssh", "-p", "2222", "-i", "my key")
    assert place.command[-3:-1] == ("--", "me@box")
    assert "~/" in place.command[-1]
    assert "my env/bin/python" in place.command[-1]
    with pytest.raises(InvalidSettingError, match="cannot be read"):
        SshPlace("box", ssh="ssh 'half")


def test_runs_with_names_that_would_lead_out_of_their_folder_are_refused(own_home):
    from engine.errors import RunError
    from engine.training.run import Status
    from engine.training.runs import RunInfo
    from minigpt_tui.connecting.there import There

    machine = There(EngineClient(place=SshPlace("box")), SshPlace("box"))
    info = RunInfo(name="../x", path=Path("/tmp"), state="stopped", status=Status(state="stopped"))
    with pytest.raises(RunError, match="is no name"):
        machine._placed(info)
    placed = machine._placed(msgspec.structs.replace(info, name="x"))
    assert placed.path.parent == machine._folder
    assert placed.path.parent.stat().st_mode & 0o777 == 0o700
    assert not placed.path.is_relative_to(folders.runs_folder())


def test_the_checkpoints_that_another_machine_tells_of_are_columns_by_their_steps():
    told = [("a:best", "step 20"), ("a:last", ""), ("a:step-100", ""), ("a:step-20", ""), ("b:step-1", ""), ("c", "x")]
    assert runs_told(told) == [RunFacts("a", ("a:step-20", "a:step-100"))]


def test_the_worker_command_speaks_to_no_keyboard(own_home):
    import os
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "minigpt_tui", "worker"], stdin=theirs, capture_output=True, text=True, timeout=60
    )
    os.close(ours), os.close(theirs)
    assert done.returncode == 2
    assert "starts it on HOST" in done.stderr
