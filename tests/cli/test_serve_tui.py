"""The app in a browser: its page and its first picture come, to this machine and to its own page alone."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from minigpt_tui.cli.options import Common
from minigpt_tui.cli.serve_tui import app_command, is_this_machine

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")


CLOSED = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.asynccontextmanager
async def served(*words: str):
    port = free_port()
    process = subprocess.Popen(  # noqa: ASYNC220 (it only starts)
        [sys.executable, "-m", "minigpt_tui", "serve-tui", "--port", str(port), *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = await asyncio.to_thread(process.stderr.readline)
        assert f":{port}; ctrl+c ends" in line
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            for _ in range(200):
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with client.get("/static/css/xterm.css"):
                        break
                await asyncio.sleep(0.02)
            yield client, port
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 20) == 0
        process.stderr.close()


@pytest.mark.posix
@pytest.mark.timeout(60)
async def test_a_browser_gets_the_page_and_the_app_and_nobody_else_does():
    async with served("--model", "no such; echo 'model'") as (client, port):
        async with client.get("/") as page:
            assert page.status == 200
            assert f"ws://127.0.0.1:{port}/ws" in await page.text()
            assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        for headers in ({"Host": f"evil.example:{port}"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            for path in ("/", "/ws"):
                async with client.get(path, headers=headers) as refused:
                    assert refused.status == 403, headers
        seen = b""
        origin = {"Origin": f"http://127.0.0.1:{port}"}
        async with client.ws_connect("/ws?width=90&height=30", headers=origin) as websocket:
            while b"Prompt" not in seen:
                message = await websocket.receive(timeout=30)
                seen += message.data if isinstance(message.data, bytes) else str(message.data).encode()
            assert b"minigpt" in seen
            await websocket.send_json(["stdin", "\x11"])  # ctrl+q
            while (await websocket.receive(timeout=30)).type not in CLOSED:
                pass


def test_a_model_name_means_nothing_to_the_shell(monkeypatch):
    name = 'a\'; touch /tmp/x; echo "$(id)" \n`id`'
    common = Common(model=name, given=frozenset({"model"}))
    assert shlex.split(app_command(common)) == [sys.executable, "-m", "minigpt_tui", "--model", name]
    assert app_command(Common(model=name)).endswith(
        "minigpt_tui"
    )  # what was decided in config.toml the app reads itself


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.com"])
def test_another_host_has_to_be_asked_for_in_so_many_words(cli, host):
    result = cli("serve-tui", "--host", host)
    assert (result.status, result.is_one_error_line) == (2, True)
    assert "--no-auth" in result.err


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_it_is_known_which_addresses_are_this_machine(host, here):
    assert is_this_machine(host) is here


def test_a_port_that_is_taken_is_told(cli):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        result = cli("serve-tui", "--port", listener.getsockname()[1])
    assert (result.status, result.is_one_error_line) == (1, True)
    assert "choose another with --port" in result.err


def test_without_the_extra_the_line_that_installs_it_is_told(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    result = cli("serve-tui")
    assert (result.status, result.is_one_error_line) == (1, True)
    assert "pip install 'minigpt-tui[web]'" in result.err
