"""The app with a server in the engine's place, through the real link: a scripted server, and our own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from endless import make_endless
from run_maker import until
from scripted_server import Reply, ScriptedServer
from test_play_screen import shown

from minigpt_tui.app import MiniGPTApp
from minigpt_tui.connecting.server_place import ServerPlace
from minigpt_tui.engine_client import EngineClient

pytest_plugins = ("play_fixtures",)

WIDE = (120, 36)
KEY = "sk-secret-123"


def told(app: MiniGPTApp) -> str:
    return " ".join(shown(app, "#notice").replace("│", "").split())


def make(url: str, key: str = "", **params: object) -> MiniGPTApp:
    app = MiniGPTApp(client=EngineClient(place=ServerPlace(url, key)))
    app.session.params = app.session.params.replace(**{"max_new_tokens": 40, "seed": 3} | params)
    app.session.full_speed, app.session.welcomed = True, True
    return app


async def test_a_session_with_a_server_that_refuses_comes_back_and_breaks(own_home):
    server = ScriptedServer()
    async with server.running() as url:
        right = server.models
        server.models = lambda: Reply(b'{"error": {"message": "no key"}}', 401)
        app = make(url, KEY, max_new_tokens=-1)
        async with app.run_test(size=WIDE) as pilot:
            play, writing = app.play, app.play.writing
            await until(lambda: "wants another API key" in told(app), 30)
            server.models = right
            await pilot.press("escape", "escape", "g")
            await until(lambda: play.model is not None)
            assert play.model.name == "small"
            assert "small" in shown(app, "#top")
            assert "no look inside" in shown(app, "#status")
            # A text with its likeliest tokens; what is turned holds from where it is turned.
            await pilot.press("z")
            await until(lambda: writing.new_tokens > 5)
            await until(lambda: "␣cat" in shown(app, "#next"))
            await pilot.press("T")
            await until(lambda: len(server.bodies) > 1 and server.bodies[-1]["temperature"] == 0.85)
            await until(lambda: writing.params.temperature == 0.85 and writing.new_tokens > 10)
            await pilot.press("escape")
            await until(lambda: not play._live.running)
            kept = writing.document.text()
            assert kept.startswith("The fox said: who goes there?")
            # The link breaks in mid-text: it is said, and the text goes on from where it was.
            server.complete = lambda body: Reply(b'{"error": "slow down"}', 429, Retry_After="3")
            await pilot.press("c")
            await until(lambda: "too much to do (slow down): try again in 3 s" in told(app))
            assert "is safe" in told(app)
            server.complete = None
            app.session.params = app.session.params.replace(max_new_tokens=4)
            await pilot.press("c")
            await until(lambda: not play._live.running and writing.new_tokens == 4)
            assert server.bodies[-1]["prompt"] == kept
            assert writing.document.text() == kept + "The fox said:"
            # What a server cannot do is said where it is asked for.
            await pilot.press("escape", "i")
            await until(lambda: "neither attention nor" in " ".join(shown(app, "#at").replace("│", "").split()))
            await pilot.press("escape", "l")
            await until(lambda: len(app.screen_stack) > 1)
            await pilot.press(*"big", "enter")
            await until(lambda: play.model.name == "big/one")
            await pilot.press("f6")
            await until(lambda: "big/one" in shown(app, "#there"))
            await pilot.press("f4")
            await until(lambda: "A server tells of no runs." in " ".join(shown(app, "#runs").replace("│", "").split()))
    log = (own_home / "state" / "worker.log").read_text()
    assert KEY not in log
    assert server.requests[-1][1]["authorization"] == f"Bearer {KEY}"


async def test_another_token_that_a_server_told_is_written_on_from(own_home):
    server = ScriptedServer()
    async with server.running() as url:
        app = make(url, max_new_tokens=6)
        async with app.run_test(size=WIDE) as pilot:
            writing = app.play.writing
            await until(lambda: app.play.model is not None)
            await pilot.press("O", "enter")
            await until(lambda: writing.finish_reason)
            await pilot.press("escape", "i", "left", "left", "right_square_bracket", "enter")
            await until(lambda: len(server.bodies) == 2 and writing.finish_reason)
            assert server.bodies[1]["prompt"] == "OThe fox said cat"
            assert writing.trace.figures(3)[:2] == (-2.0, 0)  # a server tells neither rank nor entropy


async def test_the_app_plays_with_our_own_server(own_home):
    pytest.importorskip("fastapi")
    make_endless()
    serve = [sys.executable, "-P", "-m", "minigpt_tui", "--model", "endless", "--device", "cpu", "serve"]
    command = [*serve, "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("PORT", None)
    with subprocess.Popen(  # noqa: ASYNC220 - its start takes a moment, and nothing else goes on here
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            url = await asyncio.to_thread(address_of, process)
            app = make(url)
            async with app.run_test(size=WIDE) as pilot:
                await until(lambda: app.play.model is not None, 60)
                assert app.play.model.name == "endless"
                await pilot.press(*"The", "space", *"fox", "enter")
                await until(lambda: app.play.writing.finish_reason, 30)
                writing = app.play.writing
                through = writing.document.text()
                assert (writing.new_tokens, writing.finish_reason) == (40, "length")
                assert len(writing.latest) >= 5
                assert all(writing.trace.figures(place)[0] <= 0 for place in range(40))
                await pilot.press("G")
                await until(lambda: not app.play._live.running and writing.finish_reason, 30)
                assert writing.document.text() == through  # the server keeps what a seed promises
            assert app.engine.state == "stopped"
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()


def address_of(process: subprocess.Popen[bytes]) -> str:
    """The address that a server says when it is up."""
    said = b""
    for line in process.stderr:
        said += line
        if found := re.search(rb"http://127\.0\.0\.1:(\d+)", line):
            return f"http://127.0.0.1:{found[1].decode()}"
    raise AssertionError(said.decode())
