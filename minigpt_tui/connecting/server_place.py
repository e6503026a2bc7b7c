"""A server with OpenAI's API as the place of the engine: its address, its key, and the process that is the link to it.
The key is handed over in that process's environment; it is in no argument, no log and no message.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from engine import processes
from engine.errors import InvalidSettingError, WorkerError

KEY_VARIABLE = "MINIGPT_API_KEY"

MODULE = "minigpt_tui.connecting.bridge"


class ServerPlace:
    """A server.

    Args:
        url: Its address, with /v1 or without.
        key: The API key; empty for none.

    Raises:
        InvalidSettingError: The address is none, or the key cannot be sent.
    """

    is_server = True

    def __init__(self, url: str, key: str = "") -> None:
        self.url = api_url(url)
        self.name = self.url.partition("://")[2].removesuffix("/v1")
        if not key.isascii() or not key.isprintable():
            raise InvalidSettingError("the API key has characters that no key has", "copy it again, without line ends")
        self._key = key

    @property
    def command(self) -> tuple[str, ...]:
        """The bridge: our protocol on one side, the server's on the other."""
        return (sys.executable, "-P", "-m", MODULE, self.url)

    def environment(self) -> Mapping[str, str]:
        """This process's, with the key."""
        environment = processes.environment()
        environment.pop(KEY_VARIABLE, None)
        return environment | ({KEY_VARIABLE: self._key} if self._key else {})

    def explain(self, status: int | None, last: str, *, was_up: bool) -> tuple[WorkerError, bool]:
        """Why the bridge ended, which a server's faults do not make it do; see `Place.explain`."""
        how = "is gone" if status is None else f"ended with status {status}"
        said = f" ({last})" if last else ""
        return WorkerError(f"the process that talks to {self.name} {how}{said}", "worker.log has more"), was_up


def api_url(url: str) -> str:
    """The address of an API, ending in /v1.

    Args:
        url: With /v1 or without; http where it does not say.

    Raises:
        InvalidSettingError: It is no address, or has what does not belong there.
    """
    text = url.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _no_address(url) from None
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() or not c.isprintable() for c in text):
        raise _no_address(url)
    if parts.username or parts.password:
        raise InvalidSettingError("the address has a name or password in it", f"give the key with {KEY_VARIABLE}")
    if parts.query or parts.fragment:
        raise InvalidSettingError(f"the address has more than a path ({parts.query or parts.fragment})", "leave it out")
    path = parts.path.rstrip("/")
    for end in ("/completions", "/models", "/chat/completions"):
        if path.endswith(f"/v1{end}"):
            path = path.removesuffix(end)
    path = path if path.endswith("/v1") else f"{path}/v1"
    return SplitResult(parts.scheme, parts.netloc, path, "", "").geturl()


def _no_address(url: str) -> InvalidSettingError:
    shown = url.rpartition("@")[2]  # what stands before it may be a password
    return InvalidSettingError(f"{shown!r} is no address of a server", "such as http://localhost:8000")
