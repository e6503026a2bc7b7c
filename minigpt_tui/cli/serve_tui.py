"""`minigpt-tui serve-tui`: the app in a browser, one for each page that is opened, through textual-serve (an extra).
There is no password: it answers its own page alone, and this machine alone unless more is asked for in so many words.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from engine.errors import InvalidSettingError, MiniGPTError
from minigpt_tui.addresses import is_this_machine
from minigpt_tui.cli.options import Common, engine_options, pass_common
from minigpt_tui.cli.streams import say

if TYPE_CHECKING:
    from aiohttp import web

_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?")


class BrowserError(MiniGPTError):
    """The app cannot be shown in a browser."""


@click.command("serve-tui")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to answer at.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The port to answer at.")
@click.option("--no-auth", is_flag=True, help="Let whoever can reach another --host than this machine use the app.")
@engine_options
@pass_common
def serve_tui(common: Common, host: str, port: int, no_auth: bool) -> None:
    """Show the app in a browser; each page has an app of its own, as in a terminal of its own.

    Whoever opens the page can do what you can do in the app. Without --no-auth it answers this machine alone.
    """
    if not is_this_machine(host) and not no_auth:
        raise InvalidSettingError(
            f"{host} is reached from other machines, and the app has no password",
            "add --no-auth if that is what you want, or leave --host out and use an SSH tunnel",
        )
    serve(app_command(common), host, port)


def app_command(common: Common) -> str:
    """The line that starts the app, for a shell: nothing in a model's name means anything to that."""
    words = [sys.executable, "-m", "minigpt_tui"]
    for name in ("model", "device", "precision"):
        if name in common.given:
            words += [f"--{name}", getattr(common, name)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def serve(command: str, host: str, port: int) -> None:
    """Answer browsers until ctrl+c.

    Raises:
        BrowserError: textual-serve is not there, or the port is taken.
    """
    try:
        from aiohttp import web
        from textual_serve.server import Server
    except ImportError:
        raise BrowserError(
            "the browser needs textual-serve, which is not installed", "pip install 'minigpt-tui[web]'"
        ) from None

    names = [host, *(("127.0.0.1", "localhost", "[::1]") if is_this_machine(host) else ())]
    allowed = {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())

    class GuardedServer(Server):
        """Answers its own page alone: any other that a browser shows could open the websocket as well."""

        async def _make_app(self) -> web.Application:
            app = await super()._make_app()
            app.middlewares.append(guard)
            return app

        async def handle_index(self, request: web.Request) -> web.StreamResponse:
            self.public_url = f"{request.scheme}://{request.host}"  # as the browser calls it
            return await super().handle_index(request)

        def initialize_logging(self) -> None:
            """What it does is nobody's concern."""

        async def on_startup(self, app: web.Application) -> None:
            shown = f"[{host}]" if ":" in host else host
            say(f"the app is at http://{shown}:{port}; ctrl+c ends")

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        here = request.host
        if not _HOST.fullmatch(here) or (is_this_machine(host) and here not in allowed):
            raise web.HTTPForbidden(text=f"This is not {here}.")  # a name that was made to lead here
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != here:
            raise web.HTTPForbidden(text="Another page may not use this app.")
        response = await handler(request)
        if not response.prepared:
            # Its page asks another host for a font: nothing leaves the machine.
            response.headers["Content-Security-Policy"] = (
                f"default-src 'self' 'unsafe-inline' data:; connect-src 'self' ws://{here} wss://{here}; "
                "frame-ancestors 'none'"
            )
        return response

    for name in ("TMUX", "STY", "NO_COLOR"):  # of the terminal that this was started in, not of the browser
        os.environ.pop(name, None)
    try:
        GuardedServer(command, host, port, title="minigpt-tui").serve()
    except OSError as error:
        raise BrowserError(
            f"{host}:{port} cannot be used ({error.strerror or error})", "choose another with --port"
        ) from None
