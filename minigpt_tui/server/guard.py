"""What stands before every endpoint: the key, the name that the server is called by, and the size of a request. Plain
ASGI, so that an answer streams through it untouched.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minigpt_tui.addresses import is_this_machine
from minigpt_tui.server.faults import Fault

OPEN = frozenset({"/health", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""What is answered without the key: it tells nothing of texts or models."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d+)?")


class Guard:
    """Lets through what may pass.

    Args:
        app: What answers.
        api_key: The key that every request has to bring; empty for none.
        only_here: Whether the server is for this machine: then it answers to no other name, as a web page could have
            made a name of its own lead here.
        body_bytes: The largest request.
    """

    def __init__(self, app: ASGIApp, api_key: str, only_here: bool, body_bytes: int) -> None:
        self._app = app
        self._digest = _digest(api_key.encode()) if api_key else b""
        self._only_here = only_here
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_name(headers)
            self._check_key(scope["path"], headers)
            self._check_size(headers)
        except Fault as fault:
            await refusal(fault)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._body_bytes:
                    fault = self._too_large()
                    raise HTTPException(fault.status, fault.message)
            return message

        await self._app(scope, counted, send)

    def _check_name(self, headers: Headers) -> None:
        if not self._only_here or self._digest:
            return
        if not _is_own_name(headers.get("host", "")):
            raise Fault(
                403,
                "this server is for the machine that it runs on; to serve it under another name, start it with a key",
                code="wrong_host",
            )

    def _check_key(self, path: str, headers: Headers) -> None:
        if not self._digest or path in OPEN:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(_digest(key.strip().encode("latin-1")), self._digest):
            return
        raise Fault(
            401,
            "the API key is wrong" if scheme else "an API key is needed: send it as `Authorization: Bearer KEY`",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _check_size(self, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_bytes:
            raise self._too_large()

    def _too_large(self) -> Fault:
        return Fault(413, f"the request is larger than {self._body_bytes:,} bytes", code="request_too_large")


@functools.lru_cache(maxsize=64)
def _is_own_name(host: str) -> bool:
    """Whether a request that was sent to this host means this machine."""
    found = _HOST.fullmatch(host)
    return found is not None and is_this_machine(found[1].strip("[]"))


def refusal(fault: Fault) -> Response:
    """A fault as an answer."""
    body = fault.body.model_dump_json()
    return Response(body, fault.status, headers=fault.headers, media_type="application/json")


def _digest(key: bytes) -> bytes:
    """Equal in length for all keys, so that comparing takes the same time for all."""
    return hashlib.sha256(key).digest()
